"""Options, markers, ids, skips and usage errors: what is decided before a board is touched."""

import pytest
import suites
from suites import usage_error as error

MATRIX = """
import pytest

def test_both(board, build): pass

def test_none(): pass

def test_board(board): pass

def test_build(build): pass
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


# --- which boards ---------------------------------------------------------------------------------------------------


def test_without_board_tests_are_skipped(suite):
    """What needs hardware is skipped and says how to run it; the rest of the suite runs."""
    suite.tests(MATRIX + "def test_several(boards): pass\n")
    result = suite.run_inside("-rs")
    result.assert_outcomes(passed=1, skipped=4)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED*needs a board: run pytest with --board NAME (nrf5340dk-sim is a simulated one)",
            "SKIPPED*needs a build: run pytest with --build NAME=PATH of a signed image",
        ]
    )
    suite.run_inside("-rs", "--build", "app.bin").stdout.fnmatch_lines(["SKIPPED*needs a board*"])


def test_without_build_tests_are_skipped(suite):
    suite.tests("def test_it(build, board): pass")
    result = suite.run_inside("-rs", "--board", "fast")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs a build*"])


@pytest.mark.parametrize("how", ["option", "env", "ini"])
def test_required_board(suite, monkeypatch, how):
    suite.tests(MATRIX)
    if how == "env":
        monkeypatch.setenv("NRFDFU_REQUIRE_BOARD", "1")
    elif how == "ini":
        suite.pytester.makeini("[pytest]\nnrfdfu_require_board = true\n")
    arguments = ["--nrfdfu-require-board"] if how == "option" else []
    text = error(suite.run_inside(*arguments))
    assert "needs --board NAME (or NRFDFU_BOARD, or nrfdfu_board in the ini file)" in text
    assert suite.ids("--board", "fast", *arguments)


def test_command_line_over_environment_over_ini(suite, monkeypatch):
    """Each replaces what the next says; lists are one entry a line."""
    for name in ("one", "two", "three", "four"):
        suite.add_board(name, suites.FAST)
    suite.tests("def test_it(board, build): pass")
    suite.pytester.makeini("[pytest]\nnrfdfu_board =\n    one\n    two\nnrfdfu_build = app.bin\n")
    assert suite.ids() == ["test_it[board:one-build:app]", "test_it[board:two-build:app]"]
    monkeypatch.setenv("NRFDFU_BOARD", "three\n two \n")
    monkeypatch.setenv("NRFDFU_BUILD", "env=app.bin")
    assert suite.ids() == ["test_it[board:three-build:env]", "test_it[board:two-build:env]"]
    assert suite.ids("--board", "four", "--build", "cli=app.bin") == ["test_it[board:four-build:cli]"]


def test_help_says_what_a_host_started_by_hand_needs(suite):
    told = " ".join(suite.run_inside("--help").stdout.str().split())
    assert "are filled in (by hand: --nrfdfu-target-uart PORT instead)" in told


def test_paths_in_the_ini_file_are_relative_to_it(suite, monkeypatch):
    suite.pytester.makeini("[pytest]\nnrfdfu_board = racked\nnrfdfu_build = app.bin\nnrfdfu_config = rack\n")
    (suite.path / "rack").mkdir()
    (suite.path / "rack" / "racked.toml").write_text(suites.FAST)
    (suite.path / "sub").mkdir()
    (suite.path / "sub" / "test_sub.py").write_text("def test_it(board, build): pass")
    monkeypatch.chdir(suite.path / "sub")
    assert suite.ids() == ["test_it[board:racked-build:app]"]


def test_unknown_board(suite):
    suite.tests(MATRIX)
    text = error(suite.run_inside("--board", "nrf5340dk-sin"))
    assert "board 'nrf5340dk-sin' is not known; did you mean 'nrf5340dk-sim'?" in text
    assert "Known boards: fast, " in text
    assert ", nrf5340dk-sim, " in text
    assert str(suite.path / "hil_configs") in text


def test_simulated_board_is_never_selected_as_what_it_simulates(suite):
    """It is compatible with a board: good for markers, not for --board."""
    suite.add_board("virtual", suites.FAST.replace("nrf5340dk", "sensor"))
    suite.tests('import pytest\n@pytest.mark.board("sensor")\ndef test_it(board): pass')
    assert suite.ids("--board", "virtual") == ["test_it[board:virtual]"]
    assert "board 'sensor' is not known" in error(suite.run_inside("--board", "sensor"))


def test_real_board_of_the_suite_is_selected_by_its_name(suite):
    suite.add_board("nrf5340dk", REAL)
    suite.tests("def test_it(board): pass")
    assert suite.ids("--board", "nrf5340dk") == ["test_it[board:nrf5340dk]"]


REAL = '[uart]\nport = "/dev/null"\n[recovery]\nentry = ["smp"]\n'
"""A board that is not simulated, and needs no probe."""


def test_globs_select_real_boards(suite):
    """A simulated one is selected by its own name alone."""
    suite.add_board("fancy", REAL)
    suite.add_board("farm", REAL)
    suite.tests("def test_it(board): pass")
    assert suite.ids("--board", "fa*") == ["test_it[board:fancy]", "test_it[board:farm]"]
    assert "'fas*' matches only simulated boards" in error(suite.run_inside("--board", "fas*"))


def test_units(suite):
    suite.add_board("rack", suites.FAST + '[[unit]]\nid = "dk-07"\n[[unit]]\nid = "dk-08"\n')
    suite.tests("def test_it(board): pass")
    both = ["test_it[board:rack:dk-07]", "test_it[board:rack:dk-08]"]
    assert suite.ids("--board", "rack") == ["test_it[board:rack]"]
    assert suite.ids("--board", "rack:all") == both
    assert suite.ids("--board", "rack:dk-08") == both[1:]
    assert suite.ids("--board", "rack:dk-*") == both
    text = error(suite.run_inside("--board", "rack:dk-09"))
    assert "no unit 'dk-09'; its units are dk-07, dk-08" in text


def test_same_board_twice_is_one(suite):
    suite.add_board("real", REAL)
    suite.tests("def test_it(board): pass")
    assert suite.ids("--board", "fast", "--nrfdfu-board", "fast") == ["test_it[board:fast]"]
    assert suite.ids("--board", "real", "--board", "rea*") == ["test_it[board:real]"]


def test_boards_times_builds_ordered_by_board_then_build(suite):
    suite.add_board("other", suites.FAST)
    suite.tests(MATRIX)
    suites.app(suite.path, "2.0.0", name="new.bin")
    arguments = ["--board", "other", "--board", "fast", "--build", "new.bin", "--build", "old=app.bin"]
    assert suite.ids(*arguments) == [
        "test_none",
        "test_build[build:new]",
        "test_build[build:old]",
        "test_board[board:other]",
        "test_both[board:other-build:new]",
        "test_both[board:other-build:old]",
        "test_board[board:fast]",
        "test_both[board:fast-build:new]",
        "test_both[board:fast-build:old]",
    ]


# --- configurations -------------------------------------------------------------------------------------------------


def test_config_option(suite):
    """A folder, a file, or neither."""
    (suite.path / "rack").mkdir()
    file = suite.path / "rack" / "racked.toml"
    file.write_text(suites.FAST)
    suite.tests("def test_it(board): pass")
    for where in ("rack", "rack/racked.toml", file):
        assert suite.ids("--nrfdfu-config", where, "--board", "racked") == ["test_it[board:racked]"]
        assert suite.ids("--nrfdfu-config", where, "--board", "nrf5340dk-sim") == ["test_it[board:nrf5340dk-sim]"]
        assert "is not known" in error(suite.run_inside("--nrfdfu-config", where, "--board", "fast"))
    text = error(suite.run_inside("--nrfdfu-config", "nowhere", "--board", "racked"))
    assert "nowhere: no such file or folder" in text


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("[sim]\nbaudrat = 9600\n", [":2: sim.baudrat: unknown key; did you mean 'baudrate'?"]),
        ('[sim]\nbaudrate = "fast"\n', [":2: sim.baudrate: ", "not 'fast'"]),
        ('[recovery]\nentry = ["gpoi"]\n', [":2: recovery.entry", "'gpio'", "not 'gpoi'"]),
        ("[uart\n", ["is not TOML"]),
        ('[sim]\n[bootloader]\nprofile = "ncs-9"\n', [":3: ", "ncs-9", "ncs-2.6"]),
    ],
)
def test_wrong_config(suite, text, phrases):
    file = suite.add_board("wrong", text)
    message = error(suite.run_inside("--board", "wrong"))
    assert message.startswith(str(file))
    for phrase in phrases:
        assert phrase in message


def test_wrong_reflash(suite, monkeypatch):
    assert "invalid choice: 'often'" in suite.run_inside("--nrfdfu-reflash", "often").stderr.str()
    monkeypatch.setenv("NRFDFU_REFLASH", "often")
    assert "'often'; known: auto, always, never" in error(suite.run_inside())


# --- markers --------------------------------------------------------------------------------------------------------

MARKED = """
import pytest

@pytest.mark.board("nrf5340dk")
def test_compatible(board): pass

@pytest.mark.board("other", "fast")
def test_either(board): pass

@pytest.mark.board("ot*")
def test_glob(board): pass

@pytest.mark.board(requires=["netcore"])
def test_requires(board): pass

@pytest.mark.board("fast", requires=["netcore"])
def test_nothing(board): pass

@pytest.mark.board("other")
def test_marker_alone(): pass

@pytest.mark.build("app", "b*")
def test_builds(board, build): pass
"""


def test_markers_select(suite):
    suite.add_board("other", suites.FAST.replace('["nrf5340dk"]', '[]\nprovides = ["netcore"]'))
    suite.tests(MARKED)
    suites.app(suite.path, "2.0.0", name="boot.bin")
    suites.app(suite.path, "3.0.0", name="third.bin")
    found = suite.ids("--board", "fast", "--board", "other", *builds("app.bin", "boot.bin", "third.bin"))
    assert sorted(found) == [
        "test_builds[board:fast-build:app]",
        "test_builds[board:fast-build:boot]",
        "test_builds[board:other-build:app]",
        "test_builds[board:other-build:boot]",
        "test_compatible[board:fast]",
        "test_either[board:fast]",
        "test_either[board:other]",
        "test_glob[board:other]",
        "test_marker_alone",
        "test_nothing",
        "test_requires[board:other]",
    ]


def builds(*names):
    return [part for name in names for part in ("--build", name)]


def test_markers_skip_with_the_reason(suite):
    suite.add_board("other", suites.FAST)
    suite.tests(MARKED)
    result = suite.run_inside("-rs", "--board", "fast", "-k", "glob or requires or nothing or alone")
    result.assert_outcomes(skipped=4)
    lines = " ".join(result.outlines)
    assert "is for board ot*, and selected is fast" in lines
    assert "is for boards with netcore, and selected is fast" in lines
    assert "is for board fast with netcore, and selected is fast" in lines
    assert "is for board other, and selected is fast" in lines
    suites.app(suite.path, "3.0.0", name="third.bin")
    result = suite.run_inside("-rs", "--board", "fast", "-k", "builds", "--build", "third.bin")
    result.stdout.fnmatch_lines(["SKIPPED*is for build app or b?, and selected is third"])


MISSPELT = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.board("{name}")
def test_it(board, n): pass
"""


@pytest.mark.parametrize("name", ["nrf5340dk-simm", "fst"])
def test_a_misspelt_board_in_a_marker_is_told(suite, name):
    """Once, and where nobody asks why tests are skipped; its tests would never run."""
    suite.tests(MISSPELT.format(name=name))
    result = suite.run_inside("-W", "default", "--board", "fast")
    result.assert_outcomes(skipped=2, warnings=1)
    result.stdout.fnmatch_lines([f'*@pytest.mark.board("{name}"): no configuration knows it; did you mean *'])
    result = suite.run_inside("-rs", "-W", "default", "--board", "fast")
    result.stdout.fnmatch_lines(["SKIPPED*, and selected is fast; *no configuration knows it; did you mean *"])
    suite.run_inside("-W", "error", "--board", "fast").assert_outcomes(skipped=2)


def test_nobody_knows_what_a_broken_configuration_is_called(suite):
    suite.add_board("odd", "[")
    suite.tests(MISSPELT.format(name="fst"))
    result = suite.run_inside("-rs", "--board", "fast")
    result.assert_outcomes(skipped=2)
    assert "no configuration knows" not in result.stdout.str()


@pytest.mark.parametrize("name", ["nrf5340dk", "nrf5340dk-sim-app", "nrf53*", "thermometer", "nrf5340ek", "nrf5341dk"])
def test_other_boards_in_markers_are_no_mistake(suite, name):
    """Known ones, globs, and what is like none: another bench may have it."""
    suite.tests(MISSPELT.format(name=name))
    result = suite.run_inside("--collect-only", "--board", "fast")
    result.assert_outcomes()
    assert "no configuration knows" not in result.stdout.str()


def test_marker_alone_needs_no_board(suite):
    """Without any selection a test runs that takes nothing of the plugin, whatever its markers mean to its suite."""
    suite.tests('import pytest\n@pytest.mark.board("other")\n@pytest.mark.build(rev="b")\ndef test_it(): pass')
    suite.run_inside().assert_outcomes(passed=1)
    suite.run_inside("--build", "app.bin").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "phrase"),
    [
        ("board()", '@pytest.mark.board needs names: @pytest.mark.board("NAME", ..., requires=[...])'),
        ("board(5340)", "@pytest.mark.board(5340) must be written"),
        ('board("fast", needs=["netcore"])', "@pytest.mark.board('fast', needs=['netcore']) must be written"),
        ('board(requires="netcore")', "@pytest.mark.board(requires='netcore') must be written"),
        ("build()", '@pytest.mark.build needs names: @pytest.mark.build("NAME", ...)'),
        ('build("app", requires=["x"])', "@pytest.mark.build('app', requires=['x']) must be written"),
    ],
)
def test_wrong_marker(suite, marker, phrase):
    """It is an error of the collection that quotes how it must be written, not a test that silently never runs."""
    suite.tests(f"import pytest\n@pytest.mark.{marker}\ndef test_it(board, build): pass")
    result = suite.run_inside("--board", "fast", "--build", "app.bin")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = " ".join(result.outlines)
    assert phrase in text
    assert "test_product.py::test_it: " in text
    assert "Traceback" not in text


def test_markers_are_registered(suite):
    suite.tests(MARKED)
    suite.run_inside("--strict-markers", "-q").assert_outcomes(skipped=6, passed=1)
    suite.run_inside("--markers").stdout.fnmatch_lines(["@pytest.mark.board(*names, requires=()):*"])
