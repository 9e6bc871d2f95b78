"""What a board tells of its boots: bootloader, swap, application, and how each began, read from console text.

Sources: MCUboot, boot/zephyr/main.c (``Starting bootloader``, ``Image version``, ``Jumping to the first image slot``)
and boot/bootutil/src/bootutil_public.c (``Image index: 0, Swap type: test``), loader.c (``Image in the secondary slot
is not valid!``); Zephyr, kernel/banner.c; nRF Connect SDK, whose banner names the application and is followed by
``*** Using nRF Connect SDK ... ***``. Logs come in Zephyr's default style or the minimal one; other text between them
is of no matter. Bootloaders may be silent: those whose serial recovery owns the only UART are built without a console.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from pytest_nrfdfu.board.console_text import plain
from pytest_nrfdfu.board.fault_dump import FaultDump, faults_in, times
from pytest_nrfdfu.board.line_times import TimedLine

__all__ = ["BEGINNING", "OS_RESET", "BootRecord", "Reset", "boots_in", "in_words"]

OS_RESET = "OS reset"
"""How this host has reset a board that it asked for it."""

_BANNER = re.compile(r"\*\*\* Booting (?P<what>.+?)\s*(?:\*\*\*|$)")
_MCUBOOT = re.compile(r"MCUboot\s+(?P<version>\S+)")
_USING = re.compile(r"\*\*\* Using (?P<what>.+?)\s*(?:\*\*\*|$)")
_STARTING = re.compile(r"(?m:(?:^|I: |mcuboot: |\\x[0-9a-f]{2}: )Starting (?:Direct-XIP )?bootloader\s*$)")
"""MCUboot's first line, of its own log module: an application may well write that it starts a bootloader."""
BEGINNING = re.compile(rf"\*\*\* Booting |{_STARTING.pattern}")
"""Matches where a boot begins, or goes on into the application."""
_SWAP = re.compile(r"(?:Image index: (?P<index>\d+), )?Swap type: (?P<type>\w+)")
_ALGORITHM = re.compile(r"Starting swap using (?P<name>\w+) algorithm")
_IMAGE_VERSION = re.compile(r"Image version: v(?P<version>\d+\.\d+\.\d+)")
_RECOVERY = re.compile(r"Enter the serial recovery mode")
_ERROR = re.compile(r"(?:^|\s)(?:E: |<err> \w+: |\[ERR\] )\s*(?P<text>.*\S)")
_KNOWN_ERROR = re.compile(r"Image in the \w+ slot is not valid!|Unable to find bootable image")
_NUMBER = r"v?(?P<version>\d+\.\d+\.\d+(?:[-+.][\w.+-]*\w)?)"
_NAMED_VERSION = re.compile(rf"^(?!Zephyr OS\b|nRF Connect SDK\b).*?\b{_NUMBER}")
_TOLD_VERSION = re.compile(rf"\bapp(?:lication)?(?:[ _-]?version)?[ :=]+{_NUMBER}", re.IGNORECASE)
_RESET_REASON = re.compile(r"\breset[ _]?(?:reason|cause)s?\b.*|\bRESETREAS\b.*", re.IGNORECASE)


class Reset(NamedTuple):
    """A reset by this host. Times on the clock of the lines."""

    at: float
    how: str
    since: float
    """The earliest time at which it may have happened: what began before came of something else."""


@dataclass(frozen=True, slots=True)
class BootRecord:
    """One boot, as far as the board told of it. Times in seconds, on the clock of the lines that it was read from."""

    began: float
    """When its reset was, if this host did it, else when its first line came."""
    reset: str = ""
    """How this host reset the board for it; empty if it did not, or nothing noted it: perhaps the board itself."""
    bootloader_banner: str | None = None
    bootloader_version: str | None = None
    """MCUboot's own, where its banner names it."""
    swap_types: Mapping[int, str] = field(default_factory=dict)
    """What MCUboot found it had to do, by image: ``none``, ``test``, ``perm``, ``revert``, ``fail``. Empty where it
    does not log. Whether it could is another matter: see `bootloader_errors`."""
    swap_algorithm: str | None = None
    """``move``, ``offset`` or ``scratch``, once it swaps."""
    bootloader_errors: tuple[str, ...] = ()
    """Errors that MCUboot logged, such as ``Image in the secondary slot is not valid!``."""
    recovery: bool = False
    """Whether MCUboot said that it enters serial recovery."""
    application_banner: str | None = None
    application_version: str | None = None
    """Of the image that was started: by MCUboot's log, else by what the application prints about itself."""
    sdk: str | None = None
    """What the application was built with, where a banner says so."""
    banner_after: float | None = None
    """Seconds from the reset by this host to the first byte of the application's banner, as read here. An OS reset
    happens a time after its answer that only the configuration tells ([boot] reset_delay)."""
    reset_reason: str = ""
    """What the application printed about it, unread: ``Reset reason: ...``."""
    fault: FaultDump | None = None
    """What this run of the firmware died of: its first fault that it did not survive."""
    fault_after: float | None = None
    """Seconds from the first byte of the application's banner to that of the fault; None where there was no banner."""

    def __str__(self) -> str:
        parts = [self._bootloader(), *self.bootloader_errors, self._application()]
        if self.reset_reason:
            parts.append(f"it printed {self.reset_reason!r}")
        if self.fault is not None:
            after = f" {self.fault_after:.3f} s after the banner" if self.fault_after is not None else ""
            parts.append(f"fault{after}: {self.fault.cause}")
        return "; ".join(part for part in parts if part)

    def _bootloader(self) -> str:
        name = f"MCUboot {self.bootloader_version}" if self.bootloader_version else self.bootloader_banner or ""
        swaps = [f"image {image}: swap {kind}" for image, kind in self.swap_types.items() if kind != "none"]
        if self.swap_types and not swaps:
            swaps = ["no swap"]
        return ", ".join([*([name] if name else []), *swaps, *(["serial recovery"] if self.recovery else [])])

    def _application(self) -> str:
        if self.application_banner is None:
            return "no application showed a banner"
        version = f" (version {self.application_version})" if self.application_version else ""
        after = f" {self.banner_after:.3f} s after the reset" if self.banner_after is not None else ""
        return f"{self.application_banner!r}{version}{after}"


@dataclass(slots=True)
class _Boot:
    """A boot on its way."""

    began: float
    bootloader_banner: str | None = None
    started: bool = False
    """MCUboot has logged that it starts."""
    swap_types: dict[int, str] = field(default_factory=dict)
    swap_algorithm: str | None = None
    errors: list[str] = field(default_factory=list)
    recovery: bool = False
    banner: TimedLine | None = None
    """The application's."""
    banner_is_last: bool = False
    """Nothing came behind it that is not of a banner."""
    asked: bool = False
    """Whether the banner is the one that was asked for."""
    image_version: str | None = None
    told_version: str | None = None
    sdk: str | None = None
    reset_reason: str = ""
    lines: list[TimedLine] = field(default_factory=list)

    def in_bootloader(self, text: str) -> None:
        """A line before the application's banner."""
        if match := _SWAP.search(text):
            image, kind = int(match["index"] or 0), match["type"]
            # Told several times for each image, and behind a swap, what the next boot would do: the first that is some.
            if self.swap_types.get(image, "none") == "none":
                self.swap_types[image] = kind
        if match := _ALGORITHM.search(text):
            self.swap_algorithm = match["name"]
        if match := _IMAGE_VERSION.search(text):
            self.image_version = match["version"]
        self.recovery |= _RECOVERY.search(text) is not None
        error = _ERROR.search(text)
        if (error and self.started) or _KNOWN_ERROR.search(text):
            said = error["text"] if error else text.strip()
            self.errors += [said] if said not in self.errors else []

    def in_application(self, text: str) -> None:
        """A line behind the application's banner."""
        if self.told_version is None and (match := _TOLD_VERSION.search(text)):
            self.told_version = match["version"]
        if not self.reset_reason and (match := _RESET_REASON.search(text)):
            self.reset_reason = match[0].strip()

    def take_back_banner(self) -> TimedLine | None:
        """The banner turned out to be the bootloader's."""
        banner, self.banner, self.sdk = self.banner, None, None
        if banner in self.lines:
            del self.lines[self.lines.index(banner) :]
        return banner

    def finished(self, reset: Reset | None) -> BootRecord:
        mcuboot = _MCUBOOT.search(self.bootloader_banner or "")
        banner = _stripped(self.banner.text) if self.banner is not None else None
        named = _NAMED_VERSION.search(banner) if banner is not None and not self.asked else None
        after = self.banner.time - reset.at if self.banner is not None and reset is not None else None
        fault = next((fault for fault in faults_in(self.lines) if not fault.survived), None)
        alive = fault.began - self.banner.time if fault is not None and self.banner is not None else None
        return BootRecord(
            began=self.began if reset is None else min(reset.at, self.began),  # it may be noted behind the first line
            reset=reset.how if reset is not None else "",
            bootloader_banner=self.bootloader_banner,
            bootloader_version=mcuboot["version"] if mcuboot else None,
            swap_types=dict(self.swap_types),
            swap_algorithm=self.swap_algorithm,
            bootloader_errors=tuple(self.errors),
            recovery=self.recovery,
            application_banner=banner,
            application_version=self.image_version or (named["version"] if named else self.told_version),
            sdk=self.sdk,
            banner_after=max(0.0, after) if after is not None else None,
            reset_reason=self.reset_reason,
            fault=fault,
            fault_after=max(0.0, alive) if alive is not None else None,
        )


def _stripped(banner: str) -> str:
    """What a banner says: without the stars and the word that they all have."""
    match = _BANNER.search(banner)
    return match["what"] if match else banner.strip()


class _Reader:
    """Takes lines and keeps the boots that they tell of."""

    def __init__(self, banner: re.Pattern[str] | None) -> None:
        self.boots: list[_Boot] = []
        self._asked = banner

    def feed(self, line: TimedLine) -> None:
        """The next line."""
        line = line._replace(text=plain(line.text))
        if match := _BANNER.search(line.text):
            self._banner(line, match["what"])
        elif _STARTING.search(line.text):
            self._starting(line)
        elif using := _USING.search(line.text):
            self._using(using["what"])
        elif self._asked is not None and self._asked.search(line.text):
            self._own_banner(line)
        elif self.boots:
            self._other(line.text)
        if self.boots:
            self.boots[-1].lines.append(line)

    @property
    def _last(self) -> _Boot | None:
        return self.boots[-1] if self.boots else None

    def _banner(self, line: TimedLine, what: str) -> None:
        """A Zephyr banner: the bootloader's if it says so, or if `_starting` finds out."""
        boot = self._last
        if _MCUBOOT.search(what):
            self.boots.append(_Boot(line.time, bootloader_banner=what))
            return
        if boot is None or boot.banner is not None:
            boot = _Boot(line.time)
            self.boots.append(boot)
        boot.banner, boot.banner_is_last, boot.asked = line, True, False

    def _starting(self, line: TimedLine) -> None:
        """MCUboot's log begins; a banner right before it was the bootloader's. Older ones do not name themselves."""
        boot = self._last
        if boot is not None and boot.banner is not None and boot.banner_is_last:
            banner = boot.take_back_banner()
            if boot.started or boot.bootloader_banner is not None:
                boot = _Boot(banner.time if banner is not None else line.time)
                self.boots.append(boot)
            boot.bootloader_banner = _stripped(banner.text) if banner is not None else None
        elif boot is None or boot.banner is not None or boot.started:
            boot = _Boot(line.time)
            self.boots.append(boot)
        boot.started = True

    def _using(self, what: str) -> None:
        boot = self._last
        if boot is not None and boot.banner is not None and not what.startswith("Zephyr OS"):
            boot.sdk = what

    def _own_banner(self, line: TimedLine) -> None:
        """What the configuration calls the banner, and is not in Zephyr's form."""
        boot = self._last
        if boot is None or (boot.banner is not None and boot.asked):
            boot = _Boot(line.time)
            self.boots.append(boot)
        boot.banner, boot.banner_is_last, boot.asked = line, False, True

    def _other(self, text: str) -> None:
        boot = self.boots[-1]
        if not text.strip():
            return
        boot.banner_is_last = False
        if boot.banner is None:
            boot.in_bootloader(text)
        else:
            boot.in_application(text)


def boots_in(
    lines: Iterable[TimedLine], resets: Sequence[Reset] = (), banner: re.Pattern[str] | None = None
) -> list[BootRecord]:
    """Every boot that the lines tell of, in order; `resets` in order too.

    `banner` matches the line by which the application is known, where that is not Zephyr's boot banner. A boot that
    prints nothing of its own is not seen.
    """
    reader = _Reader(banner)
    for line in lines:
        reader.feed(line)
    mine = _assigned(reader.boots, resets)
    return [boot.finished(mine.get(index)) for index, boot in enumerate(reader.boots)]


def _assigned(boots: Sequence[_Boot], resets: Sequence[Reset]) -> dict[int, Reset]:
    """Which reset each boot came of, by its index: the first boot after a reset that is before the next reset."""
    mine: dict[int, Reset] = {}
    for number, reset in enumerate(resets):
        end = _not_before(resets[number + 1]) if number + 1 < len(resets) else math.inf
        after = (index for index, boot in enumerate(boots) if index not in mine and reset.since <= boot.began < end)
        index = next(after, None)
        if index is not None:
            mine[index] = reset
    return mine


def _not_before(following: Reset) -> float:
    """When the boots that came of the reset before it have ended.

    An OS reset was answered by a program that was up already, and when it happens only the configuration tells. Any
    other is told of when it is done, and the boot before may have begun while it was asked for.
    """
    return following.since if following.how == OS_RESET else following.at


def in_words(boots: Sequence[BootRecord]) -> str:
    """Boots for people, one line each; those that say the same as the one before in one line."""
    lines: list[str] = []
    for (reset, _), group in groupby(boots, key=lambda boot: (boot.reset, _timeless(boot))):
        first, *more = group
        lines.append(f"{first.began:9.3f} s {f'{reset}: ' if reset else 'no reset by this host noted: '}{first}")
        if more:
            lines.append(f"{'':11} the same {times(len(more))} more, the last at {more[-1].began:.3f} s")
    return "\n".join(lines)


def _timeless(boot: BootRecord) -> str:
    """What a boot tells, but for when."""
    return str(replace(boot, banner_after=None, fault_after=None))
