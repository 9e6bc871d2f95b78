"""The simulated board's UART as something that a host can open: a pseudo-terminal or a TCP port."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from typing import cast

from pytest_nrfdfu.sim.host_rate import host_rate, set_host_rate

__all__ = ["PtyPort", "TcpPort"]

_HOST = "127.0.0.1"
_CHUNK = 4096
_MAX_UNREAD = 1 << 16
"""Bytes that a TCP client may leave unread before output is dropped; about what a pty holds."""


class PtyPort:
    """A pseudo-terminal. It has no control lines; its rate is `rate` until a host sets another.

    The host's side stays open here as well, so that a host may close it and open it again. So output that nobody reads
    stays until the pty is full (then it is dropped and counted); pyserial throws it away when it opens a port.
    """

    def __init__(self, received: Callable[[bytes], None], *, rate: int = 0) -> None:
        self._received = received
        self._loop = asyncio.get_running_loop()
        self.stays = True
        """Whoever owns it."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        if rate:
            set_host_rate(self._slave, rate)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)
        """What a host opens."""
        self.unread = 0
        """Bytes dropped because nobody took them."""
        self.resume()

    def write(self, data: bytes) -> None:
        """Give `data` to the host; what does not fit is dropped."""
        try:
            taken = os.write(self._master, data)
        except BlockingIOError:
            taken = 0
        self.unread += len(data) - taken

    def pause(self) -> None:
        """Take nothing from the host: its writes block when the pty is full."""
        self._loop.remove_reader(self._master)

    def resume(self) -> None:
        """Take bytes again."""
        self._loop.add_reader(self._master, self._read)

    def host_rate(self) -> int | None:
        """The rate that the host has set; None where the system does not tell."""
        return host_rate(self._slave)

    def follow(self, owner: object | None) -> None:
        """Nothing changes."""

    async def close(self) -> None:
        """Take the pty away."""
        self.hang_up()

    def hang_up(self) -> None:
        """Take the pty away; a host that has it open sees it go."""
        self.pause()
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        self._received(data)


class TcpPort:
    """A TCP port that carries the bytes as they are (pyserial's ``socket://``), for one client at a time."""

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self.stays = True
        """Whoever owns it."""
        self._server: asyncio.Server | None = None
        self._client: _TcpClient | None = None
        self._paused = False
        self.url = ""
        """What a host opens; known after `start`."""
        self.unread = 0
        """Bytes dropped because nobody took them."""
        self.refused = 0
        """Clients sent away because there was one."""

    def host_rate(self) -> int | None:
        """TCP carries none."""
        return None

    def follow(self, owner: object | None) -> None:
        """Nothing changes."""

    async def start(self, port: int = 0) -> None:
        """Listen on the loopback interface."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _TcpClient(self), _HOST, port)
        self.url = f"socket://{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    def write(self, data: bytes) -> None:
        """Give `data` to the client; without one, or when it does not read, it is dropped."""
        transport = self._client.transport if self._client is not None else None
        if transport is None or transport.get_write_buffer_size() > _MAX_UNREAD:
            self.unread += len(data)
        else:
            transport.write(data)

    def pause(self) -> None:
        """Take nothing from the client."""
        self._paused = True
        if self._client is not None and self._client.transport is not None:
            self._client.transport.pause_reading()

    def resume(self) -> None:
        """Take bytes again."""
        self._paused = False
        if self._client is not None and self._client.transport is not None:
            self._client.transport.resume_reading()

    async def close(self) -> None:
        """Stop listening, and drop the client."""
        if self._client is not None and self._client.transport is not None:
            self._client.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def attach(self, client: _TcpClient, transport: asyncio.Transport) -> bool:
        """A client came; False if it cannot stay."""
        if self._client is not None:
            self.refused += 1
            return False
        self._client = client
        if self._paused:
            transport.pause_reading()
        return True

    def detach(self, client: _TcpClient) -> None:
        """A client has gone."""
        if self._client is client:
            self._client = None

    def received(self, data: bytes) -> None:
        """The client has written `data`."""
        self._received(data)


class _TcpClient(asyncio.Protocol):
    """One connection to a `TcpPort`."""

    def __init__(self, port: TcpPort) -> None:
        self._port = port
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # asyncio switches Nagle's algorithm off itself
        if not self._port.attach(self, self.transport):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._port.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._port.detach(self)
