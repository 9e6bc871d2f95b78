"""Upload speed of this project's client beside other SMP hosts, on simulated boards, in one run.

    python benchmarks/upload.py [--json] [--size 262144] [--baudrate N] [--bootloader NAME] [--host NAME] [--quick]

Every upload goes to a simulated nRF5340 DK of its own, in real time: the wire is paced to the baud rate, flash is as
slow as the nRF5340's data sheet says, bytes are lost while it erases, and bytes take 1 ms between wire and host, each
way. Once the bootloader tells its buffer size (MCUmgr parameters), and once it does not, as in the nRF Connect SDK,
where a host has to know the size or to assume a small one. The hosts take turns, each in a process of its own; seconds
run, on the board, from the first byte of the first upload request to the end of the last response. An upload counts
only if the host then reads the image's hash from the board and flash holds the image; a host that fails is told so and
has no row. This project's client sees each board for the first time, so it has to try its window first. All figures are
simulated.

The limit that shares are of is computed, not measured: see `limit`. Targets are for the default size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import hosts
from printing import add_json_option

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.format import DEFAULT_HEADER_SIZE, TLV_HEADER, TLV_INFO, TLV_INFO_MAGIC, ImageHeader, TlvType
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.chunks import Limits, chunk_size
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import UploadRequest
from pytest_nrfdfu.smp.timing import Link

OWN = "pytest-nrfdfu"
BOOTLOADERS = ("ncs-2.6", "mcuboot-main")
"""One that does not answer params and one that does."""
BAUDRATES = (115_200, 1_000_000)
LATENCY = 1e-3
"""Seconds between wire and host, each way."""
TUNED = ("mcumgr-toolkit, tuned",)


class Target(NamedTuple):
    """What this project's client wants to be at least, at one rate, against a bootloader without params."""

    share: float
    """Of the limit."""
    ratios: dict[str, float]
    """Of the rates of other hosts."""


TARGETS = {
    115_200: Target(0.94, {"smpclient": 1.6, "mcumgr-toolkit": 1.15, "mcumgr-toolkit, tuned": 1.07}),
    1_000_000: Target(0.88, {"mcumgr-toolkit, tuned": 1.2}),
}

QUICK_SIZE, QUICK_BAUDRATE = 32 << 10, 1_000_000
"""Enough to see that it works. At this rate flash, which is as slow for every host, takes most of the time."""
FULL_SIZE = 256 << 10
SMALLEST = 1 << 10
SLOT_SIZE = 0x70000
"""Bytes: slot 0 of the nRF5340 DK (Zephyr, nrf5340_cpuapp_partition.dtsi)."""

READY_TIMEOUT = 10.0
UPLOAD_TIMEOUT = 900.0
"""Seconds; a host that takes so long is stuck."""
MIB = 1 << 20


class Limit(NamedTuple):
    """What no host can go below, in seconds: three things that cannot overlap."""

    wire: float
    """The image in the best packing: full lines, the largest packet."""
    erases: float
    """Pages, one by one, and the image trailer's: nothing can be received meanwhile."""
    writes: float
    """What is written after the last byte came; all the rest of it can be written while more comes in."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.wire + self.erases + self.writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upload."""

    host: str
    version: str
    bootloader: str
    params: bool
    """Whether the bootloader tells its buffer size."""
    flow_control: bool
    baudrate: int
    bytes: int
    requests: int
    """Upload requests that the board received."""
    overrun: int
    """Bytes that the board's UART lost."""
    seconds: float
    limit: Limit
    rate: float
    """Bytes of the image per second."""
    share: float
    """Of the rate that the limit allows."""
    cpu_per_mib: float
    """CPU seconds of the host's process per MiB, its start included."""
    ratios: dict[str, float]
    """This rate over that of others on the same board."""
    verdicts: list[str]
    """The targets, and whether they were met; only for this project's client at the default size."""
    verified: bool
    simulated: bool = True


class Case(NamedTuple):
    """A kind of board."""

    bootloader: str
    baudrate: int
    flow_control: bool = False
    line_loss: float = 0.0
    """Share of lines lost, each way."""
    seed: int = 0
    """Of the losses."""


def limit(size: int, baudrate: int) -> Limit:
    """What no host can go below, for `size` bytes to MCUboot's recovery with its default buffers.

    Answers go the other way, and cost nothing here; nor does latency.
    """
    link = Link(baudrate=baudrate)
    chunk = chunk_size(UploadRequest(off=size // 2), Limits().max_packet, Limits(), size)
    packet = encode(UploadRequest(off=size // 2, data=bytes(chunk)), sequence=0)
    wire = size / chunk * link.wire_time(console.wire_size(len(packet)))
    pages = -(-size // link.page_size) + 1  # and the image trailer's
    return Limit(wire, pages * link.erase_page, link.write_time(size % chunk or chunk))


def make_image(size: int) -> bytes:
    """An unsigned image of exactly `size` bytes whose hash MCUboot accepts. Its body is noise: nothing executes it."""
    tlvs = TLV_INFO.size + TLV_HEADER.size + hashlib.sha256().digest_size
    body = random.Random(5340).randbytes(size - DEFAULT_HEADER_SIZE - tlvs)
    covered = ImageHeader(img_size=len(body)).pack().ljust(DEFAULT_HEADER_SIZE, b"\0") + body
    digest = hashlib.sha256(covered).digest()
    return covered + TLV_INFO.pack(TLV_INFO_MAGIC, tlvs) + TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest


@contextmanager
def simulated_board(case: Case) -> Iterator[tuple[str, SimAdmin]]:
    """The port and the admin port of a board that has no application and so waits in serial recovery."""
    sim = SimConfig(
        bootloader=case.bootloader,
        baudrate=case.baudrate,
        stall="erase+write",
        flow_control=case.flow_control,
        host_latency=LATENCY,
        entrance=("no-application",),
        line_loss=case.line_loss,
        seed=case.seed,
    )
    simulator = Simulator(BoardConfig(board=f"{case.bootloader}-simulated", sim=sim))
    try:
        with SimAdmin(simulator.admin) as admin:
            deadline = time.monotonic() + READY_TIMEOUT
            while not admin.counters()["in_recovery"]:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the simulated board did not enter serial recovery within {READY_TIMEOUT:g} s")
                time.sleep(0.02)
            yield simulator.endpoints["uart"], admin
    finally:
        simulator.stop()


def measure(host: str, case: Case, image: bytes, timeout: float = UPLOAD_TIMEOUT) -> Row:
    """One upload to a fresh board; hosts.Failed if the host gives up, or the hash read back is not the image's."""
    with tempfile.TemporaryDirectory() as folder, simulated_board(case) as (port, admin):
        file = Path(folder) / "image.bin"
        file.write_bytes(image)
        flow = "rtscts" if case.flow_control else "none"
        target = hosts.Target(port, case.baudrate, file, case.bootloader, flow)
        done = hosts.run(host, target, timeout)
        counters, held = admin.counters(), admin.flash_hash(slot=0, size=len(image))
    expected = image[-hashlib.sha256().digest_size :]
    if done.hash != expected or held.sha256 != hashlib.sha256(image).digest():
        read = done.hash.hex() if done.hash else "none"
        raise hosts.Failed(f"the hash read back is {read}, not {expected.hex()}")
    seconds, least = counters["upload_seconds"], limit(len(image), case.baudrate)
    return Row(
        host=host,
        version=hosts.version(host),
        bootloader=case.bootloader,
        params=PROFILES[case.bootloader].params,
        flow_control=case.flow_control,
        baudrate=case.baudrate,
        bytes=len(image),
        requests=counters["upload_requests"],
        overrun=counters["uart"]["overrun"],
        seconds=seconds,
        limit=least,
        rate=len(image) / seconds,
        share=least.seconds / seconds,
        cpu_per_mib=done.cpu / len(image) * MIB,
        ratios={},
        verdicts=[],
        verified=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An upload that came to nothing."""

    host: str
    version: str
    bootloader: str
    baudrate: int
    why: str


def compare(case: Case, image: bytes, names: list[str], failures: list[Failure]) -> list[Row]:
    """The hosts, one after the other, on the same kind of board; those that fail are added to `failures`."""
    rows = []
    for name in names:
        flow = ", flow control" if case.flow_control else ""
        text = f"{name} uploads {len(image)} bytes at {case.baudrate} baud, {case.bootloader}{flow} ..."
        print(text, file=sys.stderr, flush=True)
        try:
            rows.append(measure(name, case, image))
        except hosts.Failed as failure:
            failures.append(
                Failure(
                    host=name,
                    version=hosts.version(name),
                    bootloader=case.bootloader,
                    baudrate=case.baudrate,
                    why=failure.why,
                )
            )
    return [judged(row, rows) for row in rows]


def judged(row: Row, rows: list[Row]) -> Row:
    """A row with its ratios to the others, and the targets of this project's client."""
    ratios = {other.host: row.rate / other.rate for other in rows if other.host != row.host}
    verdicts = []
    if row.host == OWN and row.bytes == FULL_SIZE and not row.params:
        target = TARGETS[row.baudrate]
        wanted = {} if row.flow_control else target.ratios
        verdicts = [_verdict(f"x {name}", ratios[name], wanted[name]) for name in wanted if name in ratios]
        verdicts.append(_verdict("of the limit", row.share, target.share))
    return replace(row, ratios=ratios, verdicts=verdicts)


def _verdict(what: str, value: float, wanted: float) -> str:
    return f"{value:.3f} {what}, at least {wanted:g}: {'met' if value >= wanted else 'MISSED'}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "host": lambda row: row.host,
    "version": lambda row: row.version,
    "bootloader": lambda row: row.bootloader,
    "params": lambda row: "yes" if row.params else "no",
    "RTS": lambda row: "yes" if row.flow_control else "no",
    "baud": lambda row: str(row.baudrate),
    "requests": lambda row: str(row.requests),
    "lost": lambda row: str(row.overrun),
    "seconds": lambda row: f"{row.seconds:.2f}",
    "bytes/s": lambda row: f"{row.rate:.0f}",
    "of limit": lambda row: f"{row.share:.1%}",
    "CPU s/MiB": lambda row: f"{row.cpu_per_mib:.1f}",
    "verified": lambda row: "yes" if row.verified else "no",
}


def table(rows: list[Row]) -> str:
    """The rows for people, and what became of the targets."""
    cells = [list(COLUMNS), *([show(row) for show in COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    for row in rows:
        where = f"{row.bootloader}, {row.baudrate} baud" + (", flow control" if row.flow_control else "")
        lines += [f"{where}: {verdict}" for verdict in row.verdicts]
    for baudrate in dict.fromkeys(row.baudrate for row in rows):
        least = limit(rows[0].bytes, baudrate)
        lines.append(
            f"The limit for {rows[0].bytes} bytes at {baudrate} baud is {least.seconds:.2f} s:"
            f" {least.wire:.2f} s of wire, {least.erases:.2f} s of erases,"
            f" {least.writes:.2f} s of writes that nothing overlaps."
        )
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Upload speed beside other SMP hosts, on simulated boards.")
    add_json_option(parser)
    parser.add_argument("--size", type=int, metavar="BYTES", help=f"of the image ({FULL_SIZE})")
    parser.add_argument("--baudrate", type=int, choices=BAUDRATES, action="append", help="repeatable (both)")
    parser.add_argument("--bootloader", choices=BOOTLOADERS, action="append", help="repeatable (both)")
    parser.add_argument("--host", choices=hosts.HOSTS, action="append", help="repeatable (all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIZE} bytes at {QUICK_BAUDRATE} baud, two hosts")
    options = parser.parse_args(arguments)
    options.size = options.size or (QUICK_SIZE if options.quick else FULL_SIZE)
    options.baudrate = options.baudrate or ([QUICK_BAUDRATE] if options.quick else list(BAUDRATES))
    options.bootloader = options.bootloader or list(BOOTLOADERS)
    options.host = options.host or (["smpclient", OWN] if options.quick else list(hosts.HOSTS))
    if not SMALLEST <= options.size <= SLOT_SIZE:
        parser.error(f"an image has {SMALLEST} to {SLOT_SIZE} bytes, not {options.size}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    image = make_image(options.size)
    rows: list[Row] = []
    failures: list[Failure] = []
    for baudrate in options.baudrate:
        for bootloader in options.bootloader:
            rows += compare(Case(bootloader, baudrate), image, options.host, failures)
        if OWN in options.host:
            rows += compare(Case(options.bootloader[0], baudrate, flow_control=True), image, [OWN], failures)
    if options.json:
        shown: dict[str, Any] = {
            "rows": [asdict(row) | {"limit": row.limit._asdict()} for row in rows],
            "failures": [asdict(failure) for failure in failures],
        }
        print(json.dumps(shown, indent=1))
    else:
        print(table(rows))
        for failed in failures:
            print(f"{failed.host} {failed.version} FAILED on {failed.bootloader}, {failed.baudrate} baud: {failed.why}")
        print("All boards are simulated: nRF5340 flash timing, paced wire, hash read back by the same host.")
    return 1 if any(failed.host == OWN for failed in failures) else 0


if __name__ == "__main__":
    sys.exit(main())
