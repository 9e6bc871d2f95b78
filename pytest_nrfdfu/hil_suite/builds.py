"""The two builds that the suite makes for a simulated board: real Zephyr firmware where it is installed.

The firmware is Zephyr 4.4's hci_usb for the nRF5340 DK, from the package
``zephyr-4-4-0-hci-usb-nrf5340dk-default``, signed by imgtool; both come with the extra ``test``. Without them, random
bytes are packed as an image: enough for a simulated board, which executes no firmware.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import subprocess
import sys
from pathlib import Path

from pytest_nrfdfu.image.mcuboot import TLV_INFO_MAGIC, ImageHeader, TlvType, Version

__all__ = ["make"]

_FIRMWARE = "zephyr_4_4_0_hci_usb_nrf5340dk_default"
_NETWORK_CORE = 0x01000000
_HEADER_SIZE = 0x200
_SLOT_SIZE = 0x70000
_SYNTHETIC_SIZE = 48 * 1024
_SIGN_TIMEOUT = 60


def make(folder: Path, version: str) -> Path:
    """A signed image of that version, as a file in `folder`."""
    target = folder / f"zephyr-{version}.signed.bin"
    if all(importlib.util.find_spec(name) for name in (_FIRMWARE, "imgtool", "intelhex")):
        _sign(_real(), version, target)
    else:
        target.write_bytes(_synthetic(version))
    return target


def _real() -> bytes:
    import intelhex

    spec = importlib.util.find_spec(_FIRMWARE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(_FIRMWARE)
    content = intelhex.IntelHex(str(Path(spec.origin).parent / "firmware.hex"))
    end = max(stop for start, stop in content.segments() if start < _NETWORK_CORE)
    return bytes(content.tobinarray(start=0, end=end - 1))


def _sign(body: bytes, version: str, target: Path) -> None:
    source = target.with_suffix(".unsigned")
    source.write_bytes(body)
    options = ["--header-size", hex(_HEADER_SIZE), "--pad-header", "--align", "4", "--slot-size", hex(_SLOT_SIZE)]
    command = [sys.executable, "-m", "imgtool.main", "sign", *options, "--version", version, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=_SIGN_TIMEOUT)


def _synthetic(version: str) -> bytes:
    body = random.Random(version).randbytes(_SYNTHETIC_SIZE)  # noqa: S311 - not for secrecy
    header = ImageHeader(hdr_size=_HEADER_SIZE, img_size=len(body), version=Version.parse(version)).pack()
    signed = header.ljust(_HEADER_SIZE, b"\0") + body
    digest = hashlib.sha256(signed).digest()
    tlv = TlvType.SHA256.to_bytes(2, "little") + len(digest).to_bytes(2, "little") + digest
    return signed + TLV_INFO_MAGIC.to_bytes(2, "little") + (4 + len(tlv)).to_bytes(2, "little") + tlv
