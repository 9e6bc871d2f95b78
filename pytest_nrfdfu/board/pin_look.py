"""The recovery pin as the chip sees it, while the line is asserted and while it is released.

Source: nRF5340 product specification, GPIO (IN, PIN_CNF).
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.board.pins import Pin, pin_name, recovery_pin
from pytest_nrfdfu.board.unit import Unit

__all__ = ["PinLook", "look_at_pin"]

_GPIO = (0x50842500, 0x50842800)
"""P0 and P1 of the application core, secure."""
_IN, _PIN_CNF = 0x10, 0x200
_IS_OUTPUT = 1 << 0
"""PIN_CNF.DIR: what is read is then what the chip itself drives."""
_INPUT_DISCONNECTED = 1 << 1
"""PIN_CNF.INPUT: the pin then reads as low, whatever its level."""


class PinLook(NamedTuple):
    """What was seen."""

    pin: str = ""
    """Its name, such as ``P0.23``; empty where nobody tells which it is."""
    low: bool | None = None
    """Its level while the line was asserted; None: not read."""
    low_released: bool | None = None
    """Its level with the line released; None: not read."""
    line_level: bool | None = None
    """What the line's own driver read back while it was asserted (True: active), where it can."""
    line_level_released: bool | None = None
    """The same with the line released."""
    unread: str = ""
    """Why the pin's level was not read; empty if it was."""

    @property
    def follows(self) -> bool | None:
        """Whether the pin goes low with the line and high without it; None: not read."""
        if self.low is None or self.low_released is None:
            return None
        return self.low and not self.low_released


def look_at_pin(unit: Unit, chip: ChipState | None) -> PinLook:
    """Assert the recovery line, look, release it, and look again. The line is released in any case.

    `chip`: what is known of the chip; None if there is no probe that reaches it. BoardError if line or probe fail.
    """
    pin = recovery_pin(unit.config)
    unread = _why_not(pin, chip)
    readable = None if unread else pin
    try:
        unit.rig.set_line("recovery", asserted=True)
        low = _is_low(unit, readable)
        level = unit.rig.line_level("recovery")
    finally:
        unit.rig.set_line("recovery", asserted=False)
    released = _is_low(unit, readable)
    if readable is not None and (low is None or released is None):
        unread = "the firmware that runs has it as an output, or its input off"
    return PinLook(
        pin_name(pin) if pin is not None else "", low, released, level, unit.rig.line_level("recovery"), unread
    )


def _why_not(pin: Pin | None, chip: ChipState | None) -> str:
    """Why the pin cannot be read, in words."""
    if pin is None:
        return "nobody tells which pin it is"
    if chip is None:
        return "there is no probe that reaches the chip"
    return "" if chip.readable else f"the application core is {chip.application}"


def _is_low(unit: Unit, pin: Pin | None) -> bool | None:
    if pin is None:
        return None
    port, number = _GPIO[pin[0]], pin[1]
    if unit.rig.read32(port + _PIN_CNF + 4 * number) & (_IS_OUTPUT | _INPUT_DISCONNECTED):
        return None
    return not unit.rig.read32(port + _IN) >> number & 1
