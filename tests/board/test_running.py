"""A board that runs the build already is asked, and left alone."""

import pytest
import simulator

from board.conftest import wired
from pytest_nrfdfu.board.boot import boot
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.running import application_runs
from pytest_nrfdfu.board.unit import Unit


@pytest.fixture(scope="module")
def talking(builds):
    """An application with an SMP server runs."""
    with wired(sim={"image": builds[0].path, "application_smp": "full"}) as board:
        enter(board.unit)
        boot(board.unit, builds[0].image)
        yield board


@pytest.fixture
def fresh(talking):
    """The same as a unit that this process sees for the first time."""
    talking.unit.proved, talking.unit.doubted = None, False
    talking.admin.reset_counters()
    return talking


def test_the_running_application_says_which_image_it_is(fresh, builds):
    assert application_runs(fresh.unit, builds[0])
    assert fresh.unit.runs(builds[0])
    assert "by the application's own image list" in fresh.unit.holds
    assert fresh.resets() == {}


def test_another_image_is_no_match(fresh, builds):
    assert not application_runs(fresh.unit, builds[1])
    assert fresh.unit.proved is None
    assert fresh.resets() == {}


def test_after_a_doubt_only_recovery_will_do(fresh, builds):
    fresh.unit.forget()
    assert not application_runs(fresh.unit, builds[0])
    assert fresh.admin.counters()["requests"] == 0


def test_an_application_without_a_server_is_not_waited_for_twice(sim: object, builds):
    unit: Unit = sim.unit
    unit.doubted = False
    unit.application_has_smp[builds[1].hash] = False
    sim.admin.reset_counters()
    assert not application_runs(unit, builds[1])
    assert sim.admin.counters()["uart"]["received"] == 0
    del unit.application_has_smp[builds[1].hash]


def test_the_bootloaders_list_is_not_the_applications(sim, builds):
    enter(sim.unit)
    sim.unit.doubted = False
    assert not application_runs(sim.unit, builds[0])


def test_an_image_on_trial_is_not_what_runs_after_the_next_reset(builds):
    with wired(sim={"image": builds[0].path, "application_smp": "full"}) as board:
        board.unit.client.poll_images(0.1, board.unit.now() + simulator.DEADLINE)
        Dfu(board.unit).update(builds[1], via="application", confirm=False)
        board.unit.proved, board.unit.doubted = None, False
        assert not application_runs(board.unit, builds[1])
