"""Wrong payloads: CBOR that is none, keys that are missing, repeated or of another type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, ImageCommand
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.frames import Message
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_GROUP_1, Effect, Finding, Rule, Scene, Severity, encoded

__all__ = ["RULES", "find_in_payload", "is_upload"]

_SOURCE = f'{SMP_GROUP_1}, "Image upload request"; {BOOT_SERIAL}, bs_upload'
_CBOR = f"RFC 8949, section 3; {BOOT_SERIAL}, bs_upload (zcbor_map_decode_bulk)"


def _rule(
    name: str, title: str, fix: str, source: str = _SOURCE, severity: Severity = Severity.ERROR, **more: str
) -> Rule:
    return Rule(name, severity, title, fix, source, **more)


NO_OFF = _rule("off-missing", "An upload request has no `off`.", 'Send "off", the chunk\'s offset, in every request.')
NO_LEN = _rule(
    "upload-len-missing",
    "The first upload request has no `len`.",
    'Send "len", the size of the whole image in bytes, in the request with off 0.',
    recipe="The pair is 63 6c 65 6e (the key) and the size: 19 and two bytes (256 to 65535), or 1a and four, "
    "high byte first. The map's first byte counts the pairs: with one more, a2 becomes a3.",
    code='if (off == 0) { cbor_text("len"); cbor_uint(image_size); pairs++; }',
)
NO_DATA = _rule("data-missing", "An upload request has no `data`.", 'Send "data", a byte string, in every request.')
OFF_TYPE = _rule("off-type", "`off` is not an unsigned integer.", "Encode off as CBOR major type 0.")
LEN_TYPE = _rule("upload-len-type", "`len` is not an unsigned integer.", "Encode len as CBOR major type 0.")
DATA_TYPE = _rule(
    "data-type", "`data` is not a byte string.", "Encode data as a CBOR byte string (major type 2), of definite length."
)
IMAGE_TYPE = _rule("image-type", "`image` is not an unsigned integer.", "Encode image as CBOR major type 0.")
WIDE = _rule(
    "integer-too-wide",
    "An integer was encoded in eight bytes.",
    "Encode numbers in the fewest bytes that hold them, at most four (RFC 8949, section 4.2).",
    _CBOR,
)
REPEATED = _rule("key-repeated", "A key is in the map twice.", "Send every key once.", _CBOR)
NOT_TEXT = _rule(
    "key-not-text",
    "A key of the map is not a text string.",
    "Encode keys as CBOR text strings (major type 3: 63 6f 66 66 is `off`).",
    _CBOR,
)
COUNT = _rule(
    "cbor-count-wrong",
    "The map's head announces another number of pairs than there are.",
    "Count key and value as one: a map of four pairs begins with a4.",
    _CBOR,
)
BROKEN = _rule("cbor-broken", "The payload is not a CBOR map.", "Encode the payload as one CBOR map.", _CBOR)
EMPTY = _rule(
    "payload-missing",
    "The request has no payload.",
    "Send an empty map, the byte a0, where a command needs no keys.",
    "Zephyr, doc/services/device_mgmt/smp_protocol.rst",
    Severity.WARNING,
)
BEHIND = _rule(
    "bytes-behind-map",
    "Bytes follow the payload's CBOR map.",
    "End the payload, and its length, with the map.",
    _CBOR,
    Severity.WARNING,
)
RULES = (
    NO_OFF,
    NO_LEN,
    NO_DATA,
    OFF_TYPE,
    LEN_TYPE,
    DATA_TYPE,
    IMAGE_TYPE,
    WIDE,
    REPEATED,
    NOT_TEXT,
    COUNT,
    BROKEN,
    EMPTY,
    BEHIND,
)

_TYPES = {"off": OFF_TYPE, "len": LEN_TYPE, "data": DATA_TYPE, "image": IMAGE_TYPE}
_MISSING = {"off": NO_OFF, "data": NO_DATA, "len": NO_LEN}
_MEANING = {"off": "where in the image the chunk belongs", "data": "the chunk", "len": "how long the image is"}
_WIDEST = 5
"""Bytes of an integer that MCUboot reads, its head included: zcbor decodes it into four."""
_FEW = 24
"""Pairs that a map's head of one byte can announce: fewer than this."""
_TEXT_HEAD = 0x60
"""Of a text string shorter than 24 bytes, to which its length is added (RFC 8949, section 3.1)."""
_KINDS = {
    "uint": "an unsigned integer",
    "nint": "a negative integer",
    "bytes": "a byte string",
    "text": "a text string",
    "array": "an array",
    "map": "a map",
    "tag": "a tagged value",
    "simple": "true, false or null",
    "float": "a floating-point number",
}


class _Place(NamedTuple):
    """A message in its scene."""

    scene: Scene
    message: Message

    def finding(
        self,
        rule: Rule,
        said: str,
        effect: Effect,
        *spans: tuple[int, int],
        because: str = "",
        payload: dict[Any, Any] | None = None,
    ) -> Finding:
        """A finding about bytes `spans` of the payload; `payload` is what it should have been."""
        message = self.message
        marks = [mark for first, last in spans for mark in message.places(first + HEADER_SIZE, last + HEADER_SIZE)]
        should = None if payload is None else encoded(message, payload)
        return self.scene.finding(rule, message, said, effect, because=because, marks=marks, should=should)


def is_upload(message: Message) -> bool:
    """Whether it is an upload request."""
    header = message.header
    return message.is_request and (header.group, header.command) == (Group.IMAGE, ImageCommand.UPLOAD)


def find_in_payload(scene: Scene, message: Message) -> list[Finding]:
    """What is wrong with the payload of a request."""
    place = _Place(scene, message)
    body = message.body
    if not body:
        said = "Behind the header comes the CRC at once. The payload of every SMP message is a CBOR map."
        effect = Effect.RC3 if is_upload(message) else Effect.ANSWERS
        should = None if is_upload(message) else encoded(message, {})
        mark = message.places(2, 4)
        return [scene.finding(EMPTY, message, said, effect, marks=mark, should=should)]
    try:
        item = cbor.read(body)
    except SmpMalformed as error:
        return [_counted(place) or _broken(place, str(error))]
    if item.kind != "map":
        return [_broken(place, f"the payload is {_KINDS[item.kind]}, not a map", item)]
    if item.end != len(body) == message.header.length:
        return [_counted(place) or _behind(place, item)]
    return list(_find_in_map(place, item)) if is_upload(message) else []


def _harm(message: Message) -> Effect:
    """A payload that cannot be read matters to those commands alone that read theirs."""
    return Effect.RC3 if is_upload(message) else Effect.ANSWERS


def _broken(place: _Place, why: str, item: cbor.Item | None = None) -> Finding:
    span = (0, 1) if item is None else (item.start, item.end)
    because = "" if is_upload(place.message) else "This command does not look at its payload."
    return place.finding(BROKEN, f"It cannot be read: {why}.", _harm(place.message), span, because=because)


def _behind(place: _Place, item: cbor.Item) -> Finding:
    size = len(place.message.body)
    said = f"The map ends at byte {item.end} of the payload, and {size - item.end} bytes follow it."
    return place.finding(BEHIND, said, Effect.ANSWERS, (item.end, size), payload=item.value)


def _counted(place: _Place) -> Finding | None:
    """Whether the payload is a right map but for the count in its first byte."""
    body = place.message.body
    if not 0xA0 <= body[0] < 0xA0 + _FEW:
        return None
    pairs, at = 0, 1
    try:
        while at < len(body):
            key = cbor.read(body, at)
            if key.kind != "text":
                return None
            at = cbor.read(body, key.end).end
            pairs += 1
        item = cbor.read(bytes([0xA0 + pairs]) + body[1:]) if pairs < _FEW else None
    except SmpMalformed:
        return None
    if item is None or item.end != len(body):
        return None
    announced = body[0] - 0xA0
    said = f"The map's head {body[0]:02x} announces {announced} pairs of key and value; there are {pairs}."
    if announced > pairs or not is_upload(place.message):
        effect = _harm(place.message)
    else:
        read = cbor.read(body).value
        needed = {"off", "data", "len"} if item.value.get("off") == 0 else {"off", "data"}
        effect = Effect.ANSWERS if needed <= set(read) else Effect.RC3
    return place.finding(COUNT, said, effect, (0, 1), payload=item.value)


def _find_in_map(place: _Place, item: cbor.Item) -> Iterator[Finding]:
    pairs = list(item.pairs)
    odd = [key for key, _ in pairs if key.kind != "text"]
    if odd:
        kind = _KINDS[odd[0].kind]
        right = {_as_text(key.value): value.value for key, value in pairs if isinstance(key.value, (bytes, str))}
        said = f"The key {odd[0].value!r} is {kind}; keys are text strings."
        yield place.finding(NOT_TEXT, said, Effect.RC3, *((key.start, key.end) for key in odd), payload=right or None)
        return
    yield from _repeated(place, item)
    for key, value in pairs:
        yield from _value(place, item, key, value)
    yield from _missing(place, item)


def _as_text(key: object) -> object:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _repeated(place: _Place, item: cbor.Item) -> Iterator[Finding]:
    keys = [key for key, _ in item.pairs]
    for name in dict.fromkeys(key.value for key in keys):
        again = [(key.start, key.end) for key in keys if key.value == name]
        if len(again) > 1:
            effect = Effect.RC3 if name in _TYPES else Effect.ANSWERS
            said = f"The key `{name}` is there {len(again)} times."
            yield place.finding(REPEATED, said, effect, *again, payload=item.value)


def _value(place: _Place, item: cbor.Item, key: cbor.Item, value: cbor.Item) -> Iterator[Finding]:
    rule = _TYPES.get(key.value)
    if rule is None:
        return
    right = "bytes" if rule is DATA_TYPE else "uint"
    span = (value.start, value.end)
    if value.kind != right or (right == "bytes" and value.indefinite):
        kind = "a byte string of indefinite length" if value.kind == right else _KINDS[value.kind]
        shown = place.message.body[value.start : min(value.end, value.start + 8)].hex(" ")
        said = f"`{key.value}` is {kind} ({shown}{' ...' if value.end > value.start + 8 else ''}), "
        fixed = _converted(place, value, right)
        payload = None if fixed is None else item.value | {key.value: fixed}
        yield place.finding(rule, f"{said}where {_KINDS[right]} belongs.", Effect.RC3, span, payload=payload)
    elif right == "uint" and value.end - value.start > _WIDEST:
        said = f"`{key.value}` is {value.value}, encoded in {value.end - value.start} bytes."
        because = "It reads integers of at most four bytes."
        yield place.finding(WIDE, said, Effect.RC3, span, because=because, payload=item.value)


def _converted(place: _Place, value: cbor.Item, kind: str) -> int | bytes | None:
    """The value in the type that it should have, where that can be told."""
    found = value.value
    if kind == "bytes":
        if isinstance(found, str):
            return place.message.body[value.head : value.end]
        if isinstance(found, list) and all(isinstance(byte, int) and 0 <= byte <= 0xFF for byte in found):
            return bytes(found)
        return found if isinstance(found, bytes) else None
    try:
        number = int.from_bytes(found, "big") if isinstance(found, bytes) else int(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def _missing(place: _Place, item: cbor.Item) -> Iterator[Finding]:
    payload = item.value
    needed = ["off", "data"] + (["len"] if payload.get("off") == 0 else [])
    others = [key for key in payload if key not in {*_TYPES, "sha", "upgrade"}]
    for name in needed:
        if name in payload:
            continue
        keys = ", ".join(f"`{key}`" for key in payload) or "none"
        like = [key for key in others if isinstance(key, str) and key.lower().startswith(name)]
        hint = f" Is `{like[0]}` meant to be it?" if like else ""
        said = f"The map has no `{name}`, which says {_MEANING[name]}; its keys are {keys}.{hint}"
        fixed = None
        if like:
            fixed = {name if key == like[0] else key: value for key, value in payload.items()}
        else:
            length = _told_length(place, payload.get("data")) if name == "len" else None
            fixed = None if length is None else {"len": length} | payload
            said += _to_add(place, item, name) if length is None else f" Another request says `len` {length}."
        head = (item.start, item.head)
        yield place.finding(_MISSING[name], said, Effect.RC3, head, payload=fixed)


def _told_length(place: _Place, data: object) -> int | None:
    """The `len` that other first requests with the same bytes give, if they agree."""
    payloads = (item.payload or {} for item in place.scene.from_host if isinstance(item, Message) and is_upload(item))
    found = {told.get("len") for told in payloads if told.get("off") == 0 and _alike(told.get("data"), data)}
    (length,) = found - {None} if len(found - {None}) == 1 else (None,)
    return length if isinstance(length, int) else None


def _alike(data: object, other: object) -> bool:
    """Whether two chunks begin the same image, cut to another size perhaps."""
    if not isinstance(data, bytes) or not isinstance(other, bytes):
        return False
    size = min(len(data), len(other))
    return size > 0 and data[:size] == other[:size]


def _to_add(place: _Place, item: cbor.Item, name: str) -> str:
    """The bytes that a missing pair consists of, and what becomes of the map's head, which is marked."""
    key = bytes([_TEXT_HEAD + len(name), *name.encode()]).hex(" ")
    value = "its bytes, behind a head 40 to 57, 58 or 59" if name == "data" else "a number: 00 to 17, 18, 19 or 1a"
    said = f" To add are {key} (the key `{name}`) and {value}"
    count = len(item.children) // 2
    if item.indefinite or count + 1 >= _FEW:
        return f"{said}."
    old = place.message.body[item.start]
    return f"{said}; the map's head, marked below, grows from {old:02x} to {0xA0 + count + 1:02x}."
