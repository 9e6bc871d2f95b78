"""Unmodified pyOCD against the simulated board's debug port: in the rig's child, as in use."""

import asyncio
import importlib.metadata
import os
import signal
import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from pyocd.core import exceptions, helpers
from pyocd.core.exceptions import TransferFaultError
from pyocd.probe import aggregator
from serial.tools import list_ports
from simulator import DEADLINE, SLOT0, wait_until

from board.conftest import wired
from pytest_nrfdfu.board import probe as probe_module
from pytest_nrfdfu.board import probe_chip, probe_session
from pytest_nrfdfu.board import rig as rig_module
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.probe import CTRL_AP_IDR, Probe, _told_by
from pytest_nrfdfu.board.probe_chip import Chip as ProbeChip
from pytest_nrfdfu.board.probe_session import OPTIONS
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import ProbeError
from pytest_nrfdfu.sim.chip import Chip
from pytest_nrfdfu.sim.dap import Dap
from pytest_nrfdfu.sim.probe_server import ProbeServer

RESETREAS = 0x50005400
FORCEOFF = 0x50005614
NVMC_READY, NVMC_CONFIG = 0x50039400, 0x50039504
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
    with pytest.raises(ProbeError, match="unknown reset 'warm' of the probe; known: pin, system, ctrl-ap"):
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


def test_the_chips_state_is_told(rig):
    state = rig.chip_state()
    assert state.probe == rig.probe_info()["unique_id"]
    assert "Simulated" in state.product
    assert state.pyocd == importlib.metadata.version("pyocd")
    assert state.firmware == "", "which a probe on the network does not tell"
    assert (state.application, state.network) == ("open", "off")
    assert state.readable


def test_a_network_core_that_runs_is_told_from_one_that_is_off(rig):
    rig.write32(FORCEOFF, 0)
    try:
        assert rig.chip_state().network == "open"
    finally:
        rig.write32(FORCEOFF, 1)
    assert rig.chip_state().network == "off"


def test_what_a_probes_library_says_is_told():
    link = SimpleNamespace(firmware_version="J-Link OB-nRF5340 compiled Nov  7 2022", version="7.94e")
    assert _told_by(SimpleNamespace(_link=link), "firmware_version") == "J-Link OB-nRF5340 compiled Nov  7 2022"
    assert _told_by(SimpleNamespace(_link=link), "version") == "7.94e"
    assert _told_by(SimpleNamespace(_link=SimpleNamespace(firmware_version=None)), "firmware_version") == ""
    assert _told_by(SimpleNamespace(), "firmware_version") == ""


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
    with pytest.raises(ProbeError, match="its process has died") as caught:
        rig.read32(RAM)
    assert caught.value.cause == "died"
    assert sim.admin.counters()["cpu_runs"]
    assert rig.read32(DEMCR) & VC_CORERESET == 0
    assert sim.resets() == {}, "a repair resets nothing"


def test_a_repair_lets_go_of_a_chip_that_ctrl_ap_holds_in_reset(sim):
    probe = Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001)
    with probe._session() as session:
        probe._connect(session)._write_ap(2, 0, 1)
    assert not sim.admin.counters()["cpu_runs"]
    probe.repair()
    assert sim.admin.counters()["cpu_runs"]


# --- a reset that leaves no cause -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cause"), [("system", "SREQ"), ("ctrl-ap", "CTRLAP")])
def test_a_soft_reset_with_its_cause_cleared_lets_mcuboot_look_at_the_pin(rig, sim, kind, cause):
    rig.set_line("recovery", asserted=True)
    try:
        rig.reset_with_causes_cleared(kind)
        wait_until(lambda: sim.admin.counters()["in_recovery"], "recovery")
    finally:
        rig.set_line("recovery", asserted=False)
    assert sim.resets() == {cause: 1}
    assert rig.read32(RESETREAS) == 0
    assert rig.read32(DEMCR) & VC_CORERESET == 0
    assert rig.read32(DHCSR) & 1 == 0, "the debugger is gone"
    assert sim.admin.counters()["cpu_runs"]
    rig.reset("pin")


def test_only_soft_resets_of_the_probe_can_clear_their_cause(rig):
    with pytest.raises(ValueError, match="after a reset by pin the probe clears no causes"):
        rig.reset_with_causes_cleared("pin")


class _Memory:
    """Memory of a core that does not stop, or faults, at an address."""

    def __init__(self, faults_at=None, ready=1):
        self.words = {DHCSR: 0, DEMCR: 0, NVMC_READY: ready, 0: 0x96F3B83D}
        self.written = []
        self.faults_at = faults_at

    def read32(self, address):
        return self.words.get(address, 0) & (0xFFFF if address == DHCSR else 0xFFFFFFFF)  # less the key of its writes

    def write32(self, address, value):
        if address == self.faults_at:
            self.faults_at = None
            raise TransferFaultError(address)
        self.words[address] = value
        self.written.append((address, value))


def chip_over(memory, monkeypatch):
    chip = object.__new__(ProbeChip)
    monkeypatch.setattr(ProbeChip, "application", "open")
    monkeypatch.setattr(ProbeChip, "memory", lambda _self: memory)
    monkeypatch.setattr(probe_chip, "_HALT_TIMEOUT", 0.0)
    monkeypatch.setattr(probe_chip, "_ERASE_TIMEOUT", 0.0)
    return chip


def test_a_core_that_is_not_caught_is_let_go_of(monkeypatch):
    memory = _Memory()
    with pytest.raises(ProbeError, match="the core did not stop at its reset vector after a system reset"):
        chip_over(memory, monkeypatch).reset_with_causes_cleared("system")
    assert memory.words[DEMCR] & VC_CORERESET == 0
    assert memory.words[DHCSR] == RUN
    assert RESETREAS not in memory.words


def test_a_core_behind_a_lock_that_came_back_may_be_caught_which_is_said(monkeypatch):
    memory = _Memory()
    chip = chip_over(memory, monkeypatch)
    monkeypatch.setattr(
        ProbeChip, "reset", lambda _self, _kind: monkeypatch.setattr(ProbeChip, "application", "locked")
    )
    with pytest.raises(ProbeError, match="until it is power-cycled") as caught:
        chip.reset_with_causes_cleared("system")
    assert caught.value.cause == "locked"


def test_a_core_that_was_left_caught_is_let_go_of_at_the_next_operation(rig, sim):
    probe = Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProbeChip, "let_run", lambda _self: False)
        with pytest.raises(ProbeError, match="power-cycled"):
            probe.reset_with_causes_cleared("system")
    assert not sim.admin.counters()["cpu_runs"]
    probe.read32(RAM)
    assert sim.admin.counters()["cpu_runs"]
    rig.reset("pin")


def test_a_core_whose_causes_cannot_be_cleared_is_let_go_of(monkeypatch):
    memory = _Memory(faults_at=RESETREAS)
    memory.read32 = lambda address: memory.words.get(address, 0) | (1 << 17 if address == DHCSR else 0)
    with pytest.raises(TransferFaultError):
        chip_over(memory, monkeypatch).reset_with_causes_cleared("system")
    assert memory.words[DEMCR] & VC_CORERESET == 0
    assert memory.words[DHCSR] == RUN


# --- erasing one page -----------------------------------------------------------------------------------------------


def test_one_page_is_erased_and_no_other(rig, sim, builds):
    before = sim.admin.read_flash(SLOT0, 0x2000)
    assert before[:4] == builds[0].path.read_bytes()[:4]
    try:
        rig.erase_page(SLOT0)
        after = sim.admin.read_flash(SLOT0, 0x2000)
        assert after == b"\xff" * 0x1000 + before[0x1000:]
        assert rig.read32(NVMC_CONFIG) == 0, "read-only again"
        counters = sim.admin.counters()
        assert (counters["debugger_erases"], counters["debugger_writes"], counters["erase_all"]) == (1, 0, 0)
        assert counters["cpu_runs"]
        assert sim.resets() == {}
    finally:  # the board is shared
        sim.admin.reset_counters()
        restore(sim, builds[0])


def restore(sim, build):
    """The image again, by the way that tests are about elsewhere."""
    enter(sim.unit)
    Dfu(sim.unit).update(build)
    sim.admin.reset_counters()


@pytest.mark.parametrize("address", [0x10004, -0x1000, 0x100000, 0x01000000, 0x20000000])
def test_what_is_no_page_is_not_erased(rig, address):
    with pytest.raises(ProbeError, match="no page of the application core's flash begins at"):
        rig.erase_page(address)


def test_a_page_whose_erase_fails_leaves_flash_read_only(monkeypatch):
    memory = _Memory(faults_at=0)
    with pytest.raises(TransferFaultError):
        chip_over(memory, monkeypatch).erase_page(0)
    assert memory.words[NVMC_CONFIG] == 0
    assert memory.words[DHCSR] == RUN


def test_a_flash_controller_that_is_busy_is_not_used(monkeypatch):
    memory = _Memory(ready=0)
    with pytest.raises(ProbeError, match=r"the flash controller .* did not get ready within"):
        chip_over(memory, monkeypatch).erase_page(0)
    assert NVMC_CONFIG not in memory.words
    assert memory.words[DHCSR] == RUN


def test_a_page_that_stays_as_it_was_is_an_error(monkeypatch):
    memory = _Memory()
    monkeypatch.setattr(memory, "read32", lambda address: 1 if address == NVMC_READY else 0x96F3B83D * (not address))
    with pytest.raises(ProbeError, match="was not erased: it begins with 0x96f3b83d"):
        chip_over(memory, monkeypatch).erase_page(0)
    assert memory.words[NVMC_CONFIG] == 0


# --- the options ----------------------------------------------------------------------------------------------------


def test_no_option_lets_pyocd_erase_power_or_update_anything():
    assert OPTIONS["auto_unlock"] is False
    assert OPTIONS["jlink.power"] is False
    assert OPTIONS["jlink.non_interactive"] is False, "which would tell SEGGER's library SilentUpdateFW"
    assert "jlink.device" not in OPTIONS


def test_pyocd_knows_the_options():
    """One that it does not know is ignored without a word."""
    from pyocd.core.options import OPTIONS_INFO
    from pyocd.probe.jlink_probe import JLinkProbePlugin

    known = set(OPTIONS_INFO) | {option.name for option in JLinkProbePlugin().options}
    assert set(OPTIONS) | {"project_dir", "user_script", "target_override"} <= known


# --- what goes wrong ------------------------------------------------------------------------------------------------


def accesses(rig):
    """What needs an open chip."""
    return (
        lambda: rig.read32(RESETREAS),
        lambda: rig.write32(RESETREAS, 1),
        lambda: rig.erase_page(SLOT0),
        lambda: rig.reset_with_causes_cleared("system"),
    )


def test_a_locked_chip_can_be_reset_but_not_read():
    with wired(sim={"locked": True}) as board:
        rig = board.unit.rig
        assert rig.probe_info()["open"] is False
        state = rig.chip_state()
        assert (state.application, state.network, state.readable) == ("locked", "locked", False)
        for access in (*accesses(rig), lambda: rig.read32(RAM), lambda: rig.reset("system")):
            with pytest.raises(ProbeError, match=r"the chip is locked .*never done here") as caught:
                access()
            assert caught.value.cause == "locked"
        board.admin.reset_counters()
        rig.reset("pin")
        rig.reset("ctrl-ap")
        assert board.resets() == {"RESETPIN": 1, "CTRLAP": 1}
        assert board.admin.counters()["erase_all"] == 0


def test_a_secure_locked_chip_keeps_its_secure_side_to_itself():
    with wired(sim={"secure_locked": True}) as board:
        rig = board.unit.rig
        state = rig.chip_state()
        assert (state.application, state.readable) == ("secure-locked", False)
        for access in (*accesses(rig), lambda: rig.read32(RAM)):
            with pytest.raises(ProbeError, match=r"the chip is secure-locked .*never done here") as caught:
                access()
            assert caught.value.cause == "secure-locked"
        board.admin.reset_counters()
        for kind in ("pin", "ctrl-ap", "system"):
            rig.reset(kind)
        assert board.resets() == {"RESETPIN": 1, "CTRLAP": 1, "SREQ": 1}
        counters = board.admin.counters()
        assert counters["erase_all"] == 0
        assert counters["cpu_runs"]


def test_a_secure_register_of_a_secure_locked_chip_is_not_even_tried(monkeypatch):
    memory = _Memory()
    memory.read32 = memory.write32 = None
    chip = chip_over(memory, monkeypatch)
    monkeypatch.setattr(ProbeChip, "application", "secure-locked")
    for access in (lambda: chip.read32(RESETREAS), lambda: chip.write32(RESETREAS, 1), lambda: chip.erase_page(0)):
        with pytest.raises(ProbeError, match="the chip is secure-locked"):
            access()


def test_a_chip_without_power_is_named(rig, sim):
    sim.admin.set_power(False)
    try:
        with pytest.raises(ProbeError, match=r"works, but no chip answers it .*that the board has power") as caught:
            rig.read32(RAM)
        assert caught.value.cause == "no-power"
    finally:
        sim.admin.set_power(True)
    assert isinstance(rig.read32(RAM), int)


def test_a_probe_that_somebody_else_has_is_named(rig, sim):
    sim.admin.set_probe(busy=True)
    try:
        with pytest.raises(ProbeError, match=r"is in use by another program .*; close the debugger") as caught:
            rig.reset("pin")
        assert caught.value.cause == "busy"
    finally:
        sim.admin.set_probe(busy=False)
    assert sim.resets() == {}


def test_an_unplugged_probe_is_an_error_until_it_is_back(rig, sim):
    sim.admin.set_probe(plugged=False)
    try:
        with pytest.raises(ProbeError, match=r"was unplugged, .*check that the probe is plugged in") as caught:
            rig.reset("pin")
        assert caught.value.cause == "unplugged"
    finally:
        sim.admin.set_probe(plugged=True)
    rig.reset("pin")
    assert sim.resets() == {"RESETPIN": 1}


def test_a_probe_that_hangs_is_given_up_and_works_when_it_is_back(rig, sim, monkeypatch):
    monkeypatch.setattr(rig_module, "_START_TIMEOUT", 2.5)
    sim.admin.set_fault("probe-hangs", True)
    try:
        with pytest.raises(
            ProbeError, match=r"it did not answer within 0.5 s.*a fresh one cannot work either"
        ) as caught:
            rig.call("read32", deadline=0.5, address=RAM)
        assert caught.value.cause == "hangs"
    finally:
        sim.admin.set_fault("probe-hangs", False)
    monkeypatch.undo()
    assert isinstance(rig.read32(RAM), int)


def test_a_probe_that_sees_another_chip_is_named(rig, sim):
    sim.admin.set_fault("probe-wrong-chip", True)
    try:
        with pytest.raises(ProbeError, match="is not an nRF5340") as caught:
            rig.read32(RAM)
        assert caught.value.cause == "wrong-chip"
    finally:
        sim.admin.set_fault("probe-wrong-chip", False)
    assert sim.resets() == {}


def test_a_probe_that_another_process_gives_back_is_waited_for(sim, monkeypatch):
    """The child of a run that has just died takes up to a second."""
    sim.admin.set_probe(busy=True)
    monkeypatch.setattr(probe_module.time, "sleep", lambda _seconds: sim.admin.set_probe(busy=False))
    Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001).repair(busy=DEADLINE)


def test_a_start_waits_for_the_probe_of_a_run_that_has_just_died(rig, sim):
    rig.stop()
    refused = sim.admin.counters()["probe"]["refused"]
    sim.admin.set_probe(busy=True)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(rig.start)
        wait_until(lambda: sim.admin.counters()["probe"]["refused"] > refused, "the refusal")
        sim.admin.set_probe(busy=False)
        starting.result(DEADLINE)
    assert rig.pid is not None


def test_a_probe_that_stays_busy_is_not_waited_for_ever(sim):
    sim.admin.set_probe(busy=True)
    try:
        with pytest.raises(ProbeError, match="in use by another program"):
            Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001).repair(busy=0.0)
    finally:
        sim.admin.set_probe(busy=False)


def test_a_probe_whose_power_has_just_come_back_is_waited_for(sim, monkeypatch):
    sim.admin.set_power(False)
    monkeypatch.setattr(probe_module.time, "sleep", lambda _seconds: sim.admin.set_power(True))
    Probe(sim.simulator.endpoints["probe"], "cortex_m", 0.001).repair(wait=DEADLINE)
    sim.admin.reset_counters()


def bare_rig(address):
    settings = {"board": "b", "uart": {"port": "x"}, "probe": {"unique_id": address}}
    settings["recovery"] = {"entry": ["pin-reset"]}
    return Rig(BoardConfig.model_validate(settings), "dk-07")


def start_error(address, cause):
    rig = bare_rig(address)
    try:
        with pytest.raises(ProbeError) as caught:
            rig.start()
        assert rig.pid is None
        assert caught.value.cause == cause
        return str(caught.value)
    finally:
        rig.stop()


def test_nothing_listening_is_named():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"remote:127.0.0.1:{closed.getsockname()[1]}"
    text = start_error(address, "unreachable")
    assert f"dk-07: probe {address}: nothing listens there; start the probe server (pyocd server)" in text


@pytest.mark.parametrize("address", ["cmsisdap:0000", "1050012345"])
def test_no_such_probe_is_named(address):
    text = start_error(address, "not-found")
    assert f"no debug probe {address} is connected; check that the probe is plugged in" in text


class _NoProbeServer(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n")


def test_what_is_no_probe_server_is_named():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _NoProbeServer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = start_error(f"remote:127.0.0.1:{server.server_address[1]}", "unreachable")
        finally:
            server.shutdown()
            thread.join(DEADLINE)
    assert "what answers there is no probe server" in text


def test_a_name_that_is_none_is_named():
    assert "that host cannot be reached" in start_error("remote:no-such-bench.invalid:5555", "unreachable")


# --- finding --------------------------------------------------------------------------------------------------------


def found(*unique_ids):
    return [SimpleNamespace(unique_id=unique_id, product_name="J-Link") for unique_id in unique_ids]


@pytest.fixture
def connected(monkeypatch):
    """Probes as pyOCD would list them; it takes those whose id contains what was asked for."""

    def connect(*unique_ids, jlink=True, ports=()):
        def listed(unique_id=None, **_options):
            text = (unique_id or "").rpartition(":")[2]
            return [probe for probe in found(*unique_ids) if text in probe.unique_id]

        monkeypatch.setattr(helpers.ConnectHelper, "get_all_connected_probes", listed)
        monkeypatch.setattr(aggregator, "PROBE_CLASSES", {"cmsisdap": None, **({"jlink": None} if jlink else {})})
        shown = [SimpleNamespace(vid=0x1366, serial_number=serial, device=device) for device, serial in ports]
        monkeypatch.setattr(list_ports, "comports", lambda: shown)

    return connect


@pytest.mark.parametrize("asked", ["1050012345", "001050012345", "jlink:1050012345", "JLink:001050012345", None])
def test_the_zeros_of_a_serial_number_do_not_count(connected, asked):
    connected("1050012345")
    assert probe_session.find(asked).unique_id == "1050012345"


def test_part_of_a_serial_number_is_not_enough(connected):
    connected("1050012345")
    with pytest.raises(
        ProbeError, match=r"no debug probe 10500 is connected; there is 1050012345 \(J-Link\)"
    ) as caught:
        probe_session.find("10500")
    assert caught.value.cause == "not-found"


def test_an_id_of_letters_may_be_written_in_any_case(connected):
    connected("E6614103E7174B2D".lower())
    assert probe_session.find("cmsisdap:E6614103E7174B2D")


def test_two_probes_and_no_id_are_listed(connected):
    connected("1050012345", "683339521")
    with pytest.raises(ProbeError, match=r"2 debug probes .*1050012345 \(J-Link\), 683339521 .*unique_id") as caught:
        probe_session.find(None)
    assert caught.value.cause == "several"
    assert probe_session.find("683339521").unique_id == "683339521"


@pytest.mark.parametrize("asked", ["jlink:1050012345", "1050012345", None])
def test_a_jlink_without_seggers_library_is_named(connected, asked):
    connected(jlink=False, ports=[("/dev/ttyACM0", "001050012345"), ("/dev/ttyACM1", "001050012345")])
    with pytest.raises(ProbeError, match="SEGGER's library was not found; install SEGGER's J-Link software") as caught:
        probe_session.find(asked)
    assert caught.value.cause == "no-library"


def test_another_jlinks_port_says_nothing_about_the_wanted_one(connected):
    connected(jlink=False, ports=[("/dev/ttyACM0", "000683339521")])
    with pytest.raises(ProbeError, match="for a J-Link, such as that of Nordic's kits, also install") as caught:
        probe_session.find("1050012345")
    assert caught.value.cause == "not-found"


def test_a_probe_that_was_there_before_was_unplugged(connected):
    connected()
    session = probe_session.open_session("1050012345", "cortex_m", seen=True)
    with pytest.raises(ProbeError, match="it was connected earlier in this run") as caught:
        session.__enter__()
    assert caught.value.cause == "unplugged"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (exceptions.ProbeError("[Errno 16] Resource busy"), "busy"),
        (exceptions.ProbeError("Unable to open device: exclusive access"), "busy"),
        (exceptions.ProbeError("[Errno 13] Access denied (insufficient permissions)"), "permission"),
        (exceptions.ProbeDisconnected("gone"), "unplugged"),
        (exceptions.TransferError("No ACK received"), "no-power"),
        (TypeError("Expected to be given a valid DLL."), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_driver_raises_comes_out_with_its_cause(connected, monkeypatch, error, cause):
    connected("1050012345")

    def failing(*_args, **_options):
        raise error

    monkeypatch.setattr("pyocd.core.session.Session.open", failing)
    monkeypatch.setattr("pyocd.core.session.Session.__init__", lambda *_args, **_options: None)
    monkeypatch.setattr(probe_session, "_close", lambda _session: None)
    session = probe_session.open_session("1050012345", "cortex_m")
    with pytest.raises(ProbeError, match=r"probe 1050012345") as caught:
        session.__enter__()
    assert caught.value.cause == cause
    assert str(error) in str(caught.value)


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
        text = start_error(address, "wrong-chip")
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
