"""How much of an upload may be in flight.

One chunk at a time is right for every server. MCUboot's serial recovery takes more under two conditions, since its UART
interrupt goes on to put lines into buffers while the main loop writes flash. First, the lines that wait behind the
request at hand must find a buffer each, and the reader keeps the buffer of the last line that it took. Second, nothing
may arrive while flash is erased: a CPU that executes from flash stands still for that long (nRF5340 product
specification, chapter NVMC), and the UART's FIFO holds six bytes. It also stands still for each word written, but for
no longer than four or five bytes take at 1 Mbaud. Where the link has hardware flow control the second condition is the
hardware's business. That is how MCUboot's code behaves on a modelled chip; nobody has tried it on a real one, hence
`regulator`, which gives a window up where it does not work.

Source: MCUboot, boot/zephyr/serial_adapter.c (line buffers) and boot/boot_serial/src/boot_serial.c (bs_upload: erased
is up to the page that a chunk ends in; the last chunk also erases the page of the image trailer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.chunks import LATENCY, RESPONSE_WIRE, Chunk, Limits
from pytest_nrfdfu.smp.timing import Link

__all__ = [
    "ANY",
    "Chunk",
    "EraseAware",
    "FullWindow",
    "Policy",
    "StopAndWait",
    "policy_for",
    "waiting_lines",
]

ANY = 1 << 16
"""Lines: as many as a packet may have."""
_LEAST_WAITING_LINES = 5
"""With fewer lines in a chunk of a window of two its overhead is more than what overlapping saves."""
_MOST_WAITING_LINES = 7
"""Of MCUboot's eight buffers. More were measured nowhere, whatever a configuration says."""
_CHUNK_OVERHEAD = 41
"""Bytes on the wire that one chunk more costs: 30 bytes of header, map and CRC, in base64."""
_FRAME_AND_MAP = 30
"""Bytes of a chunk's packet and frame that are not its data; in base64 they are `_CHUNK_OVERHEAD`."""
_LEAST_ERASING = 64
"""Bytes: about what one line carries. A smaller chunk would not be answered any sooner that one could tell."""


class Policy(Protocol):
    """How much may be in flight."""

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """How many lines the next chunk may have while `in_flight` are unanswered; 0: it must wait."""

    def cut(self, off: int, size: int, in_flight: tuple[Chunk, ...]) -> int:
        """How many of the `size` bytes at `off` to send as one chunk, at least 1."""


class StopAndWait:
    """One chunk at a time: right for every server."""

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """Only when nothing is unanswered."""
        return 0 if in_flight else ANY

    def cut(self, off: int, size: int, in_flight: tuple[Chunk, ...]) -> int:
        """All of it."""
        del off, in_flight
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class FullWindow(StopAndWait):
    """As many chunks as the line buffers hold, for links with hardware flow control.

    `lines` may wait behind the request at hand, in `count` - 1 chunks of equal size. A chunk that waits behind none may
    have `first` lines.
    """

    lines: int
    count: int = 2
    first: int = ANY

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """What is left of the line buffers, or nothing where that would be less than a chunk's share."""
        if not in_flight:
            return self.first
        share = max(1, self.lines // max(1, self.count - 1))
        free = self.lines - sum(chunk.lines for chunk in in_flight[1:])
        return share if len(in_flight) < self.count and free >= share else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseAware(FullWindow):
    """The same without flow control: nothing behind a chunk that erases, until it is answered.

    `total` bytes are uploaded. `link` tells the size of a page, and what wire and flash take, by which the chunks that
    erase are cut. `at_start`: the chunk with offset 0 erases everything.
    """

    total: int
    link: Link
    at_start: bool = False
    align: int = 4

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """As in a full window, but nothing behind a chunk that erases."""
        if in_flight and self.erases(in_flight[-1].off, in_flight[-1].size):
            return 0
        return FullWindow.room(self, in_flight)

    def erases(self, off: int, size: int) -> bool:
        """Whether the `size` bytes at `off` touch a page that is not erased yet, or are the last ones."""
        if off == 0 or off + size >= self.total:
            return True
        page = self.link.page_size
        return not self.at_start and (off - 1) // page != (off + size - 1) // page

    def cut(self, off: int, size: int, in_flight: tuple[Chunk, ...]) -> int:
        """Cut chunks that erase so that the line is idle for the shortest time.

        What of such a chunk goes over the wire while the one before it is written and answered costs nothing. The rest
        of it delays the erase, and is written after it, while nothing else can be sent. So that much is best, and bytes
        of the page before go into a chunk of their own if writing them late would take longer than that chunk costs.
        """
        if off + size >= self.total or not self.erases(off, size):
            return size
        best = self._best_erasing(in_flight[-1].size if in_flight else 0)
        before = -off % self.link.page_size  # bytes that belong to a page erased already
        if before == 0 or before >= size:
            return min(size, best)
        crossing = max(best, before + self.align)
        late = self.link.write_time(max(0, crossing - best))
        return min(size, crossing) if late <= self.link.wire_time(_CHUNK_OVERHEAD) else before

    def _best_erasing(self, behind: int) -> int:
        """Bytes that go over the wire while `behind` bytes are written and answered."""
        overlap = self.link.write_time(behind) + self.link.wire_time(RESPONSE_WIRE) if behind else 0.0
        per_byte = self.link.wire_time(console.LINE_LENGTH) / console.RAW_PER_LINE
        size = int(overlap / per_byte) - _CHUNK_OVERHEAD if per_byte else ANY
        return max(_LEAST_ERASING, size - size % self.align)


def waiting_lines(line_buffers: int | None, window: int = 2) -> int | None:
    """How many lines may wait behind a request; None where that is not known, or not worth a window.

    A window of more than two has chunks of two lines at least, because one line carries mostly overhead.
    """
    lines = min((line_buffers or 0) - 1, _MOST_WAITING_LINES)
    least = max(_LEAST_WAITING_LINES, 2 * (window - 1))
    return lines if window > 1 and lines >= least else None


def policy_for(limits: Limits, total: int, link: Link) -> Policy:
    """The window that `limits` allow for an upload of `total` bytes."""
    lines = waiting_lines(limits.line_buffers, limits.window)
    if lines is None:
        return StopAndWait()
    first, count = _first_lines(lines, limits, link), _count(lines, limits, link)
    if limits.flow_control:
        return FullWindow(lines=lines, count=count, first=first)
    return EraseAware(
        lines=lines,
        count=count,
        first=first,
        total=total,
        link=link,
        at_start=limits.erases_at_start,
        align=limits.align,
    )


def _first_lines(lines: int, limits: Limits, link: Link) -> int:
    """The size of a chunk that waits behind none: the largest, if it is written while `lines` come in behind it.

    It has the least overhead. But on a fast wire the line would be idle until its answer comes.
    """
    busy = link.write_time(limits.max_packet) + link.wire_time(RESPONSE_WIRE) + LATENCY
    return ANY if busy <= link.wire_time(lines * console.LINE_LENGTH) else lines


def _count(lines: int, limits: Limits, link: Link) -> int:
    """How many chunks to have in flight: as many as asked for, or fewer where that many are slower than one alone.

    More of them share the same line buffers, so each is smaller, and carries more overhead. On a slow wire that is more
    than the pause which one chunk alone makes until its answer is there.
    """
    pause = link.write_time(limits.max_packet) + link.wire_time(RESPONSE_WIRE) + LATENCY
    alone = _pace(limits.max_packet, limits, link, pause)
    shares = {
        count: console.max_packet(lines // (count - 1), limits.line_length) for count in range(3, limits.window + 1)
    }
    worth = (count for count, share in shares.items() if _pace(min(share, limits.max_packet), limits, link) <= alone)
    return max(worth, default=2)


def _pace(packet: int, limits: Limits, link: Link, pause: float = 0.0) -> float:
    """Seconds for each byte that chunks of `packet` bytes carry, with a `pause` of so many seconds behind each."""
    wire = link.wire_time(console.wire_size(packet, limits.line_length))
    return (wire + pause) / max(1, packet - _FRAME_AND_MAP)
