"""What uploads suffer on purpose, and the record of every byte: counted, bounded, refused where it cannot be."""

import pytest

from pytest_nrfdfu.sim.traffic import Traffic
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.sim.upload_faults import UploadFault, UploadFaults

NONE = UploadFault()


def drawn(faults, count):
    return [faults.next() for _ in range(count)]


def test_nothing_happens_unasked():
    assert drawn(UploadFaults(), 3) == [NONE] * 3


def test_requests_are_counted_from_the_arming_on():
    faults = UploadFaults()
    drawn(faults, 5)
    faults.arm({"nth": 2, "times": 2, "lost": True})
    lost = UploadFault(lost=True)
    assert drawn(faults, 4) == [NONE, lost, lost, NONE]


def test_what_is_armed_for_one_request_adds_up():
    faults = UploadFaults()
    faults.arm({"nth": 1, "late": 0.5})
    faults.arm({"nth": 1, "before": "ff0a"})
    assert faults.next() == UploadFault(late=0.5, before=b"\xff\n")


def test_disarmed():
    faults = UploadFaults()
    faults.arm({"times": 9, "rc": 3})
    assert faults.next().rc == 3
    faults.arm(None)
    assert drawn(faults, 9) == [NONE] * 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nth": 0}, "from 1 on"),
        ({"times": "2"}, "from 1 on"),
        ({"loss": True}, "no fault loss; there are ignored, rc, back, lost, late, before, damage"),
        ({"lost": 1}, "true or false"),
        ({"rc": 0}, "rc is a whole number from 1 to 65535, not 0"),
        ({"back": 6}, "whole words of flash, not 6"),
        ({"late": float("inf")}, "late is a number of seconds"),
        ({"before": "xx"}, "non-hexadecimal"),
    ],
)
def test_refused(settings, message):
    faults = UploadFaults()
    with pytest.raises(ValueError, match=message):
        faults.arm(settings)
    assert faults.next() == NONE


# --- traffic ----------------------------------------------------------------------------------------------------------


def test_each_line_has_the_time_of_its_last_byte():
    traffic = Traffic(UartConfig(baudrate=1000))  # 10 ms for a byte
    traffic.to_board(b"ab\ncd\ne", complete=1.0)
    _, pieces = traffic.since(0, 100)
    assert [(round(piece.time, 3), piece.data) for piece in pieces] == [(0.96, b"ab\n"), (0.99, b"cd\n"), (1.0, b"e")]


def test_pieces_keep_their_numbers_when_old_ones_go():
    traffic = Traffic(UartConfig(), keep=10)
    for number in range(6):
        traffic.from_board(bytes([number]) * 4, float(number))
    first, pieces = traffic.since(0, 100)
    assert (first, [piece.data[0] for piece in pieces]) == (4, [4, 5])
    assert traffic.since(5, 100)[1] == pieces[1:]
    assert traffic.since(6, 100) == (6, [])
    traffic.clear()
    assert traffic.since(0, 100) == (6, [])


def test_answers_are_bounded_but_never_empty():
    traffic = Traffic(UartConfig())
    for _ in range(3):
        traffic.from_board(b"1234", 0.0)
    assert len(traffic.since(0, 8)[1]) == 2
    assert len(traffic.since(0, 1)[1]) == 1
