"""The UART between host and simulated chip, in virtual time: pacing, the receive FIFO, faults.

A UART at `baudrate` sends one byte in 10 bit times (8N1). Bytes are kept in bursts that run without a pause, so that
the arrival of any byte is computed, and a whole line costs as little as one byte.

The nRF5340's UARTE receives by EasyDMA and has a FIFO of six bytes in front of it (BabbleSim, ext_nRF_hw_models,
docs/UART.md). While the NVMC erases a page, a CPU that executes from flash is stalled (nRF5340 product specification,
chapter NVMC). MCUboot takes its bytes one by one in the UART interrupt, so bytes that arrive in that time and do not
fit the FIFO are lost. This is a model, not a measurement: nobody counted the bytes that a real chip loses.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from pytest_nrfdfu.sim.faults import Faults

__all__ = ["BITS_PER_BYTE", "Stall", "Uart", "UartConfig", "UartCounters", "Wire"]

BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""

Stall = Literal["none", "erase", "erase+write"]
"""Which flash operations keep the CPU from taking received bytes."""

_ROUNDING = 1e-3
"""Bytes. Seconds since boot as floats are exact to about 1e-10; this tells that from a byte that is still coming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UartConfig:
    """The board's UART. The nRF5340 DK's console has no hardware flow control."""

    baudrate: int = 115200
    """Bits per second; 0: bytes take no time."""
    fifo: int = 6
    """Bytes that are kept while the CPU does not take any."""
    stall: Stall = "erase"
    flow_control: bool = False
    """Hardware flow control: RTS stops the host while the FIFO is full, so that nothing is lost in a stall."""
    host_latency: float = 0.0
    """Seconds that bytes take between the wire and the host's program, each way: USB adapter, driver, scheduler."""

    def seconds(self, count: int) -> float:
        """How long `count` bytes take on the wire."""
        return count * BITS_PER_BYTE / self.baudrate if self.baudrate else 0.0


@dataclass(slots=True)
class UartCounters:
    """Bytes, since the counters were last cleared."""

    received: int = 0
    """Handed to the firmware."""
    sent: int = 0
    """Left the board."""
    overrun: int = 0
    """Lost because the FIFO was full."""
    lost_in_reset: int = 0
    """Arrived while the chip was held in reset or off, or waited in the FIFO when a reset came."""


class _Burst:
    """Bytes without a pause between them; byte i is complete at start + (i + 1) byte times."""

    __slots__ = ("data", "start", "taken")

    def __init__(self, start: float) -> None:
        self.start = start
        self.data = bytearray()
        self.taken = 0


class Wire:
    """One direction of a UART: bytes are put on it and, later, taken off it."""

    def __init__(self, baudrate: int = 115200) -> None:
        self._baudrate = baudrate
        self._bursts: deque[_Burst] = deque()
        self.end = float("-inf")
        """When the last byte that was put on the wire is complete."""

    def put(self, data: bytes, now: float) -> float:
        """Send `data` at `now`, or as soon as what was put before is through; returns when it is complete."""
        if not data:
            return max(now, self.end)
        last = self._bursts[-1] if self._bursts else None
        if last is None or now > self.end or self._complete(last, len(last.data)) != self.end:
            last = _Burst(max(now, self.end))
            self._bursts.append(last)
        last.data += data
        self.end = self._complete(last, len(last.data))
        return self.end

    def skip(self, count: int, now: float) -> None:
        """Let the time of `count` bytes pass without any."""
        self.end = max(now, self.end) + self._span(count)

    def take(self, until: float, *, line: bool = False) -> bytes:
        """Remove and return the bytes that are complete at `until`; with `line` not beyond the first newline."""
        if not self._bursts:
            return b""
        taken = bytearray()
        while self._bursts and not (line and taken.endswith(b"\n")):
            burst = self._bursts[0]
            count = self._count(burst, until)
            newline = burst.data.find(b"\n", burst.taken, count) if line else -1
            count = newline + 1 if newline >= 0 else count
            if count > burst.taken:
                taken += burst.data[burst.taken : count]
                burst.taken = count
            if count < len(burst.data):
                break
            self._bursts.popleft()
        return bytes(taken)

    def next_mark(self) -> float | None:
        """When the next newline, or the last byte before a pause, is complete; None on an idle wire."""
        if not self._bursts:
            return None
        burst = self._bursts[0]
        newline = burst.data.find(b"\n", burst.taken)
        return self._complete(burst, newline + 1 if newline >= 0 else len(burst.data))

    def cut(self, now: float) -> bytes:
        """Stop sending: remove and return what is not complete at `now`."""
        rest = bytearray()
        kept: deque[_Burst] = deque()
        for burst in self._bursts:
            count = max(self._count(burst, now), burst.taken)
            rest += burst.data[count:]
            del burst.data[count:]
            if burst.taken < count:
                kept.append(burst)
        self._bursts = kept
        self.end = min(self.end, now)
        return bytes(rest)

    def backlog(self, now: float) -> int:
        """How many bytes are not complete at `now`."""
        return sum(len(burst.data) - max(self._count(burst, now), burst.taken) for burst in self._bursts)

    def _span(self, count: int) -> float:
        return count * BITS_PER_BYTE / self._baudrate if self._baudrate else 0.0

    def _complete(self, burst: _Burst, count: int) -> float:
        return burst.start + self._span(count)

    def _count(self, burst: _Burst, now: float) -> int:
        if now < burst.start:
            return 0
        if not self._baudrate:
            return len(burst.data)
        return min(len(burst.data), int((now - burst.start) * self._baudrate / BITS_PER_BYTE + _ROUNDING))


@dataclass(slots=True)
class Uart:
    """The chip's UART with a wire each way. Times in seconds, any origin, never running back."""

    config: UartConfig = field(default_factory=UartConfig)
    faults: Faults = field(default_factory=Faults)
    counters: UartCounters = field(default_factory=UartCounters)
    _to_board: Wire = field(init=False)
    _from_board: Wire = field(init=False)
    _fifo: bytearray = field(init=False, default_factory=bytearray)

    def __post_init__(self) -> None:
        self._to_board = Wire(self.config.baudrate)
        self._from_board = Wire(self.config.baudrate)

    # The host's end.

    def receive(self, data: bytes, now: float) -> None:
        """The host sends `data`."""
        for piece, lost in self.faults.to_board.split(data):
            self._to_board.put(piece, now)
            if lost:
                self._to_board.skip(lost, now)

    def complete(self, now: float) -> float:
        """When all that the host has sent up to `now` is through."""
        return max(now, self._to_board.end)

    def sent(self, until: float) -> bytes:
        """Take the bytes that left the board up to `until`."""
        data = self._from_board.take(until)
        self.counters.sent += len(data)
        return data

    def backlog(self, now: float) -> int:
        """Bytes of the host that are still on their way."""
        return self._to_board.backlog(now)

    # The chip's end.

    def transmit(self, data: bytes, now: float) -> float:
        """The chip sends `data`; returns when the last byte has left."""
        for piece, lost in self.faults.from_board.split(data):
            self._from_board.put(piece, now)
            if lost:
                self._from_board.skip(lost, now)
        return max(now, self._from_board.end)

    def interject(self, data: bytes, now: float) -> float:
        """Noise: `data` goes out at once, what was waiting comes after it. Returns by how much that is delayed."""
        rest = self._from_board.cut(now)
        self._from_board.put(data, now)
        self._from_board.put(rest, now)
        return self.config.seconds(len(data))

    def stop(self, now: float) -> bytes:
        """The chip stops sending in the middle; returns what has not left."""
        return self._from_board.cut(now)

    def resume(self, rest: bytes, now: float) -> float:
        """The chip goes on sending what `stop` returned; returns when the last byte has left."""
        return self._from_board.put(rest, now)

    def interrupts(self, until: float, *, idle: bool = False) -> bytes:
        """Take what the UART interrupt brings up to `until`, while the CPU runs.

        An `idle` program gets one line, and the next when it idles again. On a paced wire that comes by itself; where
        bytes take no time, all lines of a packet would have to find a buffer before the program has seen the first.
        """
        data = self._to_board.take(until, line=idle)
        if self._fifo:
            data = bytes(self._fifo) + data
            self._fifo.clear()
        self.counters.received += len(data)
        return data

    def stall(self, until: float) -> None:
        """The CPU took nothing up to `until`: what does not fit the FIFO is lost, or held back by flow control."""
        data = self._to_board.take(until)
        room = max(0, self.config.fifo - len(self._fifo))
        self._fifo += data[:room]
        if not self.config.flow_control:
            self.counters.overrun += max(0, len(data) - room)
        elif len(data) > room:
            # The nRF5340's RTS leaves room for what an adapter has begun to send, so nothing of that is lost either.
            self._to_board.put(data[room:] + self._to_board.cut(until), until)

    def discard(self, until: float) -> None:
        """The chip was in reset up to `until`: what came is lost, and so is the FIFO."""
        self.counters.lost_in_reset += len(self._fifo) + len(self._to_board.take(until))
        self._fifo.clear()

    def next_interrupt(self) -> float | None:
        """When a program that idles should be woken: at the next newline, or the last byte before a pause."""
        return self._to_board.next_mark()

    def next_sent(self) -> float | None:
        """When `sent` is worth calling: at the next newline that leaves, or the last byte before a pause."""
        return self._from_board.next_mark()
