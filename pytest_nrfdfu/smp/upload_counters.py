"""What happened in an upload, counted."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["UploadCounters"]


@dataclass(slots=True)
class UploadCounters:
    """What happened. `progress` holds (seconds on the caller's clock, acknowledged bytes)."""

    chunks: int = 0
    retries: int = 0
    """Packets sent again because no answer came."""
    resyncs: int = 0
    """Answers that asked for another offset than the next one."""
    restarts: int = 0
    """How often the server asked for offset 0 again."""
    stale: int = 0
    """Answers that belonged to nothing in flight."""
    malformed: int = 0
    """Answers to a chunk that could not be read, and so count as none."""
    trial_losses: int = 0
    """Retries and resyncs that ended the trial of a window; the window's or the link's, nobody can tell."""
    largest_chunk: int = 0
    window: int = 0
    """The most chunks that were in flight at a time."""
    progress: list[tuple[float, int]] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    """When packets were sent again, in seconds on the caller's clock."""
