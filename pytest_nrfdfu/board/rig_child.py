"""The child process that owns one unit's probe and lines: ``python -m pytest_nrfdfu.board.rig_child``.

Started by `pytest_nrfdfu.board.rig`, which see for the protocol. Nothing but answers goes to the pipe: standard output
is turned to standard error before pyOCD is imported. When the pipe closes, all lines are released and the process ends,
also when a call hangs: then after `_GRACE` seconds, by force.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from pytest_nrfdfu.board.lines import Line, make_line
from pytest_nrfdfu.board.probe import Probe
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["main"]

_GRACE = 0.7
"""Seconds that a running call gets to end after the parent has gone."""


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
        for line in self._lines.values():
            try:
                line.close()
            except LineError as error:
                print(error, file=sys.stderr)  # noqa: T201 - the parent keeps it

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
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    server = _Server()
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def give_up() -> None:
        server.close()
        os._exit(1)

    def read() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        requests.put(None)
        timer = threading.Timer(_GRACE, give_up)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, lambda *_: requests.put(None))
    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := requests.get()) is not None:
            answer = _answer(server, json.loads(line))
            answers.write(json.dumps(answer).encode() + b"\n")
    except OSError:
        pass  # the parent has gone
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    # Not sys.exit: an atexit handler or thread of a driver must not keep the lines' owner alive.
    code = main()
    sys.stderr.flush()
    os._exit(code)
