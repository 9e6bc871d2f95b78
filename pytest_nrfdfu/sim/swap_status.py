"""How far a swap is: the steps that MCUboot notes in the primary slot's trailer, one write block for each.

Every step leaves its number in an entry of its own, so what was done last is the last entry that is not erased. Source:
MCUboot, boot_status_internal_off and swap_read_status_bytes in boot/bootutil/src/swap_move.c and swap_offset.c.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import Swap

__all__ = ["FRESH", "Half", "Op", "Progress", "entry_number", "progress_after"]

_SWAP_STATES = 2
"""BOOT_STATUS_SWAP_STATE_COUNT: each page of one slot, then of the other."""


class Op(IntEnum):
    """BOOT_STATUS_OP_*: moving the primary slot's image up comes before swapping."""

    MOVE = 1
    SWAP = 2


class Half(IntEnum):
    """The halves of one page's swap (BOOT_STATUS_STATE_0 and _1)."""

    FIRST = 1
    SECOND = 2


class Progress(NamedTuple):
    """The step that comes next: what `struct boot_status` calls op, idx and state, which count from 1."""

    op: Op = Op.MOVE
    idx: int = 1
    state: int = Half.FIRST


FRESH = Progress()
"""Nothing has been done (boot_status_is_reset), whatever the algorithm."""


def entry_number(swap: Swap, max_sectors: int, step: Progress) -> int:
    """Which entry a step is noted in once it is done."""
    if step.op is Op.MOVE:
        return step.idx - 1
    moves = max_sectors if swap == "move" else 0
    return moves + (step.idx - 1) * _SWAP_STATES + step.state - 1


def progress_after(swap: Swap, max_sectors: int, found: int) -> Progress:
    """What comes next after `found` entries, the last of which is the last that is written. 0: nothing was done."""
    if found == 0:
        return FRESH
    moves = max_sectors if swap == "move" else 0
    if found < moves:
        return Progress(Op.MOVE, found + 1, Half.FIRST)
    index, state = divmod(found - moves, _SWAP_STATES)
    return Progress(Op.SWAP, index + 1, state + 1)
