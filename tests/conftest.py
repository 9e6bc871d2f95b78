"""Settings that hold for all of the project's own tests."""

import gc
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("nrfdfu", deadline=None)
settings.load_profile("nrfdfu")

SLOW = (
    "test_host_conformance",
    "test_mcuboot_in_emulator",
    "test_stm32_host",
    "test_stm32_library",
    "test_labgrid",
    "test_rack_of_eight",
    "test_host_suite",
    "test_plugin_reports",
    "test_racks",
    "test_plugin_kill",
    "test_diagnosis",
    "test_entry_table",
    "test_readme",
    "test_virtual_window",
    "test_virtual_update",
    "test_builds_matrix",
    "test_report_html",
    "test_cli_doctor",
    "test_board",
)
"""Modules with tests of many seconds: they begin first, so that no worker is left with one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow modules first."""
    items.sort(key=_place)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadgroup`` a module whose tests share a set-up stays on one worker.

    pytest-xdist 3.8 knows its groups by the end of a test's id, which pytest 9.2 does not let it write.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path, _, _ = nodeid.partition("::")
            return path if _shares(config.rootpath / path) else nodeid

    return ByModule(config, log)


@cache
def _shares(module: Path) -> bool:
    """Whether it has a fixture that is made once for all of its tests."""
    return re.search(r'scope="module"|of_this_module\(\)', module.read_text()) is not None


def _place(item: pytest.Item) -> int:
    return SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave thousands of tests alone: each run of pytester in this process calls it often."""
    gc.collect()
    gc.freeze()
