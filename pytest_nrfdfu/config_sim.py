"""The [sim] table of a board configuration: a simulated board, started for each process that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pytest_nrfdfu.config_faults import SimFault
from pytest_nrfdfu.config_numbers import Pause
from pytest_nrfdfu.config_switches import BootloaderSwitches
from pytest_nrfdfu.image.format import Version

__all__ = ["SimBehaviour", "SimConfig", "SimFault"]

SimBehaviour = Literal["runs", "confirms", "hangs", "silent", "faults", "halts", "boot-loops"]
"""What a simulated application does after it was started; see ``nrfdfu sim --help``."""
_SWITCHES = frozenset(
    {
        "application_frugal_list",
        "bootloader_log",
        "flow_control",
        "locked",
        "loses_dp_on_pin_reset",
        "network_core",
        "secure_locked",
        "staging",
        "uart_vanishes",
    }
)
_SINGULAR = {"applications": "--application", "faults": "--fault"}


def _check_version(text: str) -> str:
    """As it was given; ValueError for what is neither a version nor ``*``."""
    if text != "*":
        Version.parse(text)
    return text


class SimConfig(BootloaderSwitches):
    """A simulated board, started for each process that needs one. The keys are the simulator's options."""

    bootloader: str = "ncs-2.6"
    baudrate: int = Field(default=115200, ge=0)
    """0: unpaced."""
    flash_timing: Literal["datasheet", "none"] = "datasheet"
    uart: Literal["pty", "tcp"] = "pty"
    image: Path | None = None
    public_key: Path | None = None
    seed: int | None = Field(default=None, ge=0)
    entrance: tuple[str, ...] = ()
    detect_delay: Pause | None = None
    wait_for_dfu: Pause | None = None
    """Seconds of the window of the entrance wait-for-dfu."""
    fifo: int | None = Field(default=None, ge=1)
    stall: Literal["none", "erase", "erase+write"] | None = None
    drop_rate: float | None = Field(default=None, ge=0, le=1)
    flip_rate: float | None = Field(default=None, ge=0, le=1)
    line_loss: float | None = Field(default=None, ge=0, le=1)
    """Share of whole lines lost, each way."""
    flow_control: bool = False
    """Hardware flow control: RTS stops the host while the board cannot take bytes."""
    host_latency: Pause | None = None
    """Seconds that bytes take between the wire and the host's program, each way."""
    locked: bool = False
    secure_locked: bool = False
    """SECUREAPPROTECT alone: the core is open, secure addresses are not."""
    network_locked: bool | None = None
    """Protection of the network core by itself; not told: as the application core's."""
    loses_dp_on_pin_reset: bool = False
    network_core: bool = False
    """A network core that MCUboot updates, by b0n and the shared memory of PCD."""
    images: Literal[1, 2] | None = None
    network_core_number: int | None = Field(default=None, ge=0)
    pcd_delay: Pause | None = None
    swap: Literal["move", "offset", "overwrite"] | None = None
    """How the bootloader upgrades; not told: as its profile, or overwrite where it has two images."""
    bootloader_log: bool = False
    """The bootloader logs on the console."""
    application_smp: Literal["none", "old", "full"] | None = None
    """The application's SMP server: none, a full one, or an old one, which knows no boot_mode in OS reset, overwrites
    no image that is pending, and compares no digest."""
    application_erase: Literal["at-start", "progressive"] | None = None
    """When an upload to the application erases: with its first chunk, or page by page."""
    application_frugal_list: bool = False
    """The application's image list leaves out what is false."""
    applications: dict[Annotated[str, AfterValidator(_check_version)], SimBehaviour] = Field(default_factory=dict)
    """What images do, by their version; ``*``: those of any other version."""
    staging: bool = False
    """The application also takes updates on a TCP port of its own (the simulator's endpoint ``staging``)."""
    boot_mode_prefix: str | None = None
    """Hexadecimal bytes in front of the retained boot mode."""
    boot_mode_checksum: Literal["none", "crc8", "crc16", "crc32"] | None = None
    uart_vanishes: bool = False
    """The UART is the target's own USB port: every reset takes it away, and it comes back under another name."""
    uart_link: Path | None = None
    """A symbolic link that always leads to the UART's present name, as udev's /dev/serial/by-id does."""
    faults: tuple[SimFault, ...] = ()
    """What is wrong with the bench from the start."""

    def arguments(self) -> list[str]:
        """The simulator's command-line arguments."""
        arguments: list[str] = []
        for key, value in self.model_dump(exclude_none=True).items():
            option = "--" + key.replace("_", "-")
            if isinstance(value, bool):
                if key in _SWITCHES:
                    arguments += [option] if value else []
                else:
                    arguments.append(option if value else "--no-" + option[2:])
            elif isinstance(value, dict):
                arguments += [f"{_SINGULAR[key]}={name}={item}" for name, item in value.items()]
            elif isinstance(value, tuple):
                arguments += [part for item in value for part in (_SINGULAR.get(key, option), item)]
            else:
                arguments += [option, str(value)]
        return arguments
