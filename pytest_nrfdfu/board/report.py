"""What an update returns: which image, how it was proved, how long each part took, how its upload went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

__all__ = ["Course", "DfuReport", "Phase", "Stall", "Timeline"]

_POINTS = 240
"""Points that a course keeps: more than a picture of it can show."""
_REPEATS = 200
_STALLS = 100
_LONG = 2.0
"""An answer is long if it takes this many times what most of the upload's answers take ..."""
_LONGER = 0.04
"""... and this many seconds more: half of what the nRF5340 needs to erase a page (87.5 ms, product specification,
t_ERASEPAGE), so that erased pages show, and the jitter of a fast link does not."""


class Phase(NamedTuple):
    """A named part of an update; seconds since the update began."""

    name: str
    start: float
    end: float


class Stall(NamedTuple):
    """A long answer: the board acknowledged nothing from `start` to `end`, seconds since the upload's first request.

    The host sees the silence alone: flash that is erased or written, a lost packet, a busy host look the same.
    """

    start: float
    end: float


class Course(NamedTuple):
    """How an upload went over time, bounded in size; seconds since its first request."""

    points: tuple[tuple[float, int], ...] = ()
    """Acknowledged bytes; they go down where the board asked for an earlier offset."""
    repeats: tuple[float, ...] = ()
    """When a chunk was sent again because no answer came."""
    stalls: tuple[Stall, ...] = ()
    """The longest of the long answers."""

    @classmethod
    def of(cls, progress: Sequence[tuple[float, int]], repeated: Iterable[float] = ()) -> Course:
        """From (seconds on some clock, acknowledged bytes), the first at the first request, and times of repeats."""
        if not progress:
            return cls()
        start = progress[0][0]
        points = [(round(when - start, 3), count) for when, count in progress]
        repeats = [round(when - start, 3) for when in repeated]
        every = -(-len(repeats) // _REPEATS) or 1
        return cls(tuple(_thinned(points)), tuple(repeats[::every]), tuple(_stalls(points)))

    def to_json(self) -> dict[str, Any]:
        """The same as JSON types: lists of numbers."""
        return {
            "points": [list(point) for point in self.points],
            "repeats": list(self.repeats),
            "stalls": [list(stall) for stall in self.stalls],
        }


def _thinned(points: Sequence[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """At most `_POINTS` of them: the first and the last of every stretch of time, so that pauses stay."""
    if len(points) <= _POINTS:
        yield from points
        return
    stretches = _POINTS // 2
    length = max(points[-1][0] - points[0][0], 1e-6) / stretches
    numbers = [min(int((when - points[0][0]) / length), stretches - 1) for when, _ in points]
    for index, point in enumerate(points):
        first = index == 0 or numbers[index - 1] != numbers[index]
        last = index + 1 == len(points) or numbers[index + 1] != numbers[index]
        if first or last:
            yield point


def _stalls(points: Sequence[tuple[float, int]]) -> list[Stall]:
    """Gaps that are long beside most of the upload's, oldest first."""
    gaps = [Stall(before[0], after[0]) for before, after in pairwise(points)]
    if not gaps:
        return []
    usual = median(gap.end - gap.start for gap in gaps)
    limit = max(_LONG * usual, usual + _LONGER)
    found = [gap for gap in gaps if gap.end - gap.start > limit]
    return sorted(sorted(found, key=lambda gap: gap.start - gap.end)[:_STALLS])


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuReport:
    """The report of one image's update. Sizes in bytes, times in seconds, `rate` in bytes/s."""

    unit: str
    build: str
    image: str
    """Which of the build's images."""
    verified: bool
    proof: str
    """``image list``, or why it could not be proved."""
    hash: bytes | None
    """As read from the board; None unless verified."""
    running: str
    """How it was seen running after boot: ``image list``, ``console`` (its banner), what was told there besides
    (``console: MCUboot started version 2.1.0``), or why not. Of an update that was cut off: which image runs."""
    version: str
    bytes: int
    """Bytes uploaded; 0 if the board had the image already."""
    seconds: float
    """First request of the upload to its last response."""
    rate: float
    chunk: int
    """The largest chunk."""
    window: int = 1
    """Chunks in flight at most."""
    window_outcome: str = ""
    """What became of the window, in a few words; empty if nothing was uploaded."""
    retries: int = 0
    resyncs: int = 0
    trial_losses: int = 0
    """Of retries and resyncs, those that ended the trial of a window: the link need not be to blame."""
    entry: str = ""
    """How serial recovery was entered; empty where it was not."""
    via: str = "recovery"
    """``recovery``, ``application`` (its SMP server) or ``staged`` (by a transport of the application's own)."""
    swap: str = ""
    """How MCUboot put it into slot 0: ``move``, ``offset``, ``scratch`` or ``overwrite``; empty via recovery."""
    confirmed: bool | None = None
    """Whether the image was seen confirmed after its boot; None where that was not seen, or does not exist."""
    swapped: bool | None = None
    """Whether it was shown that this update put it into slot 0 by a swap, and that another image was there before;
    False: it ran already; None: nothing shows it, or via recovery, which writes slot 0 itself. Of when it came into
    slot 1 it tells nothing."""
    cut: str = ""
    """Where and how it was cut off on purpose (``swap:30% by power``); empty if it was not."""
    timeline: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = ()
    """What was out of the ordinary: an upload taken up, or begun again."""
    simulated: bool = False
    course: Course = field(default=Course(), repr=False)
    """How the upload went over time."""
    reports: tuple[DfuReport, ...] = field(default=(), repr=False)
    """With several images, one report each."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON types; bytes as hex."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["hash"] = self.hash.hex() if self.hash is not None else None
        values["timeline"] = [phase._asdict() for phase in self.timeline]
        values["notes"] = list(self.notes)
        values["course"] = self.course.to_json()
        values["reports"] = [report.to_json() for report in self.reports]
        return values


class Timeline:
    """Collects phases on the caller's clock."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.phases: list[Phase] = []
        self.broken = ""
        """The phase that an error ended; empty if none did."""

    @contextmanager
    def phase(self, name: str, clock: Any) -> Iterator[None]:
        """Time what happens inside as phase `name`; `clock` gives seconds."""
        began = clock()
        try:
            yield
        except BaseException:
            self.broken = name
            raise
        finally:
            self.phases.append(Phase(name, began - self._start, clock() - self._start))
