"""The text on the UART: what the board prints, and waiting for it.

Positions are byte counts since the port was first opened, so they stay true while text is decoded anew or dropped.
"""

from __future__ import annotations

import codecs
import re
import threading
import time
from typing import NamedTuple

from pytest_nrfdfu.errors import PortGone, UartError

__all__ = ["Console", "ConsoleView", "Found", "NothingSeen"]

_KEEP = 1 << 20
"""Bytes of text kept per port."""
_SHOWN = 2000
"""Characters of what came instead, in the message of a text that did not come."""


class NothingSeen(AssertionError):
    """A text was expected on the console and did not come: the test's failure, not the bench's."""


class Found(NamedTuple):
    """A match, and the position behind it."""

    match: re.Match[str]
    end: int


def _present(data: bytes) -> str:
    """Text for people: bytes that are not UTF-8 appear as escapes, line ends are newlines."""
    return data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")


def _settled(data: bytes) -> bytes:
    """`data` without an end that the next byte may change: a carriage return, or the beginning of a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    decoder.decode(data)
    unfinished, _ = decoder.getstate()
    return data[: len(data) - len(unfinished)].removesuffix(b"\r")


def _size_of(data: bytes, characters: int) -> int:
    """How many bytes of `data` the first `characters` of its presentation stand for."""
    size = shown = 0
    text = data.decode("utf-8", "surrogateescape")  # reversible, unlike the presentation
    for index, character in enumerate(text):
        if shown >= characters:
            break
        size += len(character.encode("utf-8", "surrogateescape"))
        if "\udc80" <= character <= "\udcff":
            shown += len(r"\xff")
        elif not text.startswith("\r\n", index):
            shown += 1
    return size


class Console:
    """The text of one port since it was opened. Thread-safe; the reader thread writes, tests read."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed: UartError | None = None

    def write(self, data: bytes) -> None:
        """Append text that came from the board."""
        with self._changed:
            self._text += data
            if len(self._text) > _KEEP:
                excess = len(self._text) - _KEEP
                del self._text[:excess]
                self._dropped += excess
            self._changed.notify_all()

    def close(self, why: str, *, lost: bool = False) -> None:
        """No more will come; whoever waits is told `why`, by PortGone if the port was `lost`, else by UartError."""
        with self._changed:
            if self._closed is None:
                self._closed = PortGone(why) if lost else UartError(why)
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
            return _present(self._bytes(position))

    def _bytes(self, position: int) -> bytes:
        return bytes(self._text[max(0, position - self._dropped) :])

    def wait_for(self, pattern: re.Pattern[str], position: int, timeout: float) -> Found | None:
        """Wait until `pattern` matches in the text from `position` on; None after `timeout` seconds.

        Raises what `close` announced, PortGone or UartError, if it does not match and nothing more will come.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                data = _settled(self._bytes(position))
                match = pattern.search(_present(data))
                if match:
                    start = max(position, self._dropped)
                    return Found(match, start + _size_of(data, match.end()))
                if self._closed is not None:
                    raise type(self._closed)(*self._closed.args)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)


class ConsoleView:
    """The console as one test sees it: the text since the test began."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._start = console.position
        self._seen = self._start

    @property
    def text(self) -> str:
        """All text since the test began."""
        return self._console.since(self._start)

    @property
    def lines(self) -> list[str]:
        """The same by lines, without line ends."""
        return self.text.splitlines()

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 5.0) -> re.Match[str]:
        r"""Wait for `pattern` (a regular expression, or one compiled) and return its match.

        Looks behind the end of the last match, so that consecutive calls see consecutive texts. A text without a
        newline, such as a prompt, matches as well; so end a pattern with ``\n`` where the whole line must have come.
        Raises NothingSeen after `timeout` seconds, with the text that came instead, and PortGone if the port is lost.
        """
        compiled = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        waited = f"{compiled.pattern!r} on the console of {self._name}"
        try:
            found = self._console.wait_for(compiled, self._seen, timeout)
        except UartError as gone:
            raise type(gone)(f"waited for {waited}: {gone}; {self._came()}") from None
        if found is None:
            raise NothingSeen(f"waited {timeout:g} s for {waited}; {self._came()}")
        self._seen = found.end
        return found.match

    def _came(self) -> str:
        """What came instead, behind the last match."""
        came = self._console.since(self._seen)
        if not came.strip():
            return "it printed nothing"
        return f"it printed:\n{came}" if len(came) <= _SHOWN else f"the last that it printed:\n{came[-_SHOWN:]}"
