"""The unit's child process, seen from pytest: it owns the debug probe and the control lines.

pyOCD prints, prompts, changes directory, and may hang in a USB driver; so it lives in a child, and every call has a
deadline after which the child is killed and replaced. The child releases everything when its pipe closes, which is
what the death of its parent looks like; a fresh one first repairs what a dead one may have left (nRESET released,
lines inactive).

Calls are JSON lines: ``{"id", "method", "arguments"}`` to the child, ``{"id", "result"}`` or
``{"id", "error", "kind"}`` back.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_lines import LineConfig
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["Rig"]

_START_TIMEOUT = 15.0
"""pyOCD's import takes about a second; a loaded machine needs more."""
_CALL_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 5.0
_KILL_TIMEOUT = 2.0
"""What a child that hangs gets to release its lines; it gives a running call 0.7 s of it."""
_KINDS: Mapping[str, type[BoardError]] = {"probe": ProbeError, "line": LineError}


class Rig:
    """Probe and lines of one unit. Not thread-safe: one owner at a time."""

    def __init__(self, config: BoardConfig, name: str) -> None:
        self.name = name
        self._settings = {
            "probe": config.probe.model_dump() if config.probe else None,
            "hold": config.reset.hold,
            "lines": {
                key: _line_settings(line)
                for key, line in (("recovery", config.recovery.line), ("reset", config.reset.line))
                if line is not None
            },
        }
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._buffer = b""
        self._ids = 0

    @property
    def has_probe(self) -> bool:
        """Whether a probe is configured."""
        return self._settings["probe"] is not None

    @property
    def line_names(self) -> tuple[str, ...]:
        """The lines that are wired: ``recovery``, ``reset``."""
        return tuple(self._settings["lines"])  # type: ignore[arg-type]

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the child; it opens the lines, inactive, and releases what an earlier one may have left."""
        if self._child is not None and self._child.poll() is None:
            return
        self.stop()
        # Appended to: child and parent share the file's offset, and the parent moves it to read.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed in stop
        self._buffer = b""
        # A session of its own: Ctrl-C at the terminal must reach pytest alone, the child goes by its pipe. -P: a
        # serial.py in the current directory is not the module.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest_nrfdfu.board.rig_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            self._exchange("start", self._settings, _START_TIMEOUT)
        except _ChildGoneError as gone:
            self._end(gone.patience)
            raise gone.as_board_error("it was ended") from None
        except BoardError:
            self.stop()
            raise

    def stop(self) -> None:
        """Release everything and end the child."""
        self._end(_CLOSE_TIMEOUT)

    def _end(self, patience: float) -> None:
        """Close the pipe, on which the child releases everything and ends; by force after `patience` seconds."""
        child, self._child = self._child, None
        if child is not None:
            _close(child.stdin)
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                _kill(child)
                child.wait()
            _close(child.stdout)
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    # --- what it does -----------------------------------------------------------------------------------------------

    def reset(self, method: ResetKind = "pin") -> None:
        """Reset the target. ``pin``: nRESET by the probe; ``line``: by the reset line; the others are soft resets."""
        self.call("reset", kind=method)

    def set_line(self, name: str, *, asserted: bool) -> None:
        """Drive a line to its active level, or let it go."""
        self.call("set_line", name=name, asserted=asserted)

    def release(self) -> None:
        """Let go of all lines."""
        self.call("release")

    def probe_info(self) -> dict[str, Any]:
        """Probe and chip: unique id, product, CTRL-AP IDR, whether the application core is open to the debugger."""
        info: dict[str, Any] = self.call("probe_info")
        return info

    def read32(self, address: int) -> int:
        """A word of the target's memory."""
        value: int = self.call("read32", address=address)
        return value

    def write32(self, address: int, value: int) -> None:
        """Write a word of the target's memory (RAM and registers; flash is not written through the probe)."""
        self.call("write32", address=address, value=value)

    def call(self, method: str, /, *, deadline: float = _CALL_TIMEOUT, **arguments: Any) -> Any:
        """One call to the child; BoardError (ProbeError, LineError) if it fails or takes longer than `deadline` s."""
        if self._child is None:
            self.start()
        try:
            return self._exchange(method, arguments, deadline)
        except _ChildGoneError as gone:
            self._end(gone.patience)
            raise gone.as_board_error(self._repair()) from None

    def _repair(self) -> str:
        """Start a fresh child, which releases what the dead one left; what came of it, in words."""
        try:
            self.start()
        except BoardError as trouble:  # which must not hide the first
            return f"a fresh one cannot work either, so lines may still be asserted ({trouble})"
        return "it was replaced, and everything released"

    # --- pipe -------------------------------------------------------------------------------------------------------

    def _exchange(self, method: str, arguments: Mapping[str, Any], seconds: float) -> Any:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise _ChildGoneError(self.name, method, "its process is not running", "")
        self._ids += 1
        request = {"id": self._ids, "method": method, "arguments": arguments}
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except OSError:
            raise _ChildGoneError(self.name, method, "its process has died", self._said()) from None
        deadline = time.monotonic() + seconds
        answer: dict[str, Any] = {}
        while answer.get("id") != self._ids:  # else of a call that Ctrl-C interrupted
            answer = self._answer(child.stdout, method, seconds, deadline)
        if "error" in answer:
            raise _KINDS.get(answer.get("kind", ""), BoardError)(f"{self.name}: {answer['error']}")
        return answer.get("result")

    def _answer(self, pipe: IO[bytes], method: str, seconds: float, deadline: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    why = f"it did not answer within {seconds:g} s"
                    raise _ChildGoneError(self.name, method, why, self._said(), hung=True)
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    raise _ChildGoneError(self.name, method, "its process has died", self._said())
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        # Else what a sitecustomize printed before the child could turn its output away.
        return answer if isinstance(answer, dict) else {}

    def _said(self) -> str:
        """The last of what the child printed: pyOCD's own words."""
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        return self._log.read().decode(errors="replace").strip()


class _ChildGoneError(BoardError):
    """The child hangs or has died."""

    def __init__(self, name: str, method: str, why: str, said: str, *, hung: bool = False) -> None:
        self._line = method == "set_line"
        self.patience = _KILL_TIMEOUT if hung else _CLOSE_TIMEOUT
        self._advice = "its driver or command hangs"
        if hung and not self._line:
            self._advice += ": unplug the probe and plug it in again"
        elif not hung:
            self._advice = "see what it said"
        last = f"; it said: {said.splitlines()[-1]}" if said else ""
        super().__init__(f"{name}: the process that owns probe and lines was asked for {method}: {why}{last}")

    def as_board_error(self, outcome: str) -> BoardError:
        """The error for the caller; `outcome`: what was done about it."""
        kind = LineError if self._line else ProbeError
        return kind(f"{self}; {outcome}. If this happens again, {self._advice}")


def _line_settings(line: LineConfig) -> dict[str, Any]:
    return line.model_dump(by_alias=True, mode="json")


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child that hangs, and the commands that it started: it leads a process group of its own."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
