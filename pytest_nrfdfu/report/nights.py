"""Records of many runs, read back: by night, unit and build, with what changes from night to night.

A night is a day from noon to noon, on the clock of the host that ran: what began at 01:00 belongs to the evening
before. Nothing in a record is trusted to be there: a line that cannot be read is named and left out.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from pytest_nrfdfu.report.categories import group_of
from pytest_nrfdfu.report.record import SCHEMA

__all__ = ["Cell", "Night", "Nights", "Result", "Run", "Trend", "Update", "Warn", "collect", "read_folder"]

_NEWLINE = "\n"
_NOON = timedelta(hours=12)
_RECENT = 3
"""Nights that count as now, of those in which a unit was updated ..."""
_BEFORE = 21
"""... and those before, at most and at least, that it is compared with."""
_BEFORE_LEAST = 3
_SLOWER = 0.9
"""Of the speed before: what is left where a cable or a port goes bad; 115200 baud over USB varies by 2 %."""
_MORE_RETRIES = 3.0
"""Times as many retries as before ..."""
_LEAST_RETRIES = 0.5
"""... and at least so many for 100 kB: one lost packet is not a trend."""
_PER = 100_000
"""Bytes that retries are counted for."""


# --- what one record says -------------------------------------------------------------------------------------------


class Result(NamedTuple):
    """A line of kind ``test``."""

    nodeid: str
    outcome: str
    category: str
    unit: str
    build: str
    error: str
    seconds: float
    run: datetime
    """When its run began."""
    host: str
    ended: datetime | None
    """None in records that do not tell."""


class Update(NamedTuple):
    """One image of a line of kind ``update``. Sizes in bytes, `rate` in bytes/s."""

    unit: str
    build: str
    bytes: int
    rate: float
    retries: int
    resyncs: int
    verified: bool
    cut: str = ""
    """Where it was cut off on purpose, as `DfuReport.cut`."""

    @property
    def measures(self) -> bool:
        """Whether its upload tells of the link: one that was cut off on purpose has seen the slow beginning alone."""
        return self.bytes > 0 and not self.cut.startswith("upload")


@dataclass(slots=True)
class Run:
    """One record."""

    path: Path
    start: datetime
    host: str
    simulated: bool
    versions: Mapping[str, str]
    builds: tuple[str, ...] = ()
    tests: list[Result] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    retired: Mapping[str, str] = field(default_factory=dict)
    exitstatus: int | None = None
    """None of a run that did not end."""
    troubles: list[str] = field(default_factory=list)
    """What of the file cannot be read."""

    @property
    def night(self) -> date:
        """The evening's date."""
        return (self.start - _NOON).date()


def read_folder(folder: Path) -> tuple[list[Run], dict[Path, str]]:
    """Every record in a folder and those below it, by start; and what cannot be read, by file, in words."""
    runs, broken = [], {}
    for path in sorted(folder.rglob("*.jsonl")):
        try:
            run = _read(path)
        except (OSError, ValueError) as error:
            broken[path] = f"not read: {error}"
            continue
        runs.append(run)
        if run.exitstatus is None:
            run.troubles.append("it has no end: the run was killed, or goes on")
        if run.troubles:
            broken[path] = "; ".join(run.troubles)
    return sorted(runs, key=lambda run: run.start.timestamp()), broken


def _read(path: Path) -> Run:
    """One record; ValueError where it does not begin as one."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        run = _begin(path, next(lines, ""))
        for number, line in enumerate(lines, 2):
            try:
                _take(run, _object(line))
            except ValueError:
                run.troubles.append(f"line {number} is {'not readable' if line.endswith(_NEWLINE) else 'cut off'}")
    return run


def _object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what is wrong is a text, not a type of ours
    return value


def _begin(path: Path, line: str) -> Run:
    try:
        first = _object(line)
    except ValueError:
        raise ValueError("its first line is not that of a run") from None
    if first.get("record") != "run":
        raise ValueError("its first line is not that of a run")
    if first.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {first.get('schema')!r}, and known is {SCHEMA}")
    try:
        start = datetime.fromisoformat(str(first.get("start")))
    except ValueError:
        raise ValueError(f"its start {first.get('start')!r} is no time") from None
    return Run(
        path,
        start,
        str(first.get("host", "")),
        bool(first.get("simulated")),
        _texts(first.get("versions")),
        _names(first.get("builds")),
    )


def _names(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else []
    return tuple(str(item["name"]) for item in items if isinstance(item, dict) and "name" in item)


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _take(run: Run, values: Mapping[str, Any]) -> None:
    """One more line; kinds that are not known are left out. ValueError where a value is not what it should be."""
    try:
        match values.get("record"):
            case "test":
                run.tests.append(_result(values, run))
            case "update":
                run.updates += [_update(part) for part in values.get("reports") or [values]]
            case "end":
                run.exitstatus = int(values["exitstatus"])
                run.retired = _texts(values.get("retired"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _result(values: Mapping[str, Any], run: Run) -> Result:
    texts = {name: str(values[name]) for name in ("nodeid", "outcome", "category", "unit", "build", "error")}
    ended = datetime.fromisoformat(str(values["ended"])) if "ended" in values else None
    return Result(**texts, seconds=_finite(values["seconds"]), run=run.start, host=run.host, ended=ended)


def _finite(value: object) -> float:
    number = float(str(value))
    if not math.isfinite(number):
        raise ValueError(f"{number} is no figure")
    return number


def _update(values: Mapping[str, Any]) -> Update:
    return Update(
        unit=str(values["unit"]),
        build=str(values["build"]),
        bytes=int(values["bytes"]),
        rate=_finite(values["rate"]),
        retries=int(values["retries"]),
        resyncs=int(values["resyncs"]),
        verified=bool(values["verified"]),
        cut=str(values.get("cut", "")),
    )


# --- by night -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cell:
    """How it went on one unit with one build in one night."""

    passed: int = 0
    skipped: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    """By the name of the group."""
    retired: str = ""
    """Why the unit was given up; no test need have failed for that."""


@dataclass(slots=True)
class Trend:
    """Of one unit in one night."""

    rates: list[float] = field(default_factory=list)
    bytes: int = 0
    retries: int = 0
    resyncs: int = 0

    @property
    def rate(self) -> float | None:
        """Median, in bytes/s."""
        return median(self.rates) if self.rates else None

    @property
    def retry_rate(self) -> float | None:
        """Packets sent again for every 100 kB."""
        return self.retries / self.bytes * _PER if self.bytes else None


@dataclass(slots=True)
class Night:
    """All runs of a night."""

    day: date
    runs: list[Run] = field(default_factory=list)
    cells: defaultdict[tuple[str, str], Cell] = field(default_factory=lambda: defaultdict(Cell))
    """By unit and build."""
    trends: defaultdict[str, Trend] = field(default_factory=lambda: defaultdict(Trend))
    """By unit."""

    def add(self, run: Run) -> None:
        """Count a run."""
        self.runs.append(run)
        for test in run.tests:
            if test.unit or test.outcome in {"failed", "error"}:
                _count(self.cells[test.unit, test.build], test)
        for unit, why in run.retired.items():
            tested = {test.build for test in run.tests if test.unit == unit}
            for build in tested or run.builds or ("",):
                self.cells[unit, build].retired = why
        for update in run.updates:
            if update.measures:
                trend = self.trends[update.unit]
                trend.rates.append(update.rate)
                trend.bytes += update.bytes
                trend.retries += update.retries
                trend.resyncs += update.resyncs

    @property
    def retired(self) -> dict[str, str]:
        """Units that were given up, and why."""
        return {name: why for run in self.runs for name, why in run.retired.items()}

    @property
    def broken(self) -> list[Result]:
        """Tests that failed, what matters most first."""
        found = [test for run in self.runs for test in run.tests if test.outcome in {"failed", "error"}]
        return sorted(found, key=lambda test: (group_of(test.category).rank, test.unit, test.nodeid))


def _count(cell: Cell, test: Result) -> None:
    if test.outcome in {"failed", "error"}:
        cell.broken[group_of(test.category).name] += 1
    elif test.outcome in {"passed", "xfailed", "xpassed"}:
        cell.passed += 1
    elif test.outcome == "skipped":
        cell.skipped += 1


class Warn(NamedTuple):
    """What should be looked at, though it need not have failed yet."""

    unit: str
    what: str
    """``speed`` or ``retries``."""
    text: str


@dataclass(frozen=True, slots=True)
class Nights:
    """Everything that the records say, oldest night first."""

    nights: tuple[Night, ...]
    broken: Mapping[Path, str]

    @property
    def units(self) -> list[str]:
        """All that were updated or tested; what failed without a board is under the empty name."""
        return sorted({unit for night in self.nights for unit in [*night.trends, *(unit for unit, _ in night.cells)]})

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Unit and build of every cell."""
        return sorted({key for night in self.nights for key in night.cells})

    @property
    def simulated(self) -> bool:
        """Whether any figure is a simulated board's."""
        return any(run.simulated for night in self.nights for run in night.runs)

    def trend(self, unit: str) -> list[Trend]:
        """One for each night, empty where the unit was not updated."""
        return [night.trends.get(unit, Trend()) for night in self.nights]

    def warnings(self) -> Iterator[Warn]:
        """Units whose uploads got slower, or need more retries."""
        for unit in self.units:
            trends = [trend for trend in self.trend(unit) if trend.bytes]
            yield from _compare(unit, trends[-_RECENT:], trends[-_RECENT - _BEFORE : -_RECENT])


def _compare(unit: str, recent: Sequence[Trend], before: Sequence[Trend]) -> Iterator[Warn]:
    if len(recent) < _RECENT or len(before) < _BEFORE_LEAST:
        return
    slow, usual = (median(trend.rate or 0.0 for trend in part) for part in (recent, before))
    if slow < _SLOWER * usual:
        text = f"uploads at {slow / 1000:.1f} kB/s in its last {len(recent)} nights, {usual / 1000:.1f} kB/s before"
        yield Warn(unit, "speed", text)
    many, few = (mean(trend.retry_rate or 0.0 for trend in part) for part in (recent, before))
    if many >= max(_LEAST_RETRIES, _MORE_RETRIES * few):
        text = f"{many:.1f} packets sent again per 100 kB in its last {len(recent)} nights, {few:.1f} before"
        yield Warn(unit, "retries", text)


def collect(folder: Path) -> Nights:
    """The records of a folder, by night."""
    runs, broken = read_folder(folder)
    nights: dict[date, Night] = {}
    for run in runs:
        nights.setdefault(run.night, Night(run.night)).add(run)
    return Nights(tuple(nights[day] for day in sorted(nights)), broken)
