"""Boots in which MCUboot swaps or reverts are waited for as long as a swap may take, and nothing cuts one off."""

import threading

import pytest

from board.conftest import answer, make_build, wait_for_text, wired
from pytest_nrfdfu.board import swap_wait
from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.boot import Restart, boot, settle, wait_running
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.running import application_runs
from pytest_nrfdfu.board.swap_ahead import SwapAhead
from pytest_nrfdfu.errors import NotBooted
from pytest_nrfdfu.smp.header import Group
from pytest_nrfdfu.smp.messages import ImageStateWrite

BANNER = b"*** Booting Zephyr OS build v4.4.0 ***\r\n"
SWAPS = (
    b"*** Booting MCUboot v2.1.0 ***\r\nI: Starting bootloader\r\nI: Image index: 0, Swap type: revert\r\n"
    b"I: Starting swap using move algorithm.\r\n"
)
OVER = b"I: Image version: v1.0.0\r\nI: Jumping to the first image slot\r\n"
LATE = 1.2
"""Seconds: twice as long as a boot is waited for here."""


def settings(unit, monkeypatch, **changes):
    changed = unit.config.boot.model_copy(update=changes)
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"boot": changed}))


def later(far, *pieces):
    threading.Timer(LATE, far.write, (b"".join(pieces),)).start()


def swapping(far, unit, monkeypatch, longest):
    """What is said of a board that swaps and is not seen to end."""
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: longest)
    position = unit.console_uart.console.position
    far.write(SWAPS)
    with pytest.raises(NotBooted) as caught:
        wait_running(unit, position)
    return str(caught.value)


@pytest.fixture
def told(no_rig_unit):
    said = []
    no_rig_unit.say = said.append
    return said


@pytest.fixture
def console_unit(no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=False)
    return no_rig_unit


# --- what the console tells -------------------------------------------------------------------------------------------


def test_a_swap_that_mcuboot_logs_is_waited_for(far, console_unit, told):
    position = console_unit.console_uart.console.position
    far.write(SWAPS)
    later(far, OVER, BANNER)
    assert wait_running(console_unit, position) == "console"
    first, last = told
    assert first.startswith("MCUboot logged swap type revert: it is waited for, for up to ")
    assert last.startswith("MCUboot logged swap type revert: the application runs, waited 1.")
    assert console_unit.swap_ahead is SwapAhead.NOTHING


def test_a_swap_that_is_logged_is_waited_for_with_a_server_too(far, no_rig_unit):
    position = no_rig_unit.console_uart.console.position
    far.script = lambda request, _: [answer(request, {"rc": 8})] if b"Zephyr" in written else []
    written = bytearray()
    far.write(SWAPS)

    def end():
        written.extend(BANNER)
        far.write(OVER + BANNER)

    threading.Timer(LATE, end).start()
    assert wait_running(no_rig_unit, position) == "console"


def test_a_boot_without_a_swap_gets_no_more_time(far, console_unit, monkeypatch):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 3600.0)
    position = console_unit.console_uart.console.position
    far.write(SWAPS.replace(b"revert", b"none").partition(b"I: Starting swap")[0])
    with pytest.raises(NotBooted, match=r"within 0\.6 s") as caught:
        wait_running(console_unit, position)
    assert "swap" not in str(caught.value).partition("Starting")[0]


def test_a_swap_that_does_not_end_is_what_the_message_is_about(far, console_unit, monkeypatch):
    text = swapping(far, console_unit, monkeypatch, 0.5)
    assert "MCUboot logged swap type revert, so MCUboot was to swap, and nothing shows that it was over" in text
    assert "Do not reset it now, that would cut the swap off" in text
    assert "slot_size in [images.app]" in text
    assert "slot 0 may be empty" not in text
    assert "recovery pin" not in text


def test_an_image_that_was_swapped_in_and_does_not_start_is_not_waited_for_as_long_as_a_swap(
    far, console_unit, monkeypatch
):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 20.0)
    position = console_unit.console_uart.console.position
    far.write(SWAPS)
    later(far, OVER)
    with pytest.raises(NotBooted, match=r"within [12]\.\d s: .*swap type revert.*, and it was over") as caught:
        wait_running(console_unit, position)
    assert "CONFIG_BOOTLOADER_MCUBOOT" in str(caught.value)


# --- what was known before --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [SwapAhead.TRIAL, SwapAhead.PENDING, SwapAhead.PERMANENT, SwapAhead.POSSIBLE])
def test_a_swap_that_a_list_told_of_is_waited_for_in_silence(far, console_unit, ahead, told):
    console_unit.swap_ahead = ahead
    position = console_unit.console_uart.console.position
    later(far, BANNER)
    assert wait_running(console_unit, position) == "console"
    after = {SwapAhead.PENDING: SwapAhead.TRIAL, SwapAhead.POSSIBLE: SwapAhead.POSSIBLE}
    assert console_unit.swap_ahead is after.get(ahead, SwapAhead.NOTHING)
    assert told[-1].startswith(f"{ahead.value}: the application runs, waited 1.")


@pytest.mark.parametrize("ahead", [SwapAhead.NOTHING, SwapAhead.POSSIBLE, SwapAhead.PERMANENT])
def test_what_was_proved_is_forgotten_where_a_boot_may_have_swapped_unseen(far, console_unit, ahead):
    console_unit.remember(b"1" * 32, "proved")
    console_unit.swap_ahead = ahead
    far.write(BANNER)
    wait_running(console_unit, 0)
    assert (console_unit.proved is None) is (ahead is not SwapAhead.NOTHING)


def test_what_was_proved_is_forgotten_where_the_application_lists_another_image(far, no_rig_unit):
    far.script = lambda request, _: [answer(request, listing())]
    no_rig_unit.remember(b"1" * 32, "proved")
    no_rig_unit.client.images()
    assert no_rig_unit.proved == b"1" * 32
    no_rig_unit.remember(b"0" * 32, "proved")
    no_rig_unit.client.images()
    assert no_rig_unit.proved is None


@pytest.mark.parametrize("swapped", [False, True])
def test_a_wait_that_ends_without_the_end_of_a_swap_is_taken_up_once(far, console_unit, monkeypatch, swapped):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 0.1)
    console_unit.note_reset()
    far.write(SWAPS + (OVER if swapped else b""))
    wait_for_text(console_unit.uart, "Jumping" if swapped else "algorithm")
    with pytest.raises(NotBooted):
        wait_running(console_unit, 0)
    assert (console_unit.reset_at is None) is swapped
    settle(console_unit)
    assert console_unit.reset_at is None


def test_a_wait_that_is_broken_off_leaves_the_swap_to_who_comes_next(console_unit, monkeypatch):
    console_unit.note_reset()
    monkeypatch.setattr(
        type(console_unit.console_uart.console), "wait_for", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        wait_running(console_unit, 0)
    assert console_unit.reset_at is not None


def test_a_swap_that_was_reckoned_with_is_told_where_it_does_not_end(console_unit):
    console_unit.swap_ahead = SwapAhead.PENDING
    with pytest.raises(NotBooted, match="an image in slot 1 was pending, so MCUboot was to swap") as caught:
        wait_running(console_unit, 0, None, Restart(extra=0.1))
    assert "Do not reset it now" in str(caught.value)


def test_an_application_that_hangs_is_asked_ahead_of_a_reset_once(no_rig_unit):
    no_rig_unit.lists_images = True
    swap_wait.look_ahead(no_rig_unit)
    assert not no_rig_unit.lists_images


def test_whoever_reckons_with_a_swap_is_believed(far, console_unit, monkeypatch):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 3600.0)
    console_unit.swap_ahead = SwapAhead.PENDING
    with pytest.raises(NotBooted, match=r"within 0\.7 s"):
        wait_running(console_unit, 0, None, Restart(extra=0.1))


def test_a_trial_that_does_not_come_back_is_what_the_message_is_about(console_unit, monkeypatch):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 0.3)
    console_unit.swap_ahead = SwapAhead.TRIAL
    with pytest.raises(NotBooted) as caught:
        wait_running(console_unit, 0)
    text = str(caught.value)
    assert "within 0.9 s" in text
    assert "the image that ran was on trial, so MCUboot was to swap, and nothing shows that it was over" in text
    assert "slot 0 may be empty" not in text
    assert "recovery pin" not in text


def listing(*, confirmed=True, pending=False):
    slots = [
        {"slot": 0, "version": "1.1.0", "hash": b"1" * 32, "active": True, "confirmed": confirmed},
        {"slot": 1, "version": "1.0.0", "hash": b"0" * 32, "pending": pending},
    ]
    return {"images": slots, "splitStatus": 0}


def test_an_application_without_a_banner_is_asked_while_mcuboot_may_swap(far, no_rig_unit, monkeypatch):
    """Where the bootloader takes no request for an update."""
    monkeypatch.setattr(swap_wait, "may_wait_for_dfu", lambda _: False)
    monkeypatch.setattr("pytest_nrfdfu.board.boot_wait.may_wait_for_dfu", lambda _: False)
    no_rig_unit.swap_ahead = SwapAhead.PENDING
    far.script = lambda request, _: [answer(request, listing())]
    assert wait_running(no_rig_unit, 0, None, Restart(extra=3600, smp=True)) == "image list"


def test_a_bootloader_that_may_take_a_request_for_an_update_is_not_spoken_to_while_it_swaps(far, no_rig_unit):
    position = no_rig_unit.console_uart.console.position
    far.script = lambda request, _: [answer(request, listing())]
    far.write(SWAPS)
    later(far, OVER, BANNER)
    assert wait_running(no_rig_unit, position) == "image list"
    (*_, banner) = [t for t in no_rig_unit.uart.traffic if t.direction == "rx" and b"Zephyr" in t.data]
    assert all(t.time >= banner.time for t in no_rig_unit.uart.traffic if t.direction == "tx")


def test_an_application_that_lists_images_is_asked_before_it_is_reset(far, no_rig_unit, told):
    """It may have marked an image by itself."""
    no_rig_unit.lists_images = True

    def script(request, _payload):
        if request.group == Group.OS:
            later(far, BANNER)
            return [answer(request, {"rc": 0})]
        listens = sum(header.group == Group.OS for header, _ in far.requests) == 0
        return [answer(request, listing(pending=True))] if listens else []

    far.script = script
    assert Board(no_rig_unit).reset() == "console"
    assert [header.group for header, _ in far.requests][:2] == [Group.IMAGE, Group.OS]
    assert told[0].startswith("an image in slot 1 was pending: MCUboot may swap for up to 55 s")


# --- a reset that nobody waited for -----------------------------------------------------------------------------------


def test_nothing_is_waited_for_where_nothing_tells_of_a_swap(no_rig_unit, monkeypatch):
    monkeypatch.setattr("pytest_nrfdfu.board.boot.wait_running", None)
    settle(no_rig_unit)
    no_rig_unit.swap_ahead = SwapAhead.TRIAL
    settle(no_rig_unit)
    no_rig_unit.note_reset()
    no_rig_unit.swap_ahead = SwapAhead.POSSIBLE
    settle(no_rig_unit)


def test_a_swap_that_mcuboot_has_logged_is_waited_for_by_who_comes_next(far, console_unit):
    console_unit.note_reset()
    far.write(SWAPS)
    wait_for_text(console_unit.uart, "algorithm")
    later(far, OVER, BANNER)
    settle(console_unit)
    assert "Zephyr" in console_unit.uart.console.since(0)
    assert console_unit.reset_at is None


def test_a_swap_that_does_not_end_is_told_and_no_error(far, console_unit, monkeypatch, told):
    monkeypatch.setattr(swap_wait, "longest_swap", lambda _: 0.1)
    console_unit.note_reset()
    console_unit.swap_ahead = SwapAhead.TRIAL
    settle(console_unit)
    assert told[-1].startswith("a swap was waited for, and what it started was not seen: bare was reset and")


# --- the simulated board ----------------------------------------------------------------------------------------------

SIM = {"application_smp": "full", "baudrate": 1_000_000, "flash_timing": "datasheet"}
SIZE = 20_000
"""Bytes: MCUboot swaps for some two seconds, which is more than a boot is waited for."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return make_build(folder, "1.0.0", SIZE), make_build(folder, "1.1.0", SIZE)


@pytest.fixture(scope="module")
def _swaps(pair):
    with wired(sim=SIM | {"image": pair[0].path}, boot={"timeout": 1.0}) as board:
        yield board


@pytest.fixture
def trial(_swaps, pair):
    """A board whose image 1.1.0 is on trial."""
    board = _swaps
    Dfu(board.unit).update(pair[0], only_if_needed=True)
    slot1 = board.unit.client.images().find(slot=1)
    if slot1 is None or slot1.hash != pair[1].hash:
        Dfu(board.unit).update(pair[1], via="application", confirm=False)
    else:  # it went back there
        board.unit.client.request(ImageStateWrite(hash=pair[1].hash))
        Board(board.unit).reset()
    assert board.unit.swap_ahead is SwapAhead.TRIAL
    board.admin.reset_counters()
    return board


def test_a_reset_waits_for_the_way_back(trial, pair):
    handle = Board(trial.unit)
    assert handle.reset() == "image list"
    assert trial.admin.flash_hash().image_hash == pair[0].hash
    assert trial.unit.swap_ahead is SwapAhead.NOTHING


@pytest.mark.parametrize("way", ["reset", "recovery", "images", "flashed"])
def test_a_way_back_that_nobody_waited_for_is_not_cut_off(trial, pair, way):
    unit, handle = trial.unit, Board(trial.unit)
    handle.reset(wait=False)
    trial.admin.reset_counters()
    if way == "reset":
        handle.reset()
    elif way == "recovery":
        assert enter(unit).images.find().hash == pair[0].hash
    elif way == "images":
        assert handle.images().active.hash == pair[0].hash
    else:
        unit.doubted = False
        assert application_runs(unit, pair[0])
    versions = [boot.application_version for boot in handle.console.boots]
    assert versions == ["1.0.0"] * (2 if way == "reset" else 1), "it was let go on to the end"
    if way == "recovery":
        assert boot(unit) == "image list"


def test_an_image_on_trial_is_uploaded_where_it_is_needed(trial, pair):
    """Leaving recovery takes it back otherwise."""
    report = Dfu(trial.unit).update(pair[1], only_if_needed=True)
    assert report.bytes
    assert trial.admin.flash_hash().image_hash == pair[1].hash


def test_leaving_recovery_waits_for_a_swap_that_is_pending(trial, pair):
    unit = trial.unit
    Board(unit).reset()
    unit.client.request(ImageStateWrite(hash=pair[1].hash))
    assert unit.swap_ahead is SwapAhead.PENDING
    enter(unit)
    assert boot(unit, pair[1].image) == "image list"
    assert unit.swap_ahead is SwapAhead.TRIAL


def test_a_way_into_recovery_that_comes_after_the_swap_is_waited_for(pair):
    """MCUboot swaps first, and waits for an update then."""
    sim = SIM | {"image": pair[0].path, "entrance": ["gpio", "wait-for-dfu"]}
    recovery = {"entry": ["wait-for-dfu"], "reset": "pin", "timeout": 1.0}
    with wired(sim=sim, recovery=recovery, boot={"timeout": 2.0}) as board:
        Dfu(board.unit).update(pair[1], via="application", confirm=False)
        assert enter(board.unit).images.find().hash == pair[0].hash
