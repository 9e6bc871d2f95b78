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
    too_large: int = 0
    """Packets that met silence because of their size, at the beginning; they are no retries."""
    too_large_size: int = 0
    """Bytes of such a packet."""
    size_seconds: float = 0.0
    """Seconds from the first of them until a size was found that is answered."""
    largest_chunk: int = 0
    window: int = 0
    """The most chunks that were in flight at a time."""
    progress: list[tuple[float, int]] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    """When packets were sent again, in seconds on the caller's clock."""

    def too_large_for(self, size: int, seconds: float) -> None:
        """What was lost so far was lost because packets of `size` bytes are too large, not on the link nor by a window.

        `seconds`: from the first of them until that was known.
        """
        self.too_large, self.too_large_size, self.size_seconds = self.retries + 1, size, seconds
        self.retries = self.trial_losses = 0
        self.repeated.clear()
