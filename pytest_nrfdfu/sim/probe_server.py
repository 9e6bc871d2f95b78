"""The simulated probe on the network: pyOCD's remote-probe protocol, version 1, as an asyncio server.

pyOCD reaches it as ``remote:127.0.0.1:PORT``, by the same code that reaches a ``pyocd server`` on a bench host. A
request is one line of JSON, ``{"id", "request", "arguments"}``; the answer is one line, ``{"id", "status", "result" or
"error"}`` (pyOCD, ``probe/tcp_client_probe.py`` and ``probe/tcp_probe_server.py``).

pyOCD's client reads for ever when a server closes the connection. So an unplugged probe is a status, a bad request is
a status, and only the client closes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from enum import IntEnum
from types import UnionType
from typing import Any, NamedTuple

from pytest_nrfdfu.sim.dap import Dap, DapError, FaultAck, NoAck, Unplugged
from pytest_nrfdfu.sim.loopback import LoopbackServer

__all__ = ["PROTOCOL_VERSION", "ProbeServer", "Status"]

PROTOCOL_VERSION = 1


class Status(IntEnum):
    """Status of an answer."""

    OK = 0
    GENERAL_ERROR = 1
    PROBE_DISCONNECTED = 2
    PROBE_ERROR = 3
    TRANSFER_ERROR = 10
    TRANSFER_FAULT = 12


_DAP_STATUS: dict[type[DapError], Status] = {
    Unplugged: Status.PROBE_DISCONNECTED,
    NoAck: Status.TRANSFER_ERROR,
    FaultAck: Status.TRANSFER_FAULT,
}


class _Refused(Exception):
    """A request that gets an error status."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class ProbeServer:
    """Serves `dap` to one owner at a time.

    `unique_id` is what the probe calls itself. `hold_time` and `post_delay` (seconds) are the reset request's: how
    long nRESET is low, and how long to wait afterwards.
    """

    def __init__(self, dap: Dap, *, unique_id: str, hold_time: float = 0.02, post_delay: float = 0.0) -> None:
        self.dap = dap
        self.unique_id = unique_id
        self.hold_time = hold_time
        self.post_delay = post_delay
        self.answering = asyncio.Event()
        """Cleared: connections are accepted, and no request is answered, as by a probe whose firmware hangs."""
        self.answering.set()
        self.lock = asyncio.Lock()
        """What the lock request takes."""
        self.owners: dict[object, int] = {}
        """Connections that have the probe open, with the number of times it had been unplugged when they opened it."""
        self.owners_seen = 0
        """How often the probe was opened."""
        self.max_owners = 0
        """The most connections that had the probe open at the same time; more than 1 would be a fault."""
        self.refused = 0
        """How often the probe was not opened because somebody had it."""
        self.requests = 0
        self.clock_frequency = 0
        """Hz, as last set by a client; without effect."""
        self._server = LoopbackServer(lambda reader, writer: _Connection(self).run(reader, writer))

    def set_answering(self, answers: bool) -> None:  # noqa: FBT001 - a callback
        """Answer requests, or let them wait."""
        (self.answering.set if answers else self.answering.clear)()

    @property
    def clients(self) -> int:
        """Connections now."""
        return self._server.clients

    async def start(self, port: int = 0) -> int:
        """Listen on `port` of the loopback interface (0: any free one); returns the port."""
        return await self._server.start(port)

    async def close(self) -> None:
        """Stop listening and drop every client."""
        await self._server.close()

    def open(self, connection: object) -> None:
        """Give the probe to `connection`."""
        self.dap.check_plugged()
        self.owners = {owner: times for owner, times in self.owners.items() if times == self.dap.times_unplugged}
        if self.dap.busy or self.owners.keys() - {connection}:
            self.refused += 1
            raise _Refused(Status.PROBE_ERROR, "the probe is in use by another client")
        if connection not in self.owners:
            self.owners[connection] = self.dap.times_unplugged
            self.owners_seen += 1
            self.max_owners = max(self.max_owners, len(self.owners))

    def check_open(self, connection: object) -> None:
        """Refuse what needs the probe unless `connection` opened it, and it was not unplugged since."""
        if connection not in self.owners:
            raise _Refused(Status.PROBE_ERROR, "the probe is not open")
        if self.owners[connection] != self.dap.times_unplugged:
            raise _Refused(Status.PROBE_DISCONNECTED, "the probe was unplugged")

    def close_probe(self, connection: object) -> None:
        """Take the probe back from `connection`, and let go of nRESET."""
        if self.owners.pop(connection, None) is not None:
            self.dap.release_nreset()


class _Request(NamedTuple):
    """How a request is served."""

    handler: Callable[..., Any]
    arguments: tuple[type | UnionType, ...] = ()
    needs_probe: bool = False
    """The client must have opened the probe."""


class _Connection:
    """One client."""

    def __init__(self, server: ProbeServer) -> None:
        self._server = server
        self._dap = server.dap
        self._has_lock = False
        self._protocol: str | None = None
        dap = self._dap
        self._requests = {
            "hello": _Request(self._hello, (int,)),
            "readprop": _Request(self._read_property, (str,)),
            "open": _Request(lambda: server.open(self)),
            "close": _Request(lambda: server.close_probe(self)),
            "lock": _Request(self._lock),
            "unlock": _Request(self._unlock),
            "connect": _Request(self._connect, (str,), needs_probe=True),
            "disconnect": _Request(self._disconnect),
            "swj_sequence": _Request(self._swj_sequence, (int, int), needs_probe=True),
            "set_clock": _Request(self._set_clock, (int | float,), needs_probe=True),
            "reset": _Request(self._reset, needs_probe=True),
            "assert_reset": _Request(lambda low: dap.drive_nreset(bool(low)), (int,), needs_probe=True),
            "is_reset_asserted": _Request(lambda: dap.nreset_low, needs_probe=True),
            "flush": _Request(dap.check_plugged, needs_probe=True),
            "read_dp": _Request(dap.read_dp, (int,), needs_probe=True),
            "write_dp": _Request(dap.write_dp, (int, int), needs_probe=True),
            "read_ap": _Request(dap.read_ap, (int,), needs_probe=True),
            "write_ap": _Request(dap.write_ap, (int, int), needs_probe=True),
            "read_ap_multiple": _Request(self._read_ap_multiple, (int, int), needs_probe=True),
            "write_ap_multiple": _Request(self._write_ap_multiple, (int, list), needs_probe=True),
            # None: no accelerated memory access, the client uses AP registers.
            "get_memory_interface_for_ap": _Request(lambda _version, _address: None, (int, int)),
            "has_swo": _Request(lambda: False),
        }

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client goes; then nothing of what it held stays held."""
        try:
            while line := await self._read_line(reader):
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # the client died; what it held is released below
        finally:
            self._server.close_probe(self)
            self._unlock()

    async def _read_line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readline()
        except ValueError:  # longer than the server takes
            return b"?\n"

    async def _answer(self, line: bytes) -> dict[str, Any]:
        await self._server.answering.wait()
        self._server.requests += 1
        identity: object = -1
        try:
            message = _parse(line)
            identity = message["id"]
            result = await self._perform(message)
        except _Refused as refusal:
            return {"id": identity, "status": int(refusal.status), "error": str(refusal)}
        except DapError as error:
            return {"id": identity, "status": int(_DAP_STATUS[type(error)]), "error": str(error)}
        answer = {"id": identity, "status": int(Status.OK)}
        return answer if result is None else answer | {"result": result}

    async def _perform(self, message: dict[str, Any]) -> object:
        name, arguments = message.get("request"), message.get("arguments", [])
        request = self._requests.get(name) if isinstance(name, str) else None
        if request is None:
            raise _Refused(Status.GENERAL_ERROR, f"unknown request {name!r}")
        if not _fits(arguments, request.arguments):
            raise _Refused(Status.GENERAL_ERROR, f"wrong arguments for {name}: {arguments!r}")
        if request.needs_probe:
            self._server.check_open(self)
        result = request.handler(*arguments)
        return await result if isinstance(result, Awaitable) else result

    # Requests about the connection.

    def _hello(self, version: int) -> None:
        if version != PROTOCOL_VERSION:
            raise _Refused(Status.GENERAL_ERROR, f"protocol version {version} is not {PROTOCOL_VERSION}")

    def _read_property(self, name: str) -> object:
        properties: dict[str, object] = {
            "vendor_name": "Simulated",
            "product_name": "nRF5340 DK probe",
            "unique_id": self._server.unique_id,
            "wire_protocol": self._protocol,
            "supported_wire_protocols": ["DEFAULT", "SWD"],
            "capabilities": ["BANKED_DP_REGISTERS", "APv2_ADDRESSES"],
        }
        if name not in properties:
            raise _Refused(Status.GENERAL_ERROR, f"unknown property {name!r}")
        return properties[name]

    async def _lock(self) -> None:
        if not self._has_lock:
            await self._server.lock.acquire()
            self._has_lock = True

    def _unlock(self) -> None:
        if self._has_lock:
            self._has_lock = False
            self._server.lock.release()

    # Requests about the wire.

    def _connect(self, protocol: str) -> None:
        self._dap.check_plugged()
        if protocol not in ("DEFAULT", "SWD"):
            raise _Refused(Status.PROBE_ERROR, f"the nRF5340 has SWD, not {protocol}")
        self._protocol = "SWD"

    def _disconnect(self) -> None:
        self._protocol = None

    def _swj_sequence(self, _length: int, _bits: int) -> None:
        self._dap.check_plugged()

    def _set_clock(self, frequency: float) -> None:
        self._dap.check_plugged()
        self._server.clock_frequency = int(frequency)

    async def _reset(self) -> None:
        self._dap.drive_nreset(low=True)
        try:
            await asyncio.sleep(self._server.hold_time)
        finally:
            self._dap.release_nreset()
        self._dap.check_plugged()
        await asyncio.sleep(self._server.post_delay)

    def _read_ap_multiple(self, address: int, count: int) -> list[int]:
        return [self._dap.read_ap(address) for _ in range(count)]

    def _write_ap_multiple(self, address: int, values: list[int]) -> None:
        for value in values:
            self._dap.write_ap(address, value)


def _parse(line: bytes) -> dict[str, Any]:
    """The request in a line; _Refused if it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict) or "id" not in message:
        raise _Refused(Status.GENERAL_ERROR, "a request is a JSON object with an id")
    return message


def _fits(arguments: object, types: tuple[type | UnionType, ...]) -> bool:
    """Whether `arguments` is a list of values of these types; numbers in lists are checked as well."""
    if not isinstance(arguments, list) or len(arguments) != len(types):
        return False
    for value, expected in zip(arguments, types, strict=True):
        if not isinstance(value, expected):
            return False
        if isinstance(value, list) and not all(isinstance(item, int) for item in value):
            return False
    return True
