"""What a host did, step by step: its requests with an upload's chunks taken together, and what can be said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pytest_nrfdfu.errors import SmpMalformed
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand
from pytest_nrfdfu.smp.names import command_name, op_name
from pytest_nrfdfu.wire import cbor
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.exchange import exchanges
from pytest_nrfdfu.wire.frames import Frame, Message, read

__all__ = ["Sent", "Step", "steps"]

_UPLOAD = (Group.IMAGE, ImageCommand.UPLOAD)
_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Sent:
    """A request as it was sent, read as far as possible; `answer` is its response's payload, None if none came."""

    frame: Frame
    answer: dict[Any, Any] | None
    repeated: int = 0
    """How often exactly these bytes were sent again right after."""

    @cached_property
    def header(self) -> Header | None:
        """None where the frame is too broken for one."""
        packet = self.frame.presumed
        return Header.unpack(packet) if len(packet) >= HEADER_SIZE else None

    @cached_property
    def item(self) -> cbor.Item | None:
        """The payload's map, None where there is none."""
        try:
            item = cbor.read(self.frame.presumed[HEADER_SIZE:])
        except SmpMalformed:
            return None
        return item if item.kind == "map" else None

    @property
    def payload(self) -> dict[Any, Any]:
        """The payload as a dict; empty where it cannot be read."""
        return {} if self.item is None else dict(self.item.value)

    @property
    def name(self) -> str:
        """What it asks for."""
        return _UNREADABLE if self.header is None else command_name(self.header)

    @property
    def is_upload(self) -> bool:
        """Whether it carries a chunk, even where its header says something else."""
        told = self.header is not None and (self.header.group, self.header.command) == _UPLOAD
        return told or {"off", "data"} <= self.payload.keys()

    @property
    def off(self) -> int | None:
        """The chunk's offset."""
        value = self.payload.get("off")
        return value if isinstance(value, int) else None

    @property
    def data(self) -> bytes:
        """The chunk's bytes."""
        value = self.payload.get("data")
        return value if isinstance(value, bytes) else b""

    @property
    def starts(self) -> bool:
        """Whether it begins an upload."""
        return self.is_upload and self.off == 0


@dataclass(frozen=True)
class Step:
    """Requests that belong together: one, or all chunks of an upload."""

    name: str
    sent: tuple[Sent, ...]

    @property
    def known(self) -> bool:
        """Whether it is a command that has a name."""
        return self.name != _UNREADABLE and not self.name.startswith("group ")

    @property
    def answered(self) -> int:
        """How many of its requests have a response."""
        return sum(one.answer is not None for one in self.sent)

    @property
    def is_upload(self) -> bool:
        """Whether it is an upload."""
        return self.sent[0].is_upload

    @cached_property
    def image(self) -> bytes:
        """The uploaded bytes, put together by their offsets; what was never sent is zero."""
        data = bytearray()
        for one in self.sent:
            if one.off is not None and one.off <= len(data) + _FARTHEST:
                data += bytes(max(0, one.off + len(one.data) - len(data)))
                data[one.off : one.off + len(one.data)] = one.data
        return bytes(data)

    @property
    def chunks(self) -> str:
        """The sizes of its chunks in bytes: the first, the most frequent of the others, the last."""
        sizes = [len(one.data) for one in self.sent]
        middle = sizes[1:-1]
        usual = [max(set(middle), key=middle.count)] if middle else []
        return " ".join(str(size) for size in dict.fromkeys([sizes[0], *usual, sizes[-1]]))

    @property
    def said(self) -> str:
        """A few words for the listing."""
        if not self.is_upload:
            words = op_name(self.sent[0].header.op) if self.sent[0].header else ""
            return f"{self.name} ({words})" if words else self.name
        digest = hashlib.sha256(self.image).hexdigest()[:8]
        return f"{self.name}: {len(self.image)} bytes in {self._counted} ({digest}...)"

    @property
    def _counted(self) -> str:
        """How many chunks of which sizes, each offset once, and how many requests were sent again."""
        offsets = [one.off for one in self.sent if one.off is not None]
        count = len(set(offsets))
        again = len(offsets) - count + sum(one.repeated for one in self.sent)
        sizes = self.chunks.replace(" ", ", ")
        chunks = f"1 chunk of {sizes}" if count == 1 else f"{count} chunks of {sizes}"
        return f"{chunks}, {again} sent again" if again else chunks


_FARTHEST = 1 << 24
"""A hole larger than this (16 MiB) in front of a chunk is a broken offset, not an image."""


def steps(capture: Capture) -> list[Step]:
    """The steps of the host in `capture`; broken frames stand where they were sent."""
    found: list[Step] = []
    for one in _sent(capture):
        last = found[-1] if found else None
        if last is not None and last.is_upload and one.is_upload and not (one.starts and _went_on(last)):
            found[-1] = Step(last.name, (*last.sent, one))
        else:
            found.append(Step(one.name, (one,)))
    return found


def _went_on(step: Step) -> bool:
    return any(one.off for one in step.sent)


def _sent(capture: Capture) -> Iterator[Sent]:
    """All requests, with those that were sent again right after taken as one."""
    items = read(capture)
    answers = {id(pair.request): pair.response for pair in exchanges(items)}
    last: Sent | None = None
    for item in items:
        frame = item.frame if isinstance(item, Message) else item
        if not isinstance(frame, Frame) or frame.direction != "tx":
            continue
        response = answers.get(id(item))
        one = Sent(frame, None if response is None else response.payload or {})
        if last is not None and last.frame.raw == frame.raw and last.answer is None:
            last = Sent(frame, one.answer, last.repeated + 1)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last
