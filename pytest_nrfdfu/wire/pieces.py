"""What the readers find before it is known which way it went, and the deciding of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.wire.capture import Capture, Chunk, Direction
from pytest_nrfdfu.wire.frames import Frame, Item, Message, read

__all__ = ["Piece", "assemble"]

_NAMES: dict[str, Direction] = {"tx": "tx", "rx": "rx"}


class Piece(NamedTuple):
    """Bytes that came together. `label`: what the file calls their line or channel, empty where it calls it nothing."""

    time: float | None
    label: str
    data: bytes


def assemble(pieces: Sequence[Piece], source: str, direction: Direction | None = None) -> Capture:
    """The capture of `pieces`, in the order of their times where all have one; times are made relative to the first.

    `direction` is that of all bytes, where they have one label or none. Otherwise what the messages say decides:
    requests are sent by the host, whatever the file calls the line they were seen on. Then the label, if it has ``tx``
    or ``rx`` in its name. The bytes of a capture without labels are told apart frame by frame, and what is not SMP
    came from the board, if anything did.
    """
    if all(piece.time is not None for piece in pieces):
        pieces = sorted(pieces, key=lambda piece: piece.time or 0.0)
    labels = list(dict.fromkeys(piece.label for piece in pieces))
    if len(labels) > 1:
        chunks = _by_label(pieces, labels)
    elif direction is not None:
        chunks = [Chunk(piece.time, direction, piece.data) for piece in pieces]
    else:
        chunks = _by_frame(pieces, _named(labels[0]) if labels else None)
    times = [chunk.time for chunk in chunks if chunk.time is not None]
    first = min(times, default=0.0)
    return Capture(tuple(c if c.time is None else c._replace(time=c.time - first) for c in chunks), source)


def _by_label(pieces: Sequence[Piece], labels: Sequence[str]) -> list[Chunk]:
    known: dict[str, Direction] = {}
    for label in labels:
        said = _said([piece for piece in pieces if piece.label == label])
        told = said or _named(label)
        if told is not None:
            known[label] = told
    if len(labels) == 2 and len(known) == 1:
        ((label, told),) = known.items()
        known[next(other for other in labels if other != label)] = "rx" if told == "tx" else "tx"
    return [Chunk(piece.time, known.get(piece.label, "tx"), piece.data) for piece in pieces]


def _named(label: str) -> Direction | None:
    low = label.lower()
    found = [direction for name, direction in _NAMES.items() if name in low]
    return found[0] if len(found) == 1 else None


def _said(pieces: Iterable[Piece]) -> Direction | None:
    """What most messages of one line say; None if there are none, or as many of both."""
    items = read(Capture(tuple(Chunk(piece.time, "tx", piece.data) for piece in pieces)))
    said = [_op_direction(item) for item in items]
    sent, received = said.count("tx"), said.count("rx")
    return None if sent == received else "tx" if sent > received else "rx"


def _op_direction(item: Item) -> Direction | None:
    match item:
        case Message():
            return "tx" if item.is_request else "rx"
        case Frame() if len(item.presumed) >= HEADER_SIZE:
            return "tx" if Header.unpack(item.presumed).op % 2 == 0 else "rx"
        case _:
            return None


def _by_frame(pieces: Sequence[Piece], named: Direction | None) -> list[Chunk]:
    """Line by line, as each frame says; bytes that are not SMP are the board's, if any frame is."""
    items = read(Capture(tuple(Chunk(piece.time, "tx", piece.data) for piece in pieces)))
    said = {told for item in items if (told := _op_direction(item)) is not None}
    if len(said) < 2:
        only: Direction = next(iter(said), named or "tx")
        return [Chunk(piece.time, only, piece.data) for piece in pieces]
    found: list[tuple[int, Chunk]] = []
    for item in items:
        if isinstance(item, Frame | Message):
            frame = item.frame if isinstance(item, Message) else item
            told = _op_direction(item) or "tx"
            found += ((line.start, Chunk(line.time, told, line.raw)) for line in frame.lines)
        else:
            found.append((item.start, Chunk(item.time, "rx", item.data)))
    return [chunk for _, chunk in sorted(found, key=lambda pair: pair[0])]
