"""The simulated application: what a board says once its bootloader has started an image.

No firmware is executed. The text is made here, and names version and hash as the image in flash carries them, so that
a test can tell which image was started.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, Protocol

from pytest_nrfdfu.image.format import (
    HASH_TLVS,
    HEADER_SIZE,
    MAGIC,
    PROTECTED_TLV_INFO_MAGIC,
    TLV_HEADER,
    TLV_INFO,
    TLV_INFO_MAGIC,
    ImageHeader,
    Version,
)
from pytest_nrfdfu.sim.firmware import Effect, Idle, Memory, Send, Sleep
from pytest_nrfdfu.sim.slots import SlotArea

__all__ = ["BOOT_BANNER", "Application", "ImageIdentity", "SmpService", "application_starter", "identify"]

BOOT_BANNER = b"*** Booting Zephyr OS build v4.4.0 ***\r\n"
"""As Zephyr prints it (kernel/banner.c, with CONFIG_BOOT_BANNER); its console ends lines with CR LF."""
_BOOT_DELAY = 5e-3
"""Seconds from the vector table to the first byte of the banner. A guess: no source gives one."""


class ImageIdentity(NamedTuple):
    """What an image says about itself. `hash` is empty where it carries none."""

    version: Version
    hash: bytes


def _find_hash(memory: Memory, address: int, end: int) -> bytes:
    """The value of the hash TLV in the TLV areas from `address` on; nothing beyond `end` is read."""
    while address + TLV_INFO.size <= end:
        magic, size = TLV_INFO.unpack(memory.read(address, TLV_INFO.size))
        if magic not in {TLV_INFO_MAGIC, PROTECTED_TLV_INFO_MAGIC} or address + size > end:
            return b""
        at, address = address + TLV_INFO.size, address + max(size, TLV_INFO.size)
        while at + TLV_HEADER.size <= address:
            kind, length = TLV_HEADER.unpack(memory.read(at, TLV_HEADER.size))
            at += TLV_HEADER.size
            if kind in HASH_TLVS and at + length <= address:
                return memory.read(at, length)
            at += length
    return b""


def identify(memory: Memory, area: SlotArea) -> ImageIdentity | None:
    """Version and hash of the image in `area`, unchecked; None where there is none."""
    header = ImageHeader.unpack(memory.read(area.address, HEADER_SIZE))
    if header.magic != MAGIC:
        return None
    return ImageIdentity(header.version, _find_hash(memory, area.address + header.tlv_offset, area.address + area.size))


class SmpService(Protocol):
    """An SMP server inside the application; see `app_smp`."""

    def feed(self, data: bytes) -> None:
        """Bytes from the UART."""

    def serve(self) -> Generator[Effect, None, None]:
        """Answer what was received."""


class Application:
    """Prints the boot banner and its identity, then waits for ever, or serves SMP if it has a server.

    What it receives without one is dropped.
    """

    name = "application"

    def __init__(
        self, memory: Memory, area: SlotArea, *, boot_delay: float = _BOOT_DELAY, smp: SmpService | None = None
    ) -> None:
        self.area = area
        self.listening = False
        """Whether it has started its UART."""
        self._memory = memory
        self._boot_delay = boot_delay
        self._smp = smp

    def interrupt(self, data: bytes) -> None:
        """What comes before the UART was started is lost."""
        if self._smp is not None and self.listening:
            self._smp.feed(data)

    def main(self) -> Generator[Effect, None, None]:
        """From the vector table on."""
        yield Sleep(self._boot_delay)
        self.listening = True
        yield Send(BOOT_BANNER + self._greeting())
        while True:
            if self._smp is not None:
                yield from self._smp.serve()
            yield Idle()

    def _greeting(self) -> bytes:
        found = identify(self._memory, self.area)
        if found is None:
            return b"nrfdfu-sim: no image\r\n"
        digest = found.hash.hex() or "none"
        return f"nrfdfu-sim: application {found.version} hash {digest}\r\n".encode()


def application_starter(
    memory: Memory, *, boot_delay: float = _BOOT_DELAY, make_smp: Callable[[], SmpService] | None = None
) -> Callable[[SlotArea], Application]:
    """What the bootloader calls with the slot that it starts. `make_smp` makes the SMP server of each run."""

    def start(area: SlotArea) -> Application:
        return Application(memory, area, boot_delay=boot_delay, smp=None if make_smp is None else make_smp())

    return start
