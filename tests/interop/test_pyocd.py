"""Unmodified pyOCD against the simulated debug probe: its Python API and its command line.

What is done to the probe takes an address (``127.0.0.1:PORT``), so that any other server of the protocol can be put
behind the same steps. pyOCD runs in child processes: its Session changes the working directory and prints.
"""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import firmware
import pytest

from pytest_nrfdfu.sim.chip import Chip, ResetCause
from pytest_nrfdfu.sim.dap import Dap
from pytest_nrfdfu.sim.probe_server import ProbeServer

firmware.needs("pyocd")

DEADLINE = 60.0
"""Seconds for any one thing pyOCD does; generous, for it imports 675 modules first."""
RESETREAS, GPREGRET, FORCEOFF = 0x50005400, 0x5000551C, 0x50005614
FLASH_WORD = 0x00010203


# Steps: they run in the child, and take the probe's address first.


@contextmanager
def session(address, directory, **options):
    """An open pyOCD session with the options that a test rig sets."""
    from pyocd.core.helpers import ConnectHelper

    script = directory / "inert.py"
    script.touch()
    rig = {
        "target_override": "cortex_m",
        "auto_unlock": False,
        "connect_mode": "attach",
        "resume_on_disconnect": True,
        "reset.post_delay": 0.0,
        "no_config": True,
        "user_script": str(script),
        "dap_protocol": "swd",
    }
    opened = ConnectHelper.session_with_chosen_probe(
        unique_id=f"remote:{address}", blocking=False, project_dir=str(directory), options=rig | options
    )
    with opened:
        yield opened


def describe(address, directory):
    with session(address, directory) as opened:
        target = opened.target
        return {
            "cores": [(core.node_name, core.core_number) for core in target.cores.values()],
            "type": target.cores[0].name,
            "state": target.get_state().name,
            "aps": sorted(ap.apsel for ap in target.dp.aps),
            "part": target.read32(0x00FF020C),
            "flash": target.read32(0x10000),
            "block": bytes(target.read_memory_block8(0x10001, 6)).hex(),
        }


def halt_and_resume(address, directory):
    with session(address, directory) as opened:
        target = opened.target
        target.halt()
        halted = target.get_state().name
        target.write_core_register("r3", 0x1234)
        register = target.read_core_register("r3")
        target.write32(0x20000000, 0xCAFE)
        target.resume()
        return halted, register, target.read32(0x20000000), target.get_state().name


def halt_and_leave(address, directory):
    with session(address, directory, resume_on_disconnect=False) as opened:
        opened.target.halt()


def reset(address, directory, method):
    """Clear RESETREAS, write GPREGRET, reset, read both. `method` is a name of pyOCD's ResetType, or CTRL-AP."""
    from pyocd.core.target import Target

    older = {"HARDWARE": "HW", "SYSTEM": "SW_SYSRESETREQ", "CORE": "SW_VECTRESET"}  # as pyOCD 0.36 calls them
    with session(address, directory) as opened:
        target = opened.target
        target.write32(RESETREAS, 0xFFFFFFFF)
        target.write8(GPREGRET, 1)
        if method == "CTRL-AP":
            target.dp.write_ap(2 << 24, 1)
            target.dp.write_ap(2 << 24, 0)
        elif method == "DEFAULT":
            target.reset()
        else:
            names = Target.ResetType.__members__
            target.reset(names[method if method in names else older[method]])
        return target.read32(RESETREAS), target.read32(GPREGRET), target.get_state().name


def reset_and_halt(address, directory):
    with session(address, directory) as opened:
        target = opened.target
        target.reset_and_halt()
        return target.get_state().name, target.read_core_register("pc")


def release_network_core(address, directory):
    """The cores that a session finds after FORCEOFF was released."""
    with session(address, directory) as opened:
        opened.target.write32(FORCEOFF, 0)
    with session(address, directory) as opened:
        return sorted(opened.target.cores)


def bare_session(address, directory):
    """A session that is not open yet, for steps that look at no core."""
    from pyocd.core.helpers import ConnectHelper

    return ConnectHelper.session_with_chosen_probe(
        unique_id=f"remote:{address}",
        blocking=False,
        project_dir=str(directory),
        options={"target_override": "cortex_m", "auto_unlock": False, "no_config": True},
    )


def pin_reset_only(address, directory):
    opened = bare_session(address, directory)
    opened.open(init_board=False)
    opened.probe.connect()
    opened.probe.reset()
    opened.probe.disconnect()
    opened.close()


def least_intrusive_reset(address, directory):
    """CTRL-AP reset without looking at the cores: what works on a locked chip."""
    opened = bare_session(address, directory)
    opened.open(init_board=False)
    port = opened.target.dp
    port.connect()
    identity = port.read_ap(2 << 24 | 0xFC)
    port.write_ap(2 << 24, 1)
    port.write_ap(2 << 24, 0)
    port.power_down_debug()
    opened.close()
    return identity


def connect_under_reset(address, directory):
    with session(address, directory, connect_mode="under-reset") as opened:
        return opened.target.get_state().name


_kept = []


def keep_open(address, directory):
    """Open a session that stays open when the step is over."""
    context = session(address, directory)
    _kept.append((context, context.__enter__()))


def hold_reset(address, directory):
    """Open the probe, pull nRESET low and keep both."""
    opened = bare_session(address, directory)
    opened.open(init_board=False)
    opened.probe.assert_reset(True)
    _kept.append(opened)


def read_and_close_kept(address, directory):
    """Use the session that stayed open, then close it. The class of what that raised, and whether it could close."""
    context, opened = _kept.pop()
    try:
        opened.target.read32(0x20000000)
        raised = None
    except Exception as error:  # noqa: BLE001 - the test says which
        raised = type(error).__name__
    context.__exit__(None, None, None)
    return raised


def _serve_steps(pipe):
    while True:
        step, arguments = pipe.recv()
        try:
            pipe.send((step(*arguments), None))
        except Exception as error:  # noqa: BLE001 - reported
            pipe.send((None, f"{type(error).__name__}: {error}"))


class StepFailed(Exception):
    """What a step raised in the child."""


class PyocdProcess:
    """A child process that performs steps, with a deadline for each."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve_steps, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def perform(self, step, *arguments):
        self.pipe.send((step, arguments))
        if not self.pipe.poll(DEADLINE):
            self.close()
            pytest.fail(f"pyOCD did not finish {step.__name__} within {DEADLINE} s")
        result, error = self.pipe.recv()
        if error:
            raise StepFailed(error)
        return result

    def close(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_pyocd(directory, *arguments):
    """The pyocd command line; returns its output."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "pyocd", *arguments],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


# The simulated side.


class Bench:
    """A chip and its probe, served from an event loop of their own."""

    def __init__(self, chip):
        self.chip = chip
        self.dap = Dap(chip)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="simulated probe")
        self.thread.start()
        self.server = ProbeServer(self.dap, unique_id="1050012345", hold_time=0.01)
        self.address = f"127.0.0.1:{self._wait(self.server.start())}"

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE)

    def look(self, question):
        """Ask the simulation something in its own thread."""

        async def ask():
            return question(self)

        return self._wait(ask())

    def wait_for(self, condition):
        """Wait until `condition` holds in the simulation."""
        end = time.monotonic() + DEADLINE
        while not self.look(condition):
            assert time.monotonic() < end, "the simulation never got there"

    def close(self):
        self._wait(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()


@pytest.fixture
def make_bench():
    benches = []

    def make(**options):
        chip = Chip(**options)
        chip.program(0, (0x20001000).to_bytes(4, "little") + (0x00000201).to_bytes(4, "little"))
        chip.program(0x10000, FLASH_WORD.to_bytes(4, "little") + bytes(range(4, 12)))
        benches.append(Bench(chip))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture(scope="module")
def pyocd():
    process = PyocdProcess()
    yield process
    process.close()


@pytest.fixture(params=[False, True], ids=["dp-stays", "dp-lost-by-pin-reset"])
def any_bench(request, make_bench):
    return make_bench(loses_dp_on_pin_reset=request.param)


class TestApi:
    def test_attach_finds_one_running_cortex_m33_and_reads_memory(self, bench, pyocd, tmp_path):
        found = pyocd.perform(describe, bench.address, tmp_path)
        assert found == {
            "cores": [(None, 0)],
            "type": "Cortex-M33",
            "state": "RUNNING",
            "aps": [0, 1, 2, 3],
            "part": 0x5340,
            "flash": FLASH_WORD,
            "block": "020100040506",
        }
        assert bench.look(lambda b: (b.server.owners_seen, b.server.max_owners)) == (1, 1)

    def test_halt_registers_and_resume(self, bench, pyocd, tmp_path):
        assert pyocd.perform(halt_and_resume, bench.address, tmp_path) == ("HALTED", 0x1234, 0xCAFE, "RUNNING")

    def test_a_core_may_be_left_halted_and_the_next_session_lets_it_run(self, bench, pyocd, tmp_path):
        pyocd.perform(halt_and_leave, bench.address, tmp_path)
        assert not bench.look(lambda b: b.chip.cpu_runs)
        pyocd.perform(describe, bench.address, tmp_path)
        assert bench.look(lambda b: b.chip.cpu_runs)

    @pytest.mark.parametrize(
        ("method", "reason", "retained"),
        [("HARDWARE", 1, 0), ("SYSTEM", 8, 1), ("DEFAULT", 8, 1), ("CTRL-AP", 4, 1), ("CORE", 0, 1)],
    )
    def test_each_reset_leaves_its_reason(self, any_bench, pyocd, tmp_path, method, reason, retained):
        assert pyocd.perform(reset, any_bench.address, tmp_path, method) == (reason, retained, "RUNNING")

    def test_reset_and_halt_stops_at_the_reset_vector(self, bench, pyocd, tmp_path):
        assert pyocd.perform(reset_and_halt, bench.address, tmp_path) == ("HALTED", 0x200)
        assert bench.look(lambda b: b.chip.cpu_runs)

    def test_connect_under_reset(self, bench, pyocd, tmp_path):
        assert pyocd.perform(connect_under_reset, bench.address, tmp_path) == "HALTED"
        assert bench.look(lambda b: (b.chip.cpu_runs, b.chip.resetreas)) == (True, ResetCause.RESETPIN)

    def test_network_core_appears_when_it_leaves_force_off(self, bench, pyocd, tmp_path):
        assert pyocd.perform(release_network_core, bench.address, tmp_path) == [0, 1]

    @pytest.mark.parametrize("locked", [False, True])
    def test_pin_reset_needs_no_access_to_the_chip(self, make_bench, pyocd, tmp_path, locked):
        bench = make_bench(locked=locked)
        pyocd.perform(pin_reset_only, bench.address, tmp_path)
        assert bench.look(lambda b: b.chip.resetreas) == ResetCause.RESETPIN

    def test_least_intrusive_reset_works_on_a_locked_chip(self, make_bench, pyocd, tmp_path):
        bench = make_bench(locked=True)
        assert pyocd.perform(least_intrusive_reset, bench.address, tmp_path) == 0x12880000
        assert bench.look(lambda b: b.chip.counters.resets[ResetCause.CTRLAP]) == 1


class TestTrouble:
    def test_a_locked_chip_has_no_cores_and_is_not_erased(self, make_bench, pyocd, tmp_path):
        bench = make_bench(locked=True)
        with pytest.raises(StepFailed, match="DebugError: No cores were discovered"):
            pyocd.perform(describe, bench.address, tmp_path)
        assert bench.look(lambda b: b.chip.counters.erase_all) == 0

    def test_a_chip_without_power_is_not_detected(self, bench, pyocd, tmp_path):
        bench.look(lambda b: b.chip.set_power(False))
        with pytest.raises(StepFailed, match=r"Error: Target not detected|TransferError: .*no ACK"):
            pyocd.perform(describe, bench.address, tmp_path)

    def test_a_busy_probe_is_a_probe_error(self, bench, pyocd, tmp_path):
        bench.look(lambda b: setattr(b.dap, "busy", True))
        with pytest.raises(StepFailed, match=r"ProbeError: .*in use"):
            pyocd.perform(describe, bench.address, tmp_path)

    def test_an_unplugged_probe_is_disconnected_and_does_not_hang(self, bench, pyocd, tmp_path):
        bench.look(lambda b: setattr(b.dap, "plugged", False))
        with pytest.raises(StepFailed, match="ProbeDisconnected"):
            pyocd.perform(describe, bench.address, tmp_path)

    def test_a_client_that_is_killed_leaves_the_probe_free_and_nreset_high(self, bench, pyocd, tmp_path):
        victim = PyocdProcess()
        victim.perform(hold_reset, bench.address, tmp_path)
        assert bench.look(lambda b: b.chip.nreset_low)
        victim.close()
        bench.wait_for(lambda b: not b.server.clients)
        assert not bench.look(lambda b: b.chip.nreset_low)
        assert pyocd.perform(describe, bench.address, tmp_path)["state"] == "RUNNING"

    def test_the_probe_is_pulled_in_mid_session(self, bench, pyocd, tmp_path):
        pyocd.perform(keep_open, bench.address, tmp_path)
        bench.look(lambda b: setattr(b.dap, "plugged", False))
        assert pyocd.perform(read_and_close_kept, bench.address, tmp_path) == "ProbeDisconnected"
        bench.look(lambda b: setattr(b.dap, "plugged", True))
        assert pyocd.perform(describe, bench.address, tmp_path)["state"] == "RUNNING"


class TestCommandLine:
    def test_commander_reads_memory_and_the_reset_reason(self, bench, tmp_path):
        output = run_pyocd(
            tmp_path,
            *("commander", "--target", "cortex_m", "-u", f"remote:{bench.address}", "--no-config"),
            *("-c", "read32 0x10000", "-c", "write32 0x20000000 0xcafe", "-c", "status", "-c", "reset"),
            *("-c", f"read32 {RESETREAS:#x}"),
        )
        assert "00010203" in output
        assert bench.look(lambda b: b.chip.read(0x20000000, 2)) == b"\xfe\xca"
        assert f"{RESETREAS:08x}:  00000008" in output

    @pytest.mark.parametrize(("method", "reason"), [("hw", 1), ("sysresetreq", 8)])
    def test_reset(self, bench, tmp_path, method, reason):
        run_pyocd(
            tmp_path,
            *("reset", "--target", "cortex_m", "-u", f"remote:{bench.address}", "--no-config", "-m", method),
        )
        assert bench.look(lambda b: (b.chip.resetreas, b.chip.cpu_runs)) == (reason, True)
