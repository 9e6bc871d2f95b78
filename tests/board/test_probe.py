"""Unmodified pyOCD against the simulated board's debug port: in the rig's child, as in use."""

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest
from simulator import DEADLINE, wait_until

from board.conftest import wired
from pytest_nrfdfu.board.probe import CTRL_AP_IDR, Probe
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import ProbeError
from pytest_nrfdfu.sim.chip import Chip
from pytest_nrfdfu.sim.dap import Dap
from pytest_nrfdfu.sim.probe_server import ProbeServer

RESETREAS = 0x50005400
RAM = 0x20000000
DEMCR, VC_CORERESET = 0xE000EDFC, 1
DHCSR, HALT, RUN = 0xE000EDF0, 0xA05F0003, 0xA05F0000


@pytest.fixture
def rig(sim):
    yield sim.unit.rig
    counters = sim.admin.counters()
    assert counters["erase_all"] == 0
    assert counters["debugger_erases"] == 0
    assert counters["probe"]["owners"] == 0, "the probe is given back after every call"
    assert counters["probe"]["max_owners"] <= 1


@pytest.mark.parametrize(
    ("method", "cause", "bit"), [("pin", "RESETPIN", 0x1), ("system", "SREQ", 0x8), ("ctrl-ap", "CTRLAP", 0x4)]
)
def test_a_reset_leaves_its_cause(rig, sim, method, cause, bit):
    rig.write32(RESETREAS, 0xFFFFFFFF)
    rig.reset(method)
    assert sim.resets() == {cause: 1}
    assert rig.read32(RESETREAS) == bit
    assert sim.admin.counters()["cpu_runs"]


def test_an_unknown_reset_is_an_error(rig):
    with pytest.raises(ProbeError, match="unknown reset 'warm'; known: pin, system, ctrl-ap"):
        rig.call("reset", kind="warm")


def test_memory_is_read_and_written(rig):
    rig.write32(RAM, 0x12345678)
    assert rig.read32(RAM) == 0x12345678


def test_an_address_where_nothing_is_faults(rig):
    with pytest.raises(ProbeError, match="Fault"):
        rig.read32(0x60000000)
    assert isinstance(rig.read32(RESETREAS), int), "and the next access works"


def test_it_says_who_it_is(rig):
    info = rig.probe_info()
    assert info["ctrl_ap_idr"] == CTRL_AP_IDR
    assert info["open"] is True
    assert "Simulated" in info["product"]


def test_nothing_is_reset_or_halted_by_looking(rig, sim):
    rig.probe_info()
    rig.read32(RAM)
    assert sim.resets() == {}
    counters = sim.admin.counters()
    assert counters["cpu_runs"]
    assert not counters["nreset_low"]


def test_a_fresh_child_repairs_what_a_dead_one_left(rig, sim):
    rig.write32(DEMCR, VC_CORERESET)
    rig.write32(DHCSR, HALT)
    assert not sim.admin.counters()["cpu_runs"]
    os.kill(rig.pid, signal.SIGKILL)
    with pytest.raises(ProbeError, match="its process has died"):
        rig.release()
    assert sim.admin.counters()["cpu_runs"]
    assert rig.read32(DEMCR) & VC_CORERESET == 0
    assert sim.resets() == {}, "a repair resets nothing"


def test_a_repair_lets_go_of_a_chip_that_ctrl_ap_holds_in_reset(sim):
    probe = Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001)
    with probe._session() as session:
        probe._connect(session).write_ap(2 << 24, 1)
    assert not sim.admin.counters()["cpu_runs"]
    probe.repair()
    assert sim.admin.counters()["cpu_runs"]


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_locked_chip_can_be_reset_but_not_read():
    with wired(sim={"locked": True}) as board:
        rig = board.unit.rig
        assert rig.probe_info()["open"] is False
        for access in (lambda: rig.read32(RAM), lambda: rig.write32(RAM, 1), lambda: rig.reset("system")):
            with pytest.raises(ProbeError, match=r"the chip is locked .*never done here"):
                access()
        board.admin.reset_counters()
        rig.reset("pin")
        rig.reset("ctrl-ap")
        assert board.resets() == {"RESETPIN": 1, "CTRLAP": 1}
        assert board.admin.counters()["erase_all"] == 0


def test_a_chip_without_power_is_named(rig, sim):
    sim.admin.set_power(False)
    try:
        with pytest.raises(ProbeError, match="that the board has power"):
            rig.read32(RAM)
    finally:
        sim.admin.set_power(True)
    assert isinstance(rig.read32(RAM), int)


def test_a_probe_that_somebody_else_has_is_named(rig, sim):
    sim.admin.set_probe(busy=True)
    try:
        with pytest.raises(ProbeError, match=r"is in use by another program .*; close the debugger"):
            rig.reset("pin")
    finally:
        sim.admin.set_probe(busy=False)
    assert sim.resets() == {}


def test_an_unplugged_probe_is_an_error_until_it_is_back(rig, sim):
    sim.admin.set_probe(plugged=False)
    try:
        with pytest.raises(ProbeError, match=r"check that the probe is plugged in"):
            rig.reset("pin")
    finally:
        sim.admin.set_probe(plugged=True)
    rig.reset("pin")
    assert sim.resets() == {"RESETPIN": 1}


def bare_rig(address):
    settings = {"board": "b", "uart": {"port": "x"}, "probe": {"unique_id": address}}
    settings["recovery"] = {"entry": ["pin-reset"]}
    return Rig(BoardConfig.model_validate(settings), "dk-07")


def start_error(address):
    rig = bare_rig(address)
    try:
        with pytest.raises(ProbeError) as caught:
            rig.start()
        assert rig.pid is None
        return str(caught.value)
    finally:
        rig.stop()


def test_nothing_listening_is_named():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"remote:127.0.0.1:{closed.getsockname()[1]}"
    text = start_error(address)
    assert f"dk-07: probe {address}: nothing listens there; start the probe server (pyocd server)" in text


@pytest.mark.parametrize("address", ["cmsisdap:0000", "1050012345"])
def test_no_such_probe_is_named(address):
    assert f"no debug probe {address} is connected; check that the probe is plugged in" in start_error(address)


class _OtherChip(Dap):
    """An nRF52: its CTRL-AP has another IDR."""

    written: tuple[tuple[int, int], ...] = ()

    def _read_ctrl_ap(self, core, register):
        return 0x02880000 if register == 0xFC else super()._read_ctrl_ap(core, register)

    def write_ap(self, address, value):
        self.written = (*self.written, (address, value))
        super().write_ap(address, value)


@contextmanager
def served(dap):
    """A probe server in a thread; gives its address."""
    loop = asyncio.new_event_loop()
    server = ProbeServer(dap, unique_id="1050012345")
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(DEADLINE)
        yield f"remote:127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(DEADLINE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        loop.close()


def test_another_chip_is_refused_and_left_alone():
    dap = _OtherChip(Chip())
    with served(dap) as address:
        text = start_error(address)
    assert "is not an nRF5340: its access port 2 has IDR 0x02880000" in text
    assert "Check the unique_id" in text
    assert dap.written == ()
    assert dap.chip.counters.erase_all == 0
    assert not dap.chip.nreset_low


def test_a_pin_reset_that_fails_halfway_lets_go_of_the_pin():
    """The reset pin must not stay low when the probe goes while it is held."""
    chip = Chip()
    dap = Dap(chip)
    levels = []
    drive = dap.drive_nreset

    def failing(low):
        levels.append(bool(low))
        drive(low)
        if low and levels.count(True) == 1:
            raise BoardGoneError

    class BoardGoneError(Exception):
        pass

    probe = Probe(None, "cortex_m", 0.0)

    class Driver:
        def connect(self):
            pass

        def disconnect(self):
            pass

        def assert_reset(self, low):
            failing(low)

    with pytest.raises(BoardGoneError):
        probe._pin_reset(Driver())
    assert levels == [True, False]
    wait_until(lambda: not chip.nreset_low, "the release of nRESET")
