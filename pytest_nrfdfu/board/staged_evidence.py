"""Whether a staged image came into slot 0 by this update, or was there before, where no list of the application shows.

What this run had proved, and MCUboot's log, tell. It is asked before the transfer and after it; nothing is sent.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_nrfdfu.board.boot_story import story
from pytest_nrfdfu.board.console_evidence import CONSOLE, Heard, Judged, heard
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.image.mcuboot import Image

__all__ = ["Before", "before", "brought_by", "shows_change", "version_before", "was_there"]

_INTO_SLOT_0 = ("test", "perm")
"""MCUboot's swap types that put slot 1's image into slot 0."""


class Before(NamedTuple):
    """What was known of the board before the transfer."""

    proved: bytes | None
    """Hash of the image that this run had proved in slot 0."""
    heard: Heard
    """What the console had told of the boot before."""


def before(unit: Unit) -> Before:
    """What is known now."""
    return Before(unit.proved, heard(unit, 0))


def brought_by(unit: Unit, position: int, earlier: Before, image: Image) -> str:
    """What shows that `image` came into slot 0 since a console position; empty if nothing does."""
    if earlier.proved is not None and earlier.proved != image.hash:
        return "this run had proved another image there before"
    if swap := next((kind for kind in _swap_types(unit, position) if kind in _INTO_SLOT_0), ""):
        return f"MCUboot logged a swap ({swap})"
    started = earlier.heard.started
    return f"MCUboot had started version {started} before" if started and not _is(started, image) else ""


def was_there(unit: Unit, position: int) -> bool:
    """Whether MCUboot's log shows that nothing was swapped since a console position."""
    told = _swap_types(unit, position)
    return bool(told) and set(told) == {"none"}


def shows_change(judged: Judged, earlier: Before, told: Heard) -> bool:
    """Whether what the console tells of two boots shows that another image runs than before the transfer."""
    if judged.running.startswith(f"{CONSOLE}: MCUboot swapped"):
        return True
    pairs = ((earlier.heard.started, told.started), (earlier.heard.named, told.named))  # by the same words of the same
    return judged.running != CONSOLE and any(old and new and old != new for old, new in pairs)


def version_before(earlier: Before, image: Image) -> str | None:
    """The version that ran before by the console, where that is `image`'s as well; None if not, or not told."""
    version = earlier.heard.started or earlier.heard.named
    return version if version and _is(version, image) else None


def _swap_types(unit: Unit, position: int) -> list[str]:
    """What MCUboot logged for the application's image, boot by boot; a boot with errors did not do what it says."""
    boots = story(unit, position).boots
    return [boot.swap_types[0] for boot in boots if 0 in boot.swap_types and not boot.bootloader_errors]


def _is(version: str, image: Image) -> bool:
    """Whether a version as printed is an image's: MCUboot logs no build number."""
    return version.partition("+")[0] == str(image.version).partition("+")[0]
