"""Image upload of the simulated application's SMP server: one session, resumed by its digest. Sans-IO.

Whatever is refused ends the session, and so does the last chunk. So a last chunk that is sent again is answered with
offset 0, and only a first chunk with the digest of the whole image tells that everything is there.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt.c (img_mgmt_upload) and zephyr_img_mgmt.c
(img_mgmt_upload_inspect, img_mgmt_erase_image_data).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_nrfdfu.image.format import HEADER_SIZE, MAGIC, ImageHeader
from pytest_nrfdfu.sim.app_flash import SlotStream, erase_slot, holds, is_erased, trailer_page
from pytest_nrfdfu.sim.app_image_errors import ImageError, refuse
from pytest_nrfdfu.sim.app_reply import GroupRefused
from pytest_nrfdfu.sim.app_slots import ApplicationSlots
from pytest_nrfdfu.sim.firmware import Effect

__all__ = ["EraseWhen", "ImageOptions", "Progress", "UploadRequest", "UploadSession"]

EraseWhen = Literal["at-start", "progressive"]
"""When an upload erases its slot: with the first chunk as far as the image reaches (and the trailer), unless all of it
is erased; or page by page."""
_MAX_DIGEST = 32
"""IMG_MGMT_DATA_SHA_LEN."""
_MALFORMED = b"header malformed"


class ImageOptions(NamedTuple):
    """How the image group is built; the defaults are those of the sample smp_svr of Zephyr 4.4."""

    erase: EraseWhen = "at-start"
    """CONFIG_IMG_ERASE_PROGRESSIVELY, or not."""
    erases_pending: bool = True
    """A slot that is to boot next may be overwritten (CONFIG_MCUMGR_GRP_IMG_ALLOW_ERASE_PENDING)."""
    checks: bool = False
    """An upload's digest is compared with what is in flash, before and after (CONFIG_IMG_ENABLE_IMAGE_CHECK)."""
    slot_info: bool = True
    """CONFIG_MCUMGR_GRP_IMG_SLOT_INFO; by default only where there are two images."""
    frugal: bool = False
    """The image list leaves out flags that are false, and splitStatus (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST)."""


class UploadRequest(NamedTuple):
    """What a chunk says; None for what is not there."""

    off: int | None
    size: int | None
    image: int
    data: bytes
    digest: bytes
    upgrade: bool


class Progress(NamedTuple):
    """What a chunk is answered with."""

    off: int
    match: bool | None
    """Whether the slot's content has the digest; told with the last chunk only, and only where that is checked."""


@dataclass(slots=True)
class _Session:
    """g_img_mgmt_state."""

    stream: SlotStream
    start: int
    size: int
    digest: bytes
    off: int = 0


class UploadSession:
    """Takes chunks, one image at a time."""

    def __init__(self, slots: ApplicationSlots, options: ImageOptions) -> None:
        self._slots = slots
        self._progressive = options.erase == "progressive"
        self._checks = options.checks
        self._session: _Session | None = None

    def reset(self) -> None:
        """Forget the upload that is going on (img_mgmt_reset_upload)."""
        self._session = None

    def take(self, request: UploadRequest) -> Generator[Effect, None, Progress]:
        """Carry out one chunk."""
        try:
            return (yield from self._take(request))
        except GroupRefused:
            self.reset()
            raise

    def _take(self, request: UploadRequest) -> Generator[Effect, None, Progress]:
        if request.off is None:
            raise refuse(ImageError.INVALID_OFFSET, _MALFORMED)
        if request.off == 0:
            session = self._first(request)
            if session is self._session:
                return Progress(session.off, None)
            self._session = session
            if self._checks and len(session.digest) == _MAX_DIGEST and self._matches(session):
                self.reset()
                return Progress(session.size, match=True)
            yield from self._erase(session)
        else:
            current = self._session
            if current is None or request.off != current.off:
                return Progress(0 if current is None else current.off, None)
            if request.off + len(request.data) > current.size:
                raise refuse(ImageError.INVALID_IMAGE_DATA_OVERRUN, b"data overrun")
            session = current
        return (yield from self._write(session, request.data))

    def _first(self, request: UploadRequest) -> _Session:
        """The session that a first chunk begins, or the present one if that has the same digest."""
        if len(request.data) < HEADER_SIZE:
            raise refuse(ImageError.INVALID_IMAGE_HEADER, _MALFORMED)
        if request.size is None:
            raise refuse(ImageError.INVALID_LENGTH, _MALFORMED)
        header = ImageHeader.unpack(request.data)
        if header.magic != MAGIC:
            raise refuse(ImageError.INVALID_IMAGE_HEADER_MAGIC, b"magic mismatch")
        if len(request.digest) > _MAX_DIGEST:
            raise refuse(ImageError.INVALID_HASH)
        if request.digest and self._session is not None and self._session.digest == request.digest:
            return self._session
        area = self._slots.free_for(request.image)
        if area is None:
            raise refuse(ImageError.NO_FREE_SLOT, b"no slot")
        if request.size > area.size:
            raise refuse(ImageError.INVALID_IMAGE_TOO_LARGE, b"img too large")
        if request.upgrade:
            self._check_newer(header)
        start = self._slots.image_start(area)
        stream = SlotStream(area, self._slots.geometry, start=start, erases=self._progressive)
        return _Session(stream, start, request.size, request.digest)

    def _check_newer(self, header: ImageHeader) -> None:
        """The build number does not count (CONFIG_MCUMGR_GRP_IMG_VERSION_CMP_USE_BUILD_NUMBER is off)."""
        running = self._slots.identify(self._slots.running)
        if running is None:
            raise refuse(ImageError.VERSION_GET_FAILED)
        if tuple(running.version)[:-1] >= tuple(header.version)[:-1]:
            raise refuse(ImageError.CURRENT_VERSION_IS_NEWER, b"downgrade")

    def _erase(self, session: _Session) -> Generator[Effect, None, None]:
        """img_mgmt_erase_image_data: up to the page that the image ends in, and the trailer's."""
        area, geometry = session.stream.area, self._slots.geometry
        if self._progressive or is_erased(self._slots.memory, area):
            return
        end = min(session.start + session.size, area.size)
        yield from erase_slot(area, geometry, end=end)
        trailer = trailer_page(area, geometry)
        if end <= trailer:
            yield from erase_slot(area, geometry, trailer)

    def _write(self, session: _Session, data: bytes) -> Generator[Effect, None, Progress]:
        if not data:
            return Progress(session.off, None)
        if not session.stream.fits(len(data)):
            raise refuse(ImageError.FLASH_WRITE_FAILED, b"fa write fail")
        last = session.off + len(data) == session.size
        yield from session.stream.write(data, last=last)
        session.off += len(data)
        if not last:
            return Progress(session.off, None)
        self.reset()
        return Progress(session.off, self._matches(session) if self._checks else None)

    def _matches(self, session: _Session) -> bool:
        """A digest that the client has shortened never matches: Zephyr compares all 32 bytes."""
        digest = session.digest.ljust(_MAX_DIGEST, b"\0")
        return holds(self._slots.memory, session.stream.area, session.start, session.size, digest)
