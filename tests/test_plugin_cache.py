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
