"""The text on the UART: what the board prints and when, and waiting for it.

Positions are byte counts since the port was first opened, so they stay true while text is decoded anew or dropped.
Times are those of reading: what a USB adapter keeps back (an FTDI's 1 ms, a J-Link's few) is in them.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, overload

from pytest_nrfdfu.board.arguments import check_seconds
from pytest_nrfdfu.board.boot_record import BootRecord, Reset, boots_in
from pytest_nrfdfu.board.console_text import present, settled, size_of
from pytest_nrfdfu.board.fault_dump import FaultDump, faults_in
from pytest_nrfdfu.board.line_times import LineTimes, TimedLine
from pytest_nrfdfu.errors import PortGone, UartError

__all__ = ["Console", "ConsoleView", "Expected", "Found", "NothingSeen", "Pattern", "Unwanted"]

Pattern = str | re.Pattern[str]
"""A regular expression, whose ``^`` and ``$`` match at line ends, or one compiled, taken as it is."""
Patterns = list[str] | list[re.Pattern[str]] | list[Pattern] | tuple[Pattern, ...]
"""Several of them; a string is a sequence too, so that no wider type can tell one from several."""

_KEEP = 1 << 20
"""Bytes of text kept per port."""
_SLACK = 0.2
"""Seconds, at most, between a reset and its being noted, where nobody says."""
_RESETS = 1000
"""Resets that are remembered per port."""
_SHOWN = 2000
"""Characters of what came instead, in the message of a text that did not come."""


class NothingSeen(AssertionError):
    """A text was expected on the console and did not come: the test's failure, not the bench's."""


class Unwanted(AssertionError):
    """A text came on the console that must not come: the test's failure, not the bench's."""


class Expected(NamedTuple):
    """Which of several patterns came, counted from 0, and its match."""

    which: int
    match: re.Match[str]


class Found(NamedTuple):
    """A match, the position behind it, and which of the patterns it is of."""

    match: re.Match[str]
    end: int
    which: int = 0


class Console:
    """The text of one port since it was opened. Thread-safe; the reader thread writes, tests read."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._dropped = 0
        self._times = LineTimes()
        self._resets: deque[Reset] = deque(maxlen=_RESETS)
        self._changed = threading.Condition()
        self._closed: UartError | None = None

    def write(self, data: bytes, when: float | None = None) -> None:
        """Append text that came from the board, `when` in seconds, monotonic (None: now)."""
        with self._changed:
            self._times.note(data, self._dropped + len(self._text), time.monotonic() if when is None else when)
            self._text += data
            if len(self._text) > _KEEP:
                excess = len(self._text) - _KEEP
                del self._text[:excess]
                self._dropped += excess
                self._times.drop(self._dropped)
            self._changed.notify_all()

    def note_reset(self, how: str, at: float | None = None, *, since: float | None = None) -> None:
        """This host has reset the board, for the boot that follows. Times in seconds, monotonic.

        `at`: when; None: now. `since`: before which it cannot have been; None: a moment before `at`, because a probe
        tells of its reset when it is done.
        """
        when = time.monotonic() if at is None else at
        with self._changed:
            self._resets.append(Reset(when, how, when - _SLACK if since is None else since))

    def resets(self, since: float = 0.0) -> list[Reset]:
        """The resets noted since a time (seconds, monotonic), in their order."""
        with self._changed:
            return sorted(reset for reset in self._resets if reset.at >= since)

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
        """The text from `position` on: without colours; bytes that are not UTF-8 appear as escapes."""
        with self._changed:
            data = self._bytes(position)
        return present(data)

    def timed_lines(self, position: int) -> list[TimedLine]:
        """The same by lines, each with the time (seconds, monotonic) when its first byte was read.

        Parts of a line that only carriage returns part, such as a progress bar's, have the same time.
        """
        with self._changed:
            data = self._bytes(position)
            times = self._times.since(max(position, self._dropped))
        lines = zip(times, _raw_lines(data), strict=False)
        return [TimedLine(when, line) for when, raw in lines for line in present(raw).splitlines()]

    def _bytes(self, position: int) -> bytes:
        return bytes(self._text[max(0, position - self._dropped) :])

    def wait_for(self, pattern: re.Pattern[str], position: int, timeout: float) -> Found | None:
        """Wait until `pattern` matches in the text from `position` on; None after `timeout` seconds.

        Raises what `close` announced, PortGone or UartError, if it does not match and nothing more will come.
        """
        return self.wait_for_any((pattern,), position, timeout)

    def wait_for_any(self, patterns: Sequence[re.Pattern[str]], position: int, timeout: float) -> Found | None:
        """As `wait_for`, of several patterns: the one that matches first in the text that has come by then."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                start, data = max(position, self._dropped), self._bytes(position)
                end, closed = self._dropped + len(self._text), self._closed
            began = time.monotonic()
            found = _search(patterns, settled(data), start)  # without the lock: the reader thread must go on reading
            if found is not None:
                return found
            if closed is not None:
                raise type(closed)(*closed.args)
            if began >= deadline:
                return None
            self._await_more(end, deadline, time.monotonic() - began)

    def _await_more(self, end: int, deadline: float, cost: float) -> None:
        """Wait for text behind position `end`, or that none will come, until `deadline`.

        `cost`: seconds that the last search took. The next one comes no sooner than that, so that a long text that
        grows byte by byte takes half of a processor at most.
        """
        time.sleep(max(0.0, min(cost, deadline - time.monotonic())))
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed is not None or self._dropped + len(self._text) > end,
                max(0.0, deadline - time.monotonic()),
            )


def _raw_lines(data: bytes) -> list[bytes]:
    """Bytes by newlines, which they keep; the last has none."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + [rest]


def _search(patterns: Sequence[re.Pattern[str]], data: bytes, position: int) -> Found | None:
    """What matches first in `data`, which begins at `position`."""
    found = _first(patterns, present(data))
    return found and Found(found.match, position + size_of(data, found.match.end()), found.which)


def _first(patterns: Sequence[re.Pattern[str]], text: str) -> Expected | None:
    """The pattern that matches first in `text`; of those that match at the same place, the one named first."""
    found = [Expected(which, match) for which, pattern in enumerate(patterns) if (match := pattern.search(text))]
    return min(found, key=lambda one: one.match.start(), default=None)


class ConsoleView:
    """The console as one test sees it: the text since the test began. Its times are seconds since then.

    Text is what people see: without the colours of Zephyr's log and shell, with newlines as line ends, and with escapes
    for bytes that are not UTF-8. Patterns are matched against that.
    """

    def __init__(self, console: Console, name: str, *, banner: str | None = None) -> None:
        """`name`: the unit's. `banner`: a regular expression of the line that the application is known by."""
        self._console = console
        self._name = name
        self._banner = re.compile(banner) if banner is not None else None
        self._start = console.position
        self._began = time.monotonic()
        self._seen = self._start

    @property
    def text(self) -> str:
        """All text since the test began."""
        return self._console.since(self._start)

    @property
    def lines(self) -> list[str]:
        """The same by lines, without line ends."""
        return self.text.splitlines()

    @property
    def timed_lines(self) -> list[TimedLine]:
        """The same lines, each with the `time` when its first byte was read, and its `text`.

        The first has 0.0 if the test began in the middle of it.
        """
        lines = self._console.timed_lines(self._start)
        return [TimedLine(max(0.0, line.time - self._began), line.text) for line in lines]

    @property
    def boots(self) -> list[BootRecord]:
        """Every boot since the test began that printed a banner, or MCUboot's log; see `BootRecord`."""
        began = self._began
        resets = [Reset(reset.at - began, reset.how, reset.since - began) for reset in self._console.resets(began)]
        return boots_in(self.timed_lines, resets, self._banner)

    @property
    def boot(self) -> BootRecord | None:
        """The last of `boots`; None if there was none."""
        return next(reversed(self.boots), None)

    @property
    def faults(self) -> list[FaultDump]:
        """Every fault dump and failed assertion that was printed since the test began."""
        return faults_in(self.timed_lines)

    @overload
    def expect(self, pattern: Pattern, timeout: float = 5.0, *, literal: bool = False) -> re.Match[str]: ...

    @overload
    def expect(self, pattern: Patterns, timeout: float = 5.0, *, literal: bool = False) -> Expected: ...

    def expect(
        self, pattern: Pattern | Patterns, timeout: float = 5.0, *, literal: bool = False
    ) -> re.Match[str] | Expected:
        r"""Wait for `pattern` (a regular expression, or one compiled) and return its match.

        Of several in a list or tuple, the one that matches first in the text wins: the result is then `Expected`, which
        of them it was (from 0) and its match. With `literal`, strings mean themselves.

        Looks behind the end of the last match, so that consecutive calls see consecutive texts. A text without a
        newline, such as a prompt, matches as well; so end a pattern with ``\n`` where the whole line must have come.
        Raises NothingSeen after `timeout` seconds, with the text that came instead, and PortGone if the port is lost.
        """
        check_seconds("timeout", timeout, zero=True)
        patterns = _listed(pattern)
        compiled = [_compiled(one, literal=literal) for one in patterns]
        waited = f"{_or(patterns)} on the console of {self._name}"
        try:
            found = self._console.wait_for_any(compiled, self._seen, timeout)
        except UartError as gone:
            raise type(gone)(f"waited for {waited}: {gone}; {self._came()}") from None
        if found is None:
            raise NothingSeen(f"waited {timeout:g} s for {waited}; {self._came()}")
        self._seen = found.end
        if isinstance(pattern, str | re.Pattern):
            return found.match
        return Expected(found.which, found.match)

    def expect_not(self, pattern: Pattern | Patterns, duration: float, *, literal: bool = False) -> None:
        """Watch for `duration` seconds that `pattern`, or any of several, does not come behind the last match.

        Raises Unwanted as soon as it comes, or at once if it has come already since the last match, and PortGone if the
        port is lost: then nobody can tell. It takes its whole time, and the next `expect` looks from where it would
        have looked without it.
        """
        check_seconds("duration", duration, zero=True)
        patterns = _listed(pattern)
        compiled = [_compiled(one, literal=literal) for one in patterns]
        began = time.monotonic()
        unwanted = f"{_or(patterns)} on the console of {self._name}"
        try:
            found = self._console.wait_for_any(compiled, self._seen, duration)
        except UartError as gone:
            raise type(gone)(f"watched for {unwanted}: {gone}; {self._came()}") from None
        if found is not None:
            after = time.monotonic() - began
            raise Unwanted(
                f"{_or([patterns[found.which]])} came on the console of {self._name}, {after:.2f} s into {duration:g} s"
                f" in which it must not: {found.match[0]!r}; {self._came()}"
            )

    def _came(self) -> str:
        """What came instead, behind the last match."""
        came = self._console.since(self._seen)
        if not came.strip():
            return "it printed nothing"
        return f"it printed:\n{came}" if len(came) <= _SHOWN else f"the last that it printed:\n{came[-_SHOWN:]}"


def _listed(pattern: Pattern | Patterns) -> Sequence[Pattern]:
    """One pattern or several as several."""
    patterns: Sequence[Pattern] = (pattern,) if isinstance(pattern, str | re.Pattern) else pattern
    if not isinstance(patterns, list | tuple) or not all(isinstance(one, str | re.Pattern) for one in patterns):
        raise TypeError(f"{pattern!r} is no pattern to look for: it takes a str, one compiled, or a list of them")
    if not patterns:
        raise ValueError("no pattern to look for")
    return patterns


def _compiled(pattern: Pattern, *, literal: bool) -> re.Pattern[str]:
    if isinstance(pattern, re.Pattern):
        return pattern
    return re.compile(re.escape(pattern) if literal else pattern, re.MULTILINE)


def _or(patterns: Sequence[Pattern]) -> str:
    """Patterns for a message, as they were given."""
    return " or ".join(repr(pattern if isinstance(pattern, str) else pattern.pattern) for pattern in patterns)
