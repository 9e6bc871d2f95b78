"""Updates that the application stages itself, by a transport of its own: proved pending, started, seen running.

Nothing is assumed about the transport: the test drives it inside ``with dfu.staged(build) as update:``. What the board
offers is taken as proof that the image is pending, the strongest first: the application's image list; a pattern on the
console, if the test gives one; serial recovery's image list, which shows what is in slot 1, but not whether it is
pending. What follows is `staged_boot`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress

from pytest_nrfdfu.board.aftermath import note_active, note_now
from pytest_nrfdfu.board.application_rules import Staging, check_confirm, shown, staging_of
from pytest_nrfdfu.board.arguments import check_seconds
from pytest_nrfdfu.board.boot_story import told
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import DfuReport
from pytest_nrfdfu.board.running_application import ask, with_story
from pytest_nrfdfu.board.session import HASH_SHOWN
from pytest_nrfdfu.board.silence import in_short, last_lines, unpowered
from pytest_nrfdfu.board.staged_boot import ANSWER, APPLICATION_LIST, Seen, Staged, StagedBoot
from pytest_nrfdfu.board.staged_evidence import before, brought_by, was_there
from pytest_nrfdfu.board.update_parts import Attempt, Part
from pytest_nrfdfu.errors import HashMismatch, PortGone, SmpError, SmpTimeout, UartError, UpdateRefused
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

__all__ = ["StagedUpdate"]

_POLL = 0.5
"""Seconds between looks at slot 1 while the transfer goes on."""
_SHOWN = 200
"""Characters of an error of the block that the report quotes."""
_RECOVERY = "recovery's image list"
_NO_SERVER = "no SMP server"
_IN_WINDOW = (
    "because serial recovery answers: a request met MCUboot's window after the application had reset itself. Call"
    " update.wait_pending() before that reset, or give pending="
)
_NO_SWAP = ", where it was before the transfer already: MCUboot's log tells of no swap since"


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
        """After the block: the report of the update, also if the block failed."""
        self.pending = ""
        """How the image was seen pending, in words; empty until then."""
        self._seen = Seen.NOT_YET
        self._attempt = attempt
        self._unit = attempt.unit
        self._step = step
        self._confirm = confirm
        self._pattern = re.compile(pending) if pending is not None else None
        self._reset = reset
        self._say = say
        self._deadline = 0.0
        """Until when the image must be pending, from `begin` on."""
        self._timeout = timeout
        self._console = self._unit.console_uart.console
        self._position = self._console.position
        """Where on the console the boot of the staged image cannot have begun before."""
        self._began = self._position
        """Where on the console the block began."""
        self._has_smp = False
        self._swap: Swap = self._unit.profile.swap
        self._old: ImageState | None = None
        self._before = before(self._unit)
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
        states, why = self._asked()
        self._attempt.swap = self._swap
        check_confirm(self._swap, confirm=self._confirm)
        if states is None:
            self._check_reset(why)
            self._check_proved()
            notes.append(f"{why}: what slot 1 held before was not seen")
            return
        self._has_smp = True
        self._old = states.active
        self._attempt.before = shown(self._old) if self._old is not None else ""
        if self._old is not None and self._old.hash == self._image.hash:
            raise UpdateRefused(
                f"{self._unit.name} runs {shown(self._old)} already, which is the image to be staged: afterwards"
                " nothing could tell an update from none. Put another image on the board first"
            )
        if self._old is not None and not self._old.confirmed and self._swap != "overwrite":
            notes.append("the image that ran before was on trial itself: staging takes its way back")
        self._note_slot_1(states)

    def begin(self) -> None:
        """The block begins: its time counts from here, and the boot of the image cannot have begun before."""
        self._deadline = time.monotonic() + self._timeout
        self._began = self._position = self._console.position
        self._part.notes.insert(0, "staged by the application itself: no byte of it was sent from here")

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

    def _check_proved(self) -> None:
        """No list can tell an update from none, but this run itself may know that there would be none."""
        if self._before.proved == self._image.hash:
            raise UpdateRefused(
                f"{self._unit.name} was proved in this run to hold the image to be staged already ({self._unit.holds}):"
                " afterwards nothing could tell an update from none. Nothing was sent. Put another image on the board"
                " first"
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

        `timeout`: from now on, and in place of what is left of the block's, also for the reset that follows.

        Without an image list of the application, and without a pattern for its console, nothing is waited for: the
        board is reset into serial recovery, at once, which lists what is in slot 1.
        """
        if timeout is not None:
            check_seconds("timeout", timeout, zero=True)
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
        seen = {
            Seen.PENDING: f"seen pending by {self.pending}",
            Seen.IN_SLOT_1: f"seen in slot 1 by {_RECOVERY}, which does not show pending",
            Seen.IN_SLOT_0: f"seen by {self.pending}",
            Seen.SWAPPED: f"seen by {self.pending}",
            Seen.RUNNING: f"seen by {self.pending}",
        }[self._seen]
        self._attempt.pending = True
        self._part.notes.append(seen)
        self._say(f"{self._image.version} ({self._image.hash.hex()[:HASH_SHOWN]}) {seen}")
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
                last = in_short(error)
            else:
                if from_recovery(states, has_state=self._unit.profile.image_state):
                    raise self._not_pending(_IN_WINDOW)
                staging = staging_of(states, 0, self._image.hash)
                active = states.active
                if staging is Staging.PENDING:
                    self._seen, self._position = Seen.PENDING, position
                    return APPLICATION_LIST
                if active is not None and active.hash == self._image.hash:
                    self._seen = Seen.RUNNING
                    return f"{APPLICATION_LIST}: it runs already"
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

    def _not_pending(self, how: str, staging: Staging = Staging.ABSENT, *, quotes: bool = False) -> HashMismatch:
        """`quotes`: the end of the console is told, where nothing of it says more."""
        self._attempt.reason = "not seen pending"
        if self._has_smp:
            note_now(self._unit)
        look = (
            "Look at whether the application schedules it (dfu_target_schedule_update, boot_request_upgrade)"
            if staging is Staging.PRESENT
            else "Look at whether the transfer ended, and into which slot"
        )
        text = with_story(self._unit, self._began, f"{self._what} was not seen pending {how}. {look}")
        quoted = quotes and "\n" not in text
        return HashMismatch(f"{text}.\n{last_lines(self._unit, self._began)}" if quoted else text)

    def _by_console(self, pattern: re.Pattern[str]) -> str:
        left = max(0.0, self._deadline - time.monotonic())
        found = self._console.wait_for(pattern, self._position, left)
        if found is None:
            what = f"the console did not show {pattern.pattern!r}"
            error = self._not_pending(f"within {self._most} s: {what}", quotes=True)
            raise unpowered(self._unit, f"{self._what}: {what} within {self._most} s") or error
        self._seen, self._position = Seen.PENDING, found.end
        return f"the console pattern {pattern.pattern!r}: the weakest proof, the board's own words"

    def _by_recovery(self) -> str:
        """Enter recovery: before MCUboot swaps, where the entry comes first, it lists the image in slot 1."""
        states = enter(self._unit).images
        first = states.find(slot=0)
        if staging_of(states, 0, self._image.hash) is not Staging.ABSENT:
            self._old, self._seen = first, Seen.IN_SLOT_1
            return f"{_RECOVERY}: in slot 1, pending not visible"
        if first is not None and first.hash == self._image.hash:
            if why := brought_by(self._unit, self._began, self._before, self._image):
                self._seen = Seen.SWAPPED
                return f"{_RECOVERY}: in slot 0 already, swapped in before recovery: {why}"
            if not was_there(self._unit, self._began):
                self._seen = Seen.IN_SLOT_0
                return f"{_RECOVERY}: in slot 0, and that it was not there before the transfer nothing shows"
        with suppress(Exception):
            self._unit.client.reset()  # the application is to run again, whatever becomes of the test
        log = _NO_SWAP if first is not None and first.hash == self._image.hash else ""
        raise self._not_pending(f"by {_RECOVERY}: {_both(states)}{log}")

    # --- after the block ----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the block: pending, started, running, confirmed."""
        with self._attempt.timeline.phase("pending", time.monotonic):
            self.wait_pending()
        self._part.looked_at = True
        staged = Staged(
            self._seen, self.pending, self._position, self._old, self._swap, self._has_smp, self._before, self._began
        )
        boot = StagedBoot(
            self._attempt, self._part, staged, deadline=self._deadline, timeout=self._timeout, say=self._say
        )
        boot.run(reset=self._reset, confirm=self._confirm)

    def broken_off(self, error: BaseException) -> None:
        """The block has raised `error`: say so in the report, and what the board shows now, if that is soon told."""
        attempt = self._attempt
        if attempt.reason:  # by `wait_pending`, which has told
            return
        attempt.reason = "the test failed in the block" if self.pending else "the transfer in the block failed"
        first = next(iter(str(error).splitlines()), "")
        what = type(error).__name__ + (f": {first[:_SHOWN]}" if first else "")
        said = told(self._unit, self._began)
        self._part.notes.append(
            f"the block ended with {what}; {self._shown_now()}" + (f". By the console {said}" if said else "")
        )

    def _shown_now(self) -> str:
        """What the application lists; asked for once, and whatever is wrong with that is no error."""
        if not self._has_smp:
            return "what the board holds now was not asked for: its application lists no images"
        try:
            states = self._unit.client.images(tries=1, timeout=ANSWER)
        except Exception as error:  # noqa: BLE001 - the block's own error is on its way, and nothing may take its place
            return f"what the board holds then was not told: {in_short(error)}"
        if from_recovery(states, has_state=self._unit.profile.image_state):
            return f"then the board was in serial recovery: {_both(states)}"
        note_active(self._unit, states)
        return (
            f"then {APPLICATION_LIST} showed {_both(states)}, the image {staging_of(states, 0, self._image.hash).value}"
        )


def _both(states: ImageStates) -> str:
    return f"{shown(states.find(slot=0))} in slot 0 and {shown(states.find(slot=1))} in slot 1"
