"""Says what a file is that should have been a signed MCUboot image.

A build leaves a dozen files behind, and the wrong one is what people upload first. The names are those of Zephyr and
nRF Connect SDK builds (Zephyr, doc/build/signing; nRF Connect SDK, "Output build files").
"""

from __future__ import annotations

import struct
from enum import Enum

from pytest_nrfdfu.image.format import DEFAULT_HEADER_SIZE, ERASED, MAGIC

__all__ = ["VECTORS", "Kind", "explain", "sniff", "vector_table"]

_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_OLD_MAGIC = (MAGIC - 1).to_bytes(4, "little")
"""IMAGE_MAGIC_V1 in MCUboot's image.h: images of 2016, with another header."""
_BIG_ENDIAN_MAGIC = MAGIC.to_bytes(4, "big")

VECTORS = struct.Struct("<II")
"""The words of a vector table that are needed to start: initial stack pointer, reset vector."""
_RAM = (range(0x2000_0000, 0x2008_0001), range(0x2100_0000, 0x2101_0001))
"""RAM of the nRF5340's application and network core (product specification, memory maps); a stack may start at its
end."""
_FLASH_END = 0x0104_0000
"""End of the nRF5340's flash: the network core's (product specification, memory maps)."""
_PAGE = 0x1000
"""Partitions begin at flash pages, so an image inside a larger file does too."""
_SHOWN = 16


class Kind(Enum):
    """What a file looks like, with the advice that goes with it."""

    IMAGE = ("an MCUboot image", "")
    EMPTY = ("an empty file", "Look at the build: it did not finish, or the copy was cut off")
    ELF = ("an ELF file (zephyr.elf)", "Use zephyr.signed.bin from the same directory")
    HEX = ("Intel HEX text", "Only raw binaries are read: use zephyr.signed.bin from the same directory")
    SREC = ("Motorola S-record text (zephyr.s19)", "Use zephyr.signed.bin from the same directory")
    ZIP = ("a zip archive (dfu_application.zip?)", "Unpack it and use the signed .bin of the application inside")
    UF2 = ("a UF2 file (zephyr.uf2)", "Use zephyr.signed.bin from the same directory")
    UNSIGNED = (
        "an unsigned Cortex-M binary without room for a header (zephyr.bin)",
        "zephyr.bin is unsigned; use zephyr.signed.bin. If there is none, build with CONFIG_BOOTLOADER_MCUBOOT=y",
    )
    UNSIGNED_WITH_ROOM = (
        "an unsigned Cortex-M binary with room for an MCUboot header (zephyr.bin)",
        "zephyr.bin is unsigned; use zephyr.signed.bin from the same directory",
    )
    INSIDE = (
        "a larger file with an MCUboot image inside (merged.bin, or a copy of the flash)",
        "Use the application's zephyr.signed.bin alone",
    )
    OLD = ("an image for MCUboot's format of 2016", "Sign it again with a current imgtool")
    BIG_ENDIAN = ("a big-endian MCUboot image", "The nRF5340 is little-endian: sign it without --endian big")
    ERASED = ("erased flash: nothing but 0xff", "Use zephyr.signed.bin from the build directory")
    ZEROS = ("nothing but zeros", "Use zephyr.signed.bin from the build directory")
    UNKNOWN = ("nothing that a Zephyr build makes", "Use zephyr.signed.bin from the build directory")

    @property
    def looks_like(self) -> str:
        """A noun phrase for messages."""
        return self.value[0]

    @property
    def advice(self) -> str:
        """What to do instead, without a full stop."""
        return self.value[1]


_STARTS = (
    (_MAGIC_BYTES, Kind.IMAGE),
    (b"\x7fELF", Kind.ELF),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"UF2\n", Kind.UF2),
    (_OLD_MAGIC, Kind.OLD),
    (_BIG_ENDIAN_MAGIC, Kind.BIG_ENDIAN),
)
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


def vector_table(data: bytes, offset: int = 0) -> tuple[int, int] | None:
    """Initial stack pointer and reset vector at `offset`, or None where the file ends before."""
    if offset < 0 or len(data) < offset + VECTORS.size:
        return None
    stack_pointer, reset = VECTORS.unpack_from(data, offset)
    return stack_pointer, reset


def sniff(data: bytes) -> Kind:
    """What `data`, the whole content of a file, looks like."""
    if not data:
        return Kind.EMPTY
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    return _sniff_text(data) or _sniff_flash(data)


def _sniff_text(data: bytes) -> Kind | None:
    start = data.lstrip(b"\xef\xbb\xbf\r\n \t")[:9] if data[:1] in b"\xef\r\n \t:S" else b""
    if start[:1] == b":" and len(start) == 9 and _HEX_DIGITS.issuperset(start[1:]):
        return Kind.HEX
    if start[:2] in {b"S0", b"S1", b"S2", b"S3"} and len(start) == 9 and _HEX_DIGITS.issuperset(start[1:]):
        return Kind.SREC
    return None


def _sniff_flash(data: bytes) -> Kind:
    if data.count(ERASED) == len(data):
        return Kind.ERASED
    if data.count(0) == len(data):
        return Kind.ZEROS
    if _holds_image(data):
        return Kind.INSIDE
    if _is_code(data, 0):
        return Kind.UNSIGNED
    # Zephyr leaves the header's room zeroed, objcopy fills it with 0xff when told to.
    room = len(data) - len(data.lstrip(data[:1])) if data[0] in {0, ERASED} else 0
    # The stack pointer's own low byte may be zero too, so the room ends at a multiple of the usual size.
    room -= room % DEFAULT_HEADER_SIZE
    return Kind.UNSIGNED_WITH_ROOM if room and _is_code(data, room) else Kind.UNKNOWN


def _is_code(data: bytes, offset: int) -> bool:
    vectors = vector_table(data, offset)
    if vectors is None:
        return False
    stack_pointer, reset = vectors
    in_ram = stack_pointer % 4 == 0 and any(stack_pointer in ram for ram in _RAM)
    return in_ram and reset % 2 == 1 and reset < _FLASH_END


def _holds_image(data: bytes) -> bool:
    return any(data.startswith(_MAGIC_BYTES, offset) for offset in range(_PAGE, len(data), _PAGE))


def explain(data: bytes) -> str:
    """One or two sentences: what the file looks like, its first bytes where that says something, what to use."""
    kind = sniff(data)
    shown = f", beginning {data[:_SHOWN].hex(' ')}" if kind is Kind.UNKNOWN else ""
    return f"it looks like {kind.looks_like}{shown}. {kind.advice}"
