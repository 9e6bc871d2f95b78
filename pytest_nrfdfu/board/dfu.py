"""An update: recovery, upload, verification by the image list, boot, and the report of it.

The only proof of an update is the hash in the image list, read from the board: MCUboot answers rc 0 to a corrupted
upload as well. It is looked at in recovery, and again after boot where the application has an SMP server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.client import Progress, SmpClient
from pytest_nrfdfu.board.plan import Step, is_network_core, plan, profile_for, step_for
from pytest_nrfdfu.board.recovery import Entered, enter
from pytest_nrfdfu.board.report import DfuReport, Timeline
from pytest_nrfdfu.board.unit import Unfinished, Unit
from pytest_nrfdfu.errors import HashMismatch, NotBooted, NrfDfuError, SmpRejected, SmpTimeout, UploadFailed
from pytest_nrfdfu.image.build import APP, NET, Build
from pytest_nrfdfu.image.mcuboot import Image, Version
from pytest_nrfdfu.smp.messages import ImageStates, SlotInfoRequest
from pytest_nrfdfu.smp.upload import Upload, UploadCounters

__all__ = ["Dfu", "Proof", "Recovery", "Say"]

Say = Callable[[str], None]
PROVED = "image list"
_UNSEEN = "the bootloader's list cannot show the network core"
_COPY_DELAY = 3.0
"""Seconds that the answer to the last chunk of a network core's image may take: MCUboot waits for the copy to begin
(sdk-nrf, modules/mcuboot/hooks/nrf53_hooks.c: about one second)."""
_NO_KEY = b"no key"
"""Stands among the hashes of images that were spoken about."""
_SHOWN = 12
"""Digits of a hash shown to people."""


_WAYS: Mapping[str, str] = {
    "gpio": "pin reset with the recovery pin held",
    "pin-reset": "pin reset",
    "smp": "application asked to reboot into the bootloader",
}


_REASONS: Mapping[type[NrfDfuError], str] = {
    UploadFailed: "upload failed",
    HashMismatch: "another image is there, or none",
    NotBooted: "not seen running",
}
"""Why an update failed, in short."""


class Proof(NamedTuple):
    """Whether the board was shown to hold an image, how or why not, and the hash that was read from it."""

    verified: bool
    proof: str
    hash: bytes | None


_NOT_PROVED = Proof(verified=False, proof="not looked at", hash=None)


class Recovery:
    """A board in serial recovery."""

    def __init__(self, unit: Unit, entered: Entered) -> None:
        self.unit = unit
        self.entered = entered
        self._session = unit.session

    @property
    def smp(self) -> SmpClient:
        """For requests of one's own."""
        return self.unit.client

    def images(self) -> ImageStates:
        """The bootloader's image list. It leaves out slots that hold no valid image."""
        return self.unit.client.images()

    def upload(self, image: Image, *, progress: Progress | None = None) -> Upload:
        """Upload an image into its slot; UploadFailed if the board does not take all of it.

        An upload of the same image that was broken off in this session is taken up where the board has it: the result's
        `resumed` tells. `progress` is called with acknowledged and total bytes. A network core's image goes to the
        network core; ImageError, before anything is sent, if nobody tells by which number.
        """
        name = NET if is_network_core(image) else APP
        return self.send(step_for(name, image, self.unit.config, self.unit.profile), progress=progress)

    def send(self, step: Step, *, progress: Progress | None = None) -> Upload:
        """Upload one step of a plan; see `upload`."""
        unit, image = self.unit, step.image
        if step.ask:
            step = step.asked(self._slot_rows(), unit.profile)
        start = self._taken_up(image)

        def began(upload: Upload) -> None:
            unit.unfinished = Unfinished(image.hash, upload, self._session)

        limits = unit.limits()
        network_core = None if step.network_core else unit.network_core  # an upload makes the unit forget all
        if step.network_core:
            limits = replace(limits, last_delay=_COPY_DELAY)
        upload = unit.client.upload(
            image.data, limits=limits, image=step.number, start=start, progress=progress, began=began
        )
        unit.unfinished = None
        unit.network_core = network_core
        return upload

    def _slot_rows(self) -> list[tuple[int, int, int | None]]:
        """The bootloader's slot info; none where it has no such command."""
        try:
            infos = self.unit.client.request(SlotInfoRequest())
        except (SmpRejected, SmpTimeout):
            return []
        return [(image.image, slot.slot, slot.upload_image_id) for image in infos.images for slot in image.slots]

    def _taken_up(self, image: Image) -> int:
        earlier = self.unit.unfinished
        if earlier is None or earlier.hash != image.hash or earlier.session != self._session:
            return 0
        return earlier.upload.acknowledged

    def verify(self, image: Image, name: str = APP) -> Proof:
        """Look the image up in the board's list. HashMismatch if the list shows that the board does not hold it.

        `name`: which of its build's images it is. An image other than the application's may be in any slot.
        """
        if name == NET or is_network_core(image):
            return Proof(verified=False, proof=_UNSEEN, hash=None)
        states = self.images()
        if name != APP:
            return self._verify_other(image, states)
        found = states.find(image=0, slot=0)
        if found is not None and found.hash is None and _same_version(found.version, image):
            why = "the bootloader's list shows no hashes (built without CONFIG_BOOT_SERIAL_IMG_GRP_HASH)"
            return Proof(verified=False, proof=why, hash=None)
        if found is not None and found.hash == image.hash and not self.unit.profile.lists_valid_only:
            why = f"bootloader {self.unit.profile.name} lists images unchecked: a damaged one shows the same hash"
            return Proof(verified=False, proof=why, hash=None)
        if found is None or found.hash != image.hash:
            raise HashMismatch(_mismatch(self.unit.name, image, states))
        self.unit.remember(
            image.hash, f"version {image.version}, hash {image.hash.hex()[:_SHOWN]}, proved by image list"
        )
        return Proof(verified=True, proof=PROVED, hash=found.hash)

    def _verify_other(self, image: Image, states: ImageStates) -> Proof:
        if any(state.hash is None for state in states.images):
            return Proof(verified=False, proof="the bootloader's list shows no hashes", hash=None)
        if not any(state.hash == image.hash for state in states.images):
            raise HashMismatch(_mismatch(self.unit.name, image, states))
        return Proof(verified=self.unit.profile.lists_valid_only, proof=PROVED, hash=image.hash)


def _same_version(listed: str, image: Image) -> bool:
    """Whether a listed version is an image's; old bootloaders write a build number of 0 out."""
    try:
        return Version.parse(listed) == image.version
    except ValueError:
        return False


def _mismatch(name: str, image: Image, states: ImageStates) -> str:
    listed = "; ".join(
        f"image {s.image} slot {s.slot} version {s.version} hash {s.hash.hex() if s.hash else 'not shown'}"
        for s in states.images
    )
    advice = (
        "MCUboot lists only images that it would boot: check that this one is signed with the bootloader's key and type"
        if not states.find()
        else "something else was uploaded, or swapped in from the secondary slot"
    )
    return (
        f"{name} was sent {image.source} (version {image.version}, hash {image.hash.hex()}), but its image list shows"
        f" {listed or 'no valid image'}. {advice[0].upper()}{advice[1:]}"
    )


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
        unit.profile = profile_for(unit.config, build.facts)
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
            attempt.failed(error)
            self._done(self._report(attempt))
            raise
        report = self._report(attempt)
        self._done(report)
        return report

    def _send(self, attempt: _Attempt, steps: list[Step], *, only_if_needed: bool) -> None:
        """Upload and verify each image."""
        recovery = attempt.recovery
        try:
            for step in steps:
                needed = not (only_if_needed and _holds(recovery.entered.images, step, self.unit))
                self._one(attempt, step, needed=needed)
        except HashMismatch:
            with suppress(Exception):
                self.unit.client.reset()
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
                self._say(f"uploading {step.name} {image.version} ({image.hash.hex()[:_SHOWN]}), {image.size} bytes")
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
            running=_UNSEEN if step.network_core and not attempt.broken else attempt.running,
            version=str(step.image.version),
            bytes=sent,
            seconds=seconds,
            rate=sent / seconds if seconds else 0.0,
            chunk=counters.largest_chunk,
            window=max(1, counters.window),
            retries=counters.retries,
            resyncs=counters.resyncs,
            entry=attempt.recovery.entered.method,
            timeline=tuple(attempt.timeline.phases),
            notes=_notes(part),
            simulated=self.unit.config.simulated,
        )


def _entered(recovery: Recovery) -> str:
    method, seconds, images = recovery.entered
    slot = images.find()
    holds = f"slot 0 holds version {slot.version}" if slot else "slot 0 holds no valid image"
    return f"{_WAYS[method]}: serial recovery answers after {seconds:.2f} s; {holds}"


def _seen(unit: Unit, position: int, running: str) -> str:
    banner = banner_line(unit, position)
    return f"{running}: {banner}" if banner else running


def _proved(proof: Proof) -> str:
    if proof.hash is None:
        return f"NOT verified: {proof.proof}"
    return f"verified: the board's image list shows hash {proof.hash.hex()[:_SHOWN]}... in slot 0"


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
