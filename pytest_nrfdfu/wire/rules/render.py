"""A finding as text for a terminal: what is wrong, where, what it does, and how it should be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_nrfdfu.wire.rules.base import Finding, Severity

__all__ = ["PRIMER", "render"]

PRIMER = """\
What a host sends, packet by packet:
  packet    8 bytes of SMP header (op, flags, length, group, sequence, command) and a payload, a CBOR map
  body      2 bytes of length, the packet, 2 bytes of CRC over the packet; the length counts packet and CRC
  lines     the body in base64, cut into pieces of at most 124 characters:
            06 09 <piece> 0a   the first line, then   04 14 <piece> 0a   for each further one
  answer    in the same form; an upload's says from which offset (`off`) to continue
"""
"""What somebody has to know who never saw the protocol, to understand findings."""

_ROW = 16
_NEIGHBOURS = 1
"""Rows that are shown on either side of a marked one."""
_FEW_ROWS = 6
"""So many rows are shown whole."""
_MOST_ROWS = 14
_WIDTH = 100
_INDENT = "  "
_MARK_STYLE = "\x1b[1;31m"
_RESET = "\x1b[0m"
_STYLES = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m", Severity.NOTE: "\x1b[1;36m"}
_LABEL_STYLE = "\x1b[1m"


class _Pen(NamedTuple):
    """Writes with colours, or without."""

    colour: bool

    def style(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self.colour and text.strip() else text


def render(finding: Finding, colour: bool = False) -> str:  # noqa: FBT001, FBT002 - what callers pass by position
    """All that a finding says, in lines of about 100 characters, with ANSI colours if `colour`."""
    pen = _Pen(colour)
    return "\n".join(_lines(finding, pen)) + "\n"


def _lines(finding: Finding, pen: _Pen) -> Iterator[str]:
    place = f"byte {finding.offset} from the host" if finding.direction == "tx" else f"byte {finding.offset}"
    time = "" if finding.time is None else f" at {finding.time:.3f} s"
    times = f", {finding.times} times; the first one:" if finding.times > 1 else ""
    severity = pen.style(f"{finding.severity.value}: {finding.rule}", _STYLES[finding.severity])
    yield f"{severity}{time}, {place}{times}"
    yield from _wrapped(finding.said)
    yield ""
    yield from _dump(finding.data, finding.marks, pen, _rows(finding.data, finding.marks))
    if finding.decoded:
        yield f"{_INDENT}base64 decoded: {finding.decoded}"
    yield ""
    yield from _labelled("What happens", finding.does, pen)
    yield from _labelled("To do", finding.fix, pen)
    if finding.should is not None:
        yield f"{_INDENT}{pen.style('As it should be:', _LABEL_STYLE)}"
        differ = _differences(finding.data, finding.should)
        yield from _dump(finding.should, differ, pen, _rows(finding.should, differ or finding.marks))
    yield from _labelled("See", finding.source, pen)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _labelled(label: str, text: str, pen: _Pen) -> list[str]:
    lines = _wrapped(f"{label}: {text}")
    head = f"{_INDENT}{label}:"
    return [lines[0].replace(head, f"{_INDENT}{pen.style(f'{label}:', _LABEL_STYLE)}", 1), *lines[1:]]


def _differences(data: bytes, should: bytes) -> tuple[tuple[int, int], ...]:
    """Where the lines of `should` are not those of `data`; nothing where most of them are not."""
    marks = []
    at = 0
    theirs = data.splitlines(keepends=True)
    for number, line in enumerate(should.splitlines(keepends=True)):
        other = theirs[number] if number < len(theirs) else b""
        if other != line:
            first, last = _span(other, line)
            marks.append((at + first, at + last))
        at += len(line)
    changed = sum(last - first for first, last in marks)
    return tuple(marks) if changed <= max(_ROW, len(should) // 3) else ()


def _span(other: bytes, line: bytes) -> tuple[int, int]:
    """The part of `line` between what both begin and what both end with; where bytes are to go, the next one."""
    least = min(len(other), len(line))
    begin = next((i for i in range(least) if other[i] != line[i]), least)
    end = next((i for i in range(least - begin) if other[-1 - i] != line[-1 - i]), least - begin)
    begin = min(begin, len(line) - 1)
    return begin, max(begin + 1, len(line) - end)


def _rows(data: bytes, marks: Sequence[tuple[int, int]]) -> list[int]:
    """The rows to show: the first, those with begin or end of a mark, and their neighbours; all of short data."""
    count = -(-len(data) // _ROW)
    if count <= _FEW_ROWS:
        return list(range(count))
    wanted = {0, count - 1}
    for start, end in marks:
        for edge in (start // _ROW, (end - 1) // _ROW):
            wanted |= set(range(edge - _NEIGHBOURS, edge + _NEIGHBOURS + 1))
    shown = sorted(row for row in wanted if 0 <= row < count)
    return shown if len(shown) <= _MOST_ROWS else shown[:_MOST_ROWS]


def _dump(data: bytes, marks: Sequence[tuple[int, int]], pen: _Pen, rows: Sequence[int]) -> Iterator[str]:
    marked = {index for start, end in marks for index in range(start, end)}
    before = -1
    for row in rows:
        if row != before + 1:
            yield f"{_INDENT}  ..."
        before = row
        at = row * _ROW
        piece = data[at : at + _ROW]
        shown = " ".join(
            pen.style(f"{byte:02x}", _MARK_STYLE if at + i in marked else "") for i, byte in enumerate(piece)
        )
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)
        gap = " " * (3 * _ROW - 3 * len(piece) + 3)
        yield f"{_INDENT}{at:5d}  {shown}{gap}{text}"
        if any(at + i in marked for i in range(len(piece))):
            yield _carets(piece, at, marked, pen)


def _carets(piece: bytes, at: int, marked: set[int], pen: _Pen) -> str:
    under_hex = "".join(
        ("^^" if at + i in marked else "  ") + ("^" if {at + i, at + i + 1} <= marked and i + 1 < len(piece) else " ")
        for i in range(len(piece))
    )
    under_text = "".join("^" if at + i in marked else " " for i in range(len(piece)))
    line = f"{_INDENT}{'':5}  {under_hex}{' ' * (3 * _ROW - 3 * len(piece) + 2)}{under_text}".rstrip()
    return pen.style(line, _MARK_STYLE)
