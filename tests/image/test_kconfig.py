"""What a .config says, and what is no .config."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import kconfig, textfile

THINGY53 = Path(__file__).parents[1] / "data" / "builds" / "thingy53-sysbuild"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("CONFIG_X=y", True),
        ("CONFIG_X=n", False),
        ("# CONFIG_X is not set", False),
        ("CONFIG_X=m", "m"),
        ("CONFIG_X=128", 128),
        ("CONFIG_X=0", 0),
        ("CONFIG_X=-1", -1),
        ("CONFIG_X=010", 10),
        ("CONFIG_X=0x1915", 0x1915),
        ("CONFIG_X=0XfF", 0xFF),
        ('CONFIG_X=""', ""),
        ('CONFIG_X="128"', "128"),
        ('CONFIG_X="y"', "y"),
        ('CONFIG_X="a \\"b\\" \\\\c"', 'a "b" \\c'),
        ("CONFIG_X=", ""),
        ("CONFIG_X=" + "9" * 5000, "9" * 5000),
        ("CONFIG_X=y\r", True),
    ],
)
def test_a_value_has_its_type(line, value):
    seen = kconfig.parse(line)["CONFIG_X"]
    assert seen == value
    assert type(seen) is type(value)


def test_what_is_not_there_is_not_false():
    config = kconfig.parse("#\n# A menu\n#\n\n# CONFIG_A is not set\n# end of A menu\n")
    assert config == {"CONFIG_A": False}


def test_the_last_line_counts_as_in_kconfig():
    assert kconfig.parse("CONFIG_A=1\nCONFIG_A=2\n") == {"CONFIG_A": 2}


def test_a_real_bootloaders_config():
    config = kconfig.read(THINGY53 / "mcuboot" / "zephyr" / ".config")
    assert config["CONFIG_MCUBOOT"] is True
    assert config["CONFIG_BOOT_MGMT_ECHO"] is False
    assert config["CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE"] == 1024
    assert config["CONFIG_USB_DEVICE_PID"] == 0x5300
    assert config["CONFIG_USB_DEVICE_PRODUCT"] == "Bootloader Thingy:53"
    assert "CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO" not in config
    assert len(config) == 1288


def test_sysbuilds_own_config_keeps_its_prefix():
    assert kconfig.read(THINGY53 / "sysbuild.config")["SB_CONFIG_BOARD"] == "thingy53"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"CONFIG_A=y\nnonsense\n", ", line 2: expected CONFIG_NAME=value or a comment, not 'nonsense'"),
        (b"CONFIG A=y\n", ", line 1: expected CONFIG_NAME=value or a comment"),
        (b"CONFIG_A=y\n\xff\n", " is not text: invalid start byte at offset 11"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path, content, message):
    path = tmp_path / ".config"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        kconfig.read(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_file_that_cannot_be_read_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        kconfig.read(tmp_path / "absent")
    with pytest.raises(ImageError, match="cannot be read"):
        kconfig.read(tmp_path / "a\0b")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / ".config"
    with path.open("wb") as file:
        file.truncate(textfile.MAX_TEXT_SIZE + 1)  # sparse
    with pytest.raises(ImageError, match="has more than 4194304 bytes"):
        kconfig.read(path)


@given(st.text() | st.lists(st.sampled_from(["CONFIG_A", "=", '"', "\\", "# ", " is not set", "0x", "9" * 4400, "\n"])))
@settings(deadline=None)
def test_no_text_raises_anything_else(parts):
    with contextlib.suppress(ImageError):
        assert all(kconfig.parse("".join(parts)))
