"""A place of labgrid as a unit of a board: what its resources fill in of the unit's configuration.

What the file says goes over what labgrid says; labgrid fills in what the file leaves open.

============================================  ==================================================================
resource                                      fills in
============================================  ==================================================================
NetworkSerialPort (also of a USBSerialPort)   `uart.port`: rfc2217:// or, for protocol "raw", socket://; the rate
PyOCDProbe: `url` = "remote:..." or `uid`     `probe.unique_id`; labgrid needs no such class to export one
a power port                                  `power`: labgrid-client power on, off
a digital output named recovery or reset      `recovery.line`, `reset.line`: labgrid-client io high (asserted), low
============================================  ==================================================================

A name is given to a resource by the match of the place (``add-named-match``). That high means asserted is labgrid's
own reading of an output (labgrid/driver/resetdriver.py); a pin that is active low is inverted at its exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.config_lines import CommandLine
from pytest_nrfdfu.config_types import PowerConfig, ProbeConfig
from pytest_nrfdfu.errors import ConfigError

__all__ = ["Place", "Resource", "fill_in", "problem"]

_SERIAL = "NetworkSerialPort"
_PROBE = "PyOCDProbe"
_POWER = frozenset(
    {
        "NetworkPowerPort",
        "NetworkSiSPMPowerPort",
        "NetworkUSBPowerPort",
        "NetworkYKUSHPowerPort",
        "PDUDaemonPort",
        "TasmotaPowerPort",
    }
)
_OUTPUTS = frozenset(
    {
        "Eth008DigitalOutput",
        "HttpDigitalOutput",
        "ModbusTCPCoil",
        "NetworkDeditecRelais8",
        "NetworkHIDRelay",
        "NetworkLXAIOBusPIO",
        "NetworkSysfsGPIO",
        "OneWirePIO",
        "WaveshareModbusTCPCoil",
    }
)
"""What labgrid-client's commands power and io can drive without a configuration (labgrid/remote/client.py)."""

Command = Callable[..., tuple[str, ...]]
"""Makes the command line that runs labgrid-client with the arguments given."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a place, under the name that the place gives it."""

    name: str
    cls: str
    exporter: str
    args: Mapping[str, Any]
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A place, as the coordinator knows it."""

    name: str
    tags: Mapping[str, str]
    acquired: str | None
    """``host/user`` of who has it."""
    changed: float
    """When it was last acquired, released or changed: seconds since 1970."""
    reservation: str | None
    """Token of the reservation that it is kept for."""
    resources: tuple[Resource, ...]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Place:
        """From what the child says."""
        resources = tuple(Resource(**resource) for resource in data["resources"])
        return cls(**{**data, "resources": resources})

    def has(self, tags: Mapping[str, str]) -> bool:
        """Whether it has all these tags; its name counts as one, as in labgrid's scheduler."""
        return tags.items() <= {**self.tags, "name": self.name}.items()

    def of(self, kinds: str | frozenset[str]) -> list[Resource]:
        """Its resources of some classes."""
        return [item for item in self.resources if item.cls in ({kinds} if isinstance(kinds, str) else kinds)]


def problem(place: Place, config: BoardConfig) -> str | None:
    """Why a place cannot be a unit of this board, as far as its resources show it; None if it can."""
    if config.uart.port != "auto":
        return None
    ports = place.of(_SERIAL)
    if not ports:
        return f"{place.name} offers no {_SERIAL}: its exporter is not connected, or no match of the place names it"
    if len(ports) > 1 and _uart(place) is None:
        return f"{place.name} offers {len(ports)} {_SERIAL}s, and none is called uart (labgrid-client add-named-match)"
    if any(port.extra.get("proxy_required") for port in ports):
        return (
            f"{place.name} is exported with --isolated, so its ports are reached by ssh alone, which is not supported"
        )
    return None


def fill_in(unit: UnitConfig, place: Place, command: Command) -> UnitConfig:
    """The unit that a place is: its id is the place's name; ConfigError if what it needs is not there.

    `command` makes command lines of labgrid-client.
    """
    config = unit.config
    client = _on_place(command, place.name)
    tables: dict[str, Any] = {"uart": _uart_table(place, config), "probe": _probe_table(place, config)}
    if config.power is None and place.of(_POWER):
        tables["power"] = PowerConfig(on=client("power", "on"), off=client("power", "off"))
    for table in ("recovery", "reset"):
        line = _line(place, table, client)
        if line is not None and getattr(config, table).line is None:
            tables[table] = getattr(config, table).model_copy(update={"line": line})
    filled = config.model_copy(update=tables)
    _check(filled, unit, place)
    return replace(unit, id=place.name, config=filled)


def _on_place(command: Command, name: str) -> Command:
    return lambda *arguments: command("-p", name, *arguments)


def _uart(place: Place) -> Resource | None:
    """The serial port that carries SMP: the only one, or the one named so."""
    ports = place.of(_SERIAL)
    named = [port for port in ports if port.name == "uart"]
    return next(iter(named or ports), None) if len(ports) == 1 or len(named) == 1 else None


def _uart_table(place: Place, config: BoardConfig) -> Any:
    port = _uart(place)
    if config.uart.port != "auto" or port is None:
        return config.uart
    scheme = "socket" if port.args.get("protocol") == "raw" else "rfc2217"
    host = str(port.args["host"])
    shown = f"[{host}]" if ":" in host else host
    told: dict[str, Any] = {"port": f"{scheme}://{shown}:{port.args['port']}"}
    if "baudrate" not in config.uart.model_fields_set and port.args.get("speed"):
        told["baudrate"] = int(port.args["speed"])
    return config.uart.model_copy(update=told)


def _probe_table(place: Place, config: BoardConfig) -> ProbeConfig | None:
    probes: Sequence[Resource] = place.of(_PROBE)
    if not probes or (config.probe is not None and config.probe.unique_id is not None):
        return config.probe
    args = probes[0].args
    unique_id = args.get("url") or args.get("uid")
    return (config.probe or ProbeConfig()).model_copy(update={"unique_id": str(unique_id) if unique_id else None})


def _line(place: Place, name: str, client: Command) -> CommandLine | None:
    outputs = [output for output in place.of(_OUTPUTS) if output.name == name]
    if not outputs:
        return None
    return CommandLine(driver="command", assert_=client("io", "high", name), release=client("io", "low", name))


def _check(filled: BoardConfig, unit: UnitConfig, place: Place) -> None:
    """A board that labgrid completes was not checked for completeness when it was loaded."""
    told = filled.model_dump(by_alias=True, exclude_unset=True)
    # `model_copy` marks what it changes as set; the table that says "labgrid" is what put the check off.
    told["labgrid"] = None
    try:
        BoardConfig.model_validate(told)
    except ValidationError as error:
        said = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        offers = ", ".join(sorted({item.cls for item in place.resources})) or "nothing"
        raise ConfigError(
            f"{unit.file}: with what labgrid's place {place.name} offers ({offers}), {filled.board} is not complete:"
            f" {said}"
        ) from None
