"""The speed that a host has set on its end of a pseudo-terminal (Linux: struct termios2, which has it as a number).

Source: Linux, include/uapi/asm-generic/termbits.h and ioctls.h. Elsewhere, or where the call fails, it is not known.
"""

from __future__ import annotations

import fcntl
import struct
from contextlib import suppress

__all__ = ["host_rate", "set_host_rate"]

_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_TERMIOS2 = struct.Struct("=4I20B2I")
"""c_iflag, c_oflag, c_cflag, c_lflag; c_line and c_cc[19]; c_ispeed, c_ospeed."""
_CFLAG, _INPUT_SPEED, _OUTPUT_SPEED = 2, -2, -1
_CBAUD, _BOTHER = 0o010017, 0o010000


def _read(terminal: int) -> list[int]:
    return list(_TERMIOS2.unpack(fcntl.ioctl(terminal, _TCGETS2, bytes(_TERMIOS2.size))))


def host_rate(terminal: int) -> int | None:
    """Baud, as set on the terminal; None where the system does not tell."""
    try:
        return int(_read(terminal)[_OUTPUT_SPEED]) or None
    except OSError:
        return None


def set_host_rate(terminal: int, rate: int) -> None:
    """Set it, so that a host that sets none has the board's."""
    with suppress(OSError):
        settings = _read(terminal)
        settings[_CFLAG] = settings[_CFLAG] & ~_CBAUD | _BOTHER
        settings[_INPUT_SPEED] = settings[_OUTPUT_SPEED] = rate
        fcntl.ioctl(terminal, _TCSETS2, _TERMIOS2.pack(*settings))
