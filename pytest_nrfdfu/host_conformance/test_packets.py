"""What a host's packets look like: sizes that MCUboot can take, and whatever lint finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from pytest_nrfdfu.host_conformance.conftest import Clean

Saw = Callable[[str], None]


def test_lines_fit(clean: Clean, saw: Saw) -> None:
    """Sends no line that is longer than MCUboot's line buffer."""
    limit = clean.target.profile.line_length
    sizes = [len(line.raw) for frame in clean.observed.sent for line in frame.lines]
    assert sizes, "it sent nothing"
    assert max(sizes) <= limit, f"it sent a line of {max(sizes)} bytes, newline included; {limit} are kept"
    saw(f"up to {max(sizes)} bytes of {limit}")


def test_packets_fit(clean: Clean, saw: Saw) -> None:
    """Sends no packet that is larger than MCUboot receives."""
    limit = clean.target.profile.max_packet
    sizes = [len(frame.packet) for frame in clean.observed.sent if frame.packet is not None]
    assert sizes, "it sent no whole packet"
    assert max(sizes) <= limit, f"it sent a packet of {max(sizes)} bytes; {limit} fit"
    saw(f"up to {max(sizes)} bytes of {limit}")


def test_lines_in_flight_fit(clean: Clean, saw: Saw) -> None:
    """Has no more lines in flight than there are buffers."""
    free = clean.target.profile.line_buffers - 1
    assert clean.observed.sent, "it sent nothing"
    most = clean.observed.most_lines_waiting()
    assert most <= free, f"{most} lines waited behind an unanswered request, and there is room for {free}"
    saw("waits for every response" if not most else f"up to {most} lines wait, of {free}")


def test_every_request_has_its_own_sequence(clean: Clean) -> None:
    """Gives requests that follow each other different sequence numbers."""
    numbers = [exchange.request.header.sequence for exchange in clean.observed.exchanges]
    assert len(numbers) > 1, "it sent no two requests"
    same = [number for number, other in pairwise(numbers) if number == other]
    assert not same, f"{len(same)} requests have their predecessor's number, so a late response fits the wrong one"


def test_offsets_are_obeyed(clean: Clean) -> None:
    """Begins each chunk where the last response told."""
    assert clean.observed.uploads, "it uploaded nothing"
    for one, other in clean.observed.disobeyed():
        raise AssertionError(f"told to go on at {one.told}, it sent offset {other.off}")


def test_packets_are_clean(clean: Clean, saw: Saw) -> None:
    """Sends packets in which lint finds nothing wrong."""
    assert clean.observed.sent, "it sent nothing"
    wrong = clean.target.findings
    rules = dict.fromkeys(finding.rule for finding in wrong)
    assert not wrong, f"{', '.join(rules)}: {wrong[0].said}"
    notes = dict.fromkeys(finding.rule for finding in clean.target.notes)
    saw(f"noted: {', '.join(notes)}" if notes else "")
