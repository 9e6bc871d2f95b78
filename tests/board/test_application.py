"""Updates through the simulated application: tested, confirmed, reverted, refused, and what is said of each."""

import re
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

import pytest
import simulator

from board.conftest import as_new, make_build, wired
from pytest_nrfdfu.board.application import ApplicationUpdate
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.running import application_runs
from pytest_nrfdfu.errors import HashMismatch, NotBooted, SmpRejected, SmpTimeout, UpdateRefused, UploadFailed
from pytest_nrfdfu.smp.messages import EraseRequest, ImageStateWrite, UploadRequest

SIM = {"application_smp": "full", "applications": {"9.9.9": "faults", "8.8.8": "confirms", "7.7.7": "hangs"}}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """By version."""
    folder = tmp_path_factory.mktemp("builds")
    versions = ("1.0.0", "1.1.0", "1.2.0", "7.7.7", "8.8.8", "9.9.9")
    return {version: make_build(folder, version) for version in versions}


@pytest.fixture(scope="module")
def _board(builds):
    with board(builds) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """A board of this module's own, with version 1.0.0 running and slot 1 erased."""
    found = _board
    with suppress(HashMismatch):  # an image that a test left pending is swapped in
        Dfu(found.unit).update(builds["1.0.0"])
    Dfu(found.unit).update(builds["1.0.0"], only_if_needed=True)
    found.unit.client.erase(1, simulator.DEADLINE)
    return as_new(found)


def board(builds, **tables):
    return wired(sim=SIM | {"image": builds["1.0.0"].path} | tables.pop("sim", {}), **tables)


@pytest.fixture
def dfu(sim):
    return updates(sim)


def updates(sim, *, smp=True):
    """Once the application runs."""
    simulator.wait_until(lambda: sim.admin.counters()["program"] == "application", "the application")
    if smp:
        sim.unit.client.poll_images(0.1, sim.unit.now() + simulator.DEADLINE)
    sim.admin.reset_counters()
    return Dfu(sim.unit)


def slots(sim):
    """The hashes in both slots, by the simulator's own word."""
    return tuple(sim.admin.flash_hash(slot).image_hash for slot in (0, 1))


# --- the whole way --------------------------------------------------------------------------------------------------


def test_an_update_is_swapped_in_and_confirmed(sim, dfu, builds):
    said, reports = [], []
    new = builds["1.1.0"]
    report = Dfu(sim.unit, say=said.append, done=reports.append).update(new, via="application")
    assert reports == [report]
    assert (report.verified, report.proof, report.hash, report.running) == (True, "image list", new.hash, "image list")
    assert (report.via, report.swap, report.confirmed, report.entry) == ("application", "move", True, "")
    assert report.swapped is True
    assert (report.bytes, report.notes, report.retries) == (len(new.image.data), (), 0)
    assert 0 < report.chunk <= 380, "what the application's buffers of 384 bytes take"
    assert [phase.name for phase in report.timeline] == ["check", "upload", "verify", "mark", "swap", "boot", "confirm"]
    assert slots(sim) == (new.hash, builds["1.0.0"].hash)
    assert sim.unit.proved == new.hash
    assert any("upgrades by move (bootloader info)" in step for step in said)
    assert report.to_json()["confirmed"] is True
    dfu.unit.client.reset()
    assert Dfu(sim.unit).confirm().hash == new.hash, "a confirmed image stays"


def test_an_image_on_trial_goes_away_at_the_next_reset(sim, dfu, builds):
    new, old = builds["1.1.0"], builds["1.0.0"]
    report = dfu.update(new, via="application", confirm=False)
    assert (report.verified, report.confirmed) == (True, False)
    assert sim.unit.proved is None, "after the next reset it is not there any more"
    assert sim.unit.holds.endswith("shown as active by the application's list, on trial: the next reset takes it back")
    reverted = dfu.revert()
    assert (reverted.hash, reverted.version) == (old.hash, "1.0.0")
    assert (reverted.away_hash, reverted.away_version) == (new.hash, "1.1.0")
    assert reverted.proof == "image list"
    assert slots(sim) == (old.hash, new.hash)


def test_a_trial_that_is_confirmed_stays(sim, dfu, builds):
    new = builds["1.1.0"]
    dfu.update(new, via="application", confirm=False)
    kept = dfu.confirm()
    assert (kept.hash, kept.confirmed, kept.active) == (new.hash, True, True)
    with pytest.raises(UpdateRefused, match=r"nothing is on trial: version 1\.1\.0.*Nothing was reset"):
        dfu.revert()
    assert sim.resets() == {"SREQ": 1}


def test_an_application_that_confirms_itself(sim, dfu, builds):
    """Either it has done so when its list is read, or it does before the way back is tried."""
    report = dfu.update(builds["8.8.8"], via="application", confirm=True)
    assert report.confirmed
    with pytest.raises(UpdateRefused, match="nothing is on trial"):
        dfu.revert()


@pytest.mark.parametrize("swap", ["offset", "overwrite"])
def test_other_ways_to_upgrade(builds, swap):
    with board(builds, sim={"swap": swap}) as sim:
        report = updates(sim).update(builds["1.1.0"], via="application")
        assert (report.verified, report.swap, report.confirmed) == (True, swap, True)
        assert sim.admin.flash_hash().image_hash == builds["1.1.0"].hash


@pytest.mark.parametrize("confirm", [True, False])
def test_nothing_to_do(sim, dfu, builds, monkeypatch, confirm):
    changed = []
    monkeypatch.setattr(sim.unit.client, "on_change", lambda: changed.append("images"))
    report = dfu.update(builds["1.0.0"], via="application", confirm=confirm, only_if_needed=True)
    assert (report.verified, report.bytes, report.running) == (True, 0, "image list")
    assert report.confirmed, "it was already"
    assert report.swapped is False
    assert sim.unit.proved == builds["1.0.0"].hash
    assert changed == []
    assert report.notes == ("the board held this image already: nothing was uploaded",)
    assert sim.resets() == {}


# --- refused before anything is sent --------------------------------------------------------------------------------


def refused(sim, dfu, match, build, **how):
    """An update that is refused, and has not touched the board."""
    before = slots(sim)
    with pytest.raises(UpdateRefused, match=match):
        dfu.update(build, **{"via": "application"} | how)
    assert sim.admin.counters()["upload_requests"] == 0
    assert sim.resets() == {}
    assert slots(sim) == before


def test_the_image_that_runs_is_no_update(sim, dfu, builds):
    refused(sim, dfu, r"runs version 1\.0\.0.*already.*Nothing was sent", builds["1.0.0"])


def test_a_trial_and_the_way_back_need_a_bootloader_that_swaps(builds):
    with board(builds, sim={"swap": "overwrite"}) as sim:
        dfu = updates(sim)
        refused(sim, dfu, r"confirm=False .* overwrites slot 0", builds["1.1.0"], confirm=False)
        with pytest.raises(UpdateRefused, match=r"bootloader info: CONFIG_BOOT_UPGRADE_ONLY.*nothing was reset"):
            dfu.revert()
        assert sim.resets() == {}


def test_recovery_puts_nothing_on_trial(sim, dfu, builds):
    refused(sim, dfu, "serial recovery writes slot 0", builds["1.1.0"], via="recovery", confirm=False)


def test_an_image_on_trial_is_in_the_way(sim, dfu, builds):
    dfu.update(builds["1.1.0"], via="application", confirm=False)
    sim.admin.reset_counters()
    refused(sim, dfu, r"version 1\.1\.0 .* is on trial: slot 1 keeps version 1\.0\.0", builds["1.2.0"])


def test_recovery_is_no_application(sim, dfu, builds):
    dfu.enter()
    sim.admin.reset_counters()
    refused(sim, dfu, "MCUboot's serial recovery answers, and not the application", builds["1.1.0"])


def test_an_application_without_a_server(builds):
    with board(builds, sim={"application_smp": "none"}) as sim:
        refused(sim, updates(sim, smp=False), "no SMP server answers", builds["1.1.0"])


# --- traps ----------------------------------------------------------------------------------------------------------


def test_the_very_image_in_slot_1_is_erased_first(sim, dfu, builds):
    """Its hash there would prove nothing about an upload."""
    dfu.update(builds["1.1.0"], via="application", confirm=False)
    dfu.revert()
    report = dfu.update(builds["1.1.0"], via="application")
    assert report.notes == ("before the update slot 1 held this very image: it was erased first",)
    assert report.bytes == len(builds["1.1.0"].image.data)


def test_an_image_left_pending_is_erased_and_told(sim, dfu, builds):
    left = builds["1.2.0"]
    sim.unit.client.upload(left.image.data)
    sim.unit.client.request(ImageStateWrite(hash=left.hash))
    report = dfu.update(builds["1.1.0"], via="application")
    assert report.notes == (
        "before the update slot 1 held another image, marked for the next boot: it was erased first",
    )
    assert slots(sim) == (builds["1.1.0"].hash, builds["1.0.0"].hash)


def test_a_revert_that_was_due_is_no_trap_for_recovery(sim, dfu, builds):
    """An image on trial is written over in recovery: its trailer does not bring the one before back."""
    dfu.update(builds["1.1.0"], via="application", confirm=False)
    new = builds["1.2.0"]
    assert dfu.update(new).running == "image list"
    dfu.unit.client.reset()
    simulator.wait_until(lambda: sim.admin.counters()["resets"]["SREQ"] >= 3, "the reset")
    states = sim.unit.client.poll_images(0.1, sim.unit.now() + simulator.DEADLINE)
    assert states.find(slot=0).hash == new.hash
    assert slots(sim)[0] == new.hash


def test_a_test_that_was_due_is_found_after_recovery(sim, dfu, builds):
    """Recovery proves slot 0, and the boot swaps in what an earlier test had marked."""
    left, new = builds["1.1.0"], builds["1.2.0"]
    sim.unit.client.upload(left.image.data)
    sim.unit.client.request(ImageStateWrite(hash=left.hash))
    reports = []
    with pytest.raises(HashMismatch, match=r"proved in recovery to hold .*1\.2\.0.*version 1\.1\.0.* secondary slot"):
        Dfu(sim.unit, done=reports.append).update(new)
    assert [(report.verified, report.proof) for report in reports] == [(False, "another image is there, or none")]
    assert sim.unit.proved is None
    assert slots(sim)[0] == left.hash


def refuse_to_erase(sim, monkeypatch):
    """A server that keeps its slot: Zephyr without CONFIG_MCUMGR_GRP_IMG_ALLOW_ERASE_PENDING."""
    real = sim.unit.client._run

    def run(request, *rest):
        if isinstance(request, EraseRequest):
            raise SmpRejected("the server answered NO_FREE_SLOT (9) of group 1: no free slot", rc=9, group=1)
        return real(request, *rest)

    monkeypatch.setattr(sim.unit.client, "_run", run)


def test_an_image_left_pending_that_cannot_be_erased_is_named(sim, dfu, builds, monkeypatch):
    left = builds["1.2.0"]
    sim.unit.client.upload(left.image.data)
    sim.unit.client.request(ImageStateWrite(hash=left.hash))
    refuse_to_erase(sim, monkeypatch)
    sim.admin.reset_counters()
    refused(sim, dfu, r"slot 1 holds version 1\.2\.0 .*NO_FREE_SLOT \(9\).*Nothing was uploaded", builds["1.1.0"])


def test_the_very_image_left_pending_is_taken_as_it_is_where_it_cannot_be_erased(sim, dfu, builds, monkeypatch):
    new = builds["1.1.0"]
    sim.unit.client.upload(new.image.data)
    sim.unit.client.request(ImageStateWrite(hash=new.hash))
    refuse_to_erase(sim, monkeypatch)
    report = dfu.update(new, via="application")
    assert report.verified
    assert report.bytes == 0
    assert "it was not erased" in report.notes[0]


# --- images that do not stay ----------------------------------------------------------------------------------------


def test_a_build_that_faults_reverts_and_its_dump_is_shown(sim, dfu, builds):
    reports = []
    with pytest.raises(NotBooted) as failed:
        Dfu(sim.unit, done=reports.append).update(builds["9.9.9"], via="application")
    text = str(failed.value)
    assert "reverted: version 1.0.0" in text
    assert text.count("reverted") == 1
    assert "on trial" not in text, "the way back was gone already"
    assert "ZEPHYR FATAL ERROR" in text
    assert "MPU FAULT" in text
    (report,) = reports
    assert not report.verified
    assert report.via == "application"
    assert sim.unit.proved is None
    old = builds["1.0.0"].hash
    assert sim.unit.holds == f"version 1.0.0 (hash {old.hex()[:12]}), shown as active by the application's list"
    assert slots(sim)[0] == old


def test_one_that_mcuboot_does_not_start(sim, builds, monkeypatch):
    """As after a mark that was lost: the old image runs, and nothing on the console says why."""
    monkeypatch.setattr(ApplicationUpdate, "_mark", lambda *_: None)
    told = r"does not run .*1\.1\.0.* after the reset: version 1\.0\.0 .* is active, which ran before: .* did not swap"
    updates(sim)
    reports = []
    with pytest.raises(NotBooted, match=told):
        Dfu(sim.unit, done=reports.append).update(builds["1.1.0"], via="application")
    assert [(report.verified, report.running) for report in reports] == [(False, "old image")]
    assert sim.unit.holds.startswith("version 1.0.0 (hash ")


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_reset_is_asked_for_again_only_if_it_did_not_happen(sim, dfu, builds, monkeypatch, lost):
    """A second reset would take the image on trial back."""
    client, asked = sim.unit.client, []
    reset = client.reset

    def losing(**settings):
        asked.append(settings)
        if len(asked) > 1 or lost == "answer":
            reset(**settings)
        if len(asked) == 1:
            raise SmpTimeout(f"the {lost} was lost")

    monkeypatch.setattr(client, "reset", losing)
    assert dfu.update(builds["1.1.0"], via="application", confirm=False).verified
    assert [settings["tries"] for settings in asked] == ([1, 1] if lost == "request" else [1])
    assert sim.admin.counters()["resets"] == {"SREQ": 1}


def test_an_application_that_refuses_to_reset_is_told(sim, dfu, builds, monkeypatch):
    def refuse(**_):
        raise SmpRejected("EBUSY (10)", rc=10)

    monkeypatch.setattr(sim.unit.client, "reset", refuse)
    with pytest.raises(NotBooted, match=r"does not reset when asked: .*EBUSY.*stays marked for the next boot"):
        dfu.update(builds["1.1.0"], via="application")


def test_a_build_that_hangs_is_told(builds):
    """Its banner came and its server does not answer; it is on trial, and how it goes is said."""
    with board(builds, boot={"timeout": 2.0}) as sim:
        dfu = updates(sim)
        sim.unit.client.link = type(sim.unit.client.link)(baudrate=None, erase_page=0.0, write_word=0.0)
        with pytest.raises(NotBooted) as failed:
            dfu.update(builds["7.7.7"], via="application")
        text = str(failed.value)
        assert "its banner came" in text
        assert "its SMP server did not answer" in text
        assert "Unless it was confirmed, version 7.7.7 is on trial: the next reset (board.reset()) brings" in text
        assert f"version 1.0.0 (hash {builds['1.0.0'].hash.hex()[:12]}) back" in text
        assert re.search(r"within \d+(\.\d)? s", text), "no digits that mean nothing"
        assert sim.unit.holds == "not known: version 7.7.7 was started and not seen running"
        sim.unit.rig.reset("pin")
        simulator.wait_until(lambda: slots(sim)[0] == builds["1.0.0"].hash, "the way back")


def test_a_build_that_hangs_where_nothing_leads_back(builds):
    with board(builds, boot={"timeout": 2.0}, sim={"swap": "overwrite"}) as sim:
        dfu = updates(sim)
        sim.unit.client.link = type(sim.unit.client.link)(baudrate=None, erase_page=0.0, write_word=0.0)
        with pytest.raises(NotBooted, match=r"overwrote the image before: nothing but an update via='recovery'"):
            dfu.update(builds["7.7.7"], via="application")


# --- the upload -----------------------------------------------------------------------------------------------------


class _BrokenOffError(Exception):
    """Stands for whatever ends an upload halfway."""


def test_an_upload_broken_off_is_taken_up_by_its_sha(sim, dfu, builds):
    def halfway(acknowledged, total):
        if acknowledged > total // 2:
            raise _BrokenOffError

    with pytest.raises(_BrokenOffError):
        Dfu(sim.unit, progress=halfway).update(builds["1.1.0"], via="application")
    report = dfu.update(builds["1.1.0"], via="application")
    assert report.notes == ("an upload broken off was taken up",)
    assert report.bytes < len(builds["1.1.0"].image.data) // 2 + 1000


def test_one_chunk_at_a_time_if_told_so(builds):
    with board(builds, bootloader={"window": 1}) as sim:
        report = updates(sim).update(builds["1.1.0"], via="application")
        assert report.window == 1
        assert report.verified


def test_the_application_refuses_the_upload(sim, dfu, builds, monkeypatch):
    """By the name of its group's error."""
    report, reports = None, []
    monkeypatch.setattr(builds["1.1.0"].image.__class__, "data", property(lambda _: b"\0" * 4000))
    with pytest.raises(UploadFailed, match=r"INVALID_IMAGE_HEADER_MAGIC \(23\) of group 1"):
        report = Dfu(sim.unit, done=reports.append).update(builds["1.1.0"], via="application")
    assert report is None
    assert [(r.verified, r.proof, r.running) for r in reports] == [(False, "upload failed", "not booted")]


def test_the_network_core_is_not_forgotten_when_the_application_alone_changes(sim, dfu, builds):
    """So that `flashed` need not send it again."""
    sim.unit.network_core = b"n" * 32
    dfu.update(builds["1.1.0"], via="application", confirm=False)
    dfu.confirm()
    assert sim.unit.network_core == b"n" * 32


# --- requests of a test's own ---------------------------------------------------------------------------------------


def test_an_upload_of_an_older_image_is_refused_if_that_is_asked_for(sim, dfu, builds):
    dfu.update(builds["1.1.0"], via="application")
    older = builds["1.0.0"].image.data
    first = UploadRequest(off=0, data=older[:200], length=len(older), sha=sha256(older).digest(), upgrade=True)
    with pytest.raises(SmpRejected, match=r"CURRENT_VERSION_IS_NEWER \(27\)"):
        sim.unit.client.request(first)


def test_an_image_may_be_marked_for_good(sim, dfu, builds):
    new = builds["1.1.0"]
    sim.unit.client.upload(new.image.data)
    (marked,) = (
        state
        for state in sim.unit.client.request(ImageStateWrite(hash=new.hash, confirm=True)).images
        if state.slot == 1
    )
    assert (marked.pending, marked.permanent) == (True, True)
    sim.unit.client.reset()
    simulator.wait_until(lambda: slots(sim)[0] == new.hash, "the swap")
    with pytest.raises(UpdateRefused, match="nothing is on trial"):
        updates(sim).revert()


def test_an_update_may_be_for_good_at_once(sim, dfu, builds, monkeypatch):
    """Marked permanent: there is no trial, and nothing to be confirmed."""
    new, sent = builds["1.1.0"], []
    whole = sim.unit.client.request
    monkeypatch.setattr(sim.unit.client, "request", lambda one, **given: (sent.append(one), whole(one, **given))[1])
    report = dfu.update(new, via="application", confirm="permanent")
    assert (report.verified, report.confirmed, report.notes) == (True, True, ())
    assert [one for one in sent if isinstance(one, ImageStateWrite)] == [ImageStateWrite(hash=new.hash, confirm=True)]
    assert "confirm" not in {phase.name for phase in report.timeline}
    assert slots(sim)[0] == new.hash
    with pytest.raises(UpdateRefused, match="nothing is on trial"):
        dfu.revert()


def test_a_mark_that_is_not_for_good_is_told(sim, dfu, builds, monkeypatch):
    whole = sim.unit.client.request

    def request(one, **given):
        return whole(replace(one, confirm=False) if isinstance(one, ImageStateWrite) else one, **given)

    monkeypatch.setattr(sim.unit.client, "request", request)
    told = r"acknowledged the mark of .* for good, and its image list shows it pending, and not permanent"
    reports = []
    with pytest.raises(UpdateRefused, match=told):
        Dfu(sim.unit, done=reports.append).update(builds["1.1.0"], via="application", confirm="permanent")
    assert [report.proof for report in reports] == ["the board refused it"], "and not this plugin"
    assert sim.resets() == {}


def test_one_for_good_that_hangs_has_no_way_back(builds):
    with board(builds, boot={"timeout": 1.0}) as sim:
        sim.unit.client.link = type(sim.unit.client.link)(baudrate=None, erase_page=0.0, write_word=0.0)
        told = r"Version 7\.7\.7 was marked permanent, so MCUboot does not take it back: nothing but an update via='rec"
        with pytest.raises(NotBooted, match=told):
            updates(sim).update(builds["7.7.7"], via="application", confirm="permanent")


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"confirm": "permanent"}, UpdateRefused, r"confirm='permanent' marks an image in slot 1.*Nothing was sent"),
        ({"confirm": "for ever", "via": "application"}, ValueError, r"'for ever' is not known; known: True, False"),
    ],
)
def test_what_cannot_be_for_good_is_refused_before_anything_is_sent(sim, dfu, builds, given, error, told):
    sent = len(sim.unit.transcript())
    with pytest.raises(error, match=told):
        dfu.update(builds["1.1.0"], **given)
    assert len(sim.unit.transcript()) == sent


def test_an_application_that_leaves_out_what_is_false(builds):
    """CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST: what is not in its list is not so."""
    with board(builds, sim={"application_frugal_list": True}) as sim:
        dfu = updates(sim)
        report = dfu.update(builds["1.1.0"], via="application", confirm=False)
        assert (report.verified, report.confirmed) == (True, False)
        assert dfu.revert().hash == builds["1.0.0"].hash
        assert dfu.update(builds["1.2.0"], via="application").confirmed


def test_a_frugal_application_is_not_taken_for_a_bootloader_with_flags(builds):
    """Nor the other way round: both lists have flags, and neither has splitStatus."""
    tables = {"recovery": {"entry": ["smp", "gpio"], "timeout": 4.0}, "bootloader": {"image_state": True}}
    simulated = {"application_frugal_list": True, "image_state": True, "entrance": ["gpio", "boot-mode"]}
    with board(builds, sim=simulated, **tables) as sim:
        dfu = updates(sim)
        assert application_runs(sim.unit, builds["1.0.0"])
        assert dfu.update(builds["1.1.0"], via="application", confirm=False).verified
        assert dfu.revert().hash == builds["1.0.0"].hash
        recovery = dfu.enter()
        assert recovery.entered.method == "smp"
        assert recovery.images().active.hash == builds["1.0.0"].hash, "MCUboot's list has the flag too"
        with pytest.raises(UpdateRefused, match="MCUboot's serial recovery answers, and not the application"):
            dfu.update(builds["1.2.0"], via="application")
        assert dfu.boot(builds["1.0.0"].image) == "image list"
