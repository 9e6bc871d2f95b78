"""What the plugin adds to the start of pytest: `pytest --collect-only` in an empty folder, with it and without it.

Every other plugin is blocked by name in both, so that only ours differs; finding the plugins costs both the same. Runs
are taken in pairs, in turns the one or the other first, and the difference is the median of the pairs' differences, so
that a machine that slows down or speeds up meanwhile moves both. Processor time is shown beside wall time, because
other work on the machine disturbs it less. Bytecode is written to a folder of the benchmark's own before anything is
measured, as an installer would have done.

    python benchmarks/startup.py [--pairs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

OURS = "nrfdfu"
TARGET = 0.025
"""Seconds that the plugin may add."""
_WARM_UP = 2
_NO_TESTS = 5
"""pytest's exit status when nothing was collected."""


def command(*, with_plugin: bool) -> list[str]:
    """A command line: pytest with no plugins but its own, and perhaps ours."""
    blocked = {point.name for point in entry_points(group="pytest11")} - ({OURS} if with_plugin else set())
    options = [part for name in sorted(blocked) for part in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]


def environment(bytecode: Path) -> dict[str, str]:
    """This process's, without what would change pytest or keep bytecode from being written."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("PYTEST_", "NRFDFU_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "PYTHONPYCACHEPREFIX": str(bytecode)}


class Took(NamedTuple):
    """What one run took, in seconds."""

    wall: float
    cpu: float


def _cpu_of_children() -> float:
    """Seconds of processor time that the children of this process took, those that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Runner:
    """Starts pytest in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self._empty = folder / "empty"
        self._empty.mkdir()
        self._environment = environment(folder / "bytecode")
        self._commands = {with_plugin: command(with_plugin=with_plugin) for with_plugin in (False, True)}

    def run(self, *, with_plugin: bool) -> Took:
        """One run."""
        spent = _cpu_of_children()
        began = time.perf_counter()
        done = subprocess.run(
            self._commands[with_plugin], cwd=self._empty, env=self._environment, capture_output=True, check=False
        )
        wall = time.perf_counter() - began
        if done.returncode != _NO_TESTS:
            raise SystemExit(
                f"pytest ended with status {done.returncode}: {done.stdout.decode()}{done.stderr.decode()}"
            )
        return Took(wall, _cpu_of_children() - spent)

    def pair(self, *, plugin_first: bool) -> tuple[Took, Took]:
        """One run without and one with the plugin."""
        took = {with_plugin: self.run(with_plugin=with_plugin) for with_plugin in (plugin_first, not plugin_first)}
        return took[False], took[True]


def measure(pairs: int) -> list[tuple[Took, Took]]:
    """So many pairs of runs."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for _ in range(_WARM_UP):
            runner.pair(plugin_first=False)
        return [runner.pair(plugin_first=bool(number % 2)) for number in range(pairs)]


def row(clock: str, pairs: list[tuple[float, float]]) -> dict[str, str | float | int]:
    """Medians in seconds of pairs (without, with the plugin); `added` is that of the differences.

    `noise` is half the spread of the middle half of the differences.
    """
    without = statistics.median(a for a, _ in pairs)
    lower, added, upper = statistics.quantiles((b - a for a, b in pairs), n=4)
    return {
        "clock": clock,
        "pairs": len(pairs),
        "without": without,
        "with": statistics.median(b for _, b in pairs),
        "added": added,
        "noise": (upper - lower) / 2,
        "ratio": (without + added) / without,
        "target": TARGET,
    }


def main() -> int:
    """Measure and print; status 1 if the target was missed, in wall time."""
    parser = argparse.ArgumentParser(description="What the plugin adds to the start of pytest.")
    parser.add_argument("--pairs", type=int, default=40, metavar="N", help="runs of each kind (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error("--pairs must be at least 2")
    times = measure(arguments.pairs)
    rows = [row("wall", [(a.wall, b.wall) for a, b in times]), row("cpu", [(a.cpu, b.cpu) for a, b in times])]
    met = float(rows[0]["added"]) < TARGET
    if arguments.json:
        print(json.dumps({"rows": rows}))
    else:
        print(f"pytest --collect-only in an empty folder, {len(times)} pairs of runs, medians in ms")
        print("clock  without plugin  with plugin    added      +/-   ratio")
        for one in rows:
            cells = (f"{float(one[key]) * 1000:.1f}" for key in ("without", "with", "added", "noise"))
            print("{:<5}  {:>14}  {:>11}  {:>7}  {:>7}".format(one["clock"], *cells), f"{one['ratio']:7.3f}")
        print(f"target: under {TARGET * 1000:.0f} ms of wall time added: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
