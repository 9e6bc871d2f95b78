"""One unit: its opening, its ports, and what it forgets."""

import threading
import time

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from simulator import wait_until

from board.conftest import FarEnd, answer
from pytest_nrfdfu.board import unit as unit_module
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import BoardError, ConfigError, LineError, PortGone, UartError
from pytest_nrfdfu.smp.messages import EraseRequest


def unit_of(port, line):
    tables = {
        "board": "held",
        "uart": {"port": port, "baudrate": 1_000_000},
        "recovery": {"entry": ["smp"], "line": {"driver": "command", "assert": line, "release": line}},
    }
    return Unit("held", BoardConfig.model_validate(tables))


def test_a_board_that_another_run_has_is_left_alone(far, no_rig_unit, tmp_path):
    """The port is exclusive: who does not get it must not move a line."""
    touched = tmp_path / "touched"
    other = unit_of(far.path, ["touch", str(touched)])
    with pytest.raises(UartError, match="another process has it open"):
        other.open()
    assert not touched.exists()
    assert other.rig.pid is None
    no_rig_unit.close()
    other.open()
    assert touched.exists()
    assert other.works
    other.close()
    assert not other.works


def test_a_rig_that_does_not_start_leaves_nothing_open(far):
    other = unit_of(far.path, ["false"])
    with pytest.raises(BoardError):
        other.open()
    assert not other.uart.is_open
    assert other.rig.pid is None


def test_a_port_or_a_rig_that_is_gone_is_seen(far):
    other = unit_of(far.path, ["true"])
    other.open()
    assert other.works
    other.rig.stop()
    assert not other.works
    other.rig.start()
    assert other.works
    far.vanish()
    wait_until(lambda: not other.works, "the loss of the port")
    other.close()


def test_a_write_of_a_test_makes_doubtful_what_was_proved(far, no_rig_unit):
    no_rig_unit.remember(b"1" * 32, "version 1.0.0")
    no_rig_unit.network_core = b"2" * 32
    far.script = lambda request, _: [answer(request, {"rc": 0})]
    no_rig_unit.client.request(EraseRequest())
    assert no_rig_unit.proved is None
    assert no_rig_unit.network_core is None
    assert "written" in no_rig_unit.holds


def test_what_is_doubtful_is_told_by_what_was_known(no_rig_unit):
    """A unit on which nothing was proved has lost nothing; of another it is said what it held."""
    assert no_rig_unit.holds == "not known: nothing was proved on it in this run"
    no_rig_unit.forget()
    assert no_rig_unit.holds == "not known: nothing was proved on it in this run"
    no_rig_unit.remember(b"1" * 32, "version 1.0.0")
    for _ in range(2):
        no_rig_unit.forget()
        assert no_rig_unit.holds == "not known: earlier version 1.0.0; not proved again since"
    no_rig_unit.forget("it fell from the table")
    assert no_rig_unit.holds == "not known: it fell from the table"


# --- ports ----------------------------------------------------------------------------------------------------------


PATIENCE = 20.0


def soon():
    return time.monotonic() + PATIENCE


@pytest.fixture
def ends():
    """Other ends of ports, and links to them in a folder, as /dev/serial/by-id has them."""
    made = [FarEnd(), FarEnd(), FarEnd()]
    yield made
    for end in made:
        end.close()


@pytest.fixture
def unit():
    """Makes units of ports alone, and closes them."""
    made = []

    def make(uart, console=None, **tables):
        tables = {"board": "ports", "uart": uart, "recovery": {"entry": ["smp"]}} | tables
        if console:
            tables["console"] = console
        made.append(Unit("ports", BoardConfig.model_validate(tables)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def linked(folder, end, name="port"):
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(end.path)
    return str(link)


def adapter(device, number=1):
    """An FTDI adapter, as pyserial lists it."""
    info = ListPortInfo(device, skip_link_detection=True)
    info.vid, info.pid, info.serial_number, info.location = 0x0403, 0x6001, f"A{number}", f"1-{number}"
    info.apply_usb_info()
    return info


@pytest.fixture
def listed(monkeypatch):
    """What the system lists as connected."""
    connected = []
    monkeypatch.setattr(list_ports, "comports", lambda: connected)
    return connected


def test_the_ports_are_as_configured(ends, unit):
    uart = {"port": ends[0].path, "dtr": False, "wait": 7.5, "transient": True, "flow_control": "rtscts"}
    one = unit(uart, {"port": ends[1].path, "baudrate": 9600, "transient": False})
    assert (one.uart.port, one.uart._dtr, one.uart._wait, one.uart.transient) == (ends[0].path, False, 7.5, True)
    assert one.uart._flow_control == "rtscts"
    console = one.console_uart
    assert (console.port, console.baudrate, console._dtr, console._wait) == (ends[1].path, 9600, False, 7.5)
    assert (console.transient, console._flow_control) == (False, "none")


@pytest.mark.parametrize("console", [None, {"port": "auto"}])
def test_a_console_on_the_same_port_is_the_same_port(unit, console):
    one = unit({"port": "auto"}, console)
    assert one.console_uart is one.uart


def test_a_port_that_comes_late_is_waited_for(ends, unit, tmp_path):
    one = unit({"port": str(tmp_path / "port"), "wait": PATIENCE})
    opening = threading.Thread(target=one.open)
    opening.start()
    assert opening.is_alive()
    linked(tmp_path, ends[0])
    opening.join(PATIENCE)
    assert one.works
    assert one.uart.device == ends[0].path


def test_a_port_name_that_is_none_is_told_before_anything_is_opened(ends, unit):
    one = unit({"port": ends[0].path}, {"port": "ttyACM1"})
    with pytest.raises(ConfigError, match=r"Did you mean /dev/ttyACM1\?"):
        one.open()
    assert one.uart.device is None


def test_a_transient_port_may_be_absent(ends, unit, tmp_path, monkeypatch):
    one = unit({"port": str(tmp_path / "port"), "wait": PATIENCE, "transient": True})
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    one.open()
    assert one.uart_missing
    assert one.works
    linked(tmp_path, ends[0])
    one.open()
    assert not one.uart_missing
    assert one.uart.is_open


def test_a_transient_port_that_is_in_use_is_an_error(ends, unit):
    holder = unit({"port": ends[0].path})
    holder.open()
    with pytest.raises(UartError, match="another process has it open"):
        unit({"port": ends[0].path, "transient": True}).open()


def test_a_transient_port_that_goes_leaves_the_unit_working(ends, unit, tmp_path):
    one = unit({"port": linked(tmp_path, ends[0]), "transient": True}, {"port": ends[1].path})
    one.open()
    assert not one.uart_missing
    ends[0].vanish()
    wait_until(lambda: not one.uart.is_open, "the loss")
    assert one.uart_missing
    assert one.works
    ends[1].vanish()
    wait_until(lambda: not one.works, "the loss of a port that should stay")


def test_the_ports_are_found_again_after_a_reset(ends, unit, tmp_path):
    console = unit({"port": linked(tmp_path, ends[0]), "transient": True}, {"port": ends[1].path})
    console.open()
    kept = console.console_uart._opened
    ends[0].vanish()
    linked(tmp_path, ends[2])
    console.reopen_ports(soon())
    assert console.uart.device == ends[2].path
    assert console.console_uart._opened is kept, "it was open and stays at a reset"


def test_the_ports_are_found_again_after_a_power_cycle(ends, unit, tmp_path):
    one = unit({"port": linked(tmp_path, ends[0])}, {"port": linked(tmp_path, ends[1], "console")})
    one.open()
    one.close_ports()
    assert not one.works
    linked(tmp_path, ends[2])
    one.reopen_ports(soon())
    assert one.works
    assert (one.uart.device, one.console_uart.device) == (ends[2].path, ends[1].path)


def test_a_port_that_does_not_come_back_is_an_error(ends, unit, tmp_path):
    link = linked(tmp_path, ends[0])
    one = unit({"port": link, "transient": True})
    one.open()
    ends[0].vanish()
    (tmp_path / "port").unlink()
    with pytest.raises(PortGone, match=f"{link} is not there"):
        one.reopen_ports(time.monotonic() + 0.1)


def test_a_console_that_only_the_application_has_may_be_absent(ends, unit, tmp_path):
    link = linked(tmp_path, ends[1], "console")
    one = unit({"port": ends[0].path}, {"port": link, "transient": True})
    one.open()
    kept = one.uart._opened
    ends[1].vanish()
    (tmp_path / "console").unlink()
    one.reopen_ports(soon())
    assert one.works
    assert one.uart._opened is kept, "it was open and stays at a reset"
    assert not one.console_uart.is_open
    linked(tmp_path, ends[2], "console")
    one.reopen_ports(soon())
    assert one.console_uart.device == ends[2].path


POWER = {"on": ["true"], "off": ["true"], "takes_usb": True}


def test_a_board_whose_power_was_left_off_is_switched_on(ends, unit, tmp_path):
    """The port is on the same USB cable as the supply: it comes when the rig has started."""
    command = ["ln", "-sf", ends[0].path, str(tmp_path / "port")]
    one = unit({"port": str(tmp_path / "port"), "wait": 0}, power=POWER | {"on": command})
    one.open()
    assert one.works
    assert one.uart.device == ends[0].path


def test_a_board_whose_power_brings_no_port_is_an_error(ends, unit, tmp_path):
    one = unit({"port": str(tmp_path / "port"), "wait": 0}, power=POWER | {"usb_timeout": 0.1})
    with pytest.raises(UartError, match="port is not there"):
        one.open()
    assert one.rig.pid is None


def test_a_board_that_another_run_has_is_not_switched(ends, unit, tmp_path):
    holder = unit({"port": ends[0].path})
    holder.open()
    one = unit({"port": ends[0].path}, power=POWER | {"on": ["touch", str(tmp_path / "on")]})
    with pytest.raises(UartError, match="another process has it open"):
        one.open()
    assert not (tmp_path / "on").exists()


# --- the ports of control lines -------------------------------------------------------------------------------------


def serial_line(port, line="rts"):
    return {"driver": "serial", "port": port, "line": line}


def lines(recovery, reset=None):
    """The tables of a board whose lines are on serial ports."""
    tables = {"recovery": {"entry": ["smp"], "line": serial_line(recovery)}}
    return tables | ({"reset": {"line": serial_line(reset, "dtr")}} if reset else {})


@pytest.fixture
def started(monkeypatch):
    """Configurations of the rigs that were started; none really is."""
    started = []

    class NoRig:
        pid = None
        is_needed = True

        def __init__(self, config, _name):
            self.config = config

        def start(self):
            started.append(self.config)

        def stop(self):
            pass

    monkeypatch.setattr(unit_module, "Rig", NoRig)
    return started


def test_the_rig_gets_the_names_that_the_ports_have_now(ends, unit, listed, started):
    listed += [adapter("/dev/ttyUSB4"), adapter("/dev/ttyUSB5", 2)]
    one = unit({"port": ends[0].path}, **lines("usb:0403:6001:serial=A1", "usb:0403:6001:serial=A2"))
    one.open()
    one.close()
    listed[:] = [adapter("/dev/ttyUSB0"), adapter("/dev/ttyUSB5", 2)]
    one.open()
    assert [(run.recovery.line.port, run.reset.line.port) for run in started] == [
        ("/dev/ttyUSB4", "/dev/ttyUSB5"),
        ("/dev/ttyUSB0", "/dev/ttyUSB5"),
    ]
    assert started[0].reset.line.line == "dtr"
    assert one.config.recovery.line.port == "usb:0403:6001:serial=A1", "the configuration stays as it was written"


def test_paths_and_addresses_stay_as_they_are(ends, unit, started, tmp_path):
    link = linked(tmp_path, ends[1])
    one = unit({"port": ends[0].path}, **lines(link, "rfc2217://127.0.0.1:1"))
    rig = one.rig
    one.open()
    assert started[0].recovery.line.port == link
    assert one.rig is rig


@pytest.mark.parametrize(("which", "carries"), [("uart", "SMP"), ("console", "the console")])
@pytest.mark.parametrize("table", ["recovery", "reset"])
def test_a_line_on_a_port_that_carries_something_is_refused(ends, unit, listed, started, which, carries, table):
    shared = ends[0].path
    listed += [adapter(shared), adapter(ends[2].path, 2)]
    ports = {"uart": {"port": shared}} if which == "uart" else {"uart": {"port": ends[1].path}}
    console = {"port": shared} if which == "console" else None
    names = ["usb:0403:6001:serial=A1", "usb:0403:6001:serial=A2"]
    one = unit(ports["uart"], console, **lines(*(names if table == "recovery" else names[::-1])))
    with pytest.raises(ConfigError, match=rf"\[{table}.line\] is {shared}, which .* also means.*carries {carries}:"):
        one.open()
    assert not started
    assert one.uart.device is None, "nothing was opened: opening moves the lines"


def test_a_port_that_comes_up_as_the_one_of_a_line_is_refused_too(ends, unit, listed, started, tmp_path):
    listed += [adapter(ends[0].path)]
    one = unit({"port": str(tmp_path / "port"), "wait": PATIENCE}, **lines("hwgrep://SER=A1"))
    errors = []

    def run():
        try:
            one.open()
        except ConfigError as error:
            errors.append(error)

    opening = threading.Thread(target=run)
    opening.start()
    linked(tmp_path, ends[0])
    opening.join(PATIENCE)
    assert "[recovery.line]" in str(errors[0])
    assert not started
    assert not one.uart.is_open


def test_a_lines_port_that_is_not_there_is_the_lines_error(ends, unit, listed, started):
    one = unit({"port": ends[0].path, "wait": 0.1}, **lines("usb:0403:6001"))
    with pytest.raises(LineError, match="the recovery line's port: usb:0403:6001 is not there; no serial port is conn"):
        one.open()
    assert one.uart.device is None
