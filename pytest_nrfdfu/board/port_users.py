"""Who has a serial port open: the processes that hold it, as far as this system lets them be seen.

Two signs, both of Linux's proc(5): the open files of a process (``/proc/PID/fd``, readable for one's own processes and
for root), and the locks that exclusive openings take (``/proc/locks``, readable for all; pyserial's ``exclusive`` is
such a lock). The process that holds the lock is the one in the way; others only matter where nobody has locked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["PortUser", "in_words", "users"]

_SHOWN = 120
"""Characters of a command line at most."""


class PortUser(NamedTuple):
    """A process that has a port open."""

    pid: int
    command: str
    """Its command line, shortened; empty where it cannot be read."""
    locks: bool
    """Whether it holds the lock, so that nobody else can open the port exclusively."""

    def __str__(self) -> str:
        mine = "this process itself, " if self.pid == os.getpid() else ""
        return f"{mine}pid {self.pid}" + (f" ({self.command})" if self.command else "")


def users(device: str, root: Path = Path("/")) -> tuple[PortUser, ...]:
    """The processes that have `device` open, those that lock it first; empty where none can be seen.

    `root` is where /proc and /dev are looked for.
    """
    lockers = set(_lockers(device, root))
    found = [PortUser(pid, _command(root, pid), pid in lockers) for pid in lockers | set(_openers(device, root))]
    return tuple(sorted(found, key=lambda user: (not user.locks, user.pid)))


def in_words(found: Sequence[PortUser]) -> str:
    """Who has it, for a message: those that lock it, or all where nobody does."""
    if not found:
        return "which process it is cannot be seen from here (as root, `fuser` tells)"
    return "it is " + " and ".join(map(str, [user for user in found if user.locks] or found))


def _openers(device: str, root: Path) -> Iterator[int]:
    for folder in (root / "proc").glob("[0-9]*/fd"):
        try:
            files = list(folder.iterdir())
        except OSError:  # somebody else's process, or ended meanwhile
            continue
        if any(_leads_to(file, device) for file in files):
            yield int(folder.parent.name)


def _leads_to(file: Path, device: str) -> bool:
    try:
        return str(file.readlink()) == device
    except OSError:  # closed meanwhile
        return False


def _lockers(device: str, root: Path) -> Iterator[int]:
    """Lines read ``1: FLOCK  ADVISORY  WRITE PID MAJOR:MINOR:INODE 0 EOF``, device numbers in hexadecimal."""
    try:
        told = (root / device.removeprefix("/")).stat()
        lines = (root / "proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    file = f"{os.major(told.st_dev):02x}:{os.minor(told.st_dev):02x}:{told.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == file and fields[4].isdigit() and fields[4] != "0":
            yield int(fields[4])


def _command(root: Path, pid: int) -> str:
    try:
        words = (root / f"proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ""
    text = " ".join(words)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
