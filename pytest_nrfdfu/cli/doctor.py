"""``nrfdfu doctor --board NAME[:ID]``: tries each part of a bench in order, says what is wrong and what to do.

A part that fails does not stop those that do not need it. Nothing in flash is changed; the board is reset a few times.
Exit status 0 where all that was tried is fine, 1 where something is wrong, 2 for a wrong option or configuration.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import Any

from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import Step, finding_of
from pytest_nrfdfu.cli.doctor_steps import tried
from pytest_nrfdfu.cli.doctor_text import Writer, conclusion
from pytest_nrfdfu.cli.units_asked import add_options, find_unit
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.errors import ConfigError

__all__ = ["main"]

_WRONG, _CONFIG, _STOPPED = 1, 2, 130
"""Exit statuses; the last is a shell's for a program that Ctrl-C ended."""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu doctor",
        description="Try each part of a board's bench in order, and say what is wrong and what to do. Flash is not"
        " changed; the board is reset a few times.",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, and progress to standard error")
    given = parser.parse_args(arguments)
    writer = Writer(sys.stderr if given.json else sys.stdout)
    try:
        unit = find_unit(given.board, given.config)
    except ConfigError as error:
        step = Step("config", finding_of("config", error), 0.0)
        writer.ended(step)
        if given.json:
            _print_json(given.board, None, [step], None)
        return _CONFIG
    steps: list[Step] = []
    bench = Bench(unit, unit.config, ExitStack())
    writer.line(f"nrfdfu doctor: {unit.name}")
    try:
        with bench.closing:
            for step in tried(bench, writer.began):
                writer.ended(step)
                steps.append(step)
    except KeyboardInterrupt:
        writer.line("stopped; lines are released")
        return _STOPPED
    writer.line(conclusion(steps))
    if given.json:
        _print_json(unit.config.board, unit, steps, bench)
    return _exit_status(steps)


def _exit_status(steps: Sequence[Step]) -> int:
    return _WRONG if any(step.finding.status == "wrong" for step in steps) else 0


def _print_json(board: str, unit: UnitConfig | None, steps: Sequence[Step], bench: Bench | None) -> None:
    told = {
        "board": board,
        "unit": unit.name if unit is not None else None,
        "file": str(unit.file) if unit is not None else None,
        "ok": not _exit_status(steps),
        "steps": [{"name": step.name, **step.finding._asdict(), "seconds": round(step.seconds, 3)} for step in steps],
        "versions": _versions(bench),
    }
    print(json.dumps(told, indent=2), flush=True)  # noqa: T201 - a program's output


def _versions(bench: Bench | None) -> dict[str, Any]:
    """What a person who is asked for help wants to know first."""
    chip = bench.chip if bench is not None else None
    return {
        "pytest-nrfdfu": metadata.version("pytest-nrfdfu"),
        "python": platform.python_version(),
        "pyserial": metadata.version("pyserial"),
        "pyocd": chip.pyocd if chip is not None else metadata.version("pyocd"),
        "probe": chip.product if chip is not None else None,
        "probe_firmware": chip.firmware if chip is not None else None,
    }
