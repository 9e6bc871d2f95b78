"""A simulated board wired to a Unit, and a scripted other end of a serial port."""

import os
import selectors
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cbor2
import pytest
from simulator import DEADLINE, make_image, wait_until

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import HashMismatch
from pytest_nrfdfu.image.build import Build, load
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.smp.timing import RoundTrip

UNPACED = {"baudrate": 0, "flash_timing": "none"}


@dataclass
class Wired:
    """A unit and a look behind it."""

    unit: Unit
    admin: SimAdmin
    simulator: Simulator

    def resets(self) -> dict[str, int]:
        """Resets by cause since the last call."""
        resets = self.admin.counters()["resets"]
        self.admin.reset_counters()
        return {cause: count for cause, count in resets.items() if count}


def config(**tables) -> BoardConfig:
    """A simulated board's configuration, unpaced; `tables` as in a file."""
    tables["sim"] = UNPACED | tables.get("sim", {})
    return BoardConfig.model_validate({"board": "sim", **tables})


@contextmanager
def wired(**tables) -> Iterator[Wired]:
    """A simulated board and a unit over it."""
    with ExitStack() as stack:
        simulator = Simulator(config(**tables))
        stack.callback(simulator.stop)
        admin = stack.enter_context(SimAdmin(simulator.admin))
        unit = Unit("sim", simulator.wired())
        stack.callback(unit.close)
        unit.open()
        yield Wired(unit, admin, simulator)


@pytest.fixture(scope="session")
def builds(tmp_path_factory) -> tuple[Build, Build]:
    """Two small builds, versions 1.0.0 and 1.1.0."""
    folder = tmp_path_factory.mktemp("builds")
    return make_build(folder, "1.0.0"), make_build(folder, "1.1.0")


def make_build(folder: Path, version: str, size: int = 9000) -> Build:
    path = folder / f"app-{version}.signed.bin"
    path.write_bytes(make_image(version, size))
    return load(path)


@pytest.fixture(scope="session")
def _shared(builds) -> Iterator[Wired]:
    with wired(sim={"image": builds[0].path}) as board:
        yield board


@pytest.fixture
def sim(_shared) -> Wired:
    """The board that most tests share, with an application in slot 0; its counters begin at 0."""
    return as_new(_shared)


def as_new(board: Wired) -> Wired:
    """The board with nothing remembered, counted or armed."""
    board.unit.forget()
    board.unit.unfinished = None
    board.unit.client.round_trip = RoundTrip()
    board.admin.disarm()
    board.admin.reset_counters()
    return board


def with_only(board: Wired, build: Build) -> Wired:
    """The board with `build` running, put there by recovery, and slot 1 erased."""
    dfu = Dfu(board.unit)
    with suppress(HashMismatch):  # an image that a test left pending is swapped in
        dfu.update(build)
    dfu.update(build, only_if_needed=True)
    board.unit.client.erase(1, DEADLINE)
    return board


# --- a scripted other end -------------------------------------------------------------------------------------------

Script = Callable[[Header, dict], list[bytes]]


def answer(request: Header, payload: dict, **changes) -> bytes:
    """The frame of the response to `request`; `changes` are header fields that are to be wrong."""
    body = cbor2.dumps(payload)
    return console.encode(request.response(len(body))._replace(**changes).pack() + body)


class FarEnd:
    """The board's end of a pty. Give `script` a function to answer requests by; what it returns is sent."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.script: Script | None = None
        self.requests: list[tuple[Header, dict]] = []
        self.received = b""
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        os.write(self.master, data)

    def vanish(self) -> None:
        """The adapter is unplugged."""
        if self._thread.is_alive():
            os.write(self._stopped, b"x")
            self._thread.join(10)
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def close(self) -> None:
        self.vanish()
        for descriptor in (self._slave, self._stop, self._stopped):
            os.close(descriptor)

    def _serve(self) -> None:
        decoder = console.Decoder()
        with selectors.DefaultSelector() as selector:
            selector.register(self.master, selectors.EVENT_READ)
            selector.register(self._stop, selectors.EVENT_READ)
            while not any(key.fd == self._stop for key, _ in selector.select()):
                data = os.read(self.master, 4096)
                self.received += data
                for event in decoder.feed(data):
                    if isinstance(event, console.Packet):
                        self._answer(event.data)

    def _answer(self, packet: bytes) -> None:
        header, payload = Header.unpack(packet), cbor2.loads(packet[HEADER_SIZE:])
        self.requests.append((header, payload))
        for piece in self.script(header, payload) if self.script else ():
            self.write(piece)


@pytest.fixture
def far() -> Iterator[FarEnd]:
    end = FarEnd()
    yield end
    end.close()


@pytest.fixture
def no_rig_unit(far) -> Iterator[Unit]:
    """A unit of a port alone: no probe, no lines."""
    settings = {
        "board": "bare",
        "uart": {"port": far.path, "baudrate": 1_000_000},
        "recovery": {"entry": ["smp"], "timeout": 0.6},
        "boot": {"timeout": 0.6},
    }
    unit = Unit("bare", BoardConfig.model_validate(settings))
    unit.client.round_trip = RoundTrip(first=0.05, least=0.02, most=0.05)  # silence is told soon
    unit.open()
    yield unit
    unit.close()


def wait_for_text(uart, text: str) -> None:
    wait_until(lambda: text in uart.console.since(0), f"the text {text!r}")
