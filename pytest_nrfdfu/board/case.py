"""The case that the rules of a diagnosis judge: evidence and configuration, and the questions asked of both."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_nrfdfu.board.evidence import Evidence
from pytest_nrfdfu.board.observed import damaged_banner
from pytest_nrfdfu.config_types import BoardConfig, Entry

__all__ = ["Case"]


class Case(NamedTuple):
    """What the rules look at."""

    seen: Evidence
    config: BoardConfig

    @property
    def received(self) -> bytes:
        """All bytes that came, in the entries and after one more reset."""
        return self.seen.heard.received + (self.seen.after_reset or b"")

    @property
    def booted(self) -> bool:
        """The application's banner came while the entries were tried."""
        return re.search(self.config.console.banner, self.seen.heard.text) is not None

    @property
    def damaged_banner(self) -> str:
        """A banner of which characters were lost, where no whole one came; empty if there is none."""
        return "" if self.booted else damaged_banner(self.seen.heard.text, self.config.console.banner)

    @property
    def silent(self) -> bool:
        """Nothing came at all."""
        return not self.received

    @property
    def own_reset(self) -> str:
        """The reset that the entries use: the first that was really done."""
        kinds = (attempt.reset for attempt in self.seen.attempts if not attempt.bench)
        return next((kind for kind in kinds if kind not in {None, "smp"}), None) or "any means"

    @property
    def port(self) -> str:
        """The port as configured, with its rate."""
        return f"{self.config.uart.port} at {self.config.uart.baudrate} baud"

    def tried(self, *entries: Entry) -> bool:
        """Whether one of the entries was really tried."""
        return any(self.seen.tried(entry) for entry in entries)

    def words_of(self, kind: str) -> str:
        """What the first entry that failed for a kind of trouble (`Evidence.causes`) said; without a full stop."""
        causes = self.seen.causes
        said = (one.problem for one in self.seen.attempts if causes.get(one.entry, "").startswith(kind))
        return next(said, self.seen.chip_problem).rstrip(".")
