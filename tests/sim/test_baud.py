"""What a UART hears at another rate than the sender's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.sim.baud import heard
from pytest_nrfdfu.smp import console

RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000)
BANNER = b"*** Booting Zephyr OS build v4.4.0 ***\r\n"
rates = st.sampled_from(RATES)


@given(data=st.binary(), rate=rates)
def test_the_same_rate_changes_nothing(data, rate):
    assert heard(data, rate, rate) == data


@given(data=st.binary(), rate=rates, percent=st.floats(-3.0, 3.0))
def test_neither_does_one_that_is_a_little_off(data, rate, percent):
    assert heard(data, 1_000_000, round(1_000_000 * (1 + percent / 100))) == data
    assert heard(data, rate, rate) == data


@pytest.mark.parametrize("sent", RATES)
@pytest.mark.parametrize("at", RATES)
def test_another_rate_is_unreadable(sent, at):
    found = heard(BANNER, sent, at)
    if sent == at:
        return
    assert found
    assert found != BANNER
    unreadable = sum(not (32 <= byte < 127 or byte in b"\r\n\t") for byte in found)
    assert unreadable >= len(found) / 4
    request = console.encode(bytes(8))
    assert not any(isinstance(e, console.Packet) for e in console.Decoder().feed(heard(request, sent, at)))


@pytest.mark.parametrize(
    ("data", "sent", "at", "found"),
    [
        # Twice as fast: every bit is seen twice, ten bits of the receiver cover five of the sender.
        (b"\x55", 115200, 230400, b"\x66\xe6"),
        (b"\x00", 115200, 230400, b"\x00"),
        (b"\xff", 115200, 230400, b"\xfe"),
        # Much too fast: the start bit alone is a break.
        (b"\xff", 9600, 115200, b"\x00"),
        # Much too slow: a byte is one glitch, or one start bit.
        (b"\xff", 115200, 9600, b""),
        (b"\x00", 115200, 9600, b"\xff"),
    ],
)
def test_single_bytes(data, sent, at, found):
    assert heard(data, sent, at) == found


@given(data=st.binary(min_size=1, max_size=40), sent=rates, at=rates)
def test_a_receiver_finds_no_more_frames_than_fit(data, sent, at):
    assert len(heard(data, sent, at)) <= len(data) * 10 * at / sent / 9.5 + 1
