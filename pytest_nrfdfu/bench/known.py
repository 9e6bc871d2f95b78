"""What is known to be on a unit, in words, across those who had it one after another in a run: workers, and leases."""

from __future__ import annotations

__all__ = ["NOTHING_PROVED", "after"]

_NOT_KNOWN = "not known: "
NOTHING_PROVED = f"{_NOT_KNOWN}nothing was proved on it in this run"
"""Of a unit that was opened, and that nothing was proved on since."""


def after(before: str | None, now: str) -> str:
    """What is known of a unit after somebody had it who says `now`; `before`: what whoever had it earlier said.

    Nobody forgets what an earlier one proved; but between two leases others may have had the unit.
    """
    if before is None or now != NOTHING_PROVED:
        return now
    if before.startswith(_NOT_KNOWN):
        return before
    return f"{_NOT_KNOWN}earlier {before}; given back and taken again since, and not proved again"
