"""Wrong CRCs: what the host computed, found by trying what people compute."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.wire.frames import Frame
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_TRANSPORT, Effect, Finding, Rule, Scene, Severity

__all__ = ["RULES", "crc_missing", "explain_crc", "wrong_crc"]

_SOURCE = f'{SMP_TRANSPORT}, "CRC Details"; {BOOT_SERIAL}, boot_serial_in_dec'
_RECIPE = (
    "CRC-16 with polynomial 0x1021, initial value 0, nothing reflected, no final XOR (CRC-16/XMODEM), over the packet "
    "(header and payload) as it is before base64, without the length field; high byte first. Of the nine ASCII "
    "characters 123456789 it is 31 c3."
)
_CODE = "crc = crc16_xmodem(frame + 2, 8 + payload_size); *end++ = crc >> 8; *end++ = crc & 0xff;"


def _rule(name: str, title: str, fix: str) -> Rule:
    return Rule(name, Severity.ERROR, title, fix, _SOURCE, _RECIPE, _CODE)


OVER_TEXT = _rule(
    "crc-over-text", "The CRC was computed over the base64 text.", "Compute the CRC first, encode to base64 afterwards."
)
OVER_LENGTH = _rule(
    "crc-includes-length", "The CRC was computed over the length field too.", "Begin the CRC behind the length field."
)
OVER_PAYLOAD = _rule(
    "crc-over-payload", "The CRC was computed over the payload without the SMP header.", "Begin the CRC at the header."
)
LITTLE = _rule("crc-little-endian", "The CRC is right, but its low byte comes first.", "Send the high byte first.")
INITIAL = _rule("crc-initial-value", "The CRC was begun, or ended, with another value than 0.", "Begin with 0x0000.")
POLYNOMIAL = _rule(
    "crc-polynomial", "The CRC is one of another kind than CRC-16/XMODEM.", "Compute CRC-16/XMODEM instead."
)
MISSING = _rule("crc-missing", "The frame has no CRC.", "Append two bytes of CRC to the packet, before base64.")
WRONG = _rule(
    "crc-wrong", "The CRC is wrong, in no known way.", "Look for bytes that were changed after the CRC was computed."
)
RULES = (OVER_TEXT, OVER_LENGTH, OVER_PAYLOAD, LITTLE, INITIAL, POLYNOMIAL, MISSING, WRONG)

_BECAUSE = "The CRC that it computes over the packet is not the one behind the packet."


class _Kind(NamedTuple):
    """A CRC of 16 bits, in the terms of the Rocksoft model."""

    name: str
    polynomial: int
    initial: int
    reflected: bool = False
    final_xor: int = 0


_KINDS = (
    _Kind("CRC-16/IBM-3740 (also called CCITT-FALSE; initial value 0xFFFF)", 0x1021, 0xFFFF),
    _Kind("CRC-16/SPI-FUJITSU (also called AUG-CCITT; initial value 0x1D0F)", 0x1021, 0x1D0F),
    _Kind("CRC-16/GENIBUS (initial value 0xFFFF, final XOR 0xFFFF)", 0x1021, 0xFFFF, final_xor=0xFFFF),
    _Kind("CRC-16/GSM (final XOR 0xFFFF)", 0x1021, 0, final_xor=0xFFFF),
    _Kind("CRC-16/KERMIT (polynomial 0x1021, but reflected)", 0x1021, 0, reflected=True),
    _Kind("CRC-16/IBM-SDLC (also called X-25; reflected)", 0x1021, 0xFFFF, reflected=True, final_xor=0xFFFF),
    _Kind("CRC-16/MCRF4XX (reflected, initial value 0xFFFF)", 0x1021, 0xFFFF, reflected=True),
    _Kind("CRC-16/ARC (polynomial 0x8005, reflected)", 0x8005, 0, reflected=True),
    _Kind("CRC-16/MODBUS (polynomial 0x8005, reflected, initial value 0xFFFF)", 0x8005, 0xFFFF, reflected=True),
    _Kind("CRC-16/USB (polynomial 0x8005, reflected)", 0x8005, 0xFFFF, reflected=True, final_xor=0xFFFF),
    _Kind("CRC-16/UMTS (polynomial 0x8005)", 0x8005, 0),
    _Kind("CRC-16/CMS (polynomial 0x8005, initial value 0xFFFF)", 0x8005, 0xFFFF),
    _Kind("CRC-16/DNP (polynomial 0x3D65, reflected)", 0x3D65, 0, reflected=True, final_xor=0xFFFF),
)
"""Names and parameters as in the catalogue of parametrised CRC algorithms (reveng.sourceforge.io/crc-catalogue)."""
_XMODEM_FFFF = _KINDS[0]


def _mirror(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


@cache
def _table(polynomial: int, *, reflected: bool) -> tuple[int, ...]:
    table = []
    mirrored = _mirror(polynomial, 16)
    for byte in range(256):
        value = byte if reflected else byte << 8
        for _ in range(8):
            if reflected:
                value = value >> 1 ^ (mirrored if value & 1 else 0)
            else:
                value = (value << 1 ^ (polynomial if value & 0x8000 else 0)) & 0xFFFF
        table.append(value)
    return tuple(table)


def _compute(kind: _Kind, data: bytes) -> int:
    table = _table(kind.polynomial, reflected=kind.reflected)
    value = _mirror(kind.initial, 16) if kind.reflected else kind.initial
    for byte in data:
        if kind.reflected:
            value = value >> 8 ^ table[(value ^ byte) & 0xFF]
        else:
            value = (value << 8 & 0xFF00) ^ table[value >> 8 ^ byte]
    return value ^ kind.final_xor


def _swapped(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


class _Guess(NamedTuple):
    rule: Rule
    words: str
    value: int


def _guesses(frame: Frame) -> Iterator[_Guess]:
    """What a host may have computed, the most probable first."""
    length, packet = frame.body[:2], frame.body[2:-2]
    whole = (len(length + packet) // 3) * 4
    texts = {frame.encoded[:whole], frame.encoded[:-4], frame.encoded}
    regions = [
        (OVER_LENGTH, "length field and packet", length + packet),
        (OVER_PAYLOAD, "the payload without its SMP header", packet[HEADER_SIZE:]),
        *((OVER_TEXT, "the base64 text", text) for text in _texts(packet, length) + sorted(texts)),
    ]
    for rule, words, data in regions:
        yield _Guess(rule, f"The CRC that was sent is the CRC-16/XMODEM of {words}", console.crc16(data))
    for kind in _KINDS:
        rule = INITIAL if kind.polynomial == 0x1021 and not kind.reflected else POLYNOMIAL
        yield _Guess(rule, f"The CRC that was sent is {kind.name} of the packet", _compute(kind, packet))
    for rule, words, data in regions:
        yield _Guess(rule, f"The CRC that was sent is {_XMODEM_FFFF.name} of {words}", _compute(_XMODEM_FFFF, data))


def _texts(packet: bytes, length: bytes) -> list[bytes]:
    """Base64 of what is there before the CRC is."""
    return [base64.b64encode(length + packet), base64.b64encode(packet)]


def explain_crc(scene: Scene, frame: Frame) -> Finding | None:
    """The rule that explains a frame's wrong CRC; None if no hypothesis does."""
    sent, right = frame.crc_sent, frame.crc_computed
    if sent is None or right is None:
        return None
    if _swapped(sent) == right:
        guess: _Guess | None = _Guess(LITTLE, "The CRC that was sent is the right one with its bytes exchanged", sent)
    else:
        guess = next((guess for guess in _guesses(frame) if sent in {guess.value, _swapped(guess.value)}), None)
    if guess is None:
        return None
    besides = ", with the low byte first besides" if guess.value != sent else ""
    said = f"{guess.words}{besides}: {_both(sent)} was sent where {_both(right)} belongs."
    return _finding(scene, frame, guess.rule, said)


def wrong_crc(scene: Scene, frame: Frame) -> Finding:
    """For a CRC that nothing explains."""
    said = (
        f"The CRC that was sent is {_both(frame.crc_sent)}, where {_both(frame.crc_computed)} belongs. It is none that "
        "hosts compute by mistake: either a byte was changed or lost on the way, or the CRC is of something else."
    )
    return _finding(scene, frame, WRONG, said)


def _both(value: int | None) -> str:
    return f"0x{value or 0:04x} ({value or 0})"


def _finding(scene: Scene, frame: Frame, rule: Rule, said: str) -> Finding:
    body = frame.body
    marks = frame.places(len(body) - 2, len(body))
    should = console.encode(body[2:-2])
    return scene.finding(rule, frame, said, Effect.SILENCE, because=_BECAUSE, marks=marks, should=should)


def crc_missing(scene: Scene, frame: Frame) -> Finding:
    """For a frame that ends where the packet ends by its SMP header."""
    body = frame.body
    counted = "does not count" if frame.length_field == len(body) - 2 else "counts"
    said = (
        f"Behind the {len(body) - 2} bytes of header and payload nothing follows: the two bytes of CRC are missing, "
        f"which the length field {counted}."
    )
    return scene.finding(
        MISSING,
        frame,
        said,
        Effect.SILENCE,
        because="It takes the packet's last two bytes for the CRC, or waits for more bytes.",
        marks=frame.places(len(body) - 1, len(body)),
        should=console.encode(body[2:]),
    )
