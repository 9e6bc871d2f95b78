"""Updates that the application stages itself, by a transport of its own: proved pending, started, seen running.

Nothing is assumed about the transport: the test drives it inside ``with dfu.staged(build) as update:``. What the board
offers is taken as proof that the image is pending, the strongest first: the application's image list; a pattern on the
console, if the test gives one; serial recovery's image list, which shows what is in slot 1, but not whether it is
pending. That it runs is proved by the application's list; without one the console gives evidence, which is named.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto

from pytest_nrfdfu.board.aftermath import behind, note_active, note_now, with_way_back
from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import Staging, check_confirm, shown, staging_of, swap_seconds
from pytest_nrfdfu.board.console_evidence import CONSOLE, Judged, heard, judge
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import DfuReport
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.running_application import (
    ask,
    await_application,
    await_banner,
    await_own_reset,
    confirm_running,
    reset_and_wait,
    with_story,
)
from pytest_nrfdfu.board.session import HASH_SHOWN, PROVED, Proof
from pytest_nrfdfu.board.update_parts import Attempt, Part
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone, SmpError, SmpTimeout, UartError, UpdateRefused
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

__all__ = ["StagedUpdate"]

_POLL = 0.5
"""Seconds between looks at slot 1 while the transfer goes on."""
_LIST = "the application's image list"
_RECOVERY = "recovery's image list"
_NO_SERVER = "no SMP server"
_NO_LIST = "the application lists no images"


class _Seen(Enum):
    """How the image was seen staged: it decides what resets the board, and what that shows."""

    NOT_YET = auto()
    PENDING = auto()
    IN_SLOT_1 = auto()
    """In recovery, whose list does not show whether it is pending."""
    SWAPPED = auto()
    """In recovery, in slot 0: MCUboot swapped before it entered recovery."""
    RUNNING = auto()
    """The application had reset itself."""


class StagedUpdate:
    """An update that the application receives and stages itself, as the test inside the block sees it."""

    def __init__(
        self,
        attempt: Attempt,
        step: Step,
        *,
        timeout: float,
        confirm: bool,
        pending: str | None,
        reset: bool,
        say: Callable[[str], None],
    ) -> None:
        self.report: DfuReport | None = None
        """After the block: the report of the update."""
        self.pending = ""
        """How the image was seen pending, in words; empty until then."""
        self._seen = _Seen.NOT_YET
        self._attempt = attempt
        self._unit = attempt.unit
        self._step = step
        self._confirm = confirm
        self._pattern = re.compile(pending) if pending is not None else None
        self._reset = reset
        self._say = say
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._console = self._unit.console_uart.console
        self._position = self._console.position
        """Where on the console the boot of the staged image cannot have begun before."""
        self._has_smp = False
        self._swap: Swap = self._unit.profile.swap
        self._old: ImageState | None = None
        self._part: Part = attempt.begin(step, needed=True)

    @property
    def _image(self) -> Image:
        return self._step.image

    @property
    def _most(self) -> str:
        """Seconds of the wait, for people."""
        return f"{round(self._timeout, 1):g}"

    @property
    def _what(self) -> str:
        return f"{self._unit.name}: {self._image.source} (hash {self._image.hash.hex()})"

    # --- before -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Look at the board before the test's transfer begins; UpdateRefused where that could prove nothing."""
        notes = self._part.notes
        notes.append("staged by the application itself: no byte of it was sent from here")
        states, why = self._asked()
        self._attempt.swap = self._swap
        check_confirm(self._swap, confirm=self._confirm)
        if states is None:
            self._check_reset(why)
            notes.append(f"{why}: what slot 1 held before was not seen")
            return
        self._has_smp = True
        self._old = states.active
        if self._old is not None and self._old.hash == self._image.hash:
            raise UpdateRefused(
                f"{self._unit.name} runs {shown(self._old)} already, which is the image to be staged: afterwards"
                " nothing could tell an update from none. Put another image on the board first"
            )
        if self._old is not None and not self._old.confirmed and self._swap != "overwrite":
            notes.append("the image that ran before was on trial itself: staging takes its way back")
        self._note_slot_1(states)

    def _asked(self) -> tuple[ImageStates | None, str]:
        """The application's list, or why there is none. UpdateRefused where it could not lead to an update either."""
        if self._unit.config.boot.smp is False:  # the configuration's word: nobody is asked
            return None, _NO_SERVER
        try:
            running = ask(self._unit)
        except UpdateRefused as error:
            if isinstance(error.__cause__, SmpTimeout):
                return None, _NO_SERVER
            if error.__cause__ is not None:  # what it answered
                return None, "an SMP server without the image group"
            raise
        self._swap = running.swap
        return running.states, ""

    def _check_reset(self, why: str) -> None:
        """Without a list the reset out of recovery is the one that starts the image, unless the console tells."""
        if not self._reset and self._pattern is None:
            raise UpdateRefused(
                f"{self._unit.name}: reset=False leaves the reset to the application, and it has {why}: that the image"
                " is staged only serial recovery could show, and entering that resets the board in the midst of the"
                " application's own work. Nothing was sent. Give pending= a pattern that the console shows when it is"
                " staged, or leave reset=True"
            )

    def _note_slot_1(self, states: ImageStates) -> None:
        """What an earlier test may have left there."""
        before, found = staging_of(states, 0, self._image.hash), states.find(image=0, slot=1)
        if before is not Staging.ABSENT:
            self._part.notes.append(
                f"before the transfer this very image was {before.value} already: that the transfer brought it is not"
                " proved, only that it was there afterwards"
            )
        elif found is not None and found.pending:
            self._part.notes.append(
                f"before the transfer slot 1 held {shown(found)}, which something earlier marked for the next boot"
            )

    # --- pending ----------------------------------------------------------------------------------------------------

    def wait_pending(self, timeout: float | None = None) -> str:
        """Wait until the image is seen pending; how. HashMismatch after `timeout` seconds, else those of the block.

        Without an image list of the application, and without a pattern for its console, nothing is waited for: the
        board is reset into serial recovery, at once, which lists what is in slot 1.
        """
        if self.pending:
            return self.pending
        if timeout is not None:
            self._deadline, self._timeout = time.monotonic() + timeout, timeout
        if self._has_smp:
            self.pending = self._by_list()
        elif self._pattern is not None:
            self.pending = self._by_console(self._pattern)
        else:
            self.pending = self._by_recovery()
        told = {
            _Seen.PENDING: f"seen pending by {self.pending}",
            _Seen.IN_SLOT_1: f"seen in slot 1 by {_RECOVERY}, which does not show pending",
            _Seen.SWAPPED: f"seen by {self.pending}",
            _Seen.RUNNING: f"seen by {self.pending}",
        }[self._seen]
        self._part.notes.append(told)
        self._say(f"{self._image.version} ({self._image.hash.hex()[:HASH_SHOWN]}) {told}")
        return self.pending

    def _by_list(self) -> str:
        staging, last = Staging.ABSENT, "no answer yet"
        while True:
            position = self._console.position
            try:
                states = self._unit.client.images(
                    tries=1, timeout=max(_POLL, min(2.0, self._deadline - time.monotonic()))
                )
            except (SmpError, UartError) as error:  # it may be busy, or have reset itself
                self._find_port(error)
                last = str(error)
            else:
                staging = staging_of(states, 0, self._image.hash)
                active = states.active
                if staging is Staging.PENDING:
                    self._seen, self._position = _Seen.PENDING, position
                    return _LIST
                if active is not None and active.hash == self._image.hash:
                    self._seen = _Seen.RUNNING
                    return f"{_LIST}: it runs already"
                last = f"{staging.value}; slot 1 holds {shown(states.find(slot=1))}"
            if time.monotonic() >= self._deadline:
                raise self._not_pending(f"within {self._most} s: {last}", staging)
            time.sleep(_POLL)

    def _find_port(self, error: Exception) -> None:
        """The target's own USB goes when the application resets itself; any other port that fails is an error."""
        if isinstance(error, UartError):
            if not self._unit.uart.transient:
                raise error
            with suppress(PortGone):  # told at the deadline
                self._unit.reopen_ports(self._deadline)

    def _not_pending(self, told: str, staging: Staging = Staging.ABSENT) -> HashMismatch:
        self._attempt.reason = "not seen pending"
        if self._has_smp:
            note_now(self._unit)
        look = (
            "Look at whether the application schedules it (dfu_target_schedule_update, boot_request_upgrade)"
            if staging is Staging.PRESENT
            else "Look at whether the transfer ended, and into which slot"
        )
        return HashMismatch(f"{self._what} was not seen pending {told}. {look}")

    def _by_console(self, pattern: re.Pattern[str]) -> str:
        left = max(0.0, self._deadline - time.monotonic())
        found = self._console.wait_for(pattern, self._position, left)
        if found is None:
            raise self._not_pending(f"within {self._most} s: the console did not show {pattern.pattern!r}")
        self._seen, self._position = _Seen.PENDING, found.end
        return f"the console pattern {pattern.pattern!r}: the weakest proof, the board's own words"

    def _by_recovery(self) -> str:
        """Enter recovery: before MCUboot swaps, where the entry comes first, it lists the image in slot 1."""
        states = enter(self._unit).images
        first = states.find(slot=0)
        if staging_of(states, 0, self._image.hash) is not Staging.ABSENT:
            self._old, self._seen = first, _Seen.IN_SLOT_1
            return f"{_RECOVERY}: in slot 1, pending not visible"
        if first is not None and first.hash == self._image.hash:
            self._seen = _Seen.SWAPPED
            return f"{_RECOVERY}: in slot 0 already, swapped on the way into recovery"
        with suppress(Exception):
            self._unit.client.reset()  # the application is to run again, whatever becomes of the test
        raise self._not_pending(f"by {_RECOVERY}: {_both(states)}")

    # --- running ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the block: pending, started, running, confirmed."""
        timeline = self._attempt.timeline
        with timeline.phase("pending", time.monotonic):
            self.wait_pending()
        self._part.looked_at = True
        with timeline.phase("swap", time.monotonic):
            try:
                self._attempt.running = self._start()
            except HashMismatch:  # whoever waits for the application cannot know how it came there
                self._attempt.running = PROVED
            except NotBooted as error:
                told = with_way_back(
                    error, self._unit, self._position, self._image, old=self._old, swap=self._swap, asks=self._may_ask
                )
                raise told from error.__cause__
        with timeline.phase("boot", time.monotonic):
            if self._attempt.running == PROVED:
                self._look()
            else:
                self._listen()
        if self._confirm and self._attempt.running == PROVED and not self._attempt.confirmed:
            with timeline.phase("confirm", time.monotonic):
                confirm_running(self._unit)
                self._attempt.confirmed = True

    @property
    def _may_ask(self) -> bool:
        return self._has_smp or self._unit.config.boot.smp is not False

    def _start(self) -> str:
        unit, smp = self._unit, True if self._has_smp else None
        seconds = swap_seconds(self._swap, [slot_size(unit)], unit.client.link)
        most = min(seconds, 2 * unit.swap_seconds if unit.swap_seconds else seconds)
        if self._seen is _Seen.RUNNING:
            return PROVED
        if not self._reset or self._was_reset():
            extra = self._await_own_reset(seconds)
            return await_application(unit, self._position, self._image, extra=extra, smp=smp)
        self._position = self._console.position
        kind = reset_kind(unit)
        by_smp = self._has_smp or self._seen is not _Seen.PENDING or kind == "smp"
        reset = None if by_smp else lambda: restart(unit, kind)
        return reset_and_wait(unit, self._image, swaps=most, boots=2, reset=reset, smp=smp)

    def _was_reset(self) -> bool:
        """Whether a banner shows a boot since it was pending: one reset more would take the image on trial back."""
        return self._seen is _Seen.PENDING and await_banner(self._unit, self._position, 0.0)

    def _await_own_reset(self, seconds: float) -> float:
        """The application resets by itself; seconds that swaps may still take, where one takes `seconds`."""
        extra = await_own_reset(self._unit, self._position, self._deadline, seconds)
        if extra is None:
            raise NotBooted(
                f"{self._what} is pending, and the application did not reset within {self._most} s, which"
                " reset=False leaves to it: no banner came"
            )
        return extra

    def _look(self) -> None:
        """By the application's list what runs."""
        states = self._unit.client.images()
        active = states.active
        if active is None or active.hash != self._image.hash:
            note_active(self._unit, states)
            back = " again: MCUboot took the staged image back, or did not swap" if self._is_old(active) else ""
            raise self._another(f"{shown(active)} runs{back}", f"{self._by()}, and after the reset")
        self._attempt.confirmed = bool(active.confirmed)
        self._part.proof = Proof(verified=True, proof=PROVED, hash=active.hash)
        if active.confirmed:  # one on trial is not there any more after the next reset
            self._unit.remember(self._image.hash, "")
        note_active(self._unit, states)
        self._say(f"application {active.version} is running: {_LIST} shows it")

    def _listen(self) -> None:
        """Without a list: what the console tells of the boot. It proves nothing, but it may show another image."""
        judged = judge(heard(self._unit, self._position), self._image.version, self._old.version if self._old else None)
        if judged.against:
            self._unit.holds = f"not known: by the console {judged.against}"
            raise self._another(judged.against, f"{self._by()}, and the console tells of the boot after it:")
        self._take(judged)

    def _take(self, judged: Judged) -> None:
        attempt, version = self._attempt, self._image.version
        attempt.running = judged.running
        seen = "only its banner was seen" if judged.running == CONSOLE else "its version was seen, not its hash"
        if judged.running.startswith(f"{CONSOLE}: MCUboot swapped"):
            seen = "MCUboot's swap was seen, not the hash of what runs"
        self._part.proof = Proof(verified=False, proof=f"{_NO_LIST}: {seen}", hash=None)
        if judged.open:
            self._part.notes.append(judged.open)
        self._unit.holds = f"version {version} was staged; an application runs, seen by {judged.running}, hash not seen"
        self._say(f"application is running, seen by {judged.running}")

    def _by(self) -> str:
        return "was in slot 1" if self._seen is _Seen.IN_SLOT_1 else f"was staged ({self.pending})"

    def _another(self, what: str, how: str) -> NotBooted:
        """The error of another image that runs: `what` tells of it, `how` it got there."""
        self._attempt.running = "another image"
        text = behind(f"{self._what} {how} {what}", self._advice())
        return NotBooted(with_story(self._unit, self._position, text))

    def _advice(self) -> str:
        if self._seen is _Seen.SWAPPED:
            return (
                "The way into recovery let MCUboot swap, and the reset out of it let it go back before the application"
                " could confirm itself: give pending= a pattern of the console, or an entry that comes before the swap"
            )
        if self._seen is _Seen.IN_SLOT_1:
            return (
                "Look at whether the application schedules it (dfu_target_schedule_update, boot_request_upgrade), which"
                " recovery does not show, and at the key that the image is signed with"
            )
        return "Look at the console, and at the key that the image is signed with"

    def _is_old(self, active: ImageState | None) -> bool:
        return active is not None and self._old is not None and active.hash == self._old.hash


def _both(states: ImageStates) -> str:
    return f"{shown(states.find(slot=0))} in slot 0 and {shown(states.find(slot=1))} in slot 1"
