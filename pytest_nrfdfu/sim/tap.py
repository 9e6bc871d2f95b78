"""What passed between host and firmware: counted, told apart, the last of it kept.

The tap sits where the firmware takes bytes from its UART, so lost and damaged bytes are seen as the firmware sees them,
and behind the UART for what it sends, so nothing is recorded that never left the board.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from typing import Literal, NamedTuple

from pytest_nrfdfu.smp.console import Decoder, Event, Packet, Text
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op

__all__ = ["Direction", "Record", "Tap", "TapCounters"]

Direction = Literal["to board", "from board"]

_KEPT = 512
"""Records. An upload request with 1 KiB takes most of its record, so this is about half a megabyte."""


class Record(NamedTuple):
    """One packet, one line of text, or something that was neither. `time` is the machine's, in seconds."""

    time: float
    direction: Direction
    kind: str
    """``packet``, ``text``, or the name of a `console.FaultKind` in lower case."""
    data: bytes


@dataclass(slots=True)
class TapCounters:
    """Whole things that passed, since the counters were last cleared."""

    requests: int = 0
    """SMP packets that the firmware received whole."""
    uploads: int = 0
    """Those of them that are image upload requests."""
    responses: int = 0
    """SMP packets that left the board."""
    damaged: int = 0
    """Frames to the board that could not be read: wrong CRC, a lost line, ..."""


def _is_upload(packet: bytes, op: Op) -> bool:
    if len(packet) < HEADER_SIZE:
        return False
    header = Header.unpack(packet)
    return (header.op, header.group, header.command) == (op, Group.IMAGE, ImageCommand.UPLOAD)


def _kind(event: Event) -> str:
    match event:
        case Packet():
            return "packet"
        case Text():
            return "text"
        case _:
            return event.kind.name.lower()


class Tap:
    """Listens on both directions of one board's UART."""

    def __init__(self, keep: int = _KEPT) -> None:
        self.counters = TapCounters()
        self.first_upload: Record | None = None
        """The first upload request."""
        self.last_upload: float | None = None
        """When the last response to an upload request left the board, in seconds."""
        self._records: deque[Record] = deque(maxlen=keep)
        self._decoders: dict[Direction, Decoder] = {"to board": Decoder(), "from board": Decoder()}

    def to_board(self, data: bytes, now: float) -> int:
        """The firmware took `data`; returns how many upload requests that completed."""
        uploads = 0
        for event in self._record("to board", data, now):
            if isinstance(event, Packet):
                self.counters.requests += 1
                if _is_upload(event.data, Op.WRITE):
                    uploads += 1
                    self.first_upload = self.first_upload or Record(now, "to board", "packet", event.data)
            elif not isinstance(event, Text):
                self.counters.damaged += 1
        self.counters.uploads += uploads
        return uploads

    def from_board(self, data: bytes, now: float) -> None:
        """`data` left the board."""
        for event in self._record("from board", data, now):
            if isinstance(event, Packet):
                self.counters.responses += 1
                if _is_upload(event.data, Op.WRITE_RESPONSE):
                    self.last_upload = now

    def records(self, last: int | None = None) -> list[Record]:
        """The last records, oldest first; all that were kept without `last`."""
        skipped = 0 if last is None else max(0, len(self._records) - max(0, last))
        return list(islice(self._records, skipped, None))

    def clear(self) -> None:
        """Forget the records and set the counters to 0."""
        self._records.clear()
        self.first_upload = self.last_upload = None
        for item in fields(self.counters):
            setattr(self.counters, item.name, 0)

    def _record(self, direction: Direction, data: bytes, now: float) -> Iterator[Event]:
        for event in self._decoders[direction].feed(data):
            self._records.append(Record(now, direction, _kind(event), event.data))
            yield event
