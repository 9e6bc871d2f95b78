"""The simulated MCUboot updates like MCUboot's own code, cut off or not: the same pages, trailers and log lines.

The recordings are of MCUboot's bootutil, compiled for the host over a flash in memory: swap using move, swap using
offset and overwrite-only. tests/data/mcuboot-swaps/README.md says which version and how.
"""

import gzip
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from swap_cases import AT_ONCE, LAYOUTS, PAGE, Boot, cases, rows_of

from pytest_nrfdfu.image.bootloader import profile
from pytest_nrfdfu.sim.bootloader import Bootloader
from pytest_nrfdfu.sim.firmware import Erase, Send, Start, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.sim.trailer import Trailers

DATA = Path(__file__).parents[1] / "data" / "mcuboot-swaps"
STARTS = (0x10000, 0x80000)
PANIC = "E: panic!"
OF_MAIN = (
    "I: Starting bootloader",
    "I: Bootloader chainload",
    "I: Image version",
    "I: Jumping to",
    "E: Unable to find",
)
"""Said by Zephyr's main() for MCUboot, which is not in the recordings."""


@cache
def recording(name):
    """What is recorded of a layout: its head, and the rows by case."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        head, *rows = map(json.loads, file)
    return head, {case: [*found] for case, found in groupby(rows, key=lambda row: row.pop("case"))}


class Chip:
    """A chip with the simulated MCUboot."""

    def __init__(self, layout):
        self._profile = replace(profile("ncs-2.6"), swap=layout.swap)
        self._geometry = Geometry(max_sectors=layout.max_sectors)
        sizes = (layout.primary * PAGE, layout.secondary * PAGE)
        self._areas = tuple(
            SlotArea(f"slot{number}", image=0, slot=number, address=start, size=size)
            for number, (start, size) in enumerate(zip(STARTS, sizes, strict=True))
        )

    def load(self, old, new, base):
        self._flash = SparseFlash(PAGE)
        self._flash.fill(STARTS[0], old)
        self._flash.fill(STARTS[1] + base, new)
        self._trailers = Trailers(Slots(self._flash, self._areas, self._geometry), self._profile.swap)

    def boot(self, cut=None):
        program = Bootloader(
            self._profile, self._flash, self._areas, geometry=self._geometry, start_application=bool, log=True
        )
        ended, text, done = "nothing boots", b"", 0
        for effect in program.main():
            if isinstance(effect, Send):
                text += effect.data
            elif isinstance(effect, Start):
                ended = "booted"
                break
            elif self._perform(effect, None if cut is None else cut - done):
                done += operations(effect)
            else:
                ended = "cut off"
                break
        lines = [line for line in text.decode().splitlines() if line[1:3] == ": " and not line.startswith(OF_MAIN)]
        if lines and lines[-1] == PANIC:
            ended = "panic"
        return Boot(ended, [line for line in lines if line != PANIC])

    def _perform(self, effect, left):
        """Do an effect, or only its first `left` operations; was it done?"""
        done = left is None or operations(effect) <= left
        match effect:
            case Erase(address) if done:
                self._flash.erase(address)
            case Write(address, data):
                self._flash.write(address, data if done else data[: left * 4 if operations(effect) > 1 else 0])
        return done

    def mark(self, *, permanent):
        self._do(self._trailers.set_pending(0, permanent=permanent))

    def confirm(self):
        self._do(self._trailers.set_confirmed(0))

    def _do(self, effects):
        for effect in effects:
            self._perform(effect, None)

    def erase(self, slot, page):
        self._flash.erase(STARTS[slot] + page * PAGE)

    def clear(self, slot, offset):
        self._flash.fill(STARTS[slot] + offset, bytes(4))

    def slot(self, number):
        return self._flash.read(STARTS[number], self._areas[number].size)


def operations(effect):
    """How many operations an effect counts as, as in the recordings."""
    short = isinstance(effect, Write) and len(effect.data) <= AT_ONCE
    return len(effect.data) // 4 if short else 1


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in LAYOUTS for case in cases(LAYOUTS[name])])
def test_update(name, case):
    recorded = recording(name)[1][case]
    for row, theirs in zip(rows_of(Chip(LAYOUTS[name]), LAYOUTS[name], case), recorded, strict=True):
        mine = json.loads(json.dumps(row))  # tuples become lists
        assert mine == theirs, row["step"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_recording_is_of_this_layout(name):
    head, found = recording(name)
    assert {key: head[key] for key in LAYOUTS[name]._fields} == LAYOUTS[name]._asdict()
    assert list(found) == list(cases(LAYOUTS[name]))


def outcome(row, name, size):
    """After the boot that reverts: does something start, and is it the image `name`, whole?"""
    if row["ended"] != "booted":
        return "nothing starts"
    return "as before" if row["slot0"]["pages"][0] == [0, name, 0, -(-size // PAGE)] else "lost"


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("move", {}),
        ("move_two_pages", {}),
        ("offset", {"smaller, cut": {"lost": 5}, "one page, cut": {"nothing starts": 1}}),
        ("offset_two_pages", {"smaller, cut": {"lost": 5}, "one page, cut": {"nothing starts": 1}}),
    ],
)
def test_what_mcuboot_itself_loses(name, lost):
    """Swap using move comes through every cut of a test and of its revert; swap using offset does not."""
    found = {}
    for case, rows in recording(name)[1].items():
        if "cut" not in case or case.startswith(("permanent", "damaged")):
            continue
        old, new, _ = cases(LAYOUTS[name])[case]
        before = ("new", new) if "again" in case else ("old", old)
        ends = Counter(outcome(row, *before) for row in rows if row["step"].endswith("next boot"))
        assert ends.pop("as before") > 10 or case == "largest, cut"
        if ends:
            found[case] = ends
    assert found == lost


@pytest.mark.parametrize("name", ["overwrite", "overwrite_two_pages"])
def test_overwriting_comes_through_every_cut(name):
    for case, rows in recording(name)[1].items():
        if case.endswith("cut") and not case.startswith("damaged"):
            pages = -(-cases(LAYOUTS[name])[case][1] // PAGE)
            ends = [row for row in rows if row["step"] == "next boot"]
            assert {row["ended"] for row in ends} == {"booted"}
            assert all(row["slot0"]["pages"][0][:3] == [0, "new", 0] for row in ends)
            assert case == "largest, cut" or {row["slot0"]["pages"][0][3] for row in ends} == {pages}
