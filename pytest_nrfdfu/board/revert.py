"""The way back: that an image on trial goes away at the next reset, and the one before runs again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import shown, swap_seconds
from pytest_nrfdfu.board.running_application import ask, reset_and_wait
from pytest_nrfdfu.board.session import PROVED
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import HashMismatch, UpdateRefused

__all__ = ["Reverted", "revert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """MCUboot took an image on trial back. Hashes as the application's list shows them; `seconds` from the reset on."""

    unit: str
    version: str
    """Of the image that runs again."""
    hash: bytes
    away_version: str
    """Of the image that went away."""
    away_hash: bytes
    seconds: float
    proof: str = PROVED
    simulated: bool = False


def revert(unit: Unit, say: Callable[[str], None]) -> Reverted:
    """Reset the board while an image is on trial, and prove that the one before runs again.

    UpdateRefused, before the reset, where nothing is on trial or the bootloader cannot go back. HashMismatch if the
    image on trial, or another one, runs after it.
    """
    running = ask(unit)
    if running.swap == "overwrite":
        raise UpdateRefused(
            f"{unit.name}: its bootloader overwrites slot 0 ({running.swap_by}: CONFIG_BOOT_UPGRADE_ONLY) and keeps no"
            " old image: there is no way back, and nothing was reset"
        )
    away, back = running.states.active, running.states.find(image=0, slot=1)
    if away is None or away.hash is None or away.confirmed:
        raise UpdateRefused(
            f"{unit.name}: nothing is on trial: {shown(away)} runs and is confirmed, so a reset starts it again."
            " Nothing was reset. Update with confirm=False first"
        )
    if back is None or back.hash is None:
        raise UpdateRefused(
            f"{unit.name}: {shown(away)} is on trial, and slot 1 holds no image to go back to: MCUboot keeps the one on"
            " trial. Nothing was reset"
        )
    began = time.monotonic()
    seconds = swap_seconds(running.swap, [slot_size(unit)], unit.client.link)
    reset_and_wait(unit, None, swaps=seconds)  # how large both images are nobody tells
    now = unit.client.images().active
    if now is None or now.hash != back.hash:
        raise HashMismatch(
            f"{unit.name}: {shown(away)} was on trial and the board was reset, and now {shown(now)} runs instead of"
            f" {shown(back)}, which was there before: was the image confirmed by the application itself?"
        )
    say(f"reverted: {shown(now)} runs again, {shown(away)} is gone from slot 0")
    unit.remember(back.hash, f"version {back.version}, shown as active by the application's list after a revert")
    return Reverted(
        unit=unit.name,
        version=now.version,
        hash=back.hash,
        away_version=away.version,
        away_hash=away.hash,
        seconds=time.monotonic() - began,
        simulated=unit.config.simulated,
    )
