"""What bytes and registers show, in a word or a yes or no; facts alone, no conclusions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header, Op

__all__ = ["causes_in_words", "damaged_banner", "echoes_requests", "readable"]

_LEAST_TEXT = 8
"""Fewer bytes than this say nothing about the baud rate: a reset of an adapter makes one or two."""
_READABLE_SHARE = 0.9
_SMP_MARKS = b"\x06\x09\x04\x14"
"""The bytes that begin a line of SMP (Zephyr, smp_transport.rst): beside text nothing else is expected."""
_TEXT = frozenset(range(0x20, 0x7F)) | frozenset(b"\r\n\t\b\x1b") | frozenset(_SMP_MARKS)

_BANNER = "*** Booting "
"""How Zephyr's, nRF Connect SDK's and MCUboot's banners begin (Zephyr, kernel/banner.c)."""
_ALIKE = 0.8
"""Two of its characters lost leave 0.83, and "I: Booting " of a log has 0.75; a judgement."""

_CAUSES = {
    0: "reset pin",
    1: "watchdog 0",
    2: "CTRL-AP",
    3: "soft reset",
    4: "lockup",
    5: "wake-up from off",
    6: "LPCOMP",
    7: "debug interface",
    24: "NFC",
    25: "watchdog 1",
    26: "USB",
}
"""Bits of RESETREAS (nRF5340 product specification, RESET)."""


def readable(data: bytes) -> bool | None:
    """Whether bytes are text or SMP as a console shows them; None: too few to say."""
    if len(data) < _LEAST_TEXT:
        return None
    return sum(byte in _TEXT for byte in data) >= _READABLE_SHARE * len(data)


def damaged_banner(text: str, banner: str) -> str:
    """The first line that is Zephyr's boot banner with some characters lost or changed; empty if there is none.

    `banner`: the regular expression of a whole one.
    """
    for line in text.splitlines():
        start = line.strip()[: len(_BANNER)]
        alike = SequenceMatcher(None, start, _BANNER, autojunk=False).ratio()
        cut_short = _BANNER.startswith(start)  # whoever looks may look before all of it has come
        if alike >= _ALIKE and not (cut_short or start.startswith(_BANNER)) and re.search(banner, line) is None:
            return line.strip()
    return ""


def echoes_requests(received: bytes) -> bool:
    """Whether requests came in, which only a host sends: the host's own, over wires that are joined."""
    return any(Header.unpack(packet).op in {Op.READ, Op.WRITE} for packet in _packets(received))


def _packets(data: bytes) -> Iterable[bytes]:
    for event in console.Decoder().feed(data):
        if isinstance(event, console.Packet) and len(event.data) >= HEADER_SIZE:
            yield event.data


def causes_in_words(value: int) -> str:
    """RESETREAS in words."""
    return ", ".join(name for bit, name in _CAUSES.items() if value >> bit & 1) or "power-on, or cleared since"
