"""Texts made to fit: long ones shortened where both ends matter, as an error ends with what to look at; and lines."""

from __future__ import annotations

import re
import textwrap

__all__ = ["in_lines", "middle", "plain", "some_lines"]

_GAP = " ... "
_HEAD = 0.45
"""Of the room, for the beginning: what was tried. What was seen and the remedy are behind it."""


_FIRST_SHARE = 0.7
"""Of the lines kept, those from the beginning."""
_CUT = "..."
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""ECMA-48, SGR."""


def plain(text: str) -> str:
    """Without colours, which pytest gives to an assertion's lines, and without other characters that do not print."""
    text = _COLOUR.sub("", text)
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def some_lines(text: str, most: int, *, first: int, other: int) -> str:
    """The lines of `text`, at most `most`, those in the middle left out where there are more.

    `first` and `other`: the most characters of the first line, which says what is wrong, and of those below it. Empty
    lines at the ends, and blanks at the ends of lines, are left out.
    """
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) > most:
        head = max(1, int((most - 1) * _FIRST_SHARE))
        lines = [*lines[:head], _CUT, *lines[len(lines) - (most - 1 - head) :]]
    return "\n".join(middle(line, other if number else first) for number, line in enumerate(lines))


def middle(text: str, size: int) -> str:
    """`text` in at most `size` characters, the middle left out between words where it is longer."""
    if len(text) <= size:
        return text
    room = size - len(_GAP)
    end = int(room * _HEAD)
    start = len(text) - (room - end)
    head, tail = text[: end + 1], text[start - 1 :]  # a character more, to see whether a word ends or begins there
    return (head.rpartition(" ")[0] or head[:-1]).rstrip() + _GAP + (tail.partition(" ")[2] or tail[1:]).lstrip()


def in_lines(text: str, width: int) -> str:
    """For a terminal of so many characters: broken between words, where the terminal would break words."""
    return "\n".join(_broken(line, width) for line in text.splitlines())


def _broken(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    room = width - 1  # some terminals break a line that is just full
    if len(line) <= room:
        return line
    parts = textwrap.wrap(line, room, subsequent_indent=f"{indent}    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)
