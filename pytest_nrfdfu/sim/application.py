"""The simulated application: what a board says once its bootloader has started an image.

No firmware is executed. The text is made here, and names version and hash as the image in flash carries them, so that
a test can tell which image was started.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from pytest_nrfdfu.sim.app_behaviour import VersionBehaviour, behaviour_of, fault_dump
from pytest_nrfdfu.sim.app_identity import identify
from pytest_nrfdfu.sim.app_staging import StagingService
from pytest_nrfdfu.sim.firmware import Effect, Idle, Memory, Reboot, Send, Sleep
from pytest_nrfdfu.sim.slots import SlotArea

__all__ = ["BOOT_BANNER", "Abilities", "Application", "SmpService", "application_starter"]

BOOT_BANNER = b"*** Booting Zephyr OS build v4.4.0 ***\r\n"
"""As Zephyr prints it (kernel/banner.c, with CONFIG_BOOT_BANNER); its console ends lines with CR LF."""
_BOOT_DELAY = 5e-3
"""Seconds from the vector table to the first byte of the banner. A guess: no source gives one."""
_LOOP_DELAY = 0.05
"""Seconds until an application resets that does nothing else."""
_FAULT_DELAY = 0.01
"""Seconds from the banner to the fault."""
_FAULT_OFFSET = 0x45A
"""Of the faulting instruction in its slot: somewhere behind the header."""


class Service(Protocol):
    """Something that the application serves; see `app_smp` and `app_staging`."""

    @property
    def waiting(self) -> bool:
        """Something has come that is not answered yet."""

    def serve(self) -> Generator[Effect, None, None]:
        """Answer what was received."""


class SmpService(Service, Protocol):
    """An SMP server on the console's UART."""

    def feed(self, data: bytes) -> None:
        """Bytes from the UART."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What each run of an application is made with."""

    behaviours: tuple[VersionBehaviour, ...] = ()
    """What images do, by version; others run."""
    make_smp: Callable[[], SmpService] | None = None
    make_staging: Callable[[], StagingService] | None = None
    confirm: Callable[[], Generator[Effect, None, object]] | None = None
    """Marks the running image as confirmed, for the behaviour that does."""


_NO_ABILITIES = Abilities()


class Application:
    """Prints the boot banner and its identity, then waits for ever, or serves what it has; or behaves badly.

    What it receives without an SMP server is dropped.
    """

    name = "application"

    def __init__(
        self,
        memory: Memory,
        area: SlotArea,
        *,
        boot_delay: float = _BOOT_DELAY,
        abilities: Abilities = _NO_ABILITIES,
    ) -> None:
        self.area = area
        self.listening = False
        """Whether it has started its UART."""
        self.staging: StagingService | None = None
        """Its own update service, once it runs."""
        self._image = identify(memory, area)
        self._boot_delay = boot_delay
        self._abilities = abilities
        version = None if self._image is None else str(self._image.version)
        self._behaviour = behaviour_of(version, abilities.behaviours)
        serves = self._behaviour in {"runs", "confirms", "silent"}
        self._smp = abilities.make_smp() if serves and abilities.make_smp is not None else None

    def interrupt(self, data: bytes) -> None:
        """What comes before the UART was started is lost."""
        if self._smp is not None and self.listening:
            self._smp.feed(data)

    def main(self) -> Generator[Effect, None, None]:
        """From the vector table on."""
        behaviour = self._behaviour
        yield Sleep(self._boot_delay)
        if behaviour == "boot-loops":
            yield Sleep(_LOOP_DELAY)
            yield Reboot()
        self.listening = True
        if behaviour != "silent":
            yield Send(BOOT_BANNER + self._greeting())
        if behaviour == "confirms" and self._abilities.confirm is not None:
            yield from self._abilities.confirm()
        if behaviour in {"faults", "halts"}:
            yield from self._fault(halts=behaviour == "halts")
        elif behaviour != "hangs":
            yield from self._serve()

    def _fault(self, *, halts: bool) -> Generator[Effect, None, None]:
        yield Sleep(_FAULT_DELAY)
        yield Send(fault_dump(address=self.area.address + _FAULT_OFFSET, halts=halts))
        if not halts:
            yield Reboot()

    def _serve(self) -> Generator[Effect, None, None]:
        make_staging = self._abilities.make_staging
        self.staging = None if make_staging is None else make_staging()
        services = [service for service in (self._smp, self.staging) if service is not None]
        while True:
            for service in services:
                yield from service.serve()
            if not any(service.waiting for service in services):  # one may have come while another was served
                yield Idle()

    def _greeting(self) -> bytes:
        if self._image is None:
            return b"nrfdfu-sim: no image\r\n"
        digest = self._image.hash.hex() or "none"
        return f"nrfdfu-sim: application {self._image.version} hash {digest}\r\n".encode()


def application_starter(
    memory: Memory, *, boot_delay: float = _BOOT_DELAY, abilities: Abilities = _NO_ABILITIES
) -> Callable[[SlotArea], Application]:
    """What the bootloader calls with the slot that it starts."""

    def start(area: SlotArea) -> Application:
        return Application(memory, area, boot_delay=boot_delay, abilities=abilities)

    return start
