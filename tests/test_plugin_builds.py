"""A test of three lines: with real firmware, and with every file that is not what it should be."""

import shutil

import firmware
import pytest
import suites
from suites import usage_error as error

THREE_LINES = "def test_it(dfu, build):\n    assert dfu.update(build).hash == build.hash\n"


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


# --- the main job ---------------------------------------------------------------------------------------------------


def test_three_lines_in_an_empty_folder(pytester, monkeypatch):
    """Real firmware, the shipped configuration, nothing else."""
    suite = suites.make(pytester, monkeypatch)
    shutil.rmtree(suite.path / "hil_configs")
    file = suite.path / "zephyr.signed.bin"
    file.write_bytes(firmware.signed_app("4.4.0"))
    suite.tests(THREE_LINES)
    result = suite.run("--board", "nrf5340dk-sim", "--build", f"app={file}")
    result.assert_outcomes(passed=1)
    size, digest = file.stat().st_size, firmware_hash(file)
    result.stdout.fnmatch_lines(
        [
            "nrfdfu board: nrf5340dk-sim (simulated: bootloader ncs-2.6, 1000000 baud, flash timing datasheet; *)",
            f"nrfdfu build: app: app 4.4.0 ({digest}) of {size} bytes; {file}",
            "*nrf5340dk-sim: warning: *would not run from the slot at 0x10000*CONFIG_BOOTLOADER_MCUBOOT=y",
            "*serial recovery*",
            "*100 %, * bytes*",
            "*verified: the board's image list shows hash*",
            "*application 4.4.0 is running*",
            "*firmware updates*",
            "unit * build * version * hash * bytes * seconds * bytes/s * retries * verified by*",
            f"nrf5340dk-sim * app * 4.4.0 * {digest} * {size} * image list * console",
            "Figures of simulated boards are simulated*",
            f"On nrf5340dk-sim now: version 4.4.0, hash {digest}*",
        ]
    )


def firmware_hash(path):
    from pytest_nrfdfu.image.mcuboot import load

    return load(path).hash.hex()[:12]


# --- bad files ------------------------------------------------------------------------------------------------------

GOOD = suites.simulator.make_image()


def wrong_hash():
    data = bytearray(GOOD)
    data[0x300] ^= 1
    return bytes(data)


def no_hash():
    """A signature's TLV where the hash should be."""
    data = bytearray(GOOD)
    data[-36:-34] = (0x24).to_bytes(2, "little")
    return bytes(data)


def unsigned():
    return firmware.real_firmware()


BAD = {
    "empty": (b"", ["an empty file", "it did not finish"]),
    "elf": (b"\x7fELF\x01\x01\x01" + bytes(100), ["an ELF file", "Use zephyr.signed.bin"]),
    "hex": (b":020000040001F9\r\n:1000000000000820\r\n", ["signed .hex", "cut off", "Copy or build the file again"]),
    "unsigned": (unsigned, ["zephyr.bin is unsigned", "zephyr.signed.bin", "CONFIG_BOOTLOADER_MCUBOOT=y"]),
    "truncated": (
        GOOD[:3000],
        ["it is cut off", "5000 of body, and the file has 3000", "Copy or build the file again"],
    ),
    "no hash": (no_hash, ["it has no hash TLV", "an update could not be proved", "imgtool"]),
    "wrong hash": (wrong_hash, ["its TLV says", "changed after signing, or damaged by a copy"]),
}


@pytest.mark.parametrize(("content", "phrases"), BAD.values(), ids=BAD)
def test_bad_file(suite, content, phrases):
    """Each ends the run at once, and says what the file is and which one to take."""
    suite.tests(THREE_LINES)
    bad = suite.path / "bad.bin"
    bad.write_bytes(content if isinstance(content, bytes) else content())
    text = error(suite.run_inside("--board", "fast", "--build", f"app={bad}"))
    for phrase in (str(bad), *phrases):
        assert phrase in text


def test_bad_path(suite):
    suite.tests(THREE_LINES)
    text = error(suite.run_inside("--board", "fast", "--build", "app=nowhere.bin"))
    assert "nowhere.bin" in text
    assert "no such file" in text
    text = error(suite.run_inside("--board", "fast", "--build", "hil_configs"))
    assert "is a directory" in text
    assert "zephyr.signed.bin" in text
    assert "no path behind the equals sign" in error(suite.run_inside("--board", "fast", "--build", "app="))


def test_builds_are_named_apart(suite):
    (suite.path / "b").mkdir()
    shutil.copy(suite.app, suite.path / "b")
    text = error(suite.run_inside("--build", "app.bin", "--build", "b/app.bin"))
    assert "two builds are called 'app'" in text
    assert "--build NAME=PATH" in text
