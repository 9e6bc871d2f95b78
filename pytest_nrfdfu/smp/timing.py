"""How long to wait for a response: wire time, flash time, and what the link has shown so far.

The estimate has two parts. What can be computed from the request: the time that its bytes and its response's take on
the wire, and the flash operations that must come before the response. And what cannot: latency of host, adapter and
server, measured as the excess of round trips over the computed part and smoothed as RFC 6298 smooths round-trip times.
Round trips of retransmitted requests are not measured (Karn's algorithm, RFC 6298 section 3); instead the time-out that
was long enough is kept until there is a measurement again (section 5, steps 5.5 to 5.7). Times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Link", "RoundTrip"]

_BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""
_RESPONSE_BYTES = 64
"""A response to an upload chunk has some 30 bytes on the wire."""
_MOST_DOUBLINGS = 16
"""More would only overflow: the allowance is bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is known about wire and flash. `baudrate` None: not a paced wire (a socket)."""

    baudrate: int | None = 115200
    erase_page: float = 87.5e-3
    """One 4 KiB page (nRF5340 product specification, t_ERASEPAGE)."""
    write_word: float = 43e-6
    """Four bytes (nRF5340 product specification, t_WRITE)."""
    page_size: int = 4096

    def wire_time(self, size: int) -> float:
        """Seconds that `size` bytes take on the wire."""
        return size * _BITS_PER_BYTE / self.baudrate if self.baudrate else 0.0

    def exchange(self, size: int) -> float:
        """Seconds that a request of `size` bytes on the wire and a short response take there."""
        return self.wire_time(size + _RESPONSE_BYTES)

    def write_time(self, size: int) -> float:
        """Seconds to write `size` bytes to flash that is erased."""
        return (size + 3) // 4 * self.write_word

    def flash_time(self, offset: int, size: int) -> float:
        """Seconds to write `size` bytes at `offset` of a slot, with the pages erased that begin in them.

        The page that `offset` lies in was erased with the byte before it, unless there is none.
        """
        if size <= 0:
            return 0.0
        pages = (offset + size - 1) // self.page_size - (offset - 1) // self.page_size
        return pages * self.erase_page + self.write_time(size)


class RoundTrip:
    """Smoothed latency, and the time-outs that follow from it."""

    def __init__(self, *, first: float = 0.6, least: float = 0.08, most: float = 5.0) -> None:
        """`first`: allowance before anything was measured. `least`, `most`: bounds of the allowance.

        The least is some ticks of a busy host's scheduler: a repetition that was not needed costs less than waiting for
        an answer that is lost.
        """
        self._first = first
        self._least = least
        self._most = most
        self._mean: float | None = None
        self._deviation = 0.0
        self._backoff = 0

    def sample(self, measured: float, computed: float) -> None:
        """One undisturbed round trip took `measured` seconds, of which `computed` were expected."""
        self._backoff = 0
        excess = max(0.0, measured - computed)
        if self._mean is None:
            self._mean, self._deviation = excess, excess / 2
            return
        self._deviation += (abs(self._mean - excess) - self._deviation) / 4
        self._mean += (excess - self._mean) / 8

    def answered_late(self, tries: int) -> None:
        """An answer came after `tries` transmissions, so how long it took is unknown, only that less did not do.

        Without this, a link that has become slower than the allowance would never be measured again.
        """
        self._backoff += tries - 1

    def unmeasured(self, most: float) -> RoundTrip:
        """One for requests that the server computes for, whose time says nothing of other requests', nor theirs of it.

        It never waits for less than before anything was measured, or than `most` seconds where that is less: a short
        deadline is to leave room for all tries.
        """
        first = min(self._first, most)
        return RoundTrip(first=first, least=max(first, self._least), most=self._most)

    @property
    def allowance(self) -> float:
        """Seconds to add to the computed time."""
        estimate = self._first if self._mean is None else self._mean + 4 * self._deviation
        return min(self._most, max(self._least, estimate))

    def timeout(self, computed: float, attempt: int = 0, *, patience: float = 0.0) -> float:
        """How long to wait for the response to try number `attempt` (0: the first); doubles the allowance each time.

        `patience`: seconds that the allowance has at least, where a repetition that was not needed does harm.
        """
        doublings = min(_MOST_DOUBLINGS, attempt + self._backoff)
        return computed + min(self._most, max(patience, self.allowance * 2.0**doublings))
