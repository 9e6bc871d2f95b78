"""What the simulated board's command line means; its options are those of `option_parser`.

A ``[sim]`` table of a TOML file (``--config``) may hold the same options, with underscores; the command line goes over
it. Whatever is wrong ends the process with one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import fcntl
import mmap
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import BootloaderProfile, profile
from pytest_nrfdfu.image.format import MAGIC
from pytest_nrfdfu.sim.board import BoardOptions
from pytest_nrfdfu.sim.domain import APPLICATION_DOMAIN
from pytest_nrfdfu.sim.firmware import FlashTiming
from pytest_nrfdfu.sim.option_parser import PROFILE_SWITCHES, build_parser
from pytest_nrfdfu.sim.pcd import PcdTiming
from pytest_nrfdfu.sim.retention import Retention
from pytest_nrfdfu.sim.slots import nrf5340_slots
from pytest_nrfdfu.sim.uart import UartConfig

__all__ = ["Options", "parse"]

_FLASH_SIZE = APPLICATION_DOMAIN.flash_size


@dataclass(frozen=True, slots=True)
class Options:
    """What to simulate and how to offer it."""

    board: BoardOptions
    uart: str
    """``pty`` or ``tcp``."""
    unique_id: str
    uart_vanishes: bool = False
    """The UART is the target's own USB port."""
    uart_link: Path | None = None
    """A symbolic link to the UART's present port."""
    faults: tuple[str, ...] = ()
    """What is wrong with the bench from the start; see `wiring.FAULTS`."""


def parse(argv: Sequence[str] | None = None) -> Options:
    """Read the command line and the files it names; SystemExit(2) with one line on stderr if something is wrong."""
    parser = build_parser()
    given = parser.parse_args(argv)
    try:
        if given.config is not None:
            # In front of the command line, so that argparse checks both and the command line wins.
            from_file = _config_arguments(parser, given.config)
            entrance_given = given.entrance
            given = parser.parse_args(from_file + list(sys.argv[1:] if argv is None else argv))
            given.entrance = entrance_given or given.entrance
        board = _board_options(given)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except (ConfigError, ValueError) as error:
        parser.error(str(error))
    if given.uart == "tcp" and (given.uart_vanishes or given.uart_link is not None):
        parser.error("--uart-vanishes and --uart-link are for --uart pty")
    return Options(
        board, given.uart, given.unique_id, given.uart_vanishes, given.uart_link, tuple(dict.fromkeys(given.faults))
    )


def _config_arguments(parser: argparse.ArgumentParser, path: Path) -> list[str]:
    """The ``[sim]`` table of a file as command-line arguments."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("sim", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: sim is not a table")
    known = {action.dest: action for action in parser._actions if action.dest not in {"help", "config"}}  # noqa: SLF001
    checker = build_parser(exit_on_error=False)
    arguments: list[str] = []
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: [sim] has no key {key!r}; there are {', '.join(sorted(known))}")
        given = _config_argument(path, known[key], value)
        try:
            checker.parse_args(given)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{path}: {key} in [sim]: {error.message}") from None
        arguments += given
    return arguments


def _config_argument(path: Path, action: argparse.Action, value: Any) -> list[str]:
    option = action.option_strings[0]
    if isinstance(action, argparse.BooleanOptionalAction):
        if isinstance(value, bool):
            return [option if value else "--no-" + option[2:]]
    elif action.nargs == 0:
        if isinstance(value, bool):
            return [option] * value
    elif isinstance(value, list):
        return [f"{option}={item}" for item in value]
    elif isinstance(value, dict) and action.dest == "applications":
        return [f"{option}={version}={behaviour}" for version, behaviour in value.items()]
    elif not isinstance(value, bool | dict):
        if action.type is Path:  # relative to the file that names it
            value = path.parent / str(value)
        return [f"{option}={value}"]
    raise ConfigError(f"{path}: {action.dest} in [sim] cannot be {value!r}")


def _board_options(given: argparse.Namespace) -> BoardOptions:
    profile = _profile(given)
    nrf5340_slots(profile.images, network_core=given.network_core)  # says what is not simulated
    return BoardOptions(
        name=given.board,
        profile=profile,
        uart=UartConfig(
            baudrate=given.baudrate,
            fifo=given.fifo,
            stall=given.stall,
            flow_control=given.flow_control,
            host_latency=given.host_latency,
        ),
        timing=FlashTiming() if given.flash_timing == "datasheet" else FlashTiming(0.0, 0.0),
        image=None if given.image is None else _read_image(given.image),
        flash=None if given.flash_file is None else _open_flash(given.flash_file),
        public_key=None if given.public_key is None else given.public_key.read_bytes(),
        stay_in_recovery=given.stay_in_recovery,
        network_core=given.network_core,
        network_core_number=given.network_core_number,
        pcd=PcdTiming(wait=given.pcd_delay),
        locked=given.locked,
        secure_locked=given.secure_locked,
        network_locked=given.network_locked,
        retention=Retention(given.boot_mode_prefix, given.boot_mode_checksum),
        application_smp=given.application_smp,
        application_erase=given.application_erase,
        application_frugal_list=given.application_frugal_list,
        applications=tuple(given.applications),
        staging=given.staging,
        bootloader_log=given.bootloader_log,
        loses_dp_on_pin_reset=given.loses_dp_on_pin_reset,
        seed=given.seed,
        drop_rate=given.drop_rate,
        flip_rate=given.flip_rate,
        line_loss=given.line_loss,
    )


def _profile(given: argparse.Namespace) -> BootloaderProfile:
    changes = {name: getattr(given, name) for name in PROFILE_SWITCHES if getattr(given, name) is not None}
    if given.images is not None:
        changes["images"] = given.images
    if given.swap is not None:
        changes["swap"] = given.swap
    elif changes.get("images", 1) > 1:
        changes["swap"] = "overwrite"  # Nordic's hooks cannot swap the network core's image
    if given.detect_delay is not None:
        changes["detect_delay"] = given.detect_delay
    if given.wait_for_dfu is not None:
        changes["wait_for_dfu"] = given.wait_for_dfu
    if given.entrance:
        changes["entrances"] = tuple(given.entrance)
    return replace(profile(given.bootloader), **changes)


def _read_image(path: Path) -> bytes:
    image = path.read_bytes()
    if int.from_bytes(image[:4], "little") != MAGIC:
        raise ConfigError(
            f"{path} is not a signed MCUboot image (.bin): it begins with {image[:4].hex(' ') or 'nothing'}"
        )
    return image


def _open_flash(path: Path) -> mmap.mmap:
    """The file as flash; locked, so that two boards never share it. The mapping holds the lock."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{path} is the flash of another simulated board that runs now") from None
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            file.write(b"\xff" * _FLASH_SIZE)
            file.flush()
        elif size != _FLASH_SIZE:
            raise ConfigError(f"{path} has {size} bytes, the flash of an nRF5340 has {_FLASH_SIZE}")
        return mmap.mmap(file.fileno(), _FLASH_SIZE)
