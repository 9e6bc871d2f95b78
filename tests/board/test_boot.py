"""Leaving recovery, and seeing the application run."""

import re
import threading
from dataclasses import replace

import pytest

from board.conftest import FarEnd, answer, wait_for_text, wired
from board.shelf import of_this_module
from pytest_nrfdfu.board.boot import Restart, banner_line, boot, wait_running
from pytest_nrfdfu.board.boot_story import dump, told
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone
from pytest_nrfdfu.smp.header import Group

shelf = of_this_module()
BANNER = b"*** Booting Zephyr OS build v4.4.0 ***\r\n"


def listing(digest, *, active=True):
    return {"images": [{"slot": 0, "version": "1.0.0", "hash": digest, "active": active}], "splitStatus": 0}


def board(far, after, *, before=(), resets=True):
    """A script: answers a reset with rc 0 and the bytes `before`, then image list requests with `after`."""

    def script(request, _payload):
        if request.group == Group.OS:
            return [*([answer(request, {"rc": 0})] if resets else []), *before]
        return [answer(request, after)] if after is not None else []

    far.script = script


def settings(unit, monkeypatch, **changes):
    changed = unit.config.boot.model_copy(update=changes)
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"boot": changed}))


def test_the_simulated_application_is_seen_on_the_console(sim, builds):
    enter(sim.unit)
    sim.admin.reset_counters()
    position = sim.unit.console_uart.console.position
    assert boot(sim.unit, builds[0].image) == "console"
    assert sim.resets() == {"SREQ": 1}
    assert banner_line(sim.unit, position) == "*** Booting Zephyr OS build v4.4.0 ***"
    assert sim.unit.application_has_smp[builds[0].hash] is False, "and is not asked again"


def test_an_application_with_an_smp_server_is_asked(far, no_rig_unit, builds):
    board(far, listing(builds[0].hash), before=[BANNER])
    assert boot(no_rig_unit, builds[0].image) == "image list"
    assert no_rig_unit.application_has_smp[builds[0].hash] is True


def test_an_application_without_the_image_group_is_seen_on_the_console(far, no_rig_unit):
    board(far, {"rc": 8}, before=[BANNER])
    assert boot(no_rig_unit) == "console"


def test_an_application_that_is_known_to_have_no_server_is_not_asked(far, no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=False)
    board(far, None, before=[BANNER])
    assert boot(no_rig_unit) == "console"
    assert [header.group for header, _ in far.requests] == [Group.OS]


def test_what_was_seen_of_the_proved_image_is_remembered(far, no_rig_unit, builds):
    no_rig_unit.remember(builds[0].hash, "")
    no_rig_unit.application_has_smp[builds[0].hash] = False
    board(far, None, before=[BANNER])
    boot(no_rig_unit)
    assert [header.group for header, _ in far.requests] == [Group.OS]


def test_a_banner_alone_does_not_do_where_a_server_must_answer(far, no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=True)
    board(far, None, before=[BANNER])
    with pytest.raises(NotBooted):
        boot(no_rig_unit)


def test_another_image_than_was_proved_is_a_mismatch(far, no_rig_unit, builds):
    """A valid image left in slot 1 may be swapped in at boot."""
    no_rig_unit.remember(builds[0].hash, "")
    board(far, listing(builds[1].hash))
    with pytest.raises(HashMismatch, match=rf"{builds[1].hash.hex()}: a valid image in the secondary slot"):
        boot(no_rig_unit, builds[0].image)
    assert no_rig_unit.proved is None


def test_a_list_of_the_bootloader_is_not_an_application(far, no_rig_unit, builds):
    board(far, {"images": [{"slot": 0, "version": "1.0.0", "hash": builds[0].hash}]})
    with pytest.raises(NotBooted) as caught:
        boot(no_rig_unit, builds[0].image)
    text = str(caught.value)
    assert re.search(
        r"bare was reset and the application was not seen running.* \d\.\d s: the console printed nothing", text
    )
    assert "the board is still in serial recovery, which lists the image as valid" in text
    assert "CONFIG_BOOTLOADER_MCUBOOT" in text


def test_a_board_that_stays_silent_is_told(far, no_rig_unit):
    board(far, None, before=[b"E: bus fault\r\n"])
    no_rig_unit.remember(b"1" * 32, "version 1.0.0")
    with pytest.raises(NotBooted, match=r"the console printed 'E: bus fault'\. Look at"):
        boot(no_rig_unit)


def test_where_no_image_was_proved_the_slot_may_be_empty(far, no_rig_unit):
    board(far, None)
    with pytest.raises(NotBooted, match=r"the console printed nothing\. .*slot 0 may be empty.* Look at whether"):
        boot(no_rig_unit)


def test_a_reset_whose_answer_was_lost_may_still_have_booted(far, no_rig_unit):
    board(far, None, before=[BANNER], resets=False)
    assert boot(no_rig_unit) == "console"


def test_a_reset_that_was_not_answered_is_told_when_nothing_boots(far, no_rig_unit):
    with pytest.raises(NotBooted, match="The reset request itself was not answered: Reset "):
        boot(no_rig_unit)


@pytest.mark.parametrize("smp", [None, False])
def test_a_console_port_that_is_lost_is_told_at_once(far, smp):
    other = FarEnd()
    tables = {
        "board": "two-ports",
        "uart": {"port": far.path, "baudrate": 1_000_000},
        "console": {"port": other.path},
        "recovery": {"entry": ["smp"]},
        "boot": {"timeout": 3600, **({} if smp is None else {"smp": smp})},
    }
    unit = Unit("two-ports", BoardConfig.model_validate(tables))
    try:
        unit.open()
        other.vanish()
        with pytest.raises(PortGone, match=f"{other.path} was lost"):
            wait_running(unit, 0)
    finally:
        unit.close()
        other.close()


# --- a bootloader that is spoken to ---------------------------------------------------------------------------------


def test_the_bootloaders_own_banner_is_not_the_applications(far, no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=False)
    board(far, None, before=[b"*** Booting MCUboot v2.1.0-dev ***\r\n"])
    with pytest.raises(NotBooted):
        boot(no_rig_unit)


def test_a_bootloader_that_answers_after_a_banner_is_not_seen_on_the_console(far, no_rig_unit, builds):
    """Older ones print the banner of their own Zephyr, which says nothing else than an application's."""
    board(far, {"images": [{"slot": 0, "version": "1.0.0", "hash": builds[0].hash}]}, before=[BANNER])
    with pytest.raises(NotBooted, match="was reset twice and left alone meanwhile, and the bootloader answers still"):
        boot(no_rig_unit, builds[0].image)
    assert [header.group for header, _ in far.requests].count(Group.OS) == 2


def test_a_bootloader_that_was_woken_once_is_reset_once_more(far, no_rig_unit, builds):
    resets = []

    def script(request, _payload):
        if request.group == Group.OS:
            resets.append(request)
            return [answer(request, {"rc": 0}), BANNER]
        return [answer(request, {"images": [{"slot": 0, "version": "1.0.0"}]})] if len(resets) == 1 else []

    far.script = script
    assert boot(no_rig_unit, builds[0].image) == "console"
    assert len(resets) == 2


@pytest.mark.parametrize("smp", [None, True])
def test_a_bootloader_that_waits_for_an_update_is_not_kept_waiting(shelf, builds, smp):
    sim = {"image": builds[0].path, "entrance": ["gpio", "wait-for-dfu"]}
    tables = {"boot": {"smp": smp, "timeout": 6.0 if smp is None else 3.0}}
    with shelf.lend(sim, **tables) as waiting:
        enter(waiting.unit)
        waiting.admin.reset_counters()
        if smp is None:
            assert boot(waiting.unit, builds[0].image) == "console"
        else:  # the simulated application has no server: it runs, and cannot be seen
            with pytest.raises(NotBooted):
                boot(waiting.unit, builds[0].image)
        assert waiting.admin.counters()["program"] == "application"
        assert waiting.resets() == {"SREQ": 1}


# --- an application that dies ---------------------------------------------------------------------------------------

DUMP = b"""\
E: ***** MPU FAULT *****\r
E:   Data Access Violation\r
E: Faulting instruction address (r15/pc): 0x00010a62\r
E: >>> ZEPHYR FATAL ERROR 19: Unknown error on CPU 0\r
E: Current thread: 0x20000a48 (main)\r
"""
CAUSE = "MPU FAULT (Data Access Violation), PC 0x00010a62, thread main"
RESETS = DUMP + b"E: Resetting system\r\n"
REVERTS = b"*** Booting MCUboot v2.1.0 ***\r\nI: Starting bootloader\r\nI: Image index: 0, Swap type: revert\r\n"
OLDER = b"I: Starting bootloader\r\n"
"""Behind Zephyr's banner, from a bootloader that has none of its own."""


@pytest.fixture
def console_unit(no_rig_unit, monkeypatch):
    """Its application is known to have no SMP server."""
    settings(no_rig_unit, monkeypatch, smp=False)
    return no_rig_unit


def after_reset(far, unit, *pieces, image=None, restart=None):
    """How an application is seen that prints `pieces` after a reset."""
    position = unit.console_uart.console.position
    far.write(b"".join(pieces))
    return wait_running(unit, position, image, restart or Restart())


def test_a_fault_behind_the_banner_is_quoted(far, console_unit):
    with pytest.raises(NotBooted) as caught:
        after_reset(far, console_unit, BANNER, DUMP, b"E: Halting system\r\n")
    first, *quoted = str(caught.value).splitlines()
    assert re.search(r"was not seen running.*: it faulted \d\.\d\d s after its banner: MPU FAULT", first)
    assert f"{CAUSE}, then halted." in first
    assert "arm-zephyr-eabi-addr2line -e zephyr.elf 0x00010a62 names the line" in first
    assert "the console printed" not in first
    assert quoted == [
        f"{CAUSE}, then halted",
        *(f"  {line}" for line in DUMP.decode().splitlines()),
        "  E: Halting system",
    ]


def test_a_fault_that_follows_the_banner_a_moment_later_is_waited_for(far, console_unit):
    """The banner alone is not believed at once."""
    position = console_unit.console_uart.console.position
    far.write(BANNER)
    threading.Timer(0.05, far.write, (DUMP,)).start()
    with pytest.raises(NotBooted, match=r"it faulted 0\.\d\d s after its banner: MPU FAULT"):
        wait_running(console_unit, position)


def test_a_board_that_has_halted_is_not_waited_for(far, console_unit, monkeypatch):
    settings(console_unit, monkeypatch, smp=False, timeout=3600)
    with pytest.raises(NotBooted, match=r"not seen running, given up after \d\.\d s: it faulted .* then halted"):
        after_reset(far, console_unit, BANNER, DUMP, b"E: Halting system\r\n")


def test_a_server_whose_firmware_has_halted_is_not_asked_to_the_end(far, no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=True, timeout=3600)
    board(far, None)
    with pytest.raises(NotBooted, match="then halted"):
        after_reset(far, no_rig_unit, BANNER, DUMP, b"E: Halting system\r\n")


def test_a_board_that_has_halted_and_was_started_again_is_waited_for(far, console_unit, builds):
    """By a watchdog."""
    run = [BANNER, b"application 1.1.0\r\n"]
    pieces = [*run, DUMP, b"E: Halting system\r\n", *run]
    assert after_reset(far, console_unit, *pieces, image=builds[1].image) == "console"


def test_prose_about_halting_is_no_end(far, console_unit):
    assert after_reset(far, console_unit, BANNER, b"I: Halting system clock of the radio\r\n") == "console"


def test_an_assertion_that_the_application_survived_is_no_death(far, console_unit):
    """A test application may fail assertions on purpose."""
    pieces = [BANNER, b"ASSERTION FAIL [x] @ test.c:12\r\n", b"PASS - test_assert\r\n"]
    assert after_reset(far, console_unit, *pieces) == "console"


def test_a_boot_loop_is_told_before_the_time_is_over(far, console_unit, monkeypatch):
    settings(console_unit, monkeypatch, smp=False, timeout=3600)
    with pytest.raises(NotBooted, match=r"it booted 4 times without a word why, reset once by this host, a boot loop"):
        after_reset(far, console_unit, *(4 * [BANNER, b"hello\r\n"]))


def test_a_boot_loop_of_faults_counts_both(far, console_unit, monkeypatch):
    settings(console_unit, monkeypatch, smp=False, timeout=3600)
    with pytest.raises(NotBooted) as caught:
        after_reset(far, console_unit, *(4 * [BANNER, RESETS]))
    text = str(caught.value)
    assert "it faulted 4 times, first 0." in text
    assert f"{CAUSE}, then reset; it booted 4 times, reset once by this host, a boot loop" in text
    assert text.count("***** MPU FAULT *****") == 1, "the first is quoted, the others are alike"


def test_a_boot_loop_without_a_banner_is_seen_by_the_bootloaders_log(far, no_rig_unit, monkeypatch):
    settings(no_rig_unit, monkeypatch, smp=True, timeout=3600)
    log = b"I: Starting bootloader\r\nI: Jumping to the first image slot\r\n"
    with pytest.raises(NotBooted, match=r"it booted 4 times without a word why.*Look at what resets it") as caught:
        after_reset(far, no_rig_unit, *(4 * [log]))
    assert "Jumping" not in str(caught.value), "the boots are told in words"


def test_a_loop_of_faults_that_is_caught_in_a_good_moment_is_no_mute_server(far, no_rig_unit, monkeypatch):
    """Its last banner stands, for the time being."""
    settings(no_rig_unit, monkeypatch, smp=True, timeout=3600)
    with pytest.raises(NotBooted, match=r"a boot loop.*addr2line") as caught:
        after_reset(far, no_rig_unit, *(4 * [BANNER, RESETS]), BANNER)
    assert "did not answer" not in str(caught.value)


def test_an_application_that_boots_twice_may_mean_it(far, console_unit):
    """It has written UICR, for example, which takes a reset."""
    assert after_reset(far, console_unit, BANNER, b"one\r\n", BANNER) == "console"


def test_the_image_before_that_came_back_is_not_the_one(far, console_unit, builds):
    with pytest.raises(NotBooted) as caught:
        after_reset(far, console_unit, BANNER, RESETS, REVERTS, BANNER, image=builds[1].image)
    text = str(caught.value)
    assert f"s after its banner: {CAUSE}, then reset" in text
    assert "it booted 2 times, reset once by this host" in text
    assert "MCUboot reverted: the image that was there before runs again" in text
    assert "in the build that faulted" in text


def test_without_mcuboots_log_the_applications_own_version_tells_that_it_reverted(far, console_unit, builds):
    pieces = [BANNER, b"application 1.1.0\r\n", RESETS, BANNER, b"application 1.0.0\r\n"]
    with pytest.raises(NotBooted, match=r"the image that was there before runs again \(version 1\.0\.0\)"):
        after_reset(far, console_unit, *pieces, image=builds[1].image)


def test_the_same_version_that_runs_after_a_fault_runs(far, console_unit, builds):
    pieces = [BANNER, b"application 1.1.0\r\n", RESETS, BANNER, b"application 1.1.0\r\n"]
    assert after_reset(far, console_unit, *pieces, image=builds[1].image) == "console"
    assert told(console_unit, 0, builds[1].image).endswith("the same version booted each time: 1.1.0")


def test_after_a_fault_a_banner_that_names_no_version_proves_nothing(far, console_unit, builds):
    with pytest.raises(NotBooted, match="whether the image from before came back, the console does not tell"):
        after_reset(far, console_unit, BANNER, RESETS, BANNER, image=builds[1].image)


def test_errors_of_mcuboot_are_told(far, console_unit):
    with pytest.raises(NotBooted, match="MCUboot logged 'Unable to find bootable image'"):
        after_reset(far, console_unit, b"I: Starting bootloader\r\nE: Unable to find bootable image\r\n")


def test_an_image_that_was_started_and_taken_back_has_not_booted(far, no_rig_unit, builds):
    """By the list of the image that was there before."""
    board(far, listing(builds[0].hash), before=[BANNER, RESETS, BANNER])
    with pytest.raises(NotBooted) as caught:
        boot(no_rig_unit, builds[1].image)
    text = str(caught.value)
    assert "it did not stay: it faulted 0." in text
    assert f"s after its banner: {CAUSE}, then reset; it booted 2 times" in text
    assert text.count("reverted") == 1
    assert f"reverted: version 1.0.0 with hash {builds[0].hash.hex()} runs now" in text
    assert "  E: ***** MPU FAULT *****" in text


def test_what_the_console_told_is_there_for_others(far, no_rig_unit, builds):
    position = no_rig_unit.console_uart.console.position
    board(far, listing(builds[0].hash), before=[BANNER])
    assert boot(no_rig_unit, builds[0].image) == "image list"
    assert (told(no_rig_unit, position), dump(no_rig_unit, position)) == ("", "")
    far.write(DUMP)
    wait_for_text(no_rig_unit.uart, "20000a48 (main)\n")
    assert re.fullmatch(rf"it faulted \d+\.\d\d s after its banner: {re.escape(CAUSE)}", told(no_rig_unit, position))
    assert dump(no_rig_unit, position).startswith(f"{CAUSE}\n  E: ***** MPU FAULT *****\n")


# --- a bootloader's banner, and a swap ------------------------------------------------------------------------------


def test_an_older_bootloaders_banner_is_not_the_applications(far, console_unit):
    """Its log tells, which follows the banner."""
    with pytest.raises(NotBooted):
        after_reset(far, console_unit, BANNER, OLDER)
    assert after_reset(far, console_unit, BANNER, OLDER, BANNER) == "console"


def test_an_older_bootloaders_banner_is_waited_for_to_be_followed_by_its_log(far, console_unit):
    position = console_unit.console_uart.console.position
    far.write(BANNER)
    threading.Timer(0.05, far.write, (OLDER,)).start()
    with pytest.raises(NotBooted):
        wait_running(console_unit, position)


def test_half_a_banner_of_the_bootloader_is_no_reason_to_speak(far, no_rig_unit):
    """As half of an application's would be, before the time is over in which the bootloader must not be disturbed."""
    board(far, None)
    position, began = no_rig_unit.console_uart.console.position, no_rig_unit.now()
    far.write(b"*** Booting MCU")
    wait_for_text(no_rig_unit.uart, "*** Booting MCU")
    threading.Timer(0.05, far.write, (b"boot v2.1.0 ***\r\n",)).start()
    with pytest.raises(NotBooted):
        wait_running(no_rig_unit, position)
    sent = [t.time for t in no_rig_unit.uart.traffic if t.direction == "tx"]
    assert sent[0] >= began + no_rig_unit.config.boot.timeout / 2


def test_a_swap_may_take_longer_than_a_boot(far, console_unit):
    position = console_unit.console_uart.console.position
    threading.Timer(0.9, far.write, (BANNER,)).start()
    assert wait_running(console_unit, position, None, Restart(extra=3600)) == "console"


def test_the_time_that_was_waited_is_told_with_the_swaps(far, console_unit):
    with pytest.raises(NotBooted, match=r"not seen running within 0\.7 s"):
        after_reset(far, console_unit, restart=Restart(extra=0.1))


def test_nothing_is_sent_while_a_bootloader_that_waits_for_an_update_may_swap(far, no_rig_unit, monkeypatch):
    """MCUboot receives while it swaps, and would stay in recovery."""
    monkeypatch.setattr(no_rig_unit, "profile", replace(no_rig_unit.profile, wait_for_dfu=0.1))
    board(far, None)
    position = no_rig_unit.console_uart.console.position
    threading.Timer(1.2, far.write, (BANNER,)).start()
    assert wait_running(no_rig_unit, position, None, Restart(extra=3600)) == "console"
    (*_, first) = [t for t in no_rig_unit.uart.traffic if t.direction == "rx"]
    assert all(t.time >= first.time for t in no_rig_unit.uart.traffic if t.direction == "tx")


def test_a_server_that_is_known_is_waited_for_past_the_banner(far, no_rig_unit, builds):
    board(far, None)
    with pytest.raises(NotBooted) as caught:
        after_reset(far, no_rig_unit, BANNER, restart=Restart(smp=True))
    text = str(caught.value)
    assert re.search(r"its banner came 0\.\d\d s after the reset, no fault followed, and its SMP server did not", text)
    assert "[boot] smp = false" in text
    assert "CONFIG_BOOTLOADER_MCUBOOT" not in text, "it has booted"
    assert "Booting" not in text


def test_the_boot_time_is_known_afterwards(far, console_unit):
    view = ConsoleView(console_unit.console_uart.console, "bare")
    after_reset(far, console_unit, BANNER, restart=Restart(how="pin reset"))
    assert view.boot is not None
    assert view.boot.reset == "pin reset"
    assert 0 <= view.boot.banner_after < 0.6


# --- the simulated board --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (
            "halts",
            r"it faulted 0\.\d+ s after its banner: MPU FAULT \(Data Access .*: 0x0\), .* thread main, then halted",
        ),
        (
            "faults",
            r"it faulted \d times, first 0\.\d+ s after .*: MPU FAULT .* then reset; it booted \d times, reset once",
        ),
        ("boot-loops", r"it booted \d+ times without a word why, reset once by this host, a boot loop"),
        ("silent", r"RESETREAS, since it was last cleared: reset pin, which hides all others"),
    ],
)
def test_a_simulated_application_that_dies_is_told(builds, behaviour, expected):
    sim = {"image": builds[0].path, "applications": {"*": behaviour}, "bootloader_log": True}
    with wired(sim=sim, boot={"smp": False, "timeout": 1.0}) as dying:
        enter(dying.unit)
        with pytest.raises(NotBooted, match=expected) as caught:
            boot(dying.unit, builds[0].image)
        assert ("\n  E: ***** MPU FAULT *****\n" in str(caught.value)) == (behaviour in {"faults", "halts"})
