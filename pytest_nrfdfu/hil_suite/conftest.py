"""The suite's fixtures: two builds that differ, made here for a simulated board, given by the user for a real one."""

from __future__ import annotations

import pytest

from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.hil_suite.builds import make
from pytest_nrfdfu.image.build import Build, load
from pytest_nrfdfu.report import SELECTION

__all__ = ["build", "made_builds", "two_builds"]


@pytest.fixture(scope="session")
def made_builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Build]:
    """Two versions of the same firmware, for a simulated board."""
    folder = tmp_path_factory.mktemp("builds")
    first, second = (load(make(folder, version), f"zephyr-{version}") for version in ("1.0.0", "1.1.0"))
    return first, second


@pytest.fixture
def two_builds(request: pytest.FixtureRequest, board: Board) -> tuple[Build, Build]:
    """Two builds that fit the board."""
    selection = request.config.stash[SELECTION]
    given = list(selection.builds) if selection is not None else []
    if len(given) >= 2:
        return given[0], given[1]
    if not board.config.simulated:
        pytest.skip("needs two builds for this board: give --build NAME=PATH twice, with different versions")
    made: tuple[Build, Build] = request.getfixturevalue("made_builds")
    return (given[0], made[1]) if given else made


@pytest.fixture
def build(two_builds: tuple[Build, Build]) -> Build:
    """The build that `flashed` is to put on the board: the first of the two."""
    return two_builds[0]
