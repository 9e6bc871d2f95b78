"""What becomes of a staged update whose transfer fails in the block, and of one whose application resets itself."""

import re
from dataclasses import replace

import pytest
import simulator
from staging import StagingClient

from board.conftest import make_build, wired, with_only
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.errors import HashMismatch, NotBooted, SmpTimeout
from pytest_nrfdfu.smp.messages import ImageState

SIM = {"staging": True, "application_smp": "full"}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return {version: make_build(folder, version) for version in ("1.0.0", "1.1.0", "9.9.9")}


def board(builds, *, bootloader=None, **sim):
    tables = {"bootloader": bootloader} if bootloader else {}
    return wired(sim=SIM | {"image": builds["1.0.0"].path} | sim, boot={"timeout": 4.0}, **tables)


@pytest.fixture(scope="module")
def _board(builds):
    with board(builds, applications={"9.9.9": "faults"}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """With version 1.0.0 running, and slot 1 erased."""
    return with_only(_board, builds["1.0.0"])


def transport(sim):
    return StagingClient(sim.simulator.staging)


def shown(build):
    return f"version {build.version} (hash {build.hash.hex()[:12]})"


def broken_off(sim, build, body, error):
    """The report of an update in whose block `body` is called, which raises `error`."""
    reports = []
    with pytest.raises(error), Dfu(sim.unit, done=reports.append).staged(build, timeout=20) as update:
        body(update)
    (report,) = reports
    assert update.report == report
    assert (report.verified, report.via, report.running) == (False, "staged", "not started")
    assert [phase.name for phase in report.timeline] == ["check", "transfer"]
    return report


# --- the transfer fails -----------------------------------------------------------------------------------------------


def test_a_transfer_that_fails_leaves_a_report(sim, builds):
    """With what the application's list shows then."""
    new = builds["1.1.0"]

    def body(_update):
        with transport(sim) as link:
            link.send(new.image.data)
        raise ConnectionResetError("the gateway hung up\nfor good")

    report = broken_off(sim, new, body, ConnectionResetError)
    assert report.proof == "the transfer in the block failed"
    assert report.notes[1] == (
        "the block ended with ConnectionResetError: the gateway hung up; then the application's image list showed"
        f" {shown(builds['1.0.0'])} in slot 0 and {shown(new)} in slot 1, the image in slot 1, and not pending"
    )
    assert sim.unit.holds == f"{shown(builds['1.0.0'])}, shown as active by the application's list"


@pytest.mark.parametrize("error", [SmpTimeout("no answer to the product's own request"), pytest.fail.Exception("late")])
def test_whatever_kind_of_error_it_raises(sim, builds, error):
    """One of this package's is told once, and one of pytest's own, which is no Exception, is told too."""

    def body(_update):
        raise error

    report = broken_off(sim, builds["1.1.0"], body, type(error))
    assert report.proof == "the transfer in the block failed"
    assert report.notes[1].startswith(f"the block ended with {type(error).__name__}: {error}; then the application's")
    assert report.notes[1].endswith("no image in slot 1, the image not in slot 1")


def test_a_board_that_does_not_answer_masks_nothing(sim, builds):
    def body(_update):
        sim.admin.set_reset_pin(low=True)
        raise TimeoutError

    try:
        report = broken_off(sim, builds["1.1.0"], body, TimeoutError)
    finally:
        sim.admin.set_reset_pin(low=False)
    assert re.search(
        r"ended with TimeoutError; what the board holds then was not told: .* not answered$", report.notes[1]
    )


def test_a_port_that_is_gone_masks_nothing(sim, builds):
    def body(_update):
        sim.unit.uart.close()
        raise TimeoutError

    try:
        report = broken_off(sim, builds["1.1.0"], body, TimeoutError)
    finally:
        sim.unit.open()
    assert "what the board holds then was not told" in report.notes[1]


def test_a_test_that_fails_after_it_was_pending_says_so(sim, builds):
    new = builds["1.1.0"]

    def body(update):
        with transport(sim) as link:
            link.stage(new)
        update.wait_pending()
        raise AssertionError

    report = broken_off(sim, new, body, AssertionError)
    assert report.proof == "the test failed in the block"
    assert report.notes[1] == "seen pending by the application's image list"
    assert report.notes[2].endswith(f"{shown(new)} in slot 1, the image pending")


def test_never_pending_in_the_block_is_told_as_that(sim, builds):
    report = broken_off(sim, builds["1.1.0"], lambda update: update.wait_pending(0.2), HashMismatch)
    assert report.proof == "not seen pending"
    assert len(report.notes) == 1


def test_a_fault_in_the_block_is_told(sim, builds):
    """The test lets the board swap, and the image faults, and goes."""
    bad = builds["9.9.9"]

    def body(_update):
        with transport(sim) as link:
            link.stage(bad)
            before = sim.unit.console_uart.console.position
            link.say("reboot")
        told = re.compile(r"FATAL ERROR(?s:.)*application 1\.0\.0")
        assert sim.unit.console_uart.console.wait_for(told, before, simulator.DEADLINE)
        raise TimeoutError

    note = broken_off(sim, bad, body, TimeoutError).notes[-1]
    assert ". By the console it faulted" in note
    assert "MPU FAULT" in note


def test_who_stops_the_run_waits_for_no_board(sim, builds):
    """Ctrl-C: a row that says where it was, and what follows for the board, which is asked nothing any more."""
    reports, sent = [], []

    def stop():
        sent.append(len(sim.unit.transcript()))
        raise KeyboardInterrupt

    dfu = Dfu(sim.unit, done=reports.append)
    with pytest.raises(KeyboardInterrupt), dfu.staged(builds["1.1.0"]) as update:
        stop()
    assert len(sim.unit.transcript()) == sent[0]
    (report,) = reports
    assert update.report == report
    assert (report.proof, report.running) == ("broken off in the transfer", "not seen")
    assert report.notes[-1].startswith("broken off in the transfer by KeyboardInterrupt; what came of version 1.1.0 in")
    assert sim.unit.holds == (
        "not known: what came of version 1.1.0 in slot 1 was not seen: if it is pending, the next reset swaps it in, on"
        f" trial: unless it is confirmed, the reset after that brings {shown(builds['1.0.0'])} back"
    )


# --- time -------------------------------------------------------------------------------------------------------------


def test_the_time_is_the_blocks(builds):
    """Not that of the check before it, which takes two seconds where nobody answers."""
    reports = []
    with board(builds, application_smp="none") as sim:
        dfu = Dfu(sim.unit, done=reports.append)
        with pytest.raises(HashMismatch), dfu.staged(builds["1.1.0"], timeout=1.0, pending="never"):
            pass
    check, transfer, pending = reports[0].timeline
    assert check.end - check.start > 1.0, "or this test shows nothing"
    assert pending.end - transfer.start >= 1.0


def test_the_swap_after_a_reset_of_its_own_has_its_own_time(builds):
    """The time is over when MCUboot still swaps."""
    new = builds["1.1.0"]
    with (
        board(builds, flash_timing="datasheet") as sim,
        Dfu(sim.unit).staged(new, timeout=20, reset=False) as update,
        transport(sim) as link,
    ):
        link.stage(new)
        update.wait_pending(0.1)
        sim.admin.reset_counters()
        assert link.say("reboot") == "ok"
        simulator.wait_until(lambda: sim.admin.counters()["resets"].get("SREQ"), "the reset")
        simulator.wait_until(lambda: sim.unit.now() > update._deadline, "the end of the time")
    assert update.report.verified


# --- no banner --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 0.3])
def test_without_a_banner_the_list_shows_that_it_has_reset_itself(builds, window):
    """A bootloader that waits for an update is asked nothing before the time is over: it would take the request."""
    new = builds["1.1.0"]
    more = {"wait_for_dfu": window, "entrance": ["gpio", "wait-for-dfu"]} if window else {}
    with board(builds, applications={"1.1.0": "silent"}, bootloader={"wait_for_dfu": window}, **more) as sim:
        sim.unit.swap_seconds = 0.5  # as if learned: its swaps take no time
        with Dfu(sim.unit).staged(new, timeout=3, reset=False) as update, transport(sim) as link:
            link.stage(new)
            update.wait_pending()
            assert link.say("reboot") == "ok"
        report = update.report
        assert (report.verified, report.running, report.confirmed) == (True, "image list", True)
        assert report.notes[-1] == (
            "no boot banner came: that it has reset itself was seen by the application's image list"
        )


def test_mcuboot_s_own_list_is_not_the_application_s(sim, builds, monkeypatch):
    """It has reset itself, MCUboot has swapped, and the request met its window: with flags its list looks alike."""
    listed, new = sim.unit.client.images, builds["1.1.0"]

    def by_mcuboot(**told):
        state = ImageState(slot=0, version="1.1.0", hash=new.hash, active=True)
        return listed(**told)._replace(images=(state,), split_status=None, flags_first=True)

    def reset_itself():
        monkeypatch.setattr(sim.unit, "profile", replace(sim.unit.profile, image_state=True))
        monkeypatch.setattr(sim.unit.client, "images", by_mcuboot)

    dfu = Dfu(sim.unit)
    with pytest.raises(HashMismatch, match="serial recovery answers"), dfu.staged(new, reset=False):
        reset_itself()


def test_one_that_does_not_reset_itself_is_told(sim, builds, monkeypatch):
    monkeypatch.setattr(sim.unit, "swap_seconds", 0.1)  # as if learned: its swaps take no time
    new = builds["1.1.0"]
    told = (
        r"did not reset within 1 s, .*no banner came, and the application's image list shows version 1\.0\.0 .* still"
    )
    dfu = Dfu(sim.unit)
    with pytest.raises(NotBooted, match=told), dfu.staged(new, timeout=1, reset=False), transport(sim) as link:
        link.stage(new)
