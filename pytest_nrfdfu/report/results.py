"""Results of a run, collected as its tests report: for the summary and the record, also those of xdist's workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_nrfdfu.report.categories import CRASHED, NOTHING_FAILED
from pytest_nrfdfu.report.keys import CATEGORY, PENDING, POOL, RECORD, RESULTS, SELECTION, attached
from pytest_nrfdfu.report.shorten import plain, some_lines
from pytest_nrfdfu.report.trials import REVERT, ends_trial, take_end

if TYPE_CHECKING:
    from pytest_nrfdfu.report.record import Recorder

__all__ = ["RUN", "Results", "WorkerResults", "begin"]

_WHEN_CRASHED = "???"
"""What pytest-xdist calls the phase of a test whose worker died (`DSession.handle_crashitem`)."""
_SENT = "nrfdfu"
"""A worker's results, in what it hands to the controller at its end."""
_ERROR_SIZE = 1500
_ERROR_LINES, _LINE_SIZE = 24, 200
"""Of an error in the record: characters of its first line, where a diagnosis of recovery takes some 1000, and ends with
the remedy; its lines, where a fault dump takes some 12, and a console any number; characters of all but the first."""


@dataclass(slots=True)
class _Test:
    """A test on its way through set-up, call and teardown."""

    nodeid: str
    worker: str
    outcome: str = ""
    category: str = ""
    unit: str = ""
    build: str = ""
    simulated: bool = False
    seconds: float = 0.0
    error: str = ""

    def take(self, report: pytest.TestReport) -> None:
        """One phase's report. The first trouble counts."""
        self.seconds += report.duration
        category = dict(report.user_properties).get(CATEGORY)
        self.category = self.category or (str(category) if category not in {None, NOTHING_FAILED} else "")
        facts = attached(report)
        if facts is not None:
            self.unit, self.build = facts["unit"] or self.unit, facts["build"] or self.build
            self.simulated |= facts["simulated"]
        outcome = _outcome(report)
        if outcome in {"failed", "error"} and self.outcome not in {"failed", "error"}:
            self.outcome, self.error = outcome, _error_of(report)
        self.outcome = self.outcome or outcome

    def to_json(self) -> dict[str, Any]:
        """A line of the record."""
        names = ("nodeid", "outcome", "category", "unit", "build", "simulated", "error", "worker")
        values = {name: getattr(self, name) for name in names}
        return {**values, "seconds": round(self.seconds, 3)}


def _outcome(report: pytest.TestReport) -> str:
    """What a phase means for its test; empty if nothing yet."""
    outcome: str = report.outcome
    if outcome == "rerun":  # of pytest-rerunfailures
        return outcome
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        in_bench = (CATEGORY, "bench") in [tuple(item) for item in report.user_properties]
        return "failed" if report.when == "call" and not in_bench else "error"
    if report.skipped:
        return "skipped"
    return "passed" if report.when == "call" else ""


def _error_of(report: pytest.TestReport) -> str:
    """What a person needs to see what broke: the error's message, without where it came from."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    else:  # a fixture that is not known has a message of its own behind the source that asks for it
        text = str(getattr(report.longrepr, "errorstring", None) or report.longrepr or "")
    return some_lines(plain(text), _ERROR_LINES, first=_ERROR_SIZE, other=_LINE_SIZE)


@dataclass(slots=True)
class Run:
    """What is known of the run so far."""

    counts: Counter[str] = field(default_factory=Counter)
    """Tests by outcome."""
    troubles: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failures and errors by category and unit."""
    crashed: list[tuple[str, str]] = field(default_factory=list)
    """Workers that died, and the test that each was in."""
    holds: dict[str, str] = field(default_factory=dict)
    """What the units of workers hold, in words."""
    retired: dict[str, str] = field(default_factory=dict)
    """Units that were given up, and why."""
    record: str = ""
    """Where the record is kept, or why it is not complete."""


RUN: pytest.StashKey[Run] = pytest.StashKey()
"""Of the config: what is known of the run so far."""


def begin(config: pytest.Config) -> None:
    """Let this process collect. UsageError if a record was asked for and cannot be kept."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(WorkerResults(config), "nrfdfu-results")
        return
    folder = config.stash.get(RECORD, None)
    recorder = None
    if folder is not None:
        from pytest_nrfdfu.report.record import Recorder, run_facts

        try:
            recorder = Recorder(folder)
            recorder.write("run", run_facts(config, config.stash.get(SELECTION, None)))
        except OSError as error:
            raise pytest.UsageError(f"--nrfdfu-record {folder}: the run's record cannot be written: {error}") from error
    config.pluginmanager.register(Results(config, recorder), "nrfdfu-results")


def _held(config: pytest.Config) -> dict[str, str]:
    pool = config.stash.get(POOL, None)
    return pool.holds if pool is not None else {}


def _retired(config: pytest.Config) -> dict[str, str]:
    pool = config.stash.get(POOL, None)
    return {str(name): str(why) for name, why in getattr(pool, "retired", {}).items()}


class WorkerResults:
    """In a worker: hands over what no test's report has carried."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_sessionfinish(self) -> None:
        """Send it to the controller."""
        output = cast("dict[str, Any]", getattr(self._config, "workeroutput", {}))
        output[_SENT] = {
            "updates": self._config.stash.get(PENDING, []),
            "holds": _held(self._config),
            "retired": _retired(self._config),
        }


class Results:
    """In the process that reports: collects, and keeps the record."""

    def __init__(self, config: pytest.Config, recorder: Recorder | None) -> None:
        self._config = config
        self._recorder = recorder
        self._tests: dict[tuple[str, str], _Test] = {}
        self._began = time.monotonic()
        self._run = config.stash[RUN] = Run(record=str(recorder.path) if recorder is not None else "")
        self._updates = config.stash.setdefault(RESULTS, [])

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test has ended, here or in a worker."""
        worker = getattr(report, "worker_id", "") or _worker_name(getattr(report, "node", None))
        if str(report.when) == _WHEN_CRASHED:
            self._crashed(report, worker)
            return
        test = self._tests.setdefault((report.nodeid, worker), _Test(report.nodeid, worker))
        test.take(report)
        facts = attached(report)
        for update in facts["updates"] if facts is not None else ():
            self._keep(update)
        if report.when == "teardown" or str(report.outcome) == "rerun":
            self._ended(self._tests.pop((report.nodeid, worker)))

    def _keep(self, update: dict[str, Any]) -> None:
        if ends_trial(update):
            if not take_end(self._updates, update) or update["via"] == REVERT:
                self._updates.append(update)
            self._write(update["via"], update)
            return
        self._updates.append(update)
        self._write("update", update)

    def _ended(self, test: _Test) -> None:
        test.outcome = test.outcome or "passed"
        self._run.counts[test.outcome] += 1
        if test.outcome in {"failed", "error"}:
            self._run.troubles[test.category, test.unit] += 1
        if self._recorder is not None:
            from pytest_nrfdfu.report.record import now

            self._write("test", {**test.to_json(), "ended": now()})

    def _crashed(self, report: pytest.TestReport, worker: str) -> None:
        """A worker died in a test: what its set-up told is all that is known."""
        test = self._tests.pop((report.nodeid, worker), _Test(report.nodeid, worker))
        test.outcome, test.category = "error", CRASHED
        test.error = test.error or _error_of(report)
        self._run.crashed.append((worker, report.nodeid))
        self._ended(test)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of pytest-xdist hands over at its end; one that died hands over nothing."""
        sent = cast("Mapping[str, Any]", getattr(node, "workeroutput", {}).get(_SENT, {}))
        for update in sent.get("updates", ()):
            self._keep(update)
        self._take_holds(sent.get("holds", {}))
        self._run.retired |= sent.get("retired", {})

    def _take_holds(self, holds: Mapping[str, str]) -> None:
        """What a worker says of its units; one that had a unit later need not know what an earlier one proved."""
        from pytest_nrfdfu.bench.known import after

        known = self._run.holds
        known |= {name: after(known.get(name), now) for name, now in holds.items()}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Before the summary take what is left; after all others have set the exit status end the record."""
        for update in self._config.stash.get(PENDING, []):
            self._keep(update)
        self._run.holds |= _held(self._config)
        self._run.retired |= _retired(self._config)
        try:
            return (yield)
        finally:
            self._end(int(session.exitstatus))

    def _end(self, status: int) -> None:
        if self._recorder is None:
            return
        from pytest_nrfdfu.report.record import now

        run = self._run
        self._write(
            "end",
            {
                "end": now(),
                "seconds": round(time.monotonic() - self._began, 3),
                "exitstatus": status,
                "counts": dict(run.counts),
                "retired": run.retired,
                "holds": run.holds,
                "crashed": [list(item) for item in run.crashed],
            },
        )
        self._recorder.close()

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        """A line of the record; a full disk does not end the run."""
        if self._recorder is None:
            return
        try:
            self._recorder.write(kind, values)
        except OSError as error:
            self._run.record = f"{self._recorder.path} is not complete: {error}"
            self._recorder.close()
            self._recorder = None


def _worker_name(node: Any) -> str:
    gateway = getattr(node, "gateway", None)
    return str(gateway.id) if gateway is not None else ""
