"""What a person and a nightly run see: header, progress, attachments, categories, JUnit properties, summary."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from xml.etree import ElementTree as ET

import pytest
import simulator
import suites

DEAF = (
    """
[sim]
baudrate = 1_000_000
flash_timing = "none"
entrance = ["boot-mode"]

[recovery]
entry = ["gpio"]
reset = "pin"
timeout = 0.6

[boot]
smp = false
timeout = 0.6
"""
    + suites.SLOT
)
"""A bootloader that does not look at the recovery pin, and has no application to start."""

MUTE = suites.FAST.replace("[boot]", '[console]\nbanner = "never"\n\n[boot]\ntimeout = 0.2')
"""Its application prints nothing that it is known by."""

BROKEN = (
    """
[uart]
port = "{port}"

[probe]

[recovery.line]
driver = "command"
assert = ["false"]
release = ["sh", "-c", "echo relay 3 is not there; exit 7"]
"""
    + suites.SLOT
)
"""A rig whose recovery line does not work; its port is the test's."""


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


def environment(**more):
    """Of this process, without what tells an outer pytest or the plugin anything."""
    others = ("PYTEST_", "NRFDFU_", "COLUMNS")
    return {name: text for name, text in os.environ.items() if not name.startswith(others)} | more


def cases(path):
    """Of a JUnit XML file: for each test its properties (a list of pairs) and its outcomes."""
    found = {}
    for case in ET.parse(path).iter("testcase"):
        properties = [(item.get("name"), item.get("value")) for item in case.iter("property")]
        outcomes = [item.tag for item in case if item.tag in {"failure", "error", "skipped"}]
        found[case.get("name").partition("[")[0]] = (properties, outcomes)
    return found


# --- failures -------------------------------------------------------------------------------------------------------

TROUBLE = """
import pytest
from pytest_nrfdfu.smp.messages import ImageStateRead

fast, deaf, mute, broken = (pytest.mark.board(name) for name in ("fast", "deaf", "mute", "broken"))
app = pytest.mark.build("app")

@fast
@app
def test_passes(dfu, build):
    assert dfu.update(build).verified

@fast
@app
def test_assertion(dfu, build, console):
    dfu.update(build)
    console.expect("Hello, (world|moon)!", timeout=0.05)

@fast
@pytest.mark.build("big")
def test_image(dfu, build):
    dfu.update(build)

@fast
@app
@pytest.mark.xfail(strict=True)
def test_expected_to_fail(flashed):
    assert False

@fast
@app
@pytest.mark.xfail(strict=True)
def test_expected_to_fail_and_passes(flashed):
    pass

@fast
def test_skips(board):
    pytest.skip("not today")

@deaf
def test_protocol(smp):
    smp.request(ImageStateRead(), tries=1, timeout=0.1)

@deaf
def test_dfu(board):
    board.reset()

@deaf
def test_bench_in_body(dfu):
    dfu.enter()

@deaf
def test_bench_in_setup(recovery):
    pass

@mute
@app
def test_dfu_in_teardown(recovery, build):
    recovery.upload(build.image)

@broken
def test_line_in_setup(board):
    pass

@broken
def test_line_again(board):
    pass
"""


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    """One run with every kind of trouble, looked at by the tests below: its output and its JUnit XML."""
    folder = tmp_path_factory.mktemp("trouble")
    (folder / "hil_configs").mkdir()
    host, target = pty.openpty()
    broken = BROKEN.replace("{port}", os.ttyname(target))
    for name, text in (("fast", suites.FAST), ("deaf", DEAF), ("mute", MUTE), ("broken", broken)):
        (folder / "hil_configs" / f"{name}.toml").write_text(text)
    suites.app(folder)
    suites.app(folder, "9.0.0", size=0x70000, name="big.bin")
    (folder / "test_product.py").write_text(TROUBLE)
    arguments = ["--board=fast", "--board=deaf", "--board=mute", "--board=broken", "--build=app.bin", "--build=big.bin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suites.QUIET, "-Werror", "-rA", "--junitxml=junit.xml", *arguments],
        cwd=folder,
        env=environment(COLUMNS="300"),
        capture_output=True,
        text=True,
        timeout=simulator.DEADLINE * 3,
        check=False,
    )
    os.close(host)
    os.close(target)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return done.stdout, cases(folder / "junit.xml")


def section(output, title):
    """The part of pytest's output that begins with the line ``___ title ___``."""
    _, _, rest = re.split(rf"^_+ ({re.escape(title)}.*?) _+$", output, maxsplit=1, flags=re.MULTILINE)
    return re.split(r"^(?:_{3,}|={3,}) ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_outcomes(trouble):
    """Bench trouble is an error wherever it happens, everything else a failure."""
    output, _ = trouble
    last = output.splitlines()[-1]
    for count in ("5 failed", "2 passed", "1 skipped", "1 xfailed", "5 errors"):
        assert count in last
    for test in ("test_bench_in_body[board:deaf]", "test_bench_in_setup[board:deaf]", "test_line_in_setup"):
        assert f"ERROR test_product.py::{test}" in output
    assert "ERROR at call of test_bench_in_body[board:deaf]" in output
    assert "ERROR at setup of test_bench_in_setup[board:deaf]" in output
    assert "FAILED test_product.py::test_assertion[board:fast-build:app]" in output


@pytest.mark.parametrize(
    ("test", "category", "outcome"),
    [
        ("test_assertion", "test", "failure"),
        ("test_image", "image", "failure"),
        ("test_expected_to_fail_and_passes", "test", "failure"),
        ("test_protocol", "protocol", "failure"),
        ("test_dfu", "dfu", "failure"),
        ("test_bench_in_body", "bench", "failure"),
        ("test_bench_in_setup", "bench", "error"),
        ("test_dfu_in_teardown", "dfu", "error"),
        ("test_line_in_setup", "bench", "error"),
        ("test_line_again", "bench", "error"),
    ],
)
def test_category(trouble, test, category, outcome):
    """A nightly run is triaged by one property."""
    properties, outcomes = trouble[1][test]
    assert [value for name, value in properties if name == "category"] == [category]
    assert outcomes == [outcome]


@pytest.mark.parametrize("test", ["test_passes", "test_expected_to_fail", "test_skips"])
def test_category_of_what_did_not_fail(trouble, test):
    assert [value for name, value in trouble[1][test][0] if name == "category"] == ["none"]


def test_unit_and_build_of_every_test(trouble):
    """Also where nothing was uploaded, and where no unit could be opened."""
    assert dict(trouble[1]["test_skips"][0]) == {"unit": "fast", "category": "none"}
    assert dict(trouble[1]["test_line_in_setup"][0]) == {"unit": "broken", "category": "bench"}
    assert dict(trouble[1]["test_dfu_in_teardown"][0])["build"] == "app"


def test_junit_properties_of_an_update(trouble):
    """What was on the board, beside every test that put it there: also the failed one."""
    digest = simulator.image_hash(simulator.make_image()).hex()
    for test in ("test_passes", "test_assertion"):
        properties = dict(trouble[1][test][0])
        assert int(properties.pop("bytes_per_second")) > 0
        assert properties.pop("category") == ("test" if test == "test_assertion" else "none")
        assert properties == {
            "unit": "fast",
            "build": "app",
            "version": "1.2.3",
            "hash": digest,
            "verified": "image list",
            "bytes": str(len(simulator.make_image())),
            "retries": "0",
            "via": "recovery",
        }


def test_console_and_exchanges_are_attached(trouble):
    """To a failing test, and decoded; not to others."""
    shown = section(trouble[0], "test_assertion[board:fast-build:app]")
    assert "waited 0.05 s for 'Hello, (world|moon)!' on the console of fast; it printed:" in shown
    console, exchanges = shown.split("Captured log fast console call")[1].split("Captured log fast SMP call")
    assert "*** Booting " in console
    assert re.search(r"-> image upload write, sequence \d+: \{.*len: 5552", exchanges)
    assert re.search(r"<- image upload write response, sequence \d+: \{rc: 0, off: 5552\}", exchanges)
    assert re.search(r"<- image list read response, sequence \d+: .*version: '1\.2\.3'", exchanges)
    passes = trouble[0].partition("= PASSES =")[2]
    assert passes
    assert "Captured log" not in passes


def test_exchanges_of_a_set_up_are_attached(trouble):
    shown = section(trouble[0], "ERROR at setup of test_bench_in_setup[board:deaf]")
    assert "-> image list read, sequence" in shown.split("Captured log deaf SMP setup")[1]


def test_messages(trouble):
    """What was tried, what was seen, what to look at."""
    output = trouble[0]
    assert "the file has 459304 bytes, and the slot 458752" in section(output, "test_image[")
    entry = section(output, "ERROR at setup of test_bench_in_setup[board:deaf]")
    assert "RecoveryNotEntered: deaf did not enter serial recovery: " in entry
    line = section(output, "ERROR at setup of test_line_in_setup[board:broken]")
    assert "the recovery line's command ended with status 7" in line
    assert "relay 3 is not there" in line
    assert "the application was not seen running within 0.6 s" in section(output, "test_dfu[board:deaf]")


def test_summary_after_failures(trouble):
    """It shows what reached a board, and does not claim what was not looked at since."""
    output = trouble[0]
    rows = [line.split() for line in output.splitlines() if line.startswith("fast  ")]
    assert [row[1:4] for row in rows[:2]] == [["app", "app", "1.2.3"]] * 2
    assert "On mute now: not known" in output


def test_what_broke_is_counted(trouble):
    """By what it means, category and unit; units that were given up are named."""
    rows = [tuple(line.split()[:3]) for line in trouble[0].partition("= what broke =")[2].splitlines()]
    assert {
        ("product", "2", "test"),
        ("update", "2", "dfu"),
        ("update", "1", "protocol"),
        ("configuration", "1", "image"),
        ("bench", "4", "bench"),
    } <= set(rows)
    assert re.search(r"^bench .*broken \(2\), deaf \(2\)$", trouble[0], re.MULTILINE)
    assert re.search(r"^deaf was retired: ", trouble[0], re.MULTILINE)


def test_of_what_a_console_did_not_show_the_tests_own_line_is_shown(suite):
    """Not how `expect` waits: its message says what was waited for, and what came instead."""
    suite.tests('def test_it(console):\n    console.expect("never", timeout=0.01)\n')
    result = suite.run("--board", "fast")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert ">       console.expect(" in text
    assert "def expect(" not in text
    result.stdout.fnmatch_lines(
        ["E *waited 0.01 s for 'never' on the console of fast*", "FAILED * - waited 0.01 s for *"]
    )
    full = suite.run("--board", "fast", "--full-trace").stdout.str()
    assert "def expect(" in full


# --- header, progress, summary --------------------------------------------------------------------------------------

UPDATE = "def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n"


def test_a_tests_own_upload_has_a_row(suite):
    """Else the summary would say of a unit that it holds what nothing was seen to put there."""
    suite.tests(
        "def test_it(recovery, build):\n"
        "    recovery.upload(build.image)\n    assert recovery.verify(build.image).verified\n"
    )
    result = suite.run("--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=1)
    (row,) = [line for line in result.outlines if re.match(r"fast +app +app +1\.2\.3 ", line)]
    assert re.search(r" recovery +5552 +\d\.\d\d +\d+ +0 +image list +not looked at: recovery\.upload$", row)
    result.stdout.fnmatch_lines(["On fast now: version 1.2.3, *, proved by image list"])


def test_an_upload_that_nobody_verified_is_not_proved(suite):
    """Each has a row, of a file that is no build of the run by the file's name; as has one by `dfu.enter`."""
    suites.app(suite.path, version="3.2.1", name="other.bin")
    suite.tests(
        "import pytest_nrfdfu\n"
        "def test_it(dfu, build):\n"
        "    recovery = dfu.enter()\n    recovery.upload(build.image)\n"
        "    recovery.upload(pytest_nrfdfu.load_build('other.bin').image)\n"
        "def test_nothing(dfu):\n    pass\n"
    )
    result = suite.run("--board", "fast", "--build", "app.bin", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    rows = [line.split() for line in result.outlines if re.match(r"fast +\S+ +app +\d", line)]
    assert [row[:4] for row in rows] == [["fast", "app", "app", "1.2.3"], ["fast", "other.bin", "app", "3.2.1"]]
    assert all("NOT: not looked at" in " ".join(row) for row in rows)
    properties, _ = cases(suite.path / "junit.xml")["test_it"]
    assert ("verified", "not looked at") in properties


def test_of_a_unit_that_was_only_looked_at_no_change_is_told(suite):
    suite.tests("def test_it(recovery):\n    recovery.images()\n")
    result = suite.run("--board", "fast")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["On fast now: not known: nothing was proved on it in this run"])


def test_log_gets_plain_lines(suite):
    """No control characters; at most four lines for an upload."""
    suite.tests(UPDATE)
    result = suite.run("--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert "\x1b" not in text
    assert "\r" not in text
    steps = re.findall(r"^  fast: +(\d+) %, \d+ of 5552 bytes", text, re.MULTILINE)
    assert len(steps) <= 4
    assert steps[-1] == "100"
    result.stdout.fnmatch_lines(
        [
            "nrfdfu board: fast (simulated: *, 1000000 baud, flash timing none; *fast.toml)",
            "nrfdfu build: app: app 1.2.3 (*",
        ]
    )


def test_terminal_gets_a_bar(suite):
    """Redrawn in place, at its end 100 %, and what follows stands on a line of its own."""
    suites.app(suite.path, size=40000)
    suite.tests(UPDATE)
    status, output = on_a_terminal(suite.path, "--board", "fast", "--build", "app.bin")
    assert status == 0, output
    bars = re.findall(r"\r\x1b\[K  fast: \[([#.]{24})\] +(\d+) %, (\d+) of 40552 bytes", output)
    assert len(bars) > 2
    assert bars[-1] == ("#" * 24, "100", "40552")
    assert [int(percent) for _, percent, _ in bars] == sorted(int(percent) for _, percent, _ in bars)
    assert re.search(r"100 %, 40552 of 40552 bytes[^\n\x1b]*\r\n  fast: verified", output)


@pytest.mark.parametrize(("columns", "bar"), [(64, True), (52, False)])
def test_bar_has_room_on_a_narrow_terminal(suite, columns, bar):
    """A line that the terminal breaks would be drawn again and again below itself."""
    suites.app(suite.path, size=40000)
    suite.tests(UPDATE)
    status, output = on_a_terminal(suite.path, "--board", "fast", "--build", "app.bin", columns=columns)
    assert status == 0, output
    drawn = re.findall(r"\r\x1b\[K([^\r\n\x1b]*)", output)
    assert len(drawn) > 2
    assert max(map(len, drawn)) < columns
    assert "100 %, 40552 of 40552 bytes" in drawn[-1]
    assert all(("[" in line) is bar for line in drawn)


def test_summary_has_room_on_a_narrow_terminal(suite):
    """What the table has no columns for is below each row, and no word is broken; elsewhere it is one table."""
    suite.tests(UPDATE)
    arguments = (suite.path, "--board", "fast", "--build", "app.bin", "--nrfdfu-reflash=always")
    status, output = on_a_terminal(*arguments, columns=80)
    assert status == 0, output
    lines = output.partition("= firmware updates =")[2].splitlines()
    assert max(map(len, lines[1:-1])) <= 80
    assert lines[1].split() == ["unit", "build", "image", "version", "hash", "via"]
    assert lines[2].split()[:4] == ["fast", "app", "app", "1.2.3"]
    told = " ".join(" ".join(lines[3:5]).split())
    assert re.match(r"5552 bytes in \d\.\d\d s, \d+ bytes/s; verified by image list; running, seen by console", told)
    status, output = on_a_terminal(*arguments)
    assert re.search(r"^unit +build +image .* running\r$", output, re.MULTILINE)


def test_bar_of_a_broken_upload_is_left_behind(suite):
    """The error's own line does not begin behind the bar."""
    suites.app(suite.path, size=40000)
    suite.tests(
        """
def test_it(dfu, build, monkeypatch):
    drawn = dfu._progress
    def stop(acknowledged, total):
        drawn(acknowledged, total)
        if acknowledged > total // 2:
            dfu._say("stopped")
            raise KeyError("stopped")
    dfu._progress = stop
    dfu.update(build)
"""
    )
    status, output = on_a_terminal(suite.path, "--board", "fast", "--build", "app.bin")
    assert status == 1, output
    assert re.search(r"of 40552 bytes[^\n]*\r\n  fast: stopped\r\n", output)


def on_a_terminal(folder, *arguments, columns=160):
    """Exit status and output of pytest on a pseudo-terminal."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (50, columns))
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", *suites.QUIET, "--color=no", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env=environment(TERM="xterm"),
    )
    os.close(writer)
    output = b""
    deadline = time.monotonic() + simulator.DEADLINE
    try:
        while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(reader, 65536)
            except OSError:  # what Linux answers when the other end is closed
                break
            output += data
        return child.wait(simulator.DEADLINE), output.decode()
    finally:
        child.kill()
        child.wait()
        os.close(reader)


def test_quiet_run_has_no_progress(suite):
    suite.tests(UPDATE)
    result = suite.run("-q", "--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert "  fast: " not in text
    assert "nrfdfu board" not in text
    assert "firmware updates" in text


def test_run_without_boards_says_nothing(suite):
    suite.tests("def test_it(): pass")
    text = suite.run_inside().stdout.str()
    assert "nrfdfu board" not in text
    assert "firmware updates" not in text


# --- xdist ----------------------------------------------------------------------------------------------------------


def test_xdist_shows_the_same(suite):
    """Workers test what the controller selected; the summary is the controller's, once."""
    suite.tests(
        "import pytest\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_it(dfu, build, n):\n    assert dfu.update(build).hash == build.hash\n"
    )
    result = suite.run("-n2", "--dist=each", "--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=4)
    text = result.stdout.str()
    assert text.count("= firmware updates =") == 1
    rows = [line for line in result.outlines if re.match(r"fast +app +app +1\.2\.3 ", line)]
    assert len(rows) == 4
    assert text.count("nrfdfu board: fast") == 1


def test_xdist_usage_errors(suite):
    suite.tests(UPDATE)
    for arguments in (["--board", "fats"], ["--board", "fast", "--build", "nowhere.bin"]):
        result = suite.run("-n2", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
        assert result.stderr.str().startswith("ERROR: ")
    assert suite.run("-n2", "-rs").ret == pytest.ExitCode.OK


# --- where the time went --------------------------------------------------------------------------------------------

TWO = (
    "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(dfu, build, n):\n    assert dfu.update(build)\n"
)
COURSE = r"fast app: (\d+\.\d\d) s \(recovery (\S+), upload (\S+), verify (\S+), boot (\S+)\); (.+)"


def test_summary_says_where_the_time_of_an_update_went(suite):
    suite.tests(TWO)
    result = suite.run("--board", "fast", "--build", "app.bin")
    courses = [found for line in result.outlines if (found := re.fullmatch(COURSE, line))]
    assert len(courses) == 2
    for found in courses:
        total, *phases = map(float, found.groups()[:5])
        assert sum(phases) == pytest.approx(total, abs=0.05 + 0.02 * total)
        assert found[6] == "2 chunks in flight: on trial, nothing lost"


def test_summary_of_a_window_that_was_given_up(suite):
    """One line in ten is lost, both ways: what the trial lost is told apart from what was lost later."""
    suite.add_board("lossy", suites.FAST.replace("[sim]", "[sim]\nline_loss = 0.1"))
    suite.tests(UPDATE)
    text = suite.run("--board", "lossy", "--build", "app.bin").stdout.str()
    assert re.search(
        r"; \d chunks in flight: tried and given up, lost 1 in its trial( and \d+ on the link)?\n", text
    ), text
