"""What follows once the application has staged an image: reset, swap, the image seen running, and confirmed.

That it runs is proved by the application's list; without one the console gives evidence, which is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from pytest_nrfdfu.board.aftermath import behind, note_active, with_way_back
from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import Ran, shown, swap_seconds, which_runs
from pytest_nrfdfu.board.console_evidence import CONSOLE, Judged, heard, judge
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.running_application import (
    await_application,
    await_banner,
    confirm_running,
    reset_and_wait,
    with_story,
)
from pytest_nrfdfu.board.session import PROVED, Proof
from pytest_nrfdfu.board.staged_evidence import Before, brought_by, shows_change, version_before
from pytest_nrfdfu.board.swap_wait import MARGIN, may_wait_for_dfu
from pytest_nrfdfu.board.update_parts import Attempt, Part
from pytest_nrfdfu.errors import HashMismatch, NotBooted, SmpError, UartError
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["ANSWER", "APPLICATION_LIST", "Seen", "Staged", "StagedBoot"]

APPLICATION_LIST = "the application's image list"
_NO_LIST = "the application lists no images"
_LOOK = 2.0
"""Seconds between looks at the image list while the application is to reset itself, and no banner has come."""
ANSWER = 1.0
"""Seconds for an application that runs to answer; it takes some 10 ms."""


class Seen(Enum):
    """How the image was seen staged: it decides what resets the board, and what that shows."""

    NOT_YET = auto()
    PENDING = auto()
    IN_SLOT_1 = auto()
    """In recovery, whose list does not show whether it is pending."""
    IN_SLOT_0 = auto()
    """In recovery, in slot 0: whether MCUboot swapped it in, or it was there before the transfer, nothing shows."""
    SWAPPED = auto()
    """In recovery, in slot 0: MCUboot swapped before it entered recovery."""
    RUNNING = auto()
    """The application had reset itself."""


class Staged(NamedTuple):
    """What is known of the board when the image was seen staged."""

    seen: Seen
    by: str
    """How it was seen, in words."""
    position: int
    """Where on the console the boot of the staged image cannot have begun before."""
    old: ImageState | None
    """What ran before; None: not known."""
    swap: Swap
    has_smp: bool
    """Whether the application lists its images."""
    before: Before
    began: int
    """Where on the console the block began."""


class StagedBoot:
    """The boot of one staged image."""

    def __init__(
        self,
        attempt: Attempt,
        part: Part,
        staged: Staged,
        *,
        deadline: float,
        timeout: float,
        say: Callable[[str], None],
    ) -> None:
        """`deadline`: until when an application that resets itself must have begun to, monotonic seconds.

        `timeout`: how long that wait was to be, for people.
        """
        self._attempt = attempt
        self._part = part
        self._staged = staged
        self._unit = attempt.unit
        self._position = staged.position
        self._deadline = deadline
        self._timeout = timeout
        self._say = say

    @property
    def _image(self) -> Image:
        return self._part.step.image

    @property
    def _what(self) -> str:
        return f"{self._unit.name}: {self._image.source} (hash {self._image.hash.hex()})"

    def run(self, *, reset: bool, confirm: bool) -> None:
        """All of it. `reset`: whether the board is reset from here, and not by the application."""
        timeline = self._attempt.timeline
        with timeline.phase("swap", time.monotonic):
            try:
                self._attempt.running = self._start(reset=reset)
            except HashMismatch:  # whoever waits for the application cannot know how it came there
                self._attempt.running = PROVED
            except NotBooted as error:
                raise self._with_way_back(error) from error.__cause__
        with timeline.phase("boot", time.monotonic):
            if self._attempt.running == PROVED:
                self._look()
            else:
                self._listen()
        if confirm and self._attempt.running == PROVED and not self._attempt.confirmed:
            with timeline.phase("confirm", time.monotonic):
                confirm_running(self._unit)
                self._attempt.confirmed = True

    def _with_way_back(self, error: NotBooted) -> NotBooted:
        staged, asks = self._staged, self._staged.has_smp or self._unit.config.boot.smp is not False
        return with_way_back(
            error, self._unit, self._position, self._image, old=staged.old, swap=staged.swap, asks=asks
        )

    # --- the reset --------------------------------------------------------------------------------------------------

    def _start(self, *, reset: bool) -> str:
        unit, seen = self._unit, self._staged.seen
        smp = True if self._staged.has_smp else None
        seconds = swap_seconds(self._staged.swap, [slot_size(unit)], unit.client.link)
        most = min(seconds, 2 * unit.swap_seconds if unit.swap_seconds else seconds)
        if seen is Seen.RUNNING:
            return PROVED
        if not reset or self._was_reset():
            extra = self._await_own_reset(seconds, most)
            if extra is None:
                self._part.notes.append(f"no boot banner came: that it has reset itself was seen by {APPLICATION_LIST}")
                return PROVED
            return await_application(unit, self._position, self._image, extra=extra, smp=smp)
        self._position = unit.console_uart.console.position
        kind = reset_kind(unit)
        by_smp = self._staged.has_smp or seen is not Seen.PENDING or kind == "smp"
        again = None if by_smp else lambda: restart(unit, kind)
        return reset_and_wait(unit, self._image, swaps=most, boots=2, reset=again, smp=smp)

    def _was_reset(self) -> bool:
        """Whether a banner shows a boot since it was pending: one reset more would take the image on trial back."""
        return self._staged.seen is Seen.PENDING and await_banner(self._unit, self._position, 0.0)

    def _await_own_reset(self, seconds: float, most: float) -> float | None:
        """The application resets by itself: seconds that swaps may still take; None if the image runs by its list.

        `seconds`: that a swap should take, `most`: by the last one on this unit. The banner shows the reset, after the
        swap; or a port that goes at every reset; or the list of an application that prints no banner. It is not asked
        for before the time is over where the bootloader waits for an update, and would take a request for one.
        """
        unit, console = self._unit, self._unit.console_uart
        if await_banner(unit, self._position, 0.0):
            return seconds  # it is over, and a way back takes as long at most
        began, swapped = time.monotonic(), self._deadline + most * MARGIN
        looks = self._staged.has_smp and not may_wait_for_dfu(unit)
        while True:
            now = time.monotonic()
            until = min(now + _LOOK, max(self._deadline, now)) if looks else swapped
            if await_banner(unit, self._position, max(0.0, until - now)):
                return min(time.monotonic() - began, seconds)
            if console.transient and not console.is_open:
                return 2 * seconds
            ran = self._ran() if self._staged.has_smp else None
            if ran is not None and ran.which == "new":
                return None
            if time.monotonic() < self._deadline:
                time.sleep(max(0.0, until - time.monotonic()))  # a console that was lost is not waited for
                continue
            if ran is not None and ran.which == "none":  # it is down, mute: MCUboot swaps, or the new image comes up
                return 2 * seconds
            raise NotBooted(self._not_reset(ran))

    def _not_reset(self, ran: Ran | None) -> str:
        listed = f", and {APPLICATION_LIST} shows {shown(ran.state)} running still" if ran is not None else ""
        text = (
            f"{self._what} is pending, and the application did not reset within {round(self._timeout, 1):g} s, which"
            f" reset=False leaves to it: no banner came{listed}"
        )
        return with_story(self._unit, self._position, text)

    def _ran(self) -> Ran:
        """Which image the application's list shows as active; ``none`` if no application answers."""
        unit, old = self._unit, self._staged.old
        try:
            states = unit.client.images(tries=1, timeout=ANSWER)
        except SmpError:
            return Ran("none", None)
        except UartError:
            if not unit.uart.transient:
                raise
            return Ran("none", None)
        if from_recovery(states, has_state=unit.profile.image_state):
            return Ran("none", None)
        return which_runs(states, self._image.hash, old.hash if old is not None else None)

    # --- what runs --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """By the application's list."""
        states = self._unit.client.images()
        if from_recovery(states, has_state=self._unit.profile.image_state):
            error = self._another("serial recovery answers, and no application", f"{self._by()}, and after the reset")
            self._attempt.running = "serial recovery"
            raise error
        active = states.active
        if active is None or active.hash != self._image.hash:
            note_active(self._unit, states)
            back = " again: MCUboot took the staged image back, or did not swap" if self._is_old(active) else ""
            raise self._another(f"{shown(active)} runs{back}", f"{self._by()}, and after the reset")
        self._attempt.confirmed = bool(active.confirmed)
        self._part.proof = Proof(verified=True, proof=PROVED, hash=active.hash)
        self._attempt.swapped = self._staged.has_smp or self._is_brought()
        if active.confirmed:  # one on trial is not there any more after the next reset
            self._unit.remember(self._image.hash, "")
        note_active(self._unit, states)
        self._say(f"application {active.version} is running: {APPLICATION_LIST} shows it")

    def _listen(self) -> None:
        """Without a list: what the console tells of the boot. It proves nothing, but it may show another image."""
        old = self._staged.old
        told = heard(self._unit, self._position)
        judged = judge(told, self._image.version, old.version if old else self._version_before())
        if judged.against:
            self._unit.holds = f"not known: by the console {judged.against}"
            raise self._another(judged.against, f"{self._by()}, and the console tells of the boot after it:")
        other = old is not None and judged.running != CONSOLE  # so their versions differ, or MCUboot told of the swap
        changed = other or shows_change(judged, self._staged.before, told)
        self._attempt.swapped = True if changed else self._is_brought()
        self._take(judged)

    def _version_before(self) -> str | None:
        """By the console; of no use where there may have been a swap before this boot."""
        if self._staged.seen in {Seen.SWAPPED, Seen.IN_SLOT_0}:
            return None
        return version_before(self._staged.before, self._image)

    def _is_brought(self) -> bool | None:
        """Whether this update is known to have changed what slot 0 holds, which holds the image; None: nothing tells.

        That it is in slot 0 now must be known: by a list, here or in recovery.
        """
        listed = self._attempt.running == PROVED or self._staged.seen in {Seen.SWAPPED, Seen.IN_SLOT_0}
        staged = self._staged
        return bool(listed and brought_by(self._unit, staged.began, staged.before, self._image)) or None

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
        if self._staged.seen is Seen.IN_SLOT_0:
            return "was in slot 0"
        return "was in slot 1" if self._staged.seen is Seen.IN_SLOT_1 else f"was staged ({self._staged.by})"

    def _another(self, what: str, how: str) -> NotBooted:
        """The error of another image that runs: `what` tells of it, `how` it got there."""
        self._attempt.running = "another image"
        text = behind(f"{self._what} {how} {what}", self._advice())
        return NotBooted(with_story(self._unit, self._position, text))

    def _advice(self) -> str:
        if self._staged.seen in {Seen.SWAPPED, Seen.IN_SLOT_0}:
            maybe = "T" if self._staged.seen is Seen.SWAPPED else "Perhaps t"
            return (
                f"{maybe}he way into recovery let MCUboot swap, and the reset out of it let it go back before the"
                " application could confirm itself: give pending= a pattern of the console, or an entry that comes"
                " before the swap"
            )
        if self._staged.seen is Seen.IN_SLOT_1:
            return (
                "Look at whether the application schedules it (dfu_target_schedule_update, boot_request_upgrade), which"
                " recovery does not show, and at the key that the image is signed with"
            )
        return "Look at the console, and at the key that the image is signed with"

    def _is_old(self, active: ImageState | None) -> bool:
        return active is not None and self._staged.old is not None and active.hash == self._staged.old.hash
