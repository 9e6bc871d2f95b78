"""One physical board as long as this process holds it: ports, rig, and what is known to be on it.

A unit outlives tests; a `Board` is the handle that one test gets on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nrfdfu.board import ports
from pytest_nrfdfu.board.limits import key, limits_for
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.noting_client import NotingClient
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.board.swap_ahead import SwapAhead, by_application, by_recovery
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.board.window_memory import WindowMemory
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_lines import SerialLine
from pytest_nrfdfu.errors import ConfigError, LineError, SmpTimeout, UartError
from pytest_nrfdfu.image.build import APP, Build
from pytest_nrfdfu.smp.messages import ImageStates
from pytest_nrfdfu.smp.timing import Link
from pytest_nrfdfu.smp.upload import Limits, Upload

if TYPE_CHECKING:
    from pytest_nrfdfu.board.plan import Step

__all__ = ["NOTHING_PROVED", "Unfinished", "Unit", "UploadApart"]

NOTHING_PROVED = "not known: nothing was proved on it in this run"
"""What a unit holds that was opened, and that nothing was proved on since."""


@dataclass(slots=True)
class Unfinished:
    """An upload that began in the recovery session `session` and was not seen to end."""

    hash: bytes
    upload: Upload
    session: int


@dataclass(slots=True)
class UploadApart:
    """An upload that a test made itself in recovery, which no update tells of. `proof`: how it was proved, or why not.

    `hash`: as read from the board; None unless that showed it.
    """

    step: Step
    upload: Upload
    verified: bool = False
    proof: str = "not looked at"
    hash: bytes | None = None


class Unit:
    """One unit: its parts, composed from its configuration, and what was proved on it in this run."""

    def __init__(self, name: str, config: BoardConfig) -> None:
        self.name = name
        self.config = config
        self.profile = config.bootloader.resolve()
        uart = config.uart
        self.uart = Uart(
            uart.port,
            uart.baudrate,
            flow_control=uart.flow_control,
            dtr=uart.dtr,
            wait=uart.wait,
            transient=uart.transient,
        )
        self.console_uart = _console_of(config) or self.uart
        self.rig = Rig(config, name)
        paced = not uart.port.startswith("socket://")
        self.client = NotingClient(self.uart, Link(baudrate=uart.baudrate if paced else None))
        self.client.on_change = self._changed
        self.client.on_images = self._listed
        self.client.on_reset = self.note_reset
        self.proved: bytes | None = None
        """Hash of the application image that was proved on it in this run; None as soon as that may not hold."""
        self.network_core: bytes | None = None
        """Hash of the network core's image that was sent to it in this run; nothing can be read back."""
        self.doubted = False
        """Whether this run did something to it after which only recovery's list proves what it holds."""
        self.holds = NOTHING_PROVED
        """What was proved, in words, for the summary."""
        self.uploads_apart: list[UploadApart] = []
        """Uploads that ended well outside of an update and that nobody has told of yet, oldest first."""
        self.session = 0
        """Counts the entries into recovery: an upload can only be taken up in the session that it began in."""
        self.unfinished: Unfinished | None = None
        self.warned: set[bytes] = set()
        """Hashes of images whose oddities were told already."""
        self.application_has_smp: dict[bytes, bool] = {}
        """What was seen of applications, by image hash."""
        self.memory = WindowMemory()
        """What earlier uploads have shown; another one outlives this process."""
        self.swap_seconds: float | None = None
        """What the last update through the application took from the reset to the banner, swap and boot."""
        self.swap_pages: int | None = None
        """Pages of the images that it was for; None where that is not known."""
        self.swap_ahead = SwapAhead.NOTHING
        """Whether MCUboot will swap at the next boot, by the last image list or boot that was seen."""
        self.lists_images = False
        """Whether the last application that was asked for its image list told it."""
        self.reset_at: int | None = None
        """Where on the console a boot began that nobody has seen end yet; None if there is none."""
        self.powered_off = False
        """Whether its power was switched off, and not on again since."""
        self.say: Callable[[str], None] = lambda _: None
        """Tells a person what is waited for."""
        self.endpoints: Mapping[str, str] = {}
        """Where a simulated board's ports are, by name; nothing for a real one."""
        self.flow_control = False
        """Whether the bootloader's UART is known to have hardware flow control: its build says so."""

    @property
    def needs_rig(self) -> bool:
        """Whether there is a probe, a line or a power switch at all."""
        return self.rig.is_needed

    @property
    def works(self) -> bool:
        """Whether its ports are open still, and the process that owns its probe and lines runs.

        A transient port comes and goes, so that one that is absent says nothing.
        """
        ports_work = all(uart.is_open or uart.transient for uart in self._uarts)
        return ports_work and (not self.needs_rig or self.rig.pid is not None)

    @property
    def uart_missing(self) -> bool:
        """Whether the port that carries SMP is a transient one that is not there now."""
        return self.uart.transient and not self.uart.is_open

    @property
    def _uarts(self) -> tuple[Uart, ...]:
        """Each port once."""
        return (self.uart,) if self.console_uart is self.uart else (self.uart, self.console_uart)

    def open(self) -> None:
        """Open the ports, then force the lines inactive; all or nothing. A transient port may be absent.

        The ports go first because they are exclusive: where another run has the board, neither its lines nor its probe
        may be touched. ConfigError, with nothing opened, where a control line is on a port that carries SMP or the
        console.
        """
        for uart in self._uarts:
            ports.check(uart.port)
        with ExitStack() as failed:
            failed.callback(self.close)
            line_ports = self._find_line_ports()
            self._open_ports()
            self._keep_apart(line_ports)  # again: a port may have come up while it was waited for
            if self.needs_rig:
                self.rig.start()
            failed.pop_all()

    def _open_ports(self) -> None:
        power = self.config.power
        for uart in self._uarts:
            if uart.transient:
                uart.try_open()
            elif power is None or not power.takes_usb:
                uart.open()
            elif not uart.try_open():  # a run that was killed may have left the power off: the rig switches it on
                self.rig.start()
                uart.reopen(self.now() + power.usb_timeout)

    def close_ports(self) -> None:
        """Close the ports alone, as before a power cycle that takes them away."""
        with ExitStack() as closing:
            for uart in self._uarts:
                closing.callback(uart.close)

    def reopen_ports(self, deadline: float) -> None:
        """Find again the ports that went, or are about to go, at a reset or a power cycle, until `deadline`.

        `deadline` in seconds, monotonic. Ports that are open and stay at a reset are left alone. A console that is
        absent although transient is no error: the application may not run. PortGone if a port does not come back.
        """
        if self.uart.transient or not self.uart.is_open:
            self.uart.reopen(deadline)
        console = self.console_uart
        if console is self.uart or (console.is_open and not console.transient):
            return
        if console.transient:
            console.close()
            console.try_open()
        else:
            console.reopen(deadline)

    def _find_line_ports(self) -> dict[str, str]:
        """Tell the rig what the serial lines' ports are named now; the names, by line.

        It is done before anything is opened: opening a port moves its lines.
        """
        found = _line_ports(self.config)
        self._keep_apart(found)
        config = _with_line_ports(self.config, found)
        if config is not self.config and self.rig.pid is None:
            self.rig = Rig(config, self.name)
        return found

    def _keep_apart(self, line_ports: Mapping[str, str]) -> None:
        """ConfigError if a line's port (device by line name) carries SMP or the console."""
        if not line_ports:
            return
        for uart, carries in zip(self._uarts, ("SMP", "the console"), strict=False):
            device = uart.device if uart.is_open else ports.find(uart.port)
            for name, line_port in line_ports.items():
                if line_port == device:
                    raise ConfigError(
                        f"{self.name}: the port of [{name}.line] is {device}, which {uart.port} also means, and that"
                        f" carries {carries}: its lines pulse at every open; use the RTS or DTR of another port"
                    )

    def close(self) -> None:
        """Release the lines and close everything."""
        with ExitStack() as closing:
            closing.callback(self.uart.close)
            closing.callback(self.console_uart.close)
            closing.callback(self.rig.stop)

    def forget(self, why: str = "") -> None:
        """What was proved may not hold any more; `why`, in words, where more is known than that it was reset."""
        self.doubted = True
        if why:
            self.holds = f"not known: {why}"
        elif self.proved is not None:
            self.holds = f"not known: earlier {self.holds}; not proved again since"
        self.proved = None

    def _changed(self) -> None:
        """Images on it are about to be written, erased or marked, by an update or by a request of a test's own."""
        self.forget("its images were written to and not looked at since")
        self.network_core = None
        self.unfinished = None

    def _listed(self, states: ImageStates) -> None:
        """Somebody has told its image list."""
        if from_recovery(states, has_state=self.profile.image_state):
            self.swap_ahead = by_recovery(states, self.swap_ahead)
        else:
            self.swap_ahead, self.lists_images = by_application(states, self.swap_ahead), True
            active = states.active
            if active is not None and active.hash is not None and self.proved not in {None, active.hash}:
                self.forget(f"the application's list shows version {active.version}, not what was proved, as active")

    def note_reset(self) -> None:
        """The board is about to be reset, or switched on: its boot begins here on the console."""
        self.reset_at = self.console_uart.console.position

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
        sim = self.config.sim
        return limits_for(
            self.config,
            self.profile,
            size,
            self.memory.get(self.memory_key),
            flow_control=self.flow_control if sim is None else sim.flow_control,
        )

    @property
    def memory_key(self) -> str:
        """What measurements of uploads to it are kept by."""
        return key(self.name, self.config, self.profile)

    def _told_size(self, size: int) -> int:
        """The buffer size that the bootloader tells, not over the one configured; `size` if it does not tell."""
        params = self.client.params()
        if params is None:
            return size
        told = self.config.bootloader.receive_size
        return params.buf_size if told is None else min(told, params.buf_size)

    def transcript(self, since: float = 0.0) -> list[tuple[float, str, bytes]]:
        """What the port carried since a time (seconds, monotonic), oldest first."""
        return [(t.time, t.direction, t.data) for t in self.uart.traffic if t.time >= since]

    @staticmethod
    def now() -> float:
        """The clock that all of the unit's times are on."""
        return time.monotonic()


def _console_of(config: BoardConfig) -> Uart | None:
    """The port of the console; None if SMP's port carries it as well."""
    console, uart = config.console, config.uart
    if console.port is None or console.port == uart.port:
        return None
    rate = console.baudrate or uart.baudrate
    return Uart(console.port, rate, dtr=uart.dtr, wait=uart.wait, transient=console.transient)


def _serial_lines(config: BoardConfig) -> dict[str, SerialLine]:
    lines = {"recovery": config.recovery.line, "reset": config.reset.line}
    return {name: line for name, line in lines.items() if isinstance(line, SerialLine)}


def _line_ports(config: BoardConfig) -> dict[str, str]:
    """What the ports of the serial lines are named now, by line; LineError if one is not there."""
    deadline = time.monotonic() + config.uart.wait
    found = {}
    for name, line in _serial_lines(config).items():
        try:
            found[name] = ports.wait_for(line.port, deadline)
        except UartError as error:
            raise LineError(f"the {name} line's port: {error}") from error
    return found


def _with_line_ports(config: BoardConfig, found: Mapping[str, str]) -> BoardConfig:
    """`config` with the ports of the lines as they are named now; paths and addresses stay as they are."""
    tables: dict[str, object] = {}
    for name, line in _serial_lines(config).items():
        if not ports.is_name(line.port):
            moved = line.model_copy(update={"port": found[name]})
            table = config.recovery if name == "recovery" else config.reset
            tables[name] = table.model_copy(update={"line": moved})
    return config.model_copy(update=tables) if tables else config
