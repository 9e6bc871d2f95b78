"""The boot mode that survives a reset, as Zephyr's retention subsystem keeps it: prefix, mode, checksum.

Sources: Zephyr, subsys/retention/retention.c (layout, checksums, what clearing and an absent checksum mean),
subsys/retention/bootmode.c and include/zephyr/retention/bootmode.h (what is kept: one byte);
boards/nordic/nrf5340dk (GPREGRET[0], neither prefix nor checksum).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["RAM_ADDRESS", "Checksum", "RetainedMemory", "Retention", "crc8"]

Checksum = Literal["none", "crc8", "crc16", "crc32"]
_CHECKSUM_SIZES: dict[Checksum, int] = {"none": 0, "crc8": 1, "crc16": 2, "crc32": 4}
_CRC8_POLYNOMIAL = 0x12
_MODE_SIZE = 1
_REGISTERS = 2
"""GPREGRET[0] and [1], of which 8 bits each are used."""
RAM_ADDRESS = 0x2003FF00
"""Where an area that does not fit GPREGRET lies: at the end of the lower half of the application core's RAM, below what
stands for the network core's slot. A real one lies where the board's devicetree puts it."""


class RetainedMemory(Protocol):
    """What of the chip keeps its content over a soft reset."""

    gpregret: list[int]

    def read(self, address: int, size: int) -> bytes:
        """Read RAM."""

    def write_ram(self, address: int, data: bytes) -> None:
        """Write RAM."""


def crc8(data: bytes) -> int:
    """CRC8 with polynomial 0x12 and initial value 0, not reflected, as the retention subsystem has it."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC8_POLYNOMIAL if crc & 0x80 else 0)) & 0xFF
    return crc


@dataclass(frozen=True, slots=True)
class Retention:
    """A retention area for the boot mode. It lies in GPREGRET[0] and [1] where it fits, else in RAM.

    Zephyr's driver for GPREGRET has a device for each register; one that spans both is a product's own.
    """

    prefix: bytes = b""
    checksum: Checksum = "none"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.prefix) + _MODE_SIZE + _CHECKSUM_SIZES[self.checksum]

    @property
    def in_registers(self) -> bool:
        """Whether GPREGRET is large enough."""
        return self.size <= _REGISTERS

    def encode(self, mode: int) -> bytes:
        """The area's content for a boot mode: the checksum is over the mode alone, and little-endian."""
        data = bytes([mode])
        checks = {"none": 0, "crc8": crc8(data), "crc16": binascii.crc_hqx(data, 0), "crc32": binascii.crc32(data)}
        return self.prefix + data + checks[self.checksum].to_bytes(_CHECKSUM_SIZES[self.checksum], "little")

    def mode(self, memory: RetainedMemory) -> int | None:
        """The boot mode; None where prefix or checksum are wrong. Without either, whatever is there counts."""
        found = self._read(memory)
        mode = found[len(self.prefix)]
        return mode if found == self.encode(mode) else None

    def set(self, memory: RetainedMemory, mode: int) -> None:
        """Keep a boot mode (bootmode_set)."""
        self._write(memory, self.encode(mode))

    def clear(self, memory: RetainedMemory) -> None:
        """Fill the area with zeros, its prefix too (retention_clear)."""
        self._write(memory, bytes(self.size))

    def _read(self, memory: RetainedMemory) -> bytes:
        if self.in_registers:
            return bytes(memory.gpregret[: self.size])
        return memory.read(RAM_ADDRESS, self.size)

    def _write(self, memory: RetainedMemory, data: bytes) -> None:
        if self.in_registers:
            memory.gpregret[: len(data)] = data
        else:
            memory.write_ram(RAM_ADDRESS, data)
