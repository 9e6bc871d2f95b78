"""What is wrong in a host's packets: reads a capture and has all rules look at it.

::

    for finding in lint(capture):
        print(render(finding, colour=False))

A rule fires for a fault and not for what follows from it: a packet with a framing fault is not looked at further, and
what was refused for a fault in its payload does not count in the upload's course.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.wire import frames
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.exchange import exchanges
from pytest_nrfdfu.wire.frames import Frame, Item, Message
from pytest_nrfdfu.wire.rules import crc, header, length, lines, link, markers, payload, upload
from pytest_nrfdfu.wire.rules.base import Effect, Finding, Rule, Scene, Severity
from pytest_nrfdfu.wire.rules.context import in_context
from pytest_nrfdfu.wire.rules.render import PRIMER, render

__all__ = ["PRIMER", "RULES", "Effect", "Finding", "Rule", "Severity", "lint", "render", "summary"]

RULES: dict[str, Rule] = {
    rule.id: rule for module in (markers, lines, length, crc, header, payload, upload, link) for rule in module.RULES
}
"""All rules by id, in the order in which a host's author meets them: framing first."""

_MOST_LINES = 256
"""Lines that are tried as parts of one packet, which has 12 as a rule."""
_DEFAULT = BootloaderProfile(name="defaults")


def lint(capture: Capture, *, profile: BootloaderProfile | None = None) -> list[Finding]:
    """All findings in what the host (direction ``tx``) sent, in the order of its bytes.

    `profile`: the bootloader at the other end, for its sizes and upload numbers; by default MCUboot's defaults.
    """
    items = tuple(frames.read(capture))
    scene = Scene(items, capture.bytes_of("tx"), _DEFAULT if profile is None else profile)
    framing = list(_framing(scene))
    silent = {id(item) for finding, told in framing for item in told if finding.effect is not Effect.ANSWERS}
    found = [finding for finding, _ in framing]
    found += _messages(scene, [item for item in frames.messages(items) if id(item) not in silent])
    return in_context(items, sorted(found, key=lambda finding: finding.offset))


def summary(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each rule and effect, the first, with `times`: a host makes the same mistake in every packet."""
    first: dict[tuple[str, Effect], Finding] = {}
    for finding in findings:
        key = finding.rule, finding.effect
        before = first.get(key)
        first[key] = finding if before is None else replace(before, times=before.times + 1)
    return list(first.values())


def _framing(scene: Scene) -> Iterator[tuple[Finding, list[Item]]]:
    """What is wrong with lines and packets as such, and which items it belongs to."""
    items = scene.from_host
    at = 0
    while at < len(items):
        item, following = items[at], items[at + 1 : at + 1 + _MOST_LINES]
        at += 1
        frame = markers.frame_of(item)
        if isinstance(item, frames.Text):
            told = markers.find_text(scene, item, following)
        elif frame is not None:
            told = length.each_line(scene, frame, map(markers.frame_of, following)) or _completed(
                scene, frame, following
            )
        else:
            continue
        if told is not None:
            finding, used = told
            yield finding, [item, *following[:used]]
            at += used
        elif frame is not None:
            yield from ((finding, [item]) for finding in _in_frame(scene, frame))


def _completed(scene: Scene, frame: Frame, following: list[Item]) -> tuple[Finding, int] | None:
    """An incomplete frame whose further lines have wrong markers."""
    short = frame.length_field is not None and frame.length_field > len(frame.body) - 2
    whole = all(len(line.text) % 4 == 0 and line.raw.endswith(b"\n") for line in frame.lines)
    if frame.packet is not None or not short or not whole or frame.lines[0].marker != markers.START_MARKER:
        return None
    return markers.find_continuation(scene, frame, following)


def _in_frame(scene: Scene, frame: Frame) -> list[Finding]:
    in_lines = lines.find_in_lines(scene, frame)
    if in_lines is not None:
        return [in_lines]
    if frame.lines[0].marker != markers.START_MARKER:
        return [markers.find_orphan(scene, frame)]
    if frame.packet is None:
        return list(length.contents(scene, frame)) if not _cut_off(scene, frame) else []
    too_large = link.find_too_large(scene, frame)
    return [] if too_large is None else [too_large]


def _cut_off(scene: Scene, frame: Frame) -> bool:
    """Whether the capture ends within this frame's last line."""
    return frame.end == len(scene.sent) and not frame.raw.endswith(b"\n")


def _messages(scene: Scene, messages: list[Message]) -> Iterator[Finding]:
    """What is wrong with packets whose framing is right, one by one and in their course."""
    broken = set()
    for message in messages:
        if message.direction != "tx":
            continue
        in_header = header.find_in_header(scene, message)
        found = [in_header] if in_header is not None else payload.find_in_payload(scene, message)
        if any(finding.effect is not Effect.ANSWERS for finding in found):
            broken.add(id(message))
        yield from found
    answers = {id(pair.request): pair.response for pair in exchanges(messages) if pair.response is not None}
    answered = [message for message in messages if message.direction == "tx" or not message.is_request]
    yield from upload.Course(scene, answers, broken).find(answered)
    sound = [message for message in answered if id(message) not in broken]
    yield from link.find_in_flight(scene, sound, answers)
    yield from link.find_short_timeouts(scene, sound)
