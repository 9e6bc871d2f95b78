"""An image upload as a state machine: chunks, offsets, retransmission, resume.

MCUboot's serial recovery takes a chunk only at the offset that it expects, and always answers with the offset that it
wants next, with rc 0 also when it wrote nothing. So the answer's `off` is the truth and the only thing that moves the
upload on: after a lost response, an answer to an old chunk, a reset in between, the upload goes on from there.

How much may be in flight is the business of `window` and `regulator`, how large chunks are that of `chunks`; what is
sent, matched, repeated and believed is this module's.

Source: MCUboot, boot/boot_serial/src/boot_serial.c (bs_upload); Zephyr, smp_group_1.rst ("Image upload").
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, NoReturn

from pytest_nrfdfu.errors import SmpMalformed, SmpRejected, SmpTimeout, UploadFailed
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.chunks import Chunk, Limits, chunk_size
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.exchange import Sequence, Transmission
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.smp.messages import UploadRequest
from pytest_nrfdfu.smp.regulator import Regulator
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload_counters import UploadCounters
from pytest_nrfdfu.smp.window import Policy, StopAndWait, policy_for

__all__ = ["Chunk", "Limits", "Policy", "StopAndWait", "Upload", "UploadCounters", "chunk_size"]

_STUCK_ANSWERS = 5
"""Answers in a row that bring nothing new, after which the upload is given up."""
_SETBACKS = 3
"""How often the server may ask for an offset before the one that it has acknowledged."""
_SHRINK_AFTER = 3
"""Unanswered tries of one chunk, each time, after which smaller ones are tried: a large packet is lost more easily."""
_SMALLEST_CAP = 140
"""Packets are not made smaller than this on account of losses."""
_NO_MEMORY = 2
"""MGMT_ERR_ENOMEM: Zephyr's server had no packet left for the answer (smp.c, smp_process_request_packet)."""
_PATIENCE = 0.3
"""Seconds of allowance at least while a window is open. A loss mostly shows by the answer to the next chunk, without a
time-out. And a repetition that was not needed, because this host was busy, may find more lines waiting than there are
buffers, or a page being erased."""
_APPLICATION = "the application's buffers (CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE, CONFIG_UART_MCUMGR_RX_BUF_SIZE)"
_GROW_AFTER = 16
"""Chunks answered at the first try after which a shrunken packet size grows again; doubled with every shrinking."""


class _Place(NamedTuple):
    """All that the packet of a chunk depends on."""

    off: int
    sequence: int
    cap: int
    room: int | None
    policy: Policy
    in_flight: tuple[Chunk, ...]


class Upload:
    """One image on its way into one slot.

    Ask `due` for what to send, wait until `deadline` at most, feed `receive` with every packet that comes; until
    `done`. Raises UploadFailed when it cannot go on.
    """

    def __init__(  # noqa: PLR0913 - each is a fact about image, server or link
        self,
        data: bytes,
        *,
        sequences: Sequence,
        link: Link,
        round_trip: RoundTrip,
        limits: Limits | None = None,
        policy: Policy | None = None,
        image: int | None = None,
        sha: bytes | None = None,
        start: int = 0,
        version: int = 1,
        tries: int = 10,
    ) -> None:
        """`start`: go on with an upload broken off after that many acknowledged bytes.

        `sha`: of `data`, for applications, which take an upload up by it that was broken off. `policy`: by default the
        one that `limits` allow.
        """
        if not data:
            raise UploadFailed("there is nothing to upload: the image is empty")
        if not 0 <= start <= len(data):
            raise ValueError(f"an upload of {len(data)} bytes cannot go on at {start}")
        self.counters = UploadCounters()
        self.limits = limits or Limits()
        self.acknowledged = start
        self.resumed = start > 0
        """Whether it began by going on with an upload broken off, and the server had kept it."""
        self._data = data
        self._sequences = sequences
        self._link = link
        self._round_trip = round_trip
        self._policy = policy
        self.regulator = self._regulator()
        self._image = image
        self._sha = sha
        self._version = version
        self.tries = tries
        self._cap = self.limits.max_packet
        self._next = start
        self._high_water = len(data) if start or sha is not None else 0  # by its sha an upload may be taken up
        self._in_flight: list[Chunk] = []
        self._stuck = 0
        self._malformed: SmpMalformed | None = None
        self._setbacks = 0
        self._clean = 0
        self._grow_after = _GROW_AFTER
        self._started = False
        self._ahead: tuple[_Place, int, bytes] | None = None
        """A chunk's packet made before its turn, with the chunk's size."""

    def _regulator(self) -> Regulator:
        window = self._policy or policy_for(self.limits, len(self._data), self._link)
        return Regulator(window, trial=self.limits.trial, carried=self.limits.trial_carried)

    @property
    def done(self) -> bool:
        """Whether the server has acknowledged everything."""
        return self.acknowledged >= len(self._data)

    @property
    def total(self) -> int:
        """Bytes to upload."""
        return len(self._data)

    @property
    def unheard(self) -> int | None:
        """Bytes of the packet that begins this upload and was sent twice in vain; None once anything was answered.

        It may be too large for the receiver, which then says nothing.
        """
        chunk = self._in_flight[0] if self._in_flight else None
        silent = chunk is not None and chunk.tries > 1 and len(self.counters.progress) == 1
        return len(chunk.packet) if chunk is not None and silent and self._malformed is None else None

    def limit_packets(self, size: int, seconds: float = 0.0) -> None:
        """Go on with packets of at most `size` bytes, from the offset that the server has acknowledged.

        Where nothing was answered before, it was their size that was lost on: to find `size` took `seconds`.
        """
        unheard = self.unheard
        self.limits = replace(self.limits, max_packet=min(size, self.limits.max_packet))
        if unheard is not None:
            self.counters.too_large_for(unheard, seconds)
            self.regulator = self._regulator()
        self._cap = min(self._cap, self.limits.max_packet)
        self._in_flight.clear()
        self._next = self.acknowledged

    @property
    def deadline(self) -> float:
        """When to call `due` again if nothing comes before: the oldest chunk's, the server takes them in order."""
        return self._in_flight[0].deadline if self._in_flight else float("-inf")

    def due(self, now: float) -> Transmission | None:
        """What to send now, if anything. Call again until it gives None."""
        if self.done:
            return None
        if self._in_flight:
            oldest = self._in_flight[0]
            if now >= oldest.deadline:
                return self._repeat(oldest, now)
        room = self.regulator.policy.room(tuple(self._in_flight)) if self._next < len(self._data) else 0
        if not room:
            return None
        if not self._started:
            self._started = True
            self.counters.progress.append((now, self.acknowledged))
        chunk = self._make(self._next, self._sequences.take(), now, room=room)
        return Transmission(self._send(chunk).packet)

    def prepare(self) -> bytes | None:
        """Make the packet that comes next if the oldest chunk is now answered as it should be; None if there is none.

        To be called while waiting: the time from an answer to the next chunk is time in which the line may be idle.
        """
        if self._next >= len(self._data):
            return None
        in_flight = tuple(self._in_flight[1:])
        room = self.regulator.policy.room(in_flight)
        if not room:
            return None
        place = _Place(self._next, self._sequences.coming, self._cap, room, self.regulator.policy, in_flight)
        if self._ahead is None or self._ahead[0] != place:
            self._ahead = (place, *self._packet(place))
        return self._ahead[2]

    def receive(self, packet: bytes, now: float) -> bool:
        """Take one packet; False if it is not an answer to a chunk in flight."""
        if len(packet) < HEADER_SIZE:
            return False
        header = Header.unpack(packet)
        chunk = next((c for c in self._in_flight if _REQUEST.matches(header, c.sequence)), None)
        if chunk is None:
            self.counters.stale += 1
            return False
        off = self._read(chunk, packet)
        if off is None:
            return False
        self._malformed = None
        if chunk.tries == 1:
            self._round_trip.sample(now - chunk.sent_at, chunk.computed)
        else:
            self._round_trip.answered_late(chunk.tries)
        self._follow(chunk, off, now)
        return True

    # --- sending ----------------------------------------------------------------------------------------------------

    def _make(self, off: int, sequence: int, now: float, room: int | None = None) -> Chunk:
        """A chunk of at most `room` lines behind those in flight; None: one of any size that goes before them all."""
        place = _Place(off, sequence, self._cap, room, self.regulator.policy, tuple(self._in_flight))
        if self._ahead is not None and self._ahead[0] == place:
            _, size, packet = self._ahead
        else:
            size, packet = self._packet(place)
        computed = self._link.exchange(console.wire_size(len(packet), self.limits.line_length)) + self._flash_time(
            off, size
        )
        computed += self._busy(now) if room is not None else 0.0
        patience = max(self.limits.patience, _PATIENCE if self.regulator.is_open and room is not None else 0.0)
        deadline = now + self._round_trip.timeout(computed, patience=patience)
        lines = console.line_count(len(packet), self.limits.line_length)
        return Chunk(off, size, sequence, packet, computed, now, deadline, 1, lines)

    def _packet(self, place: _Place) -> tuple[int, bytes]:
        """How many bytes go into the chunk, and its packet."""
        off, cap, room = place.off, place.cap, place.room
        request = UploadRequest(off=off, image=self._image if self._image and self.limits.repeat_image else None)
        if off == 0:
            request = UploadRequest(off=off, length=len(self._data), image=self._image, sha=self._sha)
        left = len(self._data) - off
        if room is not None and room < console.line_count(cap, self.limits.line_length):
            cap = console.max_packet(room, self.limits.line_length)
        size = chunk_size(request, cap, self.limits, left)
        if size == 0:
            raise UploadFailed(
                f"packets of at most {cap} bytes leave no room for data in the request at offset {off};"
                " give a larger receive_size in [bootloader]"
            )
        if room is not None:
            size = place.policy.cut(off, size, place.in_flight)
        return size, encode(replace(request, data=self._data[off : off + size]), place.sequence, self._version)

    def _busy(self, now: float) -> float:
        """Seconds until the last chunk in flight should be answered."""
        last = self._in_flight[-1] if self._in_flight else None
        return max(0.0, last.sent_at + last.computed - now) if last is not None else 0.0

    def _flash_time(self, off: int, size: int) -> float:
        # The last chunk also erases the page of the image trailer.
        extra = self._link.erase_page + self.limits.last_delay if off + size == len(self._data) else 0.0
        if off == 0 and self.limits.first_erase:
            pages = -(-len(self._data) // self._link.page_size) + 1
            extra += self.limits.first_erase * pages * self._link.erase_page
        if self.limits.erases_at_start:
            slot = self._link.flash_time(0, self.limits.slot_size) if off == 0 else 0.0
            return slot + self._link.write_time(size) + extra
        return self._link.flash_time(off, size) + extra

    def _send(self, chunk: Chunk) -> Chunk:
        self._in_flight.append(chunk)
        self.counters.window = max(self.counters.window, len(self._in_flight))
        self._next = chunk.end
        self._high_water = max(self._high_water, chunk.end)
        self.counters.chunks += 1
        self.counters.largest_chunk = max(self.counters.largest_chunk, chunk.size)
        return chunk

    def _repeat(self, chunk: Chunk, now: float) -> Transmission:
        """Send the oldest chunk again; what followed it is forgotten, the server takes chunks in order only."""
        if chunk.tries >= self.tries:
            self._give_up_silent(chunk)
        self._clean = 0
        self.counters.retries += 1
        self.counters.repeated.append(now)
        self._lost()
        if chunk.tries % _SHRINK_AFTER == 0 and self._cap > _SMALLEST_CAP:
            self._cap = max(_SMALLEST_CAP, self._cap // 2)
            self._grow_after *= 2
            # The sequence stays: the server may have taken the larger chunk, and its answer is as good.
            smaller = self._make(chunk.off, chunk.sequence, now)
            if smaller.size < chunk.size:
                chunk = smaller._replace(tries=chunk.tries)
        wait = self._round_trip.timeout(chunk.computed, chunk.tries)
        again = chunk._replace(tries=chunk.tries + 1, sent_at=now, deadline=now + wait)
        self._in_flight = [again]
        self._next = again.end
        return Transmission(again.packet, flush=True)

    def _give_up_silent(self, chunk: Chunk) -> NoReturn:
        tried = f"the chunk at offset {chunk.off} of {len(self._data)} bytes was sent {chunk.tries} times"
        if self._malformed is not None:
            raise UploadFailed(f"{tried} and got no answer that can be read: {self._malformed}") from self._malformed
        fits = _APPLICATION if self._sha is not None else "the bootloader (receive_size in [bootloader])"
        raise UploadFailed(
            f"the board stopped answering: {tried} without an answer, the last time with {chunk.size} bytes in a packet"
            f" of {len(chunk.packet)}; check that packets of this size fit {fits}, and the wiring"
        ) from SmpTimeout(f"{chunk.tries} tries of the chunk at offset {chunk.off} were not answered")

    # --- answers ----------------------------------------------------------------------------------------------------

    def _read(self, chunk: Chunk, packet: bytes) -> int | None:
        """The offset that the server wants next; None for an answer that cannot be read, and is as good as none."""
        try:
            response = decode(packet)
            rejected = response.rejected
            if rejected is None:
                return _REQUEST.read(response.payload).off
            if (rejected.group, rejected.rc) == (None, _NO_MEMORY) and self._sha is not None:
                self.counters.malformed += 1  # no packet was left for the answer: nothing was done
                return None
        except SmpMalformed as error:
            self.counters.malformed += 1
            self._malformed = error
            return None
        raise UploadFailed(self._refused(chunk, rejected)) from rejected

    def _follow(self, chunk: Chunk, off: int, now: float) -> None:
        """Go on where the server wants it."""
        if not 0 <= off <= self._high_water:
            raise UploadFailed(
                f"the board asks for offset {off}, but only {self._high_water} of {len(self._data)} bytes were sent;"
                " something else is uploading to it, or it keeps the state of another upload"
            )
        if off == chunk.end:
            self._in_flight = [other for other in self._in_flight if other.end > off]
            if chunk.tries == 1:
                self.regulator.passed(chunk.size)
        elif chunk.off == 0 < off and self._sha is not None and not self.acknowledged:
            self.resumed = True  # the server has what was uploaded of the same data earlier
            self._in_flight.clear()
            self._next = off
        else:
            self.counters.resyncs += 1
            self._lost()
            self._in_flight.clear()
            self._next = off
        if off < self.acknowledged:
            self._set_back(off)
        elif off > self.acknowledged:
            self._stuck = 0
        else:
            self._stuck += 1
            if self._stuck >= _STUCK_ANSWERS:
                self._give_up_stuck(off)
        self.acknowledged = off
        self.counters.progress.append((now, off))
        self._grow(chunk)

    def _lost(self) -> None:
        self.counters.trial_losses += self.regulator.lost()

    def _set_back(self, off: int) -> None:
        self._setbacks += 1
        if off == 0:
            self.counters.restarts += 1
            self.counters.trial_losses -= self.regulator.excuse()
            self.resumed = False
        if self._setbacks > _SETBACKS:
            raise UploadFailed(
                f"the board went back {self._setbacks} times, the last time to offset {off} when it had acknowledged"
                f" {self.acknowledged} of {len(self._data)} bytes: it resets in between; look at its supply and at its"
                " watchdog"
            )

    def _give_up_stuck(self, off: int) -> NoReturn:
        raise UploadFailed(
            f"no progress: the board answered {self._stuck} chunks with rc 0 and offset {off} of {len(self._data)}"
            " bytes, and took none of them; it may hold the state of another upload: reset it and begin again"
        )

    def _grow(self, chunk: Chunk) -> None:
        if chunk.tries > 1 or self._cap >= self.limits.max_packet:
            return
        self._clean += 1
        if self._clean >= self._grow_after:
            self._clean = 0
            self._cap = min(self.limits.max_packet, self._cap * 2)

    def _refused(self, chunk: Chunk, why: SmpRejected) -> str:
        text = f"the board refused the chunk at offset {chunk.off} of {len(self._data)} bytes: {why}"
        if why.group is not None or self._sha is not None:
            return text  # it says all that MCUboot would leave open
        if chunk.off == 0:
            number = "no image number" if self._image is None else f"image number {self._image}"
            return f"{text}; at offset 0 this means that the image does not fit the slot, or that {number} has no slot"
        return f"{text}; data past the end of the slot, or flash that cannot be erased or written"


_REQUEST = UploadRequest()
