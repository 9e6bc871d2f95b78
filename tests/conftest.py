"""Settings that hold for all of the project's own tests."""

import gc

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


def pytest_configure(config: pytest.Config) -> None:
    """So that the mark is known without pytest-xdist as well."""
    config.addinivalue_line("markers", "xdist_group(name): tests that stay on one worker")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow modules first; with ``--dist loadgroup`` a module whose tests share a set-up stays on one worker."""
    items.sort(key=_place)
    for item in items:
        if _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def _place(item: pytest.Item) -> int:
    return SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW)


def _shares(item: pytest.Item) -> bool:
    """Whether it uses a fixture of its own module that is made once for all of them."""
    if not isinstance(item, pytest.Function):
        return False
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(one.scope == "module" and one.baseid == item.nodeid.partition("::")[0] for (*_, one) in found)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave thousands of tests alone: each run of pytester in this process calls it often."""
    gc.collect()
    gc.freeze()
