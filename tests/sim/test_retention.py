"""The retained boot mode: what lies where, and what counts as one."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.chip import Chip, ResetCause
from pytest_nrfdfu.sim.retention import RAM_ADDRESS, Retention, crc8

CHECKSUMS = ("none", "crc8", "crc16", "crc32")


@pytest.mark.parametrize(
    ("prefix", "checksum", "content"),
    [
        # One byte of a CRC over the byte 01: by hand, 0x01 shifted out leaves the polynomial itself.
        ("", "none", "01"),
        ("", "crc8", "0112"),
        ("", "crc16", "012110"),
        ("", "crc32", "01" + zlib.crc32(b"\x01").to_bytes(4, "little").hex()),
        ("08ff", "none", "08ff01"),
        ("aa", "crc16", "aa012110"),
    ],
)
def test_prefix_mode_and_checksum_follow_each_other(prefix, checksum, content):
    assert Retention(bytes.fromhex(prefix), checksum).encode(1).hex() == content


def test_crc8_begins_with_its_highest_bit():
    # By hand: 80, out goes a 1: 12, 24, 48, 90, out goes a 1: 32, 64, c8, out goes a 1: 82.
    assert crc8(b"\x80") == 0x82
    assert crc8(b"\x00\x80") == 0x82
    assert crc8(b"") == 0


@given(prefix=st.binary(max_size=6), checksum=st.sampled_from(CHECKSUMS), mode=st.integers(0, 255))
def test_what_was_set_is_found_until_it_is_cleared(prefix, checksum, mode):
    chip, retention = Chip(), Retention(prefix, checksum)
    retention.set(chip, mode)
    chip.reset(ResetCause.SREQ)
    assert retention.mode(chip) == mode
    retention.clear(chip)
    cleared = retention.mode(chip)
    # All zeros are a valid area where nothing marks one: a checksum over 0 is 0 but for CRC32.
    assert cleared == (None if prefix.strip(b"\0") or checksum == "crc32" else 0)


@pytest.mark.parametrize(("prefix", "checksum", "registers"), [("", "crc8", True), ("08", "none", True)])
def test_two_bytes_fit_the_registers(prefix, checksum, registers):
    chip, retention = Chip(), Retention(bytes.fromhex(prefix), checksum)
    retention.set(chip, 1)
    assert retention.in_registers is registers
    assert bytes(chip.gpregret) == retention.encode(1)


def test_more_lies_in_ram_and_is_gone_without_power():
    chip, retention = Chip(), Retention(checksum="crc16")
    retention.set(chip, 1)
    assert chip.gpregret == [0, 0]
    assert chip.read(RAM_ADDRESS, 3) == retention.encode(1)
    chip.set_power(False)
    chip.set_power(True)
    assert retention.mode(chip) == 0


@given(content=st.binary(min_size=3, max_size=3))
def test_a_checksum_that_is_wrong_makes_it_none(content):
    chip, retention = Chip(), Retention(checksum="crc16")
    chip.write_ram(RAM_ADDRESS, content)
    expected = retention.encode(content[0])
    assert retention.mode(chip) == (content[0] if content == expected else None)


@pytest.mark.parametrize(
    ("retention", "content", "enters"),
    [
        (Retention(), b"\x01\x00", True),
        (Retention(checksum="crc8"), b"\x01\x12", True),
        (Retention(checksum="crc8"), b"\x01\x07", False),
        (Retention(b"\xb0"), b"\xb0\x01", True),
        (Retention(b"\xb0"), b"\xb1\x01", False),
        (Retention(b"\xb0", "crc16"), b"\xb0\x01\x21\x10", True),
        (Retention(b"\xb0", "crc16"), b"\xb0\x01\x10\x21", False),
        (Retention(b"\xb0", "crc16"), b"\xb0\x02\x42\x20", False),
    ],
)
def test_the_bootloader_enters_by_a_whole_area_and_clears_it(retention, content, enters):
    options = BoardOptions()
    profile = options.profile.__class__(name="test", entrances=("boot-mode",))
    board = SimBoard(BoardOptions(profile=profile, retention=retention))
    chip = board.chip
    board.machine.advance(1.0)
    if retention.in_registers:
        chip.gpregret[:] = content
    else:
        chip.write_ram(RAM_ADDRESS, content)
    chip.reset(ResetCause.SREQ)
    board.machine.advance(2.0)
    assert board.in_recovery is enters
    left = bytes(chip.gpregret) if retention.in_registers else chip.read(RAM_ADDRESS, retention.size)
    assert left == (bytes(len(content)) if enters else content)
