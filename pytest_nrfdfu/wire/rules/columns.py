"""A frame before base64 in columns: length, header, payload and CRC, of what was sent and of what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.frames import Message, Text, read
from pytest_nrfdfu.wire.rules.length import plausible, unwrap

__all__ = ["columns", "decoded"]

_TITLES = ("length", "header", "payload", "CRC")
_PAYLOAD = 2
_SIZE = 2
"""Bytes of the length field, and of the CRC."""
_WHOLE = 16
"""A payload of so many bytes is shown whole."""
_BEGIN, _END, _NEAR = 6, 2, 1
"""Bytes of a longer one that are shown at its begin, at its end, and beside a marked one."""
_MARKED = 10
"""So many marked bytes in a row are shown whole; of more, the first and last three."""
_SOME = 3
_SINGLE = 4
"""So many changed bytes are taken for changes of their own; of more, some were inserted or left out."""
_GAP = "..."


class _Row(NamedTuple):
    """A frame's four parts, and the marked bytes in each."""

    label: str
    parts: tuple[bytes, ...]
    marks: tuple[frozenset[int], ...]


def decoded(wire: bytes) -> bytes:
    """Length, packet and CRC that the lines `wire` carry; empty where they are none."""
    items = read(Capture((Chunk(None, "tx", wire),)))
    item = items[0] if items else None
    if item is None or isinstance(item, Text):
        return b""
    return (item.frame if isinstance(item, Message) else item).body


def columns(sent: bytes, marks: Sequence[tuple[int, int]], should: bytes) -> Iterator[tuple[str, bool]]:
    """Lines of the table, and whether each is one of carets.

    `should` may be empty: then `marks`, places in `sent`, stand below the bytes. Otherwise what differs is marked, and
    where nothing does, there is no table.
    """
    if len(sent) < FRAME_OVERHEAD + HEADER_SIZE or sent == should:
        return
    ours = _parts(sent)
    if should:
        theirs = _parts(should)
        differing = [_differing(*pair, inserted=index == _PAYLOAD) for index, pair in enumerate(_zipped(ours, theirs))]
        rows = [
            _Row("sent", ours, tuple(a for a, _ in differing)),
            _Row("right", theirs, tuple(b for _, b in differing)),
        ]
    else:
        rows = [_Row("sent", ours, _placed(ours, marks))]
    yield from _table(rows)


def _zipped(ours: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return list(zip(ours, theirs, strict=True))


def _parts(body: bytes) -> tuple[bytes, ...]:
    """Length, header, payload and CRC; empty is what the header shows to be missing, in a frame that is not right."""
    rest = body[_SIZE:]
    header, bare = plausible(rest), plausible(body)
    if header is None and bare is not None:
        end = HEADER_SIZE + bare.length
        return b"", body[:HEADER_SIZE], body[HEADER_SIZE:end], body[end:]
    if header is not None and HEADER_SIZE + header.length >= len(rest) and unwrap(body) is None:
        return body[:_SIZE], rest[:HEADER_SIZE], rest[HEADER_SIZE:], b""
    return body[:_SIZE], rest[:HEADER_SIZE], rest[HEADER_SIZE:-_SIZE], body[-_SIZE:]


def _placed(parts: Sequence[bytes], marks: Sequence[tuple[int, int]]) -> tuple[frozenset[int], ...]:
    found, behind = [], 0
    for part in parts:
        inside = (range(max(0, first - behind), min(len(part), last - behind)) for first, last in marks)
        found.append(frozenset(index for places in inside for index in places))
        behind += len(part)
    return tuple(found)


def _differing(ours: bytes, theirs: bytes, *, inserted: bool) -> tuple[frozenset[int], frozenset[int]]:
    """What differs in each: byte by byte, or what is between equal ends where bytes may be `inserted`."""
    if not inserted and len(ours) == len(theirs):
        places = frozenset(index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        return places, places
    least = min(len(ours), len(theirs))
    single = [index for index in range(least) if ours[index] != theirs[index]]
    if len(single) <= _SINGLE:
        return frozenset([*single, *range(least, len(ours))]), frozenset([*single, *range(least, len(theirs))])
    begin = next((i for i in range(least) if ours[i] != theirs[i]), least)
    end = next((i for i in range(least - begin) if ours[-1 - i] != theirs[-1 - i]), least - begin)
    return frozenset(range(begin, len(ours) - end)), frozenset(range(begin, len(theirs) - end))


def _shown(size: int, marks: frozenset[int]) -> list[int]:
    """Which bytes of a payload are shown."""
    if size <= _WHOLE:
        return list(range(size))
    wanted = set(range(_BEGIN)) | set(range(size - _END, size))
    for start, end in _runs(sorted(marks)):
        kept = range(start, end) if end - start <= _MARKED else [*range(start, start + _SOME), *range(end - _SOME, end)]
        wanted |= {near for index in kept for near in range(index - _NEAR, index + _NEAR + 1)}
    return sorted(index for index in wanted if 0 <= index < size)


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = before = None
    for index in indices:
        if before is None or index != before + 1:
            if start is not None and before is not None:
                yield start, before + 1
            start = index
        before = index
    if start is not None and before is not None:
        yield start, before + 1


def _cell(part: bytes, marks: frozenset[int], shown: Sequence[int]) -> tuple[str, str]:
    """Hex, and carets below it."""
    hexes, carets = "", ""
    for index, after in pairwise([*shown, None]):
        assert index is not None
        hexes += f"{part[index]:02x}"
        carets += "^^" if index in marks else "  "
        if after is None:
            break
        both = {index, after} <= marks and after == index + 1
        hexes += " " if after == index + 1 else f" {_GAP} "
        carets += "^" if both else " " * (1 if after == index + 1 else len(_GAP) + 2)
    return hexes, carets


def _table(rows: Sequence[_Row]) -> Iterator[tuple[str, bool]]:
    cells = []
    for row in rows:
        shown = [
            _shown(len(part), marks) if index == _PAYLOAD else list(range(len(part)))
            for index, (part, marks) in enumerate(zip(row.parts, row.marks, strict=True))
        ]
        cells.append([_cell(*each) for each in zip(row.parts, row.marks, shown, strict=True)])
    widths = [max(len(title), *(len(cell[i][0]) for cell in cells)) for i, title in enumerate(_TITLES)]
    label = max(len(row.label) for row in rows)
    yield _line("", _TITLES, widths, label, " | "), False
    for row, found in zip(rows, cells, strict=True):
        yield _line(row.label, [hexes for hexes, _ in found], widths, label, " | "), False
        if any(row.marks):
            yield _line("", [carets for _, carets in found], widths, label, "   "), True


def _line(label: str, texts: Sequence[str], widths: Sequence[int], room: int, bar: str) -> str:
    cells = bar.join(f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
    return f"{label:<{room}}  {cells}".rstrip()
