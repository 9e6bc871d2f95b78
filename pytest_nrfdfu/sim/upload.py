"""An image upload to MCUboot's serial recovery: where chunks go, what is erased when, and what is answered.

The state outlives errors; only a chunk at offset 0 resets it. Source: MCUboot, bs_upload and erase_range in
boot/boot_serial/src/boot_serial.c; boot/zephyr/flash_map_extended.c for the numbers of slots.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.image.format import ERASED
from pytest_nrfdfu.sim.firmware import Effect, Erase, Write
from pytest_nrfdfu.sim.pcd import PcdHooks
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.sim.zcbor import CborError, Reader, decode_map

__all__ = ["Upload"]

_INVALID = 3
"""MGMT_ERR_EINVAL."""
_WORD_RANGE = 1 << 32
_ABSENT = _WORD_RANGE - 1
"""SIZE_MAX and UINT_MAX stand for a key that did not come, also when they came."""
_LAST_DIRECT_NUMBER = 6
"""flash_area_id_from_direct_image knows no slots behind slot5."""

_KEYS = {b"image": Reader.uint32, b"data": Reader.byte_string, b"len": Reader.uint32, b"off": Reader.uint32}


class _Chunk(NamedTuple):
    """A decoded request."""

    image: int
    data: bytes
    size: int
    offset: int

    @classmethod
    def decode(cls, payload: bytes) -> _Chunk | None:
        """Read a request; None if it is no map, or lacks data or offset."""
        try:
            found = decode_map(payload, _KEYS)
        except CborError:
            return None
        image, size, offset = (found.get(key, _ABSENT) for key in (b"image", b"len", b"off"))
        data = found.get(b"data")
        if data is None or offset == _ABSENT:
            return None
        assert isinstance(data, bytes)
        assert isinstance(image, int)
        assert isinstance(size, int)
        assert isinstance(offset, int)
        return cls(image, data, size, offset)


class Upload:
    """What bs_upload keeps between requests. Offsets and sizes in bytes."""

    def __init__(self, profile: BootloaderProfile, trailers: Trailers, hooks: PcdHooks | None = None) -> None:
        self._profile = profile
        self._hooks = hooks
        self._trailers = trailers
        self._slots = trailers.slots
        self.begun = 0
        """How many uploads began: accepted chunks at offset 0."""
        self.expected = 0
        """The offset of the next chunk, as responses give it."""
        self._size = 0
        self._number = 0
        self._not_yet_erased: int | None = 0
        """The first byte that has not been erased; None once erasing failed."""
        self._trailer_page = 0
        self._base = 0
        """Where in the slot the image begins."""

    def take(self, payload: bytes, *, damage: bool = False) -> Generator[Effect, None, int]:
        """One request's payload. Returns the `rc` of the response. With `damage` one bit of it is written wrong."""
        chunk = _Chunk.decode(payload)
        if chunk is None:
            return _INVALID
        if damage and chunk.data:
            chunk = chunk._replace(data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])
        if chunk.offset == 0 or not self._profile.image_at_start_only:
            self._number = 0 if chunk.image == _ABSENT else chunk.image
        area = self._area(self._number)
        if area is None:
            return _INVALID
        if chunk.offset == 0:
            if not (yield from self._begin(area, chunk.size)):
                return _INVALID
        elif chunk.offset != self.expected:
            return 0  # the response's offset tells the client where to go on
        elif self.expected + len(chunk.data) > self._size:
            return _INVALID
        return (yield from self._store(area, chunk.data))

    def go_back(self, count: int) -> None:
        """Expect `count` bytes again, at most all: not MCUboot's doing, but for hosts that ought to follow."""
        self.expected = max(0, self.expected - count)

    def _area(self, number: int) -> SlotArea | None:
        """The slot that an upload's image number means."""
        if not self._profile.direct_upload:
            if number >= self._profile.images:
                return self._slots.find(0, 0) if self._ignores_number else None
            return self._slots.find(number, 0)
        if number > _LAST_DIRECT_NUMBER:
            return None
        image, slot = divmod(max(number, 1) - 1, 2)
        return self._slots.find(image, slot)

    @property
    def _ignores_number(self) -> bool:
        return self._profile.ignores_image_number and self._profile.images == 1

    def _begin(self, area: SlotArea, size: int) -> Generator[Effect, None, bool]:
        self.expected = 0
        self._trailer_page = self._trailers.status_page(area)
        if size > area.size:
            return False
        if self._profile.erase_progressively:
            self._not_yet_erased = 0
        else:
            yield from self._erase(area, 0, area.size)
        self._size = size
        # Swap using offset: the image in a secondary slot begins one page further up.
        shifted = self._profile.swap == "offset" and self._profile.direct_upload and area.slot == 1
        self._base = self._slots.geometry.page if shifted else 0
        self.begun += 1
        return True

    def _erase(self, area: SlotArea, start: int, end: int) -> Generator[Effect, None, None]:
        page = self._slots.geometry.page
        for offset in range(start, end, page):
            if self._hooks is not None and area.virtual:
                self._hooks.erase(area.address + offset, page)
            else:
                yield Erase(area.address + offset)

    def _write(self, area: SlotArea, offset: int, data: bytes) -> Generator[Effect, None, None]:
        if self._hooks is not None and area.virtual:
            self._hooks.write(area.address + offset, data)
        else:
            yield Write(area.address + offset, data)

    def _erase_up_to(self, area: SlotArea, last: int) -> Generator[Effect, None, bool]:
        """Erase what is not yet erased up to the page that holds `last`. Failure is final until an upload begins."""
        if last >= area.size or self._not_yet_erased is None:
            self._not_yet_erased = None
            return False
        if last >= self._not_yet_erased:
            end = self._slots.page_of(last) + self._slots.geometry.page
            yield from self._erase(area, self._not_yet_erased, end)
            self._not_yet_erased = end
        return True

    def _store(self, area: SlotArea, data: bytes) -> Generator[Effect, None, int]:
        # An empty first chunk ends at byte -1, which as an unsigned number lies behind every slot.
        last = (self.expected + len(data) - 1 + self._base) % _WORD_RANGE
        if self._profile.erase_progressively and not (yield from self._erase_up_to(area, last)):
            return _INVALID
        block = self._slots.geometry.write_block
        tail = len(data) % block
        aligned = len(data) - tail
        if self.expected + len(data) < self._size:
            tail = 0  # the client is asked for these bytes again
        start = self.expected + self._base
        if start + aligned + (block if tail else 0) > area.size:
            return _INVALID
        if aligned:
            yield from self._write(area, start, data[:aligned])
        if tail:
            yield from self._write(area, start + aligned, data[aligned:].ljust(block, bytes([ERASED])))
        self.expected += aligned + tail
        if self.expected != self._size:
            return 0
        if self._profile.erase_progressively:
            # The trailer's page goes last, with whatever of the image lies in it.
            yield from self._erase(area, self._trailer_page, self._trailer_page + 1)
        return 0 if self._hooks is None else (yield from self._hooks.uploaded(self._number))
