"""What rules are made of: effects, findings, and the scene in which a rule looks for its fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, NamedTuple

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.wire.capture import Direction
from pytest_nrfdfu.wire.frames import Frame, Item, Message

__all__ = [
    "BOOT_SERIAL",
    "SMP_GROUP_1",
    "SMP_PROTOCOL",
    "SMP_TRANSPORT",
    "Effect",
    "Finding",
    "Rule",
    "Scene",
    "Severity",
    "encoded",
]

SMP_TRANSPORT = "Zephyr, doc/services/device_mgmt/smp_transport.rst"
SMP_PROTOCOL = "Zephyr, doc/services/device_mgmt/smp_protocol.rst"
SMP_GROUP_1 = "Zephyr, doc/services/device_mgmt/smp_groups/smp_group_1.rst"
BOOT_SERIAL = "MCUboot, boot/boot_serial/src/boot_serial.c"
_GROUP, _BYTES = 4, 3
"""Characters of a group of base64, and the bytes that it carries (RFC 4648, section 4)."""


@unique
class Effect(Enum):
    """What MCUboot's serial recovery does with it, in a word for machines."""

    SILENCE = "silence"
    RC3 = "rc3"
    RC8 = "rc8"
    ANSWERS = "answers"
    RESYNC = "resync"
    PARTIAL = "partial"
    RESTARTS = "restarts"
    LOSES = "loses"
    REBOOTS = "reboots"
    OVERWRITES = "overwrites"

    @property
    def sentence(self) -> str:
        """The same for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Effect.SILENCE: "MCUboot throws it away and answers nothing, not even an error.",
    Effect.RC3: 'MCUboot answers {"rc": 3} (invalid value) and writes nothing.',
    Effect.RC8: 'MCUboot answers {"rc": 8} (not supported).',
    Effect.ANSWERS: "MCUboot takes it all the same and answers as if it were right; other servers may not.",
    Effect.RESYNC: "MCUboot writes nothing and answers rc 0 with the `off` that it wants.",
    Effect.PARTIAL: "MCUboot writes a part of the chunk only and answers rc 0 with an `off` behind that part.",
    Effect.RESTARTS: "MCUboot begins the upload anew: it erases and writes from the begin of the slot.",
    Effect.LOSES: "MCUboot loses bytes: of the packets sent, some get no answer.",
    Effect.REBOOTS: "MCUboot answers rc 0 and resets the chip 250 ms later, whatever is in the slot.",
    Effect.OVERWRITES: "MCUboot writes it over the application and answers rc 0; the application is gone.",
}


@unique
class Severity(Enum):
    """How bad it is."""

    ERROR = "error"
    """The update cannot work like this."""
    WARNING = "warning"
    """It works with MCUboot, or most of the time."""
    NOTE = "note"
    """It works, and could be better."""


class Rule(NamedTuple):
    """One way of being wrong. `title`: one sentence for a list of rules; `fix`: what to change in the host.

    `recipe`: how what is wrong is made correctly, from the beginning; `code`: the same as a line of C, where it helps.
    """

    id: str
    severity: Severity
    title: str
    fix: str
    source: str
    recipe: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a rule was broken.

    `time`: seconds in the capture, of the first byte, None where unknown. `offset`: of `data` among the bytes of its
    direction. `marks`: (start, end) places within `data`. `should`: the bytes as they should be on the wire, None where
    they depend on what is not in the capture. `decoded`: the frame before base64 (length, packet, CRC), as far as it
    can be read, and `decoded_marks` the marked places in it. `recipe`, `code`: as in `Rule`. `among`: how many requests
    of its kind are right; `seen`: what came back and what the host did then, where the capture shows it. `times`: how
    often, in a summary.
    """

    rule: str
    severity: Severity
    time: float | None
    direction: Direction
    offset: int
    data: bytes
    marks: tuple[tuple[int, int], ...]
    said: str
    effect: Effect
    does: str
    should: bytes | None
    fix: str
    source: str
    recipe: str = ""
    code: str = ""
    decoded: bytes = b""
    decoded_marks: tuple[tuple[int, int], ...] = ()
    among: str = ""
    seen: str = ""
    times: int = 1


def encoded(message: Message, payload: dict[Any, Any] | None = None, **header: int) -> bytes:
    """The lines that `message` should have been: with another payload, or other fields in its header."""
    body = message.body if payload is None else dumps(payload)
    fixed = message.header._replace(**{"length": len(body), **header})
    return console.encode(fixed.pack() + body)


def _decoded_marks(frame: Frame, marks: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Bytes of the frame's body that places on the wire carry whole: the reverse of `Frame.places`."""
    for start, end in marks:
        behind = 0
        for line in frame.lines:
            size, begin = len(line.text), line.start + len(line.marker)
            first, last = max(start - begin, 0) + behind, min(end - begin, size) + behind
            behind += size
            if first >= last:
                continue
            # The first byte of a group stands in its characters 0 and 1, the second in 1 and 2, the third in 2 and 3.
            found = _BYTES * (first // _GROUP) + first % _GROUP, _BYTES * ((last - 1) // _GROUP) + (last - 1) % _GROUP
            if found[0] < min(found[1], len(frame.body)):
                yield found[0], min(found[1], len(frame.body))


@dataclass(frozen=True)
class Scene:
    """What a rule may look at. `sent`: all bytes from the host; `items`: all that was read, in the order of time."""

    items: tuple[Item, ...]
    sent: bytes
    profile: BootloaderProfile

    @property
    def from_host(self) -> list[Item]:
        """The items that the host sent."""
        return [item for item in self.items if item.direction == "tx"]

    def finding(
        self,
        rule: Rule,
        place: Frame | Message | tuple[int, int, float | None],
        said: str,
        effect: Effect,
        *,
        because: str = "",
        marks: Iterable[tuple[int, int]] = (),
        should: bytes | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding at a frame or at (start, end, time). `marks` are offsets among the host's bytes, as `place` is."""
        frame = place.frame if isinstance(place, Message) else place
        marks, body = list(marks), b""
        decoded_marks: tuple[tuple[int, int], ...] = ()
        if isinstance(frame, Frame):
            start, end, time, body = frame.start, frame.end, frame.time_first, frame.body
            decoded_marks = tuple(_decoded_marks(frame, marks))
        else:
            start, end, time = frame
        inside = ((max(first, start) - start, min(last, end) - start) for first, last in marks)
        return Finding(
            rule=rule.id,
            severity=severity or rule.severity,
            time=time,
            direction="tx",
            offset=start,
            data=self.sent[start:end],
            marks=tuple(mark for mark in inside if mark[0] < mark[1]),
            said=said,
            effect=effect,
            does=f"{effect.sentence} {because}".strip(),
            should=should,
            fix=rule.fix,
            source=rule.source,
            recipe=rule.recipe,
            code=rule.code,
            decoded=body,
            decoded_marks=decoded_marks,
        )
