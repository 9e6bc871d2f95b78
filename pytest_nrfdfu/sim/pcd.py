"""The network core's part in an update: MCUboot's hooks on one core, b0n on the other, a command in shared RAM between.

The network core's flash can be written by that core alone. So MCUboot has its primary slot in RAM (the *virtual*
slot). Behind the last chunk of an upload to it, the uploaded hook writes a command to shared RAM, starts the network
core, waits for a second, and has the upload answered while b0n, the network core's bootloader, goes on: it validates
the image's body in RAM, copies it to its flash, validates it there, and says so in the command. Until then OS reset is
answered with rc 10.

What is simulated in place of something else: b0n validates what it was signed with (fw_info and validation info in the
body), which firmware that was built outside the nRF Connect SDK does not have; here the MCUboot header and hash around
the body in RAM and its reset vector stand for it. And where b0n would look at its flash at every start, here the
digest of what was to be copied is remembered.

Nothing clears the command but power-off (and b0n): after a reset in the middle of a copy OS reset stays busy until
another copy is done. That follows from the sources; nobody has seen it on hardware.

Source: nRF Connect SDK, modules/mcuboot/hooks/nrf53_hooks.c, subsys/pcd/src/pcd.c, samples/nrf5340/netboot/src/main.c;
samples/dfu/dfu_multi_image/sysbuild/b0n (flash layout); Zephyr, drivers/flash/flash_simulator.c.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from pytest_nrfdfu.image.format import ERASED, HASHES, HEADER_SIZE, MAGIC, ImageHeader
from pytest_nrfdfu.sim.app_identity import identify
from pytest_nrfdfu.sim.domain import NETWORK_DOMAIN, ResetCause
from pytest_nrfdfu.sim.firmware import Effect, Erase, Memory, Sleep, Write
from pytest_nrfdfu.sim.slots import SlotArea, Slots
from pytest_nrfdfu.sim.validate import image_hash

__all__ = [
    "APPLICATION_ADDRESS",
    "APPLICATION_SIZE",
    "COMMAND_ADDRESS",
    "NetworkBootloader",
    "NetworkCore",
    "NetworkCpu",
    "PcdHooks",
    "PcdTiming",
    "Status",
]

COMMAND_ADDRESS = 0x20000000
"""Where the command is: the Partition Manager's pcd_sram, the first 8 KiB of the application core's RAM."""
_B0N_ADDRESS = NETWORK_DOMAIN.flash_base
_B0N_SIZE = 0x8800
"""b0n (0x8580 bytes) with its provisioned keys (0x280)."""
APPLICATION_ADDRESS = _B0N_ADDRESS + _B0N_SIZE
APPLICATION_SIZE = 222 * 1024
"""Where b0n puts the body of an image, and how much of it fits, in bytes (s0_partition)."""
_HEADER_ROOM = 0x200
"""What the virtual slot's made-up header gives as its size (NET_CORE_ROM_START_OFFSET)."""
_COMMAND = struct.Struct("<IIII")
"""struct pcd_cmd: magic, address of the data, their length, where they go in the network core's flash."""
_VECTOR = struct.Struct("<I")
_RESET_VECTOR_AT = 4
_PAGE = NETWORK_DOMAIN.page_size
_WORD = 4
_ENODATA, _EINVAL, _FAILED = -61, -22, -1
"""What the hook returns becomes the response's rc as it is."""
_POLL = 0.01
"""Seconds between two looks at the command while MCUboot waits for its end; the real one does not pause."""


class Status(IntEnum):
    """PCD_CMD_MAGIC_*: how far a command is."""

    COPY = 0xB5B4B3B6
    DONE = 0xF103CE5D
    FAILED = 0x25BAFC15


@dataclass(frozen=True, slots=True)
class PcdTiming:
    """How long what is neither wire nor flash takes, in seconds."""

    wait: float = 1.0
    """MCUboot waits so long before it answers the last chunk (k_busy_wait in pcd_network_core_update_initiate)."""
    validation: float = 0.2
    """From the network core's start to the first page erased, and again behind the last one. A guess: no source."""


class PcdHardware(Memory, Protocol):
    """The chip as MCUboot's hooks see it."""

    def write_ram(self, address: int, data: bytes) -> None:
        """Write to RAM."""

    def force_off_network_core(self, off: bool) -> None:  # noqa: FBT001 - the register's one bit
        """NETWORK.FORCEOFF: hold the network core in reset, or let it start."""


def command_status(memory: Memory) -> Status:
    """pcd_fw_copy_status_get: what is no magic counts as failed."""
    magic = _VECTOR.unpack(memory.read(COMMAND_ADDRESS, _VECTOR.size))[0]
    return Status(magic) if magic in {Status.COPY, Status.DONE} else Status.FAILED


class PcdHooks:
    """What nrf53_hooks.c adds to MCUboot. `area` is the virtual slot.

    `number` is the image number of the upload behind whose last chunk the copy starts, None: no upload starts one.
    """

    def __init__(self, hardware: PcdHardware, area: SlotArea, number: int | None, timing: PcdTiming) -> None:
        self.area = area
        self._hardware = hardware
        self._number = number
        self._timing = timing

    @property
    def busy(self) -> bool:
        """boot_reset_request_hook: a copy is under way, or was when the chip was reset."""
        return command_status(self._hardware) is Status.COPY

    @property
    def header(self) -> ImageHeader:
        """boot_read_image_header_hook: the virtual slot's header, whatever lies in RAM. Version 0.0.0."""
        return ImageHeader(
            MAGIC, load_addr=self.area.address & 0xFFFFFFFF, hdr_size=_HEADER_ROOM, img_size=APPLICATION_SIZE
        )

    def start(self) -> None:
        """Zephyr's flash simulator begins erased at every boot."""
        self._hardware.write_ram(self.area.address, bytes([ERASED]) * self.area.size)

    def erase(self, address: int, size: int) -> None:
        """Erase a page of the virtual slot; that is RAM and takes no time."""
        self._hardware.write_ram(address, bytes([ERASED]) * size)

    def write(self, address: int, data: bytes) -> None:
        """Write to the virtual slot: as in flash, bits go from 1 to 0 only."""
        old = int.from_bytes(self._hardware.read(address, len(data)), "little")
        new = old & int.from_bytes(data, "little")
        self._hardware.write_ram(address, new.to_bytes(len(data), "little"))

    def uploaded(self, number: int) -> Generator[Effect, None, int]:
        """boot_serial_uploaded_hook: the last chunk has come. Returns the `rc` of the response.

        Only the magic and the reset vector are looked at: an application image is rejected here, while a damaged
        network core image gets rc 0, and b0n refuses it unseen.
        """
        return (yield from self._initiate()) if number == self._number else 0

    def copied(self) -> Generator[Effect, None, int]:
        """boot_copy_region_post_hook: MCUboot has copied an update to the virtual slot. Returns 0 or an error.

        Here it waits until the network core's bootloader is done (pcd_network_core_update).
        """
        error = yield from self._initiate()
        while error == 0 and command_status(self._hardware) is Status.COPY:
            yield Sleep(_POLL)
        return error or (0 if command_status(self._hardware) is Status.DONE else _FAILED)

    def _initiate(self) -> Generator[Effect, None, int]:
        """Have b0n copy what is in the virtual slot (pcd_network_core_update_initiate)."""
        header = ImageHeader.unpack(self._hardware.read(self.area.address, HEADER_SIZE))
        vector = self._reset_vector(header)
        if header.magic != MAGIC or vector is None or vector <= _B0N_ADDRESS:
            return _ENODATA
        self._hardware.force_off_network_core(True)
        if header.img_size == 0:
            return _EINVAL
        command = _COMMAND.pack(Status.COPY, self.area.address + header.hdr_size, header.img_size, _B0N_SIZE)
        self._hardware.write_ram(COMMAND_ADDRESS, command)
        self._hardware.force_off_network_core(False)
        yield Sleep(self._timing.wait)
        return 0

    def _reset_vector(self, header: ImageHeader) -> int | None:
        at = header.hdr_size + _RESET_VECTOR_AT
        if at + _VECTOR.size > self.area.size:
            return None  # a real one reads what lies behind
        return int(_VECTOR.unpack(self._hardware.read(self.area.address + at, _VECTOR.size))[0])


class Firmware(NamedTuple):
    """What b0n was told to copy. `sha256` is the body's; version and hash are those of the image around it."""

    size: int
    sha256: bytes
    version: str
    image_hash: bytes


class NetworkCore:
    """What the network core's flash holds, and what became of the copies. Outlives resets and power."""

    def __init__(self, hardware: PcdHardware, area: SlotArea, timing: PcdTiming) -> None:
        self.hardware = hardware
        self.area = area
        self.timing = timing
        self.firmware: Firmware | None = None
        """What was last begun to be copied."""
        self.updates = 0
        """Copies that ended well."""
        self.failures = 0
        """Commands that b0n refused, or could not carry out. One that was cut off counts nowhere."""

    @property
    def valid(self) -> bool:
        """The flash holds all of what was last begun to be copied, so b0n would start it."""
        firmware = self.firmware
        return firmware is not None and self._digest(firmware.size) == firmware.sha256

    def _digest(self, size: int) -> bytes:
        return hashlib.sha256(self.hardware.read(APPLICATION_ADDRESS, size)).digest()

    def counters(self) -> dict[str, Any]:
        """For JSON. `sha256` is that of as many bytes of the flash, from `address` on, as were to be copied."""
        firmware = self.firmware
        size = 0 if firmware is None else firmware.size
        return {
            "updates": self.updates,
            "failures": self.failures,
            "copying": command_status(self.hardware) is Status.COPY,
            "valid": self.valid,
            "address": APPLICATION_ADDRESS,
            "size": size,
            "sha256": self._digest(size).hex(),
            "version": None if firmware is None else firmware.version,
            "image_hash": None if firmware is None else firmware.image_hash.hex(),
        }

    def reset_counters(self) -> None:
        """Count from 0."""
        self.updates = self.failures = 0


class NetworkBootloader:
    """One start of b0n. What it would do without a command, start the network core's application, is left out."""

    name = "b0n"

    def __init__(self, core: NetworkCore) -> None:
        self._core = core
        self._hardware = core.hardware

    def interrupt(self, data: bytes) -> None:
        """It has no UART."""

    def main(self) -> Generator[Effect, None, None]:
        """Carry out the command in shared RAM, if there is one."""
        magic, address, size, offset = _COMMAND.unpack(self._hardware.read(COMMAND_ADDRESS, _COMMAND.size))
        if magic != Status.COPY:
            return
        yield Sleep(self._core.timing.validation)
        firmware = self._validate(address, size)
        if firmware is None:
            self._end(done=False)
            return
        self._core.firmware = firmware
        yield from self._copy(self._hardware.read(address, size), _B0N_ADDRESS + offset)
        yield Sleep(self._core.timing.validation)
        self._end(done=self._core.valid)

    def _validate(self, address: int, size: int) -> Firmware | None:
        """The image whose body is at `address`; None if it is damaged, not for this core, or too large."""
        area = self._core.area
        slots = Slots(self._hardware, (area,))
        header = ImageHeader.unpack(self._hardware.read(area.address, HEADER_SIZE))
        data = slots.read(area, 0, header.tlv_offset + header.protect_tlv_size)
        found = identify(self._hardware, area)
        if data is None or found is None or size > APPLICATION_SIZE or address != area.address + header.hdr_size:
            return None
        vector = _VECTOR.unpack_from(data, header.hdr_size + _RESET_VECTOR_AT)[0]
        if not 0 <= vector - _B0N_ADDRESS < NETWORK_DOMAIN.flash_size:
            return None
        if not any(
            image_hash(slots, area, header, 0, kind) == hashlib.new(algorithm().name, data).digest()
            for kind, algorithm in HASHES.items()
        ):
            return None
        body = data[header.hdr_size : header.tlv_offset]
        return Firmware(size, hashlib.sha256(body).digest(), str(found.version), found.hash)

    @staticmethod
    def _copy(body: bytes, address: int) -> Generator[Effect, None, None]:
        """pcd_fw_copy: page by page."""
        for at in range(0, len(body), _PAGE):
            piece = body[at : at + _PAGE]
            yield Erase(address + at)
            yield Write(address + at, piece + bytes([ERASED]) * (-len(piece) % _WORD))

    def _end(self, *, done: bool) -> None:
        self._core.updates += done
        self._core.failures += not done
        self._hardware.write_ram(COMMAND_ADDRESS, _VECTOR.pack(Status.DONE if done else Status.FAILED))


class _NetworkChip(Protocol):
    """What a chip tells about its network core."""

    on_network_reset: Callable[[], None]
    on_network_run_change: Callable[[bool], None]

    @property
    def network_cpu_runs(self) -> bool:
        """It executes."""

    def erase(self, address: int) -> None:
        """Erase one page."""

    def program(self, address: int, data: bytes) -> None:
        """Write words."""


class NetworkCpu:
    """A chip as the machine that runs its network core sees it; satisfies `MachineChip`."""

    def __init__(self, chip: _NetworkChip) -> None:
        self._chip = chip
        self.on_reset: Callable[[ResetCause], None] = lambda _cause: None
        self.on_run_change: Callable[[bool], None] = lambda _runs: None
        self.erase = chip.erase
        self.program = chip.program
        chip.on_network_reset = self._reset
        chip.on_network_run_change = self._run_change

    # The machine sets its callbacks later, so they are looked up when they are called.

    def _reset(self) -> None:
        self.on_reset(ResetCause.SREQ)

    def _run_change(self, runs: bool) -> None:  # noqa: FBT001 - the chip's signature
        self.on_run_change(runs)

    @property
    def cpu_runs(self) -> bool:
        """Whether the network core executes."""
        return self._chip.network_cpu_runs

    def reset(self, cause: ResetCause) -> None:
        """Nothing that runs on the network core resets it."""

    def set_power(self, on: bool) -> None:  # noqa: FBT001 - the chip's signature
        """The supply is the whole chip's."""
