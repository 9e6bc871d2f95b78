"""One physical board as long as this process holds it: ports, rig, and what is known to be on it.

A unit outlives tests; a `Board` is the handle that one test gets on it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import SmpTimeout
from pytest_nrfdfu.smp.timing import Link
from pytest_nrfdfu.smp.upload import Limits, Upload

__all__ = ["Unfinished", "Unit"]


@dataclass(slots=True)
class Unfinished:
    """An upload that began in the recovery session `session` and was not seen to end."""

    hash: bytes
    upload: Upload
    session: int


class Unit:
    """One unit: its parts, composed from its configuration, and what was proved on it in this run."""

    def __init__(self, name: str, config: BoardConfig) -> None:
        self.name = name
        self.config = config
        self.profile = config.bootloader.resolve()
        uart = config.uart
        self.uart = Uart(uart.port, uart.baudrate, flow_control=uart.flow_control)
        console = config.console
        other = console.port is not None and console.port != uart.port
        if other and console.port is not None:
            self.console_uart = Uart(console.port, console.baudrate or uart.baudrate)
        else:
            self.console_uart = self.uart
        self.rig = Rig(config, name)
        paced = not uart.port.startswith("socket://")
        self.client = SmpClient(self.uart, Link(baudrate=uart.baudrate if paced else None))
        self.client.on_upload = self.forget
        self.proved: bytes | None = None
        """Hash of the application image that was proved on it in this run; None as soon as that may not hold."""
        self.holds = ""
        """The same in words, for the summary."""
        self.session = 0
        """Counts the entries into recovery: an upload can only be taken up in the session that it began in."""
        self.unfinished: Unfinished | None = None
        self.warned: set[bytes] = set()
        """Hashes of images whose oddities were told already."""
        self.application_has_smp: dict[bytes, bool] = {}
        """What was seen of applications, by image hash."""

    @property
    def needs_rig(self) -> bool:
        """Whether there is a probe or a line at all."""
        return self.rig.has_probe or bool(self.rig.line_names)

    def open(self) -> None:
        """Force the lines inactive, then open the ports."""
        if self.needs_rig:
            self.rig.start()
        self.uart.open()
        self.console_uart.open()

    def close(self) -> None:
        """Release the lines and close everything."""
        with ExitStack() as closing:
            closing.callback(self.uart.close)
            closing.callback(self.console_uart.close)
            closing.callback(self.rig.stop)

    def forget(self) -> None:
        """What was proved may not hold any more."""
        self.proved = None
        self.holds = ""

    def remember(self, digest: bytes, what: str) -> None:
        """The image list has shown `digest` in slot 0; `what` it is, in words."""
        self.proved = digest
        self.holds = what

    def limits(self) -> Limits:
        """What the bootloader takes: as it says itself if it does, else by its profile."""
        size = self.profile.receive_size
        if self.profile.rejects_unknown:
            with suppress(SmpTimeout):  # then the profile is wrong about rc 8, but not in what matters here
                size = self._told_size(size)
        line_length = min(self.profile.line_length - 1, Limits().line_length)
        # Before commit 6ba46c0b a queued command waits for the next byte, so nothing is gained by a window there.
        windowed = self.config.bootloader.window > 1 and self.profile.queues_commands
        # The decode buffer holds the packet beside length and CRC: 4 bytes less than its size (measured).
        return Limits(
            max_packet=size - 4,
            line_length=line_length,
            erases_at_start=not self.profile.erase_progressively,
            repeat_image=not self.profile.image_at_start_only,
            line_buffers=self.profile.line_buffers if windowed else None,
        )

    def _told_size(self, size: int) -> int:
        """The buffer size that the bootloader tells, not over the one configured; `size` if it does not tell."""
        params = self.client.params()
        if params is None:
            return size
        told = self.config.bootloader.receive_size
        return params.buf_size if told is None else min(told, params.buf_size)

    def transcript(self, since: float = 0.0) -> list[tuple[float, str, bytes]]:
        """What the port carried since a time (seconds, monotonic), oldest first."""
        return [(t.time, t.direction, t.data) for t in list(self.uart.traffic) if t.time >= since]

    @staticmethod
    def now() -> float:
        """The clock that all of the unit's times are on."""
        return time.monotonic()
