"""Which units this process uses: leases them, opens them, keeps them until its run ends, and retires bad ones.

No process waits for a unit while it holds another one that it could give back, so runs and workers cannot block each
other for ever; only a test of several units (`Pool.several`) holds one while it waits for the next, in one order for
all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_nrfdfu.bench.choice import Choice, choose, config_folders
from pytest_nrfdfu.bench.identity import identify, is_unlimited
from pytest_nrfdfu.bench.known import after
from pytest_nrfdfu.bench.lease import Keeper, Lease, LocalKeeper, LocalLease, held_back
from pytest_nrfdfu.bench.lease_dir import LeaseDir
from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.errors import BoardError, LeaseError

__all__ = ["Choice", "Pool", "choose", "config_folders"]

LEASE_TIMEOUT = 60.0
"""Seconds to wait for a unit, if nothing else is asked for."""
RETIRE_AFTER = 2
"""Failures of category bench in a row, if nothing else is asked for."""


@dataclass(slots=True, eq=False)
class _Use:
    """A unit that this process has the lease of."""

    source: UnitConfig
    """What the lease was asked for by."""
    lease: Lease
    labels: set[str] = field(default_factory=set)
    """Of the choices that it stands for."""
    unit: Unit | None = None
    """None while it is closed."""
    simulator: Simulator | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    """What closes it, in order of opening."""
    failures: int = 0
    """Of category bench, in a row."""
    reset_due: bool = False

    @property
    def name(self) -> str:
        return self.lease.unit.name

    @property
    def works(self) -> bool:
        return self.unit is not None and self.unit.works and (self.simulator is None or self.simulator.running)

    def open(self) -> None:
        """Start its simulator if it is simulated, open ports and rig; all or nothing."""
        config = self.lease.unit.config
        simulator: Simulator | None = None
        with ExitStack() as opened:
            if config.simulated:
                simulator = Simulator(config)
                opened.callback(simulator.stop)
                config = simulator.wired()
            unit = Unit(self.name, config)
            opened.callback(unit.close)
            unit.open()
            self.opened = opened.pop_all()
        if simulator is not None:
            unit.endpoints = simulator.endpoints
        self.unit, self.simulator = unit, simulator

    def close(self) -> None:
        """Close ports and rig, and stop its simulator; the lease stays."""
        self.unit = self.simulator = None
        self.opened.close()


class Pool:
    """The units that this process uses. Each is leased and opened when first asked for, and kept until `close`.

    `run`: the same for all workers of a run of pytest-xdist. `say` tells a person what is waited for. `retire_after`:
    failures of category bench in a row after which a unit is not used any more; 0: never.
    """

    def __init__(
        self,
        *,
        lease_timeout: float = LEASE_TIMEOUT,
        retire_after: int = RETIRE_AFTER,
        run: str = "",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._keepers: dict[str, Keeper] = {}
        self._lease_timeout = lease_timeout
        self._retire_after = retire_after
        self._say = say
        self._uses: dict[str, _Use] = {}
        """By the unit's name, in order of leasing."""
        self.retired: dict[str, str] = {}
        """Units that are not used any more in this run, by name, each with the reason. Their leases are kept."""
        self.last_results: dict[str, dict[str, Any]] = {}
        """How it went on each unit, by name: ``unit``, ``tests``, ``failed``, ``bench``, ``last``, ``ended``."""
        self._held_once: dict[str, str] = {}
        """What was known to be on units that were given back, by name, in words."""

    # --- what tests get -----------------------------------------------------------------------------------------------

    def unit(self, choice: Choice) -> Unit:
        """A unit for a choice; the same one every time, as long as it works. BoardError or LeaseError if there is none.

        A unit whose port was lost, or whose simulator or rig has died, is closed and opened anew.
        """
        use = self._used_for(choice)
        if use is None:
            # Two values of --board may mean the same unit: "dk:dk-07" and "dk". It is opened once, and both get it.
            use = self._find(choice, share=True, keep=())
        self._stands_for(choice, use)
        return _open_one(use)

    def taken_out(self, choice: Choice) -> str | None:
        """Why no test of a choice is to run: a pattern chose it, and somebody took all of its units out on purpose.

        None where a unit was asked for by name: then that it cannot be had is an error.
        """
        if not choice.by_pattern or any(choice.label in use.labels for use in self._uses.values()):
            return None
        reasons = [held_back(unit) for unit in choice.units]
        if any(reason is None for reason in reasons):
            return None
        return "; ".join(f"{unit.name} is {reason}" for unit, reason in zip(choice.units, reasons, strict=True))

    def several(self, choices: Sequence[Choice], keep: Collection[str] = ()) -> list[Unit]:
        """A different unit for each choice. What this process holds is given back first, but for `keep` (unit names).

        BoardError or LeaseError if they cannot be had.
        """
        found = [self._used_for(choice) for choice in choices]
        if len({use.name for use in found if use is not None}) != len(choices):
            self._give_back(keep)
            found = []
            for choice in choices:
                use = self._used_for(choice)
                if use is None or use in found:
                    use = self._find(choice, share=False, keep=self._uses.keys())
                found.append(use)
        for use, choice in zip(found, choices, strict=True):
            self._stands_for(choice, use)
        return [_open_one(use) for use in found]

    def simulator(self, unit: Unit) -> Simulator | None:
        """The simulator behind a unit, if this pool started one."""
        use = self._uses.get(unit.name)
        return use.simulator if use is not None else None

    @property
    def held(self) -> list[Unit]:
        """The units open now, each once."""
        return [use.unit for use in self._uses.values() if use.unit is not None]

    @property
    def holds(self) -> dict[str, str]:
        """What is known to be on the units open now, by name, in words."""
        return {unit.name: after(self._held_once.get(unit.name), unit.holds) for unit in self.held}

    def take_reset(self, unit: Unit) -> bool:
        """Whether a test has failed on a unit since this was asked last: it is to be reset before the next."""
        use = self._uses.get(unit.name)
        due = use is not None and use.reset_due
        if use is not None:
            use.reset_due = False
        return due

    def _stands_for(self, choice: Choice, chosen: _Use | None) -> None:
        for use in self._uses.values():
            use.labels.discard(choice.label)
        if chosen is not None:
            chosen.labels.add(choice.label)

    # --- leasing and opening ------------------------------------------------------------------------------------------

    def _used_for(self, choice: Choice) -> _Use | None:
        """The unit that stands for a choice already, in working order; LeaseError if it was lost meanwhile."""
        uses = [use for use in self._uses.values() if choice.label in use.labels and use.name not in self.retired]
        if not uses:
            return None
        use = uses[0]
        try:
            use.lease.check()
        except LeaseError:
            self._drop(use)
            raise
        if use.works:
            return use
        _close(use)
        return use if self._opens(use) is None else None

    def _find(self, choice: Choice, *, share: bool, keep: Collection[str]) -> _Use:
        """Lease and open one of a choice's units. `keep`: names of the units that are not given back for it."""
        failures: dict[str, BoardError] = {}
        while True:
            usable, left_out = self._candidates(choice)
            free = [unit for unit in usable if not self._has(unit) and not self._was_tried(unit, failures)]
            mine = [use for use in self._uses.values() if share and use.unit is not None and use.source in choice.units]
            if not free and mine:
                return mine[0]
            if not free:
                raise _none_left(choice, failures, left_out)
            try:
                lease = self._lease(choice, free, mine, keep)
            except LeaseError as error:
                raise LeaseError("; ".join([str(error), *_in_words(failures)])) from None
            if lease is None:
                return mine[0]
            source = lease.unit if lease.unit in free else free[0]
            use = self._uses[lease.unit.name] = _Use(source, lease)
            problem = self._opens(use)
            if problem is None:
                return use
            failures[source.name] = problem

    def _candidates(self, choice: Choice) -> tuple[list[UnitConfig], dict[str, str]]:
        """Units of a choice that may be used, and why the others may not."""
        left_out = {}
        for unit in choice.units:
            reason = self.retired.get(unit.name)
            why = f"retired in this run: {reason}" if reason is not None else held_back(unit)
            if why is not None:
                left_out[unit.name] = why
        return [unit for unit in choice.units if unit.name not in left_out], left_out

    def _has(self, unit: UnitConfig) -> bool:
        """Whether this process has the only one of a unit. A labgrid configuration may stand for many."""
        return unit.config.labgrid is None and unit.name in self._uses

    def _was_tried(self, unit: UnitConfig, failures: dict[str, BoardError]) -> bool:
        """Whether asking for a unit again would give the same one."""
        return unit.name in failures and (unit.config.labgrid is None or not self._retire_after)

    def _lease(
        self, choice: Choice, free: Sequence[UnitConfig], mine: Sequence[_Use], keep: Collection[str]
    ) -> Lease | None:
        """A lease of a free unit; None where none is free now and one of `mine` does as well."""
        keeper = self._keeper(choice.config)
        try:
            return keeper.acquire(free, deadline=time.monotonic(), say=lambda _: None)
        except LeaseError:
            if mine:
                return None
        self._give_back(keep)
        deadline = time.monotonic() + self._lease_timeout
        try:
            return keeper.acquire(free, deadline=deadline, say=self._say)
        except LeaseError as error:
            raise LeaseError(
                f"{choice.label}: {error}; waited {self._lease_timeout:g} s (--nrfdfu-lease-timeout)"
            ) from None

    def _keeper(self, config: BoardConfig) -> Keeper:
        """Who gives out the leases of a board's units: this host, or the coordinator of its [labgrid] table."""
        key = config.labgrid.model_dump_json() if config.labgrid is not None else ""
        if key not in self._keepers:
            if config.labgrid is None:
                self._keepers[key] = LocalKeeper(run=self._run)
            else:
                from pytest_nrfdfu.bench.labgrid import LabgridKeeper

                self._keepers[key] = LabgridKeeper(config.labgrid, self._run)
        return self._keepers[key]

    def _opens(self, use: _Use) -> BoardError | None:
        """Open a unit; the error if that fails so often that it is retired, or (where units never are) given back."""
        while True:
            try:
                use.open()
            except BoardError as error:
                use.failures += 1
                if not self._retire_after:
                    self._drop(use)
                    return error
                if use.failures >= self._retire_after:
                    self._retire(use, f"it could not be opened, {_times(use.failures)}: {error}")
                    return error
            except BaseException:  # wrong in its configuration, or Ctrl-C: what is closed must not count as in use
                self._drop(use)
                raise
            else:
                return None

    # --- how it goes --------------------------------------------------------------------------------------------------

    def passed(self, name: str, test: str) -> None:
        """A test has passed on the unit called `name`."""
        use = self._uses.get(name)
        if use is not None:
            use.failures = 0
            self._count(name, test, "passed", None)

    def failed(self, name: str, test: str, category: str, reason: str) -> None:
        """A test has failed on a unit: it is reset before the next, or retired if the bench was at fault too often."""
        use = self._uses.get(name)
        if use is None:
            return
        use.reset_due = True
        bench = category == "bench"
        use.failures = use.failures + 1 if bench else 0
        self._count(name, test, "failed", category)
        if bench and 0 < self._retire_after <= use.failures:
            self._retire(use, f"the bench failed {_times(use.failures)}, the last time in {test}: {reason}")

    def _count(self, name: str, test: str, outcome: str, category: str | None) -> None:
        result = self._result(name)
        result["tests"] += 1
        result["failed"] += outcome == "failed"
        result["bench"] += category == "bench"
        result["last"] = {"test": test, "outcome": outcome, "category": category}

    def _result(self, name: str) -> dict[str, Any]:
        empty = {"unit": name, "tests": 0, "failed": 0, "bench": 0, "last": None, "retired": None, "ended": None}
        return self.last_results.setdefault(name, empty)

    def _retire(self, use: _Use, reason: str) -> None:
        """Use a unit no more in this run. Its lease is kept, so that nobody else wastes time on it."""
        self.retired[use.name] = reason
        self._result(use.name)["retired"] = reason
        _close(use)
        if isinstance(use.lease, LocalLease):
            use.lease.retire(reason)
        self._say(f"{use.name} is not used any more: {reason}")

    # --- giving back --------------------------------------------------------------------------------------------------

    def _give_back(self, keep: Collection[str]) -> None:
        """Give back what others may use meanwhile; retired units are nothing for others."""
        for use in [use for name, use in self._uses.items() if name not in keep and name not in self.retired]:
            self._drop(use)

    def _drop(self, use: _Use) -> None:
        """Close a unit, write down how it went, and give its lease back."""
        self._uses.pop(use.name, None)
        if use.unit is not None:
            self._held_once[use.name] = after(self._held_once.get(use.name), use.unit.holds)
        _close(use)
        self._leave_result(use)
        use.lease.release()

    def _leave_result(self, use: _Use) -> None:
        """For `nrfdfu units`, while nobody else has the unit."""
        result = self.last_results.get(use.name)
        if result is None or is_unlimited(use.source) or not isinstance(use.lease, LocalLease):
            return
        result["ended"] = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(LeaseError):  # it is for people, and no reason to fail
            LeaseDir().write(identify(use.source).stable, "result", result)

    def close(self) -> None:
        """Close and give back everything, in reverse order of leasing."""
        with ExitStack() as closing:
            for use in self._uses.values():
                closing.callback(use.lease.release)
                closing.callback(self._leave_result, use)
                closing.callback(use.close)
            self._uses = {}


def _open_one(use: _Use | None) -> Unit:
    if use is None or use.unit is None:  # pragma: no cover - what is found is open
        raise BoardError("the unit is closed")
    return use.unit


def _times(failures: int) -> str:
    return f"{failures} times in a row" if failures > 1 else "once"


def _close(use: _Use) -> None:
    """Close what may be broken: what cannot be closed must not hinder the next."""
    with suppress(BoardError, OSError):
        use.close()


def _none_left(choice: Choice, failures: dict[str, BoardError], left_out: dict[str, str]) -> BoardError:
    if len(failures) == 1 and not left_out.keys() - failures.keys():
        return next(iter(failures.values()))
    told = _in_words({**left_out, **failures})
    if not told:
        return BoardError(f"every unit of {choice.label} is in use by this test already")
    return BoardError(f"no unit of {choice.label} can be used: {'; '.join(told)}")


def _in_words(problems: Mapping[str, object]) -> list[str]:
    return [f"{name}: {problem}" for name, problem in problems.items()]
