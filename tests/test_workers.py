"""pytest-xdist: how many workers there are, and which tests share one."""

import pytest
import suites

from pytest_nrfdfu.plugin.workers import scope_of

LABELS = {"rack": False, "rack:dk-1": True, "rack:dk-10": True, "nrf5340dk": True, "nrf5340dk-sim": False}
ALONE = None


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("t.py::test_it[board:rack:dk-1-build:app]", "board:rack:dk-1"),
        ("t.py::test_it[board:rack:dk-10]", "board:rack:dk-10"),
        ("t.py::test_it[3-board:rack:dk-1]", "board:rack:dk-1"),
        ("t.py::test_it[board:nrf5340dk]", "board:nrf5340dk"),
        ("t.py::test_it[board:nrf5340dk-sim-build:app]", ALONE),
        ("t.py::test_it[board:rack]", ALONE),
        ("t.py::test_it[boards]", "boards"),
        ("t.py::test_it[2-boards-build:app]", "boards"),
        ("a-boards-b/t.py::test_it[board:rack]", ALONE),
        ("new[board:nrf5340dk]/t.py::test_it", ALONE),
        ("t.py::test_it", ALONE),
    ],
)
def test_what_shares_a_worker(nodeid, scope):
    assert scope_of(nodeid, LABELS) == (nodeid if scope is ALONE else scope)


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


def rack(count):
    units = "".join(f"[[unit]]\nid = 'dk-{n}'\nuart.port = '/dev/none-{n}'\n" for n in range(count))
    return "[recovery]\nentry = ['smp']\n" + units


@pytest.mark.parametrize(("told", "workers"), [(None, 3), ("1", 1)])
def test_auto_is_the_number_of_units(suite, monkeypatch, told, workers):
    """Whatever pytest-xdist would make of the number of processors."""
    if told is None:
        monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    else:
        monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", told)
    suite.add_board("rack", rack(3))
    suite.tests("def test_it():\n    pass\n")
    suite.pytester.makeconftest(
        "import pytest\n\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_configure(config):\n"
        "    raise pytest.UsageError(f'workers: {len(config.option.tx)}')\n"
    )
    result = suite.run_inside("--board", "rack", "-n", "auto")
    assert f"workers: {workers}" in suites.usage_error(result)
