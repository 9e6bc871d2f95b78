"""Time-outs: what can be computed, and what the link has shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.smp.timing import Link, RoundTrip

SECONDS = st.floats(0, 100)


def test_wire_time_at_115200_baud() -> None:
    """Ten bits a byte: 86.8 microseconds."""
    link = Link(baudrate=115200)
    assert link.wire_time(0) == 0
    assert link.wire_time(11520) == pytest.approx(1.0)
    assert link.wire_time(1404) == pytest.approx(0.121875)  # a packet of 1020 bytes
    assert link.exchange(1404) == pytest.approx(0.121875 + 64 / 11520)


def test_wire_time_of_other_links() -> None:
    assert Link(baudrate=1_000_000).wire_time(1404) == pytest.approx(0.01404)
    assert Link(baudrate=None).exchange(1404) == 0


def test_flash_time() -> None:
    """nRF5340 product specification: 87.5 ms a page of 4 KiB, 43 microseconds a word."""
    link = Link()
    page, word = 87.5e-3, 43e-6
    assert link.flash_time(0, 0) == 0
    assert link.flash_time(0, 1) == pytest.approx(page + word)
    assert link.flash_time(0, 4096) == pytest.approx(page + 1024 * word)
    assert link.flash_time(4, 4096) == pytest.approx(page + 1024 * word), "the first page was erased before"
    assert link.flash_time(4000, 96) == pytest.approx(24 * word)
    assert link.flash_time(4000, 97) == pytest.approx(page + 25 * word)
    assert link.flash_time(4096, 4) == pytest.approx(page + word)
    assert link.flash_time(0, 448 * 1024) == pytest.approx(112 * page + 448 * 256 * word)


def test_before_anything_was_measured() -> None:
    assert RoundTrip().allowance == 0.6
    assert RoundTrip(first=0.2).timeout(1.0) == pytest.approx(1.2)
    assert RoundTrip(first=9.0, most=5.0).allowance == 5.0


def test_the_first_sample_follows_rfc_6298() -> None:
    """Section 2.2: mean R, deviation R/2, so the allowance is R + 4 * R/2."""
    times = RoundTrip(least=0.0)
    times.sample(measured=1.1, computed=1.0)
    assert times.allowance == pytest.approx(0.3)


def test_the_second_sample_follows_rfc_6298() -> None:
    """Section 2.3: deviation 3/4 * 0.05 + 1/4 * |0.1 - 0.2|, then mean 7/8 * 0.1 + 1/8 * 0.2."""
    times = RoundTrip(least=0.0)
    times.sample(1.1, 1.0)
    times.sample(1.2, 1.0)
    assert times.allowance == pytest.approx(0.1125 + 4 * 0.0625)


def test_the_allowance_adapts_in_both_directions() -> None:
    times = RoundTrip()
    for _ in range(50):
        times.sample(1.02, 1.0)
    assert times.allowance == 0.08, "the least"
    for _ in range(50):
        times.sample(2.0, 1.0)
    assert times.allowance == pytest.approx(1.0, abs=0.01)
    for _ in range(50):
        times.sample(99.0, 1.0)
    assert times.allowance == 5.0, "the most"


def test_a_round_trip_faster_than_computed_has_no_excess() -> None:
    times = RoundTrip(least=0.01)
    times.sample(measured=0.5, computed=1.0)
    assert times.allowance == 0.01


def test_every_further_try_doubles_the_allowance_but_not_the_computed_time() -> None:
    times = RoundTrip(first=0.5)
    assert [times.timeout(1.0, attempt) for attempt in range(5)] == [1.5, 2.0, 3.0, 5.0, 6.0]
    assert times.timeout(1.0, 10**9) == 6.0
    assert [times.timeout(1.0, attempt, patience=0.8) for attempt in range(3)] == [1.8, 2.0, 3.0]


def test_a_late_answer_keeps_the_time_out_that_was_long_enough_until_the_next_sample() -> None:
    """RFC 6298, section 5, steps 5.5 to 5.7."""
    times = RoundTrip(first=0.5)
    times.answered_late(3)
    assert [times.timeout(0.0, attempt) for attempt in range(3)] == [2.0, 4.0, 5.0]
    times.answered_late(2)
    assert times.timeout(0.0) == 4.0
    times.sample(1.0, 1.0)
    assert times.timeout(0.0) == 0.08


def test_requests_that_are_computed_for_have_times_of_their_own() -> None:
    times = RoundTrip(first=0.4)
    for _ in range(50):
        times.sample(1.0, 1.0)
    apart = times.unmeasured(2.0)
    apart.sample(1.0, 1.0)
    assert (times.timeout(1.0), apart.timeout(1.0), apart.timeout(1.0, 1)) == pytest.approx((1.08, 1.4, 1.8))
    assert RoundTrip(first=0.01).unmeasured(2.0).allowance == 0.08
    assert times.unmeasured(0.125).timeout(0.0) == 0.125


@given(st.lists(st.tuples(SECONDS, SECONDS)), SECONDS, st.integers(0, 100))
def test_bounds(samples: list[tuple[float, float]], computed: float, attempt: int) -> None:
    times = RoundTrip(least=0.05, most=3.0)
    for measured, expected in samples:
        times.sample(measured, expected)
        assert 0.05 <= times.allowance <= 3.0
    assert computed + 0.05 <= times.timeout(computed, attempt) <= computed + 3.0
    assert times.timeout(computed, attempt) <= times.timeout(computed, attempt + 1)
