"""The exact bytes of a correct upload, and of MCUboot's answers to it: what somebody needs who writes a host.

Requests are as this package sends them: definite CBOR lengths, optional keys first. Responses are as MCUboot in serial
recovery builds them: maps and lists of indefinite length, sequence and version echoed, flags 0. Source: MCUboot,
boot/boot_serial/src/boot_serial.c (boot_serial_output, bs_upload, bs_list).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import Request, encode
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import ImageStateRead, ResetRequest, UploadRequest
from pytest_nrfdfu.wire.annotate import body_fields, packet_fields
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.frames import Frame, messages, read
from pytest_nrfdfu.wire.packet_rules import Note, notes
from pytest_nrfdfu.wire.paint import Paint, hex_rows

__all__ = ["Exchange", "Upload", "as_c", "as_json", "as_text", "exchanges"]

_GROUP = 4
"""MCUboot writes whole words of the nRF5340's flash; of a chunk it drops what exceeds them, except in the last one."""
_LARGEST = 1020
"""Bytes of the largest SMP packet for a bootloader with CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE=1024, the default. One more
fits beside length and CRC into MCUboot's buffer; the application's SMP server takes four less than its buffer."""
_MAP, _LIST, _BREAK = b"\xbf", b"\x9f", b"\xff"
_TEXT, _BYTES, _UINT = 3, 2, 0
_PER_C_LINE = 12
_ABOUT = 12
"""Columns of what a rule is about, in front of what it says."""
_SHORT = 8
"""Bytes of a field that its meaning follows on the same line."""
_C_WIDTH = 100


class Upload(NamedTuple):
    """What is uploaded and how. `sequence`: of the first request; `smp_version`: 1 or 2."""

    image: bytes
    version: str
    hash: bytes
    chunk: int = 256
    sequence: int = 0
    smp_version: int = 2
    number: int | None = None
    """The upload's image number; None leaves the key out, which means 0: the application."""


class Exchange(NamedTuple):
    """One request and its response, as they go over the wire. `why`: when it is sent, and what the answer means."""

    name: str
    why: str
    request: bytes
    response: bytes


def exchanges(upload: Upload) -> list[Exchange]:
    """List, first, second and last chunk, list, reset; ConfigError where the chunk size cannot be used."""
    _check(upload)
    return list(_exchanges(upload))


def _check(upload: Upload) -> None:
    if not upload.image:
        raise ConfigError("the image is empty")
    if upload.chunk <= 0 or upload.chunk % _GROUP:
        raise ConfigError(
            f"a chunk of {upload.chunk} bytes: MCUboot keeps whole words of {_GROUP} bytes alone, so it must be a "
            f"multiple of {_GROUP}"
        )
    if not 0 <= upload.sequence <= 0xFF:
        raise ConfigError(f"sequence {upload.sequence}: the header has one byte for it, 0 to 255")
    if upload.smp_version not in {1, 2}:
        raise ConfigError(f"SMP version {upload.smp_version}: there are 1 and 2")
    size = len(encode(_chunk(upload, 0), 0))
    if size > _LARGEST:
        raise ConfigError(
            f"with a chunk of {upload.chunk} bytes the first packet has {size}; the bootloader takes {_LARGEST}, so at "
            f"most {(upload.chunk - (size - _LARGEST)) // _GROUP * _GROUP} bytes go into a chunk"
        )


def _chunk(upload: Upload, off: int) -> UploadRequest:
    data = upload.image[off : off + upload.chunk]
    if off:
        return UploadRequest(off=off, data=data)
    return UploadRequest(off=0, data=data, length=len(upload.image), image=upload.number)


def _exchanges(upload: Upload) -> Iterator[Exchange]:
    total = len(upload.image)
    offsets = list(range(0, total, upload.chunk))
    number = upload.sequence
    yield _exchange(upload, number, ImageStateRead(), _image_list(), "list", _WHY_LIST)
    for index, name in _shown_chunks(len(offsets)):
        off = offsets[index]
        end = min(off + upload.chunk, total)
        yield _exchange(
            upload,
            number + 1 + index,
            _chunk(upload, off),
            _taken(end),
            name,
            _why_chunk(index, len(offsets), end, total),
        )
    number += 1 + len(offsets)
    listed = _image_list(upload.version, upload.hash)
    yield _exchange(upload, number, ImageStateRead(), listed, "list afterwards", _WHY_PROOF)
    yield _exchange(upload, number + 1, ResetRequest(), _done(), "reset", _WHY_RESET)


def _shown_chunks(count: int) -> Iterator[tuple[int, str]]:
    yield 0, "first chunk"
    if count > 2:
        yield 1, "second chunk"
    if count > 1:
        yield count - 1, "last chunk"


_WHY_LIST = (
    "Asks which images are there: the one request that every bootloader answers. Here no slot holds a valid image; a "
    "board that has one lists it as in 'list afterwards'."
)
_WHY_PROOF = (
    "The only proof of the update: MCUboot answers rc 0 to a corrupted upload too, but lists an image only if it is "
    "valid, and with its hash (unless the bootloader was built without CONFIG_BOOT_SERIAL_IMG_GRP_HASH)."
)
_WHY_RESET = "Starts the new image. MCUboot answers, waits 250 ms and resets; what is sent in that time is lost."


def _why_chunk(index: int, count: int, end: int, total: int) -> str:
    where = f"Chunk {index + 1} of {count}. The answer's off is where the next one begins: {end}"
    if index == 0:
        return (
            f"{where}. Only this one carries len, the size of the whole image ({total} bytes). The answer may take "
            "long, because flash is erased before it: about 90 ms for a page of 4 KiB, the whole slot at once without "
            "CONFIG_BOOT_ERASE_PROGRESSIVELY."
        )
    if end == total:
        return f"{where}, the size of the image: it is complete. This chunk alone need not be a multiple of {_GROUP}."
    return f"{where}. Always go on from the answer's off, whatever was sent."


def _exchange(upload: Upload, number: int, request: Request[Any], answer: bytes, name: str, why: str) -> Exchange:
    sequence = number & 0xFF
    packet = encode(request, sequence, upload.smp_version - 1)
    header = Header.unpack(packet).response(len(answer))
    return Exchange(name, why, console.encode(packet), console.encode(header.pack() + answer))


def _head(major: int, value: int) -> bytes:
    """A CBOR head in its shortest form, as zcbor writes it (RFC 8949, section 3)."""
    if value < 24:
        return bytes([major << 5 | value])
    exponent = next(e for e in range(4) if value < 1 << (8 << e))
    return bytes([major << 5 | 24 + exponent]) + value.to_bytes(1 << exponent, "big")


def _text(text: str) -> bytes:
    return _head(_TEXT, len(text)) + text.encode()


def _done() -> bytes:
    return _MAP + _text("rc") + _head(_UINT, 0) + _BREAK


def _taken(off: int) -> bytes:
    return _MAP + _text("rc") + _head(_UINT, 0) + _text("off") + _head(_UINT, off) + _BREAK


def _image_list(version: str = "", digest: bytes = b"") -> bytes:
    entry = b""
    if version:
        entry = _MAP + _text("slot") + _head(_UINT, 0) + _text("hash") + _head(_BYTES, len(digest)) + digest
        entry += _text("version") + _text(version) + _BREAK
    return _MAP + _text("images") + _LIST + entry + _BREAK + _BREAK


def _frame(wire: bytes) -> Frame:
    message = messages(read(Capture((Chunk(None, "tx", wire),))))[0]
    return message.frame


def as_text(upload: Upload, paint: Paint, width: int = 100) -> Iterator[str]:
    """The rules; then annotated hex: the lines as they are sent, and what each byte says before base64."""
    yield paint("RULES", "bold")
    for note in _notes(upload):
        yield from _note_lines(note, width)
    yield ""
    for exchange in exchanges(upload):
        yield paint(exchange.name.upper(), "bold")
        yield from textwrap.wrap(exchange.why, width)
        for who, wire, colour in (
            ("request, host to board", exchange.request, "cyan"),
            ("response, board to host", exchange.response, "green"),
        ):
            frame = _frame(wire)
            yield ""
            lines = "1 line" if len(frame.lines) == 1 else f"{len(frame.lines)} lines"
            yield f"  {paint(who, colour)}: {lines}, {len(wire)} bytes"
            for line in frame.lines:
                yield f"    {line.marker.hex(' ')} {paint(line.text.decode(), 'blue')} 0a"
            yield "   which is, before base64:"
            yield from _annotated(frame, paint)
        yield ""


def _notes(upload: Upload) -> list[Note]:
    last = max(0, len(upload.image) - 1) // max(1, upload.chunk) * upload.chunk
    return notes(upload.hash, last, _LARGEST)


def _note_lines(note: Note, width: int) -> list[str]:
    indent = " " * _ABOUT
    return textwrap.wrap(f"{note.about:<{_ABOUT - 1}} {note.says}", width, subsequent_indent=indent)


def _annotated(frame: Frame, paint: Paint) -> Iterator[str]:
    for field in body_fields(frame):
        for first, row in hex_rows(field.data):
            if first:
                yield f"    {paint(f'{field.part:<8}', 'grey')}{row}  {'  ' * field.depth}{field.says}"
            else:
                yield f"    {'':<8}{row}".rstrip()


def as_c(upload: Upload) -> Iterator[str]:
    """C arrays: each packet as it is before base64, field by field; and what goes over the wire, newlines included."""
    yield "#include <stdint.h>"
    yield ""
    yield "/*"
    for note in _notes(upload):
        yield from (f" * {line}" for line in _note_lines(note, _C_WIDTH))
    yield " */"
    for exchange in exchanges(upload):
        for kind, wire in (("request", exchange.request), ("response", exchange.response)):
            name = re.sub(r"\W+", "_", f"{exchange.name} {kind}")
            yield ""
            if kind == "request":
                yield from textwrap.wrap(f"/* {exchange.why} */", _C_WIDTH, subsequent_indent="   ")
            frame = _frame(wire)
            yield from _packet_in_c(f"{name}_packet", frame)
            length, crc = frame.body[:2].hex(" "), frame.body[-2:].hex(" ")
            yield f"/* The same as it is sent: length {length}, that packet, CRC {crc}, in base64 and lines. */"
            yield f"static const uint8_t {name}[{len(wire)}] = {{"
            for line in frame.lines:
                yield f"    /* {line.text.decode()} */"
                yield from _rows_in_c(line.raw)
            yield "};"


def _packet_in_c(name: str, frame: Frame) -> Iterator[str]:
    """Header and payload, each field with what it says."""
    packet = frame.presumed
    yield f"static const uint8_t {name}[{len(packet)}] = {{"
    for field in packet_fields(packet):
        says = f"{'  ' * field.depth}{field.says}".replace("*/", "* /")
        if len(field.data) > _SHORT:
            yield f"    /* {says} */"
            yield from _rows_in_c(field.data)
        else:
            (row,) = _rows_in_c(field.data)
            yield f"{row:<{4 + 5 * _SHORT}} /* {field.part}: {says} */"
    yield "};"


def _rows_in_c(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), _PER_C_LINE):
        yield "    " + " ".join(f"0x{byte:02x}," for byte in data[at : at + _PER_C_LINE])


def as_json(upload: Upload) -> dict[str, Any]:
    """The same for programs; bytes are hex."""
    return {
        "bytes": len(upload.image),
        "chunk": upload.chunk,
        "chunks": -(-len(upload.image) // upload.chunk),
        "rules": {note.about: note.says for note in _notes(upload)},
        "exchanges": [
            {
                "name": exchange.name,
                "why": exchange.why,
                "request": _wire_json(exchange.request),
                "response": _wire_json(exchange.response),
            }
            for exchange in exchanges(upload)
        ],
    }


def _wire_json(wire: bytes) -> dict[str, Any]:
    frame = _frame(wire)
    return {
        "wire": wire.hex(),
        "lines": [line.text.decode() for line in frame.lines],
        "packet": frame.presumed.hex(),
        "fields": [field._asdict() | {"data": field.data.hex()} for field in body_fields(frame)],
    }
