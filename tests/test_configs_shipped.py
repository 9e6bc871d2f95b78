"""The configurations that ship: each loads, says what it is, and claims nothing that was not tried."""

import pytest

from pytest_nrfdfu.board.ports import check
from pytest_nrfdfu.config import load, shipped_configs
from pytest_nrfdfu.config_lines import SerialLine

FILES = {path.stem: path for path in shipped_configs().glob("*.toml")}
SIMULATED = {"nrf5340dk-sim", "nrf5340dk-sim-115200", "nrf5340dk-sim-app", "nrf5340dk-sim-netcore"}
REAL = set(FILES) - SIMULATED


def test_these_are_there():
    wanted = {"nrf5340dk", "nrf5340dk-wired", "nrf7002dk", "nrf5340_audio_dk", "thingy53", "rack-example"}
    assert set(FILES) == wanted | SIMULATED


@pytest.mark.parametrize("name", sorted(FILES))
def test_it_loads(name):
    units = load(FILES[name])
    assert {unit.config.simulated for unit in units} == {name in SIMULATED}
    for unit in units:
        check(unit.config.uart.port)
        if isinstance(line := unit.config.recovery.line, SerialLine):
            check(line.port)


@pytest.mark.parametrize("name", sorted(REAL))
def test_it_says_that_it_was_not_tried(name):
    head = FILES[name].read_text().split("\nboard =")[0]
    assert "Not tried on hardware." in head


@pytest.mark.parametrize("name", sorted(REAL))
def test_it_leaves_a_way_back_in(name):
    assert all(unit.config.recovery.has_way_back for unit in load(FILES[name]))


def test_the_bare_dk_needs_nothing_but_its_cable():
    (unit,) = load(FILES["nrf5340dk"])
    recovery = unit.config.recovery
    assert recovery.entry == ("boot-mode", "smp", "manual")
    assert (unit.config.uart.port, recovery.line, recovery.reset) == ("auto", None, "system")
    assert unit.config.probe is not None
    assert unit.config.probe.unique_id is None


def test_units_of_the_rack_share_nothing():
    units = load(FILES["rack-example"])
    assert len(units) == 3
    for values in (
        [unit.config.uart.port for unit in units],
        [unit.config.probe.unique_id for unit in units],
        [unit.config.recovery.line.line for unit in units],
        [unit.config.power.off for unit in units],
    ):
        assert len(set(values)) == len(units)
    assert [unit.config.disabled is not None for unit in units] == [False, False, True]
