"""The examples, run as their README says."""

import re
import shutil
from pathlib import Path

import pytest
import suites

from pytest_nrfdfu.config_types import GPREGRET0
from pytest_nrfdfu.image import kconfig
from pytest_nrfdfu.image.bootloader_config import ENTRANCE_OPTIONS

EXAMPLES = Path(__file__).parents[1] / "examples"
DATA = Path(__file__).parent / "data" / "builds"


def commands():
    """The README's table: what to run for each folder."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| `pytest (.*)` \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    return {folder: command.replace("'", "").split() for folder, command in rows}


@pytest.fixture
def suite(pytester, monkeypatch):
    """A folder that holds a copy of the examples, and builds of two versions."""
    suite = suites.make(pytester, monkeypatch)
    shutil.rmtree(suite.path / "hil_configs")
    shutil.copytree(EXAMPLES, suite.path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return suite


def run(suite, folder):
    """The command of the README, each BUILD in it another file."""
    versions = iter(("1.0.0", "2.1.0", "9.9.9"))
    arguments = [
        part.replace("BUILD", str(suites.app(suite.path, version := next(versions), name=f"{version}.bin")))
        if "BUILD" in part
        else part
        for part in commands()[folder]
    ]
    return suite.run(*arguments, "-v")


BOOTLOADER = EXAMPLES / "nrf5340dk_bootloader"
ENTRANCES = {option: entry for entry, option in ENTRANCE_OPTIONS.items()}


def bootloader_options(*, commented):
    """What mcuboot.conf sets, with what it offers behind a # as well."""
    text = (BOOTLOADER / "sysbuild" / "mcuboot.conf").read_text()
    return kconfig.parse(re.sub(r"^# (?=CONFIG_\w+=)", "", text, flags=re.MULTILINE) if commented else text)


def test_the_bootloader_is_one_that_recovery_can_be_entered_in():
    options = bootloader_options(commented=False)
    built_in = {ENTRANCES[name] for name in options if name in ENTRANCES}
    assert built_in == {"gpio", "boot-mode", "no-application"}
    assert options["CONFIG_MCUBOOT_SERIAL"] is True
    assert options["CONFIG_UART_CONSOLE"] is False
    assert options["CONFIG_BOOT_SERIAL_IMG_GRP_HASH"] is True
    assert {ENTRANCES[name] for name in bootloader_options(commented=True) if name in ENTRANCES} == set(
        ENTRANCE_OPTIONS
    )
    assert kconfig.parse((BOOTLOADER / "sysbuild.conf").read_text()) == {"SB_CONFIG_BOOTLOADER_MCUBOOT": True}


def test_options_of_the_bootloader_exist():
    """Each stands in the .config of a build, set or "is not set"; a name with a typing error would not."""
    configs = [kconfig.read(path) for path in DATA.glob("*/mcuboot/zephyr/.config")]
    known = set().union(*configs)
    assert len(configs) == 2
    assert set(bootloader_options(commented=True)) - known <= {"CONFIG_UART_CONSOLE"}  # Zephyr's own, off in both


def test_the_wiring_table_names_every_entrance():
    rows = re.findall(r"^\| `([\w-]+)` \| `(CONFIG_\w+)` \|", (BOOTLOADER / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == ENTRANCE_OPTIONS


def test_the_overlay_keeps_the_boot_mode_where_the_debugger_writes_it():
    overlay = (BOOTLOADER / "sysbuild" / "mcuboot.overlay").read_text()
    assert f"0x{GPREGRET0:X}" in overlay
    assert overlay.count("{") == overlay.count("}")
    assert "zephyr,boot-mode = &boot_mode0;" in overlay


def test_every_example_is_in_the_table():
    """And each suite is run below."""
    folders = {path.parent.name for path in EXAMPLES.glob("*/test_*.py")}
    assert set(commands()) == folders == {"defaults_only", "product_suite", "staged_update"}


def test_defaults_only(suite):
    result = run(suite, "defaults_only")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*test_update_is_proved[[]board:nrf5340dk-sim-build:app[]] *",
            "*test_it_boots[[]board:nrf5340dk-sim-build:app[]] *",
        ]
    )
    assert result.stdout.str().count("uploading app") == 1


def test_product_suite(suite):
    """Its own board's configuration, its own fixture, one test per build; each build uploaded once."""
    result = run(suite, "product_suite")
    result.assert_outcomes(passed=5)
    for test, build in (("banner_after_restart", "v1"), ("new_feature", "v2")):
        result.stdout.fnmatch_lines_random([f"*test_{test}[[]board:sensor-bench-build:{build}[]] *"])
    result.stdout.no_fnmatch_line("*test_new_feature[[]board:sensor-bench-build:v1[]]*")
    assert result.stdout.str().count("uploading app") == 2


BOARDS = ("tracker-smp", "tracker-plain")
STAGED = {
    "update_is_proved_by_the_applications_image_list": BOARDS[:1],
    "update_is_proved_by_recovery_and_console": BOARDS[1:],
    "update_stays": BOARDS,
    "unconfirmed_update_is_taken_back": BOARDS[:1],
    "broken_off_transfer_is_resumed": BOARDS,
    "build_that_faults_is_taken_back": BOARDS,
}
"""The tests of staged_update, and the boards that each is for."""


def test_staged_update(suite):
    """Every image but the released one came over the product's own link."""
    result = run(suite, "staged_update")
    result.assert_outcomes(passed=11)
    for test, boards in STAGED.items():
        for board in boards:
            result.stdout.fnmatch_lines_random([f"*test_{test}[[]board:{board}-build:*"])
    shown = result.stdout.str()
    assert "uploading app 1.0.0" in shown
    assert "uploading app 2.1.0" not in shown
    assert "uploading app 9.9.9" not in shown
    result.stdout.fnmatch_lines(["tracker-smp * new * 2.1.0 * none sent * image list *"])
    result.stdout.fnmatch_lines(
        ["tracker-plain * new * 2.1.0 * none sent * NOT: *swap was seen* console: MCUboot swapped (test) and started *"]
    )
