"""What an update returns: which image, how it was proved, how long each part took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

__all__ = ["DfuReport", "Phase", "Timeline"]


class Phase(NamedTuple):
    """A named part of an update; seconds since the update began."""

    name: str
    start: float
    end: float


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
    """How it was seen running after boot: ``image list``, ``console``, or why not."""
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
    retries: int = 0
    resyncs: int = 0
    entry: str = ""
    timeline: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = ()
    """What was out of the ordinary: an upload taken up, or begun again."""
    simulated: bool = False
    reports: tuple[DfuReport, ...] = field(default=(), repr=False)
    """With several images, one report each."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON types; bytes as hex."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["hash"] = self.hash.hex() if self.hash is not None else None
        values["timeline"] = [phase._asdict() for phase in self.timeline]
        values["notes"] = list(self.notes)
        values["reports"] = [report.to_json() for report in self.reports]
        return values


class Timeline:
    """Collects phases on the caller's clock."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str, clock: Any) -> Iterator[None]:
        """Time what happens inside as phase `name`; `clock` gives seconds."""
        began = clock()
        try:
            yield
        finally:
            self.phases.append(Phase(name, began - self._start, clock() - self._start))
