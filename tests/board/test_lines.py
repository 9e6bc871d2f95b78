"""Control lines: external commands, and RTS and DTR of the simulated board's control port."""

import os
import sys
import termios
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from simulator import DEADLINE, wait_until

from pytest_nrfdfu.board import lines
from pytest_nrfdfu.board.lines import Power, make_line, pulse
from pytest_nrfdfu.board.power_error import PowerError
from pytest_nrfdfu.errors import LineError


def command(log, word):
    script = f"open({str(log)!r}, 'a').write(sys.argv[1] + chr(10))"
    return [sys.executable, "-c", f"import sys; {script}", word]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def settings(log, **changes):
    both = {"assert": command(log, "on"), "release": command(log, "off")}
    return {"driver": "command", **both, **changes}


def test_a_line_of_commands_is_released_when_made_and_then_follows(log):
    line = make_line("recovery", settings(log))
    line.set(asserted=True)
    line.set(asserted=False)
    assert log.read_text().split() == ["off", "on", "off"]


def test_a_pulse_releases(log):
    line = make_line("reset", settings(log))
    pulse(line, 0.0)
    assert log.read_text().split() == ["off", "on", "off"]


def test_a_pulse_releases_also_when_asserting_failed(log):
    failing = [sys.executable, "-c", "import sys; sys.exit('jammed')"]
    line = make_line("reset", settings(log, **{"assert": failing}))
    with pytest.raises(LineError, match="jammed"):
        pulse(line, 0.0)
    assert log.read_text().split() == ["off", "off"]


def test_commands_are_run_without_a_shell(log):
    line = make_line("recovery", settings(log, **{"assert": [*command(log, "$HOME; exit")]}))
    line.set(asserted=True)
    assert log.read_text().splitlines()[-1] == "$HOME; exit"


def test_an_exit_status_is_an_error_with_what_the_command_said(log):
    failing = [sys.executable, "-c", "import sys; print('relay 3 not found', file=sys.stderr); sys.exit(4)"]
    line = make_line("recovery", settings(log, **{"assert": failing}))
    with pytest.raises(LineError, match=r"the recovery line's command ended with status 4: .*: relay 3 not found"):
        line.set(asserted=True)


def test_a_missing_program_is_an_error():
    missing = {"driver": "command", "assert": ["/no/such/relay"], "release": ["/no/such/relay", "off"]}
    with pytest.raises(LineError, match="cannot be run: /no/such/relay off: No such file"):
        make_line("recovery", missing)


def test_a_command_has_a_deadline(monkeypatch, log):
    monkeypatch.setattr(lines, "COMMAND_TIMEOUT", 0.2)
    line = make_line("recovery", settings(log, release=["true"], **{"assert": ["sleep", "60"]}))
    with pytest.raises(LineError, match=r"did not end in 0.2 s: sleep 60"):
        line.set(asserted=True)


def test_a_line_of_commands_is_not_read_back(log):
    assert make_line("recovery", settings(log)).level() is None


def test_a_command_that_fails_without_a_word_is_told_so(log):
    line = make_line("recovery", settings(log, **{"assert": ["false"]}))
    with pytest.raises(LineError, match="status 1: false: it said nothing"):
        line.set(asserted=True)


def test_an_unknown_driver_is_an_error():
    with pytest.raises(LineError, match="unknown driver 'telepathy'"):
        make_line("recovery", {"driver": "telepathy"})


# --- power ----------------------------------------------------------------------------------------------------------


def power(log, **changes):
    return Power({"on": command(log, "on"), "off": command(log, "off"), "settle": 0.0, **changes})


def test_power_is_not_known_until_it_is_switched(log):
    made = power(log)
    assert made.is_on is None
    assert not log.exists()
    made.set(on=False)
    assert made.is_on is False
    made.set(on=True)
    assert made.is_on is True
    assert log.read_text().split() == ["off", "on"]


def test_a_power_cycle_is_off_the_time_to_settle_and_on(log, monkeypatch):
    made = power(log, settle=2.5)

    def sleep(seconds):
        with log.open("a") as file:
            file.write(f"{seconds}\n")

    monkeypatch.setattr(lines, "time", SimpleNamespace(sleep=sleep))  # not that of subprocess, which waits as well
    made.cycle()
    assert log.read_text().split() == ["off", "2.5", "on"]


def test_a_power_cycle_that_fails_halfway_ends_with_power_on(log):
    made = power(log, off=["false"])
    with pytest.raises(PowerError, match="the command that switches power off ended with status 1"):
        made.cycle()
    assert made.is_on
    assert log.read_text().split() == ["on"]


def test_power_that_could_not_be_switched_is_not_known(log):
    made = power(log, off=["false"])
    made.set(on=True)
    with pytest.raises(LineError, match="power off"):
        made.set(on=False)
    assert made.is_on is None


# --- RTS and DTR ----------------------------------------------------------------------------------------------------


@pytest.fixture
def control(sim):
    """The control port, which the unit's rig lets go of meanwhile."""
    sim.unit.rig.stop()
    wait_until(lambda: sim.admin.counters()["control"]["clients"] == 0, "the end of the rig's connection")
    sim.admin.reset_counters()
    made = []

    def make(name, line, active="low"):
        port = sim.simulator.endpoints["control"]
        made.append(make_line(name, {"driver": "serial", "port": port, "line": line, "active": active}))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pyserial's RFC 2217 client: Thread.setDaemon
        patch.setattr(lines, "_PORTS", lines._Ports())
        yield make
        for line in made:
            line.close()
    sim.unit.rig.start()


def pins(sim):
    counters = sim.admin.counters()
    return counters["recovery_pin_low"], counters["nreset_low"]


def test_rts_holds_the_recovery_pin(sim, control):
    line = control("recovery", "rts")
    assert pins(sim) == (False, False)
    line.set(asserted=True)
    assert pins(sim) == (True, False)
    line.set(asserted=False)
    assert pins(sim) == (False, False)


def test_both_lines_may_be_on_one_port_and_are_opened_once(sim, control):
    seen = sim.admin.counters()["control"]["clients_seen"]
    recovery, reset = control("recovery", "rts"), control("reset", "dtr")
    recovery.set(asserted=True)
    reset.set(asserted=True)
    assert pins(sim) == (True, True)
    reset.set(asserted=False)
    assert pins(sim) == (True, False)
    recovery.set(asserted=False)
    recovery.close()
    reset.close()
    wait_until(lambda: sim.admin.counters()["control"]["clients"] == 0, "the port's close")
    counters = sim.admin.counters()
    assert counters["control"]["clients_seen"] == seen + 1, "closing must not open it again: lines pulse at every open"
    assert sum(counters["resets"].values()) == 1, "the one that was asked for"
    assert pins(sim) == (False, False)


def test_active_high_is_the_other_level(sim, control):
    line = control("recovery", "rts", active="high")
    assert pins(sim) == (True, False), "inactive is high at the pin's driver, which is RTS set"
    line.set(asserted=True)
    assert pins(sim) == (False, False)


def test_a_port_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(LineError, match=r"the recovery line's port .*nothing here cannot be opened"):
        make_line(
            "recovery", {"driver": "serial", "port": str(tmp_path / "nothing here"), "line": "rts", "active": "low"}
        )


def test_a_socket_has_no_lines():
    with pytest.raises(LineError, match="use rfc2217:// instead"):
        make_line("recovery", {"driver": "serial", "port": "socket://127.0.0.1:1", "line": "rts", "active": "low"})


class _Adapter:
    """A serial adapter that notes the state that its lines are opened with; its settings are those of a terminal."""

    def __init__(self, terminal):
        self.dtr = self.rts = None
        self.opened_with = None
        self.fileno = lambda: terminal

    def open(self):
        self.opened_with = {"rts": self.rts, "dtr": self.dtr}

    def close(self):
        pass


@pytest.fixture
def adapter(monkeypatch):
    controller, terminal = os.openpty()
    made = _Adapter(terminal)
    monkeypatch.setattr("serial.serial_for_url", lambda _url, **_: made)
    monkeypatch.setattr(lines, "_PORTS", lines._Ports())
    yield made
    os.close(controller)
    os.close(terminal)


def drops_at_close(adapter):
    return bool(termios.tcgetattr(adapter.fileno())[2] & termios.HUPCL)


def serial_line(line, active):
    return {"driver": "serial", "port": "/dev/adapter", "line": line, "active": active}


def test_lines_that_are_active_high_are_never_asserted_by_opening_or_closing(adapter):
    tables = [serial_line("rts", "high"), serial_line("dtr", "high")]
    lines.announce(tables)
    recovery = make_line("recovery", tables[0])
    assert adapter.opened_with == {"rts": True, "dtr": True}, "released is a low pin, which is a line that is set"
    assert not drops_at_close(adapter)
    recovery.set(asserted=True)
    assert adapter.rts is False
    recovery.set(asserted=False)
    assert adapter.rts is True


def test_lines_that_are_active_low_go_up_at_close_whatever_was_set_before(adapter):
    settings = termios.tcgetattr(adapter.fileno())
    settings[2] &= ~termios.HUPCL
    termios.tcsetattr(adapter.fileno(), termios.TCSANOW, settings)
    make_line("recovery", serial_line("rts", "low"))
    assert adapter.opened_with == {"rts": False, "dtr": False}
    assert drops_at_close(adapter)


LEFT_SOCKET = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pyserial does not close the socket of an RFC 2217 connection that the server hung up on."""


@LEFT_SOCKET
def test_a_port_of_a_run_that_has_just_died_is_waited_for(sim, control, monkeypatch):
    """Its child takes up to a second to let go."""
    first = control("recovery", "rts")
    monkeypatch.setattr(lines, "_PORTS", lines._Ports())  # another process, as it were
    monkeypatch.setattr(lines, "_ORPHAN", DEADLINE)
    refused = sim.admin.counters()["control"]["refused"]
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(control, "recovery", "rts")
        wait_until(lambda: sim.admin.counters()["control"]["refused"] > refused, "the refusal")
        assert not second.done()
        first.close()
        second.result(DEADLINE).set(asserted=True)
    assert pins(sim) == (True, False)


@LEFT_SOCKET
def test_a_port_that_somebody_else_keeps_is_an_error(control, monkeypatch):
    control("recovery", "rts")
    monkeypatch.setattr(lines, "_PORTS", lines._Ports())
    monkeypatch.setattr(lines, "_ORPHAN", 0.0)
    with pytest.raises(LineError, match="used by nothing else"):
        control("recovery", "rts")


def test_a_port_without_control_lines_is_an_error(far):
    with pytest.raises(LineError, match=r"the recovery line on .* \(RTS\): "):
        make_line("recovery", {"driver": "serial", "port": far.path, "line": "rts", "active": "low"})
