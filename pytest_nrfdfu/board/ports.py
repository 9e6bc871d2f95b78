"""Which serial port is meant: finds a port by what it is, not by the name that the system gave it last.

A name such as /dev/ttyACM0 belongs to whichever adapter came first, and a USB port that vanishes at a reset may come
back under another. So a configuration names a port by its identity (`FORMS`), and it is looked up at every opening.

The nRF5340 DK's debugger has two (revision 2) or three (revision 1) virtual COM ports; the application core's is the
last on both (nRF Connect SDK, "Logging in nRF Connect SDK" for the nRF5340; zephyrproject-rtos/zephyr, discussion
72581).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pytest_nrfdfu.errors import ConfigError, UartError

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

__all__ = [
    "FORMS",
    "POLL",
    "Group",
    "PortInfo",
    "check",
    "describe",
    "find",
    "is_name",
    "not_found",
    "resolve",
    "wait_for",
]

FORMS = (
    "auto, jlink:SERIAL:vcom-last, jlink:SERIAL:vcomN (N from 0), usb:VID:PID with :serial=TEXT or :location=TEXT"
    " behind it, hwgrep://REGEX, a path such as /dev/ttyACM0 or /dev/serial/by-id/..., COM7, rfc2217://HOST:PORT,"
    " socket://HOST:PORT"
)
"""How a port may be given."""
POLL = 0.05
"""Seconds between looks for a port that is not there."""
_SEGGER = 0x1366
"""USB vendor of J-Links (SEGGER); the product number depends on which functions are on, so it is not looked at."""
_SHOWN = 12
"""Ports in a message at most."""

_JLINK = re.compile(r"jlink:(?P<serial>[^:]+):vcom(?P<index>\d+|-last)", re.IGNORECASE)
_USB = re.compile(
    r"usb:(?:0x)?(?P<vid>[0-9a-f]{1,4}):(?:0x)?(?P<pid>[0-9a-f]{1,4})(?P<rest>(?::(?:serial|location)=.+)?)",
    re.IGNORECASE,
)
_WINDOWS_NAME = re.compile(r"(?:\\\\\.\\)?COM\d+", re.IGNORECASE)
_ADDRESSES = ("rfc2217://", "socket://")


@dataclass(frozen=True, slots=True)
class PortInfo:
    """A serial port of this host, as the system lists it."""

    device: str
    """Its name now: /dev/ttyACM0, COM7."""
    vid: int | None = None
    pid: int | None = None
    serial: str | None = None
    """The USB device's serial number, as it tells it: J-Links pad theirs with zeros."""
    location: str | None = None
    """Where it is plugged in, and which interface: ``1-1:1.2``."""
    product: str | None = None
    description: str = ""
    """The system's words for it."""
    hwid: str = ""
    """All numbers in pyserial's notation: ``USB VID:PID=1366:1055 SER=... LOCATION=...``."""

    @classmethod
    def of(cls, port: ListPortInfo) -> PortInfo:
        """From what pyserial lists."""
        usb = (port.vid, port.pid, port.serial_number, port.location, port.product)
        return cls(port.device, *usb, description=port.description or "", hwid=port.hwid or "")

    @property
    def is_jlink(self) -> bool:
        """Whether it is a virtual COM port of a J-Link with a serial number."""
        return self.vid == _SEGGER and bool(self.serial)

    @property
    def usb_serial(self) -> str:
        """The serial number without the zeros that J-Links pad it with, as printed on the board."""
        serial = self.serial or ""
        return str(int(serial)) if _is_decimal(serial) and self.vid == _SEGGER else serial

    def __str__(self) -> str:
        parts = [] if self.vid is None else [f"{self.vid:04x}:{self.pid or 0:04x}"]
        parts += [f"serial {self.serial}"] if self.serial else []
        parts += [self.product] if self.product else []
        return f"{self.device} ({', '.join(parts)})" if parts else self.device


@dataclass(frozen=True, slots=True)
class Group:
    """Ports that belong together: those of one J-Link, or one other port alone."""

    jlink: str | None
    """The J-Link's serial number without padding, as printed on the board; None: no J-Link."""
    ports: tuple[PortInfo, ...]
    """In the order of vcom0, vcom1, ...: the last of a DK is the application core's."""

    @property
    def spec(self) -> str:
        """How to name the port that carries SMP: of a J-Link the application core's."""
        if self.jlink is not None:
            return f"jlink:{self.jlink}:vcom-last"
        port = self.ports[0]
        if port.vid is None or port.pid is None:
            return port.device
        if port.serial:
            return f"usb:{port.vid:04x}:{port.pid:04x}:serial={port.serial}"
        return f"usb:{port.vid:04x}:{port.pid:04x}" + (f":location={port.location}" if port.location else "")


# --- what is meant --------------------------------------------------------------------------------------------------


class _JLink(NamedTuple):
    """A virtual COM port of a J-Link: by number, or the last."""

    serial: str | None
    """None: the only one connected."""
    number: int = -1
    """-1: the last."""

    def pick(self, spec: str, ports: Sequence[PortInfo]) -> PortInfo | None:
        groups = [g for g in describe(ports) if g.jlink and (self.serial is None or _same(g.jlink, self.serial))]
        if len(groups) > 1:
            raise UartError(
                f"{spec} means the only J-Link connected, but there are {len(groups)}: {_list(groups, _shown_group)}."
                f" Give the one that is meant: port = {groups[0].spec!r}"
            )
        if not groups or self.number >= len(groups[0].ports):
            return None
        return groups[0].ports[self.number]


class _Usb(NamedTuple):
    """A port by its USB device's numbers, and by serial number or place where those are not enough."""

    vid: int
    pid: int
    serial: str | None = None
    location: str | None = None

    def pick(self, spec: str, ports: Sequence[PortInfo]) -> PortInfo | None:
        return _only(spec, [port for port in ports if self._fits(port)], "add :serial=TEXT or :location=TEXT to it")

    def _fits(self, port: PortInfo) -> bool:
        return (
            (port.vid, port.pid) == (self.vid, self.pid)
            and (self.serial is None or _same(self.serial, port.serial or ""))
            and (self.location is None or _lies_at(port.location or "", self.location))
        )


class _Grep(NamedTuple):
    """A port by a regular expression on its name, description or hardware id, as pyserial's hwgrep://."""

    matches: Callable[[str], object]

    def pick(self, spec: str, ports: Sequence[PortInfo]) -> PortInfo | None:
        found = [port for port in ports if any(map(self.matches, (port.device, port.description, port.hwid)))]
        return _only(spec, found, "write a regular expression that fits one port only")


class _Name(NamedTuple):
    """A path or an address that is used as it is."""

    name: str


_Spec = _JLink | _Usb | _Grep | _Name


def _parse(spec: str) -> _Spec:
    if spec == "auto":
        return _JLink(None)
    if match := _JLINK.fullmatch(spec):
        last = match["index"].lower() == "-last"
        return _JLink(match["serial"], -1 if last else int(match["index"]))
    if match := _USB.fullmatch(spec):
        return _parse_usb(spec, match)
    if spec.startswith("hwgrep://"):
        return _Grep(_compile(spec, spec.removeprefix("hwgrep://")).search)
    if spec.startswith(_ADDRESSES):
        return _Name(_checked_address(spec))
    is_path = "/" in spec and "://" not in spec and not spec.startswith(("usb:", "jlink:"))
    if is_path or _WINDOWS_NAME.fullmatch(spec):
        return _Name(spec)
    raise _malformed(spec)


def _parse_usb(spec: str, match: re.Match[str]) -> _Usb:
    told: dict[str, str] = {}
    for part in re.split(r":(?=serial=|location=)", match["rest"], flags=re.IGNORECASE)[1:]:
        key, _, value = part.partition("=")
        if key.lower() in told or not value:
            raise _malformed(spec)
        told[key.lower()] = value
    return _Usb(int(match["vid"], 16), int(match["pid"], 16), told.get("serial"), told.get("location"))


def _compile(spec: str, expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"the port {spec!r} holds no regular expression: {error}") from None


def _checked_address(spec: str) -> str:
    try:
        parts = urlsplit(spec)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise _malformed(spec)
    return spec


def _malformed(spec: str) -> ConfigError:
    hint = f" Did you mean /dev/{spec}?" if re.fullmatch(r"tty\w+", spec) else ""
    return ConfigError(f"{spec!r} names no serial port.{hint} It may be: {FORMS}")


# --- finding it -----------------------------------------------------------------------------------------------------


def check(spec: str) -> None:
    """ConfigError if `spec` is none of `FORMS`; nothing is looked up."""
    _parse(spec)


def is_name(spec: str) -> bool:
    """Whether `spec` is a path, a COM name or an address, so that pyserial opens it as it is."""
    return isinstance(_parse(spec), _Name)


def find(spec: str, ports: Iterable[ListPortInfo] | None = None) -> str | None:
    """The device name or address that `spec` means now; None if it is not there.

    A link is followed, so that the result is the port's own name. Addresses and COM names are taken as they are.
    `ports` are what the system lists (for tests). ConfigError for a malformed `spec`; UartError where it fits several.
    """
    parsed = _parse(spec)
    if isinstance(parsed, _Name):
        name = parsed.name
        if "://" in name or _WINDOWS_NAME.fullmatch(name):
            return name
        return os.path.realpath(name) if Path(name).exists() else None
    port = parsed.pick(spec, _listed(ports))
    return port.device if port else None


def resolve(spec: str, ports: Iterable[ListPortInfo] | None = None) -> str:
    """As `find`, but UartError if it is not there: the message lists what is."""
    device = find(spec, ports)
    if device is None:
        raise UartError(not_found(spec, ports))
    return device


def wait_for(spec: str, deadline: float) -> str:
    """As `resolve`, but waits for the port until `deadline` (seconds, monotonic)."""
    start = time.monotonic()
    while (device := find(spec)) is None:
        now = time.monotonic()
        if now >= deadline:
            raise UartError(f"{not_found(spec)}; waited {now - start:.1f} s for it")
        time.sleep(min(POLL, deadline - now))
    return device


def not_found(spec: str, ports: Iterable[ListPortInfo] | None = None) -> str:
    """What to say of a port that is not there: what was looked for, what is connected, what to do."""
    known = _listed(ports)
    connected = f"connected: {_list(known, str)}" if known else "no serial port is connected"
    parsed = _parse(spec)
    if parsed == _JLink(None):
        return (
            f"no J-Link with a serial port is there ({spec}: the only J-Link connected); {connected}. Is the board"
            " plugged in and switched on, by a cable that carries data, and its virtual COM port enabled?"
        )
    if isinstance(parsed, _JLink) and parsed.number >= 0:
        for group in describe(known):
            if group.jlink and parsed.serial and _same(group.jlink, parsed.serial):
                last = len(group.ports) - 1
                return f"{spec} is not there: that J-Link's ports are vcom0 to vcom{last} ({_list(group.ports, str)})"
    return f"{spec} is not there; {connected}. Is the board plugged in and switched on, and the port's name right?"


def describe(ports: Iterable[ListPortInfo | PortInfo] | None = None) -> tuple[Group, ...]:
    """What is connected, ports of one J-Link together, sorted; for people and for `nrfdfu discover`."""
    jlinks: dict[str, list[PortInfo]] = {}
    others = []
    for port in _listed(ports):
        if port.is_jlink:
            jlinks.setdefault(port.usb_serial, []).append(port)
        else:
            others.append(port)
    groups = [Group(serial, tuple(members)) for serial, members in sorted(jlinks.items())]
    return (*groups, *(Group(None, (port,)) for port in others))


def _listed(ports: Iterable[ListPortInfo | PortInfo] | None) -> list[PortInfo]:
    """All ports, in the order of their places."""
    if ports is None:
        from serial.tools.list_ports import comports

        ports = comports()
    known = [port if isinstance(port, PortInfo) else PortInfo.of(port) for port in ports]
    return sorted(known, key=lambda port: (_natural(port.location or ""), _natural(port.device)))


def _only(spec: str, found: Sequence[PortInfo], remedy: str) -> PortInfo | None:
    if len(found) > 1:
        raise UartError(f"{spec} fits {len(found)} ports: {_list(found, _with_location)}; {remedy}")
    return found[0] if found else None


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _same(one: str, other: str) -> bool:
    """Whether two serial numbers are one: USB pads decimal ones with zeros."""
    if _is_decimal(one) and _is_decimal(other):
        return int(one) == int(other)
    return one.casefold() == other.casefold()


def _lies_at(location: str, wanted: str) -> bool:
    """Whether `wanted` is the place or the beginning of it: ``1-1`` of ``1-1:1.2``, but not of ``1-10``."""
    return location == wanted or (location.startswith(wanted) and location[len(wanted)] in ":.")


def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts COM3 in front of COM10."""
    return tuple((int(part), "") if _is_decimal(part) else (-1, part) for part in re.split(r"(\d+)", text) if part)


def _list(items: Sequence[object], show: Callable[..., str]) -> str:
    more = len(items) - _SHOWN
    return "; ".join(show(item) for item in items[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _with_location(port: PortInfo) -> str:
    return f"{port} at {port.location}" if port.location else str(port)


def _shown_group(group: Group) -> str:
    """A J-Link and its ports, for a message."""
    return f"{group.jlink} with {', '.join(port.device for port in group.ports)}"
