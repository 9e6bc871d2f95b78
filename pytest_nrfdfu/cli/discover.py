"""``nrfdfu discover``: lists debug probes and serial ports that belong together, and writes a configuration of them.

Nothing is opened: which chip is behind a probe is `nrfdfu doctor`'s to say. Exit status 0, 1 where nothing was found
that could be written, 2 for a wrong option or file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pytest_nrfdfu.board.ports import Group, describe
from pytest_nrfdfu.cli.bench_file import FoundUnit, render, unique_ids
from pytest_nrfdfu.cli.hardware_map import MapEntry, read_map
from pytest_nrfdfu.errors import ConfigError, NrfDfuError

__all__ = ["Host", "ProbeFound", "from_host", "from_map", "list_probes", "main"]

_LIST_TIMEOUT = 20.0
"""Seconds: pyOCD's import takes one, a USB driver that hangs takes for ever."""
_NOTHING_FOUND, _WRONG = 1, 2
_NO_JLINK_SOFTWARE = (
    "pyOCD cannot use J-Links here: install SEGGER's J-Link software. Until then no probe of a DK works, and only its"
    " serial ports are seen"
)


class ProbeFound(NamedTuple):
    """A debug probe, as pyOCD lists it."""

    unique_id: str
    product: str


@dataclass(frozen=True, slots=True)
class Host:
    """What is connected to this host."""

    probes: tuple[ProbeFound, ...]
    groups: tuple[Group, ...]
    """Serial ports, those of one probe together."""
    notes: tuple[str, ...] = ()

    @property
    def boards(self) -> list[tuple[str, ProbeFound | None, Group | None]]:
        """Probes and the ports that belong to them, by serial number; one of the two may be missing."""
        by_serial = {serial: group for group in self.groups if (serial := _serial_of(group))}
        probes = {_plain(probe.unique_id): probe for probe in self.probes}
        jlinks = {serial: group for serial, group in by_serial.items() if group.jlink}
        return [
            (serial, probes.get(serial), by_serial.get(serial)) for serial in dict.fromkeys([*probes, *sorted(jlinks)])
        ]

    @property
    def other_ports(self) -> list[Group]:
        """Ports that belong to no probe."""
        taken = {serial for serial, _, _ in self.boards}
        return [group for group in self.groups if _serial_of(group) not in taken]


def _plain(serial: str) -> str:
    """A serial number as pyOCD and the label on the board have it: without the zeros that USB pads it with."""
    return str(int(serial)) if serial.isascii() and serial.isdigit() else serial


def _serial_of(group: Group) -> str:
    return group.jlink or _plain(group.ports[0].serial or "")


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu discover",
        description="List debug probes and serial ports that belong together, and write a configuration of them.",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a configuration (hil_configs/bench.toml)")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument("--from-map", type=Path, metavar="MAP", help="take the boards of a Zephyr hardware map instead")
    parser.add_argument("--platform", metavar="NAME", help="of the map, only boards of that name: nrf5340dk")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        return _discover(given)
    except NrfDfuError as error:
        print(f"nrfdfu discover: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return _WRONG


def _discover(given: argparse.Namespace) -> int:
    if given.write is not None and given.write.exists() and not given.force:
        raise ConfigError(f"{given.write} is there already; --force writes over it")
    compatible = ["nrf5340dk"]
    if given.from_map is not None:
        units, compatible, notes = from_map(read_map(given.from_map), given.platform)
        told: dict[str, Any] = {"probes": [], "ports": []}
        text = [f"{given.from_map}: {len(units)} boards"]
        text += [f"  {unit.probe:<14} {unit.port}  {unit.remark}".rstrip() for unit in units]
    else:
        host = here()
        units, notes = from_host(host)
        told = _as_json(host)
        text = _as_text(host)
    if given.write is not None and units:
        board = given.write.stem
        source = "nrfdfu discover" + (f" --from-map {given.from_map.name}" if given.from_map is not None else "")
        _write(given.write, render(units, board=board, compatible=compatible, source=source), force=given.force)
        ids = unique_ids(units)
        text += ["", f"wrote {given.write}: board {board} with {len(ids)} units ({', '.join(ids)})"]
        text += [f"next: nrfdfu doctor --board {board}:{ids[0]} --config {given.write}"]
    elif given.write is not None:
        notes = (*notes, "nothing was written: no probe and port that belong together were found")
    if given.json:
        written = str(given.write) if given.write is not None and units else None
        told |= {"units": [_unit_json(*pair) for pair in zip(unique_ids(units), units, strict=True)]}
        print(json.dumps({**told, "notes": list(notes), "written": written}, indent=2))  # noqa: T201
    else:
        print("\n".join([*text, *(f"note: {note}" for note in notes)]))  # noqa: T201 - a program's output
    return 0 if units or given.write is None else _NOTHING_FOUND


def _unit_json(identity: str, unit: FoundUnit) -> dict[str, str]:
    return {"id": identity, **unit._asdict()}


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


# --- what is here ---------------------------------------------------------------------------------------------------


def here() -> Host:
    """This host's probes and ports."""
    probes, notes = list_probes()
    return Host(tuple(probes), describe(), tuple(notes))


def list_probes(command: Sequence[str] | None = None) -> tuple[list[ProbeFound], list[str]]:
    """The debug probes that pyOCD lists in a process of its own, and what it says. `command`: another one, for tests.

    A list that cannot be had is a note, not an error: the ports are still worth seeing.
    """
    program = command or [sys.executable, "-P", "-m", "pytest_nrfdfu.board.probe_list"]
    try:
        done = subprocess.run(
            program, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIST_TIMEOUT, check=False
        )
        found = json.loads(done.stdout)
        probes = [ProbeFound(probe["unique_id"], _product(probe)) for probe in found["probes"]]
    except subprocess.TimeoutExpired:
        return [], [f"pyOCD did not list the probes within {_LIST_TIMEOUT:g} s: a USB driver hangs; plug them in anew"]
    except OSError as error:
        return [], [f"pyOCD cannot be asked for the probes: {error.strerror or error}"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [], [f"pyOCD cannot list the probes: {last}"]
    notes = [] if found.get("jlink") else [_NO_JLINK_SOFTWARE]
    return probes, notes + [line for line in done.stderr.splitlines() if line.strip()]


def _product(probe: dict[str, Any]) -> str:
    """Vendor and product, where the product does not name the vendor."""
    vendor, product = str(probe.get("vendor") or ""), str(probe.get("product") or "")
    return product if not vendor or vendor.lower() in product.lower() else f"{vendor} {product}"


def from_host(host: Host) -> tuple[list[FoundUnit], tuple[str, ...]]:
    """The units of a host, and what is to be said of it."""
    units, notes = [], list(host.notes)
    for serial, probe, group in host.boards:
        if group is None:
            notes.append(f"probe {serial} has no serial port here: is its virtual COM port switched off?")
        else:
            remark = "" if probe is not None else "pyOCD does not list this probe; its port was found"
            units.append(FoundUnit(serial, group.spec, remark))
    if not host.boards:
        notes.append("no debug probe and no J-Link's serial port was found: is the board plugged in, and switched on?")
    return units, tuple(notes)


def from_map(entries: Iterable[MapEntry], platform: str | None) -> tuple[list[FoundUnit], list[str], tuple[str, ...]]:
    """The units of a hardware map, the boards that they are, and what was left out.

    ConfigError where they are of several boards and `platform` does not choose: a file describes one board.
    """
    usable, left_out = [], []
    for number, entry in enumerate(entries, 1):
        if why := _unusable(entry, platform):
            left_out.append(f"entry {number} ({entry.platform or 'no platform'}) was left out: {why}")
        else:
            usable.append(entry)
    boards = sorted({entry.board for entry in usable})
    if len(boards) > 1:
        raise ConfigError(f"the map has several boards, and a file describes one: add --platform {' or '.join(boards)}")
    units = [
        FoundUnit(
            _plain(entry.serial),
            f"jlink:{_plain(entry.serial)}:vcom-last" if entry.is_jlink else entry.port,
            f"{entry.platform}, {entry.product or 'unknown probe'}" + (f", map's port {entry.port}" * bool(entry.port)),
        )
        for entry in usable
    ]
    return units, boards, tuple(left_out)


def _unusable(entry: MapEntry, platform: str | None) -> str:
    """Why an entry of a map is no unit, in words."""
    if platform is not None and platform not in {entry.board, entry.platform}:
        return f"not {platform}"
    if "nrf5340" not in entry.platform and "nrf7002dk" not in entry.platform:
        return "no nRF5340"
    if not entry.serial:
        return "no id: the probe's serial number is not told"
    if not entry.is_jlink and not entry.port:
        return "no serial port is told"
    return "" if entry.connected else "not connected"


# --- telling --------------------------------------------------------------------------------------------------------


def _as_json(host: Host) -> dict[str, Any]:
    return {
        "probes": [
            {
                "serial": serial,
                "unique_id": probe.unique_id if probe else None,
                "product": probe.product if probe else None,
                "port": group.spec if group else None,
                "ports": _ports_json(group),
            }
            for serial, probe, group in host.boards
        ],
        "ports": [{"port": group.spec, **_ports_json(group)[0]} for group in host.other_ports],
    }


def _ports_json(group: Group | None) -> list[dict[str, Any]]:
    return [
        {
            "device": port.device,
            "vid": port.vid,
            "pid": port.pid,
            "serial": port.serial,
            "location": port.location,
            "product": port.product,
        }
        for port in (group.ports if group else ())
    ]


def _as_text(host: Host) -> list[str]:
    lines = []
    for serial, probe, group in host.boards:
        lines.append(f"probe {serial}  {probe.product if probe else '(not listed by pyOCD)'}")
        ports = group.ports if group else ()
        for number, port in enumerate(ports):
            chosen = f"  application core: port = {group.spec!r}" if group and number == len(ports) - 1 else ""
            lines.append(f"  vcom{number}  {port.device}{chosen}")
        if not ports:
            lines.append("  no serial port")
    if others := host.other_ports:
        lines.append("other serial ports")
        lines += [f"  {group.ports[0]}  port = {group.spec!r}" for group in others]
    return lines or ["no debug probe and no serial port"]
