"""When the lines of a text began: the time of each line's first byte, by its position.

A position is a count of bytes since the text began, so that it stays true when the oldest text is dropped.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

__all__ = ["LineTimes", "TimedLine"]


class TimedLine(NamedTuple):
    """A line without its end, and when its first byte was read, in seconds."""

    time: float
    text: str


class LineTimes:
    """Beginnings of lines, in the order in which they came. Two numbers a line, so that a megabyte of text is cheap."""

    def __init__(self) -> None:
        self._positions = array("q")
        self._times = array("d")
        self._line_is_open = False

    def __len__(self) -> int:
        """How many lines it knows."""
        return len(self._times)

    def note(self, data: bytes, position: int, when: float) -> None:
        """`data` came at `position` of the text; `when` in seconds."""
        start = 0
        while start < len(data):
            if not self._line_is_open:
                self._positions.append(position + start)
                self._times.append(when)
            end = data.find(b"\n", start) + 1
            self._line_is_open = end == 0
            start = end or len(data)

    def drop(self, position: int) -> None:
        """Forget the lines that ended before `position`."""
        excess = max(0, bisect_right(self._positions, position) - 1)
        del self._positions[:excess]
        del self._times[:excess]

    def since(self, position: int) -> list[float]:
        """When the line that `position` is in began, and those behind it; empty if nothing is known."""
        return self._times[max(0, bisect_right(self._positions, position) - 1) :].tolist()
