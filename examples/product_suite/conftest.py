"""A product's own fixtures over the plugin's."""

from dataclasses import dataclass

import pytest


@dataclass
class Sensor:
    """What this product's tests talk to: a sensor node that runs one build."""

    board: object
    version: str

    def restart(self) -> str:
        """Reset, and return the boot banner."""
        self.board.reset()
        return self.board.console.expect(r"^\*\*\* Booting .*$", timeout=5).group()


@pytest.fixture
def flashed_sensor(flashed, build):
    """The sensor, running the build under test; uploaded only when it does not run it already."""
    return Sensor(flashed, build.version)
