"""Progress of an update: a bar that redraws itself on a terminal, a few plain lines in a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_nrfdfu.report.shorten import in_lines

if TYPE_CHECKING:
    import pytest
    from _pytest.capture import CaptureManager
    from _pytest.terminal import TerminalReporter

__all__ = ["Steps"]

_REDRAW = 0.1
"""Seconds between two drawings of the bar."""
_BAR, _LEAST_BAR = 24, 6
"""Characters of the bar, and where a terminal is too narrow for so many, at least; below that there is none."""
_FASTEST = 999_900
"""Bytes/s: no rate takes more characters."""
_LOG_STEPS = 4
_UNENDED = -2
"""What pytest's own reporter calls a line that is not ended (`TerminalReporter.currentfspath`)."""


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
        line = f"  {self._unit}: {text}"
        self._write(lambda width: in_lines(line, width) if self._live else line)

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
            line = f"  {self._unit}: {_amount(acknowledged, total, now - self._began, acknowledged - self._first)}"
            self._write(lambda _: line)
        if ended:
            self._began = 0.0

    def _draw(self, acknowledged: int, total: int, seconds: float, *, ended: bool) -> None:
        amount = _amount(acknowledged, total, seconds, acknowledged - self._first)
        longest = _amount(total, total, 1.0, _FASTEST)

        def bar(width: int) -> str:
            """On one line: one that the terminal breaks cannot be drawn again in its place."""
            room = width - 1 - len(f"  {self._unit}: [] {longest}")
            size = min(_BAR, room) if room >= _LEAST_BAR else 0
            full = acknowledged * size // total
            drawn = f"[{'#' * full}{'.' * (size - full)}] " if size else ""
            return f"  {self._unit}: {drawn}{amount}"[: width - 1]

        self._write(bar, end="\n" if ended else "", redraw=True)

    def _write(self, text: Callable[[int], str], *, end: str = "\n", redraw: bool = False) -> None:
        """Write what `text` makes of the terminal's width, which is not to be had while output is captured."""
        reporter = self._reporter
        if reporter is None:
            return
        if self._capture is None:
            self._put(reporter, text(_width()), end, redraw=redraw)
            return
        with self._capture.global_and_fixture_disabled():
            self._put(reporter, text(_width()), end, redraw=redraw)

    def _put(self, reporter: TerminalReporter, text: str, end: str, *, redraw: bool) -> None:
        if redraw:
            reporter.write("\r\x1b[K" + text + end, flush=True)
            # So that whatever comes next, be it about a failure, begins a line of its own.
            reporter.currentfspath = None if end else _UNENDED
            return
        reporter.ensure_newline()
        reporter.write(text + end, flush=True)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _amount(acknowledged: int, total: int, seconds: float, sent: int) -> str:
    rate = f", {sent / seconds / 1000:.1f} kB/s" if seconds > 0 and sent else ""
    return f"{acknowledged * 100 // total:3d} %, {acknowledged} of {total} bytes{rate}"
