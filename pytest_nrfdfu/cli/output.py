"""Printing of long listings, whose reader may stop before the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["write_lines"]


def write_lines(lines: Iterable[str]) -> None:
    """Print `lines`. A reader that has seen enough (head, or a pager that was left) ends it without a complaint."""
    try:
        for line in lines:
            print(line)  # noqa: T201 - a program's output
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
