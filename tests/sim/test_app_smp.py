"""The application's SMP server: headers, versions, the OS group, buffers, and how it resets."""

import pytest
from app_server import Bench
from simulator import make_image

from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.chip import ResetCause
from pytest_nrfdfu.sim.firmware import Reboot
from pytest_nrfdfu.sim.retention import Retention
from pytest_nrfdfu.sim.slots import NRF5340_MULTI_IMAGE_SLOTS
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps, encode
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import (
    BootloaderInfoRequest,
    EchoRequest,
    ImageStateRead,
    ParamsRequest,
    ResetRequest,
    UploadRequest,
)

BYTE = 10 / 115_200
"""Seconds on the wire."""


@pytest.fixture
def bench():
    return Bench(slot0=make_image("1.2.3"))


def test_echo_params_and_bootloader(bench):
    assert EchoRequest("x").read(bench.ask(EchoRequest("hello")).payload).text == "hello"
    assert ParamsRequest().read(bench.ask(ParamsRequest()).payload)[:2] == (384, 4)
    assert bench.ask(BootloaderInfoRequest()).payload == {"bootloader": "MCUboot"}
    assert bench.ask(BootloaderInfoRequest(query="mode")).payload == {"mode": 3}
    assert Bench(swap="overwrite").ask(BootloaderInfoRequest(query="mode")).payload == {"mode": 2}


@pytest.mark.parametrize(("version", "payload"), [(0, {"rc": 5}), (1, {"err": {"group": 0, "rc": 3}})])
def test_errors_of_a_group_come_in_the_version_s_own_style(bench, version, payload):
    answer = bench.ask(BootloaderInfoRequest(query="colour"), version)
    assert (answer.payload, answer.header.version) == (payload, version)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("group", "command"), [(1, 1), (1, 5), (0, 2), (63, 0)])
def test_what_there_is_not_is_not_supported(bench, version, group, command):
    (packet,) = bench.raw(Header(0, group, command, 9, 1, version).pack() + dumps({}))
    assert decode(packet).payload == {"rc": 8}
    assert decode(packet).header == Header(1, group, command, 9, decode(packet).header.length, version)


@pytest.mark.parametrize(
    ("packet", "rc"),
    [
        (Header(2, 0, 6, 1, 1).pack() + dumps({}), 8),  # parameters cannot be written
        (Header(0, 0, 6, 1, 1, version=2).pack() + dumps({}), 13),
        (Header(0, 0, 0, 1, 2).pack() + b"\xa1\xff", 3),
        (Header(0, 0, 0, 1, 99).pack() + dumps({}), 9),
    ],
)
def test_bad_requests_are_told_so(bench, packet, rc):
    (answer,) = bench.raw(packet)
    assert decode(answer).payload == {"rc": rc}


def test_several_requests_in_one_packet_get_one_answer_each(bench):
    one = encode(EchoRequest("a"), 1) + encode(EchoRequest("b"), 2)
    packets = bench.raw(one)
    assert [(decode(p).header.sequence, decode(p).payload) for p in packets] == [(1, {"r": "a"}), (2, {"r": "b"})]


def test_what_fits_no_buffer_or_is_damaged_is_dropped(bench):
    assert bench.raw(encode(EchoRequest("x" * 400), 1)) == []
    bench.server.feed(b"kernel version\r\n\x06\x09AAsIAAABAAFDAKDczA==\n")
    assert list(bench.server.serve()) == []


@pytest.mark.parametrize(("size", "answered"), [(380, True), (381, False)])
def test_length_and_crc_take_their_part_of_a_buffer(bench, size, answered):
    """So a request has at most 380 of 384 bytes: an echo's text 366, as recorded from Zephyr 4.4."""
    text = "x" * (size - 14)
    packet = encode(EchoRequest(text), 1)
    assert len(packet) == size
    assert [decode(answer).payload for answer in bench.raw(packet)] == [{"r": text}] * answered


def test_a_response_that_does_not_fit_its_buffer_is_an_error():
    """Both images' lists have 472 bytes."""
    image = make_image("255.255.65535.4294967295", 100)
    bench = Bench(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, slot0=image, slot1=image, slots={3: image})
    assert bench.ask(ImageStateRead()).payload == {"rc": 7}


def test_after_an_error_of_smp_itself_the_rest_of_the_packet_is_dropped(bench):
    bad = Header(2, 0, 6, 1, 1).pack() + dumps({})
    packets = bench.raw(bad + encode(EchoRequest("b"), 2))
    assert [decode(packet).payload for packet in packets] == [{"rc": 8}]
    group_error = encode(BootloaderInfoRequest(query="colour"), 1)
    packets = bench.raw(group_error + encode(EchoRequest("b"), 2))
    assert [decode(packet).payload for packet in packets] == [{"err": {"group": 0, "rc": 3}}, {"r": "b"}]


@pytest.mark.parametrize(
    ("count", "codes"),
    [(1, [0]), (3, [0, 0, 0]), (4, [2, 0, 0, 0]), (5, [2, 0, 0, 0])],
)
def test_requests_and_responses_share_four_buffers(bench, count, codes):
    """Three at once are answered; a fourth takes the buffer of the first one's response; a fifth finds none."""
    for number in range(count):
        bench.server.feed(console.encode(encode(EchoRequest(str(number)), number)))
    answers = [decode(packet) for packet in bench.answers()]
    assert [answer.header.sequence for answer in answers] == list(range(len(codes)))
    assert [answer.payload.get("rc", 0) for answer in answers] == codes
    assert bench.ask(EchoRequest("again")).payload == {"r": "again"}


@pytest.mark.parametrize(
    ("retention", "request_", "left"),
    [
        (Retention(), ResetRequest(boot_mode=1), [1, 0]),
        (Retention(), ResetRequest(), [0, 0]),
        (Retention(checksum="crc8"), ResetRequest(boot_mode=1), [1, 0x12]),
        (None, ResetRequest(boot_mode=1), [0, 0]),
    ],
)
def test_reset_keeps_the_boot_mode_unless_the_server_is_too_old(retention, request_, left):
    bench = Bench(retention=retention)
    (packet,) = bench.raw(encode(request_, 1))
    assert decode(packet).payload == {}
    assert bench.chip.gpregret == left
    assert bench.effects == [Reboot(0.25)]


def test_the_reset_happens_although_its_map_cannot_be_read():
    bench = Bench()
    bench.raw(Header(2, 0, 5, 1, 1).pack() + b"\xff")
    assert bench.effects == [Reboot(0.25)]
    assert bench.chip.gpregret == [0, 0]


@pytest.mark.parametrize("text", ["x", "x" * 200])
def test_it_answers_until_it_resets_however_much_it_is_asked(text):
    """The reset comes from a timer: neither a host that asks on and on nor one that begins an upload puts it off."""
    board = SimBoard(BoardOptions(image=make_image(), application_smp="full"))
    request = console.encode(encode(EchoRequest(text), 2))
    pause = len(request) * BYTE
    board.machine.advance(1.0)
    board.machine.receive(console.encode(encode(ResetRequest(), 1)), 1.0)
    now, decoder, answers = 1.0, console.Decoder(), []
    while not board.chip.counters.resets[ResetCause.SREQ]:
        now += pause
        board.machine.receive(request, now)
        answers += [
            event.data for event in decoder.feed(board.machine.advance(now)) if isinstance(event, console.Packet)
        ]
        assert now < 2.0
    assert now == pytest.approx(1.25, abs=0.05)
    assert decode(answers[0]).payload == {}
    assert len(answers) > 5
    assert decode(answers[-1]).payload == {"r": text}


def test_the_reset_strikes_whatever_flash_is_at():
    image = make_image(size=40_000)
    board = SimBoard(BoardOptions(image=make_image(), application_smp="full"))
    area = board.slot(1)
    board.chip.program(area.address, image + b"\xff" * (-len(image) % 4))
    board.machine.advance(1.0)
    board.machine.receive(console.encode(encode(ResetRequest(), 1)), 1.0)
    first = UploadRequest(0, image[:200], length=len(image))
    board.machine.receive(console.encode(encode(first, 2)), 1.05)
    board.machine.advance(1.4)
    assert board.chip.counters.resets[ResetCause.SREQ] == 1
    assert board.slot_contents(1).version is None
    assert board.read_flash(area.address + 0x8000, 16) == image[0x8000:0x8010]
