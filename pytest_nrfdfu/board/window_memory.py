"""What was found out about the bootloaders of units, kept from one run to the next in a small JSON file.

Two things: whether a window of upload chunks was seen to work, and the receive size where a bootloader does not tell it
and takes less than assumed. A file that cannot be read or written costs a trial again, never a test.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

__all__ = ["MEMORY_FILE", "MEMORY_FOLDER", "Known", "WindowMemory"]

MEMORY_FOLDER, MEMORY_FILE = "nrfdfu", "uploads.json"
"""In pytest's cache: the directory that its `Cache.mkdir` makes, and the file in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one unit with one bootloader at one rate."""

    window: Literal["unknown", "clean", "lossy"] = "unknown"
    """What the trial of a window has shown."""
    losses: int = 0
    """Losses that ended the trial."""
    carried: int = 0
    """Bytes that a trial has carried so far without a loss, where uploads are smaller than what it takes."""
    receive_size: int | None = None
    """The size found by requests of growing size, in bytes; None: nobody had to look."""


class WindowMemory:
    """What is known, by key. Without a path it is forgotten with this object."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: of the JSON file, which need not exist yet."""
        self._path = path
        self._known: dict[str, Known] = {}
        self._load()

    @property
    def kept(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    def get(self, key: str) -> Known:
        """What is known of `key`, which may be nothing."""
        return self._known.get(key, Known())

    def note(self, key: str, **changes: Any) -> None:
        """Keep fields of `Known`, and write the file."""
        self._load()  # another process may have written since
        self._known[key] = replace(self.get(key), **changes)
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_name(f"{self._path.name}.new")
            written.write_text(json.dumps({name: asdict(known) for name, known in self._known.items()}, indent=1))
            written.replace(self._path)

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return
        if isinstance(content, dict):
            self._known |= {name: known for name, value in content.items() if (known := _read(value)) is not None}


def _read(value: Any) -> Known | None:
    """An entry of the file; None if another version or another program wrote it."""
    if not isinstance(value, dict) or not set(value) <= {field.name for field in fields(Known)}:
        return None
    known = Known(**value)
    numbers = (known.losses, known.carried, known.receive_size or 0)
    whole = all(isinstance(number, int) for number in numbers)
    return known if known.window in ("unknown", "clean", "lossy") and whole else None
