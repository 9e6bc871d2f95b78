"""Uploads over a bad line in virtual time: whatever is lost or damaged, the upload ends with the right hash listed."""

import random

import firmware
import pytest
import virtual

from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp.upload import Limits

SEEDS = 200
LOSS = 0.0002
"""Share of bytes dropped, and the same share flipped, in each direction."""


def _board(seed: int = 0, *, baudrate: int = 115200, loss: float = 0.0, profile: str = "ncs-2.6") -> SimBoard:
    options = BoardOptions(
        profile=PROFILES[profile],
        uart=UartConfig(baudrate=baudrate),
        stay_in_recovery=True,
        seed=seed,
        drop_rate=loss,
        flip_rate=loss,
    )
    return SimBoard(options)


def _image(size: int) -> bytes:
    return firmware.sign(random.Random(size).randbytes(size))


@pytest.mark.parametrize("group", range(10))
def test_every_upload_over_a_bad_line_ends_verified(group: int) -> None:
    """200 seeds; each image is proved by the board's own list, over the same bad line."""
    data = firmware.signed_app()
    image = parse(data)
    disturbed = 0
    for seed in range(group * SEEDS // 10, (group + 1) * SEEDS // 10):
        board = _board(seed, loss=LOSS)
        host = virtual.VirtualHost(board)
        upload = host.upload(data)
        found = host.images().find()
        assert found is not None, f"seed {seed}: the board lists no image"
        assert found.hash == image.hash, f"seed {seed}"
        assert board.read_flash(0x10000, len(data)) == data, f"seed {seed}"
        disturbed += upload.counters.retries
    assert disturbed, "the line was not bad at all"


@pytest.mark.parametrize("baudrate", [115_200, 1_000_000])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_good_line_needs_no_retry(profile: str, baudrate: int) -> None:
    """Every bootloader profile, with datasheet flash timing and the CPU deaf while it erases."""
    data = _image(40_001)
    board = _board(baudrate=baudrate, profile=profile)
    host = virtual.VirtualHost(board, baudrate=baudrate)
    upload = host.upload(data, limits=Limits(max_packet=PROFILES[profile].receive_size - 4))
    assert (upload.counters.retries, upload.counters.resyncs, upload.counters.stale) == (0, 0, 0)
    assert board.read_flash(0x10000, len(data)) == data
    if PROFILES[profile].hash:
        assert host.images().find().hash == parse(data).hash


def test_a_reset_in_the_middle_starts_again() -> None:
    """The bootloader loses its state, asks for offset 0, and the upload ends as it should."""
    data = _image(20_000)
    board = _board()
    host = virtual.VirtualHost(board)

    def reset_once(upload) -> None:
        if upload.acknowledged > 9_000 and not upload.counters.restarts:
            board.machine.synchronize()
            board.chip.drive_nreset("line", low=True)
            board.chip.drive_nreset("line", low=False)

    upload = host.upload(data, each=reset_once)
    assert upload.counters.restarts == 1
    assert host.images().find().hash == parse(data).hash


def test_time_on_the_wire_is_what_the_baud_rate_says() -> None:
    """The virtual duration of an upload lies just above its wire and flash time."""
    data = _image(40_000)
    board = _board()
    host = virtual.VirtualHost(board)
    began = host.now
    upload = host.upload(data)
    wire = len(data) / upload.counters.largest_chunk * 1397 * 10 / 115200  # 11 full lines carry 992 bytes
    pages = -(-len(data) // 4096) + 1
    flash = pages * 87.5e-3 + len(data) / 4 * 43e-6
    assert wire + flash < host.now - began < (wire + flash) * 1.08
