"""The same test on the simulated board from each format of a build: real Zephyr firmware, signed by imgtool."""

import shutil

import builds
import firmware
import pytest
import suites

from pytest_nrfdfu.image.build import load

THE_TEST = "def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n"

BOTH_CORES = """
compatible = ["nrf5340dk"]
provides = ["netcore"]

[sim]
baudrate = 1_000_000
flash_timing = "none"
network_core = true
images = 2
direct_upload = true
pcd_delay = 0.1

[bootloader]
window = 2

[boot]
smp = false

[images.app]
upload = 0
slot_address = 0x10000
slot_size = 0x34000
"""
"""A board that takes both cores' real firmware, 170 kB, in two seconds. Slot 0 is that of dfu_multi_image."""
SLOT_SIZE = 0x34000
UNSEEN = "NOT: the bootloader's list cannot show the network core"


@pytest.fixture
def suite(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.add_board("both", BOTH_CORES)
    suite.tests(THE_TEST)
    return suite


def shipped_images():
    return {"app.signed.bin": builds.app(slot_size=SLOT_SIZE), "ipc_radio.bin": builds.net(slot_size=0x40000)}


def both_sysbuild(folder):
    app, net = shipped_images().values()
    return builds.sysbuild(folder, images={"zephyr.signed.bin": app}, network=net)


FORMATS = {
    "bin": lambda folder: builds.bin_file(folder / "zephyr.signed.bin"),
    "hex": lambda folder: builds.hex_file(folder / "zephyr.signed.hex"),
    "zip": lambda folder: builds.package(folder / "dfu_application.zip", shipped_images()),
    "sysbuild": lambda folder: both_sysbuild(folder / "build"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_same_test_from_each_format(suite, kind):
    """What the file is, its content says; the test is the same."""
    path = FORMATS[kind](suite.path / "made")
    build = load(path)
    result = suite.run("--board", "both", "--build", f"it={path}", "-rA")
    result.assert_outcomes(passed=1)
    digest = build.hash.hex()[:12]
    app = f"both *it *app *1.2.3 *{digest} *{len(build.image.data)} * image list * console"
    net = f"both *it *net *1.2.3 *- *{len(firmware_of(build))} * {UNSEEN} *"
    rows = [net, app] if kind in {"zip", "sysbuild"} else [app]
    result.stdout.fnmatch_lines(
        [
            "nrfdfu build: it: *app 1.2.3 (*",
            "PASSED test_product.py::test_it[[]board:both-build:it]",
        ]
    )
    result.stdout.fnmatch_lines(["unit * build * image * version * hash * verified by *", *rows], consecutive=True)
    result.stdout.fnmatch_lines([f"On both now: version 1.2.3, hash {digest}*"])


def firmware_of(build):
    return build.images["net"].data if "net" in build.images else b""


def test_shipped_board_with_both_cores(suite):
    """The configuration that comes with the package, with flash as slow as it is; of the network core a small image."""
    shutil.rmtree(suite.path / "hil_configs")
    net = firmware.sign(firmware.real_network_firmware()[:20_000], "1.2.3", slot_size=0x40000)
    images = {"app.signed.bin": suites.simulator.make_image(), "ipc_radio.bin": net}
    path = builds.package(suite.path / "dfu_application.zip", images)
    suite.tests(
        THE_TEST
        + "\n\ndef test_the_network_core_has_it(board, flashed, build, request):\n"
        + "    from pytest_nrfdfu.report import POOL\n"
        + "    from pytest_nrfdfu.sim_admin import SimAdmin\n"
        + "    pool = request.config.stash[POOL]\n"
        + "    with SimAdmin(pool.simulator(pool.held[0]).admin) as admin:\n"
        + "        counters = admin.counters()\n"
        + "    assert counters['uploads'] == 2\n"
        + "    core = counters['network_core']\n"
        + "    assert (core['updates'], core['failures'], core['valid']) == (1, 0, True)\n"
        + "    assert core['image_hash'] == build.images['net'].hash.hex()\n"
    )
    result = suite.run("--board", "nrf5340dk-sim-netcore", "--build", path)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"nrf5340dk-sim-netcore *dfu_application *net * {UNSEEN} *", "*app * image list *"])


def test_hex_for_another_slot(suite):
    """A .hex says where it belongs; elsewhere it is not sent."""
    path = builds.hex_file(suite.path / "other.hex", address=0x20000)
    result = suite.run("--board", "both", "--build", path)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ImageError: cannot use *other.hex for the slot at 0x10000: it begins at 0x20000*"])
