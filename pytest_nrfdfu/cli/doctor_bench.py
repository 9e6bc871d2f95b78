"""The bench that the doctor tries: one unit, opened part by part, so that what works is used beside what does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from pytest_nrfdfu.bench.identity import is_unlimited
from pytest_nrfdfu.bench.lease import held_back
from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board import ports
from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.board.pin_look import PinLook
from pytest_nrfdfu.board.power_error import PowerError
from pytest_nrfdfu.board.recovery import Entered
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.cli.doctor_findings import Finding, Status
from pytest_nrfdfu.cli.doctor_window import Windows
from pytest_nrfdfu.cli.unit_keeper import keeper_of
from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.config_lines import LineConfig, SerialLine
from pytest_nrfdfu.config_types import Entry, ResetKind
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError, UartError

__all__ = ["Bench"]

_BY_PROBE = frozenset({"pin", "system", "ctrl-ap"})
"""Resets that the probe does."""


@dataclass(slots=True)
class Bench:
    """One unit, as far as it is open, and what is known of it so far."""

    source: UnitConfig
    config: BoardConfig
    closing: ExitStack
    """What closes everything, in reverse order of opening."""
    windows: Windows = field(default_factory=Windows)
    progress: Callable[[int, int], None] | None = None
    """Called with acknowledged and total bytes of an upload."""
    statuses: dict[str, Status] = field(default_factory=dict)
    """Of the parts that were tried, by name."""
    chip: ChipState | None = None
    pin: PinLook | None = None
    """The recovery pin as the chip sees it; None: there is no line, or it could not be driven."""
    line_finding: Finding | None = None
    """What came of the line, where it is wrong."""
    enters_without: str = ""
    """The reset after which MCUboot answered without any entry; empty if it did not, or was not seen."""
    entered: Entered | None = None
    booted_by: str = ""
    """How the application was seen running; empty if it was not."""
    booted_from: int = 0
    """Console position at which the last boot began."""
    probe_error: ProbeError | None = None
    line_error: BoardError | None = None
    power_error: PowerError | None = None
    _unit: Unit | None = None
    _rig_started: bool = False

    @property
    def unit(self) -> Unit:
        """The unit; made by `lease`."""
        if self._unit is None:  # pragma: no cover - every other part needs the lease
            raise BoardError("the unit was not leased")
        return self._unit

    def lease(self) -> str:
        """Take the lease; what was done, in words. Nothing is opened or started."""
        reason = held_back(self.source)
        source = self.source
        lease = keeper_of(self.config).acquire([source], deadline=time.monotonic(), say=lambda _: None)
        self.closing.callback(lease.release)
        self.config = lease.unit.config
        if is_unlimited(source):
            return "none is needed"
        return "nobody else uses it" if reason is None else f"nobody else uses it; {reason}"

    def simulate(self) -> None:
        """Start the simulated board, and use its ports, probe and lines from here on."""
        simulator = Simulator(self.config)
        self.closing.callback(simulator.stop)
        self.config = simulator.wired()

    def has(self, part: str) -> bool:
        """Whether there is anything to try for a part: a power switch, a line that somebody uses, a simulated board."""
        source = self.source.config
        if part == "simulator":
            return source.simulated
        if part == "power":
            return source.power is not None or source.simulated
        if part == "line":
            lines = (source.recovery.line, self.config.reset.line)
            return "gpio" in source.recovery.entry or any(line is not None for line in lines)
        return True

    def compose(self) -> None:
        """Make the unit of its configuration.

        Serial lines are found by their identity; one that is not there is left out, and told with the other lines.
        """
        recovery, reset = self.config.recovery, self.config.reset
        self.config = self.config.model_copy(
            update={
                "recovery": recovery.model_copy(update={"line": self._found(recovery.line)}),
                "reset": reset.model_copy(update={"line": self._found(reset.line)}),
            }
        )
        self._unit = Unit(self.source.name, self.config)
        self.closing.callback(self._unit.close)

    def _found(self, line: LineConfig | None) -> LineConfig | None:
        if not isinstance(line, SerialLine):
            return line
        try:
            port = ports.wait_for(line.port, time.monotonic() + self.config.uart.wait)
        except UartError as error:
            self.line_error = LineError(f"the port of a control line: {error}")
            return None
        return line.model_copy(update={"port": port})

    def start_rig(self) -> None:
        """Start what owns probe, lines and power; once without what does not work, so that the rest can be tried."""
        if self._rig_started or not self.unit.needs_rig:
            return
        self._rig_started = True
        config = self.config
        for _ in range(3):  # probe, lines, power
            try:
                self.unit.rig.start()
            except ProbeError as error:
                self.probe_error = error
                config = config.model_copy(update={"probe": None})
            except PowerError as error:
                self.power_error = error
                config = config.model_copy(update={"power": None})
            except BoardError as error:
                self.line_error = error
                config = _without_lines(config)
            else:
                return
            self.unit.rig = Rig(config, self.unit.name)

    def lacks(self, entry: Entry) -> str:
        """What an entry needs and this bench has not, in words; empty if it can be tried."""
        recovery = self.config.recovery
        if entry == "gpio" and "recovery" not in self.unit.rig.line_names:
            return "the recovery line"
        if entry in {"smp", "manual"}:
            return ""
        if self.needs_open_chip(entry) and (self.chip is None or not self.chip.readable):
            return "a chip that is open to the debugger"
        kind = recovery.reset_for(entry)
        if self.statuses.get("reset") == "wrong" and kind == self.reset_kind:
            return "the reset"
        return self.lacks_reset(kind)

    def needs_open_chip(self, entry: Entry) -> bool:
        """Whether an entry writes registers of the chip through the probe."""
        return entry == "boot-mode" or (entry == "gpio" and self.config.recovery.clear_reset_causes)

    @property
    def reset_kind(self) -> ResetKind | None:
        """The reset of the first entry that resets the board by the rig; None if none does."""
        recovery = self.config.recovery
        kinds = (recovery.reset_for(entry) for entry in recovery.entry if entry not in {"smp", "manual"})
        return next((kind for kind in kinds if kind != "smp"), None)

    def lacks_reset(self, kind: ResetKind) -> str:
        """What a reset needs and this bench has not, in words."""
        rig = self.unit.rig
        if kind in _BY_PROBE:
            works = self.statuses.get("chip identity") in {"fine", "warning"}
            return "" if works else "the probe and the chip behind it"
        if kind == "line":
            return "" if "reset" in rig.line_names else "the reset line"
        if kind == "power":
            return "" if rig.has_power else "the power switch"
        return ""


def _without_lines(config: BoardConfig) -> BoardConfig:
    """A configuration without its lines."""
    return config.model_copy(
        update={
            "recovery": config.recovery.model_copy(update={"line": None}),
            "reset": config.reset.model_copy(update={"line": None}),
        }
    )
