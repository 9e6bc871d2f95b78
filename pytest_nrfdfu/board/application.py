"""Updates through a running application's SMP server: upload to slot 1, mark, reset, see the image run, confirm.

Nothing is believed that was not read back: the hash in slot 1 before the image is marked, the pending flag before the
reset, the active hash after it, the confirmed flag at the end. What forbids an update is found before the first byte.

Source: Zephyr, doc/services/device_mgmt/smp_groups/smp_group_1.rst and subsys/mgmt/mcumgr/grp/img_mgmt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from pytest_nrfdfu.board.aftermath import note_active, with_way_back
from pytest_nrfdfu.board.application_limits import application_limits, application_policy, slot_size
from pytest_nrfdfu.board.application_rules import (
    Confirm,
    SlotOne,
    Staging,
    check_confirm,
    check_running,
    image_index,
    left_pending,
    shown,
    slot_one,
    staging_of,
    swap_seconds,
    which_runs,
)
from pytest_nrfdfu.board.client import Progress
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.running_application import Running, ask, confirm_running, reset_and_wait, with_story
from pytest_nrfdfu.board.session import HASH_SHOWN, PROVED, UNSEEN, Proof
from pytest_nrfdfu.board.silence import in_short
from pytest_nrfdfu.board.unit import Unfinished
from pytest_nrfdfu.board.update_parts import Attempt, Part
from pytest_nrfdfu.errors import (
    HashMismatch,
    NotBooted,
    SmpRejected,
    SmpTimeout,
    UpdateRefused,
)
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.build import APP
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import (
    ImageState,
    ImageStateWrite,
)
from pytest_nrfdfu.smp.upload import Upload

__all__ = ["ApplicationUpdate"]

Say = Callable[[str], None]
_ANSWER = 2.0
"""Seconds for one answer of an application that runs; it takes some 10 ms."""
_ERASE = 1.5
"""How many times the datasheet's time an erase may take."""


class ApplicationUpdate:
    """One update through the application: its steps, in order."""

    def __init__(self, attempt: Attempt, steps: Sequence[Step], *, say: Say, progress: Progress | None = None) -> None:
        self.attempt = attempt
        self.unit = attempt.unit
        self.steps = steps
        self.running: Running | None = None
        self.old: ImageState | None = None
        """What ran before."""
        self._permanent = False
        """Whether images are marked for good, and not for a test."""
        self._say = say
        self._progress = progress
        self._position = self.unit.console_uart.console.position
        """Where on the console the reset was."""

    def run(self, *, confirm: Confirm, only_if_needed: bool) -> None:
        """All of it. `confirm`: ``permanent`` marks the image for good before it has run."""
        with self.attempt.timeline.phase("check", time.monotonic):
            self.check(confirm=confirm)
        if self._take_as_it_is(only_if_needed=only_if_needed):
            self._keep(confirm=confirm)
            return
        self._permanent = self.attempt.permanent = confirm == "permanent"
        self.stage()
        self.start()
        self._keep(confirm=confirm)

    def check(self, *, confirm: Confirm) -> Running:
        """Everything that forbids the update; nothing was sent yet."""
        running = self.running = ask(self.unit)
        self.attempt.swap = running.swap
        check_confirm(running.swap, confirm=bool(confirm))
        self.old = check_running(running.states, running.swap)
        self.attempt.before = shown(self.old)
        for step in self.steps:
            if image_index(step) and self.unit.profile.images == 1:
                raise UpdateRefused(
                    f"{step.image.source} is for the network core, and bootloader {self.unit.profile.name} updates one"
                    " image: it has no slot of its own that the application could write. Nothing was sent. Give"
                    " images = 2 in [bootloader] if it has, or use via='recovery'"
                )
        self._say(
            f"the application answers: {shown(self.old)} runs, slot 1 holds {shown(running.states.find(slot=1))};"
            f" MCUboot upgrades by {running.swap} ({running.swap_by})"
        )
        return running

    def is_there(self) -> bool:
        """Whether the application's image runs already."""
        return any(step.name == APP and self.old and self.old.hash == step.image.hash for step in self.steps)

    def _take_as_it_is(self, *, only_if_needed: bool) -> bool:
        """Nothing to do where it runs already; UpdateRefused where it was to be put there all the same."""
        if not self.is_there():
            return False
        if not only_if_needed:
            raise UpdateRefused(
                f"{self.unit.name} runs {shown(self.old)} already, which is the image to update to: afterwards nothing"
                " could tell an update from none. Nothing was sent. Put another image on the board first, or use"
                " only_if_needed=True"
            )
        for step in self.steps:
            if step.network_core and step.image.hash != self.unit.network_core:
                raise UpdateRefused(
                    f"{self.unit.name} runs {shown(self.old)} already, and whether its network core has"
                    f" {step.image.source} nothing shows, since this run did not send it. Nothing was sent. Send that"
                    " image alone, as a build of its own, or use via='recovery'"
                )
        for step in self.steps:
            part = self.attempt.begin(step, needed=False)
            part.looked_at = True
            part.proof = _proved(step)
        self.attempt.running = PROVED
        self.attempt.swapped = False
        self.attempt.confirmed = bool(self.old and self.old.confirmed)
        if self.old is not None and self.old.hash is not None and self.old.confirmed:
            self.unit.remember(self.old.hash, f"{shown(self.old)}, shown as active by the application's list")
        return True

    # --- slot 1 -----------------------------------------------------------------------------------------------------

    def stage(self) -> None:
        """Upload, look at slot 1, mark: the network core first, or MCUboot would start the new application without."""
        network_core = self.unit.network_core  # a request that changes images makes the unit forget all
        for step in self.steps:
            self._upload(step)
        for step in self.steps:
            suffix = "" if step.name == APP else f" {step.name}"
            with self.attempt.timeline.phase(f"mark{suffix}", time.monotonic):
                self._mark(step)
        self.unit.network_core = None if any(step.network_core for step in self.steps) else network_core

    def _upload(self, step: Step) -> None:
        running = self._running
        part = self.attempt.begin(step, needed=True)
        suffix, image = "" if step.name == APP else f" {step.name}", step.image
        before = slot_one(running.states, step)
        with self.attempt.timeline.phase(f"upload{suffix}", time.monotonic):
            if before is SlotOne.FREE or self._clear(step, part, before):
                self._say(
                    f"uploading {step.name} {image.version} ({image.hash.hex()[:HASH_SHOWN]}) to slot 1,"
                    f" {image.size} bytes"
                )
                self._send(step, part)
        with self.attempt.timeline.phase(f"verify{suffix}", time.monotonic):
            states = self.unit.client.images()
            if staging_of(states, image_index(step), image.hash) is Staging.ABSENT:
                found = states.find(image=image_index(step), slot=1)
                raise HashMismatch(
                    f"{self.unit.name} was sent all of {image.source} (hash {image.hash.hex()}), and the application"
                    f" shows {shown(found)} in slot 1: something else writes there, or its flash fails"
                )
        self._say(f"in slot 1: the application's image list shows hash {image.hash.hex()[:HASH_SHOWN]}...")

    def _clear(self, step: Step, part: Part, before: SlotOne) -> bool:
        """Erase slot 1, and see it empty: what it holds would prove nothing, or be in the way.

        False where it holds this very image, pending, and cannot be erased: then there is nothing to upload.
        """
        unit, index = self.unit, image_index(step)
        timeout = _ANSWER + _ERASE * unit.client.link.flash_time(0, slot_size(unit))
        try:
            unit.client.erase(2 * index + 1, timeout)
        except (SmpRejected, SmpTimeout) as error:
            if before is SlotOne.OTHER_PENDING:
                raise left_pending(self._running.states.find(image=index, slot=1), in_short(error)) from error
            part.notes.append(f"before the update slot 1 {before.value}, and it was not erased: {in_short(error)}")
            return before is SlotOne.SAME
        left = unit.client.images().find(image=index, slot=1)
        if left is not None:
            raise HashMismatch(
                f"{unit.name}: the application acknowledged to have erased slot 1, and its list shows {shown(left)}"
                " there still: what it shows later would prove nothing"
            )
        part.notes.append(f"before the update slot 1 {before.value}: it was erased first")
        return True

    def _send(self, step: Step, part: Part) -> None:
        unit, image = self.unit, step.image
        params = self._running.params

        def began(upload: Upload) -> None:
            unit.unfinished = Unfinished(image.hash, upload, unit.session)
            part.upload = upload  # from its first request on: it may be broken off

        part.upload = unit.client.upload(
            image.data,
            limits=application_limits(unit, params),
            policy=application_policy(unit, params),
            image=image_index(step) or None,
            sha=sha256(image.data).digest(),
            progress=self._progress,
            began=began,
        )
        unit.unfinished = None
        if params is None:
            part.notes.append("the application tells no parameters: one chunk at a time")

    def _mark(self, step: Step) -> None:
        """For a test, MCUboot takes the image back at the next reset but one, unless it is confirmed; or for good."""
        unit, image = self.unit, step.image
        what = "for good" if self._permanent else "for a test"
        try:
            unit.client.request(ImageStateWrite(hash=image.hash, confirm=self._permanent))
        except SmpRejected as error:
            raise UpdateRefused(
                f"{unit.name} has {image.source} in slot 1, and the application does not mark it {what}: {error}"
                f"{self._marked_before(step)}",
                by_board=True,
            ) from error
        states = unit.client.images()
        found, state = staging_of(states, image_index(step), image.hash), states.find(image=image_index(step), slot=1)
        permanent = bool(state and state.permanent)
        if found is not Staging.PENDING or permanent < self._permanent:
            shows = found.value + (", and not permanent" if found is Staging.PENDING else "")
            raise UpdateRefused(
                f"{unit.name}: the application acknowledged the mark of {image.source} {what}, and its image list"
                f" shows it {shows}{self._marked_before(step)}",
                by_board=True,
            )

    def _marked_before(self, step: Step) -> str:
        """What the next reset will put in all the same, for a message; empty if nothing."""
        marked = [one.name for one in self.steps[: self.steps.index(step)]]
        return f". Marked already, and put in by the next reset: the image {', '.join(marked)}" if marked else ""

    @property
    def _running(self) -> Running:
        if self.running is None:
            raise ValueError("check comes first")
        return self.running

    # --- slot 0 -----------------------------------------------------------------------------------------------------

    @property
    def swap(self) -> Swap:
        """How the bootloader upgrades."""
        return self._running.swap

    @property
    def swaps(self) -> float:
        """Seconds that MCUboot should need to swap what was uploaded."""
        sizes = [len(step.image.data) for step in self.steps]
        return swap_seconds(self._running.swap, sizes, self.unit.client.link)

    @property
    def pages(self) -> int:
        """Pages of what was uploaded; MCUboot swaps as many as the larger image has, which may be the old one."""
        page = self.unit.client.link.page_size
        return sum(-(-len(step.image.data) // page) for step in self.steps)

    def start(self) -> None:
        """Reset, and see the new image run."""
        app = next((step.image for step in self.steps if step.name == APP), None)
        unit, timeline = self.unit, self.attempt.timeline
        self._position = unit.console_uart.console.position
        with timeline.phase("swap", time.monotonic):
            try:
                self.attempt.running = reset_and_wait(unit, app, swaps=self.swaps, boots=2, pages=self.pages)
            except HashMismatch:
                raise self._not_started(app) from None
            except NotBooted as error:
                if app is None:
                    raise
                told = with_way_back(
                    error, unit, self._position, app, old=self.old, swap=self.swap, permanent=self._permanent
                )
                raise told from error.__cause__
        with timeline.phase("boot", time.monotonic):
            self._look(app)

    def _look(self, app: Image | None) -> None:
        """The application's own list, after the reset."""
        for part in self.attempt.parts:
            part.looked_at = True
            if part.step.network_core:
                part.proof = _proved(part.step)
                self.unit.network_core = part.step.image.hash
        if app is None:
            return
        states = self.unit.client.images()
        if from_recovery(states, has_state=self.unit.profile.image_state):
            raise NotBooted(
                f"{self.unit.name} was sent {app.source} (hash {app.hash.hex()}), and after the reset serial recovery"
                " answers, and no application"
            )
        ran = which_runs(states, app.hash, self.old.hash if self.old else None)
        if ran.which != "new":
            raise self._not_started(app)
        self.attempt.confirmed = bool(ran.state and ran.state.confirmed)
        self.attempt.swapped = True
        for part in self.attempt.parts:
            if part.step.name == APP:
                part.proof = _proved(part.step)
        if self.attempt.confirmed:  # one on trial is not there any more after the next reset
            self.unit.remember(app.hash, "")
        note_active(self.unit, states)
        self._say(f"application {app.version} is running: its own image list shows hash {app.hash.hex()[:HASH_SHOWN]}")

    def _not_started(self, app: Image | None) -> NotBooted:
        """Another image runs after the reset: which, and what became of the new one."""
        states = self.unit.client.images()
        note_active(self.unit, states)
        digest = app.hash if app is not None else b""
        ran = which_runs(states, digest, self.old.hash if self.old else None)
        self.attempt.running = f"{ran.which} image"
        back = states.find(slot=1)
        if ran.which == "old" and back is not None and back.hash == digest:
            why = (
                "which ran before: MCUboot took the new image back (it is in slot 1), because it was started and did"
                " not stay, or did not swap at all. Look at the console for what it said"
            )
        elif ran.which == "old":
            why = (
                f"which ran before, and slot 1 shows {shown(back)}: MCUboot did not take the new image and removed it."
                " Check that it is signed with the bootloader's key and type, and that its version may be taken"
            )
        else:
            why = "which is neither the new image nor the one before: something else was staged meanwhile"
        source = app.source if app is not None else "the update"
        text = f"{self.unit.name} does not run {source} after the reset: {shown(ran.state)} is active, {why}"
        return NotBooted(with_story(self.unit, self._position, text))

    # --- for good ---------------------------------------------------------------------------------------------------

    def _keep(self, *, confirm: Confirm) -> None:
        if not confirm or self.attempt.confirmed or all(step.name != APP for step in self.steps):
            return
        if self._permanent:
            self.attempt.parts[-1].notes.append(
                "marked permanent, and yet not confirmed after the swap: done from here"
            )
        with self.attempt.timeline.phase("confirm", time.monotonic):
            confirm_running(self.unit)
            self.attempt.confirmed = True
        self._say("confirmed: the application's image list shows it")


def _proved(step: Step) -> Proof:
    """The proof of an image that runs by the application's list, which cannot show the network core."""
    if step.network_core:
        return Proof(verified=False, proof=UNSEEN, hash=None)
    return Proof(verified=True, proof=PROVED, hash=step.image.hash)
