"""Whether MCUboot will swap images at a board's next boot, by the last image list or boot that was seen. Pure.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c (``pending``, ``confirmed``); MCUboot,
boot/bootutil/src/bootutil_public.c (swap types: an image in slot 1 that is pending, an image in slot 0 that is not
confirmed), boot/boot_serial/src/boot_serial.c (bs_list has those flags only where they are built in).
"""

from __future__ import annotations

from enum import Enum

from pytest_nrfdfu.board.boot_record import BootRecord
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["SwapAhead", "after_boot", "by_application", "by_recovery", "is_over", "swap_logged"]

_SWAPS = ("test", "perm", "revert")
"""Swap types that move images, as MCUboot logs them."""


class SwapAhead(Enum):
    """What the next boot will do with the slots, and why, in words."""

    NOTHING = ""
    POSSIBLE = "slot 1 holds an image, and nothing shows whether it is pending"
    PENDING = "an image in slot 1 was pending"
    PERMANENT = "an image in slot 1 was pending, for good"
    TRIAL = "the image that ran was on trial"

    @property
    def is_known(self) -> bool:
        """Whether a list has shown that there will be a swap."""
        return self in {SwapAhead.PENDING, SwapAhead.PERMANENT, SwapAhead.TRIAL}

    @property
    def doubted(self) -> SwapAhead:
        """What is left of it once slot 0 was written: no trial any more, but slot 1 may be pending still."""
        return SwapAhead.POSSIBLE if self.is_known else self


def by_application(states: ImageStates, before: SwapAhead) -> SwapAhead:
    """What a running application's list shows; `before` where it does not tell."""
    if (flagged := _pending(states)) is not None:
        return flagged
    active = states.active
    if active is None:
        return before
    return SwapAhead.NOTHING if active.confirmed else SwapAhead.TRIAL


def by_recovery(states: ImageStates, before: SwapAhead) -> SwapAhead:
    """What recovery's list shows. Where it has no flags, what was known `before` still holds: nothing has booted.

    A slot 1 that is not listed may be a swap's that was cut off, and goes on at the next boot.
    """
    if (flagged := _pending(states)) is not None:
        return flagged
    first = states.find(slot=0)
    if states.flags_first and first is not None:
        return SwapAhead.TRIAL if first.active and not first.confirmed else SwapAhead.NOTHING
    if before.is_known:
        return before
    return SwapAhead.NOTHING if states.find(slot=1) is None else SwapAhead.POSSIBLE


def _pending(states: ImageStates) -> SwapAhead | None:
    marked = [state for state in states.images if state.pending]
    if not marked:
        return None
    return SwapAhead.PERMANENT if all(state.permanent for state in marked) else SwapAhead.PENDING


def after_boot(before: SwapAhead, boot: BootRecord | None) -> SwapAhead:
    """What the boot after one whose application was seen, but not its list, will do. `boot`: what the console told."""
    kinds = set(boot.swap_types.values()) if boot is not None else set()
    if kinds:
        return SwapAhead.TRIAL if "test" in kinds else SwapAhead.NOTHING
    if before is SwapAhead.POSSIBLE:  # it may have been swapped in, and be on trial
        return before
    return SwapAhead.TRIAL if before is SwapAhead.PENDING else SwapAhead.NOTHING


def swap_logged(boot: BootRecord) -> str:
    """The swap that MCUboot logged for a boot, in words; empty if it logged none."""
    kinds = [kind for kind in boot.swap_types.values() if kind in _SWAPS]
    if kinds:
        return f"swap type {', '.join(dict.fromkeys(kinds))}"
    return f"swap by the {boot.swap_algorithm} algorithm" if boot.swap_algorithm else ""


def is_over(boot: BootRecord) -> bool:
    """Whether MCUboot has gone on from a swap: it names the image that it starts, or the application speaks."""
    return boot.application_banner is not None or boot.application_version is not None
