"""What a west build directory says about the bootloader on the board, and whether a configuration agrees with it.

Read are the bootloader's Kconfig values (``mcuboot/zephyr/.config``), its devicetree (``mcuboot/zephyr/zephyr.dts``),
the Partition Manager's output (``partitions.yml``, ``pm.config``) and, for board and chip, the application's .config.
All of it describes the bootloader that was built, which is the one on the board only if somebody programmed that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image import bootloader_config, devicetree, domains, hardware, kconfig
from pytest_nrfdfu.image.bootloader import BootloaderProfile, Entrance, NetworkUpload, network_upload, overlay, profile
from pytest_nrfdfu.image.bootloader_config import ENTRANCE_OPTIONS
from pytest_nrfdfu.image.devicetree import Devicetree
from pytest_nrfdfu.image.hardware import ButtonFacts, RetentionFacts, UartFacts
from pytest_nrfdfu.image.kconfig import Config
from pytest_nrfdfu.image.slots import SlotFacts, read_slots

__all__ = [
    "BuildFacts",
    "ButtonFacts",
    "RetentionFacts",
    "SlotFacts",
    "UartFacts",
    "check_entries",
    "check_line",
    "check_uart",
    "merge_profile",
    "read_facts",
]

_SOC = re.compile(r"CONFIG_SOC_(NRF[0-9]+[A-Z]?[0-9]*_CPU[A-Z]+)")
_OPTION_OF_ENTRY: dict[str, Entrance] = {name: name for name in ENTRANCE_OPTIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """What is known from a build. None or empty: the build does not say."""

    board: str | None = None
    """The board target, such as ``thingy53/nrf5340/cpuapp/ns``."""
    soc: str | None = None
    """Chip and core, such as ``nrf5340_cpuapp``."""
    profile: BootloaderProfile | None = None
    """What the bootloader can do; None if the build holds no bootloader."""
    serial_recovery: bool = False
    """CONFIG_MCUBOOT_SERIAL."""
    raw_protocol: bool = False
    """CONFIG_BOOT_SERIAL_RAW_PROTOCOL: SMP without lines and base64, which this package does not speak."""
    boot_request: bool = False
    """CONFIG_NRF_BOOT_SERIAL_BOOT_REQ: the application can ask for recovery."""
    upgrade_mode: str | None = None
    """How images get into primary slots: overwrite, move, offset, scratch, single-slot, direct-xip ..."""
    signature: str | None = None
    """none, rsa-2048, rsa-3072, ecdsa-p256, ed25519."""
    key_file: str | None = None
    """CONFIG_BOOT_SIGNATURE_KEY_FILE as it stands there: a path on the machine that built."""
    encryption: bool = False
    """CONFIG_BOOT_ENCRYPT_IMAGE."""
    network_core_index: int | None = None
    """Which image is the network core's, from 0; None if the bootloader updates none."""
    button: ButtonFacts | None = None
    uart: UartFacts | None = None
    boot_mode: RetentionFacts | None = None
    """Where the boot mode is kept; whether the bootloader looks at it is in `profile.entrances`."""
    slots: Mapping[str, SlotFacts] = field(default_factory=dict)
    """Primary slots by image: ``app``, ``net``, and ``image2`` and so on for others."""
    erase_page: int | None = None
    write_block: int | None = None
    """Units of the bootloader's flash, in bytes."""
    notes: tuple[str, ...] = ()
    """Which source was used for what, and what was missing."""

    @property
    def images(self) -> int | None:
        """How many images the bootloader updates."""
        return self.profile.images if self.profile else None

    @property
    def direct_upload(self) -> bool | None:
        """Whether upload numbers name slots."""
        return self.profile.direct_upload if self.profile else None

    @property
    def usb_cdc(self) -> bool:
        """Whether recovery is spoken over the chip's own USB."""
        return self.uart is not None and self.uart.usb

    @property
    def boot_mode_retention(self) -> bool:
        """Whether there is a retained boot mode that the bootloader looks at."""
        return self.boot_mode is not None and self.profile is not None and "boot-mode" in self.profile.entrances

    @property
    def network_upload(self) -> NetworkUpload:
        """The upload number of the network core by the build alone, or why there is none."""
        if self.profile is None:
            return NetworkUpload(None, "the build holds no bootloader")
        return network_upload(direct_upload=self.direct_upload, images=self.images, index=self.network_core_index or 1)


@dataclass(slots=True)
class _Sources:
    """The files of one build directory, read where they are there."""

    directory: Path
    bootloader: Config | None = None
    application: Config | None = None
    tree: Devicetree | None = None
    notes: list[str] = field(default_factory=list)


def read_facts(build_dir: Path) -> BuildFacts | None:
    """What the directory says; None where none of the files above is in it. ImageError for one that is damaged."""
    sources = _read_sources(build_dir)
    notes = sources.notes
    facts = _bootloader_facts(sources)
    slots = read_slots(build_dir, sources.bootloader, sources.application, sources.tree, notes)
    if sources.bootloader is None and sources.application is None and not slots:
        return None
    config = sources.application or sources.bootloader or {}
    page, block = hardware.flash_sizes(sources.tree) if sources.tree else (None, None)
    return replace(
        facts,
        board=_board(config),
        soc=_soc(config),
        slots=slots,
        erase_page=page,
        write_block=block,
        notes=tuple(notes),
    )


def _read_sources(build_dir: Path) -> _Sources:
    sources = _Sources(build_dir)
    known = domains.read(build_dir)
    default = known.default if known is not None else None
    home = build_dir
    # Usually the first two or the first and the last are there. A bootloader's domain may have another name.
    for name in dict.fromkeys(("mcuboot", default or "", "", *(known.names if known is not None else ()))):
        config = _config_of(build_dir / name)
        if config is None:
            continue
        if bootloader_config.is_bootloader(config):
            if sources.bootloader is None:
                sources.bootloader, home = config, build_dir / name
        elif sources.application is None and name == (default or ""):
            sources.application = config
    if sources.bootloader is not None:
        dts = home / "zephyr" / "zephyr.dts"
        if dts.is_file():
            sources.tree = devicetree.read(dts)
        else:
            sources.notes.append(f"{dts.relative_to(build_dir)} is not there: recovery pin and UART are not known")
    elif sources.application is not None:
        sources.notes.append("the build holds no bootloader (mcuboot/zephyr/.config): its abilities are not known")
    return sources


def _config_of(domain: Path) -> Config | None:
    """The .config of one image's directory; None if there is none, or if it is sysbuild's own."""
    path = domain / "zephyr" / ".config"
    if not path.is_file():
        return None
    config = kconfig.read(path)
    return None if any(option.startswith("SB_CONFIG_") for option in config) else config


def _bootloader_facts(sources: _Sources) -> BuildFacts:
    config, tree = sources.bootloader, sources.tree
    if config is None:
        return BuildFacts()
    fit = bootloader_config.read_profile(config)
    serial = config.get("CONFIG_MCUBOOT_SERIAL") is True
    version = fit.profile.name.split(" ")[0]
    sources.notes.append(f"bootloader: behaves like {version}, because {fit.reason}")
    if not serial:
        sources.notes.append("the bootloader was built without CONFIG_MCUBOOT_SERIAL: it has no serial recovery")
    key_file = config.get("CONFIG_BOOT_SIGNATURE_KEY_FILE")
    return BuildFacts(
        profile=fit.profile,
        serial_recovery=serial,
        raw_protocol=config.get("CONFIG_BOOT_SERIAL_RAW_PROTOCOL") is True,
        boot_request=config.get("CONFIG_NRF_BOOT_SERIAL_BOOT_REQ") is True,
        upgrade_mode=bootloader_config.upgrade_mode(config),
        signature=bootloader_config.signature(config),
        key_file=key_file if isinstance(key_file, str) and key_file else None,
        encryption=config.get("CONFIG_BOOT_ENCRYPT_IMAGE") is True,
        network_core_index=bootloader_config.network_core_index(config),
        button=hardware.button(tree, config),
        uart=hardware.uart(tree, config) if tree and serial else None,
        boot_mode=hardware.boot_mode(tree) if tree else None,
    )


def _board(config: Config) -> str | None:
    """CONFIG_BOARD_TARGET, or CONFIG_BOARD as it was alone before Zephyr 3.7."""
    names = (config.get(option) for option in ("CONFIG_BOARD_TARGET", "CONFIG_BOARD"))
    return next((name for name in names if isinstance(name, str) and name), None)


def _soc(config: Config) -> str | None:
    """Chip and core by the option CONFIG_SOC_<CHIP>_<CORE>, which all versions of Zephyr have, else CONFIG_SOC."""
    cores = (match[1] for option in config if config[option] is True and (match := _SOC.fullmatch(option)))
    name = next(cores, None) or config.get("CONFIG_SOC")
    return name.lower() if isinstance(name, str) and name else None


def merge_profile(facts: BuildFacts | None, told: Mapping[str, Any]) -> BootloaderProfile:
    """The bootloader to reckon with: what the config's keys say, over the build, over the named profile.

    `told` are the keys of the config's ``[bootloader]`` table that somebody wrote, ``profile`` among them; ConfigError
    where that, or a key, is not known.
    """
    named = profile(str(told.get("profile") or "ncs-2.6"))
    base = facts.profile if facts is not None and facts.profile is not None else named
    return overlay(base, {key: value for key, value in told.items() if key != "profile"})


def _check_recovery(facts: BuildFacts) -> None:
    if not facts.serial_recovery:
        raise ConfigError(
            "the build's bootloader has no serial recovery: it was built without CONFIG_MCUBOOT_SERIAL. Set "
            "CONFIG_MCUBOOT_SERIAL=y for MCUboot (sysbuild/mcuboot.conf), build, and program it once with a debugger"
        )
    if facts.raw_protocol:
        raise ConfigError(
            "the build's bootloader speaks SMP without console framing (CONFIG_BOOT_SERIAL_RAW_PROTOCOL=y), which is "
            "not supported. Set CONFIG_BOOT_SERIAL_RAW_PROTOCOL=n for MCUboot, build, and program it"
        )


def check_entries(facts: BuildFacts | None, entries: Sequence[str]) -> None:
    """ConfigError, naming the option to set, if the built bootloader lacks a way into recovery that is configured.

    Entries that are not the bootloader's (``smp``, ``manual``) pass, and all do where no bootloader was built.
    """
    if facts is None or facts.profile is None:
        return
    _check_recovery(facts)
    for entry in entries:
        entrance = _OPTION_OF_ENTRY.get(entry)
        if entrance is None or entrance in facts.profile.entrances:
            continue
        built_in = ", ".join(facts.profile.entrances) or "none"
        more = " (it needs CONFIG_RETENTION_BOOT_MODE=y and a chosen zephyr,boot-mode)" if entry == "boot-mode" else ""
        raise ConfigError(
            f'recovery.entry has "{entry}", but the build\'s bootloader was built without '
            f"{ENTRANCE_OPTIONS[entrance]}; its ways into recovery: {built_in}. Set {ENTRANCE_OPTIONS[entrance]}=y for "
            f"MCUboot{more}, build, and program it, or choose another entry"
        )


def check_uart(facts: BuildFacts | None, baudrate: int, flow_control: str) -> tuple[str, ...]:
    """ConfigError if the port cannot be right for the built bootloader; returned is what may be wrong.

    `baudrate` in baud; `flow_control` is "none" or "rtscts". A difference in flow control is no error, because an
    on-board debugger may drive RTS and CTS by itself.
    """
    if facts is None or facts.uart is None or facts.uart.usb:
        return ()
    uart = facts.uart
    if uart.baudrate is not None and uart.baudrate != baudrate:
        raise ConfigError(
            f"uart.baudrate is {baudrate}, but the build's bootloader uses {uart.node} at {uart.baudrate} baud "
            f"(current-speed in its devicetree). Set uart.baudrate = {uart.baudrate}, or give the bootloader an overlay"
        )
    wanted = "rtscts" if uart.flow_control else "none"
    if wanted == flow_control:
        return ()
    has = "has" if uart.flow_control else "does not have"
    doubt = (
        f'uart.flow_control is "{flow_control}", but {uart.node} of the build\'s bootloader {has} hw-flow-control; '
        f'if it stays silent, set uart.flow_control = "{wanted}"'
    )
    return (doubt,)


def check_line(facts: BuildFacts | None, active: str) -> None:
    """ConfigError if the recovery line is active at another level ("low" or "high") than the bootloader asks for."""
    if facts is None or facts.button is None or facts.button.active == active:
        return
    raise ConfigError(
        f'recovery.line.active is "{active}", but the recovery pin of the build\'s bootloader, {facts.button.pin} '
        f'(mcuboot-button0), is active {facts.button.active}. Set active = "{facts.button.active}"; it is the level at '
        "the target's pin"
    )
