"""Resetting a board that runs: by what its rig has, or by asking the application."""

from __future__ import annotations

from pytest_nrfdfu.board.noted import noted, noted_os_reset, reset_name
from pytest_nrfdfu.board.power import power_cycle
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import SmpTimeout, UartError

__all__ = ["reset_kind", "restart"]


def reset_kind(unit: Unit) -> ResetKind:
    """How a unit is reset: as recovery does it where that is not by the probe, else by the probe, else by SMP."""
    rig, recovery = unit.rig, unit.config.recovery
    if recovery.reset == "line" and "reset" in rig.line_names:
        return "line"
    if rig.has_probe:
        # A pin reset is itself the way into recovery where that entrance is built in.
        return "ctrl-ap" if "pin-reset" in recovery.entry else "pin"
    return recovery.reset if recovery.reset in {"power", "command"} else "smp"


def restart(unit: Unit, kind: ResetKind) -> bool:
    """Reset a unit; whether it must have happened."""
    unit.note_reset()
    if kind == "power":
        power_cycle(unit)
    elif kind == "smp":
        try:
            with noted_os_reset(unit):
                unit.client.reset()
        except SmpTimeout:
            return False
        except UartError:
            if not unit.uart.transient:
                raise
            return False  # it is away as it may be: whoever waits for the application looks for it
    else:
        with noted(unit, reset_name(kind)):
            unit.rig.reset(kind)
    return True
