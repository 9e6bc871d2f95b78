"""The SMP header: smp_protocol.rst, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op, OsCommand, split

HEADERS = st.builds(
    Header,
    op=st.integers(0, 7),
    group=st.integers(0, 0xFFFF),
    command=st.integers(0, 0xFF),
    sequence=st.integers(0, 0xFF),
    length=st.integers(0, 0xFFFF),
    version=st.integers(0, 3),
    flags=st.integers(0, 0xFF),
)


@pytest.mark.parametrize(
    ("header", "golden"),
    [
        # Reset request of the mcumgr command line tool, SMP version 1 (DevZone 102545).
        (Header(Op.WRITE, Group.OS, OsCommand.RESET, sequence=0x8A, length=1, version=0), "02 00 00 01 00 00 8a 05"),
        # Image list request, SMP version 1 and 2 (computed from smp_protocol.rst).
        (Header(Op.READ, Group.IMAGE, ImageCommand.STATE, sequence=0x42, length=1, version=0), "0000000100014200"),
        (Header(Op.READ, Group.IMAGE, ImageCommand.STATE, sequence=0x42, length=1), "0800000100014200"),
        # Upload response of a board (DevZone 124561).
        (Header(Op.WRITE_RESPONSE, Group.IMAGE, ImageCommand.UPLOAD, 0xA7, length=11, version=0), "0300000b0001a701"),
        # Every field at its largest.
        (Header(7, 0xFFFF, 0xFF, 0xFF, 0xFFFF, version=3, flags=0xFF), "1f ff ff ff ff ff ff ff"),
    ],
)
def test_golden(header: Header, golden: str) -> None:
    assert header.pack() == bytes.fromhex(golden)
    assert Header.unpack(bytes.fromhex(golden)) == header


@given(HEADERS)
def test_round_trip(header: Header) -> None:
    packed = header.pack()
    assert len(packed) == HEADER_SIZE == 8
    assert Header.unpack(packed) == header
    assert Header.unpack(packed + b"payload") == header


@given(st.binary(min_size=8, max_size=8))
def test_any_eight_bytes_are_a_header_and_only_the_reserved_bits_are_ignored(data: bytes) -> None:
    assert Header.unpack(data).pack() == bytes([data[0] & 0x1F]) + data[1:]


@pytest.mark.parametrize(
    ("field", "largest"),
    [
        ("op", 7),
        ("group", 0xFFFF),
        ("command", 0xFF),
        ("sequence", 0xFF),
        ("length", 0xFFFF),
        ("version", 3),
        ("flags", 0xFF),
    ],
)
def test_limits_of_every_field(field: str, largest: int) -> None:
    header = Header(Op.READ, Group.OS, OsCommand.ECHO, 0, 0)
    for fits in (0, largest):
        assert getattr(Header.unpack(header._replace(**{field: fits}).pack()), field) == fits
    for beyond in (-1, largest + 1):
        with pytest.raises(ValueError, match="does not fit"):
            header._replace(**{field: beyond}).pack()


@pytest.mark.parametrize("size", range(HEADER_SIZE))
def test_too_short(size: int) -> None:
    with pytest.raises(SmpMalformed, match=f"at least 8 bytes, this one has {size}"):
        Header.unpack(bytes(size))


def test_a_response_echoes_version_sequence_and_command_and_clears_the_flags() -> None:
    request = Header(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, sequence=7, length=900, version=1, flags=1)
    assert request.response(3) == Header(Op.WRITE_RESPONSE, Group.IMAGE, ImageCommand.UPLOAD, 7, 3, 1, 0)


def test_split() -> None:
    header = Header(Op.READ, Group.OS, OsCommand.ECHO, 0, 2)
    assert split(header.pack() + b"ab") == (header, b"ab")


@pytest.mark.parametrize("payload", [b"", b"a", b"abc"])
def test_split_wants_the_length_that_the_header_says(payload: bytes) -> None:
    header = Header(Op.READ, Group.OS, OsCommand.ECHO, 0, 2)
    with pytest.raises(SmpMalformed, match=f"says 2 bytes of payload, {len(payload)} came"):
        split(header.pack() + payload)
