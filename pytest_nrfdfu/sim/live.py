"""A simulated board in real time: an asyncio loop's clock drives the machine, a port carries its bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pytest_nrfdfu.sim.board import SimBoard
from pytest_nrfdfu.sim.link import Link

__all__ = ["LiveBoard", "UartPort"]

_MAX_BACKLOG = 4096
"""Bytes that may wait for the wire before the host has to wait: what a serial driver holds (Linux, N_TTY_BUF_SIZE)."""


class UartPort(Protocol):
    """The host's end of the UART, as the board sees it."""

    stays: bool
    """Whether it is the same one whoever owns it."""

    def write(self, data: bytes) -> None:
        """Give `data` to the host; drop it when nobody takes it."""

    def pause(self) -> None:
        """Take nothing from the host."""

    def resume(self) -> None:
        """Take bytes again."""

    def follow(self, owner: object | None) -> None:
        """Whose port it is: a port that comes and goes is another one for another owner, and gone for None."""


class LiveBoard:
    """Keeps `board` up with the loop's time. Everything happens in the loop's thread.

    `link` is what lies between board and port; `owner` tells whose port it is now. `on_turn` is called whenever the
    board has caught up.
    """

    def __init__(
        self,
        board: SimBoard,
        port: UartPort,
        *,
        link: Link | None = None,
        owner: Callable[[], object | None] = lambda: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self.board = board
        self._port = port
        self._link = link or Link(0, lambda: None)
        self._owner = owner
        self._on_turn = on_turn
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._paused = False
        self._served: object | None = None
        """Whose the port is."""
        self._underway: dict[Callable[[bytes], None], deque[bytes]] = {}
        board.machine.on_wake = self._wake

    def received(self, data: bytes) -> None:
        """The host has written `data`."""
        served = self._served
        self._catch_up()
        if self._served is served:  # else it came through a port that is gone
            self._later(self._receive, data)

    def _receive(self, data: bytes) -> None:
        echo = self._link.echo(data)
        if echo:
            self._port.write(echo)
        machine, now = self.board.machine, self._loop.time()
        machine.receive(self._link.to_board(data), now)
        self.board.traffic.to_board(data, machine.uart.complete(now))
        if echo:
            self.board.traffic.from_board(echo, now)
        self.turn()

    def turn(self) -> None:
        """Let the board catch up, and arrange for the next time."""
        self._woken = False
        machine = self.board.machine
        now = self._loop.time()
        self._advance(now)
        self._on_turn()
        self._pace(now)
        if self._timer is not None:
            self._timer.cancel()
        event = machine.next_event()
        if self._paused:
            # Nothing else may happen until the host is let in again.
            drained = now + self.board.options.uart.seconds(_MAX_BACKLOG // 2)
            event = drained if event is None else min(event, drained)
        self._timer = None if event is None else self._loop.call_at(event, self.turn)

    def _catch_up(self) -> None:
        """Where the port may go: let the board do what it did before now, so that bytes find their port gone."""
        if not self._port.stays:
            self._advance(self._loop.time())

    def _advance(self, now: float) -> None:
        """Let the board run up to `now`, and give what it sends to the port of who sends it.

        Where the port goes with its owner, event by event: what the next owner sends never leaves by it.
        """
        machine, reached = self.board.machine, -1.0
        while reached < now:
            event = None if self._port.stays else machine.next_event()
            reached = now if event is None or event <= reached else min(event, now)
            sent = machine.advance(reached)
            self._hand_over()
            if sent:
                heard = self._link.to_host(sent)
                self._later(self._port.write, heard)
                self.board.traffic.from_board(heard, now)

    def _hand_over(self) -> None:
        owner = self._owner()
        if owner is not self._served:
            self._served = owner
            self._underway = {}
            self._port.follow(owner)

    def _later(self, carry: Callable[[bytes], None], data: bytes) -> None:
        """Hand bytes on after the host's latency; those of one direction stay in order, and go with their port."""
        latency = self.board.options.uart.host_latency
        if not latency:
            carry(data)
            return
        waiting = self._underway.setdefault(carry, deque())
        waiting.append(data)
        self._loop.call_later(latency, self._arrive, carry, waiting)

    def _arrive(self, carry: Callable[[bytes], None], waiting: deque[bytes]) -> None:
        self._catch_up()
        if self._underway.get(carry) is waiting:
            carry(waiting.popleft())

    def stop(self) -> None:
        """Let time stand still."""
        self.board.machine.on_wake = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pace(self, now: float) -> None:
        full = self.board.machine.uart.backlog(now) > _MAX_BACKLOG
        if full != self._paused:
            self._paused = full
            (self._port.pause if full else self._port.resume)()

    def _wake(self) -> None:
        # Not at once: the machine may be in the middle of something.
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self.turn)
