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
        [
            "unit * hash * via *",
            "full*application (move, on trial, reverted)*",
            "full * - * app * 1.0.0 * revert * none sent * image list*",
            "full*application (move, confirmed)*",
            "full revert: version * was on trial, and is gone from slot 0",
        ]
    )
    (file,) = (suite.path / "records").glob("*.jsonl")
    updates = [line for line in map(json.loads, file.read_text().splitlines()) if line["record"] == "update"]
    assert [(line["via"], line["swap"], line["confirmed"]) for line in updates] == [
        ("application", "move", False),
        ("application", "move", True),
    ]
    assert [(line["record"], line["version"]) for line in lines_of(file) if line["record"] == "revert"] == [
        ("revert", "1.0.0")
    ]


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_confirmation_belongs_to_the_update_that_it_ends(suite, workers):
    """Also where another test than the one that updated confirms."""
    suite.tests(
        """
def test_one(board, dfu, build):
    board.reset()
    assert dfu.update(build, via="application", confirm=False).confirmed is False

def test_two(board, dfu, build):
    dfu.confirm()
"""
    )
    result = suite.run("--board=full", "--build=app.bin", "--nrfdfu-record=records", *workers)
    result.assert_outcomes(passed=2)
    text = result.stdout.str()
    assert "application (move, confirmed)" in text
    assert "on trial" not in text.partition("firmware updates")[2]
    (file,) = (suite.path / "records").glob("*.jsonl")
    kinds = [line["record"] for line in lines_of(file) if line["record"] in {"update", "confirm"}]
    assert kinds == ["update", "confirm"]


def test_a_confirmation_of_what_no_update_brought_is_told_by_itself(suite):
    suite.tests(
        """
def test_it(board, dfu):
    board.reset()
    dfu.confirm()
"""
    )
    result = suite.run("--board=full")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["full * - * app * 1.0.0 * confirm * none sent *"])


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
