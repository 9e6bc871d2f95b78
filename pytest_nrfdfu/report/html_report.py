"""Additions to pytest-html's report: columns, and per test the console, the SMP exchange, a picture of the upload.

Registered as a plugin where pytest-html is installed and writes a report. What it adds is in the page itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.report.categories import NOTHING_FAILED
from pytest_nrfdfu.report.header import HASH_DIGITS
from pytest_nrfdfu.report.keys import BOARDS, CATEGORY, STARTED, UPDATES, attached
from pytest_nrfdfu.report.shorten import plain
from pytest_nrfdfu.report.svg import upload_picture

if TYPE_CHECKING:
    import pytest

    from pytest_nrfdfu.board.board import Board

__all__ = ["add_extras"]

_COLUMNS = ("Unit", "Build", "Upload", "Category")
_PLACE = 2
"""Of the first column: behind the result and the test."""
_READABLE = "color:#767676"
"""Contrast 4.5 on white and on black (WCAG 2.2, 1.4.3); pytest-html's own text in a table has 2.8 on white."""
_EXCHANGES = 400
_TEXT_SIZE = 40_000
"""Characters of the console that are shown."""


def pytest_html_results_table_header(cells: list[str]) -> None:
    """Head our columns."""
    cells[_PLACE:_PLACE] = [f'<th class="sortable" data-column-type="{name.lower()}">{name}</th>' for name in _COLUMNS]


def pytest_html_results_table_row(report: pytest.TestReport | pytest.CollectReport, cells: list[str]) -> None:
    """Fill our columns: in every row, also in one of a collection error, since the head has them."""
    if not cells:
        return  # another plugin has left the row out
    facts = attached(report)
    category = dict(getattr(report, "user_properties", ())).get(CATEGORY, "")
    values = (
        facts["unit"] if facts else "",
        facts["build"] if facts else "",
        facts["upload"] if facts else "",
        "" if category == NOTHING_FAILED else str(category),
    )
    cells[_PLACE:_PLACE] = [
        f'<td class="col-{name.lower()}">{escape(value)}</td>' for name, value in zip(_COLUMNS, values, strict=True)
    ]


def add_extras(item: pytest.Item, report: pytest.TestReport) -> None:
    """To the report of a test's teardown, all that its boards said and got since its set-up."""
    boards = item.stash.get(BOARDS, [])
    if not boards:
        return
    blocks = [block for update in item.stash.get(UPDATES, []) for block in _update_blocks(update)]
    blocks += [block for board in boards for block in _board_blocks(board, item.stash.get(STARTED, 0.0))]
    extras: list[dict[str, str | None]] = vars(report).setdefault("extras", [])
    extras += [
        {
            "name": None,
            "format_type": "html",
            "content": f'<div style="{_READABLE}">{block}</div>',
            "mime_type": None,
            "extension": None,
        }
        for block in blocks
    ]


def _update_blocks(update: Mapping[str, Any]) -> Iterator[str]:
    """A picture for every image that was uploaded."""
    for part in update["reports"] or [update]:
        title = f"Upload of {part['build']} ({part['image']}) to {part['unit']}"
        picture = upload_picture(part["course"], title)
        if not picture:
            continue
        rate = f"{part['rate'] / 1000:.1f} kB/s" + (" (simulated)" if part["simulated"] else "")
        digest = (part["hash"] or "not proved")[:HASH_DIGITS]
        facts = f"{part['version']}, hash {digest}, {part['bytes']} bytes in {part['seconds']:.2f} s, {rate}"
        yield f"<p><b>{escape(title)}</b>: {escape(facts)}</p>{picture}"


def _board_blocks(board: Board, since: float) -> Iterator[str]:
    from pytest_nrfdfu.board.boot_record import in_words
    from pytest_nrfdfu.board.fault_dump import quoted

    exchanges = board.exchanges(since=since, last=_EXCHANGES)
    console = board.console
    text = console.text
    if faults := console.faults:
        yield _folded(f"Faults of {board.unit}: {len(faults)}, first {faults[0].cause}", quoted(faults))
    if boots := console.boots:
        yield _folded(f"Boots of {board.unit}: {len(boots)}", in_words(boots))
    if text.strip():
        part = f": the last {_TEXT_SIZE} of {len(text)} characters" if len(text) > _TEXT_SIZE else ""
        yield _folded(f"Console of {board.unit}{part}", text[-_TEXT_SIZE:])
    if exchanges:
        yield _folded(f"SMP exchange with {board.unit}: {len(exchanges)} messages", "\n".join(exchanges))


def _folded(title: str, text: str) -> str:
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:30em;overflow-y:auto"
    return f'<details><summary>{escape(title)}</summary><pre style="{style}">{escape(plain(text))}</pre></details>'
