"""What it is to cut an update off: the place that is asked for, and what is told of it afterwards."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_nrfdfu.board.application_rules import Which
from pytest_nrfdfu.board.report import Timeline
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.update_parts import Attempt
from pytest_nrfdfu.errors import UpdateRefused
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.image.format import Version
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["Interrupted", "Place", "attempt_of", "parse_place"]

_PLACE = re.compile(r"(upload|swap):(\d{1,3}(?:\.\d+)?)%")


class Place(NamedTuple):
    """Where an update is cut off: a phase, and a share of it from 0 to 1."""

    phase: Literal["upload", "swap"]
    share: float


def parse_place(text: str) -> Place:
    """``upload:50%`` or ``swap:30%``; ValueError otherwise."""
    found = _PLACE.fullmatch(text)
    if found is None or float(found[2]) > 100:
        raise ValueError(f"at={text!r} is no place in an update; write 'upload:50%' or 'swap:30%'")
    return Place("upload" if found[1] == "upload" else "swap", float(found[2]) / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """An update that was cut off, and what runs after the next boot."""

    unit: str
    build: str
    at: str
    """As asked for: ``upload:50%``."""
    by: str
    """``reset`` or ``power``."""
    via: str
    cut: float
    """Share at which it was begun to cut: of the upload's bytes, or of the time that the swap should take."""
    runs: Which
    """``old`` or ``new``; ``none``: no valid image is in slot 0, and the board is in serial recovery; ``another``."""
    version: str
    hash: bytes | None
    proof: str
    """Whose image list shows that: the application's, or recovery's."""
    seconds: float
    """From the cut until that was known."""
    confirmed: bool | None = None
    """Whether that image is confirmed, by the application's list; False: it is on trial, and goes at the next reset."""
    within: bool | None = None
    """Whether the cut lay within what was to be cut. Of a swap: True and False by MCUboot's log, False where the swap
    began only after the cut; None where nothing shows that it had begun. A swap that was over is an error."""
    seen: str = ""
    """How that was seen, in words; ``not seen: ...`` where nothing shows that the swap was not over."""
    trouble: str = ""
    """How the new image fared where it was started after the cut and does not run: it faulted, or hung."""
    swap: str = ""
    simulated: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a report should say besides which image runs."""
        where = () if self.at.startswith("upload") else (f"the cut and the swap: {self.seen}",)
        return (*where, self.trouble) if self.trouble else where


def attempt_of(build: Build, unit: Unit, via: str) -> Attempt:
    """The attempt that is to be cut off; ValueError for another way than recovery or application."""
    if via not in {"recovery", "application"}:
        raise ValueError(f"via={via!r} is not known; known: 'recovery', 'application'")
    if APP not in build.images:
        raise UpdateRefused(f"{build} has no application image, and nothing shows which other image runs")
    return Attempt(build, unit, Timeline(time.monotonic()), via=via)


def version_of(state: ImageState) -> Version | None:
    """As listed; old bootloaders write a build number of 0 out."""
    with suppress(ValueError):
        return Version.parse(state.version)
    return None
