"""What the bootloader on a unit takes, and whether a window is used: by its word, the build, the profile, or measured.

A window is chosen and earned as ``[bootloader] window`` says: ``"auto"`` tries one in the first 64 KiB of the first
upload to this unit with this bootloader, and keeps to what that showed. Bootloaders before nRF Connect SDK 2.6 get
none: a queued command waits there for the next byte (MCUboot, commit 6ba46c0b).
"""

from __future__ import annotations

from pytest_nrfdfu.board.window_memory import Known
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.smp.chunks import Limits
from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.regulator import Verdict
from pytest_nrfdfu.smp.upload import Upload
from pytest_nrfdfu.smp.window import waiting_lines

__all__ = ["findings", "key", "limits_for", "no_window", "window_outcome"]

_AUTO = 2
"""Chunks in flight: of the windows that fit eight line buffers the one with the largest chunks."""


def key(unit: str, config: BoardConfig, profile: BootloaderProfile) -> str:
    """What a measurement holds for: this unit, this bootloader, this wire."""
    uart = config.uart
    parts = (
        unit,
        profile.name,
        f"{profile.receive_size} bytes",
        f"{profile.line_buffers} lines",
        f"{uart.baudrate} baud",
        f"flow control {uart.flow_control}",
    )
    return ", ".join(parts)


def limits_for(
    config: BoardConfig, profile: BootloaderProfile, size: int, known: Known, *, flow_control: bool
) -> Limits:
    """The limits of an upload. `size`: the receive size in bytes; `flow_control`: the bootloader's UART has it too."""
    asked = config.bootloader.window
    full = flow_control and config.uart.flow_control == "rtscts"
    known = known.of(full=full)
    earned = 1 if known.window == "lossy" else _AUTO
    window = earned if asked == "auto" else asked
    slot_size = config.app_image.slot_size
    return Limits(
        max_packet=min(size, known.receive_size or size) - FRAME_OVERHEAD,  # they lie in the decode buffer as well
        line_length=min(profile.line_length - 1, Limits().line_length),
        erases_at_start=not profile.erase_progressively,
        slot_size=slot_size or Limits().slot_size,
        repeat_image=not profile.image_at_start_only,
        line_buffers=profile.line_buffers if window > 1 and profile.queues_commands else None,
        window=max(window, _AUTO),
        flow_control=full,
        trial=asked == "auto" and known.window == "unknown",
        trial_carried=known.carried,
    )


def no_window(config: BoardConfig, profile: BootloaderProfile) -> str | None:
    """Why uploads get no window, whatever is measured; None if they may."""
    if not profile.queues_commands:
        return f"no window: in bootloader {profile.name} a queued request waits for the next byte"
    if waiting_lines(profile.line_buffers, _AUTO) is None:
        return f"no window: the bootloader's {profile.line_buffers} line buffers are too few"
    if config.bootloader.window == 1:
        return "no window: window = 1 in [bootloader] says so"
    return None


def findings(upload: Upload, limits: Limits) -> dict[str, str | int]:
    """What an upload that began with `limits` has shown, as fields of `Known`; empty if nothing."""
    verdict = upload.regulator.verdict
    found: dict[str, str | int] = {}
    shrunk = upload.limits.max_packet < limits.max_packet  # the first chunk met silence: its size was lost, no window
    if verdict is Verdict.CLEAN or (verdict is Verdict.LOSSY and not shrunk):
        found |= {"window": verdict.value, "losses": upload.counters.trial_losses, "carried": 0}
        found |= {"full": limits.flow_control}
    elif upload.regulator.on_trial and upload.regulator.carried > limits.trial_carried:
        found |= {"window": "unknown", "losses": 0, "carried": upload.regulator.carried, "full": limits.flow_control}
    if shrunk:
        found |= {"receive_size": upload.limits.max_packet + FRAME_OVERHEAD}
    return found


def window_outcome(upload: Upload) -> str:
    """What became of an upload's window, in a few words."""
    regulator = upload.regulator
    if not regulator.has_window:
        return "one chunk at a time"
    window = f"{upload.counters.window} chunks in flight"
    if regulator.verdict is Verdict.CLEAN:
        return f"{window}: tried and kept"
    if regulator.verdict is Verdict.LOSSY:
        return f"{window}: tried and given up"
    if regulator.on_trial:
        return f"{window}: on trial"
    if regulator.fallbacks:
        times = "once" if regulator.fallbacks == 1 else f"{regulator.fallbacks} times"
        return f"{window}: closed {times} after a loss"
    return window
