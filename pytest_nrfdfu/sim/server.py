"""Serves one simulated board: UART, probe, control lines and admin port, in one asyncio loop without threads."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

from pytest_nrfdfu.sim.admin import Admin, AdminServer
from pytest_nrfdfu.sim.board import SimBoard
from pytest_nrfdfu.sim.control import ControlPort
from pytest_nrfdfu.sim.dap import Dap
from pytest_nrfdfu.sim.link import Link
from pytest_nrfdfu.sim.live import LiveBoard
from pytest_nrfdfu.sim.options import Options
from pytest_nrfdfu.sim.port import PtyPort, TcpPort
from pytest_nrfdfu.sim.probe_server import ProbeServer
from pytest_nrfdfu.sim.staging_port import StagingPort
from pytest_nrfdfu.sim.transient import TransientPty
from pytest_nrfdfu.sim.wiring import Wiring

__all__ = ["Server", "event_loop", "serve"]

_HOST = "127.0.0.1"
_STDIN = 0
_CHUNK = 4096


def event_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact to microseconds: select() takes them, epoll_wait() rounds up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


class Server:
    """The endpoints of one board. Make it within a running loop; ValueError if the board cannot be made."""

    def __init__(self, options: Options) -> None:
        loop = asyncio.get_running_loop()
        self._options = options
        self.stopped = asyncio.Event()
        """Set when the process is to end."""
        self.failure: str | None = None
        """Why, if it is a defect."""
        self.board = SimBoard(options.board, clock=loop.time, now=loop.time())
        self.dap = Dap(self.board.chip)
        self._probe = ProbeServer(self.dap, unique_id=options.unique_id)
        self._port = self._make_port()
        # The target's own USB port has no rate on any wire.
        link = Link(0 if options.uart_vanishes else options.board.uart.baudrate, self._port.host_rate)
        self.wiring = Wiring(self.board, self.dap, link, self._probe.set_answering)
        self._control = ControlPort(self.wiring.set_line)
        self._admin = AdminServer(Admin(self.board, self.wiring, self._counters, self.stopped.set))
        self._staging = StagingPort(lambda: self.board.staging, self.board.machine.wake_program)
        self._live = LiveBoard(self.board, self._port, link=link, owner=self._port_owner, on_turn=self._staging.follow)
        for name in options.faults:
            self.wiring.set_fault(name, on=True)
        if isinstance(self._port, TransientPty) and not options.uart_vanishes:
            self._port.begin(self.wiring)

    def _make_port(self) -> PtyPort | TcpPort | TransientPty:
        options, rate = self._options, self._options.board.uart.baudrate
        if options.uart == "tcp":
            return TcpPort(self._received)
        if options.uart_vanishes or options.uart_link is not None:
            return TransientPty(self._received, rate=rate, link=options.uart_link)
        return PtyPort(self._received, rate=rate)

    def _port_owner(self) -> object | None:
        """Whose the UART's port is: the program's where it is the target's own USB, else the adapter's."""
        if not self.wiring.usb:
            return None
        return self.board.uart_owner if self._options.uart_vanishes else self.wiring

    async def start(self) -> dict[str, Any]:
        """Open every endpoint and let the board run; returns where they are, for JSON."""
        if isinstance(self._port, TcpPort):
            await self._port.start()
        control = await self._control.start()
        probe = await self._probe.start()
        admin = await self._admin.start()
        staging = {}
        if self._options.board.staging:
            staging = {"staging": f"{_HOST}:{await self._staging.start()}"}
        self._live.turn()
        return {
            **staging,
            "uart": self._port.url,
            "control": f"rfc2217://{_HOST}:{control}",
            "probe": f"remote:{_HOST}:{probe}",
            "admin": f"{_HOST}:{admin}",
            "pid": os.getpid(),
            "board": self._options.board.name,
            "bootloader": self._options.board.profile.name,
            "baudrate": self._options.board.uart.baudrate,
            "unique_id": self._options.unique_id,
            "simulated": True,
        }

    async def close(self) -> None:
        """Close every endpoint."""
        await self._staging.close()
        await self._admin.close()
        await self._control.close()
        await self._probe.close()
        self._live.stop()
        await self._port.close()

    def failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A defect of the simulator: end, rather than serve a board that stands still."""
        loop.default_exception_handler(context)
        self.failure = str(context.get("exception") or context.get("message"))
        self.stopped.set()

    def _received(self, data: bytes) -> None:
        self._live.received(data)

    def _counters(self) -> dict[str, Any]:
        probe, control = self._probe, self._control
        return {
            "probe": {
                "clients": probe.clients,
                "owners": len(probe.owners),
                "owners_seen": probe.owners_seen,
                "max_owners": probe.max_owners,
                "refused": probe.refused,
                "requests": probe.requests,
            },
            "control": {
                "clients": control.clients,
                "clients_seen": control.clients_seen,
                "refused": control.refused,
            },
            "unread": self._port.unread,
            "uart_port": self._port.url,
            "bench_faults": self.wiring.faults,
        }


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop when standard input ends, if it is a pipe or a socket: then whoever started this has gone.

    A terminal is not read (a background process would be stopped for it), and /dev/null or a file, which are at their
    end from the beginning, say nothing about anybody.
    """
    try:
        mode = os.fstat(_STDIN).st_mode
    except OSError:
        return  # closed: nobody holds the other end
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def read() -> None:
        try:
            data = os.read(_STDIN, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(_STDIN)
            stop()

    loop.add_reader(_STDIN, read)


async def serve(options: Options) -> int:
    """Serve a board until it is told to end; returns the exit status."""
    loop = asyncio.get_running_loop()
    try:
        server = Server(options)
    except ValueError as error:  # an image or a key that does not fit
        print(f"nrfdfu sim: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 2
    loop.set_exception_handler(server.failed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopped.set)
    try:
        endpoints = await server.start()
        print(json.dumps(endpoints), flush=True)  # noqa: T201 - the program's output
        _watch_stdin(loop, server.stopped.set)
        await server.stopped.wait()
    except OSError as error:  # a port that cannot be opened, a reader of stdout that is gone
        print(f"nrfdfu sim: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    finally:
        await server.close()
    return 0 if server.failure is None else 1
