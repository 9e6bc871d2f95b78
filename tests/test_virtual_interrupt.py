"""Reset or power cut anywhere in upload and swap, in virtual time: the board always runs the old image or the new one.

Every place is a moment, evenly spread over what is interrupted, with datasheet flash timing and the real boot in front.
A write that is cut off is in flash by half, a page whose erase is cut off reads as erased, or as garbage.
tests/sim/test_swap_interrupt.py cuts between and within all effects of a swap, without a board around them.
"""

import contextlib
from collections import Counter
from functools import lru_cache

import firmware
import pytest
import virtual

from pytest_nrfdfu.image.bootloader import BootloaderProfile, Swap
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.trailer import SwapType
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.exchange import Exchange
from pytest_nrfdfu.smp.messages import ImageStateWrite, UploadRequest

PLACES = 60
"""Of each kind of swap."""
UPLOADS = 20
"""Places in an upload, for each swap algorithm."""
CUT_ERASES = ["erased", "garbage"]
PAGE = 4096
PATIENCE = 120.0
"""Virtual seconds in which a boot has to end, swap and all."""


@lru_cache
def images():
    """Real firmware as two versions, the newer one larger by some pages."""
    body = firmware.real_firmware()
    return firmware.sign(body, "1.0.0"), firmware.sign(body + body[:20_000], "2.0.0")


def board_of(swap: Swap, *, permanent: bool, **options) -> SimBoard:
    """A board that runs the old image, and swaps the new one in at its next boot."""
    old, new = images()
    board = SimBoard(BoardOptions(profile=BootloaderProfile(name="test", swap=swap), image=old, **options))
    area = board.slot(1)
    start = area.address + (PAGE if swap == "offset" else 0)
    board.chip.program(start, new.ljust(-(-len(new) // 4) * 4, b"\xff"))
    for effect in board._trailers.set_pending(0, permanent=permanent):
        board.chip.program(effect.address, effect.data)
    return board


class Course:
    """One board's time."""

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.now = 0.0

    def run(self, seconds: float) -> "Course":
        self.now += seconds
        self.board.machine.advance(self.now)
        return self

    def until_an_application_runs(self) -> float:
        """How long that took; fails after PATIENCE."""
        machine, began = self.board.machine, self.now
        while not (self.board.program == "application" and machine.program.listening):
            event = machine.next_event()
            assert event is not None, "nothing boots"
            assert event < began + PATIENCE, "no application runs"
            self.now = max(self.now, event)
            machine.advance(self.now)
        return self.now - began

    def interrupt(self, number: int) -> "Course":
        """A pin reset, or every other time the power off and on."""
        chip = self.board.chip
        if number % 2:
            chip.set_power(False)
            self.run(0.1)
            chip.set_power(True)
        else:
            chip.drive_nreset("test", low=True)
            self.run(0.01)
            chip.drive_nreset("test", low=False)
        return self

    @property
    def runs(self) -> str:
        """Which image slot 0 holds, bit for bit."""
        for name, data in zip(("old", "new"), images(), strict=True):
            if self.board.read_flash(self.board.slot(0).address, len(data)) == data:
                return name
        return "neither"


def swapping(swap: Swap, kind: str, **options) -> Course:
    """A board in whose next boot a swap of this kind takes place."""
    course = Course(board_of(swap, permanent=kind == "permanent", **options))
    if kind == "revert":
        course.until_an_application_runs()
        assert course.runs == "new"
        course.interrupt(0)
    return course


@lru_cache
def length(swap: Swap, kind: str) -> float:
    """Seconds of a boot that swaps, when nobody interrupts it."""
    return swapping(swap, kind).until_an_application_runs()


@pytest.mark.parametrize("cut_erase", CUT_ERASES)
@pytest.mark.parametrize(
    ("swap", "kind"),
    [*((s, k) for s in ("move", "offset") for k in ("test", "permanent", "revert")), ("overwrite", "test")],
)
def test_a_swap_may_be_interrupted_anywhere(swap, kind, cut_erase):
    """After the next boot the board runs the image that the swap was to bring, after the one behind it what that asks.

    An image on trial goes away by itself, a permanent one and a reverted one stay.
    """
    end = "old" if kind == "revert" else "new"
    whole = length(swap, kind)
    assert whole > 2.0
    boots = Counter()
    for number in range(PLACES):
        course = swapping(swap, kind, cut_erase=cut_erase, seed=number).run(whole * (number + 0.5) / PLACES)
        assert course.board.program == "bootloader"
        course.interrupt(number).until_an_application_runs()
        boots[course.runs] += 1
        on_trial = course.board._trailers.swap_type(0) is SwapType.REVERT
        assert on_trial is (kind == "test" and swap != "overwrite"), number
        course.interrupt(number + 1).until_an_application_runs()
        assert course.runs == ("old" if on_trial else end), number
    assert boots == {end: PLACES}


@pytest.mark.parametrize("cut_erase", CUT_ERASES)
@pytest.mark.parametrize("swap", ["move", "offset"])
def test_a_swap_may_be_interrupted_again_and_again(swap, cut_erase):
    """Every boot is cut off a little later than the one before; only the step that was cut is done again."""
    course = swapping(swap, "test", cut_erase=cut_erase)
    resets, began = 0, course.now
    while course.board.program != "application":
        course.run(0.3 + 0.1 * (resets % 4))
        if course.board.program != "application":
            course.interrupt(resets)
            course.run(0.0)
            resets += 1
        assert course.now < began + 10 * length(swap, "test"), "the swap makes no headway"
    course.until_an_application_runs()
    assert course.runs == "new"
    assert resets > 10


class _Enough(Exception):
    """So much of an upload was wanted."""


def enough(upload, limit):
    if upload.acknowledged >= limit:
        raise _Enough


def serving(swap: Swap, **options) -> SimBoard:
    """A board that runs the old image, which takes uploads."""
    profile = BootloaderProfile(name="test", swap=swap)
    return SimBoard(BoardOptions(profile=profile, image=images()[0], application_smp="full", **options))


def update(course: Course) -> None:
    """Upload the new image, and mark it for a test."""
    host = virtual.VirtualHost(course.board, start=course.now)
    host.upload(images()[1])
    listed = next(image for image in host.images().images if image.slot == 1)
    mark = Exchange(
        ImageStateWrite(hash=listed.hash), sequence=host.sequences.take(), link=host.link, round_trip=host.round_trip
    )
    host._drive(mark, lambda: mark.response is not None, None)
    assert next(image for image in mark.result().images if image.slot == 1).pending
    course.now = host.now


@pytest.mark.parametrize("swap", ["move", "offset", "overwrite"])
def test_the_erase_of_an_upload_may_be_interrupted_anywhere(swap):
    """Of a slot that was in use; what is left of it, with garbage, is no image, and the next upload clears it away."""
    old, new = images()
    spoilt = 0
    for number in range(1, UPLOADS):
        course = Course(serving(swap, cut_erase="garbage", seed=number))
        area = course.board.slot(1)
        start = area.address + (PAGE if swap == "offset" else 0)
        course.board.chip.program(start, old.ljust(-(-len(old) // 4) * 4, b"\xff"))
        course.until_an_application_runs()
        assert course.board.slot_contents(1).valid
        first = UploadRequest(0, new[:200], length=len(new))
        course.board.machine.receive(console.encode(encode(first, 1)), course.now)
        course.run(0.04 + 0.09 * number)  # so many pages are erased, and one more by half
        assert not course.board.read_flash(area.address + number * PAGE, PAGE).strip(b"\xff")
        course.interrupt(number).until_an_application_runs()
        spoilt += course.board.read_flash(area.address + number * PAGE, PAGE) != b"\xff" * PAGE
        assert course.runs == "old", number
        assert not course.board.slot_contents(1).valid
    assert spoilt > UPLOADS - 5
    update(course)
    course.interrupt(0).until_an_application_runs()
    assert course.runs == "new"


@pytest.mark.parametrize("swap", ["move", "offset", "overwrite"])
def test_an_upload_may_be_interrupted_anywhere(swap):
    """Through the application: what was begun is no update, the old image goes on running, and a new upload works."""
    new = images()[1]
    for number in range(UPLOADS):
        course = Course(serving(swap))
        host = virtual.VirtualHost(course.board)
        limit = len(new) * number // UPLOADS
        with contextlib.suppress(_Enough):
            host.upload(new, each=lambda upload, limit=limit: enough(upload, limit))
        course.now = host.now
        assert not course.board.slot_contents(1).valid
        course.interrupt(number).until_an_application_runs()
        assert course.runs == "old", number
    update(course)
    course.interrupt(0).until_an_application_runs()
    assert course.runs == "new"
