"""What uploads have shown is kept in pytest's cache; where that cannot be written, tests run all the same."""

import json

import suites

CACHED = tuple(part for part in suites.QUIET if "cacheprovider" not in part)[:-1]
UPDATE = """
import pytest

@pytest.mark.parametrize("run", [1, 2])
def test_update(dfu, build, run):
    assert dfu.update(build).verified
"""
OPTIONS = ("--board", "fast", "--build", "app=app.bin")


def test_it_is_kept_in_the_cache(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.tests(UPDATE)
    pytester.runpytest_subprocess(*CACHED, *OPTIONS).assert_outcomes(passed=2)
    (known,) = json.loads((suite.path / ".pytest_cache/d/nrfdfu/uploads.json").read_text()).values()
    assert (known["window"], known["carried"]) == ("unknown", 2 * suite.app.stat().st_size)


def test_a_cache_that_cannot_be_written_costs_no_test(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.tests(UPDATE)
    (suite.path / "file").write_text("")
    result = pytester.runpytest_subprocess(*CACHED, "-o", "cache_dir=file/cache", *OPTIONS)
    result.assert_outcomes(passed=2, warnings=result.parseoutcomes().get("warnings", 0))


def test_a_later_run_says_that_a_trial_lost_something_and_when_it_is_tried_again(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.tests("def test_update(dfu, build):\n    assert dfu.update(build).verified\n")
    for loss in (0.1, 0.0):
        suite.add_board("fast", suites.FAST.replace("[sim]", f"[sim]\nline_loss = {loss}"))
        result = pytester.runpytest_subprocess(*CACHED, *OPTIONS)
    why = "a trial of a window lost 1 on 2*; tried again after 7 more uploads, or by nrfdfu doctor --measure-window *"
    result.stdout.fnmatch_lines([f"fast app: *; one chunk at a time ({why}), nothing lost"])


def test_what_no_cache_keeps_is_not_said_to_be_kept(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.tests("def test_update(dfu, build):\n    assert dfu.update(build).verified\n")
    suites.app(suite.path, size=70_000)
    text = pytester.runpytest_subprocess(*suites.QUIET, *OPTIONS).stdout.str()
    assert "2 chunks in flight: tried, but NOT remembered: pytest's cache is off or cannot be written" in text
    kept = pytester.runpytest_subprocess(*CACHED, *OPTIONS).stdout.str()
    assert "2 chunks in flight: tried and kept, nothing lost" in kept


def test_a_receive_size_that_was_found_is_in_the_summary_of_every_run(pytester, monkeypatch):
    """It was not the link that lost the packets which were too large."""
    suite = suites.make(pytester, monkeypatch)
    suite.tests("def test_update(dfu, build):\n    assert dfu.update(build).verified\n")
    suite.add_board("fast", suites.FAST + "[bootloader]\nreceive_size = 2048\nwindow = 1\n")
    first = pytester.runpytest_subprocess(*CACHED, *OPTIONS).stdout
    found = "one of 20?? bytes met silence 2 times, and *; say receive_size = 1024 in [[]bootloader[]]"
    first.fnmatch_lines(["fast app: *, nothing lost", f"fast app: the bootloader takes packets of 1020 bytes: {found}"])
    again = pytester.runpytest_subprocess(*CACHED, *OPTIONS).stdout
    again.fnmatch_lines(["fast app: packets of 1020 bytes at most: larger ones met silence on 2*, although *"])
