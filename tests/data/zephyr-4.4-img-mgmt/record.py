"""Records what a real server answers: MCUboot and Zephyr's smp_svr in an emulator.

    python tests/data/zephyr-4.4-img-mgmt/record.py FOLDER m0_384.jsonl.gz

FOLDER is tests/fixtures/smp-server of smpclient's source distribution. README.md beside this file has the format.
"""

import struct
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "interop")]

import cases
import servers
from application_link import Link, save
from cases import PAGE, SLOT_SIZE, Case, Request

from pytest_nrfdfu.image.format import Version
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.smp.header import Header

SLOTS = (0x8000, 0x22000)
CONFIG, TARGET = "serial", "qemu_cortex_m0"
BANNER = b"smp_sample: build time"
_VERSION_AT = 20
"""Of the version in an image's header."""


def packet_of(request: Request, sequence: int, version: int) -> bytes:
    payload = request.payload if isinstance(request.payload, bytes) else dumps(request.payload)
    header = Header(request.op, request.group, request.command, sequence, len(payload), version)
    return header.pack() + payload


def runs(data: bytes) -> list[list]:
    """[offset, hex] of what is not erased. Runs end at eight erased bytes."""
    found, at = [], 0
    while at < len(data):
        if data[at] == 0xFF:
            at += 1
            continue
        end = data.find(b"\xff" * 8, at)
        end = len(data) if end < 0 else end
        found.append([at, data[at:end].hex()])
        at = end
    return found


def record(case: Case, emulator: servers.Lasting, link: Link, version: int, image_end: int) -> dict:
    """One case: flash prepared and the server begun anew, then its requests."""
    gdb = emulator.gdb
    gdb.stop()
    start0, start1 = SLOTS
    gdb.write(start0 + image_end, b"\xff" * (SLOT_SIZE - image_end))
    gdb.write(start0 + _VERSION_AT, bytes(8))
    gdb.write(start1, b"\xff" * SLOT_SIZE)
    gdb.reset()
    link.forget()
    gdb.run()
    link.wait_text(BANNER)
    gdb.stop()
    # Behind MCUboot's back, which would act upon it; the server reads flash when it is asked.
    for start, writes in ((start0, case.slot0), (start1, case.slot1)):
        for offset, data in writes:
            gdb.write(start + offset, data)
    running = Version.parse(case.version0)
    gdb.write(start0 + _VERSION_AT, pack_version(running))
    gdb.run()
    steps = []
    for number, request in enumerate(case.requests, 1):
        packet = packet_of(request, number, version)
        answer = link.ask(packet)
        steps.append({"tx": packet.hex(), "rx": None if answer is None else answer.hex()})
    gdb.stop()
    after = [runs(gdb.read(start1, SLOT_SIZE)), runs(gdb.read(start0 + image_end, SLOT_SIZE - image_end))]
    gdb.run()
    return {
        "case": f"{case.name}-v{version + 1}",
        "version0": case.version0,
        "slot0": [[offset, data.hex()] for offset, data in case.slot0],
        "slot1": [[offset, data.hex()] for offset, data in case.slot1],
        "steps": steps,
        "slot1_after": after[0],
        "slot0_after": [[offset + image_end, data] for offset, data in after[1]],
    }


def pack_version(version: Version) -> bytes:
    return struct.pack("<BBHI", *version)


def main() -> None:
    folder = Path(sys.argv[1])
    entry = servers.server(folder, CONFIG, TARGET)
    signed = (folder / entry["artifact"].replace(".merged.hex", ".signed.bin")).read_bytes()
    body_end = len(signed) - 40
    head = {
        "server": entry["artifact"],
        "buf_size": entry["buf_size"],
        "buf_count": entry["buf_count"],
        "swap": "offset",
        "page": PAGE,
        "slot_size": SLOT_SIZE,
        "slot0_header": signed[:32].hex(),
        "slot0_tlvs": [body_end, signed[body_end:].hex()],
    }
    rows = [head]
    with servers.lasting_emulator(folder, entry) as emulator:
        link = Link(emulator.port)
        emulator.gdb.run()
        link.wait_text(BANNER)
        for case in cases.all_cases():
            rows += [record(case, emulator, link, version, len(signed)) for version in (0, 1)]
    save(Path(sys.argv[2]), rows)


if __name__ == "__main__":
    main()
