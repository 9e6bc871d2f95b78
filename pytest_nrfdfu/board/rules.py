"""The rules of a diagnosis: what evidence means, the most specific first. Pure.

What only one fault can bring about (own bytes come back, the pin does not follow its line) goes before what several can
(silence).

Sources: MCUboot, boot/zephyr/main.c, boot/zephyr/include/io/io.h (the recovery pin counts after power-on or pin reset
only); Zephyr, smp_group_0.rst. The rules about probe, lines and reset are in `rules_rig`.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_nrfdfu.board.advice import GPIO_IGNORED, LOSSY, PASSED, Advice
from pytest_nrfdfu.board.case import Case
from pytest_nrfdfu.board.observed import echoes_requests, readable
from pytest_nrfdfu.board.rules_rig import (
    line_does_not_move,
    look_at_reset,
    nobody,
    not_reset,
    pin_does_not_follow,
    port_gone,
    probe_failed,
    soft_reset,
    unpowered,
)

__all__ = ["RULES", "WIRE", "anything"]

Rule = Callable[[Case], Advice | None]
_SOME_BROKEN = 2
"""Broken frames: one may be what a reset cut off."""
_BANNER_SHOWN = 60
"""Characters."""


# --- what the wire shows --------------------------------------------------------------------------------------------


def _joined(case: Case) -> Advice | None:
    if not echoes_requests(case.seen.heard.received):
        return None
    return Advice(
        "tx-rx-joined",
        f"The host's own requests come back on {case.config.uart.port}: its TX and RX are joined, or a loopback or echo"
        " is on.",
        "Take the jumper or short between TX and RX away and look whether the cable leads to the board at all.",
    )


def _unreadable(case: Case) -> Advice | None:
    if readable(case.received) is not False:
        return None
    rate = case.seen.heard.readable_at
    if rate is not None:
        return Advice(
            "wrong-baud-rate",
            f"The board talks at {rate} baud, and the port is open at {case.config.uart.baudrate}: at {rate} what came"
            " could be read.",
            f"Set baudrate = {rate} in [uart], or build MCUboot with current-speed = <{case.config.uart.baudrate}>.",
        )
    return Advice(
        "unreadable",
        f"What comes on {case.port} cannot be read, at none of the usual baud rates either.",
        "Check the baud rate that MCUboot's devicetree gives (current-speed), that board and adapter share ground, and"
        " that the adapter's voltage is the board's.",
    )


def _other_rate(case: Case) -> Advice | None:
    rate = case.seen.heard.answers_at
    if rate is None:
        return None
    return Advice(
        "wrong-baud-rate",
        f"The board talks at {rate} baud, and the port is open at {case.config.uart.baudrate}: asked at {rate}, MCUboot"
        " answered.",
        f"Set baudrate = {rate} in [uart], or build MCUboot with current-speed = <{case.config.uart.baudrate}>.",
    )


def _damaged(case: Case) -> Advice | None:
    broken, banner = case.seen.heard.broken_frames, case.damaged_banner
    if case.booted or case.seen.heard.application_answers:
        return None
    if banner:
        frames = f", and {broken} frames were damaged" if broken else ""
        return Advice(
            "text-damaged",
            f"The link loses bytes: on {case.port} the banner came as {banner[:_BANNER_SHOWN]!r}{frames}.",
            f"{LOSSY} Then run this again: what else is wrong cannot be told over such a link.",
        )
    if broken < _SOME_BROKEN:
        return None
    return Advice(
        "frames-damaged",
        f"Answers come on {case.port}, and none of them whole: {broken} frames were damaged on their way.",
        LOSSY,
    )


# --- each entry's own -----------------------------------------------------------------------------------------------


def _boot_mode(case: Case) -> Advice | None:
    left = case.seen.boot_mode_left
    if left is None or not case.tried("boot-mode"):
        return None
    if any(left):
        return Advice(
            "boot-mode-ignored",
            f"The bootloader did not take the boot mode: after the reset it still stood there ({left.hex(' ')}).",
            "Build MCUboot with CONFIG_BOOT_SERIAL_BOOT_MODE, CONFIG_RETENTION_BOOT_MODE and the chosen node"
            " zephyr,boot-mode, and give its address, prefix and checksum in [recovery.boot_mode].",
        )
    if not case.booted:
        return None
    return Advice(
        "boot-mode-lost",
        "The boot mode was gone after the reset and the application started: the reset cleared it, or the firmware in"
        " between did.",
        'Use a soft reset for it (reset = "system" or "ctrl-ap"), and check that address in [recovery.boot_mode] is the'
        " bootloader's.",
    )


def _by_application(case: Case) -> Advice | None:
    heard = case.seen.heard
    if heard.flags_without_split_status:
        return Advice(
            "image-state-not-configured",
            "Somebody answers with flags as MCUboot writes them, before the slot's number, and no splitStatus: the"
            " bootloader, built with image state.",
            "If the bootloader has CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE, set image_state = true in [bootloader].",
        )
    if case.seen.came_back:
        return Advice(
            "application-too-old",
            "The application does not know boot_mode: asked to reboot into the bootloader, it came back itself.",
            "Build it on Zephyr 4.2 or newer with CONFIG_MCUMGR_GRP_OS_RESET_BOOT_MODE (and MCUboot with"
            " CONFIG_BOOT_SERIAL_BOOT_MODE), or use another entry.",
        )
    return None


def _application_answers(case: Case) -> Advice | None:
    if not case.seen.heard.application_answers:
        return None
    return Advice(
        "application-answers",
        "The running application answers instead of MCUboot: the board was not stopped in its bootloader.",
        _how_to_enter(case),
    )


def _reset_not_seen(case: Case) -> Advice | None:
    """After its own reset nothing comes, also without the entry; after another one it prints."""
    kind, other = case.own_reset, case.seen.other_reset
    if other is None or case.seen.reset_seen or case.tried("pin-reset") or not case.seen.after_reset:
        return None
    return Advice(
        "reset-not-seen",
        f"The reset by {kind} did nothing that could be seen: the board prints nothing after it, and it does after a"
        f" {other} reset.",
        f"Look at nRESET and the wire to it, and that what does the reset by {kind} drives it, or use another reset. If"
        " MCUboot has CONFIG_BOOT_SERIAL_PIN_RESET, look at the host's TX instead: the board then waits, and does not"
        " hear.",
    )


def _deaf(case: Case) -> Advice | None:
    """Stopped by its entry and silent; without, it speaks: so MCUboot waits, and does not hear."""
    early = case.tried("gpio", "boot-mode", "pin-reset", "no-application")
    if not early or case.seen.heard.received or readable(case.seen.after_reset or b"") is not True:
        return None
    return Advice(
        "host-tx-not-connected",
        "The board does not hear the host: it prints after a plain reset, and after one with the entry it stops and"
        " answers nothing.",
        "Check the wire from the host's TX to the board's RX (P0.22 on the nRF5340 DK; SW7 disconnects it there), and"
        " that MCUboot receives on this port.",
    )


def _no_image(case: Case) -> Advice | None:
    if case.seen.slot_has_image is not False or case.booted:
        return None
    if case.silent:
        return Advice(
            "no-image-no-answer",
            f"There is no image in the primary slot, so only the bootloader could answer on {case.port}, and nothing"
            " came: either it does not hear or is not heard, or it is not in serial recovery.",
            "Check the port and both of its wires first (P0.20 and P0.22 on the DK; the application core's VCOM is the"
            f" last), that {case.config.uart.baudrate} baud is MCUboot's rate (current-speed), then that MCUboot is on"
            " the board with CONFIG_MCUBOOT_SERIAL and the entry.",
        )
    return Advice(
        "no-image-no-recovery",
        "There is no image in the primary slot, and the bootloader did not come up in serial recovery either.",
        "Check that MCUboot is on the board at all, with CONFIG_MCUBOOT_SERIAL; CONFIG_BOOT_SERIAL_NO_APPLICATION"
        " lets it wait for an image.",
    )


def _booted(case: Case) -> Advice | None:
    """The application started, so the bootloader let the entry pass."""
    if not case.booted:
        return None
    for entry, found in PASSED.items():
        if case.tried(entry):
            if entry == "gpio" and case.seen.pin_low:
                return GPIO_IGNORED
            return found._replace(remedy=f"{found.remedy}{_unnamed_pin(case)}") if entry == "gpio" else found
    return None


def _unnamed_pin(case: Case) -> str:
    """How the pin itself can be looked at, where only its name is missing."""
    if case.seen.pin or case.seen.chip is None or not case.seen.chip.readable:
        return ""
    return " Name that pin (pin in [recovery]), and the probe will look whether the line reaches it."


# --- nothing to go by -----------------------------------------------------------------------------------------------


def _host(case: Case) -> Advice | None:
    trouble = case.seen.port_trouble
    if not trouble or not (case.silent or case.seen.heard.broken_frames):
        return None
    return Advice(
        "host-port-trouble",
        f"This host has a known trouble with the port: {trouble[0].rstrip('.')}.",
        "Cure that first, as said, and run again.",
    )


def _smp_silence(case: Case) -> Advice | None:
    if not case.silent or not case.seen.attempts or case.tried(*(e for e in case.config.recovery.entry if e != "smp")):
        return None
    return Advice(
        "application-silent",
        f"No application answers on {case.port}, so it cannot be asked to reboot into the bootloader.",
        "Check the port and its baud rate, that the application has an SMP server there, and add an entry that needs no"
        " application.",
    )


def _silence(case: Case) -> Advice | None:
    if not case.silent:
        return None
    power = "" if case.seen.chip is not None else " that the board has power,"  # the probe talked to its chip
    wires = (
        "heck that this is the port of the application core (the last VCOM on a DK), that the board's TX (P0.20 on the"
        f" DK) is wired to it,{power} and that MCUboot uses this UART at this rate."
    )
    if case.seen.slot_has_image is None:
        wires += (
            " Or slot 0 is empty, so that nothing is printed, and recovery was not entered: look at line and reset as"
            " well."
        )
    kind = case.own_reset
    if case.seen.chip is None and case.tried("gpio", "pin-reset", "wait-for-dfu", "no-application"):
        return Advice(
            "silence",
            f"Nothing came from the board on {case.port}, not a byte, and nobody could see whether it was reset.",
            "Press its reset button and look at the port. If something comes then, an application was running that"
            f" prints no more, and the reset by {kind} does not reach the board: {look_at_reset(kind)}. If nothing"
            f" comes, c{wires}",
        )
    return Advice(
        "silence", f"Nothing came from the board on {case.port}: not a byte, in recovery or after a reset.", f"C{wires}"
    )


def anything(case: Case) -> Advice:
    """What is left when no rule holds."""
    return Advice(
        "not-clear",
        "The board sends something, and neither MCUboot nor an application could be recognised in it.",
        f"Look at what it sends, and whether it is this board at all. {_how_to_enter(case)}",
    )


WIRE: tuple[Rule, ...] = (_joined, _damaged)
"""Those that need nothing but what was heard."""
RULES: tuple[Rule, ...] = (
    port_gone,
    unpowered,
    probe_failed,
    nobody,
    _joined,
    _other_rate,
    _unreadable,
    _damaged,
    pin_does_not_follow,
    not_reset,
    line_does_not_move,
    _boot_mode,
    _by_application,
    soft_reset,
    _application_answers,
    _reset_not_seen,
    _deaf,
    _booted,
    _no_image,
    _host,
    _smp_silence,
    _silence,
)


def _how_to_enter(case: Case) -> str:
    built_in = {
        "gpio": "CONFIG_BOOT_SERIAL_ENTRANCE_GPIO with the pin that the recovery line is wired to",
        "pin-reset": "CONFIG_BOOT_SERIAL_PIN_RESET",
        "boot-mode": "CONFIG_BOOT_SERIAL_BOOT_MODE",
        "wait-for-dfu": "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU",
        "no-application": "CONFIG_BOOT_SERIAL_NO_APPLICATION",
    }
    needed = [option for entry, option in built_in.items() if entry in case.config.recovery.entry]
    return f"Check that MCUboot on the board is built with {' or '.join(needed) or 'CONFIG_MCUBOOT_SERIAL'}."
