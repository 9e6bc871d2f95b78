"""Other people's SMP hosts, unmodified, update the simulated board through its running application.

What they achieve is looked up in the board's flash after each step, and not taken from their word.
"""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import firmware
import peer_trials
import peers
import pytest
import simulator

from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.sim_admin import SimAdmin

SCRIPT = Path(peer_trials.__file__)
BAUDRATE = 1_000_000
SIZE = 9000
"""Bytes of the images: three pages, so that a swap takes a second."""
PEERS = ("smpclient", "smpmgr", "mcumgr-toolkit")
AT_ONCE = {"smpmgr": "set", "mcumgr-toolkit": "unset"}
"""Those with one command for upload, mark and reset, and the image_ok flag after it. smpmgr's ``upgrade --confirm``
makes the image stay, mcumgr-toolkit's ``firmware_update`` is for a test. smpclient has no such command."""


@contextmanager
def listening(board):
    """The tests' own host on the board's UART, at its rate."""
    with simulator.Host(board["uart"]) as host:
        host.port.baudrate = BAUDRATE
        yield host


class Bench:
    """A simulated board that runs an old image, and a peer that is to bring a new one."""

    def __init__(self, board, admin, peer, image):
        self._board = board
        self._peer = peer
        self._image = image
        self.admin = admin
        self.old = admin.flash_hash(slot=0).image_hash
        self.new = mcuboot.parse(image.read_bytes()).hash
        assert self.old not in {None, self.new}

    def let(self, step):
        """Let the peer take a step; its output and the board's counters, for what is asserted next."""
        outcome = peers.run_script(SCRIPT, self._peer, step, self._board["uart"], BAUDRATE, self._image)
        said = f"{self._peer} {peers.version(self._peer)}, {step}:\n{outcome.output}\n{self.admin.counters()}"
        assert outcome.returncode == 0, said
        return said

    def assert_holds(self, slot, digest, said):
        held = self.admin.flash_hash(slot=slot)
        assert (held.image_hash, held.valid) == (digest, True), said

    def assert_new_is_whole(self, slot, said):
        data = self._image.read_bytes()
        held = self.admin.flash_hash(slot=slot, size=len(data))
        assert held.sha256 == hashlib.sha256(data).digest(), said

    def restart(self):
        """Press the reset button, and wait for the application's banner."""
        with listening(self._board) as host:
            self.admin.press_reset()
            host.expect(b"nrfdfu-sim: application")


@pytest.fixture
def bench(request, tmp_path):
    peer = request.param
    if peers.version(peer) is None:
        firmware.unavailable(f"the package {peers.PEERS[peer][0]} is not installed")
    old, new = tmp_path / "old.signed.bin", tmp_path / "new.signed.bin"
    old.write_bytes(simulator.make_image("1.0.0", SIZE))
    new.write_bytes(simulator.make_image("2.0.0", SIZE))
    options = ("--application-smp", "full", "--baudrate", BAUDRATE, "--image", old)
    with simulator.running(*options) as board, SimAdmin(board["admin"]) as admin:
        with listening(board) as host:
            host.images()  # it runs
        yield Bench(board, admin, peer, new)


def assert_runs(bench, said, *, image_ok):
    """The new image in slot 0, the old one in slot 1 for the way back."""
    bench.assert_holds(0, bench.new, said)
    bench.assert_new_is_whole(0, said)
    bench.assert_holds(1, bench.old, said)
    assert bench.admin.trailer(0)["image_ok"] == image_ok, said


def assert_stays(bench, said):
    """After one more reset as well."""
    assert bench.admin.trailer(0)["image_ok"] == "set", said
    bench.restart()
    bench.assert_holds(0, bench.new, said)


@pytest.mark.parametrize("bench", PEERS, indirect=True)
def test_a_peer_stages_starts_and_confirms_an_image(bench):
    said = bench.let("stage")
    bench.assert_new_is_whole(1, said)
    assert bench.admin.trailer(1)["swap_type"] == "test", said
    bench.assert_holds(0, bench.old, said)

    assert_runs(bench, bench.let("start"), image_ok="unset")
    assert_stays(bench, bench.let("keep"))


@pytest.mark.parametrize(("bench", "image_ok"), AT_ONCE.items(), indirect=["bench"])
def test_a_peer_updates_with_one_command(bench, image_ok):
    said = bench.let("update")
    assert_runs(bench, said, image_ok=image_ok)
    assert_stays(bench, said if image_ok == "set" else bench.let("keep"))


@pytest.mark.parametrize("bench", ["smpclient"], indirect=True)
def test_what_a_peer_does_not_confirm_goes_at_the_next_reset(bench):
    bench.let("stage")
    said = bench.let("start")
    bench.restart()
    bench.assert_holds(0, bench.old, said)
