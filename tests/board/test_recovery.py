"""The ways into serial recovery, and what is said when none worked."""

import pytest

from board.conftest import answer, wired
from pytest_nrfdfu.board import recovery
from pytest_nrfdfu.board.boot import boot
from pytest_nrfdfu.board.recovery import enter, from_recovery
from pytest_nrfdfu.errors import LineError, PortGone, RecoveryNotEntered
from pytest_nrfdfu.smp.header import Group, Op
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

HASH = b"\x11" * 32
RECOVERY = {"images": [{"slot": 0, "version": "1.0.0", "hash": HASH}]}
APPLICATION = {"images": [{"slot": 0, "version": "1.0.0", "hash": HASH, "active": True}], "splitStatus": 0}


def entries(unit, monkeypatch, *names, timeout=5.0):
    settings = unit.config.recovery.model_copy(update={"entry": names, "timeout": timeout})
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"recovery": settings}))


# --- who answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split_status", "active", "has_state", "expected"),
    [
        (None, None, False, True),
        (0, True, False, False),
        (0, None, False, False),
        (None, True, False, False),  # CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST leaves splitStatus out
        (None, True, True, True),
        (0, True, True, False),
    ],
)
def test_application_and_recovery_are_told_apart(split_status, active, has_state, expected):
    states = ImageStates((ImageState(0, "1.0.0", HASH, active=active),), split_status, {})
    assert from_recovery(states, has_state=has_state) is expected


def test_an_empty_list_is_recoverys():
    assert from_recovery(ImageStates((), None, {}), has_state=False)


# --- the simulated board --------------------------------------------------------------------------------------------


def test_the_recovery_pin_is_held_through_a_pin_reset(sim, builds):
    session = sim.unit.session
    entered = enter(sim.unit)
    assert entered.method == "gpio"
    assert entered.images.find().hash == builds[0].hash
    assert sim.unit.session == session + 1
    counters = sim.admin.counters()
    assert counters["in_recovery"]
    assert not counters["recovery_pin_low"], "the pin is let go of as soon as recovery answers"
    assert sim.resets() == {"RESETPIN": 1}


def test_a_way_that_is_not_built_in_is_told_with_what_was_seen(sim, monkeypatch):
    entries(sim.unit, monkeypatch, "pin-reset", timeout=0.5)
    with pytest.raises(RecoveryNotEntered) as caught:
        enter(sim.unit)
    text = str(caught.value)
    tried, seen, advice = text.index("Tried: pin-reset: "), text.index("Seen: "), text.index("Check ")
    assert tried < seen < advice
    assert "sim did not enter serial recovery within 0.5 s" in text
    assert "nrfdfu-sim: application 1.0.0" in text
    assert "reset causes (RESETREAS): reset pin" in text
    assert f"listens on {sim.unit.config.uart.port}" in text
    assert not sim.admin.counters()["in_recovery"]


def test_ways_are_tried_in_order(sim, monkeypatch):
    entries(sim.unit, monkeypatch, "pin-reset", "gpio", timeout=0.7)
    assert enter(sim.unit).method == "gpio"
    assert sim.resets() == {"RESETPIN": 2}


def test_a_pin_reset_alone_enters_where_it_is_built_in(builds):
    settings = {"entrance": ["pin-reset"], "image": builds[0].path}
    with wired(sim=settings, recovery={"entry": ["pin-reset"]}) as board:
        board.admin.reset_counters()
        assert enter(board.unit).method == "pin-reset"
        assert board.resets() == {"RESETPIN": 1}
        assert boot(board.unit) == "console"


def test_a_pin_that_the_bootloader_ignores_is_told_and_let_go_of(builds):
    settings = {"entrance": ["boot-mode"], "image": builds[0].path}
    with wired(sim=settings, recovery={"timeout": 0.6}) as board:
        with pytest.raises(RecoveryNotEntered, match=r"Tried: gpio: .*recovery line reaches MCUboot's button"):
            enter(board.unit)
        assert not board.admin.counters()["recovery_pin_low"]


def test_the_pin_is_let_go_of_whatever_happens(sim, monkeypatch):
    def interrupted(*_args):
        assert sim.admin.counters()["recovery_pin_low"]
        raise KeyboardInterrupt

    monkeypatch.setattr(sim.unit.client, "poll_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        enter(sim.unit)
    assert not sim.admin.counters()["recovery_pin_low"]


def test_a_line_that_fails_while_it_is_asserted_is_released(sim, monkeypatch):
    calls = []

    def failing(name, *, asserted):
        calls.append(asserted)
        if asserted:
            raise LineError("relay 3 jammed")

    monkeypatch.setattr(sim.unit.rig, "set_line", failing)
    with pytest.raises(LineError, match="relay 3 jammed"):
        enter(sim.unit)
    assert calls == [True, False]
    entries(sim.unit, monkeypatch, "gpio", "pin-reset", timeout=0.5)
    with pytest.raises(RecoveryNotEntered, match=r"Tried: gpio: relay 3 jammed; pin-reset: "):
        enter(sim.unit)


# --- a scripted board: asked by SMP ---------------------------------------------------------------------------------


def application(far, *, leaves_after=1 << 30, lists=APPLICATION):
    """A script: an application that acknowledges a reset and is gone `leaves_after` more requests later."""
    left = {"reset": False, "requests": leaves_after}

    def script(request, _payload):
        if request.group == Group.OS:
            left["reset"] = left["reset"] or request.op == Op.WRITE
            return [answer(request, {"rc": 0})]
        if left["reset"]:
            left["requests"] -= 1
        return [answer(request, lists if left["requests"] >= 0 else RECOVERY)]

    far.script = script
    return left


def test_an_application_is_asked_to_reboot_and_not_taken_for_recovery(far, no_rig_unit):
    application(far, leaves_after=2)
    entered = enter(no_rig_unit)
    assert entered.method == "smp"
    assert entered.images.split_status is None
    resets = [payload for header, payload in far.requests if header.group == Group.OS]
    assert resets == [{"boot_mode": 1}]


def test_a_board_that_is_in_recovery_already_is_not_reset(far, no_rig_unit):
    far.script = lambda request, _: [answer(request, RECOVERY)]
    enter(no_rig_unit)
    assert [header.group for header, _ in far.requests] == [Group.IMAGE]


def test_an_application_that_stays_is_told(far, no_rig_unit):
    application(far)
    with pytest.raises(RecoveryNotEntered) as caught:
        enter(no_rig_unit)
    text = str(caught.value)
    assert "Tried: smp: only the application answered, not the bootloader" in text
    assert "so the board had booted" in text
    assert "CONFIG_MCUMGR_GRP_OS_RESET_BOOT_MODE" in text
    assert "image_state = true" not in text


def test_flags_without_split_status_are_told(far, no_rig_unit):
    """Perhaps it is the bootloader, built with image state, and the configuration does not say so."""
    application(far, lists={"images": APPLICATION["images"]})
    with pytest.raises(RecoveryNotEntered, match=r"set image_state = true in \[bootloader\]"):
        enter(no_rig_unit)


def test_a_refusal_is_the_applications(far, no_rig_unit, monkeypatch):
    monkeypatch.setattr(recovery, "_ENTRIES", {"smp": recovery._wait})
    refusals = iter([{"rc": 8}, {"rc": 8}])
    far.script = lambda request, _: [answer(request, next(refusals, RECOVERY))]
    assert enter(no_rig_unit).images.find().hash == HASH


def test_silence_is_told(far, no_rig_unit):
    with pytest.raises(RecoveryNotEntered, match="nothing came from the board meanwhile"):
        enter(no_rig_unit)


def test_a_lost_port_is_not_a_matter_of_the_way(far, no_rig_unit):
    def script(_request, _payload):
        no_rig_unit.uart._lost(no_rig_unit.uart._opened, OSError(5, "Input/output error"))
        return []

    far.script = script
    with pytest.raises(PortGone):
        enter(no_rig_unit)
