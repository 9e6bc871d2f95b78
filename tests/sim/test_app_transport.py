"""How the application receives: lines, frames, and the pool of buffers."""

import binascii

import pytest

from pytest_nrfdfu.sim.app_transport import BUFFER_COUNT, BufferPool, RequestQueue
from pytest_nrfdfu.smp import console

PACKET = bytes(range(200))
LINES = console.encode(PACKET).splitlines(keepends=True)


@pytest.fixture
def pool():
    return BufferPool()


@pytest.fixture
def queue(pool):
    return RequestQueue(pool)


def taken(queue):
    return [queue.take() for _ in range(len(queue))]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_packet_comes_out_however_its_bytes_come(queue, step):
    data = console.encode(PACKET) * 2
    for start in range(0, len(data), step):
        queue.feed(data[start : start + step])
    assert taken(queue) == [PACKET, PACKET]


def test_text_between_the_lines_of_a_packet_does_not_harm_it(queue):
    queue.feed(LINES[0] + b"uart:~$ \r\n\n" + b"".join(LINES[1:]))
    assert taken(queue) == [PACKET]


def test_a_line_may_have_128_bytes(queue):
    assert len(LINES[0]) == 127
    queue.feed(console.encode(PACKET).replace(b"\n", b"\r\n"))
    assert taken(queue) == [PACKET]


def test_a_first_line_with_nothing_but_the_length_is_no_beginning(queue):
    packet = console.encode(b"1")
    length, rest = binascii.b2a_base64(b"\0\x03"), binascii.b2a_base64(binascii.a2b_base64(packet[2:])[2:])
    queue.feed(console.START + length + console.CONTINUATION + rest)
    assert taken(queue) == []


def test_a_line_of_more_than_128_bytes_is_dropped(queue):
    queue.feed(b"\x06\x09" + b"A" * 126 + b"\n")
    queue.feed(console.encode(PACKET))
    assert taken(queue) == [PACKET]


@pytest.mark.parametrize(
    "damaged",
    [
        LINES[0].replace(b"A", b"#", 1),  # no base64
        b"".join([LINES[0], *LINES[2:]]),  # a line is missing
        b"".join(LINES)[:-6] + b"AAAA\n\n",  # the CRC
        LINES[1],  # the beginning is missing
        b"\x06\x09AAsCAAA\n" + LINES[1],
    ],
)
def test_what_is_damaged_is_dropped_and_its_buffer_is_free_again(queue, pool, damaged):
    queue.feed(damaged)
    queue.feed(console.encode(PACKET))
    assert taken(queue) == [PACKET]
    assert pool.free == BUFFER_COUNT - 1  # that of the packet just taken


def test_a_new_packet_takes_the_place_of_one_that_was_cut_off(queue):
    queue.feed(LINES[0] + console.encode(b"12345678"))
    assert taken(queue) == [b"12345678"]


def test_lines_that_find_no_buffer_are_lost(queue, pool):
    for _ in range(BUFFER_COUNT):
        assert pool.take()
    queue.feed(LINES[0])
    pool.give()
    queue.feed(b"".join(LINES[1:]))  # without its first line this is no packet
    assert taken(queue) == []
    assert queue.dropped == 1
    queue.feed(console.encode(PACKET))
    assert taken(queue) == [PACKET]
