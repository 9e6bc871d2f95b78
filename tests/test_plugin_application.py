"""Updates through the application as a suite sees them: the fixture `dfu`, the summary, the record."""

import json

import pytest
import suites

BOARD = """
board = "full"
[sim]
image = "{image}"
baudrate = 0
flash_timing = "none"
application_smp = "full"
applications = {{ "9.9.9" = "faults" }}
staging = true
[boot]
timeout = 4
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    old = suites.app(suite.path, "1.0.0", name="old.bin")
    suite.add_board("full", BOARD.format(image=old))
    return suite


def test_a_suite_tests_confirms_and_reverts(suite):
    suite.tests(
        """
def test_it(board, dfu, build):
    board.reset()
    report = dfu.update(build, via="application", confirm=False)
    assert (report.verified, report.confirmed) == (True, False)
    assert dfu.revert().version == "1.0.0"
    assert dfu.update(build, via="application").confirmed
"""
    )
    result = suite.run("--board=full", "--build=app.bin", "--nrfdfu-record=records")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["unit * hash * via *", "full*application (move, on trial)*", "full*application (move, confirmed)*"]
    )
    (file,) = (suite.path / "records").glob("*.jsonl")
    updates = [line for line in map(json.loads, file.read_text().splitlines()) if line["record"] == "update"]
    assert [(line["via"], line["swap"], line["confirmed"]) for line in updates] == [
        ("application", "move", False),
        ("application", "move", True),
    ]


def test_a_build_that_faults_shows_its_dump(suite):
    suites.app(suite.path, "9.9.9", name="bad.bin")
    suite.tests(
        """
def test_it(board, dfu, build):
    board.reset()
    dfu.update(build, via="application")
"""
    )
    result = suite.run("--board=full", "--build=bad.bin")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotBooted*", "*ZEPHYR FATAL ERROR*"])


def test_an_update_that_is_cut_off_is_one_of_the_runs(suite):
    suite.tests(
        """
def test_it(board, dfu, build):
    board.reset()
    assert dfu.interrupt(build, at="upload:50%").runs == "old"
"""
    )
    result = suite.run("--board=full", "--build=app.bin", "--nrfdfu-record=records")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "full * 1.2.3 * - *application (move, cut off at upload:50% by reset)*NOT: cut off at 5?% of the upload *",
            "full * application * the old image, version 1.0.0",
            "full app: cut off on purpose by reset at 5?% of the upload; then the old image, version 1.0.0, by the *",
            "On full now: version 1.0.0, shown by the application's image list, after an update that was cut off *",
        ]
    )
    (file,) = (suite.path / "records").glob("*.jsonl")
    updates = [line for line in map(json.loads, file.read_text().splitlines()) if line["record"] == "update"]
    assert [(line["cut"], line["verified"]) for line in updates] == [("upload:50% by reset", False)]


def test_a_staged_update_that_never_came_says_so(suite):
    """And what the board holds then is what its application has just listed."""
    suite.tests(
        """
import pytest
from pytest_nrfdfu import HashMismatch

def test_it(board, dfu, build):
    board.reset()
    with pytest.raises(HashMismatch), dfu.staged(build, timeout=0.5):
        pass
"""
    )
    result = suite.run("--board=full", "--build=app.bin")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "full * staged (move) * none sent * NOT: not seen pending  not started",
            "On full now: version 1.0.0 (hash *), shown as active by the application's list",
        ]
    )
