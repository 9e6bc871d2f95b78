"""One owner of a port, over a pty with a scripted other end."""

import queue
import threading

import pytest
import serial
from simulator import wait_until

from board.conftest import FarEnd, wait_for_text
from pytest_nrfdfu.board import uart as uart_module
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.errors import PortGone, UartError
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


def test_a_loss_while_writing_is_told_to_the_console_too(uart):
    def fail(_data):
        raise OSError(5, "Input/output error")

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
    uart = Uart("rfc2217://nowhere")
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


def test_a_busy_port_names_the_cause(far, uart):
    with pytest.raises(UartError, match="another process has it open"):
        Uart(far.path).open()


def test_a_missing_port_names_the_cause(tmp_path):
    with pytest.raises(UartError, match=r"cannot open .*board0.*is the board plugged in, and \[uart\] port right"):
        Uart(str(tmp_path / "board0")).open()


@pytest.mark.parametrize("port", ["socket://127.0.0.1:1", "nonsense://x"])
def test_an_address_that_does_not_work_is_an_error(port):
    with pytest.raises(UartError, match="cannot open"):
        Uart(port).open()


def test_a_port_that_could_not_be_opened_is_not_left_locked(far):
    first = Uart(far.path)
    first.open()
    with pytest.raises(UartError):
        Uart(far.path).open()
    first.close()
    again = Uart(far.path)
    again.open()
    again.close()
