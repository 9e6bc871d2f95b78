"""The debug stub of an emulator: its memory read and written, the processor stopped, stepped and reset.

The GDB remote serial protocol, as much of it as QEMU's stub needs (GDB manual, appendix E).
"""

import socket
import time

_PIECE = 1024
"""Bytes of memory in one packet; QEMU's stub takes packets of 4096 characters."""
_PATIENCE = 20.0
_INTERRUPT = b"\x03"
_OK = b"OK"


class GdbStub:
    """A connection to the stub at `port` of 127.0.0.1. The processor is stopped while the connection is made."""

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an acknowledgement is sent on its own
        self._socket.settimeout(_PATIENCE)
        self._received = b""

    def close(self) -> None:
        self._socket.close()

    def command(self, text: bytes) -> bytes:
        self._send(text)
        return self._receive()

    def read(self, address: int, size: int) -> bytes:
        pieces = []
        for start in range(address, address + size, _PIECE):
            count = min(_PIECE, address + size - start)
            pieces.append(bytes.fromhex(self.command(b"m%x,%x" % (start, count)).decode()))
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        """Write memory; flash as well, without its controller."""
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            answer = self.command(b"M%x,%x:%s" % (address + at, len(piece), piece.hex().encode()))
            assert answer == _OK, f"the emulator did not take {len(piece)} bytes at {address + at:#x}: {answer!r}"

    def reset(self) -> None:
        """Reset the chip. RAM and flash keep what `write` put there; the processor stays stopped."""
        self._send(b"qRcmd," + b"system_reset".hex().encode())
        while (answer := self._receive()) != _OK:
            assert answer.startswith(b"O"), answer

    def run(self) -> None:
        self._send(b"c")

    def stop(self) -> None:
        self._socket.sendall(_INTERRUPT)
        self._receive()

    def break_at_write(self, address: int, size: int = 4) -> None:
        """Stop when `size` bytes at `address` are written."""
        assert self.command(b"Z2,%x,%x" % (address, size)) == _OK

    def no_break_at_write(self, address: int, size: int = 4) -> None:
        assert self.command(b"z2,%x,%x" % (address, size)) == _OK

    def wait_stopped(self) -> None:
        """Wait until a processor that runs has come to a watchpoint."""
        self._receive()

    def _send(self, text: bytes) -> None:
        self._socket.sendall(b"$%s#%02x" % (text, sum(text) & 0xFF))

    def _receive(self) -> bytes:
        while True:
            self._received = self._received.lstrip(b"+")
            end = self._received.find(b"#")
            if end >= 0 and len(self._received) >= end + 3:
                packet, self._received = self._received[1:end], self._received[end + 3 :]
                self._socket.sendall(b"+")
                return packet
            more = self._socket.recv(65536)
            assert more, "the emulator has closed its debug stub"
            self._received += more


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
