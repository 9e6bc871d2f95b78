"""Image trailers: what a slot's last bytes say about swaps, and what setting an image's state writes there.

`trailer_layout` says where things are, `swap_status` how a swap's progress is noted. Source: MCUboot,
boot/bootutil/src/bootutil_public.c and bootutil_area.c (bootutil_misc.c before), bootutil_priv.h, swap_misc.c.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import ERASED, FLAG_SET
from pytest_nrfdfu.sim.firmware import Effect, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.swap_status import Progress, entry_number, progress_after
from pytest_nrfdfu.sim.trailer_layout import TrailerLayout, trailer_layout, trailer_magic

__all__ = ["BootError", "FieldState", "SwapType", "TrailerState", "Trailers"]


class SwapType(IntEnum):
    """What the bootloader is to do at the next boot (BOOT_SWAP_TYPE_*)."""

    UNKNOWN = 0
    """Only in a trailer: flash of zeros."""
    NONE = 1
    TEST = 2
    PERMANENT = 3
    REVERT = 4
    FAIL = 5
    """The image to swap in is not valid. Never in flash."""


class BootError(IntEnum):
    """Error codes of bootutil that reach a response (boot/bootutil/include/bootutil/bootutil_public.h)."""

    FLASH = 1
    BAD_IMAGE = 3
    BAD_VECTOR = 4


class FieldState(IntEnum):
    """State of the magic or of a flag, with the numbers of MCUboot's log (BOOT_MAGIC_*, BOOT_FLAG_*)."""

    SET = 1
    BAD = 2
    UNSET = 3


class TrailerState(NamedTuple):
    """What a trailer says (struct boot_swap_state). `swap_type` is NONE where the swap info is erased or nonsense."""

    magic: FieldState
    copy_done: FieldState
    image_ok: FieldState
    swap_type: SwapType = SwapType.NONE

    def __str__(self) -> str:
        """The words of MCUboot's log (BOOT_LOG_SWAP_STATE)."""
        magic = {FieldState.SET: "good", FieldState.UNSET: "unset"}.get(self.magic, "bad")
        flags = f"copy_done=0x{self.copy_done:x}, image_ok=0x{self.image_ok:x}"
        return f"magic={magic}, swap_type=0x{self.swap_type:x}, {flags}"

    @property
    def unconfirmed(self) -> bool:
        """What a test swap leaves behind until the application confirms itself."""
        return (self.magic, self.copy_done, self.image_ok) == (FieldState.SET, FieldState.SET, FieldState.UNSET)


_ERASED_STATE = TrailerState(FieldState.UNSET, FieldState.UNSET, FieldState.UNSET)
_TYPE_BITS = 0x0F
_SIZE_BYTES = 4
_TLV_SIZE_BITS = 16


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of all slots, for one swap algorithm. What writes gives effects, which the caller yields."""

    slots: Slots
    swap: Swap

    @property
    def _geometry(self) -> Geometry:
        return self.slots.geometry

    def layout(self, area: SlotArea) -> TrailerLayout:
        """Where the parts of a slot's trailer are."""
        return trailer_layout(area.size, self._geometry, self.swap)

    def status_page(self, area: SlotArea) -> int:
        """The offset of the page in which the trailer begins. The last chunk of an upload erases it."""
        return self.slots.page_of(self.layout(area).status)

    def pages(self, area: SlotArea) -> range:
        """The numbers of the pages that the trailer lies in, the slot's last page first."""
        page = self._geometry.page
        return range(area.size // page - 1, self.status_page(area) // page - 1, -1)

    def max_image_size(self, area: SlotArea) -> int:
        """bootutil_max_image_size: the largest image with its TLVs, in bytes."""
        page = self._geometry.page
        layout = self.layout(area)
        trailer_pages = -(-layout.size // page)
        if self.swap == "overwrite":
            return layout.swap_info
        if self.swap == "scratch":
            in_first_page = trailer_pages * page - layout.size  # of the page that the trailer begins in, this is image
            padding = max(0, layout.entry_size + layout.info_size - (page - in_first_page))
            return area.size - layout.size - padding
        # app_max_size: swap using move needs one page more in the primary slot, swap using offset in the secondary one.
        slots = (self.slots.find(area.image, slot) or area for slot in (0, 1))
        primary, secondary = (slot.size // page for slot in slots)
        room = min(primary - 1, secondary) if self.swap == "move" else min(primary, secondary - 1)
        return (room - trailer_pages) * page

    # Reading.

    def read(self, area: SlotArea) -> TrailerState:
        """boot_read_swap_state."""
        layout = self.layout(area)
        expected = trailer_magic(self._geometry)
        magic = self.slots.read(area, layout.magic, len(expected))
        if magic == expected:
            state = FieldState.SET
        else:
            state = FieldState.UNSET if magic == bytes([ERASED]) * len(expected) else FieldState.BAD
        flags = (self._flag(area, layout.copy_done), self._flag(area, layout.image_ok))
        return TrailerState(state, *flags, self._type_in_flash(area))

    def _flag(self, area: SlotArea, offset: int) -> FieldState:
        data = self.slots.read(area, offset, 1)
        if data == bytes([ERASED]):
            return FieldState.UNSET
        return FieldState.SET if data == bytes([FLAG_SET]) else FieldState.BAD

    def _type_in_flash(self, area: SlotArea) -> SwapType:
        value = (self.slots.read(area, self.layout(area).swap_info, 1) or bytes([ERASED]))[0]
        kind = value & _TYPE_BITS
        return SwapType(kind) if value != ERASED and kind <= SwapType.REVERT else SwapType.NONE

    def read_swap_size(self, area: SlotArea) -> int:
        """How many bytes of either slot a swap is about (boot_read_swap_size)."""
        return self._number(area, self.layout(area).swap_size)

    def read_tlv_sizes(self, area: SlotArea) -> tuple[int, int]:
        """The sizes of both images' unprotected TLVs in bytes, the primary slot's first; 0 where they are not kept."""
        offset = self.layout(area).tlv_sizes
        if offset is None:
            return 0, 0
        secondary, primary = divmod(self._number(area, offset), 1 << _TLV_SIZE_BITS)
        return primary, secondary

    def _number(self, area: SlotArea, offset: int) -> int:
        return int.from_bytes(self.slots.read(area, offset, _SIZE_BYTES) or b"", "little")

    def read_progress(self, area: SlotArea) -> Progress:
        """How far the swap is that the trailer tells of (swap_read_status_bytes)."""
        layout, block = self.layout(area), self._geometry.write_block
        status = self.slots.read(area, layout.status, layout.entries * block) or b""
        written = [number for number, value in enumerate(status[::block], 1) if value != ERASED]
        return progress_after(self.swap, self._geometry.max_sectors, max(written, default=0))

    def states(self, image: int) -> tuple[TrailerState, TrailerState]:
        """What the primary and the secondary slot's trailers say.

        A missing slot counts as erased, and so does the network core's virtual one
        (boot_read_swap_state_primary_slot_hook in the nRF Connect SDK's nrf53_hooks.c).
        """
        primary, secondary = (
            _ERASED_STATE if area is None or area.virtual else self.read(area)
            for area in (self.slots.find(image, s) for s in (0, 1))
        )
        return primary, secondary

    def swap_type(self, image: int) -> SwapType:
        """boot_swap_type_multi: what the next boot is to do with an image, unless a swap was interrupted.

        From this an image list takes its flags, in every swap mode. NONE: the primary slot is confirmed. TEST: the
        secondary is pending. PERMANENT: pending and permanent. REVERT: the primary slot runs on trial, the secondary
        is the confirmed one and comes back. With overwrite-only there is no REVERT: nothing sets copy_done.
        """
        primary, secondary = self.states(image)
        # The secondary slot comes first. Swap using offset marks it like this before it reverts.
        if self.swap == "offset" and secondary.unconfirmed:
            return SwapType.REVERT
        if secondary.magic is FieldState.SET and secondary.image_ok is FieldState.UNSET:
            return SwapType.TEST
        if secondary.magic is FieldState.SET and secondary.image_ok is FieldState.SET:
            return SwapType.PERMANENT
        # Whatever else the secondary slot holds (BOOT_MAGIC_ANY since pull request 2100).
        return SwapType.REVERT if primary.unconfirmed else SwapType.NONE

    def image_start(self, area: SlotArea) -> int:
        """Where in a slot its image begins, in bytes: one page up in a secondary slot with swap using offset.

        Not so on trial, when the old image lies there that is to come back (boot_get_image_start_offset in Zephyr's
        subsys/dfu/boot/mcuboot.c, bs_list in MCUboot's boot_serial.c).
        """
        if self.swap != "offset" or area.slot == 0 or self.swap_type(area.image) is SwapType.REVERT:
            return 0
        return self._geometry.page

    # What applications and serial recovery do.

    def set_pending(self, image: int, *, permanent: bool) -> Generator[Effect, None, int]:
        """boot_set_pending_multi: mark an image's secondary slot for a swap. Returns 0 or a `BootError`."""
        area = self.slots.find(image, 1)
        if area is None:
            return BootError.FLASH
        magic = self.read(area).magic
        if magic is FieldState.SET:
            return 0  # a swap is scheduled already, of whatever kind
        if magic is FieldState.BAD:
            return BootError.BAD_IMAGE  # and the slot is left as it is: so recorded
        yield self.write_magic(area)
        if permanent:
            yield self.write_image_ok(area)
        yield self.write_swap_info(area, SwapType.PERMANENT if permanent else SwapType.TEST)
        return 0

    def set_confirmed(self, image: int) -> Generator[Effect, None, int]:
        """boot_set_confirmed_multi: the running image stays. Returns 0 or a `BootError`.

        Without a trailer (never swapped, so confirmed) nothing is written; copy_done is not looked at.
        """
        area = self.slots.find(image, 0)
        if area is None:
            return BootError.FLASH
        state = _ERASED_STATE if area.virtual else self.read(area)
        if state.magic is FieldState.BAD:
            return BootError.BAD_VECTOR
        if state.magic is FieldState.SET and state.image_ok is FieldState.UNSET:
            yield self.write_image_ok(area)
        return 0

    # Single writes.

    def write_magic(self, area: SlotArea) -> Write:
        """boot_write_magic."""
        magic = trailer_magic(self._geometry)
        offset = self.layout(area).magic
        padding = offset % self._geometry.max_align
        return Write(area.address + offset - padding, bytes([ERASED]) * padding + magic)

    def write_image_ok(self, area: SlotArea) -> Write:
        """boot_write_image_ok."""
        return self._write(area, self.layout(area).image_ok, bytes([FLAG_SET]))

    def write_copy_done(self, area: SlotArea) -> Write:
        """boot_write_copy_done."""
        return self._write(area, self.layout(area).copy_done, bytes([FLAG_SET]))

    def write_swap_info(self, area: SlotArea, swap_type: SwapType) -> Write:
        """boot_write_swap_info."""
        return self._write(area, self.layout(area).swap_info, bytes([area.image << 4 | swap_type]))

    def write_swap_size(self, area: SlotArea, size: int) -> Write:
        """boot_write_swap_size."""
        return self._write(area, self.layout(area).swap_size, size.to_bytes(_SIZE_BYTES, "little"))

    def write_tlv_sizes(self, area: SlotArea, primary: int, secondary: int) -> Write | None:
        """boot_write_unprotected_tlv_sizes; None where the algorithm does not keep them."""
        offset = self.layout(area).tlv_sizes
        value = secondary << _TLV_SIZE_BITS | primary
        return None if offset is None else self._write(area, offset, value.to_bytes(_SIZE_BYTES, "little"))

    def write_progress(self, area: SlotArea, step: Progress) -> Write:
        """boot_write_status: note that a step is done."""
        number = entry_number(self.swap, self._geometry.max_sectors, step)
        offset = self.layout(area).status + number * self._geometry.write_block
        return self._write(area, offset, bytes([step.state]))

    def _write(self, area: SlotArea, offset: int, data: bytes) -> Write:
        padding = -len(data) % self._geometry.write_block
        return Write(area.address + offset, data + bytes([ERASED]) * padding)
