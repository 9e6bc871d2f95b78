"""Chunks that are made before their turn: the same bytes, and not made twice."""

import cbor2
import pytest

from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header, Op
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload


def packets_of(limits, *, ahead, lose=()):
    """The packets of an upload whose chunks are answered in order; those numbered in `lose` once only after silence."""
    data, now, sent, queue = bytes(range(256)) * 80, 0.0, [], []
    upload = Upload(data, sequences=Sequence(), link=Link(), round_trip=RoundTrip(), limits=limits)
    while not upload.done:
        while (transmission := upload.due(now)) is not None:
            sent.append(transmission.packet)
            if len(sent) not in lose:
                queue.append(transmission.packet)
            prepared = upload.prepare() if ahead else None
            assert prepared is None or prepared != transmission.packet
        if ahead:
            upload.prepare()
        if not queue:
            now = upload.deadline
            continue
        packet = queue.pop(0)
        payload = cbor2.loads(packet[HEADER_SIZE:])
        end = payload["off"] + len(payload["data"])
        if payload["off"] != upload.acknowledged:
            end = upload.acknowledged
        now += 0.05
        upload.receive(answer(packet, end), now)
    return sent, upload


def answer(packet, off):
    header = Header.unpack(packet)
    payload = cbor2.dumps({"rc": 0, "off": off})
    return header._replace(op=Op.WRITE_RESPONSE, length=len(payload)).pack() + payload


@pytest.mark.parametrize("limits", [Limits(), Limits(line_buffers=8), Limits(line_buffers=8, window=3)])
@pytest.mark.parametrize("lose", [(), (4,), (3, 4, 9)])
def test_what_is_sent_is_the_same_whether_it_was_made_ahead_or_not(limits, lose):
    ahead, upload = packets_of(limits, ahead=True, lose=lose)
    plain, other = packets_of(limits, ahead=False, lose=lose)
    assert ahead == plain
    assert upload.counters == other.counters


def test_a_chunk_that_was_made_ahead_is_not_made_again(monkeypatch):
    upload = Upload(bytes(5000), sequences=Sequence(), link=Link(), round_trip=RoundTrip(), limits=Limits())
    first = upload.due(0.0).packet
    prepared = upload.prepare()
    monkeypatch.setattr(Upload, "_packet", lambda *_: pytest.fail("it was made once more"))
    upload.receive(answer(first, len(cbor2.loads(first[HEADER_SIZE:])["data"])), 0.1)
    assert upload.due(0.1).packet is prepared
