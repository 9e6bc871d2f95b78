"""Takes packets apart that the reader put together: lines with 04 14 behind a packet that is already whole.

Such lines begin a packet with the wrong marker, or are what is left of one. To the reader, as to MCUboot, they belong
to the packet before; who explains them has to look at them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_nrfdfu.wire import frames
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.frames import Frame, Item, Line, Message
from pytest_nrfdfu.wire.rules.length import unwrap
from pytest_nrfdfu.wire.rules.lines import decode_base64
from pytest_nrfdfu.wire.rules.markers import frame_of

__all__ = ["separated"]


def separated(items: Iterable[Item]) -> list[Item]:
    """`items`, where no frame of the host holds more than a whole packet."""
    found: list[Item] = []
    rest: list[Item] = []
    for item in items:
        while rest and item.direction == "tx" and _start(rest[0]) < _start(item):
            found.append(rest.pop(0))
        frame = frame_of(item)
        count = _whole(frame) if frame is not None and frame.direction == "tx" else 0
        if frame is None or not count:
            found.append(item)
            continue
        found.append(_again(frame.lines[:count]))
        rest.append(_again(frame.lines[count:]))
    return found + rest


def _start(item: Item) -> int:
    return item.frame.start if isinstance(item, Message) else item.start


def _whole(frame: Frame) -> int:
    """How many of a frame's lines hold a whole packet, if there are more of them."""
    if frame.packet is not None or frame.length_field is None or len(frame.lines) < 2:
        return 0
    text = b""
    for count, line in enumerate(frame.lines[:-1], start=1):
        text += line.text
        if len(text) // 4 * 3 < frame.length_field + 2:
            continue
        body = decode_base64(text)
        return count if body is not None and unwrap(body) is not None and _holds_all(body) else 0
    return 0


def _holds_all(body: bytes) -> bool:
    """Whether the SMP header does not say that more of its payload follows: then every line has its own length."""
    header = body[2:6]
    return len(header) == 4 and int.from_bytes(header[2:], "big") <= len(body) - 12


def _again(lines: tuple[Line, ...]) -> Item:
    """What the reader makes of these lines alone, where they stand."""
    chunks = tuple(Chunk(line.time, "tx", line.raw) for line in lines)
    item = frames.read(Capture(chunks))[0]
    if isinstance(item, Message):
        return replace(item, frame=replace(item.frame, lines=lines))
    return replace(item, lines=lines) if isinstance(item, Frame) else item
