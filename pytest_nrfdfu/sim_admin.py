"""Client of a simulated board's admin port: synchronous, with a deadline on every call.

For tests and for the fixture ``recovery_target``; a test that is to run on real boards has no use for it.

``python -m pytest_nrfdfu.sim_admin HOST:PORT METHOD [NAME=JSON ...]`` makes one call, so that a configuration can
switch a simulated board's supply or lines by a command: ``set_power on=true``, ``set_recovery_pin low=true``,
``set_reset_pin low=false``.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from pytest_nrfdfu.errors import BoardError

__all__ = ["Exchange", "Piece", "SimAdmin", "SlotContents"]

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


class Piece(NamedTuple):
    """Bytes that passed on the UART together, as the host has them; `time` as in `Exchange`, of the last byte."""

    time: float
    direction: str
    data: bytes


class SlotContents(NamedTuple):
    """What is in a slot."""

    sha256: bytes
    version: str | None
    image_hash: bytes | None
    """The hash that the image carries, or None where there is no image."""
    valid: bool
    """Whether the bootloader's image list would show it."""


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
        ``recovery_pin_low``, ``nreset_low``, ``powered``, ``hung``, ``uart_port`` (its name now, empty while there is
        none), ``bench_faults``.
        """
        return dict(self._call("counters"))

    def reset_counters(self) -> None:
        """Set the board's counters to 0 and forget the exchanges. Those of ports and probe go on."""
        self._call("reset_counters")

    def exchanges(self, last: int | None = None) -> list[Exchange]:
        """What passed on the UART, oldest first; a bounded number is kept."""
        records = self._call("exchanges", last=last)
        return [Exchange(r["time"], r["direction"], r["kind"], bytes.fromhex(r["data"])) for r in records]

    def traffic(self, since: int = 0) -> tuple[int, list[Piece]]:
        """Every byte on the UART from piece number `since` on; and the number to ask for next time.

        The simulator keeps some megabytes; of a longer past the older pieces are missing.
        """
        pieces: list[Piece] = []
        while True:
            found = self._call("traffic", since=since)
            pieces += [Piece(when, direction, bytes.fromhex(data)) for when, direction, data in found["pieces"]]
            since = found["next"]
            if not found["pieces"]:
                return since, pieces

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

    def upload_fault(
        self,
        nth: int = 1,
        *,
        times: int = 1,
        ignored: bool = False,
        rc: int | None = None,
        back: int = 0,
        lost: bool = False,
        late: float = 0.0,
        before: bytes = b"",
        damage: bool = False,
    ) -> None:
        """Let the `nth` upload request from now on, and `times` in all from there, go wrong.

        `ignored`: no effect and no response. `rc`: refused with this. `back`: the offset goes back by so many bytes.
        `lost`: done, but no response. `late`: the response comes so many seconds later. `before`: bytes sent in front
        of it. `damage`: one bit is written wrong.
        """
        switches = {"ignored": ignored, "lost": lost, "damage": damage}
        settings = {"nth": nth, "times": times} | {name: value for name, value in switches.items() if value}
        settings |= {"rc": rc} if rc is not None else {}
        # What is not asked for is left out, so that it does not undo what is armed for the same request.
        given = {"back": back, "late": late, "before": before.hex()}
        self._call("inject", upload=settings | {name: value for name, value in given.items() if value})

    def disarm(self) -> None:
        """Forget what `reset_after`, `hang_after` and `upload_fault` asked for."""
        self._call("inject", trip={}, upload={})

    def hang(self) -> None:
        """Let the firmware get stuck until the next reset."""
        self._call("inject", hang=True)

    def noise(self, data: bytes) -> None:
        """Let the board send `data` at once, in the middle of whatever it is sending."""
        self._call("inject", noise=data.hex())

    def set_power(self, on: bool, *, usb: bool = False) -> None:  # noqa: FBT001 - reads as set_power(False)
        """Switch the board's supply; with `usb` by its USB cable, which takes the probe and the UART's port along.

        The port only goes if the simulator was started with a link to it, and comes back under another name.
        """
        self._call("set_power", on=on, usb=usb)

    def set_fault(self, name: str, on: bool = True) -> list[str]:  # noqa: FBT001, FBT002 - reads as set_power does
        """Let something of the bench be wrong, or right again; returns what is wrong now.

        The names are those of `pytest_nrfdfu.config_faults.SimFault`.
        """
        return list(self._call("set_fault", name=name, on=on))

    def press_reset(self, seconds: float = 0.02) -> None:
        """Press the reset button for so long; returns when it is released."""
        self._call("press_reset", seconds=seconds)

    def set_recovery_pin(self, *, low: bool) -> None:
        """Press (low) or release button 1."""
        self._call("set_recovery_pin", low=low)

    def set_reset_pin(self, *, low: bool) -> None:
        """Press (low) or release the reset button."""
        self._call("set_reset_pin", low=low)

    def set_probe(self, *, plugged: bool | None = None, busy: bool | None = None) -> None:
        """Unplug the debug probe, or let somebody else have it; what is not given stays."""
        self._call("set_probe", plugged=plugged, busy=busy)

    def flash_hash(self, slot: int = 0, size: int | None = None) -> SlotContents:
        """SHA-256 of the first `size` bytes of a slot (all without), and how its image calls itself."""
        found = self._call("flash_hash", slot=slot, size=size)
        carried = found["image_hash"]
        return SlotContents(
            bytes.fromhex(found["sha256"]),
            found["version"],
            None if carried is None else bytes.fromhex(carried),
            found["valid"],
        )

    def trailer(self, slot: int = 0) -> dict[str, str]:
        """What a slot's trailer says.

        ``magic``, ``copy_done`` and ``image_ok`` are set, unset or bad; ``swap_type`` is none, test, permanent, revert.
        """
        return dict(self._call("trailer", slot=slot))

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

    def call(self, method: str, **params: object) -> Any:
        """Any method by its name, with its parameters and result as JSON has them."""
        return self._call(method, **params)

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


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a string needs no quotes


def main(argv: Sequence[str]) -> int:
    """One call from the command line; prints what it returns, and returns the exit status."""
    if len(argv) < len(("address", "method")):
        print("usage: python -m pytest_nrfdfu.sim_admin HOST:PORT METHOD [NAME=JSON ...]", file=sys.stderr)  # noqa: T201
        return 2
    address, method, *given = argv
    try:
        params = dict(map(_parameter, given))
        with SimAdmin(address) as admin:
            result = admin.call(method, **params)
    except (BoardError, ValueError) as error:
        print(f"sim_admin: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    if result is not None:
        print(json.dumps(result))  # noqa: T201 - the program's output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
