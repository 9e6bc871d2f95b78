"""Faults in the course of an upload: each request is right by itself, but not after what came before it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import BootloaderProfile, network_upload
from pytest_nrfdfu.image.format import MAGIC
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, ImageCommand, OsCommand
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.frames import Message
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_GROUP_1, Effect, Finding, Rule, Scene, Severity, encoded
from pytest_nrfdfu.wire.rules.payload import is_upload

__all__ = ["AT_ONCE", "RULES", "Chunk", "Course", "chunk_of", "gap_between"]

_SOURCE = f'{SMP_GROUP_1}, "Image upload"; {BOOT_SERIAL}, bs_upload'

NOT_FOLLOWED = Rule(
    "off-not-followed",
    Severity.ERROR,
    "The next chunk does not begin at the `off` of the last response.",
    "Take `off` from each response and continue exactly there, also where it is less than what was sent.",
    _SOURCE,
)
RC_IGNORED = Rule(
    "rc-ignored",
    Severity.ERROR,
    "The next chunk was sent although the last one was refused.",
    "Look at `rc` in each response: where it is there and not 0, the upload has failed. Say so and stop.",
    _SOURCE,
)
NOT_ALIGNED = Rule(
    "chunk-not-multiple-of-4",
    Severity.NOTE,
    "A chunk, not the last one, is not a multiple of four bytes.",
    "Send chunks of a multiple of four bytes, the flash's write unit; only the last one may be of any size.",
    _SOURCE,
)
EMPTY = Rule("data-empty", Severity.ERROR, "A chunk has no bytes.", "Send at least four bytes in each chunk.", _SOURCE)
PAST_END = Rule(
    "data-past-end",
    Severity.ERROR,
    "The chunk goes beyond the image's length.",
    "Cut the last chunk so that off + its size is the `len` that the first request gave.",
    _SOURCE,
)
NETWORK = Rule(
    "network-image-to-application",
    Severity.ERROR,
    "An image for the network core is sent to the application's slot.",
    'Send "image" in the request with off 0: 3 for the network core where the bootloader has direct upload, 1 where it '
    "has two images and no direct upload. A bootloader with neither cannot update the network core.",
    "MCUboot, boot/zephyr/flash_map_extended.c, flash_area_id_from_direct_image; nRF5340 product specification, Memory",
)
RESET_EARLY = Rule(
    "reset-before-end",
    Severity.ERROR,
    "The chip is reset before the upload is complete.",
    "Reset only when the last response's `off` is the image's length, and the image list shows the image's hash.",
    f"{BOOT_SERIAL}, bs_reset and bs_upload",
)
RULES = (NOT_FOLLOWED, RC_IGNORED, NOT_ALIGNED, EMPTY, PAST_END, NETWORK, RESET_EARLY)

AT_ONCE = 0.05
"""Seconds between two requests, less than any host's time-out; mcumgr-client's is 0.2 s."""
_WORD = 4
"""Bytes that the nRF5340's flash is written in (product specification, NVMC)."""
_IMAGE_HEADER = struct.Struct("<IIH")
"""Magic, load address and header size, of struct image_header (MCUboot, boot/bootutil/include/bootutil/image.h)."""
_VECTORS = struct.Struct("<II")
"""Initial stack pointer and reset vector."""
_NETWORK_FLASH = range(0x0100_0000, 0x0104_0000)
"""nRF5340 product specification, Memory: the network core's flash."""
_ENOUGH = 4096
"""Bytes of an image in which its vector table is looked for."""


class Chunk(NamedTuple):
    """What an upload request holds, if its types are right."""

    message: Message
    off: int
    data: bytes
    length: int | None
    image: int | None

    @property
    def end(self) -> int:
        """Offset behind the data."""
        return self.off + len(self.data)


def gap_between(before: Message, after: Message) -> float | None:
    """Seconds from the last byte of one message to the first bytes of another; None where they have no times."""
    first, then = before.frame.time_last, after.frame.time_first
    return None if first is None or then is None else then - first


def chunk_of(message: Message) -> Chunk | None:
    """The chunk in a message; None if it is no upload request, or one with faults."""
    payload = message.payload
    if not is_upload(message) or payload is None:
        return None
    off, data, length, image = (payload.get(key) for key in ("off", "data", "len", "image"))
    if not isinstance(off, int) or not isinstance(data, bytes) or off < 0:
        return None
    return Chunk(
        message, off, data, length if isinstance(length, int) else None, image if isinstance(image, int) else None
    )


@dataclass(slots=True)
class _Upload:
    """One upload so far."""

    length: int | None = None
    first: Chunk | None = None
    begin: bytearray = field(default_factory=bytearray)
    """The image's first bytes."""
    expected: int | None = None
    """`off` of the last response."""
    refused: tuple[int, int] | None = None
    """`rc` and off of the last chunk, if it was refused."""
    told: bool = False


class Course:
    """Follows uploads, request by request and response by response. `broken` messages have other findings already."""

    def __init__(self, scene: Scene, answers: dict[int, Message], broken: set[int]) -> None:
        """`answers`: the response to each request, by the request's id(); `broken`: ids of messages."""
        self._scene = scene
        self._answers = answers
        self._asked = {id(answer): request for request, answer in answers.items()}
        self._broken = broken
        self._upload = _Upload()
        self._outstanding: dict[int, Chunk] = {}
        self._chunks: dict[int, Chunk] = {}
        self._unanswered: Chunk | None = None
        """The last chunk, until any response comes."""

    def find(self, messages: Sequence[Message]) -> Iterator[Finding]:
        """All findings, in the order of the messages."""
        for message in messages:
            if not message.is_request:
                self._response(message)
            elif id(message) in self._broken:
                continue
            elif (chunk := chunk_of(message)) is not None:
                yield from self._request(chunk)
            elif (message.header.group, message.header.command) == (Group.OS, OsCommand.RESET):
                yield from self._reset(message)

    def _response(self, message: Message) -> None:
        """Its `off` counts even where its request is not known: it is the board's word."""
        if (message.header.group, message.header.command) != (Group.IMAGE, ImageCommand.UPLOAD):
            return
        chunk = self._chunks.get(self._asked.get(id(message), 0))
        if chunk is not None:
            self._outstanding.pop(id(chunk.message), None)
        self._unanswered = None
        payload = message.payload or {}
        rc, off = _rc(payload), payload.get("off")
        upload = self._upload
        upload.refused = (rc, chunk.off) if rc and chunk is not None else None
        if not rc and isinstance(off, int):
            upload.expected = off

    def _request(self, chunk: Chunk) -> Iterator[Finding]:
        upload = self._upload
        ahead = self._outstanding or self._sent_ahead(chunk)
        finding = None if ahead else self._out_of_course(chunk)
        self._unanswered = chunk
        if chunk.off == 0 and (upload.first is None or finding is None):
            upload = self._upload = _Upload(chunk.length, chunk)
        self._chunks[id(chunk.message)] = chunk
        if id(chunk.message) in self._answers:
            self._outstanding[id(chunk.message)] = chunk
        finding = finding or self._size(chunk)
        if finding is not None:
            yield finding
        yield from self._network(chunk)

    def _sent_ahead(self, chunk: Chunk) -> bool:
        """Whether it follows the chunk before it without waiting, as hosts do that have several on their way."""
        before = self._unanswered
        if before is None or chunk.off != before.end:
            return False
        gap = gap_between(before.message, chunk.message)
        return gap is None or gap < AT_ONCE

    def _out_of_course(self, chunk: Chunk) -> Finding | None:
        upload = self._upload
        marks = _value_places(chunk.message, "off")
        if upload.refused is not None and chunk.off > upload.refused[1]:
            rc, off = upload.refused
            said = f"The chunk at {off} was answered with rc {rc}; all the same the one at {chunk.off} follows."
            effect = Effect.RESYNC
            return self._scene.finding(RC_IGNORED, chunk.message, said, effect, marks=marks)
        if upload.expected is None or chunk.off == upload.expected or upload.refused is not None:
            return None
        restarts = chunk.off == 0
        if restarts and (upload.first is None or chunk.length is not None) and self._begins_anew(chunk):
            return None
        said = f"The last response says `off` {upload.expected}, and this chunk has `off` {chunk.off}."
        fixed = (chunk.message.payload or {}) | {"off": upload.expected}
        should = encoded(chunk.message, fixed) if chunk.off else None
        effect = Effect.RESTARTS if restarts else Effect.RESYNC
        return self._scene.finding(NOT_FOLLOWED, chunk.message, said, effect, marks=marks, should=should)

    def _begins_anew(self, chunk: Chunk) -> bool:
        """Whether a chunk at 0 begins an upload, rather than being a later chunk with a wrong offset."""
        first, upload = self._upload.first, self._upload
        finished = upload.length is not None and upload.expected == upload.length
        image = len(chunk.data) >= 4 and chunk.data[:4] == MAGIC.to_bytes(4, "little")
        return first is None or finished or image or chunk.data[:16] == first.data[:16]

    def _size(self, chunk: Chunk) -> Finding | None:
        """A chunk that is too short, too long, or not a multiple of four."""
        scene, message, length = self._scene, chunk.message, self._upload.length
        places = _value_places(message, "data")
        if not chunk.data:
            refused = chunk.off == 0 and scene.profile.erase_progressively
            because = "It has nothing to erase then." if refused else "That is where the upload stood before."
            said = f"The chunk at {chunk.off} has a `data` of no bytes."
            effect = Effect.RC3 if refused else Effect.RESYNC
            return scene.finding(EMPTY, message, said, effect, because=because, marks=places)
        if length is None:
            return None
        if chunk.off and chunk.end > length:
            said = f"The chunk ends at {chunk.end}, and the image at {length}: {chunk.end - length} bytes too many."
            fixed = (message.payload or {}) | {"data": chunk.data[: max(0, length - chunk.off)]}
            should = encoded(message, fixed) if length > chunk.off else None
            marks = message.places(*_data_end(message, chunk.end - length))
            return scene.finding(PAST_END, message, said, Effect.RC3, marks=marks, should=should)
        left = len(chunk.data) % _WORD
        return self._unaligned(chunk, left) if left and chunk.end < length else None

    def _unaligned(self, chunk: Chunk, left: int) -> Finding:
        message, size = chunk.message, len(chunk.data)
        written = size - left
        said = (
            f"The chunk at {chunk.off} has {size} bytes, {left} more than a multiple of four, and more chunks follow."
        )
        if written:
            because = (
                f"The last {left} {'is' if left == 1 else 'are'} to be sent again: `off` {chunk.off + written} follows."
            )
            severity, effect = Severity.NOTE, Effect.PARTIAL
        else:
            because = "So it goes nowhere: `off` stays where it is."
            severity, effect = Severity.ERROR, Effect.RESYNC
        fixed = (message.payload or {}) | {"data": chunk.data[:written]}
        marks = message.places(*_data_end(message, left))
        should = encoded(message, fixed) if written else None
        return self._scene.finding(
            NOT_ALIGNED, message, said, effect, because=because, marks=marks, should=should, severity=severity
        )

    def _network(self, chunk: Chunk) -> Iterator[Finding]:
        """Once the vector table has come: whether the image goes where it belongs."""
        upload = self._upload
        if upload.first is None or upload.told or chunk.off != len(upload.begin) or len(upload.begin) >= _ENOUGH:
            return
        upload.begin += chunk.data
        vector = _reset_vector(bytes(upload.begin))
        if vector is None:
            return
        upload.told = True
        number, profile = upload.first.image, self._scene.profile
        right = network_upload(direct_upload=profile.direct_upload, images=profile.images).number
        if (
            vector not in _NETWORK_FLASH
            or (number is not None and number == right)
            or not _to_application(number, profile)
        ):
            return
        first = upload.first.message
        sent = "no `image`, which means 0" if number is None else f"`image` {number}"
        said = f"The image's reset vector is 0x{vector:08x}, in the network core's flash, and the request has {sent}."
        fixed = {"image": right} | {k: v for k, v in (first.payload or {}).items() if k != "image"}
        should = None if right is None else encoded(first, fixed)
        marks = _value_places(first, "image") or _value_places(first, "off")
        yield self._scene.finding(NETWORK, first, said, Effect.OVERWRITES, marks=marks, should=should)

    def _reset(self, message: Message) -> Iterator[Finding]:
        upload = self._upload
        if upload.first is None or upload.length is None or upload.expected is None:
            return
        if upload.expected < upload.length and upload.refused is None:
            said = (
                f"The last response's `off` is {upload.expected} of {upload.length} bytes: the image is not complete, "
                "and what was in the slot before is partly erased."
            )
            yield self._scene.finding(RESET_EARLY, message, said, Effect.REBOOTS, marks=message.places(7, 8))
        self._upload = _Upload()


def _to_application(number: int | None, profile: BootloaderProfile) -> bool:
    """Whether an upload with that number is written to the application's first slot."""
    if profile.direct_upload:
        return number in {None, 0, 1}
    return number in {None, 0} or (profile.images == 1 and profile.ignores_image_number)


def _rc(payload: dict[object, object]) -> int:
    err = payload.get("err")
    rc = err.get("rc") if isinstance(err, dict) else payload.get("rc")
    return rc if isinstance(rc, int) else 0


def _reset_vector(image: bytes) -> int | None:
    """The reset vector behind an MCUboot header; None where that has not come, or it is no such image."""
    if len(image) < _IMAGE_HEADER.size:
        return None
    magic, _, header = _IMAGE_HEADER.unpack_from(image)
    if magic != MAGIC or len(image) < header + _VECTORS.size:
        return None
    vector: int = _VECTORS.unpack_from(image, header)[1]
    return vector


def _spans(message: Message, key: str) -> tuple[int, int]:
    """First and last byte, within the packet, of a key's value; of `data` the string's bytes alone."""
    for name, value in cbor.read(message.body).pairs:
        if name.value == key:
            start = value.head if key == "data" and value.head < value.end else value.start
            return HEADER_SIZE + start, HEADER_SIZE + value.end
    return 0, 0


def _value_places(message: Message, key: str) -> tuple[tuple[int, int], ...]:
    return message.places(*_spans(message, key))


def _data_end(message: Message, count: int) -> tuple[int, int]:
    """The last `count` bytes of `data`."""
    end = _spans(message, "data")[1]
    return end - count, end
