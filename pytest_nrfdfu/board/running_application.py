"""A running application with an SMP server: who answers, keeping its image, resetting it and seeing it run again.

Source: Zephyr, doc/services/device_mgmt/smp_groups/smp_group_0.rst and smp_group_1.rst.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pytest_nrfdfu.board.application_rules import shown, swap_of_mode
from pytest_nrfdfu.board.boot import Restart, settle, wait_running
from pytest_nrfdfu.board.boot_story import dump, story, told
from pytest_nrfdfu.board.boot_wait import LINE_END, POLL
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.noted import noted_os_reset
from pytest_nrfdfu.board.silence import in_short, unanswered, unpowered
from pytest_nrfdfu.board.swap_wait import MARGIN, may_wait_for_dfu
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import NotBooted, PortGone, SmpRejected, SmpTimeout, UartError, UpdateRefused
from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import BootloaderInfoRequest, ImageState, ImageStates, ImageStateWrite, Params

__all__ = [
    "Running",
    "ask",
    "await_application",
    "await_banner",
    "confirm_answering",
    "confirm_running",
    "reset_and_wait",
    "with_story",
]

_ANSWER = 2.0
"""Seconds for one answer of an application that runs; it takes some 10 ms."""
_REQUESTS = 3
"""How often a reset is asked for that did not happen."""
_BOOT = "Boot the application first (board.reset())"
_LOOK = 2.0
"""Seconds between requests to an application that prints no banner, while MCUboot may swap."""
_NEWLINE = re.compile("\n")
_VALIDATION = 1.0
"""Seconds, generously, that MCUboot may take to validate both images."""


class Running(NamedTuple):
    """A running application with an SMP server: its image list, how its bootloader upgrades, its packets."""

    states: ImageStates
    swap: Swap
    swap_by: str
    """Who says so: ``bootloader info`` or ``profile ...``."""
    params: Params | None


def ask(unit: Unit) -> Running:
    """Who answers on the port. UpdateRefused where that is not a running application that lists its images.

    ProbeError, with the cause ``no-power``, where nobody answers because the board is off.
    """
    states = _answered(unit, f"Nothing was sent. {_BOOT}, or use via='recovery'")
    swap, by = _swap(unit)
    return Running(states, swap, by, unit.client.params())


def _answered(unit: Unit, use: str) -> ImageStates:
    """The list of the application that runs. `use`: what to do where none answers."""
    settle(unit)
    try:
        states = unit.client.images(tries=3, timeout=_ANSWER)
    except SmpTimeout as silence:
        text = f"{unit.name}: no SMP server answers on {unit.config.uart.port} ({in_short(silence)})"
        if off := unpowered(unit, text):
            raise off from silence
        why = "the application has none on this port, or does not run"
        raise UpdateRefused(unanswered(unit, f"{text}: {why}", use)) from silence
    except SmpRejected as error:
        raise UpdateRefused(
            f"{unit.name}: the application has an SMP server without the image group ({error}): build it with"
            f" CONFIG_MCUMGR_GRP_IMG. {use}"
        ) from error
    if from_recovery(states, has_state=unit.profile.image_state):
        raise UpdateRefused(f"{unit.name}: MCUboot's serial recovery answers, and not the application. {use}")
    return states


def _swap(unit: Unit) -> tuple[Swap, str]:
    try:
        mode = unit.client.request(BootloaderInfoRequest("mode"), tries=2, timeout=_ANSWER).mode
    except (SmpRejected, SmpTimeout):
        mode = None
    if mode is None:
        return unit.profile.swap, f"profile {unit.profile.name}"
    return swap_of_mode(mode), "bootloader info"


def confirm_answering(unit: Unit) -> ImageState:
    """As `confirm_running`, once it is seen that an application answers; see `ask` for the errors."""
    _answered(unit, f"Nothing was confirmed. {_BOOT}: that takes an image on trial back, which has to be sent again")
    return confirm_running(unit)


def confirm_running(unit: Unit) -> ImageState:
    """Keep the running image, and see that it is kept. UpdateRefused if the application refuses.

    SmpTimeout if it does not answer. That it is an application that runs is known already.
    """
    network_core = unit.network_core  # a request that changes images makes the unit forget all
    try:
        unit.client.request(ImageStateWrite(confirm=True))
    except SmpRejected as error:
        raise UpdateRefused(
            f"{unit.name}: the application does not confirm the running image: {error}. Look at what in it"
            " forbids that: a hook of its own (CONFIG_MCUMGR_MGMT_NOTIFICATION_HOOKS), or flash that is not written",
            by_board=True,
        ) from error
    except SmpTimeout as silence:
        text = (
            f"{unit.name}: the application was asked to confirm the running image, and did not answer"
            f" ({in_short(silence)}): whether it is confirmed is not known"
        )
        if off := unpowered(unit, text):
            raise off from silence
        advice = "Read board.images() once it answers, and confirm again"
        raise SmpTimeout(unanswered(unit, text, advice), brief=f"{text}. {advice}") from silence
    unit.network_core = network_core
    states = unit.client.images()
    active = None if from_recovery(states, has_state=unit.profile.image_state) else states.active
    if active is None or not active.confirmed:
        raise UpdateRefused(
            f"{unit.name}: the application acknowledged the confirmation, and its image list does not show it:"
            f" {shown(active)} is active and not confirmed. Look at whether slot 0 can be written: the application"
            " writes the flag into its trailer",
            by_board=True,
        )
    if active.hash is not None:
        unit.remember(active.hash, f"{shown(active)}, shown as active and confirmed by the application's list")
    return active


def reset_and_wait(
    unit: Unit,
    image: Image | None,
    *,
    swaps: float,
    boots: int = 1,
    reset: Callable[[], object] | None = None,
    smp: bool | None = True,
    pages: int | None = None,
) -> str:
    """Reset, wait for the swap, and see the application run; how it was seen.

    `swaps`: seconds that MCUboot should need. `boots`: how many swaps there may be until an application stays. `reset`:
    by SMP if not told. `smp`: whether the application has an SMP server, None where nobody knows. `pages`: how many are
    swapped, where that is known: what the time that it takes is remembered with.
    """
    position = unit.console_uart.console.position
    unit.unfinished = None
    if reset is not None:
        reset()
    else:
        _reset_once(unit, position)
    began, delay = time.monotonic(), unit.config.boot.reset_delay if reset is None else 0.0
    extra = swaps * boots * MARGIN
    if _await_boot(unit, position, delay + _VALIDATION, swaps * MARGIN):
        took = max(0.0, time.monotonic() - began - delay)
        if _is_over(unit, position, took, swaps):
            unit.swap_seconds, unit.swap_pages = took, pages
            extra = took * (boots - 1) * MARGIN  # another takes as long
    return await_application(unit, position, image, extra=extra, smp=smp)


def await_banner(unit: Unit, position: int, seconds: float) -> bool:
    """Be silent until the banner comes: a bootloader that waits for an update would take a request for one."""
    pattern = re.compile(unit.config.console.banner)
    console, start, until = unit.console_uart.console, position, time.monotonic() + seconds
    with suppress(UartError):  # the reset may take the port away; whoever waits for the application finds it again
        while found := console.wait_for(pattern, start, max(0.0, until - time.monotonic())):
            console.wait_for(_NEWLINE, found.end, LINE_END)  # "*** Booting MCU" is not an application's
            boots = story(unit, position).boots
            if not boots or boots[-1].application_banner is not None:
                return True
            start = found.end
    return False


def _await_boot(unit: Unit, position: int, least: float, swaps: float) -> bool:
    """Whether the banner comes, or an application that prints none answers, within `least` and `swaps` seconds.

    Nothing is sent before `least`, nor at all where the bootloader might take it for the beginning of an update.
    """
    if may_wait_for_dfu(unit):
        return await_banner(unit, position, least + swaps)
    until = time.monotonic() + least + swaps
    pause = least
    while not await_banner(unit, position, pause):
        if time.monotonic() >= until:
            return False
        with suppress(SmpTimeout, SmpRejected, UartError):
            return not from_recovery(unit.client.images(tries=1, timeout=POLL), has_state=unit.profile.image_state)
        pause = max(0.0, min(_LOOK, until - time.monotonic()))
    return True


def _is_over(unit: Unit, position: int, took: float, swaps: float) -> bool:
    """Whether a banner that came after `took` seconds shows that the swap, reckoned to take `swaps`, is over.

    An older bootloader's own banner names nobody. So either MCUboot has named itself before, or the time fits.
    """
    named = any(boot.bootloader_banner and boot.application_banner for boot in story(unit, position).boots)
    return named or took >= swaps / 2 or unit.config.simulated


def await_application(unit: Unit, position: int, image: Image | None, *, extra: float, smp: bool | None = True) -> str:
    """Wait until an application is seen running; NotBooted if none is. `extra`: seconds more than configured."""
    restart = Restart(lambda: _os_reset(unit), unit.config.boot.reset_delay, extra=extra, smp=smp, how="")
    return wait_running(unit, position, image, restart)


def _os_reset(unit: Unit) -> None:
    """Ask for a reset; the answer may be lost, and the board be on its way all the same."""
    with suppress(SmpTimeout, PortGone), noted_os_reset(unit):
        unit.client.reset(timeout=_ANSWER)


def _reset_once(unit: Unit, position: int) -> None:
    """Have the application reset the board, never twice: a second reset would take back what is on trial by then.

    Its answer may be lost, or the request. So it is repeated only when the same image still answers long after the
    reset that would have been.
    """
    before = _active_hash(unit)
    for _ in range(_REQUESTS):
        try:
            with noted_os_reset(unit):
                unit.client.reset(tries=1, timeout=_ANSWER)
        except SmpRejected as error:
            raise NotBooted(
                f"{unit.name}: the application does not reset when asked: {error}. What is marked in slot 1 stays"
                " marked for the next boot; board.reset() resets by the rig, where there is one"
            ) from error
        except (SmpTimeout, PortGone):
            pass
        else:
            return
        if unit.uart_missing or await_banner(unit, position, unit.config.boot.reset_delay):
            return
        if before is None or _active_hash(unit) != before:
            return


def _active_hash(unit: Unit) -> bytes | None:
    """Hash of the image that an application shows as active; None if none answers."""
    try:
        active = unit.client.images(tries=3, timeout=_ANSWER).active
    except (SmpRejected, SmpTimeout, PortGone):
        return None
    return None if active is None else active.hash


def with_story(unit: Unit, position: int, text: str) -> str:
    """`text`, and what the console has told since `position` of boots and faults, the dump behind it."""
    said, dumped = told(unit, position), dump(unit, position)
    return text + (f". {said}" if said else "") + (f"\n{dumped}" if dumped else "")
