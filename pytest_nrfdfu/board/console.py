"""The text on the UART: what the board prints, and waiting for it."""

from __future__ import annotations

import re
import threading
import time

__all__ = ["Console", "ConsoleView", "NothingSeen"]

_KEEP = 1 << 20
"""Bytes of text kept per port."""


class NothingSeen(AssertionError):
    """A text was expected on the console and did not come: the test's failure, not the bench's."""


class Console:
    """The text of one port since it was opened. Thread-safe; the reader thread writes, tests read."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed: str | None = None

    def write(self, data: bytes) -> None:
        """Append text that came from the board."""
        with self._changed:
            self._text += data
            if len(self._text) > _KEEP:
                excess = len(self._text) - _KEEP
                del self._text[:excess]
                self._dropped += excess
            self._changed.notify_all()

    def close(self, why: str) -> None:
        """No more will come; whoever waits is told `why`."""
        with self._changed:
            self._closed = why
            self._changed.notify_all()

    def reopen(self) -> None:
        """The port is there again."""
        with self._changed:
            self._closed = None

    @property
    def position(self) -> int:
        """How many bytes of text have come so far."""
        with self._changed:
            return self._dropped + len(self._text)

    def since(self, position: int) -> str:
        """The text from `position` on. Bytes that are not UTF-8 appear as escapes."""
        with self._changed:
            return self._since(position)

    def _since(self, position: int) -> str:
        start = max(0, position - self._dropped)
        return self._text[start:].decode("utf-8", "backslashreplace").replace("\r\n", "\n")

    def wait_for(
        self, pattern: re.Pattern[str], position: int, timeout: float, *, skip: int = 0
    ) -> re.Match[str] | None:
        """Wait until `pattern` matches in the text from `position` on, less its first `skip` characters.

        None after `timeout` seconds, or when the port is closed.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                match = pattern.search(self._since(position)[skip:])
                left = deadline - time.monotonic()
                if match or left <= 0 or self._closed is not None:
                    return match
                self._changed.wait(left)

    @property
    def closed(self) -> str | None:
        """Why nothing more will come, or None."""
        return self._closed


class ConsoleView:
    """The console as one test sees it: the text since the test began."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._start = console.position
        self._seen = 0

    @property
    def text(self) -> str:
        """All text since the test began."""
        return self._console.since(self._start)

    @property
    def lines(self) -> list[str]:
        """The same by lines, without line ends."""
        return self.text.splitlines()

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 5.0) -> re.Match[str]:
        """Wait for `pattern` (a regular expression, or one compiled) and return its match.

        Looks behind the end of the last match, so that consecutive calls see consecutive texts. Raises NothingSeen
        after `timeout` seconds, with the text that came instead.
        """
        compiled = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        match = self._console.wait_for(compiled, self._start, timeout, skip=self._seen)
        if match is None:
            came = self.text[self._seen :]
            closed = f" ({self._console.closed})" if self._console.closed else ""
            what = f"it printed:\n{came}" if came.strip() else "it printed nothing"
            raise NothingSeen(
                f"waited {timeout:g} s for {compiled.pattern!r} on the console of {self._name}{closed}; {what}"
            )
        self._seen += match.end()
        return match
