"""A simulated MCUboot on an nRF5340: which way a boot takes, and serial recovery's main loop. Sans-IO.

The order of the ways is that of main() in MCUboot's boot/zephyr/main.c:

1. recovery pin held, after power-on or a pin reset (io_detect_pin and io_boot_skip_serial_recovery)
2. pin reset (io_detect_pin_reset)
3. boot_go: images are swapped where trailers ask for it (`swap`), and the primary slot is validated
4. retained boot mode (io_detect_boot_mode)
5. a window in which any SMP request keeps the chip in recovery (boot_serial_check_start)
6. no valid image
7. the image is started

What it sees of the chip is `Hardware`; flash is changed, and time passes, only by the effects that it yields.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.image.format import ERASED, MAGIC
from pytest_nrfdfu.image.keys import PublicKey, parse_public_key
from pytest_nrfdfu.sim.boot_log import BootLog
from pytest_nrfdfu.sim.console_rx import LineBuffers, PacketReceiver
from pytest_nrfdfu.sim.firmware import Effect, Erase, Idle, Memory, Program, Sleep, Start
from pytest_nrfdfu.sim.pcd import PcdHooks
from pytest_nrfdfu.sim.recovery import Recovery
from pytest_nrfdfu.sim.retention import RetainedMemory, Retention
from pytest_nrfdfu.sim.slots import NRF5340_SLOTS, Geometry, SlotArea, Slots
from pytest_nrfdfu.sim.swap import BootPanic, Swapper
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.sim.upload_faults import UploadFaults
from pytest_nrfdfu.sim.validate import Validator, read_header

__all__ = ["NRF5340_SLOTS", "Bootloader", "Geometry", "Hardware", "SlotArea"]

RESETPIN = 1 << 0
"""Bit of RESETREAS (nRF5340 product specification, RESET). RESETREAS is 0 after power-on."""
BOOT_MODE_BOOTLOADER = 1
"""BOOT_MODE_TYPE_BOOTLOADER (Zephyr, include/zephyr/retention/bootmode.h)."""

_DEBOUNCE = 0.05
_PIN_SAMPLE = 0.001
"""Seconds before the recovery pin is sampled again, and between samples, with a detect delay (io.c)."""
_ERASED_MAGIC = bytes([ERASED]) * 4
_WINDOW_STEP = 0.01
"""Seconds in which the wait-for-dfu window is counted down."""


class Hardware(Memory, RetainedMemory, Protocol):
    """The chip, as MCUboot sees it."""

    @property
    def resetreas(self) -> int:
        """RESETREAS: causes of the resets since it was cleared."""

    def clear_resetreas(self, mask: int) -> None:
        """Clear the bits of `mask` in RESETREAS."""

    @property
    def recovery_pin_low(self) -> bool:
        """The level at the recovery pin, which is active low."""


def _read_key(data: bytes) -> PublicKey:
    try:
        return parse_public_key(data)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class Bootloader:
    """One boot of MCUboot. After a reset, make a new one: nothing in it survives.

    `start_application` gives the program for a valid slot. `public_key` is the content of a key file (ValueError if it
    holds none that MCUboot knows); without one only the SHA TLV is checked. `stay_in_recovery` leaves out all the ways
    but serial recovery. `hooks` are there in a bootloader that updates the network core. `retention` is where the boot
    mode is kept. With `log` it writes MCUboot's log to the console.
    """

    def __init__(  # noqa: PLR0913 - each is a fact about the build or the chip
        self,
        profile: BootloaderProfile,
        hardware: Hardware,
        areas: tuple[SlotArea, ...] = NRF5340_SLOTS,
        *,
        start_application: Callable[[SlotArea], Program],
        public_key: bytes | None = None,
        geometry: Geometry = Geometry(),  # noqa: B008 - frozen
        stay_in_recovery: bool = False,
        hooks: PcdHooks | None = None,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        log: bool = False,
    ) -> None:
        self._log = BootLog(log)
        self._hooks = hooks
        self._retention = retention
        self._profile = profile
        self._hardware = hardware
        self._slots = Slots(hardware, areas, geometry)
        self._start_application = start_application
        self._stay_in_recovery = stay_in_recovery
        self._trailers = trailers = Trailers(self._slots, profile.swap)
        key = None if public_key is None else _read_key(public_key)
        self._validator = Validator(self._slots, key, trailers.max_image_size)
        self._swapper = Swapper(trailers, self._validator, profile.images, self._log, hooks)
        self._lines = LineBuffers(profile.line_buffers, profile.line_length)
        self._receiver = PacketReceiver(profile.receive_size)
        self._recovery = Recovery(profile, trailers, self._validator, self._receiver, hooks)
        self._listening = False
        self._wakeups = 0
        self._in_recovery = False
        self._erases = 0

    @property
    def in_recovery(self) -> bool:
        """In serial recovery for good; in the wait-for-dfu window only after the first request."""
        return self._in_recovery

    @property
    def listening(self) -> bool:
        """Whether it has opened its console, which it does for recovery and for the wait-for-dfu window."""
        return self._listening

    @property
    def uploads(self) -> int:
        """Uploads begun: accepted chunks at offset 0."""
        return self._recovery.upload.begun

    @property
    def erases(self) -> int:
        """Flash pages erased."""
        return self._erases

    @property
    def requests(self) -> int:
        """Packets received whose framing and header were right."""
        return self._recovery.requests

    @property
    def responses(self) -> int:
        """Responses sent."""
        return self._recovery.responses

    @property
    def dropped_lines(self) -> int:
        """Lines of which bytes were dropped because no line buffer was free."""
        return self._lines.dropped

    def suffer(self, faults: UploadFaults) -> None:
        """Let uploads suffer `faults` from now on."""
        self._recovery.faults = faults

    def holds_valid_image(self, area: SlotArea) -> bool:
        """Whether the image list would show what is in a slot: hash, and signature where there is a key, are right."""
        base = self._trailers.image_start(area)
        header = read_header(self._slots, area, base)
        return header.magic == MAGIC and self._validator.valid(area, header, base)

    def interrupt(self, data: bytes) -> None:
        """Bytes that the UART has received; before MCUboot has opened its console they are lost."""
        if self._listening:
            self._lines.feed(data)
            self._wakeups += len(data)

    def main(self) -> Generator[Effect, None, None]:
        """One boot, until recovery resets the chip, the application starts, or nothing boots."""
        yield from self._log.banner()
        yield from self._log.info("Starting bootloader")
        if self._hooks is not None:
            self._hooks.start()
        if self._stay_in_recovery or (yield from self._enters_early()):
            yield from self._recover()
            return
        window = "wait-for-dfu" in self._profile.entrances
        self._listening = window  # so that the first request may come while the image is validated
        try:
            application = yield from self._boot_go()
        except BootPanic:
            yield from self._log.error("panic!")
            return
        if self._boot_mode_requested():
            yield from self._recover()
            return
        if window:
            yield from self._serve(self._profile.wait_for_dfu)
        if application is None:
            yield from self._log.error("Unable to find bootable image")
            if "no-application" in self._profile.entrances:
                yield from self._recover()
            return
        version = read_header(self._slots, application).version
        yield from self._log.info(f"Bootloader chainload address offset: 0x{application.address:x}")
        yield from self._log.info(f"Image version: v{version.major}.{version.minor}.{version.revision}")
        yield from self._log.info("Jumping to the first image slot")
        yield Start(self._start_application(application))

    def _enters_early(self) -> Generator[Effect, None, bool]:
        """The ways into recovery that do not look at the image."""
        entrances = self._profile.entrances
        if "gpio" in entrances and (yield from self._pin_held()) and not self._cause_forbids_pin():
            return True
        return "pin-reset" in entrances and self._pin_was_reset()

    def _pin_held(self) -> Generator[Effect, None, bool]:
        """io_detect_pin: one look, or with a detect delay, held all that time."""
        delay = self._profile.detect_delay
        if not self._hardware.recovery_pin_low or delay <= 0:
            return self._hardware.recovery_pin_low
        yield Sleep(_DEBOUNCE)
        for _ in range(round(delay / _PIN_SAMPLE)):
            if not self._hardware.recovery_pin_low:
                return False
            yield Sleep(_PIN_SAMPLE)
        return self._hardware.recovery_pin_low

    def _cause_forbids_pin(self) -> bool:
        """io_boot_skip_serial_recovery: only power-on and pin reset count, but RESETPIN may be an old one."""
        cause = self._hardware.resetreas
        return self._profile.gpio_needs_pin_reset and cause != 0 and not cause & RESETPIN

    def _pin_was_reset(self) -> bool:
        cause = self._hardware.resetreas
        if not (cause == RESETPIN if self._profile.pin_reset_alone else cause & RESETPIN):
            return False
        self._hardware.clear_resetreas(cause)
        return True

    def _boot_mode_requested(self) -> bool:
        """io_detect_boot_mode."""
        hardware, retention = self._hardware, self._retention
        if "boot-mode" not in self._profile.entrances or retention.mode(hardware) != BOOT_MODE_BOOTLOADER:
            return False
        retention.clear(hardware)
        return True

    def _boot_go(self) -> Generator[Effect, None, SlotArea | None]:
        """Swap what is to be swapped, then choose what to start: image 0's primary slot, if all of them are valid."""
        yield from self._counted(self._swapper.run())
        primaries = [self._slots.find(image, 0) for image in range(self._profile.images)]
        for area in primaries:
            if area is None or not (yield from self._bootable(area)):
                return None
        return primaries[0]

    def _bootable(self, area: SlotArea) -> Generator[Effect, None, bool]:
        """The network core's virtual slot is always valid (boot_image_check_hook)."""
        if (self._hooks is not None and area.virtual) or self._validator.bootable(area):
            return True
        if self._slots.read(area, 0, len(_ERASED_MAGIC)) != _ERASED_MAGIC:
            yield from self._log.error("Image in the primary slot is not valid!")
        return False

    def _counted(self, effects: Generator[Effect, None, None]) -> Generator[Effect, None, None]:
        for effect in effects:
            self._erases += isinstance(effect, Erase)
            yield effect

    def _recover(self) -> Generator[Effect, None, None]:
        yield from self._log.info("Enter the serial recovery mode")
        self._listening = self._in_recovery = True
        yield from self._serve(None)

    def _serve(self, window: float | None) -> Generator[Effect, None, None]:
        """boot_serial_read_console: for ever, or for `window` seconds unless a request comes.

        Time is counted only while nothing arrives, which makes the window longer under steady input, as it was in
        MCUboot before 08e484f3.
        """
        while self._in_recovery or window is None or window > 0:
            line = yield from self._next_line(None if self._in_recovery else _WINDOW_STEP)
            if line is None:
                window = None if window is None else window - _WINDOW_STEP
                continue
            packet = self._receiver.take_line(line)
            if packet is not None:
                yield from self._handle(packet)

    def _handle(self, packet: bytes) -> Generator[Effect, None, None]:
        before = self._recovery.requests
        yield from self._counted(self._recovery.handle(packet))
        self._in_recovery = self._in_recovery or self._recovery.requests > before
        self._wakeups = 0

    def _next_line(self, timeout: float | None) -> Generator[Effect, None, bytes | None]:
        """The next line; None when `timeout` seconds brought nothing."""
        if not self._profile.queues_commands and "wait-for-dfu" not in self._profile.entrances:
            # Before 6ba46c0b the CPU slept before every look at the queue: a line that had come while a command was
            # carried out lay there until the UART brought another byte.
            while self._wakeups == 0:
                yield Idle(timeout)
            self._wakeups -= 1
            return self._lines.take()
        line = self._lines.take()
        while line is None:
            self._wakeups = 0
            yield Idle(timeout)
            line = self._lines.take()
            if timeout is not None and self._wakeups == 0:
                break
        return line
