"""Lines that come again and again, shown once with how often: a firmware that boots in a loop, a request repeated."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["folded"]

_LONGEST = 80
"""Lines of what may be repeated: a boot with a fault dump takes some 30, with all registers of the FPU some 60."""
_FEWEST = 3
"""Lines that have to be saved for it to be worth a line that says so."""
_TIME = re.compile(r"^\s*(?P<seconds>\d+\.\d+) s ")
"""In front of a line that shows its time."""
_VARIES = re.compile(r"^\s*\d+\.\d+ s |\[\d\d:\d\d:\d\d\.[\d,]+\] |(?<=sequence )\d+")
"""What differs between lines that are alike: their times, Zephyr's own (log_output.c), and a request's number."""


def folded(lines: Sequence[str]) -> list[str]:
    """`lines`, of which a block that follows itself is shown once."""
    keys = [_VARIES.sub("", line) for line in lines]
    shown: list[str] = []
    at = 0
    while at < len(lines):
        size, more = _block(keys, at)
        shown += lines[at : at + size]
        at += size * (more + 1)
        if more:
            shown.append(_note(size, more, lines[at - size]))
    return shown


def _block(keys: Sequence[str], at: int) -> tuple[int, int]:
    """How many lines from `at` on follow themselves, and how often; the block that saves most lines."""
    best, saved = (1, 0), _FEWEST - 1
    for size in range(1, min(_LONGEST, (len(keys) - at) // 2) + 1):
        if keys[at] != keys[at + size]:
            continue
        more, begin = 0, keys[at : at + size]
        while keys[at + (more + 1) * size : at + (more + 2) * size] == begin:
            more += 1
        if more * size > saved:
            best, saved = (size, more), more * size
    return best


def _note(size: int, more: int, last: str) -> str:
    """How often a block came again; where lines show their time, when the last began."""
    time = _TIME.match(last)
    until = f", the last at {time['seconds']} s" if time else ""
    what = "the line above" if size == 1 else f"the {size} lines above"
    return f"({what} {more} {'time' if more == 1 else 'times'} more{until})"
