"""The slots as a running application sees them: what is in them, what boots next, which may be overwritten. Sans-IO.

The application runs from image 0's primary slot; an image's number is that of its pair of slots.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c (img_mgmt_get_next_boot_slot,
img_mgmt_slot_in_use, img_mgmt_set_next_boot_slot) and zephyr_img_mgmt.c (img_mgmt_get_unused_slot_area_id);
MCUboot, boot/bootutil/src/bootutil_public.c (boot_set_next).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_nrfdfu.image.format import HEADER_SIZE, ImageHeader
from pytest_nrfdfu.sim.app_identity import ImageIdentity, identify
from pytest_nrfdfu.sim.app_image_errors import ImageError, refuse
from pytest_nrfdfu.sim.firmware import Effect, Memory
from pytest_nrfdfu.sim.slots import Geometry, SlotArea
from pytest_nrfdfu.sim.trailer import BootError, SwapType, Trailers

__all__ = ["ApplicationSlots", "NextBoot"]


class NextBoot(NamedTuple):
    """Which slot of an image boots next, 0 or 1, and how."""

    slot: int
    kind: Literal["normal", "test", "revert"]


_NEXT = {
    SwapType.NONE: NextBoot(0, "normal"),
    SwapType.TEST: NextBoot(1, "test"),
    SwapType.PERMANENT: NextBoot(1, "normal"),
    SwapType.REVERT: NextBoot(1, "revert"),
}
_BOOT_ERRORS = {
    BootError.FLASH: ImageError.FLASH_WRITE_FAILED,
    BootError.BAD_IMAGE: ImageError.INVALID_IMAGE_HEADER_MAGIC,
    BootError.BAD_VECTOR: ImageError.INVALID_IMAGE_VECTOR_TABLE,
}


@dataclass(frozen=True, slots=True)
class ApplicationSlots:
    """The slots of `images` images."""

    trailers: Trailers
    images: int = 1
    erases_pending: bool = True
    """A slot that is to boot next may be overwritten (CONFIG_MCUMGR_GRP_IMG_ALLOW_ERASE_PENDING)."""

    @property
    def memory(self) -> Memory:
        """Flash."""
        return self.trailers.slots.memory

    @property
    def geometry(self) -> Geometry:
        """What flash is like."""
        return self.trailers.slots.geometry

    @property
    def all(self) -> tuple[SlotArea, ...]:
        """The slots of all images, in order."""
        return tuple(area for image in range(self.images) for area in self.of(image))

    def of(self, image: int) -> tuple[SlotArea, ...]:
        """An image's slots, in order."""
        found = (self.trailers.slots.find(image, slot) for slot in (0, 1))
        return tuple(area for area in found if area is not None)

    @property
    def running(self) -> SlotArea:
        """The slot that the application runs from."""
        return self.of(0)[0]

    def image_start(self, area: SlotArea) -> int:
        """Offset of the image in its slot (boot_get_image_start_offset)."""
        return self.trailers.image_start(area)

    def identify(self, area: SlotArea) -> ImageIdentity | None:
        """Version and hash of a slot's image; None without one, or without a hash (img_mgmt_read_info fails)."""
        found = identify(self.memory, area, self.image_start(area))
        return found if found is not None and found.hash else None

    def header(self, area: SlotArea) -> ImageHeader:
        """A slot's image header."""
        return ImageHeader.unpack(self.memory.read(area.address + self.image_start(area), HEADER_SIZE))

    def next_boot(self, image: int) -> NextBoot:
        """What the bootloader is to do with an image."""
        return _NEXT[self.trailers.swap_type(image)]

    def in_use(self, area: SlotArea) -> bool:
        """Whether a slot must not be overwritten: it runs, is to run, or is what the bootloader would go back to."""
        boot = self.next_boot(area.image)
        if area.slot == 0 or boot.slot == 0:
            return area.slot == 0
        return boot.kind == "revert" or not self.erases_pending

    def free_for(self, image: int) -> SlotArea | None:
        """Where an upload of `image` goes, None if that is in use. With one image its number does not matter."""
        areas = self.of(image if self.images > 1 else 0)
        return areas[1] if len(areas) > 1 and not self.in_use(areas[1]) else None

    def set_next_boot(self, area: SlotArea, *, confirm: bool) -> Generator[Effect, None, None]:
        """Let a slot boot next, for good with `confirm`; of the running slot, that it may stay."""
        if self._is_settled(area, confirm=confirm):
            return
        if area.slot == 0:
            rc = yield from self.trailers.set_confirmed(area.image)
        else:
            rc = yield from self.trailers.set_pending(area.image, permanent=confirm)
        if rc != 0:
            raise refuse(_BOOT_ERRORS[BootError(rc)])

    def _is_settled(self, area: SlotArea, *, confirm: bool) -> bool:
        """Whether nothing is left to do; raises what forbids it (img_mgmt_set_next_boot_slot)."""
        boot = self.next_boot(area.image)
        is_next = area.slot == boot.slot
        if confirm and area.image != self.running.image and area.slot == 0:
            raise refuse(ImageError.IMAGE_CONFIRMATION_DENIED)
        if not confirm and area.slot == 0:
            raise refuse(ImageError.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED)
        if boot.kind == "test":
            if is_next and not confirm:
                return True
            raise refuse(ImageError.IMAGE_ALREADY_PENDING)
        if is_next and confirm:
            return True
        forbidden = boot.kind == "revert" and not confirm
        if boot.kind == "normal":  # once another slot was chosen for good, that cannot be changed
            forbidden = boot.slot != 0
        if forbidden:
            raise refuse(ImageError.IMAGE_ALREADY_PENDING)
        return False
