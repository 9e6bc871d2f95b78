"""The message of a board whose application was not seen running: what it told, what it holds, and what to look at."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from pytest_nrfdfu.board.boot_story import Story, first_dump, story
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.observed import causes_in_words
from pytest_nrfdfu.board.swap_ahead import is_over
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import BoardError, SmpError, UartError
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["Waited", "explain", "explain_other"]

_EARLY = 0.1
"""Seconds before its end at which a wait was given up early."""
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
_LOOK_AT_SERVER = (
    "Look at what it prints behind its banner, whether it hangs there, and whether its SMP server is on this port"
    " (CONFIG_MCUMGR_TRANSPORT_UART, zephyr,uart-mcumgr); where it has none, [boot] smp = false"
)
_LOOK_AT_LOOP = (
    "Look at what resets it: its watchdog, its supply, its own sys_reboot(), or a fault whose dump is not built in or"
    " goes elsewhere (CONFIG_LOG, CONFIG_EXCEPTION_DEBUG, CONFIG_LOG_BACKEND_UART)"
)
_LOOK_AT_SWAP = (
    "Do not reset it now, that would cut the swap off: it is still swapping, or what it has swapped in does not start."
    " Look at slot_size in [images.app], by which the time for a swap is reckoned, and at the image that came in"
)
_LOOK_AT_FAULT = "Look at what it was doing: arm-zephyr-eabi-addr2line -e zephyr.elf {} names the line{}"


class Waited(NamedTuple):
    """A wait for an application that was not seen."""

    seconds: float
    """How long it was to be, from the reset."""
    passed: float
    """How long it was: less where the board had shown that there was nothing to wait for."""
    asked: bool = False
    """Whether an image list was asked for."""
    swap: str = ""
    """Why MCUboot may have swapped before, in words."""
    swapping: bool = False
    """Whether it was swapping still, by all that was seen."""
    swap_seconds: float = 0.0
    """How much of the wait was for swaps."""

    def __str__(self) -> str:
        if self.passed < self.seconds - _EARLY:
            return f"the application was not seen running, given up after {self.passed:.1f} s"
        return f"the application was not seen running within {self.seconds:.1f} s"


def explain(unit: Unit, position: int, image: Image | None, waited: Waited, more: str = "") -> str:
    """Why the application was not seen after a reset; the console is read from `position` on.

    `image`: what was to run. `more` goes behind the advice. A fault's dump follows on lines of its own.
    """
    told = story(unit, position)
    still = _still_in_recovery(unit) if not told.halted else ""
    mute = told.runs and waited.asked and not (still or told.faults or told.loops)
    seen = [said] if (said := told.told(image)) else []
    if waited.swap:
        seen.append(_swap(waited, told))
    if mute:
        seen.append(_mute(told))
    elif not (told.faults or told.loops):
        seen.append(_printed(unit, position))
    if still:
        seen.append(still)
    elif not mute and (causes := _reset_causes(unit)):
        seen.append(causes)
    swapping = waited.swapping and not still
    empty = _PERHAPS_EMPTY if unit.proved is None and not (still or told.boots or swapping) else ""
    advice = _LOOK_AT_SERVER if mute else _advice(told, swapping=swapping)
    return f"{unit.name} was reset and {waited}: {'; '.join(seen)}. {empty}{advice}{more}{_quoted(told)}"


def _swap(waited: Waited, told: Story) -> str:
    """Why there was a swap, and how long it was waited for."""
    over = bool(told.boots) and is_over(told.boots[-1])
    state = ", and it was over" if over else ", and nothing shows that it was over" if waited.swapping else ""
    time = f"; {waited.swap_seconds:.0f} s of the wait were for that" if waited.swap_seconds else ""
    return f"{waited.swap}, so MCUboot was to swap{state}{time}"


def _mute(told: Story) -> str:
    """An application that has started, and does not answer."""
    after = told.boots[-1].banner_after
    when = f" {after:.2f} s after the reset" if after is not None else ""
    return f"its banner came{when}, no fault followed, and its SMP server did not answer"


def explain_other(unit: Unit, position: int, image: Image, active: ImageState) -> str | None:
    """Why `active` runs where `image` was to: it was started and taken back. None if nothing shows that it ever ran."""
    told = story(unit, position)
    if not told.faults and len(told.boots) < 2:
        return None
    digest = active.hash.hex() if active.hash is not None else "not told"
    return (
        f"{unit.name} was given {image.source} (version {image.version}, hash {image.hash.hex()}), and it did not stay:"
        f" {told.told(image, back=False)}; MCUboot reverted: version {active.version} with hash {digest} runs now, by"
        f" its own image list. {_advice(told)}{_quoted(told)}"
    )


def _printed(unit: Unit, position: int) -> str:
    text = unit.console_uart.console.since(position).strip()
    if not text:
        return "the console printed nothing"
    end = text[-_SHOWN:]
    if end == text:
        return f"the console printed {text!r}"
    return f"the last that the console printed is {(end.partition(chr(10))[2] or end)!r}"


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


def _advice(told: Story, *, swapping: bool = False) -> str:
    fault = next(iter(told.faults), None)
    if fault is None and swapping and not told.loops:
        return _LOOK_AT_SWAP
    if fault is None:
        return _LOOK_AT_LOOP if told.loops else _LOOK_AT_BUILD
    if not fault.pc:
        return "Look at what it printed when it died"
    return _LOOK_AT_FAULT.format(fault.pc, ", in the build that faulted" if len(told.boots) > 1 else "")


def _quoted(told: Story) -> str:
    dump = first_dump(told.faults)
    return f"\n{dump}" if dump else ""
