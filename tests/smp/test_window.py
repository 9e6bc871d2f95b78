"""Several chunks in flight, where the receiver bears it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import pytest

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.regulator import TRIAL_BYTES, Verdict
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload
from pytest_nrfdfu.smp.window import (
    ANY,
    Chunk,
    EraseAware,
    FullWindow,
    StopAndWait,
    policy_for,
    waiting_lines,
)

PAGE = 4096
DATA = hashlib.shake_128(b"window").digest(5 * PAGE + 100)
LARGE = hashlib.shake_128(b"large").digest(TRIAL_BYTES + 2 * PAGE)
FAST = Link(baudrate=1_000_000)


def chunk(off: int, size: int, lines: int = 7) -> Chunk:
    return Chunk(off, size, sequence=0, packet=b"", computed=0.0, sent_at=0.0, deadline=0.0, tries=1, lines=lines)


def make(data: bytes = DATA, link: Link | None = None, **limits) -> Upload:
    return Upload(
        data,
        sequences=Sequence(),
        link=link or Link(),
        round_trip=RoundTrip(),
        limits=Limits(**({"line_buffers": 8} | limits)),
    )


@dataclass
class Board:
    """Takes chunks in order, answers in order; looks at what waits while it is busy."""

    upload: Upload
    now: float = 0.0
    taken: bytearray = field(default_factory=bytearray)
    behind: list[tuple[bool, int]] = field(default_factory=list)
    """For each request behind which something waited: whether it erased, and how many lines waited."""
    lines: list[int] = field(default_factory=list)
    number: int = 0

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
        waiting = self.collect()
        for _ in range(1000):
            if self.upload.done:
                return
            if not waiting:
                self.now = max(self.now, self.upload.deadline)
                waiting = self.collect()
                continue
            packet = waiting.pop(0)
            self.lines.append(console.line_count(len(packet)))
            self.number += 1
            self.now += 0.01
            if self.number - 1 not in lose:
                erased = self.serve(packet)
                if waiting:
                    self.behind.append((erased, sum(console.line_count(len(other)) for other in waiting)))
            waiting += self.collect()
        pytest.fail("the upload does not end")


# --- policies -------------------------------------------------------------------------------------------------------


def test_nothing_follows_a_chunk_that_erases() -> None:
    policy = EraseAware(lines=7, total=10 * PAGE, link=Link())
    assert policy.room(()) == ANY
    assert policy.room((chunk(0, 100),)) == 0, "the first page"
    assert policy.room((chunk(100, 600),)) == 7
    assert policy.room((chunk(PAGE - 600, 600),)) == 7, "up to the page's last byte"
    assert policy.room((chunk(PAGE - 600, 604),)) == 0, "into the next page"
    assert policy.room((chunk(PAGE, 600),)) == 0, "the page's first byte"
    assert policy.room((chunk(10 * PAGE - 600, 600),)) == 0, "the last chunk erases the trailer"
    assert policy.room((chunk(100, 600), chunk(700, 600))) == 0, "seven lines wait already"


def test_a_bootloader_that_erases_at_the_start_erases_nothing_later() -> None:
    policy = EraseAware(lines=7, total=10 * PAGE, link=Link(), at_start=True)
    assert policy.room((chunk(0, 100),)) == 0
    assert policy.room((chunk(PAGE - 600, 604),)) == 7
    assert policy.cut(PAGE - 600, 620, ()) == 620


@pytest.mark.parametrize(("count", "shares"), [(2, [ANY, 7]), (3, [ANY, 3, 3]), (4, [ANY, 2, 2, 2])])
def test_a_full_window_shares_out_seven_lines(count: int, shares: list[int]) -> None:
    policy, in_flight = FullWindow(lines=7, count=count), ()
    for share in shares:
        assert policy.room(in_flight) == share
        in_flight = (*in_flight, chunk(0, 600, lines=min(share, 11)))
    assert policy.room(in_flight) == 0


def test_lines_count_and_not_only_chunks() -> None:
    assert FullWindow(lines=7, count=4).room((chunk(0, 992, lines=11), chunk(992, 620, lines=7))) == 0
    assert FullWindow(lines=7, count=4).room((chunk(0, 992, lines=11), chunk(992, 400, lines=5))) == 2


@pytest.mark.parametrize(
    ("buffers", "window", "lines"),
    [
        (None, 2, None),
        (2, 2, None),
        (5, 2, None),
        (6, 2, 5),
        (8, 2, 7),
        (16, 2, 7),
        (8, 1, None),
        (8, 4, 7),
        (6, 4, None),
    ],
)
def test_one_line_buffer_is_the_readers(buffers: int | None, window: int, lines: int | None) -> None:
    assert waiting_lines(buffers, window) == lines


def test_which_policy() -> None:
    def of(link: Link | None = None, **limits) -> object:
        return policy_for(Limits(**limits), PAGE, link or Link())

    assert type(of()) is StopAndWait
    assert type(of(line_buffers=2, flow_control=True)) is StopAndWait
    assert type(of(line_buffers=8)) is EraseAware
    full = of(line_buffers=8, flow_control=True, window=3)
    assert full == FullWindow(lines=7, count=3)
    assert policy_for(Limits(line_buffers=8), PAGE, FAST).room(()) == 7, "it would be written for longer than 7 lines"


@pytest.mark.parametrize(
    ("baudrate", "counts"),
    [(9600, (2, 2, 2)), (38_400, (2, 2, 2)), (115_200, (2, 3, 3)), (1_000_000, (2, 3, 4)), (None, (2, 3, 4))],
)
@pytest.mark.parametrize("flow_control", [False, True])
def test_no_more_chunks_than_pay(baudrate: int | None, counts: tuple[int, ...], flow_control: bool) -> None:
    """In the same seven lines more chunks are smaller ones, and each carries a header."""
    given = Limits(line_buffers=8, flow_control=flow_control)
    policies = [policy_for(replace(given, window=asked), PAGE, Link(baudrate=baudrate)) for asked in (2, 3, 4)]
    assert [policy.count for policy in policies if isinstance(policy, FullWindow)] == list(counts)


# --- where chunks are cut -------------------------------------------------------------------------------------------


def test_the_chunk_that_erases_has_what_goes_over_the_wire_while_the_one_before_is_busy() -> None:
    """At 1 Mbaud 620 bytes are written in 6.7 ms, in which some 490 bytes of base64 and their frame pass."""
    policy = EraseAware(lines=7, total=10 * PAGE, link=FAST)
    size = policy.cut(PAGE, 620, (chunk(PAGE - 620, 620),))
    assert size % 4 == 0
    busy = FAST.write_time(620) + FAST.wire_time(40)
    assert FAST.wire_time(size * 127 // 93 + 41) == pytest.approx(busy, rel=0.05)
    assert policy.cut(PAGE, 620, ()) == 64, "with nothing before it, as little as possible"
    assert policy.cut(PAGE, 32, ()) == 32


def test_bytes_of_the_page_before_go_along_or_into_a_chunk_of_their_own() -> None:
    policy = EraseAware(lines=7, total=10 * PAGE, link=FAST)
    before = (chunk(0, 620),)
    best = policy.cut(PAGE, 620, before)
    assert policy.cut(PAGE - 12, 620, before) == best
    assert policy.cut(PAGE - 600, 620, before) == 600, "or they would be written while nothing else can be sent"
    assert policy.cut(PAGE - 620, 620, before) == 620
    slow = EraseAware(lines=7, total=10 * PAGE, link=Link())
    assert slow.cut(PAGE - 300, 620, before) == 304, "at 115200 baud one chunk more would cost more than that"


def test_the_end_is_not_cut() -> None:
    policy = EraseAware(lines=7, total=10 * PAGE, link=FAST)
    assert policy.cut(10 * PAGE - 620, 620, ()) == 620


# --- whole uploads --------------------------------------------------------------------------------------------------


def test_two_chunks_are_in_flight_and_wait_in_line_buffers() -> None:
    board = Board(make())
    board.run()
    assert bytes(board.taken) == DATA
    assert board.behind
    assert not any(erased for erased, _ in board.behind)
    assert max(lines for _, lines in board.behind) == 7
    assert board.upload.counters.window == 2
    assert (board.upload.counters.retries, board.upload.counters.resyncs) == (0, 0)


@pytest.mark.parametrize("window", [2, 3, 4])
@pytest.mark.parametrize("flow_control", [False, True])
@pytest.mark.parametrize("link", [Link(), FAST])
def test_never_more_than_seven_lines_wait(window: int, flow_control: bool, link: Link) -> None:
    board = Board(make(window=window, flow_control=flow_control, link=link))
    board.run()
    assert bytes(board.taken) == DATA
    assert 0 < max(lines for _, lines in board.behind) <= 7
    assert board.upload.counters.window == (min(window, 3) if link == Link() else window)
    assert flow_control or not any(erased for erased, _ in board.behind)


@pytest.mark.parametrize("buffers", [None, 2])
def test_without_the_buffers_one_large_chunk_is_in_flight(buffers: int | None) -> None:
    board = Board(make(line_buffers=buffers))
    board.run()
    assert bytes(board.taken) == DATA
    assert board.behind == []
    assert max(board.lines) == 11
    assert board.upload.counters.window == 1


class FourChunks(StopAndWait):
    """Whatever they do."""

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        return ANY if len(in_flight) < 4 else 0


def test_a_policy_of_ones_own() -> None:
    upload = Upload(
        DATA,
        sequences=Sequence(),
        link=Link(),
        round_trip=RoundTrip(),
        limits=Limits(line_buffers=8),
        policy=FourChunks(),
    )
    board = Board(upload)
    board.run()
    assert bytes(board.taken) == DATA
    assert max(board.lines) == 11
    assert upload.counters.window == 4


def test_the_first_chunk_is_never_repeated_with_others_in_flight() -> None:
    """At offset 0 the bootloader begins again: what follows would be taken for wrong offsets, or worse."""
    upload = make()
    board = Board(upload)
    (first,) = board.collect()
    for _ in range(3):
        board.now = upload.deadline
        (again,) = board.collect()
        assert decode(again)[1]["off"] == 0
        assert again[8:] == first[8:]
    board.now += 0.01
    board.serve(first)
    assert upload.acknowledged > 0


def test_after_a_loss_one_chunk_at_a_time_until_32_have_passed() -> None:
    board = Board(make(LARGE))
    board.run(lose=frozenset({3}))
    assert bytes(board.taken) == LARGE
    assert board.upload.regulator.fallbacks == 1
    single = [number for number, lines in enumerate(board.lines) if lines == 11 and number > 4]
    assert single, "no large chunks"
    # One chunk at a time is 32 in a row, and then the window's sizes come again.
    assert 7 in board.lines[40:]
    assert board.upload.counters.trial_losses == 0


def test_a_window_that_fails_twice_before_it_carried_much_is_closed() -> None:
    upload = make(LARGE * 2)
    board = Board(upload)
    board.run(lose=frozenset({3, 41}))
    assert bytes(board.taken) == LARGE * 2
    assert upload.regulator.fallbacks == 2
    assert len(board.behind) < 12
    assert set(board.lines[60:-1]) == {11}


def test_a_trial_without_a_loss() -> None:
    upload = make(LARGE, trial=True)
    Board(upload).run()
    assert upload.regulator.verdict is Verdict.CLEAN
    assert upload.counters.trial_losses == 0


def test_an_upload_that_is_too_short_for_a_trial_shows_nothing() -> None:
    upload = make(DATA, trial=True)
    Board(upload).run()
    assert upload.counters.window == 2
    assert upload.regulator.verdict is Verdict.NONE


def test_a_trial_with_a_loss_ends_the_window() -> None:
    upload = make(LARGE, trial=True)
    board = Board(upload)
    board.run(lose=frozenset({5}))
    assert bytes(board.taken) == LARGE
    assert upload.regulator.verdict is Verdict.LOSSY
    assert upload.counters.trial_losses == 1
    assert set(board.lines[7:-1]) == {11}


def test_a_board_that_was_reset_says_nothing_about_its_window() -> None:
    upload = make(LARGE, trial=True)
    board = Board(upload)
    for _ in range(3):
        for packet in board.collect():
            board.serve(packet)
    board.taken.clear()  # it begins again
    board.collect()
    board.now = upload.deadline  # and what was in flight got lost
    (again,) = board.collect()
    assert upload.regulator.verdict is Verdict.LOSSY
    board.serve(again)
    assert upload.counters.restarts == 1
    assert upload.regulator.verdict is Verdict.NONE
    assert upload.counters.trial_losses == 0


def test_a_loss_after_the_trial_is_the_links() -> None:
    upload = make(LARGE * 2, trial=True)
    board = Board(upload)
    board.run(lose=frozenset({150}))
    assert upload.regulator.verdict is Verdict.CLEAN
    assert upload.counters.trial_losses == 0
    assert upload.regulator.fallbacks == 1


@pytest.mark.parametrize(("buffers", "allowance"), [(8, 0.3), (None, 0.08)])
def test_a_lost_chunk_costs_a_fraction_of_a_second(buffers: int | None, allowance: float) -> None:
    """Once round trips were measured; more with a window, where a repetition that was not needed does harm."""
    board = Board(make(line_buffers=buffers))
    for _ in range(20):
        board.now += 0.01
        for packet in board.collect():
            board.serve(packet)
        if board.upload.acknowledged > 2 * PAGE:
            break
    packet = board.collect()[0]
    computed = board.upload._in_flight[0].computed
    assert packet
    assert board.upload.deadline - board.now - computed == pytest.approx(allowance)


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


def test_a_first_packet_that_was_too_large_says_nothing_of_the_window() -> None:
    """Its size is found out then, and the trial begins."""
    board = Board(make(LARGE, trial=True))
    upload = board.upload
    board.collect()
    board.now = upload.deadline
    board.collect()
    assert not upload.regulator.is_open
    assert upload.unheard is not None
    upload.limit_packets(508)
    assert upload.regulator.is_open
    assert upload.regulator.on_trial
    assert (upload.counters.retries, upload.counters.trial_losses, upload.counters.too_large) == (0, 0, 2)
    board.run()
    assert bytes(board.taken) == LARGE
    assert upload.regulator.verdict is Verdict.CLEAN
