"""The plugin's own fixtures update real MCUboot: mps2-an385 in qemu-system-arm, recovery entered by an SMP reset."""

from pathlib import Path

import firmware
import pytest
import servers

from pytest_nrfdfu.image.mcuboot import load

CONFIG = "serial_recovery_buf2048"

SUITE = """
import pytest


@pytest.mark.build("other")
def test_recovery_takes_another_image(recovery, build):
    before = recovery.images().find()
    assert before.hash != build.hash
    recovery.upload(build.image)
    assert recovery.verify(build.image).hash == build.hash
    assert recovery.images().find().version == "2.5.7.9"


@pytest.mark.build("app")
def test_update(dfu, build, board):
    assert board.images().split_status is not None, "the application answers first"
    report = dfu.update(build)
    assert report.verified and report.proof == "image list"
    assert report.hash == build.hash
    assert report.entry == "smp"
    assert report.running == "image list"
    assert report.bytes == len(build.image.data)
    after = board.images()
    assert after.split_status is not None, "the application answers again"
    assert [state.hash for state in after.images if state.active] == [build.hash]


@pytest.mark.build("app")
def test_flashed(flashed, build):
    assert flashed.images().find().hash == build.hash
"""

BOARD = """
board = "mps2-an385"

[uart]
port = "{port}"

[recovery]
entry = ["smp"]
allow_no_way_back = true

[bootloader]
profile = "ncs-2.6"
"""


def _other_version(image: Path, target: Path) -> None:
    """The same application, signed as another version: real firmware whose hash differs from what is on the board."""
    signed = load(image)
    body = signed.data[signed.header.hdr_size : signed.header.hdr_size + signed.header.img_size]
    load_address = ("--load-addr", hex(signed.header.load_addr))
    data = firmware.sign(body, "2.5.7+9", slot_size=0x100000, extra=load_address)
    target.write_bytes(data)


def test_real_mcuboot_is_updated(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """Another image is taken and proved in recovery; the application's own is updated, proved, booted and asked.

    The emulator puts the application that it was started with back into memory at every reset, so an image of another
    version is not there any more after boot: what boots has to be the one from the command line.
    """
    folder = servers.fixtures_folder(request.config.cache)
    entry = servers.recovery_server(folder, CONFIG)
    own = folder / entry["artifact"].replace(".hex", ".signed.bin")
    other = pytester.path / "other.signed.bin"
    _other_version(own, other)
    pytester.makepyfile(SUITE)
    configs = pytester.mkdir("hil_configs")
    with servers.emulator(folder, entry) as port:
        configs.joinpath("mps2-an385.toml").write_text(BOARD.format(port=port))
        result = pytester.runpytest_subprocess(
            "--board", "mps2-an385", "--build", f"app={own}", "--build", f"other={other}", timeout=240
        )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*mps2-an385*app*0.0.0*image list*image list*"])


def test_an_application_that_comes_back_is_noticed(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """The emulator's reset undoes the update: the hash was right in recovery, and is wrong after boot."""
    folder = servers.fixtures_folder(request.config.cache)
    entry = servers.recovery_server(folder, CONFIG)
    other = pytester.path / "other.signed.bin"
    _other_version(folder / entry["artifact"].replace(".hex", ".signed.bin"), other)
    pytester.makepyfile("def test_it(dfu, build): dfu.update(build)")
    configs = pytester.mkdir("hil_configs")
    with servers.emulator(folder, entry) as port:
        configs.joinpath("mps2-an385.toml").write_text(BOARD.format(port=port))
        result = pytester.runpytest_subprocess("--board", "mps2-an385", "--build", f"app={other}", timeout=240)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*HashMismatch: mps2-an385 was proved in recovery to hold*"])
