"""How a Zephyr application writes an image to a slot: through a buffer, erasing as it goes or not. Sans-IO.

Sources: Zephyr, subsys/storage/stream/stream_flash.c and subsys/dfu/img_util/flash_img.c (the buffer of
CONFIG_IMG_BLOCK_BUF_SIZE, erasing up to what is written, the page of the trailer at the end), subsys/dfu/boot/mcuboot.c
(boot_get_trailer_status_offset).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator

from pytest_nrfdfu.image.format import ERASED
from pytest_nrfdfu.sim.firmware import Effect, Erase, Memory, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea

__all__ = ["SlotStream", "erase_slot", "holds", "is_erased"]

_BUFFER = 512
"""CONFIG_IMG_BLOCK_BUF_SIZE, bytes."""
_MAGIC_SIZE = 16


def trailer_page(area: SlotArea, geometry: Geometry) -> int:
    """Offset of the page that holds image_ok and magic, the last of the slot (boot_get_trailer_status_offset)."""
    status = area.size - _MAGIC_SIZE - 2 * geometry.max_align
    return status - status % geometry.page


def is_erased(memory: Memory, area: SlotArea) -> bool:
    """Whether nothing was written to a slot (img_mgmt_flash_check_empty)."""
    content = memory.read(area.address, area.size)
    return content.count(ERASED) == len(content)


def holds(memory: Memory, area: SlotArea, start: int, size: int, digest: bytes) -> bool:
    """Whether `size` bytes from `start` on have this SHA-256 (flash_img_check)."""
    if start + size > area.size:
        return False
    return hashlib.sha256(memory.read(area.address + start, size)).digest() == digest


def erase_slot(
    area: SlotArea, geometry: Geometry, start: int = 0, end: int | None = None
) -> Generator[Effect, None, None]:
    """Erase a slot's pages from offset `start` up to the one that ends at or behind `end` (the slot's end without)."""
    for offset in range(start - start % geometry.page, area.size if end is None else end, geometry.page):
        yield Erase(area.address + offset)


class SlotStream:
    """One image on its way into `area`, from offset `start` on; with `erases` each page is erased before it is written.

    `resume` is how many bytes were written by an earlier run: a multiple of the buffer.
    """

    def __init__(
        self, area: SlotArea, geometry: Geometry, *, start: int = 0, erases: bool = False, resume: int = 0
    ) -> None:
        self.area = area
        self.written = resume
        """Bytes in flash."""
        self._geometry = geometry
        self._start = start
        self._erases = erases
        self._buffer = bytearray()
        self._erased = -(-resume // geometry.page) * geometry.page if resume else 0

    @property
    def received(self) -> int:
        """Bytes in flash and in the buffer."""
        return self.written + len(self._buffer)

    @property
    def ended(self) -> bool:
        """Its last bytes were written and did not fill a word, so flash takes no more behind them."""
        return self.written % self._geometry.write_block != 0

    def fits(self, size: int) -> bool:
        """Whether so many bytes more have room."""
        return self._start + self.received + size <= self.area.size

    def write(self, data: bytes, *, last: bool = False) -> Generator[Effect, None, None]:
        """Take bytes, of which whole buffers are written; with `last` everything is, and the trailer's page erased."""
        self._buffer += data
        while len(self._buffer) >= _BUFFER:
            yield from self._flush(_BUFFER)
        if last:
            if self._buffer:
                yield from self._flush(len(self._buffer))
            if self._erases:
                yield from self.erase_trailer()

    def erase_trailer(self) -> Generator[Effect, None, None]:
        """Erase the slot's last page, unless it is erased already: nothing up to its end is erased again."""
        page = trailer_page(self.area, self._geometry)
        if self._start + self._erased <= page:
            yield Erase(self.area.address + page)
            self._erased = page + self._geometry.page - self._start

    def _flush(self, size: int) -> Generator[Effect, None, None]:
        base = self.area.address + self._start
        while self._erases and self._erased < self.written + size:
            yield Erase(base + self._erased)
            self._erased += self._geometry.page
        data = bytes(self._buffer[:size])
        padded = data + bytes([ERASED]) * (-size % self._geometry.write_block)
        yield Write(base + self.written, padded)
        del self._buffer[:size]
        self.written += size
