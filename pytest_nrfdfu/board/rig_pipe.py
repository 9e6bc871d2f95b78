"""The pipe to a rig's child process: calls with deadlines, and what to make of answers that are none.

Calls are JSON lines: ``{"id", "method", "arguments"}`` to the child, ``{"id", "result"}`` or
``{"id", "error", "kind", "cause"}`` back. A line that is no answer, or one to another call, is skipped: a driver or a
``sitecustomize`` may print, and a call that Ctrl-C interrupted is answered later.
"""

from __future__ import annotations

import json
import logging
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

from pytest_nrfdfu.board.power_error import PowerError
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["ChildGone", "Pipe"]

_LONGEST_ANSWER = 1 << 20
"""Bytes; the longest real answers have a few hundred."""
_KILLED = 2.0
"""Seconds that a process gets to end after SIGKILL; one that a driver keeps in the kernel does not."""
_SHOWN = 80
"""Characters of a line that is no answer, in an error message."""


class ChildGone(Exception):
    """The child has died, hangs, or talks nonsense, and must be replaced. The text says which."""

    def __init__(self, why: str, *, hangs: bool) -> None:
        super().__init__(why)
        self.hangs = hangs
        """It lives, so that it has to be ended by force if need be."""


class Pipe:
    """One child process. `name`: the unit's, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Appended to: child and parent share the file's offset, and the parent moves it to read.
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed in end
        self._buffer = b""
        self._ids = 0
        self._skipped: list[bytes] = []
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

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return self._child.pid if self._child.poll() is None else None

    def end(self, patience: float, *, died: bool = False) -> None:
        """Close the pipe, on which the child releases everything and ends; by force after `patience` seconds.

        `died`: it did not end by itself, and the command that it was running may go on, which is ended as well.
        """
        _close(self._child.stdin)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            _kill(self._child)
            self._wait_killed()
        if died:
            _kill(self._child)
        _close(self._child.stdout)
        self._log.close()

    def _wait_killed(self) -> None:
        try:
            self._child.wait(_KILLED)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).warning(
                "%s: process %d, which owns probe and lines, was killed and does not end: a driver keeps it in the"
                " kernel, and lines may still be asserted; unplug the probe or adapter that hangs",
                self._name,
                self._child.pid,
            )

    def exchange(self, method: str, arguments: Mapping[str, Any], seconds: float) -> Any:
        """The result of a call. BoardError (LineError, ProbeError) as the child says, ChildGone if it does not."""
        deadline = time.monotonic() + seconds
        self._ids += 1
        self._skipped.clear()
        self._send({"id": self._ids, "method": method, "arguments": arguments})
        while True:
            answer = _parse(self._line(deadline, seconds))
            if answer is not None and answer.get("id") == self._ids:
                break
        if "error" in answer:
            raise self._error(answer)
        if "result" not in answer:
            raise self.nonsense(answer)
        return answer["result"]

    @staticmethod
    def nonsense(value: object) -> ChildGone:
        """A child that answers what cannot be: it is not to be trusted with lines."""
        return ChildGone(f"its answer makes no sense: {str(value)[:_SHOWN]!r}", hangs=True)

    def _send(self, request: Mapping[str, Any]) -> None:
        pipe = self._child.stdin
        try:
            if pipe is not None:
                pipe.write(json.dumps(request).encode() + b"\n")
                pipe.flush()
        except (OSError, ValueError):  # ValueError: closed
            raise self._died() from None

    def _line(self, deadline: float, seconds: float) -> bytes:
        """The next line that the child printed, without its end."""
        pipe = self._child.stdout
        if pipe is None:
            raise self._died()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise self._hangs(f"it did not answer within {seconds:g} s")
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    raise self._died()
                self._buffer += data
                if len(self._buffer) > _LONGEST_ANSWER:
                    raise self._hangs("it prints without end")
        line, self._buffer = self._buffer.split(b"\n", 1)
        self._skipped.append(line[:_SHOWN])
        return line

    def _hangs(self, why: str) -> ChildGone:
        if self._skipped:
            last = self._skipped[-1].decode(errors="replace")
            why += f", but printed {len(self._skipped)} other lines (the last: {last!r})"
        return ChildGone(why + self._said(), hangs=True)

    def _died(self) -> ChildGone:
        return ChildGone("its process has died" + self._said(), hangs=False)

    def _said(self) -> str:
        """The last line of what the child printed: pyOCD's own words."""
        if self._log.closed:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"; it said: {lines[-1]}" if lines else ""

    def _error(self, answer: Mapping[str, Any]) -> BoardError:
        text = f"{self._name}: {answer['error']}"
        match answer.get("kind"):
            case "probe":
                return ProbeError(text, cause=str(answer.get("cause", "")))
            case "line":
                return LineError(text)
            case "power":
                return PowerError(text)
            case _:
                return BoardError(text)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The answer in a line; None if it is none."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child that hangs or has died, and the commands that it started: it leads a process group of its own."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of processes that have ended
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
