"""The plugin that pytest loads: it begins and ends a run, and brings the modules with the other hooks.

Importing it, and them, costs the standard library and pytest alone; what knows boards is imported when it is needed.

Exit statuses of a run with ``--board``, beside pytest's own:

=====  =================================================================================================
0      all that ran has passed, and something was tested on a board
1      something of the product has failed (or of the tests, the images, the configuration)
10     bench trouble only: whatever failed has the category ``bench``
11     nothing tested: nothing has failed, and no test has had a board
=====  =================================================================================================

A board that the ini file names is a default: where neither the command line nor the environment asks for one, and
nothing requires one, a run that needs none is not told from others by status 11.
"""

from __future__ import annotations

import pytest

from pytest_nrfdfu.plugin.options import (
    LEASE_TIMEOUT,
    REFLASH_WAYS,
    RETIRE_AFTER,
    add_options,
    asked,
    folder,
    moved_root,
    number,
    select,
)
from pytest_nrfdfu.report import POOL, RECORD, REFLASH, TRACE

_LEASE_TIMEOUT = 60.0
_RETIRE_AFTER = 2


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Command line and ini options."""
    # Here, since `fixtures` imports this package's options.
    from pytest_nrfdfu import fixtures, report
    from pytest_nrfdfu.plugin import collection, outcomes, workers
    from pytest_nrfdfu.report import tracebacks

    add_options(parser)
    # Before any other hook of theirs is called; not by pytest_plugins: pytest would warn that modules of this package
    # were imported before it could rewrite their asserts.
    for module in (fixtures, report, collection, workers, outcomes, tracebacks):
        pluginmanager.register(module, module.__name__)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register markers, and resolve the options; UsageError where something is wrong."""
    config.addinivalue_line(
        "markers",
        'board(*names, requires=()): the boards that a test is for (globs): @pytest.mark.board("nrf5340dk")',
    )
    config.addinivalue_line(
        "markers", 'build(*names): the builds that a test runs with (globs): @pytest.mark.build("app")'
    )
    reflash = asked(config, "reflash").value or "auto"
    if reflash not in REFLASH_WAYS:
        raise pytest.UsageError(f"nrfdfu_reflash = {reflash!r}; known: {', '.join(REFLASH_WAYS)}")
    config.stash[REFLASH] = reflash
    config.stash[LEASE_TIMEOUT] = number(config, "lease_timeout", _LEASE_TIMEOUT)
    config.stash[RETIRE_AFTER] = int(number(config, "retire_after", _RETIRE_AFTER))
    config.stash[RECORD] = folder(config, "record")
    config.stash[TRACE] = folder(config, "trace")
    _tell_of_rootdir(config)
    selection = select(config)
    if asked(config, "require_board").value and not (selection and selection.boards):
        raise pytest.UsageError(
            "--nrfdfu-require-board: this run needs --board NAME (or NRFDFU_BOARD, or nrfdfu_board in the ini file)"
        )


def _tell_of_rootdir(config: pytest.Config) -> None:
    """Warn where the value of an option has moved the rootdir; UsageError where warnings are errors."""
    wandered = moved_root(config)
    if wandered is None:
        return
    try:
        config.issue_config_time_warning(pytest.PytestConfigWarning(wandered.in_words(config)), stacklevel=2)
    except pytest.PytestConfigWarning as warning:
        raise pytest.UsageError(str(warning)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release every unit, in whatever way the run has ended."""
    pool = config.stash.get(POOL, None)
    if pool is not None:
        pool.close()
