"""The same protocol as the PyPI package `smp` 4.2.0 speaks, in both directions."""

from __future__ import annotations

from typing import Any

import firmware
import pytest
from hypothesis import given
from hypothesis import strategies as st

firmware.needs("smp")

from smp import error as peer_error
from smp import image_management as peer_image
from smp import os_management as peer_os
from smp import packet as peer_packet
from smp.header import Header as PeerHeader
from smp.header import Version

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import RC_NAMES, Request, decode, dumps, encode, rc_name
from pytest_nrfdfu.smp.header import Group, Header
from pytest_nrfdfu.smp.messages import (
    BootloaderInfoRequest,
    EchoRequest,
    EraseRequest,
    ImageStateRead,
    ImageStateWrite,
    ParamsRequest,
    ResetRequest,
    UploadRequest,
)
from pytest_nrfdfu.smp.names import error_name

HASH = bytes(range(32))

SAME_REQUESTS = [
    (EchoRequest("hi"), peer_os.EchoWriteRequest, {"d": "hi"}),
    (ResetRequest(), peer_os.ResetWriteRequest, {}),
    (ResetRequest(boot_mode=1), peer_os.ResetWriteRequest, {"boot_mode": peer_os.BootMode.BOOTLOADER}),
    (ParamsRequest(), peer_os.MCUMgrParametersReadRequest, {}),
    (BootloaderInfoRequest(), peer_os.BootloaderInformationReadRequest, {}),
    (BootloaderInfoRequest("mode"), peer_os.BootloaderInformationReadRequest, {"query": "mode"}),
    (ImageStateRead(), peer_image.ImageStatesReadRequest, {}),
    (ImageStateWrite(HASH, confirm=True), peer_image.ImageStatesWriteRequest, {"hash": HASH, "confirm": True}),
    (ImageStateWrite(HASH), peer_image.ImageStatesWriteRequest, {"hash": HASH, "confirm": False}),
    (
        UploadRequest(data=b"\xaa" * 300, length=1000, image=2, sha=HASH, upgrade=True),
        peer_image.ImageUploadWriteRequest,
        {"off": 0, "data": b"\xaa" * 300, "len": 1000, "image": 2, "sha": HASH, "upgrade": True},
    ),
    (UploadRequest(off=70_000, data=b"x"), peer_image.ImageUploadWriteRequest, {"off": 70_000, "data": b"x"}),
    (EraseRequest(1), peer_image.ImageEraseRequest, {"slot": 1}),
]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("ours", "peer", "fields"), SAME_REQUESTS)
def test_requests(ours: Request[Any], peer: Any, fields: dict[str, Any], version: int) -> None:
    packet = encode(ours, 0x42, version)
    parsed = peer.loads(packet)
    assert {key: getattr(parsed, key) for key in fields} == fields
    assert (parsed.header.sequence, parsed.header.version) == (0x42, version)

    theirs = peer(sequence=0x42, version=Version(version), **fields).BYTES
    header, payload = decode(theirs)
    assert payload == ours.payload()
    assert header == Header.unpack(packet)


@given(
    st.sampled_from([0, 2]),
    st.sampled_from([0, 1]),
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
    st.sampled_from([0, 1]),
)
def test_headers(op: int, command: int, length: int, sequence: int, version: int) -> None:
    header = Header(op, Group.IMAGE, command, sequence, length, version)
    peer = PeerHeader.loads(header.pack())
    assert (peer.op, peer.command_id, peer.length, peer.sequence, peer.version) == (
        op,
        command,
        length,
        sequence,
        version,
    )
    assert Header.unpack(peer.BYTES) == header


SAME_RESPONSES = [
    (EchoRequest(), peer_os.EchoWriteResponse, {"r": "hi"}),
    (ResetRequest(), peer_os.ResetWriteResponse, {}),
    (ParamsRequest(), peer_os.MCUMgrParametersReadResponse, {"buf_size": 1024, "buf_count": 1}),
    (BootloaderInfoRequest(), peer_os.BootloaderInformationReadResponse, {"bootloader": "MCUboot"}),
    (
        ImageStateRead(),
        peer_image.ImageStatesReadResponse,
        {
            "images": [
                {"slot": 0, "version": "1.2.3", "hash": HASH, "image": 1, "active": True, "confirmed": False},
                {"slot": 1, "version": "0.0.0.4"},
            ],
            "splitStatus": 0,
        },
    ),
    (UploadRequest(), peer_image.ImageUploadWriteResponse, {"off": 992, "match": True}),
    (UploadRequest(), peer_image.ImageUploadWriteResponse, {"rc": 0, "off": 12}),
    (EraseRequest(), peer_image.ImageEraseResponse, {}),
]


@pytest.mark.parametrize(("request_", "peer", "payload"), SAME_RESPONSES)
def test_responses(request_: Request[Any], peer: Any, payload: dict[str, Any]) -> None:
    """What their classes say is read here; what their classes read from our bytes is the same."""
    theirs = peer(**payload).BYTES
    header, got = decode(theirs)
    assert (header.op, header.group, header.command) == (request_.op + 1, request_.group, request_.command)
    ours = request_.read(got)
    body = dumps(payload)
    parsed = peer.loads(header._replace(length=len(body)).pack() + body)
    for field in set(ours._fields) - {"extra", "images", "text", "split_status", "mode", "no_downgrade", "flags_first"}:
        assert getattr(parsed, field) == getattr(ours, field)
    if isinstance(request_, ImageStateRead):
        assert [(i.slot, i.version, i.hash, i.image or 0, i.active) for i in parsed.images] == [
            (i.slot, i.version, i.hash, i.image, i.active) for i in ours.images
        ]
        assert ours.split_status == parsed.splitStatus
    assert not ours.extra


@pytest.mark.parametrize(
    ("peer", "fields", "expected"),
    [
        (peer_os.OSManagementErrorV1, {"rc": peer_error.MGMT_ERR.ENOTSUP}, (8, None)),
        (peer_image.ImageManagementErrorV1, {"rc": peer_error.MGMT_ERR.EBUSY, "rsn": "x"}, (10, None)),
        (peer_os.OSManagementErrorV2, {"err": {"rc": 3, "group": 0}}, (3, 0)),
        (peer_image.ImageManagementErrorV2, {"err": {"rc": 30, "group": 1}}, (30, 1)),
    ],
)
def test_errors(peer: Any, fields: dict[str, Any], expected: tuple[int, int | None]) -> None:
    header = PeerHeader.loads(Header(3, peer._GROUP_ID, 0, 0, len(dumps(fields))).pack())
    rejected = decode(peer(header=header, **fields).BYTES).rejected
    assert rejected is not None
    assert (rejected.rc, rejected.group) == expected


def test_every_return_code_that_the_peer_knows_has_a_name() -> None:
    assert set(RC_NAMES) == {code for code in peer_error.MGMT_ERR if code < 256}
    for group, codes in ((Group.IMAGE, peer_image.IMG_MGMT_ERR), (Group.OS, peer_os.OS_MGMT_RET_RC)):
        assert [code.name for code in codes if code and rc_name(code, group) == "no known meaning"] == []
        assert [code.name for code in codes if code.name not in error_name(group, code)] == []
    smp_codes = [code for code in peer_error.MGMT_ERR if code < 256]
    assert [code.name for code in smp_codes if code.name not in error_name(None, code)] == []


# --- framing --------------------------------------------------------------------------------------------------------


def peer_decode(lines: list[bytes]) -> bytes:
    """`smp.packet.decode` takes line by line and returns the packet."""
    decoder = peer_packet.decode()
    next(decoder)
    for line in lines:
        try:
            decoder.send(line)
        except StopIteration as end:
            return bytes(end.value)
    pytest.fail("the peer waits for more lines")


@given(st.binary(min_size=8, max_size=1100), st.integers(9, 200))
def test_framing(packet: bytes, line_length: int) -> None:
    assert peer_decode(list(console.lines(packet, line_length))) == packet
    theirs = b"".join(peer_packet.encode(packet, line_length))
    assert console.Decoder().feed(theirs) == [console.Packet(packet)]


def test_the_peer_reads_full_lines_of_every_packet_size() -> None:
    for size in range(8, 1021):
        packet = bytes(range(256)) * 4
        assert peer_decode(list(console.lines(packet[:size]))) == packet[:size]
