"""A swap that is cut off anywhere is finished by the next boots: slot 0 then holds one of the images, bit for bit."""

from collections import Counter

import pytest
from swapping import SLOTS, Board, image

from pytest_nrfdfu.sim.firmware import Erase
from pytest_nrfdfu.sim.trailer import SwapType

SIZES = {"to larger": (9_000, 14_000), "to smaller": (28_000, 20_000), "same": (14_000, 14_000)}
KINDS = ["test", "permanent", "revert"]
CUTS = ["before", "half", "done", "garbage"]


def waiting(swap, kind, sizes="to larger"):
    """A board whose next boot swaps."""
    old, new = SIZES[sizes]
    board = Board(swap, image("1.0.0", old), image("2.0.0", new)).load().mark(permanent=kind == "permanent")
    if kind == "revert":
        board.boot()
        assert board.runs == "new"
    return board


def outcome(board):
    """How the next boot ends, and where the images are then."""
    return board.boot().ended, board.runs, board.kept


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("swap", ["move", "offset"])
def test_cut_off_once_anywhere(swap, kind, sizes):
    """Whatever the last effect did: the next boot ends with what was asked for, and the one behind it reverts a test.

    One place alone has another end: copy_done has just been set, so that boot is over, and the next one reverts.
    """
    start = waiting(swap, kind, sizes)
    places = len(start.copy().boot().effects)
    end, other = ("old", "new") if kind == "revert" else ("new", "old")
    seen = Counter()
    for place in range(places):
        for cut in CUTS:
            board = start.copy()
            assert board.boot(at=place, cut=cut, seed=place).ended == "cut off"
            seen[outcome(board)] += 1
            if board.trailers.swap_type(0) is SwapType.REVERT:
                assert kind == "test"
                assert outcome(board) == ("started", "old", "new"), (place, cut)
    late = 1 if kind == "test" else 0
    assert seen == Counter({("started", end, other): places * len(CUTS) - late, ("started", other, end): late})


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_overwriting_is_begun_anew(sizes, permanent):
    start = waiting("overwrite", "permanent" if permanent else "test", sizes)
    for place in range(len(start.copy().boot().effects)):
        for cut in CUTS:
            board = start.copy()
            board.boot(at=place, cut=cut, seed=place)
            assert outcome(board)[:2] == ("started", "new"), (place, cut)
            assert outcome(board)[:2] == ("started", "new"), (place, cut)


@pytest.mark.parametrize(
    ("swap", "kind"), [*((s, k) for s in ("move", "offset") for k in KINDS), ("overwrite", "test")]
)
def test_cut_off_twice(swap, kind):
    """The boot that goes on is cut off as well, somewhere; the one after that has to make it good.

    A few places are behind the swap's end, from where a test is reverted, or cut into the magic that says that a revert
    has begun, so that it never does: there the other image runs, whole.
    """
    start = waiting(swap, kind)
    seen = Counter()
    for first in range(0, len(start.copy().boot().effects), 3):
        once = start.copy()
        once.boot(at=first, cut=CUTS[first % 4], seed=first)
        if kind == "test" and once.trailers.swap_type(0) is SwapType.REVERT:
            continue  # the swap was over; what comes is a revert
        for second in range(first % 5, len(once.copy().boot().effects), 5):
            board = once.copy()
            board.boot(at=second, cut=CUTS[second % 4], seed=second)
            ended, runs, _ = outcome(board)
            assert ended == "started", (first, second)
            seen[runs] += 1
    end, other = ("old", "new") if kind == "revert" else ("new", "old")
    assert seen["neither"] == 0
    assert seen[end] > 25 * seen[other]
    assert seen[end] > 30


def test_a_new_image_much_smaller_loses_the_old_ones_last_page_where_mcuboot_does():
    """A flaw of swap using offset, seen on a real one too; no other place of the swap has it, nor has swap using move.

    While the last page is swapped, the header of the old image is looked for in the primary slot, where the new one's
    is by then. Its size makes MCUboot leave out the last page. The new image runs, but cannot be reverted.
    """
    old, new = image("1.0.0", 30_000), image("2.0.0", 5_000)
    ends = {}
    for swap in ("move", "offset"):
        start = Board(swap, old, new).load().mark()
        places = len(start.copy().boot().effects)
        boards = {place: start.copy() for place in range(places)}
        for place, board in boards.items():
            board.boot(at=place)
        ends[swap] = [place for place, board in boards.items() if outcome(board) != ("started", "new", "old")]
        for place in ends[swap]:
            assert outcome(boards[place]) == ("started", "new", "nothing")
    last_page = 5 + 1 + 2  # its five effects and its note, then the other slot's note and copy_done
    assert ends["move"] == []
    assert len(ends["offset"]) == 3
    assert ends["offset"][0] >= places - last_page


@pytest.mark.parametrize(("swap", "survives"), [("move", True), ("offset", False)])
def test_images_of_one_page_are_lost_where_mcuboot_loses_them(swap, survives):
    """Another flaw of swap using offset, seen on a real one: the old header is looked for where the new one is due."""
    board = Board(swap, image("1.0.0", 3_000), image("2.0.0", 3_000)).load().mark()
    first_page = board.copy().boot().effects.index(Erase(SLOTS[0].address))
    board.boot(at=first_page, cut="done")
    boot = board.boot(log=True)
    assert (boot.ended, board.runs) == (("started", "new") if survives else ("nothing boots", "neither"))
    assert ("Failed reading image headers" in boot.log) is not survives
