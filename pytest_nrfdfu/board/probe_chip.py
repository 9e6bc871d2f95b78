"""An nRF5340 behind a debug port: who it is, what of it is open, its resets, one flash page.

Used in the rig's child only, on a debug port of pyOCD. Nothing but the registers named here is written, and neither
core is halted unless the operation says so. Which access is open is read from the AHB-AP's CSW: DeviceEn (bit 6) for
any access, SPIStatus (bit 23) for secure ones. That an nRF5340 shows its access port protection there was not checked
on a chip. Nothing here can mass-erase: CTRL-AP's ERASEALL is not among the registers.

Sources: Arm, ADIv5.2 (IHI 0031), CSW; Arm, Armv8-M Architecture Reference Manual (DDI 0553), DHCSR, DEMCR, AIRCR;
Nordic, nRF5340 product specification, CTRL-AP, RESET and NVMC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pytest_nrfdfu.board.chip_state import CoreState
from pytest_nrfdfu.errors import ProbeError

__all__ = ["CTRL_AP_IDR", "Chip"]

CTRL_AP_IDR = 0x12880000
"""IDR of the nRF5340's CTRL-AP (also nRF91's; nRF52's is 0x02880000)."""
_APPLICATION_AP, _NETWORK_AP, _CTRL_AP = 0, 1, 2
_CSW, _IDR, _CTRL_AP_RESET = 0x00, 0xFC, 0x00
_DEVICE_ENABLED, _SECURE_ENABLED = 1 << 6, 1 << 23
_RESET_HOLD = 0.001
"""Seconds that CTRL-AP holds the reset."""

_AIRCR, _SYSRESETREQ = 0xE000ED0C, 0x05FA0004
_DFSR, _DFSR_VCATCH = 0xE000ED30, 1 << 3
_DHCSR, _S_HALT = 0xE000EDF0, 1 << 17
_DHCSR_DEBUG, _DHCSR_HALT, _DHCSR_RUN = 0xA05F0001, 0xA05F0003, 0xA05F0000
_DEMCR, _VC_CORERESET = 0xE000EDFC, 1

_SECURE_PERIPHERALS = range(0x50000000, 0x60000000)
_RESETREAS, _ALL_CAUSES = 0x50005400, 0xFFFFFFFF
_FORCEOFF = 0x50005614
"""NETWORK.FORCEOFF."""
_NVMC_READY, _NVMC_CONFIG = 0x50039400, 0x50039504
_READ_ONLY, _ERASE_ENABLE = 0, 2
_FLASH_SIZE, _PAGE_SIZE = 0x100000, 0x1000
_ERASED = 0xFFFFFFFF
_ERASE_TIMEOUT = 1.0
"""Seconds; a page takes up to 87.5 ms (t_ERASEPAGE)."""
_HALT_TIMEOUT = 1.0


class Chip:
    """A chip that was seen to be an nRF5340. ProbeError with the cause ``wrong-chip`` if it is another."""

    def __init__(self, dp: Any, probe_id: str) -> None:
        """`dp`: pyOCD's debug port, connected."""
        self._dp = dp
        idr = self._read_ap(_CTRL_AP, _IDR)
        if idr != CTRL_AP_IDR:
            raise ProbeError(
                f"the chip behind probe {probe_id} is not an nRF5340: its access port {_CTRL_AP} has IDR 0x{idr:08x},"
                f" an nRF5340's CTRL-AP has 0x{CTRL_AP_IDR:08x}; nothing was changed on it. Check the unique_id in"
                " [probe], and which board the probe is connected to",
                cause="wrong-chip",
            )

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def application(self) -> CoreState:
        """What the debugger may do with the application core."""
        csw = self._read_ap(_APPLICATION_AP, _CSW)
        if not csw & _DEVICE_ENABLED:
            return "locked"
        return "open" if csw & _SECURE_ENABLED else "secure-locked"

    @property
    def network(self) -> CoreState:
        """The same of the network core.

        Whether it is off is told by a register that only an open application core shows: without it, a core that
        cannot be reached is called ``locked``.
        """
        if self._read_ap(_NETWORK_AP, _CSW) & _DEVICE_ENABLED:
            return "open"
        if self.application == "open" and self.memory().read32(_FORCEOFF) & 1:
            return "off"
        return "locked"

    def require_open(self, what: str) -> None:
        """ProbeError unless all of the application core can be reached; `what` it is needed for."""
        self._require_unlocked(what)
        if self.application == "secure-locked":
            raise _secure_locked(what)

    def _require_unlocked(self, what: str) -> None:
        if self.application == "locked":
            raise ProbeError(
                f"the chip is locked (access port protection), so {what} is not possible: its memory cannot be reached."
                " Pin reset and ctrl-ap reset still work; unlocking erases the chip (nrfutil device recover) and is"
                " never done here",
                cause="locked",
            )

    # --- memory -----------------------------------------------------------------------------------------------------

    def memory(self) -> Any:
        """Access to the application core's memory, by pyOCD; the core's state is not checked."""
        from pyocd.coresight.ap import AccessPort, APv1Address

        return AccessPort.create(self._dp, APv1Address(_APPLICATION_AP))

    def read32(self, address: int) -> int:
        """One word."""
        value: int = self._access(f"reading 0x{address:08x}", address, lambda memory: memory.read32(address))
        return value

    def write32(self, address: int, value: int) -> None:
        """One word of RAM or of a register."""
        self._access(f"writing 0x{address:08x}", address, lambda memory: memory.write32(address, value))

    def _access(self, what: str, address: int, access: Callable[[Any], Any]) -> Any:
        from pyocd.core.exceptions import TransferFaultError

        if address in _SECURE_PERIPHERALS:
            self.require_open(what)
        self._require_unlocked(what)
        try:
            return access(self.memory())
        except TransferFaultError as error:
            if self.application == "secure-locked":
                raise _secure_locked(what) from error
            raise

    # --- resets -----------------------------------------------------------------------------------------------------

    def reset(self, kind: str) -> None:
        """``system``: AIRCR.SYSRESETREQ. ``ctrl-ap``: the debug port's own, which a locked chip takes as well."""
        if kind == "ctrl-ap":
            try:
                self._write_ap(_CTRL_AP, _CTRL_AP_RESET, 1)
                time.sleep(_RESET_HOLD)
            finally:
                self._write_ap(_CTRL_AP, _CTRL_AP_RESET, 0)
        elif kind == "system":
            self._require_unlocked("a system reset")
            self._system_reset()
        else:
            raise ProbeError(f"unknown reset {kind!r} of the probe; known: pin, system, ctrl-ap")

    def _system_reset(self) -> None:
        from pyocd.core.exceptions import TransferError

        with suppress(TransferError):  # the reset may cut off the answer to the write that asks for it
            self.memory().write32(_AIRCR, _SYSRESETREQ)

    def reset_with_causes_cleared(self, kind: str) -> None:
        """Reset, and clear RESETREAS before the first instruction runs, as if there had been a power-on reset.

        The core is caught at its reset vector (DEMCR.VC_CORERESET) and let go; also when something fails in between,
        the catch is removed and the core runs. ProbeError with the cause ``locked`` where that cannot be done, because
        the reset locked the chip again: the core may then stand still. Not tried on hardware.
        """
        self.require_open("clearing the reset causes")
        memory = self.memory()
        try:
            memory.write32(_DHCSR, _DHCSR_DEBUG)
            memory.write32(_DEMCR, memory.read32(_DEMCR) | _VC_CORERESET)
            self.reset(kind)
            problem = f"the core did not stop at its reset vector after a {kind} reset"
            self._wait(lambda: self._halted(memory), _HALT_TIMEOUT, problem)
            memory.write32(_RESETREAS, _ALL_CAUSES)
        finally:
            if not self.let_run():
                raise ProbeError(
                    f"after the {kind} reset the chip is locked again (access port protection), so its core could not"
                    " be let go of: it may stand still at its reset vector until it is power-cycled. Use a reset that"
                    ' needs no register of the chip, such as reset = "pin"',
                    cause="locked",
                )

    @staticmethod
    def _halted(memory: Any) -> bool:
        from pyocd.core.exceptions import TransferError

        with suppress(TransferError):  # the reset is still going on
            return bool(memory.read32(_DHCSR) & _S_HALT)
        return False

    def let_run(self) -> bool:
        """Undo vector catch and halt, where there is any; False for a locked chip, which is left alone."""
        if self.application == "locked":
            return False
        memory = self.memory()
        if memory.read32(_DEMCR) & _VC_CORERESET:
            memory.write32(_DEMCR, memory.read32(_DEMCR) & ~_VC_CORERESET)
        if memory.read32(_DHCSR) & (_S_HALT | 1):  # also C_DEBUGEN, without which nothing would halt
            memory.write32(_DFSR, _DFSR_VCATCH)
            memory.write32(_DHCSR, _DHCSR_RUN)
        return True

    def repair(self) -> None:
        """Undo what a process that died may have left: held by CTRL-AP, vector catch, a halted core."""
        if self._read_ap(_CTRL_AP, _CTRL_AP_RESET) & 1:
            self._write_ap(_CTRL_AP, _CTRL_AP_RESET, 0)
        self.let_run()

    # --- flash ------------------------------------------------------------------------------------------------------

    def erase_page(self, address: int) -> None:
        """Erase the 4 KiB page of the application core's flash that begins at `address`.

        The core is halted meanwhile, so that firmware does not use the flash controller at the same time.
        """
        if not 0 <= address < _FLASH_SIZE or address % _PAGE_SIZE:
            raise ProbeError(f"no page of the application core's flash begins at 0x{address:08x}; pages are 4 KiB")
        self.require_open("erasing a page")
        memory = self.memory()
        try:
            memory.write32(_DHCSR, _DHCSR_HALT)
            with self._erase_enabled(memory):
                memory.write32(address, _ERASED)
                self._wait_ready(memory)
        finally:
            self.let_run()
        if (found := memory.read32(address)) != _ERASED:
            raise ProbeError(
                f"the page at 0x{address:08x} was not erased: it begins with 0x{found:08x}; is it protected?"
            )

    @contextmanager
    def _erase_enabled(self, memory: Any) -> Iterator[None]:
        """NVMC.CONFIG allows erasing; read-only again afterwards, whatever happens."""
        self._wait_ready(memory)
        try:
            memory.write32(_NVMC_CONFIG, _ERASE_ENABLE)
            yield
        finally:
            memory.write32(_NVMC_CONFIG, _READ_ONLY)

    def _wait_ready(self, memory: Any) -> None:
        problem = "the flash controller (NVMC) did not get ready"
        self._wait(lambda: bool(memory.read32(_NVMC_READY) & 1), _ERASE_TIMEOUT, problem)

    # --- parts ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _wait(condition: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                raise ProbeError(f"{problem} within {seconds:g} s")

    def _read_ap(self, port: int, register: int) -> int:
        value: int = self._dp.read_ap(port << 24 | register)
        return value

    def _write_ap(self, port: int, register: int, value: int) -> None:
        self._dp.write_ap(port << 24 | register, value)


def _secure_locked(what: str) -> ProbeError:
    return ProbeError(
        f"the chip is secure-locked (SECUREAPPROTECT), so {what} is not possible: secure addresses cannot be reached."
        " Resets work; use an entry that needs no register of the chip. Unlocking erases the chip and is never done"
        " here",
        cause="secure-locked",
    )
