"""Base64 read as far as it goes, and what is wrong with it where it does not."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

__all__ = ["GROUP", "Trouble", "decode"]

GROUP = 4
"""Characters that carry up to three bytes (RFC 4648, section 4)."""
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


class Trouble(NamedTuple):
    """What is wrong with base64 text, and the index of the character where it begins."""

    at: int
    detail: str


def decode(encoded: bytes) -> tuple[bytes, Trouble | None]:
    """What `encoded` holds, up to the first group that is not base64; and what is wrong with it."""
    rest = len(encoded) % GROUP
    left_over = Trouble(len(encoded) - rest, f"{rest} characters are left that are no group of four") if rest else None
    try:
        whole = encoded[: len(encoded) - rest]
        if b"=" not in whole[:-2]:
            return base64.b64decode(whole, validate=True), left_over
    except binascii.Error:
        pass
    body = bytearray()
    trouble: Trouble | None = None
    for at in range(0, len(encoded) - rest, GROUP):
        group = encoded[at : at + GROUP]
        bad = next((index for index, char in enumerate(group.rstrip(b"=")) if char not in _ALPHABET), None)
        if bad is not None:
            return bytes(body), Trouble(at + bad, f"byte 0x{group[bad]:02x} is none of base64's characters")
        try:
            body += base64.b64decode(group, validate=True)
        except binascii.Error as error:
            return bytes(body), Trouble(at, f"{group!r} is no group of base64 ({error})")
        if b"=" in group and at + GROUP < len(encoded):
            trouble = trouble or Trouble(at + group.index(b"="), "padding (=) stands before the end of the packet")
    return bytes(body), trouble or left_over
