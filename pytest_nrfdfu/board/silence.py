"""The words for a server that does not answer: what was asked, and what the console has told since the last reset.

The console comes by lines: a fault's dump where there is one, else the last that was printed.
"""

from __future__ import annotations

import re

from pytest_nrfdfu.board.boot_record import boots_in
from pytest_nrfdfu.board.boot_story import Story, first_dump
from pytest_nrfdfu.board.console_text import plain
from pytest_nrfdfu.board.fault_dump import faults_in
from pytest_nrfdfu.board.line_times import TimedLine
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import SmpTimeout

__all__ = ["in_short", "unanswered"]

_LINES = 8
"""Lines of the console that are quoted where it tells of no fault: a boot with MCUboot's log has some ten."""


def in_short(error: Exception) -> str:
    """An error without the console's text."""
    return error.brief if isinstance(error, SmpTimeout) else str(error)


def unanswered(unit: Unit, text: str, advice: str) -> str:
    """`text`, what was out of the ordinary on the console since the last reset, `advice`, and the lines behind them."""
    lines = _lines(unit)
    resets = unit.console_uart.console.resets()
    faults = tuple(fault for fault in faults_in(lines) if not fault.survived)
    told = Story(tuple(boots_in(lines, resets, re.compile(unit.config.console.banner))), faults)
    said = f". By the console {out_of_order}" if (out_of_order := told.told()) else ""
    return f"{text}{said}. {advice}\n{first_dump(faults) or _end(lines)}"


def _lines(unit: Unit) -> list[TimedLine]:
    """What the console has shown since this host has last reset the board, or since the port was opened."""
    console = unit.console_uart.console
    resets = console.resets()
    since = resets[-1].since if resets else 0.0
    return [line for line in console.timed_lines(0) if line.time >= since]


def _end(lines: list[TimedLine]) -> str:
    texts = [text for line in lines if (text := plain(line.text).rstrip())]
    if not texts:
        return "The console has printed nothing since the board was last reset from here"
    return "\n  ".join(("The last that the console printed:", *texts[-_LINES:]))
