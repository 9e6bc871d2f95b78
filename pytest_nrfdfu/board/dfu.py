"""An update: recovery, upload, verification by the image list, boot, and the report of it.

The only proof of an update is the hash in the image list, read from the board: MCUboot answers rc 0 to a corrupted
upload as well. It is looked at in recovery, and again after boot where the application has an SMP server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.client import Progress, SmpClient
from pytest_nrfdfu.board.recovery import Entered, enter
from pytest_nrfdfu.board.report import DfuReport, Timeline
from pytest_nrfdfu.board.unit import Unfinished, Unit
from pytest_nrfdfu.config import ImageConfig
from pytest_nrfdfu.errors import HashMismatch, ImageError, UploadFailed
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.image.mcuboot import Image, check_link_address, check_slot
from pytest_nrfdfu.smp.messages import ImageStates
from pytest_nrfdfu.smp.upload import Upload, UploadCounters

__all__ = ["Dfu", "Proof", "Recovery", "Say", "check_image"]

Say = Callable[[str], None]
PROVED = "image list"
_SHOWN = 12
"""Digits of a hash shown to people."""


_WAYS: Mapping[str, str] = {
    "gpio": "pin reset with the recovery pin held",
    "pin-reset": "pin reset",
    "smp": "application asked to reboot into the bootloader",
}


class Proof(NamedTuple):
    """Whether the board was shown to hold an image, how or why not, and the hash that was read from it."""

    verified: bool
    proof: str
    hash: bytes | None


def check_image(image: Image, settings: ImageConfig, *, simulated: bool) -> str | None:
    """Whether an image can be for the slot that the configuration names; before any hardware is touched.

    ImageError if not. An image linked outside its slot was not built for MCUboot: on a simulated board, which executes
    no firmware, that is only a warning, returned as text.
    """
    if settings.slot_size is not None:
        check_slot(image, settings.slot_size)
    if settings.slot_address is None or settings.slot_size is None:
        return None
    problem = check_link_address(image, settings.slot_address, settings.slot_size)
    if problem and not simulated and not settings.allow_link_address:
        raise ImageError(f"{problem}; to upload it all the same set allow_link_address = true in [images.app]")
    return problem


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
        `resumed` tells. `progress` is called with acknowledged and total bytes.
        """
        unit = self.unit
        settings = unit.config.app_image
        check_image(image, settings, simulated=unit.config.simulated)
        start = self._taken_up(image)

        def began(upload: Upload) -> None:
            unit.unfinished = Unfinished(image.hash, upload, self._session)

        upload = unit.client.upload(
            image.data, limits=unit.limits(), image=settings.upload, start=start, progress=progress, began=began
        )
        unit.unfinished = None
        return upload

    def _taken_up(self, image: Image) -> int:
        earlier = self.unit.unfinished
        if earlier is None or earlier.hash != image.hash or earlier.session != self._session:
            return 0
        return earlier.upload.acknowledged

    def verify(self, image: Image) -> Proof:
        """Look the image up in the board's list. HashMismatch if the list shows that the board does not hold it."""
        states = self.images()
        found = states.find(image=0, slot=0)
        if found is not None and found.hash is None:
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
        unit, image = self.unit, build.image
        problem = check_image(image, unit.config.app_image, simulated=unit.config.simulated)
        if problem and image.hash not in unit.warned:
            unit.warned.add(image.hash)
            self._say(f"warning: {problem}")
        timeline = Timeline(time.monotonic())
        with timeline.phase("recovery", time.monotonic):
            recovery = self.enter()
        self._say(_entered(recovery))
        upload: Upload | None = None
        try:
            if not (only_if_needed and _holds(recovery.entered.images, image)):
                with timeline.phase("upload", time.monotonic):
                    self._say(f"uploading {build}, {len(image.data)} bytes")
                    upload = recovery.upload(image, progress=self._progress)
            with timeline.phase("verify", time.monotonic):
                proof = recovery.verify(image)
            self._say(_proved(proof))
        except UploadFailed:
            # The unfinished image is not valid, so nothing but recovery will boot; leave the board there.
            raise
        except HashMismatch:
            with suppress(Exception):
                unit.client.reset()
            raise
        with timeline.phase("boot", time.monotonic):
            position = unit.console_uart.console.position
            running = self.boot(image)
        self._say(f"application {build.version} is running, seen by {_seen(unit, position, running)}")
        report = self._report(build, recovery, upload, proof, running, timeline)
        self._done(report)
        return report

    def _report(
        self,
        build: Build,
        recovery: Recovery,
        upload: Upload | None,
        proof: Proof,
        running: str,
        timeline: Timeline,
    ) -> DfuReport:
        counters = upload.counters if upload is not None else UploadCounters()
        times = [when for when, _ in counters.progress]
        seconds = times[-1] - times[0] if times else 0.0
        sent = 0
        if upload is not None:
            sent = upload.total - (counters.progress[0][1] if upload.resumed and counters.progress else 0)
        return DfuReport(
            unit=self.unit.name,
            build=build.name,
            image=next((name for name, image in build.images.items() if image is build.image), APP),
            verified=proof.verified,
            proof=proof.proof,
            hash=proof.hash,
            running=running,
            version=build.version,
            bytes=sent,
            seconds=seconds,
            rate=sent / seconds if seconds else 0.0,
            chunk=counters.largest_chunk,
            window=max(1, counters.window),
            retries=counters.retries,
            resyncs=counters.resyncs,
            entry=recovery.entered.method,
            timeline=tuple(timeline.phases),
            notes=_notes(upload),
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


def _holds(states: ImageStates, image: Image) -> bool:
    found = states.find(image=0, slot=0)
    return found is not None and found.hash == image.hash


def _notes(upload: Upload | None) -> tuple[str, ...]:
    if upload is None:
        return ("the board held this image already: nothing was uploaded",)
    notes = []
    if upload.resumed:
        notes.append("an upload broken off was taken up")
    if upload.counters.restarts:
        notes.append(f"the bootloader had been reset: the upload began again at 0 ({upload.counters.restarts} times)")
    return tuple(notes)
