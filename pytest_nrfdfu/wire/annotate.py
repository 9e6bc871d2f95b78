"""What each byte of a frame says.

Sources: Zephyr, doc/services/device_mgmt/smp_transport.rst (length, CRC), smp_protocol.rst (header); RFC 8949 (CBOR).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.codec import rc_name
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header
from pytest_nrfdfu.smp.names import command_name, op_name
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.frames import Frame

__all__ = ["Field", "body_fields", "packet_fields", "shown"]

_GROUPS: dict[int, str] = {Group.OS: "OS", Group.IMAGE: "image"}
_SHOWN_BYTES = 8
"""Of a byte string of data; a hash is shown whole."""
_WHOLE = 32
_LENGTH, _CRC = 2, 2


class Field(NamedTuple):
    """Some bytes and what they say. `part`: frame, header or payload; `at`: their index; `depth`: of nesting."""

    part: str
    at: int
    data: bytes
    says: str
    depth: int = 0


def shown(value: Any) -> str:
    """A value of a payload, as JSON-like text; long byte strings are shortened."""
    match value:
        case bytes() if len(value) > _WHOLE:
            return f"{value[:_SHOWN_BYTES].hex()}... ({len(value)} bytes)"
        case bytes():
            return value.hex() or "(empty)"
        case dict():
            return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(shown(item) for item in value) + "]"
        case bool() | None | str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def body_fields(frame: Frame) -> Iterator[Field]:
    """The fields of a frame's body, right or wrong: length field, packet, CRC."""
    body = frame.body
    packet = frame.presumed
    if frame.length_field is None:
        yield Field("frame", 0, body, "cut off within the length field")
        return
    came = len(body) - _LENGTH
    agrees = "" if frame.length_field == came else f"; {came} came"
    yield Field("frame", 0, body[:_LENGTH], f"length: {frame.length_field} bytes of packet and CRC{agrees}")
    for field in packet_fields(packet):
        yield field._replace(at=field.at + _LENGTH)
    rest = body[_LENGTH + len(packet) :]
    at = _LENGTH + len(packet)
    if len(rest) != _CRC:
        yield Field("frame", at, rest, "the CRC (2 bytes) should be here" if len(rest) < _CRC else "more than a CRC")
        return
    sent, right = int.from_bytes(rest, "big"), frame.crc_computed
    fits = "right" if sent == right else f"wrong: that of the packet is {right:04x}"
    yield Field("frame", at, rest, f"CRC16-XMODEM of the packet: {fits}")


def packet_fields(packet: bytes) -> Iterator[Field]:
    """The fields of a packet: header, then the payload's CBOR; bytes that cannot be read are one field."""
    if len(packet) < HEADER_SIZE:
        yield Field("header", 0, packet, f"cut off: a header has {HEADER_SIZE} bytes")
        return
    yield from _header_fields(packet)
    payload = packet[HEADER_SIZE:]
    try:
        item = cbor.read(payload)
    except SmpMalformed as error:
        yield Field("payload", HEADER_SIZE, payload, f"not whole CBOR: {error}")
        return
    for field in _item_fields(payload, item, 0):
        yield field._replace(at=field.at + HEADER_SIZE)
    if item.end < len(payload):
        yield Field("payload", HEADER_SIZE + item.end, payload[item.end :], "more bytes behind the payload")


def _header_fields(packet: bytes) -> Iterator[Field]:
    header = Header.unpack(packet)
    came = len(packet) - HEADER_SIZE
    agrees = "" if header.length == came else f"; {came} came"
    group = _GROUPS.get(header.group, "unknown")
    meanings = (
        (
            0,
            1,
            f"SMP version {header.version + 1} ({header.version} in the field), op {header.op}: {op_name(header.op)}",
        ),
        (1, 2, f"flags {header.flags}"),
        (2, 4, f"payload length {header.length}{agrees}"),
        (4, 6, f"group {header.group}: {group}"),
        (6, 7, f"sequence {header.sequence}"),
        (7, 8, f"command {header.command}: {command_name(header)}"),
    )
    for start, end, says in meanings:
        yield Field("header", start, packet[start:end], says)


def _item_fields(data: bytes, item: cbor.Item, depth: int, key: str = "") -> Iterator[Field]:
    if item.kind not in {"map", "array"}:
        yield Field("payload", item.start, data[item.start : item.end], _said(item, key), depth)
        return
    count = len(item.children) // (2 if item.kind == "map" else 1)
    length = "of indefinite length" if item.indefinite else f"of {count}"
    yield Field("payload", item.start, data[item.start : item.head], f"{item.kind} {length}", depth)
    if item.kind == "map":
        for name, value in item.pairs:
            yield Field("payload", name.start, data[name.start : name.end], f"key {shown(name.value)}", depth + 1)
            known = name.value if isinstance(name.value, str) else ""
            yield from _item_fields(data, value, depth + 2, known)
    else:
        for child in item.children:
            yield from _item_fields(data, child, depth + 1)
    if item.indefinite:
        yield Field("payload", item.end - 1, data[item.end - 1 : item.end], f"end of the {item.kind}", depth)


def _said(item: cbor.Item, key: str) -> str:
    match item.kind:
        case "bytes":
            size = len(item.value)
            return f"byte string of {size}" + (f": {shown(item.value)}" if size <= _WHOLE else "")
        case "text":
            return shown(item.value)
        case "uint" | "nint":
            return f"{item.value}" + (f" ({rc_name(item.value)})" if key == "rc" else "")
        case _:
            return shown(item.value) if item.kind in {"simple", "float"} else f"{item.kind}: {shown(item.value)}"
