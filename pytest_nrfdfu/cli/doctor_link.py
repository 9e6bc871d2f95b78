"""The doctor's part about the link: whether requests and answers come through undamaged, asked for a number of times.

Asked is for the image list; in every second request with padding, where the list comes soon, so that both directions
carry some 200 bytes. On a healthy wire no frame is damaged and no request has to be repeated.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from pytest_nrfdfu.board.advice import LOSSY
from pytest_nrfdfu.board.receive_size import PaddedImageStateRead
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import Finding
from pytest_nrfdfu.errors import SmpError, SmpTimeout

__all__ = ["Tally", "try_link"]

_TIMES = 24
"""At a loss of one byte in a thousand some 25 % of requests are hit, and of 24 one as good as always (99.9 %); where
the list is empty, which is short, 15 % and 98 %."""
_SIZE = 124
"""Bytes of a padded request: what every bootloader takes."""
_PATIENCE = 3.0
"""Seconds until a request is sent again. MCUboot validates the images of both slots to answer (boot_serial.c, bs_list),
and one sent again too soon would be taken for one that was lost."""
_SOON = 0.3
"""Seconds of an answer that leaves room for the client's usual patience (0.6 s, see `smp.timing`)."""
_TRIES = 2
_LONGEST = 10.0
"""Seconds in which to begin requests."""
_ENOUGH = 4
"""Requests that were hit: then there is no doubt."""


class Tally(NamedTuple):
    """What came of the requests."""

    asked: int = 0
    repeated: int = 0
    """Requests sent again, because no answer came."""
    unanswered: int = 0
    """Requests given up."""
    damaged: int = 0
    """Frames that came and were not whole."""

    @property
    def hit(self) -> int:
        """Requests that did not come through at once."""
        return self.repeated + self.unanswered

    def told(self) -> str:
        """In words."""
        counts = (
            (self.repeated, "requests were sent again" if self.repeated > 1 else "request was sent again"),
            (self.unanswered, "were not answered" if self.unanswered > 1 else "was not answered"),
            (self.damaged, "frames came damaged" if self.damaged > 1 else "frame came damaged"),
        )
        said = [f"{count} {what}" for count, what in counts if count]
        return f"{self.asked} requests for the image list: {', '.join(said) or 'all answered at once, none damaged'}"


def try_link(bench: Bench) -> Finding:
    """Ask a number of times; a warning where anything was lost or damaged."""
    unit = bench.unit
    tally = _asked(unit)
    if not (tally.hit or tally.damaged):
        return Finding("fine", tally.told())
    known = " ".join(f"Known trouble of this host: {text.rstrip('.')}." for text in unit.uart.trouble())
    return Finding(
        "warning",
        f"The link loses or damages bytes. {tally.told()}; on a healthy wire none is.",
        f"{known} {LOSSY} Until then uploads take longer, or fail.".strip(),
        "link-lossy",
    )


def _asked(unit: Unit) -> Tally:
    tally, soonest, deadline = Tally(), _PATIENCE, time.monotonic() + _LONGEST
    while tally.asked < _TIMES and tally.hit + tally.damaged < _ENOUGH and time.monotonic() < deadline:
        since, answered = unit.now(), True
        try:
            _ask(unit, padded=tally.asked % 2 == 1 and soonest < _SOON)
        except SmpTimeout:
            answered = False
        except SmpError:  # an answer, whatever it says
            pass
        soonest = min(soonest, unit.now() - since)
        sent = sum(direction == "tx" for _, direction, _ in unit.transcript(since))
        damaged = len(unit.uart.damaged_since(since))
        tally = Tally(
            tally.asked + 1,
            tally.repeated + (answered and sent > 1),
            tally.unanswered + (not answered),
            tally.damaged + damaged,
        )
    return tally


def _ask(unit: Unit, *, padded: bool) -> None:
    """One request, sent again once."""
    if padded:
        request = PaddedImageStateRead(min(_SIZE, unit.profile.receive_size))
        unit.client.request(request, tries=_TRIES, timeout=_TRIES * _PATIENCE)
    else:
        unit.client.poll_images(_PATIENCE, time.monotonic() + _TRIES * _PATIENCE)
