"""What is compared of two hosts' requests, and whether a difference in it matters.

It matters if MCUboot would do something else because of it. Sources: MCUboot, boot/boot_serial/src/boot_serial.c (what
is read of a request: keys by name in any order, unknown ones skipped; sequence and version are echoed) and
boot/zephyr/serial_adapter.c (lines); zcbor (definite and indefinite lengths).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_nrfdfu.smp.console import LINE_LENGTH
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.smp.names import op_name
from pytest_nrfdfu.wire.annotate import shown
from pytest_nrfdfu.wire.diff_steps import Sent, Step
from pytest_nrfdfu.wire.frames import Frame

__all__ = ["ASPECTS", "Aspect", "Value"]

_KNOWN = ("image", "data", "len", "off")
"""Keys of an upload that MCUboot reads (boot_serial.c, bs_upload); it skips others."""
_GROUP = 4
_RIGHT = "right"


class Value(NamedTuple):
    """What one host did, and a frame that shows it."""

    said: str
    frame: Frame | None


class Aspect(NamedTuple):
    """One thing to compare. `value` says what a host did; `why` a difference matters, or does not."""

    name: str
    matters: bool
    why: str
    value: Callable[[Step], Value]
    upload_only: bool = False


def _of_each(said: Callable[[Sent], str], usual: str = _RIGHT) -> Callable[[Step], Value]:
    """The first thing that `said` says of a request other than `usual`."""

    def value(step: Step) -> Value:
        for one in step.sent:
            word = said(one)
            if word != usual:
                return Value(word, one.frame)
        return Value(usual, step.sent[0].frame)

    return value


def _of_first(said: Callable[[Sent], str]) -> Callable[[Step], Value]:
    return lambda step: Value(said(step.sent[0]), step.sent[0].frame)


def _framing(one: Sent) -> str:
    if one.frame.fault is not None:
        return str(one.frame.fault)
    for number, line in enumerate(one.frame.lines, start=1):
        if not line.raw.endswith(b"\n"):
            return f"line {number} has no newline"
        if len(line.text) % _GROUP:
            return f"line {number} holds {len(line.text)} characters, which is not a multiple of four"
        if len(line.raw) > LINE_LENGTH + 1:
            return f"line {number} has {len(line.raw)} bytes; {LINE_LENGTH} is the limit"
    return _RIGHT


def _header_length(one: Sent) -> str:
    if one.header is None:
        return "there is no whole header"
    came = len(one.frame.presumed) - HEADER_SIZE
    return _RIGHT if one.header.length == came else f"the header says {one.header.length} bytes of payload, {came} came"


def _cbor(one: Sent) -> str:
    if one.item is None:
        return "the payload is no CBOR map"
    keys = [key.value for key, _ in one.item.pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    return _RIGHT if twice is None else f"key {shown(twice)} comes twice"


def _upload_types(one: Sent) -> str:
    if not one.is_upload or one.item is None:
        return _RIGHT
    kinds = {key.value: value.kind for key, value in one.item.pairs}
    for key in _KNOWN:
        wanted = "bytes" if key == "data" else "uint"
        if kinds.get(key, wanted) != wanted:
            return f"{key} is {kinds[key]}, not {wanted}"
    missing = [key for key in ("off", "data") if key not in kinds]
    missing += ["len"] if one.off == 0 and "len" not in kinds else []
    return f"{missing[0]} is missing" if missing else _RIGHT


def _offsets(step: Step) -> Value:
    """Due is what the last answer said; without one, that chunk again or the next; and the begin, always."""
    due = {0}
    for one in step.sent:
        if one.off is None:
            continue
        if one.off not in due:
            return Value(f"off {one.off} where {max(due)} was due", one.frame)
        told = None if one.answer is None else one.answer.get("off")
        due = {0, told} if isinstance(told, int) else due | {one.off + len(one.data)}
    return Value("each chunk where it was due", step.sent[0].frame)


def _data(step: Step) -> Value:
    return Value(
        f"{len(step.image)} bytes, SHA-256 {hashlib.sha256(step.image).hexdigest()[:16]}...", step.sent[-1].frame
    )


def _others(one: Sent) -> str:
    extra = [f"{key} {shown(value)}" for key, value in one.payload.items() if key not in _KNOWN]
    return ", ".join(extra) or "none"


def _payload(one: Sent) -> str:
    return "an upload" if one.is_upload else shown(dict(sorted(one.payload.items(), key=str)))


def _lengths(one: Sent) -> str:
    if one.item is None:
        return "none"
    indefinite = one.item.indefinite or any(child.indefinite for child in one.item.children)
    return "indefinite" if indefinite else "definite"


def _longest_line(step: Step) -> Value:
    frame = max((one.frame for one in step.sent), key=lambda frame: max(len(line.raw) for line in frame.lines))
    return Value(f"{max(len(line.raw) for line in frame.lines)} bytes", frame)


def _tries(step: Step) -> Value:
    repeated = [one for one in step.sent if one.repeated]
    said = f"{sum(one.repeated for one in repeated)} requests sent again" if repeated else "nothing sent again"
    return Value(said, (repeated or step.sent)[0].frame)


def _header_field(field: Callable[[Any], object]) -> Callable[[Sent], str]:
    return lambda one: "none" if one.header is None else str(field(one.header))


_SKIPPED = "MCUboot does not look at it"
ASPECTS = (
    Aspect("framing", True, "MCUboot drops a frame that it cannot read, and answers nothing", _of_each(_framing)),
    Aspect(
        "group and command",
        True,
        "they say what is asked for; MCUboot answers rc 8 to those that it does not know",
        _of_first(lambda one: one.name),
    ),
    Aspect(
        "op",
        True,
        "the op says what is asked for; MCUboot answers 0 (read) and 2 (write) alone",
        _of_first(_header_field(lambda header: f"{header.op}: {op_name(header.op)}")),
    ),
    Aspect(
        "length in the header",
        True,
        "MCUboot drops a packet whose header gives less than came, and reads no further than it gives",
        _of_each(_header_length),
    ),
    Aspect("CBOR", True, "MCUboot answers rc 3 to a payload that it cannot decode", _of_each(_cbor)),
    Aspect(
        "keys and types",
        True,
        "MCUboot answers rc 3 where off, data or (at off 0) len is missing or of another type",
        _of_each(_upload_types),
    ),
    Aspect("payload", True, "it is another request", _of_first(_payload)),
    Aspect(
        "image",
        True,
        "the number says which core and slot is written; a wrong one overwrites another image",
        _of_first(lambda one: str(one.payload.get("image", 0))),
        upload_only=True,
    ),
    Aspect(
        "len",
        True,
        "the upload is complete when this many bytes were written",
        _of_first(lambda one: str(one.payload.get("len", "none"))),
        upload_only=True,
    ),
    Aspect("offsets", True, "MCUboot writes nothing for an off that it did not expect", _offsets, upload_only=True),
    Aspect("data", True, "the image on the board is not the same", _data, upload_only=True),
    Aspect(
        "chunk size",
        False,
        "MCUboot takes any multiple of four that fits its buffer",
        lambda step: Value(f"{step.chunks} bytes", step.sent[0].frame),
        upload_only=True,
    ),
    Aspect("other keys", False, "MCUboot skips keys that it does not know", _of_first(_others), upload_only=True),
    Aspect(
        "image key",
        False,
        "without the key the number is 0",
        _of_first(lambda one: "there" if "image" in one.payload else "left out"),
        upload_only=True,
    ),
    Aspect(
        "order of keys",
        False,
        "keys are found by name",
        _of_first(lambda one: " ".join(str(key) for key in one.payload)),
    ),
    Aspect("CBOR lengths", False, "zcbor reads definite and indefinite lengths", _of_first(_lengths)),
    Aspect("sequence", False, "MCUboot echoes it", _of_first(_header_field(lambda header: f"from {header.sequence}"))),
    Aspect(
        "SMP version",
        False,
        "MCUboot echoes it, and answers as version 1",
        _of_first(_header_field(lambda header: header.version + 1)),
    ),
    Aspect("flags", False, _SKIPPED, _of_first(_header_field(lambda header: header.flags))),
    Aspect("longest line", False, f"any up to {LINE_LENGTH} bytes will do", _longest_line),
    Aspect("repetitions", False, "a request that is sent again does no harm", _tries),
)
