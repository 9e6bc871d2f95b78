import base64

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires import LIST, OFF_12, RC_8, RESET, RESET_PACKET, capture, update

from pytest_nrfdfu.sim.app_transport import BufferPool, RequestQueue
from pytest_nrfdfu.sim.console_rx import PacketReceiver
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.console import FaultKind
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.exchange import exchanges, stray_responses
from pytest_nrfdfu.wire.frames import Frame, Message, Text, messages, read


def one(*data: bytes) -> Frame | Message | Text:
    items = read(capture(("tx", b"".join(data))))
    assert len(items) == 1, items
    return items[0]


def broken(data: bytes) -> Frame:
    item = one(data)
    assert isinstance(item, Frame)
    assert item.fault is not None
    return item


def test_a_reported_reset_request_is_read_to_its_fields() -> None:
    message = one(RESET)
    assert isinstance(message, Message)
    assert (message.header.op, message.header.group, message.header.command) == (2, 0, 5)
    assert (message.header.sequence, message.payload, message.payload_error) == (0x8A, {}, None)
    assert message.packet == message.frame.packet == RESET_PACKET
    assert (message.frame.length_field, message.frame.crc_sent, message.frame.crc_computed) == (11, 0x3543, 0x3543)


def test_a_reported_answer_is_read_with_its_indefinite_map() -> None:
    message = one(OFF_12)
    assert isinstance(message, Message)
    assert message.payload == {"rc": 0, "off": 12}
    assert message.frame.crc_sent == 0x00EE
    assert not message.is_request


@pytest.mark.parametrize(
    ("data", "kind", "detail"),
    [
        (RESET.replace(b"1Qw", b"1Rw"), FaultKind.CRC, "the packet's is 0x3543, the frame's 0x3547"),
        (RESET.replace(b"AAs", b"AAk"), FaultKind.LENGTH, "says 9 bytes of packet and CRC, 11 came"),
        (RESET.replace(b"AAs", b"AA0"), FaultKind.INCOMPLETE, "says 13 bytes of packet and CRC, 11 came"),
        (RESET.replace(b"Qw==", b"Q-=="), FaultKind.BASE64, "line 1, byte 20: byte 0x2d"),
        (RESET.replace(b"==", b""), FaultKind.BASE64, "2 characters are left"),
        (RESET.replace(b"\n", b"\r\n"), FaultKind.STRAY_CR, "CR LF"),
        (b"\x04\x14" + RESET[2:], FaultKind.ORPHAN, "without a start line"),
        (b"\x06\x09AA==\n", FaultKind.INCOMPLETE, "0 came"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(data: bytes, kind: FaultKind, detail: str) -> None:
    item = one(data)
    frame = item.frame if isinstance(item, Message) else item
    assert isinstance(frame, Frame)
    assert frame.fault is not None
    assert frame.fault.kind is kind
    assert detail in frame.fault.detail


def test_a_wrong_length_field_leaves_the_packet_to_be_seen() -> None:
    frame = broken(RESET.replace(b"AAs", b"AAk"))
    assert frame.packet is None
    assert frame.crc_sent == frame.crc_computed == 0x3543
    assert frame.presumed == RESET_PACKET


def test_a_carriage_return_does_not_hide_the_message() -> None:
    message = one(RESET.replace(b"\n", b"\r\n"))
    assert isinstance(message, Message)
    assert message.packet == RESET_PACKET


def test_padding_on_every_line_is_decoded_and_reported() -> None:
    packet = RESET_PACKET + b"xx"
    body = (len(packet) + 2).to_bytes(2, "big") + packet + console.crc16(packet).to_bytes(2, "big")
    frame = one(b"\x06\x09" + base64.b64encode(body[:4]) + b"\n\x04\x14" + base64.b64encode(body[4:]) + b"\n")
    assert isinstance(frame, Message)
    assert frame.packet == packet
    assert frame.frame.fault is not None
    assert "padding" in frame.frame.fault.detail
    assert frame.payload_error == "the header says 1 bytes of payload, 3 came"
    for index in range(len(body)):  # every byte leads to characters that hold it
        assert frame.frame.places(index, index + 1), index


def test_every_byte_leads_back_to_its_characters() -> None:
    """The CRC is bytes 11 and 12 of the body: the third byte of the group BaA1, and the only one of Qw==."""
    data = b"noise\n" + RESET
    items = read(capture(("tx", data)))
    assert isinstance(items[1], Message)
    frame = items[1].frame
    sent = capture(("tx", data)).bytes_of("tx")
    assert [sent[a:b] for a, b in frame.places(0, 3)] == [b"AAsC"]
    assert [sent[a:b] for a, b in frame.places(11, 13)] == [b"A1Qw"]
    assert [sent[a:b] for a, b in items[1].places(0, 1)] == [b"sC"]
    assert frame.places(13, 20) == ()


LONG = list(console.lines(bytes.fromhex("02 00 00fa 0001 00 01") + bytes(250)))
"""Three lines."""


def test_a_packet_ends_with_the_line_that_makes_it_whole() -> None:
    """Lines behind it are a frame of their own, however many they are: no receiver takes them for a part of it."""
    message, rest, last = read(capture(("tx", RESET + b"".join(LONG[1:]) + LIST)))
    assert isinstance(message, Message)
    assert isinstance(rest, Frame)
    assert isinstance(last, Message)
    assert (message.packet, message.frame.fault) == (RESET_PACKET, None)
    assert rest.raw == b"".join(LONG[1:])
    assert rest.behind_whole
    assert rest.fault is not None
    assert str(rest.fault) == "continuation without a start: the packet before these lines is whole without them"
    assert last.frame.fault is None


def test_a_broken_packet_keeps_the_lines_behind_it() -> None:
    """Which of its lines is too much cannot be told."""
    (frame,) = read(capture(("tx", RESET.replace(b"1Qw", b"1Rw") + LONG[1])))
    assert isinstance(frame, Frame)
    assert len(frame.lines) == 2


def test_packets_that_all_begin_with_the_wrong_marker_are_apart() -> None:
    items = read(capture(("tx", b"".join(b"\x04\x14" + data[2:] for data in (RESET, LIST)))))
    assert [isinstance(item, Message) and item.frame.behind_whole for item in items] == [False, False]
    assert [message.header.command for message in messages(items)] == [5, 0]


@given(st.lists(st.sampled_from([*LONG, RESET, LIST, b"\x04\x14AAAA\n", b"\x04\x14\n", b"text\n"]), max_size=12))
def test_the_reader_sees_the_packets_that_both_receivers_take(lines: list[bytes]) -> None:
    """MCUboot's serial recovery, and the UART transport of a Zephyr application, as they are simulated."""
    recovery, application = PacketReceiver(1024), RequestQueue(BufferPool(100))
    taken = [packet for line in lines if (packet := recovery.take_line(line)) is not None]
    application.feed(b"".join(lines))
    frames = [item.frame if isinstance(item, Message) else item for item in read(capture(("tx", b"".join(lines))))]
    seen = [
        frame.packet
        for frame in frames
        if isinstance(frame, Frame) and frame.packet is not None and frame.lines[0].marker == console.START
    ]
    assert seen == taken == [application.take() for _ in range(len(application))]


def test_a_flood_of_lines_is_read_in_time() -> None:
    """Of a frame that is never whole, each line is looked at once: 40,000 lines take far under a second."""
    (frame,) = read(capture(("tx", LONG[0] + b"".join(LONG[1:2]) * 40_000)))
    assert isinstance(frame, Frame)
    assert len(frame.lines) == 40_001


def test_places_over_two_lines_are_two() -> None:
    message = one(console.encode(bytes.fromhex("02 00 00c8 0001 00 01") + bytes(200)))
    assert isinstance(message, Message)
    (first, second) = message.frame.places(92, 94)
    sent = message.frame.raw
    assert sent[slice(*first)] == message.frame.lines[0].text[-2:]
    assert sent[slice(*second)] == message.frame.lines[1].text[:2]


def test_text_between_the_lines_of_a_frame_stays_where_it_stood() -> None:
    first, second = console.lines(bytes.fromhex("02 00 0080 0001 00 01") + bytes(128))
    items = read(capture(("rx", first), ("rx", b"log\n"), ("rx", second)))
    message, text = items
    assert isinstance(message, Message)
    assert isinstance(text, Text)
    assert (message.frame.time_first, text.time, message.frame.time_last) == (0.0, 0.05, 0.1)
    assert (text.start, message.frame.lines[1].start) == (len(first), len(first) + 4)


def test_a_marker_in_the_middle_of_a_line_begins_a_new_one() -> None:
    items = read(capture(("tx", b"boot" + RESET.removesuffix(b"\n") + LIST)))
    assert [type(item) for item in items] == [Text, Message, Message]
    assert not items[1].frame.lines[0].raw.endswith(b"\n")


def test_the_carriage_return_of_old_bootloaders_belongs_to_the_line_before() -> None:
    items = read(capture(("rx", RC_8 + b"\r" + RC_8 + b"\r")))
    assert [type(item) for item in items] == [Message, Message, Text]


@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_byte_is_lost_and_slices_make_no_difference(noise: bytes, size: int) -> None:
    data = noise + b"\n" + LIST + RESET + noise
    whole = read(capture(("tx", data)))
    sliced = Capture(tuple(Chunk(0.0, "tx", data[at : at + size]) for at in range(0, len(data), size)))
    raw = {}
    for item in read(sliced):
        if isinstance(item, Text):
            raw[item.start] = item.data
        else:
            frame = item.frame if isinstance(item, Message) else item
            raw |= {line.start: line.raw for line in frame.lines}
    together = b"".join(raw[start] for start in sorted(raw))
    assert together.replace(b"\r", b"") == data.replace(b"\r", b"")
    assert [type(item) for item in read(sliced)] == [type(item) for item in whole]


@given(st.lists(st.sampled_from([LIST, RESET, RC_8[:9], b"\x04\x14AAAA\n", b"\x06\x09", b"\n", b"x"])))
def test_anything_can_be_read(parts: list[bytes]) -> None:
    for item in read(capture(("tx", b"".join(parts)))):
        if isinstance(item, Frame):
            assert item.fault is not None or len(item.presumed) < 8


def test_responses_go_with_their_requests() -> None:
    items = read(update())
    pairs = exchanges(items)
    assert len(pairs) == 5
    assert all(pair.response is not None and pair.round_trip == pytest.approx(0.05) for pair in pairs)
    assert stray_responses(items) == []


def test_a_response_to_a_repeated_request_goes_with_the_last_one() -> None:
    answer = bytes.fromhex("01 00 0001 0001 42 00 a0")
    items = read(capture(("tx", LIST), ("tx", LIST), ("rx", console.encode(answer)), ("rx", console.encode(answer))))
    first, second = exchanges(items)
    assert first.response is not None  # the second answer is the first request's, late
    assert second.response is not None
    assert second.round_trip == pytest.approx(0.05)
    assert first.round_trip == pytest.approx(0.15)


def test_a_response_goes_with_the_latest_request_of_its_sequence() -> None:
    """A host that repeats a chunk in smaller pieces may keep the sequence number."""
    large, small = (console.encode(bytes.fromhex("02 00 0001 0001 a7 01") + data) for data in (b"\xa0", b"\xbf\xff"))
    first, second = exchanges(read(capture(("tx", large), ("tx", small), ("rx", OFF_12))))
    assert first.response is None
    assert second.response is not None


def test_of_chunks_with_one_sequence_number_the_response_tells_which_it_means() -> None:
    """Three on their way at once; the answers say off 4, 8 and 8: the third was not what the board wanted."""
    chunks = [{"off": 0, "data": bytes(4), "len": 16}, {"off": 4, "data": bytes(4)}, {"off": 12, "data": bytes(4)}]
    sent = [("tx", _packet(2, payload)) for payload in chunks]
    answers = [("rx", _packet(3, {"rc": 0, "off": off})) for off in (4, 8, 8)]
    pairs = exchanges(read(capture(*sent, *answers)))
    assert [pair.response.frame.start for pair in pairs if pair.response] == [
        0,
        len(answers[0][1]),
        2 * len(answers[0][1]),
    ]


def _packet(op: int, payload: dict[str, object]) -> bytes:
    body = cbor2.dumps(payload)
    return console.encode(Header(op=op, group=1, command=1, sequence=9, length=len(body)).pack() + body)


def test_a_response_without_a_request_is_a_stray() -> None:
    items = read(capture(("rx", OFF_12), ("tx", LIST)))
    assert [pair.response for pair in exchanges(items)] == [None]
    assert stray_responses(items) == messages(items)[:1]
