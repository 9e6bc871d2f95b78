"""Board configurations (``hil_configs/<board>.toml``): types, schema, loading, errors that name file, key and fix.

One file describes one board, or a rack of units of that board. The schema is the pydantic models below; unknown keys
are refused with the nearest known spelling. `Catalogue` finds boards by name: first in the suite's own folder, then
among the configurations that ship with the package.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pytest_nrfdfu.config_errors import explain, line_of
from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import BootloaderProfile, Swap, overlay, profile

__all__ = [
    "BoardConfig",
    "Catalogue",
    "CommandLine",
    "LineConfig",
    "SerialLine",
    "SimConfig",
    "UnitConfig",
    "load",
    "shipped_configs",
]

Entry = Literal["gpio", "pin-reset", "smp"]
ResetKind = Literal["pin", "line"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class UartConfig(_Strict):
    """The port that carries SMP, and the console where that is not another one."""

    port: str = "auto"
    """A path, COM7, rfc2217:// or socket:// address."""
    baudrate: int = Field(default=115200, gt=0)
    flow_control: Literal["none", "rtscts"] = "none"


class ConsoleConfig(_Strict):
    """Where the application's console is another port, or talks at another rate, than recovery."""

    port: str | None = None
    baudrate: int | None = Field(default=None, gt=0)
    banner: str = r"\*\*\* Booting (?!MCUboot)"
    """Regular expression of the line that shows that the application has started. MCUboot prints a banner as well."""


class ProbeConfig(_Strict):
    """The debug probe. Without `unique_id` the only one connected."""

    unique_id: str | None = None
    target: Literal["cortex_m"] = "cortex_m"


class SerialLine(_Strict):
    """RTS or DTR of a port that does nothing else. `active` is the level at the target's pin."""

    driver: Literal["serial"]
    port: str
    line: Literal["rts", "dtr"]
    active: Literal["low", "high"] = "low"

    @model_validator(mode="after")
    def _port_has_lines(self) -> SerialLine:
        if self.port.startswith("socket://"):
            raise ValueError(f"{self.port} has no control lines; use rfc2217:// instead of socket://")
        return self


class CommandLine(_Strict):
    """A line that external commands drive: argument lists, run without a shell."""

    driver: Literal["command"]
    assert_: tuple[str, ...] = Field(alias="assert", min_length=1)
    release: tuple[str, ...] = Field(min_length=1)


LineConfig = Annotated[SerialLine | CommandLine, Field(discriminator="driver")]


class RecoveryConfig(_Strict):
    """How the board is brought into serial recovery."""

    entry: tuple[Entry, ...] = Field(default=("gpio",), min_length=1)
    """Ways in, tried in order."""
    reset: ResetKind = "pin"
    line: LineConfig | None = None
    """The recovery pin."""
    timeout: float = Field(default=5.0, gt=0)
    """Seconds from the reset until recovery must have answered."""


class ResetConfig(_Strict):
    """The reset line, where the probe does not drive nRESET."""

    line: LineConfig | None = None
    hold: float = Field(default=0.02, gt=0)
    """Seconds that nRESET is held."""


class BootConfig(_Strict):
    """What is waited for when the application starts."""

    timeout: float = Field(default=10.0, gt=0)
    """Seconds from the reset until the application must have been seen."""
    smp: bool | None = None
    """Whether the application has an SMP server on this port; not told: it is asked."""
    reset_delay: float = Field(default=0.25, ge=0)
    """Seconds from the answer to an OS reset until the board resets (CONFIG_MCUMGR_GRP_OS_RESET_MS)."""


class BootloaderConfig(_Strict):
    """The bootloader on the board: a profile, and what differs from it."""

    profile: str = "ncs-2.6"
    receive_size: int | None = Field(default=None, ge=96)
    line_length: int | None = Field(default=None, ge=16)
    line_buffers: int | None = Field(default=None, ge=2)
    hash: bool | None = None
    image_state: bool | None = None
    slot_info: bool | None = None
    echo: bool | None = None
    params: bool | None = None
    direct_upload: bool | None = None
    erase_progressively: bool | None = None
    wait_for_dfu: float | None = Field(default=None, ge=0)
    """Seconds that it waits for SMP before it starts the application (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT)."""
    swap: Swap | None = None
    """How it upgrades, which decides how large an image may be."""
    images: int | None = Field(default=None, ge=1, le=8)
    """How many images it updates (CONFIG_UPDATEABLE_IMAGE_NUMBER)."""
    public_key: Path | None = None
    """The key that it checks signatures with; each image is then checked before it is uploaded."""
    window: Literal[1, 2] = 1
    """Chunks of an upload in flight at most. 2 is faster, and was never tried on a real chip."""

    def resolve(self) -> BootloaderProfile:
        """The profile with the overrides applied."""
        return overlay(profile(self.profile), self.told())

    def told(self) -> dict[str, Any]:
        """What the table says of the bootloader besides its profile."""
        return self.model_dump(exclude={"profile", "window", "public_key"}, exclude_none=True)


class ImageConfig(_Strict):
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


class SimConfig(_Strict):
    """A simulated board, started for each process that needs one. The keys are the simulator's options."""

    bootloader: str = "ncs-2.6"
    baudrate: int = Field(default=115200, ge=0)
    """0: unpaced."""
    flash_timing: Literal["datasheet", "none"] = "datasheet"
    uart: Literal["pty", "tcp"] = "pty"
    image: Path | None = None
    public_key: Path | None = None
    seed: int | None = None
    entrance: tuple[str, ...] = ()
    detect_delay: float | None = None
    hash: bool | None = None
    image_state: bool | None = None
    slot_info: bool | None = None
    echo: bool | None = None
    params: bool | None = None
    direct_upload: bool | None = None
    fifo: int | None = None
    stall: Literal["none", "erase", "erase+write"] | None = None
    drop_rate: float | None = Field(default=None, ge=0, le=1)
    flip_rate: float | None = Field(default=None, ge=0, le=1)
    locked: bool = False
    loses_dp_on_pin_reset: bool = False
    network_core: bool = False
    """A network core that MCUboot updates, by b0n and the shared memory of PCD."""
    images: Literal[1, 2] | None = None
    network_core_number: int | None = None
    pcd_delay: float | None = None

    def arguments(self) -> list[str]:
        """The simulator's command-line arguments."""
        arguments: list[str] = []
        for key, value in self.model_dump(exclude_none=True).items():
            option = "--" + key.replace("_", "-")
            if isinstance(value, bool):
                if key in {"locked", "loses_dp_on_pin_reset", "network_core"}:
                    arguments += [option] if value else []
                else:
                    arguments.append(option if value else "--no-" + option[2:])
            elif isinstance(value, tuple):
                arguments += [part for item in value for part in (option, item)]
            else:
                arguments += [option, str(value)]
        return arguments


class BoardConfig(_Strict):
    """One board, or one unit of it when the unit's table has been laid over."""

    board: str = Field(min_length=1, pattern=r"^[^:\[\]\s]+$")
    compatible: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    uart: UartConfig = UartConfig()
    console: ConsoleConfig = ConsoleConfig()
    probe: ProbeConfig | None = None
    recovery: RecoveryConfig = RecoveryConfig()
    reset: ResetConfig = ResetConfig()
    boot: BootConfig = BootConfig()
    bootloader: BootloaderConfig = BootloaderConfig()
    images: dict[str, ImageConfig] = Field(default_factory=lambda: {"app": ImageConfig()})
    sim: SimConfig | None = None

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
        if self.simulated:
            return self
        if "gpio" in self.recovery.entry and self.recovery.line is None:
            raise ValueError('entry "gpio" needs the recovery pin: add a [recovery.line] table')
        if self.recovery.reset == "pin" and set(self.recovery.entry) - {"smp"} and self.probe is None:
            raise ValueError('reset = "pin" is done by the probe: add a [probe] table')
        if self.recovery.reset == "line" and self.reset.line is None:
            raise ValueError('reset = "line" needs a [reset.line] table')
        return self

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


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """One unit: its id (None where the file names none) and its board's configuration with its own laid over."""

    id: str | None
    config: BoardConfig
    file: Path

    @property
    def name(self) -> str:
        """``board`` or ``board:id``."""
        return self.config.board if self.id is None else f"{self.config.board}:{self.id}"


def _other_driver(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "driver" in old and "driver" in new and old["driver"] != new["driver"]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table. A line with another driver replaces the one below: no key is shared."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_driver(old, value):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


_ID = re.compile(r"[^:\[\]\s]+")


def _identity(table: Mapping[str, Any], path: Path, text: str, number: int) -> str:
    """The id of the [[unit]] table number `number`."""
    where = f"{path}{line_of(text, ('id',), number)}"
    identity = table.get("id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity) or identity == "all":
        given = "" if identity is None else f", not {identity!r}"
        raise ConfigError(
            f"{where}: unit number {number + 1}: every [[unit]] needs an id, a text without spaces, colons or"
            f" brackets, and not 'all'{given}"
        )
    if "board" in table:
        raise ConfigError(f"{where}: unit {identity}: a unit is of the file's board; another board needs another file")
    return identity


def load(path: Path) -> list[UnitConfig]:
    """The units that one file describes (at least one); ConfigError that names file, key and fix otherwise."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    data.setdefault("board", path.stem)
    if "unit" not in data:
        return [UnitConfig(None, _validate(data, path, text, None), path)]
    tables = data.pop("unit")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}{line_of(text, ('unit',))}: units are tables in double brackets: [[unit]]")
    units = []
    for number, table in enumerate(tables):
        identity = _identity(table, path, text, number)
        own = {key: value for key, value in table.items() if key != "id"}
        units.append(UnitConfig(identity, _validate(_merge(data, own), path, text, number), path))
    _refuse_twins(units)
    return units


def _validate(data: dict[str, Any], path: Path, text: str, unit: int | None) -> BoardConfig:
    try:
        config = BoardConfig.model_validate(_beside(path, data))
    except ValidationError as error:
        raise ConfigError(explain(error, path, text, unit, BoardConfig)) from None
    names = {("bootloader", "profile"): config.bootloader.profile}
    if config.sim is not None:
        names["sim", "bootloader"] = config.sim.bootloader
    for key, name in names.items():
        try:
            profile(name)
        except ConfigError as error:
            raise ConfigError(f"{path}{line_of(text, key, unit)}: {'.'.join(key)}: {error}") from None
    return config


def _beside(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """`data` with the files that a [sim] table names taken relative to the configuration that names them."""
    sim = data.get("sim")
    if not isinstance(sim, Mapping):
        return data
    files = {key: str(path.parent / sim[key]) for key in ("image", "public_key") if isinstance(sim.get(key), str)}
    return {**data, "sim": {**sim, **files}}


def _refuse_twins(units: list[UnitConfig]) -> None:
    seen: dict[str, UnitConfig] = {}
    for unit in units:
        other = seen.setdefault(unit.name, unit)
        if other is not unit:
            files = str(unit.file) if unit.file == other.file else f"{other.file} and {unit.file}"
            raise ConfigError(f"{files}: two units are called {unit.name}; give each [[unit]] an id of its own")


def shipped_configs() -> Path:
    """The folder of the configurations that ship with the package: inside it, or beside it in a source tree."""
    package = Path(__file__).parent
    inside = package / "hil_configs"
    return inside if inside.is_dir() else package.parent / "hil_configs"


class Catalogue:
    """All boards that can be asked for, by name."""

    def __init__(self, folders: list[Path]) -> None:
        """`folders`: TOML files, or folders of them; the first one that knows a name wins."""
        self._units: dict[str, list[UnitConfig]] = {}
        self._names: list[list[str]] = []
        self.sources = folders
        for folder in folders:
            found: dict[str, list[UnitConfig]] = {}
            for file in sorted(folder.glob("*.toml")) if folder.is_dir() else [folder]:
                for unit in load(file):
                    found.setdefault(unit.config.board, []).append(unit)
            self._names.append(sorted(found))
            for name, units in found.items():
                _refuse_twins(units)
                self._units.setdefault(name, units)

    @property
    def boards(self) -> list[str]:
        """Names of the boards known."""
        return sorted(self._units)

    def find(self, pattern: str) -> Iterator[tuple[str, list[UnitConfig]]]:
        """Board names that `pattern` (a name or a glob) selects, each with the units that exist.

        ConfigError, with the names known, if it selects none. A glob selects in the first folder where it matches
        anything, so that the configurations that ship as examples do not join a suite's own. A simulated board is only
        selected by its own name: a glob in a nightly run's command line must not let it stand in for real ones.
        """
        if pattern in self._units:
            yield pattern, self._units[pattern]
            return
        by_folder = ([name for name in names if fnmatchcase(name, pattern)] for names in self._names)
        matching = next(filter(None, by_folder), [])
        hits = [name for name in matching if not self._units[name][0].config.simulated]
        if matching and not hits:
            raise ConfigError(
                f"board {pattern!r} matches only simulated boards, which are selected by their own names alone:"
                f" {', '.join(matching)}"
            )
        if not hits:
            near = difflib.get_close_matches(pattern, self.boards, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            known = ", ".join(self.boards) or "none"
            where = ", ".join(str(folder) for folder in self.sources)
            raise ConfigError(f"board {pattern!r} is not known{hint} Known boards: {known} (from {where})")
        for name in hits:
            yield name, self._units[name]
