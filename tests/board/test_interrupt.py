"""Updates that are cut off: which image runs afterwards, and whether that is so."""

import pytest
import simulator

from board.conftest import make_build, wired
from board.test_application import refuse_to_erase
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.interrupt import _Cut
from pytest_nrfdfu.errors import ConfigError, NotBooted, UpdateRefused
from pytest_nrfdfu.smp.messages import ImageStateWrite

SIM = {"application_smp": "full", "baudrate": 1_000_000, "flash_timing": "datasheet"}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return tuple(make_build(folder, version) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture(scope="module")
def _board(builds):
    with wired(sim=SIM | {"image": builds[0].path}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """A board of this module's own, with version 1.0.0 running; how long a swap takes is not known of it."""
    Dfu(_board.unit).update(builds[0], only_if_needed=True)
    _board.unit.swap_seconds = _board.unit.swap_pages = None
    return _board


def fresh(sim, builds):
    """A build that is in no slot: where slot 1 holds it, the slot is erased first, which takes seconds."""
    held = {sim.admin.flash_hash(slot).image_hash for slot in (0, 1)}
    return next(build for build in builds if build.hash not in held)


def frugal(images):
    """A list that leaves out what is false (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST)."""

    def listed(**how):
        states = images(**how)
        return states._replace(images=tuple(s._replace(confirmed=s.confirmed or None) for s in states.images))

    return listed


def slot0(sim):
    return sim.admin.flash_hash()


def test_cut_off_in_the_upload_the_old_image_runs(sim, builds):
    old, new, _ = builds
    reports = []
    cut = Dfu(sim.unit, done=reports.append).interrupt(new, at="upload:50%")
    assert (cut.runs, cut.hash, cut.version, cut.confirmed) == ("old", old.hash, "1.0.0", True)
    assert (cut.within, cut.trouble) == (True, "")
    assert cut.seen.endswith(f"of {len(new.image.data)} bytes were acknowledged")
    assert (cut.at, cut.by, cut.via, cut.swap) == ("upload:50%", "reset", "application", "move")
    assert 0.5 <= cut.cut < 0.6
    assert cut.proof == "the application's image list"
    assert sim.resets()["RESETPIN"] >= 1
    assert slot0(sim).valid
    (report,) = reports
    place = f"{cut.cut:.0%} of the upload"
    assert (report.verified, report.proof, report.hash) == (False, f"cut off at {place}", None)
    assert (report.cut, report.running) == ("upload:50% by reset", "the old image, version 1.0.0")
    assert report.confirmed is None, "of the new image it says nothing"
    assert len(new.image.data) / 2 <= report.bytes < len(new.image.data)
    assert report.notes[0] == (
        f"cut off on purpose by reset at {place}; then the old image, version 1.0.0, by the application's image list"
    )
    assert sim.unit.holds.startswith("version 1.0.0, shown by the application's image list, after an update that was")


@pytest.mark.parametrize(("share", "number"), [(10, 1), (60, 2)])
def test_cut_off_in_the_swap_the_new_image_runs_whole(sim, builds, share, number, monkeypatch):
    """Another image each time: where slot 1 holds it, the slot is erased first, which takes seconds."""
    if number == 1:
        monkeypatch.setattr(sim.unit.client, "images", frugal(sim.unit.client.images))
    old, new, said, reports = builds[0], builds[number], [], []
    cut = Dfu(sim.unit, say=said.append, done=reports.append).interrupt(new, at=f"swap:{share}%")
    assert (cut.runs, cut.hash, cut.confirmed) == ("new", new.hash, False)
    assert share / 100 <= cut.cut
    assert cut.within is None, "its bootloader does not log"
    assert cut.seen.startswith("it was not over: the new image is on trial")
    assert cut.trouble == ""
    assert reports[0].notes[1] == f"the cut and the swap: {cut.seen}"
    assert slot0(sim).image_hash == new.hash
    assert slot0(sim).valid
    assert any("cut off by reset at" in step for step in said)
    assert [(report.verified, report.hash, report.confirmed) for report in reports] == [(True, new.hash, False)]
    assert reports[0].running == f"the new image, version {new.version}"
    assert Dfu(sim.unit).revert().hash == old.hash


def test_cut_off_in_recovery_no_image_is_left(sim, builds):
    reports = []
    cut = Dfu(sim.unit, done=reports.append).interrupt(builds[1], at="upload:50%", via="recovery")
    assert (cut.runs, cut.hash, cut.version) == ("none", None, "")
    assert cut.proof == "recovery's image list"
    assert [(report.via, report.verified, report.running) for report in reports] == [
        ("recovery", False, "no image: in serial recovery")
    ]
    assert reports[0].bytes > 0
    assert not slot0(sim).valid
    assert sim.admin.counters()["in_recovery"]


@pytest.mark.parametrize("at", ["upload:25%", "upload:90%"])
def test_a_reset_from_outside_in_the_middle_of_a_line(sim, builds, monkeypatch, at):
    """As by an emulator's monitor. The rest of the line comes into the boot, and the client goes on at once."""

    def restart(unit, kind):
        assert kind == "pin"
        sim.admin.reset_after(received=1, cause="RESETPIN")
        unit.uart.send(b"\x06\x09AHwDAAB")
        simulator.wait_until(lambda: sim.admin.counters()["resets"].get("RESETPIN"), "the reset")
        return True

    monkeypatch.setattr("pytest_nrfdfu.board.interrupt.restart", restart)
    sim.admin.reset_counters()
    cut = Dfu(sim.unit).interrupt(fresh(sim, builds), at=at)
    assert (cut.runs, cut.proof) == ("old", "the application's image list")
    assert sim.resets() == {"RESETPIN": 1}


@pytest.mark.parametrize("uploads", [1, 2, 8])
def test_an_update_survives_a_reset_from_outside(sim, builds, uploads):
    """The application has lost the session, and asks for offset 0; the upload begins again, whole."""
    sim.admin.reset_after(uploads=uploads, cause="RESETPIN")
    report = Dfu(sim.unit).update(fresh(sim, builds), via="application")
    assert report.verified
    assert report.retries + report.resyncs >= 1
    if uploads > 1:
        assert report.notes[-1].startswith("the application had been reset: the upload began again at 0")


def test_an_upload_that_is_not_needed_has_no_place_to_cut(sim, builds, monkeypatch):
    """It is not the swap that is cut instead."""
    left = fresh(sim, builds)
    sim.unit.client.upload(left.image.data)
    sim.unit.client.request(ImageStateWrite(hash=left.hash))
    refuse_to_erase(sim, monkeypatch)
    sim.admin.reset_counters()
    with pytest.raises(UpdateRefused, match=r"to be cut off at 50% and ended at 0%: slot 1 holds the image already"):
        Dfu(sim.unit).interrupt(left, at="upload:50%")
    assert sim.resets() == {}
    monkeypatch.undo()
    sim.unit.client.erase(1, simulator.DEADLINE)


def test_what_runs_is_what_runs_after_recovery_too(builds, tmp_path):
    """Recovery lists the new image, which does not answer; the boot out of recovery takes it back."""
    bad = make_build(tmp_path, "7.7.7")
    table = SIM | {"image": builds[0].path, "applications": {"7.7.7": "hangs"}}
    with wired(sim=table, boot={"timeout": 4.0}) as board:
        board.unit.client.poll_images(0.1, board.unit.now() + simulator.DEADLINE)
        board.unit.client.link = type(board.unit.client.link)(baudrate=None, erase_page=0.0, write_word=0.0)
        board.unit.swap_seconds, board.unit.swap_pages = 1.0, 3
        cut = Dfu(board.unit).interrupt(bad, at="swap:20%")
        assert (cut.runs, cut.hash, cut.proof) == ("old", builds[0].hash, "the application's image list")
        assert cut.trouble.startswith(
            "the new image, version 7.7.7, was in slot 0 after the cut and hung: its banner came"
        )
        assert cut.seen.startswith("it was not over: the new image was started after it")
        assert slot0(board).image_hash == builds[0].hash


def test_a_revert_may_take_longer_than_a_boot(tmp_path):
    """Of an image that hangs after the cut swap: sixteen pages take six seconds, and a boot gets two."""
    old, bad = (make_build(tmp_path, version, 16 * 4096 - 1000) for version in ("1.0.0", "7.7.7"))
    table = SIM | {"image": old.path, "applications": {"7.7.7": "hangs"}}
    with wired(sim=table, boot={"timeout": 2.0}) as board:
        board.unit.client.poll_images(0.1, board.unit.now() + simulator.DEADLINE)
        cut = Dfu(board.unit).interrupt(bad, at="swap:80%")
        assert (cut.runs, cut.hash) == ("old", old.hash)
        assert "was in slot 0 after the cut and hung" in cut.trouble
        assert cut.seconds < 40, "nobody waits for a whole slot's swap once the banner has come"


def test_an_image_that_faults_after_the_cut_is_told(builds, tmp_path):
    bad = make_build(tmp_path, "7.7.7")
    said = []
    with wired(sim=SIM | {"image": builds[0].path, "applications": {"7.7.7": "faults"}}) as board:
        board.unit.client.poll_images(0.1, board.unit.now() + simulator.DEADLINE)
        cut = Dfu(board.unit, say=said.append).interrupt(bad, at="swap:50%")
        assert (cut.runs, cut.hash) == ("old", builds[0].hash)
        assert cut.trouble.startswith("the new image, version 7.7.7, was started after the cut and faulted: ")
        assert cut.trouble.endswith("; MCUboot took it back")
        assert any(cut.trouble in step for step in said)


def test_a_swap_that_is_over_before_is_no_cut(sim, builds):
    """Its time is known afterwards, so that the next is cut in time."""
    old, new, reports = builds[0], fresh(sim, builds), []
    dfu = Dfu(sim.unit, done=reports.append)
    sim.unit.swap_seconds = 20.0  # as a board has it that was slower before
    sim.unit.swap_pages = 3
    sim.admin.reset_counters()
    with pytest.raises(
        UpdateRefused, match=r"over by then: the application's banner .* came \d.*Nothing was cut"
    ) as no:
        dfu.interrupt(new, at="swap:90%")
    assert f"Now the new image runs, version {new.version}" in str(no.value)
    assert "on trial: the next reset (dfu.revert()) takes it back" in str(no.value)
    assert sim.resets() == {"SREQ": 1}, "no other reset"
    assert [(report.verified, report.proof, report.running) for report in reports] == [
        (False, "the swap was over before the cut", f"the new image, version {new.version}")
    ]
    assert sim.unit.holds.endswith("on trial: the next reset takes it back")
    assert sim.unit.swap_seconds < 5
    assert dfu.revert().hash == old.hash
    cut = dfu.interrupt(fresh(sim, builds), at="swap:50%")
    assert (cut.runs, cut.confirmed) == ("new", False)


def test_a_cut_that_hits_the_trial_is_no_cut(sim, builds, monkeypatch):
    """As where the swap ends between the last look at the console and the cut."""
    watch, new = _Cut._watch, fresh(sim, builds)

    def late(cut, until):
        return watch(cut, until + simulator.DEADLINE) and ""

    monkeypatch.setattr(_Cut, "_watch", late)
    with pytest.raises(UpdateRefused, match=r"was over by then.*The cut hit the image on trial.*the old image runs"):
        Dfu(sim.unit).interrupt(new, at="swap:50%")
    assert sim.unit.client.images().active.hash == builds[0].hash
    assert sim.unit.holds.startswith("version 1.0.0")


def test_the_remembered_time_is_scaled_to_the_image(sim, builds, monkeypatch):
    """A larger image's time would have the cut come when the swap is over."""
    Dfu(sim.unit).update(fresh(sim, builds), via="application")
    assert sim.unit.swap_pages == 3
    assert sim.unit.swap_seconds > 1.0
    sim.unit.swap_seconds, sim.unit.swap_pages = 20 * sim.unit.swap_seconds, 20 * 3
    Dfu(sim.unit).update(builds[0])
    cut = Dfu(sim.unit).interrupt(fresh(sim, builds), at="swap:60%")
    assert (cut.runs, cut.confirmed) == ("new", False)


def test_where_no_hashes_are_listed_the_version_tells(builds, tmp_path):
    same = make_build(tmp_path, "1.0.0", size=8000)
    with wired(sim={"image": builds[0].path, "hash": False}) as board:
        cut = Dfu(board.unit).interrupt(builds[1], at="upload:100%", via="recovery")
        assert (cut.runs, cut.version, cut.hash) == ("new", "1.1.0", None)
        assert cut.proof == "recovery's image list, which shows no hashes: by the version"
        Dfu(board.unit).update(builds[0])
        with pytest.raises(NotBooted, match=r"nothing tells: both have version 1\.0\.0.*shows no hashes"):
            Dfu(board.unit).interrupt(same, at="upload:100%", via="recovery")


def test_the_last_byte_is_the_new_image(sim, builds):
    cut = Dfu(sim.unit).interrupt(builds[1], at="upload:100%", via="recovery")
    assert (cut.runs, cut.hash) == ("new", builds[1].hash)
    simulator.wait_until(lambda: not sim.admin.counters()["in_recovery"], "the start of the application")


def test_what_cannot_be_cut_is_told_before_anything_is_sent(sim, builds, monkeypatch):
    reports = []
    dfu = Dfu(sim.unit, done=reports.append)
    sim.admin.reset_counters()
    with monkeypatch.context() as without:
        without.setattr(sim.unit, "config", sim.unit.config.model_copy(update={"power": None}))
        with pytest.raises(ConfigError, match=r"needs a \[power\] table"):
            dfu.interrupt(builds[1], at="upload:50%", by="power")
    with pytest.raises(ValueError, match="known: 'reset', 'power'"):
        dfu.interrupt(builds[1], at="upload:50%", by="magic")
    with pytest.raises(ValueError, match="has no swap"):
        dfu.interrupt(builds[1], at="swap:50%", via="recovery")
    with pytest.raises(ValueError, match="known: 'recovery', 'application'"):
        dfu.interrupt(builds[1], at="upload:50%", via="post")
    with pytest.raises(UpdateRefused, match="already"):
        dfu.interrupt(builds[0], at="upload:50%")
    assert sim.admin.counters()["upload_requests"] == 0
    assert sim.resets() == {}
    assert reports == []
