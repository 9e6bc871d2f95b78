"""A capture: what passed on a UART, with times and directions. What every reader makes and every tool takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Capture", "Chunk", "Direction"]

Direction = Literal["tx", "rx"]
"""``tx``: from the host to the board; ``rx``: from the board to the host."""


class Chunk(NamedTuple):
    """Bytes that came together. `time`: seconds from the begin of the capture, of the last byte; None where unknown."""

    time: float | None
    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """Chunks in the order of their time. `source` says where it is from, in words."""

    chunks: tuple[Chunk, ...]
    source: str = ""

    @classmethod
    def of(cls, traffic: Iterable[tuple[float, Direction, bytes]], source: str = "") -> Capture:
        """From (seconds on any clock, direction, bytes) records, such as `Uart.traffic`; the first one is time 0."""
        records = list(traffic)
        first = records[0][0] if records else 0.0
        return cls(tuple(Chunk(when - first, direction, bytes(data)) for when, direction, data in records), source)

    def bytes_of(self, direction: Direction) -> bytes:
        """All bytes of one direction."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.direction == direction)

    @property
    def timed(self) -> bool:
        """Whether all chunks have a time."""
        return all(chunk.time is not None for chunk in self.chunks)

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)
