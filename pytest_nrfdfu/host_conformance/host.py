"""The host under test: a command that is run for each update, or a person who starts it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_nrfdfu.bench.target import RecoveryTarget
from pytest_nrfdfu.errors import ConfigError

__all__ = ["Host", "Run"]

_QUIET = 5.0
"""Seconds without a byte after which a host that is not watched otherwise has ended; longer than hosts time out."""
_LAST_WORDS = 300
"""Characters of a host's output that are shown."""


@dataclass(frozen=True, slots=True)
class Run:
    """How one update went, as the host's side tells. `ended`: it came to an end in time."""

    ended: bool
    status: int | None
    """Exit status; None where there is none, because the host was ended, or is no command that waits for its end."""
    output: str = ""

    @property
    def failed(self) -> bool:
        """Whether the host said that it has failed."""
        return self.status is not None and self.status != 0

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if not self.ended:
            return "the host did not come to an end"
        return "the host fell silent" if self.status is None else f"exit status {self.status}"

    def __str__(self) -> str:
        """How it ended and, on a second line, the host's last words."""
        said = " ".join(self.output.split())[-_LAST_WORDS:]
        return f"{self.how}\n{said}" if said else self.how


class Host:
    """Updates targets. `command` is None where a person starts the host, whom `say` tells when.

    In `command` {port}, {host}, {tcp_port}, {baudrate}, {image} and {python} are replaced.
    """

    def __init__(self, command: str | None, timeout: float, say: Callable[[str], None]) -> None:
        try:
            self._words = None if not command else shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"--nrfdfu-target-command {command!r} cannot be read: {error}") from None
        self.timeout = timeout
        self._say = say

    @property
    def has_status(self) -> bool:
        """Whether an exit status tells how the host thinks it went."""
        return self._words is not None

    def update(self, target: RecoveryTarget, image: Path) -> Run:
        """Let the host update `target` with `image`; returns once it has ended, at the latest after `timeout`."""
        if self._words is None:
            self._say(
                f"start the host now: the board waits at {target.uart} ({target.baudrate} baud), the image is {image}."
                f" {self.timeout:g} s"
            )
            return Run(target.wait_quiet(_QUIET, self.timeout), None)
        run = self._run(self._filled(target, image))
        if run.ended and target.bridged:
            # The command may only have started the update, on another computer.
            target.wait_quiet(_QUIET, self.timeout, begun=not run.failed)
        return run

    def _filled(self, target: RecoveryTarget, image: Path) -> list[str]:
        where, _, tcp_port = target.uart.removeprefix("socket://").rpartition(":")
        values = {
            "port": target.uart,
            "host": where,
            "tcp_port": tcp_port,
            "baudrate": str(target.baudrate),
            "image": str(image),
            "python": sys.executable,
        }
        words = []
        for word in self._words or ():
            filled = word
            for name, value in values.items():
                filled = filled.replace(f"{{{name}}}", value)
            words.append(filled)
        return words

    def _run(self, words: list[str]) -> Run:
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"--nrfdfu-target-command: {words[0]} cannot be started: {error}") from error
        try:
            output, _ = child.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            return Run(ended=False, status=None, output=_end(child))
        except BaseException:
            _end(child)
            raise
        return Run(ended=True, status=child.returncode, output=output)


def _end(child: subprocess.Popen[str]) -> str:
    """End a host and what it has started; returns its output."""
    os.killpg(child.pid, signal.SIGKILL)
    return child.communicate()[0]
