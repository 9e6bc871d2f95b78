"""The tables of a board configuration: what each key means, and which combinations cannot work.

The models are the schema: unknown keys are refused, and every default is stated here. Loading is `config`'s.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pytest_nrfdfu.config_lines import CommandLine, GpioLine, LineConfig, SerialLine, Table
from pytest_nrfdfu.config_numbers import Pause, Timeout
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.config_switches import BootloaderSwitches
from pytest_nrfdfu.image.bootloader import BootloaderProfile, Swap, overlay, profile

__all__ = [
    "BoardConfig",
    "BootConfig",
    "BootModeConfig",
    "BootloaderConfig",
    "CommandLine",
    "ConsoleConfig",
    "Entry",
    "GpioLine",
    "ImageConfig",
    "LabgridConfig",
    "LineConfig",
    "PowerConfig",
    "ProbeConfig",
    "ProvisionConfig",
    "RecoveryConfig",
    "ResetConfig",
    "ResetKind",
    "SerialLine",
    "SimConfig",
    "UartConfig",
]

Entry = Literal["gpio", "pin-reset", "boot-mode", "wait-for-dfu", "no-application", "smp", "manual"]
ResetKind = Literal["pin", "system", "ctrl-ap", "line", "power", "command", "smp"]
_HARD_RESETS = frozenset({"pin", "line", "power"})
"""Resets after which MCUboot looks at the recovery pin (io_boot_skip_serial_recovery, boot/zephyr/include/io/io.h)."""
_SOFT_RESETS = frozenset({"system", "ctrl-ap", "smp"})
"""Resets that keep GPREGRET, and after which MCUboot ignores the recovery pin."""
GPREGRET0 = 0x5000551C
"""Where the DK's devicetree keeps the boot mode (nRF5340 product specification, RESET; Zephyr's nrf5340dk)."""


class UartConfig(Table):
    """The port that carries SMP, and the console where that is not another one.

    `port` is ``auto`` (the application core's port of the only J-Link), ``jlink:SERIAL:vcom-last`` or
    ``jlink:SERIAL:vcomN`` (N from 0), ``usb:VID:PID`` with ``:serial=TEXT`` or ``:location=TEXT`` behind it,
    ``hwgrep://`` with a regular expression, a path, COM7, or an rfc2217:// or socket:// address.
    """

    port: str = "auto"
    baudrate: int = Field(default=115200, gt=0)
    flow_control: Literal["none", "rtscts"] = "none"
    dtr: bool = True
    """Raise DTR: virtual COM ports of debuggers keep their lines off until a host does. Off where DTR drives a pin."""
    wait: Pause = 3.0
    """Seconds to wait for a port that is not there yet."""
    transient: bool = False
    """The target's own USB port, which only exists while the bootloader (or the application) runs."""


class ConsoleConfig(Table):
    """Where the application's console is another port, or talks at another rate, than recovery."""

    port: str | None = None
    baudrate: int | None = Field(default=None, gt=0)
    transient: bool = False
    """As in [uart]."""
    banner: str = r"\*\*\* Booting (?!MCUboot)"
    """Regular expression of the line that shows that the application has started. MCUboot prints a banner as well."""


class ProbeConfig(Table):
    """The debug probe. Without `unique_id` the only one connected."""

    unique_id: str | None = None
    """The serial number (leading zeros do not count), or ``remote:HOST:PORT``."""
    target: Literal["cortex_m"] = "cortex_m"


class BootModeConfig(Table):
    """How the bootloader keeps the boot mode (Zephyr, subsys/retention/retention.c): prefix, mode, checksum."""

    address: int = Field(default=GPREGRET0, ge=0)
    """Of the first byte. In GPREGRET each byte has a register of its own, 4 apart; elsewhere they follow each other."""
    value: int = Field(default=1, ge=0, le=255)
    """BOOT_MODE_TYPE_BOOTLOADER (Zephyr, include/zephyr/retention/bootmode.h)."""
    prefix: str = Field(default="", pattern=r"^([0-9a-fA-F]{2})*$")
    """Hexadecimal bytes."""
    checksum: Literal["none", "crc8", "crc16", "crc32"] = "none"

    @model_validator(mode="after")
    def _fits_the_registers(self) -> BootModeConfig:
        size = len(self.prefix) // 2 + 1 + {"none": 0, "crc8": 1, "crc16": 2, "crc32": 4}[self.checksum]
        if self.address == GPREGRET0 and size > 2:
            raise ValueError(
                f"prefix, mode and checksum are {size} bytes, and GPREGRET has 2: give the address in RAM of the"
                " bootloader's retention area"
            )
        return self


def _entry_problem(entry: Entry, recovery: RecoveryConfig) -> str:
    """Why an entry cannot work with the reset that is configured for it, in words."""
    reset = recovery.reset_for(entry)
    if entry == "boot-mode" and reset in _HARD_RESETS:
        return (
            f'entry "boot-mode" with reset = "{reset}": the boot mode is kept in a register that such a reset clears;'
            ' use reset = "system" or "ctrl-ap"'
        )
    if entry == "gpio" and recovery.clear_reset_causes and reset not in {"system", "ctrl-ap"}:
        return (
            f'clear_reset_causes with reset = "{reset}": the probe clears the causes of its own reset only; use reset ='
            ' "system"'
        )
    if entry == "gpio" and reset in _SOFT_RESETS and not recovery.clear_reset_causes:
        return (
            f'entry "gpio" with reset = "{reset}": MCUboot ignores the recovery pin after a soft reset; use reset ='
            ' "pin", "line" or "power", or clear_reset_causes = true with reset = "system"'
        )
    if entry == "pin-reset" and reset not in {"pin", "line", "command"}:
        return f'entry "pin-reset" with reset = "{reset}": it is the reset pin itself; use reset = "pin" or "line"'
    return ""


class RecoveryConfig(Table):
    """How the board is brought into serial recovery."""

    entry: tuple[Entry, ...] = Field(default=("gpio",), min_length=1)
    """Ways in, tried in order."""
    reset: ResetKind | None = None
    """How the board is reset for it. Not told: ``system`` for the entry boot-mode, ``pin`` for the others."""
    line: LineConfig | None = None
    """The recovery pin."""
    pin: str | None = Field(default=None, pattern=r"^P(0\.([0-2]?[0-9]|3[01])|1\.(0?[0-9]|1[0-5]))$")
    """The chip's pin that the line is wired to, such as ``P0.23``: mcuboot-button0 in MCUboot's devicetree. The probe
    then looks whether it follows the line. Nordic's boards have a default, by the board's name or `compatible`."""
    timeout: Timeout = 5.0
    """Seconds from the reset until recovery must have answered."""
    manual_timeout: Timeout = 120.0
    """Seconds that a person has for the entry manual."""
    clear_reset_causes: bool = False
    """Entry gpio by a soft reset: the probe halts the core at its reset vector, clears RESETREAS so that MCUboot looks
    at the pin, and lets it go. For rigs whose probe cannot drive nRESET. Not tried on hardware."""
    boot_mode: BootModeConfig = BootModeConfig()
    allow_erase_header: bool = False
    """Entry no-application may erase the page that holds the image's header, through the probe."""
    allow_no_way_back: bool = False
    """Upload to slot 0 although every entry needs a running application, which an upload cut off halfway destroys."""

    @model_validator(mode="after")
    def _entries_can_work(self) -> RecoveryConfig:
        problem = next(filter(None, (_entry_problem(entry, self) for entry in self.entry)), "")
        if not problem:
            return self
        if self.reset is not None and len(self.entry) > 1:
            problem += "; or leave reset out, and each entry gets one that it can work with"
        raise ValueError(problem)

    def reset_for(self, entry: Entry) -> ResetKind:
        """How the board is reset for an entry."""
        if self.reset is not None:
            return self.reset
        return "system" if entry == "boot-mode" else "pin"

    @property
    def has_way_back(self) -> bool:
        """Whether an entry works without a running application."""
        return bool(set(self.entry) - {"smp"})


class ResetConfig(Table):
    """The reset line or command, where the probe does not drive nRESET."""

    line: LineConfig | None = None
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """For reset = "command": run without a shell; when it has ended the board has been reset."""
    hold: float = Field(default=0.02, gt=0, le=5)
    """Seconds that nRESET is held."""


class PowerConfig(Table):
    """The board's supply: two commands (relay, uhubctl, power strip), run without a shell."""

    on: tuple[str, ...] = Field(min_length=1)
    off: tuple[str, ...] = Field(min_length=1)
    settle: Pause = 0.5
    """Seconds that it stays off in a power cycle."""
    takes_usb: bool = False
    """Probe and port go with it, as on a DK that is powered by USB: they are closed first and found again after."""
    usb_timeout: Timeout = 15.0
    """Seconds until they must be back."""


class ProvisionConfig(Table):
    """What `nrfdfu provision` runs to put a bootloader on a board: the user's own nrfutil or west line."""

    command: tuple[str, ...] = Field(min_length=1)
    timeout: Timeout = 300.0


class LabgridConfig(Table):
    """A rack whose units are places of a labgrid coordinator."""

    coordinator: str = Field(pattern=r"^[^:\s]+:\d+$")
    """``host:port``."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of the places that are units of this board."""
    python: Path | None = None
    """An interpreter that has labgrid, where this one has not."""
    reservation: Timeout = 600.0
    """Seconds to wait for a place."""


class BootConfig(Table):
    """What is waited for when the application starts."""

    timeout: Timeout = 10.0
    """Seconds from the reset until the application must have been seen."""
    smp: bool | None = None
    """Whether the application has an SMP server on this port; not told: it is asked."""
    reset_delay: Pause = 0.25
    """Seconds from the answer to an OS reset until the board resets (CONFIG_MCUMGR_GRP_OS_RESET_MS)."""


class BootloaderConfig(BootloaderSwitches):
    """The bootloader on the board: a profile, and what differs from it."""

    profile: str = "ncs-2.6"
    receive_size: int | None = Field(default=None, ge=96)
    line_length: int | None = Field(default=None, ge=16)
    line_buffers: int | None = Field(default=None, ge=2)
    erase_progressively: bool | None = None
    wait_for_dfu: Pause | None = None
    """Seconds that it waits for SMP before it starts the application (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT)."""
    swap: Swap | None = None
    """How it upgrades, which decides how large an image may be."""
    images: int | None = Field(default=None, ge=1, le=8)
    """How many images it updates (CONFIG_UPDATEABLE_IMAGE_NUMBER)."""
    public_key: Path | None = None
    """The key that it checks signatures with; each image is then checked before it is uploaded."""
    window: Literal["auto", 1, 2, 3, 4] = "auto"
    """Chunks of an upload in flight at most; fewer on a wire so slow that more, and smaller, chunks do not pay.
    ``auto``: tried in the first 64 KiB of the first upload to a unit, and kept if nothing was lost; where something
    was, tried again after 8 uploads, and after twice as many each time. Bootloaders before ncs-2.6 always get one chunk
    at a time."""

    def resolve(self) -> BootloaderProfile:
        """The profile with the overrides applied."""
        return overlay(profile(self.profile), self.told())

    def told(self) -> dict[str, Any]:
        """What the table says of the bootloader besides its profile."""
        return self.model_dump(exclude={"profile", "window", "public_key"}, exclude_none=True)


class ImageConfig(Table):
    """One image of a build. `upload` is the number in the upload request.

    Not told, it is 0 for the application, follows from the bootloader for the network core, and is an error for others.
    """

    upload: int | None = Field(default=None, ge=0)
    slot_address: int | None = Field(default=None, ge=0)
    slot_size: int | None = Field(default=None, gt=0)
    allow_link_address: bool = False
    """Take an image whose reset vector lies outside its slot: it was not built for MCUboot and will not run."""
    force: bool = False
    """Send a network core's image even to a number that means the application's slot."""


class BoardConfig(Table):
    """One board, or one unit of it when the unit's table has been laid over."""

    board: str = Field(min_length=1, pattern=r"^[^:\[\]\s]+$")
    compatible: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    uart: UartConfig = UartConfig()
    console: ConsoleConfig = ConsoleConfig()
    probe: ProbeConfig | None = None
    recovery: RecoveryConfig = RecoveryConfig()
    reset: ResetConfig = ResetConfig()
    power: PowerConfig | None = None
    boot: BootConfig = BootConfig()
    bootloader: BootloaderConfig = BootloaderConfig()
    images: dict[str, ImageConfig] = Field(default_factory=lambda: {"app": ImageConfig()})
    sim: SimConfig | None = None
    provision: ProvisionConfig | None = None
    labgrid: LabgridConfig | None = None
    disabled: str | None = None
    """Why this unit is not to be used now."""

    @property
    def simulated(self) -> bool:
        """Whether the bench starts this board itself."""
        return self.sim is not None

    @property
    def app_image(self) -> ImageConfig:
        """The application image's settings."""
        return self.images.get("app", ImageConfig())

    @model_validator(mode="after")
    def _entries_have_what_they_need(self) -> BoardConfig:
        if self.simulated or self.labgrid is not None:  # filled in later
            return self
        recovery = self.recovery
        if "gpio" in recovery.entry and recovery.line is None:
            raise ValueError('entry "gpio" needs the recovery pin: add a [recovery.line] table')
        for entry in recovery.entry:
            missing = self._missing_for(entry)
            if missing:
                raise ValueError(missing)
        return self

    def _missing_for(self, entry: Entry) -> str:
        """What the configuration lacks for an entry, in words."""
        by_probe = entry == "boot-mode" or (entry == "no-application" and self.recovery.allow_erase_header)
        if by_probe and self.probe is None:
            return f'entry "{entry}" writes through the probe: add a [probe] table'
        if entry in {"smp", "manual"}:
            return ""
        reset = self.recovery.reset_for(entry)
        needs: dict[ResetKind, tuple[object, str]] = {
            "line": (self.reset.line, "needs a [reset.line] table"),
            "power": (self.power, "needs a [power] table with the commands that switch it"),
            "command": (self.reset.command, "needs the command: command = [...] in [reset]"),
        }
        there, missing = needs.get(reset, (self.probe, "is done by the probe: add a [probe] table"))
        return f'reset = "{reset}" {missing}' if there is None and reset != "smp" else ""

    @model_validator(mode="after")
    def _one_port_has_one_rate(self) -> BoardConfig:
        uart, console = self.uart, self.console
        shared = console.port is None or _same_port(console.port, uart.port)
        if shared and console.baudrate not in {None, uart.baudrate}:
            raise ValueError(
                f"[console] baudrate = {console.baudrate} on the port that carries SMP at {uart.baudrate}: the same"
                " port at another rate is not supported yet; give the console a port of its own, or both the same rate"
            )
        return self

    @model_validator(mode="after")
    def _lines_have_ports_of_their_own(self) -> BoardConfig:
        for name, line in (("recovery.line", self.recovery.line), ("reset.line", self.reset.line)):
            if not isinstance(line, SerialLine):
                continue
            for port, carries in ((self.uart.port, "SMP"), (self.console.port, "the console")):
                if port is not None and _same_port(line.port, port):
                    raise ValueError(
                        f"[{name}] is on {line.port}, the port that carries {carries}: its lines pulse at every open;"
                        " use the RTS or DTR of another port"
                    )
        return self


def _same_port(one: str, other: str) -> bool:
    """Whether two ports are one; /dev/serial/by-id holds links to the names that the kernel gives."""
    return one == other or ("://" not in one + other and os.path.realpath(one) == os.path.realpath(other))
