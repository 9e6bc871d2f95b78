"""A TCP server on the loopback interface that ends without a trace: what the simulator's JSON ports share."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["LoopbackServer"]

_HOST = "127.0.0.1"
_MAX_LINE = 1 << 20
"""Bytes; a block write of pyOCD is some kilobytes."""


class LoopbackServer:
    """Runs `serve` for every client, each in a task that this server owns, and closes the connection after it.

    The handler given to asyncio is no coroutine: a task of asyncio's own that is cancelled while the loop ends is
    reported on stderr (`asyncio.streams.StreamReaderProtocol.connection_made`, Python 3.11).
    """

    def __init__(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> None:
        self._run = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()

    @property
    def clients(self) -> int:
        """Connections now."""
        return len(self._tasks)

    async def start(self, port: int = 0) -> int:
        """Listen on `port` (0: any free one); returns the port."""
        self._server = await asyncio.start_server(self._connected, _HOST, port, limit=_MAX_LINE)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every client, with what it has not read yet."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A transport with bytes that nobody reads would never close, and since Python 3.12 that is waited for.
        for transport in self._transports:
            transport.abort()
        await server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted while closing
            writer.close()
            return
        self._transports.add(writer.transport)
        task = asyncio.ensure_future(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, writer))

    def _finished(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        # Here and not in the task, which may be cancelled before it ran.
        self._tasks.discard(task)
        writer.close()
