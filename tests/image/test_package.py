"""What a dfu_application.zip says of its images, in all the spellings that the SDK has used."""

import json
import zipfile

import builds
import pytest
from firmware import sign

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import package
from pytest_nrfdfu.image.build import load
from pytest_nrfdfu.image.mcuboot import parse

BODY = (0x2000_3158).to_bytes(4, "little") + (0x1_0241).to_bytes(4, "little") + bytes(range(200))
DATA = sign(b"no vector table" * 10)
"""An image that is not for a processor, like patches of the nRF70."""


def packed(path, *files, **manifest):
    """A zip of (name, data, fields of the manifest), and further fields at its top."""
    entries = [builds.manifest_file(name, data, **fields) for name, data, fields in files]
    members = {name: data for name, data, _ in files}
    return builds.zip_file(path, {**members, "manifest.json": json.dumps(builds.manifest(*entries, **manifest))})


def test_both_cores_are_told_apart_and_ordered(tmp_path):
    build = load(builds.package(tmp_path / "dfu_application.zip"))
    assert build.name == "dfu_application"
    assert [*build.images] == ["net", "app"], "the network core is uploaded first"
    assert build.image.data == builds.app()
    assert build.images["net"].data == builds.net()
    app, net = build.member("app"), build.member("net")
    assert (app.file, app.image_index, app.slot_index_primary, app.load_address) == ("app.signed.bin", 0, 1, 0x10200)
    assert (net.file, net.image_index, net.slot_index_primary) == ("ipc_radio.bin", 1, 3)
    assert (net.load_address, net.board, net.soc) == (builds.NETWORK_ADDRESS, "nrf5340dk/nrf5340/cpunet", "nrf5340")
    assert build.notes == ()


def test_sources_name_zip_and_member(tmp_path):
    path = builds.package(tmp_path / "x.zip")
    assert load(path).image.source == f"{path}:app.signed.bin"


def test_the_order_of_the_manifest_does_not_matter(tmp_path):
    net, app = builds.net(), builds.app()
    path = packed(tmp_path / "x.zip", ("ipc_radio.bin", net, {"number": 1}), ("app.bin", app, {}))
    assert [*load(path).images] == ["net", "app"]


@pytest.mark.parametrize("version", [0, 1, "0", "1"])
@pytest.mark.parametrize("names", [("app_update.bin", "net_core_app_update.bin"), ("BORUS.bin", "hci_ipc.bin")])
def test_old_and_new_names_and_versions(tmp_path, version, names):
    path = builds.package(tmp_path / "x.zip", dict(zip(names, (builds.app(), builds.net()), strict=True)))
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["format-version"] = version
    members = {names[0]: builds.app(), names[1]: builds.net(), "manifest.json": json.dumps(manifest)}
    build = load(builds.zip_file(tmp_path / "y.zip", members, zipfile.ZIP_DEFLATED))
    assert {name: build.member(name).file for name in build.images} == {"app": names[0], "net": names[1]}


@pytest.mark.parametrize("number", [lambda n: n, str, hex])
def test_numbers_may_be_text(tmp_path, number):
    data = builds.app()
    fields = {"image_index": number(0), "slot_index_primary": number(1), "load_address": number(0x10200)}
    origin = load(packed(tmp_path / "x.zip", ("a.bin", data, fields | {"size": number(len(data))}))).member("app")
    assert (origin.image_index, origin.slot_index_primary, origin.load_address) == (0, 1, 0x10200)


def test_optional_fields_may_be_missing(tmp_path):
    """As before there were several images: no number, no slots."""
    missing = dict.fromkeys(
        ("image_index", "slot_index_primary", "slot_index_secondary", "load_address", "board", "soc", "type", "size")
    )
    build = load(packed(tmp_path / "x.zip", ("app_update.bin", builds.app(), missing), version=0, name=None))
    origin = build.member("app")
    assert (origin.image_index, origin.load_address, origin.board, origin.soc) == (None, None, None, None)


def test_a_network_core_alone_is_a_build(tmp_path):
    build = load(packed(tmp_path / "x.zip", ("ipc_radio.bin", builds.net(), {"number": 1})))
    assert [*build.images] == ["net"]
    assert build.image is build.images["net"]


def test_other_images_keep_their_names_and_come_before_the_application(tmp_path):
    path = packed(
        tmp_path / "x.zip",
        ("app.bin", builds.app(), {}),
        ("nrf70.signed.bin", DATA, {"number": 2, "load_address": None}),
        ("app.external.bin", DATA, {"number": 3, "load_address": 0x1000_0000}),
        ("net.bin", DATA, {"number": 4, "load_address": None}),
        ("ipc_radio.bin", builds.net(), {"number": 1}),
    )
    assert [*load(path).images] == ["net", "nrf70", "app.external", "image4", "app"]


def test_number_1_is_not_always_the_network_core(tmp_path):
    """Without a network core, it is the next image that has the number 1."""
    path = packed(
        tmp_path / "x.zip",
        ("app.bin", builds.app(), {}),
        ("app.external.bin", DATA, {"number": 1, "board": "nrf5340dk", "load_address": 0x1000_0000}),
    )
    assert [*load(path).images] == ["app.external", "app"]


def test_an_encrypted_network_image_is_known_by_the_manifest(tmp_path):
    net = sign(BODY, encrypt="ecdsa-p256")
    assert parse(net).reset_vector is None
    for number, fields in enumerate(
        (
            {"number": 1},
            {"number": 1, "load_address": None},
            {"number": 1, "load_address": None, "board": "nrf5340dk"},
            {"number": 1, "load_address": None, "board": None, "soc": "nrf5340_cpunet"},
        )
    ):
        build = load(packed(tmp_path / f"{number}.zip", ("a.bin", builds.app(), {}), ("radio.bin", net, fields)))
        assert [*build.images] == ["net", "app"]
        assert build.variants == {"net": "encrypted", "app": ""}


def test_direct_xip_variants_for_the_secondary_slot_are_left(tmp_path):
    fields = {"slot_index_primary": None, "slot_index_secondary": None, "version_MCUBOOT": None}
    fields["version_MCUBOOT+XIP"] = "1.2.3+0"
    path = packed(
        tmp_path / "x.zip",
        ("mcuboot_secondary_app.signed.bin", sign(BODY, "9.9.9"), {**fields, "slot": "1"}),
        ("app.signed.bin", builds.app(), {**fields, "slot": "0"}),
    )
    build = load(path)
    assert build.version == "1.2.3"
    assert build.notes == (
        "mcuboot_secondary_app.signed.bin left: it was linked for the secondary slot (slot 1)",
    )  # fmt: skip


def test_a_version_that_is_not_the_image_s_is_noted(tmp_path):
    build = load(packed(tmp_path / "x.zip", ("a.bin", builds.app(), {"version_MCUBOOT": "7.0.0"})))
    assert build.notes == ("a.bin: the manifest says version 7.0.0, the image 1.2.3",)
    build = load(packed(tmp_path / "y.zip", ("a.bin", builds.app(), {"version_MCUBOOT": "seven"})))
    assert build.notes == ("a.bin: the manifest says version seven, the image 1.2.3",)


def test_members_that_the_manifest_does_not_name_are_ignored(tmp_path):
    files = {"app.bin": builds.app()}
    manifest = json.dumps(builds.manifest(builds.manifest_file("app.bin", files["app.bin"])))
    path = builds.zip_file(tmp_path / "x.zip", {**files, "docs/": b"", "docs/readme": b"?", "manifest.json": manifest})
    assert [*load(path).images] == ["app"]


def test_a_confirmed_image_that_packs_well_is_no_bomb(tmp_path):
    """A slot of 896 KiB around a small image: a thirtieth, packed."""
    data = builds.app(slot_size=0xE_0000, confirm=True)
    files = {"a.bin": data, "manifest.json": json.dumps(builds.manifest(builds.manifest_file("a.bin", data)))}
    build = load(builds.zip_file(tmp_path / "x.zip", files, zipfile.ZIP_DEFLATED))
    assert build.variants == {"app": "confirmed"}


def test_an_application_that_must_not_be_started_is_refused_and_other_images_are_not(tmp_path):
    data = sign(BODY, extra=("--non-bootable",))
    with pytest.raises(ImageError, match="must not start it"):
        load(packed(tmp_path / "x.zip", ("a.bin", data, {})))
    patches = sign(DATA, extra=("--non-bootable",))
    build = load(
        packed(
            tmp_path / "y.zip",
            ("a.bin", builds.app(), {}),
            ("nrf70.bin", patches, {"number": 2, "load_address": None}),
        )
    )
    assert not build.images["nrf70"].bootable


def test_the_real_manifest_is_understood(tmp_path):
    """Of a public Thingy:53 project, made by nRF Connect SDK 2.7; its sizes are those of the images put in here."""
    manifest = {
        "format-version": 1,
        "time": 1744812240,
        "files": [
            {"type": "application", "board": "thingy53", "soc": "nrf5340", "load_address": 114688, "image_index": "0",
             "slot_index_primary": "1", "slot_index_secondary": "2", "version_MCUBOOT": "0.1.0+0",
             "size": len(builds.app("0.1.0")), "file": "BORUS.bin", "modtime": 1744812225},
            {"type": "application", "board": "thingy53/nrf5340/cpunet", "soc": "nrf5340", "image_index": "1",
             "slot_index_primary": "3", "slot_index_secondary": "4", "load_address": 16812032, "version": "1",
             "size": len(builds.net()), "file": "ipc_radio.bin", "modtime": 1744812240},
        ],
        "name": "BORUS",
    }  # fmt: skip
    members = {"BORUS.bin": builds.app("0.1.0"), "ipc_radio.bin": builds.net(), "manifest.json": json.dumps(manifest)}
    build = load(builds.zip_file(tmp_path / "dfu_application.zip", members))
    assert ([*build.images], build.version, build.notes) == (["net", "app"], "0.1.0", ())
    assert build.member("app").load_address == 0x1C000


def test_reading_a_package_gives_no_directory(tmp_path):
    contents = package.read(builds.package(tmp_path / "x.zip"))
    assert (contents.directory, contents.config) == (None, {})
