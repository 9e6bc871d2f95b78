"""A whole simulated board, composed: chip, UART, faults, tap, bootloader and application. No clock, no I/O."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

from pytest_nrfdfu.image.bootloader import PROFILES, BootloaderProfile, network_upload_number
from pytest_nrfdfu.sim.app_behaviour import VersionBehaviour
from pytest_nrfdfu.sim.app_identity import identify
from pytest_nrfdfu.sim.app_slots import ApplicationSlots
from pytest_nrfdfu.sim.app_smp import SmpServer
from pytest_nrfdfu.sim.app_staging import SavedProgress, StagingService
from pytest_nrfdfu.sim.app_upload import EraseWhen, ImageOptions
from pytest_nrfdfu.sim.application import Abilities, Application, application_starter
from pytest_nrfdfu.sim.bootloader import Bootloader
from pytest_nrfdfu.sim.chip import Buffer, Chip, ResetCause
from pytest_nrfdfu.sim.domain import NETWORK_DOMAIN
from pytest_nrfdfu.sim.faults import Faults
from pytest_nrfdfu.sim.firmware import FlashTiming, Program
from pytest_nrfdfu.sim.machine import Machine
from pytest_nrfdfu.sim.pcd import NetworkBootloader, NetworkCore, NetworkCpu, PcdHooks, PcdTiming
from pytest_nrfdfu.sim.retention import Retention
from pytest_nrfdfu.sim.slots import NRF5340_VIRTUAL_SLOT, SlotArea, Slots, nrf5340_slots
from pytest_nrfdfu.sim.tap import Tap
from pytest_nrfdfu.sim.traffic import Traffic
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.sim.uart import Uart, UartConfig, UartCounters
from pytest_nrfdfu.smp.console import wire_size

__all__ = ["ApplicationSmp", "BoardOptions", "CutErase", "SimBoard", "SlotContents"]

_WORD = 4
_PAGE = 4096
ApplicationSmp = Literal["none", "old", "full"]
"""The application's SMP server: none; an old one, before Zephyr 4.2 (OS reset knows no boot mode), built so that it
overwrites no pending image and compares no digest; or a full one."""
CutErase = Literal["erased", "garbage"]
"""What a page reads as whose erase a reset or a power cut has interrupted: erased, or anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardOptions:
    """What a simulated board is like."""

    name: str = "nrf5340dk"
    profile: BootloaderProfile = PROFILES["ncs-2.6"]
    uart: UartConfig = field(default_factory=UartConfig)
    timing: FlashTiming = field(default_factory=FlashTiming)
    flash: Buffer | None = None
    """1 MiB; None: erased."""
    image: bytes | None = None
    """Put in slot 0 before the first boot."""
    public_key: bytes | None = None
    """PEM; without one the bootloader checks hashes only."""
    stay_in_recovery: bool = False
    network_core: bool = False
    """The bootloader has Nordic's hooks for the network core, and that has b0n; the profile's `images` may be 2."""
    network_core_number: int | None = None
    """The number of the upload that updates the network core. None: 3 with direct upload; without, 1 with two images,
    and none with one. Nordic's hooks compare with 3 always, so a bootloader that has them, two images and no direct
    upload takes number 1 and copies nothing: that is 3 here."""
    pcd: PcdTiming = field(default_factory=PcdTiming)
    locked: bool = False
    secure_locked: bool = False
    """SECUREAPPROTECT alone."""
    network_locked: bool | None = None
    """The network core's access port protection; None: as the application core's."""
    retention: Retention = field(default_factory=Retention)
    """How the boot mode is kept."""
    application_smp: ApplicationSmp = "none"
    application_erase: EraseWhen = "at-start"
    application_frugal_list: bool = False
    """The application's image list leaves out what is false."""
    applications: tuple[VersionBehaviour, ...] = ()
    """What images do, by version; others run."""
    staging: bool = False
    """The application has an update service of its own, besides SMP."""
    bootloader_log: bool = False
    """MCUboot logs on the console."""
    loses_dp_on_pin_reset: bool = False
    cut_erase: CutErase = "erased"
    seed: int = 0
    """Of all that is made up: damage on the UART, and garbage in flash."""
    drop_rate: float = 0.0
    flip_rate: float = 0.0
    line_loss: float = 0.0
    """Share of whole lines lost, each way."""


class SlotContents(NamedTuple):
    """What is in a slot, as its bytes say."""

    sha256: str
    """Of the bytes that were asked for, in hex."""
    version: str | None
    image_hash: str | None
    """The image's hash TLV, in hex."""
    valid: bool
    """Whether the bootloader that ran last would list it."""


@dataclass(slots=True)
class _Past:
    """Counts of bootloaders that no longer run: every boot makes a new one."""

    uploads: int = 0
    erases: int = 0
    dropped_lines: int = 0

    def add(self, program: Bootloader) -> None:
        self.uploads += program.uploads
        self.erases += program.erases
        self.dropped_lines += program.dropped_lines


class SimBoard:
    """One board. `clock` tells the chip and the machine the time (seconds) where something outside acts on them."""

    def __init__(self, options: BoardOptions, *, clock: Callable[[], float] | None = None, now: float = 0.0) -> None:
        self.options = options
        self.slots = nrf5340_slots(options.profile.images, network_core=options.network_core)
        self.faults = Faults(options.seed)
        self.faults.set_rate("drop_rate", options.drop_rate)
        self.faults.set_rate("flip_rate", options.flip_rate)
        self.faults.set_rate("line_loss", options.line_loss)
        self.chip = Chip(
            flash=options.flash,
            locked=options.locked,
            secure_locked=options.secure_locked,
            network_locked=options.network_locked,
            loses_dp_on_pin_reset=options.loses_dp_on_pin_reset,
            clock=clock,
        )
        self.tap = Tap()
        self.traffic = Traffic(options.uart)
        self.network_core = NetworkCore(self.chip, NRF5340_VIRTUAL_SLOT, options.pcd) if options.network_core else None
        self._trailers = Trailers(Slots(self.chip, self.slots), options.profile.swap)
        self._saved = SavedProgress()
        self._start_application = application_starter(self.chip, abilities=self._abilities())
        self._bootloader: Bootloader | None = None
        self._past = _Past()
        self._pin_low: set[str] = set()
        if options.image is not None:
            self._load(options.image)
        self._make_bootloader()  # a key that cannot be read is an error now, not at the first boot
        self._bootloader = None
        self.machine = Machine(
            self.chip,
            self._make_bootloader,
            uart=Uart(options.uart, self.faults),
            timing=options.timing,
            tap=self.tap,
            spoil=self._spoiler(_PAGE),
            now=now,
        )
        self.machine.clock = clock
        if self.network_core is not None:
            self.machine.take_along(self._network_machine(self.network_core, now))

    def _network_machine(self, core: NetworkCore, now: float) -> Machine:
        return Machine(
            NetworkCpu(self.chip),
            lambda: NetworkBootloader(core),
            timing=self.options.timing,
            spoil=self._spoiler(NETWORK_DOMAIN.page_size),
            now=now,
        )

    def _spoiler(self, page: int) -> Callable[[int], None]:
        """What happens to a page, of `page` bytes, whose erase was cut off."""
        rng = random.Random(f"{self.options.seed} erase")  # noqa: S311 - repeatable on purpose

        def spoil(address: int) -> None:
            if self.options.cut_erase == "garbage":
                self.chip.program(address, rng.randbytes(page))

        return spoil

    def _hooks(self) -> PcdHooks | None:
        options = self.options
        if not options.network_core:
            return None
        number = options.network_core_number
        if number is None:
            profile = options.profile
            number = network_upload_number(direct_upload=profile.direct_upload, images=profile.images)
        return PcdHooks(self.chip, NRF5340_VIRTUAL_SLOT, number, options.pcd)

    def _abilities(self) -> Abilities:
        options = self.options
        slots = ApplicationSlots(self._trailers, options.profile.images)
        return Abilities(
            behaviours=options.applications,
            make_smp=None if options.application_smp == "none" else self._make_smp,
            make_staging=(lambda: StagingService(slots, self._saved)) if options.staging else None,
            confirm=lambda: self._trailers.set_confirmed(0),
        )

    def _make_smp(self) -> SmpServer:
        options = self.options
        full = options.application_smp == "full"
        image_options = ImageOptions(
            erase=options.application_erase, erases_pending=full, checks=full, frugal=options.application_frugal_list
        )
        retention = options.retention if full else None
        return SmpServer(self.chip, self._trailers, options.profile.images, retention, options=image_options)

    def _make_bootloader(self) -> Bootloader:
        if self._bootloader is not None:
            self._past.add(self._bootloader)
        self._bootloader = Bootloader(
            self.options.profile,
            self.chip,
            self.slots,
            start_application=self._start_application,
            public_key=self.options.public_key,
            stay_in_recovery=self.options.stay_in_recovery,
            hooks=self._hooks(),
            retention=self.options.retention,
            log=self.options.bootloader_log,
        )
        self._bootloader.suffer(self.faults.uploads)
        return self._bootloader

    def _load(self, image: bytes) -> None:
        area = self.slots[0]
        if len(image) > area.size:
            raise ValueError(f"the image has {len(image)} bytes, slot 0 holds {area.size}")
        for offset in range(0, area.size, _PAGE):
            self.chip.erase(area.address + offset)
        self.chip.program(area.address, image + b"\xff" * (-len(image) % _WORD))

    # What hands and adapters do to the board.

    def drive_recovery_pin(self, source: str, *, low: bool) -> None:
        """Let `source` pull P0.23 low, or let go of it. Low is asserted: the pin has a pull-up."""
        self.machine.synchronize()
        (self._pin_low.add if low else self._pin_low.discard)(source)
        self.chip.recovery_pin_low = bool(self._pin_low)

    # What tests ask.

    @property
    def in_recovery(self) -> bool:
        """Whether serial recovery runs now."""
        program = self.machine.program
        return isinstance(program, Bootloader) and program.in_recovery

    @property
    def _running(self) -> Program | None:
        """The program, None while power is off or the chip is held in reset."""
        return self.machine.program if self.chip.powered and not self.chip.in_reset else None

    @property
    def uart_owner(self) -> object | None:
        """The program that has started the UART, None while none has. Each boot has programs of its own."""
        program = self._running
        return program if isinstance(program, Bootloader | Application) and program.listening else None

    @property
    def staging(self) -> StagingService | None:
        """The running application's own update service, None while there is none."""
        program = self._running
        return program.staging if isinstance(program, Application) else None

    @property
    def program(self) -> str:
        """What runs now: ``bootloader``, ``application`` or ``none``."""
        program = self.machine.program
        if program is None or not self.chip.powered:
            return "none"
        return "bootloader" if isinstance(program, Bootloader) else "application"

    def slot(self, number: int) -> SlotArea:
        """The area of slot0, slot1, ...; ValueError with the known numbers for another."""
        known = {area.image * 2 + area.slot: area for area in self.slots}
        if number not in known:
            raise ValueError(f"there is no slot {number}; there are {', '.join(map(str, known))}")
        return known[number]

    def slot_contents(self, number: int, size: int | None = None) -> SlotContents:
        """The digest of the first `size` bytes of a slot (all without), and how its image calls itself."""
        area = self.slot(number)
        size = area.size if size is None else size
        if not 0 <= size <= area.size:
            raise ValueError(f"slot {number} has {area.size} bytes, not {size}")
        found = identify(self.chip, area, self._trailers.image_start(area))
        return SlotContents(
            hashlib.sha256(self.chip.read(area.address, size)).hexdigest(),
            None if found is None else str(found.version),
            None if found is None else found.hash.hex(),
            self._bootloader is not None and self._bootloader.holds_valid_image(area),
        )

    def trailer(self, number: int) -> dict[str, Any]:
        """What a slot's trailer says, for JSON: each field is ``set``, ``unset`` or ``bad``, `swap_type` a word."""
        area = self.slot(number)
        if area.virtual:
            raise ValueError(f"slot {number} is not in this core's flash")
        state = self._trailers.read(area)
        return {
            "magic": state.magic.name.lower(),
            "swap_type": state.swap_type.name.lower(),
            "copy_done": state.copy_done.name.lower(),
            "image_ok": state.image_ok.name.lower(),
        }

    def read_flash(self, address: int, size: int) -> bytes:
        """Flash of the application core."""
        whole = len(self.chip.flash)
        if address < 0 or size < 0 or address + size > whole:
            raise ValueError(f"{size} bytes at 0x{address:x} are not in flash, which has {whole} bytes")
        return self.chip.read(address, size)

    def state(self) -> dict[str, Any]:
        """What the board is doing, for JSON."""
        return {
            "program": self.program,
            "in_recovery": self.in_recovery,
            "recovery_pin_low": self.chip.recovery_pin_low,
            "nreset_low": self.chip.nreset_low,
            "powered": self.chip.powered,
            "cpu_runs": self.chip.cpu_runs,
            "hung": self.machine.hung,
        }

    def counters(self) -> dict[str, Any]:
        """What has happened, for JSON. `uploads` are uploads begun, `upload_requests` all their chunks.

        `network_core` is None on a board whose bootloader does not update it; see `NetworkCore.counters`.
        """
        now = _Past(**asdict(self._past))
        if self._bootloader is not None:
            now.add(self._bootloader)
        tap, chip, faults = self.tap.counters, self.chip.counters, self.faults
        return {
            **asdict(now),
            "requests": tap.requests,
            "upload_requests": tap.uploads,
            "upload_seconds": self._upload_seconds(),
            "responses": tap.responses,
            "damaged_frames": tap.damaged,
            "resets": {_cause_name(cause): count for cause, count in chip.resets.items()},
            "uart": asdict(self.machine.uart.counters),
            "faults": {
                f"{direction}_{kind}": getattr(getattr(faults, direction), kind)
                for direction in ("to_board", "from_board")
                for kind in ("dropped", "flipped", "lines_lost")
            },
            "debugger_writes": chip.debugger_writes,
            "debugger_erases": chip.debugger_erases,
            "erase_all": chip.erase_all,
            "network_core": None if self.network_core is None else self.network_core.counters(),
        }

    def _upload_seconds(self) -> float | None:
        """From the first byte of the first upload request until the last response to one has left; None before that."""
        first, last = self.tap.first_upload, self.tap.last_upload
        if first is None or last is None:
            return None
        return last - first.time + self.options.uart.seconds(wire_size(len(first.data)))

    def reset_counters(self) -> None:
        """Set every counter to 0, and forget the recorded exchanges."""
        self.tap.clear()
        self.traffic.clear()
        self.machine.uart.counters = UartCounters()
        for direction in (self.faults.to_board, self.faults.from_board):
            direction.dropped = direction.flipped = direction.lines_lost = 0
        self._past = _Past()
        if self._bootloader is not None:
            negative = _Past()
            negative.add(self._bootloader)
            for item in fields(_Past):
                setattr(self._past, item.name, -getattr(negative, item.name))
        chip = self.chip.counters
        chip.resets.clear()
        chip.debugger_writes = chip.debugger_erases = chip.erase_all = 0
        if self.network_core is not None:
            self.network_core.reset_counters()


def _cause_name(cause: ResetCause) -> str:
    return cause.name or str(int(cause))
