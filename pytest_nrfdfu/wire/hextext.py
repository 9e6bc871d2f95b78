r"""Bytes written down as text, the way people paste them into forums.

Understood, line by line: pairs of hex digits (``06 09 41``), lists and C arrays (``0x06, 0x09, 'A'``; decimal where hex
does not fit), dumps of xxd, hexdump -C, od -t x1 and the like with offset and text columns, strings with escapes
(``"\x06\x09AAsC\n"``), terminals' ways to show control bytes (``<06><09>AAsC<0A>``), and the base64 text of SMP lines
without the bytes around it (``"AAsCAAABAACKBaA1Qw=="``). A direction in front (``TX:``, ``<-``) and a time are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.smp.console import CONTINUATION, START
from pytest_nrfdfu.wire.pieces import Piece

__all__ = ["read"]

_TIME = re.compile(
    r"^\s*[\[(]?\s*(?:(?:\d{4}-\d\d-\d\d[T ])?(?P<clock>\d{1,2}:\d\d:\d\d(?:[.,]\d+)?)"
    r"|(?P<seconds>\d+\.\d+)\s*(?P<unit>m?s)?)\s*[\])]?\s*[:,]?(?=\s)"
)
_LABEL = re.compile(
    r"^\s*[\[(<]?(?P<label>tx|rx|sent|send(?:ing)?|recv|receiv(?:ed?|ing)|out|in|write|read|request|response|req|rsp|host|"
    r"device|board|-->|<--|->|<-|>>|<<|=>|<=|→|←|>|<)[\])>]?(?:\s*\(\d+(?:\s*bytes)?\))?\s*(?:[:=]\s*|\s+|(?=[\"]))",
    re.IGNORECASE,
)
_DUMPS = (
    re.compile(r"^\s*(?:0x)?(?P<offset>[0-9a-f]{4,16}):\s+(?P<data>(?:[0-9a-f]{2,8} ?)+)(?:\s{1,}.*)?$", re.IGNORECASE),
    re.compile(
        r"^\s*(?P<offset>[0-9a-f]{5,15}0)\s+(?P<data>(?:[0-9a-f]{2}\s{1,2})*[0-9a-f]{2})\s*(?:[|>].*)?$", re.IGNORECASE
    ),
    re.compile(
        r"^\s*(?P<offset>[0-9a-f]{4})\s{2,}(?P<data>(?:[0-9a-f]{2} {1,2})*[0-9a-f]{2})(?:\s{2,}.*)?$", re.IGNORECASE
    ),
)
"""xxd; hexdump -C and od; Wireshark's."""
_END_OFFSET = re.compile(r"^\s*[0-9a-f]{6,16}\s*$", re.IGNORECASE)
_REPEATED = "*"
_COMMENT = re.compile(r"^\s*(?:#|;|```).*$|(?:(?<=[\s,;{}])|^)//\s.*$|/\*.*?\*/")
"""Two slashes are base64 too, where no space follows."""
_DECLARATION = re.compile(
    r"^[^={}\"']*\w\s*(?:\[[^\]]*\])?\s*=\s*(?:\{|$)|^\s*\w*\s*\[?\s*\w*\s*\]?\s*=\s*(?=[\"{\[b])"
)
_TOKEN = re.compile(
    r"""\s*(?:b'(?P<python>(?:\\.|[^'\\])*)'|b?"(?P<text>(?:\\.|[^"\\])*)"|'(?P<char>\\.[^']*|[^'\\])'|0[xX](?P<hex>[0-9a-fA-F]{1,2})\b"""
    r"""|\\x(?P<escape>[0-9a-fA-F]{2})|(?P<digits>[0-9a-fA-F]+)[hH]?(?![\w+/=]))[\s,;:{}()\[\]-]*"""
)
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{1,2})|\\([0-7]{1,3})|\\(.)")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_SHOWN = re.compile(r"[<\[{]0?x?([0-9a-fA-F]{2})[>\]}]|\\x([0-9a-fA-F]{2})|\\([nrt])")
_CONTROL_NAMES = {
    "<ACK><HT>": "<06><09>",
    "<ACK><TAB>": "<06><09>",
    "<EOT><DC4>": "<04><14>",
    "<LF>": "<0a>",
    "<CR>": "<0d>",
}
"""Terminals that name control bytes."""
_BASE64 = re.compile(r"^[\s\"'`]*(?P<text>[A-Za-z0-9+/]{4,}={0,2})[\s\"'`,;]*$")
_ASCII_COLUMN = re.compile(r"^(?P<data>\s*(?:[0-9a-fA-F]{2}[ \t]){1,}?[0-9a-fA-F]{2})(?:\s{2,}|\t)(?P<text>\S.*)$")
_PAIRS = re.compile(r"^(?:[0-9a-fA-F]{2}\s+)*[0-9a-fA-F]{2}\s*$")
_RECEIVED = re.compile(r"^(?:rx|recv|receiv.*|in|read|response|rsp|device|board|<--|<-|<<|<=|←|<)$", re.IGNORECASE)


class _Misfit(Exception):
    """A line that is not bytes written down."""


class _Line(NamedTuple):
    number: int
    text: str
    time: float | None
    label: str


def read(text: str) -> list[Piece]:
    """The bytes in `text`; ConfigError with the number of the first line that is none of the known ways."""
    try:
        return list(_read(text, 16))
    except ConfigError:
        try:
            pieces = list(_read(text, 10))
        except ConfigError:
            pieces = []
        if any(START in piece.data for piece in pieces):
            return pieces  # 6, 9, 65, 65: decimal
        raise


def _read(text: str, base: int) -> Iterator[Piece]:
    found = False
    complete = True
    for line in _lines(text):
        try:
            data = _bytes(line.text, base)
            if data is None:
                data, complete = _base64(line.text, complete=complete)
        except _Misfit as misfit:
            raise ConfigError(
                f"line {line.number} is not bytes written down ({misfit}): {line.text.strip()[:60]!r}"
            ) from None
        if data:
            found = True
            yield Piece(line.time, line.label, data)
    if not found:
        raise ConfigError("there are no bytes in it")


def _lines(text: str) -> Iterator[_Line]:
    previous = named = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip("\ufeff")
        if line.strip() == _REPEATED:
            raise ConfigError(f"line {number} is '*': the dump leaves out repeated lines; make it with hexdump -v")
        if _DUMPS[0].match(line) is None and _DUMPS[1].match(line) is None:
            line = _COMMENT.sub("", line)
        time = None
        stamp = _TIME.match(line)
        if stamp:
            time = _seconds(stamp)
            line = line[stamp.end() :]
        label = _LABEL.match(line)
        if label:  # it holds until the next one
            named = "rx" if _RECEIVED.match(label["label"]) else "tx"
            line = line[label.end() :]
        if not line.strip(" \t{}[]();,"):
            continue
        if _END_OFFSET.match(line) and _is_dump(previous):
            continue
        previous = line
        yield _Line(number, line, time, named)


def _is_dump(line: str) -> bool:
    return any(pattern.match(line) for pattern in _DUMPS)


def _seconds(stamp: re.Match[str]) -> float:
    if stamp["clock"] is None:
        return float(stamp["seconds"]) / (1000 if stamp["unit"] == "ms" else 1)
    hours, minutes, seconds = stamp["clock"].replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _bytes(line: str, base: int) -> bytes | None:
    """What a line holds as a dump, as tokens or as shown text; None where it may be bare base64."""
    for pattern in _DUMPS:
        dump = pattern.match(line)
        if dump:
            return bytes.fromhex(_hex_columns(dump["data"]))
    column = _ASCII_COLUMN.match(line)
    if column and not _PAIRS.match(column["text"]) and len(column["text"].strip("| ")) <= len(column["data"].split()):
        return bytes.fromhex(column["data"])
    bare = _BASE64.match(line)
    if bare and not _all_hex(bare["text"]):
        return None
    return _tokens(_DECLARATION.sub("", line, count=1), base)


def _hex_columns(data: str) -> str:
    """The hex digits of a dump's line: whole bytes, as long as they are."""
    return "".join(data.split())


def _all_hex(text: str) -> bool:
    return len(text) % 2 == 0 and re.fullmatch(r"[0-9a-fA-F]+", text) is not None


def _tokens(line: str, base: int) -> bytes:
    data = bytearray()
    position = 0
    stripped = line.strip().lstrip("{[( ")
    while position < len(stripped):
        token = _TOKEN.match(stripped, position)
        if token is None:
            return _shown(line)
        data += _token(token, base)
        position = token.end()
    return bytes(data)


def _token(token: re.Match[str], base: int) -> bytes:
    for quoted in ("text", "char", "python"):
        if token[quoted] is not None:
            return _unescaped(token[quoted])
    if token["hex"] or token["escape"]:
        return bytes([int(token["hex"] or token["escape"], 16)])
    digits = token["digits"]
    if base == 10:
        if not digits.isdecimal() or int(digits) > 255:
            raise _Misfit(f"{digits} is no decimal byte")
        return bytes([int(digits)])
    if len(digits) == 1:
        digits = f"0{digits}"
    if len(digits) % 2:
        raise _Misfit(f"{digits} has an odd number of hex digits")
    return bytes.fromhex(digits)


def _unescaped(text: str) -> bytes:
    def one(match: re.Match[str]) -> str:
        if match[1] or match[2]:
            return chr(int(match[1], 16) if match[1] else int(match[2], 8) & 0xFF)
        return _SIMPLE.get(match[3], match[3])

    return _ESCAPE.sub(one, text).encode("latin-1", "replace")


def _shown(line: str) -> bytes:
    r"""Text with control bytes shown as <06>, [06] or \x06."""
    for name, shown in _CONTROL_NAMES.items():
        line = line.replace(name, shown)
    if not _SHOWN.search(line):
        raise _Misfit("neither hex, nor a string, nor base64")
    simple = {"n": 10, "r": 13, "t": 9}
    text = _SHOWN.sub(lambda match: chr(simple[match[3]] if match[3] else int(match[1] or match[2], 16)), line.strip())
    return text.encode("latin-1", "replace")


def _base64(line: str, *, complete: bool) -> tuple[bytes, bool]:
    """An SMP line around bare base64: a start if it can be one; whether the packet is complete with it."""
    import base64
    import binascii

    bare = _BASE64.match(line)
    text = bare["text"].encode() if bare else b""
    try:
        decoded = base64.b64decode(text[: len(text) // 4 * 4], validate=True)
    except binascii.Error as error:
        raise _Misfit(f"neither hex nor base64: {error}") from None
    if len(decoded) < 2:
        raise _Misfit("too short for base64 of a packet")
    if not complete:
        return CONTINUATION + text + b"\n", text.endswith(b"=") or len(text) < 124
    return START + text + b"\n", int.from_bytes(decoded[:2], "big") <= len(decoded) - 2
