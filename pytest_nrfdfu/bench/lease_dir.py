"""The host-wide directory of leases: a lock file for each key of a board, and small JSON files beside it.

Every user's pytest must come to the same place, so its default depends on nothing that differs between users. It is
one that outlives a restart of the host, because units are held back in it. Containers that share a rack's devices must
share this directory as well.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from pytest_nrfdfu.errors import LeaseError

__all__ = ["VARIABLE", "LeaseDir", "Note", "default_directory"]

VARIABLE = "NRFDFU_LEASE_DIR"
"""Environment variable that names another directory."""
_NAME = "nrfdfu-leases"
_EVERYBODY = 0o1777
"""Everybody may make files, and nobody may remove those of others (as /tmp)."""
_SHARED = 0o666
_NOTE_SIZE = 65536
"""Bytes of a note that are read at most; one has some hundreds."""
_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""How notes are opened: anybody may have put a link or a pipe in the place of one."""

Note = Literal["holder", "hold", "result"]
"""Who holds it; why it is held back; how it went last."""


def default_directory() -> Path:
    """Where leases are, if nothing else is asked for: below /var/tmp, which the Filesystem Hierarchy Standard keeps."""
    told = os.environ.get(VARIABLE)
    if told:
        return Path(told)
    shared = Path("/var/tmp")  # noqa: S108 - the directory made in it is checked, and links are not followed
    return (shared if os.name == "posix" and shared.is_dir() else Path(tempfile.gettempdir())) / _NAME


class LeaseDir:
    """The directory at `path`; made when first written to."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_directory()

    def _prepare(self) -> None:
        """Make it, shared by all users; LeaseError where that cannot be."""
        try:
            self.path.mkdir(parents=True)
            self.path.chmod(_EVERYBODY)  # mkdir's own mode is cut by the umask
        except FileExistsError:
            pass
        except OSError as error:
            raise LeaseError(
                f"cannot make {self.path}, where leases of units are kept: {error}; set {VARIABLE}"
            ) from None
        with suppress(OSError):
            if stat.S_ISDIR(self.path.lstat().st_mode) and os.access(self.path, os.W_OK | os.X_OK):
                return
        raise LeaseError(
            f"{self.path}, where leases of units are kept, is not a directory that this user may write to: let its"
            f" owner run chmod 1777 on it, or set {VARIABLE} for everybody who uses this bench"
        )

    def lock_path(self, key: str) -> Path:
        """The lock file of a key."""
        return self.path / f"{key}.lock"

    def lock(self, key: str) -> FileLock | None:
        """The lock of a key, held by this process; None if somebody else holds it. LeaseError if none can be made."""
        self._prepare()
        # The lock is held by whoever has the unit, from whichever thread it is used.
        lock = FileLock(self.lock_path(key), mode=_SHARED, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except TimeoutError:
            return None
        except OSError as error:
            raise LeaseError(f"cannot lock {self.lock_path(key)}: {error}; set {VARIABLE} to a local disk") from None
        return lock

    def is_free(self, key: str) -> bool:
        """Whether nobody has the lock of a key now."""
        try:
            lock = self.lock(key) if self.lock_path(key).exists() else None
        except LeaseError:
            return False
        if lock is not None:
            lock.release()
        return lock is not None or not self.lock_path(key).exists()

    def read(self, key: str, note: Note) -> dict[str, Any] | None:
        """A note of a key, its texts printable; None where there is none, it is being written, or is no file."""
        try:
            found = json.loads(self._get(self._note(key, note)))
        except (OSError, ValueError, RecursionError):  # the last of brackets alone
            return None
        return _printable(found) if isinstance(found, dict) else None

    def write(self, key: str, note: Note, data: dict[str, Any]) -> None:
        """Write a note of a key. LeaseError where that cannot be."""
        self._prepare()
        try:
            self._put(self._note(key, note), json.dumps(data).encode() + b"\n")
        except OSError as error:
            raise LeaseError(f"cannot write {self._note(key, note)}: {error}") from None

    def remove(self, key: str, note: Note) -> None:
        """Forget a note. One of another user's, which must not be removed here, is emptied."""
        path = self._note(key, note)
        try:
            path.unlink(missing_ok=True)
        except OSError:
            with suppress(OSError):
                self._put(path, b"")

    def _note(self, key: str, note: Note) -> Path:
        return self.path / f"{key}.{note}.json"

    @staticmethod
    def _get(path: Path) -> bytes:
        with os.fdopen(_checked(os.open(path, os.O_RDONLY | _CAREFUL), path), "rb") as opened:
            return opened.read(_NOTE_SIZE)

    @staticmethod
    def _put(path: Path, data: bytes) -> None:
        """Write in place: replacing would not be allowed where the file is another user's."""
        plain = os.O_WRONLY | _CAREFUL
        # Without O_CREAT where it exists: Linux refuses that for others' files in such directories (protected_regular).
        try:
            file = os.open(path, plain)
        except FileNotFoundError:
            file = os.open(path, plain | os.O_CREAT | os.O_EXCL, _SHARED)
            with suppress(OSError):
                path.chmod(_SHARED)
        with os.fdopen(_checked(file, path), "wb") as opened:
            opened.truncate()
            opened.write(data)


def _checked(file: int, path: Path) -> int:
    """An open file that is a regular one; else it is closed, and OSError raised."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is no regular file")
    return file


def _printable(value: Any) -> Any:
    """`value` without what would steer a terminal: whoever may write notes is not to write on others' screens."""
    if isinstance(value, str):
        return "".join(character if character.isprintable() else " " for character in value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
