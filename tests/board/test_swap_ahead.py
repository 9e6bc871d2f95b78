"""Whether MCUboot will swap at the next boot, by lists and logs alone."""

import pytest

from pytest_nrfdfu.board.boot_record import BootRecord
from pytest_nrfdfu.board.swap_ahead import SwapAhead, after_boot, by_application, by_recovery, is_over, swap_logged
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

NOTHING, POSSIBLE, PENDING = SwapAhead.NOTHING, SwapAhead.POSSIBLE, SwapAhead.PENDING
PERMANENT, TRIAL = SwapAhead.PERMANENT, SwapAhead.TRIAL


def listed(*slots, flags_first=False):
    states = tuple(ImageState(slot=slot, version="1.0.0", **flags) for slot, flags in slots)
    return ImageStates(states, None, {}, flags_first=flags_first)


RUNS = (0, {"active": True, "confirmed": True})
TRIED = (0, {"active": True, "confirmed": False})
TRIED_FRUGAL = (0, {"active": True})
OTHER = (1, {})
MARKED = (1, {"pending": True})
FOR_GOOD = (1, {"pending": True, "permanent": True})


@pytest.mark.parametrize(
    ("slots", "ahead"),
    [
        ((RUNS,), NOTHING),
        ((RUNS, OTHER), NOTHING),
        ((RUNS, MARKED), PENDING),
        ((RUNS, FOR_GOOD), PERMANENT),
        ((TRIED, OTHER), TRIAL),
        ((TRIED_FRUGAL, OTHER), TRIAL),
        ((OTHER,), POSSIBLE),
    ],
)
def test_an_applications_list_tells(slots, ahead):
    assert by_application(listed(*slots), POSSIBLE) is ahead


@pytest.mark.parametrize(
    ("slots", "before", "ahead"),
    [
        (((0, {}),), NOTHING, NOTHING),
        (((0, {}),), POSSIBLE, NOTHING),
        (((0, {}), OTHER), NOTHING, POSSIBLE),
        (((0, {}), OTHER), TRIAL, TRIAL),
        (((0, {}),), PENDING, PENDING),
        (((0, {}), MARKED), NOTHING, PENDING),
    ],
)
def test_recoverys_list_tells_little(slots, before, ahead):
    """Without flags a slot 1 that holds an image may be pending, and one that is not listed a swap's that was cut."""
    assert by_recovery(listed(*slots), before) is ahead


@pytest.mark.parametrize(
    ("slots", "ahead"), [((TRIED, OTHER), TRIAL), ((RUNS, OTHER), NOTHING), ((RUNS, MARKED), PENDING)]
)
def test_recoverys_list_with_flags_tells_all(slots, ahead):
    assert by_recovery(listed(*slots, flags_first=True), PERMANENT) is ahead


@pytest.mark.parametrize(
    ("before", "kinds", "ahead"),
    [
        (NOTHING, {0: "test"}, TRIAL),
        (TRIAL, {0: "revert"}, NOTHING),
        (TRIAL, {0: "none"}, NOTHING),
        (PENDING, {0: "none"}, NOTHING),
        (PENDING, {}, TRIAL),
        (PERMANENT, {}, NOTHING),
        (TRIAL, {}, NOTHING),
        (POSSIBLE, {}, POSSIBLE),
        (POSSIBLE, {0: "none"}, NOTHING),
    ],
)
def test_a_boot_that_ended_changes_what_is_ahead(before, kinds, ahead):
    assert after_boot(before, BootRecord(0.0, swap_types=kinds)) is ahead


def test_what_slot_0_is_written_over_leaves_a_doubt():
    assert (TRIAL.doubted, PENDING.doubted, NOTHING.doubted) == (POSSIBLE, POSSIBLE, NOTHING)
    assert [ahead.is_known for ahead in (TRIAL, PENDING, PERMANENT, POSSIBLE, NOTHING)] == [True] * 3 + [False] * 2


def test_mcuboots_log_tells_of_a_swap_and_of_its_end():
    begun = BootRecord(0.0, swap_types={0: "none", 1: "revert"}, swap_algorithm="move")
    assert swap_logged(begun) == "swap type revert"
    assert not is_over(begun)
    assert swap_logged(BootRecord(0.0, swap_algorithm="move")) == "swap by the move algorithm"
    assert swap_logged(BootRecord(0.0, swap_types={0: "none"})) == ""
    assert swap_logged(BootRecord(0.0, swap_types={0: "fail"})) == ""
    assert is_over(BootRecord(0.0, application_version="1.0.0"))
    assert is_over(BootRecord(0.0, application_banner="app"))
