"""Faults of a simulated board, switched on purpose: damaged bytes, a hang, a reset in the middle of an upload.

Which bytes are hit depends on the seed and on their place in the stream alone, not on how the stream is cut in calls:
the same traffic with the same seed is damaged in the same way, in virtual and in real time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pytest_nrfdfu.sim.chip import ResetCause
from pytest_nrfdfu.sim.upload_faults import UploadFaults

__all__ = ["ByteFaults", "Faults", "Trip"]


class _Hits:
    """Which places of a stream are hit, at a rate per byte."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._rate = 0.0
        self._gap: int | None = None

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"a rate per byte is from 0 to 1, not {value}")
        self._rate = value
        self._gap = self._draw()

    def of(self, count: int) -> list[int]:
        """The places that are hit among the next `count` bytes."""
        if self._gap is None:
            return []
        hits = []
        place = self._gap
        while place < count:
            hits.append(place)
            place += 1 + (self._draw() or 0)
        self._gap = place - count
        return hits

    def _draw(self) -> int | None:
        """Bytes that pass before the next hit: geometrically distributed."""
        if self._rate == 0.0:
            return None
        if self._rate == 1.0:
            return 0
        return int(math.log(1.0 - self._rng.random()) / math.log1p(-self._rate))


class ByteFaults:
    """Damage to the bytes of one direction."""

    def __init__(self, seed: str) -> None:
        self._drop = _Hits(random.Random(f"{seed} drop"))  # noqa: S311 - repeatable on purpose
        self._flip = _Hits(random.Random(f"{seed} flip"))  # noqa: S311
        self._bits = random.Random(f"{seed} bit")  # noqa: S311
        self._lines = _Hits(random.Random(f"{seed} line"))  # noqa: S311
        self._line_begins = True
        self._line_is_lost = False
        self.dropped = 0
        """Bytes that were lost."""
        self.flipped = 0
        """Bytes of which one bit was turned."""
        self.lines_lost = 0
        """Lines that were lost as a whole."""

    @property
    def line_loss(self) -> float:
        """Share of lines that are lost as a whole, 0 to 1."""
        return self._lines.rate

    @line_loss.setter
    def line_loss(self, value: float) -> None:
        self._lines.rate = value

    @property
    def drop_rate(self) -> float:
        """Share of bytes that are lost, 0 to 1."""
        return self._drop.rate

    @drop_rate.setter
    def drop_rate(self, value: float) -> None:
        self._drop.rate = value

    @property
    def flip_rate(self) -> float:
        """Share of bytes of which one bit is turned, 0 to 1."""
        return self._flip.rate

    @flip_rate.setter
    def flip_rate(self, value: float) -> None:
        self._flip.rate = value

    def split(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """`data` as it comes out: pieces, each with the number of bytes that are lost behind it."""
        if not self._lines.rate:
            yield from self._split_bytes(data)
            return
        for piece in _lines_of(data):
            if self._line_begins:
                self._line_is_lost = bool(self._lines.of(1))
                self.lines_lost += self._line_is_lost
            self._line_begins = piece.endswith(b"\n")
            if self._line_is_lost:
                yield b"", len(piece)
            else:
                yield from self._split_bytes(piece)

    def _split_bytes(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        flips = self._flip.of(len(data))
        if flips:
            damaged = bytearray(data)
            for place in flips:
                damaged[place] ^= 1 << self._bits.randrange(8)
            self.flipped += len(flips)
            data = bytes(damaged)
        start = 0
        for place in self._drop.of(len(data)):
            self.dropped += 1
            yield data[start:place], 1
            start = place + 1
        yield data[start:], 0


def _lines_of(data: bytes) -> Iterator[bytes]:
    """`data` cut behind every newline."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


@dataclass(slots=True)
class Trip:
    """Something that happens once, when the board has received enough."""

    action: Literal["reset", "hang"]
    uploads: int | None = None
    """Whole upload requests that the firmware still has to receive before it happens."""
    received: int | None = None
    """The same in bytes."""
    delay: float = 0.0
    """Seconds from then: a reset in the middle of an erase wants some."""
    cause: str = "POWER_ON"
    """Reset cause, a name of `chip.ResetCause`. POWER_ON: a brown-out."""

    def count(self, uploads: int, received: int) -> bool:
        """Take what was received; True when that is enough."""
        if self.uploads is not None:
            self.uploads -= uploads
        if self.received is not None:
            self.received -= received
        left = [n for n in (self.uploads, self.received) if n is not None]
        return bool(left) and min(left) <= 0


_TRIP_FIELDS = tuple(f.name for f in fields(Trip))
_RATES = {
    "drop_rate": ("to_board", "from_board"),
    "flip_rate": ("to_board", "from_board"),
    "line_loss": ("to_board", "from_board"),
}


class Faults:
    """The fault switches of one board; all off at first."""

    def __init__(self, seed: int = 0) -> None:
        self.to_board = ByteFaults(f"{seed} to board")
        self.from_board = ByteFaults(f"{seed} from board")
        self.trip: Trip | None = None
        self.uploads = UploadFaults()

    @property
    def rates(self) -> dict[str, float]:
        """The rates per direction, by the names that `set_rate` takes."""
        return {
            f"{direction}_{kind}": getattr(getattr(self, direction), kind)
            for kind, directions in _RATES.items()
            for direction in directions
        }

    def set_rate(self, name: str, value: float) -> None:
        """Set `drop_rate`, `flip_rate` or `line_loss`: of both directions, or with ``to_board_`` or ``from_board_``."""
        targets = {f"{d}_{kind}": (d,) for kind, directions in _RATES.items() for d in directions} | _RATES
        if name not in targets:
            raise ValueError(f"there is no fault rate {name!r}; there are {', '.join(targets)}")
        kind = name.removeprefix("to_board_").removeprefix("from_board_")
        for direction in targets[name]:
            setattr(getattr(self, direction), kind, value)

    def set_trip(self, settings: Mapping[str, Any] | None) -> None:
        """Arm a trip from its fields, or disarm it with None. ValueError says what is wrong."""
        if settings is None:
            self.trip = None
            return
        unknown = sorted(set(settings) - set(_TRIP_FIELDS))
        if unknown:
            raise ValueError(f"a trip has no {', '.join(unknown)}; it has {', '.join(_TRIP_FIELDS)}")
        self.trip = _checked(Trip(**settings))


def _checked(trip: Trip) -> Trip:
    if trip.action not in {"reset", "hang"}:
        raise ValueError(f"a trip's action is reset or hang, not {trip.action!r}")
    if trip.cause not in ResetCause.__members__:
        raise ValueError(f"there is no reset cause {trip.cause!r}; there are {', '.join(ResetCause.__members__)}")
    counts = [count for count in (trip.uploads, trip.received) if count is not None]
    if not counts or not all(isinstance(count, int) for count in counts):
        raise ValueError("a trip needs uploads or received, or both; they are whole numbers")
    if not isinstance(trip.delay, int | float) or trip.delay < 0:
        raise ValueError(f"a trip's delay is a number of seconds, not {trip.delay!r}")
    return trip
