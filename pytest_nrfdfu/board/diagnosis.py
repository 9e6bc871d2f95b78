"""Why a board did not enter serial recovery: from evidence to a cause, a sentence and a remedy. Pure.

The first rule that holds names the cause (`rules`); what else was tried and seen becomes the details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_nrfdfu.board.case import Case
from pytest_nrfdfu.board.evidence import Evidence
from pytest_nrfdfu.board.observed import causes_in_words, echoes_requests
from pytest_nrfdfu.board.rules import RULES, anything
from pytest_nrfdfu.config_types import BoardConfig
from pytest_nrfdfu.errors import Diagnosis

__all__ = ["Diagnosis", "diagnose"]

_SHOWN = 160
"""Characters of the console's end that are shown."""
_LINES = 2
"""Lines of it."""
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")
"""A long number such as an image's hash; its first digits tell it."""
_NOT_ANSWERED = re.compile(r"\w+ \(sequence \d+\) was sent (\d+) times in ([\d.]+ s) and not answered")
_FOREIGN = re.compile(r"(\d+) answers to other requests came")
_MEANWHILE = re.compile(
    r"; (?:nothing came from the board meanwhile|meanwhile the board sent console text .*)", re.DOTALL
)
"""What a timeout says of the port (`Uart.summary`), which has a sentence of its own here."""


def diagnose(evidence: Evidence, config: BoardConfig) -> Diagnosis:
    """The cause that the evidence speaks for most, what else was seen, and what to do."""
    case = Case(evidence, config)
    found = next((advice for rule in RULES if (advice := rule(case)) is not None), None) or anything(case)
    return Diagnosis(found.cause, found.sentence, tuple(_details(case)), found.remedy)


# --- the details ----------------------------------------------------------------------------------------------------


def _details(case: Case) -> Iterator[str]:
    seen = case.seen
    for attempt in seen.attempts:
        by = f" (reset: {attempt.reset})" if attempt.reset is not None else ""
        yield f"Tried {attempt.entry}{by}: {_in_short(attempt.problem, case).rstrip('.')}."
    yield f"Seen on {case.port}: {_heard(case)}."
    if seen.reset_causes is not None:
        yield f"Reset causes (RESETREAS): {causes_in_words(seen.reset_causes)}."
    if seen.pin_low is not None:
        state, released = _level(seen.pin_low), _level(seen.pin_low_released)
        pin = f"The recovery pin ({seen.pin})" if seen.pin else "The recovery pin"
        yield f"{pin} reads {state} with the line asserted and {released} with it released."
    elif seen.pin_unread:
        named = seen.pin or "The recovery pin"
        key = "" if seen.pin else " (pin in [recovery]; mcuboot-button0 in MCUboot's devicetree)"
        yield f"{named} was not looked at: {seen.pin_unread}{key}."
    if seen.line_level is not None:
        yield f"The line's driver reads back {'active' if seen.line_level else 'inactive'} while it is asserted."
    yield from _chip_details(case)
    yield from (f"Known trouble of this host: {text.rstrip('.')}." for text in seen.port_trouble)


def _chip_details(case: Case) -> Iterator[str]:
    seen = case.seen
    if seen.chip is not None:
        yield f"The probe ({seen.chip.probe}) finds the application core {seen.chip.application}."
    elif seen.chip_problem:
        yield f"The probe says: {seen.chip_problem.rstrip('.')}."
    if seen.slot_has_image is not None:
        yield f"The primary slot begins {'with' if seen.slot_has_image else 'without'} an image's header."
    if seen.reset_seen is not None:
        yield f"The core {'was' if seen.reset_seen else 'was not'} reset when that was tried once more."


def _in_short(problem: str, case: Case) -> str:
    """Why an entry failed, without what the other sentences say."""
    problem = _MEANWHILE.sub("", _NOT_ANSWERED.sub(r"\1 requests in \2, and no answer", problem))
    if echoes_requests(case.seen.heard.received):
        problem = _FOREIGN.sub(r"\1 of the requests themselves came back", problem)
    return problem


def _console(text: str) -> str:
    """The end of what a console shows."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(_HASH.sub(r"\1...", line) for line in lines[-_LINES:])[-_SHOWN:]


def _level(low: bool | None) -> str:  # noqa: FBT001 - a level, not a mode
    return "unknown" if low is None else "low" if low else "high"


def _heard(case: Case) -> str:
    heard, parts = case.seen.heard, []
    if heard.application_answers:
        parts.append(f"{heard.application_answers} answers of the running application")
    if heard.broken_frames:
        parts.append(f"{heard.broken_frames} broken frames")
    if heard.text.strip():
        parts.append(f"console text ending {_console(heard.text)!r}")
    elif heard.received:
        own = ", the host's own requests among them" if echoes_requests(heard.received) else ""
        parts.append(f"{len(heard.received)} bytes{own}")
    if heard.answers_at is not None:
        parts.append(f"an answer at {heard.answers_at} baud")
    if case.seen.after_reset:
        kind = case.seen.other_reset
        which = "one more reset" if kind is None else f"a {kind} reset, and nothing after one by {case.own_reset}"
        parts.append(f"{len(case.seen.after_reset)} bytes after {which}, without the entry")
    return " and ".join(parts) or "nothing"
