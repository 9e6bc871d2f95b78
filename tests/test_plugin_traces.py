"""What passed between a test and its boards is kept in files: of failing tests, and of all where that was asked for."""

import re
from pathlib import Path

import pytest
import suites

from pytest_nrfdfu.wire import readers
from pytest_nrfdfu.wire.decode import lines

TESTS = """
def test_good(dfu, build):
    dfu.update(build)

def test_bad(dfu, build):
    dfu.update(build)
    assert not "the product"
"""
WITH_CACHE = tuple(part for part in suites.QUIET if "cacheprovider" not in part)[:-1]


@pytest.fixture
def suite(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.tests(TESTS)
    return suite


def run(suite, *arguments):
    return suite.pytester.runpytest_subprocess(*WITH_CACHE, "--board", "fast", "--build", "app.bin", *arguments)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_failing_test_leaves_its_capture_in_the_cache(suite, workers):
    result = run(suite, *workers)
    result.assert_outcomes(passed=1, failed=1)
    (told,) = re.findall(r"fast: (\S+\.jsonl) \(nrfdfu trace decode", result.stdout.str())
    assert Path(told).parent == suite.path / ".pytest_cache" / "d" / "nrfdfu-traces"
    assert [path.suffix for path in sorted(Path(told).parent.iterdir())] == [".jsonl", ".pcapng"]
    shown = "\n".join(lines(readers.load(Path(told))))
    assert "image upload" in shown
    assert len(readers.load(Path(told)).bytes_of("tx")) == len(readers.load(Path(told[:-5] + "pcapng")).bytes_of("tx"))


def test_all_tests_leave_theirs_where_asked(suite):
    result = run(suite, "--nrfdfu-trace", "traces/night")
    result.assert_outcomes(passed=1, failed=1)
    found = sorted(path.name for path in (suite.path / "traces" / "night").glob("*.jsonl"))
    assert found == [f"test_product.py_test_{kind}_board_fast-build_app_-fast.jsonl" for kind in ("bad", "good")]
    assert not (suite.path / ".pytest_cache" / "d" / "nrfdfu-traces").exists()


def test_what_cannot_be_written_changes_no_result(suite):
    for kind in ("bad", "good"):
        (suite.path / "traces" / f"test_product.py_test_{kind}_board_fast-build_app_-fast.jsonl").mkdir(parents=True)
    run(suite, "--nrfdfu-trace", "traces").assert_outcomes(passed=1, failed=1)
