"""Faults of pace and size: packets too large, too many lines on their way, and time-outs that are too short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_nrfdfu.smp.timing import Link
from pytest_nrfdfu.wire.frames import Frame, Message
from pytest_nrfdfu.wire.rules.base import BOOT_SERIAL, SMP_GROUP_1, Effect, Finding, Rule, Scene, Severity
from pytest_nrfdfu.wire.rules.upload import AT_ONCE, Chunk, chunk_of, gap_between

__all__ = ["RULES", "find_in_flight", "find_short_timeouts", "find_too_large"]

TOO_LARGE = Rule(
    "packet-too-large",
    Severity.ERROR,
    "The packet is larger than MCUboot's receive buffer.",
    "Send smaller chunks: header and payload together in at most CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE - 4 bytes, 1020 "
    "by default.",
    f"{BOOT_SERIAL}, boot_serial_read_console and boot_serial_in_dec; MCUboot, boot/zephyr/Kconfig.serial_recovery",
)
IN_FLIGHT = Rule(
    "lines-in-flight",
    Severity.ERROR,
    "More lines were sent ahead than MCUboot has buffers for.",
    "Wait for the response to each request before the next, or keep fewer lines on their way than CONFIG_BOOT_LINE_BUFS"
    ", 8 by default; one of them is taken by the request that is being carried out.",
    "MCUboot, boot/zephyr/serial_adapter.c, boot_uart_fifo_callback",
)
SHORT_TIMEOUT = Rule(
    "timeout-too-short",
    Severity.ERROR,
    "A chunk was sent again before flash could have been erased and written.",
    "Wait longer: 87.5 ms for each page of 4096 bytes that a chunk begins, and 43 us for each four bytes, besides the "
    "time on the wire. A time-out of 2 s is enough for any chunk; of 20 s, where the first erases the whole slot.",
    f"{SMP_GROUP_1}; nRF5340 product specification, NVMC, electrical specification (t_ERASEPAGE, t_WRITE)",
)
RULES = (TOO_LARGE, IN_FLIGHT, SHORT_TIMEOUT)

_FLASH = Link()


def find_too_large(scene: Scene, frame: Frame) -> Finding | None:
    """A packet that does not fit."""
    packet, limit = frame.packet, scene.profile.max_packet
    if packet is None or len(packet) <= limit:
        return None
    said = f"The packet has {len(packet)} bytes, header included; {limit} fit, with length and CRC beside them."
    because = "The line that would overflow its buffer is refused, and so the frame stays incomplete."
    marks = frame.places(2 + limit, len(frame.body))
    return scene.finding(TOO_LARGE, frame, said, Effect.SILENCE, because=because, marks=marks)


def find_in_flight(scene: Scene, messages: Sequence[Message], answers: dict[int, Message]) -> Iterator[Finding]:
    """Requests that were sent while too many lines waited behind one that was being carried out.

    A request without any response counts only where the next one followed at once: else its host gave it up. Where no
    response was captured at all, nothing can be told.
    """
    if not answers:
        return
    outstanding: list[Message] = []
    answered = {id(answer): request for request, answer in answers.items()}
    limit = scene.profile.line_buffers - 1
    for index, message in enumerate(messages):
        if not message.is_request:
            request = answered.get(id(message))
            outstanding = [other for other in outstanding if id(other) != request]
            continue
        waiting = id(message) in answers or _followed_at_once(message, messages[index + 1 : index + 2])
        before = sum(len(other.frame.lines) for other in outstanding[1:])
        waits = before + len(message.frame.lines) if outstanding else 0
        if waits > limit:
            said = (
                f"{waits} lines wait behind the request at byte {outstanding[0].frame.start}, which has no answer yet; "
                f"there are buffers for {limit}."
            )
            first = message.frame.lines[max(0, limit - before)]
            marks = [(first.start, first.start + 2)]
            because = "While it erases and writes, lines wait in their buffers, and what finds none free is dropped."
            yield scene.finding(IN_FLIGHT, message, said, Effect.LOSES, because=because, marks=marks)
        if waiting or waits > limit:
            outstanding.append(message)


def _followed_at_once(message: Message, later: Sequence[Message]) -> bool:
    """Whether another request came sooner than any host gives up."""
    if not later or not later[0].is_request:
        return False
    gap = gap_between(message, later[0])
    return gap is not None and gap < AT_ONCE


def find_short_timeouts(scene: Scene, messages: Sequence[Message]) -> Iterator[Finding]:
    """Chunks that were repeated too soon: the same `off` and size, with no response in between."""
    before: Chunk | None = None
    for message in messages:
        if not message.is_request:
            before = None
            continue
        chunk = chunk_of(message)
        if chunk is not None and before is not None and _repeats(chunk, before):
            finding = _short(scene, before, chunk)
            if finding is not None:
                yield finding
        before = chunk


def _repeats(chunk: Chunk, before: Chunk) -> bool:
    return (chunk.off, chunk.data) == (before.off, before.data)


def _short(scene: Scene, before: Chunk, chunk: Chunk) -> Finding | None:
    gap = gap_between(before.message, chunk.message)
    needed = _needed(scene, before)
    if gap is None or gap >= needed:
        return None
    said = (
        f"The chunk at {chunk.off} was sent again {gap:.3f} s after its last byte; flash takes {needed:.3f} s "
        "to be erased and written."
    )
    because = "It is deaf while it erases; what arrives whole is carried out a second time."
    marks = [(chunk.message.frame.start, chunk.message.frame.start + 2)]
    return scene.finding(SHORT_TIMEOUT, chunk.message, said, Effect.LOSES, because=because, marks=marks)


def _needed(scene: Scene, chunk: Chunk) -> float:
    """Seconds that flash takes for a chunk: the pages that it begins; at 0, without progressive erasing, all."""
    page, size = _FLASH.page_size, len(chunk.data)
    write = (size + 3) // 4 * _FLASH.write_word
    if scene.profile.erase_progressively:
        begins = -(-chunk.end // page) - (-(-chunk.off // page))
        return begins * _FLASH.erase_page + write
    pages = -(-(chunk.length or 0) // page) if chunk.off == 0 else 0
    return pages * _FLASH.erase_page + write
