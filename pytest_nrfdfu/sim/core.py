"""What a debugger sees of a Cortex-M33: system control space, DWT, BPU, ITM and their ROM tables.

No instruction is executed here. A core is running, halted, held in reset or locked up, and its registers keep what a
debugger writes to them; resuming goes on with the simulated program wherever that stands, whatever PC says, and a
step ends where it began.

Sources: Armv8-M Architecture Reference Manual (DDI 0553) for the registers and their bits; Cortex-M33 Technical
Reference Manual (100230) for identification values; nRF5340 MDK (``nrf5340_application.svd``) for the revision r0p4.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

__all__ = ["APPLICATION", "NETWORK", "PPB_END", "PPB_START", "ROM_TABLE", "CoreTraits", "DebugCore"]

PPB_START, PPB_END = 0xE0000000, 0xE0100000
"""The private peripheral bus; reachable also while the core is held in reset."""
ROM_TABLE = 0xE00FE000
"""The ROM table that the AHB-AP's BASE register points to. Which address real chips have there is not known here."""
_CPU_ROM_TABLE = 0xE00FF000
_ITM, _DWT, _BPU, _SCS = 0xE0000000, 0xE0001000, 0xE0002000, 0xE000E000


class _Reg(IntEnum):
    """Addresses of the registers that do something."""

    DWT_CTRL = 0xE0001000
    FP_CTRL = 0xE0002000
    VTOR = 0xE000ED08
    AIRCR = 0xE000ED0C
    DFSR = 0xE000ED30
    DHCSR = 0xE000EDF0
    DCRSR = 0xE000EDF4
    DCRDR = 0xE000EDF8
    DEMCR = 0xE000EDFC


_DHCSR_KEY = 0xA05F
_C_DEBUGEN, _C_HALT, _C_STEP, _C_CONTROLS = 1 << 0, 1 << 1, 1 << 2, 0xF
_S_REGRDY, _S_HALT, _S_LOCKUP, _S_SDE, _S_RETIRE, _S_RESET = (1 << bit for bit in (16, 17, 19, 20, 24, 25))
_DFSR_HALTED, _DFSR_VCATCH = 1 << 0, 1 << 3
_DEMCR_VC_CORERESET = 1 << 0
_AIRCR_WRITE_KEY, _AIRCR_READ_KEY, _AIRCR_SYSRESETREQ = 0x05FA, 0xFA05, 1 << 2
_DCRSR_WRITE, _DCRSR_SELECT = 1 << 16, 0x7F
_SP, _PC, _XPSR = 13, 15, 16
"""Register numbers of DCRSR.REGSEL."""
_XPSR_THUMB = 1 << 24

_DWT_CTRL_4_COMPARATORS = 0x40000000
_FP_CTRL_8_COMPARATORS = 0x10000080
_ENABLE = 1


class CoreTraits(NamedTuple):
    """What tells the two cores of an nRF5340 apart for a debugger."""

    security: bool
    """Armv8-M Security Extension."""
    floating_point: bool
    dsp: bool


APPLICATION = CoreTraits(security=True, floating_point=True, dsp=True)
NETWORK = CoreTraits(security=False, floating_point=False, dsp=False)


class _Id(NamedTuple):
    """Identification registers of one CoreSight component (Arm CoreSight Architecture Specification, IHI 0029)."""

    part: int
    designer: tuple[int, int]
    """JEP106 code and number of continuation bytes."""
    component_class: int
    devarch: int = 0
    devtype: int = 0

    def registers(self, base: int) -> dict[int, int]:
        """Address to value of the component's CIDR, PIDR, DEVARCH and DEVTYPE."""
        code, continuation = self.designer
        pidr = (self.part & 0xFF, self.part >> 8 | (code & 0xF) << 4, 0x08 | code >> 4, 0)
        cidr = (0x0D, self.component_class << 4, 0x05, 0xB1)
        found = {base + 0xFD0: continuation, base + 0xFBC: self.devarch, base + 0xFCC: self.devtype}
        found |= {base + 0xFE0 + 4 * i: value for i, value in enumerate(pidr)}
        found |= {base + 0xFF0 + 4 * i: value for i, value in enumerate(cidr)}
        return found


_ARM, _NORDIC = (0x3B, 4), (0x44, 2)
_CLASS_ROM, _CLASS_DEBUG = 1, 9
_CORTEX_M33 = 0xD21
_COMPONENTS = {
    ROM_TABLE: _Id(0x070, _NORDIC, _CLASS_ROM),
    _CPU_ROM_TABLE: _Id(0x4C9, _ARM, _CLASS_ROM),
    _SCS: _Id(_CORTEX_M33, _ARM, _CLASS_DEBUG, devarch=0x47702A04),
    _DWT: _Id(_CORTEX_M33, _ARM, _CLASS_DEBUG, devarch=0x47701A02),
    _BPU: _Id(_CORTEX_M33, _ARM, _CLASS_DEBUG, devarch=0x47701A03),
    _ITM: _Id(_CORTEX_M33, _ARM, _CLASS_DEBUG, devarch=0x47701A01, devtype=0x43),
}
_PRESENT = 0b11
"""A ROM table entry: present, 32-bit format."""


def _constants(traits: CoreTraits) -> dict[int, int]:
    """Every read-only register that differs from 0."""
    found = {
        0xE000ED00: 0x410FD214,  # CPUID: Arm, Cortex-M33, r0p4
        0xE000E004: 2,  # ICTR: up to 96 interrupts
        0xE000ED40: 0x30,  # ID_PFR0
        0xE000ED44: 0x210 if traits.security else 0x200,  # ID_PFR1
        0xE000ED48: 0x00200000,  # ID_DFR0
        0xE000ED60: 0x01101110,  # ID_ISAR0
        0xE000ED6C: 0x01111131 if traits.dsp else 0x01111110,  # ID_ISAR3
        0xE000ED90: 0x800,  # MPU_TYPE: eight regions
    }
    if traits.floating_point:  # MVFR0 to MVFR2: single precision
        found |= {0xE000EF40: 0x10110021, 0xE000EF44: 0x11000011, 0xE000EF48: 0x40}
    for base, identification in _COMPONENTS.items():
        found |= identification.registers(base)
    found[ROM_TABLE] = _CPU_ROM_TABLE - ROM_TABLE | _PRESENT
    for index, base in enumerate((_SCS, _DWT, _BPU, _ITM)):
        found[_CPU_ROM_TABLE + 4 * index] = (base - _CPU_ROM_TABLE) & 0xFFFFFFFF | _PRESENT
    return found


class DebugCore:
    """The debug registers of one core.

    `request_reset` is called for AIRCR.SYSRESETREQ, `changed` when the core halts or resumes, `vector` gives the
    initial stack pointer and reset handler. The chip sets `in_reset`, `locked_up` and `secure_debug`.
    """

    def __init__(
        self,
        traits: CoreTraits,
        *,
        request_reset: Callable[[], None],
        changed: Callable[[], None],
        vector: Callable[[], tuple[int, int]],
    ) -> None:
        self._request_reset = request_reset
        self._changed = changed
        self._vector = vector
        self._security = traits.security
        self._constants = _constants(traits)
        self.secure_debug = True
        """A debugger may halt secure code; all code is, where there is a Security Extension."""
        self.in_reset = False
        self.locked_up = False
        self.reset_debug()

    def reset_debug(self) -> None:
        """Cold reset: debug logic forgets everything, breakpoints and vector catch included."""
        self._registers: dict[int, int] = {
            _Reg.FP_CTRL: _FP_CTRL_8_COMPARATORS,
            _Reg.DWT_CTRL: _DWT_CTRL_4_COMPARATORS,
        }
        self._core_registers: dict[int, int] = {}
        self._controls = 0
        self._demcr = 0
        self._dfsr = 0
        self._was_reset = True
        self.halted = False

    def reset(self) -> None:
        """Warm reset: the core starts over; debug logic keeps its state, so that vector catch can halt it here."""
        stack, handler = self._vector()
        self._core_registers = {_SP: stack, _PC: handler & ~1, _XPSR: _XPSR_THUMB}
        self._registers[_Reg.VTOR] = 0
        self._was_reset = True
        self.locked_up = False
        self._controls &= ~(_C_HALT | _C_STEP)
        catches = self._demcr & _DEMCR_VC_CORERESET and self._controls & _C_DEBUGEN
        self.halted = bool(catches and self.secure_debug)
        if self.halted:
            self._controls |= _C_HALT
            self._dfsr |= _DFSR_VCATCH

    def read(self, address: int) -> int:
        """The word at `address` of the private peripheral bus; what does not exist reads as 0."""
        if address == _Reg.DHCSR:
            return self._read_dhcsr()
        own: dict[int, int] = {_Reg.DEMCR: self._demcr, _Reg.DFSR: self._dfsr, _Reg.AIRCR: _AIRCR_READ_KEY << 16}
        for registers in (own, self._constants):
            if address in registers:
                return registers[address]
        return self._registers.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write a word; what is read-only stays as it is."""
        match address:
            case _ if address in self._constants:
                pass
            case _Reg.DHCSR:
                self._write_dhcsr(value)
            case _Reg.DCRSR:
                self._transfer_core_register(value)
            case _Reg.DEMCR:
                self._demcr = value
            case _Reg.DFSR:
                self._dfsr &= ~value
            case _Reg.AIRCR:
                # Armv8-M has no VECTRESET, so bit 0 does nothing.
                if value >> 16 == _AIRCR_WRITE_KEY and value & _AIRCR_SYSRESETREQ:
                    self._request_reset()
            case _Reg.DWT_CTRL:
                self._registers[address] = _DWT_CTRL_4_COMPARATORS | value & _ENABLE
            case _Reg.FP_CTRL:
                self._registers[address] = _FP_CTRL_8_COMPARATORS | value & _ENABLE
            case _:
                self._registers[address] = value

    def _read_dhcsr(self) -> int:
        value = self._controls | _S_REGRDY
        value |= _S_HALT if self.halted else 0
        value |= _S_LOCKUP if self.locked_up else 0
        value |= _S_SDE if self._security and self.secure_debug else 0
        if not (self.halted or self.in_reset or self.locked_up):
            value |= _S_RETIRE
        if self._was_reset or self.in_reset:
            value |= _S_RESET
        self._was_reset = False  # sticky until read
        return value

    def _write_dhcsr(self, value: int) -> None:
        if value >> 16 != _DHCSR_KEY:
            return
        self._controls = value & _C_CONTROLS
        if not self._controls & _C_DEBUGEN:
            self._controls = 0
        halt = bool(self._controls & (_C_HALT | _C_STEP)) and self.secure_debug and not self.in_reset
        if (self.halted and self._controls & _C_STEP) or (halt and not self.halted):
            self._dfsr |= _DFSR_HALTED
        if halt != self.halted:
            self.halted = halt
            self._changed()

    def _transfer_core_register(self, selector: int) -> None:
        number = selector & _DCRSR_SELECT
        if selector & _DCRSR_WRITE:
            self._core_registers[number] = self._registers.get(_Reg.DCRDR, 0)
        else:
            self._registers[_Reg.DCRDR] = self._core_registers.get(number, 0)
