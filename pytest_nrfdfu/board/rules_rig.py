"""The rules of a diagnosis that judge the rig: port, probe, lines, reset. Pure.

Sources: MCUboot, boot/zephyr/include/io/io.h (the recovery pin counts after power-on or pin reset only); nRF5340
product specification (RESETREAS, CTRL-AP).
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_nrfdfu.board.advice import PROBE_CAUSES, Advice
from pytest_nrfdfu.board.case import Case
from pytest_nrfdfu.board.observed import causes_in_words
from pytest_nrfdfu.config_types import Entry

__all__ = [
    "line_does_not_move",
    "look_at_reset",
    "nobody",
    "not_reset",
    "pin_does_not_follow",
    "port_gone",
    "probe_failed",
    "soft_reset",
    "unpowered",
]

_RESETPIN = 1 << 0
_BY_SWD = frozenset({"system", "ctrl-ap"})
_FIRST_COMES = "after a soft reset MCUboot ignores the pin (io_boot_skip_serial_recovery)"


# --- the rig itself -------------------------------------------------------------------------------------------------


def port_gone(case: Case) -> Advice | None:
    """The port was lost and did not come back."""
    gone = case.seen.heard.gone
    if not gone:
        return None
    return Advice(
        "port-gone",
        f"The serial port went away and did not come back: {gone.rstrip('.')}.",
        "Plug the board or its adapter in again, and name the port by something that stays when it comes back under"
        ' another name ([uart] port = "jlink:SERIAL:vcom-last", "usb:VID:PID" or a link in /dev/serial/by-id).',
    )


def unpowered(case: Case) -> Advice | None:
    """The probe finds no supply."""
    if case.seen.chip_cause != "no-power" and "probe-no-power" not in case.seen.causes.values():
        return None
    return PROBE_CAUSES["no-power"].told(case.words_of("probe-"))


def probe_failed(case: Case) -> Advice | None:
    """Only where the probe, line or reset kept every entry from being tried."""
    if not case.seen.only_bench:
        return None
    locked = _locked(case)
    if locked is not None:
        return locked
    kinds = list(case.seen.causes.values())
    if "line" in kinds:
        return Advice(
            "line-failed",
            f"The recovery line cannot be driven: {case.words_of('line')}.",
            "Look at [recovery.line]: its driver, and that the adapter or relay behind it is plugged in and free.",
        )
    probe = next((kind.removeprefix("probe-") for kind in kinds if kind.startswith("probe-")), None)
    if probe is not None:
        return PROBE_CAUSES.get(probe, PROBE_CAUSES["failed"]).told(case.words_of("probe-"))
    return Advice(
        "rig-failed",
        f"The rig failed before the board could be asked: {case.words_of('rig')}.",
        "Run the command or driver that failed by hand, and look at [reset] and [power] in the configuration.",
    )


def _locked(case: Case) -> Advice | None:
    state = case.seen.chip.application if case.seen.chip is not None else ""
    causes = case.seen.causes.values()
    needing = _names(entry for entry, cause in case.seen.causes.items() if cause.startswith("probe-"))
    if state == "locked" or "probe-locked" in causes:
        return Advice(
            "chip-locked",
            f"The chip is locked (access port protection), so the probe cannot do what entry {needing} needs.",
            'Use an entry that needs no debugger: "gpio" with reset = "pin", "pin-reset", "smp" or "manual"; unlocking'
            " (nrfutil device recover) erases the chip and is never done here.",
        )
    if state == "secure-locked" or "probe-secure-locked" in causes:
        return Advice(
            "chip-secure-locked",
            "The chip's secure side is locked (SECUREAPPROTECT), so the probe cannot reach the secure registers that"
            f" entry {needing} needs.",
            'Use an entry that needs none of them: "gpio" with reset = "pin", "pin-reset", "smp" or "manual"; or'
            " provision the board with SECUREAPPROTECT off, which erases it.",
        )
    return None


def nobody(case: Case) -> Advice | None:
    """The only way left was by hand, and there are no hands."""
    if not case.seen.nobody or case.tried(*(entry for entry in case.config.recovery.entry if entry != "manual")):
        return None
    return Advice(
        "nobody-at-the-terminal",
        "Nobody could be asked: this run has no terminal with a person at it, and the board is brought into recovery by"
        " hand.",
        "Run it in the foreground of a terminal and without xdist, or give the board an entry that needs no hands in"
        " [recovery] entry.",
    )


# --- pin and reset --------------------------------------------------------------------------------------------------


def pin_does_not_follow(case: Case) -> Advice | None:
    """The chip sees something else at the pin than the line says."""
    low, released = case.seen.pin_low, case.seen.pin_low_released
    if low is not False or not case.tried("gpio"):
        return None
    if released:
        return Advice(
            "line-inverted",
            "The recovery line is inverted: the pin is low while the line is released, and high while it is asserted.",
            "Change active in [recovery.line] (the level at the line's output; behind a transistor that inverts, it is"
            " the opposite of the target's), or the polarity of that transistor.",
        )
    return Advice(
        "recovery-line-not-connected",
        "The recovery line does not reach the chip: the pin that MCUboot looks at reads high while the line is"
        " asserted.",
        f"Check the wire from the line to that pin ({case.seen.pin or 'P0.23 on the nRF5340 DK'}), its ground, and that"
        f" [recovery.line] names the right output.{_mute(case)}",
    )


def _mute(case: Case) -> str:
    """What else is to be looked at where an application should have started and printed."""
    if not (case.silent and case.seen.slot_has_image and case.seen.reset_seen):
        return ""
    return (
        " Look at the board's TX, the port and its rate as well: the core was reset, slot 0 has an image's header, and"
        f" nothing was printed on {case.port}."
    )


def line_does_not_move(case: Case) -> Advice | None:
    """The driver itself reads the line back as inactive."""
    if case.seen.line_level is not False or not case.tried("gpio"):
        return None
    return Advice(
        "line-stuck",
        "The recovery line stays inactive while it is asserted, as its own driver reads it back.",
        "Look for something stronger on that wire (a pull-up, another output), and at drive and active in"
        " [recovery.line].",
    )


def not_reset(case: Case) -> Advice | None:
    """The core saw no reset."""
    if case.seen.reset_seen is not False:
        return None
    return Advice(
        "reset-not-connected",
        f"The board is not reset: the core saw no reset after {_resets(case)}.",
        f"L{look_at_reset(case.own_reset)[1:]}, or use another reset{_swd_alone(case.own_reset)}.",
    )


def look_at_reset(kind: str) -> str:
    """Where to look when a reset of a kind did not reset the board; a sentence's part, as a configuration names it."""
    if kind == "power":
        return "look at what the commands in [power] switch: it does not switch the board"
    if kind in _BY_SWD:
        return "look at SWD, which alone does that reset, and that the probe is at this board"
    driver = {"line": "the output that [reset.line] names", "command": "what the command in [reset] switches"}
    return f"look at the wire from {driver.get(kind, 'the probe')} to nRESET, and that both share ground"


def _swd_alone(kind: str) -> str:
    return "" if kind in _BY_SWD else ' ("ctrl-ap" needs SWD alone)'


def soft_reset(case: Case) -> Advice | None:
    """The recovery pin was held through a reset that MCUboot does not let it count after."""
    causes = case.seen.reset_causes
    if causes is None or not causes or causes & _RESETPIN or not case.booted or not case.tried("gpio"):
        return None
    return Advice(
        "soft-reset",
        f"MCUboot ignored the recovery pin, because the board was reset by {causes_in_words(causes)} and not by its"
        f" reset pin or power: {_FIRST_COMES}.",
        'Use reset = "pin", "line" or "power" in [recovery], check that it drives nRESET, or set clear_reset_causes ='
        ' true with reset = "system".',
    )


def _names(entries: Iterator[Entry]) -> str:
    return " and ".join(f'"{entry}"' for entry in entries) or "of this board"


def _resets(case: Case) -> str:
    kinds = dict.fromkeys(attempt.reset for attempt in case.seen.attempts if attempt.reset not in {None, "smp"})
    return " and ".join(f'reset = "{kind}"' for kind in kinds)
