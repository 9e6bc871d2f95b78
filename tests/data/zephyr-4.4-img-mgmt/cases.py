"""What is asked of a server's image group: cases, each with what lies in flash before it."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.image.format import (
    TLV_HEADER,
    TLV_INFO,
    TLV_INFO_MAGIC,
    TRAILER_MAGIC,
    ImageHeader,
    TlvType,
    Version,
)
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.smp.header import Group, ImageCommand, Op, OsCommand

PAGE = 0x400
SLOT_SIZE = 0x1A000
START = PAGE
"""Swap using offset: an image in slot 1 begins one page further up."""
MAGIC_AT, OK_AT, DONE_AT, INFO_AT = (SLOT_SIZE - back for back in (16, 24, 32, 40))
_HEADER = 32
_SET = b"\x01\xff\xff\xff"


def small_image(version: str, size: int = 100) -> bytes:
    """An image with the smallest header, so that a few requests carry all of it."""
    body = bytes(i * 7 & 0xFF for i in range(size))
    head = ImageHeader(hdr_size=_HEADER, img_size=size, version=Version.parse(version)).pack()
    digest = hashlib.sha256(head + body).digest()
    tlvs = TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest
    return head + body + TLV_INFO.pack(TLV_INFO_MAGIC, TLV_INFO.size + len(tlvs)) + tlvs


IMAGE = small_image("2.0.0")
OTHER = small_image("2.1.0", 120)
LONG = small_image("2.0.1", 1300)
HASH, OTHER_HASH = IMAGE[-32:], OTHER[-32:]
SHA = hashlib.sha256(IMAGE).digest()

TEST_MARK = ((INFO_AT, b"\x02\xff\xff\xff"), (MAGIC_AT, TRAILER_MAGIC))
PERMANENT_MARK = ((INFO_AT, b"\x03\xff\xff\xff"), (OK_AT, _SET), (MAGIC_AT, TRAILER_MAGIC))
UNCONFIRMED = ((INFO_AT, b"\x02\xff\xff\xff"), (DONE_AT, _SET), (MAGIC_AT, TRAILER_MAGIC))
CONFIRMED = (*UNCONFIRMED, (OK_AT, _SET))
BAD_MAGIC = ((MAGIC_AT, bytes(16)),)

Writes = tuple[tuple[int, bytes], ...]


class Request(NamedTuple):
    """One request; a payload that is not a mapping is sent as it is."""

    op: int
    group: int
    command: int
    payload: Any


class Case(NamedTuple):
    """Requests in a row, over flash that held `slot0` and `slot1` (offset, bytes), and nothing else behind the image.

    `version0`: the version that the header of the running image tells.
    """

    name: str
    requests: tuple[Request, ...]
    slot1: Writes = ()
    slot0: Writes = ()
    version0: str = "0.0.0"


def upload(off: int | None = None, data: bytes | None = None, **more: Any) -> Request:
    given = {"off": off, "data": data, "len": more.pop("length", None), **more}
    return Request(
        Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, {key: value for key, value in given.items() if value is not None}
    )


def whole(content: bytes, chunk: int = 96, **first: Any) -> tuple[Request, ...]:
    return tuple(
        upload(at, content[at : at + chunk], **({"length": len(content), **first} if at == 0 else {}))
        for at in range(0, len(content), chunk)
    )


def state(**payload: Any) -> Request:
    return Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, payload)


def erase(**payload: Any) -> Request:
    return Request(Op.WRITE, Group.IMAGE, ImageCommand.ERASE, payload)


LIST = Request(Op.READ, Group.IMAGE, ImageCommand.STATE, {})
SLOTS = Request(Op.READ, Group.IMAGE, ImageCommand.SLOT_INFO, {})
IN_SLOT1 = ((START, IMAGE),)


def all_cases() -> Iterator[Case]:
    yield from _lists()
    yield from _uploads()
    yield from _refused_uploads()
    yield from _resumed_uploads()
    yield from _states()
    yield from _erases()
    yield from _os()


def _lists() -> Iterator[Case]:
    yield Case("list-empty", (LIST,))
    yield Case("list-both", (LIST,), slot1=IN_SLOT1)
    yield Case("list-test", (LIST,), slot1=IN_SLOT1 + TEST_MARK)
    yield Case("list-permanent", (LIST,), slot1=IN_SLOT1 + PERMANENT_MARK)
    yield Case("list-unconfirmed", (LIST,), slot1=((0, IMAGE),), slot0=UNCONFIRMED)
    yield Case("list-unconfirmed-image-one-page-up", (LIST,), slot1=IN_SLOT1, slot0=UNCONFIRMED)
    yield Case("list-confirmed", (LIST,), slot1=((0, IMAGE),), slot0=CONFIRMED)
    yield Case("list-bad-magic", (LIST,), slot1=IN_SLOT1 + BAD_MAGIC)
    yield Case("list-test-without-image", (LIST,), slot1=TEST_MARK)
    yield Case("list-header-only", (LIST,), slot1=((START, IMAGE[:_HEADER]),))
    yield Case("list-version-with-build", (LIST,), slot1=((START, small_image("1.2.3+4")),))
    yield Case("slot-info", (SLOTS, SLOTS._replace(op=Op.WRITE)))
    yield Case("slot-info-used", (SLOTS,), slot1=IN_SLOT1 + TEST_MARK)


def _uploads() -> Iterator[Case]:
    yield Case("upload", (*whole(IMAGE), LIST))
    yield Case("upload-with-hash", (*whole(IMAGE, sha=SHA), LIST))
    yield Case("upload-with-wrong-hash", (*whole(IMAGE, sha=bytes(32)), LIST))
    yield Case("upload-long", (*whole(LONG, 200, sha=hashlib.sha256(LONG).digest()), LIST))
    yield Case("upload-cut-into-odd-pieces", (*whole(LONG, 187), LIST))
    yield Case("upload-corrupted", (*whole(IMAGE[:60] + b"\x55" + IMAGE[61:], sha=SHA), LIST))
    yield Case("upload-over-another", (*whole(IMAGE), LIST), slot1=((START, LONG),))
    yield Case("upload-over-stale-trailer", (*whole(IMAGE), LIST), slot1=BAD_MAGIC)
    yield Case("upload-over-test-mark", (*whole(IMAGE), LIST), slot1=IN_SLOT1 + TEST_MARK)
    yield Case("upload-over-permanent-mark", (*whole(IMAGE)[:1], LIST), slot1=IN_SLOT1 + PERMANENT_MARK)
    yield Case("upload-while-unconfirmed", (*whole(OTHER), LIST), slot1=((0, IMAGE),), slot0=UNCONFIRMED)
    yield Case("upload-image-0", (*whole(IMAGE, image=0), LIST))
    yield Case("upload-again", (*whole(IMAGE), *whole(IMAGE), LIST))
    yield Case("upload-again-with-hash", (*whole(IMAGE, sha=SHA), *whole(IMAGE, sha=SHA)[:1], LIST))
    yield Case("upload-what-runs-already", (LIST, *whole(IMAGE)[:2], LIST), version0="2.0.0")
    for name, version in (("older", "2.1.0"), ("same", "2.0.0"), ("newer", "1.9.9")):
        yield Case(f"upgrade-{name}", (*whole(IMAGE, upgrade=True)[:2], LIST), version0=version)
    yield Case("upgrade-false-older", (*whole(IMAGE, upgrade=False)[:2], LIST), version0="2.1.0")
    yield Case("upgrade-build-number", (*whole(small_image("2.0.0+5"), upgrade=True)[:1],), version0="2.0.0+6")


def _refused_uploads() -> Iterator[Case]:
    first, second, *_ = whole(IMAGE)
    yield Case("wrong-offset-behind", (first, second, upload(8, IMAGE[8:40]), upload(180, IMAGE[180:])))
    yield Case("wrong-offset-ahead", (first, upload(120, IMAGE[120:]), second))
    yield Case("offset-without-begin", (upload(96, IMAGE[96:]),))
    yield Case("past-the-end", (first, upload(96, IMAGE[96:] + bytes(20)), LIST))
    yield Case("no-offset", (upload(None, IMAGE[:96], length=len(IMAGE)),))
    yield Case("no-data", (upload(0, None, length=len(IMAGE)),))
    yield Case("no-data-later", (first, upload(96)))
    yield Case("empty-data-later", (first, upload(96, b""), second))
    yield Case("no-length", (upload(0, IMAGE[:96]),))
    yield Case("length-again", (first, upload(96, IMAGE[96:], length=7), LIST))
    yield Case("first-shorter-than-a-header", (upload(0, IMAGE[:31], length=len(IMAGE)),))
    yield Case("first-just-a-header", (upload(0, IMAGE[:32], length=len(IMAGE)), upload(32, IMAGE[32:]), LIST))
    yield Case("bad-magic", (upload(0, b"\x3c" + IMAGE[1:96], length=len(IMAGE)), LIST))
    yield Case("nothing", (Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, {}),))
    yield Case("upload-read", (Request(Op.READ, Group.IMAGE, ImageCommand.UPLOAD, {}),))
    for payload in (
        b"",
        b"\xff",
        dumps([1]),
        dumps({"off": "x", "data": b"x"}),
        b"\xbf\x63off\x00",
        b"\xa2\x63off\x00",
    ):
        yield Case(f"not-a-map-{payload.hex()}", (Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, payload),))
    for image in (1, 2, 255):
        yield Case(f"upload-image-{image}", (upload(0, IMAGE[:96], length=len(IMAGE), image=image),))
    yield Case("image-number-later", (first, upload(96, IMAGE[96:], image=1), LIST))
    for length in (0x19800, 0x19801, 0x19C00, 0x19C01, SLOT_SIZE, SLOT_SIZE + 1, 0x7FFFFFFF):
        yield Case(f"length-{length:#x}", (upload(0, LONG[:96], length=length),))
    yield Case("length-below-the-image", (upload(0, IMAGE[:96], length=90), LIST))
    yield Case("unknown-key", (upload(0, IMAGE[:96], length=len(IMAGE), colour="red"),))


def _resumed_uploads() -> Iterator[Case]:
    first, second = whole(IMAGE, sha=SHA)[:2]
    yield Case("resume", (first, first, second, LIST))
    yield Case("resume-far", (*whole(LONG, 200, sha=SHA)[:4], upload(0, LONG[:200], length=len(LONG), sha=SHA)))
    yield Case("begin-another", (first, upload(0, OTHER[:96], length=len(OTHER), sha=bytes(32)), LIST))
    yield Case("begin-without-hash", (first, *whole(IMAGE), LIST))
    yield Case("begin-twice-without-hash", (*whole(IMAGE)[:1], *whole(IMAGE), LIST))
    for size in (0, 8, 31, 33, 64):
        yield Case(f"hash-of-{size}", (upload(0, IMAGE[:96], length=len(IMAGE), sha=bytes(range(size))), LIST))
    short = upload(0, IMAGE[:96], length=len(IMAGE), sha=SHA[:8])
    yield Case("resume-short-hash", (short, short, second))
    yield Case("state-while-uploading", (first, state(hash=HASH, confirm=False), LIST, second))
    yield Case("refused-state-keeps-upload", (first, state(hash=bytes(32), confirm=False), second))


def _states() -> Iterator[Case]:
    test, confirm = state(hash=HASH, confirm=False), state(hash=HASH, confirm=True)
    yield Case("test", (test, LIST), slot1=IN_SLOT1)
    yield Case("test-without-confirm-key", (state(hash=HASH), LIST), slot1=IN_SLOT1)
    yield Case("test-twice", (test, test), slot1=IN_SLOT1)
    yield Case("confirm-hash", (confirm, LIST), slot1=IN_SLOT1)
    yield Case("confirm-hash-twice", (confirm, confirm), slot1=IN_SLOT1)
    yield Case("test-then-confirm", (test, confirm, LIST), slot1=IN_SLOT1)
    yield Case("confirm-then-test", (confirm, test, LIST), slot1=IN_SLOT1)
    yield Case("unknown-hash", (state(hash=OTHER_HASH, confirm=False),), slot1=IN_SLOT1)
    yield Case("unknown-hash-confirm", (state(hash=OTHER_HASH, confirm=True),), slot1=IN_SLOT1)
    for size in (0, 1, 31, 33):
        yield Case(f"state-hash-of-{size}", (state(hash=(HASH + b"\0")[:size], confirm=False),), slot1=IN_SLOT1)
    yield Case("confirm", (state(confirm=True), LIST), slot1=IN_SLOT1)
    yield Case("test-without-hash", (state(confirm=False),), slot1=IN_SLOT1)
    yield Case("state-empty", (state(),), slot1=IN_SLOT1)
    yield Case("state-hash-is-text", (state(hash="abc", confirm=True),), slot1=IN_SLOT1)
    yield Case("state-not-a-map", (Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, b"\x80"),), slot1=IN_SLOT1)
    yield Case("confirm-while-pending", (state(confirm=True), LIST), slot1=IN_SLOT1 + TEST_MARK)
    after_swap: dict[str, Writes] = {"slot1": ((0, IMAGE),), "slot0": UNCONFIRMED}
    yield Case("confirm-after-swap", (LIST, state(confirm=True), LIST), **after_swap)
    yield Case("confirm-after-swap-twice", (state(confirm=True), state(confirm=True)), **after_swap)
    yield Case("test-after-swap", (test, LIST), **after_swap)
    yield Case("confirm-other-after-swap", (confirm, LIST), **after_swap)
    confirmed: dict[str, Writes] = {"slot1": ((0, IMAGE),), "slot0": CONFIRMED}
    yield Case("test-old-after-confirm", (test, LIST), **confirmed)
    yield Case("confirm-when-confirmed", (state(confirm=True), LIST), **confirmed)
    yield Case("test-bad-magic", (test, LIST), slot1=IN_SLOT1 + BAD_MAGIC)
    yield Case("confirm-bad-magic", (confirm, LIST), slot1=IN_SLOT1 + BAD_MAGIC)


def _erases() -> Iterator[Case]:
    yield Case("erase", (erase(), LIST), slot1=IN_SLOT1 + BAD_MAGIC)
    yield Case("erase-empty", (erase(),))
    for slot in (0, 1, 2, 3, 255):
        yield Case(f"erase-slot-{slot}", (erase(slot=slot), LIST), slot1=IN_SLOT1)
    yield Case("erase-pending", (erase(), LIST), slot1=IN_SLOT1 + TEST_MARK)
    yield Case("erase-permanent", (erase(), LIST), slot1=IN_SLOT1 + PERMANENT_MARK)
    yield Case("erase-after-swap", (erase(), LIST), slot1=((0, IMAGE),), slot0=UNCONFIRMED)
    yield Case("erase-confirmed", (erase(), LIST), slot1=((0, IMAGE),), slot0=CONFIRMED)
    yield Case("erase-while-uploading", (*whole(IMAGE)[:1], erase(), *whole(IMAGE)[1:], LIST))
    yield Case("erase-read", (erase()._replace(op=Op.READ),), slot1=IN_SLOT1)
    yield Case("erase-slot-is-text", (erase(slot="one"),), slot1=IN_SLOT1)
    yield Case("erase-not-a-map", (Request(Op.WRITE, Group.IMAGE, ImageCommand.ERASE, b""),), slot1=IN_SLOT1)


def _os() -> Iterator[Case]:
    for op in (Op.READ, Op.WRITE):
        yield Case(f"params-{op}", (Request(op, Group.OS, OsCommand.PARAMS, {}),))
        yield Case(f"bootloader-{op}", (Request(op, Group.OS, OsCommand.BOOTLOADER_INFO, {}),))
        yield Case(f"echo-{op}", (Request(op, Group.OS, OsCommand.ECHO, {"d": "hello"}),))
    for size in (0, 1, 20, 100, 200, 300, 350, 351, 355, 357, 358, 359, 360, 361, 362, 363, 364, 365, 366, 367, 368):
        yield Case(f"echo-of-{size}", (Request(Op.WRITE, Group.OS, OsCommand.ECHO, {"d": "x" * size}),))
    yield Case("echo-bytes", (Request(Op.WRITE, Group.OS, OsCommand.ECHO, {"d": b"abc"}),))
    yield Case("echo-nothing", (Request(Op.WRITE, Group.OS, OsCommand.ECHO, {}),))
    yield Case("echo-no-payload", (Request(Op.WRITE, Group.OS, OsCommand.ECHO, b""),))
    for command in (1, 2, 3, 4, 9, 200):
        yield Case(f"os-{command}", (Request(Op.READ, Group.OS, command, {}),))
    for command in (2, 3, 4, 7):
        yield Case(f"image-{command}", (Request(Op.WRITE, Group.IMAGE, command, {}),))
    yield Case("group-77", (Request(Op.READ, 77, 0, {}),))
    yield Case("response-as-request", (Request(Op.READ_RESPONSE, Group.IMAGE, 0, {}),))
