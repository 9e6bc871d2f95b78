"""Real MCUboot and Zephyr in an emulator: the images that come with smpclient's source distribution.

The distribution is downloaded once into pytest's cache; nothing of it is kept in this project. Its manifest.json holds
the emulator's command lines.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from firmware import needs, unavailable
from gdbstub import GdbStub

SMPCLIENT = "smpclient==7.3.0"
_FOR_32_BIT_PROGRAMS = {"libc6-i386": "ld-linux.so.2", "lib32gcc-s1": "libgcc_s.so.1"}
"""Debian's packages, and the file of each that a server built for native_sim needs."""
_FOLDERS_OF_32_BIT_LIBRARIES = ("/lib", "/lib32", "/usr/lib32", "/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu")
_LINE_TIME = 0.008
"""Seconds; a full line at 115200 baud takes 11 ms."""
_PSEUDO_TERMINAL = re.compile(r"connected to pseudotty: (\S+)")


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


def server(folder: Path, config: str, target: str) -> dict:
    """The manifest's entry of one server."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = manifest if isinstance(manifest, list) else manifest["artifacts"]
    return next(item for item in entries if item["config"] == config and item["target"] == target)


def recovery_server(folder: Path, config: str) -> dict:
    """The manifest's entry of one serial recovery image."""
    return server(folder, config, "mps2_an385")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def emulator(folder: Path, entry: dict) -> Iterator[str]:
    """Run the image; gives the address of its UART for pyserial.

    The emulator puts the image back into memory at every reset; `lasting_emulator` does not.
    """
    port = free_port()
    with _running(folder, _command(entry, port)) as process:
        _wait_listening(process, port)
        yield f"socket://127.0.0.1:{port}"


class Lasting(NamedTuple):
    """An emulator whose memory keeps what is written to it over resets. It waits for ``gdb.run()``."""

    port: int
    """Of its UART, on 127.0.0.1."""
    gdb: GdbStub


@contextmanager
def lasting_emulator(folder: Path, entry: dict) -> Iterator[Lasting]:
    """The image as it would be flashed: written once through the debug stub, and not again at a reset."""
    port, debug_port = free_port(), free_port()
    command, loaded = _without_loaders(_command(entry, port))
    with _running(folder, [*command, "-S", "-gdb", f"tcp:127.0.0.1:{debug_port}"]) as process:
        _wait_listening(process, port)
        gdb = GdbStub(debug_port)
        for name, address in loaded:
            for start, data in _contents(folder / name, address):
                gdb.write(start, data)
        gdb.reset()
        try:
            yield Lasting(port, gdb)
        finally:
            gdb.close()


@contextmanager
def native_server(folder: Path, entry: dict) -> Iterator[str]:
    """Run a server that was built for this host; gives the pseudo-terminal of its UART."""
    program = folder / entry["artifact"]
    folders = [*_FOLDERS_OF_32_BIT_LIBRARIES, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    for package, name in _FOR_32_BIT_PROGRAMS.items():
        if not any(Path(where, name).exists() for where in folders if where):
            unavailable(f"32-bit programs cannot run here: the package {package} is not installed")
    program.chmod(0o755)
    with _running(folder, [str(program)]) as process:
        said = ""
        while (found := _PSEUDO_TERMINAL.search(said)) is None:
            line = process.stdout.readline().decode(errors="replace")
            assert line, f"{program.name} ended without telling its UART: {said}"
            said += line
        yield found[1]


@contextmanager
def paced(port: int) -> Iterator[str]:
    """A way to the UART at `port` on which lines take time, as on a wire; gives the address for pyserial.

    An emulated UART knows no baud rate: lines that come faster than the server's two buffers are emptied are lost.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(("127.0.0.1", port)) as uart:
        relay = threading.Thread(target=_relay, args=(listener, uart), daemon=True)
        relay.start()
        try:
            yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # What waits in accept or recv returns.
            for end in (uart, listener):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            relay.join(10)


def _relay(listener: socket.socket, uart: socket.socket) -> None:
    """One client after the other; what the UART says while there is none is lost, as on a port that nobody opened."""
    current: list[socket.socket] = []
    threading.Thread(target=_to_client, args=(uart, current), daemon=True).start()
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            current[:] = [client]
            with client, suppress(ConnectionError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := client.recv(4096):
                    for line in data.splitlines(keepends=True):
                        uart.sendall(line)
                        time.sleep(_LINE_TIME)


def _to_client(uart: socket.socket, current: list[socket.socket]) -> None:
    with suppress(OSError):
        while data := uart.recv(4096):
            for client in current:
                with suppress(OSError):
                    client.sendall(data)


def _command(entry: dict, port: int) -> list[str]:
    if shutil.which("qemu-system-arm") is None:
        unavailable("qemu-system-arm is not installed")
    return shlex.split(entry["qemu_cmd"].replace("<PORT>", str(port)))


def _without_loaders(command: list[str]) -> tuple[list[str], list[tuple[str, int]]]:
    """The command line without its ``-device loader``, and the files and addresses that these load."""
    left, loaded = [], []
    words = iter(command)
    for word in words:
        value = next(words) if word == "-device" else ""
        if not value.startswith("loader,"):
            left += [word, value] if value else [word]
            continue
        options = dict(part.split("=", 1) for part in value.split(",")[1:])
        loaded.append((options["file"], int(options.get("addr", "0"), 0)))
    return left, loaded


def _contents(path: Path, address: int) -> list[tuple[int, bytes]]:
    if path.suffix != ".hex":
        return [(address, path.read_bytes())]
    needs("intelhex")
    import intelhex

    content = intelhex.IntelHex(str(path))
    return [(start, bytes(content.tobinarray(start=start, end=end - 1))) for start, end in content.segments()]


@contextmanager
def _running(folder: Path, command: list[str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
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
