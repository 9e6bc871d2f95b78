"""Image trailers: what a slot's last bytes say about swaps, and what setting an image's state writes there.

::

    end - 16   magic
    end - 24   image_ok     one byte; the distances are BOOT_MAX_ALIGN (8)
    end - 32   copy_done
    end - 40   swap info    image number (4 bits), swap type (4 bits)
    end - 48   swap size
    below      swap status

Source: MCUboot, boot/bootutil/src/bootutil_public.c and bootutil_area.c (bootutil_misc.c before), bootutil_priv.h,
swap_move.c, swap_offset.c.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import ERASED, FLAG_SET, TRAILER_MAGIC
from pytest_nrfdfu.sim.firmware import Effect, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots

__all__ = ["BootError", "SwapType", "Trailers"]


class SwapType(IntEnum):
    """What the bootloader is to do at the next boot (BOOT_SWAP_TYPE_*)."""

    NONE = 1
    TEST = 2
    PERMANENT = 3
    REVERT = 4


class BootError(IntEnum):
    """Error codes of bootutil that reach a response (boot/bootutil/include/bootutil/bootutil_public.h)."""

    FLASH = 1
    BAD_IMAGE = 3


class _Field(Enum):
    """State of the magic or of a flag."""

    UNSET = "unset"
    SET = "set"
    BAD = "bad"


class _Trailer(NamedTuple):
    magic: _Field
    copy_done: _Field
    image_ok: _Field


_UNCONFIRMED = _Trailer(magic=_Field.SET, copy_done=_Field.SET, image_ok=_Field.UNSET)
"""What a swap leaves behind until the application confirms itself."""


def _round_down(value: int, step: int) -> int:
    return value - value % step


_STATUS_STATES: dict[Swap, int] = {"move": 3, "offset": 2, "scratch": 3, "overwrite": 3}
"""BOOT_STATUS_STATE_COUNT: how often a swap notes its progress for each sector."""


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of all slots, for one swap algorithm."""

    slots: Slots
    swap: Swap

    @property
    def _geometry(self) -> Geometry:
        return self.slots.geometry

    def _magic_at(self, area: SlotArea) -> int:
        return area.size - len(TRAILER_MAGIC)

    def _image_ok_at(self, area: SlotArea) -> int:
        step = self._geometry.max_align
        return _round_down(self._magic_at(area) - step, step)

    def _copy_done_at(self, area: SlotArea) -> int:
        return self._image_ok_at(area) - self._geometry.max_align

    def _swap_info_at(self, area: SlotArea) -> int:
        return self._copy_done_at(area) - self._geometry.max_align

    @property
    def _info_size(self) -> int:
        """boot_trailer_info_sz: magic and the four fields in front of it, in bytes."""
        step = self._geometry.max_align
        return 4 * step + -(-len(TRAILER_MAGIC) // step) * step

    @property
    def size(self) -> int:
        """boot_trailer_sz: the whole trailer with the swap status, in bytes."""
        status = self._geometry.max_sectors * _STATUS_STATES[self.swap] * self._geometry.write_block
        return status + self._info_size

    def status_page(self, area: SlotArea) -> int:
        """The offset of the page in which the trailer begins. The last chunk of an upload erases it."""
        return self.slots.page_of(area.size - self.size)

    def max_image_size(self, area: SlotArea) -> int:
        """bootutil_max_image_size: the largest image with its TLVs, in bytes."""
        page = self._geometry.page
        trailer_pages = -(-self.size // page)
        if self.swap == "overwrite":
            return self._swap_info_at(area)
        if self.swap == "scratch":
            entry = _STATUS_STATES[self.swap] * self._geometry.write_block
            in_first_page = trailer_pages * page - self.size  # of the page that the trailer begins in, this is image
            padding = max(0, entry + self._info_size - (page - in_first_page))
            return area.size - self.size - padding
        # One page more is needed: to move the image up by one, or to hold it one page further up.
        return (area.size // page - trailer_pages - 1) * page

    def _read(self, area: SlotArea) -> _Trailer:
        magic = self.slots.read(area, self._magic_at(area), len(TRAILER_MAGIC))
        if magic == TRAILER_MAGIC:
            state = _Field.SET
        else:
            state = _Field.UNSET if magic == bytes([ERASED]) * len(TRAILER_MAGIC) else _Field.BAD
        return _Trailer(state, self._flag(area, self._copy_done_at(area)), self._flag(area, self._image_ok_at(area)))

    def _flag(self, area: SlotArea, offset: int) -> _Field:
        data = self.slots.read(area, offset, 1)
        if data == bytes([ERASED]):
            return _Field.UNSET
        return _Field.SET if data == bytes([FLAG_SET]) else _Field.BAD

    def swap_type(self, image: int) -> SwapType:
        """boot_swap_type_multi. A missing slot counts as erased, and so does the network core's virtual one.

        The latter is boot_read_swap_state_primary_slot_hook in the nRF Connect SDK's nrf53_hooks.c.
        """
        erased = _Trailer(_Field.UNSET, _Field.UNSET, _Field.UNSET)
        primary, secondary = (
            erased if area is None or area.virtual else self._read(area)
            for area in (self.slots.find(image, s) for s in (0, 1))
        )
        # The secondary slot comes first. Swap using offset leaves the old image with its copy_done there.
        if self.swap == "offset" and secondary == _UNCONFIRMED:
            return SwapType.REVERT
        if secondary.magic is _Field.SET and secondary.image_ok is _Field.UNSET:
            return SwapType.TEST
        if secondary.magic is _Field.SET and secondary.image_ok is _Field.SET:
            return SwapType.PERMANENT
        # Whatever else the secondary slot holds (BOOT_MAGIC_ANY since pull request 2100).
        if primary == _UNCONFIRMED:
            return SwapType.REVERT
        return SwapType.NONE

    def set_pending(self, image: int, *, permanent: bool) -> Generator[Effect, None, int]:
        """boot_set_pending_multi: mark an image's secondary slot for a swap. Returns 0 or a `BootError`."""
        area = self.slots.find(image, 1)
        if area is None:
            return BootError.FLASH
        magic = self._read(area).magic
        if magic is _Field.SET:
            return 0  # a swap is scheduled already, of whatever kind
        if magic is _Field.UNSET:
            yield from self._schedule(area, permanent=permanent)
            return 0
        return BootError.BAD_IMAGE  # and the slot is left as it is: so recorded

    def _schedule(self, area: SlotArea, *, permanent: bool) -> Generator[Effect, None, None]:
        padding = self._magic_at(area) % self._geometry.max_align
        yield Write(area.address + self._magic_at(area) - padding, bytes([ERASED]) * padding + TRAILER_MAGIC)
        if permanent:
            yield self._write_flag(area, self._image_ok_at(area), FLAG_SET)
        swap = SwapType.PERMANENT if permanent else SwapType.TEST
        yield self._write_flag(area, self._swap_info_at(area), area.image << 4 | swap)

    def _write_flag(self, area: SlotArea, offset: int, value: int) -> Write:
        return Write(area.address + offset, bytes([value]).ljust(self._geometry.write_block, bytes([ERASED])))
