"""Reads what Nordic's Partition Manager decided: partitions.yml or pm.config of a build directory.

Both are written by one script of the nRF Connect SDK (scripts/partition_manager.py and partition_manager_output.py);
pm.config is the same table as C preprocessor values. Where the Partition Manager is on, the partitions of the
devicetree are not used, though zephyr.dts goes on listing them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.textfile import read_text

__all__ = ["Partition", "parse_pm_config", "parse_yaml", "read_pm_config", "read_yaml"]

_MAX_SIZE = 256 << 10
"""A larger file is not read, in bytes. Real ones have 3000 (.yml) and 7000 (.config); YAML takes its time."""
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_SHOWN = 40
_PM_VALUE = re.compile(r'^PM_(\w+?)_(ADDRESS|SIZE|NAME)=(?:"?)([\w.-]+)"?[ \t\r]*$', re.MULTILINE | re.ASCII)


class Partition(NamedTuple):
    """One partition. Addresses and sizes in bytes."""

    address: int
    """In the address space of its memory: external flash begins at 0 again."""
    size: int
    region: str | None = None
    """``flash_primary``, ``external_flash``, ``ram_flash`` ...; None where it is not told (pm.config)."""
    device: str | None = None
    """Devicetree name of the memory, where it is not the chip's own flash."""


def read_yaml(path: Path) -> dict[str, Partition]:
    """Partitions by name from the partitions.yml at `path`; ImageError if it is not one."""
    return parse_yaml(read_text(path, _MAX_SIZE), str(path))


def read_pm_config(path: Path) -> dict[str, Partition]:
    """Partitions by name from the pm.config at `path`; ImageError if it is not one."""
    return parse_pm_config(read_text(path, _MAX_SIZE), str(path))


def parse_yaml(text: str, source: str = "partitions.yml") -> dict[str, Partition]:
    """Partitions by name; ImageError that names `source` where the text is something else."""
    import yaml  # type: ignore[import-untyped,unused-ignore]  # a dependency of pyocd; not needed at start-up

    try:
        # BaseLoader leaves scalars as text: no merge keys that multiply, no numbers that take for ever to convert.
        tree = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it constructs nothing but str, list and dict
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refuse(source, f"it is not YAML ({reason})") from error
    if not isinstance(tree, dict) or not all(isinstance(table, dict) for table in tree.values()):
        raise _refuse(source, "it is not a table of partitions")
    return {str(name): _partition(str(name), table, source) for name, table in tree.items()}


def _partition(name: str, table: Mapping[Any, Any], source: str) -> Partition:
    numbers = []
    for key in ("address", "size"):
        value = table.get(key)
        if not isinstance(value, str) or not _NUMBER.fullmatch(value):
            raise _refuse(source, f"partition {_shown(name)} has {_shown(value)} as its {key}")
        numbers.append(_number(value))
    region, device = table.get("region"), table.get("device")
    return Partition(
        numbers[0],
        numbers[1],
        region if isinstance(region, str) else None,
        device if isinstance(device, str) else None,
    )


def parse_pm_config(text: str, source: str = "pm.config") -> dict[str, Partition]:
    """Partitions by name, from a pm.config's lines ``PM_<PARTITION>_ADDRESS`` and ``..._SIZE``; ImageError if none."""
    found: dict[str, dict[str, str]] = {}
    for match in _PM_VALUE.finditer(text):
        found.setdefault(match[1], {})[match[2]] = match[3]
    partitions = {}
    for upper, values in found.items():
        address, size = values.get("ADDRESS", ""), values.get("SIZE", "")
        if _NUMBER.fullmatch(address) and _NUMBER.fullmatch(size):
            partitions[values.get("NAME", upper.lower())] = Partition(_number(address), _number(size))
    if not partitions:
        raise _refuse(source, "no line says where a partition is (PM_<PARTITION>_ADDRESS and _SIZE)")
    return partitions


def _number(text: str) -> int:
    return int(text, 16 if "x" in text.lower() else 10)


def _shown(value: object) -> str:
    """A value for a message. Of a list or table only the type: aliases within aliases would print without end."""
    if value is None:
        return "nothing"
    return f"a {type(value).__name__}" if not isinstance(value, str) else repr(value[:_SHOWN])


def _refuse(source: str, seen: str) -> ImageError:
    return ImageError(f"cannot read {source} as the Partition Manager's output: {seen}. Build again")
