"""A whole board: in virtual time, and kept up with an event loop's clock."""

import asyncio
import time

import pytest
import virtual
from simulator import DEADLINE, SLOT0, image_hash, make_image

from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.firmware import FlashTiming
from pytest_nrfdfu.sim.live import LiveBoard
from pytest_nrfdfu.sim.server import event_loop
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import ImageStateRead, ResetRequest, UploadRequest


class Host(virtual.PlainHost):
    """What it asks may stay unanswered."""

    def ask(self, request, patience=5.0):
        answer = self.exchange(request, patience)
        return None if answer is None else request.read(answer.payload)

    def upload(self, image, chunk=512):
        offset = 0
        while offset < len(image):
            piece = image[offset : offset + chunk]
            answer = self.ask(UploadRequest(off=offset, data=piece, length=None if offset else len(image)))
            offset = offset if answer is None else answer.off
        return offset


def test_a_board_is_updated_through_recovery_and_boots_the_image():
    image = make_image("3.2.1", 20_000)
    board = SimBoard(BoardOptions())
    host = Host(board)
    board.drive_recovery_pin("test", low=True)
    board.chip.drive_nreset("test", low=True)
    board.chip.drive_nreset("test", low=False)
    assert host.ask(ImageStateRead()).images == ()
    assert board.in_recovery
    begin = host.now
    host.upload(image)
    seconds = host.now - begin
    # Wire time and five or six erases; the datasheet's figures leave no other room.
    assert 20_000 * 4 / 3 * 10 / 115200 + 5 * 0.0875 < seconds < 4.0
    assert host.ask(ImageStateRead()).images[0].hash == image_hash(image)
    board.drive_recovery_pin("test", low=False)
    host.ask(ResetRequest())
    host.wait(1.0)
    assert board.program == "application"
    assert f"application 3.2.1 hash {image_hash(image).hex()}".encode() in host.text


def test_an_upload_that_loses_bytes_ends_the_same_with_patience():
    image = make_image("1.0.0", 5000)
    board = SimBoard(BoardOptions(stay_in_recovery=True, seed=5, drop_rate=0.001, timing=FlashTiming(0, 0)))
    host = Host(board)

    def ask(request):
        answer = Host.ask(host, request, patience=1.0)
        if answer is None:
            host.machine.receive(b"\n", host.now)
        return answer

    host.ask = ask
    assert host.upload(image) == len(image)
    assert board.counters()["faults"]["to_board_dropped"] > 0
    assert board.read_flash(SLOT0, len(image)) == image


def test_two_runs_of_the_same_seed_are_the_same_run():
    def run(seed):
        board = SimBoard(BoardOptions(stay_in_recovery=True, seed=seed, flip_rate=0.001))
        host = Host(board)
        answers = [host.ask(ImageStateRead(), patience=0.5) is None for _ in range(40)]
        return answers, host.now, board.counters()

    assert run(1) == run(1) != run(2)


def test_without_an_image_there_is_silence():
    board = SimBoard(BoardOptions())
    host = Host(board)
    assert host.ask(ImageStateRead(), patience=3.0) is None
    assert board.program == "bootloader"
    assert not board.in_recovery


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="slot 0 holds 458752"):
        SimBoard(BoardOptions(image=bytes(0x70001)))
    with pytest.raises(ValueError, match=r"."):
        SimBoard(BoardOptions(public_key=b"no key"))
    board = SimBoard(BoardOptions())
    for address, size in ((-4, 4), (0x100000, 4), (0, -1)):
        with pytest.raises(ValueError, match="not in flash"):
            board.read_flash(address, size)


def test_the_recovery_pin_is_low_while_anybody_pulls_it():
    board = SimBoard(BoardOptions())
    board.drive_recovery_pin("line", low=True)
    board.drive_recovery_pin("button", low=True)
    board.drive_recovery_pin("line", low=False)
    assert board.chip.recovery_pin_low
    board.drive_recovery_pin("button", low=False)
    assert not board.chip.recovery_pin_low


class Port:
    """A port that notes what happens to it."""

    stays = True

    def __init__(self):
        self.written = b""
        self.greeted = asyncio.Event()
        self.paused = asyncio.Event()
        self.resumed = asyncio.Event()

    def write(self, data):
        self.written += data
        if b"application" in self.written:
            self.written = b""
            self.greeted.set()

    def follow(self, owner):
        pass

    def pause(self):
        self.paused.set()

    def resume(self):
        self.resumed.set()


class OwnUsb(Port):
    """The target's own, which goes with the program that has it: what each of them sent."""

    stays = False

    def __init__(self):
        super().__init__()
        self.sent_by = []

    def follow(self, owner):
        if not self.sent_by or owner is not self.sent_by[-1][0]:
            self.sent_by.append([owner, b""])

    def write(self, data):
        if self.sent_by:
            self.sent_by[-1][1] += data


def live(test, port=None, **options):
    """Run `test` with a live board and its port, in a loop like the simulator's."""

    async def run():
        loop = asyncio.get_running_loop()
        plug = port or Port()
        board = SimBoard(BoardOptions(**options), clock=loop.time, now=loop.time())
        live_board = LiveBoard(board, plug, owner=lambda: board.uart_owner)
        live_board.turn()
        try:
            await asyncio.wait_for(test(live_board, plug), DEADLINE)
        finally:
            live_board.stop()

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("latency", [0.0, 0.001])
def test_what_the_host_writes_to_a_port_that_is_about_to_go_is_lost_with_it(latency):
    """A busy simulator reads it only after the reset: the program that runs by then must not be asked by it."""
    answer = b"\x06\t"

    async def test(board, port):
        def ask(request):
            board.received(console.encode(encode(request, 1)))

        await asyncio.sleep(0.2)
        old = port.sent_by[-1]
        ask(ResetRequest())
        await asyncio.sleep(0.1)
        ask(ImageStateRead())
        await asyncio.sleep(0.05)
        assert port.sent_by[-1] is old
        assert old[1].count(answer) == 2, "until the reset it answers"
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be busy: the reset is due meanwhile
        ask(ImageStateRead())
        await asyncio.sleep(0.2)
        new = port.sent_by[-1]
        assert new[0] not in {None, old[0]}
        assert [sent.count(answer) for _, sent in port.sent_by[-3:]] == [2, 0, 0], "nobody has asked the new one"
        ask(ImageStateRead())
        await asyncio.sleep(0.1)
        assert new[1].count(answer) == 1

    uart = UartConfig(baudrate=0, host_latency=latency)
    live(test, OwnUsb(), image=make_image(), application_smp="full", uart=uart)


def test_a_host_that_writes_faster_than_the_wire_has_to_wait():
    async def test(board, port):
        board.board.chip.set_power(False)  # so that the firmware wakes nobody
        board.received(b"x" * 10_000)
        assert port.paused.is_set()
        assert not port.resumed.is_set()
        await port.resumed.wait()
        assert board.board.machine.uart.backlog(asyncio.get_running_loop().time()) <= 4096

    live(test, stay_in_recovery=True, uart=UartConfig(baudrate=1_000_000))


def test_what_happens_from_outside_wakes_the_board():
    async def test(board, port):
        await port.greeted.wait()
        port.greeted.clear()
        board.board.chip.drive_nreset("test", low=True)
        board.board.chip.drive_nreset("test", low=False)
        await port.greeted.wait()

    live(test, image=make_image())
