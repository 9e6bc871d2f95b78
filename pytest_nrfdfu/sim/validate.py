"""How MCUboot decides whether the image in a slot is valid: its order of checks, and what it does not check.

Only what the hash and the signature cover counts. In recovery the header's sizes are not checked beforehand, flags
do not matter, and TLVs that are not known are passed over; before an image is started there are a few checks more
(`bootable`). Without a key only the SHA-256 TLV is checked (CONFIG_BOOT_SIGNATURE_TYPE_NONE).

Source: MCUboot, boot/bootutil/src/image_validate.c, bootutil_img_hash.c, tlv.c, bootutil_find_key.c, loader.c and
bootutil_loader.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pytest_nrfdfu.image.format import (
    ENCRYPTED_FLAGS,
    HASHES,
    HEADER_SIZE,
    MAGIC,
    PROTECTED_TLV_INFO_MAGIC,
    TLV_HEADER,
    TLV_INFO,
    TLV_INFO_MAGIC,
    ImageFlag,
    ImageHeader,
    TlvType,
)
from pytest_nrfdfu.image.keys import PublicKey
from pytest_nrfdfu.sim.slots import SlotArea, Slots

__all__ = ["ImageSize", "Validator", "image_hash", "image_size", "read_header"]

_WORD_RANGE = 1 << 32
_ERASED_WORD = 0xFFFFFFFF
_MAX_EC_SIGNATURE = 128
"""SIG_BUF_SIZE for ECDSA, whose signatures vary in length."""


def _digest(hash_tlv: TlvType, data: bytes) -> bytes:
    digest = HASHES[hash_tlv]()
    digest.update(data)
    return digest.digest()


class _Tlv(NamedTuple):
    """A TLV in flash; `offset` is that of its value."""

    type: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _TlvArea:
    """All TLVs of an image. Offsets from the slot's first byte; `end` as the TLVs themselves say."""

    first: int
    protected_end: int
    end: int
    has_protected: bool

    @classmethod
    def open(cls, slots: Slots, area: SlotArea, header: ImageHeader, base: int) -> _TlvArea | None:
        """What bootutil_tlv_iter_begin finds; None where it fails."""
        start = (header.tlv_offset + base) % _WORD_RANGE
        info = slots.read(area, start, TLV_INFO.size)
        if info is None:
            return None
        magic, total = TLV_INFO.unpack(info)
        if magic == PROTECTED_TLV_INFO_MAGIC:
            info = slots.read(area, start + total, TLV_INFO.size)
            if info is None or total != header.protect_tlv_size:
                return None
            magic, total = TLV_INFO.unpack(info)
        elif header.protect_tlv_size:
            return None
        if magic != TLV_INFO_MAGIC:
            return None
        protected_end = start + header.protect_tlv_size
        return cls(start + TLV_INFO.size, protected_end, protected_end + total, header.protect_tlv_size > 0)

    def tlvs(self, slots: Slots, area: SlotArea) -> Iterator[_Tlv | None]:
        """The TLVs in their order; None, as the last one, where the walk leaves the slot.

        Nothing checks that a TLV ends where the area does.
        """
        offset = self.first
        while offset < self.end:
            if self.has_protected and offset == self.protected_end:
                offset += TLV_INFO.size
            head = slots.read(area, offset, TLV_HEADER.size)
            if head is None:
                yield None
                return
            kind, length = TLV_HEADER.unpack(head)
            offset += TLV_HEADER.size
            yield _Tlv(kind, offset, length)
            offset += length


def read_header(slots: Slots, area: SlotArea, base: int = 0) -> ImageHeader:
    """The header at `base` bytes into the slot, whatever lies there."""
    data = slots.read(area, base, HEADER_SIZE)
    assert data is not None, f"{area} is smaller than an image header"
    return ImageHeader.unpack(data)


class ImageSize(NamedTuple):
    """How large an image is, in bytes: all of it, and its TLVs that are not protected."""

    whole: int
    unprotected_tlvs: int


def image_size(slots: Slots, area: SlotArea, header: ImageHeader, base: int = 0) -> ImageSize | None:
    """The size of an image with its TLVs (boot_read_image_size); None where they do not follow it."""
    tlv_area = _TlvArea.open(slots, area, header, base)
    if tlv_area is None:
        return None
    return ImageSize(tlv_area.end - base, tlv_area.end - tlv_area.protected_end)


def image_hash(slots: Slots, area: SlotArea, header: ImageHeader, base: int, hash_tlv: TlvType) -> bytes | None:
    """The digest that the image's first hash TLV holds (boot_serial_get_hash); None if there is none of its length."""
    tlv_area = _TlvArea.open(slots, area, header, base)
    if tlv_area is None:
        return None
    for tlv in tlv_area.tlvs(slots, area):
        if tlv is None:
            return None
        if tlv.type == hash_tlv:
            size = HASHES[hash_tlv]().digest_size
            return slots.read(area, tlv.offset, size) if tlv.length == size else None
    return None


@dataclass(frozen=True, slots=True)
class Validator:
    """Validates images. `key` is the bootloader's, or None; `max_size` is the largest image with its TLVs in bytes."""

    slots: Slots
    key: PublicKey | None
    max_size: Callable[[SlotArea], int]

    @property
    def hash_tlv(self) -> TlvType:
        """Which hash TLV an image must have."""
        return TlvType.SHA256 if self.key is None else self.key.hash_tlv

    @property
    def hash_size(self) -> int:
        """Length of that TLV's value, in bytes."""
        return HASHES[self.hash_tlv]().digest_size

    def valid(self, area: SlotArea, header: ImageHeader, base: int = 0) -> bool:
        """bootutil_img_validate, for an image that starts `base` bytes into the slot."""
        digest = self._digest(area, header, base)
        if digest is None:
            return False
        tlv_area = _TlvArea.open(self.slots, area, header, base)
        if tlv_area is None or tlv_area.end - base > self.max_size(area):
            return False
        return self._walk(area, tlv_area, digest)

    def bootable(self, area: SlotArea, header: ImageHeader | None = None, base: int = 0) -> bool:
        """Whether MCUboot would start the image `base` bytes into the slot (boot_validate_slot).

        `header` is what it takes for the image's header; without it, what is there.
        """
        header = read_header(self.slots, area, base) if header is None else header
        if header.magic != MAGIC or header.tlv_offset >= min(area.size, _ERASED_WORD):
            return False
        if header.flags & (ImageFlag.NON_BOOTABLE | ENCRYPTED_FLAGS):
            return False
        return self.valid(area, header, base)

    def _digest(self, area: SlotArea, header: ImageHeader, base: int) -> bytes | None:
        """The digest over header, body and protected TLVs; None if they do not lie in the slot."""
        data = self.slots.read(area, base, header.tlv_offset + header.protect_tlv_size)
        if data is None:
            return None
        return _digest(self.hash_tlv, data)

    def _walk(self, area: SlotArea, tlv_area: _TlvArea, digest: bytes) -> bool:
        """Check every TLV that means something; all hashes must agree, of the signatures the last one counts."""
        hash_seen = False
        signed = self.key is None
        key_found = False
        for tlv in tlv_area.tlvs(self.slots, area):
            if tlv is None:
                return False
            if tlv.type == self.hash_tlv:
                if tlv.length != len(digest) or self.slots.read(area, tlv.offset, tlv.length) != digest:
                    return False
                hash_seen = True
            elif self.key is None:
                continue
            elif tlv.type == TlvType.KEYHASH:
                found = self._names_key(area, tlv, self.key)
                if found is None:
                    return False
                key_found = found
            elif tlv.type == self.key.signature_tlv and key_found:
                key_found = False
                verdict = self._signature(area, tlv, self.key, digest)
                if verdict is None:
                    return False
                signed = verdict
        return hash_seen and signed

    def _names_key(self, area: SlotArea, tlv: _Tlv, key: PublicKey) -> bool | None:
        """Does a KEYHASH TLV name the key? None if it cannot be read. A shorter hash is compared as far as it goes."""
        own = _digest(key.hash_tlv, key.encoded)
        if tlv.length > len(own):
            return None
        value = self.slots.read(area, tlv.offset, tlv.length)
        return None if value is None else own.startswith(value)

    def _signature(self, area: SlotArea, tlv: _Tlv, key: PublicKey, digest: bytes) -> bool | None:
        """Is the signature right? None if it cannot be read or has a length that it cannot have."""
        limit = _MAX_EC_SIGNATURE if key.signature_size is None else key.signature_size
        if tlv.length > limit or (key.signature_size is not None and tlv.length != limit):
            return None
        value = self.slots.read(area, tlv.offset, tlv.length)
        return None if value is None else key.verify(digest, value)
