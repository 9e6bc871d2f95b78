"""An emulated STM32F405 updates the simulated nRF5340, and real MCUboot in a second emulator; also over a bad line.

What is proved is read by this plugin: after the STM32 has ended, `SmpClient` asks the board for its image list.
"""

import random
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import firmware
import pytest
import servers
import simulator
import stm32

from pytest_nrfdfu.bench.target import RecoveryTarget
from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.image.mcuboot import Image, load, parse
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.exchange import exchanges
from pytest_nrfdfu.wire.frames import read
from pytest_nrfdfu.wire.lint import lint

CONFIG = "serial_recovery_buf1024"
EMULATED = BootloaderProfile(name="mps2-an385", erase_progressively=False)
"""MCUboot of Zephyr 4.4; the emulator's flash is erased in no time, so this profile's times do not count."""
BAUDRATE = 1_000_000
DEADLINE = 300.0
"""Seconds for an update; real MCUboot takes twenty for 130 kB, the simulated board one for 20 kB."""
LOSS = 0.01
SEED = 4
HALF = 800
"""Lines, of both directions, of half of the real application."""
IMAGE = simulator.make_image("5.6.7", 20_000)


def built(folder, image, reset):
    """The STM32's program with `image` in its flash."""
    path = folder / "image.bin"
    path.write_bytes(image)
    stm32.make("qemu", f"IMAGE={path}", f"RESET={int(reset)}", f"BAUD={BAUDRATE}", folder=folder)
    return folder / "stm32_host.elf"


def run(program, port: int) -> str:
    """Let the STM32 do its update, USART1 connected to a TCP port; returns its log, which ends with how it went."""
    if shutil.which("qemu-system-arm") is None:
        firmware.unavailable("qemu-system-arm is not installed")
    command = ["qemu-system-arm", "-M", "netduinoplus2", "-nographic", "-monitor", "none", "-kernel", str(program)]
    command += ["-chardev", f"socket,id=target,host=127.0.0.1,port={port}", "-serial", "chardev:target"]
    command += ["-serial", "stdio"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = b""
    deadline = time.monotonic() + DEADLINE
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not (b"\nupdate: " in log and log.endswith(b"\n")):
                assert selector.select(max(0.0, deadline - time.monotonic())), f"it did not come to an end: {log}"
                data = process.stdout.read1()
                assert data, f"the emulator ended: {log}"
                log += data
    finally:
        process.kill()
        process.communicate()
    return log.decode()


class Line:
    """A TCP port that passes lines on to another one, and keeps what the host sent and received.

    Of the lines in either direction the share `loss` is lost, the same ones every time, after the first `spared`.
    """

    def __init__(self, target: int, loss: float, spared: int) -> None:
        self._loss, self._spared = loss, spared
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target = target
        self.lost = self.lines = 0
        self.traffic = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):  # ends accept, if nobody came
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    @property
    def capture(self) -> Capture:
        return Capture.of(self.traffic)

    def _serve(self) -> None:
        with suppress(OSError):
            host, _ = self._listener.accept()
            with host, socket.create_connection(("127.0.0.1", self._target)) as board, selectors.DefaultSelector() as s:
                s.register(host, selectors.EVENT_READ, ("tx", board, [b""], random.Random(SEED)))
                s.register(board, selectors.EVENT_READ, ("rx", host, [b""], random.Random(SEED + 1)))
                while all(self._pass_on(key.fileobj, *key.data) for key, _ in s.select()):
                    pass

    def _pass_on(self, source, direction, target, rest, chance) -> bool:
        data = source.recv(4096)
        *lines, rest[0] = (rest[0] + data).split(b"\n")
        for line in lines:
            self.lines += 1
            passes = self.lines <= self._spared or chance.random() >= self._loss
            self.lost += not passes
            if passes or direction == "tx":
                self.traffic.append((time.monotonic(), direction, line + b"\n"))
            if passes:
                target.sendall(line + b"\n")
        return bool(data)


@contextmanager
def line_to(port: str, loss: float, spared: int = 0) -> Iterator[Line]:
    line = Line(number(port), loss, spared)
    try:
        yield line
    finally:
        line.close()


@contextmanager
def client(port: str) -> Iterator[SmpClient]:
    uart = Uart(port, BAUDRATE)
    uart.open()
    try:
        yield SmpClient(uart)
    finally:
        uart.close()


@pytest.fixture
def target():
    with RecoveryTarget("tcp", baudrate=BAUDRATE) as target:
        yield target


def number(address: str) -> int:
    return int(address.rpartition(":")[2])


def listed(port: str) -> list[bytes]:
    """The hashes that recovery lists."""
    with client(port) as smp:
        images = smp.images()
        assert images.split_status is None, "the application answers"
        return [state.hash for state in images.images if state.slot == 0]


def test_the_simulated_board_is_updated(target, tmp_path):
    assert listed(target.uart) == []
    target.forget()
    log = run(built(tmp_path, IMAGE, reset=True), number(target.uart))
    requests = [(one.request.header.group, one.request.header.command, one.request.payload) for one in target.exchanges]
    # None on an idle machine; on a busy one a response may come after the STM32 has given it up.
    repeated = sum(one == other for one, other in pairwise(requests))
    assert log.splitlines() == [
        f"image: {len(IMAGE)} bytes",
        f"uploaded: {len(IMAGE)}, repeated: {repeated}, rc: 0",
        "update: ok",
    ]
    assert target.holds(parse(IMAGE))
    assert target.wait_program("application"), "the reset came, and it does not run"
    assert repeated or target.findings == []  # a chunk repeated for nothing looks like a step back
    target.reset()
    assert listed(target.uart) == [parse(IMAGE).hash]


def test_the_simulated_board_is_updated_over_a_bad_line(target, tmp_path):
    with line_to(target.uart, LOSS) as line:
        log = run(built(tmp_path, IMAGE, reset=False), line.port)
    assert log.endswith("\nupdate: ok\n"), log
    assert line.lost > 1, "it was a good line"
    assert "repeated: 0" not in log
    assert listed(target.uart) == [parse(IMAGE).hash]
    assert lint(line.capture, profile=target.profile) == []


@pytest.fixture
def mcuboot(request):
    """Real MCUboot in serial recovery, its application's other version to be sent, and the port of its UART."""
    folder = servers.fixtures_folder(request.config.cache)
    entry = servers.recovery_server(folder, CONFIG)
    own = load(folder / entry["artifact"].replace(".hex", ".signed.bin"))
    with servers.emulator(folder, entry) as port:
        enter_recovery(port)
        yield port, other_version(own)


def enter_recovery(port: str) -> None:
    """The application resets to recovery (OS reset with a boot mode), and answers for another moment."""
    with client(port) as smp:
        assert smp.poll_images(0.3, time.monotonic() + DEADLINE).split_status is not None
        smp.reset(boot_mode=1)
        deadline = time.monotonic() + DEADLINE
        while smp.poll_images(0.3, deadline).split_status is not None:
            assert time.monotonic() < deadline, "the application did not go to recovery"


def other_version(image: Image) -> bytes:
    """The same application, signed as another version: its hash is not the one that was on the board."""
    body = image.data[image.header.hdr_size :][: image.header.img_size]
    load_address = ("--load-addr", hex(image.header.load_addr))
    return firmware.sign(body, "5.6.7", slot_size=0x100000, extra=load_address)


def test_real_mcuboot_is_updated(mcuboot, tmp_path):
    """The first half over a good line, the second over a bad one, as an update takes its time here.

    Without the reset at the end, after which the emulator puts its own image back into memory.
    """
    port, image = mcuboot
    before = listed(port)
    with line_to(port, LOSS, spared=HALF) as line:
        log = run(built(tmp_path, image, reset=False), line.port)
    assert log.endswith("\nupdate: ok\n"), log
    assert listed(port) == [parse(image).hash] != before
    # A response that comes just as the STM32 gives it up looks as if it had been ignored; see the offsets below.
    assert {finding.rule for finding in lint(line.capture, profile=EMULATED)} <= {"off-not-followed"}
    assert line.lost > 3, "it was a good line"
    assert "repeated: 0" not in log
    done = exchanges(read(line.capture))[: HALF // 7]
    offsets = [exchange.request.payload["off"] for exchange in done[1:]]
    # On a busy machine a response may come after the STM32 has given it up, and a chunk be sent twice; none is lost.
    assert offsets == sorted(offsets), "it went back over the good line"
    assert all(exchange.response for exchange in done[:-1]), "the good line was none"
