"""Both slots of one image, and what swaps do to them: pages erased and copied, trailers cleared and begun.

Source: MCUboot, boot_copy_region in boot/bootutil/src/loader.c; swap_misc.c.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pytest_nrfdfu.image.format import ImageHeader
from pytest_nrfdfu.sim.boot_log import BootLog
from pytest_nrfdfu.sim.firmware import Effect, Erase, Write
from pytest_nrfdfu.sim.pcd import PcdHooks
from pytest_nrfdfu.sim.slots import SlotArea, Slots
from pytest_nrfdfu.sim.swap_status import FRESH, Progress
from pytest_nrfdfu.sim.trailer import FieldState, SwapType, Trailers
from pytest_nrfdfu.sim.validate import read_header

__all__ = ["BootPanic", "Headers", "SlotPair", "SwapJob", "SwapStatus"]

_COPY = 1024
"""BUF_SZ: how much is copied at once, in bytes."""


class BootPanic(Exception):
    """MCUboot stands still: an assertion of its own failed. The text says which."""


class Headers(NamedTuple):
    """The headers of the images that belong to the primary and the secondary slot, wherever they are at the moment."""

    primary: ImageHeader
    secondary: ImageHeader
    secondary_base: int = 0
    """Where in the secondary slot its image begins."""


class SwapStatus(NamedTuple):
    """What the trailers tell of a swap that was interrupted (struct boot_status)."""

    progress: Progress = FRESH
    swap_type: SwapType = SwapType.NONE
    from_primary: bool = False
    """The primary slot's trailer is begun already (BOOT_STATUS_SOURCE_PRIMARY_SLOT)."""


class SwapJob(NamedTuple):
    """A swap to do, or to go on with."""

    swap_type: SwapType
    size: int
    """How many bytes of either slot are swapped: the larger image with its TLVs."""
    headers: Headers
    tlv_sizes: tuple[int, int] = (0, 0)
    """Of both images' unprotected TLVs, in bytes; counts only at the beginning."""
    status: SwapStatus = SwapStatus()


@dataclass(frozen=True, slots=True)
class SlotPair:
    """The slots of image number `image`. Effects of the virtual slot, which is RAM, are done by `hooks` at once."""

    image: int
    primary: SlotArea
    secondary: SlotArea
    trailers: Trailers
    console: BootLog
    hooks: PcdHooks | None = None

    @property
    def slots(self) -> Slots:
        """All slots, with their contents."""
        return self.trailers.slots

    @property
    def page(self) -> int:
        """Bytes in a page."""
        return self.slots.geometry.page

    def header(self, area: SlotArea, base: int = 0) -> ImageHeader:
        """The header `base` bytes into a slot; the virtual slot's is made up (boot_read_image_header_hook)."""
        if self.hooks is not None and area.virtual:
            return self.hooks.header
        return read_header(self.slots, area, base)

    def swap_type(self) -> Generator[Effect, None, SwapType]:
        """boot_swap_type_multi, which logs whenever it is asked."""
        found = self.trailers.swap_type(self.image)
        names = {SwapType.TEST: "test", SwapType.PERMANENT: "perm", SwapType.REVERT: "revert"}
        yield from self.console.info(f"Image index: {self.image}, Swap type: {names.get(found, 'none')}")
        return found

    def room(self) -> int:
        """Pages of the primary slot below the one in which the trailer begins."""
        return self.trailers.status_page(self.primary) // self.page

    def pages_of(self, size: int) -> int:
        """How many pages hold `size` bytes; at least one."""
        return max(1, -(-size // self.page))

    def no_room(self, pages: int) -> Iterator[Effect]:
        """Say that the primary slot has not the `pages` pages that a swap would need."""
        yield from self.console.warning("Not enough free space to run swap upgrade")
        needed, free = pages * self.page, self.room() * self.page
        yield from self.console.warning(f"required {needed} bytes but only {free} are available")

    # Effects.

    def erase(self, area: SlotArea, page: int) -> Iterator[Effect]:
        """Erase page number `page` of a slot. A trailer full of nonsense may ask for one beyond its end."""
        if page >= area.size // self.page:
            raise BootPanic("an erase reaches beyond the end of a slot")
        address = area.address + page * self.page
        if self.hooks is not None and area.virtual:
            self.hooks.erase(address, self.page)
        else:
            yield Erase(address)

    def copy(self, source: tuple[SlotArea, int], to: tuple[SlotArea, int], size: int) -> Iterator[Effect]:
        """Copy `size` bytes (boot_copy_region); places are a slot and an offset in bytes. `to` is erased."""
        for done in range(0, size, _COPY):
            data = self.slots.read(source[0], source[1] + done, min(_COPY, size - done))
            if data is None:
                raise BootPanic("a copy reaches beyond the end of a slot")
            address = to[0].address + to[1] + done
            if self.hooks is not None and to[0].virtual:
                self.hooks.write(address, data)
            else:
                yield Write(address, data)

    def replace(self, source: tuple[SlotArea, int], to: tuple[SlotArea, int]) -> Iterator[Effect]:
        """Erase a page and copy another into it; both are a slot and a page's number."""
        yield from self.erase(*to)
        page = self.page
        yield from self.copy((source[0], source[1] * page), (to[0], to[1] * page), page)

    def erase_slot(self, area: SlotArea) -> Iterator[Effect]:
        """Erase all of a slot (boot_scramble_slot without MCUBOOT_STORAGE_MINIMAL_SCRAMBLE)."""
        for page in range(area.size // self.page):
            yield from self.erase(area, page)

    def erase_trailer(self, area: SlotArea) -> Iterator[Effect]:
        """Erase the pages that the trailer lies in, from the slot's end on (swap_scramble_trailer_sectors)."""
        for page in self.trailers.pages(area):
            yield from self.erase(area, page)

    def begin_trailer(self, area: SlotArea, job: SwapJob) -> Iterator[Effect]:
        """Write to an erased trailer what is needed to go on with the swap; the magic last (swap_status_init)."""
        trailers = self.trailers
        if job.swap_type is not SwapType.NONE:
            yield trailers.write_swap_info(area, job.swap_type)
        if trailers.read(self.secondary).image_ok is FieldState.SET:
            yield trailers.write_image_ok(area)
        yield trailers.write_swap_size(area, job.size)
        tlv_sizes = trailers.write_tlv_sizes(area, *job.tlv_sizes)
        if tlv_sizes is not None:
            yield tlv_sizes
        yield trailers.write_magic(area)

    def note(self, step: Progress) -> Iterator[Effect]:
        """Note in the primary slot's trailer that a step is done."""
        yield self.trailers.write_progress(self.primary, step)
