"""Leaving recovery, and seeing the application run."""

import pytest

from board.conftest import FarEnd, answer, wired
from pytest_nrfdfu.board.boot import banner_line, boot, wait_running
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone
from pytest_nrfdfu.smp.header import Group

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
    assert "bare was reset and the application was not seen running within 0.6 s: the console printed nothing" in text
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
def test_a_bootloader_that_waits_for_an_update_is_not_kept_waiting(builds, smp):
    sim = {"image": builds[0].path, "entrance": ["gpio", "wait-for-dfu"]}
    tables = {"boot": {"smp": smp, "timeout": 6.0 if smp is None else 3.0}}
    with wired(sim=sim, **tables) as waiting:
        enter(waiting.unit)
        waiting.admin.reset_counters()
        if smp is None:
            assert boot(waiting.unit, builds[0].image) == "console"
        else:  # the simulated application has no server: it runs, and cannot be seen
            with pytest.raises(NotBooted):
                boot(waiting.unit, builds[0].image)
        assert waiting.admin.counters()["program"] == "application"
        assert waiting.resets() == {"SREQ": 1}
