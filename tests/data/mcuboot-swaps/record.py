"""Records what a real MCUboot makes of its slots: an emulated nRF51, swap using offset.

    python tests/data/mcuboot-swaps/record.py FOLDER offset_m0.jsonl.gz

FOLDER is tests/fixtures/smp-server of smpclient's source distribution. README.md beside this file has the format.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

_TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(_TESTS), str(_TESTS / "interop")]

import firmware
import servers
from application_link import Link, save
from swap_dump import (
    DONE_AT,
    ERASED,
    HEADER,
    INFO_AT,
    MAGIC_AT,
    MAX_ALIGN,
    OK_AT,
    PAGE,
    PAGES,
    SIZE_AT,
    SLOT_SIZE,
    SLOTS,
    STATUS_AT,
    WRITE_BLOCK,
    numbered,
    pages_of,
    trailer_of,
)

from pytest_nrfdfu.image.format import TRAILER_MAGIC
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.smp.header import Header

PAIRS = (("equal", 0x2400, 0x2480), ("smaller", 0x2400, 0x400), ("larger", 0x800, 0x2C00), ("one page", 0x100, 0x140))
"""Sizes of the code, in bytes, before and after an update."""
IN_PAGE = 0x10
"""Where in a page it is cut: early enough for the last page of every image."""
BANNER = b"smp_sample: build time"
DECIDED = b"Jumping to the first image slot", b"Unable to find bootable image"


class Bench:
    """The emulated chip and its UART."""

    def __init__(self, emulator: servers.Lasting) -> None:
        self.gdb, self.link = emulator.gdb, Link(emulator.port)
        self.known = numbered(b"", b"")
        self._sequence = 0
        self.gdb.run()
        self.link.wait_text(BANNER)
        self.gdb.stop()

    def prepare(self, old: bytes, new: bytes, *, permanent: bool | None = None) -> None:
        """`old` in slot 0 and `new` where an upload puts it; with its mark, unless that is None."""
        self.known = numbered(old, new)
        first, second = SLOTS
        self.gdb.write(first, old.ljust(SLOT_SIZE, ERASED))
        self.gdb.write(second, (ERASED * PAGE + new).ljust(SLOT_SIZE, ERASED))
        if permanent is None:
            return
        self.gdb.write(second + MAGIC_AT, TRAILER_MAGIC)
        if permanent:
            self.gdb.write(second + OK_AT, b"\x01")
        self.gdb.write(second + INFO_AT, b"\x03" if permanent else b"\x02")

    def reset(self, *until: bytes) -> None:
        """Reset and run. Stops when the UART has said one of `until`."""
        self.gdb.reset()
        self.link.forget()
        self.gdb.run()
        self.link.wait_text(*until)
        self.gdb.stop()

    def state(self, **payload: object) -> None:
        """Set an image's state through the running application."""
        self.gdb.run()
        self._sequence += 1
        body = dumps(payload)
        assert self.link.ask(Header(2, 1, 0, self._sequence, len(body), 1).pack() + body) is not None
        self.gdb.stop()

    def seen(self, name: str, **more: object) -> dict:
        """Both slots as they are now."""
        found: dict = {"step": name, **more}
        for number, start in enumerate(SLOTS):
            content = self.gdb.read(start, SLOT_SIZE)
            found[f"slot{number}"] = {"pages": pages_of(content, self.known), "trailer": trailer_of(content)}
        found["log"] = [line for line in self.link.text.decode(errors="replace").splitlines() if line[1:3] == ": "]
        return found


def lifecycles(bench: Bench, old: bytes, new: bytes) -> Iterator[dict]:
    """Tested and confirmed, tested and reverted, permanent: with an application that runs from either image."""
    for end in ("confirm", "revert"):
        bench.prepare(old, new)
        bench.reset(BANNER)
        yield bench.seen(f"{end}: uploaded")
        bench.state(hash=new[-32:], confirm=False)
        yield bench.seen(f"{end}: marked for a test")
        bench.reset(BANNER)
        yield bench.seen(f"{end}: swapped")
        if end == "confirm":
            bench.state(confirm=True)
            yield bench.seen("confirm: confirmed")
        bench.reset(BANNER)
        yield bench.seen(f"{end}: next boot")
        bench.reset(BANNER)
        yield bench.seen(f"{end}: boot after that")
    bench.prepare(old, new)
    bench.reset(BANNER)
    bench.state(hash=new[-32:], confirm=True)
    yield bench.seen("permanent: marked")
    bench.reset(BANNER)
    yield bench.seen("permanent: swapped")
    bench.reset(BANNER)
    yield bench.seen("permanent: next boot")


def cuts(bench: Bench, name: str, old: bytes, new: bytes, where: list[tuple[int, int]]) -> Iterator[dict]:
    """A swap that is cut when something is first written at (slot, offset), the boot after that, and the next one."""
    sizes = {"old_size": len(old), "new_size": len(new)}
    bench.prepare(old, new, permanent=False)
    bench.reset(*DECIDED)
    yield bench.seen(f"{name}: swapped", **sizes)
    for slot, offset in where:
        bench.prepare(old, new, permanent=False)
        address = SLOTS[slot] + offset
        bench.link.forget()
        bench.gdb.reset()
        bench.gdb.break_at_write(address)
        bench.gdb.run()
        bench.gdb.wait_stopped()
        bench.gdb.no_break_at_write(address)
        place = {**sizes, "cut": [slot, offset]}
        yield bench.seen(f"{name}: cut", **place)
        bench.reset(*DECIDED)
        yield bench.seen(f"{name}: boot after the cut", **place)
        bench.reset(*DECIDED)
        yield bench.seen(f"{name}: next boot", **place)


def other_image(size: int, version: str = "9.9.9") -> bytes:
    """An image of `size` bytes of code that shares no page with another one. All that it does is to stand still."""
    start = SLOTS[0] + HEADER
    stack, stand_still = 0x20001000, start + 0x40
    vectors = b"".join(word.to_bytes(4, "little") for word in [stack, *[stand_still | 1] * 15])
    filling = b"".join(
        (at * 2654435761 + ord(version[0]) & 0xFFFFFFFF).to_bytes(4, "little") for at in range(1, size // 4 + 1)
    )
    body = (vectors + bytes.fromhex("fee7fee7") + filling)[:size]  # a branch to itself
    return firmware.sign(body, version, header_size=HEADER, slot_size=SLOT_SIZE)


def places(old: int, new: int) -> list[tuple[int, int]]:
    """Where to cut a swap of so many pages: at notes of the status, and in the middle of a page."""
    pages = max(old, new)
    notes = [
        (0, STATUS_AT + 2 * WRITE_BLOCK * page + WRITE_BLOCK * half)
        for page in sorted({0, min(1, pages - 1), pages // 2, max(0, pages - 2), pages - 1})
        for half in (0, 1)
    ]
    middles = [
        (slot, page * PAGE + IN_PAGE)
        for slot, own in ((0, new), (1, old))
        for page in sorted({0, min(1, own - 1), own // 2, own - 1})
    ]
    fields = [(0, offset) for offset in (MAGIC_AT, SIZE_AT, SIZE_AT + MAX_ALIGN, INFO_AT, DONE_AT)]
    return [*notes, (0, 0), (1, 0), *middles, *fields]


def main() -> None:
    folder = Path(sys.argv[1])
    entry = servers.server(folder, "serial", "qemu_cortex_m0")
    old = (folder / entry["artifact"].replace(".merged.hex", ".signed.bin")).read_bytes()
    size = int.from_bytes(old[12:16], "little")
    new = firmware.sign(old[HEADER : HEADER + size], "9.9.9", header_size=HEADER, slot_size=SLOT_SIZE)
    head = {
        "server": entry["artifact"],
        "swap": "offset",
        "page": PAGE,
        "slot_size": SLOT_SIZE,
        "write_block": WRITE_BLOCK,
        "max_align": MAX_ALIGN,
        "max_sectors": PAGES,
    }
    with servers.lasting_emulator(folder, entry) as emulator:
        bench = Bench(emulator)
        found = [*lifecycles(bench, old, new)]
        for name, before, after in PAIRS:
            images = other_image(before, "1.0.0"), other_image(after)
            where = places(*(-(-len(each) // PAGE) for each in images))
            found += cuts(bench, name, *images, where)
    save(Path(sys.argv[2]), [head, *found])


if __name__ == "__main__":
    main()
