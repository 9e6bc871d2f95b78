"""The ways into serial recovery, and what is said when none worked."""

import pytest

from board.conftest import answer, wired
from board.shelf import of_this_module
from pytest_nrfdfu.board.boot import boot
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.errors import LineError, PortGone, RecoveryNotEntered, SmpTimeout
from pytest_nrfdfu.smp.header import Group, Op
from pytest_nrfdfu.smp.messages import ImageState, ImageStates

shelf = of_this_module()
HASH = b"\x11" * 32
RECOVERY = {"images": [{"slot": 0, "version": "1.0.0", "hash": HASH}]}
APPLICATION = {"images": [{"slot": 0, "version": "1.0.0", "hash": HASH, "active": True}], "splitStatus": 0}


def entries(unit, monkeypatch, *names, timeout=5.0):
    settings = unit.config.recovery.model_copy(update={"entry": names, "timeout": timeout})
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"recovery": settings}))


# --- who answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split_status", "active", "flags_first", "has_state", "expected"),
    [
        (None, None, False, False, True),
        (0, True, False, False, False),
        (0, None, False, False, False),
        (None, True, False, False, False),  # CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST leaves splitStatus out
        (None, True, False, True, False),
        (None, True, True, True, True),
        (0, True, False, True, False),
    ],
)
def test_application_and_recovery_are_told_apart(split_status, active, flags_first, has_state, expected):
    states = ImageStates((ImageState(0, "1.0.0", HASH, active=active),), split_status, {}, flags_first)
    assert from_recovery(states, has_state=has_state) is expected


def test_an_update_of_the_application_says_nothing_of_the_network_core():
    """MCUboot's list of two images: one waits, the other does not."""
    first, second = ImageState(0, "1.0.0", HASH, confirmed=True), ImageState(1, "1.1.0", HASH, pending=True)
    other = ImageState(0, "2.0.0", HASH, image=1, active=True)
    assert from_recovery(ImageStates((first, second, other), None, {}, flags_first=True), has_state=True)


def test_a_list_without_an_active_image_is_recoverys():
    """As newer MCUboot's, which has flags, and not that one."""
    assert from_recovery(ImageStates((ImageState(0, "1.0.0", HASH, confirmed=True),), None, {}), has_state=True)


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
    why, tried = text.index("MCUboot started the application"), text.index("Tried pin-reset (reset: pin): ")
    seen, advice = text.index("Seen on "), text.index("Build MCUboot with CONFIG_BOOT_SERIAL_PIN_RESET")
    assert why < tried < seen < advice
    assert text.startswith("sim did not enter serial recovery: ")
    assert " requests in 0.50 s, and no answer" in text
    assert "nrfdfu-sim: application 1.0.0" in text
    assert "Reset causes (RESETREAS): reset pin." in text
    assert f"Seen on {sim.unit.config.uart.port} at {sim.unit.config.uart.baudrate} baud: " in text
    assert caught.value.diagnosis.cause == "pin-reset-entry-not-built-in"
    assert isinstance(caught.value.__cause__, SmpTimeout)
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
        with pytest.raises(RecoveryNotEntered, match="its pin reads low and the board was reset"):
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
    with pytest.raises(RecoveryNotEntered, match="The recovery line cannot be driven: relay 3 jammed") as caught:
        enter(sim.unit)
    assert isinstance(caught.value.__cause__, LineError)
    assert calls[:2] == [True, False]
    assert calls[-1] is False
    entries(sim.unit, monkeypatch, "gpio", "pin-reset", timeout=0.5)
    with pytest.raises(RecoveryNotEntered, match=r"Tried gpio \(reset: pin\): relay 3 jammed. Tried pin-reset "):
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
    assert "Tried smp (reset: smp): only the application answered, not the bootloader." in text
    assert "answers of the running application" in text
    assert caught.value.diagnosis.cause == "application-too-old"
    assert "CONFIG_MCUMGR_GRP_OS_RESET_BOOT_MODE" in text
    assert "image_state = true" not in text


def test_flags_without_split_status_are_told(far, no_rig_unit):
    """Perhaps it is the bootloader, built with image state, and the configuration does not say so."""
    (image,) = APPLICATION["images"]
    application(far, lists={"images": [{"active": True} | image]})  # in MCUboot's order
    with pytest.raises(RecoveryNotEntered, match=r"set image_state = true in \[bootloader\]"):
        enter(no_rig_unit)


def test_a_refusal_is_the_applications(far, no_rig_unit):
    """An application without the image group answers rc 8; MCUboot always has a list."""
    refusals = iter([{"rc": 8}, {"rc": 8}, {"rc": 8}])
    left = {"lists": 0}

    def script(request, _payload):
        if request.group == Group.OS:
            return [answer(request, {"rc": 0})]
        left["lists"] += 1
        return [answer(request, next(refusals, RECOVERY))]

    far.script = script
    assert enter(no_rig_unit).images.find().hash == HASH
    assert left["lists"] == 4


def test_silence_is_told(far, no_rig_unit):
    with pytest.raises(RecoveryNotEntered, match=r"Seen on .*: nothing\.") as caught:
        enter(no_rig_unit)
    assert caught.value.diagnosis.cause == "application-silent"


def test_an_answer_before_the_reset_is_the_applications(far, no_rig_unit, monkeypatch):
    """An OS reset is answered first; a list that comes until the reset has happened is not believed."""
    boot = no_rig_unit.config.boot.model_copy(update={"reset_delay": 0.3})
    monkeypatch.setattr(no_rig_unit, "config", no_rig_unit.config.model_copy(update={"boot": boot}))
    asked = []

    def script(request, _payload):
        if request.group == Group.OS:
            asked.append(no_rig_unit.now())
            return [answer(request, {"rc": 0})]
        if asked:
            asked.append(no_rig_unit.now())
            return [answer(request, RECOVERY)]
        return [answer(request, APPLICATION)]

    far.script = script
    assert enter(no_rig_unit).method == "smp"
    assert asked[1] - asked[0] >= 0.3


def test_an_application_that_comes_back_is_not_waited_for(far, no_rig_unit, monkeypatch):
    """Its banner after the reset says enough: before Zephyr 4.2 nobody looks at boot_mode."""
    entries(no_rig_unit, monkeypatch, "smp", timeout=30.0)

    def script(request, _payload):
        if request.group == Group.OS:
            return [answer(request, {"rc": 0}), b"*** Booting Zephyr OS build v3.5.0 ***\r\n"]
        return [answer(request, APPLICATION)]

    far.script = script
    with pytest.raises(RecoveryNotEntered, match="the application answered again after the reset") as caught:
        enter(no_rig_unit)
    assert caught.value.diagnosis.cause == "application-too-old"


# --- ports that go --------------------------------------------------------------------------------------------------


def test_a_port_that_is_gone_is_told(far, no_rig_unit, monkeypatch):
    monkeypatch.setattr("pytest_nrfdfu.board.trial._LEAST_REOPEN", 0.1)

    def script(_request, _payload):
        no_rig_unit.uart._lost(no_rig_unit.uart._opened, OSError(5, "Input/output error"))
        return []

    far.script = script
    with pytest.raises(RecoveryNotEntered) as caught:
        enter(no_rig_unit)
    assert caught.value.diagnosis.cause == "port-gone"
    assert isinstance(caught.value.__cause__, PortGone)


@pytest.fixture
def usb(shelf, builds):
    """A board whose port is the target's own USB: every reset takes it away."""
    sim = {"image": builds[0].path, "uart_vanishes": True, "application_smp": "full", "entrance": ["gpio", "boot-mode"]}
    with shelf.lend(sim, boot={"timeout": 8.0}) as board:
        yield board


@pytest.mark.parametrize("entry", ["gpio", "boot-mode", "smp"])
def test_a_port_that_vanishes_during_the_reset_is_found_again(usb, monkeypatch, entry):
    entries(usb.unit, monkeypatch, entry, timeout=8.0)
    usb.unit.uart.reopen(usb.unit.now() + 10)
    before = usb.unit.uart._opened
    entered = enter(usb.unit)
    assert entered.method == entry
    assert usb.unit.uart._opened is not before, "it was found again and opened anew"
    assert usb.admin.counters()["in_recovery"]
    assert boot(usb.unit) == "image list"
    assert usb.admin.counters()["program"] == "application"


def test_a_port_that_vanishes_during_the_upload_is_a_bench_error_that_says_where(usb, builds, monkeypatch):
    entries(usb.unit, monkeypatch, "gpio", timeout=8.0)
    usb.unit.uart.reopen(usb.unit.now() + 10)
    reports = []
    usb.admin.reset_after(uploads=5, cause="RESETPIN")
    with pytest.raises(PortGone, match=r"upload stopped at offset \d+ of \d+ bytes, because of the port") as caught:
        Dfu(usb.unit, done=reports.append).update(builds[1])
    assert caught.value.category == "bench"
    (report,) = reports
    assert (report.verified, report.proof) == (False, "the port was lost")
    assert 0 < report.bytes < len(builds[1].image.data)
    assert Dfu(usb.unit).update(builds[1]).verified, "the next one works"
