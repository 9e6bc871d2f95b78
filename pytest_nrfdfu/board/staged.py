"""Updates that the application stages itself, by a transport of its own: proved pending, started, proved running.

Nothing is assumed about the transport: the test drives it inside ``with dfu.staged(build) as update:``. What the board
offers is taken as proof that the image is pending, the strongest first: the application's image list; a pattern on the
console, if the test gives one; serial recovery's image list, which shows what is in slot 1, but not whether it is
pending.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import Staging, check_confirm, shown, staging_of, swap_seconds
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import DfuReport
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.running_application import (
    active_image,
    ask,
    await_application,
    await_banner,
    confirm_running,
    reset_and_wait,
    with_story,
)
from pytest_nrfdfu.board.session import HASH_SHOWN, PROVED, Proof
from pytest_nrfdfu.board.update_parts import Attempt, Part
from pytest_nrfdfu.errors import HashMismatch, NotBooted, SmpError, UpdateRefused
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

__all__ = ["StagedUpdate"]

_POLL = 0.5
"""Seconds between looks at slot 1 while the transfer goes on."""
_LIST = "the application's image list"
_RECOVERY = "recovery's image list: in slot 1, pending not visible"


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
        self._attempt = attempt
        self._unit = attempt.unit
        self._step = step
        self._confirm = confirm
        self._pattern = pending
        self._reset = reset
        self._say = say
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._console = self._unit.console_uart.console
        self._position = self._console.position
        self._has_smp = False
        self._swap: Swap = self._unit.profile.swap
        self._old: ImageState | None = None
        self._part: Part = attempt.begin(step, needed=True)

    @property
    def _image(self) -> Image:
        return self._step.image

    # --- before -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Look at the board before the test's transfer begins; UpdateRefused where that could prove nothing."""
        notes = self._part.notes
        notes.append("staged by the application itself: no byte of it was sent from here")
        try:
            running = ask(self._unit)
        except UpdateRefused as error:
            if "recovery" in self._who_else():
                raise
            check_confirm(self._swap, confirm=self._confirm)
            notes.append(f"what slot 1 held before was not seen: {_first_clause(error)}")
            self._attempt.swap = self._swap
            return
        self._has_smp, self._swap, self._attempt.swap = True, running.swap, running.swap
        check_confirm(self._swap, confirm=self._confirm)
        self._old = active_image(running.states)
        if self._old is not None and self._old.hash == self._image.hash:
            raise UpdateRefused(
                f"{self._unit.name} runs {shown(self._old)} already, which is the image to be staged: afterwards"
                " nothing could tell an update from none. Put another image on the board first"
            )
        if self._old is not None and not self._old.confirmed and self._swap != "overwrite":
            notes.append("the image that ran before was on trial itself: staging takes its way back")
        before = staging_of(running.states, 0, self._image.hash)
        if before is not Staging.ABSENT:
            notes.append(
                f"before the transfer this very image was {before.value} already: that the transfer brought it is not"
                " proved, only that it was there afterwards"
            )

    def _who_else(self) -> str:
        try:
            states = self._unit.client.images(tries=1, timeout=1.0)
        except SmpError:
            return ""
        return "" if states.split_status is not None or active_image(states) else "recovery"

    # --- pending ----------------------------------------------------------------------------------------------------

    def wait_pending(self, timeout: float | None = None) -> str:
        """Wait until the image is seen pending; how. HashMismatch after `timeout` (the block's), in seconds."""
        if self.pending:
            return self.pending
        deadline = self._deadline if timeout is None else time.monotonic() + timeout
        if self._has_smp:
            self.pending = self._by_list(deadline)
        elif self._pattern is not None:
            self.pending = self._by_console(self._pattern, deadline)
        else:
            self.pending = self._by_recovery()
        self._part.notes.append(f"seen pending by {self.pending}")
        self._say(f"pending: {self._image.version} ({self._image.hash.hex()[:HASH_SHOWN]}), by {self.pending}")
        return self.pending

    def _by_list(self, deadline: float) -> str:
        staging, last = Staging.ABSENT, "no answer yet"
        while True:
            try:
                states = self._unit.client.images(tries=1, timeout=max(_POLL, min(2.0, deadline - time.monotonic())))
            except SmpError as error:  # it may be busy, or have reset itself
                last = str(error)
            else:
                staging = staging_of(states, 0, self._image.hash)
                active = active_image(states)
                if staging is Staging.PENDING:
                    return _LIST
                if active is not None and active.hash == self._image.hash:
                    return f"{_LIST}: it runs already"
                last = f"{staging.value}; slot 1 holds {shown(states.find(slot=1))}"
            if time.monotonic() >= deadline:
                raise HashMismatch(self._not_pending(last, staging))
            time.sleep(_POLL)

    def _not_pending(self, last: str, staging: Staging) -> str:
        look = (
            "Look at whether the application schedules it (dfu_target_schedule_update, boot_request_upgrade)"
            if staging is Staging.PRESENT
            else "Look at whether the transfer ended, and into which slot"
        )
        return (
            f"{self._unit.name}: {self._image.source} (hash {self._image.hash.hex()}) was not seen pending within"
            f" {self._timeout:g} s: {last}. {look}"
        )

    def _by_console(self, pattern: str, deadline: float) -> str:
        left = max(0.0, deadline - time.monotonic())
        if self._console.wait_for(re.compile(pattern), self._position, left) is None:
            raise HashMismatch(self._not_pending(f"the console did not show {pattern!r}", Staging.ABSENT))
        return f"the console pattern {pattern!r}: the weakest proof, the board's own words"

    def _by_recovery(self) -> str:
        """Enter recovery: before MCUboot swaps, where the entry comes first, it lists the image in slot 1."""
        states = enter(self._unit).images
        if staging_of(states, 0, self._image.hash) is not Staging.ABSENT:
            return _RECOVERY
        first = states.find(slot=0)
        if first is not None and first.hash == self._image.hash:
            return "recovery's image list: in slot 0 already, swapped on the way into recovery"
        raise HashMismatch(self._not_pending(f"recovery lists {_both(states)}", Staging.ABSENT))

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
        with timeline.phase("boot", time.monotonic):
            self._look()
        if self._confirm and self._attempt.running == PROVED and not self._attempt.confirmed:
            with timeline.phase("confirm", time.monotonic):
                confirm_running(self._unit)
                self._attempt.confirmed = True

    def _start(self) -> str:
        unit = self._unit
        smp, image = (True, self._image) if self._has_smp else (None, None)
        seconds = swap_seconds(self._swap, [slot_size(unit)], unit.client.link)
        most = min(seconds, 2 * unit.swap_seconds if unit.swap_seconds else seconds)
        if self.pending.endswith("it runs already"):
            return PROVED
        if not self._reset:
            self._await_own_reset()
            return await_application(unit, self._position, image, extra=2 * seconds, smp=smp)
        kind = reset_kind(unit)
        in_recovery = self.pending.startswith("recovery")
        by_smp = self._has_smp or in_recovery or kind == "smp"
        reset = None if by_smp else lambda: restart(unit, kind)
        return reset_and_wait(unit, image, swaps=most, boots=2, reset=reset, smp=smp)

    def _await_own_reset(self) -> None:
        """The application resets by itself: its next banner shows that it did."""
        left = self._deadline - time.monotonic()
        if not await_banner(self._unit, self._position, max(0.0, left)):
            raise NotBooted(
                f"{self._unit.name}: {self._image.source} is pending, and the application did not reset within"
                f" {self._timeout:g} s, which reset=False leaves to it: no banner came"
            )

    def _look(self) -> None:
        """By the application's list what runs; without one only its banner was seen."""
        if self._attempt.running != PROVED:
            why = "the application lists no images: only its banner was seen"
            self._part.proof = Proof(verified=False, proof=why, hash=None)
            return
        active = active_image(self._unit.client.images())
        if active is None or active.hash != self._image.hash:
            self._attempt.running = "another image"
            back = " again: MCUboot took the staged image back, or did not swap" if self._is_old(active) else ""
            text = (
                f"{self._unit.name}: {self._image.source} was pending ({self.pending}), and after the reset"
                f" {shown(active)} runs{back}. Look at the console, and at the key that the image is signed with"
            )
            raise HashMismatch(with_story(self._unit, self._position, text))
        self._attempt.confirmed = bool(active.confirmed)
        self._part.proof = Proof(verified=True, proof=PROVED, hash=active.hash)
        text = f"version {active.version}, shown as active by the application's list after it staged it"
        self._unit.remember(self._image.hash, text)
        self._say(f"application {active.version} is running: {_LIST} shows it")

    def _is_old(self, active: ImageState | None) -> bool:
        return active is not None and self._old is not None and active.hash == self._old.hash


def _first_clause(error: Exception) -> str:
    return str(error).split(". ", maxsplit=1)[0]


def _both(states: ImageStates) -> str:
    return f"{shown(states.find(slot=0))} in slot 0 and {shown(states.find(slot=1))} in slot 1"
