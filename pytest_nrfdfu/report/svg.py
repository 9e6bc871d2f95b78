"""Pictures as inline SVG: an upload over time, and a value over many nights.

They take the page's text colour (currentColor) and three variables, whose fallbacks are readable on white and on black,
so they fit a page of either theme. They refer to nothing outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["LINE", "MARK", "STALL", "nice_step", "trend_picture", "upload_picture"]

LINE = "var(--nrfdfu-line, #2f7fd6)"
STALL = "var(--nrfdfu-stall, #c98500)"
MARK = "var(--nrfdfu-mark, #e0453a)"
"""Colours of what is normal, of long answers, and of what was lost."""

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 26, 30, 40
"""Margins; the right one holds half of a time, which stands in the middle below its place."""
_TICKS = 6
_MARK_SIZE = 5
_SMALL_WIDTH, _SMALL_HEIGHT = 340, 104
_SMALL_LEFT, _SMALL_RIGHT, _SMALL_TOP, _SMALL_BOTTOM = 44, 10, 10, 10
_TEXT = 'fill="currentColor" font-size="12" font-family="system-ui, sans-serif"'


def nice_step(span: float, ticks: int = _TICKS) -> float:
    """A distance of 1, 2 or 5 times a power of ten that divides `span` into at most `ticks` parts."""
    if span <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(span / ticks))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span <= ticks * power * factor * (1 + 1e-9))


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


# --- an upload ------------------------------------------------------------------------------------------------------


def upload_picture(course: Mapping[str, Any], title: str) -> str:
    """Acknowledged bytes over time, with long answers as bands and repeated chunks as triangles; empty without points.

    `course`: a `Course` as JSON types: `points`, `repeats` and `stalls`, in seconds and bytes.
    """
    points: Sequence[Sequence[float]] = course["points"]
    if len(points) < 2:
        return ""
    seconds = max(points[-1][0], *course["repeats"], 1e-3) if course["repeats"] else max(points[-1][0], 1e-3)
    scale = _Scale(seconds, max(count for _, count in points) or 1)
    label = (
        f"{title}: {points[-1][1]} bytes acknowledged after {points[-1][0]:.2f} s,"
        f" {len(course['repeats'])} chunks sent again, {len(course['stalls'])} long answers"
    )
    parts = [
        *_open(_WIDTH, _HEIGHT, label),
        *_bands(course["stalls"], scale),
        *_grid(scale),
        _line([(scale.x(when), scale.y(count)) for when, count in points]),
        *_triangles(course["repeats"], scale),
        *_legend(len(course["repeats"]), len(course["stalls"])),
        "</svg>",
    ]
    return "".join(parts)


class _Scale:
    """From seconds and bytes to places in the picture."""

    def __init__(self, seconds: float, count: float) -> None:
        self.seconds = seconds
        self.count = count

    def x(self, when: float) -> float:
        return _LEFT + when / self.seconds * (_WIDTH - _LEFT - _RIGHT)

    def y(self, count: float) -> float:
        return _HEIGHT - _BOTTOM - count / self.count * (_HEIGHT - _TOP - _BOTTOM)


def _open(width: int, height: int, label: str) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' style="display:block;width:100%;max-width:{width * 1.4:.0f}px;height:auto">'
    )
    yield f"<title>{escape(label)}</title>"


def _bands(stalls: Iterable[Sequence[float]], scale: _Scale) -> Iterator[str]:
    for start, end in stalls:
        left = scale.x(start)
        yield (
            f'<rect x="{_number(left)}" y="{_TOP}" width="{_number(max(scale.x(end) - left, 1))}"'
            f' height="{_HEIGHT - _TOP - _BOTTOM}" style="fill:{STALL}" fill-opacity="0.28"/>'
        )


def _grid(scale: _Scale) -> Iterator[str]:
    left, bottom = scale.x(0), scale.y(0)
    step = nice_step(scale.seconds)
    decimals = max(0, -math.floor(math.log10(step)))
    for n in range(int(scale.seconds / step + 1e-9) + 1):
        x = _number(scale.x(n * step))
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" {_TEXT}>{n * step:.{decimals}f} s</text>'
    step = nice_step(scale.count, 4)
    for n in range(int(scale.count / step + 1e-9) + 1):
        y = scale.y(n * step)
        yield (
            f'<path d="M{left} {_number(y)}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-opacity="0.25"/>'
            f'<text x="{left - 6}" y="{_number(y + 4)}" text-anchor="end" {_TEXT}>{n * step / 1000:g} kB</text>'
        )


def _line(places: Iterable[tuple[float, float]]) -> str:
    """Steps: between two answers, nothing is known to have been acknowledged."""
    path = ""
    for x, y in places:
        path += f"H{_number(x)}V{_number(y)}" if path else f"M{_number(x)} {_number(y)}"
    return f'<path d="{path}" fill="none" style="stroke:{LINE}" stroke-width="2" stroke-linejoin="round"/>'


def _triangles(repeats: Iterable[float], scale: _Scale) -> Iterator[str]:
    y, size = scale.y(0), _MARK_SIZE
    path = "".join(f"M{_number(scale.x(when))} {y - 2 * size}l{size} {2 * size}h-{2 * size}z" for when in repeats)
    if path:
        yield f'<path d="{path}" style="fill:{MARK}"/>'


def _legend(repeats: int, stalls: int) -> Iterator[str]:
    y, size = 16, _MARK_SIZE
    yield f'<path d="M{_LEFT} {y - 4}h18" style="stroke:{LINE}" stroke-width="2"/>'
    yield f'<text x="{_LEFT + 24}" y="{y}" {_TEXT}>acknowledged</text>'
    x = _LEFT + 130
    yield f'<path d="M{x + size} {y - 2 * size}l{size} {2 * size}h-{2 * size}z" style="fill:{MARK}"/>'
    yield f'<text x="{x + 16}" y="{y}" {_TEXT}>sent again: {repeats}</text>'
    x += 150
    yield f'<rect x="{x}" y="{y - 10}" width="12" height="12" style="fill:{STALL}" fill-opacity="0.4"/>'
    yield f'<text x="{x + 18}" y="{y}" {_TEXT}>long answer (erase, loss): {stalls}</text>'


# --- many nights ----------------------------------------------------------------------------------------------------


def trend_picture(values: Sequence[float | None], label: str, unit: str, *, marked: bool = False) -> str:
    """One value a night, oldest first, None where there is none; from 0 up, the last one written out.

    `marked`: in the colour of trouble.
    """
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if not known:
        return ""
    top = max(value for _, value in known) or 1.0
    colour = MARK if marked else LINE
    across = (_SMALL_WIDTH - _SMALL_LEFT - _SMALL_RIGHT) / max(len(values) - 1, 1)
    high = _SMALL_HEIGHT - _SMALL_TOP - _SMALL_BOTTOM
    base = _SMALL_HEIGHT - _SMALL_BOTTOM
    places = [(_SMALL_LEFT + index * across, base - value / top * high) for index, value in known]
    path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in places)
    # A line of no length with a round cap is a dot: short, where there are hundreds of them.
    dots = "".join(f"M{_number(x)} {_number(y)}h0" for x, y in places)
    size = 5 if len(places) <= 60 else 2  # where dots would touch
    parts = [
        *_open(_SMALL_WIDTH, _SMALL_HEIGHT, f"{label}: {_short(known[-1][1])} {unit} last, {_short(top)} at most"),
        *(
            f'<path d="M{_SMALL_LEFT} {y}H{_SMALL_WIDTH - _SMALL_RIGHT}" stroke="currentColor" stroke-opacity="0.25"/>'
            f'<text x="{_SMALL_LEFT - 6}" y="{y + 4}" text-anchor="end" {_TEXT}>{_short(value)}</text>'
            for y, value in ((base, 0.0), (_SMALL_TOP, top))
        ),
        f'<path d="{path}" fill="none" style="stroke:{colour}" stroke-width="1.5" stroke-linejoin="round"/>',
        f'<path d="{dots}" style="stroke:{colour}" stroke-width="{size}" stroke-linecap="round"/>',
        "</svg>",
    ]
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
