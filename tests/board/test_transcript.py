"""What passed on a port, in words."""

import cbor2
import pytest

from pytest_nrfdfu.board.transcript import decode_traffic, describe
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateRead, ResetRequest, UploadRequest


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ImageStateRead(), "image list read, sequence 7: {}"),
        (ResetRequest(boot_mode=1), "reset write, sequence 7: {boot_mode: 1}"),
        (EchoRequest("hi"), "echo write, sequence 7: {d: 'hi'}"),
        (
            UploadRequest(off=0, data=bytes(500), length=900),
            "image upload write, sequence 7: {len: 900, off: 0, data: <500 bytes>}",
        ),
    ],
)
def test_a_request_is_one_line(request_, text):
    assert describe(encode(request_, 7)) == text


def test_a_response_shows_hashes_whole():
    body = cbor2.dumps({"images": [{"slot": 0, "hash": b"\xab" * 32}]})
    packet = Header(op=1, group=1, command=0, sequence=7, length=len(body)).pack() + body
    assert describe(packet) == "image list read response, sequence 7: {images: [{slot: 0, hash: " + "ab" * 32 + "}]}"


def test_what_is_not_known_is_shown_by_number():
    packet = Header(op=2, group=64, command=9, sequence=0, length=1).pack() + b"\xa0"
    assert describe(packet) == "group 64 command 9 write, sequence 0: {}"


def test_a_packet_that_cannot_be_read_is_shown_as_such():
    assert describe(b"\x00\x01").startswith("unreadable packet: ")


def test_traffic_is_cut_into_messages():
    """Wherever the reads cut it; times are those of a message's end, from the first byte on."""
    frame = console.encode(encode(ImageStateRead(), 7))
    broken = console.encode(encode(ImageStateRead(), 8)).replace(b"A", b"B")
    traffic = [(10.0, "tx", frame[:5]), (10.25, "tx", frame[5:]), (10.5, "rx", b"I: text\r\n" + broken)]
    first, second = decode_traffic(traffic)
    size = len(encode(ImageStateRead(), 7))
    assert first == f"    0.250 s -> image list read, sequence 7: {{}} ({size} bytes)"
    assert second.startswith("    0.500 s <- broken frame: ")


def test_nothing_is_nothing():
    assert decode_traffic([]) == []
