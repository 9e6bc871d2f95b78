"""What the console has told since a board was reset: is its application up, did it fault, does it boot again and again.

Nothing here waits or sends. The words are for the message of a board that did not boot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_nrfdfu.board.boot_record import BootRecord, boots_in
from pytest_nrfdfu.board.fault_dump import FaultDump, faults_in, quoted
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.image.format import Version
from pytest_nrfdfu.image.mcuboot import Image

__all__ = ["Story", "dump", "story", "told"]

_LOOP = 4
"""Boots after one reset that make a loop. Two may be meant: an application that writes UICR resets once by itself, and
MCUboot's revert takes two and a fault's reset."""
_NUMBER = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Story:
    """Boots and faults since one reset by this host."""

    boots: tuple[BootRecord, ...]
    """Those after the host's last reset."""
    faults: tuple[FaultDump, ...]
    """Those that the firmware did not survive."""

    @property
    def runs(self) -> bool:
        """Whether the last boot has shown the application's banner, and no fault since."""
        last = next(reversed(self.boots), None)
        return last is not None and last.application_banner is not None and last.fault is None

    @property
    def halted(self) -> bool:
        """Whether it has said that it halts, and nothing has started it since."""
        last = next(reversed(self.faults), None)
        if last is None or last.ending != "halted":
            return False
        return not self.boots or self.boots[-1].fault == last

    @property
    def loops(self) -> bool:
        """Whether it boots again and again, though nobody resets it."""
        return len(self.boots) >= _LOOP

    def went_back(self, wanted: Version | None) -> bool | None:
        """Whether the last boot started another image than `wanted`, which MCUboot took back; None: cannot be told."""
        last = next(reversed(self.boots), None)
        if last is None:
            return None
        if "revert" in last.swap_types.values():
            return True
        number = _NUMBER.search(last.application_version or "")
        if wanted is None or number is None or len(self.boots) < 2:
            return None
        return tuple(map(int, number.groups())) != (wanted.major, wanted.minor, wanted.revision)

    def told(self, image: Image | None = None, *, back: bool = True) -> str:
        """What was out of the ordinary, in a line; empty if nothing was.

        `image`: what was to run. `back`: whether to say as well if the image from before came back.
        """
        parts = []
        if self.faults:
            often = f" {len(self.faults)} times, first" if len(self.faults) > 1 else ""
            parts.append(f"it faulted{often}{self._alive()}: {self.faults[0].cause}")
        if len(self.boots) > 1:
            why = "" if self.faults else " without a word why"
            loop = ", a boot loop" if self.loops else ""
            parts.append(f"it booted {len(self.boots)} times{why}, reset once by this host{loop}")
        errors = dict.fromkeys(error for boot in self.boots for error in boot.bootloader_errors)
        if errors:
            parts.append(f"MCUboot logged {'; '.join(map(repr, errors))}")
        came_back = self._back(image) if back else ""
        return "; ".join([*parts, *([came_back] if came_back else [])])

    def _alive(self) -> str:
        """How long the application had run when it faulted first."""
        after = next((boot.fault_after for boot in self.boots if boot.fault == self.faults[0]), None)
        return f" {after:.2f} s after its banner" if after is not None else ""

    def _back(self, image: Image | None) -> str:
        """Whether the old image came back, where there is a reason to ask."""
        if len(self.boots) < 2:
            return ""
        last = self.boots[-1]
        match self.went_back(image.version if image is not None else None):
            case True if self.runs:
                version = f" (version {last.application_version})" if last.application_version else ""
                return f"MCUboot reverted: the image that was there before runs again{version}"
            case True:
                return "MCUboot reverted to the image that was there before, which was not seen running"
            case False:
                return f"the same version booted each time: {last.application_version}"
            case None:
                return (
                    "" if self.runs is False else "whether the image from before came back, the console does not tell"
                )


def story(unit: Unit, position: int) -> Story:
    """What the console has told from `position` on."""
    console = unit.console_uart.console
    lines = console.timed_lines(position)
    resets = console.resets()
    boots = boots_in(lines, resets, re.compile(unit.config.console.banner))
    # A reset request that is not answered is sent again: each may have led to a boot, and none of those is a loop's.
    since = resets[-1].since if resets else 0.0
    faults = tuple(fault for fault in faults_in(lines) if not fault.survived)
    return Story(tuple(boot for boot in boots if boot.reset or boot.began >= since), faults)


def told(unit: Unit, position: int, image: Image | None = None) -> str:
    """What was out of the ordinary since a console position, in a line: faults, boots that nobody asked for, a revert.

    Empty if nothing was.
    """
    return story(unit, position).told(image)


def dump(unit: Unit, position: int) -> str:
    """The first fault dump since a console position as it was printed, its cause above it; empty if there was none."""
    return first_dump(story(unit, position).faults)


def first_dump(faults: Sequence[FaultDump]) -> str:
    """The first of several dumps, for a message's end."""
    return quoted(faults[:1])
