"""Uploads to a running application: names of its errors, its window, sessions taken up by their sha."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

import pytest

from pytest_nrfdfu.errors import SmpRejected, UploadFailed
from pytest_nrfdfu.smp.application_window import ApplicationWindow
from pytest_nrfdfu.smp.chunks import Chunk
from pytest_nrfdfu.smp.codec import decode, dumps, rejection
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.names import error_name
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload
from pytest_nrfdfu.smp.window import ANY

PAGE = 4096
DATA = hashlib.shake_128(b"application").digest(3 * PAGE + 77)
SHA = hashlib.sha256(DATA).digest()


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "rc", "name"),
    [
        (None, 6, "EBADSTATE (6)"),
        (None, 13, "UNSUPPORTED_TOO_NEW (13)"),
        (0, 3, "QUERY_YIELDS_NO_ANSWER (3)"),
        (1, 9, "NO_FREE_SLOT (9)"),
        (1, 24, "INVALID_HASH (24)"),
        (1, 27, "CURRENT_VERSION_IS_NEWER (27)"),
        (1, 28, "IMAGE_ALREADY_PENDING (28)"),
        (1, 33, "IMAGE_SETTING_TEST_TO_ACTIVE_DENIED (33)"),
        (1, 99, "error 99"),
        (1, -1, "error -1"),
        (63, 1, "error 1"),
    ],
)
def test_errors_are_named_as_in_zephyrs_headers(group: int | None, rc: int, name: str) -> None:
    assert error_name(group, rc) == name


def test_a_rejection_names_its_error_in_either_version() -> None:
    one, two = rejection({"rc": 6}), rejection({"err": {"group": 1, "rc": 9}})
    assert str(one) == "the server answered EBADSTATE (6): current state disallows it"
    assert str(two) == "the server answered NO_FREE_SLOT (9) of group 1: no free slot"


# --- the window -----------------------------------------------------------------------------------------------------


def chunk(off: int, size: int) -> Chunk:
    return Chunk(off, size, sequence=0, packet=b"", computed=0.0, sent_at=0.0, deadline=0.0, tries=1)


def test_the_first_chunk_goes_alone() -> None:
    """It may erase the slot, and may be answered with the offset of an earlier upload."""
    policy = ApplicationWindow(window=3)
    assert policy.room(()) == ANY
    assert policy.room((chunk(0, 356),)) == 0


def test_no_more_than_the_window() -> None:
    policy = ApplicationWindow(window=3)
    assert policy.room((chunk(600, 300), chunk(900, 300))) == ANY
    assert policy.room((chunk(600, 300), chunk(900, 300), chunk(1200, 300))) == 0


def test_nothing_follows_a_chunk_that_fills_the_first_block_of_a_page() -> None:
    policy = ApplicationWindow(window=3)
    last = PAGE + 511  # of the first block of 512 bytes of the second page
    assert policy.may_erase(chunk(last, 1))
    assert policy.may_erase(chunk(last - 355, 356))
    assert not policy.may_erase(chunk(last - 356, 356))
    assert not policy.may_erase(chunk(last + 1, 356))
    assert policy.may_erase(chunk(400, 300)), "the first page's"
    assert not ApplicationWindow(window=3, page=None).may_erase(chunk(last, 1))


# --- whole uploads --------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Zephyr's img_mgmt_upload, as far as offsets, sessions and buffers go: takes the oldest request, answers it."""

    buffers: int = 4
    sha: bytes = b""
    slot: bytearray = field(default_factory=bytearray)
    waiting: deque[bytes] = field(default_factory=deque)
    most: int = 0
    """The most requests that were inside."""

    def push(self, packet: bytes) -> None:
        self.waiting.append(packet)
        self.most = max(self.most, len(self.waiting))

    def serve(self) -> bytes:
        full = len(self.waiting) >= self.buffers
        header, payload = decode(self.waiting.popleft())
        answer = {"rc": 2} if full else self.answer(**payload)
        body = dumps(answer)
        return header.response(len(body)).pack() + body

    def answer(self, off: int, data: bytes, sha: bytes = b"", **_: object) -> dict[str, object]:
        if off == 0:
            if sha and sha == self.sha:
                return {"off": len(self.slot)}
            self.sha, self.slot = sha, bytearray()
        if off == len(self.slot):
            self.slot += data
        return {"off": len(self.slot)}


def upload(**more) -> Upload:
    settings = {"limits": Limits(max_packet=380, align=1), "policy": ApplicationWindow(window=3), "sha": SHA} | more
    return Upload(DATA, sequences=Sequence(), link=Link(), round_trip=RoundTrip(), **settings)


def run(sent: Upload, server: Server) -> None:
    now = 0.0
    while not sent.done:
        while (transmission := sent.due(now)) is not None:
            server.push(transmission.packet)
        now += 0.05
        if server.waiting:
            sent.receive(server.serve(), now)


def test_a_whole_upload_with_a_window() -> None:
    server, sent = Server(), upload()
    run(sent, server)
    assert bytes(server.slot) == DATA
    assert server.most == 3, "one packet is left for the response"
    assert (sent.counters.retries, sent.counters.resyncs) == (0, 0)
    assert not sent.resumed


def test_an_upload_is_taken_up_by_its_sha() -> None:
    """And that is no loss: the window stays open."""
    server = Server(sha=SHA, slot=bytearray(DATA[:5000]))
    sent = upload()
    run(sent, server)
    assert bytes(server.slot) == DATA
    assert sent.resumed
    assert sent.counters.resyncs == 0
    assert sent.counters.window == 3
    assert sent.counters.progress[1][1] == 5000


def test_an_upload_that_is_there_whole_ends_with_its_first_answer() -> None:
    server, sent = Server(sha=SHA, slot=bytearray(DATA)), upload()
    run(sent, server)
    assert (sent.done, sent.resumed, sent.counters.chunks) == (True, True, 1)


def test_without_a_sha_an_offset_that_was_not_sent_is_an_error() -> None:
    server, sent = Server(slot=bytearray(DATA[:5000])), upload(sha=None)
    server.answer = lambda **_: {"off": 5000}  # type: ignore[method-assign]
    with pytest.raises(UploadFailed, match="asks for offset 5000"):
        run(sent, server)


def test_no_packet_for_the_answer_is_not_a_verdict_on_the_image() -> None:
    """rc 2 (MGMT_ERR_ENOMEM): the chunk is sent again."""
    server, sent = Server(buffers=2), upload(policy=ApplicationWindow(window=2))
    run(sent, server)
    assert bytes(server.slot) == DATA
    assert sent.counters.malformed > 0


def test_advice_is_for_an_application() -> None:
    """An error of SMP version 1 has no group, and is not MCUboot's."""
    server, sent = Server(), upload()
    server.answer = lambda **_: {"rc": 6}  # type: ignore[method-assign]
    with pytest.raises(UploadFailed, match=r"EBADSTATE \(6\)[^;]*$"):
        run(sent, server)
    silent = upload(tries=1)
    silent.due(0.0)
    with pytest.raises(UploadFailed, match=r"fit the application's buffers \(CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE"):
        silent.due(silent.deadline)


def test_a_groups_error_is_told_as_it_is() -> None:
    """Without the guess that serves for MCUboot's rc 3."""
    server, sent = Server(), upload()
    server.answer = lambda **_: {"err": {"group": 1, "rc": 9}}  # type: ignore[method-assign]
    with pytest.raises(UploadFailed) as failed:
        run(sent, server)
    assert str(failed.value).endswith("the server answered NO_FREE_SLOT (9) of group 1: no free slot")
    assert isinstance(failed.value.__cause__, SmpRejected)


def test_the_first_answer_is_waited_for_as_long_as_the_erase_of_the_image_takes() -> None:
    """Not that of the slot: a first chunk that is lost is not missed for so long."""
    soon, late = upload(), upload(limits=Limits(max_packet=380, first_erase=1.5))
    assert soon.due(0.0) is not None
    assert late.due(0.0) is not None
    pages = 4 + 1  # those of the image, and the trailer's
    assert late.deadline - soon.deadline == pytest.approx(1.5 * pages * Link().erase_page, abs=0.01)


def test_an_allowance_for_erases_that_cannot_be_told() -> None:
    hasty, patient = upload(policy=None), upload(policy=None, limits=Limits(max_packet=380, align=1, patience=3.0))
    for one in (hasty, patient):
        assert one.due(0.0) is not None
    assert patient.deadline > hasty.deadline + 2
