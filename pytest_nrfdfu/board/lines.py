"""Control lines of the rig: RTS or DTR of a serial adapter, or an external command. Used in the rig's child only."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from typing import Any, Protocol

from pytest_nrfdfu.errors import LineError

__all__ = ["Line", "make_line"]

_COMMAND_TIMEOUT = 8.0
"""Less than the deadline of a call to the rig's child, so that its message arrives."""
_WRITE_TIMEOUT = 2.0


class Line(Protocol):
    """One control line. Asserted means: the configured active level is at the target's pin."""

    def set(self, *, asserted: bool) -> None:
        """Drive it, or let it go; LineError if that fails."""

    def pulse(self, seconds: float) -> None:
        """Assert, wait, release; released also if anything fails in between."""

    def close(self) -> None:
        """Give the driver back; the line has been let go of before."""


class _Line:
    """What all drivers share."""

    def __init__(self, name: str) -> None:
        self.name = name

    def set(self, *, asserted: bool) -> None:
        raise NotImplementedError

    def pulse(self, seconds: float) -> None:
        try:
            self.set(asserted=True)
            time.sleep(seconds)
        finally:
            self.set(asserted=False)


class _Ports:
    """Serial ports that carry lines. One port may carry two lines, so it is opened once and kept open.

    Linux raises both lines at every open and pyserial lowers them some milliseconds later: so a port is opened at the
    start of a run, before any reset, and never again.
    """

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def get(self, url: str, name: str) -> Any:
        if url not in self._open:
            import serial

            if url.startswith("socket://"):
                raise LineError(
                    f"the {name} line's port {url} has no control lines; use rfc2217:// instead of socket://"
                )
            try:
                port = serial.serial_for_url(url, do_not_open=True)
                port.dtr = False
                port.rts = False
                if "://" not in url:
                    port.write_timeout = _WRITE_TIMEOUT
                    port.exclusive = True
                port.open()
            except (OSError, ValueError) as error:
                raise LineError(
                    f"the {name} line's port {url} cannot be opened: {error}; is the adapter plugged in, and used by"
                    " nothing else?"
                ) from error
            self._open[url] = port
        return self._open[url]

    def drop(self, url: str) -> None:
        port = self._open.pop(url, None)
        if port is not None:
            with suppress(OSError):
                port.close()


_PORTS = _Ports()


class _SerialLine(_Line):
    """RTS or DTR. An adapter's TTL outputs are inverted: the line set means a low pin."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        super().__init__(name)
        self._url: str = settings["port"]
        self._attribute: str = settings["line"]
        self._low_active = settings["active"] == "low"
        _PORTS.get(self._url, name)
        self.set(asserted=False)

    def set(self, *, asserted: bool) -> None:
        port = _PORTS.get(self._url, self.name)
        try:
            setattr(port, self._attribute, asserted == self._low_active)
        except (OSError, ValueError) as error:
            _PORTS.drop(self._url)
            raise LineError(f"the {self.name} line on {self._url} ({self._attribute.upper()}): {error}") from error

    def close(self) -> None:
        _PORTS.drop(self._url)


class _CommandLine(_Line):
    """An external command for each direction: relays, power strips, GPIO tools."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        super().__init__(name)
        self._commands = {True: settings["assert"], False: settings["release"]}
        self.set(asserted=False)

    def set(self, *, asserted: bool) -> None:
        command = [str(part) for part in self._commands[asserted]]
        shown = " ".join(command)
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_COMMAND_TIMEOUT, check=False, text=True, errors="replace"
            )
        except subprocess.TimeoutExpired:
            raise LineError(f"the {self.name} line's command did not end in {_COMMAND_TIMEOUT:g} s: {shown}") from None
        except OSError as error:
            raise LineError(f"the {self.name} line's command cannot be run: {shown}: {error.strerror}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-200:]
            raise LineError(f"the {self.name} line's command ended with status {done.returncode}: {shown}: {said}")

    def close(self) -> None:
        """Nothing is held."""


def make_line(name: str, settings: dict[str, Any]) -> Line:
    """The line that a ``[recovery.line]`` or ``[reset.line]`` table describes, forced inactive."""
    match settings["driver"]:
        case "serial":
            return _SerialLine(name, settings)
        case "command":
            return _CommandLine(name, settings)
        case driver:
            raise LineError(f"the {name} line has an unknown driver {driver!r}")
