"""Application and network core in one update: order, numbers, the wait for b0n, and what is refused before it harms."""

import random
import struct
from functools import partial

import builds
import cbor2
import firmware
import pytest
import simulator

from board.shelf import of_this_module
from pytest_nrfdfu.board.dfu import Dfu, Recovery
from pytest_nrfdfu.config_types import BootloaderConfig
from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import load
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header

shelf = of_this_module()
UNSEEN = "the bootloader's list cannot show the network core"
DIRECT = {"network_core": True, "images": 2, "direct_upload": True, "pcd_delay": 0.0}
"""Two images and direct upload: the network core is number 3."""
TWO_IMAGES = DIRECT | {"direct_upload": False}
"""The upload's number counts images: 1."""
ONE_IMAGE = {"images": 1}
"""There is no number for the network core, and any overwrites the application."""
RECOVERY_ONLY = {"network_core": True, "images": 1, "direct_upload": True, "pcd_delay": 0.0}
"""CONFIG_NRF53_RECOVERY_NETWORK_CORE: one image, and number 3 all the same."""
BUSY = 10
UPLOAD = (1, 1)
"""Group and id of an image upload (MCUmgr's image group)."""


def net_image(size=6_000, version="2.0.0", seed=0):
    """Linked behind b0n; the contents mean nothing."""
    body = struct.pack("<II", 0x2101_0000, 0x0100_9001) + random.Random(seed).randbytes(size - 8)
    return firmware.sign(body, version, slot_size=0x40000)


def app_image(version="3.0.0"):
    return simulator.make_image(version, 900)


@pytest.fixture
def both(tmp_path):
    return load(builds.package(tmp_path / "dfu_application.zip", {"app.bin": app_image(), "net.bin": net_image()}))


@pytest.fixture
def net_alone(tmp_path):
    return load(builds.bin_file(tmp_path / "net.signed.bin", net_image()))


@pytest.fixture
def board(shelf):
    """What lends a board of this module."""
    return partial(shelf.lend, boot={"smp": False})


def packets(sim, direction):
    for exchange in sim.admin.exchanges():
        if (exchange.direction, exchange.kind) == (direction, "packet"):
            yield Header.unpack(exchange.data), cbor2.loads(exchange.data[HEADER_SIZE:])


def numbers(sim):
    """The image number of each upload begun. Left out, it is 0."""
    uploads = [payload for header, payload in packets(sim, "to board") if (header.group, header.command) == UPLOAD]
    return list(dict.fromkeys(payload.get("image", 0) for payload in uploads if payload["off"] == 0))


def network(sim):
    return sim.admin.counters()["network_core"]


def untouched(sim):
    counters = sim.admin.counters()
    return counters["upload_requests"] == 0 and not any(counters["resets"].values()) and counters["requests"] == 0


# --- both images ----------------------------------------------------------------------------------------------------


def test_one_update_of_both_cores(board, tmp_path):
    """With flash as slow as it is: the application is there, b0n still copies, and MCUboot refuses to reset."""
    images = {"app.bin": app_image(), "net.bin": net_image(40_000)}
    build = load(builds.package(tmp_path / "dfu_application.zip", images))
    said = []
    with board(DIRECT | {"flash_timing": "datasheet"}) as sim:
        sim.admin.reset_counters()
        report = Dfu(sim.unit, say=said.append).update(build)
        assert numbers(sim) == [3, 0]
        refused = [payload for _, payload in packets(sim, "from board") if payload.get("rc") == BUSY]
        assert refused, "nothing was asked while the network core was written"
        core = network(sim)
        in_slot = sim.admin.flash_hash().image_hash
    net, app = report.reports
    assert (net.image, net.verified, net.proof, net.hash, net.running) == ("net", False, UNSEEN, None, UNSEEN)
    assert (app.image, app.verified, app.proof, app.hash) == ("app", True, "image list", build.images["app"].hash)
    assert (net.version, app.version) == ("2.0.0", "3.0.0")
    assert (net.bytes, app.bytes) == tuple(len(build.images[name].data) for name in ("net", "app"))
    assert (report.image, report.verified, report.hash, report.bytes) == ("app", True, build.hash, app.bytes)
    phases = [phase.name for phase in report.timeline]
    assert phases == ["recovery", "upload net", "verify net", "upload", "verify", "boot"]
    assert [part["image"] for part in report.to_json()["reports"]] == ["net", "app"]
    assert in_slot == build.hash
    assert (core["updates"], core["failures"], core["copying"], core["valid"]) == (1, 0, False, True)
    assert core["image_hash"] == build.images["net"].hash.hex()
    assert f"NOT verified: {UNSEEN}" in said


def test_nothing_is_sent_twice(board, both):
    with board(DIRECT) as sim:
        dfu = Dfu(sim.unit)
        dfu.update(both)
        assert sim.unit.runs(both)
        sim.admin.reset_counters()
        report = dfu.update(both, only_if_needed=True)
        assert sim.admin.counters()["upload_requests"] == 0
    assert [part.bytes for part in report.reports] == [0, 0]
    assert [part.verified for part in report.reports] == [False, True]


def test_another_network_core_alone_is_sent(board, both, tmp_path):
    """What was sent before is remembered by its hash."""
    images = {"app.bin": app_image(), "net.bin": net_image(seed=1)}
    other = load(builds.package(tmp_path / "other.zip", images))
    with board(DIRECT, whatever=True) as sim:
        Dfu(sim.unit).update(both)
        assert not sim.unit.runs(other)
        report = Dfu(sim.unit).update(other, only_if_needed=True)
        assert network(sim)["image_hash"] == other.images["net"].hash.hex()
    assert [bool(part.bytes) for part in report.reports] == [True, False]


def test_the_last_answer_may_come_late(board, net_alone):
    """MCUboot waits for b0n before it answers the last chunk; that is no lost response."""
    with board(DIRECT | {"pcd_delay": 1.5, "image": net_alone.path}) as sim:
        upload = Recovery(sim.unit, Dfu(sim.unit).enter().entered).upload(net_alone.image)
        assert (upload.counters.retries, upload.counters.resyncs) == (0, 0)
        assert network(sim)["image_hash"] == net_alone.hash.hex()


# --- three bootloaders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sim_table", "number"),
    [(DIRECT, 3), (TWO_IMAGES, 1), (RECOVERY_ONLY, 3)],
    ids=["direct upload", "two images", "recovery only"],
)
def test_number(board, both, sim_table, number):
    with board(sim_table) as sim:
        sim.admin.reset_counters()
        report = Dfu(sim.unit).update(both)
        assert numbers(sim) == [number, 0]
        assert network(sim)["valid"]
        assert network(sim)["image_hash"] == both.images["net"].hash.hex()
        assert sim.admin.flash_hash().image_hash == both.hash == report.hash


def test_one_image_is_refused_before_the_board_is_touched(board, both, net_alone):
    with board(ONE_IMAGE) as sim:
        sim.admin.reset_counters()
        for build in (both, net_alone):
            with pytest.raises(ImageError, match=r"is for the network core.*any number overwrites.*Nothing was sent"):
                Dfu(sim.unit).update(build)
        assert untouched(sim)
        recovery = Dfu(sim.unit).enter()
        with pytest.raises(ImageError, match="any number overwrites the application"):
            recovery.upload(net_alone.image)
        assert sim.admin.counters()["upload_requests"] == 0


def test_force_overwrites_the_application(board, net_alone):
    """What the user asked for in so many words."""
    with board(ONE_IMAGE, images={"net": {"upload": 1, "force": True}}) as sim:
        sim.admin.reset_counters()
        Dfu(sim.unit).enter().upload(net_alone.image)
        assert numbers(sim) == [1]
        assert sim.admin.flash_hash().image_hash == net_alone.hash


@pytest.mark.parametrize(
    ("sim_table", "upload"), [(DIRECT, 0), (DIRECT, 1), (DIRECT, 2), (TWO_IMAGES, 0), (ONE_IMAGE, 1), (ONE_IMAGE, 3)]
)
def test_the_applications_number_is_refused(board, both, sim_table, upload):
    with board(sim_table, images={"net": {"upload": upload}}, whatever=True) as sim:
        sim.admin.reset_counters()
        with pytest.raises(ImageError, match=f"is for the network core, and upload number {upload} means"):
            Dfu(sim.unit).update(both)
        assert untouched(sim)


# --- a bootloader that nobody described -----------------------------------------------------------------------------


@pytest.fixture
def undescribed(shelf):
    """A board as a real one: of its bootloader only the profile's name is known."""

    def change(settings):
        return settings.model_copy(update={"sim": None, "bootloader": BootloaderConfig()})

    return partial(shelf.lend, boot={"smp": False}, change=change)


@pytest.mark.parametrize(("sim_table", "number"), [(DIRECT, 3), (TWO_IMAGES, 1)])
def test_slot_info_tells_the_number(undescribed, both, sim_table, number):
    with undescribed(sim_table | {"slot_info": True}) as sim:
        sim.admin.reset_counters()
        Dfu(sim.unit).update(both)
        assert numbers(sim) == [number, 0]
        assert network(sim)["image_hash"] == both.images["net"].hash.hex()


def test_not_known_is_refused(undescribed, both):
    """Without slot info nothing tells it, and nothing is sent: neither image."""
    with undescribed(DIRECT) as sim:
        sim.admin.reset_counters()
        with pytest.raises(ImageError, match=r"it is not known whether.*Nothing was sent"):
            Dfu(sim.unit).update(both)
        assert sim.admin.counters()["upload_requests"] == 0
        assert network(sim)["image_hash"] is None
