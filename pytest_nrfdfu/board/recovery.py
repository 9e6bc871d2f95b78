"""Bringing a board into MCUboot's serial recovery by the configured entries, and the diagnosis when none worked."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pytest_nrfdfu.board.boot import settle
from pytest_nrfdfu.board.diagnosis import diagnose
from pytest_nrfdfu.board.entries import ENTRIES, check_configured
from pytest_nrfdfu.board.examine import examine
from pytest_nrfdfu.board.trial import Trial
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import Entry, RecoveryConfig, ResetKind
from pytest_nrfdfu.errors import BoardError, NrfDfuError, RecoveryNotEntered, SmpError
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Entered", "enter"]


class Entered(NamedTuple):
    """Recovery answers. `method` is the entry that worked, `seconds` how long it took."""

    method: Entry
    seconds: float
    images: ImageStates


def enter(unit: Unit, *, ask: Callable[[str], None] | None = None) -> Entered:
    """Bring the unit into serial recovery by the configured entries, in order.

    Raises RecoveryNotEntered, whose `diagnosis` says why, and ConfigError, before anything is touched, where an entry
    lacks what it needs. A swap that a reset has begun is waited for first, and not cut off. Lines are released before
    it returns or raises. `ask` tells a person what to do, for the entry manual; without it the terminal does, if there
    is one.
    """
    check_configured(unit.config)
    settle(unit)
    trial = Trial(unit, ask=ask)
    position, since = unit.uart.console.position, unit.now()
    unit.unfinished = None
    failure: NrfDfuError | None = None
    recovery = unit.config.recovery
    for entry in recovery.entry:
        began = time.monotonic()
        try:
            images = ENTRIES[entry](trial)
        except (SmpError, BoardError) as error:
            failure = error
            trial.seen.failed(entry, _reset_of(entry, recovery), error)
            with suppress(BoardError):
                settle(unit)  # its reset may have begun a swap, which the next entry must not cut off
            continue
        unit.session += 1
        unit.reset_at = None
        return Entered(entry, time.monotonic() - began, images)
    examine(trial, since, position)
    diagnosis = diagnose(trial.seen, unit.config)
    told = " ".join((diagnosis.sentence, *diagnosis.details, diagnosis.remedy))
    raise RecoveryNotEntered(f"{unit.name} did not enter serial recovery: {told}", diagnosis) from failure


def _reset_of(entry: Entry, recovery: RecoveryConfig) -> ResetKind | None:
    """How the board is reset for an entry; None where a person does it."""
    if entry == "manual":
        return None
    return "smp" if entry == "smp" else recovery.reset_for(entry)
