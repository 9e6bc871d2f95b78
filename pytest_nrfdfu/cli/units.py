"""``nrfdfu units``: lists units: free, held by whom, held back, how the last use went; holds one back, or releases it.

Exit status 0; 1 where a configuration is wrong, or what was named is no unit.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_nrfdfu.config import Catalogue, UnitConfig

__all__ = ["describe", "main"]


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    from pytest_nrfdfu.errors import NrfDfuError

    given = _parser().parse_args(arguments)
    try:
        if given.action is None:
            found = [describe(unit) for unit in _units(given.config)]
            _print(json.dumps({"units": found}, indent=2) if given.json else _table(found))
        else:
            unit = _named(given.unit, given.config)
            note = _hold(unit, given.reason) if given.action == "hold" else _release(unit)
            _print(json.dumps(describe(unit), indent=2) if given.json else _line(describe(unit)))
            if note:
                print(f"nrfdfu units: {unit.name} {note}", file=sys.stderr)  # noqa: T201 - a program's message
    except NrfDfuError as error:
        print(f"nrfdfu units: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nrfdfu units",
        description="List units: free, held by whom, held back, and how the last use went.",
        epilog="A unit that is held back is left out of every run on this host until it is released.",
    )
    common = argparse.ArgumentParser(add_help=False)
    # A default of the subcommands would take the place of what stands before them.
    for known, default in ((parser, None), (common, argparse.SUPPRESS)):
        known.add_argument(
            "--config", type=Path, metavar="PATH", default=default, help="folder or file, as --nrfdfu-config of pytest"
        )
        known.add_argument("--json", action="store_true", default=default or False, help="print one JSON object")
    actions = parser.add_subparsers(dest="action", metavar="hold|release")
    hold = actions.add_parser("hold", parents=[common], help="take a unit out, until it is released")
    hold.add_argument("unit", metavar="UNIT", help="its id, or BOARD:ID")
    hold.add_argument("--reason", required=True, help="what is wrong with it, for those who miss it")
    release = actions.add_parser("release", parents=[common], help="let a unit be used again")
    release.add_argument("unit", metavar="UNIT", help="its id, or BOARD:ID")
    return parser


def _units(config: Path | None) -> Iterator[UnitConfig]:
    """All units of the suite's own configurations, or of those that ship with the package where it has none."""
    from pytest_nrfdfu.bench.choice import config_folders
    from pytest_nrfdfu.config import Catalogue, shipped_configs

    own = config_folders(config, Path.cwd(), shipped_configs())[0]
    yield from _in(Catalogue([own]))


def _in(catalogue: Catalogue) -> Iterator[UnitConfig]:
    for board in catalogue.boards:
        for _, units in catalogue.find(board):
            yield from units


def _named(name: str, config: Path | None) -> UnitConfig:
    """The unit that is called `name`; the suite's own ones come first, as for pytest and `nrfdfu doctor`."""
    from pytest_nrfdfu.bench.choice import catalogue
    from pytest_nrfdfu.errors import ConfigError

    own = list(_units(config))
    everywhere = list(_in(catalogue(config, Path.cwd())))
    for units in (own, everywhere):
        meant = [unit for unit in units if name in {unit.id, unit.name, unit.config.board}]
        found = [unit for unit in meant if _why_not(unit) is None]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"{name!r} means {len(found)} units; name one of them: {_names(found)}")
        if meant:
            raise ConfigError(f"{name!r}: {meant[0].name} {_why_not(meant[0])}")
    known = [unit for unit in own if _why_not(unit) is None]
    others = [unit for unit in everywhere if _why_not(unit) is None and unit not in known]
    beside = f"; beside them, in other files: {_names(others)}" if others else ""
    raise ConfigError(f"{name!r} means no unit; write BOARD:ID, one of: {_names(known) or 'none'}{beside}")


def _why_not(unit: UnitConfig) -> str | None:
    """Why a unit can neither be held back nor released here; None if it can."""
    from pytest_nrfdfu.bench.identity import is_unlimited

    if is_unlimited(unit):
        return "is simulated: every process starts its own, so there is nothing to hold back"
    if unit.config.labgrid is not None:
        return "is one of labgrid's places: its coordinator gives it out, so take the place out there"
    return None


def _names(units: Sequence[UnitConfig]) -> str:
    return ", ".join(unit.name for unit in units)


def _hold(unit: UnitConfig, reason: str) -> str:
    """Hold a unit back; what else there is to say about that."""
    from pytest_nrfdfu.bench.identity import identify
    from pytest_nrfdfu.bench.lease import held_back
    from pytest_nrfdfu.bench.lease_dir import LeaseDir

    before = held_back(unit)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have it
        user = "somebody"
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    LeaseDir().write(identify(unit).stable, "hold", {"reason": reason, "user": user, "since": since, "unit": unit.name})
    if before is None:
        return ""
    disabled = unit.config.disabled is not None
    return f"is {before}" if disabled else f"was {before}; the new reason has taken the place of that one"


def _release(unit: UnitConfig) -> str:
    """Let a unit be used again; what else there is to say about that."""
    from pytest_nrfdfu.bench.identity import identify
    from pytest_nrfdfu.bench.lease import held_back
    from pytest_nrfdfu.bench.lease_dir import LeaseDir

    directory, key = LeaseDir(), identify(unit).stable
    was_held = directory.read(key, "hold") is not None
    directory.remove(key, "hold")
    if unit.config.disabled is not None:
        return f"is {held_back(unit)}; only a change of that file ends this"
    return "" if was_held else "was not held back: nothing was changed"


# --- what is shown ----------------------------------------------------------------------------------------------------


def describe(unit: UnitConfig) -> dict[str, Any]:
    """A unit, ready for JSON: name, file, state, why (of one held back), holder, last result."""
    from pytest_nrfdfu.bench.identity import identify, is_unlimited
    from pytest_nrfdfu.bench.lease import held_back, holder_of
    from pytest_nrfdfu.bench.lease_dir import LeaseDir

    shown: dict[str, Any] = {"unit": unit.name, "file": str(unit.file), "why": None, "holder": None, "last": None}
    if is_unlimited(unit):
        return {**shown, "state": "unlimited", "why": "simulated: every process starts its own"}
    if unit.config.labgrid is not None:
        coordinator = unit.config.labgrid.coordinator
        return {**shown, "state": "labgrid", "why": f"ask its coordinator: labgrid-client -x {coordinator} who"}
    why, holder = held_back(unit), holder_of(unit)
    state = "held" if holder is not None else "held back" if why is not None else "free"
    return {
        **shown,
        "state": state,
        "why": why,
        "holder": asdict(holder) if holder is not None else None,
        "last": LeaseDir().read(identify(unit).stable, "result"),
    }


def _table(units: Sequence[dict[str, Any]]) -> str:
    return "\n".join(_line(unit, max(len(other["unit"]) for other in units)) for unit in units) or "no units"


def _line(unit: dict[str, Any], width: int = 0) -> str:
    from pytest_nrfdfu.bench.lease import Holder

    parts = [str(Holder(**unit["holder"])) if unit["holder"] else "", unit["why"] or "", _last(unit["last"])]
    return f"{unit['unit']:<{width}}  {unit['state']:<9}  {'; '.join(part for part in parts if part)}".rstrip()


def _last(result: dict[str, Any] | None) -> str:
    from pytest_nrfdfu.bench.lease import shown_time

    if not result:
        return ""
    # Written by any user, and by any version: what is missing is no reason to fail.
    tests, failed, bench = (result.get(name, "?") for name in ("tests", "failed", "bench"))
    retired = f", retired: {result['retired']}" if result.get("retired") else ""
    ended = shown_time(result.get("ended") or "?")
    return f"last used until {ended}: {tests} tests, {failed} failed ({bench} by the bench){retired}"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program's output
