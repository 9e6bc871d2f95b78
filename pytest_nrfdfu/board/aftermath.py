"""What an update that failed has left on the board: which image runs now, and which way leads back.

A failure's message ends with that way, and the unit remembers in words what was seen, for the end of the run.
"""

from __future__ import annotations

from pytest_nrfdfu.board.application_rules import shown
from pytest_nrfdfu.board.boot_story import story
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import NotBooted, SmpError, UartError
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

__all__ = ["behind", "note_active", "note_now", "with_way_back"]

_ANSWER = 1.0
"""Seconds for an application that runs to answer; it takes some 10 ms."""


def behind(text: str, sentence: str) -> str:
    """`text` with a sentence more: before a fault dump, which is on lines of its own."""
    first, newline, dump = text.partition("\n")
    return f"{first}{'' if first.endswith('.') else '.'} {sentence}{newline}{dump}"


def note_active(unit: Unit, states: ImageStates) -> bool:
    """Remember in words which image an application's list shows as active; whether it shows one."""
    active = states.active
    if active is None:
        return False
    trial = ", on trial: the next reset takes it back" if not active.confirmed else ""
    unit.holds = f"{shown(active)}, shown as active by the application's list{trial}"
    return True


def note_now(unit: Unit) -> bool:
    """Ask whoever answers, once, and remember in words what runs; whether anybody told."""
    try:
        states = unit.client.images(tries=1, timeout=_ANSWER)
    except (SmpError, UartError):
        return False
    if from_recovery(states, has_state=unit.profile.image_state):
        unit.holds = "not known: it is in serial recovery"
        return True
    return note_active(unit, states)


def with_way_back(
    error: NotBooted,
    unit: Unit,
    position: int,
    image: Image,
    *,
    old: ImageState | None,
    swap: Swap,
    asks: bool = True,
    permanent: bool = False,
) -> NotBooted:
    """The error of an image that was not seen running, with the way back where the board has not gone it already.

    `position`: where on the console the boot began. `asks`: whether the application may have an SMP server.
    `permanent`: the image was marked for good.
    """
    if asks and note_now(unit):
        return error
    if story(unit, position).went_back(image.version):
        unit.holds = "not known: by the console MCUboot took an update back, and nothing has listed what runs"
        return error
    unit.holds = f"not known: version {image.version} was started and not seen running"
    before = shown(old) if old is not None else "the image before"
    if swap == "overwrite":
        sentence = "Its bootloader overwrote the image before: nothing but an update via='recovery' leads back"
    elif permanent:
        sentence = (
            f"Version {image.version} was marked permanent, so MCUboot does not take it back: nothing but an update"
            " via='recovery' leads back"
        )
    else:
        sentence = (
            f"Unless it was confirmed, version {image.version} is on trial: the next reset (board.reset()) brings"
            f" {before} back"
        )
    return NotBooted(behind(str(error), sentence))
