"""The control lines of a simulated board as an RFC 2217 port: RTS holds the recovery pin, DTR holds nRESET.

It stands for a USB-serial adapter whose RTS and DTR are wired to the board through transistors: an active line pulls
its pin low. Only the lines matter; bytes that are written to the port go nowhere. Lines are inactive until a client
sets them, and again when it is gone, as an adapter's are after the last close.

pyserial's client, opened with ``dtr = rts = False`` set before, sends DTR off and RTS off and so causes no pulse. With
pyserial's defaults (both True) opening holds the board in reset until DTR is cleared: `Serial.open` sends DTR on.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Literal, cast

from serial.rfc2217 import PortManager

__all__ = ["ControlPort", "Line"]

Line = Literal["rts", "dtr"]
_HOST = "127.0.0.1"
_REFUSAL = b"nrfdfu-sim: the control port is in use\r\n"
"""Plain text before the connection is closed, as ser2net does it."""


class _Adapter:
    """What `PortManager` takes for a serial port: settings are kept, line changes are passed on."""

    cts = dsr = cd = True
    ri = False

    def __init__(self, set_line: Callable[[Line, bool], None]) -> None:
        self._set_line = set_line
        self._lines: dict[Line, bool] = {"rts": False, "dtr": False}
        self.baudrate = 115200
        self.bytesize = 8
        self.parity = "N"
        self.stopbits: float = 1
        self.xonxoff = self.rtscts = self.break_condition = False

    @property
    def rts(self) -> bool:
        return self._lines["rts"]

    @rts.setter
    def rts(self, active: bool) -> None:
        self._change("rts", active=active)

    @property
    def dtr(self) -> bool:
        return self._lines["dtr"]

    @dtr.setter
    def dtr(self, active: bool) -> None:
        self._change("dtr", active=active)

    def reset_input_buffer(self) -> None:
        """Nothing is ever in it."""

    def reset_output_buffer(self) -> None:
        """Nothing is ever in it."""

    def release(self) -> None:
        """Both lines inactive: the recovery pin first, so that the reset that follows starts the application."""
        self.rts = False
        self.dtr = False

    def _change(self, line: Line, *, active: bool) -> None:
        if self._lines[line] != active:
            self._lines[line] = active
            self._set_line(line, active)


class ControlPort:
    """Serves the lines to one client at a time. `set_line` is called with a line and whether it is active."""

    def __init__(self, set_line: Callable[[Line, bool], None]) -> None:
        self.set_line = set_line
        self.clients_seen = 0
        """Clients that got the port."""
        self.refused = 0
        """Clients sent away because there was one."""
        self._client: _Client | None = None
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on the loopback interface (0: any free port); returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), _HOST, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, drop the client, let go of the lines."""
        if self._client is not None:
            self._client.drop()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def clients(self) -> int:
        """Clients now: 0 or 1."""
        return int(self._client is not None)

    def attach(self, client: _Client) -> bool:
        """A client came; False if it cannot stay."""
        if self._client is not None:
            self.refused += 1
            return False
        self._client = client
        self.clients_seen += 1
        return True

    def detach(self, client: _Client) -> None:
        """A client has gone."""
        if self._client is client:
            self._client = None


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, port: ControlPort) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._adapter: _Adapter | None = None
        self._manager: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._port.attach(self):
            self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._adapter = _Adapter(self._port.set_line)
        # The stubs want a serial.Serial; PortManager uses what _Adapter has.
        self._manager = cast("Any", PortManager)(self._adapter, self)

    def write(self, data: bytes) -> None:
        """What `PortManager` answers the client."""
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._manager is None:
            return
        try:
            for _ in self._manager.filter(data):
                pass  # a byte for a serial line that is not there
        except (IndexError, KeyError, TypeError, ValueError, struct.error):
            self.drop()  # not RFC 2217; PortManager does not check what it reads

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._adapter is not None:
            self._adapter.release()
        self._port.detach(self)

    def drop(self) -> None:
        """Close the connection from here."""
        if self._transport is not None:
            self._transport.abort()
