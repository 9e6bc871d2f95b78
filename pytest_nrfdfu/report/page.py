"""The page of nights: one HTML file with everything in it, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from pytest_nrfdfu.report.categories import GROUPS, group_of
from pytest_nrfdfu.report.night_words import NO_BOARD, broken_counts, counted, error_lines, short_id, when
from pytest_nrfdfu.report.nights import Cell, Night, Nights, Trend, Warn
from pytest_nrfdfu.report.page_style import STYLE
from pytest_nrfdfu.report.shorten import middle
from pytest_nrfdfu.report.svg import trend_picture

__all__ = ["render"]

_MOST_BROKEN = 60
"""Tests of the last night that are listed."""
_MOST_OFTEN = 30
_ERROR_SIZE = 500
"""Characters of an error's first line, and ..."""
_LINES_OPEN = 4
"""... lines below it, that are seen without unfolding."""
_MOST_RECORDS = 50
_BREAK = "<wbr>"
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""
_PASSED, _SKIPPED = "\N{CHECK MARK}", "\N{EN DASH}"


def render(nights: Nights, title: str) -> str:
    """The whole page."""
    parts = [
        _HEAD,
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        *_head(nights, title),
    ]
    if nights.nights:
        parts += [
            *_last_night(nights.nights[-1]),
            *_to_look_at(nights),
            *_grid(nights),
            *_trends(nights),
            *_often(nights),
            *_figures(nights),
        ]
    parts += [*_records(nights), "</body>\n</html>\n"]
    return "".join(parts)


def _head(nights: Nights, title: str) -> Iterator[str]:
    runs = [run for night in nights.nights for run in night.runs]
    yield f"<h1>{escape(title)}</h1>\n"
    if not runs:
        yield "<p>No record of a run was found.</p>\n"
        return
    first, last = nights.nights[0].day, nights.nights[-1].day
    days = f"{first} to {last}" if first != last else f"{first}"
    hosts = ", ".join(sorted({run.host for run in runs}))
    yield (
        f'<p class="quiet">{counted(len(runs), "run")} in {counted(len(nights.nights), "night")}, {days}, on'
        f" {escape(hosts)}. A night is a day from noon to noon, named by its evening.</p>\n"
    )
    if nights.simulated:
        yield "<p><b>Figures of simulated boards are in here</b>: no firmware was executed on those.</p>\n"


# --- the last night -------------------------------------------------------------------------------------------------


def _last_night(night: Night) -> Iterator[str]:
    broken = night.broken
    passed, told = sum(cell.passed for cell in night.cells.values()), broken_counts(night)
    yield f"<h2>Last night, {night.day}</h2>\n<p>{passed} passed"
    yield f"; broke: <b>{told}</b>" if told else "; no test broke"
    yield f"; <b>{counted(len(night.retired), 'unit')} retired</b>.</p>\n" if night.retired else ".</p>\n"
    if night.retired:
        items = (f"<li><b>{escape(name)}</b> was retired: {escape(why)}</li>" for name, why in night.retired.items())
        yield f"<ul>{''.join(items)}</ul>\n"
    if broken:
        rows = [
            (
                group_of(test.category).name,
                test.unit or NO_BOARD,
                test.build or "-",
                when(test, night),
                short_id(test),
                _error(test.error),
            )
            for test in broken[:_MOST_BROKEN]
        ]
        yield _table(("What", "Unit", "Build", "When", "Test", "Error"), rows, wide=(4, 5), stacks=True)
    if len(broken) > _MOST_BROKEN:
        yield f'<p class="quiet">and {len(broken) - _MOST_BROKEN} more.</p>\n'


def _error(error: str) -> _Html:
    """The first line; the others below it, and folded where they are many."""
    first, *others = error_lines(error)
    told = _breakable(middle(first, _ERROR_SIZE))
    cut = len(first) > _ERROR_SIZE
    text = escape("\n".join([first, *others] if cut else others))
    if cut or len(others) > _LINES_OPEN:
        what = "all of it" if cut else f"and {counted(len(others), 'more line')}"
        return _Html(f"{told}<details><summary>{what}</summary><pre>{text}</pre></details>")
    return _Html(f"{told}<pre>{text}</pre>" if others else told)


def _breakable(text: str) -> str:
    """Escaped, with places in long names at which a line may end: between words, not in them."""
    return re.sub(r"(?<=\w)(?=\[|::)|(?<=\w_)(?=[^\W_])|(?<=[/-])(?=\w)", _BREAK, escape(text)) if text else ""


class _Html(str):
    """HTML, to be put into the page as it is."""

    __slots__ = ()


def _shown(text: str, *, wide: bool) -> str:
    if isinstance(text, _Html):
        return text
    return _breakable(text) if wide else escape(text)


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    wide: Sequence[int] = (),
    stacks: bool = False,
) -> str:
    """A table that scrolls in itself; `numbers` and `wide` are columns.

    `stacks`: where it is narrow, one cell is under the other.
    """
    kinds = {**dict.fromkeys(numbers, ' class="n"'), **dict.fromkeys(wide, ' class="w"')}

    def cells(row: Sequence[str], tag: str, more: str = "") -> str:
        return "".join(
            f"<{tag}{more}{kinds.get(n, '')}>{_shown(text, wide=n in wide)}</{tag}>" for n, text in enumerate(row)
        )

    heads = cells(head, "th", ' scope="col"')
    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        '<div class="scroll" tabindex="0">'
        f'<table class="list{" stacks" if stacks else ""}">'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _to_look_at(nights: Nights) -> Iterator[str]:
    warnings = list(nights.warnings())
    if not warnings:
        return
    yield "<h2>Look at these before they fail</h2>\n<ul>"
    for unit, found in groupby(warnings, key=lambda warning: warning.unit):
        yield f"<li><b>{escape(unit)}</b>: {escape('; '.join(warning.text for warning in found))}.</li>"
    yield "</ul>\n<p>A cable, a hub or a port that goes bad looks like this. So does a busier host.</p>\n"


# --- by night -------------------------------------------------------------------------------------------------------


def _grid(nights: Nights) -> Iterator[str]:
    """Newest night first, so that it is seen without scrolling."""
    newest = nights.nights[::-1]
    yield "<h2>By night, unit and build</h2>\n" + _key()
    yield '<div class="scroll" tabindex="0"><table class="grid"><thead><tr><td></td><td></td>'
    for month, days in groupby(newest, key=lambda night: f"{night.day:%Y-%m}"):
        yield f'<th class="month" scope="colgroup" colspan="{len(list(days))}">{month}</th>'
    yield "</tr><tr><th>Unit</th><th>Build</th>"
    yield "".join(f'<th scope="col">{night.day.day}</th>' for night in newest)
    yield "</tr></thead>\n<tbody>"
    for unit, build in nights.rows:
        yield f'<tr><th scope="row">{escape(unit or NO_BOARD)}</th><th scope="row">{escape(build or "-")}</th>'
        yield "".join(_cell(night.cells.get((unit, build))) for night in newest)
        yield "</tr>\n"
    yield "</tbody></table></div>\n"


def _key() -> str:
    entries = [
        ("p", _PASSED, "all passed"),
        *((group.letter, group.letter, group.meaning) for group in GROUPS),
        ("s", _SKIPPED, "skipped"),
    ]
    items = "".join(f'<li><i class="{kind}">{sign}</i>{escape(text)}</li>' for kind, sign, text in entries)
    return f'<ul class="key">{items}<li>nothing: did not run</li></ul>\n'


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    counts = [f"{cell.broken[group.name]} {group.name}" for group in GROUPS if cell.broken[group.name]]
    worst = next((group for group in GROUPS if cell.broken[group.name]), group_of("bench") if cell.retired else None)
    skipped = [f"{cell.skipped} skipped"] if cell.skipped else []
    retired = [f"retired: {escape(cell.retired)}"] if cell.retired else []
    told = ", ".join([f"{cell.passed} passed", *counts, *skipped, *retired])
    if worst is not None:
        return f'<td class="{worst.letter}" title="{told}">{worst.letter}</td>'
    if cell.passed:
        return f'<td class="p" title="{told}">{_PASSED}</td>'
    return f'<td class="s" title="{told}">{_SKIPPED}</td>'


# --- from night to night --------------------------------------------------------------------------------------------


def _trends(nights: Nights) -> Iterator[str]:
    yield "<h2>Uploads from night to night</h2>\n"
    warnings = list(nights.warnings())
    cards = [card for unit in nights.units for card in _card(unit, nights.trend(unit), warnings)]
    if not cards:
        yield "<p>Nothing was uploaded.</p>\n"
        return
    yield f'<p class="quiet">The last night is at the right.</p>\n<div class="cards">{"".join(cards)}</div>\n'


def _card(unit: str, trends: Sequence[Trend], warnings: Sequence[Warn]) -> Iterator[str]:
    if not any(trend.bytes for trend in trends):
        return
    marks = {warning.what for warning in warnings if warning.unit == unit}
    rates = [trend.rate / 1000 if trend.rate is not None else None for trend in trends]
    retries = [trend.retry_rate for trend in trends]
    sign = ' <span class="warn-text">look at it</span>' if marks else ""
    yield f'<section class="card{" warn" if marks else ""}"><h3>{escape(unit)}{sign}</h3>'
    for values, caption, name, what in (
        (rates, "Speed, kB/s (median of the night)", "kB/s", "speed"),
        (retries, "Packets sent again per 100 kB", "per 100 kB", "retries"),
    ):
        picture = trend_picture(values, f"{caption} of {unit}", name, marked=what in marks)
        yield f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"
    yield "</section>"


def _often(nights: Nights) -> Iterator[str]:
    """Which tests broke in most nights."""
    found = Counter(
        key
        for night in nights.nights
        for key in {(short_id(test), group_of(test.category).name) for test in night.broken}
    )
    if not found:
        return
    yield "<h2>What broke most often</h2>\n"
    rows = [(test, what, str(count)) for (test, what), count in found.most_common(_MOST_OFTEN)]
    yield _table(("Test", "What", "Nights"), rows, numbers=(2,), wide=(0,))


def _figures(nights: Nights) -> Iterator[str]:
    yield "<h2>The figures</h2>\n"
    for unit in nights.units:
        rows = [
            (
                f"{night.day}",
                str(len(trend.rates)),
                f"{trend.bytes / 1000:.0f}",
                f"{(trend.rate or 0) / 1000:.1f}",
                str(trend.retries),
                str(trend.resyncs),
            )
            for night, trend in zip(reversed(nights.nights), reversed(nights.trend(unit)), strict=True)
            if trend.bytes
        ]
        if rows:
            head = ("Night", "Uploads", "kB", "kB/s", "Sent again", "Other offsets")
            table = _table(head, rows, numbers=range(1, 6))
            yield f"<details><summary>{escape(unit)}: {counted(len(rows), 'night')}</summary>{table}</details>\n"


def _records(nights: Nights) -> Iterator[str]:
    if not nights.broken:
        return
    yield "<h2>Records that could not be read whole</h2>\n<ul>"
    broken = list(nights.broken.items())
    for path, why in broken[-_MOST_RECORDS:]:
        yield f"<li><code>{escape(path.name)}</code>: {escape(why)}</li>"
    if len(broken) > _MOST_RECORDS:
        yield f"<li>and {len(broken) - _MOST_RECORDS} older ones</li>"
    yield "</ul>\n"
