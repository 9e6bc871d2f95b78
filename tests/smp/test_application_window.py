"""Several chunks in flight to an application's SMP server, in virtual time: nothing is lost, and never is it slower.

The server is a small model of Zephyr's. A request takes a packet of a common pool when its first line has come, and is
dropped when none is free; a thread of its own takes requests in order; the response needs a packet as well, and where
there is none the request is refused with rc 2 (subsys/mgmt/mcumgr/smp/src/smp.c, transport/src/serial_util.c;
CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT is 4 by default). Bytes are received all the while, as by a UART with DMA, but not
while a page is erased.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import cbor2
import pytest

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.application_window import ApplicationWindow
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header, Op
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload
from pytest_nrfdfu.smp.window import Policy, StopAndWait

DATA = bytes(range(256)) * 200
PACKET = 380
"""Bytes: what a buffer of CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE (384 by default) takes."""
BLOCK = 512
"""CONFIG_IMG_BLOCK_BUF_SIZE: bytes that are collected before they are written."""
PAGE = 4096
LATENCY = 1e-3
RATES = [115_200, 1_000_000]
NO_MEMORY = 2
"""MGMT_ERR_ENOMEM."""


class Incoming(NamedTuple):
    """A request on the wire, and the times at which its bytes begin, its first line and all of it have come."""

    began: float
    first_line: float
    came: float
    packet: bytes


@dataclass
class Server:
    """`buffers` packets in all, over a wire of `link`; every `forgets`th request is lost (0: none).

    `progressive`: a page is erased when its first block is written (CONFIG_IMG_ERASE_PROGRESSIVELY), else all of them
    with the first chunk.
    """

    link: Link
    buffers: int = 4
    forgets: int = 0
    progressive: bool = False
    slot: bytearray = field(default_factory=bytearray)
    on_the_wire: deque[Incoming] = field(default_factory=deque)
    waiting: deque[Incoming] = field(default_factory=deque)
    erasing: list[tuple[float, float]] = field(default_factory=list)
    received: int = 0
    dropped: int = 0
    refused: int = 0
    wire_free: float = 0.0
    busy_until: float = 0.0
    most: int = 0

    def push(self, packet: bytes, now: float) -> None:
        """A request is sent, after those sent before."""
        began = max(now + LATENCY, self.wire_free)
        size = console.wire_size(len(packet))
        self.wire_free = began + self.link.wire_time(size)
        first_line = began + self.link.wire_time(min(size, console.LINE_LENGTH))
        self.on_the_wire.append(Incoming(began, first_line, self.wire_free, packet))

    @property
    def next(self) -> float:
        """When the next first line has come, or the next request is taken up."""
        return min(self._line, self._start)

    @property
    def _line(self) -> float:
        return self.on_the_wire[0].first_line if self.on_the_wire else math.inf

    @property
    def _start(self) -> float:
        return max(self.waiting[0].came, self.busy_until) if self.waiting else math.inf

    def step(self) -> tuple[float, bytes] | None:
        """What happens next; the answer and when it is there, if that is one."""
        now = self.next
        if self._line <= self._start:
            self._take(self.on_the_wire.popleft(), now)
            return None
        return self._serve(now)

    def _take(self, request: Incoming, now: float) -> None:
        """A packet of the pool for a request whose first line is there."""
        self.received += 1
        used = len(self.waiting) + (2 if now < self.busy_until else 0)
        if used >= self.buffers or (self.forgets and self.received % self.forgets == 0):
            self.dropped += 1
            return
        self.waiting.append(request)
        self.most = max(self.most, len(self.waiting) + (now < self.busy_until))

    def _serve(self, now: float) -> tuple[float, bytes] | None:
        began, _, came, packet = self.waiting[0]
        free = self.buffers - len(self.waiting)
        self.waiting.popleft()
        if any(start < came and began < end for start, end in self.erasing):
            self.dropped += 1  # its bytes came while the CPU stood still
            return None
        if free:
            payload = {"off": self._write(cbor2.loads(packet[HEADER_SIZE:]), now)}
        else:
            self.refused += 1
            payload = {"rc": NO_MEMORY}
        body = cbor2.dumps(payload)
        answer = Header.unpack(packet)._replace(op=Op.WRITE_RESPONSE, length=len(body)).pack() + body
        there = max(now, self.busy_until) + self.link.wire_time(console.wire_size(len(answer))) + LATENCY
        return there, answer

    def _write(self, request: dict, now: float) -> int:
        """Take the chunk if it is the one expected; the offset that is expected then."""
        before = len(self.slot)
        if request["off"] == before:
            self.slot += request["data"]
            erased = now + self._pages(before) * self.link.erase_page
            self.erasing += [(now, erased)] if erased > now else []
            self.busy_until = erased + self.link.write_time(len(request["data"]))
        return len(self.slot)

    def _pages(self, before: int) -> int:
        """How many pages are erased with what was taken since the slot had `before` bytes."""
        if not self.progressive:
            return 0 if before else -(-len(DATA) // PAGE)
        return (len(self.slot) - BLOCK) // PAGE - (before - BLOCK) // PAGE


def upload(policy: Policy, server: Server) -> tuple[float, Upload]:
    """Seconds, and the upload: all of it is in the slot."""
    engine = Upload(
        DATA,
        sequences=Sequence(),
        link=server.link,
        round_trip=RoundTrip(),
        limits=Limits(max_packet=PACKET, align=1, first_erase=1.5, patience=0.3),
        policy=policy,
    )
    now, answers = 0.0, []
    while not engine.done:
        while (transmission := engine.due(now)) is not None:
            server.push(transmission.packet, now)
        there = min(answers)[0] if answers else math.inf
        if server.next <= min(there, engine.deadline):
            answer = server.step()
            answers += [answer] if answer is not None else []
        elif there <= engine.deadline:
            answers.sort()
            now, packet = answers.pop(0)
            engine.receive(packet, now)
        else:
            now = max(now, engine.deadline)
    assert server.slot == DATA
    return now, engine


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_up_to_one_less_than_the_buffers_nothing_is_lost_and_it_is_no_slower(rate, progressive, count):
    link = Link(baudrate=rate)
    alone, _ = upload(StopAndWait(), Server(link, progressive=progressive))
    server = Server(link, progressive=progressive)
    seconds, engine = upload(ApplicationWindow(window=count, page=PAGE if progressive else None), server)
    assert (server.dropped, server.refused) == (0, 0)
    assert (engine.counters.retries, engine.counters.resyncs, engine.counters.window) == (0, 0, count)
    assert seconds <= alone * 1.03
    if count > 1:
        assert seconds < alone * (0.97 if progressive else 0.93)


def test_where_the_wire_is_fast_a_packet_must_be_left_for_the_response():
    """Four of four lose some, which are sent again, and the window is closed: all of it arrives all the same."""
    link = Link(baudrate=20_000_000)
    server = Server(link)
    _, engine = upload(ApplicationWindow(window=4, page=None), server)
    assert server.dropped + server.refused
    assert engine.regulator.fallbacks
    three = Server(link)
    _, engine = upload(ApplicationWindow(window=3, page=None), three)
    assert (three.refused, three.dropped, three.most, engine.regulator.fallbacks) == (0, 0, 3, 0)


def test_without_knowing_of_erases_what_comes_meanwhile_is_lost():
    """So the window's rule about pages is needed: without it, some chunks have to be sent again."""
    server = Server(Link(), progressive=True)
    _, engine = upload(ApplicationWindow(window=3, page=None), server)
    assert server.dropped
    assert engine.counters.retries + engine.counters.resyncs > 0


def test_a_server_with_fewer_buffers_than_it_says_is_noticed_and_costs_little():
    """Three are in flight and one fits: the window is closed, opened once more, and then given up.

    On a slower wire it makes no difference: each request is answered before the next has begun to come.
    """
    link = Link(baudrate=1_000_000)
    alone, _ = upload(StopAndWait(), Server(link, buffers=2))
    server = Server(link, buffers=2)
    seconds, engine = upload(ApplicationWindow(window=3, page=None), server)
    assert server.dropped + server.refused
    assert engine.regulator.fallbacks == 2
    assert not engine.regulator.is_open
    assert seconds <= alone * 1.03


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("progressive", [False, True])
def test_requests_that_are_lost_on_the_way_are_made_up_for(rate, progressive):
    link = Link(baudrate=rate)
    alone, single = upload(StopAndWait(), Server(link, forgets=40, progressive=progressive))
    server = Server(link, forgets=40, progressive=progressive)
    seconds, engine = upload(ApplicationWindow(window=3, page=PAGE if progressive else None), server)
    assert engine.counters.retries + engine.counters.resyncs >= single.counters.retries > 0
    assert seconds <= alone * 1.03
