"""One owner of a serial port: a reader thread that takes SMP packets and console text apart.

Where SMP and the console share a UART, bytes that are not SMP are console text, never an error. Everything that
passes is kept, bounded, for the report of a failing test.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_nrfdfu.board import port_trouble, port_users, ports
from pytest_nrfdfu.board.console import Console
from pytest_nrfdfu.board.traffic import Traffic, TrafficLog
from pytest_nrfdfu.errors import PortGone, UartError
from pytest_nrfdfu.smp import console as framing

__all__ = ["Received", "Uart"]

_POLL = 0.1
"""Seconds between looks at whether the port is to be closed, where a read cannot be cancelled."""
_WRITE_TIMEOUT = 5.0
_TAIL = 160
"""Characters of the console that a message quotes."""
_CLOSE_TIMEOUT = 2.0
_VANISHES_WITHIN = 0.5
"""Seconds from a reset within which the system has taken a transient port away; a judgement, not measured."""
_IS_MISSING = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED})
_IS_BUSY = frozenset({errno.EBUSY, errno.EAGAIN})
_IS_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_PASSES = _IS_BUSY | _IS_FORBIDDEN | {errno.EIO}
"""What a port that has just come up may answer until udev has given it its rights, and others have looked at it."""


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


@dataclass(slots=True)
class _Opened:
    """One opening of the port. A reader thread that outlives its opening must not touch the next one."""

    port: Any
    device: str
    packets: queue.SimpleQueue[Received | None] = field(default_factory=queue.SimpleQueue)
    failure: BaseException | None = None
    closing: bool = False


class Uart:
    """A serial port, opened exclusively. `port` names it, as `ports.FORMS` says; it is found anew at every opening.

    `dtr`: whether to raise DTR. `wait`: seconds that `open` waits for a port that is not there. `transient`: it is the
    target's own USB port, which goes at every reset. RTS is left as the system sets it, unless `flow_control` is
    ``rtscts``.

    `open` and `close` may alternate; `open` on a port that was lost opens it again. Errors of the port, in the reader
    thread too, come out of `send` and `receive` as UartError or PortGone.
    """

    def __init__(
        self,
        port: str,
        baudrate: int = 115200,
        *,
        flow_control: str = "none",
        dtr: bool = True,
        wait: float = 0.0,
        transient: bool = False,
    ) -> None:
        self.port = port
        self.device: str | None = None
        """Its name or address when it was last opened; None: it never was."""
        self.baudrate = baudrate
        self.transient = transient
        self.console = Console()
        self.traffic = TrafficLog()
        self.faults: deque[tuple[float, framing.Fault]] = deque(maxlen=100)
        self.bytes_received = 0
        self._flow_control = flow_control
        self._dtr = dtr
        self._wait = wait
        self._opened: _Opened | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is open and has not failed."""
        return self._opened is not None and self._opened.failure is None

    def open(self) -> None:
        """Open the port, and wait for it if it is not there yet; UartError if that cannot be done."""
        if not self.is_open:
            self.close()
            self._open_until(time.monotonic() + self._wait, UartError)

    def try_open(self) -> bool:
        """As `open`, without waiting: False if the port is not there. UartError if it is and cannot be opened."""
        if not self.is_open and ports.find(self.port) is None:
            return False
        self.open()
        return True

    def reopen(self, deadline: float) -> None:
        """Close the port and find it again, under another name if need be, until `deadline` (seconds, monotonic).

        For ports that a reset takes away. Packets that came before are dropped; the console's positions and the kept
        traffic go on. PortGone if it does not come back, UartError if it is back and cannot be opened.
        """
        if self.transient and self.is_open and self._thread is not None:
            # The reset was a moment ago: the port that is there may be the one that is about to go.
            self._thread.join(max(0.0, min(_VANISHES_WITHIN, deadline - time.monotonic())))
        self.close()
        self._open_until(deadline, PortGone, came_up=True)

    def _open_until(self, deadline: float, gone: type[UartError], *, came_up: bool = False) -> None:
        """Look for it and open it.

        One that came up meanwhile is opened when two looks agree: the ports of a J-Link come up one after the other.
        """
        start, last = time.monotonic(), None
        while True:
            device = ports.find(self.port)
            over = time.monotonic() >= deadline
            problem = None
            if device is not None and (not came_up or device == last or over):
                problem = self._open_now(device)
                if problem is None:
                    return
                if not _may_pass(problem, came_up=came_up):
                    raise UartError(self._not_opened(device, problem)) from problem
            if over:
                kind = gone if problem is None or _number(problem) in _IS_MISSING else UartError
                raise kind(self._not_opened(device, problem) + _waited(start)) from problem
            last, came_up = device, True
            time.sleep(max(0.0, min(ports.POLL, deadline - time.monotonic())))

    def _open_now(self, device: str) -> BaseException | None:
        """Open it and start reading; what prevented it."""
        import serial

        try:
            port: Any = serial.serial_for_url(device, do_not_open=True)
            port.baudrate = self.baudrate
            port.timeout = _POLL
            port.rtscts = self._flow_control == "rtscts"
            port.dtr = self._dtr
            if not device.startswith("rfc2217://"):  # which has no such thing
                port.write_timeout = _WRITE_TIMEOUT
            if "://" not in device:
                port.exclusive = True
            # pyserial's rfc2217:// uses Thread.setDaemon, which a test suite may have made an error.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                port.open()
        except _port_errors(ValueError) as error:
            return error
        # An FTDI adapter keeps what it received for 16 ms, unless it is told 1 ms; others have no such timer.
        with suppress(ValueError, NotImplementedError, AttributeError, OSError):
            port.set_low_latency_mode(True)
        self.device = device
        self._opened = _Opened(port, device)
        self.console.reopen()
        self._thread = threading.Thread(target=self._read, args=(self._opened,), name=f"uart {device}", daemon=True)
        self._thread.start()
        return None

    def _not_opened(self, device: str | None, error: BaseException | None) -> str:
        if device is None:
            return f"cannot open {self.port}: {ports.not_found(self.port)}"
        name, number = _named(self.port, device), _number(error)
        local = "://" not in device
        if local and number in _IS_BUSY:
            who = port_users.in_words(port_users.users(device))
            return f"cannot open {name}: another process has it open: {who}; end that terminal program or test run"
        if local and number in _IS_FORBIDDEN:
            told = port_trouble.rights(device) or "your user may not use it, and the device's rights do not say why"
            return f"cannot open {name}: permission denied: {told}"
        if number in _IS_MISSING:
            look = "is the server running, and the address right?" if not local else ports.not_found(self.port)
            return f"cannot open {name}: {error}; {look}"
        return f"cannot open {name}: {error}"

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
        self.console.close(f"{self._name} was closed")
        with suppress(*_port_errors()):
            opened.port.close()

    def set_baudrate(self, rate: int) -> None:
        """Change the rate (baud), of the open port too; UartError if the port cannot do it, and it keeps its rate."""
        opened = self._opened
        if opened is not None and opened.failure is None:
            try:
                opened.port.baudrate = rate
            except _port_errors(ValueError, TypeError, OverflowError, NotImplementedError) as error:
                with suppress(*_port_errors(ValueError, TypeError)):
                    opened.port.baudrate = self.baudrate
                raise UartError(f"{self._name} cannot be set to {rate} baud: {error}") from error
        self.baudrate = rate

    def trouble(self) -> list[str]:
        """Known troubles of this host with this port: sentences, each with its remedy."""
        device = self.device
        if not self.is_open:
            with suppress(UartError):
                device = ports.find(self.port)
        found = port_trouble.trouble(device)
        opened = self._opened
        if opened is not None and self._flow_control == "rtscts" and "://" not in opened.device:
            with suppress(TypeError, *_port_errors()):  # TypeError: it was lost and closed
                found += [] if opened.port.cts else [port_trouble.CTS_IS_LOW]
        return found

    @property
    def _name(self) -> str:
        return _named(self.port, self.device)

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
                f"{self._name} took {len(data)} bytes not within {_WRITE_TIMEOUT:g} s; is flow control on, and nothing"
                " that lets the bytes out? See [uart] flow_control"
            ) from error
        except _port_errors(TypeError) as error:  # TypeError: the reader saw the loss first and closed it
            self._lost(opened, error)
            with suppress(AttributeError, *_port_errors()):
                opened.port.cancel_read()  # so that the reader closes it
            raise PortGone(f"{self._name} was lost while writing: {error}") from error

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
        broken = self.broken_since(since)
        parts = [broken] if broken else []
        lines = [line.strip() for line in self.console.since(position).splitlines() if line.strip()]
        if lines:
            parts.append(f"console text ending '{_printable(' / '.join(lines)[-_TAIL:])}'")
        if not parts:
            return "nothing came from the board meanwhile"
        return "meanwhile the board sent " + " and ".join(parts)

    def damaged_since(self, since: float) -> list[framing.Fault]:
        """The frames that came since a time and were not whole; a carriage return too many damages none."""
        faults = ((when, fault) for when, fault in self.faults.copy() if fault.kind is not framing.FaultKind.STRAY_CR)
        return [fault for when, fault in faults if when >= since]

    def broken_since(self, since: float) -> str:
        """The broken frames that came since a time, in a few words; empty if there were none."""
        faults = self.damaged_since(since)
        return f"{len(faults)} broken frames (the last: {faults[-1]})" if faults else ""

    def _check(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise UartError(f"{self._name} is not open")
        if opened.failure is not None:
            raise PortGone(f"{self._name} was lost: {opened.failure}") from opened.failure
        return opened

    def _lost(self, opened: _Opened, error: BaseException) -> None:
        """The port does not work any more: whoever waits for packets or text is told."""
        if opened.failure is not None:
            return
        opened.failure = error
        self.console.close(f"{self._name} was lost: {error}", lost=True)
        opened.packets.put(None)

    # --- reader thread ----------------------------------------------------------------------------------------------

    def _read(self, opened: _Opened) -> None:
        decoder = framing.Decoder()
        shown = 0
        while not opened.closing and opened.failure is None:
            try:
                data = opened.port.read(max(1, opened.port.in_waiting))
            except _port_errors(TypeError) as error:  # TypeError: closed during the read
                if not opened.closing:
                    self._lost(opened, error)
                break
            if data:
                shown = self._take(opened, decoder, data, shown)
        if opened.failure is not None:
            # At once: as long as somebody has the lost port open, it comes back under another name (Linux).
            with suppress(TypeError, *_port_errors()):
                opened.port.close()

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
                    self.console.write(event.data[shown:], now)
                    shown = 0
                case framing.Fault():
                    self.faults.append((now, event))
        pending = decoder.pending_text
        if pending == b"\r":  # of a line end LF CR in front of a packet, perhaps: then it is no text
            return shown
        if len(pending) > shown:
            self.console.write(pending[shown:], now)
            shown = len(pending)
        return shown


def _printable(text: str) -> str:
    """Text for a message: what a terminal would obey is escaped."""
    return "".join(char if char.isprintable() else str(char.encode("unicode_escape"), "ascii") for char in text)


def _named(spec: str, device: str | None) -> str:
    """The port for a message: as configured, and as it is named now."""
    return spec if device in {None, spec} else f"{spec} ({device})"


def _number(error: BaseException | None) -> int | None:
    """The errno behind an error of pyserial; None if there is none."""
    while error is not None:
        number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
        if isinstance(number, int):
            return number
        error = error.__context__
    return None


def _may_pass(problem: BaseException, *, came_up: bool) -> bool:
    """Whether to look again after `problem`: the port is not there, or has only just come up."""
    return _number(problem) in (_IS_MISSING | _PASSES if came_up else _IS_MISSING)


def _waited(start: float) -> str:
    seconds = time.monotonic() - start
    return f"; waited {seconds:.1f} s for it" if seconds >= 0.05 else ""
