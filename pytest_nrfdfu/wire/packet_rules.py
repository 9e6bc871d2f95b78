"""The rules that a host's packets and its course follow: what the bytes of an example alone do not say.

Sources: Zephyr, doc/services/device_mgmt/smp_transport.rst (lines, CRC), smp_protocol.rst (header) and
smp_groups/smp_group_1.rst (upload); RFC 8949, section 3 (CBOR); MCUboot, boot/boot_serial/src/boot_serial.c and
boot/zephyr/Kconfig.serial_recovery (limits); nRF5340 product specification, NVMC (times).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Note", "notes"]

_TWO_BYTES = 0xFFFF


class Note(NamedTuple):
    """One rule: what it is about, and what it says."""

    about: str
    says: str


def notes(digest: bytes, last_offset: int, largest: int) -> list[Note]:
    """The rules, in the order in which a host's author needs them.

    `digest`: the image's hash; `last_offset`: of its last chunk; `largest`: bytes of the largest packet.
    """
    far = " (the last chunk here has such an off)" if last_offset > _TWO_BYTES else ""
    return [
        Note("packet", "8 bytes of SMP header and a payload, one CBOR map (a0 where a request has no keys)"),
        Note("frame", "2 bytes of length, the packet, 2 bytes of CRC; the length counts packet and CRC, not itself"),
        Note(
            "CRC",
            "CRC-16/XMODEM of the packet: polynomial 0x1021, initial value 0, nothing reflected, no final XOR; of the "
            "ASCII characters 123456789 it is 31 c3",
        ),
        Note("byte order", "high byte first: in length, CRC, header and CBOR"),
        Note(
            "lines",
            "the whole frame is encoded in base64 once; the text is cut into lines of at most 124 characters, a "
            "multiple of four; the first begins with 06 09, the others with 04 14, and each ends with 0a alone: 127 "
            "bytes at most",
        ),
        Note(
            "CBOR",
            "a head says type and size. Numbers: 00 to 17 in one byte, then 18, 19, 1a with one, two, four bytes"
            f"{far}; 1b is refused. Byte strings: 40 to 57, 58 and 59 with one and two bytes of size. Text: 60 and its "
            "size. Maps: a0 and the number of pairs; keys in any order",
        ),
        Note(
            "answers",
            "maps as bf ... ff and lists as 9f ... ff, ended by ff: read both forms, and pass over keys that are not "
            "known. They are what MCUboot of nRF Connect SDK 2.6 sends; others may leave out or add keys",
        ),
        Note(
            "sequence",
            "any number; the next request has one more, 0 behind 255. The answer has its request's: pass over those "
            "with another",
        ),
        Note(
            "size",
            f"a packet has at most {largest} bytes where CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE is 1024, the default; "
            "send the next request when the last one is answered",
        ),
        Note(
            "time-out",
            "2 s for any request; 20 s for the first chunk, before which the whole slot may be erased",
        ),
        Note(
            "silence",
            "a frame that it cannot read is not answered, not even with an error. After the time-out send 0a alone, "
            "which ends what may be left of a line, and the request again; the answer's off says where to continue. "
            "After several times in vain the frame is wrong, or nothing is there: nrfdfu trace lint tells",
        ),
        Note("rc", "an rc other than 0 means refused: stop and report it, sending again does not help"),
        Note(
            "proof",
            "the hash in the last list is the one that the signed image holds (as TLV 0x10, where it is a SHA-256); "
            f"compare all its bytes: {digest.hex()}",
        ),
    ]
