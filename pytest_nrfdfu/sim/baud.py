"""What a UART hears of a sender at another baud rate: bit sampling of 8N1 frames at both rates.

The sender's frames follow each other without a pause, the line is high before and after. The receiver looks for a
falling edge, and samples the middle of each of its own bit times. A byte whose stop bit is not high is passed on as it
was sampled, as UARTs do with a framing error, and the receiver then waits for the line to be high.

Source: the nRF5340 product specification, chapter UARTE, for the frame; n_tty.c of Linux passes on bytes with framing
errors unless INPCK is set, which pyserial never does.
"""

from __future__ import annotations

__all__ = ["heard"]

_FRAME_BITS = 10
_DATA_BITS = 8
_STOP_BIT = 9


def heard(data: bytes, sent_at: int, heard_at: int) -> bytes:
    """The bytes that a receiver at `heard_at` baud makes of `data`, sent at `sent_at` baud."""
    if sent_at == heard_at or not data:
        return data
    line = _Line(data)
    bit = sent_at / heard_at  # the receiver's bit time, in the sender's
    found = bytearray()
    start = line.next_falling_edge(0.0)
    while start is not None:
        if line.level(start + bit / 2):  # a glitch, shorter than half a start bit
            start = line.next_falling_edge(start + bit / 2)
            continue
        found.append(sum(line.level(start + bit * (1.5 + n)) << n for n in range(_DATA_BITS)))
        start = line.next_falling_edge(start + bit * (_STOP_BIT + 0.5))
    return bytes(found)


class _Line:
    """The levels of a line, in bit times of the sender from the first start bit on."""

    def __init__(self, data: bytes) -> None:
        # Start bit 0, data with its lowest bit first, stop bit 1.
        frames = (byte << 1 | 1 << _STOP_BIT for byte in data)
        self._levels = [frame >> n & 1 for frame in frames for n in range(_FRAME_BITS)]

    def level(self, time: float) -> int:
        index = int(time)
        return self._levels[index] if index < len(self._levels) else 1

    def next_falling_edge(self, time: float) -> float | None:
        """When the line next goes from high to low, from `time` on; None if it stays high."""
        index = int(time)
        high = time == 0.0  # the line is idle before the first bit
        for place in range(index, len(self._levels)):
            if high and not self._levels[place]:
                return float(place)
            high = bool(self._levels[place])
        return None
