"""Lines that MCUboot cannot take: their ends, their length, and the base64 text in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.wire.frames import Frame, Line
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_TRANSPORT, Effect, Finding, Rule, Scene, Severity
from pytest_nrfdfu.wire.rules.length import plausible, unwrap

__all__ = ["RULES", "decode_base64", "find_in_lines", "marker_prefix"]

_FORMATS = f'{SMP_TRANSPORT}, "Frame formats"'
_READ = f"{BOOT_SERIAL}, boot_serial_read_console and boot_serial_in_dec"


def _rule(name: str, title: str, fix: str, source: str = f"{_FORMATS}; {_READ}") -> Rule:
    return Rule(name, Severity.ERROR, title, fix, source)


CRLF = _rule("line-crlf", "A line ends with CR LF (0d 0a).", "End every line with the one byte 0a.")
NEWLINE = _rule("newline-missing", "A line has no newline at its end.", "End every line, also the last, with 0a.")
TOO_LONG = _rule(
    "line-too-long",
    "A line has more than 127 bytes.",
    "Cut the base64 text into parts of 124 characters: with two bytes of marker and the newline that makes 127.",
    f'{SMP_TRANSPORT}, "Frame fragmenting"; MCUboot, boot/zephyr/serial_adapter.c (CONFIG_BOOT_MAX_LINE_INPUT_LEN)',
)
SPLIT = _rule(
    "groups-split",
    "A group of four base64 characters is split across two lines.",
    "Put a multiple of four characters into every line: 124 is one, 123 or 125 is not.",
)
PADDING = _rule(
    "padding-inside",
    "Padding (=) stands in the middle of a frame.",
    "Encode length, packet and CRC at once, and cut the text into lines afterwards; or give every line but the "
    "last a multiple of three bytes.",
)
UNPADDED = _rule(
    "padding-missing",
    "The base64 text has no padding (=) at its end.",
    "Fill the last group up to four characters with =.",
)
CUT = _rule(
    "base64-cut",
    "Characters of the base64 text are missing.",
    "Look for bytes lost on the way: a transmit buffer that overflows, another baud rate, missing flow control.",
)
ALPHABET = _rule(
    "base64-alphabet",
    "The text holds characters that are none of base64's.",
    "Use the standard alphabet: A-Z a-z 0-9 + / and = for padding, and nothing between them.",
)
NOT_BASE64 = _rule(
    "not-base64", "The frame was sent without base64.", "Encode length, packet and CRC together in base64."
)
PREFIX = _rule(
    "bytes-before-start",
    "Something stands in front of the marker, in the same line.",
    "Let every line begin with its marker (06 09 or 04 14), right behind the newline before it; one newline more is "
    "harmless.",
)
RULES = (CRLF, NEWLINE, TOO_LONG, SPLIT, PADDING, UNPADDED, CUT, ALPHABET, NOT_BASE64, PREFIX)

_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_GROUP = 4
_DECODES_LINES = "It decodes every line by itself"


def decode_base64(text: bytes) -> bytes | None:
    """What `text` encodes; None if it is not whole base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _right(text: bytes) -> bytes | None:
    """The packet in base64 text, if everything is right with it."""
    body = decode_base64(text)
    return None if body is None else unwrap(body)


def marker_prefix(scene: Scene, line: Line) -> bytes:
    """What stands in front of `line` since the newline before it."""
    prefix = scene.sent[scene.sent.rfind(b"\n", 0, line.start) + 1 : line.start]
    return b"" if prefix.startswith((console.START, console.CONTINUATION)) else prefix


def find_in_lines(scene: Scene, frame: Frame) -> Finding | None:
    """The first thing that is wrong with the lines of a frame."""
    checks: tuple[Callable[[Scene, Frame], Finding | None], ...] = (
        _not_base64,
        _newline,
        _crlf,
        _prefix,
        _too_long,
        _alphabet,
        _padding,
        _groups,
    )
    return next((found for check in checks if (found := check(scene, frame)) is not None), None)


def _newline(scene: Scene, frame: Frame) -> Finding | None:
    missing = [line for line in frame.lines if not line.raw.endswith(b"\n")]
    if not missing or (missing[0].end == len(scene.sent) and _right(missing[0].text) is None and frame.packet is None):
        return None  # the capture ends in mid-packet
    line = missing[0]
    last = f"It ends with {line.raw[-1:].hex()} instead." if line.raw[-1] not in _CHARACTERS else ""
    said = f"Line {frame.lines.index(line) + 1} of {len(frame.lines)} does not end with a newline (0a). {last}".strip()
    because = (
        "It looks at a line only when its newline has come; until then all bytes, those of the next lines too, are "
        "added to this line, and what is beyond its buffer is lost."
    )
    should = None if frame.packet is None else console.encode(frame.packet)
    mark = (line.end - 1, line.end)
    return scene.finding(NEWLINE, frame, said, Effect.SILENCE, because=because, marks=[mark], should=should)


def _crlf(scene: Scene, frame: Frame) -> Finding | None:
    marks = [(line.end - 2, line.end - 1) for line in frame.lines if line.raw.endswith(b"\r\n")]
    if not marks:
        return None
    said = "The line ends with carriage return and newline (0d 0a), as terminals do it. SMP lines end with 0a alone."
    because = "It removes the newline, and its base64 decoder refuses the carriage return that is left."
    should = None if frame.packet is None else console.encode(frame.packet)
    return scene.finding(CRLF, frame, said, Effect.SILENCE, because=because, marks=marks, should=should)


def _prefix(scene: Scene, frame: Frame) -> Finding | None:
    found = [(line, prefix) for line in frame.lines if (prefix := marker_prefix(scene, line))]
    if not found:
        return None
    line, prefix = found[0]
    shown = prefix[-16:].hex(" ")
    of_ends = " The lines before it end with LF CR, and that CR belongs to this line." if prefix == b"\r" else ""
    said = f"In front of the marker {line.marker.hex(' ')} stands {shown} in the same line.{of_ends}"
    start = line.start - len(prefix)
    should = None if frame.packet is None else console.encode(frame.packet)
    because = "It passes over a line that does not begin with 06 09 or 04 14, as over console text."
    place = (min(start, frame.start), frame.end, frame.time_first)
    return scene.finding(
        PREFIX, place, said, Effect.SILENCE, because=because, marks=[(start, line.start)], should=should
    )


def _too_long(scene: Scene, frame: Frame) -> Finding | None:
    long = [line for line in frame.lines if len(line.raw) > console.LINE_LENGTH]
    if not long:
        return None
    size, limit = max(len(line.raw) for line in long), scene.profile.line_length
    said = f"A line has {size} bytes, marker and newline included; 127 are allowed."
    should = None if frame.packet is None else console.encode(frame.packet)
    marks = [(line.start + console.LINE_LENGTH, line.end) for line in long]
    if size <= limit:
        because = f"Its line buffer has {limit} bytes, so this one fits."
        severity, effect = Severity.WARNING, Effect.ANSWERS
    else:
        because = f"Its line buffer has {limit} bytes; what is beyond is cut off, the newline too."
        severity, effect = Severity.ERROR, Effect.SILENCE
    return scene.finding(TOO_LONG, frame, said, effect, because=because, marks=marks, should=should, severity=severity)


def _not_base64(scene: Scene, frame: Frame) -> Finding | None:
    """Bytes, or hex digits, where base64 belongs."""
    start, end = frame.start, frame.end
    raw = scene.sent[start + 2 : end].removesuffix(b"\n")
    packet = unwrap(raw) or unwrap(raw[:-1])
    how = "They are the frame's bytes as they are."
    if packet is None and frame.packet is None:
        packet = _of_hex(frame.encoded)
        how = "It is the frame as hex digits." if packet is not None else how
        if packet is None and (header := plausible(raw[2:])) is not None:
            packet = raw[2 : 10 + header.length]
    if packet is None:
        return None
    said = f"What stands between marker and newline is no base64. {how}"
    because = "Its base64 decoder refuses the line, or finds something else in it."
    marks = [(start + 2, end - 1)]
    should = console.encode(packet)
    return scene.finding(NOT_BASE64, frame, said, Effect.SILENCE, because=because, marks=marks, should=should)


def _of_hex(text: bytes) -> bytes | None:
    try:
        return unwrap(bytes.fromhex(text.decode("ascii")))
    except ValueError:
        return None


def _alphabet(scene: Scene, frame: Frame) -> Finding | None:
    marks = [
        (line.start + 2 + index, line.start + 3 + index)
        for line in frame.lines
        for index, character in enumerate(line.text)
        if character not in _CHARACTERS
    ]
    if not marks:
        return None
    text = frame.encoded
    safe = _right(text.translate(_URL_SAFE))
    packet = safe or _right(bytes(character for character in text if character in _CHARACTERS))
    shown = scene.sent[slice(*marks[0])]
    kind = " It is base64 for URLs and file names, which has - and _ for + and /." if safe is not None else ""
    said = f"Character {shown.hex()} ({shown.decode('ascii', 'replace')!r}) is none of base64's.{kind}"
    should = None if packet is None else console.encode(packet)
    return scene.finding(
        ALPHABET, frame, said, Effect.SILENCE, because="Its decoder refuses the line.", marks=marks, should=should
    )


def _padding(scene: Scene, frame: Frame) -> Finding | None:
    """Padding that is not at the frame's end. MCUboot takes it at the end of a line."""
    end = len(frame.encoded.rstrip(b"="))
    if b"=" not in frame.encoded[:end]:
        return None
    marks, behind = [], 0
    for line in frame.lines:
        places = (i for i, character in enumerate(line.text) if character == ord("=") and behind + i < end)
        marks += [(line.start + 2 + i, line.start + 3 + i) for i in places]
        behind += len(line.text)
    pieces = [decode_base64(line.text) for line in frame.lines]
    body = b"".join(piece or b"" for piece in pieces)
    packet = unwrap(body)
    at_ends = None not in pieces and all(len(line.raw) <= scene.profile.line_length for line in frame.lines)
    if packet is not None and at_ends:
        effect, severity = Effect.ANSWERS, Severity.WARNING
        because = f"{_DECODES_LINES}, so padding at the end of a line does no harm there."
        said = "Every line was encoded by itself, which leaves padding (=) in the middle of the frame's text."
    else:
        effect, severity = Effect.SILENCE, Severity.ERROR
        because = "Its decoder refuses a line in which something follows the padding."
        said = "Padding (=) is allowed at the end of the base64 text only: the frame was encoded in parts."
    should = console.encode(packet or frame.presumed) if packet or plausible(frame.presumed) else None
    return scene.finding(PADDING, frame, said, effect, because=because, marks=marks, should=should, severity=severity)


def _groups(scene: Scene, frame: Frame) -> Finding | None:
    """Lines, or the whole text, that are no multiple of four characters."""
    odd = [line for line in frame.lines if len(line.text) % _GROUP]
    text = frame.encoded
    if not odd or (odd[0].end == len(scene.sent) and not odd[0].raw.endswith(b"\n")):
        return None
    line = odd[0]
    left = len(line.text) % _GROUP
    marks = [(line.start + 2 + len(line.text) - left, line.start + 2 + len(line.text))]
    size = f"Line {frame.lines.index(line) + 1} has {len(line.text)} characters of base64, {left} more than a multiple "
    lost = f"{_DECODES_LINES}, and drops characters at a line's end that are not a group of four."
    if len(text) % _GROUP == 0 and (packet := _right(text)) is not None:
        said = f"{size}of four: its last group of four characters goes on in the next line."
        rule, should = SPLIT, console.encode(packet)
    elif (packet := _right(text + b"=" * (-len(text) % _GROUP))) is not None:
        said = f"{size}of four: the padding (=) that makes the last group whole is not there."
        rule, should = UNPADDED, console.encode(packet)
    else:
        said = f"{size}of four, and the text makes no sense even when its lines are joined: something is missing."
        rule, should = CUT, None
    return scene.finding(rule, frame, said, Effect.SILENCE, because=lost, marks=marks, should=should)
