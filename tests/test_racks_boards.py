"""Tests of several units at once on a rack: beside other workers, and where a unit was taken out."""

import re

import pytest
import suites

from pytest_nrfdfu.bench.known import NOTHING_PROVED, after
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_types import UartConfig

UNITS = '[[unit]]\nid = "a"\n[[unit]]\nid = "b"\n'
TESTS = """
def test_one(flashed): pass

def test_all(boards):
    assert len(boards) == 2
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    made = suites.make(pytester, monkeypatch)
    made.tests(TESTS)
    return made


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_what_was_proved_is_not_denied_after_a_test_of_several_units(suite, workers):
    """Whoever has a unit after another worker knows nothing of what that one proved on it."""
    suite.add_board("rk", suites.FAST + UNITS)
    result = suite.run("--board", "rk:all", "--build", "app.bin", *workers)
    result.assert_outcomes(passed=3)
    now = dict(re.findall(r"^On (\S+) now: (.*)$", result.stdout.str(), re.MULTILINE))
    assert sorted(now) == ["rk:a", "rk:b"]
    for held in now.values():
        assert "version 1.2.3, hash " in held
        assert "nothing was proved" not in held
        assert ("given back and taken again since" in held) == held.startswith("not known: ")
    if not workers:
        assert not any(held.startswith("not known") for held in now.values())


def test_words_of_what_a_unit_holds():
    unit = Unit("rk:a", BoardConfig(board="rk", uart=UartConfig(port="/dev/rk"), recovery={"entry": ["smp"]}))
    assert unit.holds == NOTHING_PROVED
    assert after(None, NOTHING_PROVED) == NOTHING_PROVED
    assert after("version 1", "version 2") == "version 2"
    doubted = after("version 1", NOTHING_PROVED)
    assert doubted == "not known: earlier version 1; given back and taken again since, and not proved again"
    assert after(doubted, NOTHING_PROVED) == doubted
    assert after("version 1", "not known: it failed") == "not known: it failed"


def test_a_unit_taken_out_skips_tests_of_all_units(suite):
    """Asked for by a pattern it is left out, as for tests of one unit; asked for by name that is an error."""
    suite.add_board("rk", suites.FAST + UNITS + 'disabled = "no cable"\n')
    result = suite.run("--board", "rk:all", "--build", "app.bin", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == pytest.ExitCode.OK
    skipped = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert len(skipped) == 2
    assert all("rk:b is disabled in " in line and line.endswith("rk.toml: no cable") for line in skipped)
    result = suite.run("--board", "rk:a", "--board", "rk:b", "-k", "test_all")
    result.assert_outcomes(errors=1)
