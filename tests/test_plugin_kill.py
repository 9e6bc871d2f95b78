"""Ctrl-C and a killed pytest: no process is left, no line is held, and the next run works at once."""

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
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


def test_killed_while_lines_are_held(suite):
    """The board is released within seconds, and the next run updates it at once."""
    with simulator.running("--baudrate", 1_000_000, "--flash-timing", "none") as process:
        by_hand(suite, process)
        suite.tests(HOLD)
        with SimAdmin(process["admin"]) as admin:
            with Run(suite.path, "--board", "by-hand") as run:
                run.wait_for(suite.path / "holding")
                state = admin.counters()
                assert (state["recovery_pin_low"], state["nreset_low"]) == (True, True)
                run.child.kill()
                simulator.wait_until(lambda: released(admin), "the release of both lines")
                run.wait_until_alone()
            suite.tests("def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n")
            suite.run("--board", "by-hand", "--build", "app.bin").assert_outcomes(passed=1)
            assert released(admin)
            assert admin.counters()["probe"]["clients"] == 0


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
