"""The layout of an MCUboot image: numbers, names and fixed structures.

::

    header          32 bytes, then filled up to `ImageHeader.hdr_size`
    body            `ImageHeader.img_size` bytes, starting with the vector table
    protected TLVs  only if `ImageHeader.protect_tlv_size` is not 0; the hash covers them
    TLVs            hash, key, signature
    padding         only in a padded file: erased flash up to the slot's end, which holds
    trailer         the magic and the flags by which MCUboot decides on swaps

All fields are little-endian.

Source: MCUboot, docs/design.md (sections "Image format" and "Image trailer"), boot/bootutil/include/bootutil/image.h,
boot/bootutil/src/bootutil_public.c (trailer) and tlv.c, scripts/imgtool/image.py.
"""

from __future__ import annotations

import hashlib
import re
import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ALIGNED_TRAILER_MAGIC",
    "COMPRESSED_FLAGS",
    "DEFAULT_HEADER_SIZE",
    "ENCRYPTED_FLAGS",
    "ENCRYPTION_TLVS",
    "ERASED",
    "FLAG_SET",
    "HASHES",
    "HASH_TLVS",
    "HEADER_SIZE",
    "MAGIC",
    "MAX_ALIGN",
    "PROTECTED_TLV_INFO_MAGIC",
    "SIGNATURE_TLVS",
    "TLV_HEADER",
    "TLV_INFO",
    "TLV_INFO_MAGIC",
    "TRAILER_MAGIC",
    "TRAILER_MAGIC_SIZE",
    "ImageFlag",
    "ImageHeader",
    "Tlv",
    "TlvType",
    "Version",
]

MAGIC = 0x96F3B83D
"""First word of an image (IMAGE_MAGIC)."""
DEFAULT_HEADER_SIZE = 0x200
"""What Zephyr reserves for the header on Nordic chips (CONFIG_ROM_START_OFFSET), in bytes."""
TLV_INFO_MAGIC = 0x6907
PROTECTED_TLV_INFO_MAGIC = 0x6908
TLV_INFO = struct.Struct("<HH")
"""In front of each TLV area: magic, size of the area with these four bytes."""
TLV_HEADER = struct.Struct("<HH")
"""In front of each TLV: type, length of its value."""

ERASED = 0xFF
"""A byte of erased flash, on the nRF5340 as on all NOR flash."""
FLAG_SET = 0x01
"""A flag of the trailer that is set (BOOT_FLAG_SET)."""
MAX_ALIGN = 8
"""Distance of the trailer's flags in bytes (BOOT_MAX_ALIGN), unless the write block is larger."""
TRAILER_MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
"""The last 16 bytes of a slot that is marked for a swap, with flags 8 bytes apart."""
ALIGNED_TRAILER_MAGIC = bytes.fromhex("2de15d29410b8d77679c110f1f8a")
"""The last 14 of the magic's 16 bytes when flags are further apart; the first two then hold that distance."""
TRAILER_MAGIC_SIZE = len(TRAILER_MAGIC)

_HEADER = struct.Struct("<IIHHIIBBHI4x")
HEADER_SIZE = _HEADER.size
"""IMAGE_HEADER_SIZE: the 32 bytes that are defined; an image's header is usually longer."""


class ImageFlag(IntFlag):
    """Flags of the header (IMAGE_F_*). Bits without a name are kept."""

    PIC = 0x0001
    ENCRYPTED_AES128 = 0x0004
    ENCRYPTED_AES256 = 0x0008
    NON_BOOTABLE = 0x0010
    RAM_LOAD = 0x0020
    ROM_FIXED = 0x0100
    COMPRESSED_LZMA1 = 0x0200
    COMPRESSED_LZMA2 = 0x0400
    COMPRESSED_ARM_THUMB = 0x0800


ENCRYPTED_FLAGS = ImageFlag.ENCRYPTED_AES128 | ImageFlag.ENCRYPTED_AES256
COMPRESSED_FLAGS = ImageFlag.COMPRESSED_LZMA1 | ImageFlag.COMPRESSED_LZMA2 | ImageFlag.COMPRESSED_ARM_THUMB


class TlvType(IntEnum):
    """Types of TLVs (IMAGE_TLV_*). From 0xa0 on, in every 0x100, they belong to vendors and have no name here."""

    KEYHASH = 0x01
    PUBKEY = 0x02
    SHA256 = 0x10
    SHA384 = 0x11
    SHA512 = 0x12
    RSA2048_PSS = 0x20
    ECDSA224 = 0x21
    ECDSA_SIG = 0x22
    RSA3072_PSS = 0x23
    ED25519 = 0x24
    SIG_PURE = 0x25
    ENC_RSA2048 = 0x30
    ENC_KW = 0x31
    ENC_EC256 = 0x32
    ENC_X25519 = 0x33
    ENC_X25519_SHA512 = 0x34
    DEPENDENCY = 0x40
    SEC_CNT = 0x50
    BOOT_RECORD = 0x60
    DECOMP_SIZE = 0x70
    DECOMP_SHA = 0x71
    DECOMP_SIGNATURE = 0x72
    COMP_DEC_SIZE = 0x73
    UUID_VID = 0x74
    UUID_CID = 0x75


HASHES: dict[TlvType, Callable[[], hashlib._Hash]] = {
    TlvType.SHA256: hashlib.sha256,
    TlvType.SHA384: hashlib.sha384,
    TlvType.SHA512: hashlib.sha512,
}
HASH_TLVS = frozenset(HASHES)
"""TLVs whose value is the digest of header, body and protected TLVs."""
SIGNATURE_TLVS = frozenset(
    {TlvType.RSA2048_PSS, TlvType.ECDSA224, TlvType.ECDSA_SIG, TlvType.RSA3072_PSS, TlvType.ED25519}
)
ENCRYPTION_TLVS = frozenset(
    {TlvType.ENC_RSA2048, TlvType.ENC_KW, TlvType.ENC_EC256, TlvType.ENC_X25519, TlvType.ENC_X25519_SHA512}
)


class Version(NamedTuple):
    """A version as images carry it.

    As text it is what MCUboot's image list says: "1.2.3", and "1.2.3.4" when the build number is not 0
    (bs_list_img_ver in boot_serial.c; older ones always write the build number). MCUboot itself leaves the build
    number out when it compares versions, unless built with MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER.
    """

    major: int = 0
    minor: int = 0
    revision: int = 0
    build_num: int = 0

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.revision}"
        return f"{text}.{self.build_num}" if self.build_num else text

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read "1", "1.2", "1.2.3", and a build number as imgtool ("1.2.3+4") or the image list ("1.2.3.4") writes it.

        ValueError for anything else, and for numbers that do not fit the header.
        """
        match = re.fullmatch(r"([0-9]+)(?:\.([0-9]+)(?:\.([0-9]+)(?:\.([0-9]+))?)?)?(?:\+([0-9]+))?", text)
        if match is None or (match[4] and match[5]):
            raise ValueError(f"{text!r} is not a version; expected something like 1.2.3 or 1.2.3+4")
        # Ten digits hold the largest number that fits; more could not be converted in bounded time.
        numbers = [int(part[-10:]) if len(part.lstrip("0")) <= 10 else 1 << 32 for part in match.groups("0")]
        version = cls(numbers[0], numbers[1], numbers[2], numbers[3] or numbers[4])
        if version.major > 0xFF or version.minor > 0xFF or version.revision > 0xFFFF or version.build_num > 0xFFFFFFFF:
            raise ValueError(f"version {text!r} does not fit an image header; the largest is 255.255.65535+4294967295")
        return version


class Tlv(NamedTuple):
    """One TLV. `type` is a `TlvType` where it has a name, else the number."""

    type: int
    value: bytes
    protected: bool = False

    @property
    def name(self) -> str:
        """The type's name, or its number in hexadecimal."""
        try:
            return TlvType(self.type).name
        except ValueError:
            return f"0x{self.type:04x}"


class ImageHeader(NamedTuple):
    """The 32 defined bytes in front of an image. Sizes in bytes."""

    magic: int = MAGIC
    load_addr: int = 0
    """Meaningful with RAM_LOAD and ROM_FIXED only."""
    hdr_size: int = DEFAULT_HEADER_SIZE
    """From the image's first byte to its body."""
    protect_tlv_size: int = 0
    """The protected TLV area with its info header, or 0."""
    img_size: int = 0
    """The body alone."""
    flags: ImageFlag = ImageFlag(0)
    version: Version = Version()

    @classmethod
    def unpack(cls, data: bytes) -> ImageHeader:
        """Read the first 32 bytes of `data`, whatever they mean; ValueError if there are fewer."""
        if len(data) < HEADER_SIZE:
            raise ValueError(f"an image header has {HEADER_SIZE} bytes, here are {len(data)}")
        magic, load_addr, hdr_size, protect_tlv_size, img_size, flags, *version = _HEADER.unpack_from(data)
        return cls(magic, load_addr, hdr_size, protect_tlv_size, img_size, ImageFlag(flags), Version(*version))

    def pack(self) -> bytes:
        """The 32 bytes; ValueError where a field does not fit."""
        try:
            return _HEADER.pack(*self[:6], *self.version)
        except struct.error as error:
            raise ValueError(f"{self!r} does not fit an image header: {error}") from None

    @property
    def tlv_offset(self) -> int:
        """Where the TLVs begin: the end of the body."""
        return self.hdr_size + self.img_size
