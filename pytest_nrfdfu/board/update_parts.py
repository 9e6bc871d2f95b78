"""An update on its way, image by image, and the report that comes of it, whether it succeeds or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.report import Course, DfuReport, Timeline
from pytest_nrfdfu.board.session import HASH_SHOWN, PROVED, UNSEEN, Proof
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.upload_words import size_note, window_outcome
from pytest_nrfdfu.errors import HashMismatch, LossyLink, NotBooted, NrfDfuError, PortGone, UpdateRefused, UploadFailed
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.smp.upload import Upload, UploadCounters

if TYPE_CHECKING:
    from pytest_nrfdfu.board.interrupt import Interrupted

__all__ = ["Attempt", "Part", "proved_in_words", "report_of", "reports_apart"]

_REASONS: Mapping[type[NrfDfuError], str] = {
    UploadFailed: "upload failed",
    LossyLink: "upload failed on a lossy link",
    HashMismatch: "another image is there, or none",
    NotBooted: "not seen running",
    PortGone: "the port was lost",
    UpdateRefused: "refused here, not by the board",
}
"""Why an update failed, in short."""
_BY_BOARD = "the board refused it"
_NOT_PROVED = Proof(verified=False, proof="not looked at", hash=None)


@dataclass(slots=True)
class Part:
    """One image of an update, and how far it came."""

    step: Step
    needed: bool
    upload: Upload | None = None
    proof: Proof = _NOT_PROVED
    looked_at: bool = False
    notes: list[str] = field(default_factory=list)
    """What was out of the ordinary, besides what its upload tells."""


@dataclass(slots=True)
class Attempt:
    """An update on its way: what its report is made of, whether it succeeds or not."""

    build: Build
    unit: Unit
    timeline: Timeline
    via: str = "recovery"
    entry: str = ""
    swap: str = ""
    confirmed: bool | None = None
    parts: list[Part] = field(default_factory=list)
    running: str = ""
    reason: str = ""
    """Why it failed, in short, where that is known better than by the kind of its error."""
    swapped: bool | None = None
    """See `DfuReport.swapped`."""
    cut: str = ""
    """Where it was cut off on purpose; see `DfuReport.cut`."""
    before: str = ""
    """What ran before, in words; empty: not known."""
    permanent: bool = False
    """Whether the image is marked for good before it has run."""
    pending: bool = False
    """Whether an image that the application stages itself was seen pending."""
    broken: bool = False

    def begin(self, step: Step, *, needed: bool) -> Part:
        """Add the part of one image."""
        part = Part(step, needed=needed)
        self.parts.append(part)
        return part

    def failed(self, error: NrfDfuError) -> None:
        """The update ended with an error: note in short how far it came; the error itself tells all."""
        self.broken = True
        reason = self.reason or _reason(error)
        part = self.parts[-1]
        if part.looked_at:  # it failed in the boot
            self.running = self.running or reason
            if isinstance(error, HashMismatch) or self.via != "recovery":
                for one in self.parts:
                    one.proof = Proof(verified=False, proof=reason, hash=None) if one.step.name == APP else one.proof
            return
        if self.via == "staged":
            refused_here = isinstance(error, UpdateRefused) and not error.by_board
            self.running = self.running or ("left as it was" if refused_here else "not started")
        self.running = self.running or "not booted"
        part.proof = Proof(verified=False, proof=reason, hash=None)
        unfinished = self.unit.unfinished
        if part.upload is None and unfinished is not None and unfinished.hash == part.step.image.hash:
            part.upload = unfinished.upload

    def cut_off(self, cut: Interrupted) -> None:
        """It was cut off on purpose, and what runs then was seen: the report says both."""
        self.cut = f"{cut.at} by {cut.by}"
        self.confirmed = cut.confirmed if cut.runs == "new" else None
        runs = f"the {cut.runs} image, version {cut.version}" if cut.version else "no image: in serial recovery"
        self.running = runs
        place = f"{cut.cut:.0%} of the {cut.at.partition(':')[0]}"
        proof = Proof(verified=False, proof=f"cut off at {place}", hash=None)
        if cut.runs == "new" and cut.hash is not None and self.unit.profile.lists_valid_only:
            proof = Proof(verified=True, proof=PROVED, hash=cut.hash)
        for part in self.parts:
            part.looked_at = True
            if not part.step.network_core:
                part.proof = proof
        self.parts[-1].notes.append(f"cut off on purpose by {cut.by} at {place}; then {runs}, by {cut.proof}")
        self.parts[-1].notes.extend(cut.remarks)


def _reason(error: NrfDfuError) -> str:
    """Why an update failed, in short, by its error alone."""
    if isinstance(error, UpdateRefused) and error.by_board:
        return _BY_BOARD
    return _REASONS.get(type(error), type(error).__name__)


def report_of(attempt: Attempt) -> DfuReport:
    """One report, or with several images one for each and the application's on top."""
    reports = [_report_one(attempt, part) for part in attempt.parts]
    top = next((report for report in reports if report.image == APP), reports[-1])
    return replace(top, reports=tuple(reports)) if len(reports) > 1 else top


def _report_one(attempt: Attempt, part: Part) -> DfuReport:
    step, upload, proof = part.step, part.upload, part.proof
    counters = upload.counters if upload is not None else UploadCounters()
    times = [when for when, _ in counters.progress]
    seconds = times[-1] - times[0] if times else 0.0
    sent = 0
    if upload is not None:
        sent = max(0, upload.acknowledged - _taken_up(upload))
    return DfuReport(
        unit=attempt.unit.name,
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
        window_outcome=window_outcome(upload, attempt.unit.memory) if upload is not None else "",
        retries=counters.retries,
        resyncs=counters.resyncs,
        trial_losses=counters.trial_losses,
        entry=attempt.entry,
        via=attempt.via,
        swap=attempt.swap,
        confirmed=None if step.network_core else attempt.confirmed,
        swapped=None if step.network_core else attempt.swapped,
        cut=attempt.cut,
        timeline=tuple(attempt.timeline.phases),
        notes=_notes(part, attempt.via),
        simulated=attempt.unit.config.simulated,
        course=Course.of(counters.progress, counters.repeated),
    )


def reports_apart(unit: Unit, builds: Iterable[Build]) -> Iterator[DfuReport]:
    """Reports of the uploads that a test made itself, each once; of what runs afterwards they say nothing.

    `builds`: those among which an image's name is looked for; else it has its file's.
    """
    uploads, unit.uploads_apart = unit.uploads_apart, []
    known = {image.hash: build for build in builds for image in build.images.values()}
    for apart in uploads:
        image, path = apart.step.image, Path(apart.step.image.source)
        build = known.get(image.hash) or Build(path.name, path, {apart.step.name: image})
        attempt = Attempt(build, unit, Timeline(0.0), running="not looked at: recovery.upload")
        part = attempt.begin(apart.step, needed=True)
        part.upload, part.looked_at = apart.upload, True
        part.proof = Proof(verified=apart.verified, proof=apart.proof, hash=apart.hash)
        yield report_of(attempt)


def _taken_up(upload: Upload) -> int:
    """Bytes that an earlier upload had brought already."""
    progress = upload.counters.progress
    if not upload.resumed or not progress:
        return 0
    at_start = progress[0][1]
    return at_start or (progress[1][1] if len(progress) > 1 else 0)  # by its sha it is told with the first answer


def _notes(part: Part, via: str) -> tuple[str, ...]:
    if not part.needed:
        return (*part.notes, "the board held this image already: nothing was uploaded")
    upload = part.upload
    if upload is None:
        return (*part.notes, *(() if via == "staged" else ("nothing was uploaded",)))
    notes = (
        [*part.notes] if upload.done else [*part.notes, f"{upload.acknowledged} of {upload.total} bytes were uploaded"]
    )
    notes.extend(size_note(upload, via))
    if upload.resumed:
        notes.append("an upload broken off was taken up")
    if upload.counters.restarts:
        who = "bootloader" if via == "recovery" else "application"
        notes.append(f"the {who} had been reset: the upload began again at 0 ({upload.counters.restarts} times)")
    return tuple(notes)


def proved_in_words(proof: Proof) -> str:
    """A proof, for people."""
    if proof.hash is None:
        return f"NOT verified: {proof.proof}"
    return f"verified: the board's image list shows hash {proof.hash.hex()[:HASH_SHOWN]}... in slot 0"
