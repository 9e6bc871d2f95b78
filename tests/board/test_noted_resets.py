"""Every reset by this host is known to the boot that it led to, however the board was reset."""

import pytest
import simulator

from board.conftest import make_build, wired
from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.dfu import Dfu

SIM = {"application_smp": "full", "bootloader_log": True}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return tuple(make_build(folder, version) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture(scope="module", params=["with MCUboot's log", "silent MCUboot"])
def _board(builds, request):
    log = request.param != "silent MCUboot"
    with wired(sim=SIM | {"image": builds[0].path, "bootloader_log": log}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """Version 1.0.0 runs, and nothing is on its way."""
    Dfu(_board.unit).update(builds[0], only_if_needed=True)
    return _board


def told(console):
    """The boots that a test sees: by which reset, and what runs."""
    simulator.wait_until(lambda: console.boots and console.boots[-1].application_version, "the application's version")
    return [
        (boot.reset, boot.application_version) for boot in console.boots if boot.application_banner or not boot.recovery
    ]


def test_boots_of_updates_and_reverts(sim, builds):
    console = Board(sim.unit).console
    dfu = Dfu(sim.unit)
    dfu.update(builds[1])
    assert told(console) == [("OS reset", "1.1.0")]

    console = Board(sim.unit).console
    dfu.update(builds[2], via="application", confirm=False)
    assert told(console) == [("OS reset", "1.2.0")]
    (boot,) = console.boots
    assert 0 < boot.banner_after < simulator.DEADLINE

    console = Board(sim.unit).console
    dfu.revert()
    assert told(console) == [("OS reset", "1.1.0")]
    (boot,) = console.boots
    assert 0 < boot.banner_after < simulator.DEADLINE


def test_boots_of_resets(sim):
    board = Board(sim.unit)
    board.reset()
    board.reset(wait=False)
    simulator.wait_until(lambda: len(board.console.boots) == 2, "the boot that nobody waits for")
    board.probe.reset("system")
    simulator.wait_until(lambda: len(board.console.boots) == 3, "the boot after a soft reset")
    board.power.cycle()
    simulator.wait_until(lambda: len(board.console.boots) == 4, "the boot after a power cycle")
    board.power.off()
    board.power.on()
    simulator.wait_until(lambda: len(board.console.boots) == 5, "the boot after power comes back")
    resets = ["pin reset", "pin reset", "system reset", "power cycle", "power on"]
    assert [boot.reset for boot in board.console.boots] == resets
