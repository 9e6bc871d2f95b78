"""The simulated MCUboot swaps like the real one, cut off or not: the same pages, trailers and log lines.

The recordings are of MCUboot in an emulated nRF51, swap using offset: tests/data/mcuboot-swaps/README.md.
"""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from swap_cases import image
from swap_dump import PAGE, PAGES, SLOT_SIZE, SLOTS, numbered, pages_of, trailer_of

from pytest_nrfdfu.image.bootloader import profile
from pytest_nrfdfu.sim.bootloader import Bootloader
from pytest_nrfdfu.sim.firmware import Erase, Send, Start, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.sim.trailer import Trailers

DATA = Path(__file__).parents[1] / "data" / "mcuboot-swaps" / "offset_m0.jsonl.gz"
AREAS = tuple(
    SlotArea(f"slot{number}", image=0, slot=number, address=address, size=SLOT_SIZE)
    for number, address in enumerate(SLOTS)
)
GEOMETRY = Geometry(page=PAGE, max_sectors=PAGES)
PROFILE = replace(profile("ncs-2.6"), swap="offset")

NOTHING_BOOTS = "E: Unable to find bootable image"


def recording():
    with gzip.open(DATA, "rt") as file:
        head, *rows = map(json.loads, file)
    return head, rows


HEAD, ROWS = recording()


class Bench:
    """Flash with `old` in slot 0 and `new` one page up in slot 1, as swap using offset wants it."""

    def __init__(self, old, new):
        self.flash = SparseFlash(PAGE)
        self.known = numbered(old, new)
        self.flash.fill(SLOTS[0], old)
        self.flash.fill(SLOTS[1] + PAGE, new)
        self.trailers = Trailers(Slots(self.flash, AREAS, GEOMETRY), "offset")
        self.log = []

    def perform(self, effect):
        match effect:
            case Write(address, data):
                self.flash.write(address, data)
            case Erase(address):
                self.flash.erase(address)

    def do(self, effects):
        for effect in effects:
            self.perform(effect)

    def boot(self, cut=None):
        """Boot until the application starts or nothing boots; with `cut` (slot, offset) until a write there."""
        place = None if cut is None else SLOTS[cut[0]] + cut[1]
        bootloader = Bootloader(
            PROFILE, self.flash, AREAS, geometry=GEOMETRY, start_application=lambda area: area, log=True
        )
        text = b""
        for effect in bootloader.main():
            match effect:
                case Start():
                    break
                case Send(data):
                    text += data
                case Write(address, data) if place is not None and address <= place < address + len(data):
                    # The recorded flash is written word by word.
                    self.flash.write(address, data[: place - address])
                    break
                case _:
                    self.perform(effect)
        self.log = [line for line in text.decode().splitlines() if line[1:3] == ": "]

    def seen(self):
        contents = [self.flash.read(address, SLOT_SIZE) for address in SLOTS]
        return {
            f"slot{number}": {"pages": pages_of(content, self.known), "trailer": trailer_of(content)}
            for number, content in enumerate(contents)
        }


def slots_of(row):
    return {name: row[name] for name in ("slot0", "slot1")}


LIFECYCLES = [row for row in ROWS if "old_size" not in row]


def lifecycle(name):
    """The steps of one update: its name, its row."""
    rows = [(row["step"].partition(": ")[2], row) for row in LIFECYCLES if row["step"].startswith(f"{name}: ")]
    assert len(rows) > 2
    return rows


@pytest.mark.parametrize("name", ["confirm", "revert", "permanent"])
def test_update_from_mark_to_the_boot_after_it(name):
    size = 49_692
    old, new = image("0.0.0", size, "code"), image("9.9.9", size, "code")
    bench = Bench(old, new)
    for step, row in lifecycle(name):
        if step.startswith("marked"):
            bench.do(bench.trailers.set_pending(0, permanent=name == "permanent"))
        elif step == "confirmed":
            bench.do(bench.trailers.set_confirmed(0))
        else:
            bench.boot()
            assert bench.log == [line.replace("0x8000", hex(SLOTS[0])) for line in row["log"]], step
        assert bench.seen() == slots_of(row), step


CUTS = {}
for _row in ROWS:
    if "cut" in _row:
        CUTS.setdefault((_row["step"].partition(": ")[0], *_row["cut"]), []).append(_row)


@pytest.mark.parametrize("rows", CUTS.values(), ids=[f"{name}-slot{s}-{o:#x}" for name, s, o in CUTS])
def test_cut_and_the_boots_after_it(rows):
    cut_off, after, following = rows
    old, new = image("1.0.0", cut_off["old_size"], "old"), image("9.9.9", cut_off["new_size"], "new")
    bench = Bench(old, new)
    bench.do(bench.trailers.set_pending(0, permanent=False))
    bench.boot(cut=cut_off["cut"])
    assert bench.seen() == slots_of(cut_off)
    for row in (after, following):
        bench.boot()
        assert bench.seen() == slots_of(row), row["step"]
        if bench.log[-1] != NOTHING_BOOTS:  # there one line comes once less often
            assert bench.log == row["log"], row["step"]
        assert bench.log[-1] == row["log"][-1], row["step"]


def test_what_mcuboot_itself_loses():
    """Two places where real MCUboot does not get through: the simulated one must not do better."""
    wrong = {
        (name, slot, offset): row["log"][-1]
        for (name, slot, offset), (_, *boots) in CUTS.items()
        for row in boots
        if any(line.startswith("E: ") for line in row["log"])
    }
    assert wrong == {
        ("one page", 0, 0): NOTHING_BOOTS,
        ("smaller", 1, 0x2410): "I: Jumping to the first image slot",
    }


def test_recording_is_whole():
    assert {(row["old_size"] > row["new_size"]) for row in ROWS if "cut" in row} == {True, False}
    assert len(CUTS) > 60
    assert all(len(rows) == 3 for rows in CUTS.values())
