"""Tests of a product: each runs once per board and build."""

import pytest


@pytest.mark.board("nrf5340dk")
def test_banner_after_restart(flashed_sensor):
    assert "Zephyr" in flashed_sensor.restart()


@pytest.mark.board("nrf5340dk")
def test_version_is_the_builds(flashed_sensor, build):
    assert flashed_sensor.version == build.version


@pytest.mark.board("nrf5340dk")
@pytest.mark.build("v2*")
def test_new_feature(flashed_sensor):
    assert flashed_sensor.version.startswith("2.")
