"""Console bytes as text for people: no colours, newlines as line ends, escapes for bytes that are not UTF-8.

Zephyr colours its log by default (CONFIG_LOG_BACKEND_SHOW_COLOR) and its shell its prompt, by the control sequences of
ECMA-48 (section 5.4); they are no text, and a pattern must not have to name them. A line may end with several carriage
returns: Zephyr's UART console puts one before every newline (CONFIG_UART_CONSOLE), also where the firmware has already.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["plain", "present", "settled", "size_of"]

_SEQUENCE = r"\x1b\[[0-?]*[ -/]*[@-~]"
"""A control sequence: introducer, parameters, intermediate bytes, final byte."""
_COLOUR = re.compile(_SEQUENCE)
_NOT_SHOWN = re.compile(rb"(" + _SEQUENCE.encode() + rb"|(?<!\r)\r+(?=\n))")
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*)?")
"""The beginning of a control sequence."""
_LONGEST = 32
"""Bytes after which a control sequence without an end is noise: a judgement, colours have up to 19."""
_ESCAPE = len(r"\xff")


def plain(text: str) -> str:
    """A line without the colours that Zephyr's log gives it."""
    return _COLOUR.sub("", text) if "\x1b" in text else text


def present(data: bytes) -> str:
    """The text that `data` is."""
    return "".join(piece.decode("utf-8", "backslashreplace") for piece in _NOT_SHOWN.split(data)[::2])


def settled(data: bytes) -> bytes:
    """`data` without an end that the next byte may change: carriage returns, half a character, half a sequence."""
    start = data.rfind(b"\x1b", max(0, len(data) - _LONGEST))
    if start >= 0 and _BEGUN.fullmatch(data, start):
        return data[:start]
    tail = data[-4:]  # no character of UTF-8 is longer
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    decoder.decode(tail)
    unfinished, _ = decoder.getstate()
    return data[: len(data) - len(unfinished)].rstrip(b"\r")


def size_of(data: bytes, characters: int) -> int:
    """How many bytes of `data` the first `characters` of its text stand for."""
    size = 0
    while characters > 0 and size < len(data):
        end = data.find(b"\n", size) + 1 or len(data)  # no character or sequence goes beyond a newline
        line = data[size:end]
        shown = len(present(line))
        if shown > characters:
            return size + _size_within(line, characters)
        size, characters = end, characters - shown
    return size


def _size_within(line: bytes, characters: int) -> int:
    """As `size_of`, of less than a line."""
    size = 0
    for index, piece in enumerate(_NOT_SHOWN.split(line)):
        if index % 2:
            size += len(piece)
            continue
        for character in piece.decode("utf-8", "surrogateescape"):  # reversible, unlike the text
            if characters <= 0:
                return size
            size += len(character.encode("utf-8", "surrogateescape"))
            characters -= _ESCAPE if "\udc80" <= character <= "\udcff" else 1
    return size
