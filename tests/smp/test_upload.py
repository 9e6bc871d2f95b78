"""The upload, joined in virtual time with a server that follows MCUboot's rules of offsets."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import SmpMalformed, SmpRejected, SmpTimeout, UploadFailed
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import UploadRequest
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Chunk, Limits, StopAndWait, Upload, chunk_size
from pytest_nrfdfu.smp.window import ANY

INSTANT = Link(baudrate=None, erase_page=0.0, write_word=0.0)


def image(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(4, "big")).digest(size)


@dataclass
class FakeServer:
    """bs_upload of MCUboot's boot_serial.c: takes a chunk at the expected offset only, and always tells that offset."""

    max_packet: int = 1020
    slot: bytearray = field(default_factory=bytearray)
    expected: int = 0
    size: int = 0
    requests: list[tuple[Header, dict[str, Any]]] = field(default_factory=list)

    def reset(self) -> None:
        """The state of an upload is kept in RAM only."""
        self.expected = self.size = 0

    def handle(self, packet: bytes) -> bytes | None:
        if len(packet) > self.max_packet:
            return None
        header, payload = decode(packet)
        self.requests.append((header, payload))
        body = dumps(self.answer(**payload))
        return header.response(len(body)).pack() + body

    def answer(self, off: int, data: bytes, **first: Any) -> dict[str, Any]:
        if off == 0:
            if "len" not in first:
                return {"rc": 3}
            self.size, self.expected, self.slot = first["len"], 0, bytearray()
        if off == self.expected and self.expected < self.size:
            if off + len(data) > self.size:
                return {"rc": 3}
            if off + len(data) < self.size:
                data = data[: len(data) // 4 * 4]
            self.slot[off:] = data
            self.expected += len(data)
        return {"rc": 0, "off": self.expected}


@dataclass
class Line:
    """Both directions of a wire: packets in order, `delay` seconds each way."""

    server: FakeServer
    delay: float = 0.01
    now: float = 0.0
    to_server: Callable[[int, bytes], list[bytes]] = lambda _, packet: [packet]
    to_client: Callable[[int, bytes], list[bytes]] = lambda _, packet: [packet]
    """What becomes of request or response number n: nothing, it, it twice, something else."""
    before: Callable[[int], None] = lambda _: None
    """Called before request number n is sent."""
    sent: list[bytes] = field(default_factory=list)
    flushes: int = 0
    answered: int = 0
    coming: deque[tuple[float, bytes]] = field(default_factory=deque)

    def send(self, packet: bytes) -> None:
        self.before(len(self.sent))
        arrived = self.to_server(len(self.sent), packet)
        self.sent.append(packet)
        for request in arrived:
            response = self.server.handle(request)
            if response is not None:
                for one in self.to_client(self.answered, response):
                    self.coming.append((self.now + 2 * self.delay, one))
                self.answered += 1

    def run(self, upload: Upload) -> None:
        for _ in range(20_000):
            if upload.done:
                return
            while (transmission := upload.due(self.now)) is not None:
                self.flushes += transmission.flush
                self.send(transmission.packet)
            if self.coming and self.coming[0][0] <= upload.deadline:
                self.now, packet = self.coming.popleft()
                upload.receive(packet, self.now)
            else:
                assert upload.deadline > self.now, "it neither waits nor sends"
                self.now = upload.deadline
        pytest.fail("the upload does not end")


def make(data: bytes, **options: Any) -> Upload:
    fixed: dict[str, Any] = {"sequences": Sequence(), "link": INSTANT, "round_trip": RoundTrip()}
    return Upload(data, **(fixed | options))


def only(*numbers: int) -> Callable[[int, bytes], list[bytes]]:
    """Loses the packets of these numbers."""
    return lambda number, packet: [] if number in numbers else [packet]


def check_chunks(server: FakeServer, total: int) -> None:
    """What holds for every upload to MCUboot."""
    for header, payload in server.requests:
        last = payload["off"] + len(payload["data"]) == total
        assert last or len(payload["data"]) % 4 == 0
        assert ("len" in payload) == (payload["off"] == 0)
        assert header.length <= server.max_packet - 8


# --- chunks ---------------------------------------------------------------------------------------------------------


def test_chunks_of_an_ordinary_upload() -> None:
    data, server = image(100_000), FakeServer()
    line = Line(server)
    upload = make(data, image=0, sha=hashlib.sha256(data).digest())
    line.run(upload)
    assert bytes(server.slot) == data
    check_chunks(server, len(data))
    first, *others = (payload for _, payload in server.requests)
    assert first.keys() == {"image", "len", "sha", "off", "data"}
    assert (first["image"], first["len"], first["sha"]) == (0, 100_000, hashlib.sha256(data).digest())
    assert all(payload.keys() == {"off", "data"} for payload in others)
    sizes = [len(payload["data"]) for payload in others]
    assert set(sizes[:-1]) == {992}, "what 11 full lines hold"
    assert {console.line_count(len(packet)) for packet in line.sent[:-1]} == {11}
    counters = upload.counters
    assert (counters.chunks, counters.largest_chunk) == (len(line.sent), 992)
    assert (counters.retries, counters.resyncs, counters.restarts, counters.stale, line.flushes) == (0, 0, 0, 0, 0)
    assert (upload.acknowledged, upload.total, upload.resumed) == (100_000, 100_000, False)


def test_sequence_numbers_follow_one_another() -> None:
    line = Line(FakeServer())
    line.run(make(image(300_000), sequences=Sequence(250)))
    assert [Header.unpack(packet).sequence for packet in line.sent] == [(250 + n) % 256 for n in range(len(line.sent))]


@pytest.mark.parametrize("version", [0, 1])
def test_version(version: int) -> None:
    line = Line(FakeServer())
    line.run(make(image(2000), version=version))
    assert {Header.unpack(packet).version for packet in line.sent} == {version}


def test_an_image_number_goes_into_the_first_chunk_or_all() -> None:
    """Old MCUboot writes a chunk without it into the slot of image 0. It is told again only where it is not 0."""
    server = FakeServer()
    Line(server).run(make(image(5000), image=3, limits=Limits(repeat_image=True)))
    assert {payload["image"] for _, payload in server.requests} == {3}
    server = FakeServer()
    Line(server).run(make(image(5000), image=3))
    assert [payload.get("image") for _, payload in server.requests] == [3, *[None] * (len(server.requests) - 1)]
    server = FakeServer()
    Line(server).run(make(image(5000)))
    assert all("image" not in payload for _, payload in server.requests)


@pytest.mark.parametrize("cap", [*range(140, 300), *range(300, 2049, 37), 509, 1020, 1021, 2044, 2048])
def test_no_packet_is_larger_than_the_cap(cap: int) -> None:
    data = image(3 * cap)
    for start in (0, 2 * cap // 4 * 4):
        server = FakeServer(max_packet=cap, expected=start, size=len(data), slot=bytearray(data[:start]))
        line = Line(server)
        line.run(make(data, limits=Limits(max_packet=cap), start=start, sha=bytes(32)))
        assert bytes(server.slot) == data
        check_chunks(server, len(data))
        assert max(map(len, line.sent)) <= cap


@pytest.mark.parametrize(("off", "size"), [(992, 992), (1984, 992), (70_000, 992)])
def test_992_bytes_at_a_cap_of_1020(off: int, size: int) -> None:
    assert chunk_size(UploadRequest(off=off), 1020, Limits(), 100_000) == size


@given(
    st.integers(40, 2048),
    st.integers(0, 10**6),
    st.integers(1, 5000),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([64, 127]),
)
def test_no_other_chunk_would_be_much_faster(cap: int, off: int, left: int, align: int, length: int) -> None:
    """Against trying every size: most data for its time on the wire, an answer of 40 bytes included."""
    limits, request = Limits(line_length=length, align=align), UploadRequest(off=off)

    def rate(size: int) -> float:
        packet = 8 + len(dumps(UploadRequest(off=off, data=bytes(size)).payload()))
        return 0.0 if packet > cap else size / (console.wire_size(packet, length) + 40)

    chosen = chunk_size(request, cap, limits, left)
    allowed = [size for size in range(1, min(left, cap) + 1) if size % align == 0 or size == left]
    assert chosen == 0 or chosen in allowed
    # Not the very best: the tail of a full line may hold no whole word, so that a little less fills it better.
    assert rate(chosen) >= 0.97 * max(map(rate, allowed), default=0.0)


def test_no_room_for_data() -> None:
    with pytest.raises(UploadFailed, match=r"packets of at most 28 bytes leave no room for data .* at offset 0"):
        make(image(100), limits=Limits(max_packet=28)).due(0.0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 991, 992, 993, 995, 5001, 4095, 4097])
def test_images_of_any_length(size: int) -> None:
    data, server = image(size), FakeServer()
    Line(server).run(make(data))
    assert bytes(server.slot) == data
    check_chunks(server, size)


def test_an_empty_image() -> None:
    with pytest.raises(UploadFailed, match="the image is empty"):
        make(b"")


# --- losses ---------------------------------------------------------------------------------------------------------


def test_a_lost_request_is_sent_again_after_a_newline() -> None:
    data, server = image(5000), FakeServer()
    line = Line(server, to_server=only(2))
    upload = make(data)
    line.run(upload)
    assert bytes(server.slot) == data
    assert line.sent[3] == line.sent[2], "the sequence too"
    assert (upload.counters.retries, upload.counters.resyncs, line.flushes) == (1, 0, 1)
    assert len(upload.counters.repeated) == 1


def test_a_lost_response_is_made_good_by_the_offset() -> None:
    data, server = image(5000), FakeServer()
    line = Line(server, to_client=only(2))
    upload = make(data)
    line.run(upload)
    assert bytes(server.slot) == data
    assert (upload.counters.retries, upload.counters.resyncs, upload.counters.restarts) == (1, 0, 0)


def test_the_first_and_the_last_response_lost() -> None:
    data, server = image(2000), FakeServer()
    last = make(data)
    probe = Line(FakeServer())
    probe.run(last)
    line = Line(server, to_client=only(0, len(probe.sent)))
    upload = make(data)
    line.run(upload)
    assert bytes(server.slot) == data
    assert upload.counters.retries == 2


def test_duplicated_requests_and_responses() -> None:
    data, server = image(20_000), FakeServer()
    upload = make(data)
    Line(server, to_server=lambda _, p: [p, p], to_client=lambda _, p: [p, p]).run(upload)
    assert bytes(server.slot) == data
    assert upload.counters.restarts == 0
    assert upload.counters.stale > 0


@pytest.mark.parametrize("first", [0.3, 0.5, 0.79])
def test_late_responses_cost_repetitions_at_first_and_then_none(first: float) -> None:
    """Slower than the first time-out. RFC 6298: the time-out stays long until there is a measurement."""
    data, server = image(60_000), FakeServer()
    line = Line(server, delay=0.4)
    upload = make(data, round_trip=RoundTrip(first=first))
    line.run(upload)
    assert bytes(server.slot) == data
    assert upload.counters.retries <= 2
    assert (upload.counters.resyncs, upload.counters.restarts) == (0, 0)


def test_responses_so_late_that_the_first_chunk_was_made_smaller_meanwhile() -> None:
    """An answer to the larger one is as good: it is followed, not waited out."""
    data, server = image(20_000), FakeServer()
    line = Line(server, delay=2.4)
    upload = make(data)
    line.run(upload)
    assert bytes(server.slot) == data
    assert len(line.sent[3]) < len(line.sent[0])
    assert upload.counters.progress[1] == (4.8, len(decode(line.sent[0]).payload["data"]))


def test_no_round_trip_is_measured_after_a_retransmission() -> None:
    times = RoundTrip(first=0.6, least=0.0)
    upload = make(image(500), round_trip=times)
    server = FakeServer()
    sent = upload.due(0.0)
    assert sent is not None
    upload.due(upload.deadline)
    response = server.handle(sent.packet)
    assert response is not None
    assert upload.receive(response, 0.61)
    assert upload.done
    assert times.allowance == 0.6


def test_a_server_that_takes_fewer_bytes() -> None:
    class Sparing(FakeServer):
        def answer(self, off: int, data: bytes, **first: Any) -> dict[str, Any]:
            return super().answer(off, data[:100], **first)

    data, server = image(5000), Sparing()
    upload = make(data)
    Line(server).run(upload)
    assert bytes(server.slot) == data
    assert upload.counters.resyncs == 49


def test_a_server_that_resets_in_the_middle() -> None:
    data, server = image(20_000), FakeServer()
    line = Line(server, before=lambda number: server.reset() if number == 7 else None)
    upload = make(data)
    line.run(upload)
    assert bytes(server.slot) == data
    assert (upload.counters.restarts, upload.counters.resyncs, upload.resumed) == (1, 1, False)
    assert [off for _, off in upload.counters.progress].count(0) == 2
    check_chunks(server, len(data))


def test_a_server_that_resets_again_and_again() -> None:
    server = FakeServer()
    line = Line(server, before=lambda number: server.reset() if number % 5 == 4 else None)
    with pytest.raises(
        UploadFailed, match=r"went back 4 times, the last time to offset 0 when it had acknowledged \d+ of"
    ):
        line.run(make(image(20_000)))


def test_a_server_that_keeps_going_back() -> None:
    class Swinging(FakeServer):
        def answer(self, off: int, data: bytes, **first: Any) -> dict[str, Any]:
            return {"rc": 0, "off": 400 if off > 400 else off + len(data)}

    with pytest.raises(UploadFailed, match="went back 4 times, the last time to offset 400"):
        Line(Swinging()).run(make(image(20_000)))


# --- resuming -------------------------------------------------------------------------------------------------------


def test_going_on_with_a_broken_upload() -> None:
    data = image(20_000)
    server = FakeServer(expected=9920, size=len(data), slot=bytearray(data[:9920]))
    upload = make(data, start=9920)
    assert (upload.acknowledged, upload.resumed) == (9920, True)
    Line(server).run(upload)
    assert bytes(server.slot) == data
    assert server.requests[0][1]["off"] == 9920
    assert (upload.resumed, upload.counters.restarts) == (True, 0)


@pytest.mark.parametrize("kept", [4960, 15_000])
def test_going_on_where_the_server_says(kept: int) -> None:
    data = image(20_000)
    server = FakeServer(expected=kept, size=len(data), slot=bytearray(data[:kept]))
    upload = make(data, start=9920)
    Line(server).run(upload)
    assert bytes(server.slot) == data
    assert (upload.resumed, upload.counters.restarts, upload.counters.resyncs) == (True, 0, 1)


def test_a_server_that_lost_the_broken_upload() -> None:
    data, server = image(20_000), FakeServer()
    upload = make(data, start=9920, image=1)
    Line(server).run(upload)
    assert bytes(server.slot) == data
    assert (upload.resumed, upload.counters.restarts) == (False, 1)
    assert [payload["off"] for _, payload in server.requests[:2]] == [9920, 0]
    check_chunks(server, len(data))


@pytest.mark.parametrize("start", [-1, 21])
def test_start_lies_within_the_image(start: int) -> None:
    with pytest.raises(ValueError, match=f"an upload of 20 bytes cannot go on at {start}"):
        make(image(20), start=start)


# --- failures -------------------------------------------------------------------------------------------------------


class Answering(FakeServer):
    """Gives one fixed answer."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__()
        self.payload = payload

    def answer(self, off: int, data: bytes, **first: Any) -> dict[str, Any]:
        return self.payload


def test_no_progress_at_the_start() -> None:
    with pytest.raises(UploadFailed, match=r"no progress: .* 5 chunks with rc 0 and offset 0 of 5000 bytes"):
        Line(Answering({"rc": 0, "off": 0})).run(make(image(5000)))


def test_no_progress_in_the_middle() -> None:
    with pytest.raises(UploadFailed, match=r"no progress: .* 5 chunks with rc 0 and offset 400 of 5000 bytes"):
        Line(Answering({"rc": 0, "off": 400})).run(make(image(5000)))


def test_answers_without_progress_in_between_are_no_reason_to_give_up() -> None:
    class Forgetful(FakeServer):
        def answer(self, off: int, data: bytes, **first: Any) -> dict[str, Any]:
            return super().answer(off, data if len(self.requests) % 2 else b"", **first)

    data, server = image(20_000), Forgetful()
    upload = make(data)
    Line(server).run(upload)
    assert bytes(server.slot) == data
    assert upload.counters.resyncs > 5


@pytest.mark.parametrize("off", [-1, 4996, 5001, 2**63])
def test_an_offset_beyond_what_was_sent(off: int) -> None:
    with pytest.raises(UploadFailed, match=rf"asks for offset {off}, but only \d+ of 5000 bytes were sent"):
        Line(Answering({"rc": 0, "off": off})).run(make(image(5000)))


@pytest.mark.parametrize(
    ("payload", "why", "rc"),
    [
        ({"rc": 3}, "image number 5 has no slot", 3),
        ({"err": {"group": 1, "rc": 30}}, r"INVALID_IMAGE_TOO_LARGE \(30\) of group 1: image too large$", 30),
    ],
)
def test_a_refusal_at_offset_0(payload: dict[str, Any], why: str, rc: int) -> None:
    """MCUboot's rc says little, so its likely causes are told; a group's error says all."""
    with pytest.raises(UploadFailed, match=rf"refused the chunk at offset 0 of 50 bytes: .*{why}") as caught:
        Line(Answering(payload)).run(make(image(50), image=5))
    assert isinstance(caught.value.__cause__, SmpRejected)
    assert caught.value.__cause__.rc == rc


def test_a_refusal_later() -> None:
    data = image(20_000)
    server = FakeServer()
    line = Line(server, before=lambda number: setattr(server, "size", 4000) if number == 3 else None)
    with pytest.raises(UploadFailed, match="data past the end of the slot") as caught:
        line.run(make(data))
    assert isinstance(caught.value.__cause__, SmpRejected)


def test_silence() -> None:
    line = Line(FakeServer(), to_server=only(*range(100)))
    with pytest.raises(
        UploadFailed, match="stopped answering: the chunk at offset 0 of 5000 bytes was sent 10 times"
    ) as e:
        line.run(make(image(5000)))
    assert isinstance(e.value.__cause__, SmpTimeout)
    assert "10 tries" in str(e.value.__cause__)
    assert len(line.sent) == 10
    assert line.flushes == 9


def test_silence_in_the_middle_and_fewer_tries() -> None:
    line = Line(FakeServer(), to_server=only(*range(3, 100)))
    with pytest.raises(UploadFailed, match=r"the chunk at offset \d+ of 5000 bytes was sent 4 times"):
        line.run(make(image(5000), tries=4))


@pytest.mark.parametrize("payload", [{"rc": 0}, {"off": "x"}, {"rc": "no"}])
def test_answers_that_cannot_be_read_count_as_none(payload: dict[str, Any]) -> None:
    upload = make(image(5000))
    with pytest.raises(UploadFailed, match="was sent 10 times and got no answer that can be read") as caught:
        Line(Answering(payload)).run(upload)
    assert isinstance(caught.value.__cause__, SmpMalformed)
    assert upload.counters.malformed == 10


def test_one_damaged_answer_is_made_good() -> None:
    data, server = image(5000), FakeServer()
    upload = make(data)
    Line(server, to_client=lambda number, p: [p[:-1]] if number == 1 else [p]).run(upload)
    assert bytes(server.slot) == data
    assert (upload.counters.malformed, upload.counters.retries) == (1, 1)


def test_foreign_packets_are_left_alone() -> None:
    data, server = image(500), FakeServer()
    upload = make(data)
    sent = upload.due(0.0)
    assert sent is not None
    response = server.handle(sent.packet)
    assert response is not None
    header = Header.unpack(response)
    for change in ({"sequence": 9}, {"op": 1}, {"group": 0}, {"command": 0}):
        assert not upload.receive(header._replace(**change).pack() + response[8:], 0.1)
    assert not upload.receive(b"short", 0.1)
    assert upload.counters.stale == 4
    assert not upload.done
    assert upload.receive(response, 0.1)
    assert upload.done
    assert upload.due(9.9) is None
    assert not upload.receive(response, 0.2)


# --- packet size ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takes", [1020, 600, 509, 300, 252, 160, 140])
def test_packets_shrink_until_they_fit(takes: int) -> None:
    """A bootloader with a smaller buffer than thought is silent to what is too large."""
    data, server = image(20_000), FakeServer(max_packet=takes)
    upload = make(data)
    Line(server).run(upload)
    assert bytes(server.slot) == data


def test_packets_grow_again() -> None:
    data = image(60_000)
    line = Line(FakeServer(), to_server=only(5, 6, 7))
    upload = make(data)
    line.run(upload)
    sizes = [len(packet) for packet in line.sent]
    assert sizes[5] == sizes[6] == sizes[7] > 2 * sizes[8] * 0.9
    assert max(sizes[8:40]) < 520
    assert sizes[45] == sizes[4], "after 32 chunks without loss"
    assert upload.counters.retries == 3


def test_packets_that_turned_out_too_large_are_tried_less_and_less_often() -> None:
    server = FakeServer(max_packet=600)
    line = Line(server)
    line.run(make(image(100_000)))
    large = [number for number, packet in enumerate(line.sent) if len(packet) > 600]
    gaps = [after - before for before, after in itertools.pairwise(large) if after - before > 1]
    assert gaps == sorted(gaps)
    assert len(set(gaps)) == len(gaps) > 1


# --- windows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    size: int

    def room(self, in_flight: tuple[Chunk, ...]) -> int:
        """Never behind the chunk that begins the upload."""
        return ANY if len(in_flight) < self.size and not any(chunk.off == 0 for chunk in in_flight) else 0

    def cut(self, off: int, size: int, in_flight: tuple[Chunk, ...]) -> int:
        return size


def test_stop_and_wait_has_one_chunk_in_flight() -> None:
    upload = make(image(5000))
    assert upload.due(0.0) is not None
    assert upload.due(0.0) is None
    assert StopAndWait().room(())


def test_a_window_survives_losses() -> None:
    for lost in range(12):
        for direction in ("to_server", "to_client"):
            data, server = image(10_000), FakeServer()
            upload = make(data, policy=Window(3))
            Line(server, **{direction: only(lost)}).run(upload)  # type: ignore[arg-type]
            assert bytes(server.slot) == data
            assert upload.counters.restarts == 0


def test_an_answer_to_a_later_chunk_settles_the_earlier_ones() -> None:
    data, server = image(4000), FakeServer()
    upload = make(data, policy=Window(2))
    first = upload.due(0.0)
    assert first is not None
    assert upload.receive(server.handle(first.packet) or b"", 0.0)
    second, third = upload.due(0.0), upload.due(0.0)
    assert second is not None
    assert third is not None
    server.handle(second.packet)
    assert upload.receive(server.handle(third.packet) or b"", 0.1)
    assert upload.acknowledged == server.expected
    following = upload.due(99.0)
    assert following is not None
    assert not following.flush, "the second chunk is not sent again, its answer is not missing"


# --- anything may happen --------------------------------------------------------------------------------------------

FATES = st.lists(st.sampled_from(["through", "through", "lost", "twice", "damaged"]), max_size=60)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 12_000),
    cap=st.sampled_from([140, 256, 600, 1020]),
    takes=st.sampled_from([140, 256, 1020]),
    requests=FATES,
    responses=FATES,
    resets=st.sets(st.integers(0, 60), max_size=3),
    start=st.integers(0, 12_000),
    window=st.integers(1, 3),
)
@example(5000, 1020, 1020, ["lost"] * 30, [], set(), 0, 1)
def test_the_server_ends_with_exactly_the_data_or_the_upload_fails(
    size: int,
    cap: int,
    takes: int,
    requests: list[str],
    responses: list[str],
    resets: set[int],
    start: int,
    window: int,
) -> None:
    data, server = image(size), FakeServer(max_packet=takes)

    def fate(fates: list[str]) -> Callable[[int, bytes], list[bytes]]:
        def of(number: int, packet: bytes) -> list[bytes]:
            what = fates[number] if number < len(fates) else "through"
            # A damaged packet does not come out of the console's decoder.
            return {"through": [packet], "lost": [], "twice": [packet, packet], "damaged": []}[what]

        return of

    line = Line(server, before=lambda number: server.reset() if number in resets else None)
    line.to_server, line.to_client = fate(requests), fate(responses)
    upload = make(data, limits=Limits(max_packet=cap), start=min(start, size - 1), policy=Window(window))
    try:
        line.run(upload)
    except UploadFailed:
        assert any(f != "through" for f in requests + responses) or resets or start
    else:
        assert bytes(server.slot) == data
        assert upload.acknowledged == size
    assert max(map(len, line.sent)) <= cap
