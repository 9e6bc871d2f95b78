"""What the values of ``--board`` mean: boards and units, found in the configurations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_nrfdfu.config import BoardConfig, Catalogue, UnitConfig, shipped_configs
from pytest_nrfdfu.errors import ConfigError

__all__ = ["Choice", "catalogue", "choose", "config_folders"]

_ALL = "all"
_GLOB = "*?["


@dataclass(frozen=True, slots=True)
class Choice:
    """What one parameter ``board:LABEL`` stands for: any of these units."""

    label: str
    units: tuple[UnitConfig, ...]
    by_pattern: bool = False
    """Whether it is one of all units, or of those that a glob means, and nobody asked for just this one."""

    @property
    def config(self) -> BoardConfig:
        """The configuration that all of them share, for matching markers."""
        return self.units[0].config

    def matches(self, patterns: Iterable[str]) -> bool:
        """Whether a marker's board names (globs count) mean this board: its own name, or one that it is like."""
        names = (self.config.board, *self.config.compatible)
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def choose(wanted: Iterable[str], catalogue: Catalogue) -> list[Choice]:
    """What the values of ``--board`` select, each unit or board once; ConfigError where one selects nothing."""
    choices: dict[str, Choice] = {}
    for value in wanted:
        pattern, _, which = value.partition(":")
        several = which == _ALL or any(sign in value for sign in _GLOB)
        for name, units in catalogue.find(pattern):
            for choice in _of_board(name, units, which, value, by_pattern=several):
                known = choices.setdefault(choice.label, choice)
                if known.by_pattern and not choice.by_pattern:
                    choices[choice.label] = choice
    return list(choices.values())


def _of_board(name: str, units: list[UnitConfig], which: str, value: str, *, by_pattern: bool) -> Iterator[Choice]:
    if not which:
        yield Choice(name, tuple(units), by_pattern)
        return
    named = [unit for unit in units if unit.id is not None]
    hits = named if which == _ALL else [unit for unit in named if fnmatchcase(unit.id or "", which)]
    if which == _ALL and not named:
        hits = units
    if not hits:
        known = ", ".join(unit.id or "" for unit in named) or "none: its file has no [[unit]] tables"
        raise ConfigError(f"--board {value}: {name} has no unit {which!r}; its units are {known}")
    for unit in hits:
        yield Choice(unit.name, (unit,), by_pattern)


def config_folders(asked: Path | None, root: Path, shipped: Path, start: Path | None = None) -> list[Path]:
    """Where configurations are looked for: what was asked for, or the suite's folder, then those of the package.

    ConfigError if what was asked for is not there.
    """
    if asked is not None:
        if not asked.exists():
            raise ConfigError(f"--nrfdfu-config {asked}: no such file or folder")
        return [asked, shipped]
    own = next((folder for folder in _own(root, start) if folder.is_dir()), shipped)
    return [own, shipped] if own.resolve() != shipped.resolve() else [shipped]


def _own(root: Path, start: Path | None) -> list[Path]:
    """Where a suite may keep its configurations: below pytest's rootdir, or where pytest was started."""
    return [folder / "hil_configs" for folder in dict.fromkeys((root, start or root))]


def catalogue(asked: Path | None, root: Path, start: Path | None = None) -> Catalogue:
    """The boards that can be asked for; see `config_folders`."""
    absent = _own(root, start) if asked is None else []
    if any(folder.is_dir() for folder in absent):
        absent = []
    return Catalogue(config_folders(asked, root, shipped_configs(), start), absent)
