"""The updates in which the simulated MCUboot is compared with the real one: what is done, and what is written down.

`record_host.py` beside the recordings does them to MCUboot's own code, tests/sim/test_swap_host.py to the simulation.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, Protocol

from swap_dump import HEADER, numbered, pages_of, trailer_of

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import TLV_HEADER, TLV_INFO, TLV_INFO_MAGIC, ImageHeader, TlvType, Version

PAGE = 4096
"""Of the nRF5340's flash, in bytes."""
AT_ONCE = 64
"""Longer writes count as one operation, shorter ones as one for each word."""
OVERHEAD = HEADER + TLV_INFO.size + TLV_HEADER.size + 32
"""What an image has besides its code: header, and the TLVs with its hash."""


class Layout(NamedTuple):
    """Slots and how their updates are done; sizes in pages."""

    swap: Swap
    primary: int
    secondary: int
    max_sectors: int

    @property
    def status_at(self) -> tuple[int, int]:
        """Where the slots' trailers begin: two or three words for each page, and the fields."""
        trailer = self.max_sectors * 2 * 4 + 56 if self.swap == "offset" else self.max_sectors * 3 * 4 + 48
        return self.primary * PAGE - trailer, self.secondary * PAGE - trailer

    @property
    def largest(self) -> int:
        """The largest image with its TLVs, in bytes: with one page more in one of the slots, or up to the swap info."""
        if self.swap == "overwrite":
            return self.secondary * PAGE - 40
        first, second = (status // PAGE * PAGE for status in self.status_at)
        return min(first, second - PAGE) if self.swap == "offset" else min(first - PAGE, second)


LAYOUTS = {
    "move": Layout("move", 24, 24, 256),
    "move_two_pages": Layout("move", 21, 20, 512),
    "offset": Layout("offset", 24, 24, 256),
    "offset_two_pages": Layout("offset", 20, 21, 600),
    "overwrite": Layout("overwrite", 24, 24, 256),
    "overwrite_two_pages": Layout("overwrite", 20, 20, 512),
}
"""By the name of the recording. A trailer for so many more sectors takes two pages; swaps have a use for one slot that
is a page larger than the other."""


class Boot(NamedTuple):
    """How a boot ended, and what bootutil said on the console."""

    ended: str
    log: list[str]


class Chip(Protocol):
    """A chip with an MCUboot. Contents are bytes; places are a slot and an offset in it."""

    def load(self, old: bytes, new: bytes, base: int) -> None:
        """`old` in the primary slot, `new` in the secondary one from `base` on, everything else erased."""

    def boot(self, cut: int | None = None) -> Boot:
        """One boot, cut off before operation number `cut`."""

    def mark(self, *, permanent: bool) -> int: ...

    def confirm(self) -> int: ...

    def erase(self, slot: int, page: int) -> None: ...

    def clear(self, slot: int, offset: int) -> None:
        """Program a word with zeros."""

    def slot(self, number: int) -> bytes: ...


@cache
def image(version: str, size: int, seed: str) -> bytes:
    """An image of `size` bytes in all, with MCUboot's hash and no signature."""
    body = random.Random(seed).randbytes(size - OVERHEAD)
    head = ImageHeader(hdr_size=HEADER, img_size=len(body), version=Version.parse(version)).pack().ljust(HEADER, b"\0")
    digest = hashlib.sha256(head + body).digest()
    tlvs = TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest
    return head + body + TLV_INFO.pack(TLV_INFO_MAGIC, TLV_INFO.size + len(tlvs)) + tlvs


Row = dict[str, object]
Rows = Iterator[Row]


class Case:
    """One pair of images on one chip: steps, and what they leave behind."""

    def __init__(self, chip: Chip, layout: Layout, old: int, new: int) -> None:
        self.chip = chip
        self.layout = layout
        self.old, self.new = image("1.0.0", old, "old"), image("9.9.9", new, "new")
        self.base = PAGE if layout.swap == "offset" else 0
        self._known = numbered(self.old, self.new, PAGE)

    def prepare(self, *, permanent: bool = False) -> None:
        """The new image is uploaded and marked."""
        self.chip.load(self.old, self.new, self.base)
        self.chip.mark(permanent=permanent)

    def row(self, step: str, boot: Boot | None = None) -> Row:
        """Both slots as they are now."""
        found: Row = {"step": step}
        for number, status in enumerate(self.layout.status_at):
            content = self.chip.slot(number)
            pages = pages_of(content, self._known, PAGE, status)
            trailer = [
                [at, text] if len(text) <= 2 * AT_ONCE else [at, hashlib.sha256(bytes.fromhex(text)).hexdigest()]
                for at, text in trailer_of(content, status - status % PAGE)
            ]
            found[f"slot{number}"] = {"pages": pages, "trailer": trailer}
        return found if boot is None else {**found, "ended": boot.ended, "log": boot.log}

    def boots(self, *steps: str) -> Rows:
        for step in steps:
            yield self.row(step, self.chip.boot())

    def cuts(self, until: Callable[[], None], stride: int, *steps: str) -> Rows:
        """Cut what comes after `until` before its operations, one after the other; then the boots `steps`."""
        for number in itertools.count(0, stride):
            until()
            boot = self.chip.boot(number)
            if boot.ended != "cut off":
                return
            yield self.row(f"cut {number}", boot)
            yield from self.boots(*steps)


def lifecycle(case: Case) -> Rows:
    """Tested and confirmed, tested and reverted, permanent."""
    for end in ("confirm", "revert", "permanent"):
        case.prepare(permanent=end == "permanent")
        yield case.row(f"{end}: marked")
        yield from case.boots(f"{end}: swapped")
        if end == "confirm":
            case.chip.confirm()
            yield case.row("confirmed")
        yield from case.boots(f"{end}: next boot", f"{end}: boot after that")


def one_after_the_other(case: Case) -> Rows:
    """After an update the image that was replaced is marked again, at once or when the new one is confirmed."""
    for confirmed in (False, True):
        case.prepare()
        yield from case.boots("swapped")
        if confirmed:
            case.chip.confirm()
        case.chip.mark(permanent=False)
        yield case.row("marked again")
        yield from case.boots("swapped again", "next boot")


def damaged(case: Case) -> Rows:
    """The new image's body is not what its hash says; the old one's is not, which is to come back."""
    for permanent in (False, True):
        case.prepare(permanent=permanent)
        case.chip.clear(1, case.base + HEADER + 8)
        yield from case.boots("damaged", "next boot")
    case.prepare()
    yield from case.boots("swapped")
    case.chip.clear(1, HEADER + 8)
    yield from case.boots("damaged before the revert", "next boot")
    case.prepare()
    yield from case.boots("swapped")
    case.chip.erase(1, 0)
    yield from case.boots("erased before the revert", "next boot")
    case.prepare()
    case.chip.erase(1, case.base // PAGE)
    yield from case.boots("a mark without an image", "next boot")
    case.prepare()
    case.chip.clear(0, HEADER + 8)
    yield from case.boots("the old one is damaged", "next boot")
    case.prepare()
    case.chip.erase(0, 0)
    yield from case.boots("the old one is gone", "next boot")
    case.chip.load(case.old, case.new, case.base)
    yield from case.boots("not marked")
    case.chip.load(case.old, case.new, PAGE - case.base)
    case.chip.mark(permanent=False)
    yield from case.boots("in the wrong place", "next boot")
    case.chip.load(case.old, b"", case.base)
    case.chip.mark(permanent=False)
    yield from case.boots("nothing is marked", "next boot")


def cut_while_erasing(case: Case) -> Rows:
    """A damaged image is erased: the whole slot, page by page."""

    def until() -> None:
        case.prepare()
        case.chip.clear(1, case.base + HEADER + 8)

    yield from case.cuts(until, 1, "boot after the cut", "next boot")


def _swap_cuts(stride: int = 1, *, permanent: bool = False) -> Callable[[Case], Rows]:
    def rows(case: Case) -> Rows:
        yield from case.cuts(lambda: case.prepare(permanent=permanent), stride, "boot after the cut", "next boot")

    return rows


def _revert_cuts(stride: int = 1) -> Callable[[Case], Rows]:
    def rows(case: Case) -> Rows:
        def until() -> None:
            case.prepare()
            case.chip.boot()

        yield from case.cuts(until, stride, "boot after the cut", "next boot")

    return rows


def cut_again(case: Case) -> Rows:
    """The update back, cut: both slots have had their trailers already."""

    def until() -> None:
        case.prepare()
        case.chip.boot()
        case.chip.confirm()
        case.chip.mark(permanent=False)

    yield from case.cuts(until, 1, "boot after the cut", "next boot")


def cut_twice(case: Case) -> Rows:
    """What a cut swap's resumption does is cut again."""
    for first in range(0, 60, 5):

        def until(first: int = first) -> None:
            case.prepare()
            case.chip.boot(first)

        for row in case.cuts(until, 5, "boot after the cuts", "next boot"):
            yield {**row, "step": f"cut {first}, {row['step']}"}


def _sized(pages: int) -> int:
    """An image that ends in the last of so many pages."""
    return pages * PAGE - 300


Do = Callable[[Case], Rows]
PAIRS = {"equal": (3, 3), "larger": (2, 4), "smaller": (4, 2), "one page": (1, 1)}
"""Pages of the images, before and after an update."""


def cases(layout: Layout) -> dict[str, tuple[int, int, Do]]:
    """What is done with images of which sizes, by name."""
    largest = layout.largest
    swaps = layout.swap != "overwrite"
    found: dict[str, tuple[int, int, Do]] = {}
    for name, pages in PAIRS.items():
        old, new = map(_sized, pages)
        found[name] = (old, new, lifecycle)
        found[f"{name}, again"] = (old, new, one_after_the_other)
        found[f"{name}, damaged"] = (old, new, damaged)
        found[f"{name}, cut"] = (old, new, _swap_cuts())
        if swaps:
            found[f"{name}, again, cut"] = (old, new, cut_again)
            found[f"{name}, cut while it is reverted"] = (old, new, _revert_cuts())
    found["permanent, cut"] = (_sized(2), _sized(3), _swap_cuts(permanent=True))
    found["damaged, cut"] = (_sized(2), _sized(3), cut_while_erasing)
    found["cut twice"] = (_sized(2), _sized(2), cut_twice)
    found["largest"] = (largest, largest, lifecycle)
    found["largest, cut"] = (largest, largest, _swap_cuts(29))
    if not swaps:
        found["small over largest, cut"] = (largest, _sized(2), _swap_cuts())
    found["too large"] = (_sized(2), largest + 4, lifecycle)
    found["old too large"] = (largest + 4, _sized(2), lifecycle)
    return found


def rows_of(chip: Chip, layout: Layout, name: str) -> Rows:
    """Do one case; each row is what was left behind after a step."""
    old, new, do = cases(layout)[name]
    yield from do(Case(chip, layout, old, new))
