"""What a person sees: header, progress, attachments of failing tests, properties, the summary, HTML, records.

The hooks are here; what they do is in this package's modules, imported when it is needed. What it is about, the state
of the run, lies in pytest's stashes, under the keys of `pytest_nrfdfu.report.keys`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_nrfdfu.report.keys import (
    BOARDS,
    CATEGORY,
    POOL,
    RECORD,
    REFLASH,
    RESULTS,
    SELECTION,
    STARTED,
    TRACE,
    UPDATES,
)
from pytest_nrfdfu.report.outcome import complete, remember
from pytest_nrfdfu.report.steps import Steps

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

__all__ = [
    "BOARDS",
    "POOL",
    "RECORD",
    "REFLASH",
    "RESULTS",
    "SELECTION",
    "STARTED",
    "TRACE",
    "Steps",
    "remember",
]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which boards and builds this run is about."""
    selection = config.stash.get(SELECTION, None)
    if selection is None:
        return []
    from pytest_nrfdfu.report.header import header

    return header(selection)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect results; begin the record; add to pytest-html's report, if there will be one."""
    if not _concerned(session.config):
        return
    from pytest_nrfdfu.report.results import begin

    begin(session.config)
    if _has_html(session.config):
        from pytest_nrfdfu.report import html_report

        session.config.pluginmanager.register(html_report, html_report.__name__)


def _concerned(config: pytest.Config) -> bool:
    """Whether this run is about boards, or a record of it is wanted all the same."""
    return config.stash.get(SELECTION, None) is not None or config.stash.get(RECORD, None) is not None


def _has_html(config: pytest.Config) -> bool:
    """Whether pytest-html writes a report of boards; in a worker, whether the controller's does."""
    return bool(config.getoption("htmlpath", None)) and config.stash.get(SELECTION, None) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is run again (pytest-rerunfailures) begins without the first run's updates."""
    item.stash[UPDATES] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the category of a failure; attach the console's text and the last SMP exchanges, and what was updated."""
    # Looked at after all others have: what is expected to fail, or skips, has become no failure by then.
    if call.when == "setup":
        # A test that is run again (pytest-rerunfailures) begins without the first run's category.
        item.user_properties[:] = [known for known in item.user_properties if known[0] != CATEGORY]
    report = yield
    complete(item, call, report)
    if call.when == "teardown" and _has_html(item.config):
        from pytest_nrfdfu.report.html_report import add_extras

        add_extras(item, report)
    return report


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Bench trouble in a test's body is an ERROR: the product was not at fault."""
    in_body = isinstance(report, pytest.TestReport) and report.when == "call" and report.failed
    if in_body and (CATEGORY, "bench") in [tuple(item) for item in report.user_properties]:
        return "error", "E", "ERROR"
    return None


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """What was put on which board, and how it was proved; what broke."""
    if not _concerned(config):
        return
    from pytest_nrfdfu.report.summary import write_summary

    write_summary(terminalreporter, config)
