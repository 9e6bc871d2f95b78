"""Captures as pcapng, which Wireshark opens; and what others wrote as pcapng of a serial line.

Of the link types, LINKTYPE_RTAC_SERIAL (250) is the one for serial lines that Wireshark knows without settings: its
twelve bytes before the data say whether they were sent or received, and the columns show it. LINKTYPE_USER0 would show
nothing until somebody configures it. The direction stands in the block's flags too. A chunk without time becomes a
Simple Packet Block, which has none.

Sources: IETF draft-ietf-opsawg-pcapng (blocks and options); tcpdump.org, LINKTYPE_RTAC_SERIAL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.wire.capture import Capture, Direction

__all__ = ["MAGIC", "Packet", "dumps", "read"]

MAGIC = b"\x0a\x0d\x0d\x0a"
"""First bytes of a pcapng file: the type of a section header block, the same in both byte orders."""
_SHB, _IDB, _SPB, _EPB = 0x0A0D0D0A, 1, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_VERSION = (1, 0)
_UNKNOWN_LENGTH = -1
_BLOCK_OVERHEAD = 12
"""Type and length in front of a block, the length again behind it."""
_OPT_END, _OPT_COMMENT, _SHB_USERAPPL, _IF_NAME, _IF_TSRESOL, _EPB_FLAGS = 0, 1, 4, 2, 9, 2
_RTAC_SERIAL = 250
_USER = range(147, 163)
"""LINKTYPE_USER0 to USER15: private use; the data is taken as it is."""
_RTAC_HEADER = struct.Struct(">IIBBH")
_RTAC_TX, _RTAC_RX = 1, 2
_RTAC_DIRECTIONS: dict[int, Direction] = {1: "tx", 3: "tx", 2: "rx", 4: "rx"}
"""DATA_TX_START, DATA_TX_END, DATA_RX_START, DATA_RX_END; other events carry no data."""
_INBOUND, _OUTBOUND = 1, 2
_FLAG_DIRECTIONS: dict[int, Direction] = {_INBOUND: "rx", _OUTBOUND: "tx"}
_NANO = 9
"""if_tsresol: 10^-9 seconds."""
_MICRO = 6
"""Its default."""
_PER_SECOND = 10**9


class Packet(NamedTuple):
    """One packet of a file. `time`: seconds since 1970; `direction` None where the file does not tell."""

    time: float | None
    direction: Direction | None
    data: bytes


def dumps(capture: Capture, epoch: float = 0.0) -> bytes:
    """The file of a capture whose begin was `epoch` seconds after 1970-01-01."""
    comment = _option(_OPT_COMMENT, capture.source.encode()) if capture.source else b""
    name = _option(_SHB_USERAPPL, b"pytest-nrfdfu")
    head = struct.pack("<IHHq", _BYTE_ORDER, *_VERSION, _UNKNOWN_LENGTH)
    interface = struct.pack("<HHI", _RTAC_SERIAL, 0, 0) + _option(_IF_NAME, b"uart") + _option(_IF_TSRESOL, b"\x09")
    blocks = [_block(_SHB, head + comment + name + _end()), _block(_IDB, interface + _end())]
    for time, direction, data in capture:
        stamp = None if time is None else round(epoch * _PER_SECOND) + round(time * _PER_SECOND)
        blocks.append(_packet(stamp, direction, data))
    return b"".join(blocks)


def _packet(stamp: int | None, direction: Direction, data: bytes) -> bytes:
    seconds, nanoseconds = divmod(stamp or 0, _PER_SECOND)
    event = _RTAC_TX if direction == "tx" else _RTAC_RX
    framed = _RTAC_HEADER.pack(seconds & 0xFFFFFFFF, nanoseconds // 1000, event, 0, 0) + data
    if stamp is None:
        return _block(_SPB, struct.pack("<I", len(framed)) + _padded(framed))
    flags = _option(_EPB_FLAGS, struct.pack("<I", _OUTBOUND if direction == "tx" else _INBOUND))
    head = struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(framed), len(framed))
    return _block(_EPB, head + _padded(framed) + flags + _end())


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _end() -> bytes:
    return struct.pack("<HH", _OPT_END, 0)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + _BLOCK_OVERHEAD
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


class _Interface(NamedTuple):
    link_type: int
    resolution: float
    """Seconds in a unit of its time stamps."""


def read(data: bytes) -> list[Packet]:
    """The packets of serial data in a pcapng file, of either byte order; ConfigError where it is none.

    A last block that is cut off is left out; so are blocks of other kinds.
    """
    if not data.startswith(MAGIC):
        raise ConfigError(f"a pcapng file begins with {MAGIC.hex(' ')}, this one with {data[:4].hex(' ')}")
    try:
        return list(_packets(data))
    except (struct.error, IndexError, OverflowError) as error:
        raise ConfigError(f"a pcapng block is shorter than its kind must be ({error})") from None


def _packets(data: bytes) -> Iterator[Packet]:
    interfaces: list[_Interface] = []
    for order, kind, body in _blocks(data):
        if kind == _SHB:
            interfaces = []
        elif kind == _IDB:
            interfaces.append(_interface(order, body))
        elif kind in {_EPB, _SPB}:
            packet = (_enhanced if kind == _EPB else _simple)(order, body, interfaces)
            if packet is not None:
                yield packet


_Order = Literal["<", ">"]


def _blocks(data: bytes) -> Iterator[tuple[_Order, int, bytes]]:
    position = 0
    order: _Order = "<"
    while position + _BLOCK_OVERHEAD <= len(data):
        if data.startswith(MAGIC, position):
            order = "<" if data[position + 8 : position + 12] == struct.pack("<I", _BYTE_ORDER) else ">"
        kind, size = struct.unpack_from(order + "II", data, position)
        if size < _BLOCK_OVERHEAD or size % 4:
            raise ConfigError(f"the pcapng block at byte {position} gives its size as {size}")
        if position + size > len(data):
            return
        yield order, kind, data[position + 8 : position + size - 4]
        position += size


def _options(order: _Order, body: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, position)
        if code == _OPT_END:
            return
        yield code, body[position + 4 : position + 4 + size]
        position += 4 + size + -size % 4


def _interface(order: _Order, body: bytes) -> _Interface:
    (link_type,) = struct.unpack_from(order + "H", body)
    if link_type != _RTAC_SERIAL and link_type not in _USER:
        raise ConfigError(
            f"this pcapng holds link type {link_type}; serial data is {_RTAC_SERIAL} (RTAC_SERIAL), or "
            f"{_USER[0]} to {_USER[-1]} (USER) where the packets are the bytes alone"
        )
    resolution = next((value for code, value in _options(order, body[8:]) if code == _IF_TSRESOL), bytes([_MICRO]))
    base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
    return _Interface(link_type, float(base) ** -exponent)


def _enhanced(order: _Order, body: bytes, interfaces: list[_Interface]) -> Packet | None:
    number, high, low, size, _ = struct.unpack_from(order + "IIIII", body)
    if number >= len(interfaces):
        raise ConfigError(f"a pcapng packet belongs to interface {number}, of {len(interfaces)} that are described")
    data = body[20 : 20 + size]
    options = dict(_options(order, body[20 + size + -size % 4 :]))
    flags = int.from_bytes(options.get(_EPB_FLAGS, b""), "little" if order == "<" else "big")
    time = (high << 32 | low) * interfaces[number].resolution
    return _serial(interfaces[number].link_type, time, _FLAG_DIRECTIONS.get(flags & 3), data)


def _simple(order: _Order, body: bytes, interfaces: list[_Interface]) -> Packet | None:
    if not interfaces:
        raise ConfigError("a pcapng packet stands before the description of its interface")
    (size,) = struct.unpack_from(order + "I", body)
    return _serial(interfaces[0].link_type, None, None, body[4 : 4 + size])


def _serial(link_type: int, time: float | None, direction: Direction | None, data: bytes) -> Packet | None:
    if link_type != _RTAC_SERIAL:
        return Packet(time, direction, data)
    if len(data) < _RTAC_HEADER.size:
        return None
    event = _RTAC_HEADER.unpack_from(data)[2]
    known = _RTAC_DIRECTIONS.get(event)
    return None if known is None else Packet(time, known, data[_RTAC_HEADER.size :])
