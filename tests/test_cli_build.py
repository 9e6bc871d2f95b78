"""`nrfdfu build PATH`: what it prints of every kind of build, and its exit status."""

import json
import shutil
from pathlib import Path

import builds
import pytest

from pytest_nrfdfu import cli

BUILDS = Path(__file__).parent / "data" / "builds"
THINGY53 = BUILDS / "thingy53-sysbuild"
DK = BUILDS / "nrf5340dk-boot-mode"


@pytest.fixture
def run(capsys):
    """Runs the command, and gives exit status, standard output and standard error."""

    def run(*arguments):
        status = cli.main(["build", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def both_cores(tmp_path):
    """A build directory with images for both cores, over the real metadata of a Thingy:53."""
    path = shutil.copytree(THINGY53, tmp_path / "build")
    (path / "BORUS" / "zephyr" / "zephyr.signed.bin").write_bytes(builds.app("1.2.3"))
    (path / "signed_by_mcuboot_and_b0_ipc_radio.bin").write_bytes(builds.net("2.0.0"))
    return path


def test_a_build_directory_as_text(run, both_cores):
    status, out, err = run(both_cores)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        f"build ({both_cores})",
        "board thingy53/nrf5340/cpuapp/ns",
        "chip and core nrf5340_cpuapp",
        "image net",
        "file signed_by_mcuboot_and_b0_ipc_radio.bin",
        "version 2.0.0",
        "slot 0x40000 bytes at 0x0 in ram_flash (by partitions.yml)",
        "image app",
        "version 1.2.3",
        "slot 0xe0000 bytes at 0x10000 (by partitions.yml)",
        "ways into recovery gpio",
        "recovery pin P1.13, active low, pull-up",
        "speaks SMP on USB 1915:5300 (cdc_acm_uart, CDC ACM)",
        "images 2, direct upload",
        "signature rsa-2048 by root-rsa-2048.pem",
        "app, secondary 0xe0000 bytes at 0x0 in MX25R64 (by partitions.yml)",
    ):
        assert line in lines
    assert "zephyr.dts says 0x40000 at 0x10000, which is not used" in " ".join(lines)
    assert lines.index("image net") < lines.index("image app")  # the order of upload


def test_a_build_directory_as_json(run, both_cores):
    status, out, err = run("--json", both_cores)
    assert (status, err) == (0, "")
    seen = json.loads(out)
    assert list(seen) == ["name", "path", "images", "facts", "notes", "error"]
    assert seen["error"] is None
    net, app = seen["images"]
    assert (net["name"], net["upload"], net["version"]) == ("net", 3, "2.0.0")
    assert net["upload_reason"] == "with direct upload the number names a slot, and 3 is the first slot of image 1"
    assert net["file"] == "signed_by_mcuboot_and_b0_ipc_radio.bin"
    assert (app["name"], app["upload"], app["bytes"]) == ("app", 0, len(builds.app("1.2.3")))
    assert len(bytes.fromhex(app["hash"])) == 32
    assert app["slot"]["size"] == 0xE0000
    boot = seen["facts"]["bootloader"]
    assert (boot["images"], boot["direct_upload"], boot["entrances"]) == (2, True, ["gpio"])
    assert seen["facts"]["button"] == {"pin": "P1.13", "active": "low", "pull": "up"}
    assert seen["facts"]["network_upload"] == 3


def test_metadata_without_images_is_printed_and_is_an_error(run):
    status, out, err = run(DK)
    assert status == 1
    assert err.startswith("nrfdfu build: error: ")
    assert "zephyr.signed.bin" in err
    text = " ".join(out.split())
    for part in (
        "images none",
        "ways into recovery wait-for-dfu (0.75 s), boot-mode, no-application",
        "speaks SMP on uart0 at 1000000 baud, RTS/CTS flow control",
        "boot mode kept in 0x5000551c (boot_mode0), no prefix, no checksum",
        "receives 2048 bytes a packet, 128 characters a line, 16 line buffers",
        "also knows image states, slot info, echo, parameters",
        "erases the whole slot at the first packet",
        "no upload number (a bootloader with one image",
    ):
        assert part in text


def test_metadata_without_images_as_json(run):
    status, out, err = run(THINGY53, "--json")
    seen = json.loads(out)
    assert status == 1
    assert seen["images"] == []
    assert err == f"nrfdfu build: error: {seen['error']}\n"
    assert seen["facts"]["slots"]["app"]["size"] == 0xE0000


def test_a_bare_image(run, tmp_path):
    path = builds.bin_file(tmp_path / "zephyr.signed.bin", builds.app("1.2.3", key="ecdsa-p256"))
    status, out, err = run(path)
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert "kind plain, signed (ECDSA_SIG)" in text
    assert "upload number 0 (the application is number 0 for every bootloader)" in text
    assert "bootloader" not in out.split("upload number")[0]


def test_a_bare_image_without_a_signature_has_its_hash_all_the_same(run, tmp_path):
    """As imgtool makes it without a key."""
    _, out, _ = run(builds.bin_file(tmp_path / "zephyr.signed.bin", builds.app("1.2.3")))
    assert "kind plain, with a hash and no signature (as of imgtool without --key)" in " ".join(out.split())


def test_the_network_core_of_a_zip_has_no_number_of_its_own(run, tmp_path):
    status, out, _ = run("--json", builds.package(tmp_path / "dfu_application.zip"))
    images = {image["name"]: image for image in json.loads(out)["images"]}
    assert status == 0
    assert images["net"]["upload"] is None
    assert images["net"]["upload_reason"].startswith("not known")


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_what_is_no_build_is_one_line_and_status_1(run, tmp_path, content):
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    status, out, err = run(path)
    assert status == 1
    assert str(path) in err
    assert err.count("\n") == 1
    assert "images\n  none" in out


def test_damaged_metadata_is_told_beside_missing_images(run, tmp_path):
    path = shutil.copytree(DK, tmp_path / "build")
    (path / "mcuboot" / "zephyr" / ".config").write_text("nonsense\n")
    status, _, err = run(path)
    assert status == 1
    assert "expected CONFIG_NAME=value" in err


def test_lines_fit_the_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    _, out, _ = run(THINGY53)
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= 70


def test_help_names_the_command(capsys):
    assert cli.main(["build", "--help"]) == 0
    assert "usage: nrfdfu build" in capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert "say what was understood of a build" in capsys.readouterr().out
