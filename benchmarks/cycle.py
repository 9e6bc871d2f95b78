"""Where the time of a whole update goes, on a simulated board: recovery entry, upload, verification, boot.

    python benchmarks/cycle.py [--json] [--size 262144] [--baudrate 115200] [--rounds 2]

Each round is a `Dfu.update` by probe and recovery line, in real time, with another image than the board holds. The
first one tries the window of the upload, as on a unit that is seen for the first time. Phases are those of the report's
timeline; "other" is what lies between them. All figures are simulated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from printing import add_json_option, print_rows
from upload import FULL_SIZE, LATENCY, limit, make_image

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.report import DfuReport
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.image.build import load

PHASES = ("recovery", "upload", "verify", "boot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One update; times in seconds."""

    round: int
    baudrate: int
    bytes: int
    window: int
    phases: dict[str, float]
    total: float
    upload_limit: float
    """What no host's upload can go below."""
    window_outcome: str
    notes: tuple[str, ...]
    verified: bool
    simulated: bool = True


def row_of(number: int, baudrate: int, report: DfuReport) -> Row:
    """A report's row."""
    total = max(phase.end for phase in report.timeline)
    phases = {name: sum(p.end - p.start for p in report.timeline if p.name == name) for name in PHASES}
    return Row(
        round=number,
        baudrate=baudrate,
        bytes=report.bytes,
        window=report.window,
        phases=phases | {"other": total - sum(phases.values())},
        total=total,
        upload_limit=limit(report.bytes, baudrate).seconds,
        window_outcome=report.window_outcome,
        notes=report.notes,
        verified=report.verified,
    )


def measure(size: int, baudrate: int, rounds: int) -> list[Row]:
    """Updates of one board, one after the other."""
    config = BoardConfig.model_validate(
        {
            "board": "cycle-simulated",
            "images": {"app": {"upload": 0, "slot_address": 0x10000, "slot_size": 0x70000}},
            "sim": {"baudrate": baudrate, "stall": "erase+write", "host_latency": LATENCY},
        }
    )
    rows = []
    simulator = Simulator(config)
    unit = Unit(config.board, simulator.wired())
    try:
        unit.open()
        with tempfile.TemporaryDirectory() as folder:
            for number in range(1, rounds + 1):
                file = Path(folder) / f"image-{number}.signed.bin"
                file.write_bytes(make_image(size - number % 2 * 4))  # another length is another hash
                rows.append(row_of(number, baudrate, Dfu(unit).update(load(file))))
    finally:
        unit.close()
        simulator.stop()
    return rows


def table(rows: list[Row]) -> str:
    """The rows for people."""
    names = (*PHASES, "other")
    lines = [
        f"{'round':>5}  {'baud':>8}  {'bytes':>7}  {'window':>6}  " + "  ".join(f"{n:>8}" for n in (*names, "total"))
    ]
    for row in rows:
        times = "  ".join(f"{value:8.2f}" for value in (*(row.phases[name] for name in names), row.total))
        lines.append(f"{row.round:>5}  {row.baudrate:>8}  {row.bytes:>7}  {row.window:>6}  {times}")
        lines += [f"       {note}" for note in (row.window_outcome, *row.notes)]
    lines.append(f"No upload of {rows[0].bytes} bytes can take less than {rows[0].upload_limit:.2f} s at this rate.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Where the time of an update goes, on a simulated board.")
    add_json_option(parser)
    parser.add_argument("--size", type=int, default=FULL_SIZE, metavar="BYTES", help="of the image (%(default)s)")
    parser.add_argument("--baudrate", type=int, default=115_200, metavar="N", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="updates of the same board (%(default)s)")
    options = parser.parse_args(arguments)
    rows = measure(options.size, options.baudrate, options.rounds)
    remark = "All times are simulated: nRF5340 flash timing, paced wire; nothing executes an image."
    print_rows(rows, table, remark, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
