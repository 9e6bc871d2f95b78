"""Reads a signed image from an Intel HEX file, which unlike a .bin knows its address.

A .hex may hold anything at any address; what can be uploaded is one image from its header on. Gaps inside are erased
flash (0xff), as imgtool leaves them in front of a trailer. merged.hex holds the bootloader as well, so it is refused.

The records are decoded by the package intelhex, in blocks: it keeps every byte in a dictionary, 90 MiB for a slot of
896 KiB. Source of the format: Intel, "Hexadecimal Object File Format Specification", revision A, 1988.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.format import ERASED, MAGIC
from pytest_nrfdfu.image.mcuboot import PAGE_SIZE, Image, parse

if TYPE_CHECKING:
    import intelhex

__all__ = ["MAX_DATA_SIZE", "Content", "load", "read"]

MAX_DATA_SIZE = 8 << 20
"""From the first byte to the last, in bytes: the size of the nRF5340 DK's external flash (MX25R64)."""
_MAX_AREAS = 1000
"""Real files have a handful."""
_MAX_LINE = 600
"""The longest record has 521 characters: a colon, five bytes of frame and 255 of data."""
_BLOCK = 64 << 10
"""So many characters are decoded at a time."""
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_UNSIGNED_ADVICE = "Use zephyr.signed.hex or zephyr.signed.bin of the application, from the same build"
_DAMAGED_ADVICE = "Copy or build the file again"

_EXTENDED_ADDRESS = ("02", "04")
_END_OF_FILE = "01"


class Content(NamedTuple):
    """What a file holds: `data` from `address` on, gaps filled with 0xff."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.address + len(self.data)


class _Block(NamedTuple):
    """Some lines of the file: their number, text, and whether they end it."""

    first: int
    lines: list[str]
    ends: bool


def load(path: Path, *, require_bootable: bool = True) -> tuple[Image, int]:
    """The image in the .hex at `path`, checked as `mcuboot.parse` does, and the address of its first byte.

    Raises nothing but ImageError.
    """
    content = read(path)
    return parse(content.data, str(path), require_bootable=require_bootable), content.address


def read(path: Path) -> Content:
    """What the .hex at `path` holds, if that can be one image; ImageError if it is damaged, or holds more."""
    source = str(path)
    try:
        with path.open("rb") as file:
            areas = _read_areas(file, source)
    except OSError as error:
        raise _refuse(source, f"it cannot be read ({error})", "Look at the path and its permissions") from error
    _check_areas(areas, source)
    return _joined(areas)


def _read_areas(file: BinaryIO, source: str) -> list[Content]:
    """What the records hold, by address, neighbours joined."""
    pieces: list[Content] = []
    size = 0
    extended = ""
    for block in _blocks(file, source):
        content = _decode(extended, block, source)
        found = [Content(start, content.tobinstr(start=start, size=end - start)) for start, end in content.segments()]
        size += sum(len(piece.data) for piece in found)
        pieces += found
        if size > MAX_DATA_SIZE or len(pieces) > _MAX_AREAS:
            raise _refuse(
                source,
                f"it holds more than {MAX_DATA_SIZE} bytes or {_MAX_AREAS} separate areas, and no slot does",
                _UNSIGNED_ADVICE,
            )
        extended = next((line for line in reversed(block.lines) if line[7:9] in _EXTENDED_ADDRESS), extended)
    return _neighbours_joined(sorted(pieces), source)


def _blocks(file: BinaryIO, source: str) -> Iterator[_Block]:
    """The lines up to the end-of-file record, which has to be the last."""
    number, first, size = 0, 1, 0
    lines: list[str] = []
    ended = False
    while raw := file.readline(_MAX_LINE):
        number += 1
        line = _text(raw, number, source)
        if ended and line:
            raise _refuse(
                source,
                f"line {number} follows the end-of-file record: two files were joined",
                _UNSIGNED_ADVICE,
            )
        ended = ended or line[7:9] == _END_OF_FILE
        lines.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield _Block(first, lines, ended)
            first, lines, size = number + 1, [], 0
    if not ended:
        raise _refuse(source, f"it is cut off: line {number} is the last and no end-of-file record", _DAMAGED_ADVICE)
    yield _Block(first, lines, ended)


def _text(raw: bytes, number: int, source: str) -> str:
    try:
        line = raw.decode("ascii").strip() if number > 1 else raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise _refuse(source, f"line {number} is not text", _DAMAGED_ADVICE) from error
    if len(raw) == _MAX_LINE or not line.isascii():
        raise _refuse(source, f"line {number} is not a record", _DAMAGED_ADVICE)
    return line


def _decode(extended: str, block: _Block, source: str) -> intelhex.IntelHex:
    """The block's records, after the address record that was last in force."""
    import intelhex

    lines = [extended, *block.lines]
    try:
        return intelhex.IntelHex(io.StringIO("\n".join(lines)))
    except intelhex.AddressOverlapError as error:
        raise _overlap(error.address, source) from error
    except intelhex.HexReaderError as error:
        number = block.first + error.line - 2
        reason = "its checksum is wrong" if isinstance(error, intelhex.RecordChecksumError) else "it is not a record"
        raise _refuse(source, f"line {number}: {reason}: {lines[error.line - 1][:60]!r}", _DAMAGED_ADVICE) from error


def _neighbours_joined(pieces: list[Content], source: str) -> list[Content]:
    joined: list[tuple[int, bytearray]] = []
    for piece in pieces:
        end = joined[-1][0] + len(joined[-1][1]) if joined else -1
        if piece.address < end:
            raise _overlap(piece.address, source)
        if piece.address == end:
            joined[-1][1].extend(piece.data)
        else:
            joined.append((piece.address, bytearray(piece.data)))
    return [Content(address, bytes(data)) for address, data in joined]


def _check_areas(areas: list[Content], source: str) -> None:
    """ImageError unless the areas can be one image, beginning with the first."""
    if not areas:
        raise _refuse(source, "it holds no data", "Look at the build: it did not finish, or the copy was cut off")
    images = [address for area in areas for address in _image_addresses(area)]
    listed = ", ".join(f"0x{area.address:x} to 0x{area.end:x}" for area in areas[:8])
    if images and images[0] != areas[0].address:
        raise _refuse(
            source,
            f"it holds an image at 0x{images[0]:x} and other code before it, from 0x{areas[0].address:x} on "
            "(merged.hex: bootloader and application together)",
            _UNSIGNED_ADVICE,
        )
    if sum(area.data.startswith(_MAGIC_BYTES) for area in areas) > 1:
        raise _refuse(source, f"it holds more than one image: {listed}", _UNSIGNED_ADVICE)
    if areas[-1].end - areas[0].address > MAX_DATA_SIZE:
        raise _refuse(source, f"it holds areas too far apart for one image: {listed}", _UNSIGNED_ADVICE)


def _image_addresses(area: Content) -> Iterator[int]:
    """Where in `area` images may begin: at its start, and at flash pages."""
    first_page = -area.address % PAGE_SIZE
    for offset in (0, *range(first_page or PAGE_SIZE, len(area.data), PAGE_SIZE)):
        if area.data.startswith(_MAGIC_BYTES, offset):
            yield area.address + offset


def _joined(areas: list[Content]) -> Content:
    start = areas[0].address
    data = bytearray()
    for area in areas:
        data.extend(bytes([ERASED]) * (area.address - start - len(data)))
        data.extend(area.data)
    return Content(start, bytes(data))


def _overlap(address: int, source: str) -> ImageError:
    return _refuse(source, f"it gives the byte at 0x{address:x} twice: two files were joined", _UNSIGNED_ADVICE)


def _refuse(source: str, seen: str, advice: str) -> ImageError:
    return ImageError(f"cannot use {source} as a signed .hex: {seen}. {advice}")
