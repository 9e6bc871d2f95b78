"""A plain line to an emulated server: requests as bytes, one at a time. For recordings; the plugin is not in it."""

import gzip
import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from pytest_nrfdfu.smp import console

_PATIENCE = 8.0
_QUIET = 1.5
"""What is not answered within so many seconds counts as silence."""
_LINE_PAUSE = 0.006
"""Between the lines of a frame: the emulated UART knows no baud rate, and overruns the server's two line buffers."""


class Link:
    """The UART at `port` of 127.0.0.1: console text and packets apart."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(0.02)
        self._decoder = console.Decoder()
        self._packets: list[bytes] = []
        self._text = b""

    @property
    def text(self) -> bytes:
        """What was not a packet since `forget`."""
        return self._text

    def forget(self) -> None:
        """Begin anew: text and packets that came are dropped, and so are those that wait in the socket."""
        while self._pump():
            pass
        self._text, self._packets = b"", []

    def wait_text(self, *wanted: bytes) -> None:
        """Wait until one of the texts has come."""
        deadline = time.monotonic() + _PATIENCE
        while not any(text in self._text for text in wanted):
            assert time.monotonic() < deadline, self._text.decode(errors="replace")
            self._pump()

    def ask(self, packet: bytes) -> bytes | None:
        """The answer; None where there is none in time."""
        self.send(packet)
        deadline = time.monotonic() + _QUIET
        while not self._packets and time.monotonic() < deadline:
            self._pump()
        return self._packets.pop(0) if self._packets else None

    def send(self, packet: bytes) -> None:
        for line in console.encode(packet).splitlines(keepends=True):
            self._socket.sendall(line)
            time.sleep(_LINE_PAUSE)

    def _pump(self) -> bool:
        """Take what has come; False if nothing did for a moment."""
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return False
        for event in self._decoder.feed(data):
            if isinstance(event, console.Packet):
                self._packets.append(event.data)
            else:
                self._text += getattr(event, "data", b"")
        return bool(data)


def save(path: Path, rows: Iterable[dict]) -> None:
    """Write a recording: compact JSON, one object a line, compressed; the same bytes for the same rows."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        for row in rows:
            file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def load(path: Path) -> tuple[dict, list[dict]]:
    """A recording's first line, and the others."""
    with gzip.open(path, "rt") as file:
        head, *rows = map(json.loads, file)
    return head, rows
