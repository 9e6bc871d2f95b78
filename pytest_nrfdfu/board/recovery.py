"""The ways into MCUboot's serial recovery, and what was seen when none worked.

Recovery is believed when it answers an image list: echo is not built into MCUboot by default, and an application may
answer as well. The two are told apart by ``splitStatus``, which only applications send, and by the state flags.

Sources: MCUboot, boot/zephyr/main.c, boot/zephyr/include/io/io.h (the recovery pin counts after power-on or pin reset
only); Zephyr, smp_group_1.rst.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import Entry
from pytest_nrfdfu.errors import (
    BoardError,
    LineError,
    ProbeError,
    RecoveryNotEntered,
    SmpError,
    SmpRejected,
    SmpTimeout,
)
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Entered", "enter", "from_recovery"]

_POLL = 0.15
"""Seconds between image list requests while waiting: the bootloader starts listening at a time nobody knows."""
_BOOT_MODE_BOOTLOADER = 1
"""BOOT_MODE_TYPE_BOOTLOADER (Zephyr, include/zephyr/retention/bootmode.h)."""
_RESETREAS = 0x50005400
_CAUSES = {0: "reset pin", 1: "watchdog 0", 2: "CTRL-AP", 3: "soft reset", 4: "lockup", 5: "wake-up from off"}
"""Bits of RESETREAS (nRF5340 product specification, RESET)."""


class Entered(NamedTuple):
    """Recovery answers. `method` is the entry that worked, `seconds` how long it took."""

    method: Entry
    seconds: float
    images: ImageStates


@dataclass(slots=True)
class _Evidence:
    """What was tried and seen."""

    tried: list[str] = field(default_factory=list)
    application_answers: int = 0
    flags: bool = False
    """Whether an answer had flags and no splitStatus: an application, or a bootloader with image state."""


def from_recovery(states: ImageStates, *, has_state: bool) -> bool:
    """Whether an image list comes from MCUboot's recovery. `has_state`: it was built with image state (flags)."""
    if states.split_status is not None:
        return False
    return has_state or all(image.active is None for image in states.images)


def enter(unit: Unit) -> Entered:
    """Bring the unit into serial recovery by the configured entries, in order.

    Raises RecoveryNotEntered with what was tried and seen. Lines are released before it returns or raises. Trouble of
    probe or line is raised as such where there is no other way in.
    """
    evidence = _Evidence()
    position, since = unit.uart.console.position, unit.now()
    unit.unfinished = None
    for entry in unit.config.recovery.entry:
        began = time.monotonic()
        try:
            images = _ENTRIES[entry](unit, evidence)
        except (SmpError, ProbeError, LineError) as error:
            if isinstance(error, BoardError) and len(unit.config.recovery.entry) == 1:
                raise
            evidence.tried.append(f"{entry}: {error}")
            continue
        unit.session += 1
        return Entered(entry, time.monotonic() - began, images)
    raise RecoveryNotEntered(_explain(unit, evidence, unit.uart.summary(since, position)))


def _reset(unit: Unit, entry: Entry) -> None:
    unit.rig.reset(unit.config.recovery.reset_for(entry))


def _by_gpio(unit: Unit, evidence: _Evidence) -> ImageStates:
    """Hold the recovery pin through a reset that MCUboot's gate accepts, until recovery answers."""
    try:
        unit.rig.set_line("recovery", asserted=True)
        _reset(unit, "gpio")
        return _wait(unit, evidence)
    finally:
        unit.rig.set_line("recovery", asserted=False)


def _by_pin_reset(unit: Unit, evidence: _Evidence) -> ImageStates:
    """A pin reset alone, for a bootloader built with CONFIG_BOOT_SERIAL_PIN_RESET."""
    _reset(unit, "pin-reset")
    return _wait(unit, evidence)


def _by_smp(unit: Unit, evidence: _Evidence) -> ImageStates:
    """Ask the running application to reboot into the bootloader (OS reset with boot_mode 1, Zephyr 4.2 and newer)."""
    states = unit.client.images(tries=4, timeout=unit.config.recovery.timeout)
    if from_recovery(states, has_state=unit.profile.image_state):
        return states
    unit.client.reset(boot_mode=_BOOT_MODE_BOOTLOADER)
    return _wait(unit, evidence)


_ENTRIES = {"gpio": _by_gpio, "pin-reset": _by_pin_reset, "smp": _by_smp}


def _wait(unit: Unit, evidence: _Evidence) -> ImageStates:
    """Ask for the image list until recovery answers; SmpTimeout when the configured time has passed."""
    deadline = time.monotonic() + unit.config.recovery.timeout
    unit.uart.discard()
    while True:
        with suppress(SmpRejected):  # an application without the image group: MCUboot always has a list
            states = unit.client.poll_images(_POLL, deadline)
            if from_recovery(states, has_state=unit.profile.image_state):
                return states
            evidence.flags |= states.split_status is None
        evidence.application_answers += 1
        time.sleep(_POLL)
        if time.monotonic() >= deadline:
            raise SmpTimeout("only the application answered, not the bootloader")


def _explain(unit: Unit, evidence: _Evidence, seen: str) -> str:
    parts = [f"{unit.name} did not enter serial recovery within {unit.config.recovery.timeout:g} s. Tried: "]
    parts.append("; ".join(evidence.tried) + f". Seen: {seen}")
    if evidence.application_answers:
        parts.append(
            f"; the running application answered {evidence.application_answers} times, so the board had booted"
        )
    if evidence.flags:
        parts.append(
            "; the answers had flags but no splitStatus: if the bootloader itself sends flags"
            " (CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE), set image_state = true in [bootloader]"
        )
    causes = _reset_causes(unit)
    if causes:
        parts.append(f"; reset causes (RESETREAS): {causes}")
    parts.append(". " + _advice(unit))
    return "".join(parts)


def _reset_causes(unit: Unit) -> str:
    """The reset causes in words, where the probe can read them."""
    if not unit.rig.has_probe:
        return ""
    value: int | None = None
    with suppress(BoardError, ProbeError):
        value = unit.rig.read32(_RESETREAS)
    if value is None:
        return ""
    return ", ".join(name for bit, name in _CAUSES.items() if value >> bit & 1) or "power-on"


def _advice(unit: Unit) -> str:
    hints = [f"that MCUboot on it listens on {unit.config.uart.port} at {unit.config.uart.baudrate} baud"]
    if "gpio" in unit.config.recovery.entry:
        hints.insert(0, "that the recovery line reaches MCUboot's button (P0.23 on the DK) and its active level")
        hints.append("that the reset is a pin reset (MCUboot ignores the button after a soft reset)")
    if "smp" in unit.config.recovery.entry:
        hints.append("that the application takes boot_mode in OS reset (CONFIG_MCUMGR_GRP_OS_RESET_BOOT_MODE)")
    return "Check " + ", ".join(hints)
