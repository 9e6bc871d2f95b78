"""An update: recovery, upload, verification by the image list, boot, and the report of it.

The only proof of an update is the hash in the image list, read from the board: MCUboot answers rc 0 to a corrupted
upload as well. It is looked at in recovery, and again after boot where the application has an SMP server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.client import Progress
from pytest_nrfdfu.board.limits import window_outcome
from pytest_nrfdfu.board.plan import Step, check_way_back, plan, profile_for
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import Course, DfuReport, Timeline
from pytest_nrfdfu.board.session import HASH_SHOWN, UNSEEN, Proof, Recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import ConfigError, HashMismatch, NotBooted, NrfDfuError, PortGone, UploadFailed
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates
from pytest_nrfdfu.smp.upload import Upload, UploadCounters

__all__ = ["Dfu", "Proof", "Recovery", "Say", "reckon_with"]

Say = Callable[[str], None]
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


_REASONS: Mapping[type[NrfDfuError], str] = {
    UploadFailed: "upload failed",
    HashMismatch: "another image is there, or none",
    NotBooted: "not seen running",
    PortGone: "the port was lost",
}
"""Why an update failed, in short."""


_NOT_PROVED = Proof(verified=False, proof="not looked at", hash=None)


@dataclass(slots=True)
class _Part:
    """One image of an update, and how far it came."""

    step: Step
    needed: bool
    upload: Upload | None = None
    proof: Proof = _NOT_PROVED
    looked_at: bool = False


@dataclass(slots=True)
class _Attempt:
    """An update on its way: what its report is made of, whether it succeeds or not."""

    build: Build
    recovery: Recovery
    timeline: Timeline
    parts: list[_Part] = field(default_factory=list)
    running: str = ""
    broken: bool = False

    def failed(self, error: NrfDfuError) -> None:
        """The update ended with an error: note in short how far it came; the error itself tells all."""
        self.broken = True
        reason = _REASONS.get(type(error), type(error).__name__)
        part = self.parts[-1]
        if part.looked_at:  # it failed in the boot
            self.running = reason
            if isinstance(error, HashMismatch):
                for one in self.parts:
                    one.proof = Proof(verified=False, proof=reason, hash=None) if one.step.name == APP else one.proof
            return
        self.running = "not booted"
        part.proof = Proof(verified=False, proof=reason, hash=None)
        unfinished = self.recovery.unit.unfinished
        if part.upload is None and unfinished is not None and unfinished.hash == part.step.image.hash:
            part.upload = unfinished.upload


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

    def update(self, build: Build, *, via: str = "recovery", only_if_needed: bool = False) -> DfuReport:
        """Put `build` on the board, prove it, boot it, and say how it went.

        `only_if_needed`: upload nothing if the active slot has the build's hash already.
        """
        if via != "recovery":
            raise ValueError(f"via={via!r} is not known; known: 'recovery'")
        unit = self.unit
        steps = plan(build, unit.config)
        reckon_with(unit, build)
        if not only_if_needed:
            for step in steps:
                check_way_back(step, unit.config, unit.profile)
        self._tell(steps)
        timeline = Timeline(time.monotonic())
        with timeline.phase("recovery", time.monotonic):
            recovery = self.enter()
        self._say(_entered(recovery))
        attempt = _Attempt(build, recovery, timeline)
        try:
            self._send(attempt, steps, only_if_needed=only_if_needed)
            self._boot(attempt)
        except NrfDfuError as error:
            if attempt.parts:  # else nothing was begun
                attempt.failed(error)
                self._done(self._report(attempt))
            raise
        report = self._report(attempt)
        self._done(report)
        return report

    def _send(self, attempt: _Attempt, steps: list[Step], *, only_if_needed: bool) -> None:
        """Upload and verify each image."""
        images, unit = attempt.recovery.entered.images, self.unit
        needed = {step.name: not (only_if_needed and _holds(images, step, unit)) for step in steps}
        try:
            for step in steps:
                if needed[step.name]:  # all of them, before the first is sent
                    check_way_back(step, unit.config, unit.profile)
            for step in steps:
                self._one(attempt, step, needed=needed[step.name])
        except (HashMismatch, ConfigError):
            with suppress(Exception):
                unit.client.reset()
            raise  # after UploadFailed the board is left in recovery: the unfinished image would not boot

    def _boot(self, attempt: _Attempt) -> None:
        """Leave recovery and see the application run."""
        unit, app = self.unit, attempt.build.images.get(APP)
        with attempt.timeline.phase("boot", time.monotonic):
            position = unit.console_uart.console.position
            attempt.running = boot(unit, app)
        for part in attempt.parts:
            if part.step.network_core:
                unit.network_core = part.step.image.hash  # the reset was granted, so the copy has ended
        version = app.version if app is not None else "on the board"
        self._say(f"application {version} is running, seen by {_seen(unit, position, attempt.running)}")

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

    def _one(self, attempt: _Attempt, step: Step, *, needed: bool) -> None:
        """Upload and verify one image."""
        image, suffix = step.image, "" if step.name == APP else f" {step.name}"
        part = _Part(step, needed=needed)
        attempt.parts.append(part)
        if needed:
            with attempt.timeline.phase(f"upload{suffix}", time.monotonic):
                self._say(
                    f"uploading {step.name} {image.version} ({image.hash.hex()[:HASH_SHOWN]}), {image.size} bytes"
                )
                part.upload = attempt.recovery.send(step, progress=self._progress)
        with attempt.timeline.phase(f"verify{suffix}", time.monotonic):
            part.proof = attempt.recovery.verify(image, step.name)
            part.looked_at = True
        self._say(_proved(part.proof))

    def _report(self, attempt: _Attempt) -> DfuReport:
        """One report, or with several images one for each and the application's on top."""
        reports = [self._report_one(attempt, part) for part in attempt.parts]
        top = next((report for report in reports if report.image == APP), reports[-1])
        return replace(top, reports=tuple(reports)) if len(reports) > 1 else top

    def _report_one(self, attempt: _Attempt, part: _Part) -> DfuReport:
        step, upload, proof = part.step, part.upload, part.proof
        counters = upload.counters if upload is not None else UploadCounters()
        times = [when for when, _ in counters.progress]
        seconds = times[-1] - times[0] if times else 0.0
        sent = 0
        if upload is not None:
            sent = upload.acknowledged - (counters.progress[0][1] if upload.resumed and counters.progress else 0)
        return DfuReport(
            unit=self.unit.name,
            build=attempt.build.name,
            image=step.name,
            verified=proof.verified,
            proof=proof.proof,
            hash=proof.hash,
            running=UNSEEN if step.network_core and not attempt.broken else attempt.running,
            version=str(step.image.version),
            bytes=sent,
            seconds=seconds,
            rate=sent / seconds if seconds else 0.0,
            chunk=counters.largest_chunk,
            window=max(1, counters.window),
            window_outcome=window_outcome(upload) if upload is not None else "",
            retries=counters.retries,
            resyncs=counters.resyncs,
            trial_losses=counters.trial_losses,
            entry=attempt.recovery.entered.method,
            timeline=tuple(attempt.timeline.phases),
            notes=_notes(part),
            simulated=self.unit.config.simulated,
            course=Course.of(counters.progress, counters.repeated),
        )


def _entered(recovery: Recovery) -> str:
    method, seconds, images = recovery.entered
    slot = images.find()
    holds = f"slot 0 holds version {slot.version}" if slot else "slot 0 holds no valid image"
    reset = _RESETS.get(recovery.unit.config.recovery.reset_for(method), "reset")
    return f"{_WAYS[method].format(reset=reset)}: serial recovery answers after {seconds:.2f} s; {holds}"


def _seen(unit: Unit, position: int, running: str) -> str:
    banner = banner_line(unit, position)
    return f"{running}: {banner}" if banner else running


def _proved(proof: Proof) -> str:
    if proof.hash is None:
        return f"NOT verified: {proof.proof}"
    return f"verified: the board's image list shows hash {proof.hash.hex()[:HASH_SHOWN]}... in slot 0"


def _holds(states: ImageStates, step: Step, unit: Unit) -> bool:
    """Whether the board is known to hold an image: by its list, or, for the network core, by this run's upload."""
    image = step.image
    if step.network_core:
        return unit.network_core == image.hash
    found = states.find(image=0, slot=0)
    return found is not None and found.hash == image.hash


def _notes(part: _Part) -> tuple[str, ...]:
    if not part.needed:
        return ("the board held this image already: nothing was uploaded",)
    upload = part.upload
    if upload is None:
        return ("nothing was uploaded",)
    notes = [] if upload.done else [f"{upload.acknowledged} of {upload.total} bytes were uploaded"]
    if upload.resumed:
        notes.append("an upload broken off was taken up")
    if upload.counters.restarts:
        notes.append(f"the bootloader had been reset: the upload began again at 0 ({upload.counters.restarts} times)")
    return tuple(notes)
