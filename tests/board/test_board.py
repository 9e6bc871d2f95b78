"""The Board that tests hold."""

import json
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest
import simulator
from simulator import DEADLINE, wait_until

from board.conftest import answer, wired
from board.shelf import Kept, of_this_module
from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import (
    HashMismatch,
    LineError,
    NotBooted,
    PortGone,
    ProbeError,
    SmpRejected,
    SmpTimeout,
    UartError,
)
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp.header import Group
from pytest_nrfdfu.smp.timing import RoundTrip

shelf = of_this_module()


@pytest.fixture
def board(sim):
    """A handle on the board with its application running."""
    handle = Board(sim.unit)
    handle.reset()
    sim.admin.reset_counters()
    return handle


def test_it_says_what_it_is(board, sim):
    assert (board.name, board.unit) == ("sim", "sim")
    assert board.config is sim.unit.config
    assert set(board.lines) == {"recovery"}


def test_a_reset_is_a_pin_reset_and_waits_for_the_application(board, sim):
    assert board.reset() == "console"
    assert sim.resets() == {"RESETPIN": 1}
    assert board.console.expect(r"application (\S+) hash", timeout=0)[1] == "1.0.0"


def test_a_reset_need_not_be_waited_for(board, sim):
    assert board.reset(wait=False) == ""
    wait_until(lambda: sim.admin.counters()["program"] == "application", "the boot")


def test_a_reset_into_recovery_is_not_booted(board, sim, monkeypatch):
    timing = sim.unit.config.boot.model_copy(update={"timeout": 0.5})
    monkeypatch.setattr(sim.unit, "config", sim.unit.config.model_copy(update={"boot": timing}))
    board.lines["recovery"].press()
    assert sim.admin.counters()["recovery_pin_low"]
    try:
        with pytest.raises(NotBooted, match="still in serial recovery, which lists the image as valid"):
            board.reset()
    finally:
        board.lines["recovery"].release()
    assert not sim.admin.counters()["recovery_pin_low"]


def test_a_reset_may_be_by_line(builds):
    settings = {"recovery": {"reset": "line"}, "sim": {"image": builds[0].path}}
    with wired(**settings) as other:
        handle = Board(other.unit)
        assert set(handle.lines) == {"recovery", "reset"}
        opened = other.admin.counters()["probe"]["owners_seen"]
        other.admin.reset_counters()
        assert handle.reset() == "console"
        assert other.resets() == {"RESETPIN": 1}
        assert enter(other.unit).method == "gpio"
        assert other.resets() == {"RESETPIN": 1}
        assert not other.admin.counters()["nreset_low"]
        assert other.admin.counters()["probe"]["owners_seen"] == opened, "the probe took no part"


def test_a_board_without_probe_and_line_is_asked_to_reset(far, no_rig_unit):
    def script(request, _payload):
        return [answer(request, {"rc": 0}), b"*** Booting Zephyr ***\r\n"] if request.group == Group.OS else []

    far.script = script
    assert Board(no_rig_unit).reset() == "console"
    assert not no_rig_unit.needs_rig


def listing(digest):
    return {"images": [{"slot": 0, "version": "1.0.0", "hash": digest, "active": True}], "splitStatus": 0}


def test_a_list_of_the_application_that_goes_on_is_no_reset(far, no_rig_unit):
    """The reset request is lost, and the application answers all the time: nothing shows that it was ever down."""
    no_rig_unit.client.reset = lambda: (_ for _ in ()).throw(SmpTimeout("lost"))
    far.script = lambda request, _payload: [answer(request, listing(b"1" * 32))]
    with pytest.raises(NotBooted, match="nothing shows that the board was reset"):
        Board(no_rig_unit).reset()


def test_a_list_after_a_silence_is_a_reset(far, no_rig_unit, monkeypatch):
    timing = no_rig_unit.config.boot.model_copy(update={"timeout": 20.0})
    monkeypatch.setattr(no_rig_unit, "config", no_rig_unit.config.model_copy(update={"boot": timing}))
    monkeypatch.setattr(no_rig_unit, "profile", replace(no_rig_unit.profile, wait_for_dfu=0.0))
    no_rig_unit.client.reset = lambda: (_ for _ in ()).throw(SmpTimeout("lost"))
    asked = []

    def script(request, _payload):
        asked.append(request.sequence)
        return [answer(request, listing(b"1" * 32))] if len(set(asked)) > 1 else []

    far.script = script
    assert Board(no_rig_unit).reset() == "image list"


def test_a_board_that_refuses_the_reset_is_left_as_it_is(far, no_rig_unit):
    """The reset after a failed test is a courtesy to the next; to a test that asks for one it is an error."""
    far.script = lambda request, _payload: [answer(request, {"rc": 8})]
    assert Board(no_rig_unit).reset(wait=False) == ""
    with pytest.raises(SmpRejected):
        Board(no_rig_unit).reset()


def test_a_board_whose_port_is_away_is_not_reset(far, no_rig_unit, monkeypatch):
    """Where it may be away; of a port that stays, it is the bench's trouble."""
    no_rig_unit.uart.close()
    with pytest.raises(UartError):
        Board(no_rig_unit).reset(wait=False)
    monkeypatch.setattr(no_rig_unit.uart, "transient", True)
    assert Board(no_rig_unit).reset(wait=False) == ""


def test_an_application_is_not_asked_before_it_can_have_been_reset(far, no_rig_unit):
    """Its reset comes later than its answer (CONFIG_MCUMGR_GRP_OS_RESET_MS)."""
    times = []

    def script(request, _payload):
        times.append(no_rig_unit.now())
        return [answer(request, {"rc": 0} if request.group == Group.OS else listing(b"1" * 32))]

    far.script = script
    assert Board(no_rig_unit).reset() == "image list"
    assert times[1] - times[0] >= no_rig_unit.config.boot.reset_delay


def test_a_reset_may_check_which_image_runs(far, no_rig_unit, builds):
    no_rig_unit.remember(builds[0].hash, "")

    def script(request, _payload):
        return [answer(request, {"rc": 0} if request.group == Group.OS else listing(builds[1].hash))]

    far.script = script
    board = Board(no_rig_unit)
    with pytest.raises(HashMismatch, match=builds[1].hash.hex()):
        board.reset(image=builds[0].image)
    assert no_rig_unit.proved is None
    assert board.reset(image=builds[1].image) == "image list"


def test_a_bootloader_that_waits_for_an_update_is_not_kept_by_a_reset(builds):
    with wired(sim={"image": builds[0].path, "entrance": ["gpio", "wait-for-dfu"]}) as other:
        assert Board(other.unit).reset() == "console"
        assert other.admin.counters()["program"] == "application"


def test_a_bootloader_that_a_pin_reset_enters_is_left_by_another_reset(builds):
    settings = {"entrance": ["pin-reset"], "image": builds[0].path}
    with wired(sim=settings, recovery={"entry": ["pin-reset"]}) as other:
        other.admin.reset_counters()
        assert Board(other.unit).reset() == "console"
        assert other.resets() == {"CTRLAP": 1}


def test_asking_for_images_never_resets(board, sim):
    sim.unit.client.round_trip = RoundTrip(first=0.05, most=0.1)
    with pytest.raises(SmpTimeout, match="nothing came from the board meanwhile"):
        board.images()
    assert sim.resets() == {}


def test_asking_for_images_may_enter_recovery_if_allowed(board, sim, builds):
    sim.unit.remember(builds[0].hash, "version 1.0.0")
    assert board.images(enter_recovery=True).find().hash == builds[0].hash
    assert sim.resets() == {"RESETPIN": 1}
    assert sim.unit.proved is None
    assert board.images(enter_recovery=True).find().hash == builds[0].hash
    assert sim.resets() == {}, "recovery answers already"


def test_the_probe_and_the_chip_say_what_they_are(board, sim):
    assert board.probe.state().application == "open"
    assert board.probe.state().probe == board.probe.info()["unique_id"]


def test_a_line_says_its_level_where_it_can(board, sim, monkeypatch):
    assert board.lines["recovery"].level is None
    monkeypatch.setattr(sim.unit.rig, "line_level", {"recovery": True}.get)
    assert board.lines["recovery"].level is True


def test_everything_is_let_go_of_at_once(board, sim):
    board.lines["recovery"].press()
    board.release()
    assert not sim.admin.counters()["recovery_pin_low"]


def test_a_board_without_rig_has_nothing_to_let_go_of(no_rig_unit):
    Board(no_rig_unit).release()
    assert no_rig_unit.rig.pid is None


def test_a_board_without_a_power_switch_says_so(no_rig_unit):
    with pytest.raises(LineError, match=r"no power switch is configured: add a \[power\] table"):
        Board(no_rig_unit).power.cycle()


# --- power ----------------------------------------------------------------------------------------------------------


@dataclass
class Powered:
    """A board whose supply is switched by commands."""

    unit: Unit
    admin: SimAdmin
    board: Board


@pytest.fixture
def powered(shelf, builds, tmp_path_factory):
    """What lends a board of this module whose supply is switched by commands."""
    return partial(_powered, shelf, tmp_path_factory, builds[0])


@contextmanager
def _powered(shelf, folders, build, *, usb=False, **tables):
    """`usb`: the supply is the USB cable that carries the probe and the port."""

    def start():
        link = folders.mktemp("powered") / "uart"
        options = ("--baudrate", 0, "--flash-timing", "none", "--image", build.path, "--uart-link", link)
        with ExitStack() as stack:
            process = stack.enter_context(simulator.running(*options))
            process.link = link
            return Kept(process, stack.enter_context(SimAdmin(process["admin"])), stack.pop_all())

    def settings(process):
        switch = [
            sys.executable,
            "-m",
            "pytest_nrfdfu.sim_admin",
            process["admin"],
            "set_power",
            f"usb={json.dumps(usb)}",
        ]
        found = {
            "board": "powered",
            "uart": {"port": str(process.link), "baudrate": 1_000_000},
            "probe": {"unique_id": process["probe"]},
            "recovery": {"entry": ["gpio"], "reset": "power", "line": serial_line(process)},
            "power": {"on": [*switch, "on=true"], "off": [*switch, "on=false"], "settle": 0.01, "takes_usb": usb},
            **tables,
        }
        return BoardConfig.model_validate(found)

    with shelf.borrow("powered", start, settings) as lent:
        yield Powered(lent.unit, lent.admin, Board(lent.unit))


def serial_line(process):
    return {"driver": "serial", "port": process["control"], "line": "rts"}


@pytest.mark.parametrize("usb", [False, True])
def test_power_is_switched_and_what_was_proved_is_forgotten(powered, builds, usb):
    with powered(usb=usb) as bench:
        unit, board = bench.unit, bench.board
        unit.remember(builds[0].hash, "version 1.0.0")
        board.power.off()
        assert not bench.admin.counters()["powered"]
        assert unit.proved is None
        assert unit.uart.is_open is not usb
        with pytest.raises(ProbeError) as caught:
            board.probe.read32(0x20000000)
        assert caught.value.cause == ("unplugged" if usb else "no-power")
        board.power.on()
        assert bench.admin.counters()["powered"]
        assert board.probe.state().application == "open"
        if usb:  # whose port comes too late for the banner
            wait_until(lambda: bench.admin.counters()["program"] == "application", "the boot")
        else:
            board.console.expect(r"application (\S+) hash", timeout=DEADLINE)
        unit.remember(builds[0].hash, "version 1.0.0")
        bench.admin.reset_counters()
        board.power.cycle()
        assert bench.admin.counters()["resets"] == {"POWER_ON": 1}
        assert unit.proved is None
        assert board.reset() == "console", "everything is there again"


@pytest.mark.parametrize("usb", [False, True])
def test_a_test_that_leaves_power_off_leaves_it_on_to_the_next(powered, usb):
    with powered(usb=usb) as bench:
        bench.board.power.off()
        bench.board.release()
        assert bench.admin.counters()["powered"]
        assert bench.unit.works
        assert bench.board.reset() == "console"


@pytest.mark.parametrize("usb", [False, True])
@pytest.mark.parametrize("switch", ["off", "cycle"])
def test_ports_are_closed_before_their_power_goes(powered, monkeypatch, usb, switch):
    """Else the system gives them another name when they are back."""
    with powered(usb=usb) as bench:
        seen = []
        for method in ("power", "power_cycle"):
            monkeypatch.setattr(bench.unit.rig, method, lambda *_: seen.append(bench.unit.uart.is_open))
        getattr(bench.board.power, switch)()
        assert seen == [not usb]


def test_recovery_is_entered_by_a_power_cycle_that_takes_usb_along(powered):
    with powered(usb=True) as bench:
        bench.admin.reset_counters()
        assert enter(bench.unit).method == "gpio"
        assert bench.admin.counters()["resets"] == {"POWER_ON": 1}


def test_power_without_a_way_back_for_the_port_is_an_error(powered):
    with powered(usb=True) as bench:
        power = bench.unit.config.power.model_copy(update={"usb_timeout": 0.3})
        bench.unit.config = bench.unit.config.model_copy(update={"power": power})
        bench.board.power.off()
        bench.unit.uart.port += "-of-another-name"
        with pytest.raises(PortGone):
            bench.board.power.on()


def test_a_board_without_probe_may_be_reset_by_its_power(powered):
    with powered(probe=None) as bench:
        bench.admin.reset_counters()
        assert bench.board.reset() == "console"
        assert bench.admin.counters()["resets"] == {"POWER_ON": 1}


def test_a_board_without_probe_may_be_reset_by_a_command(powered, tmp_path):
    press = ["touch", str(tmp_path / "pressed")]
    tables = {"probe": None, "power": None, "reset": {"command": press}}
    with powered(**tables, recovery={"entry": ["smp"], "reset": "command"}) as bench:
        assert bench.board.reset(wait=False) == ""
        assert (tmp_path / "pressed").exists()


# --- what it says ---------------------------------------------------------------------------------------------------


def test_a_write_through_the_probe_makes_doubtful_what_was_proved(board, sim, builds):
    sim.unit.remember(builds[0].hash, "version 1.0.0")
    assert board.probe.read32(0x20000000) is not None
    assert board.probe.info()["open"]
    assert sim.unit.proved == builds[0].hash
    board.probe.write32(0x20000000, 1)
    assert sim.unit.proved is None


def test_the_probe_resets_in_three_ways(board, sim):
    for method, cause in (("pin", "RESETPIN"), ("system", "SREQ"), ("ctrl-ap", "CTRLAP")):
        board.probe.reset(method)
        assert sim.resets() == {cause: 1}
    with pytest.raises(ValueError, match="known: pin, system, ctrl-ap"):
        board.probe.reset("line")


def test_a_handle_shows_the_text_since_it_was_made(board):
    board.reset()
    assert Board(board._unit).console.text == ""


def test_what_passed_on_the_port_is_told_in_words(board, sim):
    since = sim.unit.now()
    enter(sim.unit)
    lines = board.exchanges(since=since, last=100)
    assert any("-> image list read" in line for line in lines)
    assert any("<- image list read response" in line and "version: '1.0.0'" in line for line in lines)
    assert len(board.exchanges(since=since, last=1)) == 1
    assert board.exchanges(since=sim.unit.now(), last=100) == []
