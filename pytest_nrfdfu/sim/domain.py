"""One core of the simulated nRF5340 with its memories and registers, as the CPU and the core's AHB-AP see them.

Sources: nRF5340 product specification (chapters Memory, NVMC, FICR, UICR); nRF5340 MDK (``nrf5340_application.svd``,
``system_nrf53_approtect.h``).
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple, TypeAlias

from pytest_nrfdfu.sim.core import APPLICATION, NETWORK, PPB_END, PPB_START, CoreTraits, DebugCore

__all__ = [
    "APPLICATION_DOMAIN",
    "APPROTECT",
    "NETWORK_DOMAIN",
    "NVMC_ERASEALL",
    "SECUREAPPROTECT",
    "UNPROTECTED",
    "Buffer",
    "BusFault",
    "Counters",
    "Domain",
    "Hook",
    "Layout",
    "ResetCause",
]

Buffer: TypeAlias = bytearray | mmap.mmap

_WORD = 0xFFFFFFFF
_INFORMATION_SIZE = 0x1000
"""FICR and UICR, each."""
_FICR_DEVICEID = 0x204
"""FICR.INFO.DEVICEID[0..1], followed by INFO.PART."""
_PART = 0x5340
APPROTECT, SECUREAPPROTECT = 0x000, 0x01C
"""Offsets in UICR."""
UNPROTECTED = 0x50FA50FA
"""The only value of UICR.APPROTECT and UICR.SECUREAPPROTECT that leaves access open."""
_NOT_ERASE_PROTECTED = _WORD
_PERIPHERALS_START, _PERIPHERALS_END = 0x40000000, 0x60000000
_SECURE = 0x10000000
"""Address bit that tells a peripheral's secure alias (0x5...) from its non-secure one (0x4...)."""
_NVMC_READY, _NVMC_READYNEXT, _NVMC_CONFIG, NVMC_ERASEALL = 0x400, 0x408, 0x504, 0x50C
"""Offsets in a non-volatile memory controller."""


class _NvmcConfig(IntEnum):
    READ_ONLY = 0
    WRITE_ENABLE = 1
    ERASE_ENABLE = 2


class ResetCause(IntFlag):
    """Bits of RESETREAS; POWER_ON leaves none."""

    POWER_ON = 0
    RESETPIN = 1 << 0
    DOG0 = 1 << 1
    CTRLAP = 1 << 2
    SREQ = 1 << 3
    LOCKUP = 1 << 4
    OFF = 1 << 5
    LPCOMP = 1 << 6
    DIF = 1 << 7
    NFC = 1 << 24
    DOG1 = 1 << 25
    VBUS = 1 << 26


class BusFault(Exception):
    """A debugger's access that the chip's bus refuses."""


@dataclass(slots=True)
class Counters:
    """What has happened to a chip, for tests to look at."""

    resets: Counter[ResetCause] = field(default_factory=Counter)
    erase_all: int = 0
    """Mass erases, of either core."""
    debugger_writes: int = 0
    """Flash and UICR words written through the debug port."""
    debugger_erases: int = 0
    """Flash pages erased through the debug port."""


class Layout(NamedTuple):
    """Where a core has its memories. Addresses of peripherals are the secure aliases."""

    traits: CoreTraits
    flash_base: int
    flash_size: int
    page_size: int
    ram_base: int
    ram_size: int
    uicr: int
    ficr: int
    nvmc: int
    eraseprotect: int
    """Offset of UICR.ERASEPROTECT."""


APPLICATION_DOMAIN = Layout(
    APPLICATION,
    flash_base=0,
    flash_size=0x100000,
    page_size=0x1000,
    ram_base=0x20000000,
    ram_size=0x80000,
    uicr=0x00FF8000,
    ficr=0x00FF0000,
    nvmc=0x50039000,
    eraseprotect=0x020,
)
NETWORK_DOMAIN = Layout(
    NETWORK,
    flash_base=0x01000000,
    flash_size=0x40000,
    page_size=0x800,
    ram_base=0x21000000,
    ram_size=0x10000,
    uicr=0x01FF8000,
    ficr=0x01FF0000,
    nvmc=0x51080000,
    eraseprotect=0x004,
)


class Hook(NamedTuple):
    """A register that does something."""

    read: Callable[[], int]
    write: Callable[[int], None]


class Domain:
    """One core with its memories. `hooks` are its registers that do something; the others keep what is written."""

    def __init__(
        self,
        layout: Layout,
        flash: Buffer,
        counters: Counters,
        *,
        request_reset: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        if len(flash) != layout.flash_size:
            raise ValueError(f"this core's flash has {layout.flash_size} bytes, not {len(flash)}")
        self.layout = layout
        self.flash = flash
        self.ram = bytearray(layout.ram_size)
        self.core = DebugCore(layout.traits, request_reset=request_reset, changed=changed, vector=self._vector)
        self.hooks: dict[int, Hook] = {}
        self.other_ram: tuple[int, bytearray] | None = None
        """The other core's RAM, which this one can reach, and where."""
        self.held_by_ctrl_ap = False
        self.open = True
        """Access port protection lets the AHB-AP through."""
        self.secure_open = True
        """It does so to secure addresses too."""
        self._counters = counters
        self._uicr = _erased(_INFORMATION_SIZE)
        self._ficr = _erased(_INFORMATION_SIZE)
        self._registers: dict[int, int] = {}

    def _vector(self) -> tuple[int, int]:
        return _load(self.flash, 0), _load(self.flash, 4)

    def personalize(self, device_id: bytes, *, locked: bool, secure_locked: bool) -> None:
        """Write what the factory (FICR) and production (UICR) write."""
        struct.pack_into("<8sI", self._ficr, _FICR_DEVICEID, device_id, _PART)
        _store(self._uicr, APPROTECT, 0 if locked else UNPROTECTED)
        if self.layout.traits.security:
            _store(self._uicr, SECUREAPPROTECT, 0 if locked or secure_locked else UNPROTECTED)

    @property
    def erase_protected(self) -> bool:
        """UICR.ERASEPROTECT blocks ERASEALL."""
        return _load(self._uicr, self.layout.eraseprotect) != _NOT_ERASE_PROTECTED

    def reset(self) -> None:
        """Warm reset: registers start over, and UICR's APPROTECT and SECUREAPPROTECT decide on the access port."""
        self._registers.clear()
        opens_secure = not self.layout.traits.security or _load(self._uicr, SECUREAPPROTECT) == UNPROTECTED
        self.set_access(open_=_load(self._uicr, APPROTECT) == UNPROTECTED, secure=opens_secure)
        self.core.reset()

    def set_access(self, *, open_: bool, secure: bool) -> None:
        """What a debugger may reach; to halt secure code it must be let through to secure addresses."""
        self.open = open_
        self.secure_open = self.core.secure_debug = open_ and secure

    def clear_ram(self) -> None:
        """RAM without power, or after ERASEALL; 0 stands for what may be anything."""
        self.ram[:] = bytes(len(self.ram))

    def erase_all(self) -> None:
        """Flash, UICR, RAM and peripheral settings go. The access port opens, and the CPU locks up."""
        self.flash[:] = _erased(len(self.flash))
        self._uicr[:] = _erased(_INFORMATION_SIZE)
        self.clear_ram()
        self._registers.clear()
        self.set_access(open_=True, secure=True)
        self.core.locked_up = True

    # The CPU's view.

    def find(self, address: int, size: int) -> tuple[Buffer, int] | None:
        """The memory that holds `size` bytes from `address` on, and their offset in it."""
        for base, memory in self._memories():
            if base <= address and address + size <= base + len(memory):
                return memory, address - base
        return None

    def erase(self, address: int) -> None:
        """Erase the flash page that begins at `address`."""
        offset, size = address - self.layout.flash_base, self.layout.page_size
        if offset % size:
            raise ValueError(f"no flash page begins at 0x{address:08x}")
        self.flash[offset : offset + size] = _erased(size)

    def program(self, address: int, data: bytes) -> None:
        """Clear the bits in flash that are 0 in `data`."""
        offset = address - self.layout.flash_base
        if address % 4 or len(data) % 4:
            raise ValueError(f"flash is written in words, not {len(data)} bytes at 0x{address:08x}")
        old = self.flash[offset : offset + len(data)]
        if len(old) != len(data):
            raise ValueError(f"{len(data)} bytes at 0x{address:08x} end outside of flash")
        new = int.from_bytes(old, "little") & int.from_bytes(data, "little")
        self.flash[offset : offset + len(data)] = new.to_bytes(len(data), "little")

    # The AHB-AP's view.

    def bus_read(self, address: int) -> int:
        """The word at `address`, a multiple of 4; BusFault where there is nothing."""
        if PPB_START <= address < PPB_END:
            return self.core.read(address)
        self._check_bus(address)
        if (found := self.find(address, 4)) is not None:
            return _load(*found)
        address = _secure(address)
        if address in self.hooks:
            return self.hooks[address].read()
        if address - self.layout.nvmc in (_NVMC_READY, _NVMC_READYNEXT):
            return 1
        return self._registers.get(address, 0)

    def bus_write(self, address: int, value: int, mask: int = _WORD) -> None:
        """Write the bits in `mask` of the word at `address`, a multiple of 4; BusFault where that is not possible."""
        if PPB_START <= address < PPB_END:
            _require_word(address, mask)
            self.core.write(address, value)
            return
        self._check_bus(address)
        if (found := self.find(address, 4)) is not None:
            self._write_memory(address, *found, value, mask)
            return
        address = _secure(address)
        if address in self.hooks:
            self.hooks[address].write(value & mask)
        else:
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask

    @property
    def erase_enabled(self) -> bool:
        """NVMC.CONFIG is EEN."""
        return self._nvmc_config == _NvmcConfig.ERASE_ENABLE

    @property
    def _nvmc_config(self) -> int:
        return self._registers.get(self.layout.nvmc + _NVMC_CONFIG, _NvmcConfig.READ_ONLY)

    def _check_bus(self, address: int) -> None:
        if self.core.in_reset:  # unverified: whether memory can be accessed meanwhile
            raise BusFault("the core is held in reset")
        non_secure = _PERIPHERALS_START <= address < _PERIPHERALS_START + _SECURE
        if self.open and not (self.secure_open or non_secure):
            raise BusFault(f"0x{address:08x} is secure, and SECUREAPPROTECT is on")

    def _memories(self) -> Iterator[tuple[int, Buffer]]:
        yield self.layout.flash_base, self.flash
        yield self.layout.ram_base, self.ram
        yield self.layout.uicr, self._uicr
        yield self.layout.ficr, self._ficr
        if self.other_ram is not None:
            yield self.other_ram

    def _write_memory(self, address: int, memory: Buffer, offset: int, value: int, mask: int) -> None:
        if memory is self._ficr:
            raise BusFault(f"0x{address:08x} is read-only")
        if memory is not self.flash and memory is not self._uicr:
            _store(memory, offset, _load(memory, offset) & ~mask | value & mask)
            return
        _require_word(address, mask)
        if self._nvmc_config == _NvmcConfig.WRITE_ENABLE:
            _store(memory, offset, _load(memory, offset) & value)
            self._counters.debugger_writes += 1
        elif self.erase_enabled and memory is self.flash and value == _WORD and not offset % self.layout.page_size:
            self.erase(address)
            self._counters.debugger_erases += 1
        else:
            raise BusFault(f"NVMC.CONFIG is {self._nvmc_config}: it allows no such write at 0x{address:08x}")


def _require_word(address: int, mask: int) -> None:
    if mask != _WORD:
        raise BusFault(f"0x{address:08x} takes whole words only")


def _secure(address: int) -> int:
    """The secure alias of a peripheral's address; BusFault where there are no peripherals."""
    if not _PERIPHERALS_START <= address < _PERIPHERALS_END:
        raise BusFault(f"nothing is at 0x{address:08x}")
    return address | _SECURE


def _erased(size: int) -> bytearray:
    return bytearray(b"\xff") * size


def _load(memory: Buffer, offset: int) -> int:
    return int.from_bytes(memory[offset : offset + 4], "little")


def _store(memory: Buffer, offset: int, value: int) -> None:
    memory[offset : offset + 4] = (value & _WORD).to_bytes(4, "little")
