"""How MCUboot receives SMP over a console: line buffers, base64 line by line, and one packet buffer.

`LineBuffers` is the interrupt's side (boot/zephyr/serial_adapter.c), `PacketReceiver` the reader's
(boot_serial_read_console and boot_serial_in_dec in boot/boot_serial/src/boot_serial.c). Both are far less forgiving
than the client's decoder in `pytest_nrfdfu.smp.console`, and not in the way one would guess: hence apart.
"""

from __future__ import annotations

import binascii
from collections import deque

from pytest_nrfdfu.smp.console import CONTINUATION, START, crc16

__all__ = ["LineBuffers", "PacketReceiver", "base64_decode"]

_NEWLINE = 0x0A
_LENGTH_SIZE = 2
_CRC_SIZE = 2
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_DROP_ALPHABET = bytes(_ALPHABET)
_MAX_PADDING = 2


class LineBuffers:
    """A fixed number of line buffers, filled by the UART interrupt and emptied by the main loop.

    A line takes a buffer with its first byte. Of a line that is longer than a buffer the rest is dropped. Bytes that
    come while no buffer is free are dropped; the line goes on with the next byte that finds one. The reader keeps the
    buffer of the line it has taken until it asks for the next: of eight buffers, seven can wait behind a command.
    """

    def __init__(self, count: int, length: int) -> None:
        self._length = length
        self._free = count
        self._lines: deque[bytes] = deque()
        self._current: bytearray | None = None
        self._held = False
        self.dropped = 0
        """Lines whose bytes were dropped, in part or in whole, because no buffer was free."""
        self._dropping = False

    def __len__(self) -> int:
        return len(self._lines)

    def feed(self, data: bytes) -> None:
        """Bytes from the UART."""
        position = 0
        while position < len(data):
            end = data.find(b"\n", position) + 1 or len(data)
            self._feed_piece(data[position:end])
            position = end

    def _feed_piece(self, piece: bytes) -> None:
        """Bytes of one line; only the last one may be a newline."""
        complete = piece[-1] == _NEWLINE
        if self._current is None:
            if self._free == 0:
                # Nothing frees a buffer while the interrupt runs, so the whole piece is lost.
                if not self._dropping:
                    self.dropped += 1
                self._dropping = not complete
                return
            self._free -= 1
            self._current = bytearray()
        self._dropping = False
        self._current += piece[: self._length - len(self._current)]
        if complete:
            self._lines.append(bytes(self._current))
            self._current = None

    def take(self) -> bytes | None:
        """The oldest line, newline included unless it was cut off, or None. Gives back the buffer taken before."""
        if self._held:
            self._held = False
            self._free += 1
        if not self._lines:
            return None
        self._held = True
        return self._lines.popleft()


def base64_decode(text: bytes, capacity: int) -> bytes | None:
    """What Zephyr's base64_decode writes into `capacity` bytes (lib/os/base64.c); None where it refuses.

    Spaces at the end are skipped. Characters that do not fill a group of four are lost without an error. Padding is
    not required, but nothing may follow it. The room is checked against the count before that loss.
    """
    text = text.rstrip(b" ")
    data = text.rstrip(b"=")
    padding = len(text) - len(data)
    if padding > _MAX_PADDING or data.translate(None, _DROP_ALPHABET):
        return None
    whole, rest = divmod(len(text), 8)
    if capacity < 6 * whole + (6 * rest + 7) // 8 - padding:
        return None
    groups = len(text) - len(text) % 4
    cut = max(0, groups - len(data))  # padding within the whole groups
    decoded = binascii.a2b_base64(data[:groups] + b"A" * cut)
    return decoded[: len(decoded) - cut]


class PacketReceiver:
    """Puts lines together to packets, in a buffer of CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE + 1 bytes.

    The buffer is not cleared when a packet is complete: a continuation line that follows is appended to it, over the
    packet's CRC. And the response is built by changing the request's header in the buffer, hence `buffer` is public.
    """

    HEADER_AT = _LENGTH_SIZE
    """Where in the buffer a packet begins."""

    def __init__(self, receive_size: int) -> None:
        self._size = receive_size + 1
        self._used = 0
        self.buffer = bytearray(self._size)

    def take_line(self, line: bytes) -> bytes | None:
        """The packet that `line` completes (header and payload), or None."""
        # A line longer than the input buffer (which also takes a final zero) loses its end.
        line = line[: self._size - 1]
        if line.startswith(START):
            self._used = 0
        elif not line.startswith(CONTINUATION):
            return None
        decoded = base64_decode(line[2:-1], self._size - self._used)
        if decoded is None:
            return None
        end = self._used + len(decoded)
        self.buffer[self._used : end] = decoded
        self._used = end
        if end <= _LENGTH_SIZE or int.from_bytes(self.buffer[:_LENGTH_SIZE], "big") != end - _LENGTH_SIZE:
            return None
        body = bytes(self.buffer[_LENGTH_SIZE:end])
        if crc16(body) or len(body) <= _CRC_SIZE:
            return None
        self._used -= _CRC_SIZE
        return body[:-_CRC_SIZE]
