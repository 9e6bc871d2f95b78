"""labgrid's own coordinator, exporter and client, unmodified, on the loopback interface.

labgrid lives in a virtual environment of its own in pytest's cache: it brings pyserial-labgrid, which would take the
place of pyserial. It is installed once; nothing of it is kept in this project.
"""

import json
import os
import re
import selectors
import subprocess
import time
import venv
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from firmware import unavailable

LABGRID = "labgrid==26.0.1"
DEADLINE = 30.0
"""Seconds for a program of labgrid to start, on a busy machine."""

SET_UP = """
import asyncio, json, sys
from labgrid.remote.client import start_session
from labgrid.remote.generated import labgrid_coordinator_pb2 as pb

session = start_session(sys.argv[1])
stub = session.stub

async def create(name, tags, matches):
    await stub.AddPlace(pb.AddPlaceRequest(name=name))
    await stub.SetPlaceTags(pb.SetPlaceTagsRequest(placename=name, tags=tags))
    for pattern, rename in matches:
        await stub.AddPlaceMatch(pb.AddPlaceMatchRequest(placename=name, pattern=pattern, rename=rename))

async def main():
    for place in json.loads(sys.argv[2]):
        await create(**place)
    wanted = int(sys.argv[3])
    while sum(len(group) for groups in session.resources.values() for group in groups.values()) < wanted:
        await asyncio.sleep(0.05)
    await session.stop()
    await session.close()

session.loop.run_until_complete(asyncio.wait_for(main(), 30))
"""
"""Makes places, and waits until the exporter has told of its resources."""


def interpreter(cache: pytest.Cache) -> Path:
    """An interpreter that has labgrid; skips (or fails, where everything is required) if it cannot be had."""
    folder = cache.mkdir("labgrid")
    python, done = folder / "venv" / "bin" / "python", folder / LABGRID
    with FileLock(folder / "lock"):
        if not done.exists():
            venv.create(folder / "venv", with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", LABGRID]
            try:
                outcome = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
            except subprocess.TimeoutExpired:
                unavailable(f"{LABGRID} could not be installed in 300 s")
            if outcome.returncode:
                unavailable(f"{LABGRID} cannot be installed: {outcome.stderr.strip()[-300:]}")
            done.touch()
    return python


class Rack:
    """A coordinator with places, and an exporter."""

    def __init__(self, python: Path, folder: Path, stack: ExitStack) -> None:
        self.python = python
        self._folder = folder
        self._stack = stack
        self.coordinator = self._start("coordinator", "-l", "127.0.0.1:0")
        self.address = _address(self.coordinator)
        self.exporter = None

    def export(self, groups: dict, places: list[dict]) -> None:
        """Export resources, and make places: ``name``, ``tags``, ``matches`` (pattern and name, or None)."""
        path = self._folder / "exporter.yaml"
        path.write_text(json.dumps(groups))  # JSON is YAML
        self.exporter = self._start("exporter", "-c", self.address, "-n", "bench1", "--hostname", "127.0.0.1", path)
        count = sum(len(resources) for resources in groups.values())
        command = [self.python, "-c", SET_UP, self.address, json.dumps(places), str(count)]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    def _start(self, name: str, *arguments) -> subprocess.Popen:
        process = subprocess.Popen(
            [self.python, "-m", f"labgrid.remote.{name}", *map(str, arguments)],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name == "coordinator" else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(_end, process)
        return process

    def client(self, *arguments: str, user: str = "bob", host: str = "pc3") -> str:
        """labgrid-client, as somebody."""
        environment = {**os.environ, "LG_USERNAME": user, "LG_HOSTNAME": host}
        command = [self.python, "-m", "labgrid.remote.client", "-x", self.address, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def holders(self) -> dict[str, str]:
        """Who has which place, as labgrid-client shows it."""
        places = re.findall(r"^Place '(.+?)':\n((?: .*\n?)*)", self.client("-v", "places"), re.MULTILINE)
        acquired = {name: re.search(r"acquired: (.+)", text) for name, text in places}
        return {name: found[1] for name, found in acquired.items() if found and found[1] != "None"}

    def reservations(self) -> str:
        """All reservations, as labgrid-client shows them."""
        return self.client("reservations")


def _address(coordinator: subprocess.Popen) -> str:
    """Where it listens: the one line that it prints at its start."""
    deadline = time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(coordinator.stdout, selectors.EVENT_READ)
        text = b""
        while b"\n" not in text:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                pytest.fail("labgrid's coordinator did not start")
            more = os.read(coordinator.stdout.fileno(), 4096)
            assert more, "labgrid's coordinator ended"
            text += more
    found = re.search(rb"listening on (\S+)", text)
    assert found, text
    return found[1].decode()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def rack(python: Path, folder: Path):
    """A coordinator in a scratch folder, where it writes its files."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        yield Rack(python, folder, stack)
