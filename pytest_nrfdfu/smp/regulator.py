"""When an upload keeps to its window, and when it goes on with one chunk at a time.

A window is an assumption about the receiver and about the chip below it. The first loss while it is open closes it, and
it opens again after a stretch of chunks that went well one by one. One that does not carry much the second time either
is closed for the rest of the upload. A window that is on trial has no second chance: it was not seen to work yet.
"""

from __future__ import annotations

from enum import Enum

from pytest_nrfdfu.smp.window import Policy, StopAndWait

__all__ = ["CLEAN_CHUNKS", "TRIAL_BYTES", "Regulator", "Verdict"]

CLEAN_CHUNKS = 32
"""Chunks answered at the first try, one at a time, after which the window opens again."""
TRIAL_BYTES = 64 << 10
"""Bytes that a window on trial must carry without a loss."""
_MOST_FAILURES = 2
"""Times in a row that a window is closed before it has carried as much as a trial."""
_ONE = StopAndWait()


class Verdict(Enum):
    """What a trial of the window has shown."""

    NONE = "none"
    """There was no trial, or it did not come to an end."""
    CLEAN = "clean"
    """No loss."""
    LOSSY = "lossy"
    """A loss; the window's or the link's, which nobody can tell."""


class Regulator:
    """Chooses between a window and one chunk at a time."""

    def __init__(self, window: Policy, *, trial: bool = False, carried: int = 0) -> None:
        """`trial`: the window has to prove itself; `carried`: bytes by which it did so in earlier uploads."""
        self._window = window
        self.has_window = type(window) is not StopAndWait
        """Whether there is one at all, open or not."""
        self._trial = trial and self.has_window
        self._open = self.has_window
        self._closed_for_good = False
        self._clean = 0
        self._carried = carried
        self._failures = 0
        self.verdict = Verdict.NONE
        self.fallbacks = 0
        """How often the window was closed because of a loss."""

    @property
    def is_open(self) -> bool:
        """Whether there is a window, and it is open."""
        return self._open

    @property
    def on_trial(self) -> bool:
        """Whether the window has to prove itself still."""
        return self._trial

    @property
    def carried(self) -> int:
        """Bytes that the window has carried since it was opened, those of earlier uploads' trials included."""
        return self._carried

    @property
    def policy(self) -> Policy:
        """What holds now."""
        return self._window if self._open else _ONE

    def lost(self) -> bool:
        """A chunk or its answer was lost; whether it counts as the trial's loss."""
        self._clean = 0
        if not self._open:
            return False
        self._open = False
        self.fallbacks += 1
        self._failures = self._failures + 1 if self._carried < TRIAL_BYTES else 0
        self._carried = 0
        if not self._trial:
            self._closed_for_good = self._failures >= _MOST_FAILURES
            return False
        self._trial = False
        self._closed_for_good = True
        self.verdict = Verdict.LOSSY
        return True

    def excuse(self) -> bool:
        """The board was reset, and that was what was lost last; whether a trial's verdict is taken back for it."""
        if self.verdict is not Verdict.LOSSY or self._clean:
            return False
        self.verdict = Verdict.NONE
        return True

    def passed(self, size: int) -> None:
        """A chunk of `size` bytes was answered at its first try, with the offset that follows it."""
        if self._open:
            self._carried += size
            if self._trial and self._carried >= TRIAL_BYTES:
                self._trial = False
                self.verdict = Verdict.CLEAN
        elif self.has_window:
            self._clean += 1
            if self._clean >= CLEAN_CHUNKS and not self._closed_for_good:
                self._clean = 0
                self._open = True
