"""A finding as text for a terminal: what is wrong, what to do, where it is, what it does, and how it should be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_nrfdfu.wire.rules.base import Finding, Severity
from pytest_nrfdfu.wire.rules.columns import columns, decoded

__all__ = ["PRIMER", "render"]

PRIMER = """\
The words used here:
  packet    8 bytes of SMP header (op, flags, length, group, sequence, command) and a payload, a CBOR map
  frame     2 bytes of length, the packet, 2 bytes of CRC over the packet; the length counts packet and CRC
  line      the frame in base64, cut into lines of at most 124 characters (Zephyr's documents call a line a frame):
            06 09 <base64> 0a   the first line, then   04 14 <base64> 0a   for each further one
  answer    in the same form; to an upload, its `off` says at which byte of the image the next chunk begins
"""
"""What somebody has to know who never saw the protocol, to understand findings."""

_DOCUMENTS = {
    "smp_transport.rst": "https://docs.zephyrproject.org/3.7.0/services/device_mgmt/smp_transport.html",
    "smp_protocol.rst": "https://docs.zephyrproject.org/3.7.0/services/device_mgmt/smp_protocol.html",
    "smp_group_1.rst": "https://docs.zephyrproject.org/3.7.0/services/device_mgmt/smp_groups/smp_group_1.html",
    "boot_serial.c": "https://docs.mcuboot.com/serial_recovery.html",
}
"""Where what a source names, or is explained by, can be read."""

_ROW = 16
_MOST_ROWS = 6
"""Of more marked rows, the first and last two are shown."""
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
    time = "" if finding.time is None else f" at {finding.time:.4f} s"
    times = f", {finding.times} times; the first one:" if finding.times > 1 else ""
    severity = pen.style(f"{finding.severity.value}: {finding.rule}", _STYLES[finding.severity])
    yield f"{severity}{time}, {place}{times}"
    yield from _wrapped(finding.said)
    yield from _labelled("To do", finding.fix, pen)
    if finding.among:
        yield from _wrapped(finding.among)
    yield ""
    yield from _bytes(finding, pen)
    yield from _labelled("What happens", finding.does, pen)
    for label, text in (("In this capture", finding.seen), ("How", finding.recipe)):
        if text:
            yield from _labelled(label, text, pen)
    if finding.code:
        yield f"{_INDENT}{pen.style('In C:', _LABEL_STYLE)} {finding.code}"
    yield from _labelled("See", finding.source, pen)
    for name, address in _DOCUMENTS.items():
        if name in finding.source:
            yield f"{_INDENT}     {address}"


def _bytes(finding: Finding, pen: _Pen) -> Iterator[str]:
    """The frame in columns, where the fault can be seen in it; then the marked rows of what is on the wire."""
    should = b"" if finding.should is None else decoded(finding.should)
    table = list(columns(finding.decoded, finding.decoded_marks, should))
    if table:
        what = "what differs is marked" if should else "the place is marked"
        yield f"{_INDENT}{pen.style('Before base64', _LABEL_STYLE)} ({what}):"
        for line, carets in table:
            yield f"{_INDENT}  {pen.style(line, _MARK_STYLE) if carets else line}"
        yield ""
    label = "On the wire:" if finding.should is None else "On the wire, sent:"
    yield f"{_INDENT}{pen.style(label, _LABEL_STYLE)}"
    yield from _dump(finding.data, finding.marks, pen)
    if finding.should is not None:
        differ = _differences(finding.data, finding.should)
        moved = f" as above; bytes move, and so nearly all of its {len(finding.should)} bytes on the wire are others"
        yield f"{_INDENT}{pen.style('As it should be:', _LABEL_STYLE)}{moved if table and not differ else ''}"
        yield from () if table and not differ else _dump(finding.should, differ, pen)
    yield ""


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
    """The rows to show: those with begin or end of a mark; without marks the first and the last."""
    last = max(0, len(data) - 1) // _ROW
    if not marks:
        return sorted({0, last})
    rows = sorted({edge // _ROW for start, end in marks for edge in (start, end - 1)})
    return rows if len(rows) <= _MOST_ROWS else [*rows[:2], *rows[-2:]]


def _dump(data: bytes, marks: Sequence[tuple[int, int]], pen: _Pen) -> Iterator[str]:
    marked = {index for start, end in marks for index in range(start, end)}
    for row in _rows(data, marks):
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
