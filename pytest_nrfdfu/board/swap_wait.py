"""How long the boot of a unit may take longer because MCUboot swaps images first."""

from __future__ import annotations

from pytest_nrfdfu.board.application_limits import slot_size
from pytest_nrfdfu.board.application_rules import swap_seconds
from pytest_nrfdfu.board.boot_record import BootRecord
from pytest_nrfdfu.board.swap_ahead import SwapAhead, is_over, swap_logged
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import SmpError, SmpTimeout, UartError
from pytest_nrfdfu.image.bootloader import PROFILES

__all__ = ["MARGIN", "SwapWait", "longest_swap", "look_ahead", "may_wait_for_dfu"]

MARGIN = 1.25
"""How many times the data sheet's time a swap may take."""
_ANSWER = 0.5
"""Seconds for an application that has answered before; it takes some 10 ms."""


def longest_swap(unit: Unit) -> float:
    """Seconds that MCUboot may swap at one boot: a whole slot, since how large both images are nobody tells."""
    return MARGIN * swap_seconds(unit.profile.swap, [slot_size(unit)], unit.client.link)


def look_ahead(unit: Unit) -> None:
    """Before a reset, ask an application that lists images once: what it shows decides how long the boot may take.

    Whatever it does not answer is no error. The unit's client remembers what it does.
    """
    if not unit.lists_images or unit.uart_missing:
        return
    try:
        unit.client.images(tries=1, timeout=_ANSWER)
    except SmpTimeout:
        unit.lists_images = False  # it hangs, or another one runs: ask no more until one lists
    except (SmpError, UartError):
        pass


def may_wait_for_dfu(unit: Unit) -> bool:
    """Whether the bootloader may take a request at boot for an update, and stay in recovery.

    A profile by name does not know which entrances are built in; one read from the build does, and so does a simulated
    board's configuration.
    """
    profile, sim = unit.profile, unit.config.sim
    if not profile.wait_for_dfu:
        return False
    entrances = profile.entrances if sim is None else sim.entrance
    return "wait-for-dfu" in entrances or (sim is None and profile.name in PROFILES)


class SwapWait:
    """The time that one wait for an application gives MCUboot to swap.

    Where a list has told of the swap before the reset, from the beginning; else from MCUboot's log on.
    """

    def __init__(self, unit: Unit, began: float, *, reckoned: bool) -> None:
        """`began`: when the wait did. `reckoned`: whoever waits has reckoned with a swap."""
        self._most = longest_swap(unit)
        self._timeout = unit.config.boot.timeout
        self._simply = began + self._timeout
        """Until when a boot without a swap is waited for, monotonic seconds."""
        self._seen_over = 0
        self._seen_swap = 0
        self.ahead = unit.swap_ahead
        self.logged = ""
        """The swap that MCUboot logged for the last boot, in words."""
        self.under_way = False
        """Whether MCUboot's log shows that it swaps, and no more."""
        self.over = False
        """Whether the last boot has come as far as the application's start."""
        self.until = self._simply
        """Until when the application is waited for because of swaps."""
        if self.ahead is not SwapAhead.NOTHING and not reckoned:
            self.until += self._most

    @property
    def extra(self) -> float:
        """Seconds for swaps, beside the configured ones."""
        return max(0.0, self.until - self._simply)

    @property
    def why(self) -> str:
        """Why there is a swap to be waited for, in words; empty if there is not."""
        if self.logged:
            return f"MCUboot logged {self.logged}"
        return self.ahead.value if self.extra else ""

    def look(self, boots: tuple[BootRecord, ...], now: float) -> None:
        """What the console has told until `now` (monotonic seconds) of boots since the reset."""
        if not boots:
            return
        last, number = boots[-1], len(boots)
        self.logged, self.over = swap_logged(last), is_over(last)
        self.under_way = bool(self.logged) and not self.over
        if self.under_way and number > self._seen_swap:
            self._seen_swap = number
            self.until = max(self.until, now + self._most + self._timeout)
        if self.over and number > self._seen_over:  # what remains is an ordinary boot
            self._seen_over = number
            self.until = max(self._simply, now + self._timeout) if self.extra else self.until
