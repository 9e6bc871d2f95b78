import cbor2
import pytest
from wires import UPLOAD, capture, host, update

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.wire import diff
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.packets import exchanges
from pytest_nrfdfu.wire.paint import Paint

REQUESTS = [one.request for one in exchanges(UPLOAD)]


def changed(index: int, wire: bytes) -> Capture:
    """The update's requests with one of them replaced."""
    sent = [wire if at == index else request for at, request in enumerate(REQUESTS)]
    return capture(*(("tx", one) for one in sent))


def chunk(payload: dict[str, object], sequence: int = 1, **header: int) -> bytes:
    body = cbor2.dumps(payload)
    return console.encode(
        Header(**({"op": 2, "group": 1, "command": 1, "sequence": sequence, "length": len(body)} | header)).pack()
        + body
    )


RIGHT = capture(*(("tx", one) for one in REQUESTS))
FIRST = {"len": 1024, "off": 0, "data": UPLOAD.image[:512]}


def test_the_same_is_the_same() -> None:
    comparison = diff.compare(update(), update())
    assert comparison.differences == ()
    assert comparison.first is None
    assert [left.name for left, _ in comparison.pairs if left] == ["image list", "image upload", "image list", "reset"]
    assert "No difference that matters." in list(diff.render(comparison, ("a", "b"), Paint(on=False)))


@pytest.mark.parametrize(
    ("wire", "aspect", "said"),
    [
        (REQUESTS[1][:-9] + b"AAAA" + REQUESTS[1][-5:], "framing", "CRC does not match"),
        (REQUESTS[1].replace(b"\n", b"\r\n"), "framing", "carriage return"),
        (REQUESTS[1][:-1], "framing", "has no newline"),
        (chunk(FIRST, op=0), "op", "0: read"),
        (chunk(FIRST, group=0x100), "group and command", "group 256 command 1"),
        (chunk(FIRST, length=5), "length in the header", "5 bytes of payload"),
        (chunk(FIRST | {"off": "0"}), "keys and types", "off is text, not uint"),
        (chunk({"off": 0, "data": UPLOAD.image[:512]}), "keys and types", "len is missing"),
        (chunk(FIRST | {"len": 1025}), "len", "1025"),
        (chunk(FIRST | {"image": 1}), "image", "1"),
        (chunk(FIRST | {"off": 4}), "offsets", "off 4 where 0 was due"),
        (chunk(FIRST | {"data": bytes(512)}), "data", "1024 bytes"),
    ],
)
def test_what_matters_is_named_first(wire: bytes, aspect: str, said: str) -> None:
    first = diff.compare(RIGHT, changed(1, wire)).first
    assert first is not None
    assert (first.aspect, first.step) == (aspect, 2)
    assert said in first.b
    assert first.b != first.a


@pytest.mark.parametrize(
    ("other", "aspects"),
    [
        (UPLOAD._replace(sequence=66), {"sequence"}),
        (UPLOAD._replace(smp_version=1), {"SMP version"}),
        (UPLOAD._replace(chunk=256), {"chunk size", "sequence", "step"}),
    ],
)
def test_what_does_not_matter_is_told_apart(other, aspects: set[str]) -> None:
    requests = [one.request for one in exchanges(other._replace(chunk=512))]
    if "chunk size" in aspects:
        sizes = range(0, 1024, 256)
        pieces = [{"off": at, "data": UPLOAD.image[at : at + 256]} | ({} if at else {"len": 1024}) for at in sizes]
        requests[1:3] = [chunk(piece, sequence) for sequence, piece in enumerate(pieces, start=1)]
        aspects = aspects - {"step", "sequence"} | {"order of keys"}
    comparison = diff.compare(RIGHT, capture(*(("tx", one) for one in requests)))
    assert comparison.first is None
    assert {one.aspect for one in comparison.differences} == aspects


def test_order_of_keys_and_indefinite_maps_and_sha_do_not_matter() -> None:
    payload = cbor2.dumps({"data": UPLOAD.image[:512], "off": 0, "len": 1024, "sha": bytes(32)})
    body = b"\xbf" + payload[1:] + b"\xff"
    wire = console.encode(Header(op=2, group=1, command=1, sequence=1, length=len(body)).pack() + body)
    comparison = diff.compare(RIGHT, changed(1, wire))
    assert comparison.first is None
    assert {one.aspect for one in comparison.differences} == {"order of keys", "CBOR lengths", "other keys"}


def test_a_key_that_comes_twice_matters() -> None:
    once = cbor2.dumps(FIRST)
    body = b"\xa4" + once[1:] + cbor2.dumps("off") + b"\x00"
    wire = console.encode(Header(op=2, group=1, command=1, sequence=1, length=len(body)).pack() + body)
    first = diff.compare(RIGHT, changed(1, wire)).first
    assert first is not None
    assert (first.aspect, first.b) == ("CBOR", 'key "off" comes twice')


def test_a_missing_reset_matters_and_a_question_more_does_not() -> None:
    no_reset = diff.compare(RIGHT, capture(*(("tx", one) for one in REQUESTS[:-1])))
    assert no_reset.first is not None
    assert (no_reset.first.name, no_reset.first.b) == ("reset", "not sent")
    params = host(Header(op=0, group=0, command=6, sequence=9, length=1).pack() + b"\xa0")
    more = diff.compare(RIGHT, Capture((*params.chunks, *RIGHT.chunks)))
    assert more.first is None
    assert [(one.name, one.a, one.b) for one in more.differences] == [("params", "not sent", "sent")]


def test_a_request_that_is_sent_again_is_one_step() -> None:
    again = capture(("tx", REQUESTS[0]), ("tx", REQUESTS[0]), *(("tx", one) for one in REQUESTS[1:]))
    comparison = diff.compare(RIGHT, again)
    assert comparison.first is None
    assert [(one.aspect, one.b) for one in comparison.differences] == [("repetitions", "1 requests sent again")]


def test_a_chunk_that_is_sent_again_in_smaller_pieces_is_no_wrong_offset() -> None:
    """What a host may do that got no answer."""
    pieces = [{"off": at, "data": UPLOAD.image[at : at + 256]} for at in (512, 768)]
    smaller = [chunk(piece, sequence) for sequence, piece in enumerate(pieces, start=3)]
    again = capture(*(("tx", one) for one in [*REQUESTS[:3], *smaller, *REQUESTS[3:]]))
    comparison = diff.compare(RIGHT, again)
    assert comparison.first is None
    assert "offsets" not in {one.aspect for one in comparison.differences}


def test_the_bytes_of_both_are_shown_with_what_differs() -> None:
    text = list(
        diff.render(diff.compare(RIGHT, changed(1, chunk(FIRST | {"len": 1025}))), ("good", "mine"), Paint(on=False))
    )
    marked = [line.split() for line in text if line.startswith("  >")]
    assert [">", "payload", "19", "04", "00", "1024"] in marked
    assert [">", "payload", "19", "04", "01", "1025"] in marked
    assert ["A:", "good"] in [line.split() for line in text]
    assert not any(len(line) > 100 for line in text)


def test_json_says_which_is_the_first() -> None:
    seen = diff.as_json(diff.compare(RIGHT, changed(1, chunk(FIRST | {"len": 1025}))))
    assert seen["first"]["aspect"] == "len"
    assert seen["steps"][1]["a"] == {"name": "image upload", "requests": 2, "answered": 0, "bytes": 1024}


def test_requests_that_were_sent_again_are_no_further_chunks() -> None:
    """Whether their bytes are the same or, with another sequence number, not."""
    (_, step), *_ = [pair for pair in diff.compare(RIGHT, RIGHT).pairs if pair[1] and pair[1].is_upload]
    assert step is not None
    assert step.said.startswith("image upload: 1024 bytes in 2 chunks of 512 (")
    second = {"off": 512, "data": UPLOAD.image[512:]}
    again = capture(*(("tx", one) for one in (REQUESTS[1], chunk(second), chunk(second), chunk(second, sequence=9))))
    (_, step) = diff.compare(again, again).pairs[0]
    assert step is not None
    assert step.said.startswith("image upload: 1024 bytes in 2 chunks of 512, 2 sent again (")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_listing_is_wrapped_and_nothing_of_it_cut_off(width: int) -> None:
    comparison = diff.compare(RIGHT, changed(1, REQUESTS[1][:-1]))
    text = list(diff.render(comparison, ("a", "b"), Paint(on=False), width))
    listing = text[3 : text.index("", 3)]
    assert not any(line.endswith("...") for line in listing)
    said = {word for left, right in comparison.pairs for step in (left, right) if step for word in step.said.split()}
    assert said <= {word.rstrip(",") for word in " ".join(listing).split()}
