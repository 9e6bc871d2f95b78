"""Overwrite-only: the secondary slot's image is copied over the primary one's, and there is no way back.

An interrupted copy begins anew at the next boot, since the secondary slot's trailer is the last thing to go. Source:
MCUboot, boot_copy_image in boot/bootutil/src/loader.c, with MCUBOOT_OVERWRITE_ONLY_FAST, which Zephyr's builds have;
compared with that code, compiled for a PC, cut off before every erase and write.
"""

from __future__ import annotations

from collections.abc import Generator

from pytest_nrfdfu.image.format import ImageHeader
from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.slot_pair import BootPanic, SlotPair
from pytest_nrfdfu.sim.validate import image_size

__all__ = ["overwrite"]


def overwrite(pair: SlotPair, header: ImageHeader) -> Generator[Effect, None, None]:
    """Copy the image in the secondary slot, whose header is `header`.

    The network core's image goes to the virtual slot, and from there by its bootloader to its flash.
    """
    found = image_size(pair.slots, pair.secondary, header)
    if found is None:
        raise BootPanic("the image in the secondary slot has no TLVs")
    yield from pair.console.info(f"Image {pair.image} upgrade secondary slot -> primary slot")
    yield from pair.console.info("Erasing the primary slot")
    pages = pair.primary.size // pair.page
    used = min(pages, pair.pages_of(found.whole))
    for page in range(used):
        yield from pair.erase(pair.primary, page)
    for page in reversed(pair.trailers.pages(pair.primary)):
        yield from pair.erase(pair.primary, page)
    block = pair.slots.geometry.write_block
    size = found.whole + block - found.whole % block if found.whole <= used * pair.page else pair.primary.size
    yield from pair.console.info(f"Image {pair.image} copying the secondary slot to the primary slot: 0x{size:x} bytes")
    yield from pair.copy((pair.secondary, 0), (pair.primary, 0), size)
    magic = pair.trailers.write_magic(pair.primary)
    if pair.hooks is not None and pair.primary.virtual:
        pair.hooks.write(magic.address, magic.data)
        error = yield from pair.hooks.copied()
        if error:
            raise BootPanic(f"the network core was not updated ({error})")
    else:
        yield magic
    yield from pair.erase(pair.secondary, 0)
    yield from pair.erase(pair.secondary, pair.secondary.size // pair.page - 1)
