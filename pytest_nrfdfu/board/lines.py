"""Control lines and power of the rig: RTS or DTR of a serial adapter, GPIO, external commands. In its child only."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pytest_nrfdfu.board.gpio_line import GpioLine
from pytest_nrfdfu.board.power_error import PowerError
from pytest_nrfdfu.errors import LineError

__all__ = ["COMMAND_TIMEOUT", "Line", "Power", "announce", "make_line", "pulse", "run_command"]

COMMAND_TIMEOUT = 8.0
"""Seconds. Less than the deadline of a call to the rig's child, so that its message arrives."""
_WRITE_TIMEOUT = 2.0
_ORPHAN = 2.0
"""Seconds that the process of a run that has just died gets to let go of a port."""
_PAUSE = 0.05
_CFLAG = 2
"""Index of the control modes in what termios.tcgetattr gives."""
_SAID_AT_MOST = 200


class Line(Protocol):
    """One control line. Asserted means: the configured active level is at its output.

    That is the target's pin, but for what stands in between: behind a transistor that inverts, it is the other level.
    """

    name: str

    def set(self, *, asserted: bool) -> None:
        """Drive it, or let it go; LineError if that fails."""

    def level(self) -> bool | None:
        """Whether the active level is at the output, read back; None where the driver cannot."""

    def close(self) -> None:
        """Give the driver back; the line has been let go of before."""


def pulse(line: Line, seconds: float) -> None:
    """Assert, wait, release; released also if anything fails in between."""
    try:
        line.set(asserted=True)
        time.sleep(seconds)
    finally:
        line.set(asserted=False)


def run_command(what: str, command: Sequence[str]) -> None:
    """Run an external command without a shell; LineError with what it said if it fails or does not end."""
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=COMMAND_TIMEOUT, check=False, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise LineError(f"{what} did not end in {COMMAND_TIMEOUT:g} s: {shown}") from None
    except OSError as error:
        raise LineError(f"{what} cannot be run: {shown}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_SAID_AT_MOST:]
        raise LineError(f"{what} ended with status {done.returncode}: {shown}: {said or 'it said nothing'}")


class Power:
    """The board's supply, switched by two commands. What it was before is not known until it is switched."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings`: the ``[power]`` table."""
        self._commands = {True: [str(part) for part in settings["on"]], False: [str(part) for part in settings["off"]]}
        self._settle: float = settings["settle"]
        self.is_on: bool | None = None
        """None: not known, since nothing was switched, or since switching failed."""

    def set(self, *, on: bool) -> None:
        """Switch the supply; PowerError if the command fails."""
        self.is_on = None
        try:
            run_command(f"the command that switches power {'on' if on else 'off'}", self._commands[on])
        except LineError as error:
            raise PowerError(str(error)) from error
        self.is_on = on

    def cycle(self) -> None:
        """Off, the time to settle, on; on also if anything fails in between."""
        try:
            self.set(on=False)
            time.sleep(self._settle)
        finally:
            self.set(on=True)


class _Ports:
    """Serial ports that carry lines. One port may carry two lines, so it is opened once and kept open.

    Linux sets both lines (low at the pins) at every open, and pyserial gives them the state that it was told some
    milliseconds later: so a port is opened at the start of a run, before any reset, and never again. When it is closed,
    Linux clears both (high at the pins) where HUPCL is on. So that a line is released afterwards as well, HUPCL is off
    for a port with a line that is active high; such a line then also stays as it is when this process is killed.

    Sources: Linux, drivers/tty/tty_port.c (tty_port_raise_dtr_rts, tty_port_shutdown); termios(3), HUPCL.
    """

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}
        self._released: dict[str, dict[str, bool]] = {}

    def announce(self, url: str, attribute: str, *, released: bool) -> None:
        """What a line (``rts``, ``dtr``) is while released; said of both lines of a port before it is opened."""
        self._released.setdefault(url, {})[attribute] = released

    def get(self, url: str, name: str, patience: float = 0.0) -> Any:
        """The port, opened if need be; for `patience` seconds it may still be somebody else's.

        Where there is patience it is tried twice at least: a try by RFC 2217 takes up to 3 s.
        """
        if url.startswith("socket://"):
            raise LineError(f"the {name} line's port {url} has no control lines; use rfc2217:// instead of socket://")
        deadline = time.monotonic() + patience
        again = patience > 0
        while url not in self._open:
            try:
                self._open[url] = self._opened(url)
            except (OSError, ValueError) as error:
                if _is_busy(error) and (again or time.monotonic() < deadline):
                    again = False
                    time.sleep(_PAUSE)
                    continue
                raise LineError(
                    f"the {name} line's port {url} cannot be opened: {error}; is the adapter plugged in, and used by"
                    " nothing else?"
                ) from error
        return self._open[url]

    def _opened(self, url: str) -> Any:
        import serial

        released = self._released.get(url, {})
        port = serial.serial_for_url(url, do_not_open=True)
        port.dtr = released.get("dtr", False)
        port.rts = released.get("rts", False)
        if "://" not in url:
            port.write_timeout = _WRITE_TIMEOUT
            port.exclusive = True
        port.open()
        if "://" not in url:
            _drop_at_close(port, on=not any(released.values()))
        return port

    def drop(self, url: str) -> None:
        port = self._open.pop(url, None)
        if port is not None:
            with suppress(OSError):
                port.close()


def _is_busy(error: Exception) -> bool:
    """Whether an error of opening a port may pass when another process ends. A server of RFC 2217 hangs up."""
    text = str(error).lower()
    hung_up = isinstance(error, BrokenPipeError | ConnectionResetError) or "does not seem to support rfc2217" in text
    return hung_up or "exclusively lock" in text or "busy" in text


def _drop_at_close(port: Any, *, on: bool) -> None:
    """Set or clear HUPCL, which a port may have from an earlier user; nothing happens where there is none."""
    try:
        import termios
    except ImportError:  # pragma: no cover - Windows
        return
    with suppress(OSError, termios.error):
        settings = termios.tcgetattr(port.fileno())
        settings[_CFLAG] = settings[_CFLAG] | termios.HUPCL if on else settings[_CFLAG] & ~termios.HUPCL
        termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)


_PORTS = _Ports()


def announce(tables: Iterable[Mapping[str, Any]]) -> None:
    """Say which lines there are before the first is made: two may share a port, which opens with both released."""
    for table in tables:
        if table["driver"] == "serial":
            _PORTS.announce(table["port"], table["line"], released=table["active"] == "high")


class _SerialLine:
    """RTS or DTR. An adapter's TTL outputs are inverted: the line set means a low pin.

    An adapter that was plugged in and not opened yet has both pins high: a line that is active high is then asserted.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self._url: str = settings["port"]
        self._attribute: str = settings["line"]
        self._low_active = settings["active"] == "low"
        self._ports = _PORTS
        announce([settings])
        self._ports.get(self._url, name, _ORPHAN)
        self.set(asserted=False)

    def set(self, *, asserted: bool) -> None:
        port = self._ports.get(self._url, self.name)
        try:
            setattr(port, self._attribute, asserted == self._low_active)
        except (OSError, ValueError) as error:
            self._ports.drop(self._url)
            raise LineError(f"the {self.name} line on {self._url} ({self._attribute.upper()}): {error}") from error

    def level(self) -> bool | None:
        """Not known: an adapter does not read its outputs."""
        return None

    def close(self) -> None:
        self._ports.drop(self._url)


class _CommandLine:
    """An external command for each direction: relays, power strips, GPIO tools."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self._commands = {True: settings["assert"], False: settings["release"]}
        self.set(asserted=False)

    def set(self, *, asserted: bool) -> None:
        run_command(f"the {self.name} line's command", [str(part) for part in self._commands[asserted]])

    def level(self) -> bool | None:
        """Not known."""
        return None

    def close(self) -> None:
        """Nothing is held."""


def make_line(name: str, settings: dict[str, Any]) -> Line:
    """The line that a ``[recovery.line]`` or ``[reset.line]`` table describes, forced inactive."""
    match settings["driver"]:
        case "serial":
            return _SerialLine(name, settings)
        case "gpiod":
            return GpioLine(name, settings)
        case "command":
            return _CommandLine(name, settings)
        case driver:
            raise LineError(f"the {name} line has an unknown driver {driver!r}")
