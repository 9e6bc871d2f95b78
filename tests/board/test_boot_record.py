"""What a board tells of its boots, read from console text.

MCUboot's lines are those of a real one: MCUboot of Zephyr 4.4 on an emulated nRF51, with swap using offset.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.board.boot_record import BEGINNING, OS_RESET, BootRecord, Reset, boots_in, in_words
from pytest_nrfdfu.board.line_times import TimedLine

PLAIN_BOOT = """\
*** Booting MCUboot ee39e2d694bd ***
*** Using Zephyr OS build 684c9e8f32e4 ***
I: Starting bootloader
I: Image index: 0, Swap type: none
I: Primary image: magic=bad, swap_type=0x0, copy_done=0x2, image_ok=0x2
I: Secondary image: magic=bad, swap_type=0x0, copy_done=0x2, image_ok=0x2
I: Boot source: none
I: Image index: 0, Swap type: none
I: Bootloader chainload address offset: 0x8000
I: Image version: v0.0.0
I: Jumping to the first image slot
*** Booting Zephyr OS build 684c9e8f32e4 ***
[00:00:00.012,440] \x1b[0m<inf> smp_sample: build time: Jun  3 2026 22:22:04\x1b[0m""".splitlines()

SWAP = """\
*** Booting MCUboot ee39e2d694bd ***
*** Using Zephyr OS build 684c9e8f32e4 ***
I: Starting bootloader
I: Image index: 0, Swap type: test
I: Primary image: magic=unset, swap_type=0x1, copy_done=0x3, image_ok=0x3
I: Secondary image: magic=good, swap_type=0x2, copy_done=0x3, image_ok=0x3
I: Boot source: none
I: Image index: 0, Swap type: test
I: Starting swap using offset algorithm.
I: Image index: 0, Swap type: none
I: Image index: 0, Swap type: revert
I: Bootloader chainload address offset: 0x8000
I: Image version: v9.9.9
I: Jumping to the first image slot
*** Booting Zephyr OS build 684c9e8f32e4 ***
<inf> mcuboot_util: Image index: 0, Swap type: revert""".splitlines()

REVERT = [line.replace("test", "revert").replace("v9.9.9", "v1.0.0") for line in SWAP]

NCS = """\
*** Booting MCUboot v2.3.0-dev-fce4dac2e629 ***
*** Using nRF Connect SDK v3.3.0-ba167d9f3db4 ***
*** Using Zephyr OS v4.3.99-fd9204a02d52 ***
[00:00:00.001,220] <inf> mcuboot: Starting bootloader
[00:00:00.002,000] <inf> mcuboot: Image index: 1, Swap type: perm
[00:00:00.003,000] <inf> mcuboot: Image index: 0, Swap type: none
[00:00:00.004,000] <inf> mcuboot: Bootloader chainload address offset: 0x10000
[00:00:00.004,100] <inf> mcuboot: Jumping to the first image slot
All pins have been configured as non-secure
Booting TF-M v2.2.2
*** Booting My Application v0.4.0-ab50a53880b6 ***
*** Using nRF Connect SDK v3.2.0-000000000000 ***
*** Using Zephyr OS v4.3.99-fd9204a02d52 ***
[00:00:00.264,587] <inf> main: Reset reason: watchdog 0""".splitlines()

ZEPHYR = "*** Booting Zephyr OS build v4.4.0 ***"
FAULT = [
    "E: ***** BUS FAULT *****",
    "E: >>> ZEPHYR FATAL ERROR 25: Unknown error on CPU 0",
    "E: Resetting system",
]


def timed(lines, start=0.0, step=0.01):
    return [TimedLine(start + step * number, line) for number, line in enumerate(lines)]


def boots(*lines, resets=(), banner=None):
    return boots_in(timed(lines), resets, re.compile(banner) if banner else None)


def test_a_boot_without_a_swap():
    (boot,) = boots(*PLAIN_BOOT)
    assert boot.bootloader_version == "ee39e2d694bd"
    assert boot.swap_types == {0: "none"}
    assert boot.swap_algorithm is None
    assert boot.application_banner == "Zephyr OS build 684c9e8f32e4"
    assert boot.application_version == "0.0.0"
    assert (boot.bootloader_errors, boot.recovery, boot.fault, boot.reset) == ((), False, None, "")
    assert str(boot) == "MCUboot ee39e2d694bd, no swap; 'Zephyr OS build 684c9e8f32e4' (version 0.0.0)"


@pytest.mark.parametrize(("lines", "kind", "version"), [(SWAP, "test", "9.9.9"), (REVERT, "revert", "1.0.0")])
def test_a_swap_is_what_mcuboot_found_first_not_what_comes_next(lines, kind, version):
    (boot,) = boots(*lines)
    assert boot.swap_types == {0: kind}
    assert boot.swap_algorithm == "offset"
    assert boot.application_version == version
    assert f"image 0: swap {kind}" in str(boot)


def test_ncs_names_the_application_in_its_banner():
    (boot,) = boots(*NCS)
    assert boot.bootloader_version == "v2.3.0-dev-fce4dac2e629"
    assert boot.swap_types == {0: "none", 1: "perm"}
    assert boot.application_banner == "My Application v0.4.0-ab50a53880b6"
    assert boot.application_version == "0.4.0-ab50a53880b6"
    assert boot.sdk == "nRF Connect SDK v3.2.0-000000000000", "the application's, not the bootloader's"
    assert boot.reset_reason == "Reset reason: watchdog 0"


def test_a_silent_bootloader_leaves_the_application_alone():
    (boot,) = boots(ZEPHYR, "nrfdfu-sim: application 1.2.3 hash 0011")
    assert (boot.bootloader_version, boot.swap_types) == (None, {})
    assert boot.application_version == "1.2.3"


def test_an_sdks_banner_is_no_version_of_the_application():
    (boot,) = boots("*** Booting nRF Connect SDK v2.5.0 ***")
    assert boot.application_banner == "nRF Connect SDK v2.5.0"
    assert boot.application_version is None


def test_an_older_bootloader_whose_banner_does_not_name_it():
    """Before MCUboot had a banner of its own: Zephyr's, or the SDK's."""
    (boot,) = boots(ZEPHYR, "I: Starting bootloader", "I: Jumping to the first image slot", ZEPHYR)
    assert boot.bootloader_banner == "Zephyr OS build v4.4.0"
    assert boot.bootloader_version is None
    assert boot.application_banner == "Zephyr OS build v4.4.0"
    assert boot.began == 0.0


def test_an_older_bootloader_that_starts_nothing_shows_no_application():
    found = boots(*(2 * [ZEPHYR, "I: Starting bootloader", "E: Unable to find bootable image"]))
    assert [boot.application_banner for boot in found] == [None, None]
    assert [boot.began for boot in found] == [0.0, pytest.approx(0.03)]


def test_errors_of_the_bootloader_are_kept():
    (boot,) = boots(
        "*** Booting MCUboot v2.1.0 ***",
        "I: Starting bootloader",
        "E: Image in the secondary slot is not valid!",
        "[00:00:00.100,000] <err> mcuboot: Unable to find bootable image",
    )
    assert boot.bootloader_errors == (
        "Image in the secondary slot is not valid!",
        "Unable to find bootable image",
    )
    assert "no application showed a banner" in str(boot)


def test_errors_of_the_application_are_not_the_bootloaders():
    (boot,) = boots(*PLAIN_BOOT, "E: sensor is missing")
    assert boot.bootloader_errors == ()


def test_recovery_is_told():
    (boot,) = boots("*** Booting MCUboot v2.1.0 ***", "I: Starting bootloader", "I: Enter the serial recovery mode")
    assert boot.recovery


def test_each_banner_of_an_application_is_a_boot():
    found = boots(ZEPHYR, "one", ZEPHYR, "two", ZEPHYR)
    assert [boot.began for boot in found] == pytest.approx([0.0, 0.02, 0.04])


def test_each_start_of_the_bootloader_is_a_boot():
    """Of an application that dies without a word."""
    started = ["I: Starting bootloader", "I: Jumping to the first image slot"]
    assert len(boots(*started, *started, *started)) == 3


def test_a_garbled_beginning_hides_nothing_else():
    (boot,) = boots("\\xff\\xfe MCUb", "\\xfe: Starting bootloader", *PLAIN_BOOT[3:])
    assert boot.swap_types == {0: "none"}
    assert boot.application_banner == "Zephyr OS build 684c9e8f32e4"


def test_a_fault_belongs_to_its_boot():
    first, second = boots(*SWAP, *FAULT, *REVERT)
    assert first.fault is not None
    assert first.fault.kind == "BUS FAULT"
    assert first.fault_after == pytest.approx(0.02)
    assert "; fault 0.020 s after the banner: BUS FAULT, then reset" in str(first)
    assert second.fault is None


def test_an_own_banner_is_the_applications():
    (boot,) = boots(*PLAIN_BOOT[:-2], "Pump controller ready", banner="^Pump .* ready$")
    assert boot.application_banner == "Pump controller ready"
    (boot,) = boots(ZEPHYR, "Pump controller ready", banner="^Pump .* ready$")
    assert boot.application_banner == "Pump controller ready", "Zephyr's comes first, and does not count"
    assert len(boots("Pump ready", "x", "Pump ready", banner="^Pump ready$")) == 2


def test_text_alone_is_no_boot():
    assert boots("hello", "I: Image index: 0, Swap type: test", "") == []


# --- resets by this host ----------------------------------------------------------------------------------------------


def reset(at, how="pin reset", *, slack=0.2):
    return Reset(at, how, at - slack)


def test_the_boot_time_is_from_the_reset_to_the_banner():
    lines = timed(PLAIN_BOOT, start=10.0)
    (boot,) = boots_in(lines, [reset(9.5)])
    assert (boot.began, boot.reset) == (9.5, "pin reset")
    assert boot.banner_after == pytest.approx(0.5 + 0.11)
    assert "0.610 s after the reset" in str(boot)


def test_a_reset_that_is_noted_a_little_late_counts():
    (boot,) = boots_in(timed([ZEPHYR], start=10.0), [reset(10.05)])
    assert (boot.began, boot.reset) == (10.0, "pin reset")
    assert boot.banner_after == 0.0


def test_a_boot_from_before_a_reset_is_not_its():
    """An OS reset happens a while after its answer, and a boot just before that is another's."""
    lines = timed([ZEPHYR], start=1.0) + timed([ZEPHYR], start=1.5)
    first, second = boots_in(lines, [reset(1.4, "OS reset", slack=0.25)])
    assert (first.reset, second.reset) == ("", "OS reset")
    assert second.banner_after == pytest.approx(0.1)


def test_boots_that_nobody_asked_for_have_no_reset():
    found = boots_in(timed([ZEPHYR, ZEPHYR, ZEPHYR], step=1.0), [reset(-0.1)])
    assert [boot.reset for boot in found] == ["pin reset", "", ""]
    assert [boot.banner_after for boot in found] == [pytest.approx(0.1), None, None]


def test_of_boots_that_follow_each_other_closely_the_first_is_the_resets():
    found = boots_in(timed([ZEPHYR, ZEPHYR], step=0.05), [reset(0.1)])
    assert [boot.reset for boot in found] == ["pin reset", ""]


def test_each_reset_has_its_boot():
    found = boots_in(timed([ZEPHYR, ZEPHYR, ZEPHYR], step=1.0), [reset(0.9, "first"), reset(1.9, "second")])
    assert [boot.reset for boot in found] == ["", "first", "second"]


def test_resets_that_follow_each_other_closely_have_each_their_boot():
    lines = timed([ZEPHYR, ZEPHYR], start=1.0, step=0.15)
    found = boots_in(lines, [reset(0.99, "first"), reset(1.1, "second")])
    assert [boot.reset for boot in found] == ["first", "second"]


def test_of_resets_in_a_row_the_last_counts():
    """The first led into serial recovery, where nothing is printed."""
    found = boots_in(timed([ZEPHYR, ZEPHYR], start=5.0, step=4.0), [reset(1.0), reset(4.0, "OS reset")])
    assert [boot.reset for boot in found] == ["OS reset", ""]
    assert found[0].banner_after == pytest.approx(1.0)


def test_a_reset_after_which_nothing_came_is_no_boots():
    (boot,) = boots_in(timed([ZEPHYR]), [reset(5.0)])
    assert boot.reset == ""


def test_boots_in_words():
    found = boots_in(timed([ZEPHYR, ZEPHYR], start=1.0, step=1.0), [reset(0.5)])
    first, second = in_words(found).splitlines()
    assert first == "    0.500 s pin reset: 'Zephyr OS build v4.4.0' 0.500 s after the reset"
    assert second == "    2.000 s no reset by this host noted: 'Zephyr OS build v4.4.0'"


@given(st.lists(st.one_of(st.sampled_from([*SWAP, *NCS, *FAULT]), st.text(max_size=30)), max_size=60))
def test_any_text_is_read(lines):
    for boot in boots(*lines):
        assert isinstance(boot, BootRecord)
        assert str(boot)


# --- what is none, and what goes on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "<inf> updater: Starting bootloader",
        "Starting bootloader update over CAN",
        "I: NSIB: Starting bootloader next to it",
    ],
)
def test_an_application_that_speaks_of_a_bootloader_has_not_booted(line):
    assert len(boots(ZEPHYR, "hello", line, "bye")) == 1
    assert not BEGINNING.search(f"hello\n{line}\nbye")


@pytest.mark.parametrize("log", ["I: {}", "[00:00:00.001,220] <inf> mcuboot: {}", "{}"])
def test_mcuboots_first_line_is_seen_in_every_style(log):
    line = log.format("Starting bootloader")
    assert len(boots(ZEPHYR, "hello", line)) == 2
    assert BEGINNING.search(f"hello\n{line}\n")


def test_an_assertion_that_the_firmware_survived_is_not_its_death():
    (boot,) = boots(
        ZEPHYR, "ASSERTION FAIL [x] @ test_assert.c:12", "PASS - test_assert", "PROJECT EXECUTION SUCCESSFUL"
    )
    assert (boot.fault, boot.fault_after) == (None, None)


# --- resets that lie close together -----------------------------------------------------------------------------------


def test_an_os_reset_that_came_before_it_was_expected_is_the_boots():
    """It is noted as late as the configuration says, and the board may be quicker than that."""
    (boot,) = boots_in(timed([ZEPHYR], 0.542), [Reset(0.11, "pin reset", 0.07), Reset(0.546, OS_RESET, 0.284)])
    assert (boot.reset, boot.banner_after) == (OS_RESET, 0.0)


def test_a_boot_that_began_while_the_next_reset_was_asked_for_is_the_one_befores():
    boots_of = boots_in(
        timed([ZEPHYR, "", ZEPHYR], 0.3, 0.2), [Reset(0.2, "pin reset", 0.1), Reset(0.5, "pin reset", 0.2)]
    )
    assert [(boot.reset, boot.began) for boot in boots_of] == [("pin reset", 0.2), ("pin reset", 0.5)]


def test_boots_without_any_reset_are_read():
    (boot,) = boots_in(timed([ZEPHYR]), [])
    assert boot.reset == ""


def test_resets_without_any_boot_are_none():
    assert boots_in([], [Reset(0.1, "pin reset", 0.0), Reset(0.2, OS_RESET, 0.1)]) == []


def test_a_loop_is_told_in_two_lines():
    """Whatever time each of its boots took."""
    lines = [TimedLine(number**2 / 1000, line) for number, line in enumerate(30 * [ZEPHYR, *FAULT])]
    first, more = in_words(boots_in(lines)).splitlines()
    assert first.startswith("    0.000 s no reset by this host noted: 'Zephyr OS build v4.4.0'; fault 0.001 s after")
    assert more.strip() == "the same 29 times more, the last at 13.456 s"
