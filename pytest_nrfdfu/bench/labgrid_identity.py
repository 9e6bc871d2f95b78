"""The name that a run holds labgrid's places under, and how a later run sees that its holder has died.

labgrid knows a holder as ``host/user``, two texts that a client declares (LG_HOSTNAME, LG_USERNAME), and keeps a place
for a client that was killed until somebody releases it. So the user's part tells the process as well::

    alice+nrfdfu-BOOT-MACHINE-RUN-PID-STARTED-KEEPER

BOOT stands for this start of this kernel and this namespace of processes: only there a process number means anything.
MACHINE stands for the hardware, so that what was held before the machine was restarted is known; it is 0 where it
cannot be told apart from others, as in a container. RUN stands for the run of pytest-xdist that a worker belongs to, or
is 0. KEEPER is a number for each keeper of a process. Whoever cannot be judged by these is taken for alive.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Identity", "is_dead", "me", "process_start"]

_INITIAL_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of processes that is no container's (Linux, include/linux/proc_ns.h, PROC_PID_INIT_INO)."""
_UNKNOWN = "0"
_FORM = re.compile(r"(.*)\+nrfdfu-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)-(\d+)-(\d+)-([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that holds places."""

    host: str
    login: str
    boot: str
    machine: str
    run: str
    pid: int
    started: int
    """Clock ticks from the start of the kernel (proc(5), field 22): tells it from a later one with the same number."""
    keeper: str = _UNKNOWN

    @property
    def user(self) -> str:
        """The user's part of its name."""
        return f"{self.login}+nrfdfu-{self.boot}-{self.machine}-{self.run}-{self.pid}-{self.started}-{self.keeper}"

    @property
    def name(self) -> str:
        """As labgrid shows it."""
        return f"{self.host}/{self.user}"

    def __str__(self) -> str:
        return f"{self.login}@{self.host} (process {self.pid})"

    @classmethod
    def parse(cls, name: str) -> Identity | None:
        """Who it is; None if it is no run of this plugin."""
        host, _, user = name.partition("/")
        found = _FORM.fullmatch(user)
        if found is None:
            return None
        login, boot, machine, run, pid, started, keeper = found.groups()
        return cls(host, login, boot, machine, run, int(pid), int(started), keeper)

    def sibling_of(self, other: Identity) -> bool:
        """Whether both are workers of one run."""
        return self.run != _UNKNOWN and (self.run, self.host) == (other.run, other.host)


def is_dead(holder: Identity, here: Identity) -> bool:
    """Whether `holder` is known to run no more, seen from `here`: where in doubt, it is not."""
    if holder.host != here.host:
        return False
    if holder.boot == here.boot:
        started = process_start(holder.pid)
        return started is None or started not in (holder.started, 0)
    return holder.machine == here.machine != _UNKNOWN


def me(run: str = "") -> Identity:
    """This process, as a new keeper of leases. `run`: what all workers of one run have in common."""
    host = os.environ.get("LG_HOSTNAME", platform.node()).replace("/", "_")
    try:
        login = os.environ.get("LG_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have it
        login = str(os.getuid())
    machine_id = _read("/etc/machine-id")
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    boot = _short(host, machine_id, _read("/proc/sys/kernel/random/boot_id"), str(namespace))
    cards = _network_cards()
    known = namespace == _INITIAL_NAMESPACE and machine_id and cards
    return Identity(
        host=host,
        login=login.replace("/", "_"),
        boot=boot,
        machine=_short(host, machine_id, *cards) if known else _UNKNOWN,
        run=_short(run) if run else _UNKNOWN,
        pid=os.getpid(),
        started=process_start(os.getpid()) or 0,
        keeper=secrets.token_hex(2),
    )


def process_start(pid: int) -> int | None:
    """When a process began, in clock ticks; None if it has ended, 0 if it is there and cannot be looked at."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    try:
        # From field 3 on (proc(5)): the name, field 2, may hold spaces and parentheses.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else int(fields[19])
    except (IndexError, ValueError):
        return 0


def _network_cards() -> list[str]:
    """Addresses of the network cards that are hardware, which those of copied machines differ in."""
    folder = Path("/sys/class/net")
    cards = [card for card in folder.iterdir() if (card / "device").exists()] if folder.is_dir() else []
    return sorted(filter(None, (_read(str(card / "address")) for card in cards)))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
