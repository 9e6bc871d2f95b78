"""A simulated board as a child process, and a configuration that points at it.

The bench knows the simulator by its command line and by the line of JSON that it prints; nothing of it is imported.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, Any

from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_lines import SerialLine
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.config_types import BootloaderConfig, PowerConfig, ProbeConfig, UartConfig
from pytest_nrfdfu.errors import BoardError

__all__ = ["Simulator"]

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0
_LAST_WORDS = 1.0
"""Seconds from the end of its output to the end of its process."""
_UNPACED_BAUDRATE = 1_000_000
_SETTLE = 0.05
"""Seconds without power in a power cycle: a simulated chip forgets at once."""
_CHUNK = 4096
"""Bytes that are read at once."""


class Simulator:
    """One simulated board. It ends when its standard input closes, which the death of this process does as well."""

    def __init__(self, config: BoardConfig) -> None:
        if config.sim is None:
            raise ValueError(f"{config.board} is not a simulated board")
        self._config = config
        # A port that comes and goes has no name of its own; the link to it lies where nobody else looks.
        named = not config.sim.uart_vanishes or config.sim.uart_link is not None
        self._folder = None if named else tempfile.TemporaryDirectory(prefix="nrfdfu-sim-")
        link = [] if self._folder is None else ["--uart-link", f"{self._folder.name}/uart"]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        # A session of its own: Ctrl-C at the terminal must not end it before the board was left in order.
        self._child = subprocess.Popen(
            [*_python(), "-m", "pytest_nrfdfu.sim", "--board", config.board, *config.sim.arguments(), *link],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        try:
            self.endpoints = self._ready()
        except BoardError:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._child.poll() is None

    @property
    def admin(self) -> str:
        """``host:port`` of its admin port."""
        return self.endpoints["admin"]

    @property
    def staging(self) -> str | None:
        """``host:port`` of the application's own update service; None without one."""
        return self.endpoints.get("staging")

    def _ready(self) -> dict[str, str]:
        pipe = self._child.stdout
        line = _line(pipe, time.monotonic() + _START_TIMEOUT) if pipe is not None else b""
        try:
            endpoints: dict[str, str] = json.loads(line)
        except ValueError:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-500:]
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_LAST_WORDS)
            ended = "" if self._child.poll() is not None else f" within {_START_TIMEOUT:g} s"
            raise BoardError(
                f"the simulated board {self._config.board} did not start{ended}: {said or 'it printed nothing'};"
                " check its [sim] table"
            ) from None
        return endpoints

    def wired(self) -> BoardConfig:
        """The board's configuration with this simulator filled in.

        Ports, probe, lines, what its bootloader is, and the commands that switch its power, unless the file has some.
        """
        config, control = self._config, self.endpoints["control"]
        vanishes = config.sim is not None and config.sim.uart_vanishes
        uart = config.uart.model_copy(
            update={
                "port": self.endpoints["uart"],
                "baudrate": self._baudrate(),
                "transient": vanishes or config.uart.transient,
                "flow_control": "rtscts" if config.sim and config.sim.flow_control else config.uart.flow_control,
            }
        )
        recovery_line = SerialLine(driver="serial", port=control, line="rts", active="low")
        reset_line = SerialLine(driver="serial", port=control, line="dtr", active="low")
        by_line = config.recovery.reset == "line"
        return config.model_copy(
            update={
                "uart": uart,
                "probe": ProbeConfig(unique_id=self.endpoints["probe"]),
                "recovery": config.recovery.model_copy(update={"line": recovery_line}),
                "reset": config.reset.model_copy(update={"line": reset_line if by_line else None}),
                "bootloader": self._bootloader(),
                "power": config.power or self._power(),
            }
        )

    def _power(self) -> PowerConfig:
        """Its supply is switched by commands, as that of a board on a relay or a power strip is."""
        switch = (*_python(), "-m", "pytest_nrfdfu.sim_admin", self.admin, "set_power")
        return PowerConfig(on=(*switch, "on=true"), off=(*switch, "on=false"), settle=_SETTLE)

    def _baudrate(self) -> int:
        """The host's rate: the file's where it says one, which need not be the board's, else the board's.

        A configuration that went through its JSON form (to a worker of xdist) has every field set; of one with the
        default rate it is not known then whether the file said so.
        """
        told, sim = self._config.uart, self._config.sim
        said = "baudrate" in told.model_fields_set
        all_set = told.model_fields_set == UartConfig.model_fields.keys()
        if said and not (all_set and told.baudrate == UartConfig.model_fields["baudrate"].default):
            return told.baudrate
        return (sim.baudrate if sim is not None else 0) or _UNPACED_BAUDRATE

    def _bootloader(self) -> BootloaderConfig:
        """The profile and switches that the simulator was started with; overrides in [bootloader] go over them."""
        told, sim = self._config.bootloader, self._config.sim
        if sim is None:
            return told
        # Not the key: whether images are checked before they are sent is the suite's choice.
        shared = (BootloaderConfig.model_fields.keys() & SimConfig.model_fields.keys()) - {"public_key"}
        values: dict[str, Any] = {"profile": sim.bootloader, **sim.model_dump(include=shared, exclude_none=True)}
        if values.get("images", 1) > 1:
            values.setdefault("swap", "overwrite")  # as the simulator does
        return BootloaderConfig.model_validate(values | told.model_dump(exclude={"profile"}, exclude_none=True))

    def stop(self) -> None:
        """Let it end; by force if it does not."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            with suppress(subprocess.TimeoutExpired):  # a process that the kernel keeps goes when that lets it
                self._child.wait(_STOP_TIMEOUT)
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()
        if self._folder is not None:
            self._folder.cleanup()


def _python() -> list[str]:
    """This interpreter for a child that is to find this package: where this process looks for it, and nowhere else.

    Modules in the current directory are not taken (-P).
    """
    given = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site, "-S": sys.flags.no_site}
    return [sys.executable, "-P", *(flag for flag, is_set in given.items() if is_set)]


def _line(pipe: IO[bytes], deadline: float) -> bytes:
    """What a process prints up to the end of its first line; less if the pipe ends or `deadline` passes before."""
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while b"\n" not in data and selector.select(max(0.0, deadline - time.monotonic())):
            more = os.read(pipe.fileno(), _CHUNK)
            if not more:
                break
            data += more
    return data.partition(b"\n")[0]
