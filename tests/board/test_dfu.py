"""An update from one end to the other, on the simulated board; what it proves, and what it does not."""

from dataclasses import replace

import firmware
import pytest

from board.conftest import as_new, wired
from board.shelf import of_this_module
from pytest_nrfdfu.board import dfu as dfu_module
from pytest_nrfdfu.board.dfu import Dfu, Recovery
from pytest_nrfdfu.board.plan import check_image, misfit
from pytest_nrfdfu.config_types import ImageConfig
from pytest_nrfdfu.errors import (
    ConfigError,
    HashMismatch,
    ImageError,
    NotBooted,
    SmpTimeout,
    UpdateRefused,
    UploadFailed,
)
from pytest_nrfdfu.image.build import APP, Build, load
from pytest_nrfdfu.image.mcuboot import largest_image

shelf = of_this_module()


class _BrokenOffError(Exception):
    """Stands for whatever ends an upload halfway."""


def halfway(acknowledged, total):
    if acknowledged > total // 2:
        raise _BrokenOffError


def signed(path, **kwargs) -> Build:
    path.write_bytes(firmware.sign(bytes(range(256)) * 20, **kwargs))
    return load(path)


@pytest.fixture(scope="module")
def _board(builds):
    with wired(sim={"image": builds[0].path}) as board:
        yield board


@pytest.fixture
def sim(_board):
    """A board of this module's own: its tests change what is on it."""
    return as_new(_board)


# --- the whole way --------------------------------------------------------------------------------------------------


def test_an_update_is_proved_booted_and_reported(sim, builds):
    said, reports = [], []
    build = builds[1]
    report = Dfu(sim.unit, say=said.append, done=reports.append).update(build)
    assert reports == [report]
    assert (report.verified, report.proof, report.hash) == (True, "image list", build.hash)
    assert (report.unit, report.build, report.image, report.version) == ("sim", build.name, APP, "1.1.0")
    assert report.bytes == len(build.image.data)
    assert report.seconds > 0
    assert report.rate == pytest.approx(report.bytes / report.seconds)
    assert 0 < report.chunk < 1024
    assert report.window >= 1
    assert (report.retries, report.resyncs) == (0, 0)
    assert (report.entry, report.running, report.notes, report.simulated) == ("gpio", "console", (), True)
    assert [phase.name for phase in report.timeline] == ["recovery", "upload", "verify", "boot"]
    assert all(phase.start <= phase.end for phase in report.timeline)
    assert report.to_json()["hash"] == build.hash.hex()
    assert sim.unit.proved == build.hash
    assert sim.admin.flash_hash().image_hash == build.hash
    assert any("uploading" in step for step in said)
    assert any(step.startswith("verified: ") for step in said)


def test_nothing_is_uploaded_that_is_there(sim, builds):
    dfu = Dfu(sim.unit)
    dfu.update(builds[0])
    sim.admin.reset_counters()
    report = dfu.update(builds[0], only_if_needed=True)
    assert sim.admin.counters()["upload_requests"] == 0
    assert (report.bytes, report.seconds, report.rate, report.chunk) == (0, 0.0, 0.0, 0)
    assert report.verified
    assert report.notes == ("the board held this image already: nothing was uploaded",)
    assert [phase.name for phase in report.timeline] == ["recovery", "verify", "boot"]
    assert dfu.update(builds[1], only_if_needed=True).bytes == len(builds[1].image.data)


def test_another_way_than_recovery_is_refused(sim, builds):
    with pytest.raises(ValueError, match="known: 'recovery'"):
        Dfu(sim.unit).update(builds[0], via="telepathy")
    assert sim.resets() == {}


def test_entering_recovery_makes_doubtful_what_was_proved(sim, builds):
    sim.unit.remember(builds[0].hash, "version 1.0.0")
    Dfu(sim.unit).enter()
    assert sim.unit.proved is None


# --- broken off -----------------------------------------------------------------------------------------------------


def test_an_upload_broken_off_is_taken_up_in_its_session(sim, builds):
    image = builds[1].image
    recovery = Dfu(sim.unit).enter()
    with pytest.raises(_BrokenOffError):
        recovery.upload(image, progress=halfway)
    begun = sim.admin.counters()["uploads"]
    upload = recovery.upload(image)
    assert upload.resumed
    assert upload.counters.progress[0][1] > len(image.data) // 2
    assert sim.admin.counters()["uploads"] == begun, "it was not begun again"
    assert recovery.verify(image).verified
    assert sim.unit.unfinished is None


def test_another_image_is_begun_at_0(sim, builds):
    recovery = Dfu(sim.unit).enter()
    with pytest.raises(_BrokenOffError):
        recovery.upload(builds[1].image, progress=halfway)
    upload = recovery.upload(builds[0].image)
    assert not upload.resumed
    assert upload.counters.progress[0][1] == 0
    assert recovery.verify(builds[0].image).verified


def test_another_session_begins_at_0(sim, builds):
    dfu = Dfu(sim.unit)
    recovery = dfu.enter()
    with pytest.raises(_BrokenOffError):
        recovery.upload(builds[1].image, progress=halfway)
    recovery = dfu.enter()
    upload = recovery.upload(builds[1].image)
    assert not upload.resumed
    assert upload.counters.progress[0][1] == 0
    assert recovery.verify(builds[1].image).verified


@pytest.fixture(scope="module")
def stubborn():
    """A board that comes up in recovery by itself when it holds no valid image."""
    with wired(sim={"entrance": ["gpio", "no-application"]}) as board:
        yield board


def test_a_reset_in_between_begins_it_again_and_is_noted(stubborn, builds):
    stubborn.admin.reset_after(uploads=6, cause="POWER_ON")
    report = Dfu(stubborn.unit).update(builds[0])
    assert report.verified
    assert report.notes[0] == "the bootloader had been reset: the upload began again at 0 (1 times)"
    assert report.trial_losses == 0
    assert stubborn.unit.memory.get(stubborn.unit.memory_key).window == "unknown", "a reset says nothing about a window"
    assert report.resyncs >= 1
    assert report.bytes == len(builds[0].image.data)


def test_an_upload_taken_up_after_a_reset_begins_again(stubborn, builds):
    recovery = Dfu(stubborn.unit).enter()
    with pytest.raises(_BrokenOffError):
        recovery.upload(builds[1].image, progress=halfway)
    stubborn.unit.rig.reset("pin")
    upload = recovery.upload(builds[1].image)
    assert not upload.resumed
    assert upload.counters.restarts == 1
    assert recovery.verify(builds[1].image).verified


def test_a_failed_upload_leaves_the_board_in_recovery(sim, builds, monkeypatch):
    def fails(*_args, **_kwargs):
        raise UploadFailed("the board stopped answering")

    reports = []
    monkeypatch.setattr(sim.unit.client, "upload", fails)
    with pytest.raises(UploadFailed):
        Dfu(sim.unit, done=reports.append).update(builds[1])
    assert sim.admin.counters()["in_recovery"]
    assert sim.unit.proved is None
    (report,) = reports
    assert (report.verified, report.proof, report.running) == (False, "upload failed", "not booted")
    assert (report.bytes, report.hash, report.notes) == (0, None, ("nothing was uploaded",))
    assert [phase.name for phase in report.timeline] == ["recovery", "upload"]


def test_an_upload_that_stops_halfway_is_reported_with_what_came(sim, builds):
    """The bytes that the board took, and no proof."""
    reports = []

    def stops(acknowledged, total):
        if acknowledged > total // 2:
            raise UploadFailed("enough")

    with pytest.raises(UploadFailed):
        Dfu(sim.unit, progress=stops, done=reports.append).update(builds[1])
    (report,) = reports
    size = len(builds[1].image.data)
    assert size // 2 < report.bytes < size
    assert report.notes == (f"{report.bytes} of {size} bytes were uploaded",)


def test_a_board_that_does_not_boot_is_reported_with_its_proof(sim, builds, monkeypatch):
    reports = []

    def fails(*_args, **_kwargs):
        raise NotBooted("not seen")

    monkeypatch.setattr(dfu_module, "boot", fails)
    with pytest.raises(NotBooted):
        Dfu(sim.unit, done=reports.append).update(builds[1])
    (report,) = reports
    assert (report.verified, report.proof, report.hash) == (True, "image list", builds[1].hash)
    assert report.running == "not seen running"
    assert [phase.name for phase in report.timeline] == ["recovery", "upload", "verify", "boot"]


def test_another_image_after_boot_proves_nothing(sim, builds, monkeypatch):
    reports = []

    def fails(*_args, **_kwargs):
        raise HashMismatch("swapped")

    monkeypatch.setattr(dfu_module, "boot", fails)
    with pytest.raises(HashMismatch):
        Dfu(sim.unit, done=reports.append).update(builds[1])
    (report,) = reports
    assert (report.verified, report.hash) == (False, None)
    assert report.proof == report.running == "another image is there, or none"


# --- proof ----------------------------------------------------------------------------------------------------------


def test_a_corrupted_upload_is_a_mismatch_though_every_answer_was_rc_0(sim, builds):
    image = builds[1].image
    data = bytearray(image.data)
    data[3000] ^= 1
    damaged = replace(image, data=bytes(data))
    reports = []
    with pytest.raises(HashMismatch) as caught:
        Dfu(sim.unit, done=reports.append).update(Build("damaged", builds[1].path, {APP: damaged}))
    text = str(caught.value)
    assert f"sim was sent {image.source} (version 1.1.0, hash {image.hash.hex()})" in text
    assert "its image list shows no valid image" in text
    assert "signed with the bootloader's key" in text
    assert sim.unit.proved is None
    (report,) = reports
    assert (report.verified, report.proof, report.hash) == (False, "another image is there, or none", None)
    assert report.running == "not booted"
    assert report.bytes == len(damaged.data)
    Dfu(sim.unit).update(builds[0])


def test_another_image_in_the_slot_is_named(sim, builds):
    dfu = Dfu(sim.unit)
    dfu.update(builds[0])
    recovery = dfu.enter()
    with pytest.raises(HashMismatch) as caught:
        recovery.verify(builds[1].image)
    text, image = str(caught.value), builds[1].image
    assert text.startswith(f"sim does not hold {image.source} (version 1.1.0, hash {image.hash.hex()}): its image list")
    assert f"image 0 slot 0 version 1.0.0 hash {builds[0].hash.hex()}. Neither recovery.upload nor dfu.update" in text
    assert "was sent" not in text
    assert sim.unit.proved is None


def test_what_was_sent_and_replaced_since_is_told_so(sim, builds):
    recovery = Dfu(sim.unit).enter()
    recovery.upload(builds[1].image)
    recovery.upload(builds[0].image)
    with pytest.raises(HashMismatch, match=r"^sim was sent .*version 1\.1\.0.*\. Something else was uploaded"):
        recovery.verify(builds[1].image)


def test_an_upload_broken_off_is_no_upload_that_was_refused(sim, builds):
    recovery = Dfu(sim.unit).enter()
    with pytest.raises(_BrokenOffError):
        recovery.upload(builds[1].image, progress=halfway)
    with pytest.raises(HashMismatch, match=r"was sent no more than \d+ of \d+ bytes of .* shows no valid image"):
        recovery.verify(builds[1].image)
    recovery.upload(builds[0].image)


def test_an_empty_slot_is_named_where_nothing_was_sent(builds):
    with wired(sim={}) as board, pytest.raises(HashMismatch, match="slot 0 is empty, or holds what MCUboot would not"):
        Dfu(board.unit).enter().verify(builds[0].image)


def test_a_key_that_is_not_the_bootloaders_is_a_mismatch(tmp_path):
    right = signed(tmp_path / "right.signed.bin", key="ecdsa-p256")
    wrong = signed(tmp_path / "wrong.signed.bin", key="ed25519")
    none = signed(tmp_path / "none.signed.bin")
    public = tmp_path / "public.pem"
    firmware.imgtool("getpub", "-k", firmware.private_key("ecdsa-p256"), "-e", "pem", "-o", public)
    with wired(sim={"public_key": public}) as board:
        unchecked = board.unit.config.bootloader.model_copy(update={"public_key": None})
        board.unit.config = board.unit.config.model_copy(update={"bootloader": unchecked})
        dfu = Dfu(board.unit)
        for build in (wrong, none):
            with pytest.raises(HashMismatch, match="shows no valid image"):
                dfu.update(build)
        assert dfu.update(right).verified


def test_a_bootloader_without_hashes_proves_nothing_and_says_so(builds):
    said = []
    with wired(sim={"hash": False}) as board:
        report = Dfu(board.unit, say=said.append).update(builds[0])
        assert report.verified is False
        assert report.proof == "the bootloader's list shows no hashes (built without CONFIG_BOOT_SERIAL_IMG_GRP_HASH)"
        assert report.hash is None
        assert report.running == "console"
        assert report.to_json()["hash"] is None
        assert board.unit.proved is None
        again = Dfu(board.unit).update(builds[0], only_if_needed=True)
        assert again.bytes == len(builds[0].image.data), "what is not known to be there is uploaded"
    assert any(step.startswith("NOT verified: ") for step in said)


def test_a_bootloader_that_lists_unchecked_images_proves_nothing(builds):
    """Between two releases MCUboot listed whatever had a header, with the hash that it carries (see its profile)."""
    with wired(sim={"bootloader": "ncs-2.4"}) as board:
        report = Dfu(board.unit).update(builds[0])
        assert (report.verified, report.hash) == (False, None)
        assert "bootloader ncs-2.4 lists images unchecked" in report.proof
        damaged = replace(builds[1].image, data=builds[1].image.data[:3000] + b"\0" + builds[1].image.data[3001:])
        recovery = Dfu(board.unit).enter()
        recovery.upload(damaged)
        assert recovery.images().find().hash == builds[1].hash, "this is why"
        assert not recovery.verify(builds[1].image).verified


@pytest.mark.parametrize("profile", ["ncs-1.9", "ncs-2.2", "mcuboot-main"])
def test_other_bootloaders_are_updated_too(builds, profile):
    """Smaller buffers, one long line a response, line ends LF CR: what the profile says is kept to."""
    with wired(sim={"bootloader": profile, "image_state": profile == "mcuboot-main"}) as board:
        report = Dfu(board.unit).update(builds[0])
        assert report.verified is (profile == "mcuboot-main")
        assert (report.retries, report.resyncs) == (0, 0)
        assert board.admin.flash_hash().image_hash == builds[0].hash


# --- what does not fit ----------------------------------------------------------------------------------------------


def test_an_image_larger_than_its_slot_is_refused_before_anything_is_touched(sim, builds, monkeypatch):
    small = sim.unit.config.model_copy(update={"images": {"app": ImageConfig(slot_size=4096)}})
    monkeypatch.setattr(sim.unit, "config", small)
    with pytest.raises(ImageError):
        Dfu(sim.unit).update(builds[0])
    assert sim.resets() == {}


def test_how_much_of_a_slot_an_image_may_take_depends_on_the_swap(sim, builds):
    """Overwriting leaves no room for a swap's progress, which swap using move must."""
    size = next(size for size in range(0x3000, 0x8000, 0x1000) if largest_image(size, "move") >= builds[0].image.end)
    tight = size - 0x1000
    assert largest_image(tight, "move") < builds[0].image.end <= largest_image(tight, "overwrite")
    config = sim.unit.config
    slot = {"images": {"app": ImageConfig(slot_size=tight)}}
    for swap, fits in (("move", False), ("overwrite", True)):
        told = config.bootloader.model_copy(update={"swap": swap})
        found = misfit(builds[0], config.model_copy(update={**slot, "bootloader": told}))
        assert (found is None) is fits


def test_an_image_linked_elsewhere_is_refused_unless_it_is_allowed(builds):
    image = builds[0].image
    settings = ImageConfig(slot_address=0x80000, slot_size=0x70000)
    with pytest.raises(ImageError, match=r"set allow_link_address = true in \[images.app\]"):
        check_image(image, settings, simulated=False)
    allowed = settings.model_copy(update={"allow_link_address": True})
    told = check_image(image, allowed, simulated=False)
    assert told
    assert check_image(image, settings, simulated=True) == told
    assert check_image(image, ImageConfig(), simulated=False) is None


def test_a_warning_is_given_once(sim, builds, monkeypatch):
    linked = sim.unit.config.model_copy(
        update={"images": {"app": ImageConfig(slot_address=0x80000, slot_size=0x70000)}}
    )
    monkeypatch.setattr(sim.unit, "config", linked)
    monkeypatch.setattr(sim.unit, "warned", set())
    said = []
    dfu = Dfu(sim.unit, say=said.append)
    for _ in range(2):
        dfu.update(builds[0], only_if_needed=True)
    assert len([step for step in said if step.startswith("warning: ")]) == 1


CALLS = {
    "update": lambda dfu, build: dfu.update(build, via="application"),
    "staged": lambda dfu, build: dfu.staged(build, reset=False).__enter__(),
    "interrupt": lambda dfu, build: dfu.interrupt(build, at="upload:50%"),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_kind_of_update_warns(sim, builds, monkeypatch, call):
    """Before it looks at the board, on which nobody answers."""
    linked = sim.unit.config.model_copy(
        update={"images": {"app": ImageConfig(slot_address=0x80000, slot_size=0x70000)}}
    )
    monkeypatch.setattr(sim.unit, "config", linked)
    monkeypatch.setattr(sim.unit, "warned", set())
    monkeypatch.setattr(sim.unit.client, "images", _nobody)
    said = []
    with pytest.raises(UpdateRefused):
        CALLS[call](Dfu(sim.unit, say=said.append), builds[1])
    assert len([step for step in said if step.startswith("warning: ")]) == 1


def _nobody(**_):
    raise SmpTimeout("nobody answers")


# --- no way back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(shelf, builds):
    """A board whose only way into recovery is to ask its application."""
    sim = {"image": builds[0].path, "entrance": ["boot-mode"], "application_smp": "full"}
    with shelf.lend(sim, recovery={"entry": ["smp"], "timeout": 3.0}) as board:
        yield board


def allow(unit, monkeypatch):
    settings = unit.config.recovery.model_copy(update={"allow_no_way_back": True})
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"recovery": settings}))


def test_no_update_is_begun_that_would_leave_no_way_back(asked, builds):
    asked.admin.reset_counters()
    with pytest.raises(ConfigError, match="allow_no_way_back = true") as caught:
        Dfu(asked.unit).update(builds[1])
    assert "Nothing was sent" in str(caught.value)
    assert asked.resets() == {}, "nothing was touched"


def test_what_is_there_already_needs_no_way_back(asked, builds):
    report = Dfu(asked.unit).update(builds[0], only_if_needed=True)
    assert (report.verified, report.bytes, report.entry) == (True, 0, "smp")
    reports = []
    with pytest.raises(ConfigError, match="allow_no_way_back"):
        Dfu(asked.unit, done=reports.append).update(builds[1], only_if_needed=True)
    assert reports == [], "nothing was begun"
    asked.admin.reset_counters()
    with pytest.raises(ConfigError, match="allow_no_way_back"):
        Dfu(asked.unit).enter().upload(builds[1].image)
    assert asked.admin.counters()["upload_requests"] == 0


def test_no_way_back_can_be_allowed(asked, builds, monkeypatch):
    allow(asked.unit, monkeypatch)
    assert Dfu(asked.unit).update(builds[1]).verified


# --- steps ----------------------------------------------------------------------------------------------------------


def test_the_steps_are_there_one_by_one(sim, builds):
    dfu = Dfu(sim.unit)
    recovery = dfu.enter()
    assert isinstance(recovery, Recovery)
    assert recovery.smp is sim.unit.client
    assert recovery.entered.images == recovery.images()
    told = []
    upload = recovery.upload(builds[1].image, progress=lambda done, total: told.append((done, total)))
    assert upload.done
    assert told[-1] == (len(builds[1].image.data),) * 2
    assert recovery.verify(builds[1].image).hash == builds[1].hash
    assert dfu.boot(builds[1].image) == "console"
