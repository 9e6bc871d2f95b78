"""pytest-xdist: how many workers, which tests go to which, and what workers are told.

Every worker leases units of its own. The tests of one unit stay on one worker, and so do those that use `boards`; the
others go one by one to whichever worker has time. pytest-xdist's own ``loadgroup`` would do the same by marks, but
pytest 9.2 does not hand on the node ids that it changes (pytest-xdist issue 1386).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nrfdfu.fixtures import BOARDS_ID
from pytest_nrfdfu.plugin.options import select
from pytest_nrfdfu.report import RECORD, SELECTION, TRACE

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.choice import Choice

__all__ = ["scope_of"]

_SEVERAL = "boards"
"""The scope of all tests that use several units."""


def _limited(config: pytest.Config) -> list[str] | None:
    """The units that may be used, each once; None if there is no limit, or it is not known here."""
    from pytest_nrfdfu.bench.identity import is_unlimited
    from pytest_nrfdfu.bench.lease import held_back

    chosen = select(config)
    if chosen is None or not chosen.boards:
        return None
    units = [unit for choice in chosen.boards for unit in choice.units]
    if any(is_unlimited(unit) or unit.config.labgrid is not None for unit in units):
        return None
    return list(dict.fromkeys(unit.name for unit in units if held_back(unit) is None))


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # before pytest-xdist's own, which always has an answer
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` is the number of units; pytest-xdist's own number where they are without limit, or it was told."""
    units = _limited(config) if not os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else None
    return None if units is None else max(1, len(units))


def pytest_configure(config: pytest.Config) -> None:
    """UsageError for more workers than units."""
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        return
    from pytest_nrfdfu.plugin.scheduling import parse_tx_spec_config

    workers = len(parse_tx_spec_config(config))
    units = _limited(config) if workers > 1 else None
    if units is not None and workers > max(1, len(units)):
        names = ", ".join(units) or "none"
        raise pytest.UsageError(
            f"-n {workers}: every worker needs a unit of its own, and the boards asked for have {len(units)} that may"
            f" be used ({names}): use -n {max(1, len(units))} or -n auto"
        )


# --- scheduling -------------------------------------------------------------------------------------------------------


def scope_of(nodeid: str, labels: Mapping[str, bool], dist: str = "load") -> str:
    """What a test shares a worker with. `labels`: of all choices, with whether each is one unit; `dist`: ``--dist``."""
    parameters = nodeid.partition("::")[2].partition("[")[2]
    if re.search(rf"(^|-){BOARDS_ID}[\]-]", parameters):
        return _SEVERAL
    for label in sorted(labels, key=len, reverse=True):  # nrf5340dk is how nrf5340dk-sim begins
        if re.search(rf"(^|-)board:{re.escape(label)}[\]-]", parameters):
            if labels[label]:
                return f"board:{label}"
            break
    if dist == "loadscope":
        return nodeid.rpartition("::")[0]
    if dist == "loadfile":
        return nodeid.partition("::")[0]
    if dist == "loadgroup" and nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler that keeps the tests of a unit together, if boards were asked for."""
    chosen = config.stash.get(SELECTION, None)
    dist = config.getoption("dist")
    if chosen is None or not chosen.boards or dist in {"no", "each"}:
        return None
    from pytest_nrfdfu.plugin.scheduling import BoardScheduling

    labels = {choice.label: _is_one_unit(choice) for choice in chosen.boards}
    return BoardScheduling(config, log, lambda nodeid: scope_of(nodeid, labels, dist))


def _is_one_unit(choice: Choice) -> bool:
    from pytest_nrfdfu.bench.identity import is_unlimited

    (unit, *others) = choice.units
    return not others and not is_unlimited(unit) and unit.config.labgrid is None


# --- what workers are told --------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the selection to a worker, and folders as they are named from here."""
    config = node.config
    chosen = config.stash.get(SELECTION, None)
    node.workerinput["nrfdfu"] = chosen.to_data() if chosen is not None else ""
    folders = {"record": config.stash.get(RECORD, None), "trace": config.stash.get(TRACE, None)}
    node.workerinput["nrfdfu_folders"] = {name: str(path) if path else "" for name, path in folders.items()}
