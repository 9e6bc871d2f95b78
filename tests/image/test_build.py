"""A build is the same, whatever it was read from."""

import os
from pathlib import Path

import builds
import firmware
import pytest
from firmware import sign

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import Build, ImageOrigin, load
from pytest_nrfdfu.image.mcuboot import parse

MAKERS = {
    "bin": lambda path: builds.bin_file(path / "app.signed.bin"),
    "hex": lambda path: builds.hex_file(path / "app.signed.hex"),
    "zip": lambda path: builds.package(path / "app.zip"),
    "sysbuild": lambda path: builds.sysbuild(path / "app", network=builds.net()),
    "child images": lambda path: builds.child_images(path / "app", network=builds.net()),
    "plain": lambda path: builds.plain(path / "app"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_format_gives_the_same_application(tmp_path, make):
    path = make(tmp_path)
    build = load(path)
    assert (build.name, build.path, build.version) == ("app", path, "1.2.3")
    assert build.image.data == builds.app()
    assert build.hash == parse(builds.app()).hash
    assert build.variants["app"] == ""
    assert str(build) == f"app 1.2.3 ({build.hash.hex()[:12]})"


@pytest.mark.parametrize("make", [MAKERS["zip"], MAKERS["sysbuild"], MAKERS["child images"]])
def test_both_cores_come_in_the_order_of_upload(tmp_path, make):
    build = load(make(tmp_path))
    assert [*build.images] == ["net", "app"]
    assert build.images["net"].data == builds.net()


def test_a_name_can_be_given(tmp_path):
    assert load(builds.bin_file(tmp_path / "x.bin"), "sensor").name == "sensor"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("zephyr.signed.bin", "zephyr"),
        ("zephyr.signed.confirmed.bin", "zephyr.signed.confirmed"),
        ("app_update.bin", "app_update"),
        ("app.v1.2.bin", "app.v1.2"),
        (".bin", ".bin"),
        ("image", "image"),
    ],
)
def test_names_come_from_files(tmp_path, file, name):
    assert load(builds.bin_file(tmp_path / file)).name == name


def test_a_name_says_nothing_about_the_content(tmp_path):
    assert load(builds.hex_file(tmp_path / "really-hex.bin")).member("app").address == firmware.SLOT_ADDRESS
    assert [*load(builds.package(tmp_path / "really-zip.hex")).images] == ["net", "app"]
    assert load(builds.bin_file(tmp_path / "really-bin.zip")).image.data == builds.app()


def test_a_network_image_alone_is_recognised_by_its_address(tmp_path):
    build = load(builds.bin_file(tmp_path / "anything.bin", builds.net()))
    assert [*build.images] == ["net"]
    assert build.image.data == builds.net()
    assert build.member("net").file == str(tmp_path / "anything.bin")


def test_an_encrypted_network_image_is_recognised_by_its_name(tmp_path):
    encrypted = sign(firmware.real_network_firmware(), encrypt="ecdsa-p256")
    for name in ("signed_by_mcuboot_and_b0_hci_ipc.bin", "net_core_app_update.bin", "merged_CPUNET.bin"):
        build = load(builds.bin_file(tmp_path / name, encrypted))
        assert build.variants == {"net": "encrypted"}
    assert [*load(builds.bin_file(tmp_path / "zephyr.signed.encrypted.bin", encrypted)).images] == ["app"]


def test_variants_are_those_of_the_image_and_not_of_the_name(tmp_path):
    assert load(builds.bin_file(tmp_path / "a.confirmed.bin")).variants == {"app": ""}
    confirmed = builds.app(confirm=True)
    assert load(builds.bin_file(tmp_path / "b.bin", confirmed)).variants == {"app": "confirmed"}
    both = builds.app(confirm=True, encrypt="ecdsa-p256")
    assert load(builds.bin_file(tmp_path / "c.bin", both)).variants == {"app": "confirmed encrypted"}
    padded = builds.app(pad=True)
    assert load(builds.bin_file(tmp_path / "d.bin", padded)).variants == {"app": ""}


def test_a_file_in_a_build_directory_brings_what_that_says(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net(), config={"CONFIG_X": 7})
    build = load(directory / "app/zephyr/zephyr.signed.bin")
    assert [*build.images] == ["app"]
    assert build.config["CONFIG_X"] == 7
    assert build.notes == (f"Kconfig values from {directory / 'app/zephyr/.config'}",)
    assert build.facts is not None
    assert build.facts.profile is not None


def test_a_bare_file_brings_nothing_else(tmp_path):
    build = load(builds.bin_file(tmp_path / "app.bin"))
    assert (build.config, build.facts, build.notes) == ({}, None, ())


def test_members_are_asked_for_by_name(tmp_path):
    build = load(builds.bin_file(tmp_path / "app.bin"))
    assert build.member("app") == ImageOrigin(file=str(tmp_path / "app.bin"))
    with pytest.raises(ImageError, match=r"build 'app' \(.*app\.bin\) holds app and no 'net'"):
        build.member("net")


def test_a_build_made_by_hand_knows_its_files():
    image = parse(builds.app(), "out/app.bin")
    assert Build("x", Path("out/app.bin"), {"app": image}).member("app").file == "out/app.bin"


def test_several_images_without_an_application_have_no_hash():
    image = parse(builds.app())
    build = Build("x", Path("x.zip"), {"net": image, "nrf70": image})
    assert str(build) == "x (net, nrf70)"
    with pytest.raises(ImageError, match=r"build 'x' \(x\.zip\) holds net, nrf70 and no application image"):
        _ = build.hash


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(ImageError, match="not a regular file"):
        load(tmp_path / "pipe.bin")
