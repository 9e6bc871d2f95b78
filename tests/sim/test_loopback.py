"""The TCP server that the simulator's JSON ports share ends without a trace."""

import asyncio
import contextlib
import gc
import socket

import pytest
from simulator import DEADLINE

from pytest_nrfdfu.sim.loopback import LoopbackServer

UNREAD = 20_000_000
"""Bytes: more than the sockets of a connection hold."""


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


def test_clients_are_served_counted_and_dropped():
    async def run():
        server = LoopbackServer(echo)
        port = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        assert server.clients == 1
        await server.close()
        assert await reader.read() == b""
        assert server.clients == 0
        writer.close()

    asyncio.run(run())


def test_a_client_that_reads_nothing_does_not_hold_up_the_end():
    """What it has not read is dropped: a transport would wait with it for ever, and the server for the transport."""

    async def flood(_reader, writer):
        writer.write(bytes(UNREAD))

    async def run():
        server = LoopbackServer(flood)
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
        await reader.readexactly(1)
        await asyncio.wait_for(server.close(), DEADLINE)
        got = 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                got += len(data)
        assert got < UNREAD
        writer.close()

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's half-accepted sockets
@pytest.mark.parametrize("turns", range(8))
def test_the_end_of_the_loop_finds_nothing_to_report(caplog, turns):
    """However far the clients are: waiting to be accepted, accepted, in their first turn, or waiting for a line."""
    clients = []

    async def run():
        server = LoopbackServer(echo)
        port = await server.start()
        clients.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(3))
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        assert server.clients == 0

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == []
    for client in clients:
        client.close()
    gc.collect()  # the warnings that are ignored belong to this test, not to whichever runs next


def test_closing_twice_and_closing_unstarted_are_harmless():
    async def run():
        server = LoopbackServer(echo)
        await server.close()
        await server.start()
        await server.close()
        await server.close()

    asyncio.run(run())
