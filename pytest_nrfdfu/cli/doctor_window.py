"""The doctor's part about windows of upload chunks: what earlier uploads to the unit have shown, or a measurement.

A window is measured with the user's own build, uploaded as in an update, and in no other way: a request that only looks
like an upload would begin one, and leave the slot without the image that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.board.dfu import reckon_with
from pytest_nrfdfu.board.limits import no_window
from pytest_nrfdfu.board.plan import Step, plan
from pytest_nrfdfu.board.session import Recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.upload_words import HOW_TO_MEASURE, next_trial
from pytest_nrfdfu.board.window_memory import NO_TRIAL, Known, WindowMemory
from pytest_nrfdfu.cli.doctor_findings import Finding, Skipped
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.regulator import TRIAL_BYTES, Verdict
from pytest_nrfdfu.smp.upload import Upload

if TYPE_CHECKING:
    from pytest_nrfdfu.cli.doctor_bench import Bench

__all__ = ["Windows", "app_step", "try_window"]

_MOST_UPLOADS = 16
"""Of one small image, until a trial's bytes are together: each erases the same pages again."""


@dataclass(slots=True)
class Windows:
    """What to do about windows. `build` is uploaded to measure one; None: only say what is remembered in `memory`."""

    file: Path | None = None
    build: Build | None = None
    memory: WindowMemory = field(init=False)
    outcome: dict[str, Any] | None = field(default=None, init=False)
    """What is known at the end, as JSON types."""

    def __post_init__(self) -> None:
        self.memory = WindowMemory(self.file)

    def note(self, unit: Unit) -> Known:
        """Keep what is known of `unit` now."""
        known = self.memory.get(unit.memory_key)
        self.outcome = {
            "window": known.window,
            "full": known.full,
            "losses": known.losses,
            "failures": known.failures,
            "when": known.when or None,
            "uploads_until_next_trial": known.held_back,
            "receive_size": known.receive_size,
            "holds_for": unit.memory_key,
            "file": str(self.file) if self.file is not None else None,
        }
        return known


def app_step(build: Build, config: BoardConfig) -> Step:
    """What is uploaded of a build; ImageError or ConfigError, before anything is touched, if it does not do."""
    step = next((step for step in plan(build, config) if step.name == APP and not step.network_core), None)
    if step is None:
        raise ImageError(f"{build.path} holds no application image: a window is measured with an upload of one")
    least = -(-TRIAL_BYTES // _MOST_UPLOADS)
    if step.image.size < least:
        raise ImageError(
            f"{build.path} has {step.image.size} bytes: a window is measured over {TRIAL_BYTES >> 10} KiB; give an"
            f" image of {least} bytes or more"
        )
    return step


def try_window(bench: Bench) -> Finding:
    """Measure a window if that was asked for, and say what is known of windows on this unit."""
    windows, unit = bench.windows, bench.unit
    unit.memory = windows.memory
    if windows.build is None:
        known = windows.note(unit)
        seen = no_window(unit.config, unit.profile) or _remembered(unit.config, known)
        return Finding("fine", f"{seen}{_size(known)}", details=_otherwise(unit))
    if bench.entered is None:
        raise Skipped("to measure a window the board must be in recovery")
    reckon_with(unit, windows.build)
    reason = no_window(unit.config, unit.profile)
    if reason is not None:
        raise Skipped(f"{reason}{_size(windows.note(unit))}")
    try:
        return _measured(bench, app_step(windows.build, unit.config))
    finally:
        windows.note(unit)


def _remembered(config: BoardConfig, known: Known) -> str:
    asked = config.bootloader.window
    if asked != "auto":
        return f"window = {asked} in [bootloader] holds, whatever was measured"
    what = "a full window (flow control)" if known.full else "a window"
    if known.window == "clean":
        return f"measured: {what} of 2 chunks lost nothing, and uploads use it"
    if known.window == "lossy":
        when = f" on {known.when}" if known.when else ""
        return f"measured: {what} lost something{when}, so uploads send one chunk at a time; {next_trial(known)}"
    return f"not measured: the next upload of {TRIAL_BYTES >> 10} KiB or more tries a window, or {HOW_TO_MEASURE} does"


def _size(known: Known) -> str:
    """The receive size that was found, whatever is done about windows."""
    if known.receive_size is None:
        return ""
    when = f", found on {known.size_when}" if known.size_when else ""
    return (
        f"; the bootloader takes requests of {known.receive_size - FRAME_OVERHEAD} bytes{when}: say receive_size ="
        f" {known.receive_size} in [bootloader]"
    )


def _otherwise(unit: Unit) -> tuple[str, ...]:
    """What is remembered of the unit with other bootloaders: a build may say more of one than the configuration."""
    outcomes = {"clean": "a window lost nothing", "lossy": "a window lost something"}
    found = unit.memory.beginning(f"{unit.name}, ")
    found.pop(unit.memory_key, None)
    return tuple(f"{key}: {outcomes[known.window]}" for key, known in found.items() if known.window in outcomes)


def _measured(bench: Bench, step: Step) -> Finding:
    """Upload on trial, whatever is configured or remembered, until the trial has an outcome."""
    unit, config = bench.unit, bench.unit.config
    unit.memory.note(unit.memory_key, **NO_TRIAL, receive_size=None, size_when="")
    unit.config = config.model_copy(update={"bootloader": config.bootloader.model_copy(update={"window": "auto"})})
    entered = bench.entered
    assert entered is not None
    recovery = Recovery(unit, entered)
    try:
        finding = _trial(bench, recovery, step)
        recovery.verify(step.image)
    finally:
        unit.config = config
        bench.entered = None  # what it listed holds no more; where the upload broke off, nothing else is tried
    bench.entered = entered._replace(images=recovery.images())
    if config.bootloader.window != "auto":
        return finding._replace(advice=f"window = {config.bootloader.window} in [bootloader] holds all the same.")
    return finding


def _trial(bench: Bench, recovery: Recovery, step: Step) -> Finding:
    carried, seconds, uploads = 0, 0.0, 0
    verdict = Verdict.NONE
    while verdict is Verdict.NONE:
        upload = recovery.send(step, progress=bench.progress)
        uploads += 1
        carried += upload.total
        seconds += _seconds(upload)
        verdict = upload.regulator.verdict
        if verdict is Verdict.NONE and not upload.regulator.on_trial:
            return Finding("unknown", "the board was reset during the upload", "Measure again.")
    if verdict is Verdict.LOSSY:
        seen = f"a window of {upload.counters.window} chunks lost something; uploads send one chunk at a time"
        return Finding("fine", seen, "It may have been the link: measure again. What is remembered is the last.")
    memory = bench.unit.memory
    kept = f"NOT remembered: {memory.not_kept}." if memory.not_kept else f"Remembered in {bench.windows.file}."
    times = "" if uploads == 1 else f" in {uploads} uploads"
    return Finding(
        "fine",
        f"a window of {upload.counters.window} chunks carried {carried} bytes{times} and lost nothing; uploads use it"
        f" ({carried / seconds:.0f} bytes/s)",
        details=(kept,),
    )


def _seconds(upload: Upload) -> float:
    times = [when for when, _ in upload.counters.progress]
    return max(times[-1] - times[0], 1e-3)
