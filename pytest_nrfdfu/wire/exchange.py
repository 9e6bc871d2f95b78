"""Which response belongs to which request: by sequence, group, command and op, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pytest_nrfdfu.wire.frames import Item, Message

__all__ = ["Exchange", "exchanges", "stray_responses"]


class Exchange(NamedTuple):
    """A request and its response, None if none came.

    `round_trip`: seconds from the request's last byte to the response's last; None without a response or times.
    """

    request: Message
    response: Message | None
    round_trip: float | None


def exchanges(items: Iterable[Item]) -> list[Exchange]:
    """One exchange for each request, in the order of the requests.

    A response belongs to a request before it that it fits and that has none yet. Of several with the same sequence
    number it is the one whose chunk ends at the response's `off`, otherwise the latest: MCUboot answers nothing to a
    packet that it could not read, and hosts that repeat a request, or come round to its number, go on. A request takes
    one response. Responses without a request are not here, see `stray_responses`.
    """
    return _pair(items)[0]


def stray_responses(items: Iterable[Item]) -> list[Message]:
    """The responses that no request before them fits."""
    return _pair(items)[1]


def _pair(items: Iterable[Item]) -> tuple[list[Exchange], list[Message]]:
    requests: list[Message] = []
    waiting: list[int] = []
    answers: dict[int, Message] = {}
    stray: list[Message] = []
    for item in items:
        if not isinstance(item, Message):
            continue
        if item.is_request:
            waiting.append(len(requests))
            requests.append(item)
            continue
        index = _find(requests, waiting, item)
        if index is None:
            stray.append(item)
            continue
        answers[index] = item
        waiting.remove(index)
    return [
        Exchange(request, answers.get(i), _round_trip(request, answers.get(i))) for i, request in enumerate(requests)
    ], stray


def _find(requests: list[Message], waiting: list[int], response: Message) -> int | None:
    fitting = [index for index in reversed(waiting) if _fits(requests[index], response)]
    exact = [index for index in fitting if _ends_at(requests[index]) == (response.payload or {}).get("off", _NOWHERE)]
    return next(iter(exact or fitting), None)


_NOWHERE = -1
"""No chunk ends here: for responses without `off`."""


def _ends_at(request: Message) -> int | None:
    """Where the next chunk begins, if `request` is an upload."""
    payload = request.payload or {}
    off, data = payload.get("off"), payload.get("data")
    return off + len(data) if isinstance(off, int) and isinstance(data, bytes) else None


def _fits(request: Message, response: Message) -> bool:
    asked, answered = request.header, response.header
    return request.direction != response.direction and (
        (asked.op + 1, asked.group, asked.command, asked.sequence)
        == (answered.op, answered.group, answered.command, answered.sequence)
    )


def _round_trip(request: Message, response: Message | None) -> float | None:
    if response is None or request.frame.time_last is None or response.frame.time_last is None:
        return None
    return response.frame.time_last - request.frame.time_last
