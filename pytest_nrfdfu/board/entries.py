"""The ways into MCUboot's serial recovery, one function each. What they share is `trial`'s.

Sources: MCUboot, boot/zephyr/main.c (the order of the ways, and what each needs to be built in),
boot/zephyr/include/io/io.h (the recovery pin counts after power-on or pin reset only); Zephyr, smp_group_0.rst
(``boot_mode`` in an OS reset).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from pytest_nrfdfu.board.boot_mode import RetainedBootMode
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.noted import noted, reset_name
from pytest_nrfdfu.board.terminal import person
from pytest_nrfdfu.board.trial import Trial
from pytest_nrfdfu.config_types import BoardConfig, Entry, ResetKind
from pytest_nrfdfu.errors import BoardError, ConfigError, ProbeError, SmpRejected, SmpTimeout
from pytest_nrfdfu.image.format import MAGIC
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["ENTRIES", "check_configured", "slot_address"]

_WINDOW_POLL = 0.06
"""Seconds between requests into the window of CONFIG_BOOT_SERIAL_WAIT_FOR_DFU, which is half a second by default."""
_ERASED = 0xFFFFFFFF
_SIM_SLOT = 0x10000
"""Slot 0 of the simulated board, and of Zephyr's nrf5340_cpuapp_partition.dtsi."""
_BOOT_MODE_BOOTLOADER = 1
"""BOOT_MODE_TYPE_BOOTLOADER (Zephyr, include/zephyr/retention/bootmode.h)."""


def slot_address(config: BoardConfig) -> int | None:
    """Where the application's primary slot begins; None where nobody tells."""
    told = config.app_image.slot_address
    return _SIM_SLOT if told is None and config.simulated else told


def check_configured(config: BoardConfig) -> None:
    """ConfigError, before anything is touched, where an entry lacks what it needs."""
    recovery = config.recovery
    if "no-application" in recovery.entry and recovery.allow_erase_header and not slot_address(config):
        raise ConfigError(
            'entry "no-application" with allow_erase_header erases the page of the image\'s header, and nobody tells'
            " where that is: set slot_address in [images.app] to the beginning of MCUboot's primary slot"
        )


def _by_gpio(trial: Trial) -> ImageStates:
    """Hold the recovery pin through a reset that MCUboot's gate accepts, until recovery answers."""
    unit, recovery = trial.unit, trial.unit.config.recovery
    reset = recovery.reset_for("gpio")
    if recovery.clear_reset_causes:
        trial.need_open_chip("RESETREAS")
    try:
        unit.rig.set_line("recovery", asserted=True)
        if recovery.clear_reset_causes:
            kind: ResetKind = "ctrl-ap" if reset == "ctrl-ap" else "system"
            unit.note_reset()
            with noted(unit, reset_name(kind)):
                unit.rig.reset_with_causes_cleared(kind)
        else:
            trial.reset(reset)
        return trial.wait()
    finally:
        unit.rig.set_line("recovery", asserted=False)


def _by_pin_reset(trial: Trial) -> ImageStates:
    """A pin reset alone, for a bootloader built with CONFIG_BOOT_SERIAL_PIN_RESET."""
    trial.reset(trial.unit.config.recovery.reset_for("pin-reset"))
    return trial.wait()


def _by_boot_mode(trial: Trial) -> ImageStates:
    """Leave the boot mode for CONFIG_BOOT_SERIAL_BOOT_MODE where a soft reset keeps it.

    MCUboot clears it on its way into recovery. Where it did not look, it is taken back here: a later boot must not find
    it. A reset of the other kind clears the registers.
    """
    rig, recovery = trial.unit.rig, trial.unit.config.recovery
    trial.need_open_chip("the boot mode")
    retained = RetainedBootMode(rig, recovery.boot_mode)
    try:
        retained.write()
        trial.reset(recovery.reset_for("boot-mode"))
        return trial.wait()
    except BaseException:
        with suppress(BoardError):
            trial.seen.boot_mode_left = retained.read()
            if any(trial.seen.boot_mode_left):
                retained.clear()
        raise


def _by_window(trial: Trial) -> ImageStates:
    """Ask through the window in which a bootloader waits for a request (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU)."""
    trial.reset(trial.unit.config.recovery.reset_for("wait-for-dfu"))
    return trial.wait(trial.behind_swap, interval=_WINDOW_POLL)


def _by_no_application(trial: Trial) -> ImageStates:
    """A bootloader that finds nothing to start stays in recovery (CONFIG_BOOT_SERIAL_NO_APPLICATION).

    Where the user allows it, the page that holds the image's header is erased; else the slot has to be invalid already.
    """
    unit = trial.unit
    recovery = unit.config.recovery
    address = slot_address(unit.config)
    if recovery.allow_erase_header and address:
        trial.need_open_chip("the image's header")
        _erase_header(trial, address)
    trial.reset(recovery.reset_for("no-application"))
    return trial.wait(trial.behind_swap)


def _erase_header(trial: Trial, address: int) -> None:
    rig = trial.unit.rig
    found = rig.read32(address)
    if found == _ERASED:
        return
    if found != MAGIC:
        raise ProbeError(
            f"the word at 0x{address:08x} is 0x{found:08x}, not the magic of an MCUboot image (0x{MAGIC:08x}): nothing"
            " was erased. Is slot_address in [images.app] the beginning of the primary slot?"
        )
    trial.unit.client.on_change()
    rig.erase_page(address)


def _by_smp(trial: Trial) -> ImageStates:
    """Ask the running application to reboot into the bootloader (OS reset with boot_mode 1, Zephyr 4.2 and newer).

    The answer comes before the reset (CONFIG_MCUMGR_GRP_OS_RESET_MS), so whoever answers until then is the application.
    """
    unit = trial.unit
    try:
        states = unit.client.images(tries=4, timeout=trial.timeout)
    except SmpRejected:
        pass  # an application without the image group
    else:
        if from_recovery(states, has_state=unit.profile.image_state):
            return states
        trial.seen.heard.flags_without_split_status |= states.split_status is None and states.flags_first
    trial.seen.heard.application_answers += 1
    before = trial.seen.heard.application_answers
    position = unit.console_uart.console.position
    trial.reset("smp", boot_mode=_BOOT_MODE_BOOTLOADER)
    try:
        return trial.wait(back=position)
    except SmpTimeout:
        trial.seen.came_back = trial.seen.heard.application_answers > before
        raise


def _by_hand(trial: Trial) -> ImageStates:
    """Ask the person at the terminal to press button and reset."""
    unit, recovery = trial.unit, trial.unit.config.recovery
    tell = trial.ask or person()
    if tell is None:
        trial.seen.nobody = True
        raise SmpTimeout("there is no terminal with a person at it, so nobody was asked")
    tell(
        f"{unit.name}: bring the board into serial recovery, within {recovery.manual_timeout:g} s: hold the button that"
        " MCUboot looks at (button 1 on a DK), press and release reset, and keep holding until told to let go"
    )
    began = time.monotonic()
    try:
        states = trial.wait(recovery.manual_timeout)
    except SmpTimeout:
        tell(f"{unit.name}: nothing came of it within {recovery.manual_timeout:g} s; let go of the button")
        raise
    tell(f"{unit.name}: serial recovery answers after {time.monotonic() - began:.1f} s; let go of the button")
    return states


ENTRIES: Mapping[Entry, Callable[[Trial], ImageStates]] = {
    "gpio": _by_gpio,
    "pin-reset": _by_pin_reset,
    "boot-mode": _by_boot_mode,
    "wait-for-dfu": _by_window,
    "no-application": _by_no_application,
    "smp": _by_smp,
    "manual": _by_hand,
}
