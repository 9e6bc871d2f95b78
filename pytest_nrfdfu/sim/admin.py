"""The admin port of a simulated board: JSON lines over TCP, for tests that look inside or break something.

A request is ``{"id": 1, "method": "counters", "params": {...}}``, its answer ``{"id": 1, "result": ...}`` or
``{"id": 1, "error": "what is wrong"}``. Any number of clients may be connected; requests of one are answered in order.
The methods, with their parameters and results, are those of `Admin` that are listed in `METHODS`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pytest_nrfdfu.sim.board import SimBoard
from pytest_nrfdfu.sim.loopback import LoopbackServer
from pytest_nrfdfu.sim.wiring import Wiring

__all__ = ["METHODS", "Admin", "AdminServer"]

_MAX_READ = 1 << 16
"""Bytes of flash in one answer."""
_MAX_TRAFFIC = 1 << 17
"""Bytes of the UART in one answer."""

Json = dict[str, Any]


class Admin:
    """What can be asked of a board, and done to it. ValueError and TypeError say what is wrong with a request."""

    def __init__(self, board: SimBoard, wiring: Wiring, counters: Callable[[], Json], stop: Callable[[], None]) -> None:
        self._board = board
        self._wiring = wiring
        self._counters = counters
        self._stop = stop

    def counters(self) -> Json:
        """Everything that is counted, and the board's state."""
        return {**self._board.counters(), **self._board.state(), **self._counters()}

    def reset_counters(self) -> None:
        """Set the board's counters to 0 and forget the exchanges. Those of ports and probe go on."""
        self._board.reset_counters()

    def exchanges(self, last: int | None = None) -> list[Json]:
        """What passed on the UART: packets, console text, damaged frames. `data` is hex, `time` in seconds."""
        if last is not None:
            _require(isinstance(last, int) and last >= 0, "last is a number of records")
        return [record._asdict() | {"data": record.data.hex()} for record in self._board.tap.records(last)]

    def traffic(self, since: int = 0) -> Json:
        """Every byte on the UART as the host has it, in pieces: those from the number `since` on, or the first of them.

        `pieces` are [seconds, direction, hex], `first` is the number of the first one, `next` that to ask for next;
        `first` over `since` means that older pieces are no longer kept.
        """
        _require(isinstance(since, int) and since >= 0, "since is the number of a piece")
        first, pieces = self._board.traffic.since(since, _MAX_TRAFFIC)
        shown = [[piece.time, piece.direction, piece.data.hex()] for piece in pieces]
        return {"first": first, "next": first + len(pieces), "pieces": shown}

    def inject(
        self,
        rates: Json | None = None,
        trip: Json | None = None,
        upload: Json | None = None,
        noise: str | None = None,
        hang: bool = False,  # noqa: FBT001, FBT002 - a JSON parameter
    ) -> Json:
        """Switch faults; returns the rates that hold now.

        `rates`: see `Faults.set_rate`. `trip`: see `faults.Trip`; ``{}`` disarms it. `upload`: see
        `upload_faults.UploadFaults.arm`; ``{}`` disarms all. `noise`: bytes in hex that the board sends at once.
        `hang`: the firmware is stuck until the next reset.
        """
        faults = self._board.faults
        noise_bytes = bytes.fromhex(noise or "")
        for name, rate in (rates or {}).items():
            _require(isinstance(rate, int | float), f"{name} is a number from 0 to 1")
            faults.set_rate(name, rate)
        if trip is not None:
            faults.set_trip(trip or None)
        if upload is not None:
            faults.uploads.arm(upload or None)
        if noise_bytes:
            self._board.machine.interject(noise_bytes)
        if hang:
            self._board.machine.hang()
        return dict(faults.rates)

    def set_power(self, on: bool, usb: bool = False) -> None:  # noqa: FBT001, FBT002 - JSON parameters
        """Switch the board's supply.

        With `usb` it is that of a board powered by its USB cable: the probe goes along, and so does the UART's port if
        the board was started with a link, without which nobody could find it again.
        """
        _require(isinstance(on, bool) and isinstance(usb, bool), "on and usb are true or false")
        self._wiring.set_power(on=on, usb=usb)

    def set_fault(self, name: str, on: bool = True) -> list[str]:  # noqa: FBT001, FBT002 - JSON parameters
        """Let something of the bench be wrong, or right again (`wiring.FAULTS`); returns what is wrong now."""
        _require(isinstance(on, bool), "on is true or false")
        self._wiring.set_fault(name, on=on)
        return self._wiring.faults

    def set_recovery_pin(self, low: bool) -> None:  # noqa: FBT001 - a JSON parameter
        """Press (low) or release button 1."""
        _require(isinstance(low, bool), "low is true or false")
        self._board.drive_recovery_pin("button", low=low)

    def set_reset_pin(self, low: bool) -> None:  # noqa: FBT001 - a JSON parameter
        """Press (low) or release the reset button."""
        _require(isinstance(low, bool), "low is true or false")
        self._board.chip.drive_nreset("button", low)

    async def press_reset(self, seconds: float = 0.02) -> None:
        """Press the reset button, and release it."""
        _require(isinstance(seconds, int | float) and seconds >= 0, "seconds is a duration")
        self._board.chip.drive_nreset("button", low=True)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._board.chip.drive_nreset("button", low=False)

    def set_probe(self, plugged: bool | None = None, busy: bool | None = None) -> None:  # noqa: FBT001
        """Unplug the probe, or let somebody else have it; what is not given stays."""
        for value in (plugged, busy):
            _require(value is None or isinstance(value, bool), "plugged and busy are true or false")
        self._wiring.set_probe(plugged=plugged, busy=busy)

    def flash_hash(self, slot: int = 0, size: int | None = None) -> Json:
        """SHA-256 of the first `size` bytes of a slot (all without), and how its image calls itself."""
        return self._board.slot_contents(slot, size)._asdict()

    def trailer(self, slot: int = 0) -> Json:
        """What a slot's trailer says: ``magic``, ``swap_type``, ``copy_done``, ``image_ok``."""
        return self._board.trailer(slot)

    def read_flash(self, address: int, size: int) -> str:
        """Up to 64 KiB of the application core's flash, in hex."""
        _require(isinstance(address, int) and isinstance(size, int), "address and size are numbers")
        _require(size <= _MAX_READ, f"at most {_MAX_READ} bytes can be read at once")
        return self._board.read_flash(address, size).hex()

    def shutdown(self) -> None:
        """End the simulator."""
        self._stop()


METHODS = (
    "counters",
    "exchanges",
    "flash_hash",
    "inject",
    "press_reset",
    "read_flash",
    "reset_counters",
    "set_fault",
    "set_power",
    "set_probe",
    "set_recovery_pin",
    "set_reset_pin",
    "shutdown",
    "traffic",
    "trailer",
)


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not condition:
        raise ValueError(message)


class AdminServer:
    """Serves an `Admin`."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._server = LoopbackServer(self._answer_all)

    async def start(self, port: int = 0) -> int:
        """Listen on the loopback interface (0: any free port); returns the port."""
        return await self._server.start(port)

    async def close(self) -> None:
        """Stop listening, and drop the clients."""
        await self._server.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client is gone, or its line has no end

    async def _answer(self, line: bytes) -> Json:
        identity: object = None
        try:
            request = json.loads(line)
            _require(isinstance(request, dict), "a request is a JSON object")
            identity = request.get("id")
            return {"id": identity, "result": await self._call(request)}
        except (TypeError, ValueError) as error:
            return {"id": identity, "error": str(error)}

    async def _call(self, request: Json) -> object:
        name, params = request.get("method"), request.get("params", {})
        _require(name in METHODS, f"there is no method {name!r}; there are {', '.join(METHODS)}")
        _require(isinstance(params, dict), "params is a JSON object")
        method = getattr(self._admin, str(name))
        inspect.signature(method).bind(**params)
        result = method(**params)
        return await result if isinstance(result, Awaitable) else result
