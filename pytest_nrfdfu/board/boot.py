"""Leaving recovery, and seeing the application run.

An application with an SMP server is asked for its image list; one without shows its boot banner on the console.
Whether it has one is the configuration's word (``[boot] smp``), or found out once per image. Where the port is the
target's own USB, the reset takes it away: it is found again by its identity within the same time.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace

from pytest_nrfdfu.board.boot_story import story
from pytest_nrfdfu.board.boot_wait import LINE_END, POLL, Restart, StillBootloaderError, Wait
from pytest_nrfdfu.board.swap_ahead import is_over, swap_logged
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone, SmpError, SmpRejected, SmpTimeout, UartError
from pytest_nrfdfu.image.mcuboot import Image

__all__ = ["Restart", "banner_line", "boot", "settle", "wait_running"]

_BUSY = 10
"""MGMT_ERR_EBUSY (Zephyr, mgmt_defines.h): boot_reset_request_hook refuses while the network core is written."""
_COPY_TIMEOUT = 30.0
"""Seconds that the network core's update may take: 256 KiB at some 90 ms per page of 2 KiB are 11."""
_RESET = 2.0
"""Seconds to wait for the answer to a reset. It may be lost, and the board reboot all the same."""
_CAUSES = (
    ". It was reset twice and left alone meanwhile, and the bootloader answers still: either it finds nothing to start,"
    " or its recovery pin is held, or it waits for an update (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU) longer than"
    " [bootloader] wait_for_dfu says, or something else speaks SMP to it"
)

_JUST_RESET = Restart()


def boot(unit: Unit, image: Image | None = None, *, extra: float = 0.0) -> str:
    """Leave recovery by an OS reset, and wait for the application; see `wait_running`.

    `extra`: seconds that it may take longer than configured, where MCUboot is known to swap or to revert.
    While a network core's image is on its way MCUboot refuses to reset (rc 10): it is asked again. Power must stay on.
    """
    unit.unfinished = None
    position = unit.console_uart.console.position
    silence: SmpTimeout | PortGone | None = None
    since: float | None = time.monotonic()
    try:
        _reset(unit)
    except (SmpTimeout, PortGone) as error:  # its answer may have been lost, and the board be on its way
        silence, since = error, None  # sent several times, and each may have led to a boot: the last counts

    def again() -> None:
        with suppress(SmpTimeout, PortGone):
            _reset(unit)

    restart = Restart(again, unit.config.boot.reset_delay, extra=extra, since=since, how="OS reset")
    try:  # certain: that it was in recovery and an application answers is evidence of the reset
        return wait_running(unit, position, image, restart)
    except NotBooted as error:
        if silence is None:
            raise
        raise NotBooted(f"{error}. The reset request itself was not answered: {silence}") from silence


def _reset(unit: Unit) -> None:
    """The OS reset; while the network core is written it is asked for again until a deadline."""
    deadline = time.monotonic() + _COPY_TIMEOUT
    while True:
        try:
            unit.client.reset(timeout=_RESET)
        except SmpRejected as error:
            if error.rc != _BUSY:
                raise
            if time.monotonic() >= deadline:
                raise NotBooted(
                    f"{unit.name}: MCUboot answers rc 10 (busy) to the reset for {_COPY_TIMEOUT:g} s: the network core"
                    " does not end its update, or a reset cut off an earlier one. Is b0n on the network core?"
                    " Updating it again or a power cycle ends this, and a copy cut off leaves it without firmware"
                ) from error
            time.sleep(POLL)
        else:
            return


def wait_running(unit: Unit, position: int, image: Image | None = None, restart: Restart = _JUST_RESET) -> str:
    """Wait until the application is seen running: ``image list`` or ``console``.

    `position`: where on the console the boot began. Raises NotBooted after the configured time, or as soon as the board
    boots again and again or has halted, with what it printed when it died; HashMismatch if the application's list shows
    another image than `image` as active, but NotBooted where the console shows that `image` was started before, and
    taken back.

    Nothing is sent until the banner came or the bootloader must have gone on, because an MCUboot that waits for an
    update (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU) stays in recovery at the first request. If the bootloader answers all the
    same, the board is reset once more, and left alone for longer.
    """
    console = unit.console_uart.console
    restart.note(console)
    wait = Wait(unit, position, image, restart)
    try:
        return _run(wait)
    except StillBootloaderError:
        if restart.again is None:
            raise wait.failure() from None
    position = console.position
    restart.again()
    replace(restart, at=None, since=None).note(console)
    wait = Wait(unit, position, image, restart)
    try:
        return _run(wait, silent=True)
    except StillBootloaderError:
        raise wait.failure(_CAUSES) from None


def _run(wait: Wait, *, silent: bool = False) -> str:
    """One wait. A boot that may still be swapping when it ends, or that Ctrl-C has cut short, is not over yet."""
    try:
        running = wait.run(silent=silent)
    except (NotBooted, HashMismatch, StillBootloaderError):
        if not wait.swapping:
            wait.unit.reset_at = None
        raise
    wait.unit.reset_at = None
    return running


def settle(unit: Unit) -> None:
    """Wait for a swap that may be under way since a reset that nobody has waited for, so that nothing cuts it off.

    Nothing is waited for where neither a list before that reset nor MCUboot's log tells of a swap. An application that
    is not seen after it is no error: whoever asks next is told.
    """
    position = unit.reset_at
    if position is None:
        return
    last = next(reversed(story(unit, position).boots), None)
    if last is not None and is_over(last):
        unit.reset_at = None
    if unit.reset_at is None or not (unit.swap_ahead.is_known or (last is not None and swap_logged(last))):
        return
    try:
        wait_running(unit, position, None, Restart(how=""))
    except (NotBooted, SmpError) as error:
        unit.reset_at = None  # once is enough
        unit.say(f"a swap was waited for, and what it started was not seen: {error}")


def banner_line(unit: Unit, position: int) -> str:
    """The boot banner that the console showed from `position` on; empty if it showed none."""
    console = unit.console_uart.console
    with suppress(UartError):
        console.wait_for(re.compile(f"{unit.config.console.banner}.*\n"), position, LINE_END)
    lines = console.since(position).splitlines()
    return next((line for line in lines if re.search(unit.config.console.banner, line)), "")
