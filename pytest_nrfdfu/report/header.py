"""The head of a run: which boards and builds it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.selection import Selection

__all__ = ["HASH_DIGITS", "header"]

HASH_DIGITS = 12
"""Of a hash, shown to people."""


def header(selection: Selection) -> list[str]:
    """Lines for the head of pytest's output."""
    lines = []
    for choice in selection.boards:
        unit = choice.units[0]
        if unit.config.sim is not None:
            sim = unit.config.sim
            pace = f"{sim.baudrate} baud" if sim.baudrate else "unpaced"
            where = f"simulated: bootloader {sim.bootloader}, {pace}, flash timing {sim.flash_timing}"
        else:
            where = f"{unit.config.uart.port} at {unit.config.uart.baudrate} baud"
        count = f"{len(choice.units)} units, " if len(choice.units) > 1 else ""
        lines.append(f"nrfdfu board: {choice.label} ({count}{where}; {unit.file})")
    for build in selection.builds:
        images = ", ".join(
            f"{name} {image.version} ({image.hash.hex()[:HASH_DIGITS]}) of {image.size} bytes"
            for name, image in build.images.items()
        )
        lines.append(f"nrfdfu build: {build.name}: {images}; {build.path}")
        lines += [f"nrfdfu build: {build.name}: {note}" for note in build.notes]
    if not selection.builds:
        lines.append("nrfdfu build: none (tests that need one are skipped: --build [NAME=]PATH)")
    return lines
