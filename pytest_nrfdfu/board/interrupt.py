"""Updates that are cut off on purpose, by reset or power, and which image runs afterwards.

For products that must survive it: after the next boot either the old image runs or the new one, whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pytest_nrfdfu.board.aftermath import note_active
from pytest_nrfdfu.board.application import ApplicationUpdate
from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import Ran, Which, shown, swap_seconds, which_runs
from pytest_nrfdfu.board.boot import boot
from pytest_nrfdfu.board.boot_wait import LINE_END
from pytest_nrfdfu.board.cut_evidence import After, Around, Seen, around, hung, judge, over, reset_unanswered, too_late
from pytest_nrfdfu.board.interrupted import Interrupted, Place, attempt_of, parse_place, version_of
from pytest_nrfdfu.board.noted import noted_os_reset
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.power import power_cycle
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.restart import reset_kind, restart
from pytest_nrfdfu.board.running_application import await_application, await_banner
from pytest_nrfdfu.board.session import PROVED, Recovery
from pytest_nrfdfu.board.swap_wait import MARGIN
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.board.update_parts import Attempt
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import ConfigError, NotBooted, PortGone, SmpTimeout, UartError, UpdateRefused
from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["Interrupted", "Place", "attempt_of", "interrupt", "parse_place"]

_PATIENT = 2
"""How many times the data sheet's time a swap may take."""
_APPLICATION = "the application's image list"
_RECOVERY = "recovery's image list"
_BY_VERSION = f"{_RECOVERY}, which shows no hashes: by the version"
_NEWLINE = re.compile("\n")


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
        """Where on the console the cut was."""
        self._reset = 0
        """Where on the console the reset was that started the swap."""
        self._reckoned = 0.0
        """Seconds from that reset that the swap should take."""
        self._pages = 0
        self._seen = Seen()

    def _progress(self, acknowledged: int, total: int) -> None:
        self._share = (self._before + acknowledged) / self._total
        self._seen = Seen(within=True, how=f"{self._before + acknowledged} of {self._total} bytes were acknowledged")
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
        try:
            await_application(self._unit, self._position, None, extra=self._still(update), smp=True)
        except NotBooted:
            return self._by_recovery(update.old, self._extra(update))
        return self._by_application(update.old)

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

    def _still(self, update: ApplicationUpdate) -> float:
        """The same once a banner has told that the swap is over: what is left is a way back, which takes as long."""
        extra = self._extra(update)
        if self._place.phase == "upload":
            return extra
        rest = (1 - self._share) * self._reckoned
        if not await_banner(self._unit, self._position, MARGIN * rest + self._unit.config.boot.timeout):
            return extra
        if not over(self._around(self._at).after, rest, simulated=self._unit.config.simulated):
            return extra
        return min(extra, MARGIN * (self._share * self._reckoned + time.monotonic() - self._at))

    def _in_swap(self, update: ApplicationUpdate) -> None:
        """Reset, and cut when the share of the time has passed that the swap should take.

        UpdateRefused, with nothing cut off, where the swap is over by then.
        """
        unit = self._unit
        whole = self._reckoned = self._whole(update)
        self._pages = update.pages
        self._reset = unit.console_uart.console.position
        self._seen = Seen()
        try:
            with noted_os_reset(unit):
                unit.client.reset(tries=1)  # one sent again may reach the image on trial, and take it back
        except (SmpTimeout, PortGone) as silence:
            raise reset_unanswered(unit.name, silence) from silence
        began = time.monotonic() + unit.config.boot.reset_delay
        banner = self._watch(began + self._place.share * whole)
        self._share = min(1.0, (time.monotonic() - began) / whole) if whole else 1.0
        if banner:
            raise self._nothing_cut(update, banner)
        self._do()

    def _whole(self, update: ApplicationUpdate) -> float:
        """Seconds that the swap should take: by the last one on this unit, scaled by pages, or by the data sheet.

        How large the image was that was replaced then nobody told: it may have taken longer than its pages say. So a
        larger image gets no more than that time or the data sheet's.
        """
        unit, reckoned = self._unit, update.swaps
        if unit.swap_seconds is None or not unit.swap_pages:
            return reckoned
        scaled = unit.swap_seconds * update.pages / unit.swap_pages
        return min(scaled, max(unit.swap_seconds, reckoned))

    def _watch(self, until: float) -> str:
        """Wait for the moment to cut; before it, what shows that the swap is over, as soon as that is seen."""
        console = self._unit.console_uart.console
        pattern, start = re.compile(self._unit.config.console.banner), self._reset
        with suppress(UartError):  # the reset may take the port away
            while found := console.wait_for(pattern, start, max(0.0, until - time.monotonic())):
                console.wait_for(_NEWLINE, found.end, LINE_END)
                if banner := self._banner(self._around(time.monotonic())):
                    return banner
                start = found.end
        time.sleep(max(0.0, until - time.monotonic()))
        return self._banner(self._around(time.monotonic()))

    def _around(self, at: float) -> Around:
        return around(self._unit, self._reset, at)

    def _banner(self, told: Around) -> str:
        """What of the boots before the cut shows that the swap was over."""
        return over(told.before, self._reckoned, simulated=self._unit.config.simulated)

    def _nothing_cut(self, update: ApplicationUpdate, banner: str) -> UpdateRefused:
        """The error of a swap that was over too early, and what runs now."""
        unit = self._unit
        unit.forget("an update that was to be cut off in the swap was not: the swap was over before")
        try:
            await_application(unit, self._reset, None, extra=self._extra(update), smp=True)
        except NotBooted as error:
            return self._too_late(banner, f"Nothing was cut off, and what runs now is not known: {error}")
        states = unit.client.images()
        note_active(unit, states)
        ran = which_runs(states, self._attempt.build.hash, update.old.hash if update.old is not None else None)
        return self._too_late(banner, f"Nothing was cut off. {self._now(ran)}")

    def _learn(self) -> float | None:
        """Remember what the swap took, so that the next is cut in time; seconds, None where no banner told."""
        before = self._around(self._at or time.monotonic()).before
        took = next((boot.banner_after for boot in before if boot.banner_after is not None), None)
        if took is not None:
            self._unit.swap_seconds, self._unit.swap_pages = took, self._pages
        return took

    def _now(self, ran: Ran) -> str:
        """What runs, for an error."""
        self._attempt.running = f"the {ran.which} image, version {ran.state.version}" if ran.state else "not known"
        trial = ran.which == "new" and ran.state is not None and not ran.state.confirmed
        way = ", on trial: the next reset (dfu.revert()) takes it back, dfu.confirm() keeps it" if trial else ""
        return f"Now the {ran.which} image runs, {shown(ran.state)}, by {_APPLICATION}{way}"

    def _too_late(self, why: str, now: str) -> UpdateRefused:
        self._attempt.reason = "the swap was over before the cut"
        text = too_late(self._place.share, self._reckoned, f"{why}. {now}", known=self._learn())
        return UpdateRefused(f"{self._unit.name}: {text}")

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
        return self._by_recovery(before, 0.0)

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

    def _by_application(self, old: ImageState | None, trouble: str = "") -> Interrupted:
        """By the list of the application that answers now. `trouble`: as in `Interrupted`."""
        states, new = self._unit.client.images(), self._attempt.build.hash
        ran = which_runs(states, new, old.hash if old is not None else None)
        second = states.find(slot=1)
        note_active(self._unit, states)
        trial = ran.which == "new" and self._attempt.swap != "overwrite" and not _confirmed(ran.state, _APPLICATION)
        self._judge(ran, on_trial=trial, back=second is not None and second.hash == new, trouble=trouble)
        return self._result(ran.which, ran.state, _APPLICATION)

    def _judge(self, ran: Ran, *, on_trial: bool = False, back: bool = False, trouble: str = "") -> None:
        """Note how the cut was seen to lie in the swap; UpdateRefused where the swap was over before it."""
        if self._place.phase == "upload":
            return
        told, attempt = self._around(self._at), self._attempt
        after = After(ran.which, attempt.build.image, on_trial=on_trial, back=back, trouble=trouble)
        self._seen = judge(told, self._banner(told), after, overwrites=attempt.swap == "overwrite")
        if self._seen.over:
            raise self._too_late(self._seen.over, f"The cut hit the image on trial. {self._now(ran)}")

    def _by_recovery(self, old: ImageState | None, extra: float) -> Interrupted:
        """What slot 0 holds, by recovery's list, which shows valid images alone; started, if there is one.

        That boot may go on with a swap, or take a trial back, `extra` seconds longer than others: an application that
        lists its images has the last word.
        """
        waited, told = time.monotonic() - self._at, self._around(self._at)
        self._unit.reset_at = None  # a swap was waited for already, with patience
        found = enter(self._unit).images.find()
        if found is None:
            self._judge(Ran("none", None))
            return self._result("none", None, _RECOVERY)
        trouble = self._trouble(found, told, waited)
        try:
            running = boot(self._unit, extra=extra)
        except NotBooted as error:
            if not trouble:
                raise
            raise NotBooted(f"{self._unit.name}: {trouble}. Then, started from recovery: {error}") from error
        if running == PROVED:
            return self._by_application(old, trouble)
        if found.hash is None:
            return self._by_version(found, old, trouble)
        which: Which = "another"
        if found.hash == self._attempt.build.hash:
            which = "new"
        elif old is not None and found.hash == old.hash:
            which = "old"
        self._judge(Ran(which, found), trouble=trouble)
        return self._result(which, found, _RECOVERY)

    def _trouble(self, found: ImageState, told: Around, waited: float) -> str:
        """How the new image fared that `waited` seconds after a cut swap did not run, and is in slot 0."""
        if self._place.phase == "upload" or self._attempt.via == "recovery":
            return ""
        image = self._attempt.build.image
        is_new = found.hash == image.hash if found.hash is not None else version_of(found) == image.version
        return hung(told, image, waited) if is_new else ""

    def _by_version(self, found: ImageState, old: ImageState | None, trouble: str) -> Interrupted:
        """Without hashes (CONFIG_BOOT_SERIAL_IMG_GRP_HASH)."""
        now, build = version_of(found), self._attempt.build
        is_new, is_old = now == build.image.version, old is not None and now == version_of(old)
        if is_new and is_old:
            raise NotBooted(
                f"{self._unit.name}: after the cut an application runs, and whether it is {build.image.source} or the"
                f" one before nothing tells: both have version {now}, and {_RECOVERY} shows no hashes. Give them"
                " versions that differ, or build MCUboot with CONFIG_BOOT_SERIAL_IMG_GRP_HASH"
            )
        which: Which = "new" if is_new else "old" if is_old else "another"
        self._judge(Ran(which, found), trouble=trouble)
        return self._result(which, found, _BY_VERSION)

    def _result(self, runs: Which, state: ImageState | None, proof: str) -> Interrupted:
        place, attempt = self._place, self._attempt
        told = f"the {runs} image runs, {shown(state)}" if state is not None else "no valid image: in serial recovery"
        self._say(f"after the cut {told}; by {proof}")
        if place.phase == "swap":
            self._say("; ".join(filter(None, (self._seen.how, self._seen.trouble))))
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
            within=self._seen.within,
            seen=self._seen.how,
            trouble=self._seen.trouble,
            swap=attempt.swap,
            simulated=self._unit.config.simulated,
        )


def _confirmed(state: ImageState | None, proof: str) -> bool | None:
    """An application may leave out what is false (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST), MCUboot what it does not know."""
    if state is None:
        return None
    return bool(state.confirmed) if proof == _APPLICATION else state.confirmed
