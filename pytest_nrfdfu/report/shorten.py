"""Long texts made short for people, where both ends matter: an error ends with what to look at."""

from __future__ import annotations

__all__ = ["middle"]

_GAP = " ... "
_HEAD = 0.45
"""Of the room, for the beginning: what was tried. What was seen and the remedy are behind it."""


def middle(text: str, size: int) -> str:
    """`text` in at most `size` characters, the middle left out between words where it is longer."""
    if len(text) <= size:
        return text
    room = size - len(_GAP)
    end = int(room * _HEAD)
    start = len(text) - (room - end)
    head, tail = text[: end + 1], text[start - 1 :]  # a character more, to see whether a word ends or begins there
    return (head.rpartition(" ")[0] or head[:-1]).rstrip() + _GAP + (tail.partition(" ")[2] or tail[1:]).lstrip()
