"""The text of ``nrfdfu doctor``: a line or more for each part as it is tried, for people."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from pytest_nrfdfu.cli.doctor_findings import BLOCKED, NOTHING_HEARD, Status, Step

__all__ = ["Writer", "conclusion"]

_NAME, _STATUS = 15, 9
"""Widths of the columns of names and statuses."""
_NARROWEST, _WIDEST = 60, 110
_COLOURS: Mapping[Status, str] = {"fine": "32", "warning": "33;1", "skipped": "33", "unknown": "33", "wrong": "31;1"}
"""SGR parameters (ECMA-48): green, yellow, bold yellow, bold red."""
_ALL_FINE = "Everything that was tried is fine."
_PROBE_IS_GONE = frozenset({"probe-unplugged", "probe-not-found"})
_BACK = "\r\x1b[K"
"""To the beginning of the line, and clear it."""


class Writer:
    """Writes steps to a stream: with colours, and the part that is being tried, where that is a terminal."""

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self._live = stream.isatty() and environment.get("TERM") != "dumb"
        self._colours = self._live and not environment.get("NO_COLOR")
        self._width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns - 1))

    def line(self, text: str = "") -> None:
        """One line."""
        print(text, file=self._stream, flush=True)

    def paragraph(self, text: str) -> None:
        """A sentence or more; on a terminal in lines that fit."""
        self.line("\n".join(self._wrap(text, "")) if self._live else text)

    def began(self, name: str) -> None:
        """A part is being tried: said on a terminal, where it is written over."""
        if self._live:
            print(f"  {name:<{_NAME}} ...", end="", file=self._stream, flush=True)

    def progress(self, count: int, total: int) -> None:
        """How far the upload of the part that is being tried has come: on a terminal."""
        if self._live:
            print(f"{_BACK}  {'window':<{_NAME}} {count} of {total} bytes", end="", file=self._stream, flush=True)

    def ended(self, step: Step) -> None:
        """What came of it."""
        if self._live:
            print(_BACK, end="", file=self._stream)
        if step.finding.cause == BLOCKED:  # the conclusion says it, once for all of them
            return
        for line in self._lines(step):
            self.line(line)

    def _lines(self, step: Step) -> Iterable[str]:
        finding = step.finding
        status = f"{finding.status:<{_STATUS}}"
        if self._colours:
            status = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m"
        indent = " " * (2 + _NAME + 1 + _STATUS)
        first, *rest = self._wrap(finding.seen, indent) or [indent]
        yield f"  {step.name:<{_NAME}} {status}{first[len(indent) :]}".rstrip()
        yield from rest
        if finding.status != "fine" or len(finding.details) > 1:
            for detail in finding.details:
                yield from self._wrap(f"- {detail}", indent, hanging="  ")
        elif finding.details:
            yield from self._wrap(" ".join(finding.details), indent)
        if finding.advice:
            yield from self._wrap(f"-> {finding.advice}", indent, hanging="   ")

    def _wrap(self, text: str, indent: str, hanging: str = "") -> list[str]:
        return textwrap.wrap(
            text,
            self._width,
            initial_indent=indent,
            subsequent_indent=indent + hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )


def conclusion(steps: Sequence[Step]) -> str:
    """What to make of all parts, and those that have no line of their own."""
    names = {status: [step.name for step in steps if step.finding.status == status] for status in _COLOURS}
    wrong, doubtful = names["wrong"], names["warning"]
    blocked = [step.name for step in steps if step.finding.cause == BLOCKED]
    told = ""
    if blocked:
        why = "does not work" if wrong else "was not tried, or is not known to work"
        told += f"Not tried, because what they need {why}: {', '.join(blocked)}. "
    if wrong or doubtful:
        return f"{told}{together(steps)}{_what_next(steps, wrong, doubtful)}"
    not_known = f" Not known: {', '.join(names['unknown'])}." if names["unknown"] else ""
    return f"{told}Everything else that was tried is fine.{not_known}" if told or not_known else _ALL_FINE


def _what_next(steps: Sequence[Step], wrong: Sequence[str], doubtful: Sequence[str]) -> str:
    """Where to begin, in the order of the bench: what comes later may follow from it."""
    if not wrong:
        works = "works, and not as it should" if len(doubtful) == 1 else "work, and not as they should"
        return f"This {works}: {', '.join(doubtful)}. Do what stands behind the arrow, then run this again."
    if len(wrong) + len(doubtful) == 1:
        return "Do what stands behind the arrow, then run this again."
    first = next(step.name for step in steps if step.name in {*wrong, *doubtful})
    counted = f"{len(wrong)} parts are wrong" if len(wrong) > 1 else "1 part is wrong"
    also = f", and not as it should be: {', '.join(doubtful)}" if doubtful else ""
    return f"{counted}{also}. Begin with the first, {first}, then run this again."


def together(steps: Sequence[Step]) -> str:
    """What two parts show that neither shows alone, as a sentence with a space behind it; empty if there is nothing."""
    findings = {step.name: step.finding for step in steps}
    if "probe" not in findings or findings["probe"].cause not in _PROBE_IS_GONE:
        return ""
    port, recovery = findings.get("port"), findings.get("recovery")
    silent = recovery is not None and recovery.cause in {"silence", NOTHING_HEARD}
    if silent or (port is not None and port.status == "wrong"):
        return (
            "Probe and UART are both silent, and a DK has both on one USB cable and supply: look at those first (SW8 on"
            " the nRF5340 DK). "
        )
    return ""
