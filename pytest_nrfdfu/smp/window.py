"""How many chunks of an upload may be in flight.

One at a time is right for every server. MCUboot's serial recovery takes more under two conditions, since its UART
interrupt goes on to put lines into buffers while the main loop writes flash. First, the lines that wait behind the
request at hand must find a buffer each, and the reader keeps the buffer of the last line that it took. Second, nothing
may arrive while flash is erased: a CPU that executes from flash stands still for that long (nRF5340 product
specification, chapter NVMC), and the UART's FIFO holds six bytes. It also stands still for each word written, but for
no longer than four or five bytes take at 1 Mbaud. That is how MCUboot's code behaves on a modelled chip; nobody has
tried it on a real one. So after repeated losses an upload goes on with one chunk at a time.

Source: MCUboot, boot/zephyr/serial_adapter.c (line buffers) and boot/boot_serial/src/boot_serial.c (bs_upload: erased
is up to the page that a chunk ends in; the last chunk also erases the page of the image trailer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Chunk", "EraseAware", "Policy", "StopAndWait", "waiting_lines"]

_LEAST_WAITING_LINES = 5
"""With fewer lines in a chunk its overhead is more than what overlapping saves."""


class Chunk(NamedTuple):
    """One chunk on its way."""

    off: int
    size: int
    sequence: int
    packet: bytes
    computed: float
    sent_at: float
    deadline: float
    tries: int

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.off + self.size


class Policy(Protocol):
    """How much may be in flight."""

    def may_send(self, in_flight: tuple[Chunk, ...]) -> bool:
        """Whether another chunk may be sent while `in_flight` are unanswered."""


class StopAndWait:
    """One chunk at a time: right for every server."""

    def may_send(self, in_flight: tuple[Chunk, ...]) -> bool:
        """Only when nothing is unanswered."""
        return not in_flight


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseAware:
    """Two chunks, but nothing behind one that erases. `total` bytes are uploaded; a flash page has `page_size`."""

    total: int
    page_size: int

    def may_send(self, in_flight: tuple[Chunk, ...]) -> bool:
        """Behind one chunk that only writes."""
        return not in_flight or (len(in_flight) == 1 and not self._erases(in_flight[0]))

    def _erases(self, chunk: Chunk) -> bool:
        begins_page = chunk.off % self.page_size == 0
        reaches_page = chunk.off // self.page_size != (chunk.end - 1) // self.page_size
        return begins_page or reaches_page or chunk.end >= self.total


def waiting_lines(line_buffers: int | None) -> int | None:
    """How many lines a chunk may have to wait behind another; None where that is not known, or not worth it."""
    lines = (line_buffers or 0) - 1
    return lines if lines >= _LEAST_WAITING_LINES else None
