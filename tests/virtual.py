"""The client's protocol joined to the simulated board in virtual time: no process, no port, no clock."""

from collections import deque
from collections.abc import Callable

from pytest_nrfdfu.sim.board import SimBoard
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import Request, Response, decode, encode
from pytest_nrfdfu.smp.exchange import Exchange, Sequence, Transmission
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateRead, ImageStates
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload

_GIVE_UP = 3600.0
"""Virtual seconds after which something hangs."""


class PlainHost:
    """Asks one thing after the other and repeats nothing. `now` is in virtual seconds; bytes take no time."""

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.machine = board.machine
        self.now = 0.0
        self.text = b""
        """The console text that has come."""
        self.decoder = console.Decoder()

    def wait(self, seconds: float) -> list[bytes]:
        """Let time pass, until packets come at most; these."""
        until, packets = self.now + seconds, []
        while not packets and (event := self.machine.next_event()) is not None and event <= until:
            self.now = event
            for item in self.decoder.feed(self.machine.advance(event)):
                if isinstance(item, console.Packet):
                    packets.append(item.data)
                else:
                    self.text += item.data
        if not packets:
            self.now = until
            self.machine.advance(until)
        return packets

    def exchange(self, request: Request, patience: float) -> Response | None:
        """The response, or None after so many seconds."""
        self.machine.receive(console.encode(encode(request, 1)), self.now)
        packets = self.wait(patience)
        return decode(packets[0]) if packets else None


class VirtualHost:
    """A host on the other end of a simulated board's wire. `now` is in virtual seconds.

    Bytes take the host latency of the board's options, each way.
    """

    def __init__(self, board: SimBoard, *, baudrate: int | None = 115200, start: float = 1.0) -> None:
        self.board = board
        self.now = start
        self.link = Link(baudrate=baudrate)
        self.round_trip = RoundTrip()
        self.sequences = Sequence()
        self._decoder = console.Decoder()
        self._latency = board.options.uart.host_latency
        self._coming: deque[tuple[float, bytes]] = deque()
        board.machine.advance(start)

    def upload(
        self, data: bytes, *, limits: Limits | None = None, each: Callable[[Upload], None] | None = None
    ) -> Upload:
        """Upload `data`; `each` is called after every answer."""
        upload = Upload(data, sequences=self.sequences, link=self.link, round_trip=self.round_trip, limits=limits)
        self._drive(upload, lambda: upload.done, each)
        return upload

    def images(self) -> ImageStates:
        """The image list."""
        exchange = Exchange(
            ImageStateRead(),
            sequence=self.sequences.take(),
            link=self.link,
            round_trip=self.round_trip,
            tries=20,
        )
        self._drive(exchange, lambda: exchange.response is not None, None)
        return exchange.result()

    def echo(self, request: EchoRequest) -> int:
        """One echo; how many bytes passed on the wire, both ways."""
        counters = self.board.machine.uart.counters
        before = counters.received + counters.sent
        exchange = Exchange(request, sequence=self.sequences.take(), link=self.link, round_trip=self.round_trip)
        self._drive(exchange, lambda: exchange.response is not None, None)
        assert exchange.result().text == request.text
        return counters.received + counters.sent - before

    def _drive(self, engine, done: Callable[[], bool], each: Callable[[Upload], None] | None) -> None:
        while not done():
            while (transmission := engine.due(self.now)) is not None:
                self._send(transmission)
            for packet in self._wait(engine.deadline):
                if engine.receive(packet, self.now) and each is not None:
                    each(engine)

    def _send(self, transmission: Transmission) -> None:
        newline = b"\n" if transmission.flush else b""
        self.board.machine.receive(newline + console.encode(transmission.packet), self.now + self._latency)

    def _wait(self, deadline: float) -> list[bytes]:
        """Let time pass until something arrived, or the deadline has."""
        machine = self.board.machine
        while True:
            event = machine.next_event()
            times = [deadline, *([] if event is None else [event]), *(when for when, _ in self._coming)]
            self.now = max(self.now, min(times))
            assert self.now < _GIVE_UP, "virtual time runs away"
            if sent := machine.advance(self.now):
                self._coming.append((self.now + self._latency, sent))
            arrived = b""
            while self._coming and self._coming[0][0] <= self.now:
                arrived += self._coming.popleft()[1]
            events = self._decoder.feed(arrived)
            packets = [event.data for event in events if isinstance(event, console.Packet)]
            if packets or self.now >= deadline:
                return packets
