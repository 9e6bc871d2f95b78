"""The image that hosts are given: small, so that a check takes seconds, and valid for a bootloader without a key."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from pytest_nrfdfu.image.format import TLV_HEADER, TLV_INFO, TLV_INFO_MAGIC, ImageHeader, TlvType, Version

__all__ = ["make"]

_HEADER_SIZE = 0x200
_SIZE = 12_000
"""Bytes of the body: a dozen chunks of the largest size, and three flash pages."""
_VECTORS = (0x2004_0000).to_bytes(4, "little") + (0x0001_0401).to_bytes(4, "little")
"""Stack pointer and reset vector of an application for slot 0, so that a host that looks at them finds them right."""


def make(folder: Path, version: str = "1.2.3") -> Path:
    """An image as a file in `folder`."""
    body = _VECTORS + random.Random(version).randbytes(_SIZE - len(_VECTORS))  # noqa: S311 - not for secrecy
    header = ImageHeader(hdr_size=_HEADER_SIZE, img_size=_SIZE, version=Version.parse(version)).pack()
    hashed = header.ljust(_HEADER_SIZE, b"\0") + body
    digest = hashlib.sha256(hashed).digest()
    tlv = TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest
    path = folder / f"host-{version}.signed.bin"
    path.write_bytes(hashed + TLV_INFO.pack(TLV_INFO_MAGIC, TLV_INFO.size + len(tlv)) + tlv)
    return path
