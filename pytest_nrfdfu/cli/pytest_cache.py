"""Where the pytest runs of a folder keep what they remember: the cache directory below their rootdir.

The rule is that of pytest's documentation ("Initialization: determining rootdir and configfile", and the ini option
cache_dir) for a run without paths and options: the nearest folder upwards whose files configure pytest, else the
nearest with a pyproject.toml, else the nearest with a setup.py, else where one stands.
"""

from __future__ import annotations

import configparser
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_nrfdfu.board.window_memory import MEMORY_FILE, MEMORY_FOLDER

__all__ = ["cache_folder", "memory_file"]

_TOML_SECTIONS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "pytest.toml": (("pytest",),),
    ".pytest.toml": (("pytest",),),
    "pyproject.toml": (("tool", "pytest", "ini_options"), ("tool", "pytest")),
}
_INI_SECTIONS = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}
_NAMES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""In the order in which pytest takes them."""
_EMPTY_WILL_DO = frozenset({"pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"})
"""Files that are pytest's alone, and so mark a rootdir whatever is in them."""
_CACHE = ".pytest_cache"
_DIRECTORIES = "d"
"""Where pytest's `Cache.mkdir` makes what it is asked for."""


def memory_file(start: Path, rootdir: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The file in which the pytest runs that are started in `start` remember what uploads have shown."""
    return cache_folder(start, rootdir, environment) / _DIRECTORIES / MEMORY_FOLDER / MEMORY_FILE


def cache_folder(start: Path, rootdir: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Pytest's cache directory. `rootdir`: as given to pytest; None: found from `start`."""
    start = start.absolute()
    found, settings = _configured(start)
    root = rootdir.absolute() if rootdir is not None else found or _root_without_settings(start)
    default = Path(environment.get("TOX_ENV_DIR", ""), _CACHE)
    told = settings.get("cache_dir")
    told = os.path.expandvars(Path(told).expanduser()) if isinstance(told, str) and told else default
    return root / told


def _configured(start: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """The nearest folder whose files configure pytest, and the settings."""
    for folder in _upwards(start):
        for name in _NAMES:
            settings = _settings(folder / name)
            if settings is not None:
                return folder, settings
    return None, {}


def _root_without_settings(start: Path) -> Path:
    for name in ("pyproject.toml", "setup.py"):
        found = next((folder for folder in _upwards(start) if (folder / name).is_file()), None)
        if found is not None:
            return found
    return start


def _upwards(start: Path) -> Iterator[Path]:
    yield start
    yield from start.parents


def _settings(file: Path) -> Mapping[str, Any] | None:
    """What a file sets for pytest; None if it does not configure it, or cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
        found = _toml_settings(file.name, text) if file.suffix == ".toml" else _ini_settings(file.name, text)
    except (OSError, ValueError, configparser.Error):
        return None
    return {} if found is None and file.name in _EMPTY_WILL_DO else found


def _toml_settings(name: str, text: str) -> Mapping[str, Any] | None:
    content = tomllib.loads(text)
    for path in _TOML_SECTIONS[name]:
        table: Any = content
        for key in path:
            table = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict):
            return table
    return None


def _ini_settings(name: str, text: str) -> Mapping[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    section = _INI_SECTIONS[name]
    return dict(parser[section]) if parser.has_section(section) else None
