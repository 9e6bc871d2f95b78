"""Opens a zip archive without trusting it: what is absurd is refused before it is unpacked.

Nothing is ever written to disk, and members are read by name alone; still, names that would leave the directory they
are unpacked to are refused, because no build makes them.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pytest_nrfdfu.errors import ImageError

__all__ = ["MAX_ARCHIVE_SIZE", "MAX_MEMBERS", "MAX_MEMBER_SIZE", "MAX_RATIO", "MAX_UNPACKED_SIZE", "Archive"]

MAX_ARCHIVE_SIZE = 16 << 20
"""Of the file, in bytes."""
MAX_MEMBER_SIZE = 8 << 20
"""Unpacked, in bytes: the size of the nRF5340 DK's external flash (MX25R64), so no slot is larger."""
MAX_UNPACKED_SIZE = 16 << 20
"""All members together, in bytes."""
MAX_MEMBERS = 64
"""Real packages have two to ten."""
MAX_RATIO = 200
"""Firmware packs to about a half; a slot padded with 0xff around a small image to a hundredth."""
_RATIO_MATTERS = 64 << 10
"""Below so many bytes unpacked, any ratio is harmless."""
_MAX_READ = (1 << 16) + 22
"""zipfile reads its directory of members at once, before one can count them: 64 need 10 KiB. It also looks for the end
of that directory in so many last bytes: the longest comment and the record that holds it (APPNOTE.TXT 4.3.16)."""
_CHUNK = 32 << 10
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""What zips of a build use. The others are refused: their unpackers may claim any amount of memory."""
_ENCRYPTED = 1
"""General purpose bit 0 (PKWARE, APPNOTE.TXT 4.4.4)."""
_SHOWN = 8
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    LookupError,
)
"""What zipfile raises for damaged archives, found by trying; a missing member is checked for beforehand."""


class _Bounded(io.BytesIO):
    """A file that refuses to be read in large pieces."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = len(self.getbuffer()) - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _MAX_READ:
            raise zipfile.BadZipFile(f"a directory of members with {wanted} bytes")
        return super().read(size)


class Archive:
    """An archive whose list of members holds nothing absurd. ImageError for everything else."""

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self._file = _Bounded(self._read_file(path))
        try:
            self._zip = zipfile.ZipFile(self._file)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise self.refuse(
                f"it has {len(members)} members, and {MAX_MEMBERS} are the most", "Give the build's own zip"
            )
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            self._check(member)
            self._members[member.filename] = member
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_UNPACKED_SIZE:
            raise self.refuse(
                f"its members have {unpacked} bytes unpacked, and {MAX_UNPACKED_SIZE} are the most",
                "No nRF5340 holds that much: give the build's own zip",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The members that are files."""
        return tuple(name for name in self._members if not name.endswith("/"))

    @property
    def listed(self) -> str:
        """The first names, for messages."""
        more = len(self.names) - _SHOWN
        return (", ".join(self.names[:_SHOWN]) or "nothing") + (f" and {more} more" if more > 0 else "")

    def size(self, name: str) -> int:
        """Size of a member, unpacked, in bytes."""
        return self._members[name].file_size

    def read(self, name: str, limit: int = MAX_MEMBER_SIZE) -> bytes:
        """The content of a member, whose checksum was right; ImageError if it has more than `limit` bytes."""
        data = bytearray()
        try:
            with self._zip.open(self._members[name]) as member:
                while chunk := member.read(_CHUNK):
                    data += chunk
                    if len(data) > min(limit, self.size(name)):
                        raise self.refuse(
                            f"its member {name} has more than {min(limit, self.size(name))} bytes", _DAMAGED_ADVICE
                        )
        except _DAMAGED as error:
            raise self._damaged(error, f"its member {name}: ") from error
        if len(data) != self.size(name):
            raise self.refuse(f"its member {name} ends after {len(data)} bytes", _DAMAGED_ADVICE)
        return bytes(data)

    def refuse(self, seen: str, advice: str) -> ImageError:
        """The error that says what was tried, what was seen, and what to do."""
        return ImageError(f"cannot use {self.source} as dfu_application.zip: {seen}. {advice}")

    def _read_file(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_ARCHIVE_SIZE + 1)
        except (OSError, ValueError) as error:
            raise self.refuse(f"it cannot be read ({error})", "Look at the path and its permissions") from error
        if len(data) > MAX_ARCHIVE_SIZE:
            raise self.refuse(
                f"it has more than {MAX_ARCHIVE_SIZE} bytes", "Give the build's own zip, not an archive of the build"
            )
        return data

    def _check(self, member: zipfile.ZipInfo) -> None:
        name, size, packed = member.filename, member.file_size, member.compress_size
        if leaves(name):
            raise self.refuse(f"its member {name!r} leaves the archive", "No build makes such a zip: where is it from?")
        if name in self._members:
            raise self.refuse(f"it has two members {name}", "Which one counts cannot be told: build the zip again")
        if member.flag_bits & _ENCRYPTED:
            raise self.refuse(f"its member {name} is encrypted with a password", "Give the build's own zip")
        if member.compress_type not in _METHODS:
            raise self.refuse(
                f"its member {name} is packed by method {member.compress_type}",
                f"Only {' and '.join(_METHODS.values())} ones are read: give the build's own zip",
            )
        if size > MAX_MEMBER_SIZE:
            raise self.refuse(
                f"its member {name} has {size} bytes unpacked, and {MAX_MEMBER_SIZE} are the most",
                "No slot of an nRF5340 holds that much: give the build's own zip",
            )
        if size > _RATIO_MATTERS and size > MAX_RATIO * packed:
            raise self.refuse(
                f"its member {name} unpacks from {packed} to {size} bytes, more than {MAX_RATIO}-fold",
                "Firmware never does: where is this zip from?",
            )

    def _damaged(self, error: Exception, where: str = "") -> ImageError:
        return self.refuse(f"{where}it is damaged ({' '.join(str(error).split())[:120]})", _DAMAGED_ADVICE)


_DAMAGED_ADVICE = "Copy it again, or build it"


def leaves(name: str) -> bool:
    """Whether unpacking a member of that name would write outside the directory, on any system."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0") or not name
