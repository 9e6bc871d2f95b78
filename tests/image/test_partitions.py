"""What the Partition Manager decided, from either of its files."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import partitions
from pytest_nrfdfu.image.partitions import Partition

THINGY53 = Path(__file__).parents[1] / "data" / "builds" / "thingy53-sysbuild"


def test_a_real_partitions_yml():
    table = partitions.read_yaml(THINGY53 / "partitions.yml")
    assert table["mcuboot_primary"] == Partition(0x10000, 0xE0000, "flash_primary", None)
    assert table["mcuboot_secondary"] == Partition(0, 0xE0000, "external_flash", "MX25R64")
    assert table["mcuboot_primary_1"] == Partition(0, 0x40000, "ram_flash", "flash_ctrl")
    assert len(table) == 24


def test_both_files_of_a_real_build_say_the_same():
    table = partitions.read_yaml(THINGY53 / "partitions.yml")
    flat = partitions.read_pm_config(THINGY53 / "pm.config")
    assert {name: part[:2] for name, part in table.items()} == {name: part[:2] for name, part in flat.items()}
    assert all(part.region is part.device is None for part in flat.values())


def test_decimal_numbers_are_numbers_too():
    table = partitions.parse_yaml("app: {address: 65536, size: '0x100', region: [1], device: }")
    assert table == {"app": Partition(65536, 256, None, "")}
    assert partitions.parse_pm_config("PM_APP_ADDRESS=65536\nPM_APP_SIZE=0x100\r\n") == {"app": Partition(65536, 256)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not a table of partitions"),
        ("just text", "it is not a table of partitions"),
        ("- a\n- b", "it is not a table of partitions"),
        ("app: 3", "it is not a table of partitions"),
        ("app: {address: 0x0", "it is not YAML (while parsing a flow mapping"),
        ("app: {size: 0x100}", "partition 'app' has nothing as its address"),
        ("app: {address: 0x0, size: big}", "partition 'app' has 'big' as its size"),
        ("app: {address: -1, size: 1}", "partition 'app' has '-1' as its address"),
        ("app: {address: 0x0, size: " + "9" * 5000 + "}", "as its size"),
        ("[" * 5000, "it is not YAML ("),
        ("a: &a {<<: *a}", "it is not YAML (found unconstructable recursive node"),
        ("!!python/object/apply:os.system ['true']", "it is not a table of partitions"),
    ],
)
def test_what_is_no_partitions_yml_is_refused(text, message):
    with pytest.raises(ImageError) as caught:
        partitions.parse_yaml(text, "build/partitions.yml")
    assert str(caught.value).startswith("cannot read build/partitions.yml as the Partition Manager's output: ")
    assert message in str(caught.value)


def test_merge_keys_do_not_multiply():
    # With merge keys, forty levels of this would hold 2**40 entries.
    levels = ["a0: &a0 {address: 0x0, size: 0x1}"]
    levels += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], address: 0x0, size: 0x1}}" for n in range(1, 40)]
    assert len(partitions.parse_yaml("\n".join(levels))) == 40


def test_aliases_within_aliases_are_not_printed():
    levels = ["a0: &a0 {address: 0x0, size: 0x1, x: &x0 [y, y]}"]
    levels += [f"a{n}: {{address: 0x0, size: 0x1, x: &x{n} [*x{n - 1}, *x{n - 1}]}}" for n in range(1, 40)]
    with pytest.raises(ImageError, match="partition 'app' has a list as its address"):
        partitions.parse_yaml("\n".join([*levels, "app: {address: *x39}"]))


@pytest.mark.parametrize("text", ["", "PM_APP_ADDRESS=0x0\n", "PM_APP_SIZE=y\nPM_APP_ADDRESS=0x0", "CONFIG_A=y"])
def test_what_is_no_pm_config_is_refused(text):
    with pytest.raises(ImageError, match="no line says where a partition is"):
        partitions.parse_pm_config(text)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "partitions.yml"
    path.write_bytes(b"#" * (256 << 10) + b"#")
    with pytest.raises(ImageError, match="has more than 262144 bytes"):
        partitions.read_yaml(path)


WORDS = "app : { } [ ] &a *a !!int <<: | > ' \" \\ --- ? %YAML - address: 0x0 size: 1 PM_A_ADDRESS=0x1 PM_A_SIZE="
PIECES = st.sampled_from(WORDS.split()) | st.sampled_from(" \n\t\0")


@given(st.lists(PIECES, max_size=40).map("".join) | st.text())
@settings(deadline=None)
def test_no_text_raises_anything_else(text):
    for reader in (partitions.parse_yaml, partitions.parse_pm_config):
        try:
            table = reader(text)
        except ImageError:
            continue
        assert all(part.size >= 0 <= part.address for part in table.values())
