"""What was found out about the bootloaders of units, kept from one run to the next in a small JSON file.

Two things: whether a window of upload chunks was seen to work, and the receive size where a bootloader does not tell it
and takes less than assumed. A file that cannot be read or written costs a trial again, never a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

__all__ = ["MEMORY_FILE", "MEMORY_FOLDER", "NO_TRIAL", "Known", "WindowMemory"]

MEMORY_FOLDER, MEMORY_FILE = "nrfdfu", "uploads.json"
"""In pytest's cache: the directory that its `Cache.mkdir` makes, and the file in it."""
_LOCK_TIMEOUT = 2.0
"""Seconds to wait for another process that is writing, which takes it some milliseconds."""
_RETRY_AFTER, _RETRY_AT_MOST = 8, 128
"""Uploads without a window after the first trial that failed, and at most; in between each failure doubles them."""
_LEAST_SIZE = 96
"""Bytes: with a smaller receive size no chunk has room for data, so that nobody can have found one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one unit with one bootloader at one rate."""

    window: Literal["unknown", "clean", "lossy"] = "unknown"
    """What the trial of a window has shown."""
    full: bool = False
    """Whether that was a full window, which relies on hardware flow control during erases."""
    losses: int = 0
    """Losses that ended the trial."""
    failures: int = 0
    """Trials in a row that lost something."""
    waited: int = 0
    """Uploads without a window since the last of them."""
    when: str = ""
    """The day on which the last trial ended, ISO 8601; empty where that is not known."""
    carried: int = 0
    """Bytes that a trial has carried so far without a loss, where uploads are smaller than what it takes."""
    receive_size: int | None = None
    """The size found by requests of falling size, in bytes; None: nobody had to look."""
    size_when: str = ""
    """The day on which it was found, ISO 8601."""

    def of(self, *, full: bool) -> Known:
        """What this says of a full window, or of one that is silent during erases; nothing where it was the other.

        A window that was clean when full relied on more, and one that was lossy when not full on less.
        """
        holds = self.full == full or (self.window == "clean" and self.full) or (self.window == "lossy" and full)
        return self if holds else replace(self, full=full, **NO_TRIAL)

    @property
    def held_back(self) -> int:
        """How many uploads more go without a window, because a trial of it lost something.

        A trial that fails costs the time of a chunk or two, once; a window saves a tenth of every upload and more, and
        what was lost may have been a busy host's. So it is tried again, but less and less often.
        """
        if self.window != "lossy":
            return 0
        return max(0, min(_RETRY_AFTER << max(0, self.failures - 1), _RETRY_AT_MOST) - self.waited)


NO_TRIAL: Mapping[str, Any] = {"window": "unknown", "losses": 0, "failures": 0, "waited": 0, "when": "", "carried": 0}
"""The fields of `Known` about a trial where none is known to have ended, or begun."""


class WindowMemory:
    """What is known, by key. Without a path it is forgotten with this object."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: of the JSON file, which need not exist yet."""
        self._path = path
        self._trouble = ""
        self._known: dict[str, Known] = {}
        self._unwritten: dict[str, Known] = {}
        """What the file could not take: it holds in this process all the same."""
        self._load()

    @property
    def kept(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    @property
    def written(self) -> bool:
        """Whether the file has all that was noted."""
        return self.kept and not self._unwritten

    @property
    def not_kept(self) -> str:
        """Why the next run will not know what was noted, in words; empty where it will."""
        if self._path is None:
            return "pytest's cache is off or cannot be written"
        return f"{self._path} cannot be written ({self._trouble})" if self._unwritten else ""

    def get(self, key: str) -> Known:
        """What is known of `key`, which may be nothing."""
        return self._known.get(key, Known())

    def beginning(self, start: str) -> dict[str, Known]:
        """All that is known by keys that begin so."""
        return {key: known for key, known in self._known.items() if key.startswith(start)}

    def note(self, key: str, **changes: Any) -> None:
        """Keep fields of `Known`, and write the file, with what other processes have written since."""
        with self._alone():
            self._load()
            self._known[key] = self._unwritten[key] = replace(self.get(key), **changes)
            if self._path is None:
                return
            try:
                _replace(self._path, {name: asdict(known) for name, known in self._known.items()})
            except OSError as error:
                self._trouble = error.strerror or type(error).__name__
            else:
                self._unwritten.clear()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process reads to write meanwhile; where that cannot be had, one of two notes may be lost."""
        if self._path is None:
            yield
            return
        lock = FileLock(self._path.with_name(f"{self._path.name}.lock"), timeout=_LOCK_TIMEOUT)
        with suppress(OSError, NotImplementedError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(content, dict):
            found = {name: known for name, value in content.items() if (known := _read(value)) is not None}
            self._known |= found | self._unwritten


def _replace(path: Path, content: Any) -> None:
    """Write a JSON file in a way that nobody reads half of it, nor writes to the same file meanwhile."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_text(json.dumps(content, indent=1), encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _read(value: Any) -> Known | None:
    """An entry of the file; None if another version or another program wrote it."""
    if not isinstance(value, dict) or not set(value) <= {field.name for field in fields(Known)}:
        return None
    known = Known(**value)
    size = _LEAST_SIZE if known.receive_size is None else known.receive_size
    counts = (known.losses, known.carried, known.failures, known.waited, size)
    whole = all(type(number) is int for number in counts)
    days = all(isinstance(day, str) for day in (known.when, known.size_when))
    if not (whole and days) or type(known.full) is not bool or known.window not in ("unknown", "clean", "lossy"):
        return None
    return known if min(*counts[:-1], size - _LEAST_SIZE) >= 0 else None
