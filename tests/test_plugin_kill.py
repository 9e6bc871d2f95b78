"""Ctrl-C and a killed pytest: no process is left, no line is held, and the next run works at once."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import simulator
import suites

from pytest_nrfdfu.sim_admin import SimAdmin

SLOW = suites.FAST.replace("1_000_000", "9_600")
"""An upload that takes far longer than the test."""

UPLOAD = """
import pathlib

def test_upload(dfu, build):
    def progress(acknowledged, total):
        pathlib.Path("uploading").touch()
    dfu._progress = progress
    dfu.update(build)

def test_never(board, build):
    pathlib.Path("next").touch()
"""

HOLD = """
import pathlib
import threading

def test_hold(board):
    board.lines["recovery"].press()
    board.lines["reset"].press()
    pathlib.Path("holding").touch()
    threading.Event().wait(60)
"""

BY_HAND = """
[uart]
port = "{uart}"
baudrate = 1_000_000

[probe]
unique_id = "{probe}"

[recovery]
entry = ["gpio"]
reset = "pin"

[recovery.line]
driver = "serial"
port = "{control}"
line = "rts"

[reset.line]
driver = "serial"
port = "{control}"
line = "dtr"

[boot]
smp = false
""" + suites.SLOT.replace("slot_address = 0x10000\n", "")
"""A unit that points at a simulated board which somebody started by hand."""


KILLS = int(os.environ.get("NRFDFU_TEST_KILLS", "6"))
"""How often pytest is killed at a random point; each time costs about two seconds."""
SEED = int(os.environ.get("NRFDFU_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

GOES_ON = """
import pathlib
import pytest

def test_works(dfu, build):
    assert dfu.update(build).hash == build.hash
    pathlib.Path("works").touch()

@pytest.mark.parametrize("n", range(500))
def test_goes_on(recovery, build, n):
    recovery.upload(build.image)
"""
"""Recovery, upload and teardown (which boots), over and over."""

BY_COMMAND = """
[uart]
port = "{uart}"
baudrate = 1_000_000

[probe]
unique_id = "{probe}"

[recovery.line]
driver = "command"
assert = {assert_}
release = {release}

[power]
on = {on}
off = {off}
settle = 0.0

[boot]
smp = false
""" + suites.SLOT.replace("slot_address = 0x10000\n", "")
"""The same with a relay for the recovery pin and one for power: they stay as they are when everything is killed."""

ASSERTS = """
import pathlib
import threading

def test_hold(board):
    board.lines["recovery"].press()
    board.power.off()
    pathlib.Path("holding").touch()
    threading.Event().wait(60)
"""

BREAKS_THE_RIG = """
import os

import pytest

from pytest_nrfdfu.board import rig
from pytest_nrfdfu.sim_admin import SimAdmin

@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(rig, "_START_TIMEOUT", 3.0)
    monkeypatch.setattr(rig.Rig.call, "__kwdefaults__", {{"deadline": 1.0}})

def test_hangs(flashed):
    with SimAdmin({admin!r}) as admin:
        admin.set_fault("probe-hangs", True)
        try:
            flashed.probe.read32(0x20000000)
        finally:
            admin.set_fault("probe-hangs", False)

def test_after_it_hung(flashed):
    assert flashed.probe.state().application == "open"

def test_dies(flashed):
    os.kill(flashed._unit.rig.pid, 9)
    flashed.probe.reset()

def test_after_it_died(flashed):
    assert flashed.probe.state().application == "open"
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


class Run:
    """pytest as a process whose descendants can be found: they inherit a mark in their environment."""

    def __init__(self, folder, *arguments):
        self.mark = f"NRFDFU_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.output = folder / "output.txt"
        with self.output.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "pytest", *suites.QUIET, *arguments],
                cwd=folder,
                env={**os.environ, name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        if error is not None:  # nothing of a failed test is left behind
            for process in self.descendants():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def descendants(self):
        """Process ids with the mark, less pytest's own and those that have ended already."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(") ")[2][0]
            except OSError:
                continue
            if marked and state != "Z":
                found.add(int(folder.name))
        return found - {self.child.pid}

    def wait_for(self, file):
        def there():
            assert self.child.poll() is None, self.output.read_text()
            return file.exists()

        simulator.wait_until(there, f"{file.name} by the test")

    def wait_until_alone(self):
        simulator.wait_until(lambda: not self.descendants(), "the end of every child process")


def test_ctrl_c_during_an_upload(suite):
    """As a terminal sends it: to the whole process group. The exit status is pytest's own for it."""
    suite.add_board("slow", SLOW)
    suite.tests(UPLOAD)
    suites.app(suite.path, size=60000)
    with Run(suite.path, "--board", "slow", "--build", "app.bin") as run:
        run.wait_for(suite.path / "uploading")
        assert len(run.descendants()) == 2, "the simulated board and the rig"
        os.killpg(run.child.pid, signal.SIGINT)
        assert run.child.wait(simulator.DEADLINE) == pytest.ExitCode.INTERRUPTED
        assert run.descendants() == set(), "pytest ends its children before it ends itself"
        output = run.output.read_text()
    assert "KeyboardInterrupt" in output
    assert "Traceback" not in output
    assert not (suite.path / "next").exists()


def test_killed_during_an_upload(suite):
    """SIGKILL leaves pytest no time: its children notice by their pipes."""
    suite.add_board("slow", SLOW)
    suite.tests(UPLOAD)
    suites.app(suite.path, size=60000)
    with Run(suite.path, "--board", "slow", "--build", "app.bin") as run:
        run.wait_for(suite.path / "uploading")
        assert len(run.descendants()) == 2
        run.child.kill()
        run.wait_until_alone()


def by_hand(suite, process):
    suite.add_board("by-hand", BY_HAND.format(**process.endpoints))


def released(admin):
    state = admin.counters()
    return not (state["recovery_pin_low"] or state["nreset_low"] or state["control"]["clients"])


def alone(child):
    child.kill()


def with_its_group(child):
    os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [alone, with_its_group])
def test_killed_while_lines_are_held(suite, kill):
    """The board is released within seconds, and the next run updates it at once. The rig has a group of its own."""
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        by_hand(suite, process)
        suite.tests(HOLD)
        with SimAdmin(process["admin"]) as admin:
            with Run(suite.path, "--board", "by-hand") as run:
                run.wait_for(suite.path / "holding")
                state = admin.counters()
                assert (state["recovery_pin_low"], state["nreset_low"]) == (True, True)
                kill(run.child)
                simulator.wait_until(lambda: released(admin), "the release of both lines")
                run.wait_until_alone()
            suite.tests("def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n")
            suite.run("--board", "by-hand", "--build", "app.bin").assert_outcomes(passed=1)
            assert released(admin)
            assert admin.counters()["probe"]["clients"] == 0


def untouched(admin):
    """Nobody holds anything of the board: no line, no port, no probe."""
    state = admin.counters()
    return released(admin) and not state["probe"]["owners"] and not state["probe"]["clients"]


def random_moment(rng, admin):
    """A condition that comes true somewhere in recovery, upload or teardown."""
    if rng.random() < 0.4:
        return lambda: admin.counters()["recovery_pin_low"]
    wanted = admin.counters()["requests"] + rng.randrange(60)
    return lambda: admin.counters()["requests"] >= wanted


def test_killed_at_random_points(suite, record_property):
    """Each run updates the board, which proves that the one before left it as it should, goes on, and is killed."""
    rng = random.Random(SEED)
    record_property("seed", SEED)
    logging.getLogger(__name__).warning("again with NRFDFU_TEST_SEED=%d", SEED)
    times = []
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        by_hand(suite, process)
        suite.tests(GOES_ON)
        works = suite.path / "works"
        with SimAdmin(process["admin"]) as admin:
            for _ in range(KILLS):
                works.unlink(missing_ok=True)
                with Run(suite.path, "--board", "by-hand", "--build", "app.bin") as run:
                    run.wait_for(works)
                    simulator.wait_until(random_moment(rng, admin), "the moment")
                    assert run.child.poll() is None, run.output.read_text()
                    run.child.kill()
                    killed = time.monotonic()
                    simulator.wait_until(lambda: untouched(admin), "the release of everything")
                    times.append(time.monotonic() - killed)
                    run.wait_until_alone()
            suite.tests("def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n")
            suite.run("--board", "by-hand", "--build", "app.bin").assert_outcomes(passed=1)
            assert untouched(admin)
            assert admin.counters()["erase_all"] == 0
    record_property("slowest release in seconds", round(max(times), 3))
    logging.getLogger(__name__).warning("released after %.2f to %.2f s", min(times), max(times))


def test_everything_killed_at_once(suite):
    """As by the host's end: nobody is left to let go. What a relay holds stays; the next run lets go first."""
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        log = suite.path / "log"
        suite.add_board("by-command", by_command(process, log))
        suite.tests(ASSERTS)
        with SimAdmin(process["admin"]) as admin:
            with Run(suite.path, "--board", "by-command") as run:
                run.wait_for(suite.path / "holding")
                rig = run.descendants()
                assert len(rig) == 1
                for process_id in (*rig, run.child.pid):
                    os.kill(process_id, signal.SIGKILL)
                run.wait_until_alone()
            state = admin.counters()
            assert state["recovery_pin_low"], "what stays driven meanwhile"
            assert not state["powered"]
            log.unlink()
            suite.tests("def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n")
            suite.run("--board", "by-command", "--build", "app.bin").assert_outcomes(passed=1)
            assert log.read_text().split()[:2] == ["release", "on"], "before anything else is done"
            state = admin.counters()
            assert not state["recovery_pin_low"]
            assert state["powered"]


def by_command(process, log):
    def command(word, method, setting):
        call = f"{sys.executable} -m pytest_nrfdfu.sim_admin {process['admin']} {method} {setting}"
        return ["sh", "-c", f"echo {word} >> {log}; exec {call}"]

    commands = {
        "assert_": command("assert", "set_recovery_pin", "low=true"),
        "release": command("release", "set_recovery_pin", "low=false"),
        "on": command("on", "set_power", "on=true"),
        "off": command("off", "set_power", "on=false"),
    }
    return BY_COMMAND.format(**process.endpoints, **commands)


def test_rig_that_hangs_or_dies_costs_one_test(suite):
    """The run goes on: the test that met it is an error of the bench, and the next has the board again."""
    with ExitStack() as stack:
        process = stack.enter_context(simulator.running("--baudrate", 1_000_000, "--flash-timing", "none"))
        by_hand(suite, process)
        suite.tests(BREAKS_THE_RIG.format(admin=process["admin"]))
        result = suite.run("--board", "by-hand", "--build", "app.bin")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*ProbeError: by-hand: the process that owns probe and lines was asked for read32: it did not answer*",
            "*ProbeError: by-hand: the process that owns probe and lines was asked for reset: its process has died*",
        ]
    )


def test_killed_worker(suite):
    """A worker of pytest-xdist that dies takes its rig along; the controller goes on."""
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        by_hand(suite, process)
        suite.tests(HOLD.replace("threading.Event().wait(60)", "os.kill(os.getpid(), 9)").replace("threading", "os"))
        with SimAdmin(process["admin"]) as admin:
            result = suite.run("-n1", "--max-worker-restart=0", "--board", "by-hand")
            assert (suite.path / "holding").exists()
            assert result.ret != pytest.ExitCode.OK
            simulator.wait_until(lambda: released(admin), "the release of both lines")


def test_failed_test_releases_its_lines(suite):
    """Whatever a test pressed is let go when it ends, while the unit stays open."""
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        by_hand(suite, process)
        suite.tests(
            f"""
from pytest_nrfdfu.sim_admin import SimAdmin

def lines():
    with SimAdmin({process["admin"]!r}) as admin:
        state = admin.counters()
    return state["recovery_pin_low"], state["nreset_low"]

def test_presses(board):
    board.lines["recovery"].press()
    board.lines["reset"].press()
    assert lines() == (True, True)
    assert False

def test_released(board):
    assert lines() == (False, False)
"""
        )
        suite.run("--board", "by-hand").assert_outcomes(passed=1, failed=1)
