"""A UART that comes and goes: the target's own USB port, which every reset takes away, or a cable's.

Each time it is a new pseudo-terminal, so that a host that still has the old one open sees it gone, and must find the
new one. A symbolic link leads to it while it is there, as udev's /dev/serial/by-id does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from pytest_nrfdfu.sim.port import PtyPort

__all__ = ["ENUMERATION", "TransientPty"]

ENUMERATION = 0.3
"""Seconds from the start of the target's USB to a port that can be opened: a guess; hosts differ."""


class TransientPty:
    """A `UartPort` that is there while `follow` says so. `link` is the symbolic link's path, or None.

    `rate` is what a port begins with. What the board sends while there is no port is lost and counted as unread.
    """

    def __init__(self, received: Callable[[bytes], None], *, rate: int, link: Path | None) -> None:
        if link is not None and link.exists() and not link.is_symlink():
            raise ValueError(f"{link} is there already and no symbolic link")
        self.stays = False
        self._received = received
        self._rate = rate
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._owner: object | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._port: PtyPort | None = None
        self._paused = False
        self._unread = 0
        self.appearances = 0
        """How many ports there have been."""
        self._remove_link()  # of one that was killed

    @property
    def url(self) -> str:
        """What a host opens: the link, or without one the present port's name, empty while there is none."""
        if self._link is not None:
            return str(self._link)
        return "" if self._port is None else self._port.url

    @property
    def unread(self) -> int:
        """Bytes dropped because nobody took them."""
        return self._unread + (0 if self._port is None else self._port.unread)

    def host_rate(self) -> int | None:
        """The rate that the host has set; None while there is no port."""
        return None if self._port is None else self._port.host_rate()

    def follow(self, owner: object | None) -> None:
        """The port is `owner`'s from now on: a new one is a new port. None: there is none."""
        if owner is self._owner:
            return
        self._owner = owner
        self._vanish()
        if owner is not None:
            self._timer = self._loop.call_later(ENUMERATION, self._appear)

    def begin(self, owner: object) -> None:
        """There is a port of `owner` from the start."""
        self._owner = owner
        self._appear()

    def _appear(self) -> None:
        self._port = PtyPort(self._received, rate=self._rate)
        self.appearances += 1
        if self._paused:
            self._port.pause()
        if self._link is not None:
            fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
            fresh.symlink_to(self._port.url)
            fresh.replace(self._link)

    def _vanish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._port is not None:
            port, self._port = self._port, None
            self._unread += port.unread
            self._remove_link()
            port.hang_up()

    def _remove_link(self) -> None:
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Give `data` to the host; without a port it is lost."""
        if self._port is None:
            self._unread += len(data)
        else:
            self._port.write(data)

    def pause(self) -> None:
        """Take nothing from the host."""
        self._paused = True
        if self._port is not None:
            self._port.pause()

    def resume(self) -> None:
        """Take bytes again."""
        self._paused = False
        if self._port is not None:
            self._port.resume()

    async def close(self) -> None:
        """Take the port away for good."""
        self._vanish()
