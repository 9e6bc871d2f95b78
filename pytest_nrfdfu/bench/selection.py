"""What to test on what: the options, resolved once, and handed to xdist's workers as data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nrfdfu.bench.pool import Choice, choose, config_folders
from pytest_nrfdfu.config import BoardConfig, Catalogue, UnitConfig, shipped_configs
from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.build import Build
from pytest_nrfdfu.image.build import load as load_build

__all__ = ["Selection", "from_data", "resolve"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Boards and builds of this run, in the order in which they were asked for."""

    boards: tuple[Choice, ...] = ()
    builds: tuple[Build, ...] = ()

    def to_data(self) -> str:
        """JSON for xdist's workers, so that they test the same without reading options again."""
        boards = [
            {
                "label": choice.label,
                "units": [
                    {
                        "id": unit.id,
                        "file": str(unit.file),
                        "config": unit.config.model_dump(mode="json", by_alias=True),
                    }
                    for unit in choice.units
                ],
            }
            for choice in self.boards
        ]
        builds = [{"name": b.name, "path": str(b.path), "hash": b.hash.hex()} for b in self.builds]
        return json.dumps({"boards": boards, "builds": builds})


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
        )
        for item in value["boards"]
    ]
    builds = []
    for item in value["builds"]:
        build = load_build(Path(item["path"]), item["name"])
        if build.hash.hex() != item["hash"]:
            raise ImageError(f"{build.path} was changed while the run was starting; run again")
        builds.append(build)
    return Selection(tuple(boards), tuple(builds))


def resolve(boards: Iterable[str], builds: Iterable[str], *, config: Path | None, root: Path, cwd: Path) -> Selection:
    """Resolve the values of ``--board`` and ``--build``. ConfigError or ImageError where one is wrong.

    `config`: ``--nrfdfu-config``; `root`: pytest's rootdir; `cwd`: what relative paths of builds are relative to.
    """
    choices = []
    wanted = list(boards)
    if wanted:
        choices = choose(wanted, Catalogue(config_folders(config, root, shipped_configs())))
    loaded: dict[str, Build] = {}
    for value in builds:
        build = _load(value, cwd)
        other = loaded.get(build.name)
        if other is not None and other.path != build.path:
            raise ConfigError(
                f"two builds are called {build.name!r}: {other.path} and {build.path}; name them: --build NAME=PATH"
            )
        loaded[build.name] = build
    return Selection(tuple(choices), tuple(loaded.values()))


def _load(value: str, cwd: Path) -> Build:
    name, equals, path = value.partition("=")
    if not equals or os.sep in name:  # a path may hold an equals sign
        name, path = "", value
    if equals and not path:
        raise ConfigError(f"--build {value}: no path behind the equals sign; write --build NAME=PATH")
    return load_build(cwd / Path(path).expanduser(), name or None)
