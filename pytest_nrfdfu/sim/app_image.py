"""The image group of the simulated application's SMP server: list, upload, erase, test and confirm. Sans-IO.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt.c (erase, slot info, answers) and img_mgmt_state.c (the
list and its flags, state write). `ImageOptions` are the build options that matter; all others are as Kconfig has them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pytest_nrfdfu.image.format import ImageFlag
from pytest_nrfdfu.sim.app_flash import erase_slot, is_erased
from pytest_nrfdfu.sim.app_image_errors import ImageError, refuse
from pytest_nrfdfu.sim.app_reply import Command, Refused, decode_request, write_pair
from pytest_nrfdfu.sim.app_slots import ApplicationSlots, NextBoot
from pytest_nrfdfu.sim.app_upload import ImageOptions, UploadRequest, UploadSession
from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.zcbor import Reader, Writer
from pytest_nrfdfu.smp.header import ImageCommand

__all__ = ["ImageGroup"]

_HASH_SIZE = 32
"""IMAGE_HASH_LEN."""
_FLAGS = (b"bootable", b"pending", b"confirmed", b"active", b"permanent")
_OTHER_FLAGS = {
    NextBoot(1, "normal"): {b"pending", b"permanent"},
    NextBoot(1, "test"): {b"pending"},
    NextBoot(1, "revert"): {b"confirmed"},
}
"""Flags of the secondary slot."""
_UPLOAD_KEYS = {
    b"image": Reader.uint32,
    b"data": Reader.byte_string,
    b"len": Reader.uint32,
    b"off": Reader.uint32,
    b"sha": Reader.byte_string,
    b"upgrade": Reader.boolean,
}


class ImageGroup:
    """The handlers. Responses are written to `writer`, a map that is open."""

    def __init__(self, slots: ApplicationSlots, writer: Writer, options: ImageOptions) -> None:
        self._slots = slots
        self._writer = writer
        self._uploads = UploadSession(slots, options)
        self._has_slot_info = options.slot_info or slots.images > 1
        self._frugal = options.frugal

    @property
    def commands(self) -> dict[int, Command]:
        """The handlers by command number."""
        return {
            ImageCommand.STATE: Command(self._list, self._write_state),
            ImageCommand.UPLOAD: Command(write=self._upload),
            ImageCommand.ERASE: Command(write=self._erase),
            ImageCommand.SLOT_INFO: Command(read=self._slot_info if self._has_slot_info else None),
        }

    def _list(self, _payload: bytes) -> None:
        writer = self._writer
        fits = writer.text(b"images") and writer.list_start()
        fits = fits and all(self._list_image(image) for image in range(self._slots.images))
        fits = fits and writer.end()
        if not (fits and (self._frugal or write_pair(writer, b"splitStatus", 0))):
            raise Refused(Rc.MESSAGE_SIZE)

    def _list_image(self, image: int) -> bool:
        """Both slots of an image, with the primary one active: none runs from the other where images are swapped."""
        boot = self._slots.next_boot(image)
        first = {b"active"} if boot.kind == "revert" else {b"active", b"confirmed"}
        flags = (first, _OTHER_FLAGS.get(boot, set()))
        return all(self._list_slot(area, flags[area.slot]) for area in self._slots.of(image))

    def _list_slot(self, area: SlotArea, flags: set[bytes]) -> bool:
        """One slot. One without an image, or whose image has no hash, is left out; nothing is validated."""
        writer, found = self._writer, self._slots.identify(area)
        if found is None:
            return True
        if ImageFlag.NON_BOOTABLE not in self._slots.header(area).flags:
            flags = flags | {b"bootable"}
        fits = writer.map_start()
        if self._slots.images > 1:
            fits = fits and write_pair(writer, b"image", area.image)
        fits = fits and write_pair(writer, b"slot", area.slot)
        fits = fits and writer.text(b"version") and writer.text(str(found.version).encode())
        fits = fits and writer.text(b"hash") and writer.byte_string(found.hash)
        told = [name for name in _FLAGS if name in flags or not self._frugal]
        fits = fits and all(writer.text(name) and writer.boolean(name in flags) for name in told)
        return fits and writer.end()

    def _slot_info(self, _payload: bytes) -> None:
        writer = self._writer
        fits = writer.text(b"images") and writer.list_start()
        for image in range(self._slots.images):
            fits = fits and writer.map_start() and write_pair(writer, b"image", image)
            fits = fits and writer.text(b"slots") and writer.list_start()
            fits = fits and all(self._describe(area) for area in self._slots.of(image))
            fits = fits and writer.end() and writer.end()
        if not (fits and writer.end()):
            raise Refused(Rc.MESSAGE_SIZE)

    def _describe(self, area: SlotArea) -> bool:
        writer = self._writer
        fits = writer.map_start() and write_pair(writer, b"slot", area.slot) and write_pair(writer, b"size", area.size)
        if area.slot != 0:
            fits = fits and write_pair(writer, b"upload_image_id", area.image)
        return fits and writer.end()

    def _write_state(self, payload: bytes) -> Generator[Effect, None, None]:
        found: dict[bytes, Any] = decode_request(payload, {b"hash": Reader.byte_string, b"confirm": Reader.boolean})
        digest, confirm = found.get(b"hash", b""), found.get(b"confirm", False)
        area = self._slots.running if confirm and not digest else self._named(digest)
        yield from self._slots.set_next_boot(area, confirm=confirm)
        self._list(payload)

    def _named(self, digest: bytes) -> SlotArea:
        """The first slot whose image has this hash."""
        if len(digest) != _HASH_SIZE:
            raise refuse(ImageError.INVALID_HASH)
        for area in self._slots.all:
            found = self._slots.identify(area)
            if found is not None and found.hash == digest:
                return area
        raise refuse(ImageError.HASH_NOT_FOUND)

    def _erase(self, payload: bytes) -> Generator[Effect, None, None]:
        """All of a slot, slot 1 if none is named. What is no image is erased whatever the trailers say."""
        number = decode_request(payload, {b"slot": Reader.uint32}).get(b"slot", 1)
        area = next((area for area in self._slots.all if 2 * area.image + area.slot == number), None)
        if area is not None and self._slots.identify(area) is not None and self._slots.in_use(area):
            raise refuse(ImageError.NO_FREE_SLOT)
        self._uploads.reset()
        if area is None:
            raise refuse(ImageError.FLASH_OPEN_FAILED)  # not INVALID_SLOT: the number -1 is kept in a byte
        if not area.virtual and not is_erased(self._slots.memory, area):
            yield from erase_slot(area, self._slots.geometry)

    def _upload(self, payload: bytes) -> Generator[Effect, None, None]:
        found: dict[bytes, Any] = decode_request(payload, _UPLOAD_KEYS)
        request = UploadRequest(
            off=found.get(b"off"),
            size=found.get(b"len"),
            image=found.get(b"image", 0),
            data=found.get(b"data", b""),
            digest=found.get(b"sha", b""),
            upgrade=found.get(b"upgrade", False),
        )
        progress = yield from self._uploads.take(request)
        fits = write_pair(self._writer, b"off", progress.off)
        if progress.match is not None:
            fits = fits and self._writer.text(b"match") and self._writer.boolean(progress.match)
        if not fits:
            raise Refused(Rc.MESSAGE_SIZE)
