"""The Board that tests hold: one unit's parts, as one test sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_nrfdfu.board.boot import Restart, settle, wait_running
from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.noted import noted
from pytest_nrfdfu.board.power import power_cycle, power_off, power_on
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import DfuReport
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.swap_wait import look_ahead
from pytest_nrfdfu.board.transcript import decode_traffic
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.update_parts import reports_apart
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import SmpRejected, SmpTimeout
from pytest_nrfdfu.image.build import Build
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Board", "LineHandle", "PowerHandle", "ProbeHandle"]


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

    @property
    def level(self) -> bool | None:
        """Whether the active level is at the pin, as the line's driver reads it back; None where it cannot."""
        return self._unit.rig.line_level(self.name)


class PowerHandle:
    """The board's supply (``[power]`` in its configuration). Switching it makes doubtful what was proved on the board.

    LineError where there is no such switch, or its command fails. Where it takes USB away, `off` closes the board's
    ports, and `on` and `cycle` find probe and ports again: ProbeError or PortGone if they do not come back in time.
    Nothing else is waited for; the board boots, and a swap that is under way is cut off. One that begins then is waited
    for by whoever resets the board next, asks it for its images or brings it into recovery.
    """

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def on(self) -> None:
        """Switch it on."""
        power_on(self._unit)

    def off(self) -> None:
        """Switch it off; it is on again when the test ends."""
        power_off(self._unit)

    def cycle(self) -> None:
        """Off, the configured time to settle, on."""
        power_cycle(self._unit)


class ProbeHandle:
    """The debug probe. A write makes what was proved on the board doubtful: the next `flashed` looks again."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def info(self) -> dict[str, Any]:
        """Probe and chip in words and numbers, as `Rig.probe_info` lists them."""
        return self._unit.rig.probe_info()

    def state(self) -> ChipState:
        """Who the probe is and what of each core is open; ProbeError with a cause if that cannot be told."""
        return self._unit.rig.chip_state()

    def read32(self, address: int) -> int:
        """A word of memory or of a register; ProbeError if the chip is locked."""
        return self._unit.rig.read32(address)

    def write32(self, address: int, value: int) -> None:
        """Write a word of RAM or of a register."""
        self._unit.forget()
        self._unit.rig.write32(address, value)

    def reset(self, method: str = "pin") -> None:
        """``pin``, ``system`` or ``ctrl-ap``; does not wait for anything: a swap that is under way is cut off."""
        if method not in {"pin", "system", "ctrl-ap"}:
            raise ValueError(f"reset method {method!r}; known: pin, system, ctrl-ap")
        self._unit.note_reset()
        with noted(self._unit, f"{method} reset"):
            self._unit.rig.call("reset", kind=method)


class Board:
    """A board for one test."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self.console = ConsoleView(unit.console_uart.console, unit.name, banner=unit.config.console.banner)
        self.probe = ProbeHandle(unit)
        self.power = PowerHandle(unit)
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
    def endpoints(self) -> Mapping[str, str]:
        """Addresses of a simulated board's ports that are no part of a real one; empty for a real board.

        ``staging``: ``host:port`` at which its application takes updates in its own way (``[sim] staging``).
        """
        return self._unit.endpoints

    @property
    def smp(self) -> SmpClient:
        """A client of whatever answers now: recovery or the application."""
        return self._unit.client

    def reset(self, *, wait: bool = True, image: Image | None = None) -> str:
        """Reset the board into its application; how that was seen running (empty if not waited for).

        By reset line, probe, power switch, command or OS reset, whichever the board has; NotBooted if the application
        does not appear, HashMismatch if it says itself that it is not `image`. Where nothing is waited for, a board
        that refuses the OS reset, or is not there to be asked, is left as it is.

        No swap is cut off: one that an earlier reset has begun is waited for first. Where the application's list, asked
        for before the reset, or MCUboot's log tells of a swap at this boot, it is waited for as long as one may take.
        """
        unit = self._unit
        settle(unit)
        look_ahead(unit)
        position = unit.console_uart.console.position
        unit.unfinished = None
        try:
            certain = self._restart()
        except SmpRejected:
            if wait:
                raise
            return ""
        if not wait:
            return ""
        delay = unit.config.boot.reset_delay if reset_kind(unit) == "smp" else 0.0
        return wait_running(unit, position, image, Restart(self._restart, delay, certain, how=""))

    def _restart(self) -> bool:
        """Reset the board; whether it must have happened."""
        return restart(self._unit, reset_kind(self._unit))

    def images(self, *, enter_recovery: bool = False) -> ImageStates:
        """The image list of whatever answers now. Never resets, unless `enter_recovery` allows it.

        A swap that a reset has begun is waited for. SmpTimeout if nothing answers: an application without SMP server is
        running.
        """
        settle(self._unit)
        if not enter_recovery:
            return self._unit.client.images(tries=4, timeout=4.0)
        try:
            return self._unit.client.images(tries=2, timeout=2.0)
        except SmpTimeout:
            self._unit.forget()
            return enter(self._unit).images

    # --- for fixtures ---------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let go of what a test may have asserted: all lines, and power that it switched off."""
        unit = self._unit
        if not unit.rig.is_needed:
            return
        if unit.powered_off:  # it boots at the release
            unit.note_reset()
            unit.powered_off = False
        unit.rig.release()
        if unit.rig.takes_usb and not unit.works:
            power_on(unit)

    # --- for the report of a failing test ---------------------------------------------------------------------------

    def uploads_apart(self, builds: Iterable[Build] = ()) -> list[DfuReport]:
        """Reports of the uploads that the test made itself (`Recovery.upload`), each once; `builds` give them names."""
        return list(reports_apart(self._unit, builds))

    def forget(self, why: str) -> None:
        """What was proved on the unit may not hold any more, `why` in words: the next `flashed` looks again."""
        self._unit.forget(why)

    def traffic(self, *, since: float) -> list[tuple[float, str, bytes]]:
        """What the SMP port carried since a time (seconds, monotonic): time, ``tx`` or ``rx``, bytes."""
        return self._unit.transcript(since)

    def exchanges(self, *, since: float, last: int) -> list[str]:
        """The last SMP messages and faults on the port since a time (seconds, monotonic), one line each."""
        return decode_traffic(self._unit.transcript(since))[-last:]
