"""Updates that are cut off on purpose, by reset or power, and which image runs afterwards.

For products that must survive it: after the next boot either the old image runs or the new one, whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_nrfdfu.board.application import ApplicationUpdate
from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import Which, shown, swap_seconds, which_runs
from pytest_nrfdfu.board.boot import boot
from pytest_nrfdfu.board.noted import noted_os_reset
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.power import power_cycle
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.report import Timeline
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.running_application import await_application
from pytest_nrfdfu.board.session import PROVED, Recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.update_parts import Attempt
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import ConfigError, NotBooted, UpdateRefused
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.image.format import Version
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["Interrupted", "Place", "interrupt", "parse_place"]

_PATIENT = 2
"""How many times the data sheet's time a swap may take."""
_APPLICATION = "the application's image list"
_RECOVERY = "recovery's image list"
_BY_VERSION = f"{_RECOVERY}, which shows no hashes: by the version"
_PLACE = re.compile(r"(upload|swap):(\d{1,3}(?:\.\d+)?)%")


class Place(NamedTuple):
    """Where an update is cut off: a phase, and a share of it from 0 to 1."""

    phase: Literal["upload", "swap"]
    share: float


def parse_place(text: str) -> Place:
    """``upload:50%`` or ``swap:30%``; ValueError otherwise."""
    found = _PLACE.fullmatch(text)
    if found is None or float(found[2]) > 100:
        raise ValueError(f"at={text!r} is no place in an update; write 'upload:50%' or 'swap:30%'")
    return Place("upload" if found[1] == "upload" else "swap", float(found[2]) / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """An update that was cut off, and what runs after the next boot."""

    unit: str
    build: str
    at: str
    """As asked for: ``upload:50%``."""
    by: str
    """``reset`` or ``power``."""
    via: str
    cut: float
    """Share at which it was begun to cut: of the upload's bytes, or of the time that the swap should take."""
    runs: Which
    """``old`` or ``new``; ``none``: no valid image is in slot 0, and the board is in serial recovery; ``another``."""
    version: str
    hash: bytes | None
    proof: str
    """Whose image list shows that: the application's, or recovery's."""
    seconds: float
    """From the cut until that was known."""
    confirmed: bool | None = None
    """Whether that image is confirmed, by the application's list; False: it is on trial, and goes at the next reset."""
    swap: str = ""
    simulated: bool = False


class _CutError(Exception):
    """The upload has come to the place."""


def interrupt(attempt: Attempt, steps: list[Step], place: Place, by: str, *, say: Callable[[str], None]) -> Interrupted:
    """Update, cut it off at `place`, let the board boot, and say what runs. ConfigError where nothing can cut it."""
    cut = _Cut(attempt, place, _cutter(attempt.unit, by), by, say)
    if attempt.via == "recovery":
        return cut.in_recovery(steps)
    return cut.through_application(steps)


def _cutter(unit: Unit, by: str) -> Callable[[], object]:
    """What cuts an update off; ConfigError where the rig cannot."""
    if by == "power":
        if unit.config.power is None:
            raise ConfigError(f"{unit.name}: by='power' needs a [power] table with the commands that switch its supply")
        return lambda: power_cycle(unit)
    if by != "reset":
        raise ValueError(f"by={by!r} is not known; known: 'reset', 'power'")
    kind: ResetKind = reset_kind(unit)
    if kind == "smp":
        raise ConfigError(
            f"{unit.name}: by='reset' needs a probe, a reset line or a reset command: a board that is busy with an"
            " update answers no request to reset"
        )
    return lambda: restart(unit, kind)


class _Cut:
    def __init__(
        self, attempt: Attempt, place: Place, cutter: Callable[[], object], by: str, say: Callable[[str], None]
    ) -> None:
        self._attempt = attempt
        self._unit = attempt.unit
        self._place = place
        self._cutter = cutter
        self._by = by
        self._say = say
        self._share = 0.0
        self._total = 1
        """Bytes of all the images to be uploaded."""
        self._before = 0
        """Bytes of those that were uploaded already."""
        self._at = 0.0
        self._position = 0

    def _progress(self, acknowledged: int, total: int) -> None:
        self._share = (self._before + acknowledged) / self._total
        if acknowledged == total:
            self._before += total
        if self._place.phase == "upload" and self._share >= self._place.share:
            raise _CutError

    def _count(self, steps: Sequence[Step]) -> None:
        self._total = sum(len(step.image.data) for step in steps)

    def _do(self) -> None:
        self._position = self._unit.console_uart.console.position
        self._at = time.monotonic()
        self._cutter()
        self._unit.unfinished = None
        self._unit.forget(f"an update was cut off at {self._share:.0%} of its {self._place.phase}")
        self._say(f"cut off by {self._by} at {self._share:.0%} of the {self._place.phase}")

    # --- through the application ------------------------------------------------------------------------------------

    def through_application(self, steps: list[Step]) -> Interrupted:
        """Cut an upload to slot 1, or the swap that follows."""
        self._count(steps)
        update = ApplicationUpdate(self._attempt, steps, say=self._say, progress=self._progress)
        update.check(confirm=True)
        if update.is_there():
            raise UpdateRefused(
                f"{self._unit.name} runs {self._attempt.build} already: afterwards nothing could tell the old image"
                " from the new. Nothing was sent. Put another image on the board first"
            )
        try:
            update.stage()
        except _CutError:
            self._do()
        else:
            self._check_place()
            self._in_swap(update)
        old = update.old
        try:
            await_application(self._unit, self._position, None, extra=self._extra(update), smp=True)
        except NotBooted:
            return self._by_recovery(old)
        return self._by_application(old)

    def _check_place(self) -> None:
        """UpdateRefused where the upload has ended and never came to the place at which it was to be cut."""
        if self._place.phase == "upload":
            raise UpdateRefused(
                f"{self._unit.name}: the upload was to be cut off at {self._place.share:.0%} and ended at"
                f" {self._share:.0%}: slot 1 holds the image already and could not be erased, so nothing of it was sent"
                " or cut off, and it is marked for the next boot. Reset the board (board.reset()), and"
                " once more where nobody confirms it: then the image before is back, and slot 1 is free"
            )

    def _extra(self, update: ApplicationUpdate) -> float:
        """Seconds that the next boot may take longer: for the rest of the swap, or the way back where it was over.

        How large the old image is nobody tells, so as long as a whole slot takes. An upload cut off leaves no swap.
        """
        if self._place.phase == "upload":
            return 0.0
        return _PATIENT * swap_seconds(update.swap, [slot_size(self._unit)], self._unit.client.link)

    def _in_swap(self, update: ApplicationUpdate) -> None:
        """Reset, and cut when the share of the time has passed that the swap should take."""
        unit = self._unit
        whole = unit.swap_seconds or update.swaps
        with noted_os_reset(unit):
            unit.client.reset(tries=1)  # one sent again may reach the image on trial, and take it back
        began = time.monotonic() + unit.config.boot.reset_delay
        time.sleep(max(0.0, began + self._place.share * whole - time.monotonic()))
        self._share = min(1.0, (time.monotonic() - began) / whole) if whole else 1.0
        self._do()

    # --- in recovery ------------------------------------------------------------------------------------------------

    def in_recovery(self, steps: list[Step]) -> Interrupted:
        """Cut an upload to slot 0; recovery is entered again, since an unfinished image does not boot."""
        if self._place.phase != "upload":
            raise ValueError("via='recovery' has no swap to be cut off; write at='upload:50%'")
        unit = self._unit
        self._count(steps)
        unit.forget()
        recovery = Recovery(unit, enter(unit))
        self._attempt.entry = recovery.entered.method
        before = recovery.entered.images.find()
        try:
            for step in steps:
                self._send(recovery, step)
        except _CutError:
            pass
        self._do()
        return self._by_recovery(before)

    def _send(self, recovery: Recovery, step: Step) -> None:
        """One image; how far it came is the report's, cut off or not."""
        part = self._attempt.begin(step, needed=True)
        try:
            part.upload = recovery.send(step, progress=self._progress)
        except _CutError:
            unfinished = self._unit.unfinished
            part.upload = unfinished.upload if unfinished is not None else None
            raise

    # --- what runs --------------------------------------------------------------------------------------------------

    def _by_application(self, old: ImageState | None) -> Interrupted:
        """By the list of the application that answers now."""
        states = self._unit.client.images()
        ran = which_runs(states, self._attempt.build.hash, old.hash if old is not None else None)
        return self._result(ran.which, ran.state, _APPLICATION)

    def _by_recovery(self, old: ImageState | None) -> Interrupted:
        """What slot 0 holds, by recovery's list, which shows valid images alone; started, if there is one.

        That boot may go on with a swap, or take a trial back: an application that lists its images has the last word.
        """
        found = enter(self._unit).images.find()
        if found is None:
            return self._result("none", None, _RECOVERY)
        if boot(self._unit) == PROVED:
            return self._by_application(old)
        if found.hash is None:
            return self._by_version(found, old)
        if found.hash == self._attempt.build.hash:
            return self._result("new", found, _RECOVERY)
        is_old = old is not None and found.hash == old.hash
        return self._result("old" if is_old else "another", found, _RECOVERY)

    def _by_version(self, found: ImageState, old: ImageState | None) -> Interrupted:
        """Without hashes (CONFIG_BOOT_SERIAL_IMG_GRP_HASH)."""
        now, build = _version(found), self._attempt.build
        is_new, is_old = now == build.image.version, old is not None and now == _version(old)
        if is_new and is_old:
            raise NotBooted(
                f"{self._unit.name}: after the cut an application runs, and whether it is {build.image.source} or the"
                f" one before nothing tells: both have version {now}, and {_RECOVERY} shows no hashes. Give them"
                " versions that differ, or build MCUboot with CONFIG_BOOT_SERIAL_IMG_GRP_HASH"
            )
        return self._result("new" if is_new else "old" if is_old else "another", found, _BY_VERSION)

    def _result(self, runs: Which, state: ImageState | None, proof: str) -> Interrupted:
        place, attempt = self._place, self._attempt
        told = f"the {runs} image runs, {shown(state)}" if state is not None else "no valid image: in serial recovery"
        self._say(f"after the cut {told}; by {proof}")
        return Interrupted(
            unit=self._unit.name,
            build=attempt.build.name,
            at=f"{place.phase}:{place.share * 100:g}%",
            by=self._by,
            via=attempt.via,
            cut=self._share,
            runs=runs,
            version=state.version if state is not None else "",
            hash=state.hash if state is not None else None,
            proof=proof,
            seconds=time.monotonic() - self._at,
            confirmed=_confirmed(state, proof),
            swap=attempt.swap,
            simulated=self._unit.config.simulated,
        )


def _confirmed(state: ImageState | None, proof: str) -> bool | None:
    """An application may leave out what is false (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST), MCUboot what it does not know."""
    if state is None:
        return None
    return bool(state.confirmed) if proof == _APPLICATION else state.confirmed


def _version(state: ImageState) -> Version | None:
    """As listed; old bootloaders write a build number of 0 out."""
    with suppress(ValueError):
        return Version.parse(state.version)
    return None


def attempt_of(build: Build, unit: Unit, via: str) -> Attempt:
    """The attempt that is to be cut off; ValueError for another way than recovery or application."""
    if via not in {"recovery", "application"}:
        raise ValueError(f"via={via!r} is not known; known: 'recovery', 'application'")
    if APP not in build.images:
        raise UpdateRefused(f"{build} has no application image, and nothing shows which other image runs")
    return Attempt(build, unit, Timeline(time.monotonic()), via=via)
