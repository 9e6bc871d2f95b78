"""Real MCUboot in an emulator does with every broken packet what the linter's rules say that it does."""

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
import servers

sys.path.append(str(Path(__file__).parents[1] / "wire"))

import breaking
from breaking import CASES, Case, observed, run

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.wire.lint import Effect, lint

CONFIG = "serial_recovery_buf2048"
PROFILE = BootloaderProfile(name="mps2-an385", erase_progressively=False)
"""MCUboot of Zephyr 4.4 for a chip without progressive erasing."""
UNANSWERED = 0.3
"""Seconds after which a request whose answer takes milliseconds was lost in what came before it."""
UNKNOWN = 99
"""A command of the image group that there is not: rc 8."""
LONGEST = 20.0
ADDED = 128
"""The first sequence of requests that are added here; the hosts' are less."""


class Emulated:
    """MCUboot at the other end of a socket.

    Silence is not waited for: behind each step goes a request that is refused at once, and requests are answered in
    their order.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LONGEST)
        self._asked = ADDED
        self._lines = b""

    @property
    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """What comes before the answer to a request of its own."""
        received = self._ask(b"", UNANSWERED)
        return received if received is not None else self._ask(b"\n", LONGEST) or b""

    def images(self) -> dict | None:
        """The image list, as soon as one comes."""
        decoder = console.Decoder()
        self.send(b"\n" + console.encode(breaking.packet({}, op=0, command=0, sequence=self._next())))
        for data in self._read(1.0):
            for event in decoder.feed(data):
                if isinstance(event, console.Packet):
                    return cbor2.loads(event.data[HEADER_SIZE:])
        return None

    def _next(self) -> int:
        self._asked = ADDED + (self._asked - ADDED + 1) % ADDED
        return self._asked

    def _read(self, patience: float) -> Iterator[bytes]:
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                yield self._socket.recv(4096)
            except TimeoutError:
                return

    def _ask(self, prefix: bytes, patience: float) -> bytes | None:
        wanted = self._next()
        self.send(prefix + console.encode(breaking.packet({}, command=UNKNOWN, sequence=wanted)))
        for data in self._read(patience):
            self._lines += data
            packets = [event.data for event in console.Decoder().feed(self._lines) if isinstance(event, console.Packet)]
            if any(Header.unpack(packet).sequence == wanted for packet in packets):
                self._lines = b""
                return b"".join(map(console.encode, filter(_is_hosts, packets)))
        return None


def _is_hosts(packet: bytes) -> bool:
    """Whether it answers the host, and not a request that was added here."""
    return Header.unpack(packet).sequence < ADDED


@pytest.fixture(scope="module")
def mcuboot(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """MCUboot in serial recovery, entered by the application's SMP server."""
    folder = servers.fixtures_folder(request.config.cache)
    with servers.emulator(folder, servers.recovery_server(folder, CONFIG)) as address:
        board = Emulated(int(address.rpartition(":")[2]))
        deadline = time.monotonic() + 30
        while "splitStatus" not in (board.images() or {}):
            assert time.monotonic() < deadline, "the application does not answer"
        board.send(console.encode(breaking.packet({"boot_mode": 1}, group=0, command=5)))
        while "splitStatus" in (board.images() or {"splitStatus": 0}):
            assert time.monotonic() < deadline, "the application did not go to recovery"
        yield board
        board.close()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.emulated], ids=lambda case: f"{case.rule}: {case.name}"
)
def test_mcuboot_does_what_the_rule_says(mcuboot: Emulated, case: Case) -> None:
    """The board has no flash timing, so what depends on it (`Case.emulated`) is left to the simulated board."""
    played = run(mcuboot, case.steps)
    (finding,) = lint(played.capture, profile=PROFILE)
    assert finding.rule == case.rule
    taken = Effect.ANSWERS if finding.effect is Effect.OVERWRITES else finding.effect
    assert observed(case, played.answers) is taken


def test_mcuboot_resets_in_the_middle_of_an_upload(mcuboot: Emulated) -> None:
    """The last test here: it answers rc 0, and the chip starts again."""
    (case,) = [case for case in CASES if case.rule == "reset-before-end"]
    assert observed(case, run(mcuboot, case.steps).answers) is Effect.REBOOTS
