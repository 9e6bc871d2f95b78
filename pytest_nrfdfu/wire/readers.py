"""Loads a capture from whatever file somebody has: the format is told by the content, never by the name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.smp.console import CONTINUATION, START
from pytest_nrfdfu.wire import csvtext, hextext, pcapng, records
from pytest_nrfdfu.wire.capture import Capture, Direction
from pytest_nrfdfu.wire.pieces import Piece, assemble

__all__ = ["FORMATS", "load", "loads"]

_CONTROL = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\x1b")
"""Bytes that no text holds; both of SMP's markers do."""
_PCAP_MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

FORMATS = (
    "nrfdfu JSON lines",
    "pcapng",
    "raw bytes",
    "Saleae CSV",
    "sigrok or PulseView UART annotations",
    "hex, C or base64 text",
)


def load(path: Path, *, direction: Direction | None = None) -> Capture:
    """The capture in the file at `path`; ConfigError with the formats that were tried and what did not fit.

    `direction` says which way the bytes went where the file holds one direction and does not tell; without it, the
    messages decide (see `pieces.assemble`).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return loads(data, source=str(path), direction=direction)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def loads(data: bytes, *, source: str = "", direction: Direction | None = None) -> Capture:
    """As `load`, of bytes that are there already."""
    if not data.strip():
        raise ConfigError("the capture is empty")
    if data.startswith(pcapng.MAGIC):
        return _from_pcapng(data, source, direction)
    if data.startswith(_PCAP_MAGICS):
        raise ConfigError("this is a pcap file of old; save it as pcapng (editcap -F pcapng IN OUT)")
    text = _text(data)
    if text is None:
        return assemble([Piece(None, "", data)], source, direction)
    if records.looks_like(text):
        return records.loads(text, source)
    return assemble(_from_text(text), source, direction)


def _from_pcapng(data: bytes, source: str, direction: Direction | None) -> Capture:
    packets = pcapng.read(data)
    if not packets:
        raise ConfigError("this pcapng file holds no serial data")
    return assemble([Piece(packet.time, packet.direction or "", packet.data) for packet in packets], source, direction)


def _text(data: bytes) -> str | None:
    """`data` as text, None where it is bytes."""
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace")
    if START in data or CONTINUATION in data or _CONTROL & set(data):
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


class _Way(NamedTuple):
    name: str
    read: Callable[[str], list[Piece]]
    promising: Callable[[str], bool]
    """Whether the first line is such that an error of this way is the one to tell."""


_WAYS = (
    _Way("Saleae CSV", csvtext.read_saleae, csvtext.saleae_header),
    _Way("sigrok or PulseView UART annotations", csvtext.read_sigrok, csvtext.sigrok_line),
    _Way("hex, C or base64 text", hextext.read, lambda _: False),
)


def _from_text(text: str) -> list[Piece]:
    first = next(line for line in text.splitlines() if line.strip())
    failures = []
    for way in _WAYS:
        try:
            return way.read(text)
        except ConfigError as error:
            if way.promising(first):
                raise ConfigError(f"this begins as {way.name}, but {error}") from None
            failures.append(f"\n  {way.name}: {error}")
    raise ConfigError(
        "no known format fits. It is neither nrfdfu's JSON lines nor pcapng, nor bytes with SMP's markers (06 09). "
        f"Tried as text:{''.join(failures)}"
    )
