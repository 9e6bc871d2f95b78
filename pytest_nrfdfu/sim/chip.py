"""The simulated nRF5340: resets, power, access port protection and the pins a test drives. No time, threads or I/O.

Sources: nRF5340 product specification (chapters RESET, CTRL-AP, GPIO, Debug and trace); nRF5340 MDK
(``system_nrf5340_application.c``, ``system_nrf53_approtect.h``). What they leave open is marked "unverified".
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from pytest_nrfdfu.sim.domain import (
    APPLICATION_DOMAIN,
    NETWORK_DOMAIN,
    NVMC_ERASEALL,
    Buffer,
    BusFault,
    Counters,
    Domain,
    Hook,
    Layout,
    ResetCause,
)

__all__ = ["ERASE_ALL_TIME", "Buffer", "BusFault", "Chip", "Counters", "Register", "ResetCause"]

_WORD = 0xFFFFFFFF
_RECOVERY_PIN = 23
"""P0.23, button 1 of the nRF5340 DK; low when pressed."""
ERASE_ALL_TIME = 0.173
"""Seconds (t_ERASEALL of the NVMC)."""
_DEVICE_ID = bytes.fromhex("3412000078560000")


class Register(IntEnum):
    """Secure addresses of the application core's registers that do something."""

    RESETREAS = 0x50005400
    GPREGRET0 = 0x5000551C
    GPREGRET1 = 0x50005520
    NETWORK_FORCEOFF = 0x50005614
    P0_IN = 0x50842510


class Chip:
    """One nRF5340 with what the DK connects to it. It begins powered, with its power-on reset just made.

    `flash` is the application core's flash (1 MiB, for instance a mapped file); None: erased. `locked`: access port
    protection is on, for the network core too unless `network_locked` says otherwise; `secure_locked`: only for the
    application core's secure side. `device_id`: the 8 bytes of FICR.INFO.DEVICEID. `loses_dp_on_pin_reset`: nRESET
    also resets the debug port (unverified either way). `pin_reset_clears_gpregret`: documented for the nRF54L15,
    unverified for this chip. `clock` gives seconds; with it CTRL-AP reads busy for 173 ms after a mass erase.

    What SystemInit does before any application is part of the model: it opens the access ports when UICR.APPROTECT
    says so, and clears all other bits of RESETREAS when RESETPIN is set (erratum 55). So RESETPIN stays set over
    later soft resets until it is cleared or power is lost.

    Not modelled: TrustZone for the firmware, the duration of a debugger's flash writes, the network core's peripherals
    and its program. To a debugger that SECUREAPPROTECT keeps out, peripherals answer at their non-secure aliases, and
    all memories are secure, as after a reset of the SPU; which of both a real one sees its firmware decides.
    """

    def __init__(
        self,
        *,
        flash: Buffer | None = None,
        locked: bool = False,
        secure_locked: bool = False,
        network_locked: bool | None = None,
        device_id: bytes = _DEVICE_ID,
        loses_dp_on_pin_reset: bool = False,
        pin_reset_clears_gpregret: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.gpregret = [0, 0]
        """GPREGRET[0] and [1], 8 bits each."""
        self.recovery_pin_low = False
        """Level of P0.23; whoever drives the line sets it."""
        self.unlock_key = 0
        """What firmware wrote to CTRLAP.APPROTECT.DISABLE; a debugger that writes the same opens the access port."""
        self.network_held = True
        """NETWORK.FORCEOFF: the network core is off."""
        self.counters = Counters()
        self.on_reset: Callable[[ResetCause], None] = lambda _cause: None
        """Called when the application CPU starts from its reset vector: at once, or when what holds it lets go."""
        self.on_run_change: Callable[[bool], None] = lambda _runs: None
        """Called when `cpu_runs` has changed; after `on_reset` where both apply."""
        self.on_network_reset: Callable[[], None] = lambda: None
        """Called when the network core is reset: what ran there is gone, and begins anew when `network_cpu_runs`."""
        self.on_network_run_change: Callable[[bool], None] = lambda _runs: None
        """Called when `network_cpu_runs` has changed."""
        self.on_debug_port_reset: Callable[[], None] = lambda: None
        """Called when the debug port loses its state."""
        self._loses_dp_on_pin_reset = loses_dp_on_pin_reset
        self._pin_reset_clears_gpregret = pin_reset_clears_gpregret
        self._clock = clock
        self._busy_until = [0.0, 0.0]
        self._powered = False
        self._nreset_low: set[str] = set()
        self._nreset_holds = False
        self._resetreas = 0
        self._starting: ResetCause | None = None
        self._ran = self._network_ran = False
        self._application = self._domain(APPLICATION_DOMAIN, flash)
        self._network = self._domain(NETWORK_DOMAIN, None)
        self._domains = (self._application, self._network)
        self._application.personalize(device_id, locked=locked, secure_locked=secure_locked)
        network_locked = locked if network_locked is None else network_locked
        self._network.personalize(device_id, locked=network_locked, secure_locked=False)
        for domain, other in zip(self._domains, reversed(self._domains), strict=True):
            domain.other_ram = other.layout.ram_base, other.ram
        self._install_hooks()
        self.set_power(True)

    def _domain(self, layout: Layout, flash: Buffer | None) -> Domain:
        if flash is None:
            flash = bytearray(b"\xff") * layout.flash_size
        return Domain(
            layout,
            flash,
            self.counters,
            request_reset=lambda: self._reset_by_itself(layout),
            changed=self._update,
        )

    def _install_hooks(self) -> None:
        hooks = self._application.hooks
        hooks[Register.RESETREAS] = Hook(lambda: self._resetreas, self.clear_resetreas)
        hooks[Register.GPREGRET0] = Hook(lambda: self.gpregret[0], lambda value: self._retain(0, value))
        hooks[Register.GPREGRET1] = Hook(lambda: self.gpregret[1], lambda value: self._retain(1, value))
        hooks[Register.NETWORK_FORCEOFF] = Hook(lambda: int(self.network_held), self._force_off)
        hooks[Register.P0_IN] = Hook(lambda: _WORD & ~(self.recovery_pin_low << _RECOVERY_PIN), lambda _value: None)
        for core, domain in enumerate(self._domains):
            domain.hooks[domain.layout.nvmc + NVMC_ERASEALL] = Hook(lambda: 0, self._nvmc_eraser(core))

    def _nvmc_eraser(self, core: int) -> Callable[[int], None]:
        def write(value: int) -> None:
            if value & 1 and self._domains[core].erase_enabled:
                self.erase_all(core)

        return write

    def _retain(self, index: int, value: int) -> None:
        self.gpregret[index] = value & 0xFF

    def _force_off(self, value: int) -> None:
        self.force_off_network_core(bool(value & 1))

    def force_off_network_core(self, off: bool) -> None:  # noqa: FBT001 - the register's one bit
        """NETWORK.FORCEOFF: hold the network core in reset, or let it start."""
        self.network_held = off
        self._reset_network()
        self._update()

    def _reset_network(self) -> None:
        self._network.reset()
        self.on_network_reset()

    # The CPU's view of memory.

    @property
    def flash(self) -> Buffer:
        """The application core's flash: 1 MiB at address 0, in pages of 4 KiB."""
        return self._application.flash

    @property
    def network_flash(self) -> Buffer:
        """The network core's flash: 256 KiB at 0x01000000, in pages of 2 KiB."""
        return self._network.flash

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of flash (of either core) or RAM; ValueError where they are not all in one memory."""
        for domain in self._domains:
            if (found := domain.find(address, size)) is not None:
                memory, offset = found
                return bytes(memory[offset : offset + size])
        raise ValueError(f"{size} bytes at 0x{address:08x} are not in one memory")

    def write_ram(self, address: int, data: bytes) -> None:
        """Write to the RAM of either core; ValueError where `data` is not all in one."""
        for domain in self._domains:
            offset = address - domain.layout.ram_base
            if 0 <= offset <= len(domain.ram) - len(data):
                domain.ram[offset : offset + len(data)] = data
                return
        raise ValueError(f"{len(data)} bytes at 0x{address:08x} are not in RAM")

    def erase(self, address: int) -> None:
        """Erase the flash page that begins at `address`; ValueError where none does."""
        self._flash_of(address).erase(address)

    def program(self, address: int, data: bytes) -> None:
        """Program flash: bits go from 1 to 0 only. ValueError unless address and length are multiples of 4."""
        self._flash_of(address).program(address, data)

    def _flash_of(self, address: int) -> Domain:
        for domain in self._domains:
            if 0 <= address - domain.layout.flash_base < domain.layout.flash_size:
                return domain
        raise ValueError(f"0x{address:08x} is not in flash")

    # Pins, power and resets.

    @property
    def resetreas(self) -> int:
        """RESETREAS: cumulative; 0 after power-on."""
        return self._resetreas

    def clear_resetreas(self, mask: int) -> None:
        """Write `mask` to RESETREAS: every bit that is 1 in it is cleared."""
        self._resetreas &= ~mask

    @property
    def powered(self) -> bool:
        """Whether there is supply."""
        return self._powered

    @property
    def nreset_low(self) -> bool:
        """The level of nRESET."""
        return bool(self._nreset_low)

    @property
    def cpu_runs(self) -> bool:
        """Whether the application CPU executes: powered, not held in reset, neither halted nor locked up."""
        core = self._application.core
        return self._powered and not (self.in_reset or core.halted or core.locked_up)

    @property
    def network_cpu_runs(self) -> bool:
        """Whether the network core's CPU executes."""
        network = self._network
        stopped = network.core.halted or network.core.locked_up or self._network_in_reset
        return self._powered and not stopped

    @property
    def _network_in_reset(self) -> bool:
        return self._nreset_holds or self.network_held or self._network.held_by_ctrl_ap

    @property
    def in_reset(self) -> bool:
        """Whether nRESET or CTRL-AP holds the application core."""
        return self._nreset_holds or self._application.held_by_ctrl_ap

    def drive_nreset(self, source: str, low: bool) -> None:  # noqa: FBT001 - a level
        """Let `source` drive nRESET low or let go of it; the line is low while anybody drives it.

        The CPU is held meanwhile, and pin reset follows when the last one lets go. A line that is low already when
        power comes does not hold the chip (Nordic DevZone 120250).
        """
        was_low = self.nreset_low
        (self._nreset_low.add if low else self._nreset_low.discard)(source)
        if not self._powered or was_low == self.nreset_low:
            return
        if self.nreset_low:
            self._nreset_holds = True
            self._reset_debug(port=self._loses_dp_on_pin_reset)
            self._update()
        elif self._nreset_holds:
            self._nreset_holds = False
            if self._pin_reset_clears_gpregret:
                self.gpregret[:] = 0, 0
            self.reset(ResetCause.RESETPIN)

    def set_power(self, on: bool) -> None:  # noqa: FBT001 - a level
        """Switch supply. Off loses all that is volatile and silences SWD; on is a power-on reset."""
        if on == self._powered:
            return
        self._powered = on
        if not on:
            self._update()  # firmware ends while RAM still holds what it works on
        self._nreset_holds = False
        self._resetreas = 0
        self._starting = None
        self.gpregret[:] = 0, 0
        for domain in self._domains:
            domain.clear_ram()
            domain.held_by_ctrl_ap = False
        self._reset_debug(port=True)
        if on:
            self.reset(ResetCause.POWER_ON)
        else:
            self._update()

    def reset(self, cause: ResetCause) -> None:
        """Reset the application core, and the network core into Force-OFF; nothing happens without power.

        The network core's RESETREAS has a bit for each of the application core's resets: it goes down with it.
        """
        if not self._powered:
            return
        self.counters.resets[cause] += 1
        self._resetreas |= cause
        self.unlock_key = 0
        self.network_held = True
        self._application.reset()
        self._reset_network()
        self._starting = cause
        self._update()

    def _reset_by_itself(self, layout: Layout) -> None:
        """AIRCR.SYSRESETREQ of a core."""
        if layout is APPLICATION_DOMAIN:
            self.reset(ResetCause.SREQ)
        else:
            self._reset_network()

    def _reset_debug(self, *, port: bool) -> None:
        # A pin reset resets debug logic on the nRF54L15; unverified for this chip. Doing it when nRESET falls lets
        # a debugger set vector catch while it holds the line.
        for domain in self._domains:
            domain.core.reset_debug()
        if port:
            self.on_debug_port_reset()

    def _update(self) -> None:
        """Work out what the CPU does now, and tell it to whoever runs its program."""
        self._application.core.in_reset = self.in_reset
        self._network.core.in_reset = self._network_in_reset
        if self._starting is not None and self.cpu_runs:
            cause, self._starting = self._starting, None
            if self._resetreas & ResetCause.RESETPIN:
                self.clear_resetreas(~ResetCause.RESETPIN)  # SystemInit, erratum 55
            self.on_reset(cause)
        if self.cpu_runs != self._ran:
            self._ran = not self._ran
            self.on_run_change(self._ran)
        if self.network_cpu_runs != self._network_ran:
            self._network_ran = not self._network_ran
            self.on_network_run_change(self._network_ran)

    # The debug access port. `core` is 0 for the application core, 1 for the network core.

    def bus_read(self, core: int, address: int) -> int:
        """The word at `address`, a multiple of 4, as that core's AHB-AP reads it; BusFault where there is nothing."""
        return self._domains[core].bus_read(address)

    def bus_write(self, core: int, address: int, value: int, mask: int = _WORD) -> None:
        """Write the bits in `mask` of the word at `address`, a multiple of 4; BusFault where that is not possible."""
        self._domains[core].bus_write(address, value, mask)

    def access_port_open(self, core: int) -> bool:
        """Whether an AHB-AP may access memory: not protected, and its core not in Force-OFF."""
        return self._domains[core].open and not (core and self.network_held)

    def secure_access_open(self, core: int) -> bool:
        """Whether it may access secure memory too."""
        return self._domains[core].secure_open and self.access_port_open(core)

    def held_by_ctrl_ap(self, core: int) -> bool:
        """What CTRL-AP RESET reads."""
        return self._domains[core].held_by_ctrl_ap

    def hold_by_ctrl_ap(self, core: int, hold: bool) -> None:  # noqa: FBT001 - a level
        """CTRL-AP RESET: 1 holds the core, going back to 0 is a soft reset of it."""
        domain = self._domains[core]
        if domain.held_by_ctrl_ap == hold:
            return
        domain.held_by_ctrl_ap = hold
        if not hold and domain is self._application:
            self.reset(ResetCause.CTRLAP)
            return
        if not hold:
            self._reset_network()
        self._update()

    def erase_all(self, core: int) -> None:
        """ERASEALL of CTRL-AP or NVMC: flash, UICR, RAM, peripheral settings; UICR.ERASEPROTECT blocks it.

        The access port is open afterwards until the next reset: the product specification says "temporarily", and
        an erased UICR protects. The CPU, with nothing left to execute, stays locked up until then (a real one may
        reset itself over and over). What a reset starts now is up to who runs the program.
        """
        domain = self._domains[core]
        if domain.erase_protected or not self._powered:
            return
        self.counters.erase_all += 1
        domain.erase_all()
        if self._clock is not None:
            self._busy_until[core] = self._clock() + ERASE_ALL_TIME
        self._update()

    def erase_all_busy(self, core: int) -> bool:
        """What CTRL-AP ERASEALLSTATUS reads."""
        return self._clock is not None and self._clock() < self._busy_until[core]

    def erase_protected(self, core: int) -> bool:
        """Whether UICR.ERASEPROTECT blocks ERASEALL."""
        return self._domains[core].erase_protected

    def unlock(self, core: int, key: int) -> None:
        """CTRL-AP APPROTECT.DISABLE: opens the access port until reset if firmware wrote the same key, and not 0.

        It opens the secure side too, which has a register of its own on a real chip.
        """
        if key and key == self.unlock_key:
            self._domains[core].set_access(open_=True, secure=True)
