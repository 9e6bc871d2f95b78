"""Replays recorded exchanges of a real MCUboot against the simulated one, and compares all bytes and the flash.

    python -m pytest_nrfdfu.sim.replay [--images DIR] [--exclude FILE] [--json] FILE.jsonl.gz ...

The first line of a file tells how the recorded bootloader was built, each further line is a case: what lies in the
slots, the bytes sent and received in steps, and the SHA-256 of each slot afterwards. Nothing takes time here. Exits
with 1 if any case differs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Never

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.sim.bootloader import Bootloader
from pytest_nrfdfu.sim.firmware import Effect, Erase, Idle, Reboot, Send, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.smp.console import Decoder, Packet
from pytest_nrfdfu.smp.header import Header

__all__ = ["Difference", "Recording", "Result", "main", "replay"]

_ERASED = 0xFF
_SHOWN = 10
"""How many differences are printed."""

Pieces = tuple[tuple[str, int], ...]
"""What fills a slot: file names and offsets in bytes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: how its bootloader was built, and what was recorded."""

    variant: str
    profile: BootloaderProfile
    areas: tuple[SlotArea, ...]
    geometry: Geometry
    cases: tuple[dict[str, Any], ...]

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a .jsonl.gz file; ValueError if it asks for something that the simulation does not have."""
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head, *cases = (json.loads(line) for line in file if line.strip())
        options = head["options"]
        for name in ("raw_protocol", "peruser_groups"):
            if options.get(name):
                raise ValueError(f"{path}: {name} is not simulated")
        if options.get("erased_value", _ERASED) != _ERASED:
            raise ValueError(f"{path}: only flash that erases to 0xff is simulated")
        return cls(
            variant=head["variant"],
            profile=_profile(head["variant"], head.get("source", ""), options),
            areas=tuple(_areas(options["slots"], options["erase_page_size"])),
            geometry=Geometry(
                page=options["erase_page_size"],
                write_block=options["align"],
                max_align=options["max_align"],
                max_sectors=options["max_img_sectors"],
            ),
            cases=tuple(cases),
        )


def _profile(variant: str, source: str, options: dict[str, Any]) -> BootloaderProfile:
    return BootloaderProfile(
        name=variant,
        receive_size=options["receive_size"],
        line_length=options["line_length"],
        line_buffers=options["line_buffers"],
        images=options["images"],
        hash=options["hash"],
        image_state=options["image_state"],
        slot_info=options["slot_info"],
        echo=options["echo"],
        params=options["params"],
        direct_upload=options["direct_upload"],
        erase_progressively=options["progressive_erase"],
        swap=options["swap_mode"],
        slot_info_upload_id="doubled" if "sdk-mcuboot" in source else "secondary",
    )


def _areas(slots: Iterable[dict[str, Any]], page: int) -> Iterator[SlotArea]:
    """The slots, one behind another."""
    address = page
    for slot in slots:
        yield SlotArea(slot["name"], slot["image"], slot["slot"], address, slot["size"])
        address += slot["size"]


class Difference(NamedTuple):
    """The first thing in a case that was not as recorded."""

    case: str
    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.case}: {self.where}\n  expected {self.expected}\n  got      {self.got}"


@dataclass(slots=True)
class Result:
    """What replaying gave. Excluded cases are not counted."""

    total: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many cases were replayed."""
        return self.total.total()

    @property
    def identical(self) -> int:
        """How many of them were as recorded."""
        return self.cases - len(self.differences)

    def add(self, category: str, difference: Difference | None) -> None:
        """Count one case."""
        self.total[category] += 1
        if difference is not None:
            self.differing[category] += 1
            self.differences.append(difference)

    def merge(self, other: Result) -> None:
        """Add another file's result."""
        self.total += other.total
        self.differing += other.differing
        self.differences += other.differences

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "total": self.cases,
            "identical": self.identical,
            "categories": {
                name: {"total": count, "identical": count - self.differing[name]}
                for name, count in sorted(self.total.items())
            },
            "differences": [difference.case for difference in self.differences],
        }


def _no_application(area: SlotArea) -> Never:
    raise AssertionError(f"a bootloader that stays in recovery does not start {area.name}")


class _Device:
    """The recorded bootloader's stand-in: the simulated one, over flash that outlives its reboots."""

    def __init__(self, recording: Recording, flash: SparseFlash) -> None:
        self._recording = recording
        self._flash = flash
        self._boot()

    def _boot(self) -> None:
        self._bootloader = Bootloader(
            self._recording.profile,
            self._flash,
            self._recording.areas,
            start_application=_no_application,
            geometry=self._recording.geometry,
            stay_in_recovery=True,
        )
        self._main = self._bootloader.main()
        self._sent = bytearray()
        self._run()

    def step(self, data: bytes) -> bytes:
        """Send bytes, and return the answer. What comes after a request to reset is lost."""
        self._sent.clear()
        # Line by line: nothing was lost in the recordings for want of a line buffer.
        for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
            self._bootloader.interrupt(line)
            if not self._run():
                answer = bytes(self._sent)
                self._boot()
                return answer
        return bytes(self._sent)

    def _run(self) -> bool:
        """Run until the bootloader waits for input; False if it reboots."""
        for effect in self._main:
            if isinstance(effect, Idle):
                return True
            if isinstance(effect, Reboot):
                return False
            self._apply(effect)
        raise AssertionError("serial recovery does not end")

    def _apply(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._sent += effect.data
        elif isinstance(effect, Write):
            self._flash.write(effect.address, effect.data)
        elif isinstance(effect, Erase):
            self._flash.erase(effect.address)


class _Replayer:
    """Replays the cases of one recording."""

    def __init__(self, recording: Recording, images: Path) -> None:
        self._recording = recording
        self._images = images
        self._initial_hash = lru_cache(maxsize=None)(self._hash_of_pieces)
        self._file = lru_cache(maxsize=None)(self._read_file)

    def _read_file(self, name: str) -> bytes:
        return (self._images / name).read_bytes()

    def _fill(self, flash: SparseFlash, area: SlotArea, pieces: Pieces) -> None:
        for name, offset in pieces:
            flash.fill(area.address + offset, self._file(name))

    def _hash_of_pieces(self, area: SlotArea, pieces: Pieces) -> str:
        flash = SparseFlash(self._recording.geometry.page)
        self._fill(flash, area, pieces)
        return _digest(flash, area)

    def run(self, case: dict[str, Any]) -> Difference | None:
        """Replay one case; the first difference, or None."""
        flash = SparseFlash(self._recording.geometry.page)
        pieces = {area.name: _pieces(case["flash"].get(area.name)) for area in self._recording.areas}
        for area in self._recording.areas:
            self._fill(flash, area, pieces[area.name])
        device = _Device(self._recording, flash)
        for number, step in enumerate(case["steps"], 1):
            got = device.step(bytes.fromhex(step["tx"]))
            expected = bytes.fromhex(step["rx"])
            if got != expected:
                where = f"step {number}, after {describe(bytes.fromhex(step['tx']))}"
                return Difference(case["id"], where, describe(expected), describe(got))
        for area in self._recording.areas:
            if area.name not in case["after"]:
                continue
            touched = not flash.touched.isdisjoint(flash.page_numbers(area))
            digest = _digest(flash, area) if touched else self._initial_hash(area, pieces[area.name])
            if digest != case["after"][area.name]:
                return Difference(case["id"], f"{area.name} at the end", case["after"][area.name], digest)
        return None


def _pieces(content: str | list[list[Any]] | None) -> Pieces:
    if content is None:
        return ()
    if isinstance(content, str):
        return ((content, 0),)
    return tuple((name, offset) for name, offset in content)


def _digest(flash: SparseFlash, area: SlotArea) -> str:
    digest = hashlib.sha256()
    for page in flash.pages(area):
        digest.update(page)
    return digest.hexdigest()


def describe(data: bytes) -> str:
    """Bytes on the wire, readable: packets decoded, the rest as it is."""
    import cbor2

    if not data:
        return "silence"
    decoder = Decoder()
    parts = []
    for event in [*decoder.feed(data), *decoder.flush()]:
        if not isinstance(event, Packet):
            parts.append(repr(event))
            continue
        header, payload = Header.unpack(event.data), event.data[8:]
        try:
            body = repr(cbor2.loads(payload))
        except (cbor2.CBORDecodeError, ValueError, OverflowError):
            body = payload.hex(" ")
        parts.append(f"{tuple(header)} {body}")
    text = "; ".join(parts)
    return text if len(text) <= 1000 else f"{text[:1000]}... ({len(data)} bytes)"


def replay(recording: Recording, images: Path, excluded: Iterable[str] = ()) -> Result:
    """Replay a recording. `images` is the folder with the files that fill the slots."""
    skip = frozenset(excluded)
    replayer = _Replayer(recording, images)
    result = Result()
    for case in recording.cases:
        if case["id"] not in skip:
            result.add(case["category"], replayer.run(case))
    return result


def load_exclusions(path: Path, variant: str) -> list[str]:
    """The ids of `variant`'s cases that were decided by what lay below MCUboot when it was recorded."""
    ids: list[str] = json.loads(path.read_text(encoding="utf-8"))["ids"].get(variant, [])
    return ids


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pytest_nrfdfu.sim.replay", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl.gz")
    parser.add_argument("--images", type=Path, help="default: the folder images beside the file")
    parser.add_argument("--exclude", type=Path, help="default: exclusions.json beside the file, if there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def _replay_file(path: Path, images: Path | None, exclude: Path | None) -> Result:
    recording = Recording.load(path)
    if exclude is None and (path.parent / "exclusions.json").exists():
        exclude = path.parent / "exclusions.json"
    excluded = [] if exclude is None else load_exclusions(exclude, recording.variant)
    return replay(recording, images or path.parent / "images", excluded)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    options = _parse(argv)
    result = Result()
    for path in options.files:
        result.merge(_replay_file(path, options.images, options.exclude))
    if options.json:
        sys.stdout.write(json.dumps(result.as_json()) + "\n")
    else:
        _print(result)
    return 1 if result.differences else 0


def _print(result: Result) -> None:
    out = sys.stdout
    for difference in result.differences[:_SHOWN]:
        out.write(f"{difference}\n")
    for name, count in sorted(result.total.items()):
        out.write(f"{name:12} {count - result.differing[name]}/{count}\n")
    out.write(f"{'all':12} {result.identical}/{result.cases}\n")


if __name__ == "__main__":
    sys.exit(main())
