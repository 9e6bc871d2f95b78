"""A host that can be correct or broken in each of its parts, and what plays its steps against a board."""

import base64
import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import cbor2

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.console import CONTINUATION, START, crc16
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.lint import Effect

SIZE = 12_000
"""Bytes of the image that the host uploads."""
CHUNK = 240
"""Bytes in a chunk: three or four lines."""
IMAGE = random.Random(5340).randbytes(SIZE)
NETWORK_IMAGE = (
    struct.pack("<IIHHII", 0x96F3B83D, 0, 0x40, 0, SIZE, 0).ljust(0x40, b"\0")
    + struct.pack("<II", 0x2100_4000, 0x0100_8201)
    + IMAGE
)[:SIZE]
"""An image that begins like one for the network core: MCUboot's header, initial stack pointer, reset vector."""


class Step(NamedTuple):
    """One write to the UART. `wait`: whether the host waits for its answer before the next step."""

    data: bytes
    broken: bool = False
    wait: bool = True


class Case(NamedTuple):
    """A host that is broken in one way. `before` and `end`: the offset that the board expects, and the one behind the
    chunk in question, if it is a chunk."""

    name: str
    rule: str
    effect: Effect
    steps: tuple[Step, ...]
    before: int = 0
    end: int = CHUNK
    emulated: bool = True
    """Whether a board without flash timing behaves the same."""


class Played(NamedTuple):
    """What came of a case: the capture, and the answers to the broken steps."""

    capture: Capture
    answers: list[bytes]


class Board(Protocol):
    """The other end. Times are in seconds on any clock."""

    now: float

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes:
        """What it sends until it has been silent for a while."""


def run(board: Board, steps: tuple[Step, ...]) -> Played:
    """Play the steps, and record everything."""
    chunks: list[Chunk] = []
    answers: list[bytes] = []
    decoder = console.Decoder()
    burst = False
    for step in steps:
        for line in step.data.splitlines(keepends=True):
            board.send(line)
            chunks.append(Chunk(board.now, "tx", line))
        burst = burst or step.broken
        if not step.wait:
            continue
        data = board.receive()
        if data:
            chunks.append(Chunk(board.now, "rx", data))
        packets = [event.data for event in decoder.feed(data) if isinstance(event, console.Packet)]
        answers += packets if burst else []
        burst = False
    return Played(Capture(tuple(chunks)), answers)


def observed(case: Case, answers: list[bytes]) -> Effect:
    """What the board did, from its answers to the broken steps."""
    sent = sum(step.broken for step in case.steps)
    if not answers:
        return Effect.SILENCE
    if len(answers) < sent:
        return Effect.LOSES
    header, payload = Header.unpack(answers[-1]), cbor2.loads(answers[-1][HEADER_SIZE:])
    rc, off = payload.get("rc", 0), payload.get("off")
    if rc:
        return {3: Effect.RC3, 8: Effect.RC8}[rc]
    if (header.group, header.command) == (0, 5):
        return Effect.REBOOTS
    if off is None:
        return Effect.ANSWERS
    if off == case.end:
        return Effect.RESTARTS if off < case.before else Effect.ANSWERS
    return Effect.RESYNC if off == case.before else Effect.PARTIAL


# --- a correct host -------------------------------------------------------------------------------------------------


def packet(
    payload: Any, *, op: int = 2, group: int = 1, command: int = 1, sequence: int = 66, length: int | None = None
) -> bytes:
    """Header and payload; `payload` as bytes is taken as it is."""
    body = payload if isinstance(payload, bytes) else cbor2.dumps(payload)
    return Header(op, group, command, sequence, len(body) if length is None else length).pack() + body


def keys(off: int, *, size: int = CHUNK, data: bytes = IMAGE, **more: Any) -> dict[str, Any]:
    """An upload request's map."""
    first = {"len": len(data)} if off == 0 else {}
    return first | {"off": off, "data": data[off : off + size]} | more


def chunk(off: int, **options: Any) -> bytes:
    return packet(keys(off, **options), sequence=1 + off // 40 % 100)


LIST = packet({}, op=0, command=0)
RESET = packet({}, group=0, command=5)


def frame(
    data: bytes,
    *,
    length: int | None = None,
    crc: int | None = None,
    body: bytes | None = None,
    text: bytes | None = None,
    start: bytes = START,
    continuation: bytes = CONTINUATION,
    end: bytes = b"\n",
    step: int = 124,
) -> bytes:
    """What `console.encode` does, with every part to be had in another way."""
    if body is None:
        size = len(data) + 2 if length is None else length
        body = size.to_bytes(2, "big") + data + (crc16(data) if crc is None else crc).to_bytes(2, "big")
    text = base64.b64encode(body) if text is None else text
    return b"".join((continuation if at else start) + text[at : at + step] + end for at in range(0, len(text), step))


def correct(*packets: bytes) -> Iterator[Step]:
    for data in packets:
        yield Step(console.encode(data))
