"""Where a bootloader's slots lie in flash, and what its flash is like."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nrfdfu.sim.firmware import Memory

__all__ = ["NRF5340_BOOT", "NRF5340_SLOTS", "Geometry", "SlotArea", "Slots"]


@dataclass(frozen=True, slots=True)
class SlotArea:
    """One slot: `image` and `slot` as MCUboot counts them, `address` and `size` in bytes."""

    name: str
    image: int
    slot: int
    address: int
    size: int


NRF5340_BOOT = (0x0, 0x10000)
"""Address and size of the bootloader's partition."""

NRF5340_SLOTS = (
    SlotArea("slot0", image=0, slot=0, address=0x10000, size=0x70000),
    SlotArea("slot1", image=0, slot=1, address=0x80000, size=0x70000),
)
"""Zephyr, dts/vendor/nordic/nrf5340_cpuapp_partition.dtsi: two slots of 448 KiB behind 64 KiB for the bootloader."""


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
