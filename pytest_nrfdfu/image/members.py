"""The images of a build: what each is called, where it came from, and in which order they are uploaded.

An image for the network core is told from one for the application core by its reset vector, as MCUboot does it (the
nRF Connect SDK's boot/bootutil/src/loader.c, CONFIG_MCUBOOT_VERIFY_IMG_ADDRESS). Where the body cannot be read,
because it is encrypted, the manifest decides, and after that the file's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import hexfile, mcuboot
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.image.parts import refuse
from pytest_nrfdfu.image.sniff import Kind, sniff

__all__ = [
    "APP",
    "MAX_FILE_SIZE",
    "NET",
    "Contents",
    "ImageOrigin",
    "Member",
    "check_address",
    "file_kind",
    "in_upload_order",
    "load_file",
    "named_for_network",
    "role",
]

APP, NET = "app", "net"

_NETWORK_CORE_FLASH = range(0x0100_0000, 0x0104_0000)
"""nRF5340 product specification, memory map of the network core."""
_NETWORK_INDEX = 1
"""The network core's image number where there is one (nRF Connect SDK, sysbuild/image_ids)."""
_NETWORK_NAMES = (
    "net_core_",
    "ipc_radio",
    "hci_ipc",
    "hci_rpmsg",
    "802154_rpmsg",
    "multiprotocol_rpmsg",
    "rpc_host",
    "empty_net_core",
)
"""What the nRF Connect SDK calls its images for the network core (sysbuild/Kconfig.netcore), and before sysbuild."""
MAX_FILE_SIZE = 16 << 20
"""Of a .bin, in bytes: twice the nRF5340 DK's external flash (MX25R64)."""
_HEAD = 64
"""So many bytes show what kind of file it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """Where an image came from, and what its surroundings say of it. None: not told."""

    file: str
    """A path, or a member's name in a zip."""
    address: int | None = None
    """Where its first byte lies, in the application core's address space; only a .hex says so."""
    image_index: int | None = None
    """MCUboot's image number, by the manifest."""
    slot_index_primary: int | None = None
    """The upload number under direct upload, by the manifest."""
    load_address: int | None = None
    """Where its code begins, by the manifest: behind the header, and behind TF-M where that comes first."""
    board: str | None = None
    soc: str | None = None
    version: str | None = None
    """MCUboot's version, by the manifest. For the network core there is none: b0n counts in another way."""


class Member(NamedTuple):
    """One image of a build."""

    name: str
    """``app``, ``net``, or a name of its own."""
    image: Image
    origin: ImageOrigin


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found at a path."""

    members: tuple[Member, ...]
    """In the order of upload."""
    notes: tuple[str, ...] = ()
    config: Mapping[str, str | int | bool] = field(default_factory=dict)
    directory: Path | None = None
    """The west build directory with the bootloader's files, where there is one."""


def file_kind(path: Path) -> Kind:
    """What the file at `path` begins like; EMPTY where it cannot be read, which the reader then explains."""
    try:
        if not path.is_file():
            return Kind.EMPTY
        with path.open("rb") as file:
            return sniff(file.read(_HEAD))
    except (OSError, ValueError):
        return Kind.EMPTY


def load_file(path: Path, *, require_bootable: bool = True) -> tuple[Image, ImageOrigin]:
    """The image in a signed .bin or .hex; ImageError if there is none."""
    source = str(path)
    if file_kind(path) is Kind.HEX:
        image, address = hexfile.load(path, require_bootable=require_bootable)
        return image, ImageOrigin(file=source, address=address)
    data = _content(path)
    if data is None:  # let it say why
        return mcuboot.load(path, require_bootable=require_bootable), ImageOrigin(file=source)
    return mcuboot.parse(data, source, require_bootable=require_bootable), ImageOrigin(file=source)


def _content(path: Path) -> bytes | None:
    """The whole file, if it is one that can be read; ImageError if it is too large for any slot."""
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size <= MAX_FILE_SIZE:
            return path.read_bytes()
    except (OSError, ValueError):
        return None
    raise refuse(
        str(path),
        f"it has {size} bytes, and {MAX_FILE_SIZE} are the most",
        "No slot of an nRF5340 holds that much: use zephyr.signed.bin from the build directory",
    )


def role(image: Image, origin: ImageOrigin) -> str | None:
    """``net`` for the network core's image, ``app`` for image 0 and where nothing is told, else None.

    ImageError where the manifest says one core and the image was linked for the other.
    """
    told = _told(origin)
    linked = image.reset_vector in _NETWORK_CORE_FLASH if image.reset_vector is not None else None
    if told is not None and linked is not None and told != linked:
        cores = {True: "network", False: "application"}
        raise ImageError(
            f"{image.source}: {_evidence(origin)}, the {cores[told]} core, and its reset vector 0x"
            f"{image.reset_vector:x} belongs to the {cores[linked]} core. Were files exchanged? Build again"
        )
    network = linked if linked is not None else told
    if network is None:
        network = named_for_network(origin.file) or origin.image_index == _NETWORK_INDEX
    if network:
        return NET
    return APP if not origin.image_index else None


def _told(origin: ImageOrigin) -> bool | None:
    """Whether the manifest says that the image is for the network core."""
    if origin.load_address is not None:
        return origin.load_address in _NETWORK_CORE_FLASH
    where = f"{origin.board} {origin.soc}"
    return "cpunet" in where if "cpu" in where else None


def _evidence(origin: ImageOrigin) -> str:
    if origin.load_address is not None:
        return f"the manifest says load_address 0x{origin.load_address:x}"
    return f"the manifest says board {origin.board!r}"


def named_for_network(file: str) -> bool:
    """Whether `file`, a path or only a name, is called as the nRF Connect SDK calls what is for the network core."""
    name = Path(file).name
    return name.removeprefix("signed_by_mcuboot_and_b0_").startswith(_NETWORK_NAMES) or "cpunet" in name.lower()


def in_upload_order(members: Iterable[Member]) -> tuple[Member, ...]:
    """The network core first, then the others by number, the application last.

    The application has to come after the network core, or the bootloader skips the latter (nRF Connect SDK, known issue
    NCSDK-34106); and it is what starts, so nothing should be missing once it is there.
    """
    return tuple(
        sorted(members, key=lambda m: ({NET: 0, APP: 2}.get(m.name, 1), m.origin.image_index or 0, m.origin.file))
    )


def check_address(origin: ImageOrigin, slot_address: int) -> None:
    """ImageError if the image came from a .hex that puts it elsewhere than at `slot_address`; a .bin has no address."""
    if origin.address is not None and origin.address != slot_address:
        raise ImageError(
            f"cannot use {origin.file} for the slot at 0x{slot_address:x}: it begins at 0x{origin.address:x}. "
            "It was made for another slot or board: look at the partitions of the build, and of the board's bootloader"
        )
