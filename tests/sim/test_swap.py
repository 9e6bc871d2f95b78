"""The simulated MCUboot swaps images: which swap it chooses, what it leaves behind, what it says, how long it takes."""

import pytest
from swapping import PAGE, SLOT_PAGES, SLOTS, Board, image

from pytest_nrfdfu.image.format import ImageFlag
from pytest_nrfdfu.sim.firmware import Erase
from pytest_nrfdfu.sim.slots import NRF5340_SLOTS, Geometry
from pytest_nrfdfu.sim.swap_status import FRESH, Half, Op, Progress, entry_number, progress_after
from pytest_nrfdfu.sim.trailer import BootError, FieldState, SwapType, TrailerState
from pytest_nrfdfu.sim.trailer_layout import trailer_layout, trailer_magic

OLD, NEW = image("1.0.0", 20_000), image("2.0.0", 28_000)
SMALL, LARGE = image("3.0.0", 5_000), image("4.0.0", 30_000)
SWAPS = ["move", "offset"]
MODES = [*SWAPS, "overwrite"]
SLOT0, SLOT1 = SLOTS
ERASED = TrailerState(FieldState.UNSET, FieldState.UNSET, FieldState.UNSET)


def state(swap_type, *, confirmed):
    image_ok = FieldState.SET if confirmed else FieldState.UNSET
    return TrailerState(FieldState.SET, FieldState.SET, image_ok, swap_type)


def loaded(swap, old=OLD, new=NEW):
    return Board(swap, old, new).load()


def lines(boot):
    """The log behind the banners."""
    text = boot.log.split("\r\n")
    assert text[0].startswith("*** Booting MCUboot v")
    assert text[1].startswith("*** Using Zephyr OS build v")
    assert text[-1] == ""
    return text[2:-1]


# What a boot does


@pytest.mark.parametrize("swap", MODES)
def test_an_image_that_nobody_marked_stays_where_it_is(swap):
    board = loaded(swap)
    boot = board.boot()
    assert (boot.ended, boot.effects, board.runs, board.kept) == ("started", [], "old", "new")


@pytest.mark.parametrize(("old", "new"), [(OLD, NEW), (NEW, OLD), (SMALL, LARGE), (LARGE, SMALL)])
@pytest.mark.parametrize("swap", SWAPS)
def test_a_test_swap_is_undone_at_the_next_boot(swap, old, new):
    board = loaded(swap, old, new).mark()
    assert board.boot().ended == "started"
    assert (board.runs, board.kept) == ("new", "old")
    assert board.trailers.states(0) == (state(SwapType.TEST, confirmed=False), ERASED)
    assert board.trailers.swap_type(0) is SwapType.REVERT
    assert board.boot().ended == "started"
    assert (board.runs, board.kept) == ("old", "new")
    assert board.trailers.states(0) == (state(SwapType.REVERT, confirmed=True), ERASED)
    assert board.boot().effects == []


@pytest.mark.parametrize("swap", SWAPS)
def test_a_confirmed_image_stays(swap):
    board = loaded(swap).mark()
    board.boot()
    board.confirm()
    assert board.trailers.swap_type(0) is SwapType.NONE
    assert board.boot().effects == []
    assert (board.runs, board.kept) == ("new", "old")


@pytest.mark.parametrize("swap", SWAPS)
def test_a_permanent_swap_needs_no_confirmation(swap):
    board = loaded(swap).mark(permanent=True)
    board.boot()
    assert board.trailers.states(0) == (state(SwapType.PERMANENT, confirmed=True), ERASED)
    assert board.boot().effects == []
    assert (board.runs, board.kept) == ("new", "old")


@pytest.mark.parametrize("permanent", [False, True])
def test_overwriting_leaves_no_way_back(permanent):
    board = loaded("overwrite").mark(permanent=permanent)
    board.boot()
    assert (board.runs, board.kept) == ("new", "nothing")
    assert board.trailers.states(0) == (ERASED._replace(magic=FieldState.SET), ERASED)
    assert board.trailers.swap_type(0) is SwapType.NONE
    assert board.boot().effects == []


def test_a_revert_of_swap_using_offset_leaves_no_second_header():
    board = loaded("offset").mark()
    board.boot()
    board.boot()
    assert not board.flash.read(SLOT1.address, PAGE).strip(b"\xff")


def test_the_trailer_of_a_swap_is_begun_with_the_magic_last():
    """Only the magic makes the rest count, so a reset in between changes nothing."""
    board = loaded("move").mark(permanent=True)
    layout = board.trailers.layout(SLOT0)
    effects = board.boot().effects
    first, second = (Erase(area.address + area.size - PAGE) for area in SLOTS)
    offsets = [layout.swap_info, layout.image_ok, layout.swap_size, layout.magic]
    assert effects[0] == first
    assert [effect.address - SLOT0.address for effect in effects[1:5]] == offsets
    assert effects[5] == second


def test_until_slot_1_is_unmarked_the_swap_begins_anew():
    board = loaded("move").mark()
    board.boot(at=4)  # behind the magic in slot 0
    assert board.trailers.states(0)[0].magic is FieldState.SET
    boot = board.boot(log=True)
    assert "I: Boot source: none" in lines(boot)
    assert (boot.effects[0], board.runs) == (Erase(SLOT0.address + SLOT0.size - PAGE), "new")


def test_overwriting_clears_what_was_in_the_trailers():
    """Slot 1's goes last: until then the copy is done again after a reset."""
    board = loaded("overwrite")
    for effect in (board.trailers.write_copy_done(SLOT0), board.trailers.write_image_ok(SLOT0)):
        board.flash.write(effect.address, effect.data)
    effects = board.mark().boot().effects
    assert board.trailers.states(0) == (ERASED._replace(magic=FieldState.SET), ERASED)
    assert effects[-2:] == [Erase(SLOT1.address), Erase(SLOT1.address + SLOT1.size - PAGE)]


def test_overwriting_erases_only_what_the_image_needs_and_the_trailer():
    board = loaded("overwrite", LARGE, SMALL).mark()
    board.boot()
    used = -(-len(SMALL) // PAGE)
    assert board.flash.read(SLOT0.address + used * PAGE, len(LARGE) - used * PAGE) == LARGE[used * PAGE :]


@pytest.mark.parametrize("swap", SWAPS)
def test_one_update_after_the_other(swap):
    """The trailers that a swap leaves behind are no obstacle to the next one."""
    board = loaded(swap).mark()
    board.boot()
    board.confirm()
    for old, new in ((NEW, LARGE), (LARGE, SMALL), (SMALL, OLD)):
        board.old, board.new = old, new
        board.stage(new)
        board.mark()
        board.boot()
        assert (board.runs, board.kept) == ("new", "old")
        board.confirm()


# What is not swapped in


@pytest.mark.parametrize("swap", MODES)
@pytest.mark.parametrize("damaged", [0x100, 0x2000], ids=["header", "body"])
def test_an_image_that_is_not_valid_is_erased(swap, damaged):
    board = loaded(swap).mark()
    base = PAGE if swap == "offset" else 0
    board.flash.fill(SLOT1.address + base + damaged, b"\0\0\0\0")
    boot = board.boot(log=True)
    assert [type(effect) for effect in boot.effects] == [Erase] * SLOT_PAGES
    assert "E: Image in the secondary slot is not valid!" in lines(boot)
    assert (boot.ended, board.runs) == ("started", "old")
    assert not board.flash.read(SLOT1.address, SLOT1.size).strip(b"\xff")
    assert board.boot().effects == []


@pytest.mark.parametrize("swap", SWAPS)
def test_a_trailer_without_an_image_is_erased(swap):
    """What is left where erasing a slot was cut off would otherwise keep it from being used."""
    board = Board(swap, OLD).load().mark()
    boot = board.boot()
    assert boot.effects == [Erase(SLOT1.address + SLOT1.size - PAGE)]
    assert board.trailers.states(0) == (ERASED, ERASED)


def test_a_revert_to_nothing_is_given_up():
    board = loaded("move").mark()
    board.boot()
    board.flash.erase(SLOT1.address)
    boot = board.boot(log=True)
    assert "I: Cleared image 0 primary slot trailer due to stuck revert" in lines(boot)
    assert (boot.ended, board.runs) == ("started", "new")
    assert board.trailers.states(0) == (ERASED, ERASED)


def test_an_image_that_cannot_boot_loses_its_trailer_only():
    data = bytearray(NEW)
    data[16] |= ImageFlag.NON_BOOTABLE
    board = Board("move", OLD, bytes(data)).load().mark()
    assert board.boot().effects == [Erase(SLOT1.address + SLOT1.size - PAGE)]
    assert board.kept == "new"


def test_swap_using_offset_refuses_an_image_at_the_slots_first_byte():
    board = loaded("offset")
    board.flash.fill(SLOT1.address, NEW[:32])
    boot = board.mark().boot(log=True)
    assert "E: Secondary header magic detected in first sector, wrong upload address?" in lines(boot)
    assert (board.runs, board.kept) == ("old", "nothing")


@pytest.mark.parametrize("swap", SWAPS)
def test_without_an_image_to_give_back_nothing_is_swapped_in(swap):
    """MCUBOOT_BOOTSTRAP is another matter, and off."""
    board = Board(swap, new=NEW)
    board.stage(NEW)
    boot = board.mark().boot(log=True)
    assert (boot.ended, boot.effects) == ("nothing boots", [])
    assert "W: Failed reading image headers; Image=0" in lines(boot)
    assert lines(boot)[-1] == "E: Unable to find bootable image"


def test_overwriting_needs_no_image_to_give_back():
    board = Board("overwrite", new=NEW)
    board.stage(NEW)
    assert board.mark().boot().ended == "started"
    assert board.runs == "new"


def test_swap_using_scratch_is_not_simulated():
    board = loaded("scratch").mark()
    assert (board.boot().effects, board.runs) == ([], "old")


def test_a_trailer_full_of_nonsense_reaches_no_further_than_its_slot():
    """A swap that never was, of a size that no slot has: MCUboot's own assertions stop it."""
    board = loaded("move")
    for effect in (board.trailers.write_magic(SLOT0), board.trailers.write_swap_size(SLOT0, 1 << 24)):
        board.flash.write(effect.address, effect.data)
    step = board.trailers.write_progress(SLOT0, Progress(Op.SWAP, SLOT_PAGES + 1, Half.FIRST))
    board.flash.write(step.address, step.data)
    board.flash.fill(SLOT0.address, NEW[:32])
    boot = board.boot(log=True)
    assert (boot.ended, lines(boot)[-1]) == ("nothing boots", "E: panic!")
    assert all(0 <= effect.address - area.address < area.size for effect in boot.effects for area in SLOTS[:1])


# Confirming and marking


def test_confirming_without_a_trailer_writes_nothing():
    board = loaded("move")
    before = dict(board.flash._pages)
    board.confirm()
    assert board.flash._pages == before


def test_confirming_a_spoiled_trailer_is_an_error():
    board = loaded("move")
    board.flash.fill(SLOT0.address + SLOT0.size - 16, b"\0\0\0\0")
    assert board.do(board.trailers.set_confirmed(0)) == BootError.BAD_VECTOR
    assert board.do(board.trailers.set_confirmed(1)) == BootError.FLASH


@pytest.mark.parametrize(("swap", "start", "on_trial"), [("move", 0, 0), ("offset", PAGE, 0), ("overwrite", 0, 0)])
def test_where_the_image_in_slot_1_begins(swap, start, on_trial):
    """With swap using offset one page up, but not while the old image waits there to come back."""
    board = loaded(swap).mark()
    assert (board.trailers.image_start(SLOT0), board.trailers.image_start(SLOT1)) == (0, start)
    board.boot()
    assert board.trailers.image_start(SLOT1) == on_trial


# Trailers


def test_the_trailer_of_an_offset_swap_is_that_of_a_real_one():
    """As MCUboot of Zephyr 4.4 left it in an emulated board: 1 KiB pages, a slot of 104, images of 49,692 bytes."""
    layout = trailer_layout(0x1A000, Geometry(page=1024, max_sectors=104), "offset")
    assert (layout.magic, layout.image_ok, layout.copy_done, layout.swap_info) == (0x19FF0, 0x19FE8, 0x19FE0, 0x19FD8)
    assert (layout.tlv_sizes, layout.swap_size, layout.status) == (0x19FD0, 0x19FC8, 0x19C88)


def test_the_trailer_of_a_move_swap():
    board = loaded("move").mark()
    board.boot()
    layout = board.trailers.layout(SLOT0)
    assert (layout.tlv_sizes, layout.swap_size, layout.status) == (None, SLOT0.size - 48, SLOT0.size - 48 - 256 * 12)
    trailer = board.flash.read(SLOT0.address + layout.status, layout.size)
    pages = -(-len(NEW) // PAGE)
    word = b"%c\xff\xff\xff"
    moves = (word % 1) * pages + word.replace(b"%c", b"\xff") * (256 - pages)
    swaps = (word % 1 + word % 2) * pages
    info = len(NEW).to_bytes(4, "little") + b"\xff" * 4 + b"\x02" + b"\xff" * 7 + b"\x01" + b"\xff" * 15
    assert trailer == (moves + swaps).ljust(256 * 12, b"\xff") + info + trailer_magic(Geometry())


def test_the_magic_of_flash_with_wide_write_blocks_says_how_wide():
    assert trailer_magic(Geometry(max_align=32))[:4] == bytes([32, 0, 0x2D, 0xE1])


@pytest.mark.parametrize("swap", SWAPS)
def test_every_step_is_found_again_in_the_status(swap):
    steps = [Progress(Op.MOVE, n, Half.FIRST) for n in range(1, 10)] if swap == "move" else []
    steps += [Progress(Op.SWAP, n, half) for n in range(1, 10) for half in Half]
    numbers = [entry_number(swap, 256, step) for step in steps]
    assert numbers == sorted(set(numbers))
    assert progress_after(swap, 256, 0) == FRESH
    for number, step, following in zip(numbers, steps, steps[1:], strict=False):
        after = progress_after(swap, 256, number + 1)
        if (step.op, following.op) == (Op.MOVE, Op.SWAP):
            assert after == Progress(Op.MOVE, 10)  # nothing is left to be moved
        else:
            assert after == following


# The log, as recorded from MCUboot of Zephyr 4.4 in an emulated board (offset), or from its code (test_swap_host.py)


def test_log_of_a_boot_without_a_swap():
    assert lines(Board("offset", OLD).load().boot(log=True)) == [
        "I: Starting bootloader",
        "I: Image index: 0, Swap type: none",
        "I: Image index: 0, Swap type: none",
        "I: Primary image: magic=unset, swap_type=0x1, copy_done=0x3, image_ok=0x3",
        "I: Secondary image: magic=unset, swap_type=0x1, copy_done=0x3, image_ok=0x3",
        "I: Boot source: none",
        *["I: Image index: 0, Swap type: none"] * 4,
        "I: Bootloader chainload address offset: 0x10000",
        "I: Image version: v1.0.0",
        "I: Jumping to the first image slot",
    ]


def test_log_of_a_swap_using_offset():
    assert lines(loaded("offset").mark().boot(log=True)) == [
        "I: Starting bootloader",
        "I: Image index: 0, Swap type: test",
        "I: Primary image: magic=unset, swap_type=0x1, copy_done=0x3, image_ok=0x3",
        "I: Secondary image: magic=good, swap_type=0x2, copy_done=0x3, image_ok=0x3",
        "I: Boot source: none",
        *["I: Image index: 0, Swap type: test"] * 3,
        "I: Starting swap using offset algorithm.",
        "I: Image index: 0, Swap type: none",
        "I: Image index: 0, Swap type: revert",
        "I: Bootloader chainload address offset: 0x10000",
        "I: Image version: v2.0.0",
        "I: Jumping to the first image slot",
    ]


def test_log_of_a_swap_using_move_that_goes_on():
    board = loaded("move").mark()
    assert lines(board.boot(at=40, log=True))[-1] == "I: Starting swap using move algorithm."
    assert lines(board.boot(log=True))[:5] == [
        "I: Starting bootloader",
        "I: Primary image: magic=good, swap_type=0x2, copy_done=0x3, image_ok=0x3",
        "I: Secondary image: magic=unset, swap_type=0x1, copy_done=0x3, image_ok=0x3",
        "I: Boot source: primary slot",
        "I: Starting swap using move algorithm.",
    ]


def test_log_of_an_overwrite():
    assert lines(loaded("overwrite").mark().boot(log=True))[1:5] == [
        "I: Image index: 0, Swap type: test",
        "I: Image 0 upgrade secondary slot -> primary slot",
        "I: Erasing the primary slot",
        f"I: Image 0 copying the secondary slot to the primary slot: 0x{len(NEW) + 4 - len(NEW) % 4:x} bytes",
    ]


def test_there_is_no_log_unless_asked_for():
    assert loaded("move").mark().boot().log == ""


# Time


@pytest.mark.parametrize(("swap", "copies"), [("move", 3), ("offset", 2), ("overwrite", 1)])
def test_a_swap_of_whole_slots_takes_as_long_as_its_pages(swap, copies):
    """A page takes 87.5 ms to erase and 1024 times 43 us to write (nRF5340 product specification, NVMC)."""
    body = 110 * PAGE - 0x200 - 100  # with header and TLVs the most that a slot of 112 pages holds
    board = Board(swap, image("5.0.0", body), image("6.0.0", body), areas=NRF5340_SLOTS).load().mark()
    page = 87.5e-3 + 1024 * 43e-6
    assert board.boot().seconds == pytest.approx(copies * 110 * page, rel=0.02)
    assert board.runs == "new"
