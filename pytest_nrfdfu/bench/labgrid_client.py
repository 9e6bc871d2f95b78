"""The process that talks to labgrid's coordinator, seen from pytest: started, asked with a deadline, ended.

labgrid lives in an interpreter of its own; see `labgrid_child.py`, which is run there and never imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pytest_nrfdfu.errors import ConfigError, LeaseError

__all__ = ["Client", "Gone", "Refused", "interpreter"]

_CHILD = Path(__file__).with_name("labgrid_child.py")
_CALL_TIMEOUT = 35.0
"""Seconds; the child's own deadlines (15 s for an exporter, then 4 s for the coordinator) come before."""
_END_TIMEOUT = 10.0
"""Seconds for it to release what it holds."""
_KILLED = 2.0
"""Seconds for it to end after SIGKILL."""
_INSTALL = "python -m venv FOLDER && FOLDER/bin/pip install 'labgrid>=26'"


class Refused(LeaseError):
    """The coordinator answered, and said no."""


class Gone(LeaseError):
    """The coordinator does not answer, or the process that talks to it has died."""


def interpreter(configured: Path | None) -> Path:
    """The interpreter that has labgrid: the one of [labgrid] python, or this one; ConfigError if neither is there."""
    if configured is not None:
        path = configured.expanduser()
        if not path.is_file():
            raise ConfigError(f"[labgrid] python = {str(configured)!r} is no file; make one: {_INSTALL}")
        return path
    if importlib.util.find_spec("labgrid") is None:
        raise ConfigError(
            f"[labgrid] needs labgrid, which {sys.executable} does not have; give it an interpreter of its own"
            f" ({_INSTALL}) and say python = 'FOLDER/bin/python' in [labgrid]"
        )
    return Path(sys.executable)


class Client:
    """One session with a coordinator, under the name of one holder. Not thread-safe: one owner at a time.

    Every call raises `Refused` where the coordinator said no, and `Gone` where it, or the process, is gone.
    """

    def __init__(self, coordinator: str, python: Path, host: str, user: str) -> None:
        self.coordinator = coordinator
        self.python = python
        self.host = host
        self.user = user
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._buffer = b""
        self._ids = 0

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The command line that runs labgrid-client with `arguments`, as the holder of the places."""
        return (str(self.python), str(_CHILD), "client", self.host, self.user, "-x", self.coordinator, *arguments)

    def start(self) -> None:
        """Start the process and connect; nothing happens if it runs."""
        if self.pid is not None:
            return
        self.stop()
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed in stop
        self._buffer = b""
        # A session of its own: Ctrl-C at the terminal must reach pytest alone, the child goes by its pipe.
        self._child = subprocess.Popen(
            [str(self.python), str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self.call("start", coordinator=self.coordinator, host=self.host, user=self.user)
        except (LeaseError, ConfigError):
            self.stop()
            raise

    def stop(self, *, at_once: bool = False) -> None:
        """End the session; whatever was held through it is released, except `at_once`, when nobody is there to ask."""
        child, self._child = self._child, None
        if child is not None and at_once:
            child.kill()
        if child is not None:
            _close(child.stdin)
            try:
                child.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
                with suppress(subprocess.TimeoutExpired):  # a process that the kernel keeps goes when that lets it
                    child.wait(_KILLED)
            _close(child.stdout)
        if self._log is not None:
            self._log.close()
            self._log = None

    def call(self, method: str, **arguments: Any) -> Any:
        """Ask the child for something."""
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise Gone(f"labgrid's coordinator {self.coordinator} was asked for {method}: the session has ended")
        self._ids += 1
        request = {"id": self._ids, "method": method, "arguments": arguments}
        deadline = time.monotonic() + _CALL_TIMEOUT
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except OSError:
            raise self._ended(method, "its process has died") from None
        answer: dict[str, Any] = {}
        while answer.get("id") != self._ids:  # else of a call that Ctrl-C interrupted
            answer = json.loads(self._line(child.stdout, method, deadline))
        if "error" in answer:
            raise self._error(method, answer["error"], answer.get("kind", ""))
        return answer.get("result")

    def _line(self, pipe: IO[bytes], method: str, deadline: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._ended(method, f"it did not answer within {_CALL_TIMEOUT:g} s")
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    raise self._ended(method, "its process has died")
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _ended(self, method: str, why: str) -> Gone:
        """The process is of no use any more; it is ended here."""
        said = self._said()
        self.stop(at_once=True)
        last = f"; it said: {said.splitlines()[-1]}" if said else ""
        return Gone(f"the process that talks to labgrid ({self.python}) was asked for {method}: {why}{last}")

    def _error(self, method: str, text: str, kind: str) -> LeaseError | ConfigError:
        if kind == "setup":
            return ConfigError(f"[labgrid] python: {text}; install it there: pip install 'labgrid>=26'")
        if kind == "gone":
            return Gone(
                f"labgrid's coordinator {self.coordinator} cannot be reached ({text}); is labgrid-coordinator running"
                " there, and [labgrid] coordinator right?"
            )
        refused = Refused if kind == "refused" else LeaseError
        return refused(f"labgrid's coordinator {self.coordinator} was asked for {method}: {text}")

    def _said(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        return self._log.read().decode(errors="replace").strip()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
