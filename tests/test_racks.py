"""Racks: runs and workers that share units, units that are dead or go bad, and what a run's exit status says."""

import re
import subprocess
import sys
from contextlib import ExitStack

import pytest
import racks
import simulator
import suites

from pytest_nrfdfu.bench.lease_dir import VARIABLE
from pytest_nrfdfu.plugin.outcomes import ExitStatus
from pytest_nrfdfu.sim_admin import SimAdmin

TESTS = """
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_it(dfu, build, n):
    assert dfu.update(build).hash == build.hash
"""


class Rack:
    """Simulated boards that somebody started by hand, as the units of one board."""

    def __init__(self, suite, stack, count):
        self.processes = [stack.enter_context(simulator.running(*racks.FAST)) for _ in range(count)]
        self.admins = [stack.enter_context(SimAdmin(process["admin"])) for process in self.processes]
        self.units = [racks.unit(f"dk-{n}", process.endpoints) for n, process in enumerate(self.processes)]
        self.suite = suite
        self.write(*self.units)

    def write(self, *units):
        self.suite.add_board("rack", racks.board() + "".join(units))

    def shares(self):
        """Whether two have ever been at one of the boards at once."""
        seen = [admin.counters() for admin in self.admins]
        return [
            (state["probe"]["max_owners"], state["probe"]["refused"], state["control"]["refused"]) for state in seen
        ]

    @property
    def uploads(self):
        return [admin.counters()["uploads"] for admin in self.admins]


ALONE = (1, 0, 0)
"""One owner of the probe, nobody turned away from probe or lines."""


@pytest.fixture
def suite(pytester, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(pytester.path / "leases"))
    for name in ("LEASE_TIMEOUT", "RETIRE_AFTER", "RECORD", "TRACE"):
        monkeypatch.delenv(f"NRFDFU_{name}", raising=False)
    return suites.make(pytester, monkeypatch)


@pytest.fixture
def rack(suite):
    with ExitStack() as stack:
        yield lambda count: Rack(suite, stack, count)


def start(suite, *arguments):
    """A run beside this one."""
    command = [sys.executable, "-m", "pytest", *suites.QUIET, "--board", "rack", "--build", "app.bin", *arguments]
    return subprocess.Popen(
        command, cwd=suite.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(run):
    """Exit status and output."""
    try:
        output, _ = run.communicate(timeout=10 * simulator.DEADLINE)
    finally:
        run.kill()
        run.wait()
    return run.returncode, output


GATE = """
import threading
import time
from pathlib import Path

import pytest

@pytest.fixture(autouse=True, scope="session")
def gate():
    yield
    deadline = time.monotonic() + 100
    while not Path("go").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
"""
"""What a run leases is held until it may go."""


def test_two_runs_share_a_pool_and_a_third_is_told_who_has_it(suite, rack):
    units = rack(3)
    suite.tests(TESTS.format(count=5))
    suite.pytester.makeconftest(GATE)
    runs = [start(suite, "-n2"), start(suite)]
    simulator.wait_until(lambda: all(units.uploads) or any(run.poll() is not None for run in runs), "use of all units")
    (suite.path / "conftest.py").unlink()
    third = suite.run("--board", "rack", "--build", "app.bin", "--nrfdfu-lease-timeout", "0.3", "-k", "0")
    (suite.path / "go").touch()
    for run in runs:
        status, output = ended(run)
        assert status == 0, output
        assert "5 passed" in output
    assert units.shares() == [ALONE] * 3
    assert sum(units.uploads) == 10
    assert third.ret == ExitStatus.BENCH_TROUBLE
    text = third.stdout.str()
    for n in range(3):
        assert re.search(rf"rack:dk-{n} is held by \S+@\S+ since 20\S+ \S+ \(process \d+: ", text)
    assert "waited 0.3 s (--nrfdfu-lease-timeout)" in text


@pytest.mark.parametrize("workers", [(), ("-n", "auto")], ids=["alone", "workers"])
def test_a_dead_unit_costs_no_test(suite, rack, workers):
    """It is tried twice, then retired and named; with workers, whoever had it gets the next that comes free."""
    units = rack(1)
    units.write(racks.DEAD, *units.units)
    suite.tests(TESTS.format(count=5))
    result = suite.run("--board", "rack", "--build", "app.bin", *workers)
    result.assert_outcomes(passed=5)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["rack:dead was retired: it could not be opened, 2 times in a row: *no-such-*"])
    assert units.shares() == [ALONE]


def test_every_worker_has_a_unit_of_its_own(suite, rack):
    units = rack(3)
    suite.tests(TESTS.format(count=9))
    result = suite.run("--board", "rack", "--build", "app.bin", "-n", "3")
    result.assert_outcomes(passed=9)
    assert units.shares() == [ALONE] * 3
    assert min(units.uploads) >= 1


def test_more_workers_than_units(suite):
    suite.add_board("rack", racks.board() + racks.DEAD + racks.dead("gone", "disabled = 'no cable'"))
    suite.tests(TESTS.format(count=2))
    text = suites.usage_error(suite.run_inside("--board", "rack", "--build", "app.bin", "-n", "2"))
    assert "-n 2: every worker needs a unit of its own" in text
    assert "have 1 that may be used (rack:dead): use -n 1 or -n auto" in text


PLACES = """
import os
import pytest
from pathlib import Path

def note(name):
    with Path("places").open("a") as file:
        file.write(f"{name} {os.environ['PYTEST_XDIST_WORKER']}\\n")

@pytest.mark.parametrize("n", range(4))
def test_it(board, n):
    note(board.unit)

@pytest.mark.parametrize("n", range(2))
def test_both(boards, n):
    assert [board.unit for board in boards] == ["rack:dk-0", "rack:dk-1"]
    note("both")

@pytest.mark.parametrize("n", range(6))
def test_without(n):
    note("without")
"""


@pytest.mark.parametrize("dist", ["load", "loadgroup"])
def test_the_tests_of_a_unit_stay_on_one_worker(suite, rack, dist):
    units = rack(2)
    suite.tests(PLACES)
    result = suite.run("--board", "rack:all", "-n", "2", "--dist", dist)
    result.assert_outcomes(passed=16)
    places = [line.split() for line in (suite.path / "places").read_text().splitlines()]
    assert len(places) == 16
    for name in ("rack:dk-0", "rack:dk-1", "both"):
        assert len({worker for what, worker in places if what == name}) == 1, name
    assert len({worker for _, worker in places}) == 2
    assert units.shares() == [ALONE] * 2


@pytest.mark.timeout(120)
def test_workers_that_want_each_others_units_do_not_wait_for_ever(suite, rack):
    """Whoever holds a unit for any test gives it back before it waits for a named one."""
    units = rack(2)
    suite.tests(TESTS.format(count=3))
    boards = (part for name in ("rack", "rack:dk-1", "rack:dk-0") for part in ("--board", name))
    result = suite.run(*boards, "--build", "app.bin", "-n", "2")
    result.assert_outcomes(passed=9)
    assert units.shares() == [ALONE] * 2


def test_a_worker_that_dies_costs_its_test_alone(suite, rack):
    """Another takes its place and its unit."""
    units = rack(2)
    source = "    if n == 1:\n        import os\n        os.kill(os.getpid(), 9)\n"
    suite.tests(TESTS.format(count=6) + source)
    result = suite.run("--board", "rack", "--build", "app.bin", "-n", "2")
    result.assert_outcomes(passed=5, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [owners for owners, *_ in units.shares()] == [1, 1]


# --- units that go bad ------------------------------------------------------------------------------------------------

GOES_BAD = """
import pytest
from pytest_nrfdfu.errors import BoardError

@pytest.mark.parametrize("n", range(5))
def test_it(board, n):
    if board.unit == "rack:dk-0":
        raise BoardError("the cable is loose")
"""


def test_a_unit_that_goes_bad_is_retired_and_its_tests_go_to_another(suite, rack):
    rack(2)
    suite.tests(GOES_BAD)
    result = suite.run("--board", "rack")
    assert result.ret == ExitStatus.BENCH_TROUBLE
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "rack:dk-0 was retired: the bench failed 2 times in a row, the last time in *rack-1?: the cable is loose",
            "nrfdfu: exit status 10: bench trouble only*",
        ]
    )


def test_where_no_other_is_left_tests_end_as_errors_at_once(suite, rack):
    units = rack(1)
    suite.tests(GOES_BAD)
    result = suite.run("--board", "rack", "--nrfdfu-retire-after", "1")
    assert result.ret == ExitStatus.BENCH_TROUBLE
    result.stdout.fnmatch_lines(
        ["*BoardError: no unit of rack can be used: rack:dk-0: retired in this run: the bench*"]
    )
    assert units.admins[0].counters()["probe"]["owners_seen"] <= 1


def test_after_a_failed_test_the_unit_is_reset(suite, rack):
    units = rack(1)
    suite.tests(
        f"""
from pytest_nrfdfu.sim_admin import SimAdmin

def resets():
    with SimAdmin({units.processes[0]["admin"]!r}) as admin:
        return sum(admin.counters()["resets"].values())

seen = []

def test_first(board):
    seen.append(resets())

def test_fails(board):
    assert resets() == seen[0]
    assert False

def test_next(board):
    assert resets() == seen[0] + 1

def test_last(board):
    assert resets() == seen[0] + 1
"""
    )
    result = suite.run("--board", "rack")
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


# --- exit statuses ----------------------------------------------------------------------------------------------------

STATUS = """
import pytest
from pytest_nrfdfu.errors import BoardError

def test_passes(board): pass

def test_fails(board): assert False

def test_bench(board): raise BoardError("no port")

def test_without(): pass

@pytest.mark.board("other")
def test_other(board): pass
"""


@pytest.mark.parametrize(
    ("chosen", "status"),
    [
        ("passes", 0),
        ("passes or fails", 1),
        ("fails or bench", 1),
        ("passes or bench", 10),
        ("without", 11),
        ("other or without", 11),
        ("nothing", 11),
    ],
)
def test_exit_status(suite, chosen, status):
    suite.tests(STATUS)
    result = suite.run("--board", "fast", "-k", chosen)
    assert result.ret == status
    assert ("nrfdfu: exit status" in result.stdout.str()) is (status >= 10)


def test_exit_status_of_workers(suite):
    suite.tests(STATUS)
    assert suite.run("--board", "fast", "-k", "passes or bench", "-n1").ret == ExitStatus.BENCH_TROUBLE
    assert suite.run("--board", "fast", "-k", "without", "-n1").ret == ExitStatus.NOTHING_TESTED


def test_exit_status_without_boards_is_pytests(suite, monkeypatch):
    """A board of the ini file is a default, not what the run is for, unless one is required."""
    suite.tests(STATUS)
    assert suite.run_inside("-k", "without").ret == 0
    assert suite.run_inside("-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    suite.pytester.makeini("[pytest]\nnrfdfu_board = fast\n")
    assert suite.run_inside("-k", "without").ret == 0
    assert suite.run_inside("-k", "without", "--nrfdfu-require-board").ret == ExitStatus.NOTHING_TESTED
    monkeypatch.setenv("NRFDFU_BOARD", "fast")
    assert suite.run_inside("-k", "without").ret == ExitStatus.NOTHING_TESTED
    assert suite.run_inside("-k", "without", "--collect-only").ret == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lease-timeout", value) for value in ("soon", "inf", "nan", "-1")],
        *[("retire-after", "-1"), ("record", "app.bin")],
    ],
)
def test_wrong_options(suite, name, value):
    text = suites.usage_error(suite.run_inside(f"--nrfdfu-{name}", value))
    assert f"nrfdfu_{name.replace('-', '_')}" in text
