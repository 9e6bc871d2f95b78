"""Records of runs: what stands in them, and that a killed run leaves a readable one."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest
import simulator
import suites

from pytest_nrfdfu.report.record import Recorder

UPDATE = "def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n"


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


def record_of(folder):
    """The lines of the only record in a folder."""
    (path,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_kind(lines, kind):
    return [line for line in lines if line["record"] == kind]


# --- the file -------------------------------------------------------------------------------------------------------


def test_each_run_has_a_file_of_its_own(tmp_path):
    """Also two of one process in one second."""
    recorders = [Recorder(tmp_path / "new" / "folder") for _ in range(3)]
    assert len({recorder.path for recorder in recorders}) == 3
    for recorder in recorders:
        assert str(os.getpid()) in recorder.path.name
        recorder.close()


def test_a_line_is_in_the_file_at_once(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.write("test", {"nodeid": "test_ä\n"})
    assert recorder.path.read_bytes() == '{"record":"test","nodeid":"test_ä\\n"}\n'.encode()
    recorder.close()


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_is_recorded(suite):
    suite.tests(
        UPDATE
        + """
def test_fails(board, build):
    assert not board.unit, "the sensor is silent"

def test_is_skipped(board, build):
    import pytest
    pytest.skip("not today")
"""
    )
    result = suite.run("--nrfdfu-record=records", "--board=fast", "--build=app.bin")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    lines = record_of(suite.path / "records")
    assert [line["record"] for line in lines] == ["run", "update", "test", "test", "test", "end"]
    first, update, *tests, end = lines
    assert first["schema"] == 1
    assert first["simulated"] is True
    assert first["command"][0] == "pytest"
    assert first["command"][-1] == "--build=app.bin"
    assert {"python", "pytest", "pytest-nrfdfu", "pyocd"} <= set(first["versions"])
    assert [(unit["name"], unit["bootloader"]) for unit in first["units"]] == [("fast", "ncs-2.6")]
    assert first["configs"] == [str(suite.path / "hil_configs" / "fast.toml")]
    assert first["builds"][0]["images"]["app"]["version"] == "1.2.3"
    assert update["hash"] == simulator.image_hash(simulator.make_image()).hex()
    assert update["unit"] == "fast"
    told = [(test["nodeid"].partition("::")[2].partition("[")[0], test["outcome"], test["category"]) for test in tests]
    assert told == [("test_it", "passed", ""), ("test_fails", "failed", "test"), ("test_is_skipped", "skipped", "")]
    assert [(test["unit"], test["build"]) for test in tests] == [("fast", "app")] * 3
    assert "the sensor is silent" in tests[1]["error"]
    assert all(test["seconds"] >= 0 for test in tests)
    times = [datetime.fromisoformat(line) for line in (first["start"], *(test["ended"] for test in tests), end["end"])]
    assert times == sorted(times)
    assert end["exitstatus"] == 1
    assert end["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert end["holds"]["fast"].startswith("not known: ")
    result.stdout.fnmatch_lines(["nrfdfu record: *records/*.jsonl"])


def test_a_folder_that_cannot_be_written_ends_the_run_before_it_begins(suite):
    suite.tests(UPDATE)
    (suite.path / "file").touch()
    error = suites.usage_error(suite.run("--nrfdfu-record=file/records", "--board=fast", "--build=app.bin"))
    assert "--nrfdfu-record" in error
    assert "the run's record cannot be written" in error


def test_a_full_disk_does_not_end_the_run(suite):
    """It is said at the end."""
    suite.pytester.makeconftest(
        """
from pytest_nrfdfu.report.record import Recorder

real = Recorder.write

def write(self, kind, values):
    if kind == "test":
        raise OSError(28, "No space left on device")
    real(self, kind, values)

Recorder.write = write
"""
    )
    suite.tests(UPDATE)
    result = suite.run("--nrfdfu-record=records", "--board=fast", "--build=app.bin")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["nrfdfu record: *.jsonl is not complete: *No space left on device"])
    assert [line["record"] for line in record_of(suite.path / "records")] == ["run", "update"]


def test_a_killed_run_leaves_a_readable_record(suite):
    """All that had ended, whole lines, and no end."""
    suite.tests(
        UPDATE
        + "\ndef test_hangs(board, build):\n    print(flush=True)\n    import threading; threading.Event().wait()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", *suites.QUIET, "--nrfdfu-record=records", "--board=fast", "--build=app.bin"],
        cwd=suite.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + simulator.DEADLINE
        while not any('"record":"test"' in path.read_text() for path in suite.path.glob("records/*.jsonl")):
            assert time.monotonic() < deadline
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert [line["record"] for line in record_of(suite.path / "records")] == ["run", "update", "test"]


def test_the_error_of_a_record_ends_with_the_remedy(suite):
    suite.tests(
        "from pytest_nrfdfu import UartError\n"
        "def test_it(board):\n    raise UartError('Tried. ' + 'seen ' * 500 + '. Look at the cable')\n"
    )
    suite.run("--nrfdfu-record=records", "--board=fast")
    (test,) = of_kind(record_of(suite.path / "records"), "test")
    assert "UartError: Tried." in test["error"]
    assert test["error"].endswith(". Look at the cable")
    assert 1000 < len(test["error"]) <= 1500


def test_the_error_of_a_record_has_the_lines_below_it(suite):
    """A night is triaged by them; of a flood, both ends."""
    suite.tests(
        """
def test_console(board, console):
    console.expect("never", timeout=0.01)

def test_assertion(board):
    seen = {"lux": 1}
    assert seen == {"lux": 2}, "of the sensor"

def test_flood(board):
    raise OSError("no\\n" + "\\n".join(f"line {n}" for n in range(1000)))

def test_fixture(no_such_fixture):
    pass
"""
    )
    suite.run("--nrfdfu-record=records", "--board=fast", "--color=yes")
    tests = of_kind(record_of(suite.path / "records"), "test")
    assert "\x1b" not in "".join(test["error"] for test in tests)
    errors = {test["nodeid"].partition("::")[2].partition("[")[0]: test["error"].splitlines() for test in tests}
    assert "waited 0.01 s for 'never'" in errors["test_console"][0]
    assert errors["test_assertion"][0] == "AssertionError: of the sensor"
    assert errors["test_assertion"][1].startswith("assert {'lux': 1} == {'lux': 2}")
    assert len(errors["test_flood"]) == 24
    assert errors["test_flood"][0] == "OSError: no"
    assert errors["test_flood"][-1] == "line 999"
    assert errors["test_flood"].count("...") == 1
    assert errors["test_fixture"][0] == "fixture 'no_such_fixture' not found"


# --- xdist ----------------------------------------------------------------------------------------------------------


def test_workers_results_are_the_controllers_record(suite):
    suite.tests(
        "import pytest\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_it(dfu, build, n):\n    assert dfu.update(build).hash == build.hash\n"
    )
    result = suite.run("-n2", "--dist=each", "--nrfdfu-record=records", "--board=fast", "--build=app.bin")
    result.assert_outcomes(passed=4)
    lines = record_of(suite.path / "records")
    assert len(of_kind(lines, "update")) == 4
    assert sorted(line["worker"] for line in of_kind(lines, "test")) == ["gw0", "gw0", "gw1", "gw1"]
    assert lines[-1]["counts"] == {"passed": 4}
    assert lines[-1]["holds"]["fast"].endswith("proved by image list")


def test_a_worker_that_dies_is_told(suite):
    """What its tests had said before stays; of the one it died in, it is said that nothing is known."""
    suite.tests(UPDATE + "\ndef test_kills(board, build):\n    import os\n    os._exit(3)\n")
    result = suite.run("-n1", "--max-worker-restart=0", "--nrfdfu-record=records", "--board=fast", "--build=app.bin")
    text = result.stdout.str()
    lines = record_of(suite.path / "records")
    assert [line["verified"] for line in of_kind(lines, "update")] == [True]
    (crashed,) = [line for line in of_kind(lines, "test") if line["outcome"] == "error"]
    assert crashed["category"] == "crash"
    assert crashed["unit"] == "fast"
    assert "test_kills" in crashed["nodeid"]
    assert [crashed["nodeid"]] == [nodeid for _, nodeid in lines[-1]["crashed"]]
    assert (
        "Worker gw0 died in test_product.py::test_kills[board:fast-build:app]: what that test did to its board" in text
    )
    assert any(line.split()[:2] == ["fast", "app"] for line in result.outlines)
    assert any(line.split()[:3] == ["process", "1", "crash"] for line in result.outlines)
