"""Simulated boards that a module's tests share: each is lent to one test at a time, and given out as new.

Starting one takes a process of its own, and one more for its rig, which imports pyOCD: most of what a short test would
cost. What a test may change is put back (power, lines, probe, faults, counters), all that a unit remembers is made
anew, and a board that holds something else than at its start is replaced, unless the next test says that it is all
the same to it.
"""

import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from board.conftest import Wired, config
from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.sim_admin import SimAdmin

MOST = 4
"""Boards that are kept running."""
SLOTS = (0, 1)


@dataclass
class Kept:
    """A simulated board between two tests; `closing` ends it."""

    simulator: Any
    """A `Simulator`, or what else has started one."""
    admin: SimAdmin
    closing: ExitStack
    rig: Rig | None = None
    wiring: object = None
    """What the rig was made for."""
    first: object = None
    """What was in its flash at its start."""

    def holds(self) -> object:
        return [self.admin.flash_hash(slot) for slot in SLOTS], self.admin.counters().get("network_core")

    def as_new(self) -> None:
        """After the rig has let go of everything: power off and on, and nothing wrong, armed or counted."""
        admin = self.admin
        admin.disarm()
        for name in admin.set_fault("no-power", on=False):
            admin.set_fault(name, on=False)
        admin.set_probe(plugged=True, busy=False)
        admin.set_recovery_pin(low=False)
        admin.set_reset_pin(low=False)
        admin.set_power(False)
        admin.set_power(True)
        admin.reset_counters()

    def close(self) -> None:
        with self.closing:
            if self.rig is not None:
                self.rig.stop()


class Shelf:
    """The boards of one module, by how their simulators were started."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Kept] = {}

    @contextmanager
    def lend(self, sim=None, *, whatever=False, change=lambda settings: settings, **tables) -> Iterator[Wired]:
        """As `wired`. `whatever`: it may hold what another test has put there; `change`: of the unit's configuration.

        A board on which the test has failed is not kept.
        """
        told = config(sim=sim or {}, **tables)

        def settings(simulator: Simulator) -> BoardConfig:
            return change(_wired(simulator, told))

        key = tuple(told.sim.arguments())
        with self.borrow(key, lambda: _start(told), settings, whatever=whatever) as board:
            yield board

    @contextmanager
    def borrow(
        self,
        key: Hashable,
        start: Callable[[], Kept],
        settings: Callable[[Any], BoardConfig],
        *,
        whatever: bool = False,
    ) -> Iterator[Wired]:
        """The board of this key, which `start` makes where there is none; `settings`: the unit's, of its simulator."""
        kept = self._take(key, whatever=whatever) or start()
        if kept.first is None:
            kept.first = kept.holds()
        try:
            unit = _unit(kept, settings(kept.simulator))
            with ExitStack() as ports:
                ports.callback(unit.close_ports)
                unit.open()
                yield Wired(unit, kept.admin, kept.simulator)
            kept.rig = unit.rig
            if kept.rig.pid is not None:
                kept.rig.release()
            kept.as_new()
        except BaseException:
            kept.close()
            raise
        self._kept[key] = kept
        while len(self._kept) > MOST:
            self._kept.pop(next(iter(self._kept))).close()

    def _take(self, key: Hashable, *, whatever: bool) -> Kept | None:
        kept = self._kept.pop(key, None)
        if kept is not None and not whatever and kept.holds() != kept.first:
            kept.close()
            return None
        return kept

    def close(self) -> None:
        with ExitStack() as closing:
            for kept in self._kept.values():
                closing.callback(kept.close)
            self._kept = {}


def _start(told: BoardConfig) -> Kept:
    with ExitStack() as stack:
        simulator = Simulator(told)
        stack.callback(simulator.stop)
        admin = stack.enter_context(SimAdmin(simulator.admin))
        return Kept(simulator, admin, stack.pop_all())


def _wired(simulator: Simulator, told: BoardConfig) -> BoardConfig:
    """The configuration that the simulator would give if it had been started for this test."""
    other = copy.copy(simulator)
    other._config = told
    return other.wired()


def _unit(kept: Kept, settings: BoardConfig) -> Unit:
    """A fresh unit, over the child process of the one before where that fits."""
    unit = Unit("sim", settings)
    wiring = (settings.probe, settings.recovery.line, settings.reset, settings.power)
    if kept.rig is not None and kept.wiring == wiring:
        unit.rig = kept.rig
    elif kept.rig is not None:
        kept.rig.stop()
    kept.rig, kept.wiring = unit.rig, wiring
    return unit


def of_this_module():
    """A fixture that gives one: ``shelf = of_this_module()``."""

    @pytest.fixture(scope="module")
    def shelf() -> Iterator[Shelf]:
        found = Shelf()
        yield found
        found.close()

    return shelf
