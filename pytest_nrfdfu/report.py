"""What a person sees: header, progress, attachments of failing tests, properties, the summary at the end.

What it is about, the state of the run, lies in pytest's stashes, under the keys defined here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nrfdfu.errors import NrfDfuError

if TYPE_CHECKING:
    from _pytest.capture import CaptureManager
    from _pytest.terminal import TerminalReporter

    from pytest_nrfdfu.bench.pool import Pool
    from pytest_nrfdfu.bench.selection import Selection
    from pytest_nrfdfu.board.board import Board
    from pytest_nrfdfu.board.report import DfuReport

__all__ = ["BOARDS", "POOL", "REFLASH", "RESULTS", "SELECTION", "STARTED", "Steps", "remember"]

_CATEGORY = "category"
_OTHER_CATEGORY = "test"
"""Of a failure that is not one of this package's errors: the test's own assertion, or a defect in it."""
_REDRAW = 0.1
_BAR = 24
_LOG_STEPS = 4
_UNENDED = -2
"""What pytest's own reporter calls a line that is not ended (`TerminalReporter.currentfspath`)."""
_EXCHANGES = 40
_HASH_DIGITS = 12


# --- the plugin's state, in pytest's stashes --------------------------------------------------------------------------

SELECTION: pytest.StashKey[Selection | None] = pytest.StashKey()
"""Of the config: what to test on what; None if nothing was asked for."""
POOL: pytest.StashKey[Pool] = pytest.StashKey()
"""Of the config: the units held."""
REFLASH: pytest.StashKey[str] = pytest.StashKey()
"""Of the config: ``auto``, ``always`` or ``never``."""
RESULTS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""Of the config: every DfuReport of the run, as JSON types."""
BOARDS: pytest.StashKey[list[Board]] = pytest.StashKey()
"""Of an item: the boards that its test holds."""
STARTED: pytest.StashKey[float] = pytest.StashKey()
"""Of an item: when its set-up began, on the monotonic clock."""


# --- header ---------------------------------------------------------------------------------------------------------


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which boards and builds this run is about."""
    selection = config.stash.get(SELECTION, None)
    if selection is None:
        return []
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
            f"{name} {image.version} ({image.hash.hex()[:_HASH_DIGITS]}) of {image.size} bytes"
            for name, image in build.images.items()
        )
        lines.append(f"nrfdfu build: {build.name}: {images}; {build.path}")
        lines += [f"nrfdfu build: {build.name}: {note}" for note in build.notes]
    if not selection.builds:
        lines.append("nrfdfu build: none (tests that need one are skipped: --build [NAME=]PATH)")
    return lines


# --- progress -------------------------------------------------------------------------------------------------------


class Steps:
    """Shows an update as it goes: a bar that redraws itself on a terminal, a few plain lines in a log."""

    def __init__(self, config: pytest.Config, unit: str) -> None:
        self._unit = unit
        self._capture: CaptureManager | None = config.pluginmanager.getplugin("capturemanager")
        reporter: TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        quiet = config.get_verbosity() < 0 or hasattr(config, "workerinput")
        self._reporter = None if quiet else reporter
        self._live = sys.__stdout__ is not None and reporter is not None and reporter.isatty
        self._began = 0.0
        self._drawn = 0.0
        self._logged = 0
        self._first = 0

    def say(self, text: str) -> None:
        """One step, in words."""
        self._write(f"  {self._unit}: {text}")

    def progress(self, acknowledged: int, total: int) -> None:
        """How far the upload is, in bytes."""
        now = time.monotonic()
        if not self._began or acknowledged < self._first:
            self._began, self._first, self._logged = now, acknowledged, 0
        ended = acknowledged >= total
        if self._live and (ended or now - self._drawn >= _REDRAW):
            self._drawn = now
            self._draw(acknowledged, total, now - self._began, ended=ended)
        elif not self._live and acknowledged * _LOG_STEPS // total > self._logged:
            self._logged = acknowledged * _LOG_STEPS // total
            self._write(
                f"  {self._unit}: {_amount(acknowledged, total, now - self._began, acknowledged - self._first)}"
            )
        if ended:
            self._began = 0.0

    def _draw(self, acknowledged: int, total: int, seconds: float, *, ended: bool) -> None:
        full = acknowledged * _BAR // total
        bar = "#" * full + "." * (_BAR - full)
        text = f"  {self._unit}: [{bar}] {_amount(acknowledged, total, seconds, acknowledged - self._first)}"
        self._write(text, end="\n" if ended else "", redraw=True)

    def _write(self, text: str, *, end: str = "\n", redraw: bool = False) -> None:
        reporter = self._reporter
        if reporter is None:
            return
        if self._capture is None:
            self._put(reporter, text, end, redraw=redraw)
            return
        with self._capture.global_and_fixture_disabled():
            self._put(reporter, text, end, redraw=redraw)

    def _put(self, reporter: TerminalReporter, text: str, end: str, *, redraw: bool) -> None:
        if redraw:
            reporter.write("\r\x1b[K" + text + end, flush=True)
            # So that whatever comes next, be it about a failure, begins a line of its own.
            reporter.currentfspath = None if end else _UNENDED
            return
        reporter.ensure_newline()
        reporter.write(text + end, flush=True)


def _amount(acknowledged: int, total: int, seconds: float, sent: int) -> str:
    rate = f", {sent / seconds / 1000:.1f} kB/s" if seconds > 0 and sent else ""
    return f"{acknowledged * 100 // total:3d} %, {acknowledged} of {total} bytes{rate}"


# --- results --------------------------------------------------------------------------------------------------------


def remember(item: pytest.Item, report: DfuReport) -> None:
    """Keep a report for the summary, and as properties of its test."""
    item.config.stash.setdefault(RESULTS, []).append({"test": item.nodeid, **report.to_json()})
    properties: dict[str, object] = {
        "unit": report.unit,
        "build": report.build,
        "version": report.version,
        "hash": report.hash.hex() if report.hash else "",
        "verified": report.proof,
        "bytes": report.bytes,
        "bytes_per_second": round(report.rate),
        "retries": report.retries,
    }
    item.user_properties.extend(properties.items())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the results of a worker of pytest-xdist."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(RESULTS, []).extend(output.get("nrfdfu", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send a worker's results to the controller."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["nrfdfu"] = session.config.stash.get(RESULTS, [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the category of a failure; attach the console's text and the last SMP exchanges."""
    # Looked at after all others have: what is expected to fail, or skips, has become no failure by then.
    if call.when == "setup":
        # A test that is run again (pytest-rerunfailures) begins without the first run's category.
        item.user_properties[:] = [known for known in item.user_properties if known[0] != _CATEGORY]
    report = yield
    if report.failed or hasattr(report, "wasxfail"):
        for board in _boards(item):
            board.forget("a test failed since it was proved last")
    if report.failed:
        if _CATEGORY not in dict(item.user_properties):  # of several failures of a test, the first is the cause
            error = call.excinfo.value if call.excinfo is not None else None
            category = (_CATEGORY, _category(error))
            item.user_properties.append(category)  # for the later reports of the test: JUnit XML takes the last one's
            report.user_properties.append(category)
        for board in _boards(item):
            report.sections.extend(_attachments(item, call.when, board))
    return report


def _category(error: BaseException | None) -> str:
    """What a failure is triaged by; that of a group of errors if they agree on one."""
    if isinstance(error, BaseExceptionGroup):
        categories = {_category(inner) for inner in error.exceptions}
        return categories.pop() if len(categories) == 1 else _OTHER_CATEGORY
    return error.category if isinstance(error, NrfDfuError) else _OTHER_CATEGORY


def _boards(item: pytest.Item) -> Sequence[Board]:
    return item.stash.get(BOARDS, [])


def _attachments(item: pytest.Item, when: str, board: Board) -> Iterator[tuple[str, str]]:
    """Sections of a report, titled so that ``--show-capture`` counts them as log."""
    text = board.console.text
    if text.strip():
        yield f"Captured log {board.unit} console {when}", text
    exchanges = board.exchanges(since=item.stash.get(STARTED, 0.0), last=_EXCHANGES)
    if exchanges:
        yield f"Captured log {board.unit} SMP {when}", "\n".join(exchanges)


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Bench trouble in a test's body is an ERROR: the product was not at fault."""
    in_body = isinstance(report, pytest.TestReport) and report.when == "call" and report.failed
    if in_body and (_CATEGORY, "bench") in [tuple(item) for item in report.user_properties]:
        return "error", "E", "ERROR"
    return None


# --- summary --------------------------------------------------------------------------------------------------------

_COLUMNS = (
    "unit",
    "build",
    "image",
    "version",
    "hash",
    "bytes",
    "seconds",
    "bytes/s",
    "retries",
    "verified by",
    "running",
)


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    uploaded = result["bytes"]
    return (
        result["unit"],
        result["build"],
        result["image"],
        result["version"],
        (result["hash"] or "-")[:_HASH_DIGITS],
        str(uploaded) if uploaded else "none sent",
        f"{result['seconds']:.2f}" if uploaded else "-",
        f"{result['rate']:.0f}" if uploaded else "-",
        str(result["retries"]),
        result["proof"] if result["verified"] else "NOT: " + result["proof"],
        result["running"],
    )


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """What was put on which board, and how it was proved."""
    results = config.stash.get(RESULTS, [])
    pool = config.stash.get(POOL, None)
    held = pool.held if pool is not None else []
    if not results and not held:
        return
    terminalreporter.section("firmware updates")
    if results:
        _write_table(terminalreporter, results)
    for unit in held:
        terminalreporter.write_line(f"On {unit.name} now: {unit.holds}")


def _write_table(terminalreporter: TerminalReporter, results: list[dict[str, Any]]) -> None:
    rows = [_COLUMNS, *(_row(part) for result in results for part in result["reports"] or [result])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip(), bold=row is rows[0])
    for result in results:
        for note in result["notes"]:
            terminalreporter.write_line(f"{result['unit']} {result['build']}: {note}")
    if any(result["simulated"] for result in results):
        terminalreporter.write_line("Figures of simulated boards are simulated: no firmware was executed.")
