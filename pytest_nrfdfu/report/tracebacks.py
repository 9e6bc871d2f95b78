"""What is shown of a failure that this package raised: its message and the test's own lines, not the package's.

Its messages say what was tried, seen and to be looked at; how the package came to say so is for ``--full-trace``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from _pytest._code.code import Traceback, TracebackEntry

from pytest_nrfdfu.errors import NrfDfuError

__all__: list[str] = []

_PACKAGE = __name__.partition(".")[0]
_SUITES = (f"{_PACKAGE}.hil_suite", f"{_PACKAGE}.host_conformance")
"""Tests that ship with the package are shown like anybody's."""
_LIBRARY = Path(os.__file__).parent
_INSTALLED = {"site-packages", "dist-packages"}
"""Folders of what is installed: pytest and its plugins."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave out the package's own lines; where no line of a suite is left, show the message alone."""
    excinfo = call.excinfo
    if excinfo is None or not _is_told_whole(excinfo.value) or _wants_all(item.config):
        return (yield)
    shown = [entry for entry in excinfo.traceback if not _is_of_package(entry)]
    is_in_suite = any(not _is_installed(entry) for entry in shown)
    is_ours = _is_of_package(excinfo.traceback[-1])
    if is_in_suite and is_ours:
        excinfo.traceback = Traceback(_chained(shown) or ())
    report = yield
    if report.failed and is_ours:
        _shorten(report, excinfo, alone=not is_in_suite)
    return report


def _is_told_whole(error: BaseException) -> bool:
    """Whether an error's message says all: it is one of the package's, also where it is no `NrfDfuError`.

    What a console did not show is an AssertionError: a failure of the product.
    """
    return isinstance(error, NrfDfuError) or type(error).__module__.partition(".")[0] == _PACKAGE


def _chained(entries: Sequence[TracebackEntry]) -> TracebackType | None:
    """The traceback of these entries alone: pytest cuts what it shows out of the interpreter's own list."""
    rest: TracebackType | None = None
    for entry in reversed(entries):
        raw = entry._rawentry  # noqa: SLF001 - there is no other name for it
        rest = TracebackType(rest, raw.tb_frame, raw.tb_lasti, raw.tb_lineno)
    return rest


def _shorten(report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException], *, alone: bool) -> None:
    """Without the errors that led to it, which its message names; `alone`: without any source."""
    if alone:
        report.longrepr = excinfo.getrepr(style="value", chain=False)
    longrepr: Any = report.longrepr
    chain = getattr(longrepr, "chain", None)
    if chain:
        longrepr.chain = chain[-1:]
        source, crash, _ = chain[-1]
        if alone:
            source.reprentries[0].lines[0] = f"{excinfo.typename}: {source.reprentries[0].lines[0]}"
        if crash is not None:  # the summary shows a line of it: without the name of the module it says more
            crash.message = str(excinfo.value)


def _wants_all(config: pytest.Config) -> bool:
    return bool(config.getoption("fulltrace", default=False)) or config.getoption("tbstyle", default="") == "native"


def _is_of_package(entry: TracebackEntry) -> bool:
    module = str(entry.frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == _PACKAGE and not module.startswith(_SUITES)


def _is_installed(entry: TracebackEntry) -> bool:
    """Whether a line is of Python's library, of pytest, or of another plugin, rather than of a suite."""
    if str(entry.frame.f_globals.get("__name__", "")).startswith(_SUITES):
        return False
    path = Path(entry.path)
    return not _INSTALLED.isdisjoint(path.parts) or path.is_relative_to(_LIBRARY)
