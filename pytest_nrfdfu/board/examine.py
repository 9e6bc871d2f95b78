"""A look at a board that did not enter serial recovery: what probe, line and port tell once more.

Every part is bounded in time and may fail by itself: the evidence is then smaller, and the diagnosis less certain. The
board is reset a few times more; nothing in flash is changed, and lines and baud rate are as before afterwards.

Sources: nRF5340 product specification (RESET); Armv8-M Architecture Reference Manual (DHCSR.S_RESET_ST).
"""

from __future__ import annotations

import time
from contextlib import suppress

from pytest_nrfdfu.board.boot_mode import RetainedBootMode
from pytest_nrfdfu.board.entries import slot_address
from pytest_nrfdfu.board.evidence import Evidence
from pytest_nrfdfu.board.observed import readable
from pytest_nrfdfu.board.pin_look import look_at_pin
from pytest_nrfdfu.board.trial import Trial
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import Entry, ResetKind
from pytest_nrfdfu.errors import BoardError, SmpError, SmpTimeout
from pytest_nrfdfu.image.format import MAGIC

__all__ = ["BAUDRATES", "examine"]

BAUDRATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1_000_000)
"""The rates that are tried where what came cannot be read: the nRF5340's UARTE has them, and a virtual COM port."""
_RESETREAS = 0x50005400
_DHCSR, _S_RESET_ST = 0xE000EDF0, 1 << 25
_KEEP = 4096
_LISTEN = 1.2
"""Seconds that a board gets to print something after a reset."""
_LISTEN_RATE = 0.6
_REST = 0.15
"""Seconds of silence after which a board has said what it has to say."""
_LOOK = 0.02
_ASK_RATE, _ASK_EVERY = 0.35, 0.15
"""Seconds for which MCUboot is asked at another baud rate, and between requests: the first may only end the line that
noise began."""
_STAYS: frozenset[Entry] = frozenset({"gpio", "pin-reset", "boot-mode", "no-application"})
"""Entries after which MCUboot stays in recovery until it is reset."""


def examine(trial: Trial, since: float, position: int) -> None:
    """Complete the evidence. `since` (seconds, monotonic) and `position` (console): where the first entry began."""
    unit, seen = trial.unit, trial.seen
    _hear(unit, seen, since, position)
    with suppress(BoardError):
        seen.port_trouble = unit.uart.trouble()
    if unit.rig.has_probe:
        _ask_probe(unit, seen)
    _look_at_pin(unit, seen)
    if seen.heard.gone or seen.only_bench or seen.nobody:
        return
    _ask_at_rates(unit, seen)
    _reset_once_more(trial)
    if readable(seen.heard.received + (seen.after_reset or b"")) is False:
        _try_rates(trial)


def _hear(unit: Unit, seen: Evidence, since: float, position: int) -> None:
    heard = seen.heard
    traffic = unit.transcript(since)
    heard.received = b"".join(data for _, direction, data in traffic if direction == "rx")[-_KEEP:]
    heard.sent = b"".join(data for _, direction, data in traffic if direction == "tx")[-_KEEP:]
    heard.text = unit.uart.console.since(position)
    if unit.console_uart is not unit.uart:
        heard.text += unit.console_uart.console.since(0)[-_KEEP:]
    heard.broken_frames = sum(when >= since for when, _ in unit.uart.faults.copy())


def _ask_probe(unit: Unit, seen: Evidence) -> None:
    """What the chip says of itself."""
    rig = unit.rig
    try:
        seen.chip = rig.chip_state()
    except BoardError as error:
        seen.chip_problem = str(error)
        seen.chip_cause = str(getattr(error, "cause", "") or "")
        return
    if not seen.chip.readable:
        return
    with suppress(BoardError):
        seen.reset_causes = rig.read32(_RESETREAS)
    address = slot_address(unit.config)
    if address is not None:
        with suppress(BoardError):
            seen.slot_has_image = rig.read32(address) == MAGIC
    if "boot-mode" in unit.config.recovery.entry and seen.boot_mode_left is None:
        with suppress(BoardError):
            seen.boot_mode_left = RetainedBootMode(rig, unit.config.recovery.boot_mode).read()


def _look_at_pin(unit: Unit, seen: Evidence) -> None:
    """The recovery pin with the line asserted, and with it released."""
    if "recovery" not in unit.rig.line_names or "gpio" not in unit.config.recovery.entry:
        return
    with suppress(BoardError):
        look = look_at_pin(unit, seen.chip)
        seen.pin, seen.pin_unread = look.pin, look.unread
        seen.pin_low, seen.pin_low_released = look.low, look.low_released
        seen.line_level = look.line_level


def _reset_kind(trial: Trial) -> ResetKind | None:
    """The reset of the first entry that really resets."""
    kinds = (attempt.reset for attempt in trial.seen.attempts if not attempt.bench)
    return next((kind for kind in kinds if kind not in {None, "smp"}), None)


def _ask_at_rates(unit: Unit, seen: Evidence) -> None:
    """Where nothing was heard: MCUboot may wait in recovery at another baud rate, where it prints nothing."""
    last = seen.attempts[-1] if seen.attempts else None
    if seen.heard.received or last is None or last.bench or last.entry not in _STAYS:
        return
    rate = unit.config.uart.baudrate
    with suppress(BoardError):
        try:
            for other in reversed(BAUDRATES):
                if other != rate and _answers_at(unit, other):
                    seen.heard.answers_at = other
                    return
        finally:
            unit.uart.set_baudrate(rate)


def _answers_at(unit: Unit, rate: int) -> bool:
    unit.uart.set_baudrate(rate)
    try:
        unit.client.poll_images(_ASK_EVERY, time.monotonic() + _ASK_RATE)
    except SmpTimeout:
        return False
    except SmpError:  # an answer all the same
        return True
    return True


def _reset_once_more(trial: Trial) -> None:
    """Where nothing was heard, reset without any entry: does a reset happen, and does the board print anything.

    Its own reset may lead into recovery (CONFIG_BOOT_SERIAL_PIN_RESET), where MCUboot is silent; so where nothing
    comes and there is a probe, a reset that does not follows.
    """
    unit, seen = trial.unit, trial.seen
    kind = _reset_kind(trial)
    if kind is None or seen.heard.received or seen.heard.answers_at is not None:
        return
    with suppress(BoardError, SmpError):
        readable_chip = seen.chip is not None and seen.chip.readable
        if readable_chip:
            unit.rig.read32(_DHCSR)  # which clears S_RESET_ST
        seen.after_reset = _sent_after(trial, kind, _LISTEN)
        if readable_chip:
            seen.reset_seen = bool(unit.rig.read32(_DHCSR) & _S_RESET_ST)
        if not seen.after_reset and unit.rig.has_probe and kind != "ctrl-ap":
            seen.after_reset = _sent_after(trial, "ctrl-ap", _LISTEN)
            seen.other_reset = "ctrl-ap" if seen.after_reset else None


def _sent_after(trial: Trial, kind: ResetKind, seconds: float) -> bytes:
    """What the board sends after a reset."""
    since = trial.unit.now()
    trial.reset(kind)
    return _listen(trial.unit, since, time.monotonic() + seconds)


def _listen(unit: Unit, since: float, deadline: float) -> bytes:
    count, quiet_since = -1, time.monotonic()
    while time.monotonic() < deadline:
        received = unit.uart.bytes_received
        if received != count:
            count, quiet_since = received, time.monotonic()
        data = b"".join(data for _, direction, data in unit.transcript(since) if direction == "rx")
        if data and time.monotonic() - quiet_since >= _REST:
            break
        time.sleep(_LOOK)
    return b"".join(data for _, direction, data in unit.transcript(since) if direction == "rx")


def _try_rates(trial: Trial) -> None:
    """Look for the baud rate at which what the board prints after a reset can be read."""
    unit, seen = trial.unit, trial.seen
    kind = "ctrl-ap" if unit.rig.has_probe else _reset_kind(trial)
    rate = unit.config.uart.baudrate
    if kind is None:
        return
    with suppress(BoardError, SmpError):
        try:
            for other in BAUDRATES:
                if other == rate:
                    continue
                unit.uart.set_baudrate(other)
                if readable(_sent_after(trial, kind, _LISTEN_RATE)):
                    seen.heard.readable_at = other
                    return
        finally:
            unit.uart.set_baudrate(rate)
