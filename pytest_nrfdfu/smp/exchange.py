"""One request until its response: retransmission and matching, without I/O.

The owner of the clock asks `due` for what to send, waits until `deadline`, and feeds `receive` with every packet that
comes. Retransmissions keep their sequence number: a late answer to the first try is as good as one to the second.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from pytest_nrfdfu.errors import SmpTimeout
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import Request, Response, decode, encode
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.smp.timing import Link, RoundTrip

__all__ = ["Exchange", "Sequence", "Transmission"]

T = TypeVar("T")


class Transmission(NamedTuple):
    """A packet to put on the wire now.

    `flush`: send a newline first. After a time-out the receiver may hold a partial line that would swallow the first
    line of this packet; the newline ends it.
    """

    packet: bytes
    flush: bool = False


class Sequence:
    """Sequence numbers 0..255, never the one used last."""

    def __init__(self, first: int = 0) -> None:
        self._next = first & 0xFF

    @property
    def coming(self) -> int:
        """The number that `take` gives next."""
        return self._next

    def take(self) -> int:
        """The next number."""
        value = self._next
        self._next = (value + 1) & 0xFF
        return value


class Exchange(Generic[T]):
    """One request on its way. Raises SmpTimeout from `due` when `tries` were in vain, or `until` has passed."""

    def __init__(
        self,
        request: Request[T],
        *,
        sequence: int,
        link: Link,
        round_trip: RoundTrip,
        tries: int = 5,
        until: float = float("inf"),
        version: int = 1,
    ) -> None:
        self.request = request
        self.packet = encode(request, sequence, version)
        self.sent = 0
        self.stale = 0
        self.response: Response | None = None
        self.deadline = float("-inf")
        """When to call `due` again, if no response came before."""
        self._sequence = sequence
        self._round_trip = round_trip
        self._computed = link.exchange(console.wire_size(len(self.packet)))
        self._tries = tries
        self._until = until
        self._sent_at = 0.0
        self._started: float | None = None

    def due(self, now: float) -> Transmission | None:
        """What to send now: the request, or the request once more when its deadline has passed."""
        if self.response is not None or now < self.deadline:
            return None
        if self._started is None:
            self._started = now
        if self.sent >= self._tries or now >= self._until:
            times = "once" if self.sent == 1 else f"{self.sent} times"
            raise SmpTimeout(
                f"{self.request.name} (sequence {self._sequence}) was sent {times} in"
                f" {now - self._started:.2f} s and not answered"
            )
        wait = self._round_trip.timeout(self._computed, self.sent)
        self.deadline = min(now + wait, self._until)
        self.sent += 1
        self._sent_at = now
        return Transmission(self.packet, flush=self.sent > 1)

    def receive(self, packet: bytes, now: float) -> bool:
        """Take a packet if it is the response; stale and foreign ones are counted and left alone."""
        if self.response is not None or len(packet) < HEADER_SIZE:
            return False
        if not self.request.matches(Header.unpack(packet), self._sequence):
            self.stale += 1
            return False
        self.response = decode(packet)
        if self.sent == 1:
            self._round_trip.sample(now - self._sent_at, self._computed)
        else:
            self._round_trip.answered_late(self.sent)
        return True

    def result(self) -> T:
        """The typed response; SmpRejected if it says no."""
        if self.response is None:
            raise SmpTimeout(f"{self.request.name} has no response yet")
        rejected = self.response.rejected
        if rejected is not None:
            raise rejected
        return self.request.read(self.response.payload)
