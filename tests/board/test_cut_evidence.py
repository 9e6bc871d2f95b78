"""Whether a cut lay within a swap, by boots and by what runs; no board."""

from dataclasses import replace

import pytest
from simulator import make_image

from pytest_nrfdfu.board.boot_record import BootRecord
from pytest_nrfdfu.board.cut_evidence import After, Around, judge, over
from pytest_nrfdfu.image.mcuboot import parse

NEW = parse(make_image("2.0.0", 3000))
QUIET = BootRecord(0.0, reset="OS reset")
BANNER = replace(QUIET, application_banner="Zephyr OS build v4.4.0", banner_after=3.0)
LOGGED = replace(QUIET, bootloader_banner="MCUboot v2.3.0", swap_types={0: "test"})
NEW_BOOT = replace(BANNER, began=5.0, reset="pin reset", application_version="2.0.0")
OLD_BOOT = replace(NEW_BOOT, application_version="1.0.0")
FAULTY = {"which": "old", "back": True}


def seen(before, after, *, taken_up=False, banner="", overwrites=False, which="new", on_trial=False, back=False):
    now = After(which, NEW, on_trial=on_trial, back=back)
    return judge(Around(tuple(before), tuple(after), taken_up), banner, now, overwrites=overwrites)


@pytest.mark.parametrize(
    ("boots", "reckoned", "simulated", "is_over"),
    [
        ([], 4.0, False, False),
        ([QUIET], 4.0, False, False),
        ([LOGGED], 4.0, False, False),
        ([BANNER], 4.0, False, True),
        ([replace(BANNER, banner_after=0.1)], 4.0, False, False),
        ([replace(BANNER, banner_after=None)], 4.0, False, False),
        ([replace(BANNER, banner_after=0.1)], 4.0, True, True),
        ([replace(LOGGED, application_banner="app", banner_after=0.1)], 4.0, False, True),
        ([replace(BANNER, banner_after=0.1), BANNER], 4.0, False, True),
    ],
)
def test_an_application_s_banner_before_the_cut_says_that_the_swap_was_over(boots, reckoned, simulated, is_over):
    """An older bootloader's own banner names nobody and comes at once."""
    assert bool(over(boots, reckoned, simulated=simulated)) is is_over


@pytest.mark.parametrize(
    "case",
    [
        {"after": [replace(OLD_BOOT, swap_types={0: "revert"})], "which": "old", "back": True},
        {"after": [replace(NEW_BOOT, swap_types={0: "none"})], "which": "new"},
        {"after": [OLD_BOOT], "which": "old", "back": True, "banner": "the banner came"},
        {"after": [NEW_BOOT], "which": "new", "banner": "the banner came"},
    ],
)
def test_what_shows_that_it_was_over(case):
    assert seen([LOGGED], **case).over


@pytest.mark.parametrize(
    ("case", "within", "how"),
    [
        ({"after": [NEW_BOOT], "taken_up": True, "on_trial": True}, True, "a swap was under way and was gone on with"),
        ({"after": [NEW_BOOT], "taken_up": True, "banner": "came"}, True, "a swap was under way"),
        ({"after": [replace(NEW_BOOT, swap_types={0: "test"})]}, False, "the swap began only after the cut"),
        ({"after": [replace(NEW_BOOT, swap_types={0: "test"})], "overwrites": True}, True, "overwritten once more"),
        ({"after": [NEW_BOOT], "on_trial": True}, None, "it was not over: the new image is on trial"),
        ({"after": [NEW_BOOT], "on_trial": True, "banner": "came"}, None, "it was not over: the new image is on trial"),
        ({"after": [NEW_BOOT]}, None, "it was not over: no banner came before the cut, and one after it"),
        ({"after": []}, None, "not seen: the console tells nothing of a swap"),
        ({"after": [OLD_BOOT], **FAULTY}, None, "not seen: the new image is in slot 1, so MCUboot took it back"),
        ({"after": [NEW_BOOT, OLD_BOOT], **FAULTY}, None, "it was not over: the new image was started after it"),
        ({"after": [OLD_BOOT, OLD_BOOT], **FAULTY}, None, "not seen: the new image is in slot 1"),
        (
            {"after": [replace(OLD_BOOT, bootloader_errors=("no",))], "which": "old"},
            None,
            "not seen: MCUboot logged 'no'",
        ),
    ],
)
def test_how_it_was_seen(case, within, how):
    found = seen([LOGGED], **case)
    assert found.over == ""
    assert found.within is within
    assert how in found.how


def test_a_new_image_that_resets_by_itself_after_the_cut_is_told():
    assert seen([LOGGED], [NEW_BOOT, OLD_BOOT], **FAULTY).trouble == (
        "the new image, version 2.0.0, was started after the cut and reset by itself without a word why;"
        " MCUboot took it back"
    )
    assert seen([LOGGED], [OLD_BOOT, OLD_BOOT], **FAULTY).trouble == "", "that was another"
