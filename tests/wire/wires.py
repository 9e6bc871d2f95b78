"""Captures for the tests of `wire`, made of the vectors that others reported and of whole uploads."""

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.wire.capture import Capture, Chunk, Direction
from pytest_nrfdfu.wire.packets import Upload, exchanges

LIST = b"\x06\x09AAsAAAABAAFCAKD1Mw==\n"
"""Image list, SMP version 1, sequence 0x42."""
RESET = b"\x06\x09AAsCAAABAACKBaA1Qw==\n"
"""Reset as the mcumgr command line sends it (Nordic DevZone, case 102545)."""
RESET_PACKET = bytes.fromhex("02 00 0001 0000 8a 05 a0")
RC_8 = b"\x06\x09ABADAAAGAAABBr9icmMI/wMu\n"
"""MCUboot to a command that it does not know."""
OFF_12 = b"\x06\x09ABUDAAALAAGnAb9icmMAY29mZgz/AO4=\n"
"""MCUboot to the first 12 bytes of an upload (Nordic DevZone, case 124561)."""

UPLOAD = Upload(bytes(range(256)) * 4, "1.2.3", bytes(32), chunk=512)
"""1024 bytes in two chunks."""


def capture(*sent: tuple[Direction, bytes], every: float = 0.05) -> Capture:
    """The chunks, one every 50 ms."""
    return Capture(
        tuple(Chunk(round(index * every, 6), direction, data) for index, (direction, data) in enumerate(sent)), "a test"
    )


def host(*packets: bytes) -> Capture:
    """What a host sent alone: packets, framed as they should be."""
    return capture(*(("tx", console.encode(packet)) for packet in packets))


def update(upload: Upload = UPLOAD) -> Capture:
    """A whole update with the board's answers."""
    return capture(
        *(pair for one in exchanges(upload) for pair in (("tx", one.request), ("rx", one.response))),
    )
