"""An update: recovery, upload, verification by the image list, boot, and the report of it.

The only proof of an update is the hash in the image list, read from the board: MCUboot answers rc 0 to a corrupted
upload as well. It is looked at in recovery, and again after boot where the application has an SMP server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from pytest_nrfdfu.board import trial_end
from pytest_nrfdfu.board.application import ApplicationUpdate
from pytest_nrfdfu.board.application_rules import Confirm, shown
from pytest_nrfdfu.board.arguments import check_build, check_place, check_seconds
from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.broken_off import broken_off
from pytest_nrfdfu.board.client import Progress
from pytest_nrfdfu.board.console_evidence import CONSOLE, heard, replaced
from pytest_nrfdfu.board.interrupt import Interrupted, attempt_of, interrupt, parse_place
from pytest_nrfdfu.board.plan import Step, check_way_back, plan, profile_for
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import DfuReport, Timeline
from pytest_nrfdfu.board.revert import Reverted, revert
from pytest_nrfdfu.board.running_application import confirm_answering
from pytest_nrfdfu.board.session import HASH_SHOWN, Proof, Recovery
from pytest_nrfdfu.board.staged import StagedUpdate
from pytest_nrfdfu.board.swap_ahead import SwapAhead
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.update_parts import Attempt, proved_in_words, report_of
from pytest_nrfdfu.errors import ConfigError, DfuError, HashMismatch, NrfDfuError, UpdateRefused
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

__all__ = ["Dfu", "Proof", "Recovery", "Say", "reckon_with"]

Say = Callable[[str], None]
_VIAS = ("recovery", "application")
_CONFIRM: tuple[Confirm, ...] = (True, False, "permanent")
_NO_KEY = b"no key"
"""Stands among the hashes of images that were spoken about."""


_WAYS: Mapping[str, str] = {
    "gpio": "{reset} with the recovery pin held",
    "pin-reset": "pin reset",
    "boot-mode": "boot mode left in a register through the probe, and a soft reset",
    "wait-for-dfu": "asked while the bootloader waits for an update",
    "no-application": "bootloader finds no valid application",
    "smp": "application asked to reboot into the bootloader",
    "manual": "by hand",
}
"""How recovery was entered, in words."""
_RESETS: Mapping[str, str] = {"pin": "pin reset", "line": "pin reset", "power": "power cycle", "system": "soft reset"}


def reckon_with(unit: Unit, build: Build) -> None:
    """Take the unit's bootloader to be what a build says that it is, where it says it."""
    unit.profile = profile_for(unit.config, build.facts)
    uart = build.facts.uart if build.facts is not None else None
    unit.flow_control = uart is not None and uart.flow_control


class Dfu:
    """Updates of one unit. Steps one by one, or all by `update`."""

    def __init__(
        self,
        unit: Unit,
        *,
        progress: Progress | None = None,
        say: Say | None = None,
        done: Callable[[DfuReport], None] | None = None,
    ) -> None:
        """`progress` gets acknowledged and total bytes, `say` each step in words, `done` each report."""
        self.unit = unit
        self._progress = progress
        self._say = say or (lambda _text: None)
        self._done = done or (lambda _report: None)

    def enter(self) -> Recovery:
        """Bring the board into serial recovery; RecoveryNotEntered if that fails."""
        self.unit.forget()
        return Recovery(self.unit, enter(self.unit))

    def boot(self, image: Image | None = None) -> str:
        """Leave recovery and wait for the application; how it was seen running. NotBooted if it was not."""
        return boot(self.unit, image)

    def update(
        self, build: Build, *, via: str = "recovery", confirm: Confirm = True, only_if_needed: bool = False
    ) -> DfuReport:
        """Put `build` on the board, prove it, boot it, and say how it went.

        `via`: ``"recovery"`` writes slot 0 in serial recovery; ``"application"`` lets the running application's SMP
        server write slot 1, and MCUboot swap. Then `confirm` False leaves the image on trial: MCUboot takes it back at
        the next reset, unless `confirm` is called; and ``"permanent"`` marks it for good before it has run, so that
        there is no trial, nor a way back if it does not boot. UpdateRefused, before anything is sent, where the
        bootloader or what is on the board does not allow that. `only_if_needed`: upload nothing if the board has the
        build already.
        """
        check_build(build, "dfu.update")
        if via not in _VIAS:
            raise ValueError(f"via={via!r} is not known; known: {', '.join(map(repr, _VIAS))}")
        if confirm not in _CONFIRM:
            raise ValueError(f"confirm={confirm!r} is not known; known: True, False, 'permanent'")
        if via == "application":
            return self._through_application(build, confirm=confirm, only_if_needed=only_if_needed)
        if confirm is not True:
            what = "asks for an image on trial" if confirm is False else "marks an image in slot 1"
            raise UpdateRefused(
                f"confirm={confirm!r} {what}, and serial recovery writes slot 0, where there is no trial. Nothing was"
                " sent. Use via='application'"
            )
        return self._through_recovery(build, only_if_needed=only_if_needed)

    def confirm(self) -> ImageState:
        """Keep the running image; its entry in the application's list, which shows it confirmed.

        UpdateRefused where no running application with an SMP server answers, or where it does not confirm.
        """
        state = confirm_answering(self.unit)
        self._done(trial_end.confirmed(self.unit, state))
        return state

    def revert(self) -> Reverted:
        """Reset the board while an image is on trial, and prove that the one before runs again; see `revert.revert`."""
        after = revert(self.unit, self._say)
        self._done(trial_end.reverted(self.unit, after))
        return after

    @contextmanager
    def staged(
        self,
        build: Build,
        *,
        timeout: float = 300.0,
        confirm: bool = True,
        pending: str | None = None,
        reset: bool = True,
    ) -> Iterator[StagedUpdate]:
        """The application stages `build` by a transport of its own, which the test drives inside the block.

        At the end of the block, or at `StagedUpdate.wait_pending`, the image is proved pending; then the board is
        reset, unless `reset` is False because the application does that, and the image is proved running. `timeout`:
        seconds from the beginning of the block until it must be pending; with ``reset=False`` until the application
        must have begun to reset itself too. One given to `StagedUpdate.wait_pending` takes its place. What is asked of
        the board before the block, swap and boot have their own time. `pending`: a regular expression that the console
        shows then, for applications without an SMP server. Afterwards the block's value has the `report`. A block that
        raises leaves one as well: it says that the transfer failed, and what the application's list shows then.

        Without an SMP server, and without `pending`, the end of the block resets the board into serial recovery at
        once, to see what is in slot 1: the block must last until all is sent and scheduled, `timeout` means nothing,
        and ``reset=False`` is refused. What runs afterwards is then told by the console alone, MCUboot's log or the
        version that the application names: `DfuReport.running` says which, and NotBooted is raised if that is another
        image; `verified` stays False, and `DfuReport.swapped` is True where something shows that another image was
        there before. UpdateRefused, before the block, if this run has proved the build on the unit already. Say
        ``[boot] smp = false`` in the configuration, and nobody asks for a list.
        """
        check_build(build, "dfu.staged")
        check_seconds("timeout", timeout)
        if APP not in build.images:
            raise UpdateRefused(f"{build} has no application image, and nothing shows which other image runs")
        steps = self._planned(build)
        self._tell(steps)
        attempt = Attempt(build, self.unit, Timeline(time.monotonic()), via="staged")
        step = next(step for step in steps if step.name == APP)
        update = StagedUpdate(
            attempt, step, timeout=timeout, confirm=confirm, pending=pending, reset=reset, say=self._say
        )
        try:
            with self._reported(attempt):
                with attempt.timeline.phase("check", time.monotonic):
                    update.prepare()
                self.unit.forget("the application stages an update itself")
                self.unit.network_core = None  # what else it is sent nobody here sees
                with self._block(update), attempt.timeline.phase("transfer", time.monotonic):
                    yield update
                update.finish()
        finally:
            update.report = report_of(attempt)

    @contextmanager
    def _block(self, update: StagedUpdate) -> Iterator[None]:
        """What the test does inside `staged`: that it failed is reported too, whatever kind of error it raises."""
        update.begin()
        try:
            yield
        except (GeneratorExit, KeyboardInterrupt, SystemExit):  # nobody waits for the board
            raise
        except BaseException as error:  # pytest's own fail() is no Exception
            update.broken_off(error)
            raise

    def interrupt(self, build: Build, *, at: str, by: str = "reset", via: str = "application") -> Interrupted:
        """Cut an update off, let the board boot, and say which image runs.

        `at`: ``upload:50%`` or ``swap:30%``; the latter is a share of the time that the last update through the
        application took on this unit, or that its flash should take. `by`: ``reset`` or ``power``. It is an update of
        the run's record as well, whose `cut` says where it ended.
        """
        check_build(build, "dfu.interrupt")
        check_place(at)
        place = parse_place(at)
        attempt = attempt_of(build, self.unit, via)
        steps = self._planned(build)
        self._tell(steps)
        with self._reported(attempt):
            cut = interrupt(attempt, steps, place, by, say=self._say)
            if not attempt.parts:
                for step in steps:
                    attempt.begin(step, needed=True)
            attempt.cut_off(cut)
        trial = ", on trial: the next reset takes it back" if cut.confirmed is False else ""
        what = f"version {cut.version}, shown by {cut.proof}{trial}" if cut.version else "no image that boots"
        self.unit.holds = f"{what}, after an update that was cut off on purpose"
        return cut

    def _through_application(self, build: Build, *, confirm: Confirm, only_if_needed: bool) -> DfuReport:
        steps = self._planned(build)
        self._tell(steps)
        attempt = Attempt(build, self.unit, Timeline(time.monotonic()), via="application")
        update = ApplicationUpdate(attempt, steps, say=self._say, progress=self._progress)
        with self._reported(attempt):
            update.run(confirm=confirm, only_if_needed=only_if_needed)
        return report_of(attempt)

    def _through_recovery(self, build: Build, *, only_if_needed: bool) -> DfuReport:
        steps = self._planned(build)
        if not only_if_needed:
            for step in steps:
                check_way_back(step, self.unit.config, self.unit.profile)
        self._tell(steps)
        attempt = Attempt(build, self.unit, Timeline(time.monotonic()))
        with attempt.timeline.phase("recovery", time.monotonic):
            recovery = self.enter()
        attempt.entry = recovery.entered.method
        self._say(_entered(recovery))
        with self._reported(attempt):
            self._send(attempt, recovery, steps, only_if_needed=only_if_needed)
            self._boot(attempt, recovery.entered.images.find(slot=1))
        return report_of(attempt)

    def _planned(self, build: Build) -> list[Step]:
        """The steps of an update; what the build tells of the bootloader is the unit's from now on."""
        unit = self.unit
        steps = plan(build, unit.config)
        reckon_with(unit, build)
        return steps

    @contextmanager
    def _reported(self, attempt: Attempt) -> Iterator[None]:
        """Report what happens inside, also where it fails or is broken off; nothing, where nothing was begun."""
        try:
            yield
        except GeneratorExit:  # whoever opened `staged` never closed it
            raise
        except BaseException as error:  # Ctrl-C, and the test's own errors in the block of `staged`
            if attempt.parts:
                self._note(attempt, error)
                self._done(report_of(attempt))
            raise
        self._done(report_of(attempt))

    @staticmethod
    def _note(attempt: Attempt, error: BaseException) -> None:
        """How an update ended that did not succeed."""
        if isinstance(error, NrfDfuError):
            attempt.failed(error)
        elif attempt.reason:  # it is told already: the block of `staged`
            attempt.failed(DfuError(attempt.reason))
        else:
            broken_off(attempt, error)

    def _send(self, attempt: Attempt, recovery: Recovery, steps: list[Step], *, only_if_needed: bool) -> None:
        """Upload and verify each image."""
        images, unit = recovery.entered.images, self.unit
        needed = {step.name: not (only_if_needed and _holds(images, step, unit)) for step in steps}
        try:
            for step in steps:
                if needed[step.name]:  # all of them, before the first is sent
                    check_way_back(step, unit.config, unit.profile)
            for step in steps:
                self._one(attempt, recovery, step, needed=needed[step.name])
        except (HashMismatch, ConfigError):
            with suppress(Exception):
                unit.client.reset()
            raise  # after UploadFailed the board is left in recovery: the unfinished image would not boot

    def _boot(self, attempt: Attempt, secondary: ImageState | None) -> None:
        """Leave recovery and see the application run. `secondary`: what slot 1 holds."""
        unit, app = self.unit, attempt.build.images.get(APP)
        with attempt.timeline.phase("boot", time.monotonic):
            position = unit.console_uart.console.position
            attempt.running = boot(unit, app)
            if app is not None and attempt.running == CONSOLE:
                self._listen(attempt, app, position, secondary)
        for part in attempt.parts:
            if part.step.network_core:
                unit.network_core = part.step.image.hash  # the reset was granted, so the copy has ended
        version = app.version if app is not None else "on the board"
        self._say(f"application {version} is running, seen by {_seen(unit, position, attempt.running)}")

    def _listen(self, attempt: Attempt, app: Image, position: int, secondary: ImageState | None) -> None:
        """No list shows what runs: MCUboot may have swapped in what an earlier test left in slot 1."""
        unit = self.unit
        told = heard(unit, position)
        if what := replaced(told, app.version):
            unit.forget(f"by the console {what}")
            raise HashMismatch(
                f"{unit.name} was proved in recovery to hold {app.source} (version {app.version}, hash"
                f" {app.hash.hex()}), but by its log {what}: an image that was left pending in the secondary slot, or a"
                " trial that ended. Erase that slot first"
            )
        if secondary is not None and not told.started and not told.swap:
            attempt.parts[-1].notes.append(
                f"slot 1 holds {shown(secondary)}: whether it was pending, and MCUboot swapped it in, nothing tells"
            )

    def _tell(self, steps: list[Step]) -> None:
        """What is odd about a build, once."""
        unit = self.unit
        for step in steps:
            if step.image.hash in unit.warned:
                continue
            unit.warned.add(step.image.hash)
            if step.warning:
                self._say(f"warning: {step.warning}")
            if step.image.signature is None and not unit.config.simulated:
                self._say(f"note: {step.image.source} has a hash and no signature: bootloaders with a key refuse it")
        signed = any(step.image.signature is not None for step in steps)
        if signed and unit.config.bootloader.public_key is None and _NO_KEY not in unit.warned:
            unit.warned.add(_NO_KEY)
            self._say("signature not checked before upload: no public_key in [bootloader], no --nrfdfu-key")

    def _one(self, attempt: Attempt, recovery: Recovery, step: Step, *, needed: bool) -> None:
        """Upload and verify one image."""
        image, suffix = step.image, "" if step.name == APP else f" {step.name}"
        part = attempt.begin(step, needed=needed)
        if needed:
            with attempt.timeline.phase(f"upload{suffix}", time.monotonic):
                self._say(
                    f"uploading {step.name} {image.version} ({image.hash.hex()[:HASH_SHOWN]}), {image.size} bytes"
                )
                part.upload = recovery.send(step, progress=self._progress)
        with attempt.timeline.phase(f"verify{suffix}", time.monotonic):
            part.proof = recovery.verify(image, step.name)
            part.looked_at = True
        self._say(proved_in_words(part.proof))


def _entered(recovery: Recovery) -> str:
    method, seconds, images = recovery.entered
    slot = images.find()
    holds = f"slot 0 holds version {slot.version}" if slot else "slot 0 holds no valid image"
    reset = _RESETS.get(recovery.unit.config.recovery.reset_for(method), "reset")
    return f"{_WAYS[method].format(reset=reset)}: serial recovery answers after {seconds:.2f} s; {holds}"


def _seen(unit: Unit, position: int, running: str) -> str:
    banner = banner_line(unit, position)
    return f"{running}: {banner}" if banner else running


def _holds(states: ImageStates, step: Step, unit: Unit) -> bool:
    """Whether the board is known to hold an image: by its list, or, for the network core, by this run's upload."""
    image = step.image
    if step.network_core:
        return unit.network_core == image.hash
    found = states.find(image=0, slot=0)
    if unit.swap_ahead is SwapAhead.TRIAL or (found is not None and found.confirmed is False):
        return False  # on trial: leaving recovery takes it back
    return found is not None and found.hash == image.hash
