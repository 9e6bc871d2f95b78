"""Which image runs by what the console tells of its boot: MCUboot's log, or the version that the application names.

For boards whose application lists no images. It is evidence and no proof: no hash is in it. Words alone; nothing here
waits or sends.

Source: MCUboot, boot/zephyr/main.c (``Image version: v1.2.3``, without the build number) and
boot/bootutil/src/bootutil_public.c (``Swap type: test``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_nrfdfu.board.boot_story import story
from pytest_nrfdfu.board.fault_dump import plain
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.image.format import Version

__all__ = ["CONSOLE", "Heard", "Judged", "heard", "judge", "replaced"]

CONSOLE = "console"
"""How an application was seen running whose banner alone was seen."""
_STARTED = re.compile(r"Image version: v(\d+\.\d+\.\d+)")
_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_SWAPPED = frozenset({"test", "perm"})
_NOTHING = (
    "that this image runs, and not the one before, is not shown: on the console neither MCUboot's log nor the"
    " application named a version"
)
_SAME = (
    "that this image runs, and not the one before, is not shown: both have version {}, and MCUboot's log tells of no"
    " swap"
)
_OTHER = (
    "the application names version {}, which is neither this image's nor that of the one before: which runs is open"
)


class Heard(NamedTuple):
    """What the console told of the last boot. Versions as printed; what was not told is empty."""

    started: str = ""
    """The version that MCUboot said that it starts."""
    swap: str = ""
    """The swap type of the application's image, in MCUboot's words; ``none`` is one too."""
    errors: tuple[str, ...] = ()
    """What MCUboot logged as errors."""
    named: str = ""
    """The version that the application named."""


class Judged(NamedTuple):
    """What follows of it for an image that should run: how it was seen, or what speaks against it, or what is open."""

    running: str = CONSOLE
    against: str = ""
    """What the console told instead; empty if nothing speaks against the image."""
    open: str = ""
    """Why it cannot be told which image runs; empty if it can."""


def heard(unit: Unit, position: int) -> Heard:
    """What the console has told of the last boot since a position on it."""
    boots = story(unit, position).boots
    if not boots:
        return Heard()
    last = boots[-1]
    console = unit.console_uart.console
    # An OS reset is reckoned from its answer, and may have come a little earlier.
    began = next((reset.since for reset in console.resets() if reset.at == last.began), last.began)
    text = "\n".join(plain(line.text) for line in console.timed_lines(position) if line.time >= began)
    started = [match[1] for match in _STARTED.finditer(text)]
    version = last.application_version or ""
    return Heard(
        started=started[-1] if started else "",
        swap=last.swap_types.get(0, ""),
        errors=last.bootloader_errors,
        named="" if started else version,
    )


def judge(told: Heard, wanted: Version, before: str | None) -> Judged:
    """Whether `wanted` runs. `before`: the version, as listed, of the image that ran earlier; None: not known."""
    new, old = _numbers(str(wanted)), _numbers(before or "")
    if against := _mcuboot_against(told, new, alike=new == old) or _application_against(told, new, old):
        return Judged(against=against)
    if told.swap in _SWAPPED and not told.errors:
        also = f" and started version {told.started}" if told.started else ""
        return Judged(f"{CONSOLE}: MCUboot swapped ({told.swap}){also}")
    if why := _open(told, new, old):
        return Judged(open=why)
    if told.started:
        return Judged(f"{CONSOLE}: MCUboot started version {told.started}")
    return Judged(f"{CONSOLE}: the application names version {told.named}")


def replaced(told: Heard, proved: Version) -> str:
    """What shows that MCUboot put another image in the place of `proved`, that slot 0 held; empty if nothing does."""
    swap = f" (swap type {told.swap})" if told.swap else ""
    if told.started and _numbers(told.started) != _numbers(str(proved)):
        return f"MCUboot started version {told.started}{swap}"
    swapped = told.swap in _SWAPPED | {"revert"} and not told.errors
    return f"MCUboot swapped{swap}" if swapped else ""


def _open(told: Heard, new: tuple[int, ...], old: tuple[int, ...]) -> str:
    """Why versions do not tell which image runs; empty if they do."""
    version = told.started or told.named
    if not version:
        return _NOTHING
    if new == old:
        return _SAME.format(version)
    return "" if _numbers(version) == new else _OTHER.format(version)  # products may count otherwise than images do


def _mcuboot_against(told: Heard, new: tuple[int, ...], *, alike: bool) -> str:
    """What of MCUboot's log shows that another image runs; empty if nothing does. `alike`: as the one before."""
    swap = f" (swap type {told.swap})" if told.swap else ""
    if told.started and _numbers(told.started) != new:
        return f"MCUboot started version {told.started}{swap}"
    if told.swap == "revert":
        return "MCUboot reverted to the image before"
    if told.swap and told.swap not in _SWAPPED and (alike or not told.started):
        return f"MCUboot did not swap (swap type {told.swap})"
    return ""


def _application_against(told: Heard, new: tuple[int, ...], old: tuple[int, ...]) -> str:
    """The same of the version that the application names: the old one's, or, where that is not known, any other."""
    numbers = _numbers(told.named)
    if not numbers or numbers == new or (old and numbers != old):
        return ""
    return f"the application that runs names version {told.named}"


def _numbers(version: str) -> tuple[int, ...]:
    """Major, minor, revision: MCUboot logs no build number. Empty where there is none."""
    found = _NUMBERS.search(version)
    return tuple(map(int, found.groups())) if found is not None else ()
