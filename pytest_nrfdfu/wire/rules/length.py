"""Wrong length fields, and frames of which a part is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op
from pytest_nrfdfu.wire.frames import Frame, joined
from pytest_nrfdfu.wire.rules import crc
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_TRANSPORT, Effect, Finding, Rule, Scene, Severity

__all__ = ["RULES", "contents", "each_line", "plausible", "unwrap"]

_SOURCE = f'{SMP_TRANSPORT}, "Frame formats"; {BOOT_SERIAL}, boot_serial_in_dec'
_RECIPE = (
    "The first two bytes before base64 are the number of bytes that follow them in all lines of the frame together: 8 "
    "for the header, the payload, and 2 for the CRC; high byte first; once per frame, in its first line."
)
_CODE = "length = 8 + payload_size + 2; frame[0] = length >> 8; frame[1] = length & 0xff;"


def _rule(name: str, title: str, fix: str) -> Rule:
    return Rule(name, Severity.ERROR, title, fix, _SOURCE, _RECIPE, _CODE)


LITTLE = _rule("length-little-endian", "The length field has its low byte first.", "Send its high byte first.")
PER_LINE = _rule(
    "length-per-line",
    "The length field is that of one line instead of the whole frame.",
    "Count the bytes of all lines together, and send the length once.",
)
WITHOUT_CRC = _rule(
    "length-without-crc",
    "The length field does not count the CRC.",
    "Add 2 to the length field.",
)
COUNTS_ITSELF = _rule(
    "length-counts-itself",
    "The length field counts its own two bytes.",
    "Subtract 2 from the length field: it counts only what follows it.",
)
OF_TEXT = _rule(
    "length-of-text",
    "The length field is that of the base64 text.",
    "Count the bytes before base64, not the characters after it.",
)
MISSING = _rule(
    "length-missing",
    "The packet was encoded without length field and CRC.",
    "Put the length in front of the packet and the CRC behind it, before base64.",
)
WRONG = _rule(
    "length-wrong",
    "The length field is wrong, in no known way.",
    "Send the number of bytes that follow the length field.",
)
INCOMPLETE = _rule(
    "packet-incomplete",
    "The frame ends before the bytes that its length field promises.",
    "Send all lines of the frame before anything else, each with its newline.",
)
BEHIND = _rule(
    "bytes-behind-packet",
    "Bytes follow the CRC.",
    "End the frame with its CRC: no zero from a C string, no rest of a buffer.",
)
RULES = (LITTLE, PER_LINE, WITHOUT_CRC, COUNTS_ITSELF, OF_TEXT, MISSING, WRONG, INCOMPLETE, BEHIND)

_OPS = 4
_LARGEST_GROUP = 1024
"""More than the standard's groups (0 to 63) and what users define from 64 on: a bound for what looks like a header."""
_BECAUSE = "It looks at a packet only when exactly as many bytes have come as the length field says."


def plausible(data: bytes) -> Header | None:
    """The SMP header that `data` begins with, if it looks like one."""
    if len(data) < HEADER_SIZE or data[0] & 0xE0:
        return None
    header = Header.unpack(data)
    return header if header.op < _OPS and not header.flags and header.group < _LARGEST_GROUP else None


def unwrap(body: bytes) -> bytes | None:
    """The packet in decoded bytes, if length and CRC are right."""
    if len(body) < console.FRAME_OVERHEAD or int.from_bytes(body[:2], "big") != len(body) - 2:
        return None
    packet = body[2:-2]
    return packet if console.crc16(packet) == int.from_bytes(body[-2:], "big") else None


def contents(scene: Scene, frame: Frame) -> Iterator[Finding]:
    """What is wrong with the decoded bytes of a frame whose lines and base64 are right."""
    body, rest = frame.body, frame.body[2:]
    end = (frame.length_field or 0) + 2
    if end < len(body) and unwrap(body[:end]) is not None:
        yield _behind(scene, frame, end)  # asked first: zeros behind a CRC leave the CRC over everything right
        return
    if frame.crc_sent is not None and frame.crc_sent == frame.crc_computed:
        yield _explain_length(scene, frame)
        return
    header = plausible(rest)
    ends_with_packet = header is not None and HEADER_SIZE + header.length == len(rest)
    if ends_with_packet and frame.length_field in {len(rest), len(rest) + 2}:
        yield crc.crc_missing(scene, frame)
    elif frame.length_field == len(rest):
        yield crc.explain_crc(scene, frame) or crc.wrong_crc(scene, frame)
    elif _is_bare(body):
        yield _bare(scene, frame)
    else:
        yield from _both_wrong(scene, frame)


def _both_wrong(scene: Scene, frame: Frame) -> Iterator[Finding]:
    body, length = frame.body, frame.length_field or 0
    first = len(frame.lines[0].text) // 4 * 3
    if len(frame.lines) > 1 and length == first - 2:
        yield _finding(scene, frame, PER_LINE, "Every line has a length field, and perhaps a CRC, of its own.", None)
    elif (explained := crc.explain_crc(scene, frame)) is not None:
        yield explained
        yield _explain_length(scene, frame)
    elif length > len(body) - 2:
        yield _incomplete(scene, frame)
    else:
        yield _explain_length(scene, frame)


def each_line(scene: Scene, frame: Frame, following: Iterable[Frame | None]) -> tuple[Finding, int] | None:
    """For a packet of which every line is framed as a packet of its own; and how many of the `following` are its lines.

    Such a frame is whole with its first line, whose header says that more of the payload follows.
    """
    header = None if frame.packet is None or frame.lines[0].marker != console.START else plausible(frame.packet)
    if header is None:
        return None
    parts, missing = [frame], HEADER_SIZE + header.length - len(frame.packet or b"")
    for more in following:
        if missing <= 0 or more is None or not more.behind_whole or more.packet is None:
            break
        parts.append(more)
        missing -= len(more.packet)
    return (_each_line(scene, header, parts), len(parts) - 1) if missing == 0 and len(parts) > 1 else None


def _each_line(scene: Scene, header: Header, parts: Sequence[Frame]) -> Finding:
    packet, frame = b"".join(part.packet or b"" for part in parts), joined(parts)
    said = f"Each of the {len(parts)} lines has a length field and a CRC of its own; a frame has one of each."
    because = (
        f"It takes the first line with its {len(parts[0].packet or b'')} bytes for the whole frame, whose payload then"
        " is cut off, and the lines after it for nothing."
    )
    starts = [(part.start + 2, part.start + 5) for part in parts[1:]]
    marks = (*frame.places(0, 2), *starts)
    upload = header.op == Op.WRITE and (header.group, header.command) == (Group.IMAGE, ImageCommand.UPLOAD)
    effect = Effect.RC3 if upload else Effect.ANSWERS
    return scene.finding(PER_LINE, frame, said, effect, because=because, marks=marks, should=console.encode(packet))


def _explain_length(scene: Scene, frame: Frame) -> Finding:
    length, right = frame.length_field or 0, len(frame.body) - 2
    little = int.from_bytes(frame.body[:2], "little")
    lines = frame.lines
    text = len(lines[0].text)
    of_line = {text // 4 * 3 - 2, text // 4 * 3, text // 4 * 3 - 4, text, len(lines[0].raw), len(lines[0].raw) - 1}
    if little == right:
        rule, said = LITTLE, "With its bytes exchanged it would be right."
    elif length == right - 2:
        rule, said = WITHOUT_CRC, "It must also count the two bytes of CRC."
    elif len(lines) > 1 and length in of_line:
        rule, said = PER_LINE, f"That is the size of the first line alone; the frame has {len(lines)} lines."
    elif length == right + 2:
        rule, said = COUNTS_ITSELF, "Its own two bytes are counted in it."
    elif length in {len(frame.encoded), len(frame.raw), len(frame.encoded) + 2}:
        rule, said = OF_TEXT, f"The frame has {len(frame.encoded)} characters of base64, which do not matter here."
    else:
        rule, said = WRONG, "No usual mistake gives this number."
    return _finding(scene, frame, rule, said, console.encode(frame.body[2:-2]))


def _finding(scene: Scene, frame: Frame, rule: Rule, said: str, should: bytes | None) -> Finding:
    length, right = frame.length_field or 0, len(frame.body) - 2
    words = f"The length field says {length} (0x{length:04x}), and {right} (0x{right:04x}) bytes follow it. {said}"
    marks = frame.places(0, 2)
    return scene.finding(rule, frame, words, Effect.SILENCE, because=_BECAUSE, marks=marks, should=should)


def _is_bare(body: bytes) -> bool:
    """Whether it is a packet without length field and CRC; the CRC, or the payload, may be there or not."""
    header = plausible(body)
    return header is not None and len(body) - HEADER_SIZE in {0, header.length, header.length + 2}


def _bare(scene: Scene, frame: Frame) -> Finding:
    packet = frame.body
    header = Header.unpack(packet)
    whole = packet[: HEADER_SIZE + header.length]
    complete = len(whole) == HEADER_SIZE + header.length
    short = "" if complete else f" And its payload ({header.length} bytes, says the header) is missing."
    said = f"The base64 text begins with the SMP header. In front of it belongs a length field, behind it a CRC.{short}"
    return scene.finding(
        MISSING,
        frame,
        said,
        Effect.SILENCE,
        because="It takes the header's first two bytes for the length, and waits for that many bytes.",
        marks=frame.places(0, 2),
        should=console.encode(whole) if complete else None,
    )


def _incomplete(scene: Scene, frame: Frame) -> Finding:
    length, came = frame.length_field or 0, len(frame.body) - 2
    said = (
        f"The length field promises {length} bytes (0x{length:04x}) of header, payload and CRC in all lines of the "
        f"frame together; {came} came in {len(frame.lines)} line{'s'[: len(frame.lines) - 1]}."
    )
    because = "It waits for the rest, until a line with 06 09 begins another frame."
    end = (frame.end - 1, frame.end)
    return scene.finding(INCOMPLETE, frame, said, Effect.SILENCE, because=because, marks=(*frame.places(0, 2), end))


def _behind(scene: Scene, frame: Frame, end: int) -> Finding:
    count = len(frame.body) - end
    said = f"Length and CRC are right, but {count} more byte{'s'[: count - 1]} follow in the same frame."
    return scene.finding(
        BEHIND,
        frame,
        said,
        Effect.SILENCE,
        because=_BECAUSE,
        marks=frame.places(end, len(frame.body)),
        should=console.encode(frame.body[2 : end - 2]),
    )
