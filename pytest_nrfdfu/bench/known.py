"""What is known to be on a unit, in words, across those who had it one after another in a run: workers, and leases."""

from __future__ import annotations

from pytest_nrfdfu.board.unit import NOTHING_PROVED

__all__ = ["NOTHING_PROVED", "after"]

_NOT_KNOWN = "not known: "


def after(before: str | None, now: str) -> str:
    """What is known of a unit after somebody had it who says `now`; `before`: what whoever had it earlier said.

    Nobody forgets what an earlier one proved; but between two leases others may have had the unit.
    """
    if before is None or now != NOTHING_PROVED:
        return now
    if before.startswith(_NOT_KNOWN):
        return before
    return f"{_NOT_KNOWN}earlier {before}; given back and taken again since, and not proved again"
