"""What an upload showed of its receiver, in words: what became of its window, and of the size of its packets."""

from __future__ import annotations

from dataclasses import replace

from pytest_nrfdfu.board.limits import KnownLimits
from pytest_nrfdfu.board.window_memory import Known, WindowMemory
from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.regulator import Verdict
from pytest_nrfdfu.smp.upload import Upload

__all__ = ["HOW_TO_MEASURE", "next_trial", "size_note", "window_outcome"]

_NOTHING = Known()
HOW_TO_MEASURE = "nrfdfu doctor --measure-window --build PATH"


def window_outcome(upload: Upload, memory: WindowMemory | None = None) -> str:
    """What became of an upload's window, in a few words. `memory`: where its trial was to be noted, if anywhere."""
    regulator = upload.regulator
    known = upload.limits.known if isinstance(upload.limits, KnownLimits) else _NOTHING
    if not regulator.has_window:
        return f"one chunk at a time{_held_back(upload, known)}"
    window = f"{upload.counters.window} chunks in flight"
    if regulator.verdict is Verdict.CLEAN:
        trouble = memory.not_kept if memory is not None else ""
        return f"{window}: tried, but NOT remembered: {trouble}" if trouble else f"{window}: tried and kept"
    if regulator.verdict is Verdict.LOSSY:
        failures = known.failures + 1
        noted = not upload.counters.too_large  # see `limits.findings`: it was a size that was lost
        again = f" ({failures} times in a row)" if failures > 1 and noted else ""
        return f"{window}: tried and given up{again}"
    if regulator.on_trial:
        return f"{window}: on trial"
    if regulator.fallbacks:
        times = "once" if regulator.fallbacks == 1 else f"{regulator.fallbacks} times"
        return f"{window}: closed {times} after a loss"
    return window


def _held_back(upload: Upload, known: Known) -> str:
    if not (isinstance(upload.limits, KnownLimits) and upload.limits.held_back):
        return ""
    after = replace(known, waited=known.waited + 1)
    day = f" on {known.when}" if known.when else ""
    return f" (a trial of a window lost {known.losses or 'something'}{day}; {next_trial(after)})"


def next_trial(known: Known) -> str:
    """When a window that lost something is tried again."""
    left = known.held_back
    when = f"after {left} more upload{'s' if left > 1 else ''}" if left else "in the next upload"
    return f"tried again {when}, or by {HOW_TO_MEASURE}"


def size_note(upload: Upload, via: str = "recovery") -> list[str]:
    """That the receiver takes smaller packets than was assumed: how that was found, and what it cost.

    `via`: who the receiver is, as in `DfuReport.via`.
    """
    limits, counters = upload.limits, upload.counters
    size = limits.max_packet + FRAME_OVERHEAD
    who, advice = "bootloader", f"say receive_size = {size} in [bootloader]"
    if via == "application":
        who, advice = "application", "look at its CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE"
    if counters.too_large:
        times = f" {counters.too_large} times" if counters.too_large > 1 else ""
        asked = f"padded requests for the image list found what is answered, in {counters.size_seconds:.1f} s in all"
        met = f"one of {counters.too_large_size} bytes met silence{times}"
        return [f"the {who} takes packets of {limits.max_packet} bytes: {met}, and {asked}; {advice}"]
    if isinstance(limits, KnownLimits) and limits.assumed_size is not None:
        day = f" on {limits.known.size_when}" if limits.known.size_when else " earlier"
        assumed = f"although the receive size was taken to be {limits.assumed_size}"
        return [f"packets of {limits.max_packet} bytes at most: larger ones met silence{day}, {assumed}; {advice}"]
    return []
