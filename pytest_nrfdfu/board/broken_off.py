"""An update that somebody broke off (Ctrl-C, a test's time limit): the report says where, the unit what state is left.

Nothing is asked of the board: who breaks off waits for nothing. What is said follows from how far the update was.

Source: MCUboot, docs/design.md (image swaps; an image on trial is taken back at the next reset unless confirmed).
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_nrfdfu.board.update_parts import Attempt
from pytest_nrfdfu.errors import DfuError
from pytest_nrfdfu.image.build import APP

__all__ = ["broken_off", "left_behind"]

_SHOWN = 120
"""Characters of the error that broke it off."""
_AFTER = {"mark": "swap"}
"""Which part of an update comes next, where one had ended and what followed has no name in the timeline."""
_ENDED = frozenset({"confirm"})
"""Parts in which the image has been proved running already."""

_UNMARKED = "it is not marked, and the next reset starts {before}"
_BY_APPLICATION: Mapping[str, str] = {
    "upload": f"an upload of {{what}} to slot 1 was broken off: {_UNMARKED}",
    "verify": f"slot 1 was sent all of {{what}}: {_UNMARKED}",
    "mark": "slot 1 holds {what}, and whether it is marked was not seen: if so, the next reset swaps it in, {later}",
    "transfer": "what came of {what} in slot 1 was not seen: if it is pending, the next reset swaps it in, {later}",
    "pending": "{what} in slot 1 was not seen pending: if it is, the next reset swaps it in, {later}",
    "swap": "{what} was marked and a reset asked for: MCUboot may be swapping still, and then {what} runs, {later}",
    "boot": "{what} was swapped in and not seen running, {soon}",
    "confirm": "{what} runs, {soon}",
}
"""What is left by the phase that was broken off, through the application's server or staged by itself."""
_PENDING = "{what} was seen pending: the next reset swaps it in, {later}"
_IN_RECOVERY: Mapping[str, str] = {
    "upload": "slot 0 holds a part of {what}, which does not boot; serial recovery runs",
    "verify": "slot 0 was sent all of {what}, which was not looked at; serial recovery runs",
    "boot": "slot 0 holds {what}, proved by recovery's image list, and it was not seen running",
}


_OF_NETWORK_CORE = "the network core may hold a part of {what}; slot 0 was not written by this step"
_WRITES = frozenset({"upload", "verify", "mark"})
"""Parts that there are for each image, and only where it is needed."""


def broken_off(attempt: Attempt, error: BaseException) -> None:
    """Note in the attempt that `error`, which is none of an update's own, ended it, and on the unit what is left."""
    phase = _phase(attempt)
    left = left_behind(attempt, phase, _image(attempt))
    text = next(iter(str(error).splitlines()), "")[:_SHOWN]
    by = type(error).__name__ + (f": {text}" if text else "")
    attempt.reason = f"broken off in the {phase}"
    if phase not in _ENDED:
        looked_at = attempt.parts[-1].looked_at
        attempt.running = attempt.running or ("" if looked_at else "not seen")
        attempt.failed(DfuError(attempt.reason))
    attempt.parts[-1].notes.append(f"{attempt.reason} by {by}" + (f"; {left}" if left else ""))
    if left:
        attempt.unit.forget(left)


def _phase(attempt: Attempt) -> str:
    """In which part of the update it was, without the image's name."""
    last = _last(attempt).partition(" ")[0]
    return last if attempt.timeline.broken else _AFTER.get(last, last)


def _image(attempt: Attempt) -> str:
    """Which image that part was about: it has the name behind its own, unless that is the application's."""
    return _last(attempt).partition(" ")[2] or APP


def _last(attempt: Attempt) -> str:
    timeline = attempt.timeline
    return timeline.broken or (timeline.phases[-1].name if timeline.phases else "beginning")


def left_behind(attempt: Attempt, phase: str, image: str = APP) -> str:
    """What an update leaves on the board that ends in `phase` of an image; empty if that has changed nothing."""
    part = next((part for part in attempt.parts if part.step.name == image), attempt.parts[-1])
    if phase in _WRITES and not part.needed:
        return ""
    text = (_IN_RECOVERY if attempt.via == "recovery" else _BY_APPLICATION).get(phase, "")
    network_core = phase in _WRITES and part.step.network_core
    if network_core and attempt.via == "recovery":
        text = _OF_NETWORK_CORE
    if attempt.pending and phase in {"transfer", "pending"}:
        text = _PENDING
    before = attempt.before or "the image before"
    goal = " for the network core" if network_core and attempt.via != "recovery" else ""
    return text.format(
        what=f"version {part.step.image.version}{goal}",
        before=before,
        soon=_fate(attempt, f"the next reset brings {before} back"),
        later=_fate(attempt, f"the reset after that brings {before} back"),
    )


def _fate(attempt: Attempt, back: str) -> str:
    """What becomes of an image that MCUboot has swapped in."""
    if attempt.swap == "overwrite":
        return "for good: this bootloader keeps no old image"
    if attempt.permanent:
        return "for good: it was marked permanent"
    return f"on trial: unless it is confirmed, {back}"
