"""What the ways into recovery share: resets of all kinds, and waiting for recovery to answer.

Recovery is believed when it answers an image list: echo is not built into MCUboot by default, and an application may
answer as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_nrfdfu.board.evidence import Evidence
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.noted import noted, noted_os_reset, reset_name
from pytest_nrfdfu.board.power import power_cycle
from pytest_nrfdfu.board.swap_wait import longest_swap
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import PortGone, ProbeError, SmpRejected, SmpTimeout, UartError
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Trial"]

_POLL = 0.15
"""Seconds between image list requests while waiting: the bootloader starts listening at a time nobody knows."""
_LEAST_REOPEN = 1.0
"""Seconds that a port that vanished gets to come back, however late it went: a host takes as long to enumerate it."""


@dataclass(slots=True)
class Trial:
    """One unit that is to come into recovery, and what was seen of it so far."""

    unit: Unit
    seen: Evidence = field(default_factory=Evidence)
    ask: Callable[[str], None] | None = None
    """Tells a person what to do; None: the terminal does, if there is one."""

    @property
    def timeout(self) -> float:
        """Seconds from a reset until recovery must have answered."""
        return self.unit.config.recovery.timeout

    @property
    def behind_swap(self) -> float:
        """The same for an entry that comes after the swap (main.c: boot_go), where one is known to be due."""
        return self.timeout + (longest_swap(self.unit) if self.unit.swap_ahead.is_known else 0.0)

    def need_open_chip(self, what: str) -> None:
        """ProbeError if the debugger cannot reach `what`, before anything is touched."""
        state = self.unit.rig.chip_state()
        self.seen.chip = state
        if not state.readable:
            raise ProbeError(
                f"the chip is {state.application}, so {what} cannot be reached through the probe; nothing was changed"
            )

    def reset(self, kind: ResetKind, *, boot_mode: int | None = None) -> None:
        """Reset the board; `boot_mode` goes with an OS reset. Returns when the reset has happened."""
        unit = self.unit
        unit.note_reset()
        if kind == "smp":
            with noted_os_reset(unit):
                unit.client.reset(boot_mode=boot_mode, timeout=self.timeout)
            time.sleep(unit.config.boot.reset_delay)
        elif kind == "power":
            power_cycle(unit)
        else:
            with noted(unit, reset_name(kind)):
                unit.rig.reset(kind)

    def wait(self, timeout: float | None = None, *, interval: float = _POLL, back: int | None = None) -> ImageStates:
        """Ask for the image list until recovery answers; SmpTimeout when `timeout` (as configured) has passed.

        A port that vanishes meanwhile, as that of the target's own USB does, is opened again when it is back. `back`: a
        console position after which the application's banner means that there is nothing to wait for any more.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        self._discard(deadline)
        while True:
            states = self._ask(interval, deadline)
            if states is not None and from_recovery(states, has_state=self.unit.profile.image_state):
                return states
            self._note_application(states)
            if back is not None and self._booted(back):
                raise SmpTimeout("the application answered again after the reset, not the bootloader")
            time.sleep(interval)
            if time.monotonic() >= deadline:
                raise SmpTimeout("only the application answered, not the bootloader")

    def _discard(self, deadline: float) -> None:
        """Forget what came before; the port is open afterwards."""
        try:
            self.unit.uart.discard()
        except UartError:
            self._reopen(deadline)

    def _reopen(self, deadline: float) -> None:
        """A port that vanished is found again; at the end of the time it still gets a little more."""
        last = deadline + _LEAST_REOPEN
        if time.monotonic() >= last:
            raise PortGone(f"{self.unit.uart.port} came and went until the time was over")
        self.unit.uart.reopen(last)

    def _ask(self, interval: float, deadline: float) -> ImageStates | None:
        """The image list of whoever answers; None from an application without the image group."""
        while True:
            try:
                return self.unit.client.poll_images(interval, deadline)
            except UartError:
                self._reopen(deadline)
            except SmpRejected:  # MCUboot always has a list
                return None

    def _note_application(self, states: ImageStates | None) -> None:
        heard = self.seen.heard
        heard.application_answers += 1
        heard.flags_without_split_status |= states is not None and states.split_status is None and states.flags_first

    def _booted(self, position: int) -> bool:
        """Whether the application's banner has come since a console position."""
        text = self.unit.console_uart.console.since(position)
        return re.search(self.unit.config.console.banner, text) is not None
