"""The simulated application's SMP server answers byte for byte like Zephyr's, and leaves the same flash.

The recordings are of Zephyr 4.4's smp_svr in an emulator: tests/data/zephyr-4.4-img-mgmt/README.md.
"""

import gzip
import json
from pathlib import Path

import pytest

from pytest_nrfdfu.sim.app_smp import SmpServer
from pytest_nrfdfu.sim.firmware import Erase, Send, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.smp import console

DATA = Path(__file__).parents[1] / "data" / "zephyr-4.4-img-mgmt"
VERSION_AT = 20
"""Of the version in an image's header."""


def recording():
    with gzip.open(DATA / "m0_384.jsonl.gz", "rt") as file:
        head, *cases = map(json.loads, file)
    return head, cases


HEAD, CASES = recording()
DIFFERENT = json.loads((DATA / "different.json").read_text())
SIZE = HEAD["slot_size"]
AREAS = (
    SlotArea("slot0", image=0, slot=0, address=0x8000, size=SIZE),
    SlotArea("slot1", image=0, slot=1, address=0x8000 + SIZE, size=SIZE),
)


def version_bytes(text):
    major, minor, revision = text.partition("+")[0].split(".")
    build = int(text.partition("+")[2] or 0)
    return bytes([int(major), int(minor), *int(revision).to_bytes(2, "little"), *build.to_bytes(4, "little")])


class Bench:
    """A server over flash as the recorded one found it."""

    def __init__(self, case):
        self.flash = SparseFlash(HEAD["page"])
        header = bytearray.fromhex(HEAD["slot0_header"])
        header[VERSION_AT : VERSION_AT + 8] = version_bytes(case["version0"])
        tlvs_at, tlvs = HEAD["slot0_tlvs"]
        self.image_end = tlvs_at + len(tlvs) // 2
        # The code between header and TLVs is not kept: nobody reads it.
        running = bytes(header).ljust(tlvs_at, b"\0") + bytes.fromhex(tlvs)
        for area, writes in zip(AREAS, ([(0, running.hex()), *case["slot0"]], case["slot1"]), strict=True):
            for offset, data in writes:
                self.flash.fill(area.address + offset, bytes.fromhex(data))
        geometry = Geometry(page=HEAD["page"], max_sectors=SIZE // HEAD["page"])
        trailers = Trailers(Slots(self.flash, AREAS, geometry), HEAD["swap"])
        self.server = SmpServer(self.flash, trailers, 1, None)

    def ask(self, packet):
        """The packets that come back."""
        decoder, answers = console.Decoder(), []
        self.server.feed(console.encode(packet))
        for effect in self.server.serve():
            match effect:
                case Send(data):
                    answers += [event.data for event in decoder.feed(data)]
                case Write(address, data):
                    self.flash.write(address, data)
                case Erase(address):
                    self.flash.erase(address)
        return answers

    def contents(self):
        first, second = (self.flash.read(area.address, area.size) for area in AREAS)
        return first[self.image_end :], second


def expected_contents(case, image_end):
    slots = []
    for name in ("slot0_after", "slot1_after"):
        content = bytearray(b"\xff" * SIZE)
        for offset, data in case[name]:
            content[offset : offset + len(data) // 2] = bytes.fromhex(data)
        slots.append(bytes(content))
    return slots[0][image_end:], slots[1]


def test_recording_is_whole():
    assert len(CASES) > 300
    assert sum(len(case["steps"]) for case in CASES) > 550
    assert {case["case"] for case in CASES} >= set(DIFFERENT)
    assert len(DIFFERENT) < len(CASES) / 20


def answers_of(bench, case):
    return [[answer.hex() for answer in bench.ask(bytes.fromhex(step["tx"]))] for step in case["steps"]]


def recorded(case):
    return [[] if step["rx"] is None else [step["rx"]] for step in case["steps"]]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["case"] not in DIFFERENT], ids=lambda case: case["case"]
)
def test_server_answers_like_zephyr(case):
    bench = Bench(case)
    assert answers_of(bench, case) == recorded(case)
    assert bench.contents() == expected_contents(case, bench.image_end)


@pytest.mark.parametrize("case", [case for case in CASES if case["case"] in DIFFERENT], ids=lambda case: case["case"])
def test_what_is_listed_as_different_is(case):
    assert answers_of(Bench(case), case) != recorded(case)
