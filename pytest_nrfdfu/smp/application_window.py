"""How much of an upload to a running application may be in flight: Zephyr's SMP server over UART.

Requests and responses come from one pool of packets (``buf_count`` of MCUmgr's parameters). A request takes one from
its first line on until it is answered, and the response takes one as well; a request for whose response there is none
is refused (rc 2). So one packet has to be left for the response.

Where the slot is erased page by page (CONFIG_IMG_ERASE_PROGRESSIVELY), nothing may arrive while that happens: a CPU
that executes from flash stands still meanwhile (nRF5340 product specification, chapter NVMC). A page is erased when the
first block that is buffered for it is full. The chunk with offset 0 goes alone: it may erase the whole slot, and may be
answered with the offset of an upload that was broken off.

Source: Zephyr, subsys/mgmt/mcumgr/smp/src/smp.c (smp_process_request_packet), subsys/mgmt/mcumgr/transport/src/
serial_util.c, subsys/dfu/img_util/flash_img.c, subsys/storage/stream/stream_flash.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nrfdfu.smp.chunks import Chunk
from pytest_nrfdfu.smp.window import ANY, StopAndWait

__all__ = ["ApplicationWindow"]

_BLOCK = 512
"""CONFIG_IMG_BLOCK_BUF_SIZE: bytes that are collected before they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationWindow(StopAndWait):
    """`window` chunks, and nothing behind one that may erase.

    `window`: less than the packets that the server has. `page`: bytes of a flash page; None: none is erased later.
    """

    window: int
    page: int | None = 4096

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """Any size until so many are in flight, or one that may erase."""
        if not in_flight:
            return ANY
        if self.may_erase(in_flight[-1]) or len(in_flight) >= self.window:
            return 0
        return ANY

    def may_erase(self, chunk: Chunk) -> bool:
        """Whether a chunk begins the upload, or fills the first block of a page."""
        if chunk.off == 0:
            return True
        if self.page is None:
            return False
        last = _BLOCK - 1  # of the page's first block
        return (chunk.end - 1 - last) // self.page > (chunk.off - 1 - last) // self.page
