"""What to test on what: the options, resolved once, and handed to xdist's workers as data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

from pytest_nrfdfu.bench.choice import Choice, catalogue, choose
from pytest_nrfdfu.board.plan import misfit
from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.build import Build
from pytest_nrfdfu.image.build import load as load_build
from pytest_nrfdfu.image.keys import load_public_key

__all__ = ["Selection", "from_data", "resolve"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Boards and builds of this run, in the order in which they were asked for."""

    boards: tuple[Choice, ...] = ()
    builds: tuple[Build, ...] = ()
    globbed: frozenset[str] = frozenset()
    """Names of builds that a pattern chose: where one cannot be for a board, its tests are skipped there."""
    known: frozenset[str] = frozenset()
    """Names that markers may ask for: boards that have a configuration, and what those are compatible with."""

    def misfit(self, board: Choice, build: Build) -> str | None:
        """Why a build that a pattern chose cannot be for a board; None if it can, or was asked for by name."""
        return misfit(build, board.config) if build.name in self.globbed else None

    def to_data(self) -> str:
        """JSON for xdist's workers, so that they test the same without reading options again."""
        boards = [
            {
                "label": choice.label,
                "by_pattern": choice.by_pattern,
                "units": [
                    {
                        "id": unit.id,
                        "file": str(unit.file),
                        "config": unit.config.model_dump(mode="json", by_alias=True, exclude_unset=True),
                    }
                    for unit in choice.units
                ],
            }
            for choice in self.boards
        ]
        builds = [{"name": b.name, "path": str(b.path), "hash": _digest(b)} for b in self.builds]
        return json.dumps(
            {"boards": boards, "builds": builds, "globbed": sorted(self.globbed), "known": sorted(self.known)}
        )


def _digest(build: Build) -> str:
    return " ".join(image.hash.hex() for image in build.images.values())


def from_data(data: str) -> Selection:
    """The selection that the controller made. ImageError if a file has changed in between."""
    value: dict[str, Any] = json.loads(data)
    boards = [
        Choice(
            item["label"],
            tuple(
                UnitConfig(unit["id"], BoardConfig.model_validate(unit["config"]), Path(unit["file"]))
                for unit in item["units"]
            ),
            item["by_pattern"],
        )
        for item in value["boards"]
    ]
    builds = []
    for item in value["builds"]:
        build = load_build(Path(item["path"]), item["name"])
        if _digest(build) != item["hash"]:
            raise ImageError(f"{build.path} was changed while the run was starting; run again")
        builds.append(build)
    return Selection(tuple(boards), tuple(builds), frozenset(value["globbed"]), frozenset(value["known"]))


def resolve(
    boards: Iterable[str],
    builds: Iterable[str],
    *,
    config: Path | None,
    root: Path,
    cwd: Path,
    key: Path | None = None,
    start: Path | None = None,
) -> Selection:
    """Resolve the values of ``--board`` and ``--build``. ConfigError or ImageError where one is wrong.

    `config`: ``--nrfdfu-config``; `root`: pytest's rootdir; `cwd`: what relative paths of builds are relative to;
    `key`: ``--nrfdfu-key``, over what the configurations say; `start`: where pytest was started.
    """
    choices: list[Choice] = []
    known: frozenset[str] = frozenset()
    wanted = list(boards)
    if wanted:
        found = catalogue(config, root, start)
        choices = choose(wanted, found)
        known = frozenset() if found.broken else found.names  # a file that cannot be read may hold any name
    if key is not None:
        load_public_key(key)  # what is wrong with it is said now
        choices = [_with_key(choice, key) for choice in choices]
    loaded: dict[str, Build] = {}
    globbed = set()
    for build, chosen in (item for value in builds for item in _load(value, cwd)):
        if chosen:
            globbed.add(build.name)
        other = loaded.get(build.name)
        if other is not None and other.path != build.path:
            raise ConfigError(
                f"two builds are called {build.name!r}: {other.path} and {build.path}; give them different names:"
                " --build NAME=PATH"
            )
        loaded[build.name] = build
    return Selection(tuple(choices), tuple(loaded.values()), frozenset(globbed), known)


def _with_key(choice: Choice, key: Path) -> Choice:
    units = []
    for unit in choice.units:
        bootloader = unit.config.bootloader.model_copy(update={"public_key": key})
        units.append(replace(unit, config=unit.config.model_copy(update={"bootloader": bootloader})))
    return replace(choice, units=tuple(units))


def _load(value: str, cwd: Path) -> Iterator[tuple[Build, bool]]:
    """The builds that one value means, each with whether a pattern chose it."""
    name, equals, path = value.partition("=")
    if not equals or os.sep in name:  # a path may hold an equals sign
        name, path = "", value
    if equals and not path:
        raise ConfigError(f"--build {value}: no path behind the equals sign; write --build NAME=PATH")
    where = cwd / Path(path).expanduser()
    if not any(char in path for char in "*?[") or where.exists():
        yield load_build(where, name or None), False
        return
    found = sorted(Path(hit) for hit in glob(str(where)))  # noqa: PTH207 - `where` may be absolute
    if not found:
        raise ConfigError(f"--build {value}: no file or directory matches {where}")
    if name and len(found) > 1:
        raise ConfigError(f"--build {value}: {len(found)} files match, and they cannot all be called {name!r}")
    for file in found:
        yield load_build(file, name or None), True
