"""Which physical board a configuration means: names for it that do not depend on what the configuration calls it.

Two configurations of one board collide in one of these keys, whichever of probe and port they name.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

from pytest_nrfdfu.board.ports import find
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.errors import NrfDfuError

__all__ = ["Identity", "identify", "is_unlimited"]

_KEEP = 60
"""Readable characters of a key; it is a file's name, and those end at 255 bytes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Names of one physical board, each fit for a file's name."""

    keys: tuple[str, ...]
    """All that it is known by now. Who holds every one of them holds the board."""
    stable: str
    """The one that stays when ports are numbered anew: what is remembered about the board is kept under it."""


def is_unlimited(unit: UnitConfig) -> bool:
    """Whether there is one for everybody who asks: a simulated board without an id of its own."""
    return unit.config.simulated and unit.id is None


def identify(unit: UnitConfig) -> Identity:
    """What a unit's configuration says about which board it is. A port that is not there now counts as it is written.

    A simulated board that a [[unit]] table limits is the same one for all who name that table of that file.
    """
    config = unit.config
    if config.simulated:
        key = _key("sim", f"{os.path.realpath(unit.file)}#{unit.name}")
        return Identity((key,), key)
    keys = []
    if config.probe is not None and config.probe.unique_id is not None:
        keys.append(_key("probe", _normal_probe(config.probe.unique_id)))
    spec = config.uart.port
    keys.append(_key("port", _normal_port(_found(spec))))
    stable = keys[0] if len(keys) > 1 else _key("port", spec if "://" not in spec else _normal_port(spec))
    return Identity(tuple(sorted(keys)), stable)


def _normal_probe(unique_id: str) -> str:
    """One text for all names of a probe: pyOCD takes the kind of a probe before its serial number (``jlink:``).

    J-Links tell their serial number padded with zeros; Segger's tools, labels and people leave them out.
    """
    text = unique_id.strip().lower()
    if text.startswith("remote:"):
        return text.replace("remote:localhost:", "remote:127.0.0.1:")
    serial = text.rpartition(":")[2]
    return serial.lstrip("0") or "0" if serial.isalnum() else serial


def _found(spec: str) -> str:
    """The port that a specification means now; the specification itself where it means none."""
    try:
        return find(spec) or spec
    except NrfDfuError:  # it is malformed or means several: opening it will say so
        return spec


def _normal_port(port: str) -> str:
    """One text for all names of a port: /dev/serial/by-id holds links, and addresses may carry pyserial's options."""
    if "://" in port:
        return port.partition("?")[0].lower().replace("//localhost:", "//127.0.0.1:")
    return os.path.realpath(port) if os.sep in port else port.upper()


def _key(kind: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
    return f"{kind}-{readable[-_KEEP:]}-{digest}"
