"""A control line on a GPIO chip of the host, by libgpiod 2. Used in the rig's child only.

Written against gpiod 2.5; tested with a stand-in for it, never on real lines.

Open drain is the default: asserted pulls the pin low, released leaves it alone, so that a button beside it works and a
board without power is not fed through its pin. When the line is closed it becomes an input. The kernel leaves a line as
it was when the process that drives it dies: so it is forced inactive when the next one opens it.

Sources: libgpiod 2, Python bindings (``gpiod.request_lines``, ``gpiod.LineSettings``); Linux, GPIO character device
userspace API, GPIO_V2_LINE_FLAG_OPEN_DRAIN.
"""

from __future__ import annotations

import errno
import glob
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pytest_nrfdfu.errors import LineError

__all__ = ["GpioLine"]

_CONSUMER = "pytest-nrfdfu"
"""What ``gpioinfo`` shows as the line's user."""
_CHIPS = "/dev/gpiochip*"
_LIST_AT_MOST = 40
"""Lines of a chip in an error message."""
_ORPHAN = 2.0
"""Seconds that the process of a run that has just died gets to let go of the line."""
_PAUSE = 0.05


class GpioLine:
    """One line, requested for as long as this object is not closed; inactive at first.

    Asserted means that the configured active level is at the pin. LineError says what is wrong: chip or line that are
    not there, a line that somebody else has, a missing permission or library.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """`settings`: a table of the configuration's `GpioLine`, as a dictionary."""
        self.name = name
        self._chip: str = settings["chip"]
        self._line: int | str = settings["line"]
        self._active_low: bool = settings["active"] == "low"
        self._open_drain: bool = settings["drive"] == "open-drain"
        self._gpiod = _import(name)
        self._request: Any = None
        self._open(time.monotonic() + _ORPHAN)

    @property
    def _what(self) -> str:
        return f"the {self.name} line ({self._chip} line {self._line})"

    def set(self, *, asserted: bool) -> None:
        """Drive the line to its active level, or let it go; LineError if that fails."""
        values = self._gpiod.line.Value
        self._open(time.monotonic())
        try:
            self._request.set_value(self._line, values.ACTIVE if asserted else values.INACTIVE)
        except OSError as error:
            self._drop()  # so that the next call looks for the chip again
            raise LineError(f"{self._what} cannot be driven: {error}; is the adapter still plugged in?") from error

    def level(self) -> bool | None:
        """Whether the active level is at the pin, as the chip reads it back; None where it does not."""
        self._open(time.monotonic())
        try:
            return bool(self._request.get_value(self._line) == self._gpiod.line.Value.ACTIVE)
        except OSError:  # a chip that cannot read its outputs
            return None

    def close(self) -> None:
        """Make the line an input, which leaves the pin alone, and give it back."""
        request, gpiod = self._request, self._gpiod
        if request is None:
            return
        try:
            request.reconfigure_lines({self._line: gpiod.LineSettings(direction=gpiod.line.Direction.INPUT)})
        except OSError as error:
            raise LineError(f"{self._what} cannot be made an input: {error}; it may still be driven") from error
        finally:
            self._drop()

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self, deadline: float) -> None:
        """Request the line, inactive. Until `deadline` (monotonic seconds) it may still be somebody else's."""
        while self._request is None:
            try:
                with self._open_chip() as chip:
                    self._request = self._request_line(chip)
            except OSError as error:
                if error.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(_PAUSE)
                    continue
                raise self._explained(error) from error

    def _request_line(self, chip: Any) -> Any:
        line = self._gpiod.line
        settings = self._gpiod.LineSettings(
            direction=line.Direction.OUTPUT,
            drive=line.Drive.OPEN_DRAIN if self._open_drain else line.Drive.PUSH_PULL,
            active_low=self._active_low,
            output_value=line.Value.INACTIVE,
        )
        self._check_line(chip)
        return chip.request_lines(config={self._line: settings}, consumer=_CONSUMER)

    def _check_line(self, chip: Any) -> None:
        """LineError unless the chip has the line: gpiod would take a name of digits for an offset."""
        count = chip.get_info().num_lines
        if isinstance(self._line, int):
            if 0 <= self._line < count:
                return
            raise LineError(f"{self._what} does not exist: the chip has the lines 0 to {count - 1}")
        names = [name for _, name in _lines(chip)]
        if names.count(self._line) == 1:
            return
        if self._line in names:
            offsets = ", ".join(str(offset) for offset, name in _lines(chip) if name == self._line)
            raise LineError(f"{self._what}: several lines have that name ({offsets}); give the offset of the right one")
        named = [name for name in names if name]
        shown = ", ".join(named[:_LIST_AT_MOST]) + (", ..." if len(named) > _LIST_AT_MOST else "")
        known = f"its named lines are {shown}" if named else f"none of its {count} lines has a name"
        raise LineError(f"{self._what} does not exist: {known}; give the name of one, or an offset as a number")

    def _open_chip(self) -> Any:
        """The chip by its path, its name (``gpiochip0``) or its label."""
        if self._chip.startswith("/"):
            try:
                return self._gpiod.Chip(self._chip)
            except FileNotFoundError:
                raise LineError(f"the {self.name} line: there is no {self._chip}; {self._known()}") from None
        found = [path for path, name, label in self._chips() if self._chip in (name, label)]
        if len(found) == 1:
            return self._gpiod.Chip(found[0])
        if found:
            raise LineError(
                f"the {self.name} line: several GPIO chips are called {self._chip!r}: {', '.join(found)}; give the path"
                " of one"
            )
        raise LineError(f"the {self.name} line: no GPIO chip is called {self._chip!r}; {self._known()}")

    def _chips(self) -> Iterator[tuple[str, str, str]]:
        """Path, name and label of each chip that this user may open."""
        for path in sorted(glob.glob(_CHIPS)):  # noqa: PTH207 - a pattern in an absolute folder
            with suppress(OSError), self._gpiod.Chip(path) as chip:
                info = chip.get_info()
                yield path, info.name, info.label

    def _known(self) -> str:
        """The chips that there are, in words."""
        chips = [f"{path} ({label})" for path, _, label in self._chips()]
        closed = sorted(set(glob.glob(_CHIPS)) - {text.split(" ")[0] for text in chips})  # noqa: PTH207
        parts = [f"there are {', '.join(chips)}"] if chips else []
        parts += [f"{', '.join(closed)} cannot be opened by this user"] if closed else []
        return "; ".join(parts) or "this host shows none; is the adapter plugged in?"

    def _explained(self, error: OSError) -> LineError:
        if error.errno == errno.EBUSY:
            return LineError(
                f"{self._what} is in use by {self._user() or 'somebody else'}; end that, or take another line"
            )
        if isinstance(error, PermissionError):
            return LineError(
                f"{self._what}: your user may not open the GPIO chip ({error}); give it the right by a udev rule, or"
                " add it to the group that owns the device (often gpio)"
            )
        return LineError(f"{self._what} cannot be opened: {error}; check chip and line with gpioinfo")

    def _user(self) -> str:
        """Who has the line, as the kernel knows it."""
        with suppress(OSError), self._open_chip() as chip:
            return str(chip.get_line_info(self._line).consumer or "")
        return ""

    def _drop(self) -> None:
        request, self._request = self._request, None
        with suppress(OSError):
            request.release()


def _lines(chip: Any) -> Iterator[tuple[int, str]]:
    """Offset and name of each line."""
    for offset in range(chip.get_info().num_lines):
        yield offset, str(chip.get_line_info(offset).name or "")


def _import(name: str) -> Any:
    """The library; LineError where it is missing, or its version 1, which has another interface."""
    try:
        import gpiod
    except ImportError:
        raise LineError(
            f"the {name} line needs the library gpiod, which is not installed: pip install 'pytest-nrfdfu[gpiod]'"
        ) from None
    if not hasattr(gpiod, "LineSettings"):
        raise LineError(
            f"the {name} line needs gpiod 2, and version {getattr(gpiod, '__version__', '1')} is installed:"
            " pip install 'pytest-nrfdfu[gpiod]'"
        )
    return gpiod
