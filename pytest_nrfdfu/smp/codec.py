"""An SMP message: header, CBOR map, and what a request is.

The typed requests are in `messages`. Sources: Zephyr, doc/services/device_mgmt/smp_protocol.rst and
include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pytest_nrfdfu.errors import SmpMalformed, SmpRejected
from pytest_nrfdfu.smp.header import Group, Header, Op, split
from pytest_nrfdfu.smp.names import error_name

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = [
    "RC_NAMES",
    "Map",
    "Request",
    "Response",
    "decode",
    "dumps",
    "encode",
    "may_have",
    "rc_name",
    "rejection",
    "rest",
    "want",
    "want_list",
]

Map: TypeAlias = "dict[str, Any]"
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RC_NAMES = {
    0: "ok",
    1: "unknown error",
    2: "not enough memory",
    3: "invalid value",
    4: "timed out",
    5: "no such entry",
    6: "current state disallows it",
    7: "response too large",
    8: "not supported",
    9: "corrupt",
    10: "busy",
    11: "access denied",
    12: "protocol version too old",
    13: "protocol version too new",
}
"""Meaning of ``rc`` where no group comes with it (Zephyr, include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h)."""

_IMAGE_RC_NAMES = {
    1: "unknown error",
    2: "flash config query failed",
    3: "no image",
    4: "no TLVs",
    5: "invalid TLV",
    6: "several hash TLVs",
    7: "TLV of invalid size",
    8: "hash not found",
    9: "no free slot",
    10: "flash open failed",
    11: "flash read failed",
    12: "flash write failed",
    13: "flash erase failed",
    14: "invalid slot",
    15: "not enough memory",
    16: "flash context already set",
    17: "flash context not set",
    18: "flash area is NULL",
    19: "invalid page offset",
    20: "offset is missing",
    21: "length is missing",
    22: "invalid image header",
    23: "invalid image header magic",
    24: "invalid hash",
    25: "invalid flash address",
    26: "version get failed",
    27: "current version is newer",
    28: "image already pending",
    29: "invalid image vector table",
    30: "image too large",
    31: "image data overrun",
    32: "confirmation of the image denied",
    33: "setting the active slot for test denied",
    34: "which slot is active is not known",
}
"""Meaning of ``rc`` of the image group (Zephyr, include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""

_OS_RC_NAMES = {
    1: "unknown error",
    2: "invalid format",
    3: "the query yields no answer",
    4: "the clock is not set",
    5: "the clock's command failed",
    6: "the answer to the query is not valid",
}
"""Meaning of ``rc`` of the OS group (Zephyr, include/zephyr/mgmt/mcumgr/grp/os_mgmt/os_mgmt.h)."""

_RC_NAMES_OF_GROUP: dict[int | None, dict[int, str]] = {
    None: RC_NAMES,
    Group.OS: _OS_RC_NAMES,
    Group.IMAGE: _IMAGE_RC_NAMES,
}


def rc_name(rc: int, group: int | None = None) -> str:
    """What a return code means; `group` as in `SmpRejected.group`."""
    return _RC_NAMES_OF_GROUP.get(group, {}).get(rc, "no known meaning")


def dumps(value: Mapping[str, Any]) -> bytes:
    """CBOR of a map."""
    import cbor2  # costs 20 ms, so only on first use

    return cbor2.dumps(value)


def _loads(data: bytes) -> Any:
    import cbor2

    try:
        return cbor2.loads(data)
    except Exception as error:  # noqa: BLE001 - cbor2 raises what its tag decoders raise, besides its own errors
        raise SmpMalformed(f"the SMP payload is not CBOR ({error}): {data.hex(' ')}") from None


def _load_all(data: bytes) -> Any:
    """The one CBOR item that `data` is; SmpMalformed if bytes follow it."""
    value = _loads(data)
    try:
        # An item ends where it says: if it is there with one byte less too, that byte is none of it. The position of a
        # stream after `cbor2.load` would not tell, cbor2 5.8.0 reads ahead.
        _loads(data[:-1])
    except SmpMalformed:
        return value
    raise SmpMalformed(f"bytes follow the CBOR map of an SMP payload: {data.hex(' ')}")


class Response(NamedTuple):
    """One SMP message with its CBOR map decoded."""

    header: Header
    payload: Map

    @property
    def rejected(self) -> SmpRejected | None:
        """The error that it carries, in either style, or None."""
        return rejection(self.payload)


def rejection(payload: Mapping[str, Any]) -> SmpRejected | None:
    """The error of a response: ``{"rc": n}`` (v1) or ``{"err": {"group": g, "rc": n}}`` (v2); None if it has none.

    SmpMalformed if something of this is of another type.
    """
    if "err" in payload:
        err = want(payload, "err", dict)
        rc, group = want(err, "rc", int), want(err, "group", int)
    else:
        rc, group = want(payload, "rc", int, 0), None
    if rc == 0:
        return None
    where = "" if group is None else f" of group {group}"
    return SmpRejected(f"the server answered {error_name(group, rc)}{where}: {rc_name(rc, group)}", rc=rc, group=group)


def decode(packet: bytes) -> Response:
    """Header and CBOR map of one SMP packet; SmpMalformed if it is not that."""
    header, payload = split(packet)
    value = _load_all(payload)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SmpMalformed(f"an SMP payload is a CBOR map with text keys, this one is {value!r}")
    return Response(header, value)


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """Base of all requests; `T_co` is what `read` makes of the response."""

    op: ClassVar[Op] = Op.READ
    group: ClassVar[int] = Group.OS
    command: ClassVar[int] = 0

    def payload(self) -> Map:
        """The request's CBOR map."""
        return {}

    def read(self, payload: Map) -> T_co:
        """The typed response; SmpMalformed if something is missing or of another type."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """For messages to people."""
        return type(self).__name__.removesuffix("Request")

    def matches(self, header: Header, sequence: int) -> bool:
        """Whether `header` is that of this request's response."""
        return (header.op, header.group, header.command, header.sequence) == (
            self.op + 1,
            self.group,
            self.command,
            sequence,
        )


def encode(request: Request[Any], sequence: int, version: int = 1) -> bytes:
    """The SMP packet of a request. `version`: 0 for SMP v1, 1 for SMP v2."""
    body = dumps(request.payload())
    header = Header(request.op, request.group, request.command, sequence, len(body), version)
    return header.pack() + body


def rest(payload: Map, known: tuple[str, ...]) -> Map:
    """What `payload` holds besides the `known` keys."""
    return {key: value for key, value in payload.items() if key not in known}


def want(payload: Mapping[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """``payload[key]`` if it is of type `kind`; bool does not pass for int. SmpMalformed otherwise."""
    value = payload.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        seen = "is missing in" if key not in payload else f"should be of type {kind.__name__} in"
        raise SmpMalformed(f"{key!r} {seen} the response {dict(payload)!r}")
    return value


def may_have(payload: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    """Like `want`, but None if there is no such key."""
    return want(payload, key, kind) if key in payload else None


def want_list(payload: Map, key: str) -> list[Map]:
    """``payload[key]`` if it is a list of maps; SmpMalformed otherwise."""
    items = want(payload, key, list)
    for item in items:
        if not isinstance(item, dict):
            raise SmpMalformed(f"{key!r} should hold maps, not {item!r}")
    return items
