"""What broke in a night, in words: for the page of nights and for a terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pytest_nrfdfu.report.categories import GROUPS, group_of
from pytest_nrfdfu.report.nights import Night, Result
from pytest_nrfdfu.report.shorten import plain, some_lines

__all__ = ["NO_BOARD", "as_text", "broken_counts", "counted", "error_lines", "short_id", "when"]

NO_BOARD = "no board"
_MOST, _LINES, _FIRST, _OTHER = 20, 8, 500, 120
"""Tests that a terminal gets; lines of each error, characters of the first one, and of the others."""


def counted(number: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def broken_counts(night: Night) -> str:
    """How many tests broke in which way, what matters most first; empty if none did."""
    counts = Counter(group_of(test.category).name for test in night.broken)
    return ", ".join(f"{counts[group.name]} {group.name}" for group in GROUPS if counts[group.name])


def when(test: Result, night: Night) -> str:
    """When a test ended, on its host's clock; where there were several runs, also which of them it was in."""
    run = f"run of {test.run:%H:%M}" + (f" on {test.host}" if len({run.host for run in night.runs}) > 1 else "")
    if test.ended is None:
        return run
    return f"{test.ended:%H:%M}" + (f", {run}" if len(night.runs) > 1 else "")


def short_id(test: Result) -> str:
    """Without board and build, which are told beside it; a test's other parameters tell its rows apart."""
    name, bracket, params = test.nodeid.partition("[")
    boards = (test.unit, test.unit.partition(":")[0])
    mine = "|".join([*(f"board:{re.escape(board)}" for board in boards if board), f"build:{re.escape(test.build)}"])
    params = re.sub(rf"(?<![^-])(?:{mine})(?:-|(?=\]$))", "", params).removesuffix("]").removesuffix("-")
    return f"{name}[{params}]" if bracket and params else name


def error_lines(error: str) -> list[str]:
    """An error's lines, without the module of its class; never empty."""
    return re.sub(r"^(?:[A-Za-z_]\w*\.)+(?=[A-Z]\w*:)", "", plain(error)).splitlines() or [""]


def as_text(night: Night) -> Iterator[str]:
    """A night for a terminal or a mail: how many passed, and of each test that broke the most of its error."""
    passed, broke = sum(cell.passed for cell in night.cells.values()), broken_counts(night)
    yield f"last night, {night.day}: {passed} passed; {f'broke: {broke}' if broke else 'no test broke'}"
    for name, why in night.retired.items():
        yield f"  {name} was retired: {why}"
    for test in night.broken[:_MOST]:
        place = (test.unit or NO_BOARD, test.build, when(test, night), short_id(test))
        yield "  " + "  ".join((group_of(test.category).name, *filter(None, place)))
        error = some_lines("\n".join(error_lines(test.error)), _LINES, first=_FIRST, other=_OTHER)
        yield from (f"      {line}".rstrip() for line in error.splitlines())
    if len(night.broken) > _MOST:
        yield f"  and {len(night.broken) - _MOST} more"
