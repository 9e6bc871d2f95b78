"""Uploads to the simulated application over its wire, in virtual time: windows, erases, losses, resumption."""

import random

import pytest
import virtual
from simulator import image_hash, make_image

from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.chip import ResetCause
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.messages import UploadRequest
from pytest_nrfdfu.smp.upload import Limits

OLD = make_image("1.0.0")
NEW = make_image("2.0.0", 40_000)
DATA = 320
"""Bytes in a chunk: fits 380 bytes with header, map and digest."""


class Sender:
    """A host that keeps as many chunks in flight as it is told, once the first one, which may erase, is answered.

    It knows nothing of time-outs or retries.
    """

    def __init__(self, *, window, before=b"", **options):
        uart = UartConfig(**{"host_latency": 1e-3, **options.pop("uart", {})})
        self.board = SimBoard(BoardOptions(image=OLD, application_smp="full", uart=uart, **options))
        self.board.machine.advance(1.0)
        area = self.board.slot(1)
        self.board.chip.program(area.address, before + b"\xff" * (-len(before) % 4))
        self.window = window
        self.now = 1.0
        self.decoder = console.Decoder()
        self.answers = []

    def run(self, image, *, until=None, quiet=30.0):
        """Send chunks until all, or `until` bytes, were sent and everything was answered or nothing comes any more."""
        machine, offset, flight = self.board.machine, 0, 0
        began = self.now
        end = len(image) if until is None else until
        while True:
            while offset < end and flight < self.window and (self.answers or not flight):
                length = len(image) if offset == 0 else None
                request = UploadRequest(offset, image[offset : offset + DATA], length=length)
                machine.receive(console.encode(encode(request, flight & 0xFF)), self.now)
                offset += len(request.data)
                flight += 1
            event = machine.next_event()
            if event is None or event > self.now + quiet or not flight:
                return self.now - began
            self.now = max(self.now, event)
            for item in self.decoder.feed(machine.advance(self.now)):
                self.answers.append(decode(item.data).payload)
                flight -= 1


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("baudrate", [115_200, 1_000_000])
def test_a_window_of_one_less_than_the_buffers_loses_nothing(window, baudrate):
    sender = Sender(window=window, uart={"baudrate": baudrate})
    sender.run(NEW)
    assert sender.answers[-1] == {"off": len(NEW), "match": False}  # no digest was sent
    assert len(sender.answers) == -(-len(NEW) // DATA)
    assert sender.board.slot_contents(1).image_hash == image_hash(NEW).hex()
    assert sender.board.machine.uart.counters.overrun == 0


def test_a_window_is_worth_it():
    alone, three = (Sender(window=window).run(NEW) for window in (1, 3))
    wire = console.wire_size(DATA + 40) * 10 / 115_200 * len(NEW) / DATA
    assert three < wire * 1.05  # the line is never idle
    assert alone > three * 1.12  # with a millisecond to the host, and one back


@pytest.mark.parametrize("window", [3, 4, 6])
def test_on_a_wire_that_takes_no_time_only_three_chunks_fit(window):
    """The response to the oldest needs the fourth buffer: a fourth chunk is lost, or the oldest is refused."""
    sender = Sender(window=window, uart={"baudrate": 0, "host_latency": 0.0})
    sender.run(NEW)
    assert (sender.board.slot_contents(1).image_hash == image_hash(NEW).hex()) is (window == 3)


def test_the_first_chunk_takes_the_time_of_erasing_what_the_image_needs():
    pages = -(-len(NEW) // 4096) + 1
    sender = Sender(window=1, before=make_image("1.5.0", 100_000))
    seconds = sender.run(NEW, until=DATA)
    assert pages * 87.5e-3 < seconds < pages * 87.5e-3 + 0.1
    assert Sender(window=1).run(NEW, until=DATA) < 0.1


@pytest.mark.parametrize(("flow_control", "whole"), [(False, False), (True, True)])
def test_progressive_erasing_loses_what_comes_meanwhile_without_flow_control(flow_control, whole):
    sender = Sender(window=3, application_erase="progressive", uart={"flow_control": flow_control})
    sender.run(NEW)
    assert (sender.board.slot_contents(1).image_hash == image_hash(NEW).hex()) is whole
    assert bool(sender.board.machine.uart.counters.overrun) is not whole


def test_the_client_s_own_upload_and_its_digest():
    """The whole engine, chunk by chunk, against a lossy line."""
    board = SimBoard(BoardOptions(image=OLD, application_smp="full", line_loss=0.01, seed=3))
    host = virtual.VirtualHost(board)
    upload = host.upload(NEW, limits=Limits(max_packet=380))
    assert upload.counters.retries
    assert board.slot_contents(1).image_hash == image_hash(NEW).hex()


@pytest.mark.parametrize("seed", range(20))
def test_a_reset_at_any_place_of_an_upload_leaves_the_running_image_alone(seed):
    """And the next upload succeeds. What the bootloader makes of half an image is its own tests' matter."""
    rng = random.Random(seed)
    sender = Sender(window=3, before=make_image("1.5.0", 100_000))
    sender.run(NEW, until=rng.randrange(DATA, len(NEW)))
    board = sender.board
    board.chip.reset(ResetCause.SREQ)
    sender.now += 1.0
    board.machine.advance(sender.now)
    assert board.slot_contents(0).version == "1.0.0"
    sender.answers.clear()
    sender.run(NEW)
    assert sender.answers[-1]["off"] == len(NEW)
    assert board.slot_contents(1).image_hash == image_hash(NEW).hex()
