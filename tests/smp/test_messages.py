"""Typed requests and responses: every map as it stands on the wire."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.codec import Map, Request, decode, encode
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import (
    BootloaderInfo,
    BootloaderInfoRequest,
    Done,
    Echo,
    EchoRequest,
    EraseRequest,
    ImageSlots,
    ImageState,
    ImageStateRead,
    ImageStates,
    ImageStateWrite,
    Params,
    ParamsRequest,
    ResetRequest,
    SlotInfo,
    SlotInfoRequest,
    SlotInfos,
    UploadAnswer,
    UploadRequest,
)

HASH = bytes(range(32))
EVERY_REQUEST: list[Request[Any]] = [
    EchoRequest("x"),
    ResetRequest(),
    ParamsRequest(),
    BootloaderInfoRequest(),
    ImageStateRead(),
    ImageStateWrite(),
    UploadRequest(),
    EraseRequest(),
    SlotInfoRequest(),
]


@pytest.mark.parametrize(
    ("request_", "golden"),
    [
        # op, flags, length, group, sequence 0x42, command | map; SMP version 1
        (EchoRequest("hi"), "02 00 0006 0000 42 00 | a1 61 64 62 6869"),
        (ResetRequest(), "02 00 0001 0000 42 05 | a0"),
        (ResetRequest(boot_mode=1), "02 00 000c 0000 42 05 | a1 69 626f6f745f6d6f6465 01"),
        (ResetRequest(force=True), "02 00 0008 0000 42 05 | a1 65 666f726365 f5"),
        (ParamsRequest(), "00 00 0001 0000 42 06 | a0"),
        (BootloaderInfoRequest(), "00 00 0001 0000 42 08 | a0"),
        (BootloaderInfoRequest("mode"), "00 00 000c 0000 42 08 | a1 65 7175657279 64 6d6f6465"),
        (ImageStateRead(), "00 00 0001 0001 42 00 | a0"),
        (ImageStateWrite(), "02 00 000a 0001 42 00 | a1 67 636f6e6669726d f4"),
        (
            ImageStateWrite(b"\x01\x02", confirm=True),
            "02 00 0012 0001 42 00 | a2 67 636f6e6669726d f5 64 68617368 42 0102",
        ),
        (
            UploadRequest(off=992, data=b"\xaa\xbb\xcc\xdd"),
            "02 00 0012 0001 42 01 | a2 63 6f6666 19 03e0 64 64617461 44 aabbccdd",
        ),
        (
            UploadRequest(data=b"\xaa", length=1000, image=3, sha=b"\x01", upgrade=False),
            (
                "02 00 002a 0001 42 01 | a6 65 696d616765 03 63 6c656e 19 03e8 63 736861 41 01 67 75706772616465 f4"
                " 63 6f6666 00 64 64617461 41 aa"
            ),
        ),
        (EraseRequest(), "02 00 0001 0001 42 05 | a0"),
        (EraseRequest(slot=1), "02 00 0007 0001 42 05 | a1 64 736c6f74 01"),
        (SlotInfoRequest(), "00 00 0001 0001 42 06 | a0"),
    ],
)
def test_requests(request_: Request[Any], golden: str) -> None:
    packet = bytes.fromhex(golden.replace("|", ""))
    assert encode(request_, 0x42, version=0).hex(" ") == packet.hex(" ")
    header = Header.unpack(packet)
    assert request_.matches(header.response(0), 0x42)
    assert decode(packet).payload == request_.payload()


def test_names() -> None:
    assert [request.name for request in EVERY_REQUEST] == [
        "Echo", "Reset", "Params", "BootloaderInfo", "ImageStateRead", "ImageStateWrite", "Upload", "Erase", "SlotInfo"
    ]  # fmt: skip


def test_image_data_is_not_in_the_representation() -> None:
    assert "data" not in repr(UploadRequest(data=bytes(900)))


@pytest.mark.parametrize(
    ("request_", "payload", "answer"),
    [
        (EchoRequest(), {"r": "hi"}, Echo("hi", {})),
        (EchoRequest(), {"rc": 0, "r": "", "new": 1}, Echo("", {"new": 1})),
        (ResetRequest(), {"rc": 0}, Done({})),
        (ResetRequest(), {}, Done({})),
        (ResetRequest(), {"new": [1]}, Done({"new": [1]})),
        (ParamsRequest(), {"buf_size": 1024, "buf_count": 1}, Params(1024, 1, {})),
        (ParamsRequest(), {"buf_size": 384, "buf_count": 4, "new": b"x"}, Params(384, 4, {"new": b"x"})),
        (BootloaderInfoRequest(), {"bootloader": "MCUboot"}, BootloaderInfo("MCUboot", None, False, {})),
        (BootloaderInfoRequest("mode"), {"mode": 0, "no-downgrade": True}, BootloaderInfo(None, 0, True, {})),
        (BootloaderInfoRequest("mode"), {"mode": -1}, BootloaderInfo(None, -1, False, {})),
        (ImageStateRead(), {"images": []}, ImageStates((), None, {})),
        (
            # MCUboot by default: slot, hash and version only.
            ImageStateRead(),
            {"images": [{"slot": 0, "hash": HASH, "version": "1.2.3"}]},
            ImageStates((ImageState(0, "1.2.3", HASH),), None, {}),
        ),
        (
            # MCUboot without CONFIG_BOOT_SERIAL_IMG_GRP_HASH, two images.
            ImageStateRead(),
            {"images": [{"image": 0, "slot": 0, "version": "1.0.0"}, {"image": 1, "slot": 0, "version": "0.0.0"}]},
            ImageStates((ImageState(0, "1.0.0"), ImageState(0, "0.0.0", image=1)), None, {}),
        ),
        (
            # A Zephyr application.
            ImageStateWrite(),
            {
                "images": [
                    {
                        "image": 0,
                        "slot": 0,
                        "version": "1.2.3.4",
                        "hash": HASH,
                        "bootable": True,
                        "pending": False,
                        "confirmed": True,
                        "active": True,
                        "permanent": False,
                        "new": 1,
                    }
                ],
                "splitStatus": 0,
                "other": "x",
            },
            ImageStates(
                (ImageState(0, "1.2.3.4", HASH, 0, True, False, True, True, False, {"new": 1}),), 0, {"other": "x"}
            ),
        ),
        (
            # MCUboot with image state: flags first, and those alone that are true (boot_serial.c, bs_list).
            ImageStateRead(),
            {"images": [{"bootable": True, "confirmed": True, "slot": 0, "hash": HASH, "version": "1.2.3"}]},
            ImageStates((ImageState(0, "1.2.3", HASH, bootable=True, confirmed=True),), None, {}, flags_first=True),
        ),
        (
            # A Zephyr application with a short list: flags last (img_mgmt_state.c, img_mgmt_state_encode_slot).
            ImageStateRead(),
            {"images": [{"slot": 0, "version": "1.2.3", "hash": HASH, "bootable": True, "active": True}]},
            ImageStates((ImageState(0, "1.2.3", HASH, bootable=True, active=True),), None, {}),
        ),
        (UploadRequest(), {"rc": 0, "off": 992}, UploadAnswer(992, None, {})),
        (UploadRequest(), {"off": 5, "match": True}, UploadAnswer(5, True, {})),
        (UploadRequest(), {"off": 5, "match": False, "new": 1}, UploadAnswer(5, False, {"new": 1})),
        (EraseRequest(), {"rc": 0}, Done({})),
        (SlotInfoRequest(), {"images": []}, SlotInfos((), {})),
        (
            SlotInfoRequest(),
            {
                "images": [
                    {
                        "image": 0,
                        "slots": [{"slot": 0, "size": 458752, "upload_image_id": 1}, {"slot": 1, "rc": -22}],
                        "max_image_size": 458000,
                    },
                    {"slots": [], "new": 1},
                ],
                "rc": 0,
            },
            SlotInfos(
                (
                    ImageSlots(0, (SlotInfo(0, 458752, 1, {}), SlotInfo(1, None, None, {"rc": -22})), 458000, {}),
                    ImageSlots(0, (), None, {"new": 1}),
                ),
                {},
            ),
        ),
    ],
)
def test_responses(request_: Request[Any], payload: Map, answer: object) -> None:
    assert request_.read(payload) == answer


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (EchoRequest(), {}),
        (EchoRequest(), {"r": b"hi"}),
        (ParamsRequest(), {"buf_size": 1024}),
        (ParamsRequest(), {"buf_size": True, "buf_count": 1}),
        (BootloaderInfoRequest(), {"bootloader": 1}),
        (BootloaderInfoRequest(), {"mode": "x"}),
        (BootloaderInfoRequest(), {"no-downgrade": "yes"}),
        (ImageStateRead(), {}),
        (ImageStateRead(), {"images": {}}),
        (ImageStateRead(), {"images": [1]}),
        (ImageStateRead(), {"images": [], "splitStatus": "0"}),
        (ImageStateRead(), {"images": [{"version": "1"}]}),
        (ImageStateRead(), {"images": [{"slot": 0}]}),
        (ImageStateRead(), {"images": [{"slot": "0", "version": "1"}]}),
        (ImageStateRead(), {"images": [{"slot": 0, "version": 1}]}),
        (ImageStateRead(), {"images": [{"slot": 0, "version": "1", "hash": "ab"}]}),
        (ImageStateRead(), {"images": [{"slot": 0, "version": "1", "hash": None}]}),
        (ImageStateRead(), {"images": [{"slot": 0, "version": "1", "image": b""}]}),
        (ImageStateRead(), {"images": [{"slot": 0, "version": "1", "active": 1}]}),
        (ImageStateWrite(), {"images": None}),
        (UploadRequest(), {"rc": 0}),
        (UploadRequest(), {"off": None}),
        (UploadRequest(), {"off": True}),
        (UploadRequest(), {"off": 1, "match": 1}),
        (SlotInfoRequest(), {}),
        (SlotInfoRequest(), {"images": [{}]}),
        (SlotInfoRequest(), {"images": [{"slots": [{}]}]}),
        (SlotInfoRequest(), {"images": [{"slots": [{"slot": 0, "size": "1"}]}]}),
        (SlotInfoRequest(), {"images": [{"slots": [{"slot": 0, "upload_image_id": "1"}]}]}),
        (SlotInfoRequest(), {"images": [{"slots": [], "max_image_size": "1"}]}),
    ],
)
def test_responses_of_another_shape(request_: Request[Any], payload: Map) -> None:
    with pytest.raises(SmpMalformed):
        request_.read(payload)


KEYS = st.sampled_from(
    ["r", "rc", "images", "slot", "slots", "version", "hash", "off", "match", "buf_size", "buf_count", "mode", "size"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.binary(max_size=4) | st.text(max_size=4)


@given(
    st.sampled_from(EVERY_REQUEST),
    st.recursive(
        st.dictionaries(KEYS, SCALARS),
        lambda inner: st.dictionaries(KEYS, SCALARS | inner | st.lists(SCALARS | inner, max_size=3), max_size=5),
        max_leaves=8,
    ),
)
def test_any_map_gives_a_response_or_smp_malformed(request_: Request[Any], payload: Map) -> None:
    with contextlib.suppress(SmpMalformed):
        assert isinstance(request_.read(payload), tuple)


def test_find_in_an_image_list() -> None:
    states = ImageStateRead().read(
        {
            "images": [
                {"slot": 0, "version": "1.0.0"},
                {"slot": 1, "version": "2.0.0"},
                {"image": 1, "slot": 0, "version": "3.0.0"},
            ]
        }
    )
    found = (states.find(), states.find(slot=1), states.find(image=1))
    assert [state.version for state in found if state] == ["1.0.0", "2.0.0", "3.0.0"]
    assert states.find(image=1, slot=1) is None
