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
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

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
_LINE_OVERHEAD = 3
_GROUP = 4
RAW_PER_LINE = (LINE_LENGTH - _LINE_OVERHEAD) // _GROUP * 3
"""Bytes before base64 that a full line carries: 93."""

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


def lines(packet: bytes, line_length: int = LINE_LENGTH) -> Iterator[bytes]:
    """The lines, newline included, that carry one SMP packet (header and payload)."""
    if len(packet) + 2 > 0xFFFF:
        raise ValueError(f"a console frame carries at most {0xFFFF - 2} bytes, not {len(packet)}")
    step = (line_length - _LINE_OVERHEAD) // _GROUP * _GROUP
    if step < _GROUP:
        raise ValueError(f"a line of {line_length} bytes has no room for a base64 group")
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
    step = (line_length - _LINE_OVERHEAD) // _GROUP * _GROUP
    return -(-_base64_size(packet_size) // step)


def wire_size(packet_size: int, line_length: int = LINE_LENGTH) -> int:
    """Bytes on the wire of a packet of `packet_size` bytes."""
    return _base64_size(packet_size) + _LINE_OVERHEAD * line_count(packet_size, line_length)


def max_packet(line_total: int, line_length: int = LINE_LENGTH) -> int:
    """The largest packet that fits `line_total` lines; it fills the last one."""
    return (line_length - _LINE_OVERHEAD) // _GROUP * 3 * line_total - FRAME_OVERHEAD


class Packet(NamedTuple):
    """A whole SMP packet (header and payload) whose length and CRC were right."""

    data: bytes


class Text(NamedTuple):
    """Console text: bytes that are not SMP. Ends with a newline unless the line was handed on in pieces."""

    data: bytes


class FaultKind(Enum):
    """What was wrong with something that started like SMP."""

    BASE64 = "bad base64"
    CRC = "CRC does not match"
    LENGTH = "length does not match"
    TOO_LONG = "line too long"
    ORPHAN = "continuation without a start"
    STRAY_CR = "carriage return before the newline"
    INCOMPLETE = "packet incomplete when the next one started"


class Fault(NamedTuple):
    """A frame or line that was thrown away. `expected` and `got` hold CRCs or lengths where there are any."""

    kind: FaultKind
    detail: str
    data: bytes
    expected: int | None = None
    got: int | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}"


Event = Packet | Text | Fault
_State = Literal["text", "smp"]


@dataclass(slots=True)
class _Frame:
    """A packet being put together from lines."""

    chars: bytearray
    raw: bytearray


class Decoder:
    """Bytes in, in any slices; packets, console text and faults out.

    The decoder is as forgiving as a receiver can be without inventing data: a marker in the middle of a line starts a
    new line (what went before is text or an incomplete frame, and what follows is not lost), a carriage return before
    the newline is reported and skipped, base64 may be cut anywhere.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._frame: _Frame | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        events: list[Event] = []
        self._line += data
        while True:
            end = self._line.find(b"\n")
            if end < 0:
                break
            line = bytes(self._line[: end + 1])
            del self._line[: end + 1]
            self._take_line(line, events)
        self._shorten(events)
        return events

    def flush(self) -> list[Event]:
        """What is pending, as text or fault: for the end of a capture or a closed port."""
        events: list[Event] = []
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._take_line(line, events)
        self._abandon(events)
        return events

    @property
    def pending_text(self) -> bytes:
        """The unfinished line, if it is console text: a prompt has no newline."""
        return b"" if any(marker in self._line for marker in (START, CONTINUATION)) else bytes(self._line)

    def _shorten(self, events: list[Event]) -> None:
        limit = _MAX_SMP_LINE if self._line.startswith((START, CONTINUATION)) else _MAX_TEXT_LINE
        if len(self._line) <= limit:
            return
        # Everything but the last byte goes: that one could be the first half of a marker.
        piece = bytes(self._line[:-1])
        del self._line[:-1]
        self._take_line(piece, events)

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        """Split one line at markers inside it, and take each piece."""
        start = 0
        while True:
            cut = min((p for m in (START, CONTINUATION) if (p := line.find(m, start + 1)) >= 0), default=-1)
            piece = line[start:] if cut < 0 else line[start:cut]
            if piece:
                self._take_piece(piece, events)
            if cut < 0:
                return
            start = cut

    def _take_piece(self, piece: bytes, events: list[Event]) -> None:
        if piece.startswith(START):
            self._abandon(events)
            self._frame = _Frame(bytearray(), bytearray())
        elif not piece.startswith(CONTINUATION):
            events.append(Text(piece))
            return
        elif self._frame is None:
            events.append(Fault(FaultKind.ORPHAN, f"{len(piece)} bytes without a packet that they continue", piece))
            return
        self._extend(self._frame, piece, events)

    def _extend(self, frame: _Frame, piece: bytes, events: list[Event]) -> None:
        frame.raw += piece
        if len(piece) > _MAX_SMP_LINE - 1:
            self._frame = None
            events.append(Fault(FaultKind.TOO_LONG, f"{len(piece)} bytes in one line", piece))
            return
        body = piece[2:]
        if body.endswith(b"\n"):
            body = body[:-1]
        if body.endswith(b"\r"):
            events.append(Fault(FaultKind.STRAY_CR, "CR LF ends the line, SMP lines end with LF alone", piece))
            body = body.rstrip(b"\r")
        frame.chars += body
        self._finish(frame, events)

    def _finish(self, frame: _Frame, events: list[Event]) -> None:
        """Emit the packet if the frame holds all of it."""
        whole = len(frame.chars) // _GROUP * _GROUP
        try:
            body = base64.b64decode(bytes(frame.chars[:whole]), validate=True)
        except binascii.Error as error:
            self._frame = None
            events.append(Fault(FaultKind.BASE64, str(error), bytes(frame.raw)))
            return
        if len(body) < 2:
            return
        expected = int.from_bytes(body[:2], "big") + 2
        if len(body) < expected and not frame.chars.endswith(b"="):
            return
        self._frame = None
        raw = bytes(frame.raw)
        if len(body) != expected or whole != len(frame.chars):
            detail = f"the length field says {expected - 2} bytes of packet and CRC, {len(body) - 2} came"
            events.append(Fault(FaultKind.LENGTH, detail, raw, expected - 2, len(body) - 2))
            return
        if expected < FRAME_OVERHEAD:
            events.append(Fault(FaultKind.LENGTH, "the length field leaves no room for the CRC", raw, 2, expected - 2))
            return
        packet, sent = body[2:-2], int.from_bytes(body[-2:], "big")
        computed = crc16(packet)
        if computed != sent:
            detail = f"the packet's CRC is 0x{computed:04x}, the frame says 0x{sent:04x}"
            events.append(Fault(FaultKind.CRC, detail, raw, computed, sent))
            return
        events.append(Packet(packet))

    def _abandon(self, events: list[Event]) -> None:
        if self._frame is not None:
            raw = bytes(self._frame.raw)
            self._frame = None
            events.append(Fault(FaultKind.INCOMPLETE, f"{len(raw)} bytes of an unfinished packet dropped", raw))
