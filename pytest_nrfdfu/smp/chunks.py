"""Chunks of an upload: what the receiver takes, and how many bytes go well into one packet.

Source: MCUboot, boot/boot_serial/src/boot_serial.c (bs_upload) and boot/zephyr/serial_adapter.c (line buffers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import UploadRequest

__all__ = ["LATENCY", "RESPONSE_WIRE", "Chunk", "Limits", "chunk_size"]

RESPONSE_WIRE = 40
"""Bytes on the wire of an answer to a chunk."""
LATENCY = 2e-3
"""Seconds, about, from the end of an answer to the beginning of the next chunk: USB polls once a millisecond."""


class Chunk(NamedTuple):
    """One chunk on its way. `computed` is its round trip's time as far as it can be computed; times in seconds."""

    off: int
    size: int
    sequence: int
    packet: bytes
    computed: float
    sent_at: float
    deadline: float
    tries: int
    lines: int = 0
    """How many lines carry it."""

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.off + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the receiver takes. Sizes in bytes.

    `max_packet` is the largest SMP packet, header included. `align`: chunks are multiples of this except the last
    (MCUboot writes whole words only). `erases_at_start`: the chunk with offset 0 erases all pages. `repeat_image`: an
    image number other than 0 goes into every chunk, because MCUboot before v1.10.99-ncs1 (commit 6a8746d7) takes it
    from the chunk at hand, and 0 where there is none, and so would write all but the first chunk into the slot of
    image 0; newer ones look at it at offset 0 only. `line_buffers`: how many the receiver has, for a window; None: not
    known, so one chunk at a time.
    """

    max_packet: int = 1020
    line_length: int = console.LINE_LENGTH
    align: int = 4
    erases_at_start: bool = False
    repeat_image: bool = False
    first_erase: float = 0.0
    """How many times the data sheet's time the erase of as many pages as the data need, and the trailer's, may take,
    which an application does before it answers the chunk with offset 0 (Zephyr, img_mgmt.c); 0: it does not."""
    patience: float = 0.0
    """Seconds of allowance at least: an application erases a page with a chunk that this host cannot tell."""
    last_delay: float = 0.0
    """Seconds more that the answer to the last chunk may take."""
    line_buffers: int | None = None
    slot_size: int = 0x70000
    """What `erases_at_start` erases; the nRF5340 DK's slot by default (Zephyr, nrf5340_cpuapp_partition.dtsi)."""
    window: int = 2
    """Chunks in flight at most, where `line_buffers` allow any."""
    flow_control: bool = False
    """The link's hardware stops the host while the receiver cannot take bytes."""
    trial: bool = False
    """The window was not measured on this receiver yet: one loss ends it."""
    trial_carried: int = 0
    """Bytes that earlier uploads carried on trial without a loss."""


def _byte_string(size: int) -> int:
    """Bytes of a CBOR byte string of `size` bytes (RFC 8949, section 3.1)."""
    return size + (1 if size < 24 else 2 if size < 0x100 else 3 if size < 0x10000 else 5)


def chunk_size(request: UploadRequest, cap: int, limits: Limits, left: int) -> int:
    """How many of the `left` bytes to send with `request` (whose data is empty) in a packet of at most `cap` bytes.

    Among the largest packet and those that just fill their last line, the one that carries most data for its time on
    the wire. The result is a multiple of `limits.align`, unless it is all that is left.
    """
    best, best_rate = 0, 0.0
    overhead = len(encode(request, 0)) - _byte_string(0)
    full_lines = (console.max_packet(n, limits.line_length) for n in range(1, console.line_count(cap) + 1))
    for packet in (cap, *(size for size in full_lines if size <= cap)):
        size = packet - overhead
        while size > 0 and overhead + _byte_string(size) > packet:
            size -= 1
        size = min(left, size)
        if size < left:
            size -= size % limits.align
        if size <= 0:
            continue
        wire = console.wire_size(overhead + _byte_string(size), limits.line_length)
        rate = size / (wire + RESPONSE_WIRE)
        if rate > best_rate:
            best, best_rate = size, rate
    return best
