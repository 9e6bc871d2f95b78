"""SMP hosts for `upload.py`: each uploads an image to the port that it is given, in a process of its own.

    python benchmarks/hosts.py NAME PORT BAUDRATE IMAGE BOOTLOADER FLOW_CONTROL

Prints one line of JSON: the hash of slot 0 that the host then read from the board, and the CPU seconds of the upload.
Others' hosts run with their defaults, or tuned by hand as their documentation offers; nothing of them is changed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TUNED_PACKET = 1020
"""Bytes: the largest SMP packet that MCUboot's default receive size takes (measured), which nobody tells a host."""


class Target(NamedTuple):
    """Where an image goes."""

    port: str
    baudrate: int
    image: Path
    bootloader: str
    flow_control: str


def own(target: Target, window: int | str = "auto") -> bytes | None:
    """This project's client with a unit's automatic choice, on a unit that it sees for the first time."""
    from pytest_nrfdfu.board.unit import Unit
    from pytest_nrfdfu.config import BoardConfig

    config = BoardConfig.model_validate(
        {
            "board": "benchmark",
            "uart": {"port": target.port, "baudrate": target.baudrate, "flow_control": target.flow_control},
            "recovery": {"entry": ["smp"]},
            "bootloader": {"profile": target.bootloader, "window": window},
        }
    )
    unit = Unit(config.board, config)
    unit.flow_control = target.flow_control == "rtscts"
    unit.open()
    try:
        unit.client.upload(target.image.read_bytes(), limits=unit.limits(), image=0)
        found = unit.client.images().find(image=0, slot=0)
    finally:
        unit.close()
    return found.hash if found is not None else None


def own_one_chunk(target: Target) -> bytes | None:
    """The same with one chunk in flight."""
    return own(target, window=1)


def smpclient(target: Target) -> bytes | None:
    """Its default strategy, Auto: packet sizes by params, else small ones."""
    from smpclient import SMPClient
    from smpclient.generics import success
    from smpclient.requests.image_management import ImageStatesRead
    from smpclient.transport.serial import SMPSerialTransport

    async def upload() -> bytes | None:
        transport = SMPSerialTransport(baudrate=target.baudrate)
        async with SMPClient(transport, target.port) as client:
            async for _offset in client.upload(target.image.read_bytes()):
                pass
            states = await client.request(ImageStatesRead())
            found = [state.hash for state in states.images if state.slot == 0] if success(states) else []
            return found[0] if found else None

    return asyncio.run(upload())


def smpmgr(target: Target) -> bytes | None:
    """Its command line."""
    command = [sys.executable, "-m", "smpmgr", "--port", target.port, "--baudrate", str(target.baudrate), "image"]
    wide = {**os.environ, "COLUMNS": "500"}  # so that it breaks no hash
    subprocess.run([*command, "upload", target.image], env=wide, check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run([*command, "state-read"], env=wide, check=True, stdout=subprocess.PIPE, text=True).stdout
    slot0 = re.search(r"ImageState\(slot=0\b.*?HashBytes\('([0-9A-F]+)'\)", shown)
    return bytes.fromhex(slot0[1]) if slot0 else None


def toolkit(target: Target, frame: int | None = None) -> bytes | None:
    """The Python binding of mcumgr-toolkit."""
    import mcumgr_toolkit

    client = mcumgr_toolkit.MCUmgrClient.serial(target.port, target.baudrate)
    if frame is not None:
        client.set_frame_size(frame)
    client.image_upload(target.image.read_bytes())
    return next((bytes(state.hash) for state in client.image_get_state() if state.slot == 0), None)


def toolkit_tuned(target: Target) -> bytes | None:
    """The same told the largest packet by hand."""
    return toolkit(target, TUNED_PACKET)


def mcumgr_client(target: Target) -> bytes | None:
    """The Python binding of mcumgr-client."""
    import mcumgr_client as client

    session = client.SerialSession(device=target.port, baudrate=target.baudrate)
    session.upload(str(target.image))
    found: list[int] = next(state["hash"] for state in session.list() if state["slot"] == 0)
    return bytes(found)


class Host(NamedTuple):
    """A host, and the distribution whose version is printed."""

    distribution: str
    upload: Callable[[Target], bytes | None]


HOSTS: dict[str, Host] = {
    "smpclient": Host("smpclient", smpclient),
    "smpmgr": Host("smpmgr", smpmgr),
    "mcumgr-toolkit": Host("mcumgr-toolkit", toolkit),
    "mcumgr-toolkit, tuned": Host("mcumgr-toolkit", toolkit_tuned),
    "mcumgr-client": Host("mcumgr-client-wrapper", mcumgr_client),
    "pytest-nrfdfu, one chunk": Host("pytest-nrfdfu", own_one_chunk),
    "pytest-nrfdfu": Host("pytest-nrfdfu", own),
}


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for, user and system."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Done(NamedTuple):
    """What a host reported."""

    hash: bytes | None
    cpu: float


_SHOWN = 120
_SAYS_WHY = re.compile(r"error|exception|not done|read back|timed? ?out", re.IGNORECASE)


class Failed(Exception):
    """A host gave up, or was stuck, or what is on the board is not the image; the text holds its last words."""

    @property
    def why(self) -> str:
        """The last line that seems to say why; else the last line."""
        lines = [line.strip(" \t│╭╰╮╯─") for line in str(self).splitlines()]
        said = [line for line in lines if line] or [""]
        return next((line for line in reversed(said) if _SAYS_WHY.search(line)), said[-1])[:_SHOWN]


def version(name: str) -> str:
    """The installed version of a host; SystemExit if it is another than the one that this project pins."""
    distribution = HOSTS[name].distribution
    installed = importlib.metadata.version(distribution)
    pin = re.compile(rf"{re.escape(distribution)}==([^;\s]+)")
    pinned = [found[1] for text in importlib.metadata.requires("pytest-nrfdfu") or () if (found := pin.match(text))]
    if pinned and installed not in pinned:
        raise SystemExit(f"{distribution} {installed} is installed, and {pinned[0]} is pinned: install the extra test")
    return installed


def run(name: str, target: Target, timeout: float) -> Done:
    """Let a host upload, in a child process. Failed if it does not succeed within `timeout` seconds."""
    command = [sys.executable, __file__, name, *map(str, target)]
    with tempfile.TemporaryFile("w+") as words:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=words, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"still not done after {timeout:g} s") from None
        if done.returncode:
            words.seek(0)
            raise Failed(words.read().strip())
    report = json.loads(done.stdout.splitlines()[-1])
    return Done(bytes.fromhex(report["hash"]) if report["hash"] else None, report["cpu"])


def main() -> int:
    """One upload."""
    name, port, baudrate, image, bootloader, flow_control = sys.argv[1:]
    target = Target(port, int(baudrate), Path(image), bootloader, flow_control)
    began = cpu_seconds()
    found = HOSTS[name].upload(target)
    print(json.dumps({"hash": found.hex() if found else None, "cpu": cpu_seconds() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
