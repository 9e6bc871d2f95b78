"""Client of a simulated board's admin port: synchronous, with a deadline on every call.

For tests and for the fixture ``recovery_target``; a test that is to run on real boards has no use for it.
"""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from pytest_nrfdfu.errors import BoardError

__all__ = ["Exchange", "SimAdmin", "SlotContents"]

_CHUNK = 1 << 16
"""Bytes; the port gives out so much flash at once."""


class Exchange(NamedTuple):
    """Something that passed on the board's UART. `time` is the board's clock in seconds."""

    time: float
    direction: str
    """``to board`` or ``from board``."""
    kind: str
    """``packet``, ``text``, or what was wrong with a frame: ``crc``, ``base64``, ``incomplete``, ..."""
    data: bytes


class SlotContents(NamedTuple):
    """What is in a slot. Nothing is validated."""

    sha256: bytes
    version: str | None
    image_hash: bytes | None
    """The hash that the image carries, or None where there is no image."""


class SimAdmin:
    """A connection to the admin port at `address` (``host:port``, as the simulator prints it).

    Every call raises BoardError when the simulator refuses it, is gone, or does not answer within `timeout` seconds.
    """

    def __init__(self, address: str, *, timeout: float = 5.0) -> None:
        self.address = address
        self.timeout = timeout
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise BoardError(f"{address!r} is not the address of an admin port; expected host:port")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout)
        except OSError as error:
            raise BoardError(f"the admin port {address} of a simulated board cannot be reached: {error}") from error
        self._received = b""
        self._id = 0

    def close(self) -> None:
        """Close the connection; the simulator goes on."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def counters(self) -> dict[str, Any]:
        """Everything that is counted, and the board's state.

        Among it: ``uploads`` (begun), ``upload_requests``, ``requests``, ``responses``, ``erases``, ``resets`` by
        cause, ``uart`` and ``faults`` (lost and damaged bytes), ``probe``, ``control``, ``program``, ``in_recovery``,
        ``recovery_pin_low``, ``nreset_low``, ``powered``, ``hung``.
        """
        return dict(self._call("counters"))

    def reset_counters(self) -> None:
        """Set the board's counters to 0 and forget the exchanges. Those of ports and probe go on."""
        self._call("reset_counters")

    def exchanges(self, last: int | None = None) -> list[Exchange]:
        """What passed on the UART, oldest first; a bounded number is kept."""
        records = self._call("exchanges", last=last)
        return [Exchange(r["time"], r["direction"], r["kind"], bytes.fromhex(r["data"])) for r in records]

    def set_rates(self, **rates: float) -> dict[str, float]:
        """Damage bytes, at a rate per byte; returns all rates.

        Names: ``drop_rate`` and ``flip_rate``, for one direction ``to_board_drop_rate``, ``from_board_flip_rate``, ...
        """
        return dict(self._call("inject", rates=rates))

    def reset_after(
        self,
        *,
        uploads: int | None = None,
        received: int | None = None,
        delay: float = 0.0,
        cause: str = "POWER_ON",
    ) -> None:
        """Reset the board once it has received so many more upload requests or bytes, and `delay` seconds passed."""
        self._trip("reset", uploads=uploads, received=received, delay=delay, cause=cause)

    def hang_after(self, *, uploads: int | None = None, received: int | None = None, delay: float = 0.0) -> None:
        """Let the firmware get stuck once it has received so many more upload requests or bytes."""
        self._trip("hang", uploads=uploads, received=received, delay=delay)

    def disarm(self) -> None:
        """Forget what `reset_after` or `hang_after` asked for."""
        self._call("inject", trip={})

    def hang(self) -> None:
        """Let the firmware get stuck until the next reset."""
        self._call("inject", hang=True)

    def noise(self, data: bytes) -> None:
        """Let the board send `data` at once, in the middle of whatever it is sending."""
        self._call("inject", noise=data.hex())

    def set_power(self, on: bool) -> None:  # noqa: FBT001 - reads as set_power(False)
        """Switch the board's supply."""
        self._call("set_power", on=on)

    def press_reset(self, seconds: float = 0.02) -> None:
        """Press the reset button for so long; returns when it is released."""
        self._call("press_reset", seconds=seconds)

    def set_recovery_pin(self, *, low: bool) -> None:
        """Press (low) or release button 1."""
        self._call("set_recovery_pin", low=low)

    def set_probe(self, *, plugged: bool | None = None, busy: bool | None = None) -> None:
        """Unplug the debug probe, or let somebody else have it; what is not given stays."""
        self._call("set_probe", plugged=plugged, busy=busy)

    def flash_hash(self, slot: int = 0, size: int | None = None) -> SlotContents:
        """SHA-256 of the first `size` bytes of a slot (all without), and how its image calls itself."""
        found = self._call("flash_hash", slot=slot, size=size)
        carried = found["image_hash"]
        return SlotContents(
            bytes.fromhex(found["sha256"]), found["version"], None if carried is None else bytes.fromhex(carried)
        )

    def read_flash(self, address: int, size: int) -> bytes:
        """Flash of the application core."""
        data = b""
        while len(data) < size:
            data += bytes.fromhex(
                self._call("read_flash", address=address + len(data), size=min(_CHUNK, size - len(data)))
            )
        return data

    def shutdown(self) -> None:
        """End the simulator."""
        self._call("shutdown")

    def _trip(self, action: str, **settings: object) -> None:
        given = {name: value for name, value in settings.items() if value is not None}
        self._call("inject", trip={"action": action, **given})

    def _call(self, method: str, **params: object) -> Any:
        self._id += 1
        deadline = time.monotonic() + self.timeout
        request = json.dumps({"id": self._id, "method": method, "params": params}).encode() + b"\n"
        try:
            self._socket.settimeout(self.timeout)
            self._socket.sendall(request)
            while True:
                answer = json.loads(self._read_line(deadline))
                if answer.get("id") == self._id:  # an earlier call may have given up waiting for its answer
                    break
        except (OSError, ValueError) as error:
            raise BoardError(f"the simulated board at {self.address} did not answer {method}: {error}") from error
        if "error" in answer:
            raise BoardError(f"the simulated board at {self.address} refuses {method}: {answer['error']}")
        return answer["result"]

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {self.timeout:g} s")
            self._socket.settimeout(left)
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("it closed the connection")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line
