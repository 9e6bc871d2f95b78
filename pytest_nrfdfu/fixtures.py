"""The public fixtures: a few lines each over bench and board.

All are function-scoped. Session scope carries only the selection, in private fixtures whose names the parametrization
uses, and the others take the board from a private one, so a suite may define its own `board` or `build`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nrfdfu.errors import ConfigError, HashMismatch, SmpError, UartError
from pytest_nrfdfu.plugin.options import LEASE_TIMEOUT, RETIRE_AFTER, target_settings
from pytest_nrfdfu.report import BOARDS, POOL, REFLASH, SELECTION, Steps, remember

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.pool import Choice, Pool
    from pytest_nrfdfu.bench.target import RecoveryTarget
    from pytest_nrfdfu.board.board import Board
    from pytest_nrfdfu.board.client import SmpClient
    from pytest_nrfdfu.board.console import ConsoleView
    from pytest_nrfdfu.board.dfu import Dfu, Recovery
    from pytest_nrfdfu.board.unit import Unit
    from pytest_nrfdfu.image.build import Build
    from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["board", "boards", "build", "console", "dfu", "flashed", "recovery", "recovery_target", "smp"]

BOARD_PARAM = "_nrfdfu_board"
BUILD_PARAM = "_nrfdfu_build"
BOARDS_PARAM = "_nrfdfu_boards"
BOARDS_ID = "boards"
"""What the id of a test of several boards says in its place."""
_HANDLE = "_nrfdfu_handle"
_BACK = 3.0
"""Seconds for a port that comes and goes to be there, if it comes from the recovery that was entered."""

NEEDS_BOARD = "needs a board: run pytest with --board NAME (nrf5340dk-sim is a simulated one)"
NEEDS_BUILD = "needs a build: run pytest with --build NAME=PATH of a signed image"
"""Why tests are skipped."""


@pytest.fixture(scope="session", name=BOARD_PARAM)
def _board_choice(request: pytest.FixtureRequest) -> Choice:
    selection = request.config.stash.get(SELECTION, None)
    choice: Choice = _the_one(request, selection.boards if selection is not None else (), NEEDS_BOARD)
    return choice


@pytest.fixture(scope="session", name=BUILD_PARAM)
def _build_choice(request: pytest.FixtureRequest) -> Build:
    selection = request.config.stash.get(SELECTION, None)
    chosen: Build = _the_one(request, selection.builds if selection is not None else (), NEEDS_BUILD)
    return chosen


@pytest.fixture(scope="session", name=BOARDS_PARAM)
def _boards_choice(request: pytest.FixtureRequest) -> Sequence[Choice]:
    selection = request.config.stash.get(SELECTION, None)
    if selection is None or not selection.boards:
        pytest.skip("needs boards: run pytest with --board NAME, once for each")
    return selection.boards


def _the_one(request: pytest.FixtureRequest, selected: Sequence[Any], needs: str) -> Any:
    """The parameter; where a test asks by ``request.getfixturevalue``, which has none, the only one selected."""
    if hasattr(request, "param"):
        return request.param
    if not selected:
        pytest.skip(needs)
    if len(selected) > 1:
        raise ConfigError(
            "request.getfixturevalue cannot tell which of several boards or builds is meant: take the fixture as an"
            " argument of the test, which then runs once for each"
        )
    return selected[0]


def _pool(config: pytest.Config) -> Pool:
    pool = config.stash.get(POOL, None)
    if pool is None:
        from pytest_nrfdfu.bench.pool import Pool

        worker: Mapping[str, str] = getattr(config, "workerinput", {})
        pool = config.stash[POOL] = Pool(
            lease_timeout=config.stash[LEASE_TIMEOUT],
            retire_after=config.stash[RETIRE_AFTER],
            run=worker.get("testrunuid", ""),  # not the environment's, which a run inside a worker inherits
            say=Steps(config, "nrfdfu").say,
        )
    return pool


def _handle(request: pytest.FixtureRequest, unit: Unit, releasing: ExitStack) -> Board:
    """A fresh handle over a unit that the pool holds, noted for the test's report; reset if a test failed on it.

    `releasing` lets go of its lines, whatever becomes of the reset, or of other handles.
    """
    from pytest_nrfdfu.board.board import Board
    from pytest_nrfdfu.board.boot import settle

    _remember_uploads(request.config, unit)
    handle = Board(unit)
    releasing.callback(handle.release)
    request.node.stash.setdefault(BOARDS, []).append(handle)
    unit.say = Steps(request.config, handle.unit).say
    if _pool(request.config).take_reset(unit):
        handle.reset(wait=False)
    settle(unit)  # the test is not to meet a board that MCUboot swaps on
    return handle


def _remember_uploads(config: pytest.Config, unit: Unit) -> None:
    """Keep what uploads show of the unit in pytest's cache, where there is one."""
    from pytest_nrfdfu.board.window_memory import MEMORY_FILE, MEMORY_FOLDER, WindowMemory

    cache = getattr(config, "cache", None)
    if cache is not None and not unit.memory.kept:
        with suppress(OSError):  # a cache that cannot be written costs the memory, not the test
            unit.memory = WindowMemory(cache.mkdir(MEMORY_FOLDER) / MEMORY_FILE)


def _unit(handle: Board) -> Unit:
    return handle._unit  # noqa: SLF001 - the fixtures are the handle's makers


@pytest.fixture(name=_HANDLE)
def _board_handle(request: pytest.FixtureRequest, _nrfdfu_board: Choice) -> Iterator[Board]:
    pool = _pool(request.config)
    reason = pool.taken_out(_nrfdfu_board)
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as releasing:
        yield _handle(request, pool.unit(_nrfdfu_board), releasing)


@pytest.fixture
def board(_nrfdfu_handle: Board) -> Board:
    """The board under test: `.reset()`, `.console`, `.probe`, `.lines`, `.images()`, `.name`, `.unit`, `.config`."""
    return _nrfdfu_handle


@pytest.fixture
def build(_nrfdfu_build: Build) -> Build:
    """The build under test: `.images`, `.image`, `.hash`, `.version`, `.config`."""
    return _nrfdfu_build


@pytest.fixture
def recovery(_nrfdfu_handle: Board) -> Iterator[Recovery]:
    """The board in serial recovery: `.smp`, `.images()`, `.upload(image)`, `.verify(image)`. Afterwards it boots."""
    from pytest_nrfdfu.board.dfu import Recovery
    from pytest_nrfdfu.board.recovery import enter

    unit = _unit(_nrfdfu_handle)
    unit.forget()
    yield Recovery(unit, enter(unit))
    _leave(unit)


def _leave(unit: Unit) -> None:
    """Boot again, if there is something to boot and the board is still in recovery."""
    from pytest_nrfdfu.board.boot import boot
    from pytest_nrfdfu.board.list_origin import from_recovery

    states = _states(unit)
    if states is None:
        return  # whatever runs now, it is not the recovery that this fixture entered
    if not from_recovery(states, has_state=unit.profile.image_state):
        return
    if states.find() is not None:  # else the board stays in recovery, whence the next test takes it
        boot(unit)


def _states(unit: Unit) -> ImageStates | None:
    """The image list of whatever answers; None if nothing does, or the port is away as it may be."""
    for _ in range(2):  # the test may have reset the board a moment ago: the port that is there is about to go
        try:
            if unit.uart_missing:
                unit.reopen_ports(time.monotonic() + _BACK)
            return unit.client.images(tries=2, timeout=2.0)
        except SmpError:
            return None
        except UartError:
            if not (unit.uart.transient or unit.rig.takes_usb):
                raise
    return None


@pytest.fixture
def dfu(request: pytest.FixtureRequest, _nrfdfu_handle: Board) -> Dfu:
    """Updates: `.update(build)` does recovery, upload, verify and boot, and returns a `DfuReport`.

    Through the running application: `.update(build, via="application")`, `.confirm()`, `.revert()`, `.interrupt(build,
    at="swap:30%")`; staged by the application itself: `.staged(build)`.
    """
    return _make_dfu(request, _nrfdfu_handle)


def _make_dfu(request: pytest.FixtureRequest, board: Board) -> Dfu:
    from pytest_nrfdfu.board.dfu import Dfu

    steps = Steps(request.config, board.unit)
    return Dfu(_unit(board), progress=steps.progress, say=steps.say, done=lambda report: remember(request.node, report))


@pytest.fixture
def flashed(request: pytest.FixtureRequest, _nrfdfu_handle: Board, build: Build) -> Board:
    """The board, freshly booted, running `build`. Uploaded only when needed (``--nrfdfu-reflash``)."""
    from pytest_nrfdfu.board.running import application_runs
    from pytest_nrfdfu.image.build import Build as KnownBuild

    if not isinstance(build, KnownBuild):
        raise ConfigError(
            f"`flashed` puts what the fixture `build` gives on the board, and this suite's own gives {build!r}: let it"
            " give a pytest_nrfdfu.Build, or name it otherwise"
        )
    board, unit = _nrfdfu_handle, _unit(_nrfdfu_handle)
    reflash = request.config.stash[REFLASH]
    if reflash != "always" and (unit.runs(build) or application_runs(unit, build)):
        board.reset(image=build.image)
        return board
    maker = _make_dfu(request, board)
    if reflash == "never":
        _boot_unchanged(maker, build)
    else:
        maker.update(build, only_if_needed=reflash == "auto")
    return board


def _boot_unchanged(maker: Dfu, build: Build) -> None:
    recovery = maker.enter()
    forbidden = f"--nrfdfu-reflash never forbids an upload, and {build}"
    try:
        proof = recovery.verify(build.image)
    except HashMismatch as error:
        raise HashMismatch(f"{forbidden} is not on the board: {error}") from None
    if not proof.verified:
        raise HashMismatch(f"{forbidden} cannot be proved to be on the board: {proof.proof}; use auto or always")
    maker.boot(build.image)


@pytest.fixture
def smp(_nrfdfu_handle: Board) -> SmpClient:
    """A client of whatever answers now: recovery or the application."""
    return _nrfdfu_handle.smp


@pytest.fixture
def console(_nrfdfu_handle: Board) -> ConsoleView:
    """The text on the UART since the test began: `.expect(pattern, timeout)`, `.lines`, `.text`."""
    return _nrfdfu_handle.console


@pytest.fixture
def boards(request: pytest.FixtureRequest, _nrfdfu_boards: Sequence[Choice]) -> Iterator[list[Board]]:
    """One unit for each ``--board``, for tests that need several."""
    reasons = [reason for choice in _nrfdfu_boards if (reason := _pool(request.config).taken_out(choice)) is not None]
    if reasons:
        pytest.skip("; ".join(reasons))
    mine = [handle.unit for handle in request.node.stash.get(BOARDS, [])]
    units = _pool(request.config).several(_ordered(_nrfdfu_boards), keep=mine)
    with ExitStack() as releasing:
        yield [_handle(request, unit, releasing) for unit in units]


@pytest.fixture
def recovery_target(request: pytest.FixtureRequest) -> Iterator[RecoveryTarget]:
    """A simulated nRF5340 in serial recovery, for a host of your own to update (``--nrfdfu-target-uart``)."""
    from pytest_nrfdfu.bench.target import RecoveryTarget

    with RecoveryTarget(**target_settings(request.config)) as target:
        yield target


def _ordered(choices: Sequence[Choice]) -> list[Choice]:
    """In one order for every process. Those that leave no choice come first, so that the others do not take theirs."""
    named = {unit.name for choice in choices if len(choice.units) == 1 for unit in choice.units}
    for choice in choices:
        if len(choice.units) == 1 and sum(choice.units == other.units for other in choices) > 1:
            raise ConfigError(f"two --board entries mean the same unit: {', '.join(sorted(named))}")
    return sorted(choices, key=lambda choice: (len(choice.units) > 1, choice.label))
