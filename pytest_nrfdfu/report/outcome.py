"""What the report of one test carries: the category of its failure, properties, console text, the last exchanges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.errors import NrfDfuError
from pytest_nrfdfu.report.categories import NOTHING_FAILED, OTHER_CATEGORY
from pytest_nrfdfu.report.keys import BOARDS, CATEGORY, PENDING, SELECTION, STARTED, TRACE, UPDATES, Facts, attach
from pytest_nrfdfu.report.repeats import folded
from pytest_nrfdfu.report.trials import ends_trial, take_end

if TYPE_CHECKING:
    import pytest

    from pytest_nrfdfu.board.board import Board
    from pytest_nrfdfu.board.report import DfuReport

__all__ = ["category_of", "complete", "remember"]

_EXCHANGES = 40
_CONSOLE_LINES = 150
"""Lines of a console's end that a failure shows: a boot takes some 20, and one that is followed by another no end."""


def remember(item: pytest.Item, report: DfuReport) -> None:
    """Keep a report for the summary, and as properties of its test; the end of a trial is told with its update."""
    result = {"test": item.nodeid, **report.to_json()}
    item.config.stash.setdefault(PENDING, []).append(result)
    updates = item.stash.setdefault(UPDATES, [])
    if ends_trial(result):
        take_end(updates, result)
        return
    updates.append(result)
    properties: dict[str, object] = {
        "unit": report.unit,
        "build": report.build,
        "version": report.version,
        "hash": report.hash.hex() if report.hash else "",
        "verified": report.proof,
        "via": report.via,
        "bytes": report.bytes,
        "bytes_per_second": round(report.rate),
        "retries": report.retries,
    }
    item.user_properties.extend(properties.items())


def complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Give the report of one phase of a test all that is known here."""
    boards = item.stash.get(BOARDS, [])
    _remember_own(item, () if call.when == "setup" else boards)  # its test may still look at what a fixture uploaded
    if report.failed or hasattr(report, "wasxfail"):
        for board in boards:
            board.forget("a test failed on it, and nothing was proved since")
    if report.failed:
        if CATEGORY not in dict(item.user_properties):  # of several failures of a test, the first is the cause
            error = call.excinfo.value if call.excinfo is not None else None
            _add(item, report, CATEGORY, category_of(error))
        for board in boards:
            report.sections.extend(_attachments(item, call.when, board))
    if boards and (report.failed or (call.when == "teardown" and item.config.stash.get(TRACE, None) is not None)):
        from pytest_nrfdfu.report.traces import keep

        kept = keep(item, boards)
        if kept and report.failed:
            report.sections.append((f"Captured log nrfdfu trace {call.when}", kept))
    facts = _facts(item, boards)
    if item.config.stash.get(SELECTION, None) is not None:
        attach(report, facts)
        if call.when == "teardown":
            _add_missing(item, report, facts)


def _remember_own(item: pytest.Item, boards: Sequence[Board]) -> None:
    """Keep what a test has uploaded itself, by `Recovery.upload`."""
    selection = item.config.stash.get(SELECTION, None)
    for board in boards:
        for upload in board.uploads_apart(selection.builds if selection is not None else ()):
            remember(item, upload)


def _facts(item: pytest.Item, boards: Sequence[Board]) -> Facts:
    from pytest_nrfdfu.fixtures import BOARD_PARAM, BUILD_PARAM  # which imports this package

    pending = item.config.stash.get(PENDING, [])
    updates, pending[:] = list(pending), []
    spec = getattr(item, "callspec", None)
    params = spec.params if spec is not None else {}
    build, choice = params.get(BUILD_PARAM), params.get(BOARD_PARAM)
    names = [board.unit for board in boards] or [update["unit"] for update in updates]
    if not names and choice is not None:  # no unit could be opened
        names = [choice.units[0].name if len(choice.units) == 1 else choice.label]
    builds = [build.name] if build is not None else [update["build"] for update in updates if update["build"]]
    return {
        "unit": ", ".join(dict.fromkeys(names)),
        "build": ", ".join(dict.fromkeys(builds)),
        "simulated": any(board.config.simulated for board in boards)
        or (choice is not None and choice.config.simulated),
        "upload": _in_short(item.stash.setdefault(UPDATES, [])),
        "updates": updates,
    }


def _in_short(updates: list[dict[str, Any]]) -> str:
    """The last update of a test, in a few words."""
    if not updates:
        return ""
    last = updates[-1]
    if not last["bytes"]:
        return "none sent"
    proof = "verified" if last["verified"] else f"NOT verified: {last['proof']}"
    retries = f", {last['retries']} sent again" if last["retries"] else ""
    return f"{last['bytes']} bytes, {last['rate'] / 1000:.1f} kB/s{retries}; {proof}"


def _add_missing(item: pytest.Item, report: pytest.TestReport, facts: Facts) -> None:
    """Say of every test what it ran on: of one without an update, and of one that did not fail, as well."""
    properties = {"unit": facts["unit"], "build": facts["build"], CATEGORY: NOTHING_FAILED}
    known = dict(item.user_properties)
    for name, value in properties.items():
        if value and name not in known:
            _add(item, report, name, value)


def _add(item: pytest.Item, report: pytest.TestReport, name: str, value: str) -> None:
    item.user_properties.append((name, value))  # for the later reports of the test: JUnit XML takes the last one's
    report.user_properties.append((name, value))


def category_of(error: BaseException | None) -> str:
    """What a failure is triaged by; that of a group of errors if they agree on one."""
    if isinstance(error, BaseExceptionGroup):
        categories = {category_of(inner) for inner in error.exceptions}
        return categories.pop() if len(categories) == 1 else OTHER_CATEGORY
    return error.category if isinstance(error, NrfDfuError) else OTHER_CATEGORY


def _attachments(item: pytest.Item, when: str, board: Board) -> Iterator[tuple[str, str]]:
    """Sections of a report, titled so that ``--show-capture`` counts them as log; in a verbose run with times."""
    from pytest_nrfdfu.board.boot_record import in_words
    from pytest_nrfdfu.board.fault_dump import quoted

    console, verbosity = board.console, item.config.get_verbosity()
    if faults := console.faults:
        yield f"Captured log fault on {board.unit} {when}", quoted(faults)
    if boots := console.boots:
        yield f"Captured log {board.unit} boots {when}", in_words(boots)
    timed = console.timed_lines
    if any(line.text.strip() for line in timed):
        lines = [f"{line.time:9.3f} s {line.text}" if verbosity > 0 else line.text for line in timed]
        yield f"Captured log {board.unit} console {when}", "\n".join(lines if verbosity > 1 else _end_of(folded(lines)))
    exchanges = board.exchanges(since=item.stash.get(STARTED, 0.0), last=_EXCHANGES)
    if exchanges:
        yield f"Captured log {board.unit} SMP {when}", "\n".join(exchanges if verbosity > 1 else folded(exchanges))


def _end_of(lines: Sequence[str]) -> Sequence[str]:
    """The last lines of a console, and how many are not among them."""
    if len(lines) <= _CONSOLE_LINES:
        return lines
    return [f"({len(lines) - _CONSOLE_LINES} lines before these: pytest -vv shows all)", *lines[-_CONSOLE_LINES:]]
