"""The words for a server that does not answer: what was asked, and what the console has told since the last reset.

The console comes by lines: a fault's dump where there is one, else the last that was printed. Whether the board has
power at all the debug probe is asked, where there is one.
"""

from __future__ import annotations

import re

from pytest_nrfdfu.board.advice import PROBE_CAUSES
from pytest_nrfdfu.board.boot_record import boots_in
from pytest_nrfdfu.board.boot_story import Story, first_dump
from pytest_nrfdfu.board.console_text import plain
from pytest_nrfdfu.board.fault_dump import faults_in
from pytest_nrfdfu.board.line_times import TimedLine
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import BoardError, ProbeError, SmpTimeout

__all__ = ["in_short", "last_lines", "unanswered", "unpowered"]

_NO_POWER = "no-power"
"""The probe's word for a chip that does not answer it (`ProbeError.cause`)."""

_LINES = 8
"""Lines of the console that are quoted where it tells of no fault: a boot with MCUboot's log has some ten."""

_NOTHING = "The console has printed nothing since the board was last reset from here"


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


def unpowered(unit: Unit, text: str) -> ProbeError | None:
    """The error of a board that did not do what `text` says because it has no power; None if nothing shows that.

    The probe is asked, which takes some 0.1 s and halts no core. A probe that fails otherwise tells nothing.
    """
    if not unit.rig.has_probe:
        return None
    try:
        unit.rig.chip_state()
    except BoardError as error:
        if not isinstance(error, ProbeError) or error.cause != _NO_POWER:
            return None
        advice = PROBE_CAUSES[_NO_POWER].told(str(error))
        return ProbeError(f"{text}. {advice.sentence} {advice.remedy}", cause=_NO_POWER)
    return None


def last_lines(unit: Unit, position: int) -> str:
    """The last lines that the console has printed since a position on it, below a line that says so."""
    return _end(unit.console_uart.console.timed_lines(position), "The console has printed nothing since then")


def _lines(unit: Unit) -> list[TimedLine]:
    """What the console has shown since this host has last reset the board, or since the port was opened."""
    console = unit.console_uart.console
    resets = console.resets()
    since = resets[-1].since if resets else 0.0
    return [line for line in console.timed_lines(0) if line.time >= since]


def _end(lines: list[TimedLine], nothing: str = _NOTHING) -> str:
    texts = [text for line in lines if (text := plain(line.text).rstrip())]
    if not texts:
        return nothing
    return "\n  ".join(("The last that the console printed:", *texts[-_LINES:]))
