"""One simulated board in virtual time: chip, running program and UART, joined without a clock and without I/O.

The owner tells the time: `Machine.receive` puts the host's bytes on the wire, `Machine.advance` lets firmware and wire
run up to `now` and returns what has left the board by then, `Machine.next_event` says when to call again. The same
machine so runs in real time behind a pty and, joined to a client, thousands of times faster in a test.

What is modelled beyond the program itself:

- While a page erases, received bytes that do not fit the UART's FIFO are lost; likewise during word writes, if asked
  for, and while a debugger halts the CPU. See `uart` for what that rests on.
- A reset drops the program between two instants. An erase counts as done from its beginning: a page whose erase was cut
  off reads as erased, unless `spoil` puts something there, since a real one may read anything. Of a write that is cut
  off, the words whose time had passed are in flash.
- A halted CPU stops sending in mid-byte and goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, Protocol

from pytest_nrfdfu.sim.chip import ResetCause
from pytest_nrfdfu.sim.faults import Trip
from pytest_nrfdfu.sim.firmware import (
    Effect,
    Erase,
    FlashTiming,
    Idle,
    Program,
    Reboot,
    Send,
    Sleep,
    Start,
    Write,
)
from pytest_nrfdfu.sim.tap import Tap
from pytest_nrfdfu.sim.uart import BITS_PER_BYTE, Uart

__all__ = ["Machine", "MachineChip"]

_WORD = 4
_NEVER = float("inf")
_MAX_STEPS = 100_000
"""Effects of a program without any time passing, before it is taken for an endless loop. A whole slot is erased and
written in fewer, also where flash takes no time."""
_ROUNDING = 1e-6
"""Words; see `uart` on rounding."""


class MachineChip(Protocol):
    """What the machine needs of a chip. The callbacks are the machine's."""

    on_reset: Callable[[ResetCause], None]
    on_run_change: Callable[[bool], None]

    @property
    def cpu_runs(self) -> bool:
        """False while the CPU is halted, held in reset or without power."""

    def erase(self, address: int) -> None:
        """Erase one page."""

    def program(self, address: int, data: bytes) -> None:
        """Write words."""

    def reset(self, cause: ResetCause) -> None:
        """Reset the chip."""

    def set_power(self, on: bool) -> None:  # noqa: FBT001 - the chip's signature
        """Switch the supply."""


class _Due(NamedTuple):
    """A fault that is to happen."""

    time: float
    trip: Trip


class Machine:
    """A board that runs `make_bootloader()` after every reset. All times are seconds of one monotonic clock.

    `spoil` is called with the address of a page whose erase a reset cut off.
    """

    def __init__(
        self,
        chip: MachineChip,
        make_bootloader: Callable[[], Program],
        *,
        uart: Uart | None = None,
        timing: FlashTiming | None = None,
        tap: Tap | None = None,
        spoil: Callable[[int], None] = lambda _address: None,
        now: float = 0.0,
    ) -> None:
        self.chip = chip
        self.uart = uart or Uart()
        self.timing = timing or FlashTiming()
        self.tap = tap or Tap()
        self.program: Program | None = None
        """What runs now; None before the first instant after a reset."""
        self.hung = False
        """The firmware is stuck until the next reset."""
        self.clock: Callable[[], float] | None = None
        """Tells the time when the chip is reset or halted from outside; without it that happens at the last instant."""
        self.companion: Machine | None = None
        """Another core of the same chip, which this machine takes along in time; see `take_along`."""
        self.on_wake: Callable[[], None] = lambda: None
        """Called when something outside changed what happens next, so `next_event` is to be asked again."""
        self._make_bootloader = make_bootloader
        self._spoil = spoil
        self._now = now
        self._inside = False
        self._running = chip.cpu_runs
        self._fresh = chip.cpu_runs
        self._main: Generator[Effect, None, None] | None = None
        self._effect: Effect | None = None
        self._began = now
        self._until = _NEVER
        self._reboot_at = _NEVER
        self._suspended_at = now
        self._unsent = b""
        self._due: _Due | None = None
        self._steps = 0
        chip.on_reset = self._on_reset
        chip.on_run_change = self._on_run_change

    # The owner's side.

    def receive(self, data: bytes, now: float) -> None:
        """The host starts to send `data` at `now`; the wire carries it at its own pace."""
        self.uart.receive(data, max(now, self._now))

    def advance(self, now: float) -> bytes:
        """Run up to `now`; returns the bytes that have left the board since the last call."""
        self._run(now)
        sent = self.uart.sent(self._now)
        if sent:
            self.tap.from_board(sent, self._now)
        return sent

    def next_event(self) -> float | None:
        """When `advance` is to be called next if nothing else happens before; None: not before something does."""
        other = None if self.companion is None else self.companion.next_event()
        times = [t for t in (self._next(), self.uart.next_sent(), other) if t is not None]
        return min(times) if times else None

    def take_along(self, companion: Machine) -> None:
        """Have `companion` run in step from now on: it is never behind when this machine does something."""
        self.companion = companion
        companion.clock = self._present
        companion.on_wake = self._wake

    def _wake(self) -> None:
        self.on_wake()

    def _present(self) -> float:
        return self._now if self._inside or self.clock is None else max(self._now, self.clock())

    def wake_program(self) -> None:
        """Another interrupt than the UART's: a program that idles goes on."""
        self.synchronize()
        if isinstance(self._effect, Idle):
            self._until = self._now
        self.on_wake()

    def hang(self) -> None:
        """Let the firmware get stuck, now, until the next reset."""
        self.synchronize()
        self._hang()
        self.on_wake()

    def interject(self, data: bytes) -> None:
        """Send `data` at once, in the middle of whatever is being sent: noise on the console."""
        self.synchronize()
        delay = self.uart.interject(data, self._now)
        if isinstance(self._effect, Send):
            self._until += delay
        self.on_wake()

    # What the chip reports.

    def _on_reset(self, _cause: ResetCause) -> None:
        self.synchronize()
        self._abort()
        self._running = self.chip.cpu_runs
        self._fresh = True
        self.on_wake()

    def _on_run_change(self, runs: bool) -> None:  # noqa: FBT001 - the chip's signature
        self.synchronize()
        if runs != self._running:
            self._running = runs
            if runs:
                self._go_on()
            else:
                self._suspend()
        self.on_wake()

    def synchronize(self) -> None:
        """Catch up with the clock before something from outside takes effect; what is to be sent is kept."""
        if not self._inside and self.clock is not None:
            self._run(self.clock())

    # The course of time.

    def _run(self, now: float) -> None:
        self._inside = True
        try:
            while (event := self._next()) is not None and event <= now:
                self._count_steps(event)
                self._now = max(self._now, event)
                self._lead()
                self._step()
            self._now = max(self._now, now)
            self._lead()
            self._absorb()
        finally:
            self._inside = False

    def _lead(self) -> None:
        if self.companion is not None:
            self.companion.advance(self._now)

    def _count_steps(self, event: float) -> None:
        self._steps = self._steps + 1 if event <= self._now else 0
        if self._steps > _MAX_STEPS:
            raise RuntimeError(f"{self.program!r} does not let time pass: {_MAX_STEPS} effects at {self._now:.6f} s")

    def _next(self) -> float | None:
        """When the firmware or a fault does something."""
        due = self._due.time if self._due is not None else _NEVER
        if self._running and not self.hung:
            if self._fresh:
                return self._now
            due = min(due, self._until, self._reboot_at)
            if isinstance(self._effect, Idle):
                arrival = self.uart.next_interrupt()
                due = due if arrival is None else min(due, max(arrival, self._now))
        return None if due == _NEVER else due

    def _step(self) -> None:
        if self._strike() or not self._running or self.hung:
            return
        if self._fresh:
            self._boot()
            return
        if self._reboot_at <= self._now:
            self.chip.reset(ResetCause.SREQ)
            return
        self._finish()
        # Received bytes may have been the last that a fault waited for.
        if not self._strike():
            self._proceed()

    def _boot(self) -> None:
        self._fresh = False
        self._launch(self._make_bootloader())

    def _launch(self, program: Program) -> None:
        self.program = program
        self._main = program.main()
        self._effect = None
        self._until = self._now

    def _proceed(self) -> None:
        """Let the program run to its next effect."""
        if self._main is None:
            return
        try:
            effect = next(self._main)
        except StopIteration:
            self._main = None
            self._effect, self._until = None, _NEVER
            return
        self._effect, self._began, self._until = effect, self._now, self._now
        self._begin(effect)

    def _begin(self, effect: Effect) -> None:
        match effect:
            case Erase(address=address):
                self.chip.erase(address)
                self._until += self.timing.of(effect)
            case Write():
                self._until += self.timing.of(effect)
            case Send(data=data):
                self._until = self.uart.transmit(data, self._now)
            case Idle(timeout=timeout):
                self._until = _NEVER if timeout is None else self._now + max(0.0, timeout)
            case Sleep(seconds=seconds):
                self._until += max(0.0, seconds)
            case Reboot(delay=delay) if delay > 0:
                self._reboot_at = min(self._reboot_at, self._now + delay)
            case Reboot():
                self.chip.reset(ResetCause.SREQ)
            case Start(program=program):
                self._launch(program)

    def _finish(self) -> None:
        """The present effect is over, or an idle program is woken."""
        stall = self.uart.config.stall
        match self._effect:
            case Erase() if stall != "none":
                self.uart.stall(self._now)
            case Write(address=address, data=data):
                if stall == "erase+write":
                    self._stall_per_word(len(data) // _WORD)
                self.chip.program(address, data)
        self._deliver(idle=isinstance(self._effect, Idle))

    def _stall_per_word(self, words: int) -> None:
        """Received bytes of a write: the CPU gets at the FIFO between two words only."""
        baudrate, word = self.uart.config.baudrate, self.timing.write_word
        if baudrate and word * baudrate / BITS_PER_BYTE + 1 <= self.uart.config.fifo:
            return  # the FIFO holds what comes in one word's time
        for number in range(1, words + 1):
            self.uart.stall(self._began + number * word)
            self._deliver(self._began + number * word)

    def _deliver(self, until: float | None = None, *, idle: bool = False) -> None:
        """The UART interrupt: the program takes what has arrived."""
        now = self._now if until is None else until
        data = self.uart.interrupts(now, idle=idle)
        if not data or self.program is None:
            return
        self.program.interrupt(data)
        uploads = self.tap.to_board(data, now)
        trip = self.uart.faults.trip
        if trip is not None and trip.count(uploads, len(data)):
            self.uart.faults.trip = None
            self._due = _Due(now + trip.delay, trip)

    def _absorb(self) -> None:
        """Take from the wire what nobody waits for, so that it does not pile up."""
        if self.program is None:
            self.uart.discard(self._now)
        elif self.hung or not self._running:
            self.uart.stall(self._now)
        elif self._effect is None or isinstance(self._effect, Send | Sleep):
            self._deliver()

    # What goes wrong.

    def _strike(self) -> bool:
        """Let a fault happen if it is due."""
        if self._due is None or self._due.time > self._now:
            return False
        trip, self._due = self._due.trip, None
        if trip.action == "hang":
            self._hang()
        elif ResetCause[trip.cause] == ResetCause.POWER_ON:
            self.chip.set_power(False)
            self.chip.set_power(True)
        else:
            self.chip.reset(ResetCause[trip.cause])
        return True

    def _hang(self) -> None:
        self.hung = True
        self.uart.stop(self._now)

    def _suspend(self) -> None:
        self._suspended_at = self._now
        self._unsent = self.uart.stop(self._now)

    def _go_on(self) -> None:
        """The CPU was halted and runs again: what it was at takes as much longer."""
        if self._fresh:
            return
        self.uart.stall(self._now)
        self._deliver()
        halted = self._now - self._suspended_at
        self._began += halted
        self._until += halted
        self._reboot_at += halted
        if self._unsent:
            self._until = self.uart.resume(self._unsent, self._now)
            self._unsent = b""

    def _abort(self) -> None:
        """The reset: the program is gone, in whatever it was."""
        stopped = self._now if self._running else self._suspended_at
        effect = self._effect
        if isinstance(effect, Write) and self.timing.write_word > 0 and not self.hung:
            words = int((stopped - self._began) / self.timing.write_word + _ROUNDING)
            if words > 0:
                self.chip.program(effect.address, effect.data[: words * _WORD])
        elif isinstance(effect, Erase) and stopped < self._until and not self.hung:
            self._spoil(effect.address)
        self.uart.stop(self._now)
        self.uart.discard(self._now)
        self._unsent = b""
        self._main, self.program, self._effect = None, None, None
        self._until = self._reboot_at = _NEVER
        self.hung = False
