"""The nRF5340's debug port and its four access ports, behind a debug probe that may be unplugged or busy. No I/O.

AP0 and AP1 are the AHB-APs of application and network core, AP2 and AP3 their CTRL-APs (nRF5340 product
specification, chapters "Debug access port" and CTRL-AP). Access is by register, as a probe offers it: an AP read
returns its value at once, without the pipeline of the wire.

Sources: Arm Debug Interface Architecture Specification ADIv5.2 (IHI 0031); DPIDR, TARGETID and the AHB-AP's IDR are
plausible values for an nRF5340 and were not read from a chip.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from pytest_nrfdfu.sim.chip import BusFault, Chip
from pytest_nrfdfu.sim.core import ROM_TABLE

__all__ = ["CTRL_AP_IDR", "Dap", "DapError", "FaultAck", "NoAck", "Unplugged"]

DPIDR = 0x6BA02477
"""SW-DP version 2, Arm."""
TARGETID = 0x10070289
AHB_AP_IDR = 0x84770001
CTRL_AP_IDR = 0x12880000
"""OpenOCD, ``nrf_ctrl_ap_recover``."""
_NRF52_CTRL_AP_IDR = 0x02880000
"""Black Magic Probe, src/target/nrf51.c."""

_WORD = 0xFFFFFFFF
_REGISTER_IN_BANK = 0xC
_STICKYERR, _ABORT_STKERRCLR = 1 << 5, 1 << 2
_POWER_REQUESTS, _TRANSFER_CONTROLS = 0x50000000, 0x00000F00
"""CSYSPWRUPREQ and CDBGPWRUPREQ, each acknowledged in the next higher bit; MASKLANE."""

_CSW_RESET = 0x23000012
_CSW_SIZE, _CSW_SIZE_WORD, _CSW_INCREMENT = 0x7, 2, 1 << 4
_CSW_WRITABLE = 0x7F000000 | _CSW_INCREMENT | _CSW_SIZE
_CSW_SECURE_ENABLED, _CSW_ENABLED = 1 << 23, 1 << 6
"""SDeviceEn (SPIStatus in older text) and DeviceEn: secure transfers, any transfers are possible."""
_INCREMENT_PAGE = 0x3FF
_APPLICATION, _NETWORK = 0, 1
_CTRL_AP_OFFSET = 2
"""CTRL-AP of core n is AP n + 2."""


class _Dp(IntEnum):
    """Registers of the debug port; the first is DPIDR when read, ABORT when written."""

    IDR = 0x0
    ABORT = 0x0
    CTRL_STAT = 0x4
    SELECT = 0x8


class _Bank(IntEnum):
    """What SELECT.DPBANKSEL puts at address 4."""

    CTRL_STAT = 0
    TARGETID = 2


class _Mem(IntEnum):
    """Registers of a MEM-AP."""

    CSW = 0x00
    TAR = 0x04
    DRW = 0x0C
    BD0 = 0x10
    BD3 = 0x1C
    BASE = 0xF8
    IDR = 0xFC


class _Ctrl(IntEnum):
    """Registers of a CTRL-AP, the debugger's side. Those of the mailbox read as 0."""

    RESET = 0x00
    ERASEALL = 0x04
    ERASEALLSTATUS = 0x08
    APPROTECT_DISABLE = 0x10
    ERASEPROTECT_STATUS = 0x18
    IDR = 0xFC


class DapError(Exception):
    """What can happen to an access instead of success."""


class FaultAck(DapError):
    """The debug port answered FAULT; STICKYERR stays set until it is cleared through ABORT."""


class NoAck(DapError):
    """Nobody answered on the wire: the chip has no power."""


class Unplugged(DapError):
    """The probe is gone from the host."""


class _MemAp:
    """State of one AHB-AP."""

    def __init__(self) -> None:
        self.csw = _CSW_RESET
        self.tar = 0

    @property
    def size(self) -> int:
        """Bytes per transfer."""
        return 1 << (self.csw & _CSW_SIZE)

    def write_csw(self, value: int) -> None:
        if value & _CSW_SIZE > _CSW_SIZE_WORD:
            value = value & ~_CSW_SIZE | _CSW_SIZE_WORD
        self.csw = value & _CSW_WRITABLE

    def advance(self) -> None:
        """The address after a transfer; it wraps within 1 KiB."""
        if self.csw & _CSW_INCREMENT:
            self.tar = self.tar & ~_INCREMENT_PAGE | (self.tar + self.size) & _INCREMENT_PAGE


class Dap:
    """One debug probe wired to `chip`.

    Set `busy` to let other software have the probe, `plugged` to False to pull it from the host, `wrong_chip` to see
    another chip's CTRL-APs.
    """

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.busy = False
        self.wrong_chip = False
        self.on_nreset: Callable[[bool], None] = lambda low: chip.drive_nreset("probe", low)
        """What the probe's nRESET pin is wired to."""
        self._nreset_low = False
        self.times_unplugged = 0
        self._plugged = True
        chip.on_debug_port_reset = self._reset
        self._reset()

    def _reset(self) -> None:
        self._ctrl_stat = 0
        self._select = 0
        self._rdbuff = 0
        self._mem_aps = (_MemAp(), _MemAp())

    @property
    def plugged(self) -> bool:
        """Whether the probe is connected to the host. Pulling it lets go of nRESET."""
        return self._plugged

    @plugged.setter
    def plugged(self, plugged: bool) -> None:
        if self._plugged and not plugged:
            self.times_unplugged += 1
        self._plugged = plugged
        if not plugged:
            self.release_nreset()

    def check_plugged(self) -> None:
        """Unplugged if the probe is."""
        if not self._plugged:
            raise Unplugged("the probe is not connected")

    def drive_nreset(self, low: bool) -> None:  # noqa: FBT001 - a level
        """Drive nRESET low, or let go of it."""
        self.check_plugged()
        self._set_nreset(low=low)

    def release_nreset(self) -> None:
        """Let go of nRESET, as a probe does that loses its host."""
        self._set_nreset(low=False)

    @property
    def nreset_low(self) -> bool:
        """The level at the probe's pin: low if it drives it, or if somebody else does."""
        return self._nreset_low or self.chip.nreset_low

    def _set_nreset(self, *, low: bool) -> None:
        self._nreset_low = low
        self.on_nreset(low)

    def read_dp(self, address: int) -> int:
        """Read the DP register at `address` (of the bank that SELECT chose)."""
        self._check_wire()
        match address & _REGISTER_IN_BANK:
            case _Dp.IDR:
                return DPIDR
            case _Dp.CTRL_STAT:
                return self._read_banked()
            case _:  # RESEND and RDBUFF
                return self._rdbuff

    def _read_banked(self) -> int:
        match self._select & 0xF:
            case _Bank.CTRL_STAT:
                acknowledged = (self._ctrl_stat & _POWER_REQUESTS) << 1
                return self._ctrl_stat | acknowledged
            case _Bank.TARGETID:
                return TARGETID
            case _:
                return 0

    def write_dp(self, address: int, value: int) -> None:
        """Write the DP register at `address`."""
        self._check_wire()
        match address & _REGISTER_IN_BANK:
            case _Dp.ABORT:
                if value & _ABORT_STKERRCLR:
                    self._ctrl_stat &= ~_STICKYERR
            case _Dp.CTRL_STAT if self._select & 0xF == _Bank.CTRL_STAT:
                kept = self._ctrl_stat & _STICKYERR
                self._ctrl_stat = value & (_POWER_REQUESTS | _TRANSFER_CONTROLS) | kept
            case _Dp.SELECT:
                self._select = value & _WORD

    def read_ap(self, address: int) -> int:
        """Read an AP register: SELECT names AP and bank, bits 2 and 3 of `address` the register."""
        access_port, register = self._check_ap_access(address)
        if access_port in (_APPLICATION, _NETWORK):
            self._rdbuff = self._read_mem_ap(access_port, register)
        elif access_port - _CTRL_AP_OFFSET in (_APPLICATION, _NETWORK):
            self._rdbuff = self._read_ctrl_ap(access_port - _CTRL_AP_OFFSET, register)
        else:
            self._rdbuff = 0  # IDR 0: no such AP
        return self._rdbuff

    def write_ap(self, address: int, value: int) -> None:
        """Write an AP register."""
        access_port, register = self._check_ap_access(address)
        if access_port in (_APPLICATION, _NETWORK):
            self._write_mem_ap(access_port, register, value)
        elif access_port - _CTRL_AP_OFFSET in (_APPLICATION, _NETWORK):
            self._write_ctrl_ap(access_port - _CTRL_AP_OFFSET, register, value)

    def _check_wire(self) -> None:
        self.check_plugged()
        if not self.chip.powered:
            raise NoAck("no ACK from the target")

    def _check_ap_access(self, address: int) -> tuple[int, int]:
        """AP and register of an access; FaultAck after an error, or while the debug domain has no power."""
        self._check_wire()
        if self._ctrl_stat & _STICKYERR:
            raise FaultAck("STICKYERR is set")
        if self._ctrl_stat & _POWER_REQUESTS != _POWER_REQUESTS:
            raise self._fault("debug power was not requested")
        return self._select >> 24, self._select & 0xF0 | address & _REGISTER_IN_BANK

    def _fault(self, reason: str) -> FaultAck:
        self._ctrl_stat |= _STICKYERR
        return FaultAck(reason)

    # AHB-AP.

    def _read_mem_ap(self, core: int, register: int) -> int:
        port = self._mem_aps[core]
        if register == _Mem.DRW:
            value = self._transfer(core, port.tar, port.size)
            port.advance()
            return value
        if _Mem.BD0 <= register <= _Mem.BD3:
            return self._transfer(core, port.tar & ~0xF | register & 0xC, 4)
        registers: dict[int, int] = {
            _Mem.CSW: port.csw | self._csw_enabled(core),
            _Mem.TAR: port.tar,
            _Mem.BASE: ROM_TABLE | 0b11,  # present, ADIv5 format
            _Mem.IDR: AHB_AP_IDR,
        }
        return registers.get(register, 0)

    def _csw_enabled(self, core: int) -> int:
        secure = _CSW_SECURE_ENABLED if self.chip.secure_access_open(core) else 0
        return secure | (_CSW_ENABLED if self.chip.access_port_open(core) else 0)

    def _write_mem_ap(self, core: int, register: int, value: int) -> None:
        port = self._mem_aps[core]
        match register:
            case _Mem.CSW:
                port.write_csw(value)
            case _Mem.TAR:
                port.tar = value & _WORD
            case _Mem.DRW:
                self._transfer(core, port.tar, port.size, value)
                port.advance()
            case _ if _Mem.BD0 <= register <= _Mem.BD3:
                self._transfer(core, port.tar & ~0xF | register & 0xC, 4, value)

    def _transfer(self, core: int, address: int, size: int, value: int | None = None) -> int:
        """One access to memory. Bytes and halfwords travel in their lanes of the word."""
        if not self.chip.access_port_open(core):
            raise self._fault("the access port is disabled")
        word, lane = address & ~3, 8 * (address & 3)
        try:
            if value is None:
                return self.chip.bus_read(core, word)
            mask = ((1 << 8 * size) - 1) << lane & _WORD
            self.chip.bus_write(core, word, value & _WORD, mask)
        except BusFault as fault:
            raise self._fault(str(fault)) from fault
        return 0

    # CTRL-AP.

    def _read_ctrl_ap(self, core: int, register: int) -> int:
        match register:
            case _Ctrl.RESET:
                return int(self.chip.held_by_ctrl_ap(core))
            case _Ctrl.ERASEALLSTATUS:
                return int(self.chip.erase_all_busy(core))
            case _Ctrl.ERASEPROTECT_STATUS:
                return int(not self.chip.erase_protected(core))
            case _Ctrl.IDR:
                return _NRF52_CTRL_AP_IDR if self.wrong_chip else CTRL_AP_IDR
            case _:
                return 0

    def _write_ctrl_ap(self, core: int, register: int, value: int) -> None:
        match register:
            case _Ctrl.RESET:
                self.chip.hold_by_ctrl_ap(core, bool(value & 1))
            case _Ctrl.ERASEALL:
                if value & 1:
                    self.chip.erase_all(core)
            case _Ctrl.APPROTECT_DISABLE:
                self.chip.unlock(core, value)
