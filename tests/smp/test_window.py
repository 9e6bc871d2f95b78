"""Two chunks in flight, where the receiver bears it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload
from pytest_nrfdfu.smp.window import Chunk, EraseAware, StopAndWait, waiting_lines

PAGE = 4096
DATA = hashlib.shake_128(b"window").digest(5 * PAGE + 100)


def chunk(off: int, size: int) -> Chunk:
    return Chunk(off, size, sequence=0, packet=b"", computed=0.0, sent_at=0.0, deadline=0.0, tries=1)


def make(line_buffers: int | None = 8, link: Link | None = None) -> Upload:
    return Upload(
        DATA,
        sequences=Sequence(),
        link=link or Link(),
        round_trip=RoundTrip(),
        limits=Limits(line_buffers=line_buffers),
    )


@dataclass
class Board:
    """Takes chunks in order, answers in order; looks at what waits while it is busy."""

    upload: Upload
    now: float = 0.0
    taken: bytearray = field(default_factory=bytearray)
    behind: list[tuple[bool, int]] = field(default_factory=list)
    """For each request that waited: whether the one before it erased, and its lines."""
    lines: list[int] = field(default_factory=list)

    def collect(self) -> list[bytes]:
        packets = []
        while (due := self.upload.due(self.now)) is not None:
            packets.append(due.packet)
        return packets

    def serve(self, packet: bytes) -> bool:
        """Write and answer; whether a page was erased."""
        _, payload = decode(packet)
        off, data = payload["off"], payload["data"]
        erased = -(-len(self.taken) // PAGE)
        if off == len(self.taken):
            self.taken += data
        header, _ = decode(packet)
        body = dumps({"rc": 0, "off": len(self.taken)})
        self.upload.receive(header.response(len(body)).pack() + body, self.now)
        return -(-len(self.taken) // PAGE) > erased

    def run(self, lose: frozenset[int] = frozenset()) -> None:
        number, waiting = 0, self.collect()
        for _ in range(1000):
            if self.upload.done:
                return
            if not waiting:
                self.now = max(self.now, self.upload.deadline)
                waiting = self.collect()
                continue
            packet = waiting.pop(0)
            self.lines.append(console.line_count(len(packet)))
            number += 1
            self.now += 0.01
            if number - 1 not in lose:
                erased = self.serve(packet)
                self.behind += [(erased, console.line_count(len(other))) for other in waiting]
            waiting += self.collect()
        pytest.fail("the upload does not end")


def test_nothing_follows_a_chunk_that_erases() -> None:
    policy = EraseAware(total=10 * PAGE, page_size=PAGE)
    assert policy.may_send(())
    assert not policy.may_send((chunk(0, 100),)), "the first page"
    assert policy.may_send((chunk(100, 600),))
    assert policy.may_send((chunk(PAGE - 600, 600),)), "up to the page's last byte"
    assert not policy.may_send((chunk(PAGE - 600, 604),)), "into the next page"
    assert not policy.may_send((chunk(PAGE, 600),)), "the page's first byte"
    assert not policy.may_send((chunk(10 * PAGE - 600, 600),)), "the last chunk erases the trailer"
    assert not policy.may_send((chunk(100, 600), chunk(700, 600))), "two at most"


@pytest.mark.parametrize(("buffers", "lines"), [(None, None), (2, None), (5, None), (6, 5), (8, 7)])
def test_one_line_buffer_is_the_readers(buffers: int | None, lines: int | None) -> None:
    assert waiting_lines(buffers) == lines


def test_two_chunks_are_in_flight_and_wait_in_line_buffers() -> None:
    board = Board(make())
    board.run()
    assert bytes(board.taken) == DATA
    assert board.behind
    assert not any(erased for erased, _ in board.behind)
    assert max(board.lines) == 7
    assert board.upload.counters.window == 2
    assert (board.upload.counters.retries, board.upload.counters.resyncs) == (0, 0)


@pytest.mark.parametrize("buffers", [None, 2])
def test_without_the_buffers_one_large_chunk_is_in_flight(buffers: int | None) -> None:
    board = Board(make(buffers))
    board.run()
    assert bytes(board.taken) == DATA
    assert board.behind == []
    assert max(board.lines) == 11
    assert board.upload.counters.window == 1


def test_a_policy_of_ones_own_keeps_the_large_chunks() -> None:
    upload = Upload(
        DATA,
        sequences=Sequence(),
        link=Link(),
        round_trip=RoundTrip(),
        limits=Limits(line_buffers=8),
        policy=StopAndWait(),
    )
    board = Board(upload)
    board.run()
    assert max(board.lines) == 11


def test_after_two_losses_one_large_chunk_is_in_flight() -> None:
    board = Board(make())
    board.run(lose=frozenset({2, 6}))
    assert bytes(board.taken) == DATA
    assert board.upload.counters.retries + board.upload.counters.resyncs == 2
    assert board.lines[-3] == 11
    assert max(board.lines[:6]) == 7


def test_one_loss_is_no_reason_to_slow_down() -> None:
    board = Board(make())
    board.run(lose=frozenset({2}))
    assert bytes(board.taken) == DATA
    assert max(board.lines) == 7


def test_a_chunk_is_waited_for_until_its_turn_has_come() -> None:
    """At 9600 baud a chunk is on the wire for most of a second, and the next one starts after it."""
    slow = Link(baudrate=9600)
    board = Board(make(link=slow))
    (first,) = board.collect()
    board.serve(first)
    second, third = board.collect()
    wire = slow.wire_time(console.wire_size(len(second)) + console.wire_size(len(third)))
    board.serve(second)
    assert board.upload.deadline - board.now > wire
