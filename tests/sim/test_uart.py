"""The wire's arithmetic, the FIFO and the seeded damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.sim.faults import ByteFaults, Faults, Trip
from pytest_nrfdfu.sim.uart import Uart, UartConfig, Wire

BYTE = 10 / 115200


def test_bytes_take_ten_bit_times_each():
    wire = Wire(115200)
    assert wire.put(b"x" * 1000, 2.0) == 2.0 + 1000 * 10 / 115200
    assert wire.take(2.0 + 499.5 * BYTE) == b"x" * 499
    assert wire.take(2.0 + 500 * BYTE) == b"x"
    assert wire.take(2.0 + 1000 * 10 / 115200) == b"x" * 500
    assert wire.take(99.0) == b""


def test_bytes_put_on_a_busy_wire_follow_without_a_pause():
    wire = Wire(1_000_000)
    wire.put(b"ab", 0.0)
    wire.put(b"cd", 1e-6)
    assert wire.end == 4 * 10 / 1_000_000
    assert wire.take(29e-6) == b"ab"
    assert wire.take(40e-6) == b"cd"


def test_a_pause_delays_nothing_and_saves_nothing():
    wire = Wire(115200)
    wire.put(b"a", 0.0)
    wire.put(b"b", 1.0)
    assert wire.take(1.0) == b"a"
    assert wire.end == 1.0 + BYTE


def test_without_a_baud_rate_bytes_are_there_at_once():
    wire = Wire(0)
    wire.put(b"abc", 5.0)
    assert wire.take(4.999) == b""
    assert wire.take(5.0) == b"abc"


def test_marks_are_newlines_and_the_ends_of_bursts():
    wire = Wire(115200)
    wire.put(b"ab\ncd", 0.0)
    wire.put(b"e\n", 1.0)
    assert wire.next_mark() == 3 * 10 / 115200
    assert wire.take(wire.next_mark()) == b"ab\n"
    assert wire.next_mark() == 5 * 10 / 115200
    assert wire.take(wire.next_mark()) == b"cd"
    assert wire.next_mark() == 1.0 + 2 * 10 / 115200
    assert wire.take(wire.next_mark()) == b"e\n"
    assert wire.next_mark() is None


def test_cut_gives_back_what_is_not_through():
    wire = Wire(115200)
    wire.put(b"abcdef", 0.0)
    assert wire.cut(2.5 * BYTE) == b"cdef"
    assert wire.take(9.0) == b"ab"
    assert wire.end == 2.5 * BYTE


def test_a_skipped_byte_takes_its_time():
    wire = Wire(115200)
    wire.put(b"a", 0.0)
    wire.skip(1, 0.0)
    wire.put(b"b", 0.0)
    assert wire.take(2 * BYTE) == b"a"
    assert wire.take(3 * BYTE) == b"b"


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.floats(0, 0.01)), max_size=20),
    st.sampled_from([0, 9600, 115200, 1_000_000]),
    st.floats(0, 1e7),
)
def test_nothing_is_lost_or_reordered_and_marks_make_progress(writes, baudrate, origin):
    wire = Wire(baudrate)
    now = origin
    for data, pause in writes:
        now += pause
        wire.put(data, now)
    taken = b""
    while (mark := wire.next_mark()) is not None:
        piece = wire.take(mark)
        assert piece, "a mark must be worth waking for"
        assert piece.count(b"\n") <= 1 or not baudrate
        taken += piece
    assert taken == b"".join(data for data, _ in writes)
    assert wire.backlog(now) == 0


def test_a_stall_loses_exactly_what_the_fifo_does_not_hold():
    uart = Uart(UartConfig(fifo=6))
    uart.receive(bytes(range(20)), 0.0)
    uart.stall(10 * BYTE)
    assert uart.counters.overrun == 4
    uart.stall(12 * BYTE)
    assert uart.counters.overrun == 6
    assert uart.interrupts(15 * BYTE) == bytes([0, 1, 2, 3, 4, 5, 12, 13, 14])
    assert uart.interrupts(99.0) == bytes(range(15, 20))
    assert uart.counters.received == 14


def test_interjected_bytes_go_first():
    uart = Uart(UartConfig())
    uart.transmit(b"abcd", 0.0)
    assert uart.interject(b"##", 2 * BYTE) == 2 * BYTE
    assert uart.sent(99.0) == b"ab##cd"


def pieces(faults, data, sizes):
    out, at = b"", 0
    for size in sizes:
        out += b"".join(piece for piece, _ in faults.split(data[at : at + size]))
        at += size
    return out


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), st.floats(0.001, 1.0))
def test_damage_depends_on_the_place_in_the_stream_not_on_the_slices(sizes, rate):
    data = bytes(i & 0xFF for i in range(sum(sizes)))
    once, sliced = ByteFaults("seed"), ByteFaults("seed")
    for faults in (once, sliced):
        faults.drop_rate = rate
        faults.flip_rate = rate / 2
    assert pieces(once, data, [len(data)]) == pieces(sliced, data, sizes)
    assert once.dropped == sliced.dropped
    assert once.flipped == sliced.flipped


def test_rates_are_what_they_say_and_seeds_differ():
    data = bytes(100_000)
    outcomes = []
    for seed in ("a", "b"):
        faults = ByteFaults(seed)
        faults.drop_rate = 0.01
        out = b"".join(piece for piece, _ in faults.split(data))
        assert len(out) == len(data) - faults.dropped
        assert 800 < faults.dropped < 1200
        outcomes.append(faults.dropped)
    faults = ByteFaults("a")
    faults.flip_rate = 1.0
    assert all(byte.bit_count() == 1 for piece, _ in faults.split(data) for byte in piece)
    faults.drop_rate = 1.0
    assert b"".join(piece for piece, _ in faults.split(data)) == b""


def test_dropped_bytes_still_take_their_time_on_the_wire():
    faults = Faults()
    faults.set_rate("to_board_drop_rate", 1.0)
    uart = Uart(UartConfig(), faults)
    uart.receive(b"lost", 0.0)
    faults.set_rate("to_board_drop_rate", 0.0)
    uart.receive(b"x", 0.0)
    assert uart.next_interrupt() == pytest.approx(5 * BYTE)


def test_rates_are_set_by_name_for_one_direction_or_both():
    faults = Faults()
    faults.set_rate("drop_rate", 0.5)
    faults.set_rate("from_board_drop_rate", 0.25)
    faults.set_rate("to_board_flip_rate", 0.125)
    assert faults.rates == {
        "to_board_drop_rate": 0.5,
        "from_board_drop_rate": 0.25,
        "to_board_flip_rate": 0.125,
        "from_board_flip_rate": 0.0,
        "to_board_line_loss": 0.0,
        "from_board_line_loss": 0.0,
    }
    with pytest.raises(ValueError, match="from_board_drop_rate"):
        faults.set_rate("droprate", 0.5)
    with pytest.raises(ValueError, match="0 to 1"):
        faults.set_rate("drop_rate", 1.5)


def test_a_trip_counts_down():
    trip = Trip("reset", uploads=2, received=100)
    assert not trip.count(1, 50)
    assert trip.count(1, 1)
    faults = Faults()
    faults.set_trip({"action": "reset", "uploads": 3, "delay": 0.05})
    assert faults.trip == Trip("reset", uploads=3, delay=0.05)
    faults.set_trip(None)
    assert faults.trip is None
    for wrong in ({"action": "explode", "uploads": 1}, {"action": "hang"}, {"action": "hang", "upload": 1}):
        with pytest.raises(ValueError, match=r"action|uploads"):
            faults.set_trip(wrong)


# --- flow control, latency, lost lines ------------------------------------------------------------------------------


def test_flow_control_holds_back_what_the_fifo_cannot_take():
    """RTS stops the host in a stall; what it had on its way comes after it, complete and in order."""
    uart = Uart(UartConfig(flow_control=True))
    data = bytes(range(100))
    uart.receive(data, 0.0)
    uart.stall(50 * BYTE)
    assert uart.counters.overrun == 0
    assert uart.interrupts(50 * BYTE) == data[:6]
    assert uart.interrupts((50 + 93) * BYTE + 1e-9) == data[6:99], "they begin when the stall has ended"
    assert uart.interrupts((50 + 94) * BYTE + 1e-9) == data[99:]


def test_lines_are_lost_as_a_whole_and_their_time_passes():
    whole = [f"line {number}\n".encode() for number in range(400)]
    faults = Faults(seed=1)
    faults.set_rate("to_board_line_loss", 0.1)
    uart = Uart(UartConfig(), faults)
    for start in range(0, 4000, 7):  # however the host cuts its writes
        uart.receive(b"".join(whole)[start : start + 7], 0.0)
    arrived = uart.interrupts(1e9).splitlines(keepends=True)
    lost = len(whole) - len(arrived)
    assert set(arrived) <= set(whole)
    assert lost == faults.to_board.lines_lost
    assert 20 < lost < 60
    assert uart.complete(0.0) == pytest.approx(sum(map(len, whole)) * BYTE)
