"""Who gives out the lease of the one unit that a subcommand uses: this host, or labgrid's coordinator."""

from __future__ import annotations

from pytest_nrfdfu.bench.lease import Keeper, LocalKeeper
from pytest_nrfdfu.config import BoardConfig

__all__ = ["keeper_of"]


def keeper_of(config: BoardConfig) -> Keeper:
    """The coordinator of the [labgrid] table, where there is one."""
    if config.labgrid is None:
        return LocalKeeper()
    from pytest_nrfdfu.bench.labgrid import LabgridKeeper

    return LabgridKeeper(config.labgrid)
