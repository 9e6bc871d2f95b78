"""The end of a run, in words: what was put on which board and how it was proved, and what broke."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.report.categories import CRASHED, OTHER_CATEGORY, group_of
from pytest_nrfdfu.report.header import HASH_DIGITS
from pytest_nrfdfu.report.keys import RESULTS
from pytest_nrfdfu.report.results import RUN, Run
from pytest_nrfdfu.report.shorten import in_lines

if TYPE_CHECKING:
    import pytest
    from _pytest.terminal import TerminalReporter

__all__ = ["write_summary"]

_COLUMNS = (
    "unit",
    "build",
    "image",
    "version",
    "hash",
    "via",
    "bytes",
    "seconds",
    "bytes/s",
    "retries",
    "verified by",
    "running",
)

_NARROW = 6
"""Columns that say what went where; on a terminal that is too narrow for all, the others are told below them."""


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    uploaded = result["bytes"]
    return (
        result["unit"],
        result["build"] or "-",
        result["image"],
        result["version"],
        (result["hash"] or "-")[:HASH_DIGITS],
        _via(result),
        str(uploaded) if uploaded else "none sent",
        f"{result['seconds']:.2f}" if uploaded else "-",
        f"{result['rate']:.0f}" if uploaded else "-",
        str(result["retries"]),
        result["proof"] if result["verified"] else "NOT: " + result["proof"],
        result["running"],
    )


def _via(result: dict[str, Any]) -> str:
    """Which way it came, and what became of it where it was on trial."""
    confirmed = result.get("confirmed")
    kept = "" if confirmed is None else ", confirmed" if confirmed else ", on trial"
    kept += ", reverted" if result.get("reverted") else ""
    swap = f"{result['swap']}{kept}" if result.get("swap") else ""
    cut = f"cut off at {result['cut']}" if result.get("cut") else ""
    more = ", ".join(part for part in (swap, cut) if part)
    return f"{result.get('via', 'recovery')}" + (f" ({more})" if more else "")


def write_summary(reporter: TerminalReporter, config: pytest.Config) -> None:
    """Nothing, if the run had nothing to do with boards."""
    run, results = config.stash.get(RUN, Run()), config.stash.get(RESULTS, [])
    if results or run.holds:
        reporter.section("firmware updates")
        if results:
            _write_updates(reporter, results)
        for name, holds in run.holds.items():
            _say(reporter, f"On {name} now: {holds}")
    if _concerns_boards(run) or results or run.holds:
        _write_troubles(reporter, run)
    if run.record:
        reporter.write_line(f"nrfdfu record: {run.record}")


def _concerns_boards(run: Run) -> bool:
    """Whether something broke beside tests that use no board."""
    return bool(run.retired) or any(
        unit or category not in {OTHER_CATEGORY, CRASHED} for category, unit in run.troubles
    )


def _write_updates(reporter: TerminalReporter, results: list[dict[str, Any]]) -> None:
    parts = [part for result in results for part in result["reports"] or [result]]
    rows = [_COLUMNS, *(_row(part) for part in parts)]
    if reporter.isatty and sum(_widths(rows)) + 2 * len(_COLUMNS) > shutil.get_terminal_size().columns:
        _write_table(reporter, [row[:_NARROW] for row in rows], ["", *(f"  {_in_words(part)}" for part in parts)])
    else:
        _write_table(reporter, rows)
    for result in results:
        which = f"{result['unit']} {result['build'] or result['via']}"
        if course := _course(result):
            _say(reporter, f"{which}: {course}")
        for note in result["notes"]:
            _say(reporter, f"{which}: {note}")
    if any(result["simulated"] for result in results):
        reporter.write_line("Figures of simulated boards are simulated: no firmware was executed.")


def _in_words(part: dict[str, Any]) -> str:
    """The columns of a row that a narrow terminal has no room for."""
    proof = f"verified by {part['proof']}" if part["verified"] else f"NOT verified: {part['proof']}"
    running = part["running"]
    if running.startswith(("console", "image list")):
        running = f"running, seen by {running}"
    if not part["bytes"]:
        return f"none sent; {proof}; {running}"
    sent = f"{part['bytes']} bytes in {part['seconds']:.2f} s, {part['rate']:.0f} bytes/s"
    again = f", {part['retries']} sent again" if part["retries"] else ""
    return f"{sent}{again}; {proof}; {running}"


def _course(result: dict[str, Any]) -> str:
    """Where the time of an update went, and what became of the window of its upload."""
    phases = result["timeline"]
    parts = ", ".join(f"{phase['name']} {phase['end'] - phase['start']:.2f}" for phase in phases)
    told = [f"{max(phase['end'] for phase in phases):.2f} s ({parts})"] if phases else []
    sent = [part for part in result["reports"] or [result] if part["window_outcome"]]
    told += [(f"{part['image']}: " if len(sent) > 1 else "") + _window(part) for part in sent]
    return "; ".join(told)


def _window(part: dict[str, Any]) -> str:
    """The window of one image's upload; the losses of its trial apart from the link's."""
    trial = part["trial_losses"]
    link = part["retries"] + part["resyncs"] - trial
    losses = [f"{count} {where}" for count, where in ((trial, "in its trial"), (link, "on the link")) if count]
    return f"{part['window_outcome']}, " + (f"lost {' and '.join(losses)}" if losses else "nothing lost")


def _write_troubles(reporter: TerminalReporter, run: Run) -> None:
    if not (run.troubles or run.retired):
        return
    reporter.section("what broke")
    rows = list(_trouble_rows(run.troubles))
    if rows:
        _write_table(reporter, [("what", "tests", "category", "on"), *rows])
    for worker, nodeid in run.crashed:
        _say(
            reporter,
            f"Worker {worker} died in {nodeid}: what that test did to its board, and what the worker's units hold now,"
            " is not known.",
        )
    for name, why in run.retired.items():
        _say(reporter, f"{name} was retired: {why}")


def _trouble_rows(troubles: Counter[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    for category in sorted({category for category, _ in troubles}, key=lambda name: group_of(name).rank):
        units = Counter({unit: count for (found, unit), count in troubles.items() if found == category})
        yield group_of(category).name, str(units.total()), category or "not known", _counted(units)


def _counted(units: Counter[str]) -> str:
    return ", ".join(f"{unit or 'no board'} ({count})" for unit, count in sorted(units.items()))


def _say(reporter: TerminalReporter, text: str) -> None:
    """A line; on a terminal, as many as it takes."""
    reporter.write_line(in_lines(text, shutil.get_terminal_size().columns) if reporter.isatty else text)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _write_table(reporter: TerminalReporter, rows: Sequence[Sequence[str]], below: Sequence[str] = ()) -> None:
    """Rows, of which the first is the head; `below`: a line for each."""
    widths = _widths(rows)
    for number, row in enumerate(rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        reporter.write_line("  ".join(padded).rstrip(), bold=not number)
        if below and below[number]:
            _say(reporter, below[number])
