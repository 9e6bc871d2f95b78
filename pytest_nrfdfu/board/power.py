"""A unit's supply, switched so that its other parts survive it.

Switching power ends whatever was proved on the board. Where it takes USB away as well (a kit that is fed through the
cable that carries its probe and ports), the ports are closed before and found again after: the probe is then waited
for by the rig's child.
"""

from __future__ import annotations

import time

from pytest_nrfdfu.board.noted import noted, reset_name
from pytest_nrfdfu.board.unit import Unit

__all__ = ["power_cycle", "power_off", "power_on"]


def power_off(unit: Unit) -> None:
    """Switch the supply off; LineError if that fails or cannot be done."""
    _before(unit)
    unit.powered_off = True
    unit.rig.power(False)


def power_on(unit: Unit) -> None:
    """Switch the supply on.

    LineError if that fails; where USB was off too, ProbeError or PortGone if probe or port do not come back within
    ``usb_timeout``.
    """
    unit.forget("its power was switched")
    unit.note_reset()
    with noted(unit, "power on"):
        unit.rig.power(True)
    unit.powered_off = False
    _after(unit)


def power_cycle(unit: Unit) -> None:
    """Off, the configured time to settle, on. Nothing is waited for but what USB took away."""
    _before(unit)
    unit.note_reset()
    with noted(unit, reset_name("power")):
        unit.rig.power_cycle()
    _after(unit)


def _before(unit: Unit) -> None:
    unit.forget("its power was switched")
    unit.unfinished = None
    unit.reset_at = None  # nothing boots until it is on again
    power = unit.config.power
    if power is not None and power.takes_usb:
        unit.close_ports()


def _after(unit: Unit) -> None:
    power = unit.config.power
    if power is not None and power.takes_usb:
        unit.reopen_ports(time.monotonic() + power.usb_timeout)
