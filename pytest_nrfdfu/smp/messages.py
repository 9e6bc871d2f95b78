"""Typed requests and responses of the OS and image groups.

A request knows its place in the protocol (`op`, `group`, `command`), its CBOR map (`payload`) and how to read its
response (`read`). Unknown keys of a response are kept in `extra`.

Sources: Zephyr, doc/services/device_mgmt/smp_groups/smp_group_0.rst and smp_group_1.rst; for what MCUboot answers,
boot/boot_serial/src/boot_serial.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_nrfdfu.smp.codec import Map, Request, may_have, rest, want, want_list
from pytest_nrfdfu.smp.header import Group, ImageCommand, Op, OsCommand

__all__ = [
    "BootloaderInfo",
    "BootloaderInfoRequest",
    "Done",
    "Echo",
    "EchoRequest",
    "EraseRequest",
    "ImageSlots",
    "ImageState",
    "ImageStateRead",
    "ImageStateWrite",
    "ImageStates",
    "Params",
    "ParamsRequest",
    "ResetRequest",
    "SlotInfo",
    "SlotInfoRequest",
    "SlotInfos",
    "UploadAnswer",
    "UploadRequest",
]


class Done(NamedTuple):
    """A response that says nothing but that it was done."""

    extra: Map


# --- OS group -------------------------------------------------------------------------------------------------------


class Echo(NamedTuple):
    """Answer to an echo."""

    text: str
    extra: Map


@dataclass(frozen=True, slots=True)
class EchoRequest(Request[Echo]):
    """Ask for `text` back. Not built into MCUboot by default: never a test of whether it is there."""

    op = Op.WRITE
    command = OsCommand.ECHO
    text: str = ""

    def payload(self) -> Map:
        """``{"d": text}``."""
        return {"d": self.text}

    def read(self, payload: Map) -> Echo:
        """``{"r": text}``."""
        return Echo(want(payload, "r", str), rest(payload, ("r", "rc")))


@dataclass(frozen=True, slots=True)
class ResetRequest(Request[Done]):
    """Reboot. `boot_mode` 1 asks a Zephyr application (4.2 and newer) to come up in the bootloader's recovery."""

    op = Op.WRITE
    command = OsCommand.RESET
    boot_mode: int | None = None
    force: bool | None = None

    def payload(self) -> Map:
        """Only what is set."""
        items = {"boot_mode": self.boot_mode, "force": self.force}
        return {key: value for key, value in items.items() if value is not None}

    def read(self, payload: Map) -> Done:
        """``{"rc": 0}`` or an empty map."""
        return Done(rest(payload, ("rc",)))


class Params(NamedTuple):
    """MCUmgr parameters: bytes of a request buffer, and how many there are."""

    buf_size: int
    buf_count: int
    extra: Map


@dataclass(frozen=True, slots=True)
class ParamsRequest(Request[Params]):
    """Ask for the MCUmgr parameters. MCUboot in nRF Connect SDK answers rc 8."""

    command = OsCommand.PARAMS

    def read(self, payload: Map) -> Params:
        """``{"buf_size": n, "buf_count": n}``."""
        size, count = want(payload, "buf_size", int), want(payload, "buf_count", int)
        return Params(size, count, rest(payload, ("buf_size", "buf_count", "rc")))


class BootloaderInfo(NamedTuple):
    """What the application says about its bootloader; None where it was not asked or not told."""

    bootloader: str | None
    mode: int | None
    no_downgrade: bool
    extra: Map


@dataclass(frozen=True, slots=True)
class BootloaderInfoRequest(Request[BootloaderInfo]):
    """Ask the application for its bootloader's name, or with `query` "mode" for its mode."""

    command = OsCommand.BOOTLOADER_INFO
    query: str | None = None

    def payload(self) -> Map:
        """``{}`` or ``{"query": ...}``."""
        return {} if self.query is None else {"query": self.query}

    def read(self, payload: Map) -> BootloaderInfo:
        """``{"bootloader": name}`` or ``{"mode": n, "no-downgrade": true}``."""
        name, mode = may_have(payload, "bootloader", str), may_have(payload, "mode", int)
        known = ("bootloader", "mode", "no-downgrade", "rc")
        return BootloaderInfo(name, mode, want(payload, "no-downgrade", bool, default=False), rest(payload, known))


# --- image group ----------------------------------------------------------------------------------------------------


class ImageState(NamedTuple):
    """One slot of an image list. Flags are None where the server does not tell (MCUboot by default)."""

    slot: int
    version: str
    hash: bytes | None = None
    image: int = 0
    bootable: bool | None = None
    pending: bool | None = None
    confirmed: bool | None = None
    active: bool | None = None
    permanent: bool | None = None
    extra: Map = {}  # noqa: RUF012 - never written to


class ImageStates(NamedTuple):
    """An image list. `split_status` is there only in answers of a running application, and not in all of them."""

    images: tuple[ImageState, ...]
    split_status: int | None
    extra: Map
    flags_first: bool = False
    """Whether flags came before the slot's number, as MCUboot writes them; applications write them last."""

    @property
    def active(self) -> ImageState | None:
        """The application's image that runs, by the list of an application; None where no flag tells."""
        return next((state for state in self.images if state.image == 0 and state.active), None)

    def find(self, *, image: int = 0, slot: int = 0) -> ImageState | None:
        """The entry of one slot, or None: MCUboot leaves out slots without a valid image."""
        return next((state for state in self.images if (state.image, state.slot) == (image, slot)), None)


_FLAGS = ("bootable", "pending", "confirmed", "active", "permanent")


def _read_state(item: Map) -> ImageState:
    flags = {flag: want(item, flag, bool) for flag in _FLAGS if flag in item}
    return ImageState(
        slot=want(item, "slot", int),
        version=want(item, "version", str),
        hash=may_have(item, "hash", bytes),
        image=want(item, "image", int, 0),
        extra=rest(item, ("slot", "version", "hash", "image", *_FLAGS)),
        **flags,
    )


def _flags_first(item: Map) -> bool:
    """CBOR's maps have no order, but whoever writes them has, and decoding keeps it."""
    return next((key in _FLAGS for key in item if key == "slot" or key in _FLAGS), False)


def _read_states(payload: Map) -> ImageStates:
    items = want_list(payload, "images")
    images = tuple(_read_state(item) for item in items)
    split_status = may_have(payload, "splitStatus", int)
    extra = rest(payload, ("images", "splitStatus", "rc"))
    return ImageStates(images, split_status, extra, any(map(_flags_first, items)))


@dataclass(frozen=True, slots=True)
class ImageStateRead(Request[ImageStates]):
    """Ask for the image list: the one request that every server answers, and the only proof of an update."""

    group = Group.IMAGE
    command = ImageCommand.STATE

    def read(self, payload: Map) -> ImageStates:
        """``{"images": [...], "splitStatus": n}``."""
        return _read_states(payload)


@dataclass(frozen=True, slots=True)
class ImageStateWrite(Request[ImageStates]):
    """Mark an image for test (`confirm` False) or for good; without a hash, confirm the running one."""

    op = Op.WRITE
    group = Group.IMAGE
    command = ImageCommand.STATE
    hash: bytes | None = None
    confirm: bool = False

    def payload(self) -> Map:
        """``{"hash": bytes, "confirm": bool}``."""
        return {"confirm": self.confirm} | ({} if self.hash is None else {"hash": self.hash})

    def read(self, payload: Map) -> ImageStates:
        """The image list after the change."""
        return _read_states(payload)


class UploadAnswer(NamedTuple):
    """Answer to an upload chunk: the offset that the server wants next."""

    off: int
    match: bool | None
    extra: Map


@dataclass(frozen=True, slots=True)
class UploadRequest(Request[UploadAnswer]):
    """One chunk. `length`, `sha` and `upgrade` belong into the chunk with offset 0 alone.

    So does `image`, but MCUboot before v1.10.99-ncs1 wants it in all (see `Limits.repeat_image` in `upload`).
    """

    op = Op.WRITE
    group = Group.IMAGE
    command = ImageCommand.UPLOAD
    off: int = 0
    data: bytes = field(default=b"", repr=False)
    length: int | None = None
    image: int | None = None
    sha: bytes | None = None
    upgrade: bool | None = None

    def payload(self) -> Map:
        """Optional keys first, then ``off`` and ``data``."""
        first = {"image": self.image, "len": self.length, "sha": self.sha, "upgrade": self.upgrade}
        return {key: value for key, value in first.items() if value is not None} | {"off": self.off, "data": self.data}

    def read(self, payload: Map) -> UploadAnswer:
        """``{"off": n}``; an application may add ``match``: whether `sha` is that of what it received."""
        off, match = want(payload, "off", int), may_have(payload, "match", bool)
        return UploadAnswer(off, match, rest(payload, ("off", "match", "rc")))


@dataclass(frozen=True, slots=True)
class EraseRequest(Request[Done]):
    """Erase a slot (application only; 1 if not told)."""

    op = Op.WRITE
    group = Group.IMAGE
    command = ImageCommand.ERASE
    slot: int | None = None

    def payload(self) -> Map:
        """``{}`` or ``{"slot": n}``."""
        return {} if self.slot is None else {"slot": self.slot}

    def read(self, payload: Map) -> Done:
        """``{"rc": 0}`` or an empty map."""
        return Done(rest(payload, ("rc",)))


class SlotInfo(NamedTuple):
    """One slot: size in bytes, and the number that an upload to it must carry (None: it takes none)."""

    slot: int
    size: int | None
    upload_image_id: int | None
    extra: Map


class ImageSlots(NamedTuple):
    """The slots of one image."""

    image: int
    slots: tuple[SlotInfo, ...]
    max_image_size: int | None
    extra: Map


class SlotInfos(NamedTuple):
    """Answer to a slot info request."""

    images: tuple[ImageSlots, ...]
    extra: Map


def _read_slot(item: Map) -> SlotInfo:
    size, number = may_have(item, "size", int), may_have(item, "upload_image_id", int)
    return SlotInfo(want(item, "slot", int), size, number, rest(item, ("slot", "size", "upload_image_id")))


@dataclass(frozen=True, slots=True)
class SlotInfoRequest(Request[SlotInfos]):
    """Ask which slots there are."""

    group = Group.IMAGE
    command = ImageCommand.SLOT_INFO

    def read(self, payload: Map) -> SlotInfos:
        """``{"images": [{"image", "slots": [...], "max_image_size"}]}``."""
        images = []
        for item in want_list(payload, "images"):
            slots = tuple(_read_slot(slot) for slot in want_list(item, "slots"))
            largest = may_have(item, "max_image_size", int)
            extra = rest(item, ("image", "slots", "max_image_size"))
            images.append(ImageSlots(want(item, "image", int, 0), slots, largest, extra))
        return SlotInfos(tuple(images), rest(payload, ("images", "rc")))
