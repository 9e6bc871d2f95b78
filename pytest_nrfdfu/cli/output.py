"""Printing of long listings, whose reader may stop before the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable

__all__ = ["write_lines"]


def write_lines(lines: Iterable[str]) -> None:
    """Print `lines`. BrokenPipeError where a reader has seen enough (head, a pager): the command's `main` ends then."""
    for line in lines:
        print(line)  # noqa: T201 - a program's output
    sys.stdout.flush()
