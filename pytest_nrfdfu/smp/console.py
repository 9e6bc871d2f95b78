"""SMP over a console: packets as lines of base64 text, mixed with whatever else the UART carries.

A packet travels as ``length | packet | CRC`` (length = packet + CRC, big-endian; CRC16-XMODEM over the packet alone,
big-endian), encoded in base64 and cut into lines. The first line starts with 06 09, the following ones with 04 14,
each ends with a newline and has at most 127 bytes with it. A sender cuts at whole base64 groups of four characters:
MCUboot decodes every line by itself.

Source: Zephyr, doc/services/device_mgmt/smp_transport.rst; MCUboot, boot/boot_serial/src/boot_serial.c.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CONTINUATION",
    "FRAME_OVERHEAD",
    "LINE_LENGTH",
    "RAW_PER_LINE",
    "START",
    "Decoder",
    "Event",
    "Fault",
    "FaultKind",
    "Packet",
    "Text",
    "crc16",
    "encode",
    "line_count",
    "lines",
    "max_packet",
    "wire_size",
]

START = b"\x06\x09"
CONTINUATION = b"\x04\x14"
LINE_LENGTH = 127
"""Longest line, markers and newline included (smp_transport.rst)."""
FRAME_OVERHEAD = 4
"""Length field and CRC, in bytes before base64."""
_CRC_SIZE = 2
_LINE_OVERHEAD = 3
_GROUP = 4
RAW_PER_LINE = (LINE_LENGTH - _LINE_OVERHEAD) // _GROUP * 3
"""Bytes before base64 that a full line carries: 93."""
_LARGEST_PACKET = 0xFFFF - 2
"""What the length field can express, less the CRC that it counts too."""

_MAX_TEXT_LINE = 4096
"""Console text without a newline is handed on in pieces of this size, so that noise cannot fill memory."""
_MAX_SMP_LINE = 2048
"""A line that starts like SMP is given up when it grows beyond this. Old MCUboot sent a whole response in one line."""


@cache
def _crcmod() -> Callable[[bytes, int], int]:
    import crcmod  # costs 20 ms, so only on first use

    crc: Callable[[bytes, int], int] = crcmod.mkCrcFun(0x11021, initCrc=0, rev=False, xorOut=0)
    return crc


def crc16(data: bytes) -> int:
    """CRC16-XMODEM: polynomial 0x1021, initial value 0, not reflected."""
    return _crcmod()(data, 0)


def _chars_per_line(line_length: int) -> int:
    """Base64 characters in a full line: whole groups, because MCUboot decodes every line by itself."""
    chars = (line_length - _LINE_OVERHEAD) // _GROUP * _GROUP
    if chars < _GROUP:
        raise ValueError(f"a line of {line_length} bytes has no room for a base64 group")
    return chars


def lines(packet: bytes, line_length: int = LINE_LENGTH) -> Iterator[bytes]:
    """The lines, newline included, that carry one SMP packet (header and payload)."""
    if len(packet) > _LARGEST_PACKET:
        raise ValueError(f"a console frame carries at most {_LARGEST_PACKET} bytes, not {len(packet)}")
    step = _chars_per_line(line_length)
    body = (len(packet) + 2).to_bytes(2, "big") + packet + crc16(packet).to_bytes(2, "big")
    text = base64.b64encode(body)
    for start in range(0, len(text), step):
        yield (CONTINUATION if start else START) + text[start : start + step] + b"\n"


def encode(packet: bytes, line_length: int = LINE_LENGTH) -> bytes:
    """All lines of one packet, as they go over the wire."""
    return b"".join(lines(packet, line_length))


def _base64_size(packet_size: int) -> int:
    return (packet_size + FRAME_OVERHEAD + 2) // 3 * _GROUP


def line_count(packet_size: int, line_length: int = LINE_LENGTH) -> int:
    """How many lines carry a packet of `packet_size` bytes."""
    return -(-_base64_size(packet_size) // _chars_per_line(line_length))


def wire_size(packet_size: int, line_length: int = LINE_LENGTH) -> int:
    """Bytes on the wire of a packet of `packet_size` bytes."""
    return _base64_size(packet_size) + _LINE_OVERHEAD * line_count(packet_size, line_length)


def max_packet(line_total: int, line_length: int = LINE_LENGTH) -> int:
    """The largest packet that fits `line_total` lines; it fills the last one."""
    return _chars_per_line(line_length) // _GROUP * 3 * line_total - FRAME_OVERHEAD


class Packet(NamedTuple):
    """A whole SMP packet (header and payload) whose length and CRC were right."""

    data: bytes


class Text(NamedTuple):
    """Console text: bytes that are not SMP.

    A whole line with its newline; or the part of a line in front of an SMP marker, or a piece of a line that is too
    long to wait for its end.
    """

    data: bytes


class FaultKind(Enum):
    """What was wrong with something that started like SMP."""

    BASE64 = "bad base64"
    CRC = "CRC does not match"
    LENGTH = "length does not match"
    TOO_LONG = "too long"
    ORPHAN = "continuation without a start"
    STRAY_CR = "carriage return before the newline"
    INCOMPLETE = "packet incomplete"


class Fault(NamedTuple):
    """A frame or line that was thrown away, or (STRAY_CR) one that a stricter receiver would throw away.

    `expected` and `got`: for CRC the one computed from the packet and the one in the frame; for LENGTH and INCOMPLETE
    the bytes of packet and CRC that the length field promises and those that came; for TOO_LONG the limit and the bytes
    that were there. None where there is nothing to compare.
    """

    kind: FaultKind
    detail: str
    data: bytes
    expected: int | None = None
    got: int | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}"


Event = Packet | Text | Fault

_LARGEST_FRAME = wire_size(_LARGEST_PACKET, _LINE_OVERHEAD + _GROUP)
"""Bytes of the largest packet in the shortest lines. Lines without content must not make a frame grow for ever."""


@dataclass(slots=True)
class _Frame:
    """A packet being put together from lines."""

    raw: bytearray = field(default_factory=bytearray)
    """All bytes of its lines, for the report of a fault."""
    body: bytearray = field(default_factory=bytearray)
    """Length field, packet and CRC, as far as they came."""
    rest: bytes = b""
    """The base64 characters at the end that are not a whole group yet."""

    @property
    def expected(self) -> int | None:
        """Bytes of packet and CRC, from the length field."""
        return int.from_bytes(self.body[:2], "big") if len(self.body) >= 2 else None

    @property
    def got(self) -> int:
        """Bytes of packet and CRC so far."""
        return max(0, len(self.body) - 2)

    def fault(self, kind: FaultKind, detail: str) -> Fault:
        """What was wrong with this frame."""
        lengths = (self.expected, self.got) if self.expected is not None and kind is not FaultKind.BASE64 else ()
        return Fault(kind, detail, bytes(self.raw), *lengths)

    def add(self, chars: bytes) -> Packet | Fault | None:
        """Take the base64 characters of one line; a result ends the frame."""
        chars = self.rest + chars
        whole = len(chars) // _GROUP * _GROUP
        self.rest = chars[whole:]
        try:
            self.body += base64.b64decode(chars[:whole], validate=True)
        except binascii.Error as error:
            return self.fault(FaultKind.BASE64, str(error))
        padded = chars[:whole].endswith(b"=")
        if self.expected is None:
            return self.fault(FaultKind.LENGTH, "it ends within the length field") if padded else None
        if self.got < self.expected and not padded:
            return None
        return self._packet(self.expected)

    def _packet(self, expected: int) -> Packet | Fault:
        """The packet of a frame that has ended."""
        if self.got != expected:
            detail = f"the length field says {expected} bytes of packet and CRC, {self.got} came"
            return self.fault(FaultKind.LENGTH, detail)
        if self.rest:
            return self.fault(FaultKind.BASE64, f"{len(self.rest)} more characters follow the end of the packet")
        if expected < _CRC_SIZE:
            return self.fault(FaultKind.LENGTH, f"the length field says {expected}, which leaves no room for the CRC")
        packet, sent = bytes(self.body[2:-2]), int.from_bytes(self.body[-2:], "big")
        computed = crc16(packet)
        if computed != sent:
            detail = f"the packet's CRC is 0x{computed:04x}, the frame says 0x{sent:04x}"
            return Fault(FaultKind.CRC, detail, bytes(self.raw), computed, sent)
        return Packet(packet)


class Decoder:
    """Bytes in, in any slices; packets, console text and faults out. How the bytes are sliced makes no difference.

    The decoder is as forgiving as a receiver can be without inventing data: a marker in the middle of a line starts a
    new line (what went before is text or an incomplete frame, and what follows is not lost), a carriage return before
    the newline is reported and skipped, base64 may be cut anywhere, and console text may come between the lines of a
    frame. Nothing of it depends on time: a frame that is never finished waits for the next one, or for `flush`.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        """The piece (see `_cut`) that has begun and not ended yet."""
        self._frame: _Frame | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        events: list[Event] = []
        self._pending += data
        while (size := self._cut()) > 0:
            piece = bytes(self._pending[:size])
            del self._pending[:size]
            self._take(piece, events)
        return events

    def flush(self) -> list[Event]:
        """What is pending, as text, packet or fault: for the end of a capture or a closed port."""
        events: list[Event] = []
        if self._pending:
            piece = bytes(self._pending)
            self._pending.clear()
            self._take(piece, events)
        self._abandon(events, "the input ended")
        return events

    @property
    def pending_text(self) -> bytes:
        """The unfinished line, if it is console text: a prompt has no newline."""
        if self._pending.startswith((START, CONTINUATION)):
            return b""
        half = self._pending.endswith((START[:1], CONTINUATION[:1]))  # the first byte of a marker, perhaps
        return bytes(self._pending[:-1] if half else self._pending)

    def _cut(self) -> int:
        """How many of the pending bytes are a piece that has ended; 0 if none has.

        A piece starts with a line or with a marker. It ends with its newline, before the next marker, or at its limit;
        the limit waits for one byte more, because its last byte and that one could be a marker.
        """
        pending = self._pending
        limit = _MAX_SMP_LINE + 1 if pending.startswith((START, CONTINUATION)) else _MAX_TEXT_LINE
        end = pending.find(b"\n", 0, limit) + 1
        span = end or limit + 1
        marks = (pending.find(START, 1, span), pending.find(CONTINUATION, 1, span))
        mark = min((mark for mark in marks if mark > 0), default=0)
        return mark or end or (limit if len(pending) > limit else 0)

    def _take(self, piece: bytes, events: list[Event]) -> None:
        if piece.startswith(START):
            self._abandon(events, "the next one started")
            self._frame = _Frame()
            self._extend(self._frame, piece, events)
        elif piece.startswith(CONTINUATION):
            if self._frame is None:
                detail = f"{len(piece)} bytes without a packet that they continue"
                events.append(Fault(FaultKind.ORPHAN, detail, piece))
            else:
                self._extend(self._frame, piece, events)
        elif piece != b"\r" or not self._pending.startswith((START, CONTINUATION)):
            events.append(Text(piece))
        # else: MCUboot before v1.9.99-ncs2 ended lines with LF CR; that CR stands before the next line's marker.

    def _extend(self, frame: _Frame, piece: bytes, events: list[Event]) -> None:
        frame.raw += piece
        for size, limit in ((len(piece), _MAX_SMP_LINE), (len(frame.raw), _LARGEST_FRAME)):
            if size > limit:
                self._frame = None
                detail = f"an SMP line or frame of more than {limit} bytes"
                events.append(Fault(FaultKind.TOO_LONG, detail, bytes(frame.raw), limit, size))
                return
        chars = piece[2:].removesuffix(b"\n")
        if chars.endswith(b"\r"):
            events.append(Fault(FaultKind.STRAY_CR, "CR LF ends the line, SMP lines end with LF alone", piece))
            chars = chars.rstrip(b"\r")
        result = frame.add(chars)
        if result is not None:
            self._frame = None
            events.append(result)

    def _abandon(self, events: list[Event], why: str) -> None:
        if self._frame is not None:
            size = len(self._frame.raw)
            events.append(self._frame.fault(FaultKind.INCOMPLETE, f"{size} bytes of a packet were there when {why}"))
            self._frame = None
