"""Updates cut off at ten places in real time, by reset and by power: afterwards one of the two images runs, whole."""

import hashlib

import pytest
import simulator

from board.conftest import make_build, wired
from pytest_nrfdfu.board import interrupt
from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.entries import slot_address

SIM = {"application_smp": "full", "baudrate": 1_000_000, "flash_timing": "datasheet", "bootloader_log": True}
SIZE = 11_000
"""Bytes of an image: three pages, so that a swap takes more than a second."""
PLACES = [
    ("application", "upload:10%", "reset"),
    ("application", "upload:50%", "power"),
    ("application", "upload:95%", "reset"),
    ("application", "swap:5%", "power"),
    ("application", "swap:25%", "power"),
    ("application", "swap:50%", "reset"),
    ("application", "swap:75%", "reset"),
    ("recovery", "upload:30%", "power"),
    ("recovery", "upload:70%", "reset"),
    ("recovery", "upload:100%", "power"),
]


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Four, so that an update is never to what slot 1 holds, which is erased first: a slot takes ten seconds."""
    folder = tmp_path_factory.mktemp("builds")
    return tuple(make_build(folder, version, SIZE) for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"))


@pytest.fixture(scope="module")
def sim(builds):
    with wired(sim=SIM | {"image": builds[0].path}) as board:
        yield board


def ready(sim, builds):
    """The hash of a running, confirmed image, and a build that is in neither slot."""
    unit = sim.unit
    if sim.admin.counters()["in_recovery"]:
        Dfu(unit).update(builds[0])
    running = Dfu(unit).confirm()
    held = {state.hash for state in unit.client.images().images}
    return running.hash, next(build for build in builds if build.hash not in held)


@pytest.mark.parametrize(("via", "at", "by"), PLACES)
def test_after_the_next_boot_the_old_or_the_new_image_runs_whole(sim, builds, via, at, by):
    old, new = ready(sim, builds)
    console = Board(sim.unit).console
    sim.admin.reset_counters()
    cut = Dfu(sim.unit).interrupt(new, at=at, by=by, via=via)
    assert cut.runs == expected(via, at)
    if at.startswith("swap"):
        before, after = console.boots[-2:]
        assert before.reset == "OS reset"
        assert before.swap_types == {0: "test"}
        assert before.application_banner is None
        assert after.reset == ("power cycle" if by == "power" else "pin reset")
        assert cut.within is (not after.swap_types), cut.seen
    assert cut.hash == {"old": old, "new": new.hash, "none": None}[cut.runs]
    assert sim.resets().get("POWER_ON" if by == "power" else "RESETPIN", 0) >= 1
    held = sim.admin.flash_hash()
    assert held.valid is (cut.runs != "none")
    if held.valid:
        whole = next(build.image.data for build in builds if build.hash == cut.hash)
        assert sim.admin.flash_hash(0, len(whole)).sha256 == hashlib.sha256(whole).digest()
        simulator.wait_until(lambda: console.boots[-1].application_version == cut.version, "the application")


def expected(via, at):
    """Which image runs then, or ``none``."""
    phase, share = at.split(":")
    if via == "recovery":  # which overwrites the old image
        return "new" if share == "100%" else "none"
    return "old" if phase == "upload" else "new"


def test_the_rest_of_a_swap_may_take_longer_than_a_boot(tmp_path):
    """Eight pages take three seconds, and the configuration gives a boot one."""
    old, new = (make_build(tmp_path, version, 8 * 4096 - 1000) for version in ("1.0.0", "1.1.0"))
    with wired(boot={"timeout": 1.0}, sim=SIM | {"image": old.path}) as sim:
        sim.unit.client.poll_images(0.1, sim.unit.now() + simulator.DEADLINE)
        cut = Dfu(sim.unit).interrupt(new, at="swap:5%", by="power")
        assert (cut.runs, cut.hash, cut.proof) == ("new", new.hash, "the application's image list")
        assert cut.seconds > 1.0


@pytest.mark.parametrize("by", ["reset", "power"])
def test_a_board_that_stays_in_recovery_runs_nothing(tmp_path, monkeypatch, by):
    """As where the cut destroys the image in slot 0: here by hand, while the upload to slot 1 is cut off."""
    old, new = (make_build(tmp_path, version) for version in ("1.0.0", "1.1.0"))
    with wired(sim=SIM | {"image": old.path}) as sim:
        sim.unit.client.poll_images(0.1, sim.unit.now() + simulator.DEADLINE)
        name = "restart" if by == "reset" else "power_cycle"
        real = getattr(interrupt, name)

        def destroy(unit, *how):
            unit.rig.erase_page(slot_address(unit.config))
            return real(unit, *how)

        monkeypatch.setattr(interrupt, name, destroy)
        cut = Dfu(sim.unit).interrupt(new, at="upload:50%", by=by)
        assert (cut.runs, cut.hash, cut.version, cut.proof) == ("none", None, "", "recovery's image list")
        assert sim.admin.counters()["in_recovery"]
        assert cut.seconds < simulator.DEADLINE
        assert Dfu(sim.unit).update(old).verified, "and is saved from there"
