"""Colours and columns of hex, for text that people read on a terminal or in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

__all__ = ["Paint", "hex_rows", "paint_for"]

_COLOURS: Mapping[str, str] = {
    "red": "31;1",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
    "grey": "90",
    "bold": "1",
}
"""SGR parameters (ECMA-48)."""
_PER_ROW = 8
"""Bytes of hex in a row."""


@dataclass(frozen=True, slots=True)
class Paint:
    """Paints text, or leaves it alone."""

    on: bool

    def __call__(self, text: str, colour: str) -> str:
        """`text` in a colour."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.on and text else text


def paint_for(stream: TextIO, choice: str = "auto", environment: Mapping[str, str] = os.environ) -> Paint:
    """By the ``--colour`` option: always, never, or auto (on a terminal that is not dumb, unless NO_COLOR is set)."""
    if choice != "auto":
        return Paint(choice == "always")
    return Paint(stream.isatty() and environment.get("TERM") != "dumb" and not environment.get("NO_COLOR"))


def hex_rows(data: bytes, most: int = 4) -> Iterator[tuple[bool, str]]:
    """(whether it is the first, hex) rows of equal width, at most `most`: longer data lacks its middle, and says so."""
    width = 3 * _PER_ROW
    found = [data[at : at + _PER_ROW] for at in range(0, len(data), _PER_ROW)]
    left_out = len(found) - most
    for index, row in enumerate(found):
        if left_out > 0 and most - 2 < index < len(found) - 1:
            if index == most - 1:
                skipped = len(data) - _PER_ROW * (most - 1) - len(found[-1])
                yield False, f"... {skipped} bytes ..."
            continue
        yield index == 0, f"{row.hex(' '):<{width}}"
