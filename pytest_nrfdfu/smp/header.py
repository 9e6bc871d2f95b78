"""The SMP header: eight bytes in front of every message.

::

    byte 0     reserved (3 bits), version (2 bits), op (3 bits)
    byte 1     flags
    bytes 2-3  length of the payload, big-endian
    bytes 4-5  group, big-endian
    byte 6     sequence
    byte 7     command id

Source: Zephyr, doc/services/device_mgmt/smp_protocol.rst.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from pytest_nrfdfu.errors import SmpMalformed

__all__ = ["HEADER_SIZE", "Group", "Header", "ImageCommand", "Op", "OsCommand", "split"]

_STRUCT = struct.Struct(">BBHHBB")
HEADER_SIZE = _STRUCT.size


class Op(IntEnum):
    """Operation; a response's is its request's plus one."""

    READ = 0
    READ_RESPONSE = 1
    WRITE = 2
    WRITE_RESPONSE = 3


class Group(IntEnum):
    """Command groups that this package speaks."""

    OS = 0
    IMAGE = 1


class OsCommand(IntEnum):
    """Commands of the OS group (smp_group_0.rst)."""

    ECHO = 0
    RESET = 5
    PARAMS = 6
    BOOTLOADER_INFO = 8


class ImageCommand(IntEnum):
    """Commands of the image group (smp_group_1.rst)."""

    STATE = 0
    UPLOAD = 1
    ERASE = 5
    SLOT_INFO = 6


class Header(NamedTuple):
    """One SMP header. `version` is 0 for SMP v1 and 1 for SMP v2."""

    op: int
    group: int
    command: int
    sequence: int
    length: int
    version: int = 1
    flags: int = 0

    def pack(self) -> bytes:
        """The eight bytes; ValueError where a field does not fit."""
        if not (0 <= self.op <= 7 and 0 <= self.version <= 3):
            raise ValueError(f"op {self.op} or version {self.version} does not fit the SMP header")
        try:
            return _STRUCT.pack(
                self.version << 3 | self.op, self.flags, self.length, self.group, self.sequence, self.command
            )
        except struct.error as error:
            raise ValueError(f"{self!r} does not fit the SMP header: {error}") from None

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Read the first eight bytes of `data`; SmpMalformed if there are fewer."""
        if len(data) < HEADER_SIZE:
            raise SmpMalformed(f"an SMP message has at least {HEADER_SIZE} bytes, this one has {len(data)}")
        first, flags, length, group, sequence, command = _STRUCT.unpack_from(data)
        return cls(
            op=first & 7,
            group=group,
            command=command,
            sequence=sequence,
            length=length,
            version=first >> 3 & 3,
            flags=flags,
        )

    def response(self, length: int) -> Header:
        """The header of this request's response: op plus one, flags 0, version, sequence, group and id echoed."""
        return self._replace(op=self.op + 1, flags=0, length=length)


def split(packet: bytes) -> tuple[Header, bytes]:
    """Header and payload of one whole SMP packet; SmpMalformed if the length field does not agree with the bytes."""
    header = Header.unpack(packet)
    payload = packet[HEADER_SIZE:]
    if header.length != len(payload):
        raise SmpMalformed(
            f"the SMP header says {header.length} bytes of payload, {len(payload)} came: {packet.hex(' ')}"
        )
    return header, payload
