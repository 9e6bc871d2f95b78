"""Several chunks in flight to an application's SMP server, which has a buffer for each, in virtual time.

The server is a small model of Zephyr's: a request takes a network buffer when its last byte has come, or is dropped
when none is free; a thread of its own takes requests in order and gives a buffer back with the answer
(subsys/mgmt/mcumgr/smp/src/smp.c; CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT is 4 by default). Bytes are received all the
while, as by a UART with DMA.
"""

from dataclasses import dataclass, field

import cbor2
import pytest

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header, Op
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload
from pytest_nrfdfu.smp.window import BufferCount, Policy, StopAndWait

DATA = bytes(range(256)) * 200
PACKET = 380
"""Bytes: what a buffer of CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE (384 by default) takes."""
LATENCY = 1e-3
RATES = [115_200, 1_000_000]


@dataclass
class Server:
    """`buffers` requests at a time, over a wire of `link`; every `forgets`th request is lost (0: none)."""

    link: Link
    buffers: int = 4
    forgets: int = 0
    flash: bytearray = field(default_factory=bytearray)
    taken: list[float] = field(default_factory=list)
    """When the buffers of earlier requests are given back."""
    received: int = 0
    dropped: int = 0
    wire_free: float = 0.0
    busy_until: float = 0.0

    def request(self, packet: bytes, now: float) -> tuple[float, bytes] | None:
        """The answer and when it is there, to a request that is sent at `now`, after those sent before."""
        self.received += 1
        came = max(now + LATENCY, self.wire_free) + self.link.wire_time(console.wire_size(len(packet)))
        self.wire_free = came
        self.taken = [until for until in self.taken if until > came]
        if self.forgets and self.received % self.forgets == 0:
            return None
        if len(self.taken) >= self.buffers:
            self.dropped += 1
            return None
        off = self._write(cbor2.loads(packet[HEADER_SIZE:]), came)
        self.taken.append(self.busy_until)
        payload = cbor2.dumps({"rc": 0, "off": off})
        header = Header.unpack(packet)._replace(op=Op.WRITE_RESPONSE, length=len(payload))
        answer = header.pack() + payload
        there = self.busy_until + self.link.wire_time(console.wire_size(len(answer))) + LATENCY
        return there, answer

    def _write(self, request: dict, came: float) -> int:
        """Take the chunk if it is the one expected; the offset that is expected then."""
        began = max(came, self.busy_until)
        self.busy_until = began
        if request["off"] == len(self.flash):
            self.busy_until += self.link.flash_time(len(self.flash), len(request["data"]))
            self.flash += request["data"]
        return len(self.flash)


def upload(policy: Policy, server: Server) -> tuple[float, Upload]:
    """Seconds, and the upload: all of it is in flash."""
    engine = Upload(
        DATA,
        sequences=Sequence(),
        link=server.link,
        round_trip=RoundTrip(),
        limits=Limits(max_packet=PACKET),
        policy=policy,
    )
    now, answers = 0.0, []
    while not engine.done:
        while (transmission := engine.due(now)) is not None:
            answer = server.request(transmission.packet, now)
            answers += [answer] if answer is not None else []
        answers.sort()
        if answers and answers[0][0] <= engine.deadline:
            now, packet = answers.pop(0)
            engine.receive(packet, now)
        else:
            now = max(now, engine.deadline)
    assert server.flash == DATA
    return now, engine


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_chunks_as_there_are_buffers_lose_nothing_and_take_no_longer(rate, count):
    link = Link(baudrate=rate)
    alone, _ = upload(StopAndWait(), Server(link))
    server = Server(link)
    seconds, engine = upload(BufferCount(count), server)
    assert server.dropped == 0
    assert (engine.counters.retries, engine.counters.resyncs, engine.counters.window) == (0, 0, count)
    assert seconds <= alone * 1.03
    if count > 1:
        assert seconds < alone * 0.9


@pytest.mark.parametrize("rate", RATES)
def test_a_server_with_fewer_buffers_than_it_says_is_noticed_and_costs_little(rate):
    """Four are in flight and one fits: the window is closed, opened once more, and then given up."""
    link = Link(baudrate=rate)
    alone, _ = upload(StopAndWait(), Server(link, buffers=1))
    server = Server(link, buffers=1)
    seconds, engine = upload(BufferCount(4), server)
    assert server.dropped
    assert engine.regulator.fallbacks == 2
    assert not engine.regulator.is_open
    assert seconds <= alone * 1.03


@pytest.mark.parametrize("rate", RATES)
def test_requests_that_are_lost_on_the_way_are_made_up_for(rate):
    link = Link(baudrate=rate)
    alone, single = upload(StopAndWait(), Server(link, forgets=40))
    seconds, engine = upload(BufferCount(4), Server(link, forgets=40))
    assert engine.counters.retries + engine.counters.resyncs >= single.counters.retries > 0
    assert seconds <= alone * 1.03
