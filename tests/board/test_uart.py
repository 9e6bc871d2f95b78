"""One owner of a port, over a pty with a scripted other end."""

import fcntl
import os
import queue
import socket
import termios
import threading
import time

import pytest
import serial
from serial.rfc2217 import PortManager
from simulator import wait_until

from board.conftest import FarEnd, wait_for_text
from pytest_nrfdfu.board import port_trouble, ports
from pytest_nrfdfu.board import uart as uart_module
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.errors import ConfigError, PortGone, UartError
from pytest_nrfdfu.smp import console

PACKET = bytes.fromhex("0100000900014200") + b"\xa1fimages\x80"
LONG = bytes(range(200))
PATIENCE = 20.0


@pytest.fixture
def uart(far):
    port = Uart(far.path)
    port.open()
    yield port
    port.close()


def test_packets_and_text_are_taken_apart(far, uart):
    far.write(b"*** Booting ***\r\n" + console.encode(LONG) + b"ready\r\n" + console.encode(PACKET) + b"uart:~$ ")
    assert uart.receive(PATIENCE).packet == LONG
    assert uart.receive(PATIENCE).packet == PACKET
    wait_for_text(uart, "$ ")
    assert uart.console.since(0) == "*** Booting ***\nready\nuart:~$ "


def test_a_packet_behind_a_prompt_on_the_same_line_is_found(far, uart):
    far.write(b"uart:~$ ")
    wait_for_text(uart, "uart:~$ ")
    far.write(console.encode(PACKET) + b"next\r\n")
    assert uart.receive(PATIENCE).packet == PACKET
    wait_for_text(uart, "next")
    assert uart.console.since(0) == "uart:~$ next\n"


@pytest.mark.parametrize(
    "end",
    [pytest.param(b"\n", id="LF"), pytest.param(b"\n\r", id="LF CR, as MCUboot before v1.9.99-ncs2")],
)
def test_text_is_shown_once_wherever_reads_cut_it(far, uart, end):
    frame = console.encode(PACKET).replace(b"\n", end)
    data = b"boot\r\n" + frame + console.encode(PACKET) + b"text\r\n"
    for cut in range(1, len(data)):
        start, position = uart.bytes_received, uart.console.position
        far.write(data[:cut])
        wait_until(lambda start=start, cut=cut: uart.bytes_received == start + cut, "the first part")
        far.write(data[cut:])
        assert [uart.receive(PATIENCE).packet for _ in range(2)] == [PACKET, PACKET]
        wait_until(lambda position=position: "text\n" in uart.console.since(position), "the text")
        assert uart.console.since(position) == "boot\ntext\n", cut


def test_a_line_that_has_not_ended_is_shown_at_once(far, uart):
    for piece in (b"Pass", b"word", b": "):
        far.write(piece)
        wait_for_text(uart, piece.decode())
    far.write(b"\r\n")
    wait_for_text(uart, "Password: \n")


def test_garbage_that_looks_like_smp_is_a_fault_and_no_text(far, uart):
    since, position = 0.0, uart.console.position
    frame = bytearray(console.encode(PACKET))
    frame[8] = ord("B") if frame[8] != ord("B") else ord("C")
    far.write(bytes(frame) + b"\x06\x09!!!!\n" + console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET
    assert [fault.kind for _, fault in uart.faults] == [console.FaultKind.CRC, console.FaultKind.BASE64]
    assert uart.console.since(position) == ""
    assert uart.summary(since, position).startswith("meanwhile the board sent 2 broken frames (the last: bad base64")


def test_the_summary_has_nothing_that_a_terminal_obeys(far, uart):
    position = uart.console.position
    far.write(b"one\x02\r\ntwo\x07\r\n")
    wait_for_text(uart, "two\x07\n")
    assert uart.summary(0.0, position) == "meanwhile the board sent console text ending 'one\\x02 / two\\x07'"


def test_the_summary_says_what_came(far, uart):
    position = uart.console.position
    assert uart.summary(0.0, position) == "nothing came from the board meanwhile"
    far.write(b"E: panic\r\n")
    wait_for_text(uart, "panic")
    assert uart.summary(0.0, position) == "meanwhile the board sent console text ending 'E: panic'"


def test_both_directions_are_kept_for_the_report(far, uart):
    uart.send(b"to the board")
    wait_until(lambda: far.received == b"to the board", "the bytes at the far end")
    far.write(console.encode(PACKET))
    uart.receive(PATIENCE)
    assert next(traffic.direction for traffic in uart.traffic) == "tx"
    assert b"".join(t.data for t in uart.traffic if t.direction == "rx") == console.encode(PACKET)


def test_no_packet_in_time_is_none(uart):
    assert uart.receive(0.01) is None
    assert uart.receive(-1.0) is None


def test_discarded_packets_are_gone(far, uart):
    far.write(console.encode(LONG) + b"x")
    wait_for_text(uart, "x")
    uart.discard()
    far.write(b"\r\n" + console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_lost_port_says_so_everywhere(far, uart):
    view = ConsoleView(uart.console, "dk")
    loss = threading.Thread(target=far.vanish)
    loss.start()
    with pytest.raises(PortGone, match=f"{far.path} was lost: "):
        uart.receive(PATIENCE)
    loss.join()
    assert not uart.is_open
    with pytest.raises(PortGone, match=f"{far.path} was lost"):
        uart.receive(0)
    with pytest.raises(PortGone, match=f"{far.path} was lost"):
        uart.send(b"x")
    with pytest.raises(PortGone, match=f"waited for 'ready' on the console of dk: {far.path} was lost"):
        view.expect("ready", timeout=PATIENCE)


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), TypeError("argument must be an int")],
    ids=["lost", "closed by the reader"],
)
def test_a_loss_while_writing_is_told_to_the_console_too(uart, error):
    def fail(_data):
        raise error

    uart._opened.port.write = fail
    with pytest.raises(PortGone, match="lost while writing"):
        uart.send(b"x")
    with pytest.raises(PortGone):
        ConsoleView(uart.console, "dk").expect("ready", timeout=PATIENCE)


def test_a_port_that_takes_nothing_is_not_lost(far, uart):
    def stuck(_data):
        raise serial.SerialTimeoutException("Write timeout")

    uart._opened.port.write = stuck
    with pytest.raises(UartError, match="flow_control") as caught:
        uart.send(b"x")
    assert not isinstance(caught.value, PortGone)
    assert uart.is_open


def test_a_lost_port_can_be_opened_again(tmp_path):
    link = tmp_path / "board"
    first, second = FarEnd(), FarEnd()
    link.symlink_to(first.path)
    uart = Uart(str(link))
    try:
        uart.open()
        first.write(b"one\r\n" + console.encode(LONG))
        wait_for_text(uart, "one")
        first.vanish()
        wait_until(lambda: not uart.is_open, "the loss")
        link.unlink()
        link.symlink_to(second.path)
        uart.open()
        second.write(console.encode(PACKET) + b"two\r\n")
        assert uart.receive(PATIENCE).packet == PACKET, "packets of the first opening are gone"
        assert ConsoleView(uart.console, "dk").text == ""
        wait_for_text(uart, "one\ntwo\n")
    finally:
        uart.close()
        first.close()
        second.close()


def test_it_may_be_closed_and_opened(far, uart):
    uart.close()
    uart.close()
    with pytest.raises(UartError, match="is not open") as caught:
        uart.send(b"x")
    assert not isinstance(caught.value, PortGone)
    with pytest.raises(UartError, match="was closed"):
        ConsoleView(uart.console, "dk").expect("ready", timeout=PATIENCE)
    uart.open()
    uart.open()
    far.write(console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET


class _SlowPort:
    """A port whose read cannot be cancelled."""

    in_waiting = 0

    def __init__(self):
        self.reads = queue.SimpleQueue()

    def open(self):
        pass

    def close(self):
        pass

    def read(self, _size):
        item = self.reads.get()
        if isinstance(item, Exception):
            raise item
        return item


def test_a_reader_that_outlives_its_opening_does_not_touch_the_next(monkeypatch):
    ports = [_SlowPort(), _SlowPort()]
    made = iter(ports)
    monkeypatch.setattr(serial, "serial_for_url", lambda *_args, **_kwargs: next(made))
    monkeypatch.setattr(uart_module, "_CLOSE_TIMEOUT", 0.01)
    uart = Uart("rfc2217://nowhere:1")
    uart.open()
    old = uart._thread
    uart.close()
    uart.open()
    ports[0].reads.put(OSError(5, "late"))
    old.join(PATIENCE)
    assert not old.is_alive()
    assert uart.is_open
    ports[1].reads.put(console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET
    ports[1].reads.put(OSError(5, "the end"))
    with pytest.raises(PortGone):
        uart.receive(PATIENCE)
    uart.close()


def test_a_busy_port_names_who_has_it(far, uart):
    with pytest.raises(
        UartError, match=rf"another process has it open: it is this process itself, pid {os.getpid()} \("
    ):
        Uart(far.path).open()


def test_a_busy_port_is_not_waited_for(far, uart, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    with pytest.raises(UartError, match="another process has it open"):
        Uart(far.path, wait=PATIENCE).open()


def test_a_missing_port_names_the_cause(tmp_path):
    with pytest.raises(UartError, match=r"cannot open .*board0.* is not there; .*Is the board plugged in"):
        Uart(str(tmp_path / "board0")).open()


def test_a_port_without_rights_names_the_group(far, monkeypatch):
    def forbid(_self):
        raise serial.SerialException(13, f"could not open port {far.path}: [Errno 13] Permission denied")

    monkeypatch.setattr(serial.Serial, "open", forbid)
    monkeypatch.setattr(port_trouble, "rights", lambda device: f"{device} belongs to the group dialout")
    with pytest.raises(UartError, match=f"permission denied: {far.path} belongs to the group dialout"):
        Uart(far.path).open()


def test_another_error_is_told_as_it_is(far, monkeypatch):
    def fail(_self):
        raise serial.SerialException("no luck")

    monkeypatch.setattr(serial.Serial, "open", fail)
    with pytest.raises(UartError, match=f"^cannot open {far.path}: no luck$"):
        Uart(far.path).open()


def test_an_address_that_nobody_listens_on_is_an_error():
    with pytest.raises(UartError, match=r"cannot open socket://127.0.0.1:1: .*is the server running"):
        Uart("socket://127.0.0.1:1").open()


def test_a_name_that_is_none_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match="names no serial port"):
        Uart("nonsense://x").open()


def test_a_port_that_could_not_be_opened_is_not_left_locked(far):
    first = Uart(far.path)
    first.open()
    with pytest.raises(UartError):
        Uart(far.path).open()
    first.close()
    again = Uart(far.path)
    again.open()
    again.close()


# --- ports that come, go, and come back under another name ----------------------------------------------------------


@pytest.fixture
def twins(tmp_path):
    """Two ports, and a link that leads to the first, as /dev/serial/by-id does."""
    first, second = FarEnd(), FarEnd()
    link = tmp_path / "by-id"
    link.symlink_to(first.path)
    yield first, second, link
    first.close()
    second.close()


def lead_to(link, far):
    link.unlink(missing_ok=True)
    link.symlink_to(far.path)


def soon():
    return time.monotonic() + PATIENCE


@pytest.fixture
def by_id(twins):
    port = Uart(str(twins[2]))
    port.open()
    yield port
    port.close()


def in_background(function, *arguments):
    """Run it in a thread; what comes of it, when the thread is joined: None, or the error."""
    outcome = []

    def run():
        try:
            outcome.append(function(*arguments))
        except UartError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_the_name_is_known_when_it_is_open(twins):
    first, _, link = twins
    uart = Uart(str(link))
    assert (uart.port, uart.device) == (str(link), None)
    uart.open()
    assert (uart.port, uart.device) == (str(link), first.path)
    with pytest.raises(UartError, match=rf"cannot open {link} \({first.path}\): another process has it open"):
        Uart(str(link)).open()
    uart.close()


def test_a_port_that_is_not_there_yet_is_waited_for(far, tmp_path):
    link = tmp_path / "later"
    uart = Uart(str(link), wait=PATIENCE)
    thread, outcome = in_background(uart.open)
    assert thread.is_alive()
    link.symlink_to(far.path)
    thread.join(PATIENCE)
    assert outcome == [None]
    assert uart.is_open
    uart.close()


def test_the_wait_for_it_ends(tmp_path):
    uart = Uart(str(tmp_path / "never"), wait=0.12)
    with pytest.raises(UartError, match=r"never is not there; .*; waited \d\.\d s for it$") as caught:
        uart.open()
    assert not isinstance(caught.value, PortGone), "it was never there"


def test_a_server_that_is_not_there_yet_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    uart = Uart(f"socket://127.0.0.1:{address[1]}", wait=PATIENCE)
    thread, outcome = in_background(uart.open)
    with socket.create_server(address) as server:
        thread.join(PATIENCE)
        assert outcome == [None]
        server.accept()[0].close()
    uart.close()


def test_a_port_may_be_tried_without_waiting(far, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    link = tmp_path / "later"
    uart = Uart(str(link), wait=PATIENCE)
    assert not uart.try_open()
    link.symlink_to(far.path)
    assert uart.try_open()
    assert uart.try_open(), "it is open"
    with pytest.raises(UartError, match="another process has it open"):
        Uart(far.path, wait=PATIENCE).try_open()
    uart.close()


def test_a_port_is_found_again_under_another_name(twins, by_id):
    first, second, link = twins
    first.write(b"one\r\n" + console.encode(LONG) + b"two\r\n")
    wait_for_text(by_id, "one\ntwo\n")
    position = by_id.console.position
    first.vanish()
    link.unlink()
    thread, outcome = in_background(by_id.reopen, soon())
    lead_to(link, second)
    thread.join(PATIENCE)
    assert outcome == [None]
    assert by_id.device == second.path
    second.write(console.encode(PACKET) + b"three\r\n")
    assert by_id.receive(PATIENCE).packet == PACKET, "packets of before are dropped"
    wait_until(lambda: by_id.console.since(position) == "three\n", "the text behind the old position")
    assert b"".join(traffic.data for traffic in by_id.traffic).startswith(b"one"), "the traffic of before is kept"


def test_a_port_that_works_is_reopened_too(far, uart):
    far.write(console.encode(LONG) + b"x\r\n")
    wait_for_text(uart, "x")
    uart.reopen(soon())
    far.write(console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET


def test_a_reset_that_has_not_taken_the_port_yet_is_waited_for(twins, monkeypatch):
    monkeypatch.setattr(uart_module, "_VANISHES_WITHIN", PATIENCE)
    first, second, link = twins
    uart = Uart(str(link), transient=True)
    uart.open()
    before = uart._opened
    thread, outcome = in_background(uart.reopen, soon())
    thread.join(0.3)
    assert thread.is_alive()
    assert uart._opened is before, "the old port is still there"
    first.vanish()
    lead_to(link, second)
    thread.join(PATIENCE)
    assert outcome == [None]
    assert uart.device == second.path
    uart.close()


def test_a_transient_port_that_stays_is_reopened(twins, monkeypatch):
    monkeypatch.setattr(uart_module, "_VANISHES_WITHIN", 0.01)
    uart = Uart(str(twins[2]), transient=True)
    uart.open()
    before = uart._opened
    uart.reopen(soon())
    assert uart.is_open
    assert uart._opened is not before
    uart.close()


def test_a_port_that_does_not_come_back_is_gone(twins, by_id):
    first, _, link = twins
    first.vanish()
    link.unlink()
    with pytest.raises(PortGone, match=rf"cannot open {link}: {link} is not there; .*waited \d\.\d s for it"):
        by_id.reopen(time.monotonic() + 0.12)
    assert not by_id.is_open
    with pytest.raises(UartError, match="is not open"):
        by_id.receive(0)


def test_a_deadline_that_is_over_gives_one_look(far, uart):
    uart.reopen(time.monotonic() - 1)
    assert uart.is_open


def test_a_port_that_has_just_come_up_may_be_busy_for_a_while(twins, by_id, monkeypatch):
    """ModemManager looks at new ports, and udev gives rights only after the port has appeared."""
    _, second, link = twins
    problems = []
    open_now = by_id._open_now
    monkeypatch.setattr(by_id, "_open_now", lambda device: problems.append(open_now(device)) or problems[-1])
    lead_to(link, second)
    fcntl.flock(second._slave, fcntl.LOCK_EX)
    thread, outcome = in_background(by_id.reopen, soon())
    wait_until(lambda: len(problems) > 1, "a second try")
    assert None not in problems
    fcntl.flock(second._slave, fcntl.LOCK_UN)
    thread.join(PATIENCE)
    assert outcome == [None]
    assert by_id.device == second.path


def test_a_port_that_stays_busy_is_no_lost_one(twins, by_id):
    _, second, link = twins
    lead_to(link, second)
    fcntl.flock(second._slave, fcntl.LOCK_EX)
    with pytest.raises(UartError, match=r"another process has it open: .*; waited \d\.\d s for it") as caught:
        by_id.reopen(time.monotonic() + 0.2)
    assert not isinstance(caught.value, PortGone)


@pytest.mark.parametrize("again", [True, False], ids=["reopen", "open"])
def test_a_port_that_comes_up_is_looked_at_twice(twins, monkeypatch, again):
    """A J-Link's ports come up one after the other: the last of those that are there is not yet the last."""
    first, second, _ = twins
    looks = [None, first.path, second.path, second.path, second.path]
    monkeypatch.setattr(ports, "find", lambda _spec: looks.pop(0))
    uart = Uart("auto", wait=PATIENCE)
    if again:
        uart.reopen(soon())
    else:
        uart.open()
    assert uart.device == second.path
    assert looks == [second.path]
    uart.close()


def test_a_lost_port_is_let_go_of_at_once(far, uart):
    """Else the kernel gives the next one another name."""
    port = uart._opened.port
    far.vanish()
    wait_until(lambda: not port.is_open, "the reader's close")
    assert not uart.is_open


def test_a_port_lost_while_writing_is_let_go_of_at_once(uart):
    def fail(_data):
        raise OSError(5, "Input/output error")

    port = uart._opened.port
    port.write = fail
    with pytest.raises(PortGone):
        uart.send(b"x")
    wait_until(lambda: not port.is_open, "the reader's close")


# --- settings of the port -------------------------------------------------------------------------------------------


def rate_of(far):
    return termios.tcgetattr(far._slave)[4]


def test_the_rate_of_an_open_port_can_be_changed(far, uart):
    assert rate_of(far) == termios.B115200
    uart.set_baudrate(460800)
    assert (uart.baudrate, rate_of(far)) == (460800, termios.B460800)
    far.write(console.encode(PACKET))
    assert uart.receive(PATIENCE).packet == PACKET


def test_the_rate_of_a_closed_port_is_used_when_it_opens(far):
    uart = Uart(far.path)
    uart.set_baudrate(1_000_000)
    uart.open()
    assert rate_of(far) == termios.B1000000
    uart.close()


def test_a_rate_that_the_port_cannot_do_leaves_the_old_one(far, uart):
    with pytest.raises(UartError, match=f"{far.path} cannot be set to -1 baud: "):
        uart.set_baudrate(-1)
    assert (uart.baudrate, rate_of(far)) == (115200, termios.B115200)


def test_a_rate_that_the_driver_refuses_leaves_the_old_one(far, uart, monkeypatch):
    def refuse(rate):
        raise ValueError(f"Failed to set custom baud rate ({rate})")

    monkeypatch.setattr(uart._opened.port, "_set_special_baudrate", refuse)
    with pytest.raises(UartError, match="cannot be set to 123457 baud: Failed"):
        uart.set_baudrate(123457)
    assert (uart.baudrate, rate_of(far)) == (115200, termios.B115200)


@pytest.mark.parametrize("error", [None, ValueError, NotImplementedError, AttributeError, OSError])
def test_the_latency_timer_is_lowered_where_that_can_be_done(far, monkeypatch, error):
    asked = []

    def lower(_self, setting):
        asked.append(setting)
        if error:
            raise error

    monkeypatch.setattr(serial.Serial, "set_low_latency_mode", lower)
    uart = Uart(far.path)
    uart.open()
    assert uart.is_open
    assert asked == [True]
    uart.close()


class Adapter:
    """What an RFC 2217 server has behind it: settings and lines, each change kept."""

    cts = dsr = cd = ri = xonxoff = rtscts = break_condition = False
    bytesize, parity, stopbits, in_waiting = 8, "N", 1, 0

    def __init__(self):
        object.__setattr__(self, "changes", [])
        self.baudrate = 9600

    def __setattr__(self, name, value):
        self.changes.append((name, value))
        object.__setattr__(self, name, value)

    def reset_input_buffer(self):
        pass

    reset_output_buffer = reset_input_buffer

    def last(self, name):
        return [value for key, value in self.changes if key == name][-1:]


@pytest.fixture
def server():
    """An RFC 2217 server: its address, and its adapter."""
    adapter = Adapter()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, adapter))
        thread.start()
        yield f"rfc2217://127.0.0.1:{listener.getsockname()[1]}", adapter
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def serve(listener, adapter):
    try:
        connection, _ = listener.accept()
    except OSError:  # nobody came
        return
    with connection, connection.makefile("wb", buffering=0) as out:
        manager = PortManager(adapter, out)
        while data := connection.recv(1024):
            for _ in manager.filter(data):
                pass


@pytest.mark.parametrize("dtr", [True, False])
def test_dtr_is_raised_unless_it_is_not_to_be(server, dtr):
    address, adapter = server
    uart = Uart(address, dtr=dtr)
    uart.open()
    wait_until(lambda: adapter.last("dtr"), "the line's setting")
    assert {value for name, value in adapter.changes if name == "dtr"} == {dtr}
    uart.close()


def test_the_rate_of_a_remote_port_can_be_changed(server):
    address, adapter = server
    uart = Uart(address, 115200)
    uart.open()
    assert adapter.last("baudrate") == [115200]
    uart.set_baudrate(1_000_000)
    assert (uart.baudrate, adapter.last("baudrate")) == (1_000_000, [1_000_000])
    uart.close()


@pytest.mark.parametrize("dtr", [True, False])
def test_a_port_without_lines_opens_all_the_same(far, dtr):
    uart = Uart(far.path, dtr=dtr)
    uart.open()
    assert uart.is_open
    uart.close()


# --- troubles -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Devices whose troubles were asked for."""
    asked = []
    monkeypatch.setattr(port_trouble, "trouble", lambda device: asked.append(device) or ["a trouble"])
    return asked


def test_troubles_are_those_of_the_port_that_is_open(twins, by_id, asked):
    first, second, link = twins
    lead_to(link, second)
    assert by_id.trouble() == ["a trouble"]
    assert asked == [first.path]


def test_troubles_of_a_port_that_is_not_open_are_those_of_what_is_there(twins, asked):
    _, second, link = twins
    lead_to(link, second)
    uart = Uart(str(link))
    uart.trouble()
    link.unlink()
    uart.trouble()
    assert asked == [second.path, None]


@pytest.mark.parametrize(
    ("flow_control", "cts", "told"), [("rtscts", False, True), ("rtscts", True, False), ("none", False, False)]
)
def test_flow_control_that_lets_nothing_out_is_told(far, asked, monkeypatch, flow_control, cts, told):
    monkeypatch.setattr(serial.Serial, "cts", property(lambda _self: cts))
    uart = Uart(far.path, flow_control=flow_control)
    uart.open()
    assert (port_trouble.CTS_IS_LOW in uart.trouble()) is told
    uart.close()
    assert port_trouble.CTS_IS_LOW not in uart.trouble(), "it cannot be seen"


def test_a_port_that_has_no_cts_has_no_such_trouble(far, asked):
    uart = Uart(far.path, flow_control="rtscts")
    uart.open()
    assert uart.trouble() == ["a trouble"]
    uart.close()
