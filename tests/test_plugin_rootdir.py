"""Values of options that pytest takes for paths of tests, before it knows the options: they move its rootdir."""

import pytest
import suites

TESTS = "def test_it(board, build): pass"
TOLD = "*PytestConfigWarning: pytest took the value of --build * for a path of tests*"


@pytest.fixture
def suite(pytester, monkeypatch):
    """A suite in a folder of its own, its builds beside it, and around both a folder with boards of the same names."""
    made = suites.make(pytester, monkeypatch)
    made.add_board("fast", suites.FAST.replace("nrf5340dk", "outer"))
    (made.path / "pytest.ini").write_text("[pytest]\n")
    inner = made.path / "inner"
    (inner / "hil_configs").mkdir(parents=True)
    (inner / "hil_configs" / "fast.toml").write_text(suites.FAST)
    (inner / "pytest.ini").write_text("[pytest]\nmarkers = mine: of the inner suite\n")
    (inner / "test_it.py").write_text(TESTS)
    (made.path / "builds").mkdir()
    suites.app(made.path / "builds")
    monkeypatch.chdir(inner)
    return made


def root_of(result):
    return next(line for line in result.outlines if line.startswith("rootdir: ")).split()[1].rstrip(",")


@pytest.mark.parametrize("value", ["../builds/app.bin", "../builds"])
def test_a_value_that_moves_it_is_told(suite, value):
    if value == "../builds":
        value = "../builds/app.bin"
        (suite.path / "builds" / "pytest.ini").write_text("[pytest]\n")  # another one is found, and this one not
    result = suite.run_inside("--collect-only", "-q", "-v", "--board", "fast", "--build", value)
    assert root_of(result) != str(suite.path / "inner")
    text = " ".join(result.outlines)
    assert "pytest took the value of --build ../builds/app.bin for a path of tests" in text
    assert f"instead of {suite.path / 'inner'}:" in text
    assert "Write --build=../builds/app.bin, or give --rootdir" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--build=../builds/app.bin",),
        ("--build", "app=../builds/app.bin"),
        ("--build", "../builds/app.bin", "--rootdir", "."),
        ("--build", "../builds/app.bin", "-c", "pytest.ini"),
        ("--build", "../builds/app.bin", "--rootdir=../inner"),
    ],
)
def test_what_does_not_move_it_is_no_matter(suite, arguments):
    result = suite.run_inside("--collect-only", "-q", "-v", "--board", "fast", *arguments)
    assert root_of(result) == str(suite.path / "inner")
    result.stdout.no_fnmatch_line("*PytestConfigWarning*")


def test_a_long_value_is_no_path(suite):
    result = suite.run_inside("--collect-only", "-q", "--board", "fast", "--nrfdfu-target-command", "x " * 200)
    assert result.ret == 0, result.outlines


@pytest.mark.parametrize("flag", [("--nrfdfu-require-board", "test_it.py"), ("--nrfdfu-record", "test_it.py")])
def test_the_value_that_moved_it_is_named_and_no_other(suite, flag):
    if flag[0] == "--nrfdfu-record":
        (suite.path / "inner" / "records").mkdir()
        flag = ("--nrfdfu-record", "records")
    result = suite.run_inside("--collect-only", "-q", "-v", *flag, "--board", "fast", "--build", "../builds/app.bin")
    assert "took the value of --build ../builds/app.bin for" in " ".join(result.outlines)


def test_boards_are_those_of_the_folder_it_would_be(suite):
    """As for `nrfdfu doctor`, which knows no rootdir."""
    (suite.path / "inner" / "test_it.py").write_text(
        "import pytest\n@pytest.mark.board('nrf5340dk')\ndef test_it(board, build): pass"
    )
    result = suite.run_inside("--collect-only", "-q", "--board", "fast", "--build", "../builds/app.bin")
    result.stdout.fnmatch_lines(["*::test_it[[]board:fast-build:app[]]"])


def test_where_warnings_are_errors_it_is_a_wrong_use(suite):
    result = suite.run_inside("-W", "error", "--board", "fast", "--build", "../builds/app.bin")
    assert "pytest took the value of --build" in suites.usage_error(result)
