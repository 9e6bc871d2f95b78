"""What a bootloader's .config says that it can do: a profile, its signature, its way to upgrade.

Options and their history: MCUboot, boot/zephyr/Kconfig and Kconfig.serial_recovery, and the same files per tag in
Nordic's fork sdk-mcuboot. An option that the version does not have is not in the .config, and that dates the code.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.bootloader import PROFILES, BootloaderProfile, Entrance, Swap
from pytest_nrfdfu.image.kconfig import Config, Value

__all__ = [
    "ENTRANCE_OPTIONS",
    "Fit",
    "is_bootloader",
    "network_core_index",
    "number",
    "read_profile",
    "signature",
    "upgrade_mode",
]

ENTRANCE_OPTIONS: dict[Entrance, str] = {
    "gpio": "CONFIG_BOOT_SERIAL_ENTRANCE_GPIO",
    "pin-reset": "CONFIG_BOOT_SERIAL_PIN_RESET",
    "wait-for-dfu": "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU",
    "boot-mode": "CONFIG_BOOT_SERIAL_BOOT_MODE",
    "no-application": "CONFIG_BOOT_SERIAL_NO_APPLICATION",
}
"""Ways into recovery, in the order in which MCUboot looks at them (boot/zephyr/main.c), and what builds them in."""

_SWITCHES = {
    "hash": "CONFIG_BOOT_SERIAL_IMG_GRP_HASH",
    "image_state": "CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE",
    "slot_info": "CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO",
    "echo": "CONFIG_BOOT_MGMT_ECHO",
    "params": "CONFIG_BOOT_MGMT_MCUMGR_PARAMS",
    "direct_upload": "CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD",
    "erase_progressively": "CONFIG_BOOT_ERASE_PROGRESSIVELY",
}
"""Fields of a profile that an option switches on. Off is said as "is not set", or by the option's absence."""
_SIZES = {
    "receive_size": "CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE",
    "line_length": "CONFIG_BOOT_MAX_LINE_INPUT_LEN",
    "line_buffers": "CONFIG_BOOT_LINE_BUFS",
    "images": "CONFIG_UPDATEABLE_IMAGE_NUMBER",
}
"""Fields of a profile that an option gives a number. Where the version has no such option, the profile knows it."""
_SHOWN = 40
_LARGEST = 1 << 20
"""Above what any of these options may be (the ranges in Kconfig end at 65535)."""

_MODES: dict[str, tuple[str, Swap]] = {
    "CONFIG_SINGLE_APPLICATION_SLOT": ("single-slot", "overwrite"),
    "CONFIG_SINGLE_APPLICATION_SLOT_RAM_LOAD": ("single-slot-ram-load", "overwrite"),
    "CONFIG_BOOT_UPGRADE_ONLY": ("overwrite", "overwrite"),
    "CONFIG_BOOT_SWAP_USING_OFFSET": ("offset", "offset"),
    "CONFIG_BOOT_SWAP_USING_MOVE": ("move", "move"),
    "CONFIG_BOOT_SWAP_USING_SCRATCH": ("scratch", "scratch"),
    "CONFIG_BOOT_DIRECT_XIP": ("direct-xip", "overwrite"),
    "CONFIG_BOOT_RAM_LOAD": ("ram-load", "overwrite"),
    "CONFIG_BOOT_FIRMWARE_LOADER": ("firmware-loader", "overwrite"),
}
"""How it upgrades, and the swap that leaves an image as much of its slot (bootutil_max_image_size in
bootutil_misc.c; a single slot leaves a few bytes more)."""
_ECDSA = re.compile(r"CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_(P[0-9]+)")


class Fit(NamedTuple):
    """The profile that a .config amounts to."""

    profile: BootloaderProfile
    reason: str
    """Which known version it was taken for, and why."""


def is_bootloader(config: Config) -> bool:
    """Whether this is the .config of MCUboot itself (its hidden option CONFIG_MCUBOOT)."""
    return config.get("CONFIG_MCUBOOT") is True


def number(config: Config, option: str, *, least: int = 0, most: int = _LARGEST) -> int | None:
    """An option's number, None where it is not there; ImageError where it is no number from `least` to `most`."""
    value: Value | None = config.get(option)
    if value is None or value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ImageError(
            f"the bootloader's .config says {option}={str(value)[:_SHOWN]!r}, and only a number from {least} to "
            f"{most} makes sense. It is damaged, or was not made by a build: build again"
        )
    return value


def read_profile(config: Config) -> Fit:
    """What the bootloader can do: the known version that fits, with what the .config says laid over it.

    ImageError if a number in it makes no sense.
    """
    base, reason = _version(config)
    fields: dict[str, object] = {
        field: config.get(option, False) is True
        for field, option in _SWITCHES.items()
        # A version without the option has the feature always or never, as its profile says.
        if option in config or field not in {"hash", "erase_progressively"}
    }
    for field, option in _SIZES.items():
        value = number(config, option, least=1)
        if value is not None:
            fields[field] = value
    # Times are in milliseconds.
    for field, option in (
        ("detect_delay", "CONFIG_BOOT_SERIAL_DETECT_DELAY"),
        ("wait_for_dfu", "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT"),
    ):
        milliseconds = number(config, option)
        if milliseconds is not None:
            fields[field] = milliseconds / 1000
    mode = upgrade_mode(config)
    swap = next((swap for name, swap in _MODES.values() if name == mode), base.swap)
    made = replace(base, **fields, name=f"{base.name} (from the build)", swap=swap, entrances=_entrances(config))  # type: ignore[arg-type]
    return Fit(made, reason)


def _version(config: Config) -> tuple[BootloaderProfile, str]:
    """The known version whose options these are."""
    nordic = "CONFIG_ZEPHYR_NRF_MODULE" in config
    new = ("CONFIG_BOOT_MGMT_MCUMGR_PARAMS", "CONFIG_BOOT_SERIAL_RAW_PROTOCOL", "CONFIG_BOOT_SERIAL_UART_RX_BATCH_SIZE")
    for option in new:
        if option in config:
            return PROFILES["mcuboot-main"], f"it knows {option}"
    if "CONFIG_BOOT_SERIAL_IMG_GRP_HASH" in config:
        for option in ("CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO", "CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE"):
            if option in config:
                base = PROFILES["ncs-2.6"]
                # NRF_BOOT_SERIAL_BOOT_REQ came after the repair of the reset cause (sdk-mcuboot, ncs-v3.2.0, v3.1.0).
                if "CONFIG_NRF_BOOT_SERIAL_BOOT_REQ" in config:
                    base = replace(base, pin_reset_alone=False)
                return (base if nordic else replace(base, slot_info_upload_id="secondary")), f"it knows {option}"
        return PROFILES["ncs-2.4"], "it knows CONFIG_BOOT_SERIAL_IMG_GRP_HASH and no newer option"
    if "CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE" in config:
        return PROFILES["ncs-2.2"], "it knows CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE and no newer option"
    return PROFILES["ncs-1.9"], "it does not know CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE"


def _entrances(config: Config) -> tuple[Entrance, ...]:
    if config.get("CONFIG_MCUBOOT_SERIAL") is not True:
        return ()
    found = {entrance for entrance, option in ENTRANCE_OPTIONS.items() if config.get(option) is True}
    # Before there was a menu of entrances (v1.9.99 and older), the recovery pin was always built in.
    if ENTRANCE_OPTIONS["gpio"] not in config and ENTRANCE_OPTIONS["no-application"] not in config:
        found.add("gpio")
    return tuple(entrance for entrance in ENTRANCE_OPTIONS if entrance in found)


def upgrade_mode(config: Config) -> str | None:
    """How images get into their primary slots: "overwrite", "move", "offset", "scratch", "single-slot" ..."""
    return next((name for option, (name, _) in _MODES.items() if config.get(option) is True), None)


def signature(config: Config) -> str | None:
    """What images must be signed with: "none", "rsa-2048", "rsa-3072", "ecdsa-p256", "ed25519"; None if not told."""
    prefix = "CONFIG_BOOT_SIGNATURE_TYPE_"
    if config.get(prefix + "NONE") is True:
        return "none"
    if config.get(prefix + "RSA") is True:
        return f"rsa-{number(config, prefix + 'RSA_LEN', least=1024) or 2048}"
    if config.get(prefix + "ED25519") is True:
        return "ed25519"
    curves = (match[1].lower() for option in config if config[option] is True and (match := _ECDSA.fullmatch(option)))
    return next((f"ecdsa-{curve}" for curve in curves), None)


def network_core_index(config: Config) -> int | None:
    """Which of the bootloader's images is the network core's, counted from 0; None if it updates none.

    CONFIG_MCUBOOT_NETWORK_CORE_IMAGE_NUMBER says it in builds with sysbuild; it is -1 in older ones, where the network
    core is always image 1 (nRF Connect SDK, modules/mcuboot/hooks).
    """
    told = number(config, "CONFIG_MCUBOOT_NETWORK_CORE_IMAGE_NUMBER", least=-1)
    if told is not None and told > 0:
        return told
    return 1 if config.get("CONFIG_NRF53_MULTI_IMAGE_UPDATE") is True else None
