"""Uploads over a bad wire: this project's client beside other SMP hosts, on simulated boards that lose lines.

    python benchmarks/loss.py [--json] [--size 65536] [--baudrate 115200] [--loss 0.01] [--runs 3] [--host NAME]

Each host uploads once over a wire that loses nothing, and then `--runs` times over one that loses every hundredth line,
both ways; every run has its own seed, which is the same for all hosts. As in `upload.py` an upload counts only if the
hash that is read back and flash are right. A host that gives up, or is stuck, is told so and does not end the
benchmark; but this project's client has to come through, in at most 1.35 times the time without losses (median). All
figures are simulated.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass

import hosts
from printing import add_json_option, print_rows
from upload import BOOTLOADERS, LATENCY, OWN, SLOT_SIZE, SMALLEST, Case, make_image, measure

SIZE = 64 << 10
"""Bytes; small enough for hosts that wait three seconds for each line lost."""
TIMEOUT = 240.0
"""Seconds; a host that takes so long for this is stuck."""
MOST = 1.35
"""Times the time without losses that this project's client may take (median)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One host."""

    host: str
    version: str
    bootloader: str
    baudrate: int
    bytes: int
    line_loss: float
    loss_free: float | None
    """Seconds of the upload over a wire that loses nothing; None: that did not succeed either."""
    seconds: list[float | None]
    """Of each run with losses; None: the upload did not succeed."""
    failures: list[str]
    """The last words of those that did not."""
    ratio: float | None
    """The median of the runs over `loss_free`; None if any upload failed."""
    simulated: bool = True


def row_of(host: str, case: Case, image: bytes, loss: float, runs: int) -> Row:
    """All runs of one host."""
    cases = [case, *(case._replace(line_loss=loss, seed=seed) for seed in range(1, runs + 1))]
    times: list[float | None] = []
    failures = []
    for each in cases:
        print(f"{host} with {each.line_loss:.0%} of lines lost, seed {each.seed} ...", file=sys.stderr, flush=True)
        try:
            times.append(measure(host, each, image, TIMEOUT).seconds)
        except hosts.Failed as failure:
            times.append(None)
            failures.append(failure.why)
    loss_free, *seconds = times
    whole = [each for each in seconds if each is not None]
    return Row(
        host=host,
        version=hosts.version(host),
        bootloader=case.bootloader,
        baudrate=case.baudrate,
        bytes=len(image),
        line_loss=loss,
        loss_free=loss_free,
        seconds=seconds,
        failures=failures,
        ratio=statistics.median(whole) / loss_free if whole and loss_free and not failures else None,
    )


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'host':25}{'version':9}{'no loss':>8}  {'with losses':30}ratio"]
    for row in rows:
        without, *runs = ("failed" if each is None else f"{each:.2f} s" for each in (row.loss_free, *row.seconds))
        ratio = "did not survive" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"{row.host:25}{row.version:9}{without:>8}  {', '.join(runs):30}{ratio}")
        lines += [f"{'':25}{words}" for words in dict.fromkeys(row.failures)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if this project's client does not do what it wants to."""
    parser = argparse.ArgumentParser(description="Uploads over a wire that loses lines, on simulated boards.")
    add_json_option(parser)
    parser.add_argument("--size", type=int, default=SIZE, metavar="BYTES", help="of the image (%(default)s)")
    parser.add_argument("--baudrate", type=int, default=115_200, metavar="N", help="(%(default)s)")
    parser.add_argument("--loss", type=float, default=0.01, metavar="R", help="share of lines lost (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="with losses, each host (%(default)s)")
    parser.add_argument("--host", choices=hosts.HOSTS, action="append", help="repeatable (all)")
    options = parser.parse_args(arguments)
    if not SMALLEST <= options.size <= SLOT_SIZE:
        parser.error(f"an image has {SMALLEST} to {SLOT_SIZE} bytes, not {options.size}")
    image, case = make_image(options.size), Case(BOOTLOADERS[0], options.baudrate)
    rows = [row_of(host, case, image, options.loss, options.runs) for host in options.host or hosts.HOSTS]
    own = [row for row in rows if row.host == OWN]
    remark = f"All boards are simulated: paced wire, {LATENCY * 1e3:g} ms host latency, nRF5340 flash timing."
    print_rows(rows, table, remark, as_json=options.json)
    return 0 if all(row.ratio is not None and row.ratio <= MOST for row in own) else 1


if __name__ == "__main__":
    sys.exit(main())
