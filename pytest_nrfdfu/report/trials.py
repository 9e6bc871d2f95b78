"""Images on trial in the results of a run: the update that brought one is told as it ended, confirmed or reverted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["CONFIRM", "REVERT", "ends_trial", "take_end"]

CONFIRM, REVERT = "confirm", "revert"
"""What `DfuReport.via` says of the end of a trial, which is no update."""


def ends_trial(result: dict[str, Any]) -> bool:
    """Whether a report (as JSON types) tells the end of a trial, and not an update."""
    return result["via"] in {CONFIRM, REVERT}


def take_end(results: Sequence[dict[str, Any]], end: dict[str, Any]) -> bool:
    """Let the update whose trial has ended say so; whether that is among `results` (oldest first).

    It is the last one of the unit. A confirmation must be of its image: another one may have been on trial before.
    """
    mine = [result for result in results if result["unit"] == end["unit"] and not ends_trial(result)]
    if not mine or mine[-1].get("confirmed") is None:
        return False
    last = mine[-1]
    if end["via"] == CONFIRM and last["hash"] not in {end["hash"], None}:
        return False
    for part in (last, *last["reports"]):
        if part.get("confirmed") is False:
            part["confirmed" if end["via"] == CONFIRM else "reverted"] = True
    return True
