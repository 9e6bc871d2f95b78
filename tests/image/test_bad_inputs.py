"""What each bad input is told, over all formats; and that nothing but ImageError comes, quickly and in little memory.

The messages are exact, apart from the path of the input, which stands as {path}, and from what follows "...": the words
of other packages.
"""

import io
import json
import signal
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager
from functools import lru_cache

import builds
import pytest
from firmware import sign
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import archive, hexfile, package
from pytest_nrfdfu.image.build import load

MEMORY = 64 << 20
"""What a reader may use at most, in bytes."""
SECONDS = 30.0
"""After so much processor time a reader hangs: none takes a tenth of it, even while its memory is traced."""

BODY = struct.pack("<II", 0x2000_3158, 0x1_0241) + bytes(range(200))
NETWORK_BODY = struct.pack("<II", 0x2100_3158, 0x0100_8A41) + bytes(range(200))


@lru_cache
def app():
    return sign(BODY)


@lru_cache
def net():
    return sign(NETWORK_BODY)


def entry(file="app.bin", data=None, **fields):
    return builds.manifest_file(file, app() if data is None else data, **fields)


def zipped(path, manifest=None, members=None, method=zipfile.ZIP_STORED):
    """A package, by default a right one of app.bin."""
    manifest = builds.manifest(entry()) if manifest is None else manifest
    text = manifest if isinstance(manifest, str | bytes) else json.dumps(manifest)
    return builds.zip_file(
        path, {**({"app.bin": app()} if members is None else members), "manifest.json": text}, method
    )


def changed(**fields):
    """A package whose manifest says something else of app.bin."""
    return lambda path: zipped(path, builds.manifest(entry(**fields)))


def record(address, kind, data=b""):
    raw = bytes([len(data), address >> 8, address & 0xFF, kind]) + data
    return ":" + (raw + bytes([-sum(raw) & 0xFF])).hex().upper() + "\n"


END = record(0, 1)


def hex_of(*parts):
    return lambda path: builds._write(path, builds.hex_text(*parts).encode())


def text(content):
    return lambda path: builds._write(path, content.encode() if isinstance(content, str) else content)


def patched(change):
    """A right package, changed as bytes."""

    def make(path):
        zipped(path)
        path.write_bytes(change(bytearray(path.read_bytes())))
        return path

    return make


def flag_encrypted(data):
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(magic)
        data[at + offset] |= 1
    return data


def raise_size(data):
    """The directory of members claims 4 GiB for the first."""
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = b"\xf0\xff\xff\xff"
    return data


def flip_stored(data):
    at = data.index(app()[:64])
    data[at + 40] ^= 1
    return data


def duplicate(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("app.bin", app())
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("app.bin", net())
        file.writestr("manifest.json", json.dumps(builds.manifest(entry())))
    return path


def two_network_images(path):
    builds.sysbuild(path, network=net())
    builds.bin_file(path / "signed_by_mcuboot_and_b0_a.bin", net())
    (path / "signed_by_mcuboot_and_b0_ipc_radio.bin").rename(path / "signed_by_mcuboot_and_b0_b.bin")
    return path


def two_applications(path):
    builds.sysbuild(path, images={})
    for name in ("one", "two"):
        builds.domain(path / name, {"zephyr.signed.bin": app()})
    (path / "domains.yaml").write_text(builds.domains_yaml("app", ["app", "mcuboot", "one", "two"]))
    return path


def two_names(path):
    return builds.domain(path, {"zephyr.signed.bin": app(), "app_update.bin": sign(BODY, "2.0.0")})


def yaml(content):
    def make(path):
        builds.sysbuild(path)
        (path / "domains.yaml").write_text(content)
        return path

    return make


def nested(path):
    return builds.zip_file(path, {"artifact/dfu_application.zip": b"PK"})


def below(path):
    builds.sysbuild(path / "build")
    return path


ZIP = "cannot use {path} as dfu_application.zip: "
AGAIN = " Build the zip again"
HEX = "cannot use {path} as a signed .hex: "
SIGNED = " Use zephyr.signed.hex or zephyr.signed.bin of the application, from the same build"
COPY = " Copy or build the file again"
OWN = " Give the build's own zip"
DIRECTORY = "cannot use {path} as a build: "
YAML = "cannot read {path}/domains.yaml: "
TOOL = " It is damaged or from another tool: build again"

BAD = {
    # --- .bin ---
    "bin: missing": (
        "gone.bin",
        lambda path: path,
        "cannot use {path} as an MCUboot image: there is no such file. Build first, or correct the path",
    ),
    "bin: empty": (
        "empty.bin",
        text(""),
        (
            "cannot use {path} as an MCUboot image: it looks like an empty file. "
            "Look at the build: it did not finish, or the copy was cut off"
        ),
    ),
    "bin: unsigned": (
        "zephyr.bin",
        text(BODY),
        (
            "cannot use {path} as an MCUboot image: it looks like an unsigned Cortex-M binary without room for "
            "a header (zephyr.bin). zephyr.bin is unsigned; use zephyr.signed.bin. If there is none, build with "
            "CONFIG_BOOTLOADER_MCUBOOT=y"
        ),
    ),
    "bin: cut off": (
        "app.bin",
        lambda path: builds.bin_file(path, app()[:600]),
        (
            "cannot use {path} as an MCUboot image: it is cut off: the header says 512 bytes of header and 208 of "
            "body, and the file has 600. Copy or build the file again"
        ),
    ),
    "bin: something appended": (
        "app.bin",
        lambda path: builds.bin_file(path, app() + b"more"),
        (
            "cannot use {path} as an MCUboot image: behind the image, which ends at 0x2f8, are 4 bytes that are "
            "neither padding (0xff) nor a trailer: 6d 6f 72 65 at 0x2f8. Use the file as imgtool wrote it; a copy of "
            "the flash or a file with something appended cannot be uploaded"
        ),
    ),
    "bin: too large": (
        "flash.bin",
        lambda path: path.write_bytes(bytes(17 << 20)),
        (
            "cannot use {path} as an MCUboot image: it has 17825792 bytes, and 16777216 are the most. "
            "No slot of an nRF5340 holds that much: use zephyr.signed.bin from the build directory"
        ),
    ),
    # --- .hex ---
    "hex: bootloader and application": (
        "merged.hex",
        hex_of((0, BODY), (0x1_0000, app())),
        HEX + "it holds an image at 0x10000 and other code before it, from 0x0 on "
        "(merged.hex: bootloader and application together)." + SIGNED,
    ),
    "hex: bootloader and application without a gap": (
        "merged.hex",
        hex_of((0, BODY.ljust(0x1_0000, b"\xff")), (0x1_0000, app())),
        HEX + "it holds an image at 0x10000 and other code before it, from 0x0 on "
        "(merged.hex: bootloader and application together)." + SIGNED,
    ),
    "hex: both cores": (
        "merged_domains.hex",
        hex_of((0x1_0000, app()), (0x0100_8800, net())),
        HEX + "it holds more than one image: 0x10000 to 0x102f8, 0x1008800 to 0x1008af8." + SIGNED,
    ),
    "hex: image and UICR": (
        "app.hex",
        hex_of((0x1_0000, app()), (0x00FF_8000, b"\xff\xff")),
        HEX + "it holds areas too far apart for one image: 0x10000 to 0x102f8, 0xff8000 to 0xff8002." + SIGNED,
    ),
    "hex: unsigned": (
        "zephyr.hex",
        hex_of((0x1_0200, BODY)),
        (
            "cannot use {path} as an MCUboot image: it looks like an unsigned Cortex-M binary without room for "
            "a header (zephyr.bin). zephyr.bin is unsigned; use zephyr.signed.bin. If there is none, build with "
            "CONFIG_BOOTLOADER_MCUBOOT=y"
        ),
    ),
    "hex: hole in the image": (
        "app.hex",
        hex_of((0x1_0000, app()[:0x210]), (0x1_0220, app()[0x220:])),
        "cannot use {path} as an MCUboot image: the SHA256 over header, body and protected TLVs is ...",
    ),
    "hex: no data": (
        "empty.hex",
        text(record(0, 4, b"\0\1") + END),
        HEX + "it holds no data. Look at the build: it did not finish, or the copy was cut off",
    ),
    "hex: wrong checksum": (
        "app.hex",
        text(record(0, 0, b"1") + ":0100010031CC\n" + END),
        HEX + "line 2: its checksum is wrong: ':0100010031CC'." + COPY,
    ),
    "hex: no record": (
        "app.hex",
        text(record(0, 0, b"1") + "hello\n" + END),
        HEX + "line 2: it is not a record: 'hello'." + COPY,
    ),
    "hex: cut off": (
        "app.hex",
        text(record(0, 4, b"\0\1") + record(0, 0, b"12345678")),
        HEX + "it is cut off: line 2 is the last and no end-of-file record." + COPY,
    ),
    "hex: two files joined": (
        "app.hex",
        text(record(0, 0, b"1") + END + record(0, 0, b"2") + END),
        HEX + "line 3 follows the end-of-file record: two files were joined." + SIGNED,
    ),
    "hex: one byte twice": (
        "app.hex",
        text(record(0, 0, b"12345678") + record(4, 0, b"5") + END),
        HEX + "it gives the byte at 0x4 twice: two files were joined." + SIGNED,
    ),
    "hex: scattered": (
        "app.hex",
        text("".join(record(n, 0, b"1") for n in range(0, 2002, 2)) + END),
        HEX + "it holds more than 8388608 bytes or 1000 separate areas, and no slot does." + SIGNED,
    ),
    "hex: not text": (
        "app.hex",
        text(record(0, 0, b"12345678").encode() + b"\xff\xfe\n"),
        HEX + "line 2 is not text." + COPY,
    ),
    "hex: a line without end": (
        "app.hex",
        text(record(0, 0, b"12345678") + ":" + "0" * 700),
        HEX + "line 2 is not a record." + COPY,
    ),
    # --- zip: tricks ---
    "zip: cut off": (
        "x.zip",
        patched(lambda data: data[:-30]),
        ZIP + "it is damaged (File is not a zip file). Copy it again, or build it",
    ),
    "zip: a member was changed": (
        "x.zip",
        patched(flip_stored),
        ZIP + "its member app.bin: it is damaged (Bad CRC-32 for file 'app.bin'). Copy it again, or build it",
    ),
    "zip: encrypted": (
        "x.zip",
        patched(flag_encrypted),
        ZIP + "its member app.bin is encrypted with a password." + OWN,
    ),
    "zip: bomb": (
        "x.zip",
        lambda path: zipped(path, members={"app.bin": bytes(4 << 20)}, method=zipfile.ZIP_DEFLATED),
        ZIP + "its member app.bin unpacks from ...",
    ),
    "zip: claims 4 GiB": (
        "x.zip",
        patched(raise_size),
        ZIP + "its member app.bin has 4294967280 bytes unpacked, and 8388608 are the most. "
        "No slot of an nRF5340 holds that much: give the build's own zip",
    ),
    "zip: too much together": (
        "x.zip",
        lambda path: zipped(path, members={name: bytes(6 << 20) for name in "abc"}),
        ZIP + "it has more than 16777216 bytes. Give the build's own zip, not an archive of the build",
    ),
    "zip: 65 members": (
        "x.zip",
        lambda path: zipped(path, members={f"{number}.bin": b"" for number in range(64)}),
        ZIP + "it has 65 members, and 64 are the most." + OWN,
    ),
    "zip: 5000 members": (
        "x.zip",
        lambda path: zipped(path, members={f"{number}.bin": b"" for number in range(5000)}),
        ZIP + "it is damaged (a directory of members with 268949 bytes). Copy it again, or build it",
    ),
    "zip: member twice": (
        "x.zip",
        duplicate,
        ZIP + "it has two members app.bin. Which one counts cannot be told: build the zip again",
    ),
    "zip: member above the archive": (
        "x.zip",
        lambda path: zipped(path, members={"app.bin": app(), "../../evil": b""}),
        ZIP + "its member '../../evil' leaves the archive. No build makes such a zip: where is it from?",
    ),
    "zip: absolute member": (
        "x.zip",
        lambda path: zipped(path, members={"app.bin": app(), "/etc/passwd": b""}),
        ZIP + "its member '/etc/passwd' leaves the archive. No build makes such a zip: where is it from?",
    ),
    "zip: Windows path": (
        "x.zip",
        lambda path: zipped(path, members={"app.bin": app(), "C:\\evil": b""}),
        ZIP + "its member 'C:\\\\evil' leaves the archive. No build makes such a zip: where is it from?",
    ),
    "zip: other packing": (
        "x.zip",
        lambda path: zipped(path, method=zipfile.ZIP_LZMA),
        ZIP + "its member app.bin is packed by method 14. Only stored and deflated ones are read: give the build's own "
        "zip",
    ),
    # --- zip: manifest ---
    "manifest: missing": (
        "x.zip",
        lambda path: builds.zip_file(path, {"app.bin": app(), "sub/manifest.json": "{}"}),
        ZIP + "it has no manifest.json; it holds app.bin, sub/manifest.json. Give the build's dfu_application.zip",
    ),
    "manifest: archive of an archive": (
        "artifact.zip",
        nested,
        ZIP + "it has no manifest.json; it holds artifact/dfu_application.zip. "
        "Unpack it and give the artifact/dfu_application.zip inside",
    ),
    "manifest: empty archive": (
        "x.zip",
        lambda path: builds.zip_file(path, {}),
        ZIP + "it has no manifest.json; it holds nothing. Give the build's dfu_application.zip",
    ),
    "manifest: broken": (
        "x.zip",
        lambda path: zipped(path, '{"files": ['),
        ZIP + "its manifest.json is not JSON (Expecting value...",
    ),
    "manifest: nested too deeply": (
        "x.zip",
        lambda path: zipped(path, "[" * 100_000),
        ZIP + "its manifest.json is not JSON (...",
    ),
    "manifest: too long": (
        "x.zip",
        lambda path: zipped(path, " " * 300_000),
        ZIP + "its member manifest.json has more than 262144 bytes. Copy it again, or build it",
    ),
    "manifest: a list": (
        "x.zip",
        lambda path: zipped(path, "[1, 2]"),
        ZIP + "its manifest.json is a list of 2, not a table." + AGAIN,
    ),
    "manifest: newer": (
        "x.zip",
        lambda path: zipped(path, builds.manifest(entry(), version=2)),
        ZIP + "its manifest has format-version 2, and 0 and 1 are known. "
        "Look for a newer pytest-nrfdfu, or give the signed .bin instead",
    ),
    "manifest: no version": (
        "x.zip",
        lambda path: zipped(path, builds.manifest(entry(), version=None)),
        ZIP + '"format-version" of its manifest is missing.' + AGAIN,
    ),
    "manifest: files is text": (
        "x.zip",
        lambda path: zipped(path, builds.manifest(files="app.bin")),
        ZIP + "\"files\" in its manifest is 'app.bin', not a list of tables." + AGAIN,
    ),
    "manifest: no files": (
        "x.zip",
        lambda path: zipped(path, builds.manifest()),
        ZIP + "its manifest lists 0 files; 1 to 16 can be." + AGAIN,
    ),
    "manifest: no name": (
        "x.zip",
        changed(file=None),
        ZIP + '"file" of file 1 of its manifest is None, not a name.' + AGAIN,
    ),
    "manifest: name is a number": (
        "x.zip",
        changed(file=7),
        ZIP + '"file" of file 1 of its manifest is 7, not a name.' + AGAIN,
    ),
    "manifest: name leaves": (
        "x.zip",
        changed(file="../app.bin"),
        ZIP + "file 1 of its manifest is '../app.bin', which leaves the archive." + AGAIN,
    ),
    "manifest: member is not there": (
        "x.zip",
        changed(file="other.bin"),
        ZIP + "its manifest lists other.bin, and it holds app.bin, manifest.json." + AGAIN,
    ),
    "manifest: one file twice": (
        "x.zip",
        lambda path: zipped(path, builds.manifest(entry(), entry())),
        ZIP + "its manifest lists app.bin twice." + AGAIN,
    ),
    "manifest: other size": (
        "x.zip",
        changed(size=759),
        ZIP + "its manifest says 759 bytes for app.bin, and it has 760. "
        "The zip was changed after it was made: build it again",
    ),
    "manifest: number in words": (
        "x.zip",
        changed(image_index="one"),
        ZIP + "\"image_index\" of app.bin in its manifest is 'one', not a number." + AGAIN,
    ),
    "manifest: number is a truth": (
        "x.zip",
        changed(image_index=True),
        ZIP + '"image_index" of app.bin in its manifest is True, not a number.' + AGAIN,
    ),
    "manifest: number is negative": (
        "x.zip",
        changed(load_address=-1),
        ZIP + '"load_address" of app.bin in its manifest is -1, not a number.' + AGAIN,
    ),
    "manifest: board is a number": (
        "x.zip",
        changed(board=5340),
        ZIP + '"board" of app.bin in its manifest is 5340, not a text.' + AGAIN,
    ),
    "manifest: bootloader": (
        "dfu_mcuboot.zip",
        changed(type="mcuboot"),
        ZIP + "app.bin in its manifest is of type 'mcuboot', not application (dfu_mcuboot.zip updates the bootloader). "
        "Give the build's dfu_application.zip",
    ),
    "manifest: two applications": (
        "x.zip",
        lambda path: zipped(
            path, builds.manifest(entry(), entry("b.bin", image_index="0")), {"app.bin": app(), "b.bin": app()}
        ),
        ZIP + "both app.bin and b.bin are the image 'app', by number and address in its manifest. "
        "Which one to upload cannot be told: give the signed .bin, or build the zip again",
    ),
    "manifest: cores exchanged": (
        "x.zip",
        changed(load_address=0x0100_8800, image_index="1"),
        (
            "{path}:app.bin: the manifest says load_address 0x1008800, the network core, and its reset vector 0x10241 "
            "belongs to the application core. Were files exchanged? Build again"
        ),
    ),
    "manifest: cores exchanged, by board": (
        "x.zip",
        lambda path: zipped(
            path, builds.manifest(entry(data=net(), load_address=None, board="x/cpuapp")), {"app.bin": net()}
        ),
        (
            "{path}:app.bin: the manifest says board 'x/cpuapp', the application core, and its reset vector 0x1008a41 "
            "belongs to the network core. Were files exchanged? Build again"
        ),
    ),
    "zip: member is no image": (
        "x.zip",
        lambda path: zipped(path, builds.manifest(entry(data=BODY)), {"app.bin": BODY}),
        (
            "cannot use {path}:app.bin as an MCUboot image: it looks like an unsigned Cortex-M binary without room "
            "for a header (zephyr.bin). zephyr.bin is unsigned; use zephyr.signed.bin. If there is none, build with "
            "CONFIG_BOOTLOADER_MCUBOOT=y"
        ),
    ),
    # --- directories ---
    "directory: empty": (
        "build",
        lambda path: path.mkdir(),
        DIRECTORY + "it is a directory and holds none of zephyr/zephyr.signed.bin, zephyr/app_update.bin, "
        "zephyr/net_core_app_update.bin, dfu_application.zip, zephyr/dfu_application.zip. "
        "Give a west build directory, a signed .bin or .hex, or dfu_application.zip",
    ),
    "directory: unsigned": (
        "build",
        lambda path: builds.domain(path, {"zephyr.bin": BODY}),
        DIRECTORY + "it is a directory and holds none of zephyr/zephyr.signed.bin, zephyr/app_update.bin, "
        "zephyr/net_core_app_update.bin, dfu_application.zip, zephyr/dfu_application.zip. zephyr/zephyr.bin is there, "
        "unsigned: build with SB_CONFIG_BOOTLOADER_MCUBOOT=y (CONFIG_BOOTLOADER_MCUBOOT=y without sysbuild)",
    ),
    "directory: sysbuild without images": (
        "build",
        lambda path: builds.sysbuild(path, images={}),
        DIRECTORY + "it is a directory and holds none of signed_by_mcuboot_and_b0_<net>.bin, "
        "app/zephyr/zephyr.signed.bin, dfu_application.zip, zephyr/dfu_application.zip. "
        "The build did not finish, or its images were not kept: build again, or give the signed .bin",
    ),
    "directory: one too high": (
        "project",
        below,
        DIRECTORY + "it is a directory and holds none of zephyr/zephyr.signed.bin, zephyr/app_update.bin, "
        "zephyr/net_core_app_update.bin, dfu_application.zip, zephyr/dfu_application.zip. Did you mean {path}/build?",
    ),
    "directory: two applications": (
        "build",
        two_applications,
        DIRECTORY + "it holds 2 applications: one/zephyr/zephyr.signed.bin, two/zephyr/zephyr.signed.bin. "
        "Give the one to upload, or build again in a clean directory",
    ),
    "directory: two network cores": (
        "build",
        two_network_images,
        DIRECTORY + "it holds 2 images of the network core: signed_by_mcuboot_and_b0_a.bin, "
        "signed_by_mcuboot_and_b0_b.bin. Give the one to upload, or build again in a clean directory",
    ),
    "directory: two names for different images": (
        "build",
        two_names,
        DIRECTORY + "it holds 2 images that differ: zephyr/zephyr.signed.bin, zephyr/app_update.bin. "
        "Give the one to upload, or build again in a clean directory",
    ),
    "directory: application as network core": (
        "build",
        lambda path: builds.sysbuild(path, network=app()),
        (
            "{path}/signed_by_mcuboot_and_b0_ipc_radio.bin is where the network core's image belongs, and its reset "
            "vector 0x10241 lies outside the network core's flash. The build directory is mixed up: build again"
        ),
    ),
    "directory: split image": (
        "build",
        lambda path: builds.sysbuild(path, images={"zephyr.internal.signed.bin": app()}),
        DIRECTORY + "app/zephyr/zephyr.internal.signed.bin says that the application is split between internal and "
        "external flash. Give dfu_application.zip, whose manifest numbers the parts",
    ),
    "directory: domains.yaml is no YAML": (
        "build",
        yaml("default: [app"),
        YAML + "it is not YAML (while parsing a flow sequence...",
    ),
    "directory: domains.yaml is text": ("build", yaml("hello"), YAML + "it is 'hello', not a table." + TOOL),
    "directory: domains.yaml without domains": (
        "build",
        yaml("default: app\n"),
        YAML + '"domains" is None, not a list of tables.' + TOOL,
    ),
    "directory: domain elsewhere": (
        "build",
        yaml("default: app\ndomains:\n  - name: ../../other\n"),
        YAML + "the name of a domain is '../../other', which is no directory in it." + TOOL,
    ),
    "directory: default is no domain": (
        "build",
        yaml("default: app\ndomains:\n  - name: other\n"),
        YAML + "its default 'app' is none of its domains (other)." + TOOL,
    ),
    "directory: domains.yaml is a thicket": (
        "build",
        yaml("[" * 1001),
        YAML + "it has more than 1000 brackets." + TOOL,
    ),
    "directory: domains.yaml is huge": (
        "build",
        yaml("#" * 70_000),
        (
            "{path}/domains.yaml has more than 65536 bytes, and no build makes it that large. "
            "Build again in a clean directory"
        ),
    ),
}


def message_of(path):
    with pytest.raises(ImageError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize(("name", "make", "message"), BAD.values(), ids=BAD)
def test_a_bad_input_is_told_what_it_is(tmp_path, name, make, message):
    path = tmp_path / name
    make(path)
    expected = message.replace("{path}", str(path))
    told = message_of(path)
    if expected.endswith("..."):
        assert told[: len(expected) - 3] == expected[:-3]
    else:
        assert told == expected
    assert not told.endswith((".", " "))


def test_right_inputs_of_the_same_making_are_taken(tmp_path):
    """So what was refused above was refused for what was wrong with it."""
    assert load(zipped(tmp_path / "a.zip")).version == "1.2.3"
    assert load(zipped(tmp_path / "b.zip", method=zipfile.ZIP_DEFLATED)).version == "1.2.3"
    many = {"app.bin": app(), **{f"{n}.bin": b"" for n in range(62)}}
    assert load(zipped(tmp_path / "c.zip", members=many)).version == "1.2.3"
    assert load(hex_of((0x1_0000, app()))(tmp_path / "a.hex")).version == "1.2.3"
    assert load(builds.bin_file(tmp_path / "a.bin", app())).version == "1.2.3"
    assert [*load(builds.sysbuild(tmp_path / "build", images={"zephyr.signed.bin": app()}, network=net())).images] == [
        "net",
        "app",
    ]


def test_members_are_counted_together(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip")
    size = sum(info.file_size for info in zipfile.ZipFile(path).infolist())
    monkeypatch.setattr(archive, "MAX_UNPACKED_SIZE", size)
    assert load(path).version == "1.2.3"
    monkeypatch.setattr(archive, "MAX_UNPACKED_SIZE", size - 1)
    assert f"its members have {size} bytes unpacked, and {size - 1} are the most" in message_of(path)


def test_what_lies_about_its_size_is_not_read_further(tmp_path):
    """The directory says fewer bytes than the member has; a reader that trusts the data would go on."""
    path = zipped(tmp_path / "x.zip", members={"app.bin": bytes(60_000)}, method=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(magic)
        data[at + offset : at + offset + 4] = len(app()).to_bytes(4, "little")
    path.write_bytes(data)
    assert "damaged (Bad CRC-32" in message_of(path)


def test_files_that_cannot_be_opened_are_image_errors(tmp_path, monkeypatch):
    paths = [zipped(tmp_path / "x.zip"), hex_of((0, app()))(tmp_path / "x.hex")]
    for path, reader in zip(paths, (package.read, hexfile.load), strict=True):

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(type(path), "open", refuse)
            with pytest.raises(ImageError, match=r"cannot be read \(.*Permission denied\)\. Look at the path"):
                reader(path)


# --- Nothing but ImageError, quickly, and in little memory ---


@contextmanager
def watched():
    """A reader that hangs is interrupted, and fails the test."""

    def alarm(*_):
        raise AssertionError(f"still reading after {SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def measured(read):
    """`read()` under the limits; None where ImageError came."""
    tracemalloc.start()
    try:
        with watched():
            return read()
    except ImageError:
        return None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY


@lru_cache
def valid_zip(method):
    files = {"app.bin": app(), "ipc_radio.bin": net()}
    entries = [entry(), entry("ipc_radio.bin", net(), number=1)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in {**files, "manifest.json": json.dumps(builds.manifest(*entries))}.items():
            file.writestr(name, data)
    return buffer.getvalue()


@lru_cache
def valid_hex():
    return builds.hex_text((0x1_0000, app())).encode()


def structure(data):
    """Where the fields of a zip lie, so that changes hit them more often than the images."""
    found = []
    for magic, size in ((b"PK\x03\x04", 46), (b"PK\x01\x02", 60), (b"PK\x05\x06", 22)):
        at = data.find(magic)
        while at >= 0:
            found += range(at, min(at + size, len(data)))
            at = data.find(magic, at + 1)
    return found or [0]


edits = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 1 << 16), st.binary(max_size=5)), max_size=5)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


def mutated(data, changes, cut, places=()):
    damaged = bytearray(data[: cut or None])
    for insert, anywhere, position, piece in changes:
        at = position % (len(damaged) + 1) if anywhere or not places else places[position % len(places)]
        damaged[at : at if insert else at + len(piece)] = piece
    return bytes(damaged)


@quick
@given(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), edits, st.integers(0, 1 << 12))
@example(zipfile.ZIP_STORED, [], 0)
def test_damaged_zips(tmp_path, method, changes, cut):
    data = valid_zip(method)
    path = tmp_path / "x.zip"
    path.write_bytes(mutated(data, changes, cut if cut < len(data) else 0, structure(data)))
    build = measured(lambda: load(path))
    if not changes and not cut:
        assert [*build.images] == ["net", "app"]


@quick
@given(st.sampled_from(["bin", "hex"]), edits, st.integers(0, 1 << 12))
@example("hex", [], 0)
@example("bin", [], 0)
def test_damaged_images(tmp_path, kind, changes, cut):
    data = app() if kind == "bin" else valid_hex()
    path = tmp_path / f"x.{kind}"
    path.write_bytes(mutated(data, changes, cut if cut < len(data) else 0))
    build = measured(lambda: load(path))
    if not changes and not cut:
        assert build.image.data == app()


records = st.builds(
    record,
    st.integers(0, 0xFFFF),
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6]),
    st.one_of(st.binary(max_size=20), st.binary(min_size=2, max_size=2)),
)


@quick
@given(st.lists(records, max_size=12), st.booleans())
def test_any_records(tmp_path, lines, ended):
    path = tmp_path / "x.hex"
    path.write_text("".join(lines) + (END if ended else ""))
    measured(lambda: hexfile.load(path))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["0", "1", "0x10", "app.bin", "../x", "manifest.json", 10**40, "9" * 30, "٣"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "type",
    "board",
    "soc",
    "load_address",
    "image_index",
    "slot_index_primary",
    "slot",
    "size",
    "file",
    "version_MCUBOOT",
)


@quick
@given(
    st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4),
    st.dictionaries(st.sampled_from(["format-version", "files", "time", "name"]), json_values, max_size=2),
)
def test_any_manifest(tmp_path, fields, top):
    manifest = builds.manifest({**entry(), **fields}) | top
    path = zipped(tmp_path / "x.zip", json.dumps(manifest))
    measured(lambda: load(path))


@quick
@given(edits, st.integers(0, 1 << 10), st.binary(max_size=40))
def test_damaged_manifests(tmp_path, changes, cut, noise):
    data = json.dumps(builds.manifest(entry())).encode()
    for content in (mutated(data, changes, cut if cut < len(data) else 0), noise):
        path = zipped(tmp_path / "x.zip", content)
        measured(lambda path=path: load(path))


@quick
@given(edits, st.integers(0, 400), st.text(max_size=30), st.sampled_from(["domains.yaml", "build_info.yml"]))
@example([], 0, "a: &a [*a, *a]", "domains.yaml")
@example([], 0, "[" * 1000, "domains.yaml")
@example([], 0, "- " * 30_000, "domains.yaml")
@example([], 0, "? [1, 2]\n: 3", "domains.yaml")
@example([], 0, "domains: 2020-99-99", "domains.yaml")
@example([], 0, "!!python/object/apply:os.system [x]", "domains.yaml")
@example([], 0, "cmake: {sysbuild: true, images: [{name: a, type: [x]}]}", "build_info.yml")
def test_damaged_domains(tmp_path, changes, cut, noise, name):
    data = builds.domains_yaml("app", ["app", "mcuboot"]).encode()
    directory = tmp_path / "build"
    builds.bin_file(directory / "app/zephyr/zephyr.signed.bin", app())
    (directory / "domains.yaml").unlink(missing_ok=True)
    for content in (mutated(data, changes, cut if cut < len(data) else 0), noise.encode("utf-8", "surrogatepass")):
        (directory / name).write_bytes(content)
        measured(lambda: load(directory))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("padding.zip", lambda path: path.write_bytes(b"PK\x05\x06" + bytes(15 << 20))),
        ("members.zip", lambda path: zipped(path, members={f"{n:0200}": b"" for n in range(20_000)})),
        ("largest.zip", lambda path: zipped(path, members={"app.bin": bytes(7 << 20), "b": bytes(8 << 20)})),
        ("bytes.hex", lambda path: path.write_text("".join(record(n, 0, b"1") for n in range(0, 60_000, 2)) + END)),
        ("endless.hex", lambda path: path.write_text(":" + "0" * (20 << 20))),
        ("lines.hex", lambda path: path.write_text(record(0, 0, b"1") + "\n" * (1 << 20))),
        ("whole.hex", hex_of((0, bytes(1 << 20)))),
        ("zeros.bin", lambda path: path.write_bytes(bytes(15 << 20))),
        ("erased.bin", lambda path: path.write_bytes(b"\xff" * (15 << 20))),
        ("header.bin", lambda path: path.write_bytes(app() + bytes(14 << 20))),
        ("large.bin", lambda path: path.write_bytes(bytes(17 << 20))),
    ],
)
def test_large_inputs_stay_within_the_limits(tmp_path, name, make):
    path = tmp_path / name
    make(path)
    assert measured(lambda: load(path)) is None
