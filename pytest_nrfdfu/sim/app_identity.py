"""What the image in a slot says about itself, as a running application reads it: nothing is checked."""

from __future__ import annotations

from typing import NamedTuple

from pytest_nrfdfu.image.format import (
    HASH_TLVS,
    HEADER_SIZE,
    MAGIC,
    PROTECTED_TLV_INFO_MAGIC,
    TLV_HEADER,
    TLV_INFO,
    TLV_INFO_MAGIC,
    ImageHeader,
    Version,
)
from pytest_nrfdfu.sim.firmware import Memory
from pytest_nrfdfu.sim.slots import SlotArea

__all__ = ["ImageIdentity", "identify"]


class ImageIdentity(NamedTuple):
    """What an image says about itself. `hash` is empty where it carries none."""

    version: Version
    hash: bytes


def _find_hash(memory: Memory, address: int, end: int) -> bytes:
    """The value of the hash TLV in the TLV areas from `address` on; nothing beyond `end` is read."""
    while address + TLV_INFO.size <= end:
        magic, size = TLV_INFO.unpack(memory.read(address, TLV_INFO.size))
        if magic not in {TLV_INFO_MAGIC, PROTECTED_TLV_INFO_MAGIC} or address + size > end:
            return b""
        at, address = address + TLV_INFO.size, address + max(size, TLV_INFO.size)
        while at + TLV_HEADER.size <= address:
            kind, length = TLV_HEADER.unpack(memory.read(at, TLV_HEADER.size))
            at += TLV_HEADER.size
            if kind in HASH_TLVS and at + length <= address:
                return memory.read(at, length)
            at += length
    return b""


def identify(memory: Memory, area: SlotArea, start: int = 0) -> ImageIdentity | None:
    """Version and hash of the image at offset `start` of `area`, unchecked; None where there is none."""
    address = area.address + start
    header = ImageHeader.unpack(memory.read(address, HEADER_SIZE))
    if header.magic != MAGIC:
        return None
    return ImageIdentity(header.version, _find_hash(memory, address + header.tlv_offset, area.address + area.size))
