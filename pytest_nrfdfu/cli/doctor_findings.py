"""What the doctor says of one part of a bench: fine, a warning, skipped, unknown or wrong; what was seen; a remedy."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pytest_nrfdfu.board.advice import PROBE_CAUSES
from pytest_nrfdfu.errors import NrfDfuError, ProbeError, RecoveryNotEntered

__all__ = ["BLOCKED", "NOTHING_HEARD", "Finding", "Skipped", "Status", "Step", "finding_of"]

Status = Literal["fine", "warning", "skipped", "unknown", "wrong"]
"""Warning: it worked, and not as it should. Unknown: it was tried, and nobody can tell from here whether it worked."""
BLOCKED = "blocked"
"""The cause of a part that was skipped because one that it needs does not work."""

NOTHING_HEARD = "nothing-heard"
"""The cause of a recovery that no entry could be tried for, where nothing came on the port either."""


class Finding(NamedTuple):
    """What came of trying one part. `advice` may be there although it works: something known to make trouble."""

    status: Status
    seen: str
    advice: str = ""
    cause: str = ""
    """A stable name of what is wrong, where there is one."""
    details: tuple[str, ...] = ()
    """What else was tried and seen, a sentence each."""


class Step(NamedTuple):
    """One part that was tried, in `seconds`."""

    name: str
    finding: Finding
    seconds: float


class Skipped(Exception):
    """A part cannot or need not be tried; the text says why."""


_ADVICE = {
    "lease": "Wait for the other run to end, or take another unit: nrfdfu units lists them.",
    "simulator": "Look at the [sim] table.",
    "power": "Run its command by hand, and look at [power].",
    "port": "Compare [uart] port with what nrfdfu discover lists.",
    "probe": "Look at the probe's cable, and compare [probe] with what nrfdfu discover lists.",
    "chip identity": "Look at the SWD wiring and the board's supply, and whether the probe is wired to this board.",
    "line": "Look at the wiring of the line and at its table in the configuration.",
    "reset": "Look at reset in [recovery], and at the wire to nRESET.",
    "recovery": "Look at [recovery] entry, and at what is built into MCUboot: nrfdfu build PATH says it.",
    "image list": "Look at the baud rate and at [bootloader]; read the SMP exchange in the report of a failing test.",
    "window": "Upload the build in a test, and look at its report.",
    "leave recovery": "Look at whether the image in slot 0 was built for this board and for MCUboot.",
    "console": "Look at [console] port, baudrate and banner.",
}
"""What to do where the error itself does not say."""
_REMEDY = re.compile(
    r"[;.:] (?=(?:add|check|close|compare|find|give|install|is|look|name|on Debian|pip|plug|run|set|start|use|wait)\b)",
    re.IGNORECASE,
)
"""Where the part of a message begins that says what to look at: messages end with it (see `errors`)."""
_WAITED = re.compile(r"; waited [\d.]+ s for it$")


def finding_of(step: str, error: NrfDfuError) -> Finding:
    """What an error says of the part in which it was raised."""
    if isinstance(error, RecoveryNotEntered) and error.diagnosis is not None:
        diagnosis = error.diagnosis
        return Finding("wrong", diagnosis.sentence, diagnosis.remedy, diagnosis.cause, diagnosis.details)
    seen, told = _apart(str(error))
    if isinstance(error, ProbeError) and error.cause in PROBE_CAUSES:
        known = PROBE_CAUSES[error.cause]
        # Of one that hangs, only the process that was ended has anything to say.
        details = () if error.cause == "hangs" else (f"{seen.rstrip('.')}.",)
        return Finding("wrong", known.sentence, known.remedy, known.cause, details)
    told, waited = _without_wait(told)
    command = "run " if told.startswith("pip ") else ""
    told = f"{command}{told}"
    advice = told[:1].upper() + told[1:] if told else _ADVICE.get(step, "")
    return Finding("wrong", f"{seen}{waited}", advice, getattr(error, "cause", ""))


def _without_wait(told: str) -> tuple[str, str]:
    """What to do, and apart from it how long a port was waited for (`Uart`), which belongs to what was seen."""
    waited = _WAITED.search(told)
    return (told, "") if waited is None else (told[: waited.start()], waited[0])


def _apart(text: str) -> tuple[str, str]:
    """A message, and the part of it that says what to look at; not where somebody else's words in parentheses do."""
    for match in _REMEDY.finditer(text):
        seen = text[: match.start()]
        if seen.count("(") <= seen.count(")"):
            return seen, text[match.end() :]
    return text, ""
