"""What simulated firmware is: an interrupt handler and a main routine that yields what it does to the chip.

Nothing in the simulator executes Arm instructions. A *program* (the bootloader, an application) is a Python object:
the machine calls `Program.interrupt` with bytes that its UART received, and drives the generator `Program.main`.
The generator yields effects; the machine applies each to flash, wire or clock, charges its time, and resumes the
generator. So a reset may strike between any two flash operations, and the same program runs in real time, in virtual
time, and with no clock at all when recordings are replayed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = [
    "Effect",
    "Erase",
    "FlashTiming",
    "Idle",
    "Memory",
    "Program",
    "Reboot",
    "Send",
    "Sleep",
    "Start",
    "Write",
]


class Erase(NamedTuple):
    """Erase one flash page; `address` is its first byte."""

    address: int


class Write(NamedTuple):
    """Program flash: bits go from 1 to 0 only. Address and length are multiples of 4."""

    address: int
    data: bytes


class Send(NamedTuple):
    """Transmit on the console UART; returns when the last byte has left (as polled output does)."""

    data: bytes


class Idle(NamedTuple):
    """Do nothing until an interrupt brought bytes, or `timeout` seconds have passed (None: for ever)."""

    timeout: float | None = None


class Sleep(NamedTuple):
    """Let `seconds` pass; the UART interrupt goes on running."""

    seconds: float


class Reboot(NamedTuple):
    """Soft reset (SYSRESETREQ), `delay` seconds from now by a timer. Only with a delay is the generator resumed."""

    delay: float = 0.0


class Start(NamedTuple):
    """Hand the chip to another program (the bootloader starts the application). The generator is not resumed."""

    program: Program


Effect = Erase | Write | Send | Idle | Sleep | Reboot | Start


class Program(Protocol):
    """Firmware as the machine sees it."""

    def interrupt(self, data: bytes) -> None:
        """Bytes that the UART has received. Called between effects, and during `Idle`, `Sleep` and `Send`."""

    def main(self) -> Generator[Effect, None, None]:
        """The main routine, from reset on. Returning means the CPU sits in an endless loop."""


class Memory(Protocol):
    """Flash as a program reads it. Addresses are those of the chip; reading takes no time."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""


@dataclass(frozen=True, slots=True)
class FlashTiming:
    """How long flash operations take, in seconds.

    Defaults: nRF5340 product specification, NVMC electrical specification (t_ERASEPAGE 87.5 ms, t_WRITE 43 us a word).
    """

    erase_page: float = 87.5e-3
    write_word: float = 43e-6

    def of(self, effect: Effect) -> float:
        """Seconds that a flash effect takes; 0.0 for every other effect."""
        match effect:
            case Erase():
                return self.erase_page
            case Write(data=data):
                return self.write_word * ((len(data) + 3) // 4)
            case _:
                return 0.0
