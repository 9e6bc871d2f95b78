"""The message of a board whose application was not seen running: what it told, what it holds, and what to look at."""

from __future__ import annotations

from contextlib import suppress

from pytest_nrfdfu.board.boot_story import Story, first_dump, story
from pytest_nrfdfu.board.observed import causes_in_words
from pytest_nrfdfu.board.trial import from_recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import BoardError, SmpError, UartError
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["explain", "explain_other"]

_SHOWN = 300
"""Characters of the console that are quoted where it tells of no fault."""
_RESETREAS = 0x50005400
"""nRF5340 product specification, RESET; at the secure address, as the application core begins."""
_RESETPIN = 1
"""While it is set, the start-up code clears every other bit (nrfx, system_nrf53.h: nRF53 erratum 55)."""
_PERHAPS_EMPTY = (
    "No image was proved on it since it may last have changed, so slot 0 may be empty, or hold what MCUboot does not"
    " start: update it first. "
)
_LOOK_AT_BUILD = (
    "Look at whether the image was built for this board and for MCUboot (CONFIG_BOOTLOADER_MCUBOOT), whether its"
    " recovery pin is let go, and at [console] banner in its configuration"
)
_LOOK_AT_FAULT = "Look at what it was doing: arm-zephyr-eabi-addr2line -e zephyr.elf {} names the line{}"


def explain(unit: Unit, position: int, image: Image | None, seconds: float, more: str = "") -> str:
    """Why the application was not seen within `seconds` of a reset; the console is read from `position` on.

    `image`: what was to run. `more` goes behind the advice. A fault's dump follows on lines of its own.
    """
    told = story(unit, position)
    said = told.told(image)
    seen = [said] if said else []
    if not told.faults:
        seen.append(_printed(unit, position))
    still = _still_in_recovery(unit)
    seen += [still] if still else []
    causes = "" if still else _reset_causes(unit)
    seen += [causes] if causes else []
    empty = _PERHAPS_EMPTY if unit.proved is None and not still and not told.boots else ""
    return (
        f"{unit.name} was reset and the application was not seen running within {seconds:g} s: {'; '.join(seen)}."
        f" {empty}{_advice(told)}{more}{_quoted(told)}"
    )


def explain_other(unit: Unit, position: int, image: Image, active: ImageState) -> str | None:
    """Why `active` runs where `image` was to: it was started and taken back. None if nothing shows that it ever ran."""
    told = story(unit, position)
    if not told.faults and len(told.boots) < 2:
        return None
    digest = active.hash.hex() if active.hash is not None else "not told"
    return (
        f"{unit.name} was given {image.source} (version {image.version}, hash {image.hash.hex()}), and it did not stay:"
        f" {told.told(image)}; reverted: version {active.version} with hash {digest} runs now, by its own image list."
        f" {_advice(told)}{_quoted(told)}"
    )


def _printed(unit: Unit, position: int) -> str:
    text = unit.console_uart.console.since(position).strip()
    return f"the console printed {text[-_SHOWN:]!r}" if text else "the console printed nothing"


def _still_in_recovery(unit: Unit) -> str:
    with suppress(SmpError, UartError):
        states = unit.client.images(tries=2, timeout=1.0)
        if from_recovery(states, has_state=unit.profile.image_state):
            listed = "lists the image as valid" if states.find() else "lists no valid image in slot 0"
            return f"the board is still in serial recovery, which {listed}"
    return ""


def _reset_causes(unit: Unit) -> str:
    """What has reset the chip, where a probe can read it."""
    if not unit.rig.has_probe:
        return ""
    with suppress(BoardError):
        if unit.rig.chip_state().readable:
            value = unit.rig.read32(_RESETREAS)
            hides = ", which hides all others (erratum 55)" if value & _RESETPIN else ""
            return f"RESETREAS, since it was last cleared: {causes_in_words(value)}{hides}"
    return ""


def _advice(told: Story) -> str:
    fault = next(iter(told.faults), None)
    if fault is None:
        return _LOOK_AT_BUILD
    if not fault.pc:
        return "Look at what it printed when it died"
    return _LOOK_AT_FAULT.format(fault.pc, ", in the build that faulted" if len(told.boots) > 1 else "")


def _quoted(told: Story) -> str:
    dump = first_dump(told.faults)
    return f"\n{dump}" if dump else ""
