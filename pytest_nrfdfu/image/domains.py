"""Reads which images a sysbuild directory is made of: domains.yaml, or build_info.yml where that is missing.

Written by Zephyr's share/sysbuild/cmake/domains.cmake, and by cmake/modules/yaml.cmake in the form that
scripts/schemas/build-schema.yml describes. Both carry absolute paths of the machine that built, which are seldom those
of the bench; the directories are looked for where the file lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.textfile import read_text

__all__ = ["BUILD_INFO", "DOMAINS", "Domains", "read"]

DOMAINS, BUILD_INFO = "domains.yaml", "build_info.yml"
_MAX_SIZE = 64 << 10
"""A larger file is not read, in bytes: real ones have 1000 (domains.yaml) and 10 000, and YAML takes its time."""
_MAX_BRACKETS = 1000
"""Nested by the ten thousand, they cost the YAML reader seconds; real files have none or a few."""
_MAX_DOMAINS = 64
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Domains:
    """The images of a sysbuild directory, by the names of their directories."""

    source: str
    default: str | None
    """The application's."""
    names: tuple[str, ...]


def read(directory: Path) -> Domains | None:
    """The domains of the build directory; None if it was not made with sysbuild. ImageError for damaged files."""
    domains, info = directory / DOMAINS, directory / BUILD_INFO
    if domains.is_file():
        return _from_domains(_table(domains), str(domains))
    if info.is_file():
        return _from_build_info(_table(info), str(info))
    return None


def _from_domains(table: dict[Any, Any], source: str) -> Domains:
    default = table.get("default")
    if default is not None and not isinstance(default, str):
        raise _refuse(source, f'"default" is {_shown(default)}, not a name')
    names = tuple(_names(table.get("domains"), "domains", source))
    if default is not None and default not in names:
        raise _refuse(source, f"its default {_shown(default)} is none of its domains ({', '.join(names) or 'none'})")
    return Domains(source, default, names)


def _from_build_info(table: dict[Any, Any], source: str) -> Domains | None:
    cmake = table.get("cmake")
    if not isinstance(cmake, dict) or cmake.get("sysbuild") != "true":
        return None
    images = cmake.get("images", [])
    names = tuple(_names(images, "images", source))
    main = [name for name, image in zip(names, images, strict=True) if image.get("type") == "MAIN"]
    return Domains(source, main[0] if len(main) == 1 else None, names)


def _names(tables: object, key: str, source: str) -> Iterator[str]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _refuse(source, f'"{key}" is {_shown(tables)}, not a list of tables')
    if len(tables) > _MAX_DOMAINS:
        raise _refuse(source, f'"{key}" has {len(tables)} entries, and {_MAX_DOMAINS} are the most')
    for table in tables:
        name = table.get("name")
        if not isinstance(name, str) or name in {"", ".", ".."} or any(c in name for c in "/\\:\0"):
            raise _refuse(source, f"the name of a domain is {_shown(name)}, which is no directory in it")
        yield name


def _table(path: Path) -> dict[Any, Any]:
    import yaml  # type: ignore[import-untyped,unused-ignore]  # not needed for a bare image

    text = read_text(path, _MAX_SIZE)
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise _refuse(str(path), f"it has more than {_MAX_BRACKETS} brackets")
    try:
        # BaseLoader leaves scalars as text, so nothing in the file can take long to convert, or fail to.
        tree = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes str, list, dict only
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refuse(str(path), f"it is not YAML ({reason})") from error
    if not isinstance(tree, dict):
        raise _refuse(str(path), f"it is {_shown(tree)}, not a table")
    return tree


def _shown(value: object) -> str:
    text = f"a {type(value).__name__} of {len(value)}" if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse(source: str, seen: str) -> ImageError:
    return ImageError(f"cannot read {source}: {seen}. It is damaged or from another tool: build again")
