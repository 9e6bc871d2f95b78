"""``nrfdfu provision --board NAME:ID``: runs the user's own command that puts a bootloader on a board.

Nothing here knows how a chip is programmed: the command stands in the configuration's [provision] table, as a list of
arguments, and is run as it is, without a shell, while the unit is leased. Exit status 0, 1 where the command failed, 2
where it was not run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from pytest_nrfdfu.bench.lease import held_back
from pytest_nrfdfu.board.ports import resolve
from pytest_nrfdfu.cli.unit_keeper import keeper_of
from pytest_nrfdfu.cli.units_asked import add_options, find_unit
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.config_types import ProvisionConfig
from pytest_nrfdfu.errors import ConfigError, NrfDfuError

__all__ = ["command_for", "main"]

_FAILED, _NOT_RUN = 1, 2
_PATIENCE = 5.0
"""Seconds that the command gets to end when it is told to."""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu provision",
        description="Run the [provision] command of a unit's configuration, after printing it. In its arguments"
        " {probe} is the probe's serial number and {port} the name of the unit's serial port.",
    )
    add_options(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.parse_args(arguments)
    with ExitStack() as leased:
        try:
            unit = find_unit(given.board, given.config)
            _provision_of(unit)
            reason = held_back(unit)
            lease = keeper_of(unit.config).acquire([unit], deadline=time.monotonic(), say=lambda _: None)
            leased.callback(lease.release)
            unit = lease.unit
            provision, command = command_for(unit)
        except NrfDfuError as error:
            print(f"nrfdfu provision: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
            return _NOT_RUN
        print(  # noqa: T201 - a program's output
            f"{unit.name}, as {unit.file} says, within {provision.timeout:g} s:\n\n    {shlex.join(command)}\n\n"
            "It may erase the chip and all that is on it." + (f" The unit is {reason}." if reason else ""),
            flush=True,
        )
        if not given.yes and not _agreed():
            print("nrfdfu provision: nothing was run", file=sys.stderr)  # noqa: T201 - a program's message
            return _NOT_RUN
        return _run(command, provision.timeout)


def _provision_of(unit: UnitConfig) -> ProvisionConfig:
    """The unit's [provision] table; ConfigError if there is none."""
    if unit.config.simulated:
        raise ConfigError(f"{unit.name} is simulated: its bootloader is part of it, and there is nothing to provision")
    if unit.config.provision is None:
        raise ConfigError(
            f"{unit.file} has no command for {unit.name}: add a [provision] table with your own nrfutil or west line,"
            ' such as command = ["west", "flash", "--dev-id", "{probe}"]'
        )
    return unit.config.provision


def command_for(unit: UnitConfig) -> tuple[ProvisionConfig, list[str]]:
    """A unit's command with its placeholders filled in; ConfigError, or UartError, if there is none to run."""
    provision = _provision_of(unit)
    command = list(provision.command)
    told = "\0".join(command)
    values = {}
    if "{probe}" in told:
        values["{probe}"] = _probe(unit)
    if "{port}" in told:
        values["{port}"] = resolve(unit.config.uart.port)
    for placeholder, value in values.items():
        command = [part.replace(placeholder, value) for part in command]
    return provision, command


def _probe(unit: UnitConfig) -> str:
    """The probe's serial number, without the kind that pyOCD has in front of it."""
    identity = unit.config.probe.unique_id if unit.config.probe is not None else None
    if identity is None or identity.startswith("remote:"):
        raise ConfigError(
            f"the command of {unit.name} holds {{probe}}, and its [probe] unique_id is"
            f" {'not told' if identity is None else f'{identity!r}, which is no serial number'}: give the serial number"
            " of the probe at this host, so that no other board is programmed"
        )
    return identity.rpartition(":")[2]


def _agreed() -> bool:
    if not sys.stdin.isatty():
        print("nrfdfu provision: nobody is there to ask; --yes runs it", file=sys.stderr)  # noqa: T201
        return False
    try:
        return input("Run it? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _run(command: list[str], timeout: float) -> int:
    """Run a command in a process group of its own, with nothing to read; it ends with its children at the deadline."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"nrfdfu provision: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201
        return _FAILED
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        said = f"did not end within {timeout:g} s and was stopped: look at the board before you use it"
    except KeyboardInterrupt:
        said = "was stopped: look at the board before you use it"
    else:
        said = f"failed with exit status {status}" if status else ""
    finally:
        _end(child)
    if not said:
        print("nrfdfu provision: done")  # noqa: T201 - a program's output
        return 0
    print(f"nrfdfu provision: {command[0]} {said}", file=sys.stderr)  # noqa: T201 - a program's message
    return _FAILED


def _end(child: subprocess.Popen[bytes]) -> None:
    """End what is left of a command's process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)
            return
