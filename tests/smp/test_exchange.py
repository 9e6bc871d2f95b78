"""One request until its response, in virtual time."""

from __future__ import annotations

import itertools

import pytest

from pytest_nrfdfu.errors import SmpMalformed, SmpRejected, SmpTimeout
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.smp.exchange import Exchange, Sequence, Transmission
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateRead, ImageStates
from pytest_nrfdfu.smp.timing import Link, RoundTrip

INSTANT = Link(baudrate=None)


def exchange(**options: object) -> Exchange[ImageStates]:
    settings = {"sequence": 7, "link": INSTANT, "round_trip": RoundTrip(first=0.5)} | options
    return Exchange(ImageStateRead(), **settings)  # type: ignore[arg-type]


def answer(request: bytes, payload: dict[str, object] | None = None, **changes: int) -> bytes:
    body = dumps({"images": []} if payload is None else payload)
    return Header.unpack(request).response(len(body))._replace(**changes).pack() + body


def test_answered_at_once() -> None:
    one = exchange()
    sent = one.due(10.0)
    assert sent == Transmission(bytes.fromhex("08 00 0001 0001 07 00 a0"), flush=False)
    assert one.deadline == 10.5
    assert one.due(10.4) is None
    assert one.receive(answer(sent.packet), 10.2)
    assert one.due(99.0) is None
    assert one.result() == ImageStates((), None, {})
    assert (one.sent, one.stale) == (1, 0)


def test_smp_version_1() -> None:
    sent = exchange(version=0).due(0.0)
    assert sent is not None
    assert sent.packet == bytes.fromhex("00 00 0001 0001 07 00 a0")


def test_a_retransmission_is_the_same_packet_after_a_newline() -> None:
    one = exchange()
    first = one.due(0.0)
    second = one.due(one.deadline)
    assert first is not None
    assert second == Transmission(first.packet, flush=True)
    assert one.receive(answer(first.packet), 0.7), "an answer to either of them"


def test_deadlines_double() -> None:
    one, now, waits = exchange(tries=5), 0.0, []
    for _ in range(5):
        one.due(now)
        waits.append(one.deadline - now)
        now = one.deadline
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0]


def test_the_wire_time_is_part_of_the_deadline() -> None:
    link = Link(baudrate=115200)
    one = exchange(link=link)
    one.due(0.0)
    assert one.deadline == pytest.approx(0.5 + link.exchange(console.wire_size(9)))


def test_time_out_after_all_tries() -> None:
    one, now = exchange(tries=3), 1.0
    for _ in range(3):
        assert one.due(now) is not None
        now = one.deadline
    with pytest.raises(SmpTimeout, match=r"ImageStateRead \(sequence 7\) was sent 3 times in 3\.50 s and not answered"):
        one.due(now)
    with pytest.raises(TimeoutError):
        one.due(now)


def test_time_out_of_a_single_try() -> None:
    one = exchange(tries=1)
    one.due(0.0)
    with pytest.raises(SmpTimeout, match=r"was sent once in 0\.50 s"):
        one.due(one.deadline)


def test_until_cuts_the_wait_short() -> None:
    one = exchange(until=1.2)
    one.due(0.0)
    assert one.deadline == 0.5
    one.due(0.5)
    assert one.deadline == 1.2
    assert one.due(1.1) is None
    with pytest.raises(SmpTimeout, match=r"was sent 2 times in 1\.20 s"):
        one.due(1.2)


def test_nothing_is_sent_when_the_time_is_over() -> None:
    with pytest.raises(SmpTimeout, match="was sent 0 times"):
        exchange(until=5.0).due(5.0)


def test_stale_and_foreign_responses_are_counted_and_left_alone() -> None:
    one = exchange()
    sent = one.due(0.0)
    assert sent is not None
    for foreign in ({"sequence": 6}, {"op": 0}, {"op": 3}, {"group": 0}, {"command": 1}):
        assert not one.receive(answer(sent.packet, None, **foreign), 0.1)
    assert one.stale == 5
    assert not one.receive(b"short", 0.1)
    assert one.response is None
    assert one.receive(answer(sent.packet), 0.2)


def test_the_request_itself_is_no_response() -> None:
    """An echo of the terminal, or a loop-back plug."""
    one = exchange()
    sent = one.due(0.0)
    assert sent is not None
    assert not one.receive(sent.packet, 0.1)


def test_a_duplicate_response_is_ignored() -> None:
    one = exchange()
    sent = one.due(0.0)
    assert sent is not None
    assert one.receive(answer(sent.packet), 0.1)
    assert not one.receive(answer(sent.packet, {"rc": 3}), 0.2)
    assert one.result() == ImageStates((), None, {})


def test_a_late_response_after_the_last_time_out_is_still_taken() -> None:
    one = exchange(tries=1)
    sent = one.due(0.0)
    assert sent is not None
    with pytest.raises(SmpTimeout):
        one.due(1.0)
    assert one.receive(answer(sent.packet), 1.1)
    assert one.result().images == ()


def test_round_trips_are_measured() -> None:
    times = RoundTrip(first=0.5, least=0.0)
    one = exchange(round_trip=times)
    sent = one.due(10.0)
    assert sent is not None
    one.receive(answer(sent.packet), 10.2)
    assert times.allowance == pytest.approx(0.2 + 4 * 0.1)


def test_no_round_trip_is_measured_after_a_retransmission() -> None:
    """Karn's algorithm (RFC 6298, section 3); what is kept is the time-out that was long enough."""
    times = RoundTrip(first=0.5, least=0.0)
    one = exchange(round_trip=times)
    sent = one.due(0.0)
    assert sent is not None
    one.due(0.5)
    one.receive(answer(sent.packet), 0.51)
    assert times.allowance == 0.5
    assert times.timeout(0.0) == 1.0


def test_silence_does_not_change_the_estimate() -> None:
    """A board that is not there yet says nothing about how fast it will be."""
    times, now = RoundTrip(first=0.5), 0.0
    one = exchange(round_trip=times, tries=4)
    for _ in range(4):
        one.due(now)
        now = one.deadline
    assert times.timeout(0.0) == 0.5


def test_a_rejection_is_raised_from_result() -> None:
    one = exchange()
    sent = one.due(0.0)
    assert sent is not None
    assert one.receive(answer(sent.packet, {"rc": 8}), 0.1)
    with pytest.raises(SmpRejected) as caught:
        one.result()
    assert caught.value.rc == 8


def test_a_response_that_cannot_be_read() -> None:
    one = exchange()
    sent = one.due(0.0)
    assert sent is not None
    with pytest.raises(SmpMalformed):
        one.receive(answer(sent.packet)[:-1], 0.1)
    assert one.response is None, "the next try may do better"
    assert one.receive(answer(sent.packet, {}), 0.1)
    with pytest.raises(SmpMalformed, match="'images' is missing"):
        one.result()


def test_no_result_without_a_response() -> None:
    with pytest.raises(SmpTimeout, match="has no response yet"):
        exchange().result()


def test_sequence_numbers() -> None:
    numbers = Sequence(first=0x1FE)
    assert [numbers.take() for _ in range(4)] == [0xFE, 0xFF, 0, 1]
    numbers = Sequence()
    taken = [numbers.take() for _ in range(1000)]
    assert all(0 <= number <= 255 for number in taken)
    assert all(before != after for before, after in itertools.pairwise(taken))


def test_any_request() -> None:
    one = Exchange(EchoRequest("hi"), sequence=0, link=INSTANT, round_trip=RoundTrip())
    sent = one.due(0.0)
    assert sent is not None
    assert one.receive(answer(sent.packet, {"r": "hi"}), 0.1)
    assert one.result().text == "hi"
