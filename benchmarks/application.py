"""Upload speed to a running application's SMP server, beside other hosts, on simulated boards, in one run.

    python benchmarks/application.py [--json] [--size 131072] [--baudrate 115200] [--host NAME] [--quick]

Every upload goes to slot 1 of a simulated nRF5340 DK of its own, in real time: the wire is paced to the baud rate,
flash is as slow as the nRF5340's data sheet says, bytes are lost while it erases, and bytes take 1 ms between wire and
host, each way. The application has Zephyr's defaults: 4 buffers of 384 bytes. Once it erases all pages with the first
chunk, which is Zephyr's default and takes every host the same time, and once page by page. The hosts take turns, each
in a process of its own. Seconds run, on the board, from the first byte of the first upload request to the end of the
last response. An upload counts only if the application then lists the image's hash in slot 1, and flash holds the
image; otherwise the run fails. All figures are simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from printing import add_json_option, print_rows
from upload import make_image

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.sim_admin import SimAdmin

OWN = "pytest-nrfdfu"
RATIO = 1.15
"""How many times smpclient's rate this project's client wants to reach at 115200 baud."""
BAUDRATE = 115_200
FULL_SIZE, QUICK_SIZE, QUICK_BAUDRATE = 128 << 10, 16 << 10, 1_000_000
READY_TIMEOUT, UPLOAD_TIMEOUT = 10.0, 600.0
ERASES: tuple[Literal["at-start", "progressive"], ...] = ("at-start", "progressive")


# --- the hosts ------------------------------------------------------------------------------------------------------


def own(port: str, baudrate: int, image: bytes, window: int | str = "auto") -> bytes | None:
    """This project's client: params, then as many chunks in flight as help."""
    from pytest_nrfdfu.board.application_limits import application_limits, application_policy
    from pytest_nrfdfu.board.unit import Unit

    config = BoardConfig.model_validate(
        {
            "board": "benchmark",
            "uart": {"port": port, "baudrate": baudrate},
            "recovery": {"entry": ["smp"]},
            "bootloader": {"window": window},
        }
    )
    unit = Unit(config.board, config)
    unit.open()
    try:
        params = unit.client.params()
        unit.client.upload(
            image,
            limits=application_limits(unit, params),
            policy=application_policy(unit, params),
            sha=hashlib.sha256(image).digest(),
        )
        found = unit.client.images().find(slot=1)
    finally:
        unit.close()
    return found.hash if found is not None else None


def own_one_chunk(port: str, baudrate: int, image: bytes) -> bytes | None:
    """The same with one chunk in flight."""
    return own(port, baudrate, image, window=1)


def smpclient(port: str, baudrate: int, image: bytes) -> bytes | None:
    """Its default strategy, Auto: packet sizes by params."""
    from smpclient import SMPClient
    from smpclient.generics import success
    from smpclient.requests.image_management import ImageStatesRead
    from smpclient.transport.serial import SMPSerialTransport

    async def upload() -> bytes | None:
        async with SMPClient(SMPSerialTransport(baudrate=baudrate), port) as client:
            async for _offset in client.upload(image, first_timeout_s=UPLOAD_TIMEOUT):
                pass
            states = await client.request(ImageStatesRead())
            found = [state.hash for state in states.images if state.slot == 1] if success(states) else []
            return found[0] if found else None

    return asyncio.run(upload())


HOSTS: dict[str, tuple[str, Callable[[str, int, bytes], bytes | None]]] = {
    "smpclient": ("smpclient", smpclient),
    "pytest-nrfdfu, one chunk": (OWN, own_one_chunk),
    OWN: (OWN, own),
}
"""Hosts, and the distributions whose versions are printed."""


# --- the runs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upload. `ratio`: this rate over smpclient's on the same kind of board."""

    host: str
    version: str
    erase: str
    baudrate: int
    bytes: int
    requests: int
    overrun: int
    seconds: float
    rate: float
    ratio: float = 0.0
    verdict: str = ""
    verified: bool = True
    simulated: bool = True


def measure(host: str, erase: Literal["at-start", "progressive"], baudrate: int, image: bytes) -> Row:
    """One upload to a fresh board; SystemExit if the hash read back is not the image's."""
    with tempfile.TemporaryDirectory() as folder:
        running, file = Path(folder) / "running.bin", Path(folder) / "image.bin"
        running.write_bytes(make_image(4096))
        file.write_bytes(image)
        sim = SimConfig(
            image=running,
            baudrate=baudrate,
            stall="erase+write",
            host_latency=1e-3,
            application_smp="full",
            application_erase=erase,
        )
        simulator = Simulator(BoardConfig(board="application-simulated", sim=sim))
        try:
            with SimAdmin(simulator.admin) as admin:
                _await_application(admin)
                found = _run(host, simulator.endpoints["uart"], baudrate, file)
                counters, held = admin.counters(), admin.flash_hash(slot=1, size=len(image))
        finally:
            simulator.stop()
    expected = image[-hashlib.sha256().digest_size :].hex()
    if found != expected or held.sha256 != hashlib.sha256(image).digest():
        raise SystemExit(f"{host}: the application lists {found} in slot 1, not {expected}")
    seconds = counters["upload_seconds"]
    return Row(
        host=host,
        version=importlib.metadata.version(HOSTS[host][0]),
        erase=erase,
        baudrate=baudrate,
        bytes=len(image),
        requests=counters["upload_requests"],
        overrun=counters["uart"]["overrun"],
        seconds=seconds,
        rate=len(image) / seconds,
    )


def _await_application(admin: SimAdmin) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while admin.counters()["program"] != "application":
        if time.monotonic() > deadline:
            raise SystemExit(f"the simulated application did not start within {READY_TIMEOUT:g} s")
        time.sleep(0.02)
    time.sleep(0.1)  # until its banner is out


def _run(host: str, port: str, baudrate: int, file: Path) -> str | None:
    """Let a host upload, in a child process; the hash that it then reads, SystemExit with its last words."""
    command = [sys.executable, __file__, "--child", host, port, str(baudrate), str(file)]
    with tempfile.TemporaryFile("w+") as words:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=words, text=True, timeout=UPLOAD_TIMEOUT, check=False
        )
        if done.returncode:
            words.seek(0)
            raise SystemExit(f"{host} failed: {words.read()[-2000:]}")
    found: str | None = json.loads(done.stdout.splitlines()[-1])
    return found


def child(host: str, port: str, baudrate: str, file: str) -> int:
    """One upload, in a process of its own."""
    found = HOSTS[host][1](port, int(baudrate), Path(file).read_bytes())
    print(json.dumps(found.hex() if found else None))
    return 0


def judged(row: Row, rows: list[Row]) -> Row:
    """A row with its ratio to smpclient, and the target of this project's client."""
    other = next((one for one in rows if (one.host, one.erase) == ("smpclient", row.erase)), None)
    if other is None or other.host == row.host:
        return row
    ratio, verdict = row.rate / other.rate, ""
    if row.host == OWN and (row.baudrate, row.bytes) == (BAUDRATE, FULL_SIZE):
        verdict = f"{ratio:.3f} x smpclient, at least {RATIO:g}: {'met' if ratio >= RATIO else 'MISSED'}"
    return replace(row, ratio=ratio, verdict=verdict)


def table(rows: list[Row]) -> str:
    """The rows for people."""
    cells = [["host", "version", "erase", "baud", "requests", "lost", "seconds", "bytes/s", "x smpclient"]]
    for row in rows:
        numbers = [str(row.baudrate), str(row.requests), str(row.overrun), f"{row.seconds:.2f}", f"{row.rate:.0f}"]
        cells.append([row.host, row.version, row.erase, *numbers, f"{row.ratio:.3f}" if row.ratio else "-"])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join(lines + [f"{row.erase}: {row.verdict}" for row in rows if row.verdict])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Upload speed to a running application, on simulated boards.")
    add_json_option(parser)
    parser.add_argument("--size", type=int, metavar="BYTES", help=f"of the image ({FULL_SIZE})")
    parser.add_argument("--baudrate", type=int, help=f"({BAUDRATE})")
    parser.add_argument("--host", choices=HOSTS, action="append", help="repeatable (all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIZE} bytes at {QUICK_BAUDRATE} baud")
    options = parser.parse_args(arguments)
    options.size = options.size or (QUICK_SIZE if options.quick else FULL_SIZE)
    options.baudrate = options.baudrate or (QUICK_BAUDRATE if options.quick else BAUDRATE)
    options.host = options.host or list(HOSTS)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    image, rows = make_image(options.size), []
    for erase in ERASES:
        for host in options.host:
            print(f"{host} uploads {options.size} bytes at {options.baudrate} baud, {erase} ...", file=sys.stderr)
            rows.append(measure(host, erase, options.baudrate, image))
    rows = [judged(row, rows) for row in rows]
    remark = "All boards are simulated: nRF5340 flash timing, paced wire, hash read back by the same host."
    print_rows(rows, table, remark, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
