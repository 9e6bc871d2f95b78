"""The doctor's part about recovery: each configured entry by itself, or, where none can be tried, what the port tells.

Nothing in flash is changed: the entry no-application, which may erase an image's header, only resets here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pytest_nrfdfu.board.case import Case
from pytest_nrfdfu.board.evidence import Evidence, Heard
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.observed import readable
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.rules import WIRE
from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import NOTHING_HEARD, Finding, Skipped, finding_of
from pytest_nrfdfu.config_types import Entry
from pytest_nrfdfu.errors import BoardError, SmpError, SmpTimeout

__all__ = ["try_recovery"]

_NO_FAULT = frozenset({"image-still-valid"})
"""Causes for which an entry fails on a board that is as it should be: there is an image, and here none is erased."""
_LISTEN, _ASK_EVERY = 1.5, 0.3
"""Seconds for which a board that cannot be reset is asked, and between requests."""


def try_recovery(bench: Bench) -> Finding:
    """Enter by the first entry that works; a warning where one before it does not."""
    config = bench.config
    lacking = {entry: bench.lacks(entry) for entry in config.recovery.entry}
    possible = tuple(entry for entry, missing in lacking.items() if not missing)
    left_out = tuple(f"The entry {entry} was not tried: it needs {what}." for entry, what in lacking.items() if what)
    if not possible:
        return _as_it_is(bench, left_out)
    failed = _tried(bench, possible)
    if bench.entered is None:
        return _not_entered(bench, failed, left_out)
    after = possible[possible.index(bench.entered.method) + 1 :]
    untried = (f"Not tried, because {bench.entered.method} works: {', '.join(after)}.",) if after else ()
    seen = f"by {bench.entered.method}; MCUboot answered after {bench.entered.seconds:.2f} s"
    passed = tuple(f"{entry} does not work: {found.seen} {found.advice}" for entry, found in failed.items())
    details = passed + left_out + untried
    broken = {entry: found for entry, found in failed.items() if found.cause not in _NO_FAULT}
    if broken:
        first = next(iter(broken.values()))
        names = " and ".join(broken)
        return Finding("warning", f"{seen}; {names} did not work, and comes first", first.advice, first.cause, details)
    return _without_line(bench, Finding("fine", seen, details=details))


def _tried(bench: Bench, entries: Sequence[Entry]) -> dict[Entry, Finding]:
    """Try entries until one works (`Bench.entered`); what came of those that did not."""
    config, unit = bench.config, bench.unit
    failed: dict[Entry, Finding] = {}
    for entry in entries:
        recovery = config.recovery.model_copy(update={"entry": (entry,), "allow_erase_header": False})
        unit.config = config.model_copy(update={"recovery": recovery})
        try:
            bench.entered = enter(unit)
        except BoardError as error:
            failed[entry] = finding_of("recovery", error)
        else:
            break
        finally:
            unit.config = config
    return failed


def _without_line(bench: Bench, finding: Finding) -> Finding:
    """What an entry by the line shows where MCUboot answers without it as well."""
    entered, kind = bench.entered, bench.enters_without
    if entered is None or entered.method != "gpio" or kind != bench.config.recovery.reset_for("gpio"):
        return finding
    seen = f"{finding.seen}; it also does after a reset by {kind} without the line"
    if bench.pin is not None and bench.pin.follows:
        return finding._replace(seen=seen)
    why = ""
    if entered.images.find(slot=0) is None:
        why = ", as it does while slot 0 holds no valid image"
    return finding._replace(
        seen=f"{seen}, so that this says nothing of the line",
        advice=f"Something else lets it in{why}: CONFIG_BOOT_SERIAL_WAIT_FOR_DFU, _PIN_RESET or _NO_APPLICATION. To"
        " know whether the line works, name its pin (pin in [recovery]), which a probe can look at.",
    )


def _not_entered(bench: Bench, failed: Mapping[Entry, Finding], left_out: tuple[str, ...]) -> Finding:
    """The conclusion of the first entry, those of the others, and what was seen: without what has a part of its own."""
    first, *others = failed.values()
    details = tuple(text for text in first.details if not text.startswith("The probe ("))
    line = bench.line_finding
    if line is not None and first.cause == line.cause:
        told = "" if first.advice == line.advice else first.advice
        first = first._replace(seen="Not entered, for the reason that stands at the part line.", advice=told)
    if not others:
        return first._replace(details=details + left_out)
    entry, *more = failed
    conclusions = []
    for other, found in zip(more, others, strict=True):
        same = found.cause == first.cause
        conclusions.append(f"{other}: the same." if same else f"{other}: {found.seen} {found.advice}")
        details += tuple(text for text in found.details if text.startswith("Tried "))
    return first._replace(seen=f"{entry}: {first.seen}", details=(*conclusions, *details, *left_out))


# --- no entry can be tried ------------------------------------------------------------------------------------------


def _as_it_is(bench: Bench, left_out: tuple[str, ...]) -> Finding:
    """Ask the board as it runs: what answers, or is printed, tells of port and wires all the same."""
    unit, heard = bench.unit, Heard()
    if not unit.uart.is_open:
        raise Skipped(" ".join(left_out))
    since, position = unit.now(), unit.uart.console.position
    answer = _who_answers(bench)
    traffic = unit.transcript(since)
    heard.received = b"".join(data for _, direction, data in traffic if direction == "rx")
    heard.sent = b"".join(data for _, direction, data in traffic if direction == "tx")
    heard.text = unit.uart.console.since(position)
    heard.broken_frames = sum(when >= since for when, _ in unit.uart.faults.copy())
    case = Case(Evidence(heard=heard), bench.config)
    wrong = next((advice for rule in WIRE if not answer and (advice := rule(case)) is not None), None)
    if wrong is not None:
        return Finding("wrong", wrong.sentence, wrong.remedy, wrong.cause, left_out)
    told, cause = (answer, "") if answer else _what_came(heard.received)
    return Finding("skipped", f"Asked as it is, without any entry: {told}.", cause=cause, details=left_out)


def _who_answers(bench: Bench) -> str:
    """Who answers an image list request, in words; empty if nobody does."""
    unit = bench.unit
    with suppress(SmpTimeout, BoardError):
        try:
            states = unit.client.poll_images(_ASK_EVERY, time.monotonic() + _LISTEN)
        except SmpTimeout:
            raise
        except SmpError:
            return "the application answers, so the UART works in both directions"
        who = "MCUboot" if from_recovery(states, has_state=unit.profile.image_state) else "the application"
        return f"{who} answers, so the UART works in both directions"
    return ""


def _what_came(received: bytes) -> tuple[str, str]:
    """What the board sent unasked, in words, and a cause."""
    if not received:
        return "nothing came, as from an application without an SMP server that prints nothing", NOTHING_HEARD
    if readable(received) is False:
        return f"{len(received)} bytes came that cannot be read; look at the baud rate", "unreadable"
    return f"no answer, but {len(received)} bytes of text came, so the board's TX works", ""
