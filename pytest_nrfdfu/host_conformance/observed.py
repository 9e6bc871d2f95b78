"""What a host was seen to do in one update: its uploads, its other requests, its frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pytest_nrfdfu.smp.header import Group, ImageCommand, Op, OsCommand
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.exchange import Exchange, exchanges
from pytest_nrfdfu.wire.frames import Frame, Message, read

__all__ = ["Observed", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One upload request with its response. `told` and `rc` are the response's; None where it is missing."""

    off: int
    size: int
    """Bytes of image in it."""
    rc: int | None
    told: int | None
    answered: bool


class Observed:
    """Reads a capture once. Everything is in the order of the requests."""

    def __init__(self, capture: Capture) -> None:
        self.items = read(capture)
        self.exchanges = exchanges(self.items)
        self.uploads = [_step(e) for e in self.exchanges if _is(e, Group.IMAGE, ImageCommand.UPLOAD, Op.WRITE)]

    @property
    def lists(self) -> list[Exchange]:
        """Requests for the image list."""
        return [e for e in self.exchanges if _is(e, Group.IMAGE, ImageCommand.STATE, Op.READ)]

    @property
    def resets(self) -> list[Exchange]:
        """Requests to reset."""
        return [e for e in self.exchanges if _is(e, Group.OS, OsCommand.RESET, Op.WRITE)]

    def after_upload(self, found: Iterable[Exchange]) -> list[Exchange]:
        """Those of `found` that came after the last upload request."""
        order = {id(exchange.request): number for number, exchange in enumerate(self.exchanges)}
        uploads = [n for n, e in enumerate(self.exchanges) if _is(e, Group.IMAGE, ImageCommand.UPLOAD, Op.WRITE)]
        last = uploads[-1] if uploads else len(self.exchanges)
        return [exchange for exchange in found if order[id(exchange.request)] > last]

    @property
    def sent(self) -> list[Frame]:
        """The frames that the host sent, whole or not."""
        frames = (item.frame if isinstance(item, Message) else item for item in self.items)
        return [frame for frame in frames if isinstance(frame, Frame) and frame.direction == "tx"]

    def most_lines_waiting(self) -> int:
        """The most lines that ever waited behind a request that was not answered yet.

        MCUboot answers in order, so a response tells that whatever was sent before its request waits no more.
        """
        request_of = {id(e.response.frame): e.request.frame for e in self.exchanges if e.response is not None}
        waiting: list[Frame] = []
        most = 0
        for item in self.items:
            frame = item.frame if isinstance(item, Message) else item
            if not isinstance(frame, Frame):
                continue
            if frame.direction == "tx":
                waiting.append(frame)
                most = max(most, sum(len(other.lines) for other in waiting[1:]))
            elif id(frame) in request_of:
                answered = request_of[id(frame)]
                waiting = [other for other in waiting if other.start > answered.start]
        return most

    def disobeyed(self) -> list[tuple[Step, Step]]:
        """Pairs of uploads of which the second does not begin where the first one's response told."""
        return [
            (one, other)
            for one, other in pairwise(self.uploads)
            if one.told is not None and not one.rc and other.off != one.told
        ]


def _is(exchange: Exchange, group: int, command: int, op: int) -> bool:
    header = exchange.request.header
    return (header.group, header.command, header.op) == (group, command, op)


def _step(exchange: Exchange) -> Step:
    asked = exchange.request.payload or {}
    answer: dict[Any, Any] = (exchange.response.payload if exchange.response else None) or {}
    data = asked.get("data")
    return Step(
        off=asked.get("off", -1),
        size=len(data) if isinstance(data, bytes) else 0,
        rc=answer.get("rc"),
        told=answer.get("off"),
        answered=exchange.response is not None,
    )
