"""Finding out how large a packet a bootloader takes that does not say it, without touching what is on the board.

Asked is for the image list, in a request padded to the size in question: the bootloader does not look at the map of
such a request (MCUboot, boot/boot_serial/src/boot_serial.c, bs_list), and drops one that does not fit its buffer
without a word. Never an upload request: one that fits would begin an upload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nrfdfu.errors import SmpError, SmpTimeout
from pytest_nrfdfu.smp.codec import Map
from pytest_nrfdfu.smp.console import FRAME_OVERHEAD
from pytest_nrfdfu.smp.header import HEADER_SIZE
from pytest_nrfdfu.smp.messages import ImageStateRead

if TYPE_CHECKING:
    from pytest_nrfdfu.board.client import SmpClient

__all__ = ["PaddedImageStateRead", "find_packet_size"]

_BUFFERS = (4096, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
"""Bytes of the buffers that people configure (CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE: 1024 by default, 512 before)."""
_SIZES = tuple(size - FRAME_OVERHEAD for size in _BUFFERS)
"""Packets to ask with, in bytes. Length and CRC lie in the buffer as well (boot_serial.c, boot_serial_in_dec)."""
_MAP_AND_KEY = 2
"""Bytes of CBOR: a map of one entry, and an empty text."""
_TRIES = 2
_TIMEOUT = 1.5
"""Seconds for all tries of one request. To list images their hashes are computed, which takes some 0.1 s."""


@dataclass(frozen=True, slots=True)
class PaddedImageStateRead(ImageStateRead):
    """A request for the image list that is `size` bytes long, header included."""

    size: int = 0

    def payload(self) -> Map:
        """One key that means nothing, and zeros in a byte string, whose own size has 0 to 2 bytes (RFC 8949)."""
        room = self.size - HEADER_SIZE - _MAP_AND_KEY
        head = 1 if room <= 24 else 2 if room <= 257 else 3
        return {"": bytes(max(0, room - head))}


def find_packet_size(client: SmpClient, refused: int) -> int | None:
    """The largest packet (bytes, header included) below `refused` that is answered.

    None if that cannot be said: a small request meets silence as well, or one of `refused` bytes is answered after all.
    """
    if not _answered(client, ImageStateRead()) or _answered(client, PaddedImageStateRead(refused)):
        return None
    return next((size for size in _SIZES if size < refused and _answered(client, PaddedImageStateRead(size))), None)


def _answered(client: SmpClient, request: ImageStateRead) -> bool:
    try:
        client.request(request, tries=_TRIES, timeout=_TIMEOUT)
    except SmpTimeout:
        return False
    except SmpError:
        return True  # whatever it says, it has read the request
    return True
