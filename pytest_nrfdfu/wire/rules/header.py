"""Wrong SMP headers in packets whose framing is right."""

from __future__ import annotations

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.smp.header import Group, Header, ImageCommand, Op, OsCommand
from pytest_nrfdfu.wire.frames import Message
from pytest_nrfdfu.wire.rules.base import (
    BOOT_SERIAL,
    SMP_PROTOCOL,
    Effect,
    Finding,
    Rule,
    Scene,
    Severity,
    encoded,
)

__all__ = ["RULES", "answer", "find_in_header"]

_SOURCE = f"{SMP_PROTOCOL}, the table of the header; {BOOT_SERIAL}, boot_serial_input"
_RECIPE = (
    "The header's eight bytes: op (plus 8 for SMP version 2), flags 0, length of the payload (two bytes), group (two "
    "bytes), sequence, command."
)
_CODE = "uint8_t header[8] = {8 | op, 0, size >> 8, size, group >> 8, group, sequence, command};"

LITTLE = Rule(
    "header-little-endian",
    Severity.ERROR,
    "Length or group in the SMP header has its low byte first.",
    "Send both, bytes 2-3 and 4-5 of the header, with the high byte first: write bytes, do not copy a C struct.",
    _SOURCE,
    _RECIPE,
    _CODE,
)
NOT_REQUEST = Rule(
    "op-not-request",
    Severity.ERROR,
    "The header's op is not one of a request.",
    "Requests have op 0 (read) or 2 (write) in the low three bits of the first byte; 1 and 3 are responses.",
    _SOURCE,
)
WRONG_OP = Rule(
    "op-wrong",
    Severity.WARNING,
    "The command was sent with the other op.",
    "Upload, erase and reset are writes (op 2); slot info, parameters and bootloader info are reads (op 0).",
    f"{SMP_PROTOCOL} and smp_groups/; {BOOT_SERIAL}, bs_upload and bs_slot_info",
)
LENGTH = Rule(
    "header-length-wrong",
    Severity.ERROR,
    "The length in the SMP header is not that of the payload.",
    "Bytes 2-3 of the header are the number of CBOR bytes behind the header: without header, CRC and framing.",
    _SOURCE,
    _RECIPE,
    _CODE,
)
RULES = (LITTLE, NOT_REQUEST, WRONG_OP, LENGTH)

_WRITES = {(Group.IMAGE, ImageCommand.UPLOAD), (Group.IMAGE, ImageCommand.ERASE), (Group.OS, OsCommand.RESET)}
_READS = {
    (Group.IMAGE, ImageCommand.SLOT_INFO),
    (Group.OS, OsCommand.PARAMS),
    (Group.OS, OsCommand.BOOTLOADER_INFO),
}
_SWAPPED_GROUPS = {group << 8 for group in range(1, 11)} | {63 << 8}
"""Zephyr's groups 1 to 10 and 63 (mgmt_defines.h), with their bytes exchanged."""


_TOO_LARGE = " The length alone would do no harm: it refuses only lengths that are too small."


def _swap(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def answer(header: Header, size: int, profile: BootloaderProfile) -> Effect:
    """What MCUboot does with a request of `size` bytes of payload, as far as the header decides."""
    if header.op not in {Op.READ, Op.WRITE} or header.length < size:
        return Effect.SILENCE
    unknown = Effect.RC8 if profile.rejects_unknown else Effect.SILENCE
    match header.group, header.command:
        case Group.OS, OsCommand.RESET:
            return Effect.REBOOTS
        case Group.IMAGE, ImageCommand.STATE if header.op == Op.WRITE and not profile.image_state:
            return unknown
        case Group.IMAGE, (ImageCommand.STATE | ImageCommand.UPLOAD):
            return Effect.ANSWERS
    built_in: dict[tuple[int, int], bool] = {
        (Group.IMAGE, ImageCommand.SLOT_INFO): profile.slot_info,
        (Group.OS, OsCommand.PARAMS): profile.params,
        (Group.OS, OsCommand.ECHO): profile.echo,
    }
    return Effect.ANSWERS if built_in.get((header.group, header.command), False) else unknown


def _expected_op(header: Header) -> Op | None:
    command = (header.group, header.command)
    return Op.WRITE if command in _WRITES else Op.READ if command in _READS else None


def find_in_header(scene: Scene, message: Message) -> Finding | None:
    """The first thing that is wrong with the header of a message from the host."""
    if not message.is_request or message.header.op not in {Op.READ, Op.WRITE}:
        return _not_request(scene, message)
    return _little(scene, message) or _length(scene, message) or _op(scene, message)


def _not_request(scene: Scene, message: Message) -> Finding:
    header = message.header
    op = _expected_op(header)
    op = op if op is not None else Op.READ if header.op % 2 == 0 or header.op == Op.READ_RESPONSE else Op.WRITE
    kind = " That is a response; only the board sends those." if header.op in {1, 3} else ""
    return scene.finding(
        NOT_REQUEST,
        message,
        f"The first byte of the header, {message.packet[0]:02x}, says op {header.op}.{kind}",
        Effect.SILENCE,
        because="It takes op 0 and op 2 only.",
        marks=message.places(0, 1),
        should=encoded(message, op=op),
    )


def _little(scene: Scene, message: Message) -> Finding | None:
    header, size = message.header, len(message.body)
    length = header.length != size and _swap(header.length) == size
    group = header.group in _SWAPPED_GROUPS
    if not (length or group):
        return None
    fixed = {"group": _swap(header.group) if group else header.group, "length": size}
    wrong = []
    if length:
        wrong.append(f"length {header.length} (0x{header.length:04x}) instead of {size}")
    if group:
        wrong.append(f"group {header.group} (0x{header.group:04x}) instead of {fixed['group']}")
    said = f"In the header, the low byte came first: {', and '.join(wrong)}."
    effect = answer(header, size, scene.profile)
    places = ((2, 4) if length else (4, 6), (4, 6) if group else (2, 4))
    marks = [place for first, last in dict.fromkeys(places) for place in message.places(first, last)]
    because = {
        Effect.RC8: f"It knows no group {header.group}.{_TOO_LARGE if length and header.length > size else ''}",
        Effect.SILENCE: f"A length of {header.length} is less than the {size} bytes that came.",
    }.get(effect, "")
    return scene.finding(
        LITTLE, message, said, effect, because=because, marks=marks, should=encoded(message, None, **fixed)
    )


def _length(scene: Scene, message: Message) -> Finding | None:
    header, size = message.header, len(message.body)
    if header.length == size:
        return None
    counted = {
        size + 8: " The header's own eight bytes are counted in it.",
        size + 10: " Header and CRC are counted in it.",
        size + 2: " The CRC is counted in it.",
        size + 12: " Header, CRC and length field are counted in it.",
    }.get(header.length, "")
    said = f"The header says {header.length} bytes of payload, and {size} follow it.{counted}"
    effect = answer(header, size, scene.profile)
    because = "It refuses only lengths that are too small." if header.length > size else "The length is too small."
    return scene.finding(
        LENGTH,
        message,
        said,
        effect,
        because=because,
        marks=message.places(2, 4),
        should=encoded(message),
        severity=Severity.ERROR if effect is Effect.SILENCE else Severity.WARNING,
    )


def _op(scene: Scene, message: Message) -> Finding | None:
    header = message.header
    wanted = _expected_op(header)
    if wanted is None or wanted == header.op:
        return None
    names = {Op.READ: "read (op 0)", Op.WRITE: "write (op 2)"}
    said = f"Command {header.command} of group {header.group} is a {names[wanted]}, and was sent as a "
    return scene.finding(
        WRONG_OP,
        message,
        f"{said}{names[Op(header.op)]}.",
        answer(header, len(message.body), scene.profile),
        because="It looks at group and command alone here; the SMP server of an application does not.",
        marks=message.places(0, 1),
        should=encoded(message, op=wanted),
    )
