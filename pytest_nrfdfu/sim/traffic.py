"""Every byte between host and simulated board as the host has it, with times; the last of it kept.

`tap` sits at the firmware's end and keeps what that could make of the bytes. This is the wire: what a logic analyser
would show, also of bytes that a baud rate, a stall or a reset has spoilt.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from pytest_nrfdfu.sim.tap import Direction
from pytest_nrfdfu.sim.uart import UartConfig

__all__ = ["Piece", "Traffic"]

_KEPT = 4 << 20
"""Bytes: some ten uploads of a whole image."""


class Piece(NamedTuple):
    """Bytes that passed together. `time`: seconds on the machine's clock when the last of them was complete."""

    time: float
    direction: Direction
    data: bytes


class Traffic:
    """What passed. Pieces have numbers, from 0 on, which stay theirs when older ones are dropped."""

    def __init__(self, uart: UartConfig, keep: int = _KEPT) -> None:
        self._uart = uart
        self._keep = keep
        self._pieces: deque[Piece] = deque()
        self._first = 0
        self._size = 0

    def to_board(self, data: bytes, complete: float) -> None:
        """The host has written `data`, whose last byte is through at `complete`. Each line gets its own time."""
        left = len(data)
        for line in data.splitlines(keepends=True):
            left -= len(line)
            self._add(Piece(complete - self._uart.seconds(left), "to board", line))

    def from_board(self, data: bytes, now: float) -> None:
        """The host has got `data`."""
        self._add(Piece(now, "from board", data))

    def since(self, number: int, limit: int) -> tuple[int, list[Piece]]:
        """Pieces from `number` on, of about `limit` bytes in all; and the number of the first of them."""
        start = max(number, self._first)
        found: list[Piece] = []
        size = 0
        for piece in islice(self._pieces, start - self._first, None):
            if found and size + len(piece.data) > limit:
                break
            found.append(piece)
            size += len(piece.data)
        return start, found

    def clear(self) -> None:
        """Forget what passed."""
        self._first += len(self._pieces)
        self._pieces.clear()
        self._size = 0

    def _add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._size += len(piece.data)
        while self._size > self._keep:
            self._size -= len(self._pieces.popleft().data)
            self._first += 1
