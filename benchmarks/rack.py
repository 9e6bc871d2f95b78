"""Updates an hour on a rack of simulated boards, beside those on one board, by pytest and pytest-xdist.

    python benchmarks/rack.py [--json] [--units 16] [--updates 64] [--size 49152] [--baudrate 115200]

Every unit is a simulated nRF5340 DK in a process of its own, started once and named by [[unit]] tables, so all runs
lease their boards as they would on a bench. The wire is paced to the baud rate and flash is as slow as the nRF5340's
data sheet says. An update is recovery, upload, verify by the image list, and boot. The clock runs from the begin of
the first test to the end of the last, so the start of pytest and its workers does not count, but waiting for a slow
one does. Each simulated board counts how many had its probe at once, and whom it turned away. All is simulated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from printing import add_json_option, print_rows
from upload import make_image

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.sim_admin import SimAdmin

UPDATES_OF_ONE = 4
"""Enough for its rate: an update of it takes the same time as the next."""
TARGET = 0.75
"""Of the throughput of as many boards as there are: 12 times that of one with 16."""

BOARD = """
[uart]
baudrate = {baudrate}

[recovery]
entry = ["gpio"]
reset = "pin"

[boot]
smp = false

[images.app]
slot_size = 0x70000
"""
UNIT = """
[[unit]]
id = "{n}"
uart.port = "{uart}"
probe.unique_id = "{probe}"
recovery.line = {{ driver = "serial", port = "{control}", line = "rts" }}
"""
TESTS = """
import time
from pathlib import Path

import pytest

@pytest.mark.parametrize("n", range({updates}))
def test_update(dfu, build, n):
    began = time.monotonic()
    assert dfu.update(build).verified
    with Path("times.txt").open("a") as file:
        file.write(f"{{began}} {{time.monotonic()}}\\n")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run."""

    units: int
    updates: int
    """All verified."""
    baudrate: int
    bytes: int
    seconds: float
    updates_per_hour: float
    ratio: float | None
    """Updates an hour over those of one unit."""
    owners: int
    """The most that had one board's probe at once."""
    turned_away: int
    """Attempts to use a probe or line that somebody else had."""
    cores: int
    simulated: bool = True


@contextmanager
def rack(units: int, baudrate: int) -> Iterator[list[Simulator]]:
    """Simulated boards."""
    config = BoardConfig(board="rack", sim=SimConfig(baudrate=baudrate))
    with ExitStack() as stack:
        boards = []
        for _ in range(units):
            boards.append(Simulator(config))
            stack.callback(boards[-1].stop)
        yield boards


def measure(boards: Sequence[Simulator], updates: int, baudrate: int, size: int, one: Row | None) -> Row:
    """Run pytest on the boards; RuntimeError if it fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hil_configs").mkdir()
        units = "".join(UNIT.format(n=n, **board.endpoints) for n, board in enumerate(boards))
        (folder / "hil_configs" / "rack.toml").write_text(BOARD.format(baudrate=baudrate) + units)
        (folder / "test_rack.py").write_text(TESTS.format(updates=updates))
        (folder / "app.bin").write_bytes(make_image(size))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--board",
            "rack",
            "--build",
            "app.bin",
            "-n",
            str(len(boards)),
        ]
        environment = {**os.environ, "NRFDFU_LEASE_DIR": str(folder / "leases")}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pytest ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        times = [[float(word) for word in line.split()] for line in (folder / "times.txt").read_text().splitlines()]
    if len(times) != updates:
        raise RuntimeError(f"{len(times)} of {updates} updates were made")
    seconds = max(end for _, end in times) - min(begin for begin, _ in times)
    owners, turned_away = _shared(boards)
    rate = updates / seconds * 3600
    return Row(
        units=len(boards),
        updates=updates,
        baudrate=baudrate,
        bytes=size,
        seconds=round(seconds, 2),
        updates_per_hour=round(rate),
        ratio=round(rate / one.updates_per_hour, 2) if one is not None else None,
        owners=owners,
        turned_away=turned_away,
        cores=os.cpu_count() or 1,
    )


def _shared(boards: Sequence[Simulator]) -> tuple[int, int]:
    owners = turned_away = 0
    for board in boards:
        with SimAdmin(board.admin) as admin:
            seen = admin.counters()
        owners = max(owners, seen["probe"]["max_owners"])
        turned_away += seen["probe"]["refused"] + seen["control"]["refused"]
    return owners, turned_away


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = []
    for row in rows:
        ratio = f", {row.ratio:.2f} times one" if row.ratio is not None else ""
        lines.append(
            f"{row.units:3} units  {row.updates:4} updates of {row.bytes} bytes at {row.baudrate} baud in"
            f" {row.seconds:7.2f} s: {row.updates_per_hour:6.0f} an hour{ratio}; at most {row.owners} on a probe,"
            f" {row.turned_away} turned away"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure one unit and then all, and print what came of it. Status 1 if a board was shared or it was too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_json_option(parser)
    parser.add_argument("--units", type=int, default=16, metavar="N", help="(%(default)s)")
    parser.add_argument("--updates", type=int, default=64, metavar="N", help="on all units together (%(default)s)")
    parser.add_argument("--size", type=int, default=48 << 10, metavar="BYTES", help="of the image (%(default)s)")
    parser.add_argument("--baudrate", type=int, default=115_200, metavar="N", help="(%(default)s)")
    given = parser.parse_args()
    with rack(given.units, given.baudrate) as boards:
        one = measure(boards[:1], UPDATES_OF_ONE, given.baudrate, given.size, None)
        every = measure(boards, given.updates, given.baudrate, given.size, one)
    rows = [one, every]
    print_rows(rows, table, f"All boards are simulated, by {one.cores} cores.", as_json=given.json)
    alone = all(row.owners <= 1 and not row.turned_away for row in rows)
    return 0 if alone and (every.ratio or 0) >= TARGET * given.units else 1


if __name__ == "__main__":
    sys.exit(main())
