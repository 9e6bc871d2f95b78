"""Overwrite-only with two images: MCUboot copies the application's, and b0n, told by MCUboot, the network core's."""

import random
import struct

import firmware
import pytest

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.pcd import APPLICATION_ADDRESS
from pytest_nrfdfu.sim.uart import UartConfig

DEADLINE = 60.0
APPLICATION, NETWORK = 1, 3
"""The secondary slots' numbers."""


def image(version, vector, slot_size):
    body = struct.pack("<II", 0x2101_0000, vector) + random.Random(version).randbytes(20_000)
    return firmware.sign(body, version, slot_size=slot_size)


OLD, NEW = (image(version, 0x0001_0401, 0x34000) for version in ("1.0.0", "2.0.0"))
NET = image("3.0.0", 0x0100_9001, 0x40000)
OTHER = image("3.1.0", 0x0002_0401, 0x40000)
"""Its vectors are the application core's, so b0n is not even asked."""


class Boots:
    """A board with two images, and what its UART said."""

    def __init__(self, *staged, swap="overwrite"):
        profile = BootloaderProfile(name="test", images=2, swap=swap)
        options = BoardOptions(
            profile=profile, image=OLD, network_core=True, bootloader_log=True, uart=UartConfig(baudrate=0)
        )
        self.board, self.now, self.text = SimBoard(options), 0.0, b""
        for number, data in staged:
            area = self.board.slot(number)
            self.board.chip.program(area.address, data.ljust(-(-len(data) // 4) * 4, b"\xff"))
            for effect in self.board._trailers.set_pending(area.image, permanent=False):
                self.board.chip.program(effect.address, effect.data)

    def run(self, until):
        """Until a moment of the firmware's; False if nothing happens any more."""
        machine = self.board.machine
        while not until():
            event = machine.next_event()
            if event is None:
                return False
            assert event < DEADLINE, "nothing comes of it"
            self.now = max(self.now, event)
            self.text += machine.advance(self.now)
        return True

    def boot(self):
        return self.run(lambda: self.board.program == "application" and self.board.machine.program.listening)

    def reset(self):
        self.text = b""
        self.board.chip.drive_nreset("test", low=True)
        self.board.chip.drive_nreset("test", low=False)
        return self

    @property
    def network(self):
        return self.board.counters()["network_core"]

    def holds(self, number, data):
        return self.board.read_flash(self.board.slot(number).address, len(data)) == data

    def network_flash_holds(self, data):
        header = parse(data).header
        body = data[header.hdr_size : header.hdr_size + header.img_size]
        return self.board.chip.read(APPLICATION_ADDRESS, len(body)) == body


def test_both_images_are_copied_at_one_boot():
    boots = Boots((APPLICATION, NEW), (NETWORK, NET))
    assert boots.boot()
    assert boots.holds(0, NEW)
    assert boots.network_flash_holds(NET)
    assert (boots.network["updates"], boots.network["version"]) == (1, "3.0.0")
    said = [line for line in boots.text.decode().splitlines() if "upgrade" in line or "type" in line]
    assert said == [
        "I: Image index: 0, Swap type: test",
        "I: Image index: 1, Swap type: test",
        "I: Image 0 upgrade secondary slot -> primary slot",
        "I: Image 1 upgrade secondary slot -> primary slot",
    ]
    assert boots.reset().boot()
    assert b"Swap type: test" not in boots.text
    assert boots.network["updates"] == 1


def test_the_network_core_alone():
    boots = Boots((NETWORK, NET))
    assert boots.boot()
    assert boots.holds(0, OLD)
    assert boots.network_flash_holds(NET)


def test_a_reset_while_the_network_core_copies_is_made_good():
    boots = Boots((APPLICATION, NEW), (NETWORK, NET))
    assert boots.run(lambda: boots.network["copying"] and boots.network["version"] is not None)
    assert not boots.network_flash_holds(NET)
    assert boots.reset().boot()
    assert boots.holds(0, NEW)
    assert boots.network_flash_holds(NET)


def test_an_image_for_the_other_core_stops_the_boot():
    """As an assertion does: MCUboot stands still, at every boot, until somebody replaces the image."""
    boots = Boots((NETWORK, OTHER))
    assert not boots.boot()
    assert boots.text.endswith(b"E: panic!\r\n")
    assert not boots.reset().boot()


@pytest.mark.parametrize("swap", ["move", "offset"])
def test_the_network_cores_image_is_never_swapped(swap):
    boots = Boots((NETWORK, NET), swap=swap)
    assert boots.boot()
    assert boots.network["updates"] == 0
    assert boots.holds(NETWORK, NET)
