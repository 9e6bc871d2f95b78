"""Which boards were asked for, and the units of them that this process holds until its run ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig, Catalogue, UnitConfig
from pytest_nrfdfu.errors import BoardError, ConfigError

__all__ = ["Choice", "Pool", "choose", "config_folders"]

_ALL = "all"


@dataclass(frozen=True, slots=True)
class Choice:
    """What one parameter ``board:LABEL`` stands for: any of these units."""

    label: str
    units: tuple[UnitConfig, ...]

    @property
    def config(self) -> BoardConfig:
        """The configuration that all of them share, for matching markers."""
        return self.units[0].config

    def matches(self, patterns: Iterable[str]) -> bool:
        """Whether a marker's board names (globs count) mean this board: its own name, or one that it is like."""
        names = (self.config.board, *self.config.compatible)
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def choose(wanted: Iterable[str], catalogue: Catalogue) -> list[Choice]:
    """What the values of ``--board`` select, each unit or board once; ConfigError where one selects nothing."""
    choices: dict[str, Choice] = {}
    for value in wanted:
        pattern, _, which = value.partition(":")
        for name, units in catalogue.find(pattern):
            for choice in _of_board(name, units, which, value):
                choices.setdefault(choice.label, choice)
    return list(choices.values())


def _of_board(name: str, units: list[UnitConfig], which: str, value: str) -> Iterator[Choice]:
    if not which:
        yield Choice(name, tuple(units))
        return
    named = [unit for unit in units if unit.id is not None]
    hits = named if which == _ALL else [unit for unit in named if fnmatchcase(unit.id or "", which)]
    if which == _ALL and not named:
        hits = units
    if not hits:
        known = ", ".join(unit.id or "" for unit in named) or "none: its file has no [[unit]] tables"
        raise ConfigError(f"--board {value}: {name} has no unit {which!r}; its units are {known}")
    for unit in hits:
        yield Choice(unit.name, (unit,))


class Pool:
    """The units that this process uses. Each is opened when first asked for and kept until `close`."""

    def __init__(self) -> None:
        self._held: dict[str, Unit] = {}
        self._opened: dict[str, ExitStack] = {}
        """What closes each unit, by its name, in order of opening."""
        self._simulators: dict[str, Simulator] = {}

    def unit(self, choice: Choice) -> Unit:
        """A unit for a choice; the same one every time, as long as it works. BoardError if none works.

        A unit whose port was lost, or whose simulator or rig has died, is closed and opened anew.
        """
        self._drop_broken()
        if choice.label in self._held:
            return self._held[choice.label]
        in_use = {unit.name: unit for unit in self._held.values()}
        free = [unit for unit in choice.units if unit.name not in in_use]
        # Two values of --board may mean the same unit: "dk:dk-07" and "dk". It is opened once, and both get it.
        unit = self._open_any(choice.label, free) if free else in_use[choice.units[0].name]
        self._held[choice.label] = unit
        return unit

    def simulator(self, unit: Unit) -> Simulator | None:
        """The simulator behind a unit, if this pool started one."""
        return self._simulators.get(unit.name)

    @property
    def held(self) -> list[Unit]:
        """The units open now, each once."""
        return list({unit.name: unit for unit in self._held.values()}.values())

    def _drop_broken(self) -> None:
        for unit in self.held:
            simulator = self._simulators.get(unit.name)
            if unit.works and (simulator is None or simulator.running):
                continue
            self._held = {label: held for label, held in self._held.items() if held is not unit}
            self._simulators.pop(unit.name, None)
            with suppress(BoardError, OSError):  # it is broken: what cannot be closed must not hinder the next
                self._opened.pop(unit.name).close()

    def _open_any(self, label: str, units: list[UnitConfig]) -> Unit:
        """The first of `units` that opens."""
        failures: list[tuple[str, BoardError]] = []
        for unit in units:
            try:
                return self._open(unit)
            except BoardError as error:
                failures.append((unit.name, error))
        if len(failures) == 1:
            raise failures[0][1]
        told = "; ".join(f"{name}: {error}" for name, error in failures)
        raise BoardError(f"no unit of {label} can be used: {told}")

    def _open(self, chosen: UnitConfig) -> Unit:
        config = chosen.config
        simulator: Simulator | None = None
        with ExitStack() as opened:
            if config.simulated:
                simulator = Simulator(config)
                opened.callback(simulator.stop)
                config = simulator.wired()
            unit = Unit(chosen.name, config)
            opened.callback(unit.close)
            unit.open()
            self._opened[chosen.name] = opened.pop_all()
        if simulator is not None:
            self._simulators[chosen.name] = simulator
        return unit

    def close(self) -> None:
        """Release and close everything, in reverse order of opening."""
        self._held.clear()
        self._simulators.clear()
        with ExitStack() as closing:
            for opened in self._opened.values():
                closing.callback(opened.close)
            self._opened = {}


def config_folders(asked: Path | None, root: Path, shipped: Path, start: Path | None = None) -> list[Path]:
    """Where configurations are looked for: what was asked for, or the suite's folder, then those of the package.

    ConfigError if what was asked for is not there.
    """
    if asked is not None:
        if not asked.exists():
            raise ConfigError(f"--nrfdfu-config {asked}: no such file or folder")
        return [asked, shipped]
    # An option's value that is a path outside may move pytest's rootdir up; where pytest was started counts as well.
    owns = [folder / "hil_configs" for folder in (root, start or root)]
    own = next((folder for folder in owns if folder.is_dir()), shipped)
    return [own, shipped] if own.resolve() != shipped.resolve() else [shipped]
