"""The Board that tests hold: one unit's parts, as one test sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_nrfdfu.board.boot import Restart, wait_running
from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.transcript import decode_traffic
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import SmpTimeout
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Board", "LineHandle", "ProbeHandle"]


class LineHandle:
    """One control line of the rig."""

    def __init__(self, unit: Unit, name: str) -> None:
        self._unit = unit
        self.name = name

    def press(self) -> None:
        """Drive the line to its active level; it is released when the test ends."""
        self._unit.rig.set_line(self.name, asserted=True)

    def release(self) -> None:
        """Let the line go."""
        self._unit.rig.set_line(self.name, asserted=False)


class ProbeHandle:
    """The debug probe. A write makes what was proved on the board doubtful: the next `flashed` looks again."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def info(self) -> dict[str, Any]:
        """Probe and chip: ``unique_id``, ``product``, ``ctrl_ap_idr``, ``open``."""
        return self._unit.rig.probe_info()

    def read32(self, address: int) -> int:
        """A word of memory or of a register; ProbeError if the chip is locked."""
        return self._unit.rig.read32(address)

    def write32(self, address: int, value: int) -> None:
        """Write a word of RAM or of a register."""
        self._unit.forget()
        self._unit.rig.write32(address, value)

    def reset(self, method: str = "pin") -> None:
        """``pin``, ``system`` or ``ctrl-ap``; does not wait for anything."""
        if method not in {"pin", "system", "ctrl-ap"}:
            raise ValueError(f"reset method {method!r}; known: pin, system, ctrl-ap")
        self._unit.rig.call("reset", kind=method)


class Board:
    """A board for one test."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self.console = ConsoleView(unit.console_uart.console, unit.name)
        self.probe = ProbeHandle(unit)
        self.lines: Mapping[str, LineHandle] = {name: LineHandle(unit, name) for name in unit.rig.line_names}

    @property
    def name(self) -> str:
        """The board's name: a type, such as ``nrf5340dk``."""
        return self.config.board

    @property
    def unit(self) -> str:
        """The unit's name: which physical board this is."""
        return self._unit.name

    @property
    def config(self) -> BoardConfig:
        """Its configuration."""
        return self._unit.config

    @property
    def smp(self) -> SmpClient:
        """A client of whatever answers now: recovery or the application."""
        return self._unit.client

    def reset(self, *, wait: bool = True, image: Image | None = None) -> str:
        """Reset the board into its application; how that was seen running (empty if not waited for).

        By the probe's pin reset, the reset line, or an OS reset, whichever the board has; NotBooted if the application
        does not appear, HashMismatch if it says itself that it is not `image`.
        """
        unit = self._unit
        position = unit.console_uart.console.position
        unit.unfinished = None
        certain = self._restart()
        if not wait:
            return ""
        by_smp = not self._has_reset_line and not unit.rig.has_probe
        delay = unit.config.boot.reset_delay if by_smp else 0.0
        return wait_running(unit, position, image, Restart(self._restart, delay, certain))

    @property
    def _has_reset_line(self) -> bool:
        return self._unit.config.recovery.reset == "line" and "reset" in self._unit.rig.line_names

    def _restart(self) -> bool:
        """Reset the board; whether it must have happened."""
        unit = self._unit
        if self._has_reset_line:
            unit.rig.reset("line")
        elif unit.rig.has_probe:
            # A pin reset is itself the way into recovery where that entrance is built in.
            unit.rig.reset("ctrl-ap" if "pin-reset" in unit.config.recovery.entry else "pin")
        else:
            try:
                unit.client.reset()
            except SmpTimeout:
                return False
        return True

    def images(self, *, enter_recovery: bool = False) -> ImageStates:
        """The image list of whatever answers now. Never resets, unless `enter_recovery` allows it.

        SmpTimeout if nothing answers: an application without SMP server is running.
        """
        if not enter_recovery:
            return self._unit.client.images(tries=4, timeout=4.0)
        try:
            return self._unit.client.images(tries=2, timeout=2.0)
        except SmpTimeout:
            self._unit.forget()
            return enter(self._unit).images

    # --- for the report of a failing test ---------------------------------------------------------------------------

    def forget(self, why: str) -> None:
        """What was proved on the unit may not hold any more, `why` in words: the next `flashed` looks again."""
        self._unit.forget(why)

    def exchanges(self, *, since: float, last: int) -> list[str]:
        """The last SMP messages and faults on the port since a time (seconds, monotonic), one line each."""
        return decode_traffic(self._unit.transcript(since))[-last:]
