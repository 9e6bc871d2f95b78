"""Where the state of a run lies: the keys of pytest's stashes, and what a test's report carries beside its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nrfdfu.bench.pool import Pool
    from pytest_nrfdfu.bench.selection import Selection
    from pytest_nrfdfu.board.board import Board

__all__ = [
    "BOARDS",
    "CATEGORY",
    "PENDING",
    "POOL",
    "RECORD",
    "REFLASH",
    "RESULTS",
    "SELECTION",
    "STARTED",
    "TRACE",
    "UPDATES",
    "Facts",
    "attach",
    "attached",
]

CATEGORY = "category"
"""The user property that a failure is triaged by."""
_ATTRIBUTE = "nrfdfu"

SELECTION: pytest.StashKey[Selection | None] = pytest.StashKey()
"""Of the config: what to test on what; None if nothing was asked for."""
POOL: pytest.StashKey[Pool] = pytest.StashKey()
"""Of the config: the units held."""
REFLASH: pytest.StashKey[str] = pytest.StashKey()
"""Of the config: ``auto``, ``always`` or ``never``."""
RECORD: pytest.StashKey[Path | None] = pytest.StashKey()
"""Of the config: the folder that the run's record goes to; None if none is kept."""
TRACE: pytest.StashKey[Path | None] = pytest.StashKey()
"""Of the config: the folder that every SMP exchange is kept in; None if none is kept."""
RESULTS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""Of the config: every DfuReport of the run, as JSON types."""
PENDING: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""Of the config: those of the phase of a test that has not reported yet, as JSON types."""
BOARDS: pytest.StashKey[list[Board]] = pytest.StashKey()
"""Of an item: the boards that its test holds."""
UPDATES: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""Of an item: every DfuReport of its test, as JSON types."""
STARTED: pytest.StashKey[float] = pytest.StashKey()
"""Of an item: when its set-up began, on the monotonic clock."""


class Facts(TypedDict):
    """What a test's report carries from the process that ran it to the one that reports. Made of JSON types."""

    unit: str
    """Names, by commas."""
    build: str
    simulated: bool
    upload: str
    """How the last update of the test went, in a few words."""
    updates: list[dict[str, Any]]
    """Every DfuReport of this phase of the test."""


def attach(report: pytest.TestReport, facts: Facts) -> None:
    """Let a report carry `facts`; pytest-xdist hands all of a report's attributes to the controller."""
    vars(report)[_ATTRIBUTE] = facts


def attached(report: object) -> Facts | None:
    """What a report carries; None if it is of a test without a board, of a collection, or of a worker's crash."""
    return cast("Facts | None", getattr(report, _ATTRIBUTE, None))
