"""The wires between a simulated board's UART and its host: what is cut or joined, and the host's rate."""

from __future__ import annotations

from collections.abc import Callable

from pytest_nrfdfu.sim.baud import heard

__all__ = ["Link"]


class Link:
    """Carries bytes both ways. `board_rate` is the board's, 0 where it takes any; `host_rate` tells the host's now.

    `silent`: the board's TX is not connected. `deaf`: its RX is not. `joined`: the host's TX and RX are one wire, and
    the board is not on it.
    """

    def __init__(self, board_rate: int, host_rate: Callable[[], int | None]) -> None:
        self.silent = self.deaf = self.joined = False
        self._board_rate = board_rate
        self._host_rate = host_rate

    def to_board(self, data: bytes) -> bytes:
        """What the board's RX hears of what the host sends."""
        if self.deaf or self.joined:
            return b""
        host = self._host_rate()
        return heard(data, host, self._board_rate) if host and self._board_rate else data

    def to_host(self, data: bytes) -> bytes:
        """What the host hears of what the board sends."""
        if self.silent or self.joined:
            return b""
        host = self._host_rate()
        return heard(data, self._board_rate, host) if host and self._board_rate else data

    def echo(self, data: bytes) -> bytes:
        """What the host hears of what it sends itself."""
        return data if self.joined else b""
