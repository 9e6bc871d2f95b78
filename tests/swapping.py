"""MCUboot's swaps without time and chip: flash with two slots, boots that are cut off at a chosen effect."""

import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import firmware

from pytest_nrfdfu.image.bootloader import BootloaderProfile, Swap
from pytest_nrfdfu.sim.bootloader import Bootloader
from pytest_nrfdfu.sim.firmware import Erase, FlashTiming, Send, Start, Write
from pytest_nrfdfu.sim.slots import Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.sim.trailer import Trailers

PAGE = 4096
SLOT_PAGES = 12
SLOTS = (
    SlotArea("slot0", image=0, slot=0, address=0x10000, size=SLOT_PAGES * PAGE),
    SlotArea("slot1", image=0, slot=1, address=0x80000, size=SLOT_PAGES * PAGE),
)
Cut = Literal["before", "half", "done", "garbage"]
"""How the last effect before the reset ends: not begun, done by half, done, or (an erase) with anything in the page."""


@lru_cache
def image(version: str, size: int) -> bytes:
    """A signed image whose body has `size` random bytes."""
    return firmware.sign(random.Random(f"{version} {size}").randbytes(size), version)


class Boot(NamedTuple):
    """How a boot went. `effects` are those on flash."""

    ended: Literal["started", "cut off", "nothing boots"]
    effects: list[Erase | Write]
    log: str

    @property
    def seconds(self) -> float:
        """How long flash took."""
        return sum(map(FlashTiming().of, self.effects))


class Application:
    """Stands for the program that is started."""

    def __init__(self, area):
        self.area = area


@dataclass
class Board:
    """Flash with two slots, and an MCUboot for it."""

    swap: Swap
    old: bytes = b""
    new: bytes = b""
    flash: SparseFlash = field(default_factory=lambda: SparseFlash(PAGE))
    areas: tuple[SlotArea, ...] = SLOTS
    geometry: Geometry = field(default_factory=Geometry)

    def __post_init__(self):
        self.profile = BootloaderProfile(name="test", swap=self.swap)
        self.trailers = Trailers(Slots(self.flash, self.areas, self.geometry), self.swap)

    def load(self):
        """The old image where it runs, the new one where it waits."""
        self.flash.fill(self.areas[0].address, self.old)
        self.stage(self.new)
        return self

    def stage(self, data):
        """Put an image in slot 1, where the swap algorithm wants it."""
        for page in range(self.areas[1].size // self.geometry.page):
            self.flash.erase(self.areas[1].address + page * self.geometry.page)
        base = self.geometry.page if self.swap == "offset" else 0
        self.flash.fill(self.areas[1].address + base, data)

    def do(self, effects):
        """Carry out what an application does to flash; returns its result."""
        while True:
            try:
                effect = next(effects)
            except StopIteration as end:
                return end.value
            self.flash.write(effect.address, effect.data)

    def mark(self, *, permanent=False):
        assert self.do(self.trailers.set_pending(0, permanent=permanent)) == 0
        return self

    def confirm(self):
        assert self.do(self.trailers.set_confirmed(0)) == 0
        return self

    def copy(self):
        """A board with the same flash."""
        flash = SparseFlash(self.geometry.page)
        flash._pages.update(self.flash._pages)
        return Board(self.swap, self.old, self.new, flash, self.areas, self.geometry)

    def boot(self, *, at=None, cut="before", log=False, seed=0):
        """One boot; with `at` it is cut off at the effect of that number."""
        program = Bootloader(
            self.profile, self.flash, self.areas, start_application=Application, geometry=self.geometry, log=log
        )
        effects, text = [], b""
        for effect in program.main():
            match effect:
                case Erase() | Write():
                    if len(effects) == at:
                        self._cut(effect, cut, seed)
                        return Boot("cut off", effects, text.decode())
                    effects.append(effect)
                    self._apply(effect)
                case Send(data=data):
                    text += data
                case Start():
                    return Boot("started", effects, text.decode())
        return Boot("nothing boots", effects, text.decode())

    def _apply(self, effect):
        if isinstance(effect, Erase):
            self.flash.erase(effect.address)
        else:
            self.flash.write(effect.address, effect.data)

    def _cut(self, effect, cut, seed):
        if cut == "done":
            self._apply(effect)
        elif cut != "before" and isinstance(effect, Write):
            words = len(effect.data) // 8
            if words:
                self.flash.write(effect.address, effect.data[: words * 4])
        elif cut != "before":
            size = self.geometry.page
            rest = self.flash.read(effect.address, size)
            left = random.Random(seed).randbytes(size) if cut == "garbage" else rest[: size // 2].ljust(size, b"\xff")
            self.flash.erase(effect.address)
            self.flash.fill(effect.address, left)

    @property
    def runs(self):
        """Which image slot 0 holds, bit for bit: "old", "new" or "neither"."""
        start = self.areas[0].address
        for name, data in (("old", self.old), ("new", self.new)):
            if data and self.flash.read(start, len(data)) == data:
                return name
        return "neither"

    @property
    def kept(self):
        """Which image slot 1 holds where one may be: "old", "new", or "nothing" whole."""
        for name, data in (("old", self.old), ("new", self.new)):
            for base in (0, self.geometry.page):
                if self.flash.read(self.areas[1].address + base, len(data)) == data:
                    return name
        return "nothing"
