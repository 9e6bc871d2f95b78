"""``nrfdfu report DIR``: turns the records of many runs into one HTML page.

Exit status 0, or 1 where the folder holds no record that can be read. Records that can be read in part, or not at all,
are named on the page and on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_nrfdfu.report.nights import Nights

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu report",
        description="Turn the records of many runs (pytest --nrfdfu-record DIR) into one self-contained HTML page.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the records are, also in folders below it")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="default: DIR/report.html")
    parser.add_argument("--title", default="Firmware tests by night", help="of the page")
    parser.add_argument("--json", action="store_true", help="print one JSON object with what was found")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        print(f"nrfdfu report: error: {given.folder}: no such folder", file=sys.stderr)  # noqa: T201 - its message
        return 1
    from pytest_nrfdfu.report.nights import collect
    from pytest_nrfdfu.report.page import render

    nights = collect(given.folder)
    output = given.output or given.folder / "report.html"
    try:
        output.write_text(render(nights, given.title), encoding="utf-8")
    except OSError as error:
        print(f"nrfdfu report: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    for path, why in nights.broken.items():
        print(f"nrfdfu report: {path}: {why}", file=sys.stderr)  # noqa: T201 - a program's message
    _say(nights, output, as_json=given.json)
    return 0 if nights.nights else 1


def _say(nights: Nights, output: Path, *, as_json: bool) -> None:
    from pytest_nrfdfu.report.night_words import as_text, counted

    runs = sum(len(night.runs) for night in nights.nights)
    if not as_json:
        count = f"{counted(runs, 'run')} in {counted(len(nights.nights), 'night')}"
        print(f"{output}: {count}")  # noqa: T201 - a program's output
        for line in as_text(nights.nights[-1]) if nights.nights else ():
            print(line)  # noqa: T201 - a program's output
        return
    seen: dict[str, Any] = {
        "output": str(output),
        "runs": runs,
        "nights": [str(night.day) for night in nights.nights],
        "units": [unit for unit in nights.units if unit],
        "warnings": [warning._asdict() for warning in nights.warnings()],
        "last_night": _last_night(nights),
        "not_read_whole": {str(path): why for path, why in nights.broken.items()},
    }
    print(json.dumps(seen, indent=2))  # noqa: T201 - a program's output


def _last_night(nights: Nights) -> list[dict[str, str]]:
    """The tests that broke in the last night, what matters most first."""
    names = ("nodeid", "outcome", "category", "unit", "build", "error")
    broken = nights.nights[-1].broken if nights.nights else []
    return [{name: str(getattr(test, name)) for name in names} for test in broken]
