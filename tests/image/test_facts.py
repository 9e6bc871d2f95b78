"""What a build says of its bootloader, which of its files wins, and which configurations cannot work with it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image import bootloader_config, devicetree, hardware, kconfig
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.facts import (
    BuildFacts,
    ButtonFacts,
    RetentionFacts,
    SlotFacts,
    UartFacts,
    check_entries,
    check_line,
    check_uart,
    merge_profile,
    read_facts,
)

BUILDS = Path(__file__).parents[1] / "data" / "builds"
THINGY53 = BUILDS / "thingy53-sysbuild"
DK = BUILDS / "nrf5340dk-boot-mode"

BOOTLOADER = "CONFIG_MCUBOOT=y\nCONFIG_MCUBOOT_SERIAL=y\nCONFIG_BOOT_SERIAL_UART=y\n"


def fit(text):
    return bootloader_config.read_profile(kconfig.parse(BOOTLOADER + text)).profile


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def thingy53(tmp_path):
    return Path(shutil.copytree(THINGY53, tmp_path / "build"))


# --- Whole directories ---


def test_a_real_build_of_the_nrf_connect_sdk():
    facts = read_facts(THINGY53)
    assert (facts.board, facts.soc) == ("thingy53/nrf5340/cpuapp/ns", "nrf5340_cpuapp")
    assert facts.profile == replace(
        PROFILES["ncs-2.6"], name="ncs-2.6 (from the build)", images=2, direct_upload=True, swap="overwrite"
    )
    assert facts.serial_recovery
    assert not facts.raw_protocol
    assert (facts.images, facts.direct_upload, facts.upgrade_mode) == (2, True, "overwrite")
    assert (facts.signature, facts.encryption) == ("rsa-2048", False)
    assert facts.key_file.endswith("/root-rsa-2048.pem")
    assert facts.button == ButtonFacts("P1.13", "low", "up")
    assert facts.uart == UartFacts("cdc_acm_uart", None, False, usb=True, vendor_id=0x1915, product_id=0x5300)
    assert facts.usb_cdc
    assert facts.boot_mode is None
    assert not facts.boot_mode_retention
    assert (facts.erase_page, facts.write_block) == (4096, 4)
    assert (facts.network_core_index, facts.network_upload.number) == (1, 3)


def test_the_partition_manager_wins_over_the_devicetree_and_it_is_said():
    facts = read_facts(THINGY53)
    assert facts.slots == {
        "app": SlotFacts(0x10000, 0xE0000, "partitions.yml", None, SlotFacts(0, 0xE0000, "partitions.yml", "MX25R64")),
        "net": SlotFacts(
            0, 0x40000, "partitions.yml", "ram_flash", SlotFacts(0xE0000, 0x40000, "partitions.yml", "MX25R64")
        ),
    }
    assert "slots: from partitions.yml, because the Partition Manager decides where it is used" in facts.notes
    assert "slot of app: 0xe0000 bytes at 0x10000; zephyr.dts says 0x40000 at 0x10000, which is not used" in facts.notes


def test_pm_config_serves_where_partitions_yml_is_missing(thingy53):
    (thingy53 / "partitions.yml").unlink()
    slots = read_facts(thingy53).slots
    assert slots["app"] == SlotFacts(0x10000, 0xE0000, "pm.config", None, SlotFacts(0, 0xE0000, "pm.config"))
    assert slots["net"].memory == "ram_flash"


def test_without_the_partition_managers_files_its_slots_are_unknown_not_the_devicetrees(thingy53):
    (thingy53 / "partitions.yml").unlink()
    (thingy53 / "pm.config").unlink()
    facts = read_facts(thingy53)
    assert facts.slots == {}
    assert any("neither partitions.yml nor pm.config" in note for note in facts.notes)


@pytest.mark.parametrize("line", ["", "# CONFIG_PARTITION_MANAGER_ENABLED is not set\n"])
def test_a_left_over_partitions_yml_is_not_used(thingy53, line):
    config = thingy53 / "mcuboot" / "zephyr" / ".config"
    config.write_text(config.read_text().replace("CONFIG_PARTITION_MANAGER_ENABLED=y\n", line))
    facts = read_facts(thingy53)
    assert facts.slots["app"] == SlotFacts(
        0x10000, 0x40000, "zephyr.dts", None, SlotFacts(0x80000, 0x40000, "zephyr.dts")
    )
    assert facts.slots["net"] == SlotFacts(0, 0xA000, "zephyr.dts", "flash_sim0")
    assert any("partitions.yml is left over" in note for note in facts.notes)


def test_partitions_yml_alone_is_metadata_too(tmp_path):
    shutil.copy(THINGY53 / "partitions.yml", tmp_path)
    facts = read_facts(tmp_path)
    assert facts.profile is facts.board is facts.images is facts.direct_upload is None
    assert facts.slots["app"].size == 0xE0000
    assert facts.network_upload == (None, "the build holds no bootloader")


def test_a_build_of_upstream_zephyr_with_boot_mode():
    facts = read_facts(DK)
    assert (facts.board, facts.soc) == ("nrf5340dk/nrf5340/cpuapp", "nrf5340_cpuapp")
    assert facts.profile == replace(
        PROFILES["mcuboot-main"],
        name="mcuboot-main (from the build)",
        receive_size=2048,
        line_buffers=16,
        image_state=True,
        slot_info=True,
        echo=True,
        erase_progressively=False,
        swap="offset",
        entrances=("wait-for-dfu", "boot-mode", "no-application"),
        wait_for_dfu=0.75,
    )
    assert facts.button == ButtonFacts("P0.23", "low", "up")
    assert facts.uart == UartFacts("uart0", 1_000_000, True)
    assert not facts.usb_cdc
    assert facts.boot_mode == RetentionFacts("boot_mode0", 0x5000_551C, 1)
    assert facts.boot_mode_retention
    assert facts.slots == {
        "app": SlotFacts(0x10000, 0x70000, "zephyr.dts", None, SlotFacts(0x80000, 0x70000, "zephyr.dts"))
    }
    assert (facts.signature, facts.key_file) == ("ecdsa-p256", 'keys/line "A".pem')
    assert facts.network_upload.number is None
    assert "any number overwrites the application" in facts.network_upload.reason


def test_an_empty_directory_says_nothing(tmp_path):
    assert read_facts(tmp_path) is None
    assert read_facts(tmp_path / "absent") is None


def test_sysbuilds_own_config_is_no_applications(tmp_path):
    write(tmp_path / "zephyr" / ".config", 'SB_CONFIG_BOARD="thingy53"\n')
    assert read_facts(tmp_path) is None


def test_a_build_without_a_bootloader(tmp_path):
    write(tmp_path / "zephyr" / ".config", 'CONFIG_BOARD="nrf5340dk_nrf5340_cpunet"\nCONFIG_SOC_NRF5340_CPUNET=y\n')
    facts = read_facts(tmp_path)
    assert (facts.board, facts.soc) == ("nrf5340dk_nrf5340_cpunet", "nrf5340_cpunet")
    assert facts.profile is None
    assert any("holds no bootloader" in note for note in facts.notes)
    check_entries(facts, ["gpio", "boot-mode"])


def test_a_bootloader_built_by_itself(tmp_path):
    write(tmp_path / "zephyr" / ".config", BOOTLOADER + 'CONFIG_SOC="nRF5340_CPUAPP_QKAA"\n')
    facts = read_facts(tmp_path)
    assert facts.profile is not None
    assert facts.soc == "nrf5340_cpuapp_qkaa"
    assert any("zephyr.dts is not there" in note for note in facts.notes)


def test_a_bootloader_under_another_name_is_found_by_domains_yaml(tmp_path):
    write(tmp_path / "domains.yaml", "default: app\ndomains:\n- name: app\n- name: loader\n")
    write(tmp_path / "app" / "zephyr" / ".config", 'CONFIG_BOARD="mine"\n')
    write(tmp_path / "loader" / "zephyr" / ".config", BOOTLOADER)
    facts = read_facts(tmp_path)
    assert facts.board == "mine"
    assert facts.serial_recovery


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mcuboot/zephyr/.config", "nonsense", "expected CONFIG_NAME=value"),
        (
            "mcuboot/zephyr/.config",
            BOOTLOADER + "CONFIG_BOOT_LINE_BUFS=0",
            "CONFIG_BOOT_LINE_BUFS='0', and only a number",
        ),
        (
            "mcuboot/zephyr/.config",
            BOOTLOADER + "CONFIG_BOOT_LINE_BUFS=y",
            "CONFIG_BOOT_LINE_BUFS='True', and only a",
        ),
        ("mcuboot/zephyr/zephyr.dts", "/ {", "expected the name of a node or property"),
        ("BORUS/zephyr/.config", "\0\1", "expected CONFIG_NAME=value"),
        ("partitions.yml", "app: {}", "partition 'app' has nothing as its address"),
        ("domains.yaml", "default: ../../etc", "cannot read"),
    ],
)
def test_a_damaged_file_is_an_image_error(thingy53, file, text, message):
    write(thingy53 / file, text)
    with pytest.raises(ImageError, match=message):
        read_facts(thingy53)


# --- From options to a profile ---

HASH = "CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE=1024\nCONFIG_BOOT_LINE_BUFS=8\nCONFIG_BOOT_SERIAL_IMG_GRP_HASH=y\n"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("", "ncs-1.9"),
        ("CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE=1024", "ncs-2.2"),
        (HASH, "ncs-2.4"),
        (HASH + "# CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE is not set", "ncs-2.6"),
        (HASH + "# CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO is not set", "ncs-2.6"),
        (HASH + "# CONFIG_BOOT_MGMT_MCUMGR_PARAMS is not set", "mcuboot-main"),
        (HASH + "CONFIG_BOOT_SERIAL_RAW_PROTOCOL=y", "mcuboot-main"),
    ],
)
def test_options_date_the_bootloader(options, name):
    assert fit(options).name == f"{name} (from the build)"


def test_a_profile_fitted_to_a_profiles_own_options_is_that_profile():
    sizes = "CONFIG_BOOT_MAX_LINE_INPUT_LEN=512\n"
    old = fit(sizes + "CONFIG_BOOT_ERASE_PROGRESSIVELY=y\nCONFIG_BOOT_SWAP_USING_MOVE=y\n")
    assert replace(old, name="ncs-1.9") == PROFILES["ncs-1.9"]


def test_absent_and_disabled_hashes_are_no_hashes():
    assert not fit("CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE=1024").hash
    assert not fit("# CONFIG_BOOT_SERIAL_IMG_GRP_HASH is not set").hash
    assert fit("CONFIG_BOOT_SERIAL_IMG_GRP_HASH=y").hash


def test_progressive_erase_is_on_unless_it_is_said_to_be_off():
    assert fit("").erase_progressively
    assert not fit("# CONFIG_BOOT_ERASE_PROGRESSIVELY is not set").erase_progressively


def test_upstream_and_nordics_fork_number_slots_differently():
    newer = HASH + "CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO=y\n"
    assert fit(newer).slot_info_upload_id == "secondary"
    assert fit(newer + "CONFIG_ZEPHYR_NRF_MODULE=y\n").slot_info_upload_id == "doubled"


def test_a_boot_request_dates_the_reset_cause():
    newer = HASH + "CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO=y\n"
    assert fit(newer).pin_reset_alone
    assert not fit(newer + "# CONFIG_NRF_BOOT_SERIAL_BOOT_REQ is not set\n").pin_reset_alone


@pytest.mark.parametrize(
    ("options", "entrances"),
    [
        ("", ("gpio",)),  # before there was a menu of entrances
        ("# CONFIG_BOOT_SERIAL_NO_APPLICATION is not set\n", ()),  # there is a menu, and GPIO is off
        ("CONFIG_BOOT_SERIAL_ENTRANCE_GPIO=y\nCONFIG_BOOT_SERIAL_PIN_RESET=y\n", ("gpio", "pin-reset")),
        ("# CONFIG_BOOT_SERIAL_ENTRANCE_GPIO is not set\nCONFIG_BOOT_SERIAL_BOOT_MODE=y\n", ("boot-mode",)),
    ],
)
def test_entrances(options, entrances):
    assert fit(options).entrances == entrances


def test_times_are_in_seconds():
    seen = fit("CONFIG_BOOT_SERIAL_DETECT_DELAY=1500\nCONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT=20\n")
    assert (seen.detect_delay, seen.wait_for_dfu) == (1.5, 0.02)


@pytest.mark.parametrize(
    ("option", "mode", "swap"),
    [
        ("BOOT_UPGRADE_ONLY", "overwrite", "overwrite"),
        ("BOOT_SWAP_USING_MOVE", "move", "move"),
        ("BOOT_SWAP_USING_OFFSET", "offset", "offset"),
        ("BOOT_SWAP_USING_SCRATCH", "scratch", "scratch"),
        ("SINGLE_APPLICATION_SLOT", "single-slot", "overwrite"),
        ("BOOT_DIRECT_XIP", "direct-xip", "overwrite"),
    ],
)
def test_upgrade_modes(option, mode, swap):
    assert bootloader_config.upgrade_mode({f"CONFIG_{option}": True}) == mode
    assert fit(f"CONFIG_{option}=y\n").swap == swap


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ("CONFIG_BOOT_SIGNATURE_TYPE_NONE=y", "none"),
        ("CONFIG_BOOT_SIGNATURE_TYPE_RSA=y\nCONFIG_BOOT_SIGNATURE_TYPE_RSA_LEN=3072", "rsa-3072"),
        ("CONFIG_BOOT_SIGNATURE_TYPE_RSA=y", "rsa-2048"),
        ("CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y\n# CONFIG_BOOT_SIGNATURE_TYPE_RSA is not set", "ecdsa-p256"),
        ("CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P384=y", "ecdsa-p384"),
        ("CONFIG_BOOT_SIGNATURE_TYPE_ED25519=y", "ed25519"),
        ("CONFIG_MCUBOOT=y", None),
    ],
)
def test_signatures(options, signature):
    assert bootloader_config.signature(kconfig.parse(options)) == signature


@pytest.mark.parametrize(
    ("options", "index"),
    [
        ("CONFIG_NRF53_MULTI_IMAGE_UPDATE=y", 1),
        ("CONFIG_NRF53_MULTI_IMAGE_UPDATE=y\nCONFIG_MCUBOOT_NETWORK_CORE_IMAGE_NUMBER=-1", 1),
        ("CONFIG_MCUBOOT_NETWORK_CORE_IMAGE_NUMBER=2", 2),
        ("CONFIG_MCUBOOT_NETWORK_CORE_IMAGE_NUMBER=-1", None),
        ("", None),
    ],
)
def test_which_image_is_the_network_cores(options, index):
    assert bootloader_config.network_core_index(kconfig.parse(options)) == index


# --- From a devicetree to hardware ---


def test_a_pin_of_an_expander_is_called_after_it():
    text = """/ { aliases { mcuboot-button0 = &b; }; expander: gpio@70 { port = < 0x1 >; };
        b: button { gpios = < &expander 0x1 0x20 >; }; };"""
    assert hardware.button(devicetree.parse(text), {}) == ButtonFacts("expander.1", "high", "down")


@pytest.mark.parametrize("gpios", ["", "= < &gpio0 0x1 >", "= < 0x1 0x2 0x3 >", "= < &gone 0x1 0x1 >", '= "text"'])
def test_a_button_that_cannot_be_read_is_unknown(gpios):
    text = f"/ {{ aliases {{ mcuboot-button0 = &b; }}; gpio0: gpio {{ }}; b: button {{ gpios {gpios}; }}; }};"
    assert hardware.button(devicetree.parse(text), {}) is None


@pytest.mark.parametrize(("level", "active"), [("", "low"), ("CONFIG_BOOT_SERIAL_DETECT_PIN_VAL=1", "high")])
def test_an_old_bootloaders_pin_is_in_its_options(level, active):
    config = kconfig.parse(f'CONFIG_BOOT_SERIAL_DETECT_PORT="GPIO_1"\nCONFIG_BOOT_SERIAL_DETECT_PIN=6\n{level}')
    assert hardware.button(None, config) == ButtonFacts("P1.06", active)
    assert hardware.button(devicetree.parse("/ { };"), config) == ButtonFacts("P1.06", active)
    assert hardware.button(None, {}) is None


UARTS = """/ { chosen { %s };
    uart0: uart@8000 { current-speed = < 0x1c200 >; };
    uart1: uart@9000 { current-speed = < 0xf4240 >; hw-flow-control; };
    off: cdc0 { compatible = "zephyr,cdc-acm-uart"; status = "disabled"; };
    cdc: cdc1 { compatible = "zephyr,cdc-acm-uart"; }; };"""


@pytest.mark.parametrize(
    ("chosen", "options", "seen"),
    [
        ("zephyr,console = &uart0;", "", UartFacts("uart0", 115200, False)),
        ("zephyr,console = &uart0; zephyr,uart-mcumgr = &uart1;", "", UartFacts("uart1", 1_000_000, True)),
        ("zephyr,uart-mcumgr = &uart1;", "CONFIG_BOOT_SERIAL_CDC_ACM=y", UartFacts("cdc", None, False, usb=True)),
        (
            "zephyr,console = &cdc;",
            "CONFIG_USB_DEVICE_VID=1\nCONFIG_BOOT_SERIAL_CDC_ACM_VID=0x2fe3\nCONFIG_BOOT_SERIAL_CDC_ACM_PID=4",
            UartFacts("cdc", None, False, usb=True, vendor_id=0x2FE3, product_id=4),
        ),
        ("", "", None),
    ],
)
def test_the_uart_is_the_one_that_mcuboot_takes(chosen, options, seen):
    assert hardware.uart(devicetree.parse(UARTS % chosen), kconfig.parse(options)) == seen


def test_a_boot_mode_in_retained_memory_with_prefix_and_checksum():
    text = """/ { #address-cells = < 0x1 >; #size-cells = < 0x1 >; chosen { zephyr,boot-mode = &mode; };
        sram@2007f000 { reg = < 0x2007f000 0x1000 >; retainedmem { #address-cells = < 0x1 >; #size-cells = < 0x1 >;
            mode: retention@10 { reg = < 0x10 0x5 >; prefix = [ 08 04 ]; checksum = < 0x2 >; }; }; }; };"""
    seen = hardware.boot_mode(devicetree.parse(text))
    assert seen == RetentionFacts("mode", 0x2007_F010, 5, b"\x08\x04", 2)


# --- Configuration against build ---

NOTHING = BuildFacts()


def test_an_entry_that_is_not_built_in_is_refused_with_the_option_to_set():
    with pytest.raises(ConfigError) as caught:
        check_entries(read_facts(THINGY53), ["gpio", "boot-mode"])
    assert str(caught.value) == (
        'recovery.entry has "boot-mode", but the build\'s bootloader was built without CONFIG_BOOT_SERIAL_BOOT_MODE; '
        "its ways into recovery: gpio. Set CONFIG_BOOT_SERIAL_BOOT_MODE=y for MCUboot (it needs "
        "CONFIG_RETENTION_BOOT_MODE=y and a chosen zephyr,boot-mode), build, and program it, or choose another entry"
    )


@pytest.mark.parametrize(
    ("build", "entry", "option"),
    [
        (DK, "gpio", "CONFIG_BOOT_SERIAL_ENTRANCE_GPIO"),
        (DK, "pin-reset", "CONFIG_BOOT_SERIAL_PIN_RESET"),
        (THINGY53, "wait-for-dfu", "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU"),
        (THINGY53, "no-application", "CONFIG_BOOT_SERIAL_NO_APPLICATION"),
    ],
)
def test_each_entry_has_its_option(build, entry, option):
    with pytest.raises(ConfigError, match=f"built without {option}; .* Set {option}=y for MCUboot, build"):
        check_entries(read_facts(build), [entry])


def test_entries_that_are_built_in_or_not_the_bootloaders_pass():
    check_entries(read_facts(THINGY53), ["gpio", "smp", "manual"])
    check_entries(read_facts(DK), ["boot-mode", "wait-for-dfu", "no-application"])
    check_entries(NOTHING, ["boot-mode"])
    check_entries(None, ["boot-mode"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("# CONFIG_MCUBOOT_SERIAL is not set", "no serial recovery: it was built without CONFIG_MCUBOOT_SERIAL"),
        ("CONFIG_BOOT_SERIAL_RAW_PROTOCOL=y", "CONFIG_BOOT_SERIAL_RAW_PROTOCOL=y.*not supported"),
    ],
)
def test_a_bootloader_that_cannot_be_talked_to_is_refused(tmp_path, options, message):
    write(tmp_path / "mcuboot" / "zephyr" / ".config", BOOTLOADER + options)
    with pytest.raises(ConfigError, match=message):
        check_entries(read_facts(tmp_path), ["smp"])


def test_another_baudrate_is_refused():
    with pytest.raises(ConfigError, match=r"uart.baudrate is 115200, .* uart0 at 1000000 baud .*baudrate = 1000000"):
        check_uart(read_facts(DK), 115200, "rtscts")


def test_another_flow_control_is_doubted():
    assert check_uart(read_facts(DK), 1_000_000, "rtscts") == ()
    (doubt,) = check_uart(read_facts(DK), 1_000_000, "none")
    assert doubt.startswith('uart.flow_control is "none", but uart0 of the build\'s bootloader has hw-flow-control')
    uart = BuildFacts(uart=UartFacts("uart0", 115200, False))
    (doubt,) = check_uart(uart, 115200, "rtscts")
    assert doubt.endswith('does not have hw-flow-control; if it stays silent, set uart.flow_control = "none"')


def test_usb_and_unknown_uarts_have_no_baudrate_to_check():
    assert check_uart(read_facts(THINGY53), 1, "rtscts") == ()
    assert check_uart(NOTHING, 1, "rtscts") == check_uart(None, 1, "rtscts") == ()
    assert check_uart(BuildFacts(uart=UartFacts("uart0", None, False)), 1, "none") == ()


def test_a_line_of_the_wrong_level_is_refused():
    check_line(read_facts(DK), "low")
    check_line(NOTHING, "high")
    check_line(None, "high")
    with pytest.raises(ConfigError, match=r'active is "high", .* P0.23 \(mcuboot-button0\), is active low'):
        check_line(read_facts(DK), "high")


def test_keys_win_over_the_build_and_the_build_over_the_named_profile():
    facts = read_facts(DK)
    merged = merge_profile(facts, {"profile": "ncs-2.2", "receive_size": 512, "hash": None})
    assert merged == replace(facts.profile, receive_size=512)
    assert merge_profile(NOTHING, {"profile": "ncs-2.2", "echo": True}) == replace(PROFILES["ncs-2.2"], echo=True)
    assert merge_profile(None, {}) == PROFILES["ncs-2.6"]
    assert not merge_profile(facts, {"image_state": False}).image_state


@pytest.mark.parametrize("told", [{"profile": "ncs-9"}, {"recieve_size": 3}])
def test_unknown_profiles_and_keys_are_config_errors(told):
    with pytest.raises(ConfigError, match="known are: "):
        merge_profile(read_facts(DK), told)


# --- Nothing but ImageError ---

FILES = ["mcuboot/zephyr/.config", "mcuboot/zephyr/zephyr.dts", "partitions.yml", "pm.config", "domains.yaml"]
LINES = [
    line
    for file in FILES
    for line in (THINGY53 / file).read_text().splitlines()
    if any(
        word in line for word in ("BOOT", "slot", "reg", "gpios", "chosen", "mcuboot", "default", "{", "}", "NUMBER")
    )
]


@given(st.data())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_change_to_a_build_raises_anything_else(tmp_path, data):
    build = tmp_path / "build"
    shutil.rmtree(build, ignore_errors=True)
    shutil.copytree(DK, build)
    for file in ("partitions.yml", "pm.config"):
        if data.draw(st.booleans()):
            shutil.copy(THINGY53 / file, build)
    path = build / data.draw(st.sampled_from(FILES))
    lines = path.read_text().splitlines() if path.exists() else []
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines)))
        lines[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.lists(st.sampled_from(LINES) | st.text(max_size=20), max_size=3)
        )
    path.write_text("\n".join(lines), errors="surrogatepass")
    try:
        facts = read_facts(build)
    except ImageError:
        return
    assert facts is None or facts.network_upload.reason
