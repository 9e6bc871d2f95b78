"""Talks to labgrid's coordinator for `bench.labgrid`: a program of its own, run by an interpreter that has labgrid.

It is run as a file, so that this package need not be installed there; it uses the standard library and labgrid (26 or
later, Python 3.11 or later) and nothing else. Beside the package's own interpreter it could not run: labgrid brings
pyserial-labgrid, which owns the same ``serial`` package as pyserial.

``labgrid_child.py`` takes JSON lines on standard input, ``{"id", "method", "arguments"}``, and answers each with
``{"id", "result"}`` or ``{"id", "error", "kind"}``. When its input ends, which the death of its parent does as well, it
cancels its reservations, releases its places and ends.

``labgrid_child.py client HOST USER ARGUMENT...`` is labgrid-client, run as that user of that host.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

_CALL_TIMEOUT = 15.0
"""Seconds for a call to the coordinator. One that acquires or releases waits for the exporter, by labgrid's own limit
10 s for a resource (labgrid/remote/coordinator.py, ExporterCommand.wait)."""
_SYNC_TIMEOUT = 4.0
"""Seconds for an answer that the coordinator gives at once."""
_START_TIMEOUT = 10.0
_PORT_TIMEOUT = 3.0
"""Seconds for an exporter to tell the TCP port of a serial port that it has begun to serve."""
_POLL = 0.1
_MAX_LINE = 1 << 20


class _FailedError(Exception):
    """What the parent is told: `kind` is ``gone`` (nobody to talk to), ``refused``, ``setup`` or ``other``."""

    def __init__(self, text: str, kind: str = "other") -> None:
        super().__init__(text)
        self.kind = kind


class _Labgrid(NamedTuple):
    """The parts of labgrid that are used; it is not there where this is type-checked."""

    client: Any
    """The module labgrid.remote.client."""
    messages: Any
    grpc: Any
    proxies: Any


def _import_labgrid() -> _Labgrid:
    # The folder of a script comes first in the search path, and there a labgrid.py of another kind stands beside it.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    try:
        return _Labgrid(
            importlib.import_module("labgrid.remote.client"),
            importlib.import_module("labgrid.remote.generated.labgrid_coordinator_pb2"),
            importlib.import_module("grpc"),
            importlib.import_module("labgrid.util.proxy").proxymanager,
        )
    except ImportError as error:
        raise _FailedError(f"{sys.executable} cannot import labgrid: {error}", "setup") from error


class _Agent:
    """One session with the coordinator, and what is held through it."""

    def __init__(self) -> None:
        self._labgrid: Any = None
        self._session: Any = None
        self._me = ""
        self._places: set[str] = set()
        self._reservations: set[str] = set()

    # --- what the parent may ask for --------------------------------------------------------------------------------

    async def start(self, coordinator: str, host: str, user: str) -> None:
        """Connect, as that user of that host."""
        self._labgrid = _import_labgrid()
        os.environ["LG_HOSTNAME"], os.environ["LG_USERNAME"] = host, user
        self._me = f"{host}/{user}"
        address = self._labgrid.proxies.get_grpc_address(coordinator, default_port=20408)
        self._session = self._labgrid.client.ClientSession(address, asyncio.get_running_loop())
        try:
            await asyncio.wait_for(self._session.start(), _START_TIMEOUT)
        except TimeoutError:
            raise _FailedError(f"no answer within {_START_TIMEOUT:g} s", "gone") from None
        except self._labgrid.client.ServerError as error:
            raise _FailedError(" ".join(map(str, error.args)), "gone") from None

    async def look(self) -> dict[str, Any]:
        """All places, with the resources that they match now, and all reservations."""
        await self._sync()
        reply = await self._call("GetReservations", "GetReservationsRequest")
        return {
            "places": [self._shown(place) for place in self._session.places.values()],
            "reservations": [
                {
                    "owner": item.owner,
                    "token": item.token,
                    "state": item.state,
                    "place": item.allocations.get("main"),
                    "until": item.timeout,
                }
                for item in reply.reservations
            ],
        }

    async def reserve(self, tags: dict[str, str]) -> dict[str, Any]:
        """Ask for a place with these tags; its name is one of them."""
        wanted = self._labgrid.messages.Reservation.Filter(filter=tags)
        reply = await self._call("CreateReservation", "CreateReservationRequest", filters={"main": wanted})
        self._reservations.add(reply.reservation.token)
        return self._state(reply.reservation)

    async def poll(self, token: str) -> dict[str, Any]:
        """How a reservation stands; asking keeps it alive for another minute."""
        return self._state((await self._call("PollReservation", "PollReservationRequest", token=token)).reservation)

    async def cancel(self, token: str) -> None:
        """Drop a reservation, one's own or one that a dead process left."""
        self._reservations.discard(token)
        await self._call("CancelReservation", "CancelReservationRequest", token=token)

    async def acquire(self, place: str) -> dict[str, Any]:
        """Take a place; returns it with its resources."""
        self._places.add(place)  # before, so that one whose answer is lost is released as well
        await self._call("AcquirePlace", "AcquirePlaceRequest", placename=place)
        shown = await self._settled(place)
        if shown is None:
            raise _FailedError(f"the place {place} is not there any more", "refused")
        return shown

    async def release(self, place: str, holder: str | None = None) -> None:
        """Give a place back; with `holder`, one that a dead process left, if it is still held under that name."""
        # Under one's own name too: whoever has it now keeps it.
        await self._call("ReleasePlace", "ReleasePlaceRequest", placename=place, fromuser=holder or self._me)
        self._places.discard(place)

    async def check(self, place: str) -> str | None:
        """Why a place is not held any more; None if it is."""
        await self._sync()
        found = self._session.places.get(place)
        if found is None:
            return "the place was deleted"
        if found.acquired != self._me:
            return f"it is held by {found.acquired} now" if found.acquired else "somebody released it"
        for exporter, group, kind, name in found.acquired_resources:
            entry = self._session.resources.get(exporter, {}).get(group, {}).get(name)
            if entry is None or not entry.data.get("cls"):
                return f"its exporter {exporter} is gone, with {group}/{kind}/{name}"
        return None

    async def close(self) -> None:
        """Leave nothing behind."""
        for token in list(self._reservations):
            await _quietly(self.cancel(token))
        for place in list(self._places):
            await _quietly(self.release(place))
        if self._session is not None and self._session.pump_task is not None:
            await _quietly(asyncio.wait_for(self._session.stop(), _SYNC_TIMEOUT))
            await _quietly(asyncio.wait_for(self._session.close(), _SYNC_TIMEOUT))

    # --- labgrid ----------------------------------------------------------------------------------------------------

    async def _call(self, method: str, message: str, **fields: Any) -> Any:
        request = getattr(self._labgrid.messages, message)(**fields)
        status = self._labgrid.grpc.StatusCode
        try:
            return await getattr(self._session.stub, method)(request, timeout=_CALL_TIMEOUT)
        except self._labgrid.grpc.aio.AioRpcError as error:
            code, text = error.code(), f"{method}: {error.details() or error.code().name}"
        if code == status.DEADLINE_EXCEEDED:
            await self._sync()  # the coordinator is there, so it waits for an exporter
        answers = {
            status.FAILED_PRECONDITION,
            status.PERMISSION_DENIED,
            status.INVALID_ARGUMENT,
            status.DEADLINE_EXCEEDED,
        }
        raise _FailedError(text, "gone" if code == status.UNAVAILABLE else "refused" if code in answers else "other")

    async def _sync(self) -> None:
        """Wait until everything that has changed at the coordinator has come here."""
        lost = "the connection to the coordinator was lost"
        if self._session.stopping.is_set():
            raise _FailedError(lost, "gone")
        try:
            alive = await asyncio.wait_for(self._session.sync_with_coordinator(), _SYNC_TIMEOUT)
        except TimeoutError:
            raise _FailedError(f"the coordinator did not answer within {_SYNC_TIMEOUT:g} s", "gone") from None
        if not alive:
            raise _FailedError(lost, "gone")

    async def _settled(self, name: str) -> dict[str, Any] | None:
        """A place that was just taken, when its exporters have said where its serial ports are served."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PORT_TIMEOUT
        while True:
            await self._sync()
            place = self._session.places.get(name)
            shown = None if place is None else self._shown(place)
            ports = [item["args"].get("port") for item in (shown or {}).get("resources", ()) if _is_serial(item)]
            if all(ports) or loop.time() >= deadline:
                return shown
            await asyncio.sleep(_POLL)

    def _shown(self, place: Any) -> dict[str, Any]:
        return {
            "name": place.name,
            "tags": dict(place.tags),
            "acquired": place.acquired,
            "changed": place.changed,
            "reservation": place.reservation,
            "resources": list(self._matching(place)),
        }

    def _matching(self, place: Any) -> Any:
        for exporter, groups in self._session.resources.items():
            for group, entries in groups.items():
                for name, entry in entries.items():
                    # Of a resource that is gone, labgrid keeps an entry without data.
                    path = (exporter, group, entry.data.get("cls"), name)
                    match = place.getmatch(path) if path[2] else None
                    if match is not None:
                        known = {"name": match.rename or name, "cls": entry.cls, "exporter": exporter}
                        yield {**known, "args": dict(entry.args), "extra": dict(entry.extra)}

    @staticmethod
    def _state(reservation: Any) -> dict[str, Any]:
        place = reservation.allocations.get("main")
        return {"token": reservation.token, "state": reservation.state, "place": place}


def _is_serial(resource: dict[str, Any]) -> bool:
    return bool(resource["cls"] == "NetworkSerialPort")


async def _quietly(job: Any) -> None:
    """What cannot be undone must not keep the rest from being undone."""
    try:
        await job
    except Exception as error:  # noqa: BLE001 - labgrid and gRPC raise what they like
        sys.stderr.write(f"{error}\n")


async def _answer(agent: _Agent, request: dict[str, Any]) -> dict[str, Any]:
    try:
        result = await getattr(agent, request["method"])(**request["arguments"])
    except _FailedError as error:
        return {"id": request["id"], "error": str(error), "kind": error.kind}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent waits for an answer
        return {"id": request["id"], "error": f"{type(error).__name__}: {error}", "kind": "other"}
    return {"id": request["id"], "result": result}


async def _serve(out: Any) -> None:
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader(limit=_MAX_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, requests.feed_eof)
    agent = _Agent()
    try:
        while line := await requests.readline():
            out.write(json.dumps(await _answer(agent, json.loads(line))) + "\n")
            out.flush()
    finally:
        await agent.close()


def _be_labgrid_client(host: str, user: str, *arguments: str) -> None:
    labgrid = _import_labgrid()
    session: Any = labgrid.client.ClientSession
    known = labgrid.client.target_factory.resources

    class _Session(session):  # type: ignore[misc]
        """One that can drive the others of a place's resources where labgrid does not know the class of one."""

        def get_target_resources(self, place: Any) -> dict[Any, Any]:
            found = super().get_target_resources(place)
            return {key: entry for key, entry in found.items() if entry.cls in known}

    labgrid.client.ClientSession = _Session
    os.environ["LG_HOSTNAME"], os.environ["LG_USERNAME"] = host, user
    for name in ("LG_ENV", "LG_PLACE"):  # an environment for somebody else's tests
        os.environ.pop(name, None)
    sys.argv[:] = ["labgrid-client", *arguments]
    labgrid.client.main()


def main() -> None:
    """Serve requests until the input ends, or be labgrid-client."""
    if sys.argv[1:2] == ["client"]:
        _be_labgrid_client(*sys.argv[2:])
        return
    # What libraries print must not get between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        asyncio.run(_serve(out))


if __name__ == "__main__":
    main()
