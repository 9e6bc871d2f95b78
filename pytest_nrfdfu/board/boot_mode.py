"""The retained boot mode: its bytes, and how the debug probe leaves them where MCUboot looks.

Sources: Zephyr, subsys/retention/retention.c (an area is prefix, data, checksum; the checksum is over the data alone,
begins at 0 and lies in memory as the processor keeps it, little endian), include/zephyr/retention/bootmode.h, and for
the registers boards/nordic/nrf5340dk (boot_mode0 in gpregret1, which is GPREGRET[0]).
"""

from __future__ import annotations

import binascii
from typing import Protocol

from pytest_nrfdfu.config_types import BootModeConfig
from pytest_nrfdfu.errors import ProbeError

__all__ = ["Memory", "RetainedBootMode", "checksum", "retained_bytes"]

_REGISTERS = frozenset({0x5000551C, 0x50005520, 0x4000551C, 0x40005520})
"""GPREGRET[0] and [1], secure and not (nRF5340 product specification, RESET): one byte each, 4 apart."""
_BYTE, _WORD = 0xFF, 4
_CRC8_POLYNOMIAL = 0x12


class Memory(Protocol):
    """The target's memory, a word at a time: the rig."""

    def read32(self, address: int) -> int:
        """A word."""

    def write32(self, address: int, value: int) -> None:
        """Write a word."""


def _crc8(data: bytes) -> int:
    """Zephyr's crc8() as retention.c calls it: not reflected, from 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC8_POLYNOMIAL if crc & 0x80 else 0)) & _BYTE
    return crc


def checksum(kind: str, data: bytes) -> bytes:
    """The checksum over retained data: ``none``, ``crc8``, ``crc16`` (ITU-T) or ``crc32`` (IEEE)."""
    match kind:
        case "crc8":
            return bytes([_crc8(data)])
        case "crc16":
            return binascii.crc_hqx(data, 0).to_bytes(2, "little")
        case "crc32":
            return binascii.crc32(data).to_bytes(4, "little")
        case _:
            return b""


def retained_bytes(settings: BootModeConfig) -> bytes:
    """All bytes of the retention area."""
    data = bytes([settings.value])
    return bytes.fromhex(settings.prefix) + data + checksum(settings.checksum, data)


class RetainedBootMode:
    """The retention area of a chip that is open to the debugger. Every method raises ProbeError where it fails."""

    def __init__(self, memory: Memory, settings: BootModeConfig) -> None:
        self._memory = memory
        self._address = settings.address
        self.wanted = retained_bytes(settings)

    def write(self) -> None:
        """Leave the boot mode, and read it back."""
        self._store(self.wanted)
        found = self.read()
        if found != self.wanted:
            raise ProbeError(
                f"the boot mode was written to 0x{self._address:08x} as {self.wanted.hex(' ')} and reads back as"
                f" {found.hex(' ')}: is it the address of the bootloader's retention area ([recovery.boot_mode])?"
            )

    def clear(self) -> None:
        """Take it back, as bootmode_clear() does."""
        self._store(bytes(len(self.wanted)))

    def read(self) -> bytes:
        """What is there now."""
        if self._address in _REGISTERS:
            return bytes(self._memory.read32(self._register(index)) & _BYTE for index in range(len(self.wanted)))
        first, data = self._words()
        return data[self._address - first :][: len(self.wanted)]

    def _register(self, index: int) -> int:
        return self._address + _WORD * index

    def _words(self) -> tuple[int, bytes]:
        """The whole words that the area lies in: their address and content."""
        first = self._address & ~(_WORD - 1)
        words = range(first, self._address + len(self.wanted), _WORD)
        return first, b"".join(self._memory.read32(address).to_bytes(_WORD, "little") for address in words)

    def _store(self, data: bytes) -> None:
        if self._address in _REGISTERS:
            for index, byte in enumerate(data):
                self._memory.write32(self._register(index), byte)
            return
        first, old = self._words()
        offset = self._address - first
        new = old[:offset] + data + old[offset + len(data) :]
        for at in range(0, len(new), _WORD):
            self._memory.write32(first + at, int.from_bytes(new[at : at + _WORD], "little"))
