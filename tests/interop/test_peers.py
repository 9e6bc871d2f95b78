"""Other people's SMP hosts, unmodified, update the simulated board: what they expect of MCUboot holds for it too.

The sizes of chunks are those that the same versions of these hosts chose when they uploaded to MCUboot's own
boot_serial.c built for a PC; they vary with the length of the offset. From other answers a host would choose others.
"""

import hashlib
from typing import NamedTuple

import firmware
import peers
import pytest
import simulator

from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp.codec import decode
from pytest_nrfdfu.smp.header import Group, ImageCommand, Op

PACE = {
    "ncs-2.6": ("--baudrate", "1000000"),  # the datasheet's flash timing, and bytes are lost while flash erases
    "mcuboot-main": ("--baudrate", "0", "--flash-timing", "none"),
}


class Habits(NamedTuple):
    """What a host does."""

    chunk: range
    """Bytes in a chunk, first and last apart."""
    others: int
    """Requests beside the upload: the image list, and the params wherever it connects and asks for them."""


HABITS = {
    ("ncs-2.6", "smpclient"): Habits(range(144, 147), 2),
    ("ncs-2.6", "smpmgr"): Habits(range(144, 147), 3),
    ("ncs-2.6", "mcumgr-toolkit"): Habits(range(350, 351), 1),
    ("ncs-2.6", "mcumgr-client"): Habits(range(331, 333), 1),
    ("mcuboot-main", "smpclient"): Habits(range(994, 997), 2),
    ("mcuboot-main", "smpmgr"): Habits(range(144, 147), 3),
    ("mcuboot-main", "mcumgr-toolkit"): Habits(range(350, 351), 1),
    ("mcuboot-main", "mcumgr-toolkit-negotiating"): Habits(range(988, 991), 2),
    ("mcuboot-main", "mcumgr-client"): Habits(range(331, 333), 1),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("peers") / "app.signed.bin"
    path.write_bytes(firmware.signed_app("3.1.4"))
    return path


def chunk_sizes(exchanges):
    """The sizes of upload chunks; without the first, which carries more keys, and the last, which is what was left."""
    received = [decode(e.data) for e in exchanges if (e.direction, e.kind) == ("to board", "packet")]
    uploads = [message.payload for message in received if is_upload(message.header)]
    return {len(payload["data"]) for payload in uploads[:-1] if payload["off"]}


def is_upload(header):
    return (header.op, header.group, header.command) == (Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD)


@pytest.mark.parametrize(("bootloader", "peer"), HABITS)
def test_a_peer_uploads_an_image_and_reads_its_hash_back(bootloader, peer, image):
    version = peers.version(peer)
    if version is None:
        firmware.unavailable(f"the package {peers.PEERS[peer][0]} is not installed")
    habits = HABITS[bootloader, peer]
    data = image.read_bytes()
    expected = mcuboot.parse(data).hash
    with (
        simulator.running("--stay-in-recovery", "--bootloader", bootloader, *PACE[bootloader]) as board,
        SimAdmin(board["admin"]) as admin,
    ):
        assert admin.flash_hash(slot=0).image_hash is None, "the board begins empty"

        outcome = peers.run(peer, board["uart"], 1_000_000, image)

        said = f"{peer} {version}:\n{outcome.output}\n{admin.counters()}"
        assert outcome.returncode == 0, said
        assert outcome.hash == expected, said
        held = admin.flash_hash(slot=0, size=len(data))
        assert held.sha256 == hashlib.sha256(data).digest(), said
        assert held.image_hash == expected
        counters = admin.counters()
        assert counters["uploads"] == 1, said
        assert counters["uart"]["overrun"] == 0, f"{peer} waits for each answer, so nothing can be lost:\n{said}"
        assert counters["requests"] - counters["upload_requests"] >= habits.others, said
        sizes = chunk_sizes(admin.exchanges())
        assert sizes, said
        assert sizes <= set(habits.chunk), f"{peer} {version} chose chunks of {sorted(sizes)} bytes"


def test_a_peer_that_does_not_come_to_an_end_is_ended(image):
    with (
        simulator.running("--stay-in-recovery", *PACE["ncs-2.6"]) as board,
        SimAdmin(board["admin"]) as admin,
    ):
        admin.hang()
        outcome = peers.run("mcumgr-toolkit", board["uart"], 1_000_000, image, deadline=1.0)
    assert outcome.returncode is None
