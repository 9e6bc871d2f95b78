"""CBOR with places: every item of a payload, its value, and which bytes made it.

`cbor2` gives values alone; who explains bytes needs to know where each key and value stands, whether a length was
definite, and what is left of a payload that ends too early. Source: RFC 8949, section 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pytest_nrfdfu.errors import SmpMalformed

__all__ = ["Item", "Kind", "read"]

Kind = Literal["uint", "nint", "bytes", "text", "array", "map", "tag", "simple", "float"]
_MAJOR: tuple[Kind, ...] = ("uint", "nint", "bytes", "text", "array", "map", "tag", "simple")
_INDEFINITE = 31
"""Additional information of an item whose end is told by a break; as major type 7 it is that break."""
_BREAK = 0xFF
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}
"""Bytes of the argument that follows the first byte."""
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_DEEPEST = 32
"""Levels of nesting that are followed; SMP uses three."""


class Item(NamedTuple):
    """One data item: bytes `start` to `end` (not included) of the payload, of which the head ends at `head`.

    `children`: of an array its items, of a map keys and values in turn, of a tag its content, of an indefinite string
    its pieces. `value` is what Python makes of it; of a key that is there twice, a map's value holds the last.
    """

    kind: Kind
    start: int
    head: int
    end: int
    value: Any
    children: tuple[Item, ...] = ()
    indefinite: bool = False

    @property
    def pairs(self) -> Iterator[tuple[Item, Item]]:
        """Keys and values of a map, in the order of the bytes."""
        return zip(self.children[::2], self.children[1::2], strict=False)


def read(data: bytes, start: int = 0) -> Item:
    """The item at `start` of `data`; SmpMalformed, with the byte where it broke, if it is not whole CBOR."""
    return _item(data, start, 0)


def _item(data: bytes, start: int, depth: int) -> Item:
    if depth > _DEEPEST:
        raise SmpMalformed(f"CBOR nested deeper than {_DEEPEST} levels at byte {start}")
    if start >= len(data):
        raise SmpMalformed(f"CBOR ends at byte {start}, where one more item should begin")
    major, info = data[start] >> 5, data[start] & 31
    kind = _MAJOR[major]
    if info == _INDEFINITE:
        return _until_break(data, start, kind, depth)
    size = _SIZES.get(info, 0)
    if 28 <= info <= 30:
        raise SmpMalformed(f"byte {start} (0x{data[start]:02x}) begins no CBOR item")
    head = start + 1 + size
    if head > len(data):
        raise SmpMalformed(f"CBOR ends at byte {len(data)}, within the head of the item at byte {start}")
    argument = int.from_bytes(data[start + 1 : head], "big") if size else info
    match kind:
        case "uint" | "nint":
            return Item(kind, start, head, head, argument if kind == "uint" else -1 - argument)
        case "bytes" | "text":
            return _string(data, start, head, argument, kind)
        case "simple":
            return _simple(data, start, head, info, argument)
        case _:
            count = {"array": argument, "map": 2 * argument}.get(kind, 1)
            children, end = _children(data, head, count, depth)
            return _composed(kind, start, head, end, children)


def _string(data: bytes, start: int, head: int, size: int, kind: Kind) -> Item:
    end = head + size
    if end > len(data):
        raise SmpMalformed(
            f"CBOR ends at byte {len(data)}, {end - len(data)} bytes short of the string at byte {start}"
        )
    raw = data[head:end]
    return Item(kind, start, head, end, raw if kind == "bytes" else raw.decode("utf-8", "backslashreplace"))


def _simple(data: bytes, start: int, head: int, info: int, argument: int) -> Item:
    if info in _FLOATS:
        return Item("float", start, head, head, struct.unpack(_FLOATS[info], data[start + 1 : head])[0])
    return Item("simple", start, head, head, _SIMPLE.get(argument, f"simple({argument})"))


def _children(data: bytes, position: int, count: int, depth: int) -> tuple[tuple[Item, ...], int]:
    found = []
    for _ in range(count):
        child = _item(data, position, depth + 1)
        found.append(child)
        position = child.end
    return tuple(found), position


def _until_break(data: bytes, start: int, kind: Kind, depth: int) -> Item:
    if kind not in {"bytes", "text", "array", "map"}:
        raise SmpMalformed(f"byte {start} (0x{data[start]:02x}) begins no CBOR item")
    found = []
    position = start + 1
    while position < len(data) and data[position] != _BREAK:
        child = _item(data, position, depth + 1)
        if kind in {"bytes", "text"} and (child.kind != kind or child.indefinite):
            raise SmpMalformed(f"byte {position}: a piece of another type within the string at byte {start}")
        found.append(child)
        position = child.end
    if position >= len(data):
        raise SmpMalformed(f"CBOR ends at byte {len(data)}, before the break (ff) of the {kind} at byte {start}")
    if kind == "map" and len(found) % 2:
        raise SmpMalformed(f"byte {position}: the map at byte {start} ends behind a key that has no value")
    return _composed(kind, start, start + 1, position + 1, tuple(found))._replace(indefinite=True)


def _composed(kind: Kind, start: int, head: int, end: int, children: tuple[Item, ...]) -> Item:
    value: Any
    match kind:
        case "bytes":
            value = b"".join(child.value for child in children)
        case "text":
            value = "".join(child.value for child in children)
        case "array":
            value = [child.value for child in children]
        case "map":
            keys = (key.value if key.kind in {"text", "uint", "nint"} else repr(key.value) for key in children[::2])
            value = dict(zip(keys, (child.value for child in children[1::2]), strict=True))
        case _:
            value = children[0].value
    return Item(kind, start, head, end, value, children)
