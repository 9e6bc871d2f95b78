"""Which images are found in a west build directory, which are taken, and what is said of the others."""

import shutil
from pathlib import Path

import builds
import pytest
from firmware import sign

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import load

OTHER = "2.0.0"
"""The version of images that should not be taken."""


def paths(build, directory):
    return {name: str(Path(build.member(name).file).relative_to(directory)) for name in build.images}


# --- Layouts ---


def test_sysbuild_with_a_network_core(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    build = load(directory)
    assert paths(build, directory) == {
        "net": "signed_by_mcuboot_and_b0_ipc_radio.bin",
        "app": "app/zephyr/zephyr.signed.bin",
    }
    assert [*build.images] == ["net", "app"]
    assert (build.name, build.image.data, build.notes) == ("build", builds.app(), ())


def test_sysbuild_without_a_network_core(tmp_path):
    directory = builds.sysbuild(tmp_path / "build")
    assert paths(load(directory), directory) == {"app": "app/zephyr/zephyr.signed.bin"}


def test_child_images_of_older_sdks(tmp_path):
    directory = builds.child_images(tmp_path / "build", network=builds.net())
    build = load(directory)
    assert paths(build, directory) == {"net": "zephyr/net_core_app_update.bin", "app": "zephyr/app_update.bin"}
    assert [*build.images] == ["net", "app"]


def test_zephyr_without_sysbuild(tmp_path):
    directory = builds.plain(tmp_path / "build")
    assert paths(load(directory), directory) == {"app": "zephyr/zephyr.signed.bin"}


def test_a_directory_for_the_network_core_alone(tmp_path):
    build = load(builds.plain(tmp_path / "build", builds.net()))
    assert [*build.images] == ["net"]


def test_build_info_alone_tells_the_domains(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    (directory / "domains.yaml").unlink()
    assert [*load(directory).images] == ["net", "app"]


def test_build_info_without_sysbuild_is_no_sysbuild(tmp_path):
    directory = builds.plain(tmp_path / "build")
    (directory / "build_info.yml").write_text("cmake:\n  board:\n    name: 'nrf5340dk'\nversion: '0.1.0'\n")
    assert paths(load(directory), directory) == {"app": "zephyr/zephyr.signed.bin"}


def test_a_signed_hex_alone_is_taken(tmp_path):
    image = builds.hex_text((0x1_0000, builds.app())).encode()
    build = load(builds.sysbuild(tmp_path / "build", images={"zephyr.signed.hex": image}))
    assert build.image.data == builds.app()
    assert build.member("app").address == 0x1_0000


def test_the_kernel_may_have_another_name(tmp_path):
    directory = builds.sysbuild(
        tmp_path / "build", images={"sensor.signed.bin": builds.app()}, config={"CONFIG_KERNEL_BIN_NAME": "sensor"}
    )
    assert paths(load(directory), directory) == {"app": "app/zephyr/sensor.signed.bin"}


def test_a_network_core_without_b0n_is_signed_in_its_domain(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    (directory / "signed_by_mcuboot_and_b0_ipc_radio.bin").rename(directory / "ipc_radio/zephyr/zephyr.signed.bin")
    assert paths(load(directory), directory)["net"] == "ipc_radio/zephyr/zephyr.signed.bin"


def test_a_network_core_that_is_not_updated_is_noted(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    (directory / "signed_by_mcuboot_and_b0_ipc_radio.bin").unlink()
    build = load(directory)
    assert [*build.images] == ["app"]
    assert build.notes == ("domain ipc_radio, for the network core, has no signed image: it is not updated",)


def test_the_package_is_taken_where_nothing_else_is_kept(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", images={})
    builds.package(directory / "dfu_application.zip")
    build = load(directory)
    assert [*build.images] == ["net", "app"]
    assert build.member("net").image_index == 1
    assert build.notes[-1] == f"dfu_application.zip taken: {directory} holds no signed image"
    assert build.config["CONFIG_BOARD"] == "nrf5340dk"


def test_the_package_is_left_beside_signed_images(tmp_path):
    directory = builds.sysbuild(tmp_path / "build")
    builds.zip_file(directory / "dfu_application.zip", {})
    assert paths(load(directory), directory) == {"app": "app/zephyr/zephyr.signed.bin"}


# --- Ways in ---


def test_the_output_directory_stands_for_the_build_directory(tmp_path, monkeypatch):
    directory = builds.plain(tmp_path / "build")
    build = load(directory / "zephyr")
    assert build.notes == (f"{directory / 'zephyr'} is the output of {directory}",)
    assert build.image.data == builds.app()
    monkeypatch.chdir(directory / "zephyr")
    assert (load(Path()).image.data, load(Path()).name) == (builds.app(), "zephyr")


def test_the_top_output_of_sysbuild_stands_for_all(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    assert [*load(directory / "zephyr").images] == ["net", "app"]


def test_one_domain_is_that_domain_alone(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", network=builds.net())
    build = load(directory / "app")
    assert [*build.images] == ["app"]
    assert build.notes == (f"{directory / 'app'} is one domain of {directory}, and only its image is taken",)
    assert build.facts is not None
    assert build.facts.profile is not None, "the bootloader's facts are those of the whole directory"


def test_a_relative_path_is_as_good(tmp_path, monkeypatch):
    builds.sysbuild(tmp_path / "build", network=builds.net())
    monkeypatch.chdir(tmp_path)
    assert load(Path("build")).name == "build"
    monkeypatch.chdir(tmp_path / "build")
    assert load(Path()).name == "build"


def test_a_copied_directory_does_not_look_where_it_was_built(tmp_path):
    """domains.yaml keeps the paths of the machine that built."""
    first = builds.sysbuild(tmp_path / "first")
    names = ["app", "mcuboot"]
    (first / "domains.yaml").write_text(builds.domains_yaml("app", names, str(first)))
    second = shutil.copytree(first, tmp_path / "second")
    (second / "app/zephyr/zephyr.signed.bin").write_bytes(sign(b"x" * 64, OTHER))
    assert load(second).version == OTHER


# --- What is read besides ---


def test_kconfig_and_facts_come_with_the_images(tmp_path):
    directory = builds.sysbuild(tmp_path / "build", config={"CONFIG_SENSOR": True, "CONFIG_NAME": "x"})
    build = load(directory)
    assert (build.config["CONFIG_SENSOR"], build.config["CONFIG_NAME"]) == (True, "x")
    assert build.config["CONFIG_FLASH_LOAD_OFFSET"] == 0x1_0000
    assert build.facts is not None
    assert build.facts.slots["app"].address == 0x1_0000


def test_a_directory_without_kconfig_has_images_all_the_same(tmp_path):
    directory = tmp_path / "build"
    builds.bin_file(directory / "zephyr" / "zephyr.signed.bin")
    assert load(directory).config == {}


# --- What is chosen ---


def variants(*names):
    """Files in the application's zephyr/; all but the first hold another version."""
    files = {}
    for name, version in zip(names, ("1.2.3", *[OTHER] * len(names)), strict=False):
        data = sign(b"x" * 64, version, confirm="confirmed" in name, encrypt="ecdsa-p256" if "encr" in name else None)
        files[name] = builds.hex_text((0x1_0000, data)).encode() if name.endswith(".hex") else data
    return files


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (["zephyr.signed.bin", "zephyr.signed.hex"], "zephyr.signed.hex"),
        (["zephyr.signed.bin", "zephyr.signed.confirmed.bin"], "zephyr.signed.confirmed.bin"),
        (["zephyr.signed.hex", "zephyr.signed.confirmed.bin"], "zephyr.signed.confirmed.bin"),
        (["zephyr.signed.confirmed.bin", "zephyr.signed.encrypted.bin"], "zephyr.signed.encrypted.bin"),
        (["zephyr.signed.encrypted.bin", "zephyr.signed.encrypted.hex"], "zephyr.signed.encrypted.hex"),
        (
            ["zephyr.signed.bin", "zephyr.signed.hex", "zephyr.signed.encrypted.bin"],
            "zephyr.signed.hex and zephyr.signed.encrypted.bin",
        ),
    ],
)
@pytest.mark.parametrize("layout", ["sysbuild", "plain"])
def test_plain_before_confirmed_before_encrypted(tmp_path, files, left, layout):
    if layout == "sysbuild":
        build, below = load(builds.sysbuild(tmp_path, images=variants(*files))), "app/zephyr"
    else:
        build, below = load(builds.domain(tmp_path, variants(*files))), "zephyr"
    assert build.version == "1.2.3"
    assert build.notes == (f"{below}/{files[0]} taken, {left} left",)
    expected = next((kind for kind in ("confirmed", "encrypted") if kind in files[0]), "")
    assert build.variants == {"app": expected}


def test_the_default_domain_is_the_application(tmp_path):
    directory = builds.sysbuild(tmp_path)
    builds.domain(directory / "second", {"zephyr.signed.bin": sign(b"x" * 64, OTHER)})
    (directory / "domains.yaml").write_text(builds.domains_yaml("app", ["second", "app", "mcuboot"]))
    build = load(directory)
    assert build.version == "1.2.3"
    assert build.notes == ("domain app taken, second left: not the default",)


def test_the_only_other_domain_is_taken_where_the_default_is_not_signed(tmp_path):
    directory = builds.sysbuild(tmp_path, images={"zephyr.bin": b""})
    builds.domain(directory / "second", {"zephyr.signed.bin": builds.app()}, config={"CONFIG_SECOND": True})
    (directory / "domains.yaml").write_text(builds.domains_yaml("app", ["app", "mcuboot", "second"]))
    build = load(directory)
    assert build.notes == ("domain second taken: the default, app, has no signed image",)
    assert build.config == {"CONFIG_SECOND": True}


def test_bootloaders_and_variants_for_secondary_slots_never_count(tmp_path):
    directory = builds.sysbuild(tmp_path, images={})
    for name in ("b0n", "mcuboot_secondary_app", "s1_image"):
        builds.domain(directory / name, {"zephyr.signed.bin": builds.app()})
    builds.bin_file(directory / "mcuboot/zephyr/zephyr.signed.bin")
    names = ["app", "mcuboot", "mcuboot_secondary_app", "b0n", "s1_image"]
    (directory / "domains.yaml").write_text(builds.domains_yaml("app", names))
    with pytest.raises(ImageError, match=r"holds none of signed_by.*, app/zephyr/zephyr\.signed\.bin, dfu_app"):
        load(directory)


def test_an_update_of_the_bootloader_is_not_the_network_core(tmp_path):
    directory = builds.sysbuild(tmp_path, network=builds.net())
    builds.bin_file(directory / "signed_by_mcuboot_and_b0_mcuboot.bin")
    build = load(directory)
    assert build.images["net"].data == builds.net()
    assert build.notes == ("signed_by_mcuboot_and_b0_mcuboot.bin left: not for the network core",)


def test_of_several_network_images_that_of_a_domain_is_taken(tmp_path):
    directory = builds.sysbuild(tmp_path, network=builds.net())
    builds.bin_file(directory / "signed_by_mcuboot_and_b0_hci_ipc.bin", builds.net(OTHER))
    build = load(directory)
    assert str(build.images["net"].version) == "1.2.3"
    assert build.notes == ("signed_by_mcuboot_and_b0_hci_ipc.bin left: hci_ipc is no domain",)


def test_two_names_of_one_image_are_no_contradiction(tmp_path):
    directory = builds.child_images(tmp_path)
    builds.bin_file(directory / "zephyr/zephyr.signed.bin")
    assert paths(load(directory), directory) == {"app": "zephyr/zephyr.signed.bin"}
