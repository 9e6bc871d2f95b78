"""Known troubles of a Linux host with a serial port: what is seen of them here, each with its remedy.

Nothing is guessed: a sentence is only given where its cause is read from /sys, /proc, /run/udev or the device's own
rights. Where those cannot be read (another system, a container), nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["CTS_IS_LOW", "rights", "trouble"]

Access = Callable[[Path, int], bool]
"""As `os.access`."""

CTS_IS_LOW = (
    'flow_control = "rtscts", and the port\'s CTS is off, so nothing is sent: the target does not drive its RTS, or the'
    ' debugger has not noticed that it does. Set [uart] flow_control = "none" if the bootloader uses none (the nRF5340'
    " DK's does not); if it does, switch hardware flow control on for good in the debugger (J-Link Commander: SetHWFC"
    " Force)"
)
"""The virtual COM ports of Nordic's DKs find out about flow control from the target's RTS at the first data."""

_SEGGER = "1366"
_MASS_STORAGE = "08"
"""bInterfaceClass (USB-IF, "Defined Class Codes")."""
_BRLTTY_TAKES = {
    ("0403", "6001"): "FTDI",
    ("0403", "6015"): "FTDI",
    ("10c4", "ea60"): "CP210x",
    ("10c4", "ea80"): "CP210x",
    ("1a86", "7523"): "CH340",
}
"""USB numbers of adapters in general that brltty's udev rules took for braille displays (brltty before 6.5; its
maintainer in arduino/arduino-ide, issue 1788)."""
_IGNORED = ("ID_MM_DEVICE_IGNORE=1", "ID_MM_PORT_IGNORE=1", "ID_MM_TTY_BLACKLIST=1")
"""Properties by which udev rules keep ModemManager away (ModemManager reference manual, "Modem filter")."""


def trouble(device: str | None, root: Path = Path("/"), access: Access = os.access) -> list[str]:
    """What is known to go wrong with `device` (its own name; None: the port was not found) on this host.

    `root` is where /sys, /proc, /run and /dev are looked for, `access` tells rights (both for tests).
    """
    if device is None:
        return list(_taken_by_brltty(root))
    if "://" in device:
        return []
    usb = _usb_device(device, root)
    found = [rights(device, root, access)]
    if usb is not None:
        found += [_mass_storage(usb), _modem_manager(device, usb, root), _brltty(device, usb, root)]
    return [sentence for sentence in found if sentence]


def rights(device: str, root: Path = Path("/"), access: Access = os.access) -> str:
    """Why this user may not open `device`, and what to do; empty if that is not so."""
    path = _under(root, device)
    try:
        told = path.stat()
    except OSError:
        return ""
    if access(path, os.R_OK | os.W_OK):
        return ""
    group = _group(told.st_gid)
    if told.st_mode & 0o060 != 0o060 or told.st_gid == 0:
        return (
            f"{device} may be opened by root alone (it belongs to the group {group}): a udev rule is missing; add one"
            ' with SUBSYSTEM=="tty", GROUP="dialout", MODE="0660", and plug the adapter in again'
        )
    return (
        f"{device} belongs to the group {group}, and this process is not in it: run `sudo usermod -aG {group} $USER`,"
        " then log out and in again"
    )


def _mass_storage(usb: Path) -> str:
    """Links to SEGGER's remedy stand in Zephyr's documentation of SMP since commit 6b61b219."""
    if _read(usb / "idVendor") != _SEGGER:
        return ""
    if not any(_read(file) == _MASS_STORAGE for file in usb.glob("*/bInterfaceClass")):
        return ""
    return (
        f"the J-Link {_read(usb / 'serial').lstrip('0')} also shows itself as a USB drive, which can corrupt SMP"
        " packets of more than 64 bytes on its serial ports: run MSDDisable in SEGGER's J-Link Commander, and"
        " plug it in again"
    )


def _modem_manager(device: str, usb: Path, root: Path) -> str:
    if not _runs("ModemManager", root):
        return ""
    tty = _tty(device, root)
    data = [told for told in (_udev_data(tty, root), _udev_data(usb, root)) if told is not None]
    if not data or any(f"E:{ignored}" in told for told in data for ignored in _IGNORED):
        return ""
    vendor, product = _read(usb / "idVendor"), _read(usb / "idProduct")
    return (
        f"ModemManager runs, and no udev rule keeps it away from {device}: it may send AT commands to the board each"
        f' time the port appears; add a udev rule ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}",'
        ' ENV{ID_MM_DEVICE_IGNORE}="1", or stop it (`sudo systemctl stop ModemManager`)'
    )


def _brltty(device: str, usb: Path, root: Path) -> str:
    chip = _BRLTTY_TAKES.get((_read(usb / "idVendor"), _read(usb / "idProduct")))
    if chip is None or not _runs("brltty", root):
        return ""
    return (
        f"brltty runs, which takes {chip} adapters such as {device} for braille displays and pulls them from under"
        " other programs: remove it (`sudo apt remove brltty`) unless somebody here reads braille"
    )


def _taken_by_brltty(root: Path) -> Iterator[str]:
    """Adapters that have no serial port any more because a program (usbfs) holds their interface."""
    if not _runs("brltty", root):
        return
    for usb in sorted((root / "sys/bus/usb/devices").glob("*")):
        chip = _BRLTTY_TAKES.get((_read(usb / "idVendor"), _read(usb / "idProduct")))
        if chip and any(driver.resolve().name == "usbfs" for driver in usb.glob(f"{usb.name}:*/driver")):
            yield (
                f"brltty runs, and a program has taken the {chip} adapter at USB {usb.name} from the kernel, so that it"
                " has no serial port: brltty takes such adapters for braille displays; remove it"
                " (`sudo apt remove brltty`) unless somebody here reads braille, and plug the adapter in again"
            )


# --- reading --------------------------------------------------------------------------------------------------------


def _under(root: Path, path: str) -> Path:
    return root / path.removeprefix("/")


def _tty(device: str, root: Path) -> Path:
    return root / "sys/class/tty" / Path(device).name


def _usb_device(device: str, root: Path) -> Path | None:
    """The USB device that a port belongs to: the folder above the interface; None for other ports."""
    place = _tty(device, root) / "device"
    if not place.exists():
        return None
    place = place.resolve()
    for folder in (place, *place.parents):
        if (folder / "idVendor").exists():
            return folder
    return None


def _udev_data(place: Path, root: Path) -> list[str] | None:
    """What udev knows of a character device: lines such as ``E:KEY=value``; None where that cannot be read."""
    number = _read(place / "dev")
    if not number:
        return None
    with suppress(OSError):
        return (root / f"run/udev/data/c{number}").read_text(encoding="utf-8", errors="replace").splitlines()
    return None


def _runs(name: str, root: Path) -> bool:
    return any(_read(file) == name for file in (root / "proc").glob("[0-9]*/comm"))


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _group(number: int) -> str:
    try:
        import grp

        return grp.getgrgid(number).gr_name
    except (ImportError, KeyError):  # not on Windows; or a number without a name
        return str(number)
