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
from pytest_nrfdfu.image.build import APP, Build
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
        self.client.on_change = self._changed
        self.proved: bytes | None = None
        """Hash of the application image that was proved on it in this run; None as soon as that may not hold."""
        self.network_core: bytes | None = None
        """Hash of the network core's image that was sent to it in this run; nothing can be read back."""
        self.holds = "not known: nothing was looked at"
        """What was proved, in words, for the summary."""
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

    @property
    def works(self) -> bool:
        """Whether its ports are open still, and the process that owns its probe and lines runs."""
        return self.uart.is_open and self.console_uart.is_open and (not self.needs_rig or self.rig.pid is not None)

    def open(self) -> None:
        """Open the ports, then force the lines inactive; all or nothing.

        The ports go first because they are exclusive: where another run has the board, neither its lines nor its probe
        may be touched.
        """
        with ExitStack() as failed:
            failed.callback(self.close)
            self.uart.open()
            self.console_uart.open()
            if self.needs_rig:
                self.rig.start()
            failed.pop_all()

    def close(self) -> None:
        """Release the lines and close everything."""
        with ExitStack() as closing:
            closing.callback(self.uart.close)
            closing.callback(self.console_uart.close)
            closing.callback(self.rig.stop)

    def forget(self, why: str = "nothing was proved since it was last changed") -> None:
        """What was proved may not hold any more; `why`, in words."""
        self.proved = None
        self.holds = f"not known: {why}"

    def _changed(self) -> None:
        """Images on it are about to be written, erased or marked, by an update or by a request of a test's own."""
        self.forget("its images were written to and not looked at since")
        self.network_core = None
        self.unfinished = None

    def runs(self, build: Build) -> bool:
        """Whether all of a build is known to be on the board: the application proved, other images sent."""
        others = [image.hash for name, image in build.images.items() if name != APP]
        return self.proved == build.hash and all(digest == self.network_core for digest in others)

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
