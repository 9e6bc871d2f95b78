"""Updates that the application stages itself, over a transport that the plugin knows nothing of."""

import re
from contextlib import suppress

import pytest
import simulator
from staging import StagingClient

from board.conftest import make_build, wired, with_only
from pytest_nrfdfu.board.console_evidence import Heard
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.errors import HashMismatch, NotBooted, UpdateRefused


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return {version: make_build(folder, version) for version in ("1.0.0", "1.1.0", "1.2.0", "7.7.7", "8.8.8", "9.9.9")}


def board(builds, *, boot=None, **sim):
    table = {"image": builds["1.0.0"].path, "staging": True, "application_smp": "full"} | sim
    return wired(sim=table, boot=boot or {"timeout": 4.0})


def unpaced(sim):
    """Its swaps take no time, and nobody is to wait for what they would take."""
    sim.unit.client.link = type(sim.unit.client.link)(baudrate=None, erase_page=0.0, write_word=0.0)


def reset_by_probe(sim):
    """And the application runs."""
    before = sim.unit.console_uart.console.position
    sim.unit.rig.reset("pin")
    simulator.wait_until(lambda: "*** Booting" in sim.unit.console_uart.console.since(before), "the banner")
    simulator.wait_until(lambda: sim.admin.counters()["program"] == "application", "the application")


def slots(sim):
    """The hashes in both slots, by the simulator's own word."""
    return tuple(sim.admin.flash_hash(slot).image_hash for slot in (0, 1))


@pytest.fixture(scope="module")
def _board(builds):
    with board(builds, applications={"9.9.9": "faults"}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """A board of this module's own, with version 1.0.0 running and slot 1 erased."""
    return with_only(_board, builds["1.0.0"])


@pytest.fixture(scope="module")
def _silent(builds):
    """Its application has no SMP server."""
    with board(builds, application_smp="none") as found:
        yield found


@pytest.fixture
def silent(_silent, builds):
    Dfu(_silent.unit).update(builds["1.0.0"])
    return _silent


def transport(sim):
    return StagingClient(sim.simulator.staging)


def test_it_is_proved_pending_and_running_by_the_applications_list(sim, builds):
    new, reports = builds["1.1.0"], []
    sim.unit.network_core = b"n" * 32
    with Dfu(sim.unit, done=reports.append).staged(new, timeout=20) as update, transport(sim) as link:
        link.stage(new)
        assert update.report is None
    assert sim.unit.network_core is None, "the application may have updated that as well"
    report = update.report
    assert reports == [report]
    assert (report.verified, report.proof, report.hash, report.running) == (True, "image list", new.hash, "image list")
    assert (report.via, report.swap, report.confirmed, report.bytes) == ("staged", "move", True, 0)
    assert report.swapped is True
    assert report.notes == (
        "staged by the application itself: no byte of it was sent from here",
        "seen pending by the application's image list",
    )
    phases = ["check", "transfer", "pending", "swap", "boot", "confirm"]
    assert [phase.name for phase in report.timeline] == phases
    assert sim.admin.flash_hash().image_hash == new.hash


def test_the_test_may_wait_for_it_in_the_block(sim, builds):
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20, confirm=False) as update:
        with transport(sim) as link:
            link.stage(new)
        assert update.wait_pending() == "the application's image list"
    assert update.report.confirmed is False
    assert Dfu(sim.unit).revert().hash == builds["1.0.0"].hash


def test_the_application_may_reset_by_itself(sim, builds):
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20, reset=False) as update, transport(sim) as link:
        link.stage(new)
        update.wait_pending()
        link.ask("reboot")
    assert update.report.verified
    assert sim.resets()["SREQ"] >= 1


def test_a_transfer_that_did_not_schedule_is_told(sim, builds):
    new = builds["1.1.0"]
    with (
        pytest.raises(
            HashMismatch, match=r"not seen pending within 1 s: in slot 1, and not pending.*dfu_target_schedule"
        ),
        Dfu(sim.unit).staged(new, timeout=1),
        transport(sim) as link,
    ):
        link.send(new.image.data)


def test_nothing_came(sim, builds):
    told = r"not in slot 1; slot 1 holds no image\. Look at whether the transfer ended"
    with pytest.raises(HashMismatch, match=told), Dfu(sim.unit).staged(builds["1.1.0"], timeout=1):
        pass


def test_never_pending_is_the_reports_word(sim, builds):
    reports = []
    with pytest.raises(HashMismatch), Dfu(sim.unit, done=reports.append).staged(builds["1.1.0"], timeout=0.5):
        pass
    assert [(report.proof, report.running) for report in reports] == [("not seen pending", "not started")]
    assert sim.unit.holds.startswith("version 1.0.0 (hash ")


def test_an_own_reset_is_the_one_after_it_was_pending(sim, builds):
    """One in the middle of the transfer is the test's: its banner does not count."""
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20, reset=False) as update:
        reset_by_probe(sim)
        with transport(sim) as link:
            link.stage(new)
            update.wait_pending()
            link.ask("reboot")
    assert update.report.verified


def test_another_image_that_was_left_pending_is_named(sim, builds):
    left, new = builds["1.2.0"], builds["1.1.0"]
    with transport(sim) as link:
        link.stage(left)
    with Dfu(sim.unit).staged(new, timeout=20) as update, transport(sim) as link:
        link.ask("reset")
        link.stage(new)
    assert update.report.verified
    told = rf"before the transfer slot 1 held version 1\.2\.0 \(hash {left.hash.hex()[:12]}\), which something earlier"
    assert re.match(told, update.report.notes[1])
    assert slots(sim) == (new.hash, builds["1.0.0"].hash)


def test_another_image_that_was_left_pending_and_stays_is_no_update(sim, builds):
    """The application schedules nothing, and what an earlier test left is swapped in: that is not the build."""
    left, new = builds["1.2.0"], builds["1.1.0"]
    with transport(sim) as link:
        link.stage(left)
    told = rf"not seen pending within 0\.5 s: not in slot 1; slot 1 holds version 1\.2\.0 \(hash {left.hash.hex()[:12]}"
    with pytest.raises(HashMismatch, match=told), Dfu(sim.unit).staged(new, timeout=0.5):
        pass


def test_an_image_that_was_pending_before_is_named(sim, builds):
    """What the transfer did is then not proved, only what was there afterwards."""
    new = builds["1.1.0"]
    with transport(sim) as link:
        link.stage(new)
    with Dfu(sim.unit).staged(new, timeout=5) as update:
        pass
    assert update.report.verified
    assert any("this very image was pending already" in note for note in update.report.notes)


def test_what_runs_already_cannot_be_staged(sim, builds):
    told = r"runs version 1\.0\.0.* already"
    reports, proved = [], sim.unit.proved
    dfu = Dfu(sim.unit, done=reports.append)
    with pytest.raises(UpdateRefused, match=told), dfu.staged(builds["1.0.0"], timeout=5):
        pytest.fail("the transfer began")
    refused = ("refused here, not by the board", "left as it was", ())
    assert [(one.proof, one.running, one.notes) for one in reports] == [refused]
    assert sim.unit.proved == proved


def test_a_staged_build_that_faults_is_told(sim, builds):
    bad, reports = builds["9.9.9"], []
    dfu = Dfu(sim.unit, done=reports.append)
    with pytest.raises(NotBooted) as failed, dfu.staged(bad, timeout=20), transport(sim) as link:
        link.stage(bad)
    assert "reverted: version 1.0.0" in str(failed.value)
    assert "FATAL ERROR" in str(failed.value)
    assert "on trial" not in str(failed.value), "the way back was gone already"
    assert [(report.verified, report.via, report.proof) for report in reports] == [
        (False, "staged", "not seen running")
    ]
    old = builds["1.0.0"]
    assert sim.unit.holds == f"version 1.0.0 (hash {old.hash.hex()[:12]}), shown as active by the application's list"


def test_one_that_hangs_is_on_trial(builds):
    """Its banner came, and its server does not answer: the next reset is the way back, and that is said."""
    bad = builds["7.7.7"]
    with board(builds, applications={"7.7.7": "hangs"}, boot={"timeout": 1.0}) as sim:
        unpaced(sim)
        with pytest.raises(NotBooted) as failed, Dfu(sim.unit).staged(bad, timeout=20), transport(sim) as link:
            link.stage(bad)
        assert (
            "Unless it was confirmed, version 7.7.7 is on trial: the next reset (board.reset()) brings version"
            in str(failed.value)
        )
        assert sim.unit.holds == "not known: version 7.7.7 was started and not seen running"
        reset_by_probe(sim)
        assert sim.admin.flash_hash().image_hash == builds["1.0.0"].hash


def test_an_error_in_the_block_resets_nothing(sim, builds):
    new = builds["1.1.0"]
    sim.admin.reset_counters()

    def transfer(update):
        with transport(sim) as link:
            link.stage(new)
        update.wait_pending()
        1 / 0  # noqa: B018 - fails as a test's own check may

    with pytest.raises(ZeroDivisionError), Dfu(sim.unit).staged(new, timeout=5) as update:
        transfer(update)
    assert sim.resets() == {}


def test_a_pattern_that_is_none_is_told_before_the_transfer(sim, builds):
    with pytest.raises(re.error), Dfu(sim.unit).staged(builds["1.1.0"], pending="("):
        pytest.fail("the transfer began")


def test_a_reset_in_the_block_is_not_repeated(sim, builds):
    """One more would take the image on trial back."""
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20) as update, transport(sim) as link:
        link.stage(new)
        update.wait_pending()
        reset_by_probe(sim)
    assert update.report.verified


@pytest.mark.parametrize("when", ["transfer", "swap"])
def test_the_targets_own_usb_goes_when_it_resets_itself(sim, builds, monkeypatch, when):
    """And comes back."""
    new, unit = builds["1.1.0"], sim.unit
    monkeypatch.setattr(unit.uart, "transient", True)
    with Dfu(unit).staged(new, timeout=20, reset=False) as update, transport(sim) as link:
        link.stage(new)
        if when == "swap":
            update.wait_pending()
        link.ask("reboot")
        unit.uart.close()
    assert update.report.verified


def test_without_a_server_recovery_shows_slot_1(silent, builds):
    """Not whether it is pending: that is said."""
    new = builds["1.1.0"]
    with Dfu(silent.unit).staged(new, timeout=20) as update, transport(silent) as link:
        link.stage(new)
    report = update.report
    assert update.pending == "recovery's image list: in slot 1, pending not visible"
    assert (report.verified, report.confirmed, report.swapped) == (False, None, True)
    assert report.running == "console: the application names version 1.1.0"
    assert report.proof == "the application lists no images: its version was seen, not its hash"
    assert report.notes[1:] == (
        "no SMP server: what slot 1 held before was not seen",
        "seen in slot 1 by recovery's image list, which does not show pending",
    )
    assert (
        silent.unit.holds == f"version 1.1.0 was staged; an application runs, seen by {report.running}, hash not seen"
    )
    assert silent.admin.flash_hash().image_hash == new.hash


def test_without_a_server_a_console_pattern_is_the_weakest_proof(silent, builds):
    new = builds["1.1.0"]
    with Dfu(silent.unit).staged(new, timeout=20, pending="update (staged|ready)") as update, transport(silent) as link:
        link.stage(new)
        silent.admin.noise(b"app: update ready\r\n")
    assert update.pending == "the console pattern 'update (staged|ready)': the weakest proof, the board's own words"
    assert update.report.running == "console: the application names version 1.1.0"
    with Dfu(silent.unit).staged(builds["1.2.0"], pending="update ready") as update, transport(silent) as link:
        link.stage(builds["1.2.0"])
        silent.admin.noise(b"app: update ready\r\n")
        update.wait_pending()
        reset_by_probe(silent)
    assert update.report.running == "console: the application names version 1.2.0", "it was not reset once more"
    Dfu(silent.unit).update(new)
    assert silent.admin.flash_hash().image_hash == new.hash


def test_a_console_pattern_that_does_not_come(silent, builds):
    told, dfu = "the console did not show 'never'", Dfu(silent.unit)
    with pytest.raises(HashMismatch, match=told), dfu.staged(builds["1.1.0"], timeout=0.5, pending="never"):
        pass


def test_the_end_of_the_console_is_quoted(silent, builds):
    dfu = Dfu(silent.unit)
    with pytest.raises(HashMismatch) as failed, dfu.staged(builds["1.1.0"], timeout=0.5, pending="never"):
        silent.admin.noise(b"app: slot 1 is too small\r\n")
    assert str(failed.value).endswith(".\nThe last that the console printed:\n  app: slot 1 is too small")
    with pytest.raises(HashMismatch) as failed, dfu.staged(builds["1.1.0"], timeout=0.1, pending="never"):
        pass
    assert str(failed.value).endswith(".\nThe console has printed nothing since then")


# --- without a server: whether there was an update at all -------------------------------------------------------------


@pytest.mark.parametrize("pending", [None, "update ready"])
def test_what_this_run_proved_on_the_board_cannot_be_staged(silent, builds, pending):
    """No list tells it from an update, but this run knows."""
    same, reports = builds["1.0.0"], []
    silent.admin.reset_counters()
    dfu, told = Dfu(silent.unit, done=reports.append), r"was proved in this run to hold .* already \(version 1\.0\.0"
    with pytest.raises(UpdateRefused, match=told), dfu.staged(same, pending=pending):
        pytest.fail("the transfer began")
    (report,) = reports
    assert (report.proof, report.running) == ("refused here, not by the board", "left as it was")
    assert silent.unit.proved == same.hash, "which it still is"
    assert silent.resets() == {}


def test_one_that_may_have_been_there_before_is_no_update_seen(silent, builds):
    """Recovery lists it in slot 0, and nothing tells since when."""
    silent.unit.forget()
    with Dfu(silent.unit).staged(builds["1.0.0"], timeout=5) as update:
        pass
    report = update.report
    assert update.pending == (
        "recovery's image list: in slot 0, and that it was not there before the transfer nothing shows"
    )
    assert (report.verified, report.swapped) == (False, None)
    assert not any("swapped" in note for note in report.notes)


def test_mcuboots_log_tells_that_it_was_there_before(logging, builds):
    """A boot in the block that swapped nothing, and recovery lists the image in slot 0."""
    logging.unit.forget()
    told = r"where it was before the transfer already: MCUboot's log tells of no swap since"
    with pytest.raises(HashMismatch, match=told), Dfu(logging.unit).staged(builds["1.0.0"], timeout=5):
        reset_by_probe(logging)


@pytest.mark.parametrize(("proved", "why"), [(True, "this run had proved another"), (False, "MCUboot logged a swap")])
def test_one_that_the_application_started_itself_was_swapped(logging, builds, proved, why):
    """And confirmed: recovery finds it in slot 0, and there is evidence that it was not there before."""
    new = builds["8.8.8"]
    if not proved:
        logging.unit.forget()
    with Dfu(logging.unit).staged(new, timeout=20) as update, transport(logging) as link:
        link.stage(new)
        before = logging.unit.console_uart.console.position
        link.say("reboot")
        simulator.wait_until(
            lambda: "application 8.8.8" in logging.unit.console_uart.console.since(before), "the new image"
        )
        simulator.wait_until(lambda: logging.admin.flash_hash(0).image_hash == new.hash, "the swap")
    assert re.match(rf"recovery's image list: in slot 0 already, swapped in before recovery: {why}", update.pending)
    assert (update.report.verified, update.report.swapped) == (False, True)


def test_a_pattern_and_no_new_version_shows_no_swap(logging, builds):
    """Whatever ran, it had this version before: the log says that nothing was swapped."""
    logging.unit.forget()
    told = r"the console tells of the boot after it: MCUboot did not swap \(swap type none\)"
    dfu = Dfu(logging.unit)
    with pytest.raises(NotBooted, match=told), dfu.staged(builds["1.0.0"], timeout=5, pending="update ready"):
        logging.admin.noise(b"app: update ready\r\n")


def test_a_pattern_and_the_version_of_before_leave_it_open(silent, builds):
    silent.unit.forget()
    with Dfu(silent.unit).staged(builds["1.0.0"], timeout=5, pending="update ready") as update:
        silent.admin.noise(b"app: update ready\r\n")
    report = update.report
    assert (report.swapped, report.running) == (None, "console")
    assert report.notes[-1].startswith("that this image runs, and not the one before, is not shown: both have version")


# --- without a server: what the console tells -------------------------------------------------------------------------

DIFFER = {"9.9.9": "faults", "8.8.8": "confirms"}
LOGS = {"application_smp": "none", "bootloader_log": True}


@pytest.fixture(scope="module")
def _logging(builds):
    """Its application has no SMP server, by the configuration's word, and its bootloader logs."""
    with board(builds, boot={"timeout": 4.0, "smp": False}, applications=DIFFER, **LOGS) as found:
        yield found


@pytest.fixture
def logging(_logging, builds):
    with suppress(HashMismatch):  # what a test left pending is swapped in
        Dfu(_logging.unit).update(builds["1.0.0"])
    Dfu(_logging.unit).update(builds["1.0.0"], only_if_needed=True)
    return _logging


def test_mcuboots_log_tells_of_the_swap(logging, builds):
    new = builds["1.1.0"]
    before = len(logging.unit.transcript())
    with Dfu(logging.unit).staged(new, timeout=20) as update, transport(logging) as link:
        link.stage(new)
        assert "tx" not in {way for _, way, _ in logging.unit.transcript()[before:]}, (
            "nobody is asked where nobody can answer"
        )
    report = update.report
    assert report.running == "console: MCUboot swapped (test) and started version 1.1.0"
    assert report.swapped is True
    assert report.proof == "the application lists no images: MCUboot's swap was seen, not the hash of what runs"
    assert not report.verified
    assert slots(logging)[0] == new.hash


def test_one_that_was_not_scheduled_does_not_pass(logging, builds):
    """Recovery's list cannot show pending: the log does."""
    new, reports = builds["1.1.0"], []
    told = (
        r"was in slot 1, and the console tells of the boot after it: MCUboot started version 1\.0\.0 \(swap type none\)"
        r"\. Look at whether the application schedules it"
    )
    dfu = Dfu(logging.unit, done=reports.append)
    with pytest.raises(NotBooted, match=told), dfu.staged(new, timeout=20), transport(logging) as link:
        link.send(new.image.data)
    assert [(report.verified, report.running) for report in reports] == [(False, "another image")]
    assert logging.unit.holds == "not known: by the console MCUboot started version 1.0.0 (swap type none)"
    assert slots(logging)[0] == builds["1.0.0"].hash


def test_one_that_faults_is_told_with_its_dump(logging, builds):
    bad = builds["9.9.9"]
    with pytest.raises(NotBooted) as failed, Dfu(logging.unit).staged(bad, timeout=20), transport(logging) as link:
        link.stage(bad)
    text = str(failed.value)
    assert "ZEPHYR FATAL ERROR" in text
    assert text.count("reverted") == 1
    assert slots(logging)[0] == builds["1.0.0"].hash


def test_an_old_version_by_the_applications_own_word_does_not_pass(silent, builds):
    told = r"the console tells of the boot after it: the application that runs names version 1\.0\.0"
    new, dfu = builds["1.1.0"], Dfu(silent.unit)
    with pytest.raises(NotBooted, match=told), dfu.staged(new, timeout=20), transport(silent) as link:
        link.send(new.image.data)


def test_where_nothing_tells_which_image_runs_that_is_said(silent, builds, monkeypatch):
    """A banner without a version, and a bootloader without a log."""
    monkeypatch.setattr("pytest_nrfdfu.board.staged_boot.heard", lambda *_: Heard())
    new = builds["1.1.0"]
    with Dfu(silent.unit).staged(new, timeout=20) as update, transport(silent) as link:
        link.send(new.image.data)
    report = update.report
    assert (report.verified, report.running) == (False, "console")
    assert report.proof == "the application lists no images: only its banner was seen"
    assert report.swapped is None
    assert report.notes[-1].startswith("that this image runs, and not the one before, is not shown")


@pytest.mark.parametrize("smp", [None, False])
def test_a_reset_of_its_own_needs_a_word_for_pending(builds, smp):
    boot = {"timeout": 4.0} | ({} if smp is None else {"smp": smp})
    with board(builds, application_smp="none", boot=boot) as sim:
        simulator.wait_until(lambda: sim.admin.counters()["program"] == "application", "the application")
        sim.admin.reset_counters()
        told = r"reset=False .* no SMP server.*Nothing was sent.*Give pending="
        with pytest.raises(UpdateRefused, match=told), Dfu(sim.unit).staged(builds["1.1.0"], reset=False):
            pytest.fail("the transfer began")
        assert sim.resets() == {}


def test_what_an_earlier_test_left_pending_is_found_by_the_log(logging, builds):
    """Serial recovery writes slot 0 and cannot show what waits in slot 1."""
    left, wanted = builds["1.1.0"], builds["1.2.0"]
    with transport(logging) as link:
        link.stage(left)
    told = r"proved in recovery to hold .*1\.2\.0.*but by its log MCUboot started version 1\.1\.0 \(swap type test\)"
    with pytest.raises(HashMismatch, match=told):
        Dfu(logging.unit).update(wanted)
    assert slots(logging)[0] == left.hash


def test_what_an_earlier_test_left_in_slot_1_is_named_where_nothing_tells(silent, builds):
    left = builds["1.1.0"]
    with transport(silent) as link:
        link.send(left.image.data)
    report = Dfu(silent.unit).update(builds["1.2.0"])
    (note,) = report.notes
    assert note.startswith(f"slot 1 holds version 1.1.0 (hash {left.hash.hex()[:12]}): whether it was pending")
