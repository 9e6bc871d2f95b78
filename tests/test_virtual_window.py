"""Windows against the simulated bootloader in virtual time: right wherever they are tried, and worth it where they fit.

Seconds here are virtual, so ratios of them are exact and do not depend on the machine that the tests run on.
"""

import random
import statistics
from dataclasses import dataclass, replace

import firmware
import pytest
import virtual

from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import EchoRequest
from pytest_nrfdfu.smp.regulator import Verdict
from pytest_nrfdfu.smp.upload import Limits, Upload

IMAGE = firmware.sign(random.Random(8).randbytes(100_001))
HASH = parse(IMAGE).hash
FAST = 1_000_000


@dataclass(frozen=True)
class Bench:
    """A board, its wire, and what the host makes of them."""

    baudrate: int = 115_200
    fifo: int = 6
    stall: str = "erase"
    flow_control: bool = False
    progressive: bool = True
    buffers: int = 8
    line_loss: float = 0.0

    def upload(self, limits: Limits, *, seed: int = 0) -> tuple[float, Upload, SimBoard]:
        """Seconds, the upload, the board: which lists the image's hash, and has the image in flash."""
        uart = UartConfig(
            baudrate=self.baudrate,
            fifo=self.fifo,
            stall=self.stall,
            flow_control=self.flow_control,
            host_latency=1e-3,
        )
        profile = replace(PROFILES["ncs-2.6"], erase_progressively=self.progressive, line_buffers=self.buffers)
        options = BoardOptions(profile=profile, uart=uart, stay_in_recovery=True, seed=seed, line_loss=self.line_loss)
        board = SimBoard(options)
        host = virtual.VirtualHost(board, baudrate=self.baudrate)
        began = host.now
        upload = host.upload(IMAGE, limits=limits)
        seconds = host.now - began
        assert board.read_flash(0x10000, len(IMAGE)) == IMAGE
        assert host.images().find().hash == HASH
        return seconds, upload, board

    def limits(self, window: int, *, trial: bool = False) -> Limits:
        """What the host knows of this bench."""
        return Limits(
            line_buffers=self.buffers if window > 1 else None,
            window=max(2, window),
            flow_control=self.flow_control,
            erases_at_start=not self.progressive,
            trial=trial,
        )


BENCHES = {
    "erases stall, 38400": Bench(baudrate=38_400),
    "erases stall, 115200": Bench(),
    "erases stall, 1 Mbaud": Bench(baudrate=FAST),
    "writes stall too, 115200, one-byte FIFO": Bench(stall="erase+write", fifo=1),
    "writes stall too, 1 Mbaud, one-byte FIFO": Bench(baudrate=FAST, stall="erase+write", fifo=1),
    "flow control, 38400": Bench(baudrate=38_400, flow_control=True),
    "flow control, 115200": Bench(flow_control=True),
    "flow control, 1 Mbaud, one-byte FIFO": Bench(baudrate=FAST, flow_control=True, stall="erase+write", fifo=1),
    "two line buffers": Bench(buffers=2),
    "two line buffers, writes stall too, 1 Mbaud, one-byte FIFO": Bench(
        buffers=2, baudrate=FAST, stall="erase+write", fifo=1
    ),
    "erases everything at the start, writes stall too, 1 Mbaud, one-byte FIFO": Bench(
        progressive=False, baudrate=FAST, stall="erase+write", fifo=1
    ),
    "erases everything at the start, 115200": Bench(progressive=False),
    "erases everything at the start, 1 Mbaud": Bench(baudrate=FAST, progressive=False),
}


@pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES.keys())
@pytest.mark.parametrize("window", [2, 3, 4])
def test_a_window_on_trial_is_right_and_never_slower_than_one_chunk_by_more_than_3_percent(
    bench: Bench, window: int
) -> None:
    alone, single, _ = bench.upload(bench.limits(1))
    tried, upload, _ = bench.upload(bench.limits(window, trial=True))
    assert single.counters.retries == single.counters.resyncs == 0
    assert tried <= alone * 1.03
    lossy = bench.baudrate == FAST and bench.fifo == 1 and not bench.flow_control and bench.buffers > 2
    expected = Verdict.LOSSY if lossy else Verdict.NONE if bench.buffers == 2 else Verdict.CLEAN
    assert upload.regulator.verdict is expected
    assert upload.counters.trial_losses == lossy
    assert upload.counters.retries + upload.counters.resyncs <= lossy


@pytest.mark.parametrize("baudrate", [115_200, FAST])
def test_flow_control_loses_no_byte_in_a_full_window(baudrate: int) -> None:
    bench = Bench(baudrate=baudrate, flow_control=True)
    _, upload, board = bench.upload(bench.limits(2))
    assert board.machine.uart.counters.overrun == 0
    assert board.counters()["dropped_lines"] == 0
    assert (upload.counters.retries, upload.counters.resyncs, upload.counters.window) == (0, 0, 2)


def test_the_same_window_without_flow_control_would_lose_bytes() -> None:
    """So the stall is there, and it is flow control that makes up for it."""
    bench = Bench()
    _, upload, board = bench.upload(replace(bench.limits(2), flow_control=True))
    assert board.machine.uart.counters.overrun
    assert upload.regulator.fallbacks


@pytest.mark.parametrize(
    ("baudrate", "flow_control", "share"),
    [(115_200, False, 0.94), (FAST, False, 0.88), (115_200, True, 0.94), (FAST, True, 0.94)],
)
def test_share_of_what_wire_and_flash_allow(baudrate: int, flow_control: bool, share: float) -> None:
    """11 full lines carry 992 bytes in 1397; pages are erased one by one, with the line silent; writes overlap."""
    bench = Bench(baudrate=baudrate, flow_control=flow_control)
    seconds, _, _ = bench.upload(bench.limits(2))
    pages = -(-len(IMAGE) // 4096) + 1
    limit = len(IMAGE) / 992 * 1397 * 10 / baudrate + pages * 87.5e-3
    assert limit < seconds
    assert limit / seconds >= share


def test_the_boards_timing_is_that_of_its_baud_rate() -> None:
    """100 KiB of echoes, there and back one after the other, take as long as their bits, within 2 %."""
    options = BoardOptions(profile=replace(PROFILES["ncs-2.6"], echo=True, receive_size=1024), stay_in_recovery=True)
    host = virtual.VirtualHost(SimBoard(options))
    request = EchoRequest("x" * 100)
    began, count = host.now, 100 * 1024 // 2 // len(console.encode(encode(request, 0)))
    carried = sum(host.echo(request) for _ in range(count))
    assert carried == pytest.approx(100 * 1024, rel=0.02)
    assert host.now - began == pytest.approx(carried * 10 / 115_200, rel=0.02)


SEEDS = 200
LOSS = 0.01
"""Share of lines lost, each way."""


def test_an_upload_with_one_line_in_a_hundred_lost_takes_little_longer() -> None:
    bench = Bench(line_loss=LOSS)
    whole, _, _ = Bench().upload(bench.limits(2))
    lasted, repeated = [], []
    for seed in range(SEEDS):  # no board is kept: hundreds of them, each with its flash, would make this slow
        seconds, upload, _ = bench.upload(bench.limits(2), seed=seed)
        assert upload.done
        lasted.append(seconds)
        repeated.append(upload.counters.retries + upload.counters.resyncs)
    assert statistics.median(lasted) <= 1.35 * whole
    assert statistics.mean(repeated) > 5
