"""Updates by the running application's SMP server, on a board whose builds have one and whose bootloader swaps."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.running_application import ask
from pytest_nrfdfu.errors import SmpError, UartError, UpdateRefused
from pytest_nrfdfu.image.build import Build

__all__ = [
    "serving",
    "test_an_image_on_trial_goes_at_the_next_reset",
    "test_an_update_by_the_application_stays_when_confirmed",
]

_ANSWER = 1.0
"""Seconds for an application that may have no SMP server."""


@pytest.fixture
def serving(dfu: Dfu, board: Board, two_builds: tuple[Build, Build]) -> Dfu:
    """The board with the first build running and confirmed; skipped where the application or bootloader cannot do it.

    Put there in serial recovery, so that what an earlier test left on trial is gone; what one left pending is swapped
    in before, since leaving recovery would do that.
    """
    first, second = two_builds
    _swap_in_what_is_pending(board)
    report = dfu.update(first, only_if_needed=True)
    if report.running != "image list":
        pytest.skip(
            f"needs builds with an SMP server on this port: {first} was seen running by its {report.running} only"
        )
    running = ask(dfu.unit)
    try:
        if running.states.active is not None and not running.states.active.confirmed:
            dfu.confirm()
    except UpdateRefused as refused:
        if refused.by_board:  # a defect, and no lack
            raise
        pytest.skip(f"needs an application that takes updates over SMP: {refused}")
    if running.swap == "overwrite":
        pytest.skip(f"needs a bootloader that swaps; this one overwrites slot 0 ({running.swap_by}): there is no trial")
    assert running.states.active is not None
    assert running.states.active.hash == first.hash
    assert first.hash != second.hash
    return dfu


def _swap_in_what_is_pending(board: Board) -> None:
    with suppress(SmpError, UartError):
        if any(state.pending for state in board.smp.images(tries=1, timeout=_ANSWER).images):
            board.reset()


def test_an_image_on_trial_goes_at_the_next_reset(serving: Dfu, two_builds: tuple[Build, Build]) -> None:
    """Without confirmation MCUboot brings the image back that was there before."""
    first, second = two_builds
    report = serving.update(second, via="application", confirm=False)
    assert report.verified
    assert (report.hash, report.confirmed) == (second.hash, False)
    reverted = serving.revert()
    assert (reverted.hash, reverted.away_hash) == (first.hash, second.hash)


def test_an_update_by_the_application_stays_when_confirmed(
    serving: Dfu, board: Board, two_builds: tuple[Build, Build]
) -> None:
    """Uploaded to slot 1, swapped in, confirmed: the next reset starts it again."""
    _, second = two_builds
    report = serving.update(second, via="application")
    assert report.verified
    assert (report.hash, report.confirmed) == (second.hash, True)
    board.reset(image=second.image)
    active = board.images().active
    assert active is not None
    assert (active.hash, bool(active.confirmed)) == (second.hash, True)
