"""Real MCUboot and Zephyr in an emulator: the images that come with smpclient's source distribution.

The distribution is downloaded once into pytest's cache; nothing of it is kept in this project. Its manifest.json holds
the emulator's command lines.
"""

import json
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from firmware import unavailable

SMPCLIENT = "smpclient==7.3.0"


def fixtures_folder(cache: pytest.Cache) -> Path:
    """The folder with images and manifest; skips (or fails, where everything is required) if it cannot be had."""
    folder = cache.mkdir("smpclient-sdist")
    found = list(folder.glob("smpclient-*/tests/fixtures/smp-server"))
    if found:
        return found[0]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        folder,
        SMPCLIENT,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        unavailable(f"the source distribution of {SMPCLIENT} could not be downloaded in 300 s")
    archives = list(folder.glob("smpclient-*.tar.gz"))
    if done.returncode or not archives:
        unavailable(f"the source distribution of {SMPCLIENT} cannot be downloaded: {done.stderr.strip()[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("smpclient-*/tests/fixtures/smp-server"))


def recovery_server(folder: Path, config: str) -> dict:
    """The manifest's entry of one serial recovery image."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = manifest if isinstance(manifest, list) else manifest["artifacts"]
    return next(item for item in entries if item["config"] == config and item["target"] == "mps2_an385")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def emulator(folder: Path, entry: dict) -> Iterator[str]:
    """Run the image; gives the address of its UART for pyserial."""
    if shutil.which("qemu-system-arm") is None:
        unavailable("qemu-system-arm is not installed")
    port = free_port()
    command = shlex.split(entry["qemu_cmd"].replace("<PORT>", str(port)))
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        _wait_listening(process, port)
        yield f"socket://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def _wait_listening(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the emulator ended: {process.communicate()[0].decode(errors='replace')}")
        # A connection would be taken for the UART's user, so look for the listening socket instead.
        if _is_listening(port):
            return
        time.sleep(0.05)
    pytest.fail("the emulator did not listen on its UART within 20 s")


def _is_listening(port: int) -> bool:
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in lines[1:])
