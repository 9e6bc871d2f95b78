"""Upload speed of this project's client beside another SMP host's, on simulated boards, in one run.

    python benchmarks/upload.py [--json] [--size 262144] [--baudrate 115200] [--quick]

Every upload goes to a simulated nRF5340 DK of its own, in real time: the wire is paced to the baud rate, flash is as
slow as the nRF5340's data sheet says, and bytes are lost while it erases. Once the bootloader tells its buffer size
(MCUmgr parameters), and once it does not, as in the nRF Connect SDK, where a host has to know the size or to assume a
small one. The hosts take turns and use their defaults; seconds run from the first upload request to the last response.
An upload counts only if the same host then reads the image's hash from the board; otherwise the run fails. All figures
are simulated. Targets are for the default size and baud rate.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.metadata
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.config_types import RecoveryConfig
from pytest_nrfdfu.image.format import DEFAULT_HEADER_SIZE, TLV_HEADER, TLV_INFO, TLV_INFO_MAGIC, ImageHeader, TlvType
from pytest_nrfdfu.sim_admin import SimAdmin

BOOTLOADERS = {"mcuboot-main": 1.0, "ncs-2.6": 1.4}
"""Profiles to measure with, one that answers params and one that does not, and how many times as fast as the other host
this project's client wants to be."""
REFERENCE = "smpclient"
OWN = "pytest-nrfdfu"
OWN_ONE_CHUNK = f"{OWN}, one chunk"

QUICK_SIZE, QUICK_BAUDRATE = 32 << 10, 1_000_000
"""Enough to see that it works. At this rate flash, which is as slow for every host, takes most of the time."""
FULL_SIZE, FULL_BAUDRATE = 256 << 10, 115_200

SMALLEST = 1 << 10
SLOT_SIZE = 0x70000
"""Bytes: slot 0 of the nRF5340 DK (Zephyr, nrf5340_cpuapp_partition.dtsi)."""

READY_TIMEOUT = 10.0
UPLOAD_TIMEOUT = 900.0
"""Seconds; a host that takes so long is stuck."""


class Upload(NamedTuple):
    """What a host did: seconds of the upload, and the hash of slot 0 that it read from the image list."""

    seconds: float
    hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upload."""

    host: str
    version: str
    bootloader: str
    params: bool
    """Whether the bootloader tells its buffer size."""
    baudrate: int
    bytes: int
    requests: int
    """Upload requests that the board received."""
    seconds: float
    rate: float
    """Bytes of the image per second."""
    ratio: float | None
    """Rate over that of the reference on the same bootloader."""
    target: float | None
    """What the ratio should be at least; None for other hosts, and for other sizes and rates than the default ones."""
    verified: bool
    simulated: bool = True


Host = Callable[[BoardConfig, bytes], Upload]


def own_client(config: BoardConfig, image: bytes) -> Upload:
    """This project's, as the fixtures use it on a simulated board: two chunks in flight, sizes by params or profile."""
    unit = Unit(config.board, config)
    unit.open()
    try:
        limits = unit.limits()
        start = time.perf_counter()
        unit.client.upload(image, limits=limits, image=0)
        seconds = time.perf_counter() - start
        found = unit.client.images().find(image=0, slot=0)
    finally:
        unit.close()
    return Upload(seconds, found.hash if found is not None else None)


def smpclient(config: BoardConfig, image: bytes) -> Upload:
    """The PyPI package of that name with its default strategy, Auto: packet sizes by params, else small ones."""
    from smpclient import SMPClient
    from smpclient.generics import success
    from smpclient.requests.image_management import ImageStatesRead
    from smpclient.transport.serial import SMPSerialTransport

    async def upload() -> Upload:
        transport = SMPSerialTransport(baudrate=config.uart.baudrate)
        async with SMPClient(transport, config.uart.port) as client, asyncio.timeout(UPLOAD_TIMEOUT):
            start = time.perf_counter()
            async for _offset in client.upload(image):
                pass
            seconds = time.perf_counter() - start
            states = await client.request(ImageStatesRead())
            found = [state.hash for state in states.images if state.slot == 0] if success(states) else []
            return Upload(seconds, found[0] if found else None)

    return asyncio.run(upload())


def own_client_one_chunk(config: BoardConfig, image: bytes) -> Upload:
    """The same with one chunk in flight, the default for boards that are not simulated."""
    one = config.bootloader.model_copy(update={"window": 1})
    return own_client(config.model_copy(update={"bootloader": one}), image)


HOSTS: dict[str, Host] = {REFERENCE: smpclient, OWN: own_client, OWN_ONE_CHUNK: own_client_one_chunk}


def make_image(size: int) -> bytes:
    """An unsigned image of exactly `size` bytes whose hash MCUboot accepts. Its body is noise: nothing executes it."""
    tlvs = TLV_INFO.size + TLV_HEADER.size + hashlib.sha256().digest_size
    body = random.Random(5340).randbytes(size - DEFAULT_HEADER_SIZE - tlvs)
    covered = ImageHeader(img_size=len(body)).pack().ljust(DEFAULT_HEADER_SIZE, b"\0") + body
    digest = hashlib.sha256(covered).digest()
    return covered + TLV_INFO.pack(TLV_INFO_MAGIC, tlvs) + TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest


@contextmanager
def simulated_board(bootloader: str, baudrate: int) -> Iterator[tuple[BoardConfig, SimAdmin]]:
    """A board that has no application and so waits in serial recovery."""
    sim = SimConfig(bootloader=bootloader, baudrate=baudrate, stall="erase", entrance=("no-application",))
    simulator = Simulator(BoardConfig(board=f"{bootloader}-simulated", sim=sim))
    try:
        # It is in recovery already: neither probe nor lines are needed.
        plain = {
            "probe": None,
            "recovery": RecoveryConfig(entry=("smp",)),
            "bootloader": simulator.wired().bootloader.model_copy(update={"window": 2}),
        }
        with SimAdmin(simulator.admin) as admin:
            deadline = time.monotonic() + READY_TIMEOUT
            while not admin.counters()["in_recovery"]:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the simulated board did not enter serial recovery within {READY_TIMEOUT:g} s")
                time.sleep(0.02)
            yield simulator.wired().model_copy(update=plain), admin
    finally:
        simulator.stop()


def measure(host: str, bootloader: str, image: bytes, baudrate: int) -> Row:
    """One upload to a fresh board; SystemExit if the hash read back is not the image's."""
    with simulated_board(bootloader, baudrate) as (config, admin):
        done = HOSTS[host](config, image)
        counters, held = admin.counters(), admin.flash_hash(slot=0, size=len(image))
    comparable = (len(image), baudrate) == (FULL_SIZE, FULL_BAUDRATE)
    expected = image[-hashlib.sha256().digest_size :]
    if done.hash != expected or held.sha256 != hashlib.sha256(image).digest():
        read = done.hash.hex() if done.hash else "none"
        raise SystemExit(f"{host} on {bootloader}: the hash read back is {read}, not {expected.hex()}")
    return Row(
        host=host,
        version=importlib.metadata.version(host.split(",", maxsplit=1)[0]),
        bootloader=bootloader,
        params=config.bootloader.resolve().params,
        baudrate=baudrate,
        bytes=len(image),
        requests=counters["upload_requests"],
        seconds=done.seconds,
        rate=len(image) / done.seconds,
        ratio=None,
        target=BOOTLOADERS[bootloader] if host == OWN and comparable else None,
        verified=True,
    )


def compare(bootloader: str, image: bytes, baudrate: int) -> list[Row]:
    """Every host, one after the other, on the same kind of board."""
    rows = []
    for host in HOSTS:
        print(f"{host} uploads {len(image)} bytes at {baudrate} baud, {bootloader} ...", file=sys.stderr, flush=True)
        rows.append(measure(host, bootloader, image, baudrate))
    reference = next(row.rate for row in rows if row.host == REFERENCE)
    return [replace(row, ratio=row.rate / reference) for row in rows]


def verdict(row: Row) -> str:
    """The target and whether it was met."""
    if row.target is None or row.ratio is None:
        return ""
    return f">= {row.target:.1f}: {'met' if row.ratio >= row.target else 'MISSED'}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "host": lambda row: row.host,
    "version": lambda row: row.version,
    "bootloader": lambda row: row.bootloader,
    "params": lambda row: "yes" if row.params else "no",
    "baud": lambda row: str(row.baudrate),
    "requests": lambda row: str(row.requests),
    "seconds": lambda row: f"{row.seconds:.2f}",
    "bytes/s": lambda row: f"{row.rate:.0f}",
    f"x {REFERENCE}": lambda row: "" if row.ratio is None else f"{row.ratio:.3f}",
    "target": verdict,
    "verified": lambda row: "yes" if row.verified else "no",
}


def table(rows: list[Row]) -> str:
    """The rows for people."""
    cells = [list(COLUMNS), *([show(row) for show in COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Upload speed beside other SMP hosts, on simulated boards.")
    parser.add_argument("--json", action="store_true", help='print {"rows": [...]} instead of a table')
    parser.add_argument("--size", type=int, metavar="BYTES", help=f"of the image ({FULL_SIZE})")
    parser.add_argument("--baudrate", type=int, metavar="N", help=f"({FULL_BAUDRATE})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIZE} bytes at {QUICK_BAUDRATE} baud")
    options = parser.parse_args(arguments)
    options.size = options.size or (QUICK_SIZE if options.quick else FULL_SIZE)
    options.baudrate = options.baudrate or (QUICK_BAUDRATE if options.quick else FULL_BAUDRATE)
    if not SMALLEST <= options.size <= SLOT_SIZE:
        parser.error(f"an image has {SMALLEST} to {SLOT_SIZE} bytes, not {options.size}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    image = make_image(options.size)
    rows = [row for bootloader in BOOTLOADERS for row in compare(bootloader, image, options.baudrate)]
    if options.json:
        shown: dict[str, Any] = {"rows": [asdict(row) for row in rows]}
        print(json.dumps(shown, indent=1))
    else:
        print(table(rows))
        print("All boards are simulated: nRF5340 flash timing, paced wire, hash read back by the same host.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
