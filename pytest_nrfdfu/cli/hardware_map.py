"""Reads a Zephyr hardware map (``map.yaml`` of twister): which boards hang on this host, and by which serial numbers.

The format: Zephyr documentation, "Test Runner (Twister)", hardware map: a list of entries with ``connected``, ``id``
(the debug probe's serial number), ``platform``, ``product``, ``runner`` and ``serial`` (the console's port).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pytest_nrfdfu.errors import ConfigError

__all__ = ["MapEntry", "read_map"]

_NOTHING = frozenset({"", "null", "~", "none", "unknown"})
"""What twister writes for what it does not know, in lower case."""


class MapEntry(NamedTuple):
    """One board of the map."""

    serial: str
    """The debug probe's serial number, as the map has it: leading zeros are kept. Empty where the map has none."""
    platform: str
    """``nrf5340dk/nrf5340/cpuapp``, or ``nrf5340dk_nrf5340_cpuapp`` in maps of older Zephyr."""
    product: str
    port: str
    connected: bool

    @property
    def board(self) -> str:
        """The platform's board, without chip and core: ``nrf5340dk``."""
        return re.split(r"[/@]|_nrf\d", self.platform)[0]

    @property
    def is_jlink(self) -> bool:
        """Whether its probe is a J-Link, by the product's name."""
        return "jlink" in self.product.lower().replace("-", "")


def read_map(path: Path) -> list[MapEntry]:
    """The entries of a hardware map, connected or not; ConfigError if it is none."""
    try:
        # BaseLoader leaves every value the text that it is: 000683759358 must not become a number.
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - makes only texts
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: is no hardware map: that is a list of boards, each with id, platform and serial")
    return [_entry(entry, path, number) for number, entry in enumerate(entries, 1)]


def _entry(entry: Mapping[str, Any], path: Path, number: int) -> MapEntry:
    for key, value in entry.items():
        if key in {"id", "platform", "product", "serial"} and not isinstance(value, str):
            raise ConfigError(f"{path}: entry {number}: {key} is {value!r}, and only a text or a number makes sense")
    told = {
        key: "" if str(entry.get(key, "")).lower() in _NOTHING else str(entry[key])
        for key in ("id", "platform", "product", "serial")
    }
    connected = str(entry.get("connected", "false")).lower() == "true"
    return MapEntry(told["id"], told["platform"], told["product"], told["serial"], connected)
