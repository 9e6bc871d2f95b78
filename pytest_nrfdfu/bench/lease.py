"""The right to use a unit: what a keeper of leases does, and the one that keeps them on this host, by file locks.

A lock goes with its process, so a holder that died is noticed at once; what is written beside it only says who holds
it. Workers of one run (pytest-xdist) are siblings: each gives its unit back as soon as no test is left for it, so a
sibling's unit is waited for as long as a run may take, and a unit that a sibling has retired is not waited for at all.
What this process holds itself comes free by nobody else, so it is waited for no longer than anything.
"""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pytest_nrfdfu.bench.identity import identify, is_unlimited
from pytest_nrfdfu.bench.lease_dir import LeaseDir
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.errors import LeaseError

__all__ = ["Holder", "Keeper", "Lease", "LocalKeeper", "LocalLease", "held_back", "holder_of", "shown_time"]

_POLL = 0.1
"""Seconds between attempts while waiting; an attempt takes some microseconds."""
_SIBLING = 12 * 3600.0
"""Seconds to wait for a unit that a worker of the same run uses: longer than a night's run."""
_SECONDS = len("2026-01-31T12:59:59")
"""How far people read a time."""
_COMMAND = 200
"""Characters of a command line that are kept."""


class Lease(Protocol):
    """The right to use one unit, until it is released or lost."""

    @property
    def unit(self) -> UnitConfig:
        """The unit to use; a keeper may have filled in its ports and probe."""

    def check(self) -> None:
        """LeaseError if it was lost."""

    def release(self) -> None:
        """Give it back; nothing happens if it was given back or lost before."""


class Keeper(Protocol):
    """Who gives out leases."""

    def acquire(self, units: Sequence[UnitConfig], *, deadline: float, say: Callable[[str], None]) -> Lease:
        """A lease of any free one of `units`, asked for in their order.

        Waits until `deadline` (seconds, monotonic; one that has passed asks once) and lets `say` tell who holds what.
        LeaseError that says who holds each, and since when, if none came free.
        """


# --- who holds a unit -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a unit, as it is written beside its lock."""

    unit: str
    """What the holder's configuration calls it."""
    pid: int
    started: str
    """When the process began, as the system counts it: tells it from a later one with the same number."""
    user: str
    host: str
    command: str
    since: str
    """ISO 8601, local time with its offset."""
    run: str = ""
    """Of pytest-xdist: the same for all workers of a run; otherwise empty."""
    retired: str | None = None
    """Why the holder does not use it any more; it keeps the lease so that nobody else wastes time on it."""

    def __str__(self) -> str:
        process = f"process {self.pid}: {self.command}"
        retired = f", and not used any more: {self.retired}" if self.retired else ""
        return f"{self.unit} is held by {self.user}@{self.host} since {shown_time(self.since)} ({process}){retired}"

    @property
    def can_be_seen(self) -> bool:
        """Whether its process can be looked up from here."""
        return self.host == platform.node() and bool(self.started)

    @property
    def alive(self) -> bool:
        """Whether its process runs; one of the same number that began later is another one.

        True where that cannot be seen from here: in a container beside this one, say.
        """
        return not self.can_be_seen or _process_start(self.pid) == self.started

    @property
    def is_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.can_be_seen and self.pid == os.getpid() and self.alive

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Holder | None:
        """What a note says; None where it lacks something, or has something else in its place: anybody may write it."""
        pid, retired = data.get("pid"), data.get("retired")
        texts = {name: data.get(name, "" if name == "run" else None) for name in _TEXTS}
        if not isinstance(pid, int) or not isinstance(retired, str | None):
            return None
        if not all(isinstance(text, str) for text in texts.values()):
            return None
        return cls(pid=pid, retired=retired, **texts)


_TEXTS = ("unit", "started", "user", "host", "command", "since", "run")
"""Fields of a holder that are texts, always."""


def shown_time(told: object) -> str:
    """A time of a note (ISO 8601), as people read it everywhere."""
    return str(told)[:_SECONDS].replace("T", " ")


def _process_start(pid: int) -> str:
    """When a process began; empty if there is none, or this is not Linux."""
    try:
        # Field 22 (proc(5)); the name, field 2, may hold spaces and parentheses.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _this_process(unit: str, run: str) -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have it
        user = str(os.getuid())
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) or "python"
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    pid = os.getpid()
    return Holder(unit, pid, _process_start(pid), user, platform.node(), command[:_COMMAND], since, run)


def _read(directory: LeaseDir, keys: Iterable[str]) -> Holder | None:
    """Who has said last that it holds one of `keys`, and is there still."""
    for key in keys:
        holder = Holder.read(directory.read(key, "holder") or {})
        if holder is not None and holder.alive:
            return holder
    return None


def holder_of(unit: UnitConfig, directory: LeaseDir | None = None) -> Holder | None:
    """Who holds a unit now, for people: read from what holders leave beside their locks.

    A lock itself is tried only where a holder's process cannot be looked up from here: of an earlier host name, say.
    """
    if is_unlimited(unit):
        return None
    directory = directory or LeaseDir()
    for key in identify(unit).keys:
        holder = _read(directory, [key])
        if holder is not None and (holder.can_be_seen or not directory.is_free(key)):
            return holder
    return None


def held_back(unit: UnitConfig, directory: LeaseDir | None = None) -> str | None:
    """Why a unit is not to be used, by its configuration or by `nrfdfu units hold`; None if it is."""
    if unit.config.disabled is not None:
        return f"disabled in {unit.file}: {unit.config.disabled}"
    if is_unlimited(unit) or unit.config.labgrid is not None:
        return None
    hold: dict[str, Any] | None = (directory or LeaseDir()).read(identify(unit).stable, "hold")
    if not hold:
        return None
    return f"held back by {hold.get('user')} since {shown_time(hold.get('since'))}: {hold.get('reason')}"


# --- file locks -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class LocalLease:
    """A lease that lasts as long as this process, or until it is released."""

    unit: UnitConfig
    _directory: LeaseDir
    _keys: tuple[str, ...] = ()
    """Empty for a simulated board that everybody may start."""
    _run: str = ""
    _locks: ExitStack = field(default_factory=ExitStack)
    _files: dict[str, tuple[int, int]] = field(default_factory=dict)
    _holder: Holder | None = None
    _released: bool = False

    def open(self) -> bool:
        """Take all locks or none; whether they were taken."""
        with ExitStack() as taken:
            for key in self._keys:  # in one order for all, though nobody waits while holding one
                lock = self._directory.lock(key)
                if lock is None:
                    return False
                taken.callback(lock.release)
                path = self._directory.lock_path(key)
                status = path.stat()
                self._files[key] = (status.st_dev, status.st_ino)
                with suppress(OSError):
                    os.utime(path)  # so that what clears out old files does not find it old
            self._locks = taken.pop_all()
        if self._keys:
            self._note(_this_process(self.unit.name, self._run))
        return True

    def _note(self, holder: Holder) -> None:
        self._holder = holder
        for key in self._keys:
            with suppress(LeaseError):  # the lock is what counts; this only tells people
                self._directory.write(key, "holder", asdict(holder))

    def retire(self, reason: str) -> None:
        """Keep it from everybody, and tell them why."""
        if self._holder is not None and not self._released:
            self._note(Holder(**{**asdict(self._holder), "retired": reason}))

    def check(self) -> None:
        """LeaseError if a lock file was removed or replaced: another run may have locked the new one."""
        if self._released:
            raise LeaseError(f"the lease of {self.unit.name} was given back")
        for key, known in self._files.items():
            path = self._directory.lock_path(key)
            try:
                status = path.stat()
                same = (status.st_dev, status.st_ino) == known
            except OSError:
                same = False
            if not same:
                raise LeaseError(
                    f"the lease of {self.unit.name} was lost: {path} was removed or replaced while it was locked, so"
                    " another run may use the unit; find out what clears that directory"
                )

    def release(self) -> None:
        """Give it back."""
        if self._released:
            return
        self._released = True
        for key in self._keys:
            self._directory.remove(key, "holder")
        self._locks.close()


class LocalKeeper:
    """Leases on this host. `run`: the same for all workers of a run of pytest-xdist, empty for a run of one process."""

    def __init__(self, directory: LeaseDir | None = None, run: str = "") -> None:
        self.directory = directory or LeaseDir()
        self._run = run

    def acquire(self, units: Sequence[UnitConfig], *, deadline: float, say: Callable[[str], None]) -> LocalLease:
        """See `Keeper`. A unit that a sibling uses is waited for past a deadline that was still to come, some hours."""
        said: set[str] = set()
        began = time.monotonic()
        ask_once = began >= deadline
        wanted = [(unit, () if is_unlimited(unit) else identify(unit).keys) for unit in units]
        while True:
            for unit, keys in wanted:
                lease = LocalLease(unit, self.directory, keys, self._run)
                if lease.open():
                    return lease
            holders = {unit.name: _read(self.directory, keys) for unit, keys in wanted}
            told = [_told(name, holder) for name, holder in holders.items()]
            if ask_once or self._given_up(list(holders.values()), began, deadline):
                raise LeaseError(f"no unit is free: {'; '.join(told)}")
            for text in told:
                if text not in said:
                    said.add(text)
                    say(f"waiting: {text}")
            time.sleep(_POLL)

    def _given_up(self, holders: Sequence[Holder | None], began: float, deadline: float) -> bool:
        now = time.monotonic()
        ours = [holder for holder in holders if holder is not None and self._is_of_this_run(holder)]
        if any(holder.retired is None and not holder.is_this_process for holder in ours):
            return now >= max(deadline, began + _SIBLING)
        hopeless = len(ours) == len(holders) and all(holder.retired is not None for holder in ours)
        return hopeless or now >= deadline

    def _is_of_this_run(self, holder: Holder) -> bool:
        return holder.is_this_process or (bool(self._run) and holder.run == self._run)


def _told(name: str, holder: Holder | None) -> str:
    if holder is None:
        return f"{name} is held by a process that has not said who it is"
    text = str(holder)
    return text if holder.unit == name else f"{name}: its probe or port, as {text}"
