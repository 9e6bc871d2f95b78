"""Reads a signed MCUboot image and checks it before any hardware is touched.

Everything here asks: would MCUboot take this file, and would the chip run it? MCUboot itself answers rc 0 to the upload
of a corrupted or wrong file, so what can be known beforehand is said beforehand. Signatures are not verified, because
only the bootloader holds the key that counts.

Source: MCUboot, docs/design.md ("Image format", "Image trailer"), boot/bootutil/src/tlv.c and image_validate.c (what is
accepted), boot/bootutil/src/bootutil_misc.c and swap_move.c (what fits), scripts/imgtool/image.py (what is made).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import (
    COMPRESSED_FLAGS,
    ENCRYPTED_FLAGS,
    ENCRYPTION_TLVS,
    HASH_TLVS,
    HASHES,
    HEADER_SIZE,
    MAGIC,
    MAX_ALIGN,
    PROTECTED_TLV_INFO_MAGIC,
    SIGNATURE_TLVS,
    TLV_INFO_MAGIC,
    TRAILER_MAGIC,
    TRAILER_MAGIC_SIZE,
    ImageFlag,
    ImageHeader,
    Tlv,
    TlvType,
    Version,
)
from pytest_nrfdfu.image.parts import Tlvs, read_header, read_tlvs, read_trailer, refuse
from pytest_nrfdfu.image.sniff import VECTORS, Kind, explain, sniff, vector_table

__all__ = [
    "HASH_TLVS",
    "HEADER_SIZE",
    "MAGIC",
    "MAX_FILE_SIZE",
    "PROTECTED_TLV_INFO_MAGIC",
    "TLV_INFO_MAGIC",
    "TRAILER_MAGIC",
    "Image",
    "ImageFlag",
    "ImageHeader",
    "Tlv",
    "TlvType",
    "Version",
    "check_link_address",
    "check_slot",
    "largest_image",
    "load",
    "parse",
]

MAX_FILE_SIZE = 64 << 20
"""A larger file is not read, in bytes: no slot of an nRF5340, external flash included, comes near."""
PAGE_SIZE = 0x1000
"""Erase unit of the nRF5340's application flash and of its usual external flash, in bytes (product specification)."""
_WRITE_BLOCK = 4
"""Write unit of the nRF5340's flash, in bytes (product specification, NVMC)."""
_STATES_PER_SECTOR = 3
"""BOOT_STATUS_STATE_COUNT: swap progress takes so many write blocks a sector."""
_VECTOR_TABLE_ALIGNMENT = 0x80
"""The vector table register of the Cortex-M33 has no lower bits (Armv8-M Architecture Reference Manual, VTOR)."""
_NETWORK_CORE_FLASH = range(0x0100_0000, 0x0104_0000)
"""nRF5340 product specification, memory map of the network core."""
_FLASHES = (range(0x10_0000), _NETWORK_CORE_FLASH, range(0x1000_0000, 0x1800_0000))
"""Where code may stand: both cores' flash, and the external one (nRF5340 product specification, memory maps; QSPI XIP).
"""
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A signed image that passed all checks of `parse`. Sizes and offsets in bytes."""

    source: str
    """What messages call it: the file's path."""
    data: bytes = field(repr=False)
    """The whole file, padding and trailer included."""
    header: ImageHeader
    end: int
    """Size of header, body and TLVs: where padding begins."""
    hash: bytes
    """The value of the hash TLV. It is what the board's image list shows, and the only proof of an update."""
    hash_type: TlvType
    hash_checked: bool
    """Recomputed and right. False for an encrypted image: its hash is that of the plaintext."""
    tlvs: tuple[Tlv, ...] = field(repr=False)
    """All of them in their order, protected ones first."""
    signature: TlvType | None
    """The type of the first signature, None for an image that only carries a hash."""
    trailer: bool
    """The file ends with a trailer's magic: in a secondary slot it would be swapped in."""
    confirmed: bool
    """The trailer's image-ok flag is set as well."""
    initial_stack_pointer: int | None
    """First word of the body. None where the body cannot be read: encrypted, compressed, or under 8 bytes."""
    reset_vector: int | None
    """Second word of the body, bit 0 (Thumb) as found; None as above."""

    @property
    def version(self) -> Version:
        """The version in the header, which the board's image list shows."""
        return self.header.version

    @property
    def flags(self) -> ImageFlag:
        """The header's flags."""
        return self.header.flags

    @property
    def size(self) -> int:
        """Size of the file."""
        return len(self.data)

    @property
    def padded(self) -> bool:
        """The file goes on behind the image: erased bytes, and perhaps a trailer."""
        return self.end < len(self.data)

    @property
    def encrypted(self) -> bool:
        """The flags say that the body is encrypted."""
        return bool(self.flags & ENCRYPTED_FLAGS)

    @property
    def bootable(self) -> bool:
        """MCUboot may start it (the flag NON_BOOTABLE is not set)."""
        return not self.flags & ImageFlag.NON_BOOTABLE

    @property
    def payload(self) -> bytes:
        """What needs to be uploaded to a primary slot: without padding, unless a confirmed trailer ends it.

        An image that MCUboot finds in the primary slot runs with or without a trailer, and the upload erases the old
        one, so padding would only cost time: 40 s for 448 KiB at 115200 baud. The flag image-ok however is something
        the application can read. In a secondary slot any trailer has a meaning; upload `data` there.
        """
        return self.data if self.confirmed else self.data[: self.end]


def load(path: Path, *, require_bootable: bool = True) -> Image:
    """Read and `parse` the file at `path`; ImageError also where it cannot be read."""
    source = str(path)
    try:
        if not path.exists():
            raise refuse(source, "there is no such file", "Build first, or correct the path")
        if not path.is_file():
            what = "a directory" if path.is_dir() else "not a regular file"
            raise refuse(source, f"it is {what}", "Name the signed image itself, usually zephyr.signed.bin")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise refuse(source, f"it cannot be read ({error})", "Look at the path and its permissions") from error
    if len(data) > MAX_FILE_SIZE:
        raise refuse(
            source, f"it has more than {MAX_FILE_SIZE} bytes", "Use zephyr.signed.bin from the build directory"
        )
    return parse(data, source, require_bootable=require_bootable)


def parse(data: bytes, source: str = "image", *, require_bootable: bool = True) -> Image:
    """Read the whole content of a file, check it, and return what it is. Raises nothing but ImageError.

    With `require_bootable` an image whose flags say that MCUboot must not start it is refused; some images are meant
    to be so, because they only hold data for another one.
    """
    if sniff(data) is not Kind.IMAGE:
        raise ImageError(f"cannot use {source} as an MCUboot image: {explain(data)}")
    header = read_header(data, source)
    tlvs = read_tlvs(data, header, source)
    hash_tlv = _hash_tlv(tlvs, source)
    _check_encryption(header, tlvs, source)
    hash_checked = _check_hashes(data, header, tlvs, source)
    if require_bootable and header.flags & ImageFlag.NON_BOOTABLE:
        raise refuse(
            source,
            f"its flags (0x{header.flags:x}) say that MCUboot must not start it",
            "Sign it without --non-bootable, or use the image that belongs to the application",
        )
    trailer = read_trailer(data, tlvs.end, source)
    readable = not header.flags & (ENCRYPTED_FLAGS | COMPRESSED_FLAGS) and header.img_size >= VECTORS.size
    vectors = vector_table(data, header.hdr_size) if readable else None
    return Image(
        source=source,
        data=data,
        header=header,
        end=tlvs.end,
        hash=hash_tlv.value,
        hash_type=TlvType(hash_tlv.type),
        hash_checked=hash_checked,
        tlvs=tlvs.tlvs,
        signature=next((TlvType(tlv.type) for tlv in tlvs.tlvs if tlv.type in SIGNATURE_TLVS), None),
        trailer=trailer.present,
        confirmed=trailer.confirmed,
        initial_stack_pointer=vectors[0] if vectors else None,
        reset_vector=vectors[1] if vectors else None,
    )


def _hash_tlv(tlvs: Tlvs, source: str) -> Tlv:
    """The TLV that the image list shows."""
    for tlv in tlvs.tlvs:
        if tlv.type in HASH_TLVS:
            return tlv
    names = ", ".join(tlv.name for tlv in tlvs.tlvs) or "none"
    raise refuse(
        source,
        f"it has no hash TLV (SHA256, SHA384 or SHA512); its TLVs: {names}",
        "Without one the board cannot show what it holds, so an update could not be proved: sign it with imgtool",
    )


def _check_encryption(header: ImageHeader, tlvs: Tlvs, source: str) -> None:
    # MCUboot looks for the key before it decrypts, and gives up without (boot_enc_load in encrypted.c).
    if header.flags & ENCRYPTED_FLAGS and not any(tlv.type in ENCRYPTION_TLVS for tlv in tlvs.tlvs):
        raise refuse(
            source,
            f"its flags (0x{header.flags:x}) say that it is encrypted, and no TLV holds the encrypted key",
            "The file is damaged, or was changed after signing: sign it again",
        )


def _check_hashes(data: bytes, header: ImageHeader, tlvs: Tlvs, source: str) -> bool:
    """Recompute what the hash TLVs say; False if that is not possible, because the body is encrypted."""
    for tlv in tlvs.tlvs:
        if tlv.type not in HASH_TLVS:
            continue
        digest = HASHES[TlvType(tlv.type)]()
        digest.update(memoryview(data)[: tlvs.hashed])
        if digest.digest() == tlv.value:
            continue
        if header.flags & ENCRYPTED_FLAGS:
            return False
        expected, got = _shortened(tlv.value, digest.digest())
        raise refuse(
            source,
            f"the {tlv.name} over header, body and protected TLVs is {got}, and its TLV says {expected}",
            "The file was changed after signing, or damaged by a copy: sign or copy it again",
        )
    return True


def _shortened(*digests: bytes) -> tuple[str, ...]:
    """Digests in hexadecimal, cut as long as they can still be told apart."""
    if len({digest[:_SHOWN] for digest in digests}) < len(digests):
        return tuple(digest.hex() or "empty" for digest in digests)
    return tuple(f"{digest[:_SHOWN].hex()}..." if digest else "empty" for digest in digests)


def largest_image(slot_size: int, swap: Swap = "move", page_size: int = PAGE_SIZE) -> int:
    """The largest image, in bytes with header and TLVs, that some MCUboot takes from a slot of `slot_size` bytes.

    The trailer's room is not the image's: bootutil_max_image_size in bootutil_misc.c, which image_validate.c asks.

    - overwrite: up to the trailer's swap info (magic and three flags).
    - scratch: up to the swap status, three write blocks for each sector.
    - move, offset: up to the page where that status begins. Newer versions keep one or two pages more
      (app_max_size in swap_move.c), so an image just below this limit may still be refused by the board.
    """
    if swap == "overwrite":
        return max(0, slot_size - TRAILER_MAGIC_SIZE - 3 * MAX_ALIGN)
    sectors = slot_size // page_size
    status = slot_size - TRAILER_MAGIC_SIZE - 4 * MAX_ALIGN - sectors * _STATES_PER_SECTOR * _WRITE_BLOCK
    return max(0, status if swap == "scratch" else status - status % page_size)


def check_slot(image: Image, slot_size: int, *, swap: Swap = "move", page_size: int = PAGE_SIZE) -> None:
    """ImageError if the image cannot fit a slot of `slot_size` bytes, or the file is longer than the slot.

    MCUboot refuses the upload in the second case (bs_upload in boot_serial.c); in the first it takes it, and then
    neither lists nor starts the image (see `largest_image`).
    """
    if image.size > slot_size:
        padding = f" ({image.size - image.end} of them padding)" if image.padded else ""
        advice = (
            "Sign it with the slot's size (imgtool --slot-size), and look at the build's and the board's partitions"
            if image.padded
            else f"It is {image.size - slot_size} bytes too large: make the application smaller, or the slot larger"
        )
        raise refuse(image.source, f"the file has {image.size} bytes{padding}, and the slot {slot_size}", advice)
    limit = largest_image(slot_size, swap, page_size)
    if image.end > limit:
        raise refuse(
            image.source,
            f"the image has {image.end} bytes, and of the slot's {slot_size} at most {limit} can be used: the rest is "
            f"for MCUboot's trailer (swap using {swap})",
            "Make the application smaller or the slot larger, and sign it with the slot's size (imgtool --slot-size)",
        )


def check_link_address(image: Image, slot_address: int, slot_size: int) -> str | None:
    """Was this built to run from the slot at `slot_address`? None if so, or if it cannot be told; else why not.

    MCUboot starts what the vector table behind the header says (do_boot in boot/zephyr/main.c) and never compares
    addresses, so an application that was linked elsewhere passes every check and then does not run.
    """
    if image.reset_vector is None or image.flags & ImageFlag.RAM_LOAD:
        return None
    seen = _misplaced(image, slot_address, slot_size)
    return f"{image.source} would not run from the slot at 0x{slot_address:x}: {seen}" if seen else None


def _misplaced(image: Image, slot_address: int, slot_size: int) -> str | None:
    header = image.header
    if image.flags & ImageFlag.ROM_FIXED and header.load_addr != slot_address:
        return f"it was signed for address 0x{header.load_addr:x} (imgtool --rom-fixed)"
    if header.hdr_size % _VECTOR_TABLE_ALIGNMENT:
        return (
            f"its header has 0x{header.hdr_size:x} bytes, so the vector table behind it is not aligned to "
            f"{_VECTOR_TABLE_ALIGNMENT}. Zephyr needs imgtool --header-size 0x200 (CONFIG_ROM_START_OFFSET)"
        )
    reset = image.reset_vector or 0
    start = slot_address + header.hdr_size
    body = range(start, start + header.img_size)
    if not reset & 1:
        return f"its reset vector 0x{reset:x} is even, so its body does not begin with a vector table"
    if reset & ~1 in body:
        return None
    cause = _cause(reset, header, range(slot_address, slot_address + slot_size))
    return f"its reset vector 0x{reset:x} lies outside its body, 0x{body.start:x} to 0x{body.stop:x}. {cause}"


def _cause(reset: int, header: ImageHeader, slot: range) -> str:
    """Why a reset vector may lie outside the body."""
    if reset in _NETWORK_CORE_FLASH and slot.start not in _NETWORK_CORE_FLASH:
        return "It lies in the network core's flash: this is an image for the other core"
    if not any(reset in flash for flash in _FLASHES):
        return "No flash is there, so its body is no firmware of an nRF5340: it does not begin with a vector table"
    if reset < header.img_size:
        return "It seems linked at 0: build it with CONFIG_BOOTLOADER_MCUBOOT=y"
    if reset in slot:
        return "Was it signed with another header size than it was built with (CONFIG_ROM_START_OFFSET)?"
    return "It was built for another slot: look at the build's partitions"
