"""Whether there is a person at a terminal, and a way to tell them something while pytest captures all output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["person"]

_TERMINAL = "/dev/tty"
"""The controlling terminal, whatever standard output and error lead to (POSIX)."""


def person() -> Callable[[str], None] | None:
    """A function that shows a person a text; None where nobody can be there.

    Nobody is at a worker of pytest-xdist, or where standard error is no terminal and this process does not run in the
    foreground of one.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return None
    if sys.stderr is not None and sys.stderr.isatty():
        return _by_stderr
    return _by_terminal if _in_foreground() else None


def _by_stderr(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()


def _by_terminal(text: str) -> None:
    with suppress(OSError), open(_TERMINAL, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - a device
        terminal.write(f"\n{text}\n")


def _in_foreground() -> bool:
    if os.name != "posix":
        return False
    try:
        descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(descriptor)
