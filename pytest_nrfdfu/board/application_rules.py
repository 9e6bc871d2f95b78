"""What an image list of a running application says about an update, and what forbids one. Pure.

Each trap is named before anything is sent: an image on trial, an image left in slot 1, a bootloader that cannot revert.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c (flags, slots in use); MCUboot,
boot/bootutil/include/bootutil/boot_status.h (modes), swap_move.c, swap_offset.c and loader.c (what each copies).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Literal, NamedTuple

from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.session import HASH_SHOWN
from pytest_nrfdfu.errors import UpdateRefused
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.build import APP, NET
from pytest_nrfdfu.smp.messages import ImageState, ImageStates
from pytest_nrfdfu.smp.timing import Link

__all__ = [
    "Confirm",
    "Ran",
    "SlotOne",
    "Staging",
    "Which",
    "check_confirm",
    "check_running",
    "image_index",
    "left_pending",
    "shown",
    "slot_one",
    "staging_of",
    "swap_of_mode",
    "swap_seconds",
    "which_runs",
]

Confirm = bool | Literal["permanent"]
"""What becomes of an image that was started: it is confirmed once it runs, or left on trial; or it was marked permanent
before, so that there is no trial."""
_SWAPS: dict[int, Swap] = {1: "scratch", 2: "overwrite", 3: "move", 9: "offset"}
"""MCUBOOT_MODE_* that put an image from slot 1 into slot 0."""
_OTHER_MODES = {
    0: "single application",
    4: "direct XIP",
    5: "direct XIP with revert",
    6: "RAM load",
    7: "firmware loader",
    8: "single application in RAM",
}
_COPIES: dict[Swap, int] = {"overwrite": 1, "offset": 2, "move": 3, "scratch": 3}
"""Pages written, and erased before, for each page of the larger image: moving it up, and exchanging the two."""


def swap_of_mode(mode: int) -> Swap:
    """How a bootloader upgrades, by the mode that an application tells; UpdateRefused where it never swaps."""
    if mode in _SWAPS:
        return _SWAPS[mode]
    name = _OTHER_MODES.get(mode, "not known")
    raise UpdateRefused(
        f"the application says that its bootloader's mode is {mode} ({name}), which swaps no image from slot 1 into"
        " slot 0: this update is not known here. Nothing was sent. Use via='recovery'"
    )


def image_index(step: Step) -> int:
    """The image's number for a running application: 0, or 1 for the network core; UpdateRefused for others."""
    if step.network_core or step.name == NET:
        return 1
    if step.name == APP:
        return 0
    raise UpdateRefused(
        f"{step.image.source}: image {step.name!r} is neither the application's nor the network core's, and its number"
        " for an update through the application is not known. Nothing was sent"
    )


def shown(state: ImageState | None) -> str:
    """A slot of a list, for people."""
    if state is None:
        return "no image"
    digest = state.hash.hex()[:HASH_SHOWN] if state.hash else "not shown"
    return f"version {state.version} (hash {digest})"


def check_confirm(swap: Swap, *, confirm: bool) -> None:
    """UpdateRefused where a bootloader that only overwrites is to put an image on trial."""
    if swap == "overwrite" and not confirm:
        raise UpdateRefused(
            "confirm=False asks for an image on trial, and this bootloader overwrites slot 0 (CONFIG_BOOT_UPGRADE_ONLY,"
            " as every MCUboot of nRF Connect SDK for several images): it keeps no old image, so there is no trial and"
            " no way back. Nothing was sent. Use confirm=True"
        )


def check_running(states: ImageStates, swap: Swap) -> ImageState:
    """The running image; UpdateRefused where it is not in slot 0, or is on trial itself."""
    active = states.active
    if active is None or active.slot != 0:
        where = "none as active" if active is None else f"the one in slot {active.slot} as active"
        raise UpdateRefused(
            f"the application's image list shows {where}, and an update swaps into slot 0, where the running image must"
            " be. Nothing was sent. Is the bootloader one that executes in place (direct XIP)?"
        )
    if not active.confirmed and swap != "overwrite":
        raise UpdateRefused(
            f"the running image, {shown(active)}, is on trial: slot 1 keeps {shown(states.find(slot=1))} for the way"
            " back, and the application lets nobody overwrite it. Nothing was sent. Keep the running image with"
            " dfu.confirm(), or go back with dfu.revert()"
        )
    return active


class SlotOne(Enum):
    """What slot 1 holds before an update."""

    FREE = "free"
    """No image, or one that the upload overwrites."""
    SAME = "held this very image"
    """So its hash there would prove nothing about an upload."""
    PENDING = "held this very image, marked for the next boot"
    OTHER_PENDING = "held another image, marked for the next boot"


def slot_one(states: ImageStates, step: Step) -> SlotOne:
    """What is in the slot that `step` goes to."""
    found = states.find(image=image_index(step), slot=1)
    if found is None or found.hash != step.image.hash:
        return SlotOne.OTHER_PENDING if found is not None and found.pending else SlotOne.FREE
    return SlotOne.PENDING if found.pending else SlotOne.SAME


def left_pending(state: ImageState | None, why: object) -> UpdateRefused:
    """The error for an image that something earlier left pending, and that cannot be erased for the reason `why`."""
    return UpdateRefused(
        f"slot 1 holds {shown(state)}, which something earlier marked for the next boot, and the application does not"
        f" let it be erased: {why}. Nothing was uploaded. Reset the board (board.reset()), and once more if that image"
        " was for a test: then the one that runs now is back, and slot 1 is free",
        by_board=True,
    )


class Staging(Enum):
    """How far an image in slot 1 is."""

    ABSENT = "not in slot 1"
    PRESENT = "in slot 1, and not pending"
    PENDING = "pending"


def staging_of(states: ImageStates, image: int, digest: bytes) -> Staging:
    """What an application's list says about an image in slot 1."""
    found = states.find(image=image, slot=1)
    if found is None or found.hash != digest:
        return Staging.ABSENT
    return Staging.PENDING if found.pending else Staging.PRESENT


def swap_seconds(swap: Swap, sizes: Sequence[int], link: Link) -> float:
    """Seconds of flash time that MCUboot needs to put images of these sizes (bytes) into slot 0, one after another."""
    page = link.page_size
    return sum(-(-size // page) * _COPIES[swap] * (link.erase_page + link.write_time(page)) for size in sizes)


Which = Literal["old", "new", "another", "none"]
"""Which image runs: the old one, the new one, one that is neither, or none that is valid."""


class Ran(NamedTuple):
    """Which of two images a list shows as running."""

    which: Which
    state: ImageState | None


def which_runs(states: ImageStates, new: bytes, old: bytes | None) -> Ran:
    """Whether the new image is active, or the old one, or another."""
    active = states.active
    if active is None:
        return Ran("another", None)
    if active.hash == new:
        return Ran("new", active)
    return Ran("old" if old is not None and active.hash == old else "another", active)
