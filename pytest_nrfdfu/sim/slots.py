"""Where a bootloader's slots lie in flash, and what its flash is like."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nrfdfu.sim.firmware import Memory

__all__ = [
    "NRF5340_BOOT",
    "NRF5340_MULTI_IMAGE_SLOTS",
    "NRF5340_SLOTS",
    "NRF5340_VIRTUAL_SLOT",
    "Geometry",
    "SlotArea",
    "Slots",
    "nrf5340_slots",
]


@dataclass(frozen=True, slots=True)
class SlotArea:
    """One slot: `image` and `slot` as MCUboot counts them, `address` and `size` in bytes."""

    name: str
    image: int
    slot: int
    address: int
    size: int
    virtual: bool = False
    """It lies in RAM and stands for the network core's flash, which the application core cannot reach."""


NRF5340_BOOT = (0x0, 0x10000)
"""Address and size of the bootloader's partition."""

NRF5340_SLOTS = (
    SlotArea("slot0", image=0, slot=0, address=0x10000, size=0x70000),
    SlotArea("slot1", image=0, slot=1, address=0x80000, size=0x70000),
)
"""Zephyr, dts/vendor/nordic/nrf5340_cpuapp_partition.dtsi: two slots of 448 KiB behind 64 KiB for the bootloader."""

NRF5340_VIRTUAL_SLOT = SlotArea("slot2", image=1, slot=0, address=0x20040000, size=0x40000, virtual=True)
"""The network core's primary slot, as large as its flash: what Zephyr's flash simulator has in RAM for it (region
ram_flash of the Partition Manager). Where the linker puts it is not known; here it is the upper half of RAM."""

NRF5340_MULTI_IMAGE_SLOTS = (
    SlotArea("slot0", image=0, slot=0, address=0x10000, size=0x34000),
    SlotArea("slot1", image=0, slot=1, address=0x44000, size=0x34000),
    NRF5340_VIRTUAL_SLOT,
    SlotArea("slot3", image=1, slot=1, address=0x78000, size=0x40000),
)
"""Two images in internal flash alone: nRF Connect SDK, samples/dfu/dfu_multi_image for the nRF5340 DK. 208 KiB for
each of the application's slots, 256 KiB for the network core's secondary one."""


def nrf5340_slots(images: int, *, network_core: bool) -> tuple[SlotArea, ...]:
    """The slots of a bootloader for so many images. ValueError for numbers of images that are not simulated.

    With one image and the network core's hooks (CONFIG_NRF53_RECOVERY_NETWORK_CORE) the virtual slot is there as well,
    though only uploads reach it.
    """
    if images == 1:
        return (*NRF5340_SLOTS, NRF5340_VIRTUAL_SLOT) if network_core else NRF5340_SLOTS
    if images == 2 and network_core:
        return NRF5340_MULTI_IMAGE_SLOTS
    raise ValueError(
        f"a bootloader for {images} images{'' if network_core else ' without the network core'} is not simulated: there"
        " is 1 (the application), or 2 with the network core"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Flash as MCUboot is built for it. Sizes in bytes; the defaults are the nRF5340's."""

    page: int = 4096
    write_block: int = 4
    """A write whose offset or length is no multiple of this is refused."""
    max_align: int = 8
    """BOOT_MAX_ALIGN: the distance of the flags in an image trailer."""
    max_sectors: int = 256
    """CONFIG_BOOT_MAX_IMG_SECTORS: what the swap status in a trailer is dimensioned for."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a chip, with their contents."""

    memory: Memory
    areas: tuple[SlotArea, ...]
    geometry: Geometry = Geometry()

    def find(self, image: int, slot: int) -> SlotArea | None:
        """The area of slot `slot` of image `image`, or None."""
        return next((area for area in self.areas if (area.image, area.slot) == (image, slot)), None)

    def read(self, area: SlotArea, offset: int, size: int) -> bytes | None:
        """`size` bytes at `offset` of `area`; None if they do not lie in it (flash_area_read fails)."""
        if offset < 0 or offset + size > area.size:
            return None
        return self.memory.read(area.address + offset, size)

    def page_of(self, offset: int) -> int:
        """The offset of the page that holds `offset`."""
        return offset - offset % self.geometry.page
