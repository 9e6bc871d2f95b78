"""SMP messages: header and CBOR map, and the errors that a map can carry."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import SmpError, SmpMalformed, SmpRejected
from pytest_nrfdfu.smp.codec import (
    Map,
    Request,
    Response,
    decode,
    dumps,
    encode,
    may_have,
    rc_name,
    rejection,
    rest,
    want,
    want_list,
)
from pytest_nrfdfu.smp.header import Group, Header, Op

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MAPS = st.dictionaries(st.text(max_size=8), VALUES, max_size=6)


def message(payload: bytes, sequence: int = 0) -> bytes:
    return Header(Op.READ_RESPONSE, Group.OS, 0, sequence, len(payload)).pack() + payload


@dataclass(frozen=True, slots=True)
class FooRequest(Request[int]):
    op = Op.WRITE
    group = 64
    command = 9
    value: int = 5

    def payload(self) -> Map:
        return {"v": self.value}

    def read(self, payload: Map) -> int:
        return want(payload, "v", int)


def test_encode() -> None:
    assert encode(FooRequest(), 0x42) == bytes.fromhex("0a 00 0004 0040 42 09 a1 61 76 05")
    assert encode(FooRequest(), 0x42, version=0) == bytes.fromhex("02 00 0004 0040 42 09 a1 61 76 05")


def test_a_request_knows_its_response() -> None:
    request = FooRequest()
    header = Header(Op.WRITE_RESPONSE, 64, 9, 0x42, 0)
    assert request.name == "Foo"
    assert request.matches(header, 0x42)
    assert request.matches(header._replace(version=0, flags=3, length=7), 0x42)
    for foreign in ({"op": Op.WRITE}, {"op": Op.READ_RESPONSE}, {"group": 65}, {"command": 8}, {"sequence": 0x43}):
        assert not request.matches(header._replace(**foreign), 0x42)


@given(MAPS, st.integers(0, 255))
def test_round_trip(payload: Map, sequence: int) -> None:
    response = decode(message(dumps(payload), sequence))
    assert response.payload == payload
    assert response.header.sequence == sequence


def test_indefinite_length_as_mcuboot_sends_it() -> None:
    # MCUboot, zcbor without ZCBOR_CANONICAL: maps and lists end with a break.
    payload = bytes.fromhex("bf 66 696d61676573 9f bf 64 736c6f74 00 ff ff ff")
    assert decode(message(payload)).payload == {"images": [{"slot": 0}]}


@given(st.binary(max_size=60))
@example(b"\xa0")
@example(b"\xa0\x00")
def test_any_bytes_give_a_message_or_smp_malformed(payload: bytes) -> None:
    try:
        response = decode(message(payload))
    except SmpMalformed:
        return
    assert cbor2.loads(payload) == response.payload or "nan" in repr(response.payload).lower()


@given(st.binary(max_size=80))
def test_any_packet_gives_a_message_or_smp_malformed(packet: bytes) -> None:
    with contextlib.suppress(SmpMalformed):
        assert isinstance(decode(packet), Response)


@given(MAPS, st.data())
def test_damaged_maps_give_a_message_or_smp_malformed(payload: Map, data: st.DataObject) -> None:
    damaged = bytearray(dumps(payload))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SmpMalformed):
        assert isinstance(decode(message(bytes(damaged))).rejected, SmpRejected | None)


@pytest.mark.parametrize(
    "payload",
    [
        "",  # nothing
        "80",  # a list
        "00",  # a number
        "a1 00 00",  # a key that is no text
        "a1 61 61",  # a key without its value
        "bf 61 61 00",  # no break
        "ff",
        "a0 00",  # something follows
        "a0 a0",
        "a0 ff",
        "bf ff ff",
        "81" * 5000,  # nested without end
        "9b 7f ff ff ff ff ff ff ff",  # a list longer than all memory
        "a1 61 61 5b 7f ff ff ff ff ff ff ff",
        "c0 61 61",  # a tag whose content does not fit it
        "a1 61 61 c0 63 31 32 33",
    ],
)
def test_malformed(payload: str) -> None:
    with pytest.raises(SmpMalformed):
        decode(message(bytes.fromhex(payload)))


def test_what_follows_the_map_is_shown() -> None:
    with pytest.raises(SmpMalformed, match="bytes follow the CBOR map of an SMP payload: a0 00"):
        decode(message(b"\xa0\x00"))


# --- errors in responses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [{}, {"rc": 0}, {"rc": 0, "off": 3}, {"err": {"group": 1, "rc": 0}}, {"off": 3}])
def test_no_error(payload: Map) -> None:
    assert rejection(payload) is None


def test_version_1_error() -> None:
    error = decode(message(bytes.fromhex("bf 62 7263 08 ff"))).rejected  # {"rc": 8}
    assert isinstance(error, SmpError)
    assert (error.rc, error.group) == (8, None)
    assert str(error) == "the server answered ENOTSUP (8): not supported"


def test_version_2_error() -> None:
    error = rejection({"err": {"group": 1, "rc": 30}})
    assert error is not None
    assert (error.rc, error.group) == (30, 1)
    assert str(error) == "the server answered INVALID_IMAGE_TOO_LARGE (30) of group 1: image too large"


def test_the_version_2_error_counts_where_both_are_there() -> None:
    error = rejection({"rc": 0, "err": {"group": 0, "rc": 2}})
    assert error is not None
    assert (error.rc, error.group) == (2, 0)


@pytest.mark.parametrize(
    "payload",
    [
        {"rc": "0"},
        {"rc": None},
        {"rc": True},
        {"rc": 1.0},
        {"err": 5},
        {"err": None},
        {"err": []},
        {"err": {}},
        {"err": {"rc": 1}},
        {"err": {"group": 1}},
        {"err": {"group": "1", "rc": 1}},
        {"err": {"group": 1, "rc": True}},
    ],
)
def test_errors_of_another_type(payload: Map) -> None:
    with pytest.raises(SmpMalformed):
        rejection(payload)


def test_names_of_return_codes() -> None:
    assert rc_name(10) == "busy"
    assert rc_name(10, Group.IMAGE) == "flash open failed"
    assert rc_name(3, Group.OS) == "the query yields no answer"
    for unknown in (rc_name(99), rc_name(99, Group.IMAGE), rc_name(1, 63), rc_name(-1)):
        assert unknown == "no known meaning"


# --- reading maps ---------------------------------------------------------------------------------------------------


def test_want() -> None:
    payload = {"n": 1, "t": "x", "b": b"y", "yes": True, "none": None}
    assert (want(payload, "n", int), want(payload, "t", str), want(payload, "b", bytes)) == (1, "x", b"y")
    assert want(payload, "yes", bool) is True
    assert want(payload, "absent", int, 7) == 7
    with pytest.raises(SmpMalformed, match="'absent' is missing in the response"):
        want(payload, "absent", int)
    for key, kind in [("yes", int), ("n", bool), ("t", bytes), ("b", str), ("none", int)]:
        with pytest.raises(SmpMalformed, match=f"'{key}' should be of type {kind.__name__} in the response"):
            want(payload, key, kind)
    with pytest.raises(SmpMalformed):
        want(payload, "none", int, 7)


def test_may_have() -> None:
    assert may_have({"n": 1}, "n", int) == 1
    assert may_have({}, "n", int) is None
    with pytest.raises(SmpMalformed):
        may_have({"n": None}, "n", int)


def test_want_list() -> None:
    assert want_list({"l": [{}, {"a": 1}]}, "l") == [{}, {"a": 1}]
    shapes: list[Map] = [{}, {"l": {}}, {"l": [1]}, {"l": [{}, []]}]
    for wrong in shapes:
        with pytest.raises(SmpMalformed):
            want_list(wrong, "l")


def test_rest() -> None:
    assert rest({"a": 1, "b": 2, "c": 3}, ("a", "c", "d")) == {"b": 2}
