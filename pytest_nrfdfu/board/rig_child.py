"""The child process that owns one unit's probe and lines: ``python -m pytest_nrfdfu.board.rig_child``.

Started by `pytest_nrfdfu.board.rig`, which see for the protocol. The pipes carry nothing but calls and answers: before
a driver or an external command could use them, standard output is turned to standard error and standard input to
nothing. When the pipe closes, all lines are released and the process ends, also when a call hangs: then after `_GRACE`
seconds, by force, with the commands that it runs.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, BinaryIO

from pytest_nrfdfu.board.lines import Line, make_line
from pytest_nrfdfu.board.probe import Probe
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["main"]

_GRACE = 0.7
"""Seconds that a running call gets to end after the parent has gone."""
_RELEASE = 1.0
"""Seconds that the lines get to be released when a call hangs, which may hold what they need."""


class _Server:
    """The methods that the parent may call."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._probe: Probe | None = None
        self._hold = 0.0

    def start(self, probe: dict[str, Any] | None, lines: dict[str, dict[str, Any]], hold: float) -> None:
        for name, settings in lines.items():
            self._lines[name] = make_line(name, settings)
        self._hold = hold
        if probe is not None:
            self._probe = Probe(probe["unique_id"], probe["target"], hold)
            self._probe.repair()

    @property
    def line_count(self) -> int:
        return len(self._lines)

    def reset(self, kind: str) -> None:
        if kind == "line":
            self._line("reset").pulse(self._hold)
        else:
            self._need_probe().reset(kind)

    def set_line(self, name: str, asserted: bool) -> None:  # noqa: FBT001 - called by name, over the pipe
        self._line(name).set(asserted=asserted)

    def release(self) -> None:
        errors = []
        for line in self._lines.values():
            try:
                line.set(asserted=False)
            except LineError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def probe_info(self) -> dict[str, Any]:
        return self._need_probe().info()

    def read32(self, address: int) -> int:
        return self._need_probe().read32(address)

    def write32(self, address: int, value: int) -> None:
        self._need_probe().write32(address, value)

    def close(self) -> None:
        """Let go of all lines, then give their ports back: two lines may share one."""
        try:
            self.release()
        except LineError as error:
            print(error, file=sys.stderr)  # noqa: T201 - the parent keeps it
        for line in self._lines.values():
            line.close()

    def _line(self, name: str) -> Line:
        try:
            return self._lines[name]
        except KeyError:
            raise LineError(f"no {name} line is configured") from None

    def _need_probe(self) -> Probe:
        if self._probe is None:
            raise ProbeError("no probe is configured: add a [probe] table")
        return self._probe


_METHODS = frozenset({"start", "reset", "set_line", "release", "probe_info", "read32", "write32"})


def _answer(server: _Server, request: dict[str, Any]) -> dict[str, Any]:
    method = request["method"]
    if method not in _METHODS:
        return {"id": request["id"], "error": f"unknown method {method!r}", "kind": ""}
    try:
        return {"id": request["id"], "result": getattr(server, method)(**request["arguments"])}
    except BoardError as error:
        kind = "line" if isinstance(error, LineError) else "probe" if isinstance(error, ProbeError) else ""
        return {"id": request["id"], "error": str(error), "kind": kind}
    except Exception as error:  # noqa: BLE001 - a driver's surprise must not take the lines' owner down
        traceback.print_exc()
        return {"id": request["id"], "error": f"{method}: {type(error).__name__}: {error}", "kind": ""}


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
    releasing.join(_RELEASE * (1 + server.line_count))


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
