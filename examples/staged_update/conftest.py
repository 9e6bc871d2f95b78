"""The product's own host, and the fixtures around it.

To be replaced by your own: what `Link` speaks, and where the fixture `host` finds its peer.
"""

import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from pytest_nrfdfu import load_build

CHUNK = 1024
"""Bytes of one write; the link's own choice."""
PATIENCE = 10.0
"""Seconds for the application to open its link after it has started, and for one answer."""


class Refused(Exception):
    """The application does not do what it was told."""


class Link:
    """The product's own link to the running application.

    It stands for a phone on BLE, a cloud on LTE, a controller on CAN. This one speaks lines on the TCP port of the
    simulated application, which does with the bytes what Nordic's DFU target library does.
    """

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._stream = socket.create_connection((host, int(port)), PATIENCE).makefile("rwb")

    def ask(self, command, data=b""):
        """Tell the application something; the number in its answer, 0 if there is none."""
        self._stream.write(command.encode() + b"\n" + data)
        self._stream.flush()
        answer = self._stream.readline().decode().split(maxsplit=1)
        if not answer:
            raise ConnectionError(f"{command!r}: the link was lost")
        if answer[0] != "ok":
            raise Refused(f"{command!r}: {' '.join(answer).strip()}")
        return int(answer[1]) if len(answer) > 1 else 0

    def close(self):
        """Hang up."""
        self._stream.close()


class ProductHost:
    """Brings images to the application. pytest-nrfdfu knows nothing of it."""

    def __init__(self, address):
        self._address = address

    def transfer(self, image, *, break_off_at=None):
        """Send an image and have it scheduled; the offset at which this began, behind what was sent earlier.

        `break_off_at`: the link is lost at that offset, and nothing scheduled.
        """
        link, start = self._connect(f"init {len(image)}")
        with closing(link):
            offset = start
            while offset < len(image):
                if break_off_at is not None and offset >= break_off_at:
                    return start
                chunk = image[offset : offset + CHUNK]
                offset = link.ask(f"write {offset} {len(chunk)}", chunk)
            link.ask("done")
            link.ask("schedule")
        return start

    def forget(self):
        """Have what an earlier transfer left erased."""
        link, _ = self._connect("init 0")
        with closing(link):
            link.ask("reset")

    def _connect(self, command):
        """A link, and what was answered on it to its first command. The application may still be starting."""
        deadline = time.monotonic() + PATIENCE
        while True:
            link = None
            try:
                link = Link(self._address)
                return link, link.ask(command)
            except OSError:
                if link is not None:
                    link.close()
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)


def pytest_addoption(parser):
    """The suite's own option."""
    parser.addoption("--released", type=Path, metavar="PATH", help="the released firmware, which each test begins with")


@pytest.fixture
def released(request, dfu):
    """The released firmware's build, which the board runs; uploaded through serial recovery if it does not."""
    build = load_build(request.config.getoption("--released", skip=True), "released")
    dfu.update(build, only_if_needed=True)
    return build


@pytest.fixture
def host(board, released):  # noqa: ARG001 - it runs
    """The product's host, beside a board that runs the released firmware and has nothing staged."""
    host = ProductHost(board.endpoints["staging"])  # which only a simulated board tells
    host.forget()
    return host
