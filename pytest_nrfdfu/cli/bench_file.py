"""The text of a configuration for the boards of this host: what ``nrfdfu discover --write`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["FoundUnit", "render", "unique_ids"]

_HEAD = """\
# Boards on this host, as {source} found them.
# pytest --board {board} takes any free one, --board {board}:ID that one; nrfdfu doctor --board {board}:ID tries it.
board = {name}
compatible = {compatible}

[uart]
baudrate = 115200

[probe]

[recovery]
# boot-mode: the debugger leaves a note in GPREGRET; MCUboot needs CONFIG_BOOT_SERIAL_BOOT_MODE, the chip must be open.
# smp: the running application is asked. manual: you hold button 1 and press reset.
entry = ["boot-mode", "smp", "manual"]
# With a wire to button 1, put "gpio" first and say what drives it, here or for each unit:
# [recovery.line]
# driver = "serial"
# port = "usb:0403:6001:serial=A10K5X2Z"
# line = "rts"                      # through a diode or an open-drain buffer

[bootloader]
profile = "ncs-2.6"                 # nrfdfu build PATH says what a build's bootloader is

[images.app]
upload = 0
"""
_FORBIDDEN = re.compile(r"[^0-9A-Za-z_.-]+")
"""In a unit's id there are no colons, brackets or spaces; what shells and file names take is enough."""


class FoundUnit(NamedTuple):
    """A board that was found: probe and port that belong together."""

    probe: str
    """The probe's serial number."""
    port: str
    """How [uart] port names it."""
    remark: str = ""
    """What a person should know of it: one line."""


def unique_ids(units: Sequence[FoundUnit]) -> list[str]:
    """An id for each unit: its probe's serial number, made different where two are the same."""
    ids: list[str] = []
    for unit in units:
        base = _FORBIDDEN.sub("-", unit.probe).strip("-") or "unit"
        base = "unit-all" if base == "all" else base
        number, name = 1, base
        while name in ids:
            number += 1
            name = f"{base}-{number}"
        ids.append(name)
    return ids


def render(units: Sequence[FoundUnit], *, board: str, compatible: Sequence[str], source: str) -> str:
    """The file's text. `source`: what found them, for its first line."""
    parts = [
        _HEAD.format(source=source, board=board, name=json.dumps(board), compatible=json.dumps(list(compatible))),
    ]
    for unit, identity in zip(units, unique_ids(units), strict=True):
        remark = f"# {unit.remark}\n" if unit.remark else ""
        parts.append(
            f"\n[[unit]]\n{remark}id = {json.dumps(identity)}\nuart.port = {json.dumps(unit.port)}\n"
            f"probe.unique_id = {json.dumps(unit.probe)}\n"
        )
    return "".join(parts)
