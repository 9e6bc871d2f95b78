"""A run's record: one file of JSON lines, written while the run goes, so that a killed run leaves a readable one.

The first line is of kind ``run``, then ``test`` and ``update`` in the order in which they ended, with ``confirm`` and
``revert`` where an image on trial was kept or taken back afterwards; the last is ``end``. A record without ``end`` is
that of a run that was killed.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import re
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from io import TextIOWrapper

    from pytest_nrfdfu.bench.selection import Selection
    from pytest_nrfdfu.config import UnitConfig

__all__ = ["SCHEMA", "Recorder", "run_facts"]

SCHEMA = 1
"""Of the lines. A reader that knows it may meet keys that it does not know."""
_NAMES = 100
"""How often a free file name is looked for."""


class Recorder:
    """One file of a run; every line reaches it at once."""

    def __init__(self, folder: Path) -> None:
        """A new file in `folder`, named by time, host and process, never one that exists. OSError if that fails."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._file = _create(folder)

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """One line; OSError where the disk does not take it."""
        self._file.write(json.dumps({"record": kind, **values}, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        with suppress(OSError):  # what was written was flushed
            self._file.close()


def _create(folder: Path) -> tuple[Path, TextIOWrapper]:
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()) or "host"
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{host}-{os.getpid()}"
    for number in range(_NAMES):
        path = folder / f"{name}{f'-{number + 1}' if number else ''}.jsonl"
        with suppress(FileExistsError):
            return path, path.open("x", encoding="utf-8")
    raise FileExistsError(f"{folder} has {_NAMES} records {name} already")


def now() -> str:
    """The time, ISO 8601 with the offset of this host's zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="milliseconds")


def run_facts(config: pytest.Config, selection: Selection | None) -> dict[str, Any]:
    """The first line: who ran what, where, with which versions."""
    boards = selection.boards if selection is not None else ()
    builds = selection.builds if selection is not None else ()
    units = {unit.name: unit for choice in boards for unit in choice.units}
    return {
        "schema": SCHEMA,
        "start": now(),
        "host": socket.gethostname(),
        "user": _user(),
        "command": ["pytest", *config.invocation_params.args],
        "folder": str(config.invocation_params.dir),
        "versions": _versions(boards=bool(boards)),
        "simulated": any(unit.config.simulated for unit in units.values()),
        "boards": [choice.label for choice in boards],
        "units": [_unit(unit) for unit in units.values()],
        "configs": sorted({str(unit.file) for unit in units.values()}),
        "builds": [
            {
                "name": build.name,
                "path": str(build.path),
                "images": {
                    name: {"version": str(image.version), "hash": image.hash.hex(), "bytes": image.size}
                    for name, image in build.images.items()
                },
            }
            for build in builds
        ],
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in some containers
        return ""


def _versions(*, boards: bool) -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in ("pytest-nrfdfu", *(("pyocd", "pyserial") if boards else ())):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _unit(unit: UnitConfig) -> dict[str, Any]:
    """A unit and its bootloader, as configured."""
    config = unit.config
    return {
        "name": unit.name,
        "board": config.board,
        "simulated": config.simulated,
        "port": config.uart.port,
        "baudrate": config.sim.baudrate if config.sim is not None else config.uart.baudrate,
        "probe": config.probe.unique_id if config.probe is not None else None,
        "bootloader": config.sim.bootloader if config.sim is not None else config.bootloader.profile,
    }
