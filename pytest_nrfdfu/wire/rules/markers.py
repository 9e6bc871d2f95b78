"""Wrong markers: lines that do not begin with 06 09 and 04 14, and packets without any framing.

What the reader of a capture takes for console text may be a host's attempt at SMP; here it is tried as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.frames import Frame, Item, Message, Text
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_TRANSPORT, Effect, Finding, Rule, Scene, Severity
from pytest_nrfdfu.wire.rules.length import plausible, unwrap
from pytest_nrfdfu.wire.rules.lines import decode_base64

__all__ = ["RULES", "START_MARKER", "find_continuation", "find_orphan", "find_text", "frame_of"]

_SOURCE = f'{SMP_TRANSPORT}, "Frame formats"; {BOOT_SERIAL}, boot_serial_read_console'


def _rule(name: str, title: str, fix: str) -> Rule:
    return Rule(name, Severity.ERROR, title, fix, _SOURCE)


START = _rule(
    "start-bytes-wrong",
    "The frame's first line does not begin with 06 09.",
    "Begin the first line of every frame with the two bytes 06 09, as bytes and in this order.",
)
CONTINUATION = _rule(
    "continuation-bytes-wrong",
    "A further line of the frame does not begin with 04 14.",
    "Begin every line of a frame but its first with the two bytes 04 14; 06 09 there would begin another frame.",
)
ORPHAN = _rule(
    "start-missing",
    "A line with 04 14 continues a frame that never began, or is whole already.",
    "Send the frame's first line, which begins with 06 09, before the lines with 04 14, and nothing behind its CRC.",
)
RAW = _rule(
    "framing-missing",
    "The SMP packet was sent as it is, without markers, base64, length and CRC.",
    "On a console UART, frame the packet: 06 09, base64 of length, packet and CRC in lines, 0a. (The raw transport is "
    "an option that both sides must be built with.)",
)
RULES = (START, CONTINUATION, ORPHAN, RAW)

START_MARKER = console.START
_MARKER_SIZES = (2, 0, 1, 3, 4)
"""Bytes that may stand for a marker, the most probable first: none at all, or four hex digits."""


class _Line(NamedTuple):
    """A line without a right marker: what stands for the marker, its base64, and where it is."""

    marker: bytes
    text: bytes
    start: int
    end: int

    @property
    def mark(self) -> tuple[int, int]:
        return self.start, self.start + max(1, len(self.marker))


def frame_of(item: Item) -> Frame | None:
    """The frame that an item is or was made of."""
    if isinstance(item, Message):
        return item.frame
    return item if isinstance(item, Frame) else None


def _as_line(text: Text) -> Iterator[_Line]:
    """The ways in which text could be a line of SMP with another marker."""
    raw = text.data.removesuffix(b"\n").removesuffix(b"\r")
    as_text = raw[:4] in {b"0609", b"0414"}
    for size in (4,) if as_text else _MARKER_SIZES:
        rest = raw[size:]
        if rest and len(rest) % 4 == 0 and decode_base64(rest) is not None:
            yield _Line(raw[:size], rest, text.start, text.start + len(text.data))


def find_text(scene: Scene, text: Text, following: Sequence[Item]) -> tuple[Finding, int] | None:
    """What text from the host was meant to be, and how many of the following items belong to it."""
    raw = _raw_packet(scene, text)
    if raw is not None:
        return raw, _covered(following, text.start + raw_size(scene, text))
    for line in _as_line(text):
        body = decode_base64(line.text) or b""
        if plausible(body[2:]) is None:
            continue
        for used, (encoded, end) in enumerate(_grown(line, following)):
            packet = unwrap(decode_base64(encoded) or b"")
            if packet is not None:
                return _start(scene, line, end, text.time, packet), used
    return None


def raw_size(scene: Scene, text: Text) -> int:
    """Bytes of the unframed packet that begins with `text`."""
    header = plausible(scene.sent[text.start :])
    return 0 if header is None else HEADER_SIZE + header.length


def _covered(following: Sequence[Item], end: int) -> int:
    """How many items begin before `end`."""
    starts = (item.start for item in following)
    return sum(1 for start in starts if start < end)


def _raw_packet(scene: Scene, text: Text) -> Finding | None:
    size = raw_size(scene, text)
    packet = scene.sent[text.start : text.start + size]
    if size <= HEADER_SIZE or len(packet) < size or packet[0] & 1:
        return None
    try:
        item = cbor.read(packet, HEADER_SIZE)
    except SmpMalformed:
        return None
    if item.kind != "map" or item.end != size:
        return None
    said = "These bytes are an SMP header and its payload, with nothing around them."
    because = "It reads lines, and passes over those without a marker; without a newline it waits for one."
    place = (text.start, text.start + size, text.time)
    marks = [(text.start, text.start + HEADER_SIZE)]
    return scene.finding(RAW, place, said, Effect.SILENCE, because=because, marks=marks, should=console.encode(packet))


def _grown(line: _Line, following: Sequence[Item]) -> Iterator[tuple[bytes, int]]:
    """The line's text and its end, and then with each of the following lines added to it."""
    encoded, end = line.text, line.end
    yield encoded, end
    for more in following:
        if len(encoded) > _longest(line.text):
            return
        frame = frame_of(more)
        if frame is not None:
            encoded, end = encoded + frame.encoded, frame.end
        elif isinstance(more, Text) and (found := next(_as_line(more), None)) is not None:
            encoded, end = encoded + found.text, found.end
        else:
            return
        yield encoded, end


def _longest(text: bytes) -> int:
    """Base64 characters that a packet has which begins with `text`."""
    body = decode_base64(text[:4]) or b""
    return -(-(int.from_bytes(body[:2], "big") + 2) // 3) * 4


def _start(scene: Scene, line: _Line, end: int, time: float | None, packet: bytes) -> Finding:
    if not line.marker:
        said = "The line begins with the base64 text; the two bytes 06 09 in front of it are missing."
    elif line.marker == console.START[::-1]:
        said = "The line begins with 09 06: the two bytes of the marker 06 09 are exchanged."
    elif line.marker in {b"0609", b"\\x06"}:
        said = "The marker was sent as text, characters '0' '6' '0' '9', instead of the two bytes 06 09."
    else:
        said = f"The line begins with {line.marker.hex(' ')} instead of 06 09; what follows is a right frame."
    because = "It passes over a line that does not begin with 06 09 or 04 14, as over console text."
    return scene.finding(
        START,
        (line.start, end, time),
        said,
        Effect.SILENCE,
        because=because,
        marks=[line.mark],
        should=console.encode(packet),
    )


def find_orphan(scene: Scene, frame: Frame) -> Finding:
    """For a frame whose first line begins with 04 14."""
    mark = (frame.start, frame.start + 2)
    if frame.packet is not None:
        said = "The frame's first line begins with 04 14, which is the marker of further lines, instead of 06 09."
        because = "It adds the line to what it has of the frame before, and the result is no frame."
        should = console.encode(frame.packet)
        return scene.finding(START, frame, said, Effect.SILENCE, because=because, marks=[mark], should=should)
    said = "A line with 04 14 continues a frame, but no line with 06 09 came before it."
    if frame.behind_whole:
        said = (
            "Lines with 04 14 follow a packet that is whole without them: its length field counts all of its bytes, and"
            " its CRC is right. That packet is taken, and these lines are not: they are too much, or the first line of"
            " their own is missing."
        )
    because = "It adds the line to what it has of the frame before, and the result is no frame."
    place = (frame.start, frame.end, frame.time_first)  # not the frame: its first bytes are no length and no header
    return scene.finding(ORPHAN, place, said, Effect.SILENCE, because=because, marks=[mark])


def find_continuation(scene: Scene, frame: Frame, following: Sequence[Item]) -> tuple[Finding, int] | None:
    """Whether the lines that follow an incomplete frame complete it, and how many items they are."""
    encoded = frame.encoded
    found: list[_Line] = []
    for used, item in enumerate(following, start=1):
        lines = [_of_frame(more)] if (more := frame_of(item)) is not None else list(_as_line_of(item))
        if not lines:
            return None
        for line in lines:
            packet = unwrap(decode_base64(encoded + line.text) or b"")
            if packet is not None:
                return _continuation(scene, frame, [*found, line], packet), used
        found.append(lines[0])
        encoded += lines[0].text
        if len(encoded) > _longest(encoded):
            return None
    return None


def _as_line_of(item: Item) -> Iterator[_Line]:
    if isinstance(item, Text):
        yield from _as_line(item)


def _of_frame(frame: Frame) -> _Line:
    return _Line(frame.lines[0].marker, frame.encoded, frame.start, frame.end)


def _continuation(scene: Scene, frame: Frame, lines: list[_Line], packet: bytes) -> Finding:
    wrong = [line for line in lines if line.marker != console.CONTINUATION]
    marker = wrong[0].marker
    count = len(frame.lines) + 1
    if marker == console.START:
        said = f"Line {count} of the frame begins with 06 09 again, which begins another frame."
        because = "It throws away what it had, and takes the line's first bytes for another frame's length."
    elif not marker:
        said = f"Line {count} of the frame has no marker; 04 14 belongs in front of it."
        because = "It passes over a line that does not begin with 06 09 or 04 14, so the frame stays incomplete."
    else:
        said = f"Line {count} of the frame begins with {marker.hex(' ')} instead of 04 14."
        because = "It passes over a line that does not begin with 06 09 or 04 14, so the frame stays incomplete."
    return scene.finding(
        CONTINUATION,
        (frame.start, lines[-1].end, frame.time_first),
        said,
        Effect.SILENCE,
        because=because,
        marks=[line.mark for line in wrong],
        should=console.encode(packet),
    )
