"""One owner of a serial port: a reader thread that takes SMP packets and console text apart.

Where SMP and the console share a UART, bytes that are not SMP are console text, never an error. Everything that
passes is kept, bounded, for the report of a failing test.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pytest_nrfdfu.board.console import Console
from pytest_nrfdfu.errors import PortGone, UartError
from pytest_nrfdfu.smp import console as framing

__all__ = ["Received", "Traffic", "Uart"]

_POLL = 0.1
"""Seconds between looks at whether the port is to be closed, where a read cannot be cancelled."""
_WRITE_TIMEOUT = 5.0
_KEEP_TRAFFIC = 400
_CLOSE_TIMEOUT = 2.0


def _port_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What a vanished port raises; termios.error is not an OSError."""
    try:
        import termios
    except ImportError:  # pragma: no cover - not on Windows
        return (OSError, *more)
    lost: type[Exception] = termios.error
    return (OSError, lost, *more)


class Received(NamedTuple):
    """An SMP packet, and when it was complete (seconds, monotonic)."""

    time: float
    packet: bytes


class Traffic(NamedTuple):
    """Bytes that passed, for people: ``tx`` from the host, ``rx`` from the board."""

    time: float
    direction: Literal["tx", "rx"]
    data: bytes


@dataclass(slots=True)
class _Opened:
    """One opening of the port. A reader thread that outlives its opening must not touch the next one."""

    port: Any
    packets: queue.SimpleQueue[Received | None] = field(default_factory=queue.SimpleQueue)
    failure: BaseException | None = None
    closing: bool = False


class Uart:
    """A serial port (path or URL of pyserial), opened exclusively.

    `open` and `close` may alternate; `open` on a port that was lost opens it again. Errors of the port, in the reader
    thread too, come out of `send` and `receive` as UartError or PortGone.
    """

    def __init__(self, port: str, baudrate: int = 115200, *, flow_control: str = "none") -> None:
        self.port = port
        self.baudrate = baudrate
        self.console = Console()
        self.traffic: deque[Traffic] = deque(maxlen=_KEEP_TRAFFIC)
        self.faults: deque[tuple[float, framing.Fault]] = deque(maxlen=100)
        self.bytes_received = 0
        self._flow_control = flow_control
        self._opened: _Opened | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is open and has not failed."""
        return self._opened is not None and self._opened.failure is None

    def open(self) -> None:
        """Open the port and start reading; UartError if that cannot be done."""
        if self.is_open:
            return
        self.close()
        import serial

        try:
            port: Any = serial.serial_for_url(self.port, do_not_open=True)
            port.baudrate = self.baudrate
            port.timeout = _POLL
            port.rtscts = self._flow_control == "rtscts"
            if not self.port.startswith("rfc2217://"):  # which has no such thing
                port.write_timeout = _WRITE_TIMEOUT
            if "://" not in self.port:
                port.exclusive = True
            port.open()
        except _port_errors(ValueError) as error:
            raise UartError(self._not_opened(error)) from error
        self._opened = _Opened(port)
        self.console.reopen()
        self._thread = threading.Thread(target=self._read, args=(self._opened,), name=f"uart {self.port}", daemon=True)
        self._thread.start()

    def _not_opened(self, error: BaseException) -> str:
        text = f"cannot open {self.port}: {error}"
        if self.port == "auto":
            return f"{text}; finding the port by itself is not built in yet: give its path as [uart] port"
        if "exclusively lock" in text or "busy" in text.lower():
            return f"{text}; another process has it open: close the terminal program or the other test run"
        if "Permission" in text:
            return f"{text}; your user may not use it: on Debian, add it to the group dialout and log in again"
        if "No such file" in text or "could not open" in text:
            return f"{text}; is the board plugged in, and [uart] port right?"
        return text

    def close(self) -> None:
        """Stop reading and close the port."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        opened.closing = True
        with suppress(AttributeError, *_port_errors()):  # AttributeError: a port whose read cannot be cancelled
            opened.port.cancel_read()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT)
        self.console.close(f"{self.port} was closed")
        with suppress(*_port_errors()):
            opened.port.close()

    # --- what the client uses ---------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write bytes; UartError if the port does not take them."""
        import serial

        opened = self._check()
        self.traffic.append(Traffic(time.monotonic(), "tx", data))
        try:
            opened.port.write(data)
        except serial.SerialTimeoutException as error:
            raise UartError(
                f"{self.port} took {len(data)} bytes not within {_WRITE_TIMEOUT:g} s; is flow control on, and nothing"
                " that lets the bytes out? See [uart] flow_control"
            ) from error
        except _port_errors() as error:
            self._lost(opened, error)
            raise PortGone(f"{self.port} was lost while writing: {error}") from error

    def receive(self, timeout: float) -> Received | None:
        """The next SMP packet, or None after `timeout` seconds."""
        opened = self._check()
        try:
            item = opened.packets.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        if item is None:
            self._check()
        return item

    def discard(self) -> None:
        """Forget the packets that nobody asked for."""
        opened = self._check()
        with suppress(queue.Empty):
            while opened.packets.get_nowait() is not None:
                pass

    def summary(self, since: float, position: int) -> str:
        """What the port carried since a time and a console position, in a few words, for error messages."""
        parts = []
        faults = [fault for when, fault in self.faults.copy() if when >= since]
        if faults:
            parts.append(f"{len(faults)} broken frames (the last: {faults[-1]})")
        text = self.console.since(position)
        if text.strip():
            tail = text.strip()[-160:]
            parts.append(f"console text ending {tail!r}")
        if not parts:
            return "nothing came from the board meanwhile"
        return "meanwhile the board sent " + " and ".join(parts)

    def _check(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise UartError(f"{self.port} is not open")
        if opened.failure is not None:
            raise PortGone(f"{self.port} was lost: {opened.failure}") from opened.failure
        return opened

    def _lost(self, opened: _Opened, error: BaseException) -> None:
        """The port does not work any more: whoever waits for packets or text is told."""
        opened.failure = error
        self.console.close(f"{self.port} was lost: {error}", lost=True)
        opened.packets.put(None)

    # --- reader thread ----------------------------------------------------------------------------------------------

    def _read(self, opened: _Opened) -> None:
        decoder = framing.Decoder()
        shown = 0
        while not opened.closing:
            try:
                data = opened.port.read(max(1, opened.port.in_waiting))
            except _port_errors(TypeError) as error:  # TypeError: closed during the read
                if not opened.closing:
                    self._lost(opened, error)
                return
            if data:
                shown = self._take(opened, decoder, data, shown)

    def _take(self, opened: _Opened, decoder: framing.Decoder, data: bytes, shown: int) -> int:
        """Sort what came. `shown`, and the result: bytes of the unfinished line that are on the console already."""
        now = time.monotonic()
        self.bytes_received += len(data)
        self.traffic.append(Traffic(now, "rx", data))
        for event in decoder.feed(data):
            match event:
                case framing.Packet():
                    opened.packets.put(Received(now, event.data))
                case framing.Text():
                    self.console.write(event.data[shown:])
                    shown = 0
                case framing.Fault():
                    self.faults.append((now, event))
        pending = decoder.pending_text
        if pending == b"\r":  # of a line end LF CR in front of a packet, perhaps: then it is no text
            return shown
        if len(pending) > shown:
            self.console.write(pending[shown:])
            shown = len(pending)
        return shown
