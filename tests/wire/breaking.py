"""Breaks a correct host in one way per rule: what it sends, which rule must fire, and what MCUboot must do.

`CASES` holds at least one break for every rule. A case is a list of steps; all but the marked ones are what a correct
host sends. `run` plays one against anything that answers and makes a capture of it.
"""

import base64
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
from breaking_host import (
    CHUNK,
    IMAGE,
    LIST,
    NETWORK_IMAGE,
    RESET,
    SIZE,
    Board,
    Case,
    Played,
    Step,
    chunk,
    correct,
    frame,
    keys,
    observed,
    packet,
    run,
)

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.console import CONTINUATION, START, crc16
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.wire.lint import Effect

__all__ = [
    "CASES",
    "CHUNK",
    "IMAGE",
    "LIST",
    "NETWORK_IMAGE",
    "RESET",
    "SIZE",
    "Board",
    "Case",
    "Played",
    "Step",
    "chunk",
    "correct",
    "frame",
    "keys",
    "observed",
    "packet",
    "run",
]


RULE_NAMES = {"len": "upload-len"}
"""A key of an upload whose rules do not begin with its name: `length-missing` is the rule of another field."""


def _second(name: str, rule: str, data: bytes, effect: Effect = Effect.SILENCE, *, again: bool = True) -> Case:
    """Breaks the second chunk of an upload; afterwards, the host flushes the line and sends it correctly."""
    steps = [*correct(chunk(0)), Step(data, broken=True)]
    if again:
        steps += [Step(b"\n", wait=False)] if effect is Effect.SILENCE else []
        steps += correct(chunk(CHUNK) if effect is not Effect.ANSWERS else chunk(2 * CHUNK))
    return Case(name, rule, effect, tuple(steps), before=CHUNK, end=2 * CHUNK)


def _first(name: str, rule: str, payload: Any, effect: Effect = Effect.RC3) -> Case:
    """Breaks the payload of the first chunk; afterwards, it is sent correctly."""
    return Case(name, rule, effect, (Step(console.encode(packet(payload)), True), *correct(chunk(0))))


def _reflected(data: bytes, polynomial: int, value: int) -> int:
    """Any reflected CRC of 16 bits, bit by bit; `polynomial` mirrored."""
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value


def _ccitt(data: bytes, value: int) -> int:
    """CRC of polynomial 0x1021 with another initial value, bit by bit."""
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def swapped(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _crc_cases() -> Iterator[Case]:
    data = chunk(CHUNK)
    size = (len(data) + 2).to_bytes(2, "big")
    wrong: dict[str, tuple[str, int]] = {
        "over the base64 text of length and packet": ("crc-over-text", crc16(base64.b64encode(size + data))),
        "over the base64 text of the packet": ("crc-over-text", crc16(base64.b64encode(data))),
        "over the length field": ("crc-includes-length", crc16(size + data)),
        "over the payload": ("crc-over-payload", crc16(data[HEADER_SIZE:])),
        "little-endian": ("crc-little-endian", swapped(crc16(data))),
        "begun with ffff": ("crc-initial-value", _ccitt(data, 0xFFFF)),
        "begun with 1d0f": ("crc-initial-value", _ccitt(data, 0x1D0F)),
        "ARC": ("crc-polynomial", _reflected(data, 0xA001, 0)),
        "MODBUS": ("crc-polynomial", _reflected(data, 0xA001, 0xFFFF)),
        "MODBUS, low byte first": ("crc-polynomial", swapped(_reflected(data, 0xA001, 0xFFFF))),
        "KERMIT": ("crc-polynomial", _reflected(data, 0x8408, 0)),
        "X-25": ("crc-polynomial", _reflected(data, 0x8408, 0xFFFF) ^ 0xFFFF),
        "one bit off": ("crc-wrong", crc16(data) ^ 0x10),
    }
    for name, (rule, crc) in wrong.items():
        yield _second(f"CRC {name}", rule, frame(data, crc=crc))
    yield _second("no CRC, counted", "crc-missing", frame(data, body=size + data))
    yield _second("no CRC, not counted", "crc-missing", frame(data, body=len(data).to_bytes(2, "big") + data))


def _length_cases() -> Iterator[Case]:
    data = chunk(CHUNK)
    whole = len(data) + 2
    yield _second("length little-endian", "length-little-endian", frame(data, length=swapped(whole)))
    yield _second("length of the first line", "length-per-line", frame(data, length=93 - 2))
    yield _second("length of the first line's text", "length-per-line", frame(data, length=124))
    yield _second("length without CRC", "length-without-crc", frame(data, length=whole - 2))
    yield _second("length with itself", "length-counts-itself", frame(data, length=whole + 2))
    yield _second("length of the text", "length-of-text", frame(data, length=(whole + 4) // 3 * 4))
    yield _second("length nobody knows", "length-wrong", frame(data, length=whole - 17))
    yield _second("packet alone", "length-missing", frame(data, body=data))
    crc = crc16(data).to_bytes(2, "big")
    yield _second("packet and CRC alone", "length-missing", frame(data, body=data + crc))
    zero = whole.to_bytes(2, "big") + data + crc + b"\0"
    yield _second("a zero behind the CRC", "bytes-behind-packet", frame(data, body=zero))
    cut = b"".join(list(console.lines(data))[:-1])
    yield _second("last line not sent", "packet-incomplete", cut)


def _each_line(data: bytes) -> bytes:
    """Each line with length field and CRC of its own."""
    return b"".join(frame(data[at : at + 60], start=CONTINUATION if at else START) for at in range(0, len(data), 60))


def _padded(data: bytes) -> bytes:
    """Every line encoded by itself, of 90 bytes or one or two less."""
    body = (len(data) + 2).to_bytes(2, "big") + data + crc16(data).to_bytes(2, "big")
    pieces = [body[at : at + 88] for at in range(0, len(body), 88)]
    return b"".join(
        (CONTINUATION if number else START) + base64.b64encode(piece) + b"\n" for number, piece in enumerate(pieces)
    )


def _line_cases() -> Iterator[Case]:
    data = chunk(CHUNK)
    body = (len(data) + 2).to_bytes(2, "big") + data + crc16(data).to_bytes(2, "big")
    text = base64.b64encode(body)
    good = list(console.lines(data))
    yield _second("length and CRC in each line", "length-per-line", _each_line(data), Effect.RC3)
    yield _second("CR LF", "line-crlf", frame(data, end=b"\r\n"))
    yield _second("LF CR", "bytes-before-start", frame(data, end=b"\n\r"), again=False)
    yield _second("no newline in the middle", "newline-missing", good[0][:-1] + b"".join(good[1:]))
    yield _second("no newline at the end", "newline-missing", b"".join(good)[:-1], again=False)
    yield _second("CR alone", "newline-missing", frame(data, end=b"\r"), again=False)
    yield _second("line of 131", "line-too-long", frame(data, step=128))
    yield _second("everything in one line", "line-too-long", frame(data, step=1000))
    yield _second("groups split", "groups-split", frame(data, step=122))
    yield _second("padding in a line", "padding-inside", frame(data, text=_pieces(body)))
    yield _second("padding at each line's end", "padding-inside", _padded(data), Effect.ANSWERS)
    even = chunk(CHUNK, size=CHUNK - 4)
    assert frame(even).rstrip().endswith(b"="), "this packet's text has to have padding"
    case = _second("no padding", "padding-missing", frame(even).replace(b"=", b""))
    yield case
    lost = bytearray(frame(data))
    del lost[40]
    yield _second("a character lost", "base64-cut", bytes(lost))
    safe = base64.urlsafe_b64encode(body)
    assert safe != text
    yield _second("URL-safe base64", "base64-alphabet", frame(data, text=safe))
    spaced = text[:40] + b" " + text[40:]
    yield _second("a space in base64", "base64-alphabet", frame(data, text=spaced))
    small = packet({}, op=0, command=0)
    raw = (len(small) + 2).to_bytes(2, "big") + small + crc16(small).to_bytes(2, "big")
    yield _second("no base64", "not-base64", START + raw + b"\n")
    hexed = frame(data, text=body.hex().encode(), step=120)
    yield _second("hex digits", "not-base64", hexed)
    yield _second("a zero in front", "bytes-before-start", b"\0" + frame(data))
    yield _second("a prompt in front", "bytes-before-start", b"> " + frame(data))


def _pieces(body: bytes) -> bytes:
    """Base64 in pieces that end in mid-line: each has its padding."""
    return b"".join(base64.b64encode(body[at : at + 40]) for at in range(0, len(body), 40))


def _marker_cases() -> Iterator[Case]:
    data = chunk(CHUNK)
    for name, start in {
        "exchanged": b"\x09\x06",
        "as text": b"0609",
        "none": b"",
        "another": b"\x06\x08",
        "that of further lines": CONTINUATION,
    }.items():
        yield _second(f"start bytes: {name}", "start-bytes-wrong", frame(data, start=start))
        yield _second(f"start bytes of one line: {name}", "start-bytes-wrong", frame(LIST, start=start))
    for name, marker in {"exchanged": b"\x14\x04", "none": b"", "as text": b"0414", "those of a start": START}.items():
        yield _second(f"continuation: {name}", "continuation-bytes-wrong", frame(data, continuation=marker))
    yield _second("the first line not sent", "start-missing", b"".join(list(console.lines(data))[1:]))
    yield _second("no framing", "framing-missing", LIST)


def _header_cases() -> Iterator[Case]:
    data = chunk(CHUNK)
    body = data[HEADER_SIZE:]
    little = struct.pack("<BBHHBB", 8, 0, 1, 1, 66, 0) + b"\xa0"
    upload = struct.pack("<BBHHBB", 10, 0, len(body), 1, 66, 1) + body
    yield _second("header little-endian", "header-little-endian", frame(little), Effect.RC8)
    if swapped(len(body)) < len(body):
        yield _second("header little-endian, less", "header-little-endian", frame(upload))
    else:
        yield _second("header little-endian, more", "header-little-endian", frame(upload), Effect.RC8)
    group = packet(body, group=0x0100)
    yield _second("group little-endian", "header-little-endian", frame(group), Effect.RC8)
    yield _second("op of a response", "op-not-request", frame(packet(body, op=3)))
    yield _second("op 4", "op-not-request", frame(packet(body, op=4)))
    yield _second("upload as a read", "op-wrong", frame(packet(body, op=0)), Effect.ANSWERS)
    yield _second("length 4 short", "header-length-wrong", frame(packet(body, length=len(body) - 4)))
    with_header = packet(body, length=len(data))
    yield _second("length with the header", "header-length-wrong", frame(with_header), Effect.ANSWERS)


def _pairs(*pairs: tuple[Any, Any], count: int | None = None) -> bytes:
    """A CBOR map from its pairs, repeated ones too."""
    content = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in pairs)
    return bytes([0xA0 + (len(pairs) if count is None else count)]) + content


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in keys(0).items() if name != key}


def _payload_cases() -> Iterator[Case]:
    right = keys(0)
    for key in ("off", "len", "data"):
        yield _first(f"no {key}", f"{RULE_NAMES.get(key, key)}-missing", _without(key))
    yield _first("offset for off", "off-missing", {"offset": 0} | _without("off"))
    for key, value in {
        "off": [-1, "0", 0.0, None, b"\0"],
        "len": [str(SIZE), float(SIZE), SIZE.to_bytes(4, "big")],
        "data": [right["data"].hex(), list(right["data"][:60]), base64.b64encode(right["data"]).decode()],
        "image": ["0", -1, None],
    }.items():
        for one in value:
            yield _first(f"{key} as {type(one).__name__}", f"{RULE_NAMES.get(key, key)}-type", right | {key: one})
    head = cbor2.dumps(right)
    at = head.index(b"cdata") if b"cdata" in head else head.index(b"ddata")
    indefinite = head[: at + 5] + b"\x5f" + head[at + 5 :] + b"\xff"
    yield _first("data of indefinite length", "data-type", indefinite)
    wide = head.replace(b"clen\x19" + SIZE.to_bytes(2, "big"), b"clen\x1b" + SIZE.to_bytes(8, "big"))
    assert wide != head
    yield _first("len in eight bytes", "integer-too-wide", wide)
    pairs = list(right.items())
    yield _first("off twice", "key-repeated", _pairs(*pairs, ("off", 0)))
    yield _first("len twice", "key-repeated", _pairs(("len", SIZE), *pairs))
    yield _first("sha twice", "key-repeated", _pairs(("sha", b"a"), *pairs, ("sha", b"b")), Effect.ANSWERS)
    yield _first("keys as bytes", "key-not-text", _pairs(*((name.encode(), value) for name, value in pairs)))
    yield _first("keys as numbers", "key-not-text", _pairs(*enumerate(right.values())))
    yield _first("a pair too many", "cbor-count-wrong", _pairs(*pairs, count=4))
    yield _first("a pair too few", "cbor-count-wrong", _pairs(*pairs, count=2))
    yield _first("cut off", "cbor-broken", head[:-5])
    yield _first("an array", "cbor-broken", [SIZE, 0, right["data"]])
    yield _first("JSON", "cbor-broken", b'{"len": 12000, "off": 0}')
    yield _first("no payload", "payload-missing", b"")
    yield _first("bytes behind the map", "bytes-behind-map", head + b"\0\0", Effect.ANSWERS)
    empty = Step(frame(packet(b"", op=0, command=0)), broken=True)
    yield Case("list without a payload", "payload-missing", Effect.ANSWERS, (empty, *correct(chunk(0))))


def _course_cases() -> Iterator[Case]:
    start = (*correct(LIST, chunk(0)),)
    for name, off in (("a gap", 2 * CHUNK), ("a step back", CHUNK - 40)):
        step = Step(frame(chunk(off)), broken=True)
        yield Case(name, "off-not-followed", Effect.RESYNC, (*start, step), before=CHUNK, end=off + CHUNK)
    stays = Step(frame(packet({"off": 0, "len": SIZE, "data": IMAGE[CHUNK : CHUNK + 200]})), broken=True)
    yield Case("off stays 0", "off-not-followed", Effect.RESTARTS, (*start, stays), before=CHUNK, end=200)
    refused = Step(frame(packet(keys(0) | {"len": 0x7FFF_FFFF})))
    on = Step(frame(chunk(CHUNK)), broken=True)
    yield Case("rc not looked at", "rc-ignored", Effect.RESYNC, (*correct(LIST), refused, on), end=2 * CHUNK)
    odd = Step(frame(chunk(CHUNK, size=93)), broken=True)
    yield Case("93 bytes", "chunk-not-multiple-of-4", Effect.PARTIAL, (*start, odd), before=CHUNK, end=CHUNK + 93)
    tiny = Step(frame(chunk(CHUNK, size=3)), broken=True)
    yield Case("3 bytes", "chunk-not-multiple-of-4", Effect.RESYNC, (*start, tiny), before=CHUNK, end=CHUNK + 3)
    yield _first("no data at 0", "data-empty", keys(0, size=0))
    none = Step(frame(chunk(CHUNK, size=0)), broken=True)
    yield Case("no data", "data-empty", Effect.RESYNC, (*start, none), before=CHUNK, end=-1)
    short = packet(keys(0) | {"len": CHUNK + 100})
    past = Step(frame(chunk(CHUNK)), broken=True)
    yield Case("past the end", "data-past-end", Effect.RC3, (*correct(short), past))
    for name, more in (("no number", {}), ("number 0", {"image": 0})):
        first = Step(frame(chunk(0, data=NETWORK_IMAGE, **more)), broken=True)
        rest = correct(chunk(CHUNK, data=NETWORK_IMAGE))
        yield Case(f"network core, {name}", "network-image-to-application", Effect.OVERWRITES, (first, *rest))
    large = Step(frame(chunk(CHUNK, size=1000)), broken=True)
    yield Case("1022 bytes", "packet-too-large", Effect.SILENCE, (*start, large), before=CHUNK)


def _timing_cases() -> Iterator[Case]:
    size = 600
    first = correct(*(chunk(off, size=size) for off in range(0, 6 * size, size)))
    offsets = (6 * size, 7 * size, 8 * size)  # the first of them begins the second page, and so erases it
    burst = [Step(frame(chunk(off, size=size)), broken=True, wait=off == offsets[-1]) for off in offsets]
    yield Case("three chunks ahead", "lines-in-flight", Effect.LOSES, (*first, *burst), emulated=False)
    one = Step(frame(chunk(0, size=80)), broken=True, wait=False)
    yield Case("sent again at once", "timeout-too-short", Effect.LOSES, (one, one._replace(wait=True)), emulated=False)


def _reset_case() -> Case:
    steps = (*correct(LIST, chunk(0)), Step(frame(RESET), broken=True))
    return Case("reset in the middle", "reset-before-end", Effect.REBOOTS, steps, emulated=False)


_MAKERS: tuple[Callable[[], Iterator[Case]], ...] = (
    _crc_cases,
    _length_cases,
    _line_cases,
    _marker_cases,
    _header_cases,
    _payload_cases,
    _course_cases,
    _timing_cases,
)
CASES = [case for make in _MAKERS for case in make()] + [_reset_case()]
