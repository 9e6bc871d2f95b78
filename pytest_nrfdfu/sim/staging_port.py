"""The TCP port of a simulated application that stages its own update: the commands of `app_staging`, one a line.

It belongs to the application. While none runs that has such a service, a connection is closed at once; a reset of the
board closes those that are open, whatever was being answered. So do a line without an end, and a write of more than
`_MAX_PAYLOAD` bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pytest_nrfdfu.sim.app_staging import StagingCommand, StagingService, parse_command, refusal
from pytest_nrfdfu.sim.loopback import LoopbackServer

__all__ = ["StagingPort"]

_MAX_PAYLOAD = 1 << 20
"""Bytes of one write: as many as the chip has flash."""


class StagingPort:
    """Carries commands to the service that `find` gives now, and lets it run with `wake`."""

    def __init__(self, find: Callable[[], StagingService | None], wake: Callable[[], None]) -> None:
        self._find = find
        self._wake = wake
        self._server = LoopbackServer(self._talk)
        self._service: StagingService | None = None
        self._gone = asyncio.Event()

    async def start(self) -> int:
        """Listen on the loopback interface; returns the port."""
        return await self._server.start()

    async def close(self) -> None:
        """Stop listening, and drop the clients."""
        await self._server.close()

    def follow(self) -> None:
        """Look whether the service is another one now; the clients of the one before are dropped."""
        service = self._find()
        if service is not self._service:
            self._service = service
            self._gone.set()
            self._gone = asyncio.Event()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.follow()
        service = self._service
        if service is None:
            return
        gone = asyncio.ensure_future(self._gone.wait())
        talk = asyncio.ensure_future(self._answer_all(service, reader, writer))
        try:
            await asyncio.wait((gone, talk), return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()  # a defect is not to be taken for a client that is gone
        finally:
            for task in (gone, talk):
                task.cancel()
            await asyncio.gather(gone, talk, return_exceptions=True)

    async def _answer_all(
        self, service: StagingService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(service, line, reader)
                writer.write(answer.encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass  # the client is gone, or its line has no end

    async def _answer(self, service: StagingService, line: bytes, reader: asyncio.StreamReader) -> str:
        try:
            command = parse_command(line.decode("ascii", "replace"))
        except ValueError as error:
            return refusal(str(error))
        if command.payload > _MAX_PAYLOAD:
            raise ConnectionAbortedError  # nobody reads that much to say no
        if command.payload:
            command = command._replace(data=await reader.readexactly(command.payload))
        return await self._carry_out(service, command)

    async def _carry_out(self, service: StagingService, command: StagingCommand) -> str:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def answer(text: str) -> None:
            if not done.done():
                done.set_result(text)

        service.submit(command, answer)
        self._wake()
        return await done
