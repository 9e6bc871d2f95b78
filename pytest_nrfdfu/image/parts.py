"""Finds the parts of an image file: header, TLVs, padding and trailer.

What is accepted is what MCUboot accepts (boot/bootutil/src/tlv.c), except that nothing may reach beyond the area or the
file that holds it.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.format import (
    ALIGNED_TRAILER_MAGIC,
    ERASED,
    FLAG_SET,
    HEADER_SIZE,
    MAX_ALIGN,
    PROTECTED_TLV_INFO_MAGIC,
    TLV_HEADER,
    TLV_INFO,
    TLV_INFO_MAGIC,
    TRAILER_MAGIC,
    TRAILER_MAGIC_SIZE,
    ImageHeader,
    Tlv,
)

__all__ = ["Tlvs", "Trailer", "read_header", "read_tlvs", "read_trailer", "refuse"]

_SHOWN = 8


class Tlvs(NamedTuple):
    """What follows the body."""

    tlvs: tuple[Tlv, ...]
    hashed: int
    """Size of what the hash covers: header, body, protected TLVs."""
    end: int


class Trailer(NamedTuple):
    """What ends a padded file. `present`: the magic is there; `confirmed`: so is the flag image-ok."""

    present: bool
    confirmed: bool


def refuse(source: str, seen: str, advice: str) -> ImageError:
    """The error that says what was tried, what was seen, and what to do."""
    return ImageError(f"cannot use {source} as an MCUboot image: {seen}. {advice}")


def read_header(data: bytes, source: str) -> ImageHeader:
    """The header of a file that begins with an image's magic; ImageError if header and body do not fit the file."""
    if len(data) < HEADER_SIZE:
        raise refuse(
            source,
            f"it is cut off: {len(data)} bytes cannot hold the header's {HEADER_SIZE}",
            "Copy or build the file again",
        )
    header = ImageHeader.unpack(data)
    if header.hdr_size < HEADER_SIZE:
        raise refuse(
            source,
            f"its header says that it is {header.hdr_size} bytes long, and {HEADER_SIZE} is the least",
            "The file is damaged, or not made by imgtool: sign it again",
        )
    if header.tlv_offset > len(data):
        raise refuse(
            source,
            f"it is cut off: the header says {header.hdr_size} bytes of header and {header.img_size} of body, and the "
            f"file has {len(data)}",
            "Copy or build the file again",
        )
    return header


def read_tlvs(data: bytes, header: ImageHeader, source: str) -> Tlvs:
    """Both TLV areas, by the rules of bootutil_tlv_iter_begin; ImageError if they do not hold."""
    offset = header.tlv_offset
    magic, total = _read_tlv_info(data, offset, source)
    protected: list[Tlv] = []
    if header.protect_tlv_size or magic == PROTECTED_TLV_INFO_MAGIC:
        found = total if magic == PROTECTED_TLV_INFO_MAGIC else 0
        if found != header.protect_tlv_size:
            raise refuse(
                source,
                f"its header says {header.protect_tlv_size} bytes of protected TLVs, and behind the body are {found}",
                "The file is damaged, or was changed after signing: sign it again",
            )
        protected = _read_tlv_area(data, offset, total, protected=True, source=source)
        offset += total
        magic, total = _read_tlv_info(data, offset, source)
    if magic != TLV_INFO_MAGIC:
        raise refuse(
            source,
            f"behind the body, at 0x{offset:x}, is 0x{magic:04x} instead of the TLVs' magic 0x{TLV_INFO_MAGIC:x}",
            "The sizes in its header are wrong, or the file was changed after signing: sign it again",
        )
    tlvs = _read_tlv_area(data, offset, total, protected=False, source=source)
    return Tlvs((*protected, *tlvs), offset, offset + total)


def _read_tlv_info(data: bytes, offset: int, source: str) -> tuple[int, int]:
    if offset + TLV_INFO.size > len(data):
        raise refuse(
            source,
            f"it is cut off: TLVs with hash and signature should follow at offset 0x{offset:x}, and the file ends at "
            f"0x{len(data):x}",
            "Copy the file again, or sign it",
        )
    magic, total = TLV_INFO.unpack_from(data, offset)
    return magic, total


def _read_tlv_area(data: bytes, offset: int, total: int, *, protected: bool, source: str) -> list[Tlv]:
    """The TLVs of one area that begins with its info header at `offset` and has `total` bytes."""
    end = offset + total
    if total < TLV_INFO.size:
        raise refuse(
            source,
            f"the TLV area at offset 0x{offset:x} claims a size of {total} bytes, less than its own header",
            "The file is damaged: sign it again",
        )
    if end > len(data):
        raise refuse(
            source,
            f"it is cut off: the TLV area at offset 0x{offset:x} has {total} bytes, and the file ends after "
            f"{len(data) - offset} of them",
            "Copy or build the file again",
        )
    tlvs: list[Tlv] = []
    offset += TLV_INFO.size
    while offset < end:
        value = offset + TLV_HEADER.size
        kind, length = TLV_HEADER.unpack_from(data, offset) if value <= end else (0, 0)
        if value + length > end:
            raise refuse(
                source,
                f"the TLV at offset 0x{offset:x} reaches beyond its area, which ends at 0x{end:x}",
                "The file is damaged: sign it again",
            )
        tlvs.append(Tlv(kind, data[value : value + length], protected))
        offset = value + length
    return tlvs


def read_trailer(data: bytes, end: int, source: str) -> Trailer:
    """What is behind the image: nothing, erased flash, or erased flash that ends in a trailer."""
    rest = len(data) - end
    erased = data.count(ERASED, end)
    if erased == rest:
        return Trailer(present=False, confirmed=False)
    image_ok = _image_ok_offset(data)
    if image_ok is not None and image_ok >= end:
        confirmed = data[image_ok] == FLAG_SET
        magic = data[-TRAILER_MAGIC_SIZE:]
        if erased == rest - TRAILER_MAGIC_SIZE + magic.count(ERASED) - confirmed:
            return Trailer(present=True, confirmed=confirmed)
    at = len(data) - len(data[end:].lstrip(bytes([ERASED])))
    raise refuse(
        source,
        f"behind the image, which ends at 0x{end:x}, are {rest} bytes that are neither padding (0xff) nor a trailer: "
        f"{data[at : at + _SHOWN].hex(' ')} at 0x{at:x}",
        "Use the file as imgtool wrote it; a copy of the flash or a file with something appended cannot be uploaded",
    )


def _image_ok_offset(data: bytes) -> int | None:
    """Where the trailer at the end of `data` has its flag image-ok; None without a trailer's magic."""
    if data.endswith(TRAILER_MAGIC):
        align = MAX_ALIGN
    elif data.endswith(ALIGNED_TRAILER_MAGIC):
        align = int.from_bytes(data[-TRAILER_MAGIC_SIZE : -len(ALIGNED_TRAILER_MAGIC)], "little")
        if align <= MAX_ALIGN or align & (align - 1):
            return None
    else:
        return None
    return len(data) - max(align, TRAILER_MAGIC_SIZE) - align
