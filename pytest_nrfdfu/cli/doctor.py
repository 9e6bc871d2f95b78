"""``nrfdfu doctor --board NAME[:ID]``: tries each part of a bench in order, says what is wrong and what to do.

A part that fails does not stop those that do not need it. The board is reset a few times. Nothing in flash is changed,
unless ``--measure-window`` asks for an upload of a build.
Exit status 0 where all that was tried is fine; 1 where something is wrong, or works and not as it should (a link that
loses bytes, an entry that does not work although another does); 2 for a wrong option or configuration.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import Step, finding_of
from pytest_nrfdfu.cli.doctor_steps import tried
from pytest_nrfdfu.cli.doctor_text import Writer, conclusion
from pytest_nrfdfu.cli.doctor_window import Windows, app_step
from pytest_nrfdfu.cli.pytest_cache import memory_file
from pytest_nrfdfu.cli.units_asked import add_options, find_unit
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.build import load

__all__ = ["main"]

_WRONG, _CONFIG, _STOPPED = 1, 2, 130
"""Exit statuses; the last is a shell's for a program that Ctrl-C ended."""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    given = _parsed(arguments)
    writer = Writer(sys.stderr if given.json else sys.stdout)
    try:
        unit = find_unit(given.board, given.config)
        windows = _windows(given, unit)
    except (ConfigError, ImageError) as error:
        name = "config" if isinstance(error, ConfigError) else "build"
        step = Step(name, finding_of(name, error), 0.0)
        writer.ended(step)
        if given.json:
            _print_json(given.board, None, [step], None)
        return _CONFIG
    steps: list[Step] = []
    bench = Bench(unit, unit.config, ExitStack(), windows, writer.progress)
    writer.line(f"nrfdfu doctor: {unit.name}")
    try:
        with bench.closing:
            for step in tried(bench, writer.began):
                writer.ended(step)
                steps.append(step)
    except KeyboardInterrupt:
        writer.line("stopped; lines are released")
        return _STOPPED
    writer.paragraph(conclusion(steps))
    if given.json:
        _print_json(unit.config.board, unit, steps, bench)
    return _exit_status(steps)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu doctor",
        description="Try each part of a board's bench in order, and say what is wrong and what to do. The board is"
        " reset a few times. Flash is not changed, unless a window is measured.",
    )
    add_options(parser)
    parser.add_argument(
        "--measure-window",
        action="store_true",
        help="upload --build to the board, see whether a window of chunks loses anything, and remember that for pytest",
    )
    parser.add_argument(
        "--build", type=Path, metavar="PATH", help="what --measure-window uploads: a build as of pytest"
    )
    parser.add_argument(
        "--rootdir", type=Path, metavar="DIR", help="the rootdir of the pytest runs that remember (as pytest finds it)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and progress to standard error")
    given = parser.parse_args(arguments)
    if given.measure_window and given.build is None:
        parser.error(
            "--measure-window uploads an image, and needs to know which: add --build PATH (a signed .bin or .hex,"
            " dfu_application.zip, or build directory) of what the board is to hold afterwards"
        )
    if given.build is not None and not given.measure_window:
        parser.error("--build is what --measure-window uploads; without it nothing is uploaded")
    return given


def _windows(given: argparse.Namespace, unit: UnitConfig) -> Windows:
    """What to do about windows; ImageError or ConfigError where the build does not do for the unit."""
    build = load(given.build) if given.measure_window else None
    if build is not None:
        app_step(build, unit.config)
    return Windows(memory_file(Path.cwd(), given.rootdir), build)


def _exit_status(steps: Sequence[Step]) -> int:
    return _WRONG if any(step.finding.status in {"wrong", "warning"} for step in steps) else 0


def _print_json(board: str, unit: UnitConfig | None, steps: Sequence[Step], bench: Bench | None) -> None:
    told = {
        "board": board,
        "unit": unit.name if unit is not None else None,
        "file": str(unit.file) if unit is not None else None,
        "ok": not _exit_status(steps),
        "conclusion": conclusion(steps),
        "steps": [{"name": step.name, **step.finding._asdict(), "seconds": round(step.seconds, 3)} for step in steps],
        "window": bench.windows.outcome if bench is not None else None,
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
