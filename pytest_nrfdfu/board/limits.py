"""What the bootloader on a unit takes, and whether a window is used: by its word, the build, the profile, or measured.

A window is chosen and earned as ``[bootloader] window`` says: ``"auto"`` tries one in the first 64 KiB of the first
upload to this unit with this bootloader, and keeps to what that showed, for some uploads where something was lost.
Bootloaders before nRF Connect SDK 2.6 get none: a queued command waits there for the next byte (MCUboot, commit
6ba46c0b).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pytest_nrfdfu.board.window_memory import NO_TRIAL, Known
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.smp.chunks import Limits
from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.regulator import Verdict
from pytest_nrfdfu.smp.upload import Upload
from pytest_nrfdfu.smp.window import waiting_lines

__all__ = ["KnownLimits", "findings", "key", "limits_for", "no_window"]

_AUTO = 2
"""Chunks in flight: of the windows that fit eight line buffers the one with the largest chunks."""


_NOTHING = Known()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLimits(Limits):
    """Limits, and what they follow from besides the configuration."""

    known: Known = _NOTHING
    """What was known of the unit before the upload."""
    assumed_size: int | None = None
    """The receive size (bytes) that was not believed, because a smaller one was found earlier; None: it is believed."""

    @property
    def held_back(self) -> bool:
        """Whether there is no window only because a trial of it lost something earlier."""
        return self.line_buffers is None and self.known.held_back > 0


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
) -> KnownLimits:
    """The limits of an upload. `size`: the receive size in bytes; `flow_control`: the bootloader's UART has it too."""
    asked = config.bootloader.window
    auto = asked == "auto"
    full = flow_control and config.uart.flow_control == "rtscts"
    known = known.of(full=full)
    may = auto and no_window(config, profile) is None
    window = _AUTO if asked == "auto" else asked
    held_back = auto and known.held_back > 0
    slot_size = config.app_image.slot_size
    taken = min(size, known.receive_size or size)
    return KnownLimits(
        max_packet=taken - FRAME_OVERHEAD,  # length and CRC lie in the decode buffer as well
        line_length=min(profile.line_length - 1, Limits().line_length),
        erases_at_start=not profile.erase_progressively,
        slot_size=slot_size or Limits().slot_size,
        repeat_image=not profile.image_at_start_only,
        line_buffers=profile.line_buffers if window > 1 and not held_back and profile.queues_commands else None,
        window=max(window, _AUTO),
        flow_control=full,
        trial=auto and not held_back and known.window != "clean",
        trial_carried=known.carried,
        known=known if may else Known(receive_size=known.receive_size, size_when=known.size_when),
        assumed_size=size if taken < size else None,
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


def findings(upload: Upload, limits: Limits) -> dict[str, Any]:
    """What an upload that began with `limits` has shown, as fields of `Known`; empty if nothing."""
    verdict = upload.regulator.verdict
    known = limits.known if isinstance(limits, KnownLimits) else _NOTHING
    found: dict[str, Any] = {}
    shrunk = upload.limits.max_packet < limits.max_packet  # the first chunk met silence: its size was lost, no window
    if verdict is Verdict.CLEAN or (verdict is Verdict.LOSSY and not shrunk):
        found |= {**NO_TRIAL, "window": verdict.value, "losses": upload.counters.trial_losses}
        found |= {"full": limits.flow_control, "when": _today()}
        found |= {"failures": known.failures + 1 if verdict is Verdict.LOSSY else 0}
    elif upload.regulator.on_trial and upload.regulator.carried > limits.trial_carried:
        # What was known of a failed trial stays until another one has ended.
        found |= {} if known.window == "lossy" else {**NO_TRIAL, "full": limits.flow_control}
        found |= {"carried": upload.regulator.carried}
    elif isinstance(limits, KnownLimits) and limits.held_back:
        found |= {"waited": known.waited + 1}
    if shrunk:
        found |= {"receive_size": upload.limits.max_packet + FRAME_OVERHEAD, "size_when": _today()}
    return found


def _today() -> str:
    return datetime.now().astimezone().date().isoformat()
