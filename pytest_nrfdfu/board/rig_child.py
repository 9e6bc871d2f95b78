"""The child process that owns one unit's probe and lines: ``python -m pytest_nrfdfu.board.rig_child``.

Started by `pytest_nrfdfu.board.rig`, which see for the protocol. The pipes carry nothing but calls and answers: before
a driver or an external command could use them, standard output is turned to standard error and standard input to
nothing. When the pipe closes, all lines are released, power is switched on if it is off, and the process ends, also
when a call hangs: then after `_GRACE` seconds, by force, with the commands that it runs.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

from pytest_nrfdfu.board.lines import Line, Power, announce, make_line, pulse, run_command
from pytest_nrfdfu.board.power_error import PowerError
from pytest_nrfdfu.board.probe import Probe
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["main"]

_GRACE = 0.7
"""Seconds that a running call gets to end after the parent has gone."""
_RELEASE = 1.0
"""Seconds that each line gets to be released when a call hangs, which may hold what they need."""
_ORPHAN = 2.0
"""Seconds that the process of a run that has just died gets to give the probe back."""


class _Server:
    """The methods that the parent may call."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._power: Power | None = None
        self._usb_wait = 0.0
        self._probe: Probe | None = None
        self._reset_command: list[str] | None = None
        self._hold = 0.0

    # --- start and end ----------------------------------------------------------------------------------------------

    def start(
        self,
        probe: dict[str, Any] | None,
        lines: dict[str, dict[str, Any]],
        power: dict[str, Any] | None,
        reset_command: list[str] | None,
        hold: float,
    ) -> None:
        """Undo what an earlier process may have left asserted: lines first, so that power finds them inactive."""
        self._hold = hold
        self._reset_command = reset_command
        announce(lines.values())
        _all_of([partial(self._add_line, name, table) for name, table in lines.items()])
        if power is not None:
            self._power = Power(power)
            self._usb_wait = power["usb_timeout"] if power["takes_usb"] else 0.0
            self._power.set(on=True)
        if probe is not None:
            self._probe = Probe(probe["unique_id"], probe["target"], hold)
            self._probe.repair(wait=self._usb_wait, busy=_ORPHAN)

    def _add_line(self, name: str, settings: dict[str, Any]) -> None:
        self._lines[name] = make_line(name, settings)

    @property
    def held_count(self) -> int:
        """How many things there are to be released."""
        return len(self._lines) + (self._power is not None)

    def release(self) -> None:
        """Let go of all lines, and switch power on unless it is."""
        _all_of([*(partial(line.set, asserted=False) for line in self._lines.values()), self._restore_power])

    def _restore_power(self) -> None:
        if self._power is not None and not self._power.is_on:
            self._power.set(on=True)

    def close(self) -> None:
        """Release everything, then give the ports back: two lines may share one."""
        for step in (self.release, *(line.close for line in self._lines.values())):
            try:
                step()
            except LineError as error:
                print(error, file=sys.stderr)  # noqa: T201 - the parent keeps it

    # --- lines and power --------------------------------------------------------------------------------------------

    def set_line(self, name: str, asserted: bool) -> None:  # noqa: FBT001 - called by name, over the pipe
        self._line(name).set(asserted=asserted)

    def line_level(self, name: str) -> bool | None:
        return self._line(name).level()

    def power(self, on: bool) -> None:  # noqa: FBT001 - called by name, over the pipe
        self._need_power().set(on=on)
        if on:
            self._wait_for_probe()

    def power_cycle(self) -> None:
        self._need_power().cycle()
        self._wait_for_probe()

    def _wait_for_probe(self) -> None:
        """Where the probe had no power either, until it is back and the chip answers it."""
        if self._probe is not None and self._usb_wait:
            self._probe.repair(wait=self._usb_wait)

    # --- probe and resets -------------------------------------------------------------------------------------------

    def reset(self, kind: str) -> None:
        match kind:
            case "line":
                pulse(self._line("reset"), self._hold)
            case "power":
                self.power_cycle()
            case "command":
                if self._reset_command is None:
                    raise LineError("no reset command is configured: add command = [...] to [reset]")
                run_command("the reset command", self._reset_command)
            case _:
                self._need_probe().reset(kind)

    def reset_with_causes_cleared(self, kind: str) -> None:
        self._need_probe().reset_with_causes_cleared(kind)

    def probe_info(self) -> dict[str, Any]:
        return self._need_probe().info()

    def read32(self, address: int) -> int:
        return self._need_probe().read32(address)

    def write32(self, address: int, value: int) -> None:
        self._need_probe().write32(address, value)

    def erase_page(self, address: int) -> None:
        self._need_probe().erase_page(address)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _line(self, name: str) -> Line:
        try:
            return self._lines[name]
        except KeyError:
            raise LineError(f"no {name} line is configured") from None

    def _need_power(self) -> Power:
        if self._power is None:
            raise LineError("no power switch is configured: add a [power] table")
        return self._power

    def _need_probe(self) -> Probe:
        if self._probe is None:
            raise ProbeError("no probe is configured: add a [probe] table")
        return self._probe


_METHODS = frozenset(
    {
        "erase_page",
        "line_level",
        "power",
        "power_cycle",
        "probe_info",
        "read32",
        "release",
        "reset",
        "reset_with_causes_cleared",
        "set_line",
        "start",
        "write32",
    }
)


def _all_of(steps: Iterable[Callable[[], None]]) -> None:
    """Take all steps, also when some fail; then raise the first error."""
    errors = []
    for step in steps:
        try:
            step()
        except LineError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _answer(server: _Server, request: dict[str, Any]) -> dict[str, Any]:
    method = request["method"]
    if method not in _METHODS:
        return {"id": request["id"], "error": f"unknown method {method!r}", "kind": ""}
    try:
        return {"id": request["id"], "result": getattr(server, method)(**request["arguments"])}
    except ProbeError as error:
        return {"id": request["id"], "error": str(error), "kind": "probe", "cause": error.cause}
    except BoardError as error:
        return {"id": request["id"], "error": str(error), "kind": _kind(error)}
    except Exception as error:  # noqa: BLE001 - a driver's surprise must not take the lines' owner down
        traceback.print_exc()
        return {"id": request["id"], "error": f"{method}: {type(error).__name__}: {error}", "kind": ""}


def _kind(error: BoardError) -> str:
    if isinstance(error, PowerError):
        return "power"
    return "line" if isinstance(error, LineError) else ""


def main() -> int:
    """Serve calls from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    calls, answers = _take_pipes()
    server = _Server()
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    idle = threading.Event()

    def read() -> None:
        for line in calls:
            requests.put(line)
        requests.put(None)
        if not idle.wait(_GRACE):
            _give_up(server)

    signal.signal(signal.SIGTERM, lambda *_: requests.put(None))
    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := requests.get()) is not None:
            answer = _answer(server, json.loads(line))
            answers.write(json.dumps(answer).encode() + b"\n")
    except OSError:
        pass  # the parent has gone
    finally:
        idle.set()
        _release(server)
    return 0


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, for calls and answers alone; what a driver reads or prints goes elsewhere."""
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return calls, answers


def _release(server: _Server) -> None:
    """Let go of the lines, but do not wait for ever: an external command may hang."""
    releasing = threading.Thread(target=server.close, daemon=True)
    releasing.start()
    releasing.join(_RELEASE * (1 + server.held_count))


def _give_up(server: _Server) -> None:
    """A call hangs and the parent has gone."""
    _release(server)
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # a command that hangs goes as well
    os._exit(1)


if __name__ == "__main__":
    # Not sys.exit: an atexit handler or thread of a driver must not keep the lines' owner alive.
    code = main()
    sys.stderr.flush()
    os._exit(code)
