"""The tolerant reader: from a capture's bytes to lines, frames and messages that know where they stand.

`smp.console.Decoder` throws away what a receiver cannot use. Here nothing is thrown away: a broken frame is decoded as
far as possible, both CRCs are given, and every byte of a packet leads back to the characters that carried it, so that
whoever explains a fault can mark it in place. What MCUboot does with it is not judged here.

Source of the framing: Zephyr, doc/services/device_mgmt/smp_transport.rst.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.console import CONTINUATION, START, Fault, FaultKind, crc16
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.base64_text import GROUP, Trouble, decode
from pytest_nrfdfu.wire.capture import Capture, Direction

__all__ = ["Frame", "Item", "Line", "Message", "Text", "joined", "messages", "read"]

_LENGTH_SIZE = 2
_CRC_SIZE = 2
_SMALLEST_BODY = _LENGTH_SIZE + _CRC_SIZE
_LONGEST_TEXT = 4096
"""Text without a newline is cut into pieces of this size."""
_DIRECTIONS: tuple[Direction, ...] = ("tx", "rx")


class Line(NamedTuple):
    """One line of SMP, from its marker to its newline where it has one.

    `time`: seconds, of its last byte; `start`: where `raw` begins in all bytes of its direction. A line ends too where
    the next marker stands without a newline before it.
    """

    direction: Direction
    time: float | None
    start: int
    raw: bytes

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.start + len(self.raw)

    @property
    def marker(self) -> bytes:
        """06 09 or 04 14."""
        return self.raw[:2]

    @property
    def text(self) -> bytes:
        """What stands between the marker and the line's end: base64, if it is right."""
        return self.raw[2:].removesuffix(b"\n").rstrip(b"\r")


class Text(NamedTuple):
    """Bytes that are not SMP: one line of console text, or a part of one. `start` as in `Line`, `time` of its end."""

    direction: Direction
    time: float | None
    data: bytes
    start: int


@dataclass(frozen=True)
class Frame:
    """A packet's lines, decoded as far as possible: a start line, and continuation lines until the packet is whole.

    Whole is a packet whose length field and CRC agree with the bytes: both MCUboot (boot/boot_serial/src/boot_serial.c,
    boot_serial_in_dec) and Zephyr (subsys/mgmt/mcumgr/transport/src/serial_util.c, mcumgr_serial_process_frag) take it
    with that line, whatever comes next. Continuation lines behind it are a frame of their own, without a start.

    `body` is length field, packet and CRC as they came; decoding stops at the first group that is not base64.
    `packet` is there whenever length field and CRC agree with the bytes, whatever else is wrong. `crc_sent` are the
    body's last two bytes and `crc_computed` is that of all between them and the length field: where they are equal and
    `packet` is None, the length field is what is wrong. `fault`: the first thing wrong, None if nothing is.
    `behind_whole`: it is such lines, behind a packet that was whole without them.
    """

    direction: Direction
    time_first: float | None
    time_last: float | None
    lines: tuple[Line, ...]
    encoded: bytes
    body: bytes
    length_field: int | None
    packet: bytes | None
    crc_sent: int | None
    crc_computed: int | None
    fault: Fault | None
    behind_whole: bool = False

    @property
    def start(self) -> int:
        """Offset of its first byte among the bytes of its direction."""
        return self.lines[0].start

    @property
    def end(self) -> int:
        """Offset behind its last byte. Console text may stand between its lines."""
        return self.lines[-1].end

    @property
    def raw(self) -> bytes:
        """All bytes of its lines."""
        return b"".join(line.raw for line in self.lines)

    @property
    def presumed(self) -> bytes:
        """The packet, or where that is not to be had, what most probably was meant to be it."""
        if self.packet is not None:
            return self.packet
        if self.crc_sent is not None and self.crc_sent == self.crc_computed:
            return self.body[_LENGTH_SIZE:-_CRC_SIZE]
        rest = self.body[_LENGTH_SIZE:]
        whole = HEADER_SIZE + Header.unpack(rest).length if len(rest) >= HEADER_SIZE else len(rest)
        return rest[:whole]

    def places(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """Where `body` bytes `first` to `last` (not included) stand: (start, end) offsets of their base64 characters.

        Offsets are among the direction's bytes, one pair for each line that carries some of them.
        """
        if first >= last or first >= len(self.body):
            return ()
        begin, end = self._character(first)[0], self._character(min(last, len(self.body)) - 1)[1]
        found = []
        behind = 0
        for line in self.lines:
            size = len(line.text)
            inside = max(begin, behind), min(end, behind + size)
            if inside[0] < inside[1]:
                base = line.start + 2 - behind
                found.append((base + inside[0], base + inside[1]))
            behind += size
        return tuple(found)

    def _character(self, index: int) -> tuple[int, int]:
        """First character, and the one behind the last, of those that carry `body` byte `index`."""
        group = bisect_right(self._groups, index) - 1
        within = index - self._groups[group]
        return GROUP * group + within, GROUP * group + within + 2

    @cached_property
    def _groups(self) -> list[int]:
        """Index in `body` of each group's first byte: not always three times the number, where padding is inside."""
        whole = len(self.encoded) // GROUP * GROUP
        sizes = (3 - self.encoded[at : at + GROUP].count(b"=") for at in range(0, whole, GROUP))
        return list(accumulate(sizes, initial=0))[:-1] or [0]


@dataclass(frozen=True)
class Message:
    """A frame whose packet has a header. `payload` is None where it is no CBOR map; `payload_error` says why.

    `payload_error` is also there where a payload was read, but the header gives it another length, or bytes follow it.
    """

    frame: Frame
    header: Header
    payload: dict[Any, Any] | None
    payload_error: str | None = None

    @property
    def direction(self) -> Direction:
        """Which way it went."""
        return self.frame.direction

    @property
    def start(self) -> int:
        """Offset of its frame's first byte among the bytes of its direction."""
        return self.frame.start

    @property
    def packet(self) -> bytes:
        """Header and payload."""
        return self.frame.presumed

    @property
    def body(self) -> bytes:
        """The payload's bytes: CBOR, if it is right."""
        return self.packet[HEADER_SIZE:]

    @property
    def is_request(self) -> bool:
        """Whether its op is one of a request (even)."""
        return self.header.op % 2 == 0

    def places(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """Where bytes `first` to `last` of the packet (its header begins at 0) stand; as `Frame.places`."""
        return self.frame.places(first + _LENGTH_SIZE, last + _LENGTH_SIZE)


Item = Text | Frame | Message
"""A `Frame` stands for itself where no message could be made of it."""


def read(capture: Capture) -> list[Item]:
    """Everything in `capture`, in the order of the first bytes."""
    found: list[tuple[tuple[int, int], Item]] = []
    for direction in _DIRECTIONS:
        found += _read_direction(_Stream(capture, direction))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def joined(parts: Sequence[Frame]) -> Frame:
    """The lines of several frames as one, for those who know that its host meant one."""
    return _frame(parts[0].time_first, tuple(line for part in parts for line in part.lines))


def messages(items: Sequence[Item]) -> list[Message]:
    """The messages among `items`."""
    return [item for item in items if isinstance(item, Message)]


class _Stream:
    """All bytes of one direction, and when each came."""

    def __init__(self, capture: Capture, direction: Direction) -> None:
        self.direction = direction
        chunks = [(index, chunk) for index, chunk in enumerate(capture) if chunk.direction == direction and chunk.data]
        self.data = b"".join(chunk.data for _, chunk in chunks)
        self._ends = list(accumulate(len(chunk.data) for _, chunk in chunks))
        self._order = [index for index, _ in chunks]
        self._times = [chunk.time for _, chunk in chunks]

    def time(self, offset: int) -> float | None:
        """When the byte at `offset` came."""
        return self._times[bisect_right(self._ends, offset)]

    def order(self, offset: int) -> tuple[int, int]:
        """What the byte at `offset` is sorted by: the place in the capture of its chunk, then its own."""
        return self._order[bisect_right(self._ends, offset)], offset

    def line(self, start: int, end: int) -> Line:
        """The bytes from `start` to `end` as a line."""
        return Line(self.direction, self.time(end - 1), start, self.data[start:end])

    def text(self, start: int, end: int) -> Text:
        """The bytes from `start` to `end` as text."""
        return Text(self.direction, self.time(end - 1), self.data[start:end], start)


def _pieces(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each piece: to its newline, or to the next marker, which is never part of base64 or a text."""
    start = 0
    while start < len(data):
        newline = data.find(b"\n", start) + 1 or len(data)
        marks = (data.find(mark, start + 1, newline) for mark in (START, CONTINUATION))
        end = min((mark for mark in marks if mark > 0), default=newline)
        if not data.startswith((START, CONTINUATION), start):
            end = min(end, start + _LONGEST_TEXT)
        yield start, end
        start = end


def _read_direction(stream: _Stream) -> Iterator[tuple[tuple[int, int], Item]]:
    lines: list[Line] = []
    data = stream.data
    for start, end in _pieces(data):
        if data.startswith(CONTINUATION, start):
            lines.append(stream.line(start, end))
        elif data.startswith(START, start):
            yield from _ended(stream, lines)
            lines = [stream.line(start, end)]
        elif data[start:end] != b"\r" or not data.startswith((START, CONTINUATION), end):
            yield stream.order(start), stream.text(start, end)
        # else: MCUboot before v1.9.99-ncs2 ended lines with LF CR; that CR belongs to the line before.
    yield from _ended(stream, lines)


def _ended(stream: _Stream, lines: Sequence[Line]) -> Iterator[tuple[tuple[int, int], Item]]:
    """The frames of a start line and all continuation lines behind it."""
    began = bool(lines) and lines[0].marker == START
    first = 0
    while first < len(lines):
        end = _whole(lines, first)
        frame = _frame(stream.time(lines[first].start), tuple(lines[first:end]), behind_whole=began and first > 0)
        yield stream.order(frame.start), _message(frame)
        first = end


def _whole(lines: Sequence[Line], first: int) -> int:
    """Index behind the line with which a packet that begins with line `first` is whole; behind the last, if none is."""
    body, rest = bytearray(), b""
    for end in range(first + 1, len(lines)):
        rest += lines[end - 1].text
        groups = len(rest) // GROUP * GROUP
        body += decode(rest[:groups])[0]
        rest = rest[groups:]
        wanted = _LENGTH_SIZE + int.from_bytes(body[:_LENGTH_SIZE], "big")
        if len(body) > wanted > _LENGTH_SIZE:
            break
        if len(body) == wanted and _frame(None, tuple(lines[first:end])).packet is not None:
            return end
    return len(lines)


def _frame(time_first: float | None, lines: tuple[Line, ...], *, behind_whole: bool = False) -> Frame:
    encoded = b"".join(line.text for line in lines)
    body, trouble = decode(encoded)
    length = int.from_bytes(body[:_LENGTH_SIZE], "big") if len(body) >= _LENGTH_SIZE else None
    enough = len(body) >= _SMALLEST_BODY
    sent = int.from_bytes(body[-_CRC_SIZE:], "big") if enough else None
    computed = crc16(body[_LENGTH_SIZE:-_CRC_SIZE]) if enough else None
    right = enough and length == len(body) - _LENGTH_SIZE and sent == computed
    last = lines[-1]
    return Frame(
        direction=last.direction,
        time_first=time_first,
        time_last=last.time,
        lines=lines,
        encoded=encoded,
        body=body,
        length_field=length,
        packet=body[_LENGTH_SIZE:-_CRC_SIZE] if right else None,
        crc_sent=sent,
        crc_computed=computed,
        fault=_fault(lines, body, trouble, behind_whole=behind_whole),
        behind_whole=behind_whole,
    )


def _located(lines: Sequence[Line], trouble: Trouble) -> str:
    """The trouble with its place as an editor counts: lines of the frame and bytes of the line from 1."""
    behind = 0
    for number, line in enumerate(lines, start=1):
        if trouble.at < behind + len(line.text) or number == len(lines):
            return f"line {number}, byte {len(line.marker) + trouble.at - behind + 1}: {trouble.detail}"
        behind += len(line.text)
    return trouble.detail


def _fault(lines: Sequence[Line], body: bytes, trouble: Trouble | None, *, behind_whole: bool) -> Fault | None:
    """The first thing wrong with a frame: of its lines, its base64, its length, its CRC, its line ends."""
    raw = b"".join(line.raw for line in lines)
    if lines[0].marker != START:
        alone = "continuation lines without a start line before them"
        behind = "the packet before these lines is whole without them"
        return Fault(FaultKind.ORPHAN, behind if behind_whole else alone, raw)
    if trouble is not None:
        return Fault(FaultKind.BASE64, _located(lines, trouble), raw)
    wrong = _contents_fault(body, raw)
    if wrong is None and any(line.raw.removesuffix(b"\n").endswith(b"\r") for line in lines):
        return Fault(FaultKind.STRAY_CR, "CR LF ends a line, SMP lines end with LF alone", raw)
    return wrong


def _contents_fault(body: bytes, raw: bytes) -> Fault | None:
    promised = int.from_bytes(body[:_LENGTH_SIZE], "big")
    came = max(0, len(body) - _LENGTH_SIZE)
    if came != promised or came < _CRC_SIZE:
        kind = FaultKind.LENGTH if came > promised else FaultKind.INCOMPLETE
        detail = f"the length field says {promised} bytes of packet and CRC, {came} came"
        return Fault(kind, detail, raw, promised, came)
    sent, computed = int.from_bytes(body[-_CRC_SIZE:], "big"), crc16(body[_LENGTH_SIZE:-_CRC_SIZE])
    if sent == computed:
        return None
    return Fault(FaultKind.CRC, f"the packet's is 0x{computed:04x}, the frame's 0x{sent:04x}", raw, computed, sent)


def _message(frame: Frame) -> Frame | Message:
    packet = frame.packet
    if packet is None or len(packet) < HEADER_SIZE:
        return frame
    header = Header.unpack(packet)
    body = packet[HEADER_SIZE:]
    try:
        item = cbor.read(body)
    except SmpMalformed as error:
        # Of lines that no receiver takes for the begin of a packet, the first bytes need not be a header.
        return frame if frame.behind_whole else Message(frame, header, None, str(error))
    if item.kind != "map":
        return Message(frame, header, None, f"the payload is CBOR, but a {item.kind} instead of a map")
    return Message(frame, header, item.value, _payload_error(header, body, item))


def _payload_error(header: Header, body: bytes, item: cbor.Item) -> str | None:
    if header.length != len(body):
        return f"the header says {header.length} bytes of payload, {len(body)} came"
    if item.end != len(body):
        return f"{len(body) - item.end} bytes follow the payload's CBOR map"
    return None
