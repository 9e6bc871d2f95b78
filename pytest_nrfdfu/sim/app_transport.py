"""How a Zephyr application receives SMP over its UART: lines, a pool of packet buffers, a queue. Sans-IO.

The UART's interrupt collects lines of up to 128 bytes (CONFIG_UART_MCUMGR_RX_BUF_SIZE); a longer one is dropped. The
system work queue decodes them at once into a packet buffer, which it takes when a packet's first line comes. A line
that finds no free buffer is dropped without a word, and so is whatever does not fit the buffer: length, packet and CRC,
which leaves 380 bytes of 384 for a packet. Complete packets wait for the SMP work queue, each in its buffer.

Zephyr has two line buffers. They are not modelled: decoding takes no time worth counting, and while flash is erased no
byte is received at all.

Sources: Zephyr, drivers/console/uart_mcumgr.c, subsys/mgmt/mcumgr/transport/src/serial_util.c, smp_uart.c and smp.c
(smp_packet_alloc, smp_alloc_rsp: one pool for requests and responses), and the defaults of their Kconfig.
CONFIG_MCUMGR_TRANSPORT_UART_MTU (256) is not here because nothing on a UART is limited by it: only before MCUmgr moved
into Zephyr's tree were responses cut into packets of that size.
"""

from __future__ import annotations

from collections import deque

from pytest_nrfdfu.sim.console_rx import base64_decode
from pytest_nrfdfu.smp.console import CONTINUATION, START, crc16

__all__ = ["BUFFER_COUNT", "BUFFER_SIZE", "BufferPool", "RequestQueue"]

BUFFER_SIZE, BUFFER_COUNT = 384, 4
"""CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE (bytes) and _COUNT."""
_LINE_SIZE = 128
"""CONFIG_UART_MCUMGR_RX_BUF_SIZE: bytes, the newline included."""
_LENGTH_SIZE = _CRC_SIZE = 2


class BufferPool:
    """So many packet buffers, for requests and responses alike."""

    def __init__(self, count: int = BUFFER_COUNT) -> None:
        self.free = count

    def take(self) -> bool:
        """Take a buffer; False if there is none."""
        if self.free == 0:
            return False
        self.free -= 1
        return True

    def give(self) -> None:
        """Give one back."""
        self.free += 1


class RequestQueue:
    """Lines from the UART in, whole request packets out. Each packet holds a buffer of `pool`, which its user frees."""

    def __init__(self, pool: BufferPool, size: int = BUFFER_SIZE) -> None:
        self._pool = pool
        self._size = size
        self._line = bytearray()
        self._ignoring = False
        self._packet: bytearray | None = None
        self._expected = 0
        self._ready: deque[bytes] = deque()
        self.dropped = 0
        """Lines with a packet's markers that found no buffer."""

    def __len__(self) -> int:
        return len(self._ready)

    def take(self) -> bytes:
        """The oldest packet, without length and CRC; IndexError if there is none."""
        return self._ready.popleft()

    def feed(self, data: bytes) -> None:
        """Bytes from the UART."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._feed_piece(line + b"\n")
        self._feed_piece(rest)

    def _feed_piece(self, piece: bytes) -> None:
        """Bytes of one line; only the last may be its newline."""
        if not self._ignoring:
            self._line += piece
            if len(self._line) > _LINE_SIZE:
                self._line.clear()
                self._ignoring = True
        if piece.endswith(b"\n"):
            line, self._line = bytes(self._line), bytearray()
            if not self._ignoring:
                self._take_line(line)
            self._ignoring = False

    def _take_line(self, line: bytes) -> None:
        """mcumgr_serial_process_frag. A buffer once taken is kept until a packet is complete or a frame was bad."""
        marker = line[: len(START)]
        if self._packet is None:
            if not self._pool.take():
                self.dropped += marker in (START, CONTINUATION)
                return
            self._packet = bytearray()
        if marker == START:
            self._packet.clear()
            self._expected = 0
        elif marker != CONTINUATION:
            return  # text
        elif len(self._packet) <= _LENGTH_SIZE:
            self._drop()
            return
        self._decode(self._packet, line[len(marker) :].rstrip(b"\r\n"))

    def _decode(self, packet: bytearray, text: bytes) -> None:
        first = not packet
        data = base64_decode(text, self._size - len(packet))
        if data is None or (first and len(data) < _LENGTH_SIZE):
            self._drop()
            return
        packet += data
        if first:
            self._expected = _LENGTH_SIZE + int.from_bytes(packet[:_LENGTH_SIZE], "big")
        if len(packet) < self._expected:
            return
        content = bytes(packet[_LENGTH_SIZE:])
        if len(packet) > self._expected or crc16(content) != 0:
            self._drop()
            return
        self._packet = None
        self._ready.append(content[:-_CRC_SIZE])

    def _drop(self) -> None:
        self._packet = None
        self._pool.give()
