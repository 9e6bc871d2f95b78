"""SMP requests over a port: against a scripted other end, and against the simulated board."""

import hashlib
import time

import pytest

from board.conftest import answer
from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.errors import LossyLink, PortGone, SmpMalformed, SmpRejected, SmpTimeout, UploadFailed
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import Group, ImageCommand
from pytest_nrfdfu.smp.messages import EchoRequest, EraseRequest, ImageStateRead, ImageStateWrite, UploadRequest
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload

LIST = {"images": [{"slot": 0, "version": "1.0.0", "hash": b"\x11" * 32}]}
PATIENT = 20.0
IMPATIENT = {"tries": 3, "timeout": 20.0}
DATA = bytes(range(256)) * 20


@pytest.fixture
def client(far):
    uart = Uart(far.path)
    uart.open()
    client = SmpClient(uart, Link(baudrate=None, erase_page=0.0, write_word=0.0))
    yield client
    uart.close()


@pytest.fixture
def hasty(client):
    """Time-outs of milliseconds, for requests that will not be answered."""
    client.round_trip = RoundTrip(first=0.02, least=0.01, most=0.02)
    return client


# --- one request ----------------------------------------------------------------------------------------------------


def test_a_request_gets_its_response(far, client):
    far.script = lambda request, _: [answer(request, LIST)]
    assert client.images().find().hash == b"\x11" * 32
    assert len(far.requests) == 1


def test_foreign_and_broken_answers_are_left_alone(far, client):
    def script(request, _payload):
        right = answer(request, LIST)
        return [
            answer(request, {"images": []}, sequence=request.sequence ^ 1),
            answer(request, {"images": []}, group=Group.OS),
            answer(request, {"images": []}, op=request.op),
            right[:-8] + b"AAAAAAA\n",
            b"I: log line\r\n",
            right,
        ]

    far.script = script
    assert client.images(timeout=PATIENT).find() is not None


def test_a_duplicate_is_not_the_next_answer(far, client):
    texts = iter(["first", "second"])

    def script(request, _payload):
        right = answer(request, {"r": next(texts)})
        return [right, right]

    far.script = script
    assert client.echo("x") == "first"
    assert client.echo("x") == "second"


def test_a_late_answer_to_the_first_try_counts(far, hasty):
    def script(request, _payload):
        return [answer(request, LIST)] if len(far.requests) == 2 else []

    far.script = script
    assert hasty.images(**IMPATIENT).find() is not None
    assert far.requests[0][0].sequence == far.requests[1][0].sequence


def test_a_retry_begins_with_a_newline(far, hasty):
    """A partial line in the bootloader's buffer must not swallow the request."""
    far.script = lambda request, _: [answer(request, LIST)] if len(far.requests) == 2 else []
    hasty.images(**IMPATIENT)
    assert far.received.count(b"\n\n\x06\x09") == 1


@pytest.mark.parametrize("ask", [SmpClient.images, lambda client: client.upload(b"1234")])
def test_what_follows_silence_begins_with_a_newline(far, hasty, ask):
    """The request that was given up may have left a partial line."""
    far.script = lambda request, _: []
    with pytest.raises(SmpTimeout):
        hasty.echo("x")
    far.script = lambda request, _: [answer(request, LIST | {"off": 4})]
    before = len(far.received)
    ask(hasty)
    assert far.received[before:].startswith(b"\n\x06\x09")
    before = len(far.received)
    hasty.images()
    assert far.received[before:].startswith(b"\x06\x09"), "only the first one"


def test_what_follows_an_upload_that_met_silence_begins_with_a_newline(far, hasty):
    far.script = lambda request, _: []
    with pytest.raises(UploadFailed):
        hasty.upload(DATA)
    far.script = lambda request, _: [answer(request, LIST)]
    before = len(far.received)
    hasty.images()
    assert far.received[before:].startswith(b"\n\x06\x09")


def test_an_image_list_is_waited_for_however_quick_other_answers_were(far, client, monkeypatch):
    """MCUboot hashes its slots for it; asked again meanwhile it would do so again."""
    far.script = lambda request, _: [answer(request, LIST | {"r": "x"})]
    waited, receive = [], client.uart.receive
    monkeypatch.setattr(client.uart, "receive", lambda wait: [waited.append(wait), receive(wait)][1])
    for _ in range(30):
        client.round_trip.sample(0.0, 0.0)
    allowance = client.round_trip.allowance
    client.images()
    assert allowance == pytest.approx(0.08)
    assert 0.3 < waited[0] <= 0.6
    assert client.round_trip.allowance == allowance, "nor does it say anything of them"


def test_silence_says_what_was_tried_and_seen(far, hasty):
    with pytest.raises(SmpTimeout) as caught:
        hasty.images(**IMPATIENT)
    text = str(caught.value)
    assert "was sent 3 times" in text
    assert ImageStateRead().name in text
    assert text.endswith("nothing came from the board meanwhile")
    assert isinstance(caught.value, TimeoutError)


def test_silence_says_what_came_instead(far, hasty):
    def script(request, _payload):
        if len(far.requests) > 1:
            return []
        wrong = answer(request, LIST, sequence=request.sequence ^ 1)
        return [b"E: stack overflow\r\n", wrong, wrong[:-6] + b"AAAAA\n"]

    far.script = script
    with pytest.raises(SmpTimeout) as caught:
        hasty.images(**IMPATIENT)
    text = str(caught.value)
    assert "1 answers to other requests came" in text
    assert "1 broken frames (the last: CRC does not match" in text
    assert "console text ending 'E: stack overflow'" in text
    brief = caught.value.brief
    assert "not answered" in brief
    assert "1 broken frames (the last: CRC does not match" in brief
    assert "stack overflow" not in brief


def test_the_time_allowed_ends_the_tries(far, hasty):
    with pytest.raises(SmpTimeout, match="not answered"):
        hasty.images(tries=1_000_000, timeout=0.1)
    with pytest.raises(SmpTimeout, match="not answered"):
        hasty.poll_images(0.01, time.monotonic() + 0.05)


@pytest.mark.parametrize(
    ("payload", "rc", "group"), [({"rc": 3}, 3, None), ({"err": {"group": 1, "rc": 14}}, 14, 1)], ids=["v1", "v2"]
)
def test_a_refusal_has_its_code(far, client, payload, rc, group):
    far.script = lambda request, _: [answer(request, payload)]
    with pytest.raises(SmpRejected) as caught:
        client.images()
    assert (caught.value.rc, caught.value.group) == (rc, group)


def test_an_answer_that_lacks_what_it_must_hold_is_malformed(far, client):
    far.script = lambda request, _: [answer(request, {"images": [{"slot": 0}]})]
    with pytest.raises(SmpMalformed, match="version"):
        client.images()


def test_params_that_are_not_built_in_are_none(far, client):
    far.script = lambda request, _: [answer(request, {"rc": 8})]
    assert client.params() is None
    far.script = lambda request, _: [answer(request, {"rc": 2})]
    with pytest.raises(SmpRejected):
        client.params()
    far.script = lambda request, _: [answer(request, {"buf_size": 1024, "buf_count": 1})]
    assert client.params().buf_size == 1024


def test_a_reset_carries_what_was_asked_for(far, client):
    far.script = lambda request, _: [answer(request, {"rc": 0})]
    client.reset()
    client.reset(boot_mode=1, force=True)
    assert [payload for _, payload in far.requests] == [{}, {"boot_mode": 1, "force": True}]


def test_a_port_lost_while_waiting_is_no_time_out(far, client):
    far.script = None

    def script(_request, _payload):
        client.uart._opened.port.cancel_read()
        client.uart._lost(client.uart._opened, OSError(5, "Input/output error"))
        return []

    far.script = script
    with pytest.raises(PortGone, match="was lost"):
        client.images(timeout=PATIENT)


# --- upload ---------------------------------------------------------------------------------------------------------


def server(far, *, until=1 << 30, silent=()):
    """A script that takes chunks as MCUboot does, up to offset `until`."""
    state = {"off": 0}

    def script(request, payload):
        if (request.group, request.command) != (Group.IMAGE, ImageCommand.UPLOAD):
            return [answer(request, {"rc": 8})]
        if payload["off"] == 0:
            state["off"] = 0
        if state["off"] >= until:
            return list(silent)
        if payload["off"] == state["off"]:
            state["off"] += len(payload["data"])
        return [answer(request, {"rc": 0, "off": state["off"]})]

    far.script = script
    return state


def chunks(far):
    return [payload for header, payload in far.requests if header.command == ImageCommand.UPLOAD]


def test_an_upload_brings_all_bytes_and_tells_how_far_it_is(far, client):
    server(far)
    told = []
    upload = client.upload(DATA, progress=lambda done, total: told.append((done, total)))
    assert b"".join(chunk["data"] for chunk in chunks(far)) == DATA
    assert upload.done
    assert upload.counters.retries == 0
    assert told[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_lines_are_as_short_as_the_bootloader_needs_them(far, client):
    server(far)
    client.upload(DATA[:600], limits=Limits(max_packet=400, line_length=63))
    sent = [line for line in far.received.split(b"\n") if line]
    assert max(len(line) for line in sent) + 1 <= 63
    assert b"".join(chunk["data"] for chunk in chunks(far)) == DATA[:600]


def test_an_upload_that_dies_says_what_the_board_said(far, client):
    client.round_trip = RoundTrip(first=0.02, least=0.01, most=0.02)
    server(far, until=1000, silent=[b"*** Booting Zephyr OS build v4.4.0 ***\r\n"])
    with pytest.raises(UploadFailed) as caught:
        client.upload(DATA, limits=Limits(max_packet=400))
    text = str(caught.value)
    assert "the board stopped answering" in text
    assert "*** Booting Zephyr OS" in text
    assert not isinstance(caught.value, LossyLink)
    assert isinstance(caught.value.__cause__, SmpTimeout)


def test_an_upload_that_dies_on_a_link_that_lost_before_is_the_benchs_trouble(far, client):
    """A board that stops after a good link is the product's; see the test above."""
    client.round_trip = RoundTrip(first=0.02, least=0.01, most=0.02)
    server(far, until=1000)
    answers, asked = far.script, []

    def script(request, payload):
        asked.append(request)
        return [] if len(asked) % 3 == 2 else answers(request, payload)

    far.script = script
    lossy = r"The link loses data \(\d+ other packets were sent again\): look at its wiring"
    with pytest.raises(LossyLink, match=lossy) as caught:
        client.upload(DATA, limits=Limits(max_packet=150))
    assert caught.value.category == "bench"


def test_a_firmware_that_crashes_in_the_midst_of_an_answer_is_no_lossy_link(far, client):
    """Half a frame, which the banner ends, whose carriage return is not what a strict receiver takes."""
    client.round_trip = RoundTrip(first=0.02, least=0.01, most=0.02)
    server(far, until=1000)
    answers, asked = far.script, []

    def script(request, payload):
        asked.append(answers(request, payload))
        if asked[-1]:
            return asked[-1]
        half = answer(request, {"rc": 0, "off": 1000})[:10]
        return [half + b"*** Booting Zephyr OS build v4.4.0 ***\r\n"] if asked.count([]) == 1 else []

    far.script = script
    with pytest.raises(UploadFailed, match="1 broken frames") as caught:
        client.upload(DATA, limits=Limits(max_packet=400))
    assert not isinstance(caught.value, LossyLink)


def test_an_exception_in_the_callback_breaks_the_upload_off(far, client):
    server(far)
    seen = []

    def stop(done, _total):
        if done > 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload(DATA, progress=stop, began=seen.append)
    broken = seen[0].acknowledged
    assert 2000 < broken < len(DATA)
    before = len(chunks(far))
    upload = client.upload(DATA, start=broken)
    assert upload.resumed
    assert chunks(far)[before]["off"] == broken
    assert "len" not in chunks(far)[before]
    # The chunk behind the answer that was told had been sent already, so it is there twice.
    assert b"".join({chunk["off"]: chunk["data"] for chunk in chunks(far)}.values()) == DATA


def test_the_next_chunk_is_on_its_way_before_progress_is_told(far, client, monkeypatch):
    """And it was made before the answer came."""
    server(far)
    order = []
    prepare, send = Upload.prepare, client.uart.send
    monkeypatch.setattr(Upload, "prepare", lambda upload: order.append("made") or prepare(upload))
    monkeypatch.setattr(client.uart, "send", lambda data: order.append("sent") or send(data))
    client.upload(DATA, progress=lambda *_: order.append("told"))
    steps = " ".join(order)
    assert steps.startswith("sent made sent made told sent made told")
    assert steps.endswith("told")


# --- the simulated bootloader ---------------------------------------------------------------------------------------


@pytest.fixture
def recovery(sim):
    from pytest_nrfdfu.board.recovery import enter

    enter(sim.unit)
    return sim.unit.client


def test_the_bootloader_answers(recovery, builds):
    assert recovery.images().find().hash == builds[0].hash
    assert recovery.params() is None
    with pytest.raises(SmpRejected) as caught:
        recovery.request(EchoRequest("x"))
    assert caught.value.rc == 8


def test_what_is_lost_on_the_wire_is_sent_again(recovery, sim, builds):
    image = builds[1].image.data
    recovery.round_trip = RoundTrip(first=0.05, least=0.03, most=0.2)
    sim.admin.set_rates(to_board_drop_rate=0.002, from_board_drop_rate=0.002)
    try:
        upload = recovery.upload(image[:3000], limits=Limits(max_packet=400))
    finally:
        sim.admin.set_rates(to_board_drop_rate=0.0, from_board_drop_rate=0.0)
    assert upload.counters.retries
    assert sim.admin.flash_hash(size=3000).sha256 == hashlib.sha256(image[:3000]).digest()
    recovery.upload(builds[0].image.data)


def test_a_frame_of_the_client_is_whole_lines(far, client):
    far.script = lambda request, _: [answer(request, {"r": "x" * 200})]
    assert client.echo("y" * 200) == "x" * 200
    lines = far.received.splitlines(keepends=True)
    assert all(line.startswith((console.START, console.CONTINUATION)) and line.endswith(b"\n") for line in lines)
    assert max(map(len, lines)) <= console.LINE_LENGTH


# --- what changes the board -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (ImageStateRead(), 0),
        (EchoRequest("x"), 0),
        (EraseRequest(), 1),
        (ImageStateWrite(b"1" * 32), 1),
        (UploadRequest(off=0, data=b"x", length=1), 1),
    ],
)
def test_every_write_to_images_is_told(far, client, request_, changes):
    told = []
    client.on_change = lambda: told.append(len(far.requests))
    far.script = lambda request, _: [answer(request, {"off": 1, "r": "x", **LIST})]
    client.request(request_)
    assert told == [0] * changes, "before it is sent"
