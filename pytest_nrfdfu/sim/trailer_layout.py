"""Where in a slot the parts of its image trailer lie, for one swap algorithm and one kind of flash. No contents.

::

    end - 16   magic
    end - 24   image_ok     one byte; the distances are BOOT_MAX_ALIGN (8)
    end - 32   copy_done
    end - 40   swap info    image number (4 bits), swap type (4 bits)
               TLV sizes    swap using offset only: of both images, without their protected TLVs
    next       swap size
    below      swap status  one write block for each step of each page

Source: MCUboot, boot/bootutil/src/bootutil_area.c, bootutil_misc.h, bootutil_priv.h, swap_move.c, swap_offset.c. The
TLV sizes came later than swap using offset itself; older code has swap size and status 8 bytes further up.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import ALIGNED_TRAILER_MAGIC, MAX_ALIGN, TRAILER_MAGIC, TRAILER_MAGIC_SIZE
from pytest_nrfdfu.sim.slots import Geometry

__all__ = ["TrailerLayout", "trailer_layout", "trailer_magic"]

_STATUS_STATES: dict[Swap, int] = {"move": 3, "offset": 2, "scratch": 3, "overwrite": 3}
"""BOOT_STATUS_STATE_COUNT: how often a swap notes its progress for each page."""


class TrailerLayout(NamedTuple):
    """Offsets from the slot's first byte, and the size of the whole trailer, in bytes."""

    magic: int
    image_ok: int
    copy_done: int
    swap_info: int
    tlv_sizes: int | None
    """None where the algorithm does not keep them."""
    swap_size: int
    status: int
    """The first entry of the swap status: also the trailer's first byte."""
    entries: int
    """How many entries the swap status has room for, each of one write block."""
    info_size: int
    """boot_trailer_info_sz: everything but the swap status."""
    entry_size: int
    """boot_status_entry_sz: the swap status of one page."""
    size: int
    """boot_trailer_sz."""


def trailer_layout(slot_size: int, geometry: Geometry, swap: Swap) -> TrailerLayout:
    """The trailer of a slot of `slot_size` bytes."""
    step = geometry.max_align
    keeps_tlv_sizes = swap == "offset"
    magic = slot_size - TRAILER_MAGIC_SIZE
    image_ok = magic - step
    image_ok -= image_ok % step
    swap_info = image_ok - 2 * step
    info_size = (5 if keeps_tlv_sizes else 4) * step + -(-TRAILER_MAGIC_SIZE // step) * step
    entry_size = _STATUS_STATES[swap] * geometry.write_block
    size = geometry.max_sectors * entry_size + info_size
    return TrailerLayout(
        magic=magic,
        image_ok=image_ok,
        copy_done=image_ok - step,
        swap_info=swap_info,
        tlv_sizes=swap_info - step if keeps_tlv_sizes else None,
        swap_size=swap_info - (2 if keeps_tlv_sizes else 1) * step,
        status=slot_size - size,
        entries=geometry.max_sectors * _STATUS_STATES[swap],
        info_size=info_size,
        entry_size=entry_size,
        size=size,
    )


def trailer_magic(geometry: Geometry) -> bytes:
    """The 16 bytes that make a trailer valid (boot_img_magic)."""
    if geometry.max_align == MAX_ALIGN:
        return TRAILER_MAGIC
    return geometry.max_align.to_bytes(2, "little") + ALIGNED_TRAILER_MAGIC
