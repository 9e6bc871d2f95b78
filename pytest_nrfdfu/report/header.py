"""The head of a run: which boards and builds it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.choice import Choice
    from pytest_nrfdfu.bench.selection import Selection

__all__ = ["HASH_DIGITS", "header"]

HASH_DIGITS = 12
"""Of a hash, shown to people."""
_UNITS = 4
"""Of a rack, shown with their ports."""


def header(selection: Selection) -> list[str]:
    """Lines for the head of pytest's output."""
    lines = []
    for choice in selection.boards:
        count = f"{len(choice.units)} units" if len(choice.units) > 1 else ""
        told = ", ".join(filter(None, (count, _where(choice))))
        lines.append(f"nrfdfu board: {choice.label} ({told}; {choice.units[0].file})")
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


def _where(choice: Choice) -> str:
    """Where a board is: what all of its units share, and of several units on ports which they are."""
    config = choice.config
    if config.sim is not None:
        pace = f"{config.sim.baudrate} baud" if config.sim.baudrate else "unpaced"
        return f"simulated: bootloader {config.sim.bootloader}, {pace}, flash timing {config.sim.flash_timing}"
    if len(choice.units) == 1:
        return f"{config.uart.port} at {config.uart.baudrate} baud"
    shown = [f"{unit.id or unit.name} on {unit.config.uart.port}" for unit in choice.units[:_UNITS]]
    more = len(choice.units) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")
