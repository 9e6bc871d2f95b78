"""Resets by this host, noted on the console, so that each boot knows which reset it came of and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_nrfdfu.board.boot_record import OS_RESET
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import PortGone, SmpTimeout

__all__ = ["noted", "noted_os_reset", "reset_name"]

_NAMES: dict[ResetKind, str] = {"power": "power cycle", "smp": OS_RESET}


def reset_name(kind: ResetKind) -> str:
    """A kind of reset in the words of the record of boots."""
    return _NAMES.get(kind, f"{kind} reset")


@contextmanager
def noted(unit: Unit, how: str) -> Iterator[None]:
    """What happens inside resets the board; an error leaves nothing noted. It is over when the block ends."""
    since = time.monotonic()
    yield
    unit.console_uart.console.note_reset(how, since=since)


@contextmanager
def noted_os_reset(unit: Unit) -> Iterator[None]:
    """An OS reset is requested inside. The board answers first, and resets ``[boot] reset_delay`` seconds later.

    A request that is not answered was sent several times, and each may have led to a boot: the last counts.
    """
    console, delay = unit.console_uart.console, unit.config.boot.reset_delay
    since = time.monotonic()
    try:
        yield
    except (SmpTimeout, PortGone):
        now = time.monotonic()
        console.note_reset(OS_RESET, now + delay, since=now)
        raise
    console.note_reset(OS_RESET, time.monotonic() + delay, since=since)
