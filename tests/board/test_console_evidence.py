"""Which image runs, as far as the console tells it."""

import re

import pytest

from board.conftest import make_build, wired
from pytest_nrfdfu.board.console_evidence import Heard, heard, judge, replaced
from pytest_nrfdfu.image.format import Version

NEW = Version(2, 1, 0)


def test_a_boot_may_come_before_the_reset_was_reckoned(no_rig_unit):
    """An OS reset comes some time after its answer, which this host can only reckon."""
    console = no_rig_unit.console_uart.console
    for when, version in ((97.0, "3.0.0"), (99.98, "2.1.0")):
        text = f"*** Booting MCUboot v2.1.0 ***\r\nI: Starting bootloader\r\nI: Image version: v{version}\r\n"
        console.write(text.encode(), when)
        console.write(b"*** Booting Zephyr OS build v3.5.0 ***\r\n", when + 0.05)
    console.note_reset("OS reset", 96.99, since=96.7)
    console.note_reset("OS reset", 100.0, since=99.7)
    assert heard(no_rig_unit, 0).started == "2.1.0"


@pytest.mark.parametrize(
    ("told", "before", "running"),
    [
        (Heard(started="2.1.0", swap="test"), "1.0.0", "MCUboot swapped (test) and started version 2.1.0"),
        (Heard(started="2.1.0", swap="perm"), "2.1.0.7", "MCUboot swapped (perm) and started version 2.1.0"),
        (Heard(swap="test"), None, "MCUboot swapped (test)"),
        (Heard(started="2.1.0"), "1.0.0", "MCUboot started version 2.1.0"),
        (Heard(started="2.1.0", swap="none"), None, "MCUboot started version 2.1.0"),
        (Heard(named="2.1.0-rc3"), "1.0.0", "the application names version 2.1.0-rc3"),
    ],
)
def test_seen_running(told, before, running):
    judged = judge(told, NEW, before)
    assert judged == (f"console: {running}", "", "")


@pytest.mark.parametrize(
    ("told", "before", "against"),
    [
        (Heard(started="1.0.0", swap="none"), "1.0.0", "MCUboot started version 1.0.0 (swap type none)"),
        (Heard(started="1.0.0", swap="test"), None, "MCUboot started version 1.0.0 (swap type test)"),
        (Heard(started="2.1.0", swap="revert"), "2.1.0", "MCUboot reverted to the image before"),
        (Heard(swap="none"), None, "MCUboot did not swap (swap type none)"),
        (Heard(started="2.1.0", swap="none"), "2.1.0", "MCUboot did not swap (swap type none)"),
        (Heard(named="1.0.0"), "1.0.0", "the application that runs names version 1.0.0"),
        (Heard(named="7.0.0"), None, "the application that runs names version 7.0.0"),
    ],
)
def test_another_image_runs(told, before, against):
    assert judge(told, NEW, before).against == against


@pytest.mark.parametrize(
    ("told", "before", "why"),
    [
        (Heard(), None, "neither MCUboot's log nor the application named a version"),
        (Heard(named="2.1.0"), "2.1.0.7", "both have version 2.1.0"),
        (Heard(started="2.1.0"), "2.1.0", "both have version 2.1.0"),
        (Heard(named="7.0.0"), "1.0.0", "version 7.0.0, which is neither"),
        (Heard(swap="test", errors=("Image in the secondary slot is not valid!",)), None, "neither MCUboot's log nor"),
    ],
)
def test_what_cannot_be_told_is_said(told, before, why):
    judged = judge(told, NEW, before)
    assert (judged.running, judged.against) == ("console", "")
    assert why in judged.open


@pytest.mark.parametrize(
    ("told", "what"),
    [
        (Heard(), ""),
        (Heard(started="2.1.0", swap="none"), ""),
        (Heard(started="2.1.0", swap="test", errors=("Image in the secondary slot is not valid!",)), ""),
        (Heard(named="1.0.0"), ""),
        (Heard(started="1.0.0", swap="test"), "MCUboot started version 1.0.0 (swap type test)"),
        (Heard(started="2.1.0", swap="test"), "MCUboot swapped (swap type test)"),
        (Heard(swap="revert"), "MCUboot swapped (swap type revert)"),
    ],
)
def test_what_was_proved_in_slot_0_may_be_replaced(told, what):
    assert replaced(told, NEW) == what


def test_the_last_boot_is_heard(tmp_path):
    """Not what one before it said."""
    with wired(sim={"image": make_build(tmp_path, "1.4.0").path, "bootloader_log": True}) as sim:
        console = sim.unit.console_uart.console
        console.write(b"I: Image version: v9.9.9\r\n*** Booting Zephyr OS build v4.4.0 ***\r\n")
        position = console.position
        sim.unit.rig.reset("pin")
        sim.unit.console_uart.console.wait_for(re.compile("application 1.4.0"), position, 20)
        assert heard(sim.unit, 0) == Heard(started="1.4.0", swap="none")
