"""The unit that ``--board NAME[:ID]`` of a subcommand means: exactly one, unlike pytest's option of that name."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nrfdfu.bench.choice import catalogue, choose
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.errors import ConfigError

__all__ = ["add_options", "find_unit"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--board`` and ``--config``."""
    parser.add_argument(
        "--board", required=True, metavar="NAME[:ID]", help="the board; of a rack, the unit behind a colon"
    )
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="a folder or file of configurations, as --nrfdfu-config of pytest"
    )


def find_unit(board: str, config: Path | None) -> UnitConfig:
    """The one unit that `board` means; ConfigError, with the units known, if that is none or several."""
    found = choose([board], catalogue(config, Path.cwd()))
    units = {unit.name: unit for choice in found for unit in choice.units}
    if len(units) > 1:
        raise ConfigError(f"--board {board} means {len(units)} units; name one of them: {', '.join(units)}")
    return next(iter(units.values()))
