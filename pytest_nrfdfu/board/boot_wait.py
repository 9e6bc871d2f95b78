"""Waiting for an application after a reset: its image list where it has an SMP server, else its banner that stands.

A banner shows a running application only if it is not the bootloader's own, and neither a fault nor another boot
follows at once: what the console has told is read by `boot_story`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from pytest_nrfdfu.board import boot_record, fault_dump
from pytest_nrfdfu.board.boot_record import BootRecord
from pytest_nrfdfu.board.boot_story import Story, story
from pytest_nrfdfu.board.console import Console, Found
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.not_booted import Waited, explain, explain_other
from pytest_nrfdfu.board.swap_ahead import SwapAhead, after_boot
from pytest_nrfdfu.board.swap_wait import SwapWait, may_wait_for_dfu
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone, SmpRejected, SmpTimeout, UartError
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["LINE_END", "POLL", "Restart", "StillBootloaderError", "Wait"]

POLL = 0.3
"""Seconds between requests."""
LINE_END = 0.3
"""Seconds for the rest of a line whose beginning was seen."""
_ASK = 0.8
"""Seconds that an application gets to answer an image list request after its banner, when nobody knows whether it can.
Zephyr's SMP server is up as soon as the kernel is."""
_VALIDATION = 1.0
"""Seconds, generously, that MCUboot may take to validate an image before its window for an update begins."""
_LATE = 0.1
"""Seconds that a reset may come later than announced."""
_STANDS = 0.2
"""Seconds after its banner in which an application that dies at start has begun to say so: a judgement."""
_TROUBLE = re.compile(f"{fault_dump.BEGINNING.pattern}|{boot_record.BEGINNING.pattern}")
"""What shows that a banner was not the last word."""
_NEWLINE = re.compile("\n")
_BEGUN = re.compile(r"\*\*\* Booting [^\n]*\Z")
"""A boot banner that is still on its way."""
_UNCERTAIN = (
    ". An image list was answered, but nothing shows that the board was reset: the reset request was not answered, and"
    " no banner came"
)


@dataclass(frozen=True, slots=True)
class Restart:
    """How the board was reset."""

    again: Callable[[], object] | None = None
    """Resets it once more in the same way."""
    delay: float = 0.0
    """Seconds until it happened: an OS reset is answered first."""
    certain: bool = True
    """Whether it must have happened; else an image list alone shows nothing, the application may never have stopped."""
    extra: float = 0.0
    """Seconds that this boot may take longer than configured: MCUboot swaps images, and back perhaps."""
    smp: bool | None = None
    """Whether the application is known to have an SMP server, whatever the configuration says; None: nobody knows."""
    at: float | None = None
    """When it was, in seconds, monotonic; None: just now, or `delay` from now."""
    since: float | None = None
    """Before which it cannot have been; None: a moment before."""
    how: str = "reset"
    """In words, for the record of boots; empty if it was noted there already."""

    def note(self, console: Console) -> None:
        """Tell the console of it, for the record of boots."""
        if self.how:
            now = time.monotonic()
            console.note_reset(self.how, now + self.delay if self.at is None else self.at, since=self._earliest(now))

    def _earliest(self, now: float) -> float | None:
        if self.since is not None or self.at is not None or not self.delay:
            return self.since
        return now


class StillBootloaderError(Exception):
    """The bootloader answered where the application was expected."""


class _Answer(Enum):
    """What an image list request brought, if not an application's list."""

    NONE = auto()
    REFUSED = auto()
    """By an SMP server without the image group: an application's."""


class Wait:
    """One wait for the application after one reset."""

    def __init__(self, unit: Unit, position: int, image: Image | None, restart: Restart) -> None:
        """`position`: where on the console the boot began. `image`: what must run; None: anything."""
        self.unit = unit
        self.restart = restart
        self._position = position
        self._image = image
        self._console = unit.console_uart.console
        self._began = time.monotonic()
        self._until = self._began + unit.config.boot.timeout + restart.extra
        self._swap = SwapWait(unit, self._began, reckoned=restart.extra > 0)
        self._pattern = re.compile(unit.config.console.banner)
        self._asked = False
        """Whether an image list was asked for."""
        self.swapping = False
        """Whether the wait has failed, and MCUboot was swapping still by all that was seen."""

    @property
    def _deadline(self) -> float:
        """Until when the application is waited for: longer from when a swap is seen."""
        return max(self._until, self._swap.until)

    @property
    def _seconds(self) -> float:
        return self._deadline - self._began

    def run(self, *, silent: bool = False) -> str:
        """How the application was seen running; see `boot.wait_running`.

        `silent`: the banner is no reason to speak, it may be the bootloader's. StillBootloaderError if it answered.
        """
        unit, image = self.unit, self._image
        digest = image.hash if image is not None else unit.proved
        has_smp = unit.config.boot.smp if self.restart.smp is None else self.restart.smp
        if has_smp is None and digest is not None:
            has_smp = unit.application_has_smp.get(digest)
        self._announce()
        if has_smp is False:
            return self._by_console()
        quiet = self._quiet()
        if silent:
            time.sleep(2 * quiet)
            self._until += 2 * quiet
        self._stay_quiet(self._began + quiet)
        states = self._by_list(console_does=has_smp is None)
        running = "image list"
        if states is None:
            running = self._by_console()
        elif image is not None:
            self._check(image, states)
        if digest is not None:
            unit.application_has_smp[digest] = states is not None
        if states is not None:
            self._tell_waited()
        return running

    def failure(self, more: str = "") -> NotBooted:
        """The error of an application that was not seen; `more` goes behind the advice."""
        swap, extra = self._swap, self.restart.extra
        known = swap.ahead.is_known and (swap.extra > 0 or extra > 0) and not swap.over
        self.swapping = swap.under_way or known
        waited = Waited(
            self._seconds,
            time.monotonic() - self._began,
            asked=self._asked,
            swap=swap.why or (swap.ahead.value if extra else ""),
            swapping=self.swapping,
            swap_seconds=max(swap.extra, extra),
        )
        return NotBooted(explain(self.unit, self._position, self._image, waited, more))

    def _story(self) -> Story:
        told = story(self.unit, self._position)
        was_under_way = self._swap.under_way
        self._swap.look(told.boots, time.monotonic())
        if self._swap.under_way and not was_under_way:
            self.unit.say(f"{self._swap.why}: it is waited for, for up to {self._seconds:.0f} s after the reset")
        return told

    def _announce(self) -> None:
        """Say what is known before it happens."""
        swap = self._swap
        if swap.ahead.is_known and swap.extra:
            self.unit.say(f"{swap.why}: MCUboot may swap for up to {swap.extra:.0f} s before the application starts")

    def _tell_waited(self) -> None:
        """Say how long it was where a swap was waited for."""
        if self.restart.extra:  # by whoever has reckoned with it
            return
        swap, took = self._swap, time.monotonic() - self._began
        why = f"MCUboot logged {swap.logged}" if swap.logged else swap.ahead.value
        if why and (swap.ahead is not SwapAhead.POSSIBLE or swap.logged or took > self.unit.config.boot.timeout):
            self.unit.say(f"{why}: the application runs, waited {took:.1f} s for it")

    # --- the console ------------------------------------------------------------------------------------------------

    def _by_console(self) -> str:
        """Wait until a banner stands; NotBooted if none does, or if the image was started before and taken back."""
        while self._sees_banner():
            here = self._console.position
            disturbed = self._find(_TROUBLE, here, time.monotonic() + _STANDS) is not None
            told = self._story()
            if disturbed or not _stands(told):
                continue
            back = told.went_back(self._image.version if self._image is not None else None)
            if self._image is None and len(told.boots) == 1:  # whatever it was that went, it went before
                back = False
            if back or (told.faults and back is None):
                break
            self._tell_waited()
            self._note_boot(next(reversed(told.boots), None))
            return "console"
        raise self.failure()

    def _note_boot(self, last: BootRecord | None) -> None:
        """What the boot that only the console told of has left: another image may run than the one proved."""
        unit, swap = self.unit, self._swap
        unsaid = swap.ahead is not SwapAhead.NOTHING and not (last is not None and last.swap_types)
        if self._image is None and (swap.logged or unsaid):
            unit.forget("MCUboot may have swapped images at a boot whose application was not asked for its list")
        unit.swap_ahead = after_boot(unit.swap_ahead, last)

    def _stay_quiet(self, until: float) -> None:
        """Send nothing before `until`, unless the banner comes; nor while MCUboot swaps, or may and might hear it."""
        if self._sees_banner(until):
            return
        swap, pause = self._swap, POLL + self.unit.profile.wait_for_dfu
        swapped = until + self._swap_quiet()
        while (now := time.monotonic()) < self._deadline and (swap.under_way or (now < swapped and not swap.over)):
            if self._sees_banner(now + pause):
                return

    def _sees_banner(self, until: float | None = None) -> bool:
        """Whether the application's banner has come, and no fault since, or comes before `until` (else the deadline).

        NotBooted if the board boots again and again, or has halted: a watchdog that may reset it is not waited for.
        """
        start = self._position
        while True:
            end = self._deadline if until is None else until
            found = self._find(self._pattern, start, min(end, time.monotonic() + POLL))
            told = self._story()
            if told.loops or told.halted:
                raise self.failure()
            if found is None:
                if time.monotonic() >= (self._deadline if until is None else until):
                    return False
                continue
            if _BEGUN.search(found.match.string):  # "*** Booting MCU" is not an application's
                self._find(_NEWLINE, found.end, time.monotonic() + LINE_END)
                told = self._story()
            if _stands(told):
                return True
            start = found.end

    def _find(self, pattern: re.Pattern[str], position: int, until: float) -> Found | None:
        """What matches on the console before `until`; a port that vanished is awaited until the deadline."""
        while True:
            try:
                return self._console.wait_for(pattern, position, max(0.0, until - time.monotonic()))
            except UartError:
                if not self.unit.console_uart.transient:
                    raise
                self._reopen(self.unit.console_uart)

    # --- the image list ---------------------------------------------------------------------------------------------

    def _by_list(self, *, console_does: bool) -> ImageStates | None:
        """Ask until an application answers, and return its list; None if it has shown its banner and has no list.

        `console_does`: the banner alone will do. No request is cut short by the deadline, or a bootloader would be
        taken for silent.
        """
        certain = self.restart.certain
        while True:
            now = time.monotonic()
            seen = self._sees_banner(now)
            answer = self._ask(now + (_ASK if seen and console_does else POLL))
            if isinstance(answer, ImageStates) and (seen or certain):
                return answer
            if not isinstance(answer, ImageStates) and seen and console_does and self._sees_banner(now):
                return None
            certain = certain or answer is _Answer.NONE  # a request that nobody answered: it was down
            if time.monotonic() >= self._deadline:
                raise self.failure("" if certain else _UNCERTAIN)
            self._sees_banner(now + POLL)
            time.sleep(max(0.0, now + POLL - time.monotonic()))

    def _ask(self, until: float) -> ImageStates | _Answer:
        """The application's image list, or what came instead; StillBootloaderError if the bootloader answered."""
        unit, self._asked = self.unit, True
        try:
            states = unit.client.poll_images(POLL, until)
        except SmpTimeout:
            return _Answer.NONE
        except SmpRejected:
            return _Answer.REFUSED
        except UartError:
            if not unit.uart.transient:
                raise
            self._reopen(unit.uart)
            return _Answer.NONE
        if from_recovery(states, has_state=unit.profile.image_state):
            raise StillBootloaderError
        return states

    def _check(self, image: Image, states: ImageStates) -> None:
        """HashMismatch if `image` is not the active one, NotBooted if it was started before."""
        active = states.active
        if active is None or active.hash is None or active.hash == image.hash:
            return
        self.unit.forget()
        taken_back = explain_other(self.unit, self._position, image, active)
        if taken_back is not None:
            raise NotBooted(taken_back)
        ahead = self._swap.ahead
        why = "a valid image in the secondary slot was probably swapped in at boot; erase that slot first"
        if ahead.is_known:
            why = f"{ahead.value}, so MCUboot swapped at that boot"
        raise HashMismatch(
            f"{self.unit.name} was proved in recovery to hold {image.source} (hash {image.hash.hex()}), but the"
            f" application that runs now is version {active.version} with hash {active.hash.hex()}: {why}"
        )

    # --- time and port ----------------------------------------------------------------------------------------------

    def _quiet(self) -> float:
        """Seconds to be silent after a reset: until it happened, and the bootloader's window is over.

        MCUboot receives while it swaps, and looks for a request when it has swapped (main.c: boot_go comes between
        boot_console_init and boot_serial_check_start).
        """
        config, delay = self.unit.config, self.restart.delay
        window = self.unit.profile.wait_for_dfu
        return min(delay + window + _VALIDATION, max(config.boot.timeout / 2, delay + _LATE))

    def _swap_quiet(self) -> float:
        """Seconds more, for a swap, if the bootloader might take a request meanwhile for an update."""
        if not may_wait_for_dfu(self.unit):
            return 0.0
        return max(self.restart.extra, self._swap.extra if self._swap.ahead.is_known else 0.0)

    def _reopen(self, uart: Uart) -> None:
        """Find a port again that the reset took away (the target's own USB); NotBooted if it stays away."""
        try:
            uart.reopen(self._deadline)
        except PortGone as gone:
            raise NotBooted(
                f"{self.unit.name} was reset and its port did not come back within {self._seconds:g} s: {gone}. An"
                " application that does not open the target's USB cannot be seen there: give it a port of its own in"
                " [console]"
            ) from gone


def _stands(told: Story) -> bool:
    """Whether a banner that was found is a running application's, as far as its boots tell."""
    return not told.boots or told.runs
