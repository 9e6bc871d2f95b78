"""What an application's image list forbids, and what it says; no hardware."""

from __future__ import annotations

import pytest
import simulator

from pytest_nrfdfu.board.application_rules import (
    SlotOne,
    Staging,
    check_confirm,
    check_running,
    image_index,
    shown,
    slot_one,
    staging_of,
    swap_of_mode,
    swap_seconds,
    which_runs,
)
from pytest_nrfdfu.board.interrupt import Place, parse_place
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.errors import UpdateRefused
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.smp.messages import ImageState, ImageStates
from pytest_nrfdfu.smp.timing import Link

NEW = parse(simulator.make_image("2.0.0"), "new.bin")
OLD, OTHER = b"\x01" * 32, b"\x02" * 32
APP = Step("app", NEW, 0)


def state(slot: int, digest: bytes, *flags: str, image: int = 0) -> ImageState:
    known = ("bootable", "pending", "confirmed", "active", "permanent")
    return ImageState(slot, "1.0.0", digest, image, **{flag: flag in flags for flag in known})


def listed(*states: ImageState) -> ImageStates:
    return ImageStates(states, 0, {})


RUNNING = state(0, OLD, "active", "confirmed")


@pytest.mark.parametrize(("mode", "swap"), [(1, "scratch"), (2, "overwrite"), (3, "move"), (9, "offset")])
def test_modes_that_swap(mode, swap):
    assert swap_of_mode(mode) == swap


@pytest.mark.parametrize(("mode", "name"), [(0, "single application"), (4, "direct XIP"), (77, "not known")])
def test_modes_that_do_not_are_refused(mode, name):
    with pytest.raises(UpdateRefused, match=rf"mode is {mode} \({name}\).*Nothing was sent"):
        swap_of_mode(mode)


def test_a_trial_needs_a_bootloader_that_can_go_back():
    check_confirm("overwrite", confirm=True)
    check_confirm("move", confirm=False)
    with pytest.raises(UpdateRefused, match=r"CONFIG_BOOT_UPGRADE_ONLY.*Nothing was sent"):
        check_confirm("overwrite", confirm=False)


def test_what_runs_must_run_from_slot_0():
    assert check_running(listed(RUNNING), "move") is RUNNING
    with pytest.raises(UpdateRefused, match="none as active"):
        check_running(listed(state(0, OLD, "confirmed")), "move")
    with pytest.raises(UpdateRefused, match="slot 1 as active"):
        check_running(listed(state(1, OLD, "active", "confirmed")), "move")


def test_an_image_on_trial_forbids_an_update():
    trial = listed(state(0, OLD, "active"), state(1, OTHER, "confirmed"))
    with pytest.raises(UpdateRefused, match=r"is on trial: slot 1 keeps version 1.0.0 \(hash 020202020202\)"):
        check_running(trial, "move")
    assert check_running(trial, "overwrite").hash == OLD, "there is no trial where it overwrites"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (listed(RUNNING), SlotOne.FREE),
        (listed(RUNNING, state(1, OTHER)), SlotOne.FREE),
        (listed(RUNNING, state(1, OTHER, "pending")), SlotOne.OTHER_PENDING),
        (listed(RUNNING, state(1, NEW.hash)), SlotOne.SAME),
        (listed(RUNNING, state(1, NEW.hash, "pending", "permanent")), SlotOne.PENDING),
        (listed(RUNNING, state(1, NEW.hash, "pending", image=1)), SlotOne.FREE),
    ],
)
def test_what_slot_1_holds_before(states, expected):
    assert slot_one(states, APP) is expected


def test_how_far_an_image_is():
    assert staging_of(listed(RUNNING, state(1, OTHER, "pending")), 0, NEW.hash) is Staging.ABSENT
    assert staging_of(listed(RUNNING, state(1, NEW.hash)), 0, NEW.hash) is Staging.PRESENT
    assert staging_of(listed(RUNNING, state(1, NEW.hash, "pending")), 0, NEW.hash) is Staging.PENDING
    assert staging_of(listed(state(0, NEW.hash, "active")), 0, NEW.hash) is Staging.ABSENT, "slot 1 is meant"


def test_which_image_runs():
    assert which_runs(listed(RUNNING), NEW.hash, OLD).which == "old"
    assert which_runs(listed(state(0, NEW.hash, "active")), NEW.hash, OLD).which == "new"
    assert which_runs(listed(state(0, OTHER, "active")), NEW.hash, OLD).which == "another"
    assert which_runs(listed(state(0, OTHER, "active")), NEW.hash, None).which == "another"
    assert which_runs(listed(), NEW.hash, OLD) == ("another", None)


def test_numbers_of_images():
    assert image_index(APP) == 0
    assert image_index(Step("net", NEW, 3)) == 1
    with pytest.raises(UpdateRefused, match="'image2' is neither"):
        image_index(Step("image2", NEW, 5))


def test_a_slot_for_people():
    assert shown(RUNNING) == "version 1.0.0 (hash 010101010101)"
    assert shown(None) == "no image"


def test_how_long_a_swap_takes():
    """By the datasheet: 131.5 ms to erase and write a page of 4 KiB; moved up, and written into both slots."""
    page = 0.0875 + 1024 * 43e-6
    assert swap_seconds("overwrite", [4096], Link()) == pytest.approx(page)
    assert swap_seconds("move", [4097], Link()) == pytest.approx(2 * 3 * page)
    assert swap_seconds("offset", [4096, 8192], Link()) == pytest.approx(3 * 2 * page)


@pytest.mark.parametrize(
    ("text", "place"),
    [("upload:50%", Place("upload", 0.5)), ("swap:0%", Place("swap", 0.0)), ("swap:99.5%", Place("swap", 0.995))],
)
def test_places(text, place):
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["upload", "50%", "upload:50", "boot:10%", "swap:101%", "swap:-1%", "upload:50%%"])
def test_no_places(text):
    with pytest.raises(ValueError, match="write 'upload:50%'"):
        parse_place(text)
