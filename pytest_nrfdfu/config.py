"""Board configurations (``hil_configs/<board>.toml``): types, schema, loading, errors that name file, key and fix.

One file describes one board, or a rack of units of that board. The schema is the pydantic models below; unknown keys
are refused with the nearest known spelling. `Catalogue` finds boards by name: first in the suite's own folder, then
among the configurations that ship with the package.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_nrfdfu.config_errors import explain, line_of
from pytest_nrfdfu.config_types import BoardConfig
from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import profile

__all__ = ["BoardConfig", "Catalogue", "UnitConfig", "load", "shipped_configs"]

_PAGES = {"app": 0x1000, "net": 0x800}
"""Bytes of a page of flash of the application core and of the network core (nRF5340 product specification, NVMC)."""
_APP_UPLOADS = {0, 1}
"""MCUboot's boot_serial.c: 0 is the first slot of image 0 always, and so is 1 with
CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD (flash_area_id_from_direct_image)."""


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """One unit: its id (None where the file names none) and its board's configuration with its own laid over."""

    id: str | None
    config: BoardConfig
    file: Path

    @property
    def name(self) -> str:
        """``board`` or ``board:id``."""
        return self.config.board if self.id is None else f"{self.config.board}:{self.id}"


def _other_driver(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "driver" in old and "driver" in new and old["driver"] != new["driver"]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table. A line with another driver replaces the one below: no key is shared."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_driver(old, value):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


_ID = re.compile(r"[^:\[\]\s]+")


def _identity(table: Mapping[str, Any], path: Path, text: str, number: int) -> str:
    """The id of the [[unit]] table number `number`."""
    where = f"{path}{line_of(text, ('id',), number)}"
    identity = table.get("id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity) or identity == "all":
        given = "" if identity is None else f", not {identity!r}"
        raise ConfigError(
            f"{where}: unit number {number + 1}: every [[unit]] needs an id, a text without spaces, colons or"
            f" brackets, and not 'all'{given}"
        )
    if "board" in table:
        raise ConfigError(f"{where}: unit {identity}: a unit is of the file's board; another board needs another file")
    return identity


def load(path: Path) -> list[UnitConfig]:
    """The units that one file describes (at least one); ConfigError that names file, key and fix otherwise."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    data.setdefault("board", path.stem)
    if "unit" not in data:
        return [UnitConfig(None, _validate(data, path, text, None), path)]
    tables = data.pop("unit")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}{line_of(text, ('unit',))}: units are tables in double brackets: [[unit]]")
    units = []
    for number, table in enumerate(tables):
        identity = _identity(table, path, text, number)
        own = {key: value for key, value in table.items() if key != "id"}
        units.append(UnitConfig(identity, _validate(_merge(data, own), path, text, number), path))
    _refuse_twins(units)
    return units


def _validate(data: dict[str, Any], path: Path, text: str, unit: int | None) -> BoardConfig:
    try:
        config = BoardConfig.model_validate(_beside(path, data))
    except ValidationError as error:
        raise ConfigError(explain(error, path, text, unit, BoardConfig)) from None
    names = {("bootloader", "profile"): config.bootloader.profile}
    if config.sim is not None:
        names["sim", "bootloader"] = config.sim.bootloader
    for key, name in names.items():
        try:
            profile(name)
        except ConfigError as error:
            raise ConfigError(f"{path}{line_of(text, key, unit)}: {'.'.join(key)}: {error}") from None
    for image_key, wrong in _wrong_numbers(config):
        where = ("images", *image_key)
        raise ConfigError(f"{path}{line_of(text, where, unit)}: {'.'.join(where)}: {wrong}")
    return config


def _wrong_numbers(config: BoardConfig) -> Iterator[tuple[tuple[str, str], str]]:
    """Numbers of images that no bootloader of an nRF5340 can mean: below which keys of [images], and why not."""
    for name, image in config.images.items():
        page = _PAGES.get(name)
        if page is not None and image.slot_address is not None and image.slot_address % page:
            yield (name, "slot_address"), f"a slot begins at a page of flash, a multiple of {page:#x}"
        if name == "app" and image.upload is not None and image.upload not in _APP_UPLOADS:
            only = "the application is number 0 for every bootloader (with direct upload, 1 is its first slot too)"
            yield (name, "upload"), f"{only}, not {image.upload}; leave it out"


def _beside(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """`data` with the files that a [sim] table names taken relative to the configuration that names them."""
    sim = data.get("sim")
    if not isinstance(sim, Mapping):
        return data
    files = {key: str(path.parent / sim[key]) for key in ("image", "public_key") if isinstance(sim.get(key), str)}
    return {**data, "sim": {**sim, **files}}


def _refuse_twins(units: list[UnitConfig]) -> None:
    seen: dict[str, UnitConfig] = {}
    for unit in units:
        other = seen.setdefault(unit.name, unit)
        if other is not unit:
            files = str(unit.file) if unit.file == other.file else f"{other.file} and {unit.file}"
            raise ConfigError(f"{files}: two units are called {unit.name}; give each [[unit]] an id of its own")


def shipped_configs() -> Path:
    """The folder of the configurations that ship with the package: inside it, or beside it in a source tree."""
    package = Path(__file__).parent
    inside = package / "hil_configs"
    return inside if inside.is_dir() else package.parent / "hil_configs"


class Catalogue:
    """All boards that can be asked for, by name."""

    def __init__(self, folders: list[Path], absent: Sequence[Path] = ()) -> None:
        """`folders`: TOML files, or folders of them; the first one that knows a name wins. `absent`: not found.

        A file that is wrong is only told where its boards may be meant (`find`); one that was named itself, at once.
        """
        self._units: dict[str, list[UnitConfig]] = {}
        self.broken: dict[Path, ConfigError] = {}
        """Files that cannot be used, and why."""
        self._names: list[list[str]] = []
        self.sources = folders
        self.absent = absent
        """Where configurations were looked for as well, and there is nothing."""
        for folder in folders:
            found: dict[str, list[UnitConfig]] = {}
            for unit in self._load(folder):
                found.setdefault(unit.config.board, []).append(unit)
            self._names.append(sorted(found))
            for name, units in found.items():
                _refuse_twins(units)
                self._units.setdefault(name, units)

    def _load(self, folder: Path) -> Iterator[UnitConfig]:
        if not folder.is_dir():
            yield from load(folder)
            return
        for file in sorted(folder.glob("*.toml")):
            try:
                yield from load(file)
            except ConfigError as error:
                self.broken[file] = error

    @property
    def names(self) -> frozenset[str]:
        """What markers may ask for: boards, and what they are compatible with."""
        units = [unit for units in self._units.values() for unit in units]
        return frozenset(name for unit in units for name in (unit.config.board, *unit.config.compatible))

    @property
    def boards(self) -> list[str]:
        """Names of the boards known."""
        return sorted(self._units)

    def find(self, pattern: str) -> Iterator[tuple[str, list[UnitConfig]]]:
        """Board names that `pattern` (a name or a glob) selects, each with the units that exist.

        ConfigError, with the names known, if it selects none. A glob selects in the first folder where it matches
        anything, so that the configurations that ship as examples do not join a suite's own. A simulated board is only
        selected by its own name: a glob in a nightly run's command line must not let it stand in for real ones.
        """
        for file, error in self.broken.items():
            name = _name_in(file)
            if name == pattern or fnmatchcase(name, pattern):
                raise error
        if pattern in self._units:
            yield pattern, self._units[pattern]
            return
        by_folder = ([name for name in names if fnmatchcase(name, pattern)] for names in self._names)
        matching = next(filter(None, by_folder), [])
        hits = [name for name in matching if not self._units[name][0].config.simulated]
        if matching and not hits:
            raise ConfigError(
                f"board {pattern!r} matches only simulated boards, which are selected by their own names alone:"
                f" {', '.join(matching)}"
            )
        if not hits:
            raise ConfigError(self._unknown(pattern))
        for name in hits:
            yield name, self._units[name]

    def _unknown(self, pattern: str) -> str:
        """What is known instead, where that comes from, and where more may be."""
        near = difflib.get_close_matches(pattern, self.boards, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = ", ".join(self.boards) or "none"
        where = ", ".join(str(folder) for folder in self.sources)
        parts = [f"board {pattern!r} is not known{hint} Known boards: {known} (from {where})"]
        if self.absent:
            nowhere = " and ".join(str(folder) for folder in self.absent)
            parts.append(f"Looked for as well, and not there: {nowhere}")
        if self.broken:
            wrong = "; ".join(str(error) for error in self.broken.values())
            parts.append(f"Left out, since something is wrong in them: {wrong}")
        return ". ".join(parts)


_BOARD = re.compile(r"""^\s*board\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def _name_in(file: Path) -> str:
    """The board that a file is about, which need not be right otherwise."""
    try:
        found = _BOARD.search(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = None
    return found[1] if found else file.stem
