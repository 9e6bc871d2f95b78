"""SMP over a console: lines to packets, and everything that a UART does to them."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.console import CONTINUATION, START, Decoder, Event, Fault, FaultKind, Packet, Text

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "mcuboot-transcripts"
RESET = bytes.fromhex("02 00 0001 0000 8a 05 a0")
UPLOAD_ANSWER = bytes.fromhex("03 00 000b 0001 a7 01 bf 62 7263 00 63 6f6666 0c ff")

GOLDEN = [
    # Reset request of the mcumgr command line tool (DevZone 102545): length 11, CRC 0x3543.
    (RESET, b"\x06\x09AAsCAAABAACKBaA1Qw==\n"),
    # Image list request, SMP version 1 and 2 (recomputed from smp_transport.rst).
    (bytes.fromhex("00 00 0001 0001 42 00 a0"), b"\x06\x09AAsAAAABAAFCAKD1Mw==\n"),
    (bytes.fromhex("08 00 0001 0001 42 00 a0"), b"\x06\x09AAsIAAABAAFCAKDczA==\n"),
    # "Not supported" (recomputed).
    (bytes.fromhex("03 00 0006 0000 01 06 bf 62 7263 08 ff"), b"\x06\x09ABADAAAGAAABBr9icmMI/wMu\n"),
    # A board's answer to an upload chunk (DevZone 124561): {"rc": 0, "off": 12}, length 21, CRC 0x00ee.
    (UPLOAD_ANSWER, b"\x06\x09ABUDAAALAAGnAb9icmMAY29mZgz/AO4=\n"),
]

PACKETS = st.binary(max_size=400)


def decode(data: bytes) -> list[Event]:
    return Decoder().feed(data)


def packets(events: list[Event]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, Packet)]


def raw_frame(body: bytes) -> bytes:
    """One line around `body`: length, packet and CRC as the caller wants them."""
    return START + base64.b64encode(body) + b"\n"


# --- encoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("packet", "wire"), GOLDEN)
def test_golden_vectors(packet: bytes, wire: bytes) -> None:
    assert console.encode(packet) == wire
    assert decode(wire) == [Packet(packet)]


@given(st.binary(max_size=300))
@example(b"123456789")  # the check value of CRC-16/XMODEM is 0x31c3
def test_crc(data: bytes) -> None:
    assert console.crc16(data) == binascii.crc_hqx(data, 0)


def test_crc_check_value() -> None:
    assert console.crc16(b"123456789") == 0x31C3


@pytest.mark.parametrize("line_length", [7, 8, 64, 126, 127, 128, 512])
def test_lines_and_their_arithmetic(line_length: int) -> None:
    for size in range(1, 1101):
        packet = bytes(size)
        lines = list(console.lines(packet, line_length))
        assert all(len(line) <= line_length for line in lines)
        assert all(len(line) % 4 == 3 for line in lines), "whole base64 groups in every line"
        assert [line[:2] for line in lines] == [START] + [CONTINUATION] * (len(lines) - 1)
        assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
        wire = console.encode(packet, line_length)
        assert wire == b"".join(lines)
        assert len(wire) == console.wire_size(size, line_length)
        assert len(lines) == console.line_count(size, line_length)
        assert size <= console.max_packet(len(lines), line_length)
        assert len(lines) == 1 or size > console.max_packet(len(lines) - 1, line_length)


def test_full_lines_carry_93_bytes() -> None:
    assert console.RAW_PER_LINE == 93
    assert [console.max_packet(n) for n in (1, 2, 11)] == [89, 182, 1019]
    assert all(len(line) == console.LINE_LENGTH == 127 for line in console.lines(bytes(1019)))
    assert console.wire_size(1020) == 1404  # 12 lines; measured on MCUboot
    assert console.line_count(1020) == 12


@pytest.mark.parametrize("line_length", [-1, 0, 6])
def test_lines_without_room_for_a_base64_group(line_length: int) -> None:
    for function in (console.line_count, console.wire_size, console.max_packet):
        with pytest.raises(ValueError, match="no room for a base64 group"):
            function(1, line_length)
    with pytest.raises(ValueError, match="no room for a base64 group"):
        console.encode(b"x", line_length)


def test_the_largest_packet() -> None:
    largest = bytes(0xFFFF - 2)
    assert decode(console.encode(largest)) == [Packet(largest)]
    assert decode(console.encode(largest, 7)) == [Packet(largest)]
    with pytest.raises(ValueError, match="at most 65533 bytes, not 65534"):
        console.encode(bytes(0xFFFF - 1))


# --- decoding: slices -----------------------------------------------------------------------------------------------

NOISE = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([START, CONTINUATION, b"\n", b"\r", b"\r\n", b"\n\r", b"\x06", b"\x04", b"=", b"uart:~$ "]),
        st.builds(console.encode, st.binary(max_size=150), st.sampled_from([7, 40, 127])),
        st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, 9000), st.sampled_from(b"\x06\x41\x09")),
    ),
    max_size=8,
).map(b"".join)


@given(NOISE, st.data())
def test_slicing_makes_no_difference(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    whole, sliced = Decoder(), Decoder()
    events = whole.feed(stream)
    got: list[Event] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += sliced.feed(stream[start:stop])
    assert got == events
    assert sliced.pending_text == whole.pending_text
    assert sliced.flush() == whole.flush()


@pytest.mark.parametrize("step", [1, 2, 3, 125, 126, 127, 128, 4096])
def test_slicing_of_a_long_stream(step: int) -> None:
    stream = (
        b"".join(
            b"text\nprompt> " + console.encode(bytes([n]) * size) + b"\r\n"
            for n, size in enumerate((1, 89, 90, 500, 1020))
        )
        + b"A" * 5000
    )
    decoder = Decoder()
    events = [event for at in range(0, len(stream), step) for event in decoder.feed(stream[at : at + step])]
    assert events == decode(stream)
    assert len(packets(events)) == 5


LINES = st.text("abc \r$:~", min_size=1).map(lambda text: Text((text + "\n").encode()))


@given(st.lists(st.one_of(PACKETS.map(Packet), LINES)))
def test_text_and_packets_come_back_in_order(items: list[Packet | Text]) -> None:
    stream = b"".join(item.data if isinstance(item, Text) else console.encode(item.data) for item in items)
    assert decode(stream) == items


# --- decoding: console text around packets --------------------------------------------------------------------------


def test_text_directly_before_a_frame_and_after_it() -> None:
    stream = b"*** Booting MCUboot ***\nuart:~$ " + console.encode(RESET) + b"done\n"
    assert decode(stream) == [Text(b"*** Booting MCUboot ***\n"), Text(b"uart:~$ "), Packet(RESET), Text(b"done\n")]


def test_text_between_the_lines_of_a_frame() -> None:
    first, second = console.lines(bytes(120))
    assert decode(first + b"<inf> log\n" + second) == [Text(b"<inf> log\n"), Packet(bytes(120))]
    assert decode(first + b"<inf> log" + second) == [Text(b"<inf> log"), Packet(bytes(120))]


def test_a_marker_split_over_two_feeds() -> None:
    for at in range(1, 20):
        wire = b"$ " + console.encode(RESET)
        decoder = Decoder()
        events = decoder.feed(wire[:at]) + decoder.feed(wire[at:])
        assert events == [Text(b"$ "), Packet(RESET)]


def test_the_first_byte_of_a_marker_alone_is_text() -> None:
    assert decode(b"a\x06b\x04\n") == [Text(b"a\x06b\x04\n")]
    assert decode(b"\x06" + console.encode(RESET)) == [Text(b"\x06"), Packet(RESET)]


def test_a_marker_inside_garbage_starts_a_frame() -> None:
    assert decode(b"\xff\x00\x09" + console.encode(RESET)) == [Text(b"\xff\x00\x09"), Packet(RESET)]


def test_pending_text_is_the_prompt_and_never_smp() -> None:
    decoder = Decoder()
    assert decoder.pending_text == b""
    decoder.feed(b"line\nuart:~$ ")
    assert decoder.pending_text == b"uart:~$ "
    decoder.feed(b"\x06")
    assert decoder.pending_text == b"uart:~$ ", "that byte may be the first half of a marker"
    assert decoder.feed(b"\x09AAsC") == [Text(b"uart:~$ ")], "not held back until the frame's line ends"
    assert decoder.pending_text == b""


def test_flush_gives_the_unfinished_line() -> None:
    decoder = Decoder()
    decoder.feed(b"uart:~$ ")
    assert decoder.flush() == [Text(b"uart:~$ ")]
    assert decoder.flush() == []
    assert decoder.pending_text == b""


def test_flush_completes_a_frame_without_its_newline() -> None:
    decoder = Decoder()
    assert decoder.feed(console.encode(RESET)[:-1]) == []
    assert decoder.flush() == [Packet(RESET)]


def test_flush_gives_up_an_unfinished_frame() -> None:
    first, _ = console.lines(bytes(120))
    decoder = Decoder()
    assert decoder.feed(first) == []
    (fault,) = decoder.flush()
    assert fault == Fault(
        FaultKind.INCOMPLETE, "127 bytes of a packet were there when the input ended", first, expected=122, got=91
    )


# --- decoding: line ends --------------------------------------------------------------------------------------------


def test_old_mcuboot_ends_lines_with_lf_cr() -> None:
    """Up to v1.9.99-ncs1: the carriage return stands before the next line, and is no console text."""
    answers = b"".join(line + b"\r" for line in console.lines(bytes(120))) + console.encode(RESET) + b"\rBooting\n"
    assert decode(answers) == [Packet(bytes(120)), Packet(RESET), Text(b"\rBooting\n")]


def test_a_carriage_return_that_ends_text_is_kept() -> None:
    assert decode(b"abc\r" + console.encode(RESET)) == [Text(b"abc\r"), Packet(RESET)]
    assert decode(b"\r\n\r") == [Text(b"\r\n")]


def test_cr_lf_is_reported_for_every_line_and_the_packet_still_read() -> None:
    first, second = (line[:-1] + b"\r\n" for line in console.lines(bytes(120)))
    stray = "CR LF ends the line, SMP lines end with LF alone"
    assert decode(first + second) == [
        Fault(FaultKind.STRAY_CR, stray, first),
        Fault(FaultKind.STRAY_CR, stray, second),
        Packet(bytes(120)),
    ]


def test_one_long_line() -> None:
    """MCUboot before v1.10.0-ncs1 sends a whole response in one line."""
    wire = console.encode(bytes(1100), 2000)
    assert wire.count(b"\n") == 1
    assert len(wire) > 1470
    assert decode(b"text " * 600 + wire) == [Text(b"text " * 600), Packet(bytes(1100))]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 61])
def test_base64_may_be_cut_anywhere(size: int) -> None:
    text = console.encode(bytes(120), 1000)[2:-1]
    wire = b"".join((CONTINUATION if at else START) + text[at : at + size] + b"\n" for at in range(0, len(text), size))
    assert decode(wire) == [Packet(bytes(120))]


# --- decoding: faults -----------------------------------------------------------------------------------------------


def test_crc_fault() -> None:
    wire = raw_frame(b"\x00\x0b" + RESET + b"\x35\x44")
    assert decode(wire) == [
        Fault(FaultKind.CRC, "the packet's CRC is 0x3543, the frame says 0x3544", wire, expected=0x3543, got=0x3544)
    ]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        # The length field must count the packet and the CRC over all lines: its usual misreadings (DevZone 117628).
        (9, 9),  # without the CRC
        (13, 13),  # with the length field itself
        (0, 0),
        (1, 1),
        (0xFFFF, 0xFFFF),
    ],
)
def test_length_fault(length: int, expected: int) -> None:
    wire = raw_frame(length.to_bytes(2, "big") + RESET + b"\x35\x43")
    detail = f"the length field says {expected} bytes of packet and CRC, 11 came"
    assert decode(wire) == [Fault(FaultKind.LENGTH, detail, wire, expected=expected, got=11)]


@pytest.mark.parametrize("length", [0, 1])
def test_length_without_room_for_the_crc(length: int) -> None:
    wire = raw_frame(length.to_bytes(2, "big") + bytes(length))
    detail = f"the length field says {length}, which leaves no room for the CRC"
    assert decode(wire) == [Fault(FaultKind.LENGTH, detail, wire, expected=length, got=length)]


def test_padding_within_the_length_field() -> None:
    assert decode(START + b"AA==\n") == [Fault(FaultKind.LENGTH, "it ends within the length field", START + b"AA==\n")]


def test_padding_at_the_end_of_the_first_line_ends_the_frame() -> None:
    """Lines encoded apart, which is not how it is done: the first one's padding says that nothing follows."""
    first = START + base64.b64encode(b"\x01\x75" + bytes(80)) + b"\n"
    second = CONTINUATION + base64.b64encode(bytes(93)) + b"\n"
    assert decode(first + second) == [
        Fault(FaultKind.LENGTH, "the length field says 373 bytes of packet and CRC, 80 came", first, 373, 80),
        Fault(FaultKind.ORPHAN, "127 bytes without a packet that they continue", second),
    ]


@pytest.mark.parametrize(
    "chars",
    [b"AAs=AAAA", b"AA==AAAA", b"AAs AAAA", b"AAsC AAAB", b"====", b"A===", b"AA\tA", b"AA\xe4A", b"AA-_", b"\rAAA"],
)
def test_base64_fault(chars: bytes) -> None:
    (fault,) = decode(START + chars + b"\n")
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.data) == (FaultKind.BASE64, START + chars + b"\n")
    assert (fault.expected, fault.got) == (None, None)


def test_characters_after_the_packet() -> None:
    wire = console.encode(RESET)[:-1] + b"J\n"
    assert decode(wire) == [Fault(FaultKind.BASE64, "1 more characters follow the end of the packet", wire)]


def test_orphan() -> None:
    line = CONTINUATION + b"AAAA\n"
    assert decode(line) == [Fault(FaultKind.ORPHAN, "7 bytes without a packet that they continue", line)]


def test_a_length_field_larger_than_what_comes() -> None:
    wire = START + base64.b64encode(b"\x01\x00" + bytes(16)) + b"\n"
    assert decode(wire) == [], "the rest may still come"
    assert decode(wire + console.encode(RESET)) == [
        Fault(FaultKind.INCOMPLETE, "27 bytes of a packet were there when the next one started", wire, 256, 16),
        Packet(RESET),
    ]


def test_a_frame_without_even_a_length_is_incomplete() -> None:
    (fault, _) = decode(START + b"\n" + console.encode(RESET))
    assert fault == Fault(
        FaultKind.INCOMPLETE, "3 bytes of a packet were there when the next one started", START + b"\n"
    )


def test_line_too_long() -> None:
    fits = START + b"A" * 2045 + b"\n"
    assert decode(fits + console.encode(RESET)) != []
    line = START + b"A" * 3000
    assert decode(line + b"\n") == [
        Fault(FaultKind.TOO_LONG, "an SMP line or frame of more than 2048 bytes", line[:2049], expected=2048, got=2049),
        Text(line[2049:] + b"\n"),
    ]


def test_faults_read_well() -> None:
    assert str(decode(CONTINUATION + b"AAAA\n")[0]) == (
        "continuation without a start: 7 bytes without a packet that they continue"
    )


def test_every_kind_of_fault_is_tested_above() -> None:
    assert {kind.name for kind in FaultKind} == {
        "BASE64", "CRC", "INCOMPLETE", "LENGTH", "ORPHAN", "STRAY_CR", "TOO_LONG"
    }  # fmt: skip


# --- decoding: nothing is invented, nothing that follows is lost ----------------------------------------------------

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
FLIPPED = [RESET, UPLOAD_ANSWER, b"", bytes(range(10)), bytes(range(89)), bytes(range(200)), bytes(91)]


@pytest.mark.parametrize("packet", FLIPPED, ids=len)
def test_every_flipped_bit_is_detected_or_harmless(packet: bytes) -> None:
    """Harmless: a bit of the last character that base64 does not use. The packet after it is never lost."""
    wire, after = console.encode(packet), console.encode(RESET)
    harmless = set()
    for bit in range(len(wire) * 8):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        events = decode(bytes(damaged) + after)
        if packets(events) == [packet, RESET]:
            harmless.add(bit)
        else:
            assert packets(events) == [RESET]
            assert any(not isinstance(event, Packet) for event in events), "what came is not passed over in silence"
    last = len(wire) - 2 - wire.count(b"=")
    unused = 2 * wire.count(b"=")
    assert harmless == {
        bit
        for bit in range(last * 8, last * 8 + 8)
        if (other := ALPHABET.find(wire[last] ^ 1 << bit % 8)) >= 0 and other ^ ALPHABET.index(wire[last]) < 1 << unused
    }


@given(PACKETS, st.data())
def test_a_partial_frame_never_loses_the_next_packet(packet: bytes, data: st.DataObject) -> None:
    wire = console.encode(packet)
    kept = wire[: data.draw(st.integers(0, len(wire) - 1))]
    separator = data.draw(st.sampled_from([b"", b"\n", b"\r\n", b"text\n"]))
    events = decode(kept + separator + console.encode(RESET))
    assert packets(events) in ([RESET], [packet, RESET])


@given(PACKETS, st.data())
def test_a_frame_that_lost_bytes_never_becomes_another_packet(packet: bytes, data: st.DataObject) -> None:
    wire = console.encode(packet)
    start = data.draw(st.integers(0, len(wire) - 1))
    stop = data.draw(st.integers(start + 1, len(wire)))
    events = decode(wire[:start] + wire[stop:] + console.encode(RESET))
    assert packets(events)[-1] == RESET
    assert packets(events)[:-1] in ([], [packet])


@given(st.binary(max_size=60))
def test_noise_never_loses_the_next_packet(noise: bytes) -> None:
    assert packets(decode(noise + console.encode(RESET)))[-1] == RESET


# --- decoding: memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "noise"),
    [
        (b"", b"\xff" * 997),  # no newline
        (b"", b"\x06" * 997),  # always half a marker
        (START, b"A" * 997),  # an SMP line without end
        (START + b"\n", b"A" * 997),
        (START + b"\n", (CONTINUATION + b"\n") * 300),  # lines without content
        (START + b"\n", (CONTINUATION + b"\r\n") * 300),
        (START + b"//8A\n", (CONTINUATION + b"A\n") * 300),
        (b"", START * 500),
    ],
)
def test_memory_is_bounded(prefix: bytes, noise: bytes) -> None:
    decoder = Decoder()
    decoder.feed(prefix)
    for _ in range(600):
        decoder.feed(noise)
        assert len(decoder.pending_text) <= 4096
    left = sum(len(event.data) for event in decoder.flush())
    assert left <= 160_000, "the largest packet in the shortest lines"
    assert decoder.feed(console.encode(RESET))[-1] == Packet(RESET)


def test_text_without_a_newline_comes_in_pieces() -> None:
    assert decode(b"\xff" * 10_000) == [Text(b"\xff" * 4096), Text(b"\xff" * 4096)]


def test_a_marker_on_the_edge_of_a_piece_of_text() -> None:
    for size in range(4090, 4100):
        events = decode(b"." * size + console.encode(RESET))
        assert packets(events) == [RESET]
        assert b"".join(event.data for event in events if isinstance(event, Text)) == b"." * size


@pytest.mark.parametrize("size", range(4093, 4098))
def test_a_slice_that_ends_on_the_edge_of_a_piece_of_text(size: int) -> None:
    decoder, wire = Decoder(), console.encode(RESET)
    events = decoder.feed(b"." * size + wire[:1]) + decoder.feed(wire[1:])
    assert packets(events) == [RESET]


def test_a_frame_of_empty_lines_is_given_up() -> None:
    faults = [e for e in decode(START + b"\n" + (CONTINUATION + b"\n") * 60_000) if isinstance(e, Fault)]
    assert faults[0].kind is FaultKind.TOO_LONG
    assert faults[0].expected == console.wire_size(0xFFFF - 2, 7)
    assert {fault.kind for fault in faults[1:]} == {FaultKind.ORPHAN}


# --- recordings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["default", "ncs", "min512"])
def test_every_recorded_answer_of_mcuboot_is_whole_packets(variant: str) -> None:
    """Recorded from MCUboot's boot_serial.c on a host; see FORMAT.md beside the recordings."""
    answers = 0
    with gzip.open(TRANSCRIPTS / f"{variant}.jsonl.gz", "rt") as lines:
        next(lines)
        for line in lines:
            for step in json.loads(line)["steps"]:
                wire = bytes.fromhex(step["rx"])
                events = decode(wire)
                assert all(isinstance(event, Packet) for event in events), line
                assert b"".join(map(console.encode, packets(events))) == wire
                answers += len(events)
    assert answers > 100
