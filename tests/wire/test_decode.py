import json

from wires import LIST, OFF_12, RC_8, RESET, UPLOAD, capture, update

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.wire import decode
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.frames import read
from pytest_nrfdfu.wire.paint import Paint, hex_rows


def test_a_whole_update_reads_line_by_line() -> None:
    assert list(decode.lines(update())) == [
        "  0.0000 s -> image list    seq 0",
        "  0.0500 s <- image list    seq 0, no images  after 50.0 ms",
        "  0.1000 s -> image upload  seq 1, len 1024, off 0, data 512 bytes",
        "  0.1500 s <- image upload  seq 1, rc 0, off 512  after 50.0 ms",
        "  0.2000 s -> image upload  seq 2, off 512, data 512 bytes",
        "  0.2500 s <- image upload  seq 2, rc 0, off 1024  after 50.0 ms",
        "  0.3000 s -> image list    seq 3",
        "  0.3500 s <- image list    seq 3, image 0 slot 0: 1.2.3 hash 00000000...  after 50.0 ms",
        "  0.4000 s -> reset         seq 4",
        "  0.4500 s <- reset         seq 4, rc 0  after 50.0 ms",
    ]
    assert decode.summary(update()) == "5 requests, 5 responses"


def test_what_is_wrong_stands_behind_the_message() -> None:
    found = "\n".join(
        decode.lines(
            capture(
                ("tx", LIST),
                ("rx", b"*** Booting MCUboot ***\r\n"),
                ("tx", b"\n" + RESET.replace(b"1Qw", b"1Rw")),
                ("rx", OFF_12),
                ("rx", RC_8),
            )
        )
    )
    assert "-> image list    seq 66  ! no response" in found
    assert "<- text          *** Booting MCUboot ***" in found
    assert (
        "-> broken frame  perhaps reset, write  ! CRC does not match: the packet's is 0x3543, the frame's 0x3547"
        in found
    )
    assert "<- image upload  seq 167, rc 0, off 12  ! no request for it is in the capture" in found
    assert "rc 8 (not supported)" in found


def test_lines_behind_a_whole_packet_do_not_spoil_it() -> None:
    """It was taken and answered before they came; what they hold begins with no header, and none is guessed."""
    rest = b"".join(list(console.lines(bytes(300)))[1:])
    found = list(decode.lines(capture(("tx", RESET + rest))))
    assert found[0] == "  0.0000 s -> reset         seq 138"
    said = "continuation without a start: the packet before these lines is whole without them"
    assert found[1] == f"  0.0000 s -> broken frame  ! {said}"
    assert decode.as_json(capture(("tx", RESET + rest)))["items"][1]["fault"]["kind"] == "ORPHAN"


def test_nothing_is_said_of_responses_where_none_were_recorded() -> None:
    assert "no response" not in "\n".join(decode.lines(capture(("tx", LIST), ("tx", RESET))))


def test_a_capture_without_times_has_no_column_for_them() -> None:
    assert list(decode.lines(Capture((Chunk(None, "tx", RESET),)))) == ["-> reset  seq 138"]


def test_verbose_shows_each_field_with_its_bytes() -> None:
    found = [line.split() for line in decode.lines(capture(("rx", OFF_12)), verbose=True)]
    for expected in (
        "line 1: 06 09 ABUDAAALAAGnAb9icmMAY29mZgz/AO4= 0a 35 bytes at 0",
        "frame 00 15 length: 21 bytes of packet and CRC",
        "header 03 SMP version 1 (0 in the field), op 3: write response",
        "header 00 0b payload length 11",
        "header a7 sequence 167",
        "header 01 command 1: image upload",
        "payload bf map of indefinite length",
        'payload 63 6f 66 66 key "off"',
        "payload 0c 12",
        "payload 00 0 (ok)",
        "payload ff end of the map",
        "frame 00 ee CRC16-XMODEM of the packet: right",
    ):
        assert expected.split() in found, expected


def test_verbose_shows_what_is_wrong_in_place() -> None:
    packet = bytes.fromhex("02 00 0009 0000 00 05 a0 ff")
    found = "\n".join(decode.lines(capture(("tx", console.encode(packet))), verbose=True))
    assert "payload length 9; 2 came" in found
    assert "more bytes behind the payload" in found
    cut = "\n".join(decode.lines(capture(("tx", RESET.replace(b"Qw==", b""))), verbose=True))
    assert "length: 11 bytes of packet and CRC; 10 came" in cut
    assert "the CRC (2 bytes) should be here" in cut


def test_all_fields_together_are_the_body() -> None:
    """Of everything in an update, and of frames cut anywhere."""
    from pytest_nrfdfu.wire.annotate import body_fields
    from pytest_nrfdfu.wire.frames import Frame, Message

    wires = [chunk.data for chunk in update()] + [OFF_12[:cut] for cut in range(3, len(OFF_12))]
    for wire in wires:
        for item in read(capture(("tx", wire))):
            frame = item.frame if isinstance(item, Message) else item
            assert isinstance(frame, Frame)
            fields = list(body_fields(frame))
            assert b"".join(field.data for field in fields) == frame.body
            for field in fields:
                assert frame.body[field.at : field.at + len(field.data)] == field.data


def test_colours_change_nothing_but_the_colours() -> None:
    import re

    painted = "\n".join(decode.lines(update(), verbose=True, paint=Paint(on=True)))
    assert "\x1b[36mimage list" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == "\n".join(decode.lines(update(), verbose=True))


def test_json_has_the_bytes_and_the_meaning() -> None:
    seen = json.loads(json.dumps(decode.as_json(update(), verbose=True)))
    first = seen["items"][2]
    assert (first["kind"], first["command"], first["offset"], first["length"]) == ("request", "image upload", 0, 512)
    assert first["payload"]["data"] == UPLOAD.image[:512].hex()
    assert first["answered"] is True
    assert {"part": "header", "at": 8, "data": "01", "says": "sequence 1", "depth": 0} in first["fields"]
    assert seen["items"][3]["rc"] == 0
    broken = decode.as_json(capture(("tx", RESET[:-4] + b"\n")))["items"][0]
    assert broken["fault"]["kind"] == "BASE64"


def test_long_data_lacks_its_middle_and_says_so() -> None:
    rows = [row.strip() for _, row in hex_rows(bytes(range(50)))]
    assert rows == [
        "00 01 02 03 04 05 06 07",
        "08 09 0a 0b 0c 0d 0e 0f",
        "10 11 12 13 14 15 16 17",
        "... 24 bytes ...",
        "30 31",
    ]
    assert [row.strip() for _, row in hex_rows(bytes(32))] == [" ".join(["00"] * 8)] * 4
