"""A .hex gives the same image as the .bin beside it, and knows its address."""

import io
import tracemalloc

import builds
import intelhex
import pytest
from firmware import SLOT_ADDRESS, SLOT_SIZE, sign
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import hexfile
from pytest_nrfdfu.image.build import check_address
from pytest_nrfdfu.image.build import load as load_build
from pytest_nrfdfu.image.mcuboot import parse

BODY = bytes(range(256)) * 300
"""Longer than 64 KiB, so that the file has two address records."""


def written(path, *parts):
    path.write_text(builds.hex_text(*parts))
    return path


def test_a_hex_holds_the_image_of_the_bin_beside_it(tmp_path):
    image, address = hexfile.load(builds.hex_file(tmp_path / "zephyr.signed.hex"))
    assert image.data == builds.app()
    assert image.hash == parse(builds.app()).hash
    assert address == SLOT_ADDRESS


def test_an_image_over_several_segments_and_blocks_is_read_back(tmp_path):
    data = sign(BODY, pad_header=True)
    path = written(tmp_path / "x.hex", (0x1_FFF0, data))
    assert len(path.read_text()) > 2 * hexfile._BLOCK
    assert hexfile.read(path) == (0x1_FFF0, data)


def test_a_gap_is_erased_flash(tmp_path):
    """As imgtool writes a padded .hex: the image, and far behind it the trailer."""
    confirmed = sign(BODY, confirm=True)
    end = parse(confirmed).end
    path = written(
        tmp_path / "x.hex", (SLOT_ADDRESS, confirmed[:end]), (SLOT_ADDRESS + SLOT_SIZE - 64, confirmed[-64:])
    )
    image, address = hexfile.load(path)
    assert image.data == confirmed
    assert (image.confirmed, address) == (True, SLOT_ADDRESS)


def test_what_imgtool_signs_as_hex_is_read(tmp_path):
    from firmware import imgtool

    source, target = written(tmp_path / "in.hex", (SLOT_ADDRESS + 0x200, BODY)), tmp_path / "out.hex"
    imgtool("sign", "--version", "2.0.0", "--header-size", "0x200", "--slot-size", hex(SLOT_SIZE), "--align", "4",
            "--pad-header", "--pad", "--confirm", source, target)  # fmt: skip
    image, address = hexfile.load(target)
    assert (str(image.version), image.confirmed, image.size) == ("2.0.0", True, SLOT_SIZE)
    assert address == SLOT_ADDRESS


@pytest.mark.parametrize("change", [str.lower, lambda t: t.replace("\n", "\r\n"), lambda t: "\n\n" + t + "\n"])
def test_other_spellings_are_the_same_file(tmp_path, change):
    path = builds.hex_file(tmp_path / "x.hex")
    path.write_bytes(change(path.read_text().replace("\r", "")).encode())
    assert hexfile.read(path).data == builds.app()


def test_an_overlap_is_found_across_blocks_too(tmp_path, monkeypatch):
    lines = builds.hex_text((0, bytes(64))).splitlines()
    path = tmp_path / "x.hex"
    path.write_text("\n".join([*lines[:-1], lines[1], lines[-1]]))
    for block in (1, 1 << 16):
        monkeypatch.setattr(hexfile, "_BLOCK", block)
        with pytest.raises(ImageError, match=r"it gives the byte at 0x10 twice: two files were joined"):
            hexfile.read(path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = builds.hex_file(tmp_path / "x.hex")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_build(str(path)).image.data == load_build(path).image.data == builds.app()


def test_the_address_is_checked_against_the_slot(tmp_path):
    origin = load_build(builds.hex_file(tmp_path / "x.hex", address=0x8_0000)).member("app")
    assert origin.address == 0x8_0000
    check_address(origin, 0x8_0000)
    with pytest.raises(ImageError, match=r"x\.hex for the slot at 0x10000: it begins at 0x80000\. It was made for"):
        check_address(origin, SLOT_ADDRESS)


def test_a_bin_has_no_address_to_check(tmp_path):
    check_address(load_build(builds.bin_file(tmp_path / "x.bin")).member("app"), 0x1234)


def test_the_bootable_flag_is_asked_for_as_in_a_bin(tmp_path):
    path = builds.hex_file(tmp_path / "x.hex", sign(BODY, extra=("--non-bootable",)))
    with pytest.raises(ImageError, match="must not start it"):
        hexfile.load(path)
    image, _ = hexfile.load(path, require_bootable=False)
    assert not image.bootable


def test_memory_stays_small_for_a_whole_slot(tmp_path):
    """The package that decodes would need 90 MiB for this file at once."""
    path = written(tmp_path / "x.hex", (SLOT_ADDRESS, sign(BODY, slot_size=0xE_0000, confirm=True)))
    tracemalloc.start()
    try:
        image, _ = hexfile.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image.size == 0xE_0000
    assert peak < 16 << 20


areas = st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=80)), min_size=1, max_size=6)


@given(areas, st.integers(0, 0xFFFF_0000), st.integers(1, 400))
def test_areas_are_those_that_intelhex_finds(parts, start, block):
    """Cut in blocks of any size, the records mean what they mean in one piece."""
    content = intelhex.IntelHex()
    address = start
    for gap, data in parts:
        address += gap
        content.frombytes(data, address)
        address += len(data)
    text = io.StringIO()
    content.write_hex_file(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hexfile, "_BLOCK", block)
        found = hexfile._read_areas(io.BytesIO(text.getvalue().encode()), "x.hex")
    assert [(area.address, area.end) for area in found] == content.segments()
    for area in found:
        assert area.data == content.tobinstr(start=area.address, size=len(area.data))
