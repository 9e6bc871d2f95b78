"""A night on a rack of eight with a dead, a flaky and a locked unit: no result is lost, and each is named."""

import re
from contextlib import ExitStack

import pytest
import racks
import simulator
import suites

from pytest_nrfdfu.sim_admin import SimAdmin

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(100))
def test_product(flashed, console, n):
    assert n != 41, "the product is wrong here"
    flashed.reset()
    console.expect("hash", timeout=5)
"""
RETIRED = re.compile(r"^night:(\S+) was retired: (.*)$", re.MULTILINE)


@pytest.fixture
def rack(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    kinds = {"flaky": ("--drop-rate", 0.05), "locked": ("--locked",), **{f"dk-{n}": () for n in range(5)}}
    with ExitStack() as stack:
        boards = {name: stack.enter_context(simulator.running(*racks.FAST, *more)) for name, more in kinds.items()}
        more = {"locked": 'recovery.entry = ["boot-mode"]'}
        units = [racks.unit(name, board.endpoints, more.get(name, "")) for name, board in boards.items()]
        suite.add_board("night", racks.board("timeout = 1.5") + racks.DEAD + "".join(units))
        suite.tests(TESTS)
        admins = [stack.enter_context(SimAdmin(board["admin"])) for board in boards.values()]
        yield suite, admins


def test_a_night(rack):
    """A test that met bench trouble is run again, by pytest-rerunfailures, on whatever unit is free then."""
    suite, admins = rack
    result = suite.run(
        "--board", "night", "--build", "app.bin", "-n", "8", "--reruns", "3", "--nrfdfu-record", "records"
    )
    text = result.stdout.str()
    assert result.parseoutcomes()["passed"] == 99, text
    assert result.parseoutcomes()["failed"] == 1, text
    assert "errors" not in result.parseoutcomes()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "the product is wrong here" in text
    retired = dict(RETIRED.findall(text))
    assert sorted(retired) == ["dead", "flaky", "locked"]
    assert "/dev/no-such-" in retired["dead"]
    assert "The chip is locked" in retired["locked"]
    assert "frames were damaged on their way" in retired["flaky"]
    for admin in admins:
        state = admin.counters()
        assert state["probe"]["max_owners"] <= 1
        assert (state["probe"]["refused"], state["control"]["refused"]) == (0, 0)
