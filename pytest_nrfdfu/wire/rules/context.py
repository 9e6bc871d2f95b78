"""What a capture shows around a finding: how many requests of its kind are right, and what came back."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pytest_nrfdfu.smp.codec import rc_name
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.smp.names import command_name
from pytest_nrfdfu.wire.exchange import exchanges
from pytest_nrfdfu.wire.frames import Item, Message, Text
from pytest_nrfdfu.wire.rules.base import Finding, Severity
from pytest_nrfdfu.wire.rules.columns import decoded
from pytest_nrfdfu.wire.rules.length import plausible
from pytest_nrfdfu.wire.rules.markers import frame_of

__all__ = ["in_context"]


def in_context(items: Sequence[Item], findings: Sequence[Finding]) -> list[Finding]:
    """`findings`, with what `items`, the whole capture, say of them."""
    around = _Around(items)
    kinds = [around.kind(finding) for finding in findings]
    places: dict[object, set[int]] = defaultdict(set)
    faulty: dict[str, set[int]] = defaultdict(set)
    for finding, kind in zip(findings, kinds, strict=True):
        places[kind].add(finding.offset)
        places[kind, finding.rule, finding.effect].add(finding.offset)
        if finding.severity is not Severity.NOTE:
            faulty[kind].add(finding.offset)
    sound = around.sound(findings)
    found = []
    for finding, kind in zip(findings, kinds, strict=True):
        same = len(places[kind, finding.rule, finding.effect])
        total = sound[kind] + len(places[kind])
        among = _among(kind, same, total, total - len(faulty[kind]))
        found.append(replace(finding, among=among, seen=around.seen(finding)))
    return found


def _among(kind: str, same: int, total: int, right: int) -> str:
    """In words: so many of them have it, and the others are right or not."""
    if not kind or total == 1:
        return ""
    requests = f"{total} {kind} requests in this capture"
    if same == total:
        every = f"Both {kind} requests in this capture" if total == 2 else f"All {requests}"
        return f"{every} have this fault."
    others = total - same
    if right != others:
        return f"{same} of {requests} {_has(same)} this fault."
    rest = "the other is right" if others == 1 else f"the other {others} are right"
    return f"{same} of {requests} {_has(same)} this fault; {rest}."


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


class _Around:
    """A capture's items, with what is asked of them."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._sent = [index for index, item in enumerate(items) if item.direction == "tx"]
        self._starts = [_start(items[index]) for index in self._sent]
        pairs = exchanges(items)
        self._answers = {id(pair.request): pair.response for pair in pairs if pair.response is not None}
        self._paired = {id(response) for response in self._answers.values()}
        self._answered = any(isinstance(item, Message) and not item.is_request for item in items)

    def _of(self, finding: Finding) -> Iterator[int]:
        """Indices of the items that a finding is about."""
        at = bisect_left(self._starts, finding.offset)
        while at < len(self._starts) and self._starts[at] < finding.offset + len(finding.data):
            yield self._sent[at]
            at += 1

    def kind(self, finding: Finding) -> str:
        """What its request asks for, as it was meant; empty where that cannot be told."""
        if finding.should is not None:
            return _asks(decoded(finding.should)[2:-2])
        frames = (frame_of(self._items[index]) for index in self._of(finding))
        return next((_asks(frame.presumed) for frame in frames if frame is not None), "")

    def sound(self, findings: Iterable[Finding]) -> dict[str, int]:
        """How many requests of each kind no finding is about."""
        about = {index for finding in findings for index in self._of(finding)}
        counts: dict[str, int] = defaultdict(int)
        for index in self._sent:
            item = self._items[index]
            if index not in about and isinstance(item, Message):
                counts[_asks(item.packet)] += 1
        return counts

    def seen(self, finding: Finding) -> str:
        """The answer, or that none came and what the host did then; empty where the capture has no answers."""
        about = list(self._of(finding))
        if not about or not self._answered:
            return ""
        last = about[-1]
        item = self._items[last]
        following = self._next_request(last)
        answer = self._answers.get(id(item)) or self._stray(last + 1, following)
        if answer is not None:
            return _answered(item, answer)
        if following is None:
            return "No answer came until the end of the capture."
        then = self._items[following]
        gap = _gap(item, then)
        after = "" if gap is None else f" {gap:.3f} s later,"
        return f"No answer came;{after} the host {_sent_then(finding, then)}."

    def _next_request(self, index: int) -> int | None:
        at = bisect_left(self._sent, index + 1)
        return next((i for i in self._sent[at:] if not isinstance(self._items[i], Text)), None)

    def _stray(self, first: int, last: int | None) -> Message | None:
        """A response between two items that belongs to no request which could be read."""
        for item in self._items[first:last]:
            if isinstance(item, Message) and item.direction == "rx" and id(item) not in self._paired:
                return item
        return None


def _asks(packet: bytes) -> str:
    header = plausible(packet)
    return "" if header is None else command_name(header)


def _start(item: Item) -> int:
    return item.frame.start if isinstance(item, Message) else item.start


def _times(item: Item) -> tuple[float | None, float | None]:
    """Of its first and its last byte."""
    frame = frame_of(item)
    if frame is not None:
        return frame.time_first, frame.time_last
    return (item.time, item.time) if isinstance(item, Text) else (None, None)


def _gap(before: Item, after: Item) -> float | None:
    end, begin = _times(before)[1], _times(after)[0]
    return None if end is None or begin is None else begin - end


def _answered(item: Item, answer: Message) -> str:
    payload = answer.payload or {}
    words = []
    rc = payload.get("rc")
    if isinstance(rc, int):
        words.append(f"rc {rc} ({rc_name(rc)})")
    if isinstance(payload.get("off"), int):
        words.append(f"off {payload['off']}")
    end, came = _times(item)[1], _times(answer)[1]
    after = "" if end is None or came is None else f" after {(came - end) * 1000:.1f} ms"
    return f"The board answered{after}: {', '.join(words) or 'without rc and off'}."


def _sent_then(finding: Finding, then: Item) -> str:
    """What the host did next, and whether that was the same request again."""
    frame = frame_of(then)
    kind = "" if frame is None else _asks(frame.presumed)
    if not kind or frame is None:
        return "sent something else"
    if frame.raw == finding.data:
        return "sent the same bytes again"
    again = _same(finding, _request(frame.presumed))
    return f"sent the same {kind} request again, in other bytes" if again else f"went on with a request for {kind}"


def _same(finding: Finding, packet: bytes) -> bool:
    """Whether `packet` is what the finding's should have been; where that is not known, it begins like what came."""
    if finding.should is not None:
        return _request(decoded(finding.should)[2:-2]) == packet
    came = finding.decoded[2:]
    return len(came) >= HEADER_SIZE and packet.startswith(_request(came))


def _request(packet: bytes) -> bytes:
    """A request without its sequence number, which may be new when it is sent again."""
    header = plausible(packet)
    return packet if header is None else _unnumbered(header) + packet[HEADER_SIZE:]


def _unnumbered(header: Header) -> bytes:
    return header._replace(sequence=0).pack()
