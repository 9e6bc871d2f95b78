"""Whether a cut lay within a swap, by what the console tells before it, at it and of the boots after it.

Words alone; nothing here waits or sends. An image on trial that is reset goes away, which looks like a swap that never
was: so a cut counts only with what shows that the swap was not over.

Sources: MCUboot, boot/bootutil/src/loader.c (boot_prepare_image_for_update: a swap that was interrupted is gone on with
before any swap type is told) and bootutil_public.c (``Swap type: revert`` for an image on trial that was started once).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pytest_nrfdfu.board.application_rules import Which
from pytest_nrfdfu.board.boot_record import BootRecord, boots_in
from pytest_nrfdfu.board.console_text import plain
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import UpdateRefused
from pytest_nrfdfu.image.mcuboot import Image

__all__ = ["After", "Around", "Seen", "around", "hung", "judge", "over", "too_late"]

_DECIDED = frozenset({"test", "perm"})
_SWAPS = re.compile(r"Swap type: (?!none)\w+|Starting swap using")
_NUMBER = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_LOG = "MCUboot's log of the boot after the cut"
_BEGUN = "whether the swap had begun nothing shows: MCUboot does not log"


class Around(NamedTuple):
    """The boots around a cut."""

    before: tuple[BootRecord, ...]
    """Those that began between the reset that was to start the swap and the cut."""
    after: tuple[BootRecord, ...]
    taken_up: bool
    """Whether MCUboot's log says, of the first of these, that it went on with a swap."""


class After(NamedTuple):
    """What runs after a cut, by an image list."""

    which: Which
    image: Image
    """The new one."""
    on_trial: bool
    """Whether it runs, and is on trial."""
    back: bool
    """Whether it is in slot 1."""
    trouble: str = ""
    """How it fared, where that is known already."""


class Seen(NamedTuple):
    """What follows of it."""

    over: str = ""
    """What shows that the swap was over before the cut; empty if nothing does."""
    within: bool | None = None
    """As `Interrupted.within`."""
    how: str = ""
    """As `Interrupted.seen`."""
    trouble: str = ""
    """As `Interrupted.trouble`."""


def around(unit: Unit, position: int, at: float) -> Around:
    """What the console has told since `position`, where the reset was, of a cut that began `at` (monotonic)."""
    console = unit.console_uart.console
    lines = console.timed_lines(position)
    boots = boots_in(lines, console.resets(), re.compile(unit.config.console.banner))
    before = tuple(boot for boot in boots if boot.began < at)
    after = tuple(boot for boot in boots if boot.began >= at)
    until = after[1].began if len(after) > 1 else float("inf")
    text = "\n".join(plain(line.text) for line in lines if after and after[0].began <= line.time < until)
    first = _SWAPS.search(text)
    return Around(before, after, first is not None and first[0].startswith("Starting"))


def over(boots: Sequence[BootRecord], reckoned: float, *, simulated: bool) -> str:
    """What of the boots before a cut shows that the swap was over: the application's banner; empty if nothing does.

    An older bootloader's own banner names nobody and comes at once. So either MCUboot has named itself, or a second
    banner came, or the time fits a swap that is reckoned to take `reckoned` seconds. Simulated ones name themselves.
    """
    last = boots[-1] if boots else None
    if last is None or last.application_banner is None:
        return ""
    named = last.bootloader_banner is not None or bool(last.swap_types) or simulated
    took = last.banner_after
    if not named and len(boots) == 1 and (took is None or took < reckoned / 2):
        return ""
    version = f" (version {last.application_version})" if last.application_version else ""
    after = f" {took:.2f} s after the reset" if took is not None else ""
    return f"the application's banner {last.application_banner!r}{version} came{after}"


def judge(told: Around, banner: str, now: After, *, overwrites: bool) -> Seen:
    """Whether a cut lay within the swap. `banner`: what `over` says. `overwrites`: the bootloader swaps nothing."""
    first = told.after[0] if told.after else None
    kind = first.swap_types.get(0, "") if first is not None and not told.taken_up else ""
    if kind == "revert":
        return Seen(over=f"{_LOG} says 'Swap type: revert'")
    if kind == "none" and now.which == "new":
        return Seen(over=f"{_LOG} says 'Swap type: none'")
    if banner and not now.on_trial and not told.taken_up:
        return Seen(over=banner)
    trouble = now.trouble or _trouble(told.after, now)
    within, how = _by_log(told, kind, overwrites=overwrites) or (None, _by_outcome(told, now))
    if how.startswith("not seen") and trouble:
        how = f"it was not over: the new image was started after it; {_BEGUN}"
    return Seen(within=within, how=how, trouble=trouble)


def _by_log(told: Around, kind: str, *, overwrites: bool) -> tuple[bool, str] | None:
    """By MCUboot's log; None where it tells nothing."""
    if told.taken_up:
        return True, f"{_LOG}: a swap was under way and was gone on with"
    if kind not in _DECIDED:
        return None
    if overwrites and any(boot.swap_types.get(0) in _DECIDED for boot in told.before):
        return True, f"{_LOG}: slot 0 is overwritten once more"  # its copy keeps no account, and begins again
    return False, f"{_LOG}: the swap began only after the cut ('Swap type: {kind}')"


def _by_outcome(told: Around, now: After) -> str:
    """By what runs, and by the banners."""
    if now.on_trial:
        return f"it was not over: the new image is on trial, and a reset would have taken it back; {_BEGUN}"
    silent = not any(boot.application_banner for boot in told.before)
    if now.which == "new" and silent and told.after and told.after[-1].application_banner:
        return f"it was not over: no banner came before the cut, and one after it; {_BEGUN}"
    errors = dict.fromkeys(error for boot in (*told.before, *told.after) for error in boot.bootloader_errors)
    if errors:
        return f"not seen: MCUboot logged {'; '.join(map(repr, errors))}"
    if now.which == "old" and now.back:
        return (
            "not seen: the new image is in slot 1, so MCUboot took it back. Either the swap was over before the cut, or"
            " the new image was started after it and did not stay; the console tells neither"
        )
    return "not seen: the console tells nothing of a swap"


def _trouble(after: Sequence[BootRecord], now: After) -> str:
    """How the new image fared where it was started after the cut, and does not run."""
    if now.which == "new" or len(after) < 2 or not _names(after[0], now.image):
        return ""
    first = after[0]
    if first.fault is not None:
        what = f"faulted: {first.fault.cause}"
    elif first.application_banner is not None:
        what = "reset by itself without a word why"
    else:
        return ""
    back = "; MCUboot took it back" if now.which == "old" else ""
    return f"the new image, version {now.image.version}, was started after the cut and {what}{back}"


def hung(told: Around, image: Image, seconds: float) -> str:
    """The same for one that `seconds` after the cut had not been seen running, and that recovery found in slot 0."""
    last = told.after[-1] if told.after else None
    if last is not None and last.fault is not None:
        what = f"faulted: {last.fault.cause}"
    elif last is not None and last.application_banner is not None:
        what = f"hung: its banner came, and no image list was answered within {seconds:.0f} s"
    else:
        what = f"hung: neither a banner nor an image list came within {seconds:.0f} s"
    return f"the new image, version {image.version}, was in slot 0 after the cut and {what}"


def too_late(share: float, reckoned: float, what: str, *, known: float | None) -> str:
    """The words for a swap that was over before its cut. `what` that was, and what runs; `known`: seconds of a swap."""
    first = "Put the old image back, and"
    how = f"{first} ask for an earlier place"
    if known is not None:
        how = f"What a swap takes here is known now ({known:.2f} s to the banner). {first} interrupt again"
    return (
        f"the swap was to be cut off at {share:.0%} of the {reckoned:.2f} s that it was reckoned to take, and was over"
        f" by then: {what}. {how}"
    )


def _names(boot: BootRecord, image: Image) -> bool:
    """Whether a boot may be the image's: it names its version, or none."""
    number = _NUMBER.search(boot.application_version or "")
    version = image.version
    return number is None or tuple(map(int, number.groups())) == (version.major, version.minor, version.revision)


def reset_unanswered(name: str, silence: Exception) -> UpdateRefused:
    """The error of a reset that was to start the swap, and whose answer was lost: when it began nobody knows."""
    return UpdateRefused(
        f"{name}: the request to reset, which starts the swap, was not answered ({silence}). Nothing was cut off, and"
        " the board may be swapping: let it end, and see by board.images() what runs"
    )
