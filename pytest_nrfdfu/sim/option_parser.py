"""The simulated board's command line: every option, with what it may be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, get_args

from pytest_nrfdfu.image.bootloader import PROFILES, Entrance
from pytest_nrfdfu.sim.app_behaviour import BEHAVIOURS, VersionBehaviour, parse_behaviour
from pytest_nrfdfu.sim.app_upload import EraseWhen
from pytest_nrfdfu.sim.board import ApplicationSmp
from pytest_nrfdfu.sim.pcd import PcdTiming
from pytest_nrfdfu.sim.retention import RAM_ADDRESS, Checksum
from pytest_nrfdfu.sim.transient import ENUMERATION
from pytest_nrfdfu.sim.uart import Stall
from pytest_nrfdfu.sim.wiring import FAULTS

__all__ = ["PROFILE_SWITCHES", "build_parser"]

PROFILE_SWITCHES = {
    "hash": "image list shows hashes (IMG_GRP_HASH)",
    "image_state": "image states can be read and set (IMG_GRP_IMAGE_STATE)",
    "slot_info": "slot info (IMG_GRP_SLOT_INFO)",
    "echo": "OS echo (BOOT_MGMT_ECHO)",
    "params": "OS mcumgr params (BOOT_MGMT_MCUMGR_PARAMS)",
    "direct_upload": "the upload's image number names a slot (SERIAL_DIRECT_IMAGE_UPLOAD)",
}
"""Switches of the bootloader that are fields of its profile."""


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


def _application(text: str) -> VersionBehaviour:
    try:
        return parse_behaviour(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_parser(*, exit_on_error: bool = True) -> argparse.ArgumentParser:
    """The parser of all options. Without `exit_on_error` a value that is wrong raises argparse.ArgumentError."""
    parser = _Parser(
        prog="nrfdfu sim",
        exit_on_error=exit_on_error,
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
    for name, text in PROFILE_SWITCHES.items():
        group.add_argument("--" + name.replace("_", "-"), action=argparse.BooleanOptionalAction, help=text)
    group.add_argument(
        "--swap",
        choices=("move", "offset", "overwrite"),
        help="how it upgrades, where that is not the profile's way; overwrite, if it has two images",
    )
    group.add_argument(
        "--bootloader-log", action="store_true", help="it logs on the console, where its serial recovery is as well"
    )
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
        help="the application's SMP server; an old one knows no boot mode in OS reset, overwrites no pending image and"
        " checks no digest (%(default)s)",
    )
    group.add_argument(
        "--application-erase",
        choices=get_args(EraseWhen),
        default="at-start",
        help="when an upload to the application erases: with its first chunk, or page by page (%(default)s)",
    )
    group.add_argument(
        "--application-frugal-list",
        action="store_true",
        help="the application's image list leaves out flags that are false, and splitStatus"
        " (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST)",
    )
    group.add_argument(
        "--application",
        dest="applications",
        action="append",
        type=_application,
        default=[],
        metavar="VERSION=BEHAVIOUR",
        help="what images of a version do (*: of any other), repeatable: "
        + "; ".join(f"{name}, {what}" for name, what in BEHAVIOURS.items()),
    )
    group.add_argument(
        "--staging",
        action="store_true",
        help="the application takes updates on a TCP port of its own, and stages them as Nordic's DFU target library",
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
