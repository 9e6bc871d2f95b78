"""What failures mean: for the unit that a test ran on, and for the exit status of the run."""

from __future__ import annotations

import enum
import shutil
import textwrap
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_nrfdfu.plugin.options import asked
from pytest_nrfdfu.report import BOARDS, POOL, SELECTION, STARTED
from pytest_nrfdfu.report.keys import CATEGORY, attached
from pytest_nrfdfu.report.outcome import category_of

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from pytest_nrfdfu.board.board import Board

__all__ = ["ExitStatus"]

_BENCH = "bench"
_CAUSE = "nrfdfu_cause"
"""The attribute of a test's report that says, in short, what was the matter with the bench."""
_CAUSES = 8
"""What was the matter is told of so many at most, those first that most tests met."""
_REASON = 300
"""Characters of an error that are kept as the reason."""


class ExitStatus(enum.IntEnum):
    """Exit statuses of a run with boards, beyond pytest's own (which end at 5; 128 and more are a shell's)."""

    BENCH_TROUBLE = 10
    """Whatever failed has the category ``bench``: the product may be as it should."""
    NOTHING_TESTED = 11
    """Nothing failed, and no test has had a board."""


_MEANING = {
    ExitStatus.BENCH_TROUBLE: "bench trouble only: nothing of the product has failed",
    ExitStatus.NOTHING_TESTED: "nothing tested: boards were asked for, and no test has had one",
}


# --- of a unit --------------------------------------------------------------------------------------------------------


class _Failure(NamedTuple):
    category: str
    reason: str


_FAILED: pytest.StashKey[_Failure | None] = pytest.StashKey()
"""Of an item: how its test has failed first."""
_RAN: pytest.StashKey[bool] = pytest.StashKey()
"""Of an item: whether its body has passed."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is run again (pytest-rerunfailures) begins anew."""
    item.stash[BOARDS] = []
    item.stash[_FAILED] = None
    item.stash[_RAN] = False
    item.stash[STARTED] = time.monotonic()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the pool how it went, once a test has ended: of several failures the first counts."""
    report = yield
    if report.failed and item.stash.get(_FAILED, None) is None:
        error = call.excinfo.value if call.excinfo is not None else None
        failure = item.stash[_FAILED] = _Failure(category_of(error), _in_short(error))
        if failure.category == _BENCH:
            vars(report)[_CAUSE] = failure.reason  # pytest-xdist hands all of a report's attributes to the controller
    if report.when == "call":
        item.stash[_RAN] = report.passed
    if report.when == "teardown":
        _tell(item, item.stash.get(BOARDS, []))
    return report


def _tell(item: pytest.Item, boards: list[Board]) -> None:
    pool = item.config.stash.get(POOL, None)
    if pool is None:
        return
    failure = item.stash.get(_FAILED, None)
    for name in dict.fromkeys(board.unit for board in boards):
        if failure is None:
            if item.stash.get(_RAN, False):
                pool.passed(name, item.nodeid)
            continue
        # Of several units the one is to blame that the error is about, if it says so.
        blamed = len(boards) == 1 or failure.reason.startswith((f"{name}:", f"{name} "))
        category = failure.category if blamed or failure.category != _BENCH else ""
        pool.failed(name, item.nodeid, category, failure.reason)


def _in_short(error: BaseException | None) -> str:
    """An error in a line: where there is a diagnosis, its cause and remedy; else what fits of its first line."""
    diagnosis = getattr(error, "diagnosis", None)
    if diagnosis is not None:
        return f"it did not enter serial recovery: {diagnosis.sentence} {diagnosis.remedy}"
    first = next(iter(str(error).splitlines()), "")
    return textwrap.shorten(first, _REASON, placeholder=" ...")


# --- of the run -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    bench: int = 0
    """Reports of failures that are the bench's."""
    other: int = 0
    tested: bool = False
    """Whether the body of a test has had a board."""
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Reports of bench trouble by unit (of several, by commas) and what was the matter."""


_TALLY: pytest.StashKey[_Tally] = pytest.StashKey()
_STATUS: pytest.StashKey[ExitStatus] = pytest.StashKey()


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Count from now on."""
    config.stash[_TALLY] = _Tally()
    config.pluginmanager.register(_Counter(config.stash[_TALLY]), "nrfdfu-counter")


class _Counter:
    """Counts what tests report, here or in workers."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test has ended."""
        facts = attached(report)
        if report.when == "call" and not report.skipped and facts is not None and facts["unit"]:
            self._tally.tested = True
        if report.failed:
            bench = dict(report.user_properties).get(CATEGORY) == _BENCH
            self._tally.bench += bench
            self._tally.other += not bench
            cause = getattr(report, _CAUSE, None)
            if cause is not None:
                self._tally.causes[facts["unit"] if facts is not None else "", str(cause)] += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The exit status of a run with boards."""
    config = session.config
    selection = config.stash.get(SELECTION, None)
    if selection is None or not selection.boards or hasattr(config, "workerinput"):
        return
    status = _status(config, config.stash[_TALLY], session.exitstatus)
    if status is not None:
        config.stash[_STATUS] = status
        session.exitstatus = status


def _status(config: pytest.Config, tally: _Tally, status: int) -> ExitStatus | None:
    """What the run comes to; None where pytest's own status says it."""
    if status == pytest.ExitCode.TESTS_FAILED and tally.bench and not tally.other:
        return ExitStatus.BENCH_TROUBLE
    if status not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} or tally.tested:
        return None
    only_looks = any(config.getoption(name, False) for name in ("collectonly", "setuponly", "setupplan"))
    is_default = asked(config, "board").by_ini and not asked(config, "require_board").value
    return None if only_looks or is_default else ExitStatus.NOTHING_TESTED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say what was the matter with the bench, and what the exit status means, where it is not one of pytest's."""
    _write_causes(terminalreporter, config)
    status = config.stash.get(_STATUS, None)
    if status is not None:
        terminalreporter.write_line(f"nrfdfu: exit status {status.value}: {_MEANING[status]}")


def _write_causes(reporter: TerminalReporter, config: pytest.Config) -> None:
    """What was the matter with which unit, at the end of a run; of a retired one, its retirement tells it."""
    from pytest_nrfdfu.report.results import RUN, Run
    from pytest_nrfdfu.report.shorten import in_lines

    retired = config.stash.get(RUN, Run()).retired
    tally = config.stash.get(_TALLY, _Tally())
    causes = [item for item in tally.causes.most_common() if item[0][0] not in retired]
    for (unit, cause), count in causes[:_CAUSES]:
        name = "" if not unit or cause.startswith((f"{unit}:", f"{unit} ")) else f"{unit}: "
        again = f" ({count} times)" if count > 1 else ""
        text = f"bench: {name}{cause}{again}"
        reporter.write_line(in_lines(text, shutil.get_terminal_size().columns) if reporter.isatty else text)
    if len(causes) > _CAUSES:
        reporter.write_line(f"bench: and {len(causes) - _CAUSES} more, with the tests above")
