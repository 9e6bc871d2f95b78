"""The command line of the simulated board, and what it means.

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
from typing import Any, NoReturn, get_args

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import PROFILES, BootloaderProfile, Entrance, profile
from pytest_nrfdfu.image.format import MAGIC
from pytest_nrfdfu.sim.board import ApplicationSmp, BoardOptions
from pytest_nrfdfu.sim.domain import APPLICATION_DOMAIN
from pytest_nrfdfu.sim.firmware import FlashTiming
from pytest_nrfdfu.sim.pcd import PcdTiming
from pytest_nrfdfu.sim.retention import RAM_ADDRESS, Checksum, Retention
from pytest_nrfdfu.sim.slots import nrf5340_slots
from pytest_nrfdfu.sim.transient import ENUMERATION
from pytest_nrfdfu.sim.uart import Stall, UartConfig
from pytest_nrfdfu.sim.wiring import FAULTS

__all__ = ["Options", "build_parser", "parse"]

_FLASH_SIZE = APPLICATION_DOMAIN.flash_size
_PROFILE_SWITCHES = {
    "hash": "image list shows hashes (IMG_GRP_HASH)",
    "image_state": "image states can be read and set (IMG_GRP_IMAGE_STATE)",
    "slot_info": "slot info (IMG_GRP_SLOT_INFO)",
    "echo": "OS echo (BOOT_MGMT_ECHO)",
    "params": "OS mcumgr params (BOOT_MGMT_MCUMGR_PARAMS)",
    "direct_upload": "the upload's image number names a slot (SERIAL_DIRECT_IMAGE_UPLOAD)",
}
"""Switches of the bootloader that are fields of its profile."""


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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _rate(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not a rate per byte, from 0 to 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a duration in seconds")
    return value


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not bytes in hexadecimal") from None


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = _Parser(
        prog="nrfdfu sim",
        allow_abbrev=False,
        description="Serve a simulated nRF5340 DK. Prints one line of JSON with its endpoints when it is ready, and"
        " runs until SIGTERM, SIGINT, or the end of standard input (if that is a pipe or a socket; a terminal, a file"
        " and /dev/null do not end it).",
    )
    parser.add_argument("--board", default="nrf5340dk", metavar="NAME", help="what it calls itself (%(default)s)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file whose [sim] table holds options")
    _add_bootloader(parser.add_argument_group("bootloader"))
    _add_boot_mode(parser.add_argument_group("boot mode and application"))
    _add_network_core(parser.add_argument_group("network core"))
    _add_hardware(parser.add_argument_group("hardware"))
    _add_faults(parser.add_argument_group("faults"))
    return parser


def _add_bootloader(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bootloader", default="ncs-2.6", choices=sorted(PROFILES), metavar="PROFILE", help=", ".join(PROFILES)
    )
    for name, text in _PROFILE_SWITCHES.items():
        group.add_argument("--" + name.replace("_", "-"), action=argparse.BooleanOptionalAction, help=text)
    group.add_argument("--detect-delay", type=_seconds, metavar="S", help="how long the recovery pin must be held")
    group.add_argument(
        "--entrance",
        action="append",
        choices=get_args(Entrance),
        metavar="NAME",
        help=f"a way into recovery that is built in, repeatable: {', '.join(get_args(Entrance))}",
    )
    group.add_argument("--wait-for-dfu", type=_seconds, metavar="S", help="how long the window of that entrance is")
    group.add_argument("--public-key", type=Path, metavar="FILE", help="check signatures, not only hashes")
    group.add_argument("--stay-in-recovery", action="store_true", help="enter serial recovery at every boot")


def _add_boot_mode(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--boot-mode-prefix",
        type=_hexadecimal,
        default=b"",
        metavar="HEX",
        help="bytes in front of the retained boot mode. What does not fit GPREGRET's two bytes with mode and checksum"
        f" is kept in RAM, from 0x{RAM_ADDRESS:08x} on",
    )
    group.add_argument(
        "--boot-mode-checksum", choices=get_args(Checksum), default="none", help="behind the boot mode (%(default)s)"
    )
    group.add_argument(
        "--application-smp",
        choices=get_args(ApplicationSmp),
        default="none",
        help="the application's SMP server; an old one knows no boot mode in OS reset (%(default)s)",
    )


def _add_network_core(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--network-core",
        action="store_true",
        help="the bootloader updates the network core (Nordic's hooks), which has b0n",
    )
    group.add_argument(
        "--images",
        type=int,
        choices=(1, 2),
        help="images the bootloader updates (UPDATEABLE_IMAGE_NUMBER); 2 needs --network-core and has smaller slots",
    )
    group.add_argument(
        "--network-core-number",
        type=_count,
        metavar="N",
        help="image number whose upload updates the network core (3 with --direct-upload, 1 with two images without)",
    )
    group.add_argument(
        "--pcd-delay",
        type=_seconds,
        default=PcdTiming().wait,
        metavar="S",
        help="how much later the last response of a network core image comes (%(default)s)",
    )


def _add_hardware(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--image", type=Path, metavar="PATH", help="signed .bin to put in slot 0 before the first boot")
    group.add_argument(
        "--flash-file", type=Path, metavar="PATH", help="keep flash in this file (1 MiB, made if it is not there)"
    )
    group.add_argument("--uart", choices=("pty", "tcp"), default="pty", help="how the UART is offered (%(default)s)")
    group.add_argument(
        "--uart-vanishes",
        action="store_true",
        help="the UART is the target's own USB port: every reset takes it away, and a new one comes"
        f" {ENUMERATION:g} s after the firmware has started it",
    )
    group.add_argument(
        "--uart-link",
        type=Path,
        metavar="PATH",
        help="a symbolic link that leads to the UART's port while there is one",
    )
    group.add_argument("--baudrate", type=_count, default=115200, metavar="N", help="0: unpaced (%(default)s)")
    group.add_argument("--fifo", type=_count, default=6, metavar="N", help="bytes of receive FIFO (%(default)s)")
    group.add_argument("--flow-control", action="store_true", help="hardware flow control: RTS stops the host")
    group.add_argument(
        "--host-latency",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="how long bytes take between the wire and the host's program, each way (%(default)s)",
    )
    group.add_argument(
        "--stall", choices=get_args(Stall), default="erase", help="flash operations that stall reception (%(default)s)"
    )
    group.add_argument(
        "--flash-timing", choices=("datasheet", "none"), default="datasheet", help="how long flash takes (%(default)s)"
    )
    group.add_argument("--locked", action="store_true", help="access port protection is on, for both cores")
    group.add_argument("--secure-locked", action="store_true", help="SECUREAPPROTECT alone is on")
    group.add_argument(
        "--network-locked",
        action=argparse.BooleanOptionalAction,
        help="access port protection of the network core, where it differs",
    )
    group.add_argument("--unique-id", default="1050012345", metavar="ID", help="the probe's (%(default)s)")
    group.add_argument("--loses-dp-on-pin-reset", action="store_true", help="pin reset also resets the debug port")


def _add_faults(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the damage (%(default)s)")
    group.add_argument("--drop-rate", type=_rate, default=0.0, metavar="R", help="bytes lost, each way")
    group.add_argument("--flip-rate", type=_rate, default=0.0, metavar="R", help="bytes with a bit turned, each way")
    group.add_argument("--line-loss", type=_rate, default=0.0, metavar="R", help="whole lines lost, each way")
    group.add_argument(
        "--fault",
        dest="faults",
        action="append",
        choices=FAULTS,
        default=[],
        metavar="NAME",
        help="what is wrong with the bench, repeatable: "
        + "; ".join(f"{name}, {what}" for name, what in FAULTS.items()),
    )


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
    arguments: list[str] = []
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: [sim] has no key {key!r}; there are {', '.join(sorted(known))}")
        arguments += _config_argument(path, known[key], value)
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
        loses_dp_on_pin_reset=given.loses_dp_on_pin_reset,
        seed=given.seed,
        drop_rate=given.drop_rate,
        flip_rate=given.flip_rate,
        line_loss=given.line_loss,
    )


def _profile(given: argparse.Namespace) -> BootloaderProfile:
    changes = {name: getattr(given, name) for name in _PROFILE_SWITCHES if getattr(given, name) is not None}
    if given.images is not None:
        changes["images"] = given.images
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
