"""Reads dfu_application.zip: signed images and a manifest.json that says which is which.

Made by the nRF Connect SDK, scripts/bootloader/generate_zip.py, with the arguments of cmake/sysbuild/zip.cmake. The
script turns arguments that begin with 0x into numbers and leaves the others as text, so "1" stands beside 114688; both
spellings are taken for every number. Format version 0 and 1 have the same fields.

With Direct-XIP there are two variants of each image, told apart by `slot`; the one for the primary slot is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.image.archive import Archive, leaves
from pytest_nrfdfu.image.members import APP, NET, Contents, ImageOrigin, Member, in_upload_order, role

__all__ = ["MANIFEST", "read"]

MANIFEST = "manifest.json"
_FORMATS = (0, 1)
_MAX_MANIFEST_SIZE = 256 << 10
"""In bytes; a real one has 1000."""
_MAX_FILES = 16
_MAX_NUMBER = 0xFFFF_FFFF
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}")
_SHOWN = 60
_SIGN_ADVICE = "Build the zip again"


def read(path: Path) -> Contents:
    """The images in the package at `path`. Raises nothing but ImageError."""
    package = _Package(Archive(path))
    entries = package.entries()
    notes: list[str] = []
    members = [package.member(entry) for entry in _primary(entries, notes)]
    _check_names(package.archive, members)
    notes += [note for member in members for note in _version_note(member)]
    return Contents(in_upload_order(members), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the manifest."""

    file: str
    slot: int | None
    """Direct-XIP: the slot for which it was linked, counted over all images."""
    origin: ImageOrigin


@dataclass(frozen=True, slots=True)
class _Package:
    archive: Archive

    def entries(self) -> list[_Entry]:
        """What the manifest lists, checked against the members."""
        manifest = self._manifest()
        version = self._number(manifest, "format-version", "its manifest")
        if version not in _FORMATS:
            raise self.archive.refuse(
                f"its manifest has format-version {version}, and {' and '.join(map(str, _FORMATS))} are known",
                "Look for a newer pytest-nrfdfu, or give the signed .bin instead",
            )
        files = manifest.get("files")
        if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
            raise self.archive.refuse(f'"files" in its manifest is {_shown(files)}, not a list of tables', _SIGN_ADVICE)
        if not 0 < len(files) <= _MAX_FILES:
            raise self.archive.refuse(f"its manifest lists {len(files)} files; 1 to {_MAX_FILES} can be", _SIGN_ADVICE)
        entries = [self._entry(number, entry) for number, entry in enumerate(files, 1)]
        names = [entry.file for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise self.archive.refuse(f"its manifest lists {name} twice", _SIGN_ADVICE)
        return entries

    def member(self, entry: _Entry) -> Member:
        """The image of an entry, under its name."""
        data = self.archive.read(entry.file)
        source = f"{self.archive.source}:{entry.file}"
        image = mcuboot.parse(data, source, require_bootable=False)
        name = role(image, entry.origin) or _own_name(entry.origin)
        if name == APP and not image.bootable:
            mcuboot.parse(data, source)  # says so
        return Member(name, image, entry.origin)

    def _manifest(self) -> Mapping[str, Any]:
        if MANIFEST not in self.archive.names:
            nested = [name for name in self.archive.names if name.endswith("dfu_application.zip")]
            advice = f"Unpack it and give the {nested[0]} inside" if nested else "Give the build's dfu_application.zip"
            raise self.archive.refuse(f"it has no {MANIFEST}; it holds {self.archive.listed}", advice)
        data = self.archive.read(MANIFEST, _MAX_MANIFEST_SIZE)
        try:
            manifest = json.loads(data)
        except (ValueError, RecursionError) as error:
            reason = f"{MANIFEST} is not JSON ({str(error)[:_SHOWN]})"
            raise self.archive.refuse(f"its {reason}", _SIGN_ADVICE) from error
        if not isinstance(manifest, dict):
            raise self.archive.refuse(f"its {MANIFEST} is {_shown(manifest)}, not a table", _SIGN_ADVICE)
        return manifest

    def _entry(self, number: int, entry: Mapping[str, Any]) -> _Entry:
        file = entry.get("file")
        where = f"file {number} of its manifest"
        if not isinstance(file, str) or not file:
            raise self.archive.refuse(f'"file" of {where} is {_shown(file)}, not a name', _SIGN_ADVICE)
        if leaves(file):
            raise self.archive.refuse(f"{where} is {file[:_SHOWN]!r}, which leaves the archive", _SIGN_ADVICE)
        if file not in self.archive.names:
            raise self.archive.refuse(
                f"its manifest lists {file[:_SHOWN]}, and it holds {self.archive.listed}", _SIGN_ADVICE
            )
        where = f"{file} in its manifest"
        self._check_type(entry, where)
        size = self._number(entry, "size", where, required=False)
        if size is not None and size != self.archive.size(file):
            raise self.archive.refuse(
                f"its manifest says {size} bytes for {file}, and it has {self.archive.size(file)}",
                "The zip was changed after it was made: build it again",
            )
        return _Entry(file, self._number(entry, "slot", where, required=False), self._origin(file, entry, where))

    def _check_type(self, entry: Mapping[str, Any], where: str) -> None:
        kind = entry.get("type", "application")
        if kind != "application":
            raise self.archive.refuse(
                f"{where} is of type {_shown(kind)}, not application (dfu_mcuboot.zip updates the bootloader)",
                "Give the build's dfu_application.zip",
            )

    def _origin(self, file: str, entry: Mapping[str, Any], where: str) -> ImageOrigin:
        def number(key: str) -> int | None:
            return self._number(entry, key, where, required=False)

        def text(*keys: str) -> str | None:
            value = next((entry[key] for key in keys if key in entry), None)
            if value is not None and not isinstance(value, str):
                raise self.archive.refuse(f'"{keys[0]}" of {where} is {_shown(value)}, not a text', _SIGN_ADVICE)
            return value

        return ImageOrigin(
            file=file,
            image_index=number("image_index"),
            slot_index_primary=number("slot_index_primary"),
            load_address=number("load_address"),
            board=text("board"),
            soc=text("soc"),
            version=text("version_MCUBOOT", "version_MCUBOOT+XIP"),
        )

    def _number(self, table: Mapping[str, Any], key: str, where: str, *, required: bool = True) -> int | None:
        value = table.get(key)
        if value is None:
            if required:
                raise self.archive.refuse(f'"{key}" of {where} is missing', _SIGN_ADVICE)
            return None
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value, 16 if value[:2] in {"0x", "0X"} else 10)
        if type(value) is not int or not 0 <= value <= _MAX_NUMBER:  # bool is no number here
            raise self.archive.refuse(f'"{key}" of {where} is {_shown(value)}, not a number', _SIGN_ADVICE)
        return value


def _own_name(origin: ImageOrigin) -> str:
    """What an image of neither core is called: by its file, or by its number where that would mislead."""
    name = Path(origin.file).name.removesuffix(".bin").removesuffix(".signed")
    return f"image{origin.image_index}" if name in {"", APP, NET} else name


def _primary(entries: list[_Entry], notes: list[str]) -> list[_Entry]:
    """Without the variants that Direct-XIP makes for secondary slots: recovery uploads to primary ones."""
    left = [entry for entry in entries if entry.slot is not None and entry.slot % 2]
    taken = [entry for entry in entries if entry not in left] or entries
    if len(taken) < len(entries):
        notes += [f"{entry.file} left: it was linked for the secondary slot (slot {entry.slot})" for entry in left]
    return taken


def _check_names(archive: Archive, members: list[Member]) -> None:
    by_name: dict[str, str] = {}
    for member in members:
        if member.name in by_name:
            raise archive.refuse(
                f"both {by_name[member.name]} and {member.origin.file} are the image {member.name!r}, by number and "
                "address in its manifest",
                "Which one to upload cannot be told: give the signed .bin, or build the zip again",
            )
        by_name[member.name] = member.origin.file


def _version_note(member: Member) -> list[str]:
    told = member.origin.version
    try:
        same = not told or mcuboot.Version.parse(told) == member.image.version
    except ValueError:
        same = False
    return [] if same else [f"{member.origin.file}: the manifest says version {told}, the image {member.image.version}"]


def _shown(value: Any) -> str:
    """A value of the manifest for messages, short."""
    text = repr(value) if not isinstance(value, list | dict) else f"a {type(value).__name__} of {len(value)}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
