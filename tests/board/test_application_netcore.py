"""Application and network core in one update through the application: order, what is proved, and what is refused."""

import builds
import cbor2
import pytest
import simulator

from board.conftest import wired
from board.test_dfu_netcore import app_image, net_image
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.errors import SmpRejected, UpdateRefused
from pytest_nrfdfu.image.build import load
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op

UNSEEN = "the bootloader's list cannot show the network core"
SIM = {"network_core": True, "images": 2, "pcd_delay": 0.0, "swap": "overwrite", "application_smp": "full"}
"""As every MCUboot of nRF Connect SDK for several images is built (CONFIG_BOOT_UPGRADE_ONLY)."""


@pytest.fixture
def both(tmp_path):
    return load(builds.package(tmp_path / "dfu_application.zip", {"app.bin": app_image(), "net.bin": net_image()}))


@pytest.fixture
def old(tmp_path):
    return builds.bin_file(tmp_path / "old.signed.bin", simulator.make_image("1.0.0"))


@pytest.fixture
def sim(old):
    with wired(sim=SIM | {"image": old}) as found:
        found.unit.client.poll_images(0.1, found.unit.now() + simulator.DEADLINE)
        found.admin.reset_counters()
        yield found


def writes(sim):
    """Image numbers of uploads begun, hashes marked, and resets, in the order in which the board received them."""
    found = []
    for exchange in sim.admin.exchanges():
        if (exchange.direction, exchange.kind) != ("to board", "packet"):
            continue
        header, payload = Header.unpack(exchange.data), cbor2.loads(exchange.data[HEADER_SIZE:])
        if header.group == Group.OS and header.op == Op.WRITE:
            found.append("reset")
        elif (header.group, header.command) == (Group.IMAGE, ImageCommand.UPLOAD) and payload["off"] == 0:
            found.append(payload.get("image", 0))
        elif (header.group, header.command, header.op) == (Group.IMAGE, ImageCommand.STATE, Op.WRITE):
            found.append(payload.get("hash", "confirm"))
    return found


def test_both_cores_in_one_update(sim, both):
    said = []
    report = Dfu(sim.unit, say=said.append).update(both, via="application")
    net, app = (both.images[name].hash for name in ("net", "app"))
    assert writes(sim)[:5] == [1, 0, net, app, "reset"], "the network core first"
    net_report, app_report = report.reports
    assert (net_report.image, net_report.verified, net_report.proof, net_report.hash) == ("net", False, UNSEEN, None)
    assert (net_report.running, net_report.confirmed) == (UNSEEN, None)
    assert (app_report.image, app_report.verified, app_report.proof, app_report.hash) == (
        "app",
        True,
        "image list",
        app,
    )
    assert (report.verified, report.running, report.swap, report.confirmed) == (True, "image list", "overwrite", True)
    assert (net_report.bytes, app_report.bytes) == tuple(len(both.images[name].data) for name in ("net", "app"))
    core = sim.admin.counters()["network_core"]
    assert (core["updates"], core["failures"], core["valid"]) == (1, 0, True)
    assert core["image_hash"] == net.hex()
    assert sim.admin.flash_hash().image_hash == app
    assert sim.unit.runs(both)
    sim.admin.reset_counters()
    again = Dfu(sim.unit).update(both, via="application", only_if_needed=True)
    assert [(part.image, part.verified, part.bytes) for part in again.reports] == [("net", False, 0), ("app", True, 0)]
    sim.unit.network_core = None
    with pytest.raises(UpdateRefused, match=r"whether its network core has .*net\.bin nothing shows.*Nothing was sent"):
        Dfu(sim.unit).update(both, via="application", only_if_needed=True)
    assert sim.admin.counters()["upload_requests"] == 0
    assert sim.resets() == {}


def test_nothing_is_on_trial_and_nothing_comes_back(sim, both):
    dfu = Dfu(sim.unit)
    with pytest.raises(UpdateRefused, match=r"confirm=False .* overwrites slot 0.*Nothing was sent"):
        dfu.update(both, via="application", confirm=False)
    with pytest.raises(UpdateRefused, match=r"keeps no old image: there is no way back, and nothing was reset"):
        dfu.revert()
    assert writes(sim) == []
    assert sim.resets() == {}


def test_a_bootloader_of_one_image_takes_no_network_core(old, both):
    with wired(sim=SIM | {"image": old, "images": 1, "direct_upload": True}) as sim:
        sim.unit.client.poll_images(0.1, sim.unit.now() + simulator.DEADLINE)
        sim.admin.reset_counters()
        with pytest.raises(UpdateRefused, match=r"updates one image.*Nothing was sent"):
            Dfu(sim.unit).update(both, via="application")
        assert writes(sim) == []


def test_the_network_core_alone(sim, tmp_path):
    image = load(builds.bin_file(tmp_path / "net.signed.bin", net_image(seed=3)))
    report = Dfu(sim.unit).update(image, via="application")
    assert (report.image, report.verified, report.proof) == ("net", False, UNSEEN)
    assert sim.admin.counters()["network_core"]["image_hash"] == image.images["net"].hash.hex()
    assert report.confirmed is None, "nobody can see that"
    assert "confirm" not in writes(sim), "that would be the application, which is no part of it"


def test_a_mark_that_fails_names_what_is_marked_already(sim, both, monkeypatch):
    """The next reset puts in the network core's image, without the application that belongs to it."""
    request = sim.unit.client.request

    def refusing(asked, **how):
        if getattr(asked, "hash", None) == both.hash:
            raise SmpRejected("the server answered UNKNOWN (1) of group 1: unknown", rc=1, group=1)
        return request(asked, **how)

    monkeypatch.setattr(sim.unit.client, "request", refusing)
    with pytest.raises(UpdateRefused, match=r"Marked already, and put in by the next reset: the image net$"):
        Dfu(sim.unit).update(both, via="application")


def test_a_share_is_one_of_all_images(sim, both):
    cut = Dfu(sim.unit).interrupt(both, at="upload:95%")
    assert 0.95 <= cut.cut < 1
    assert writes(sim)[:2] == [1, 0], "the network core's image had come whole"
