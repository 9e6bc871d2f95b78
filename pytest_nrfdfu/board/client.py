"""SMP requests over the UART: owns the clock, the deadlines and the retries.

What to send and what to believe is decided in `pytest_nrfdfu.smp`; this module moves it to the port and back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pytest_nrfdfu.board import boot_record, fault_dump
from pytest_nrfdfu.board.receive_size import find_packet_size
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.errors import LossyLink, SmpRejected, SmpTimeout, UartError, UploadFailed
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import Request
from pytest_nrfdfu.smp.exchange import Exchange, Sequence, Transmission
from pytest_nrfdfu.smp.header import Group, Op
from pytest_nrfdfu.smp.messages import (
    Done,
    EchoRequest,
    EraseRequest,
    ImageStateRead,
    ImageStates,
    Params,
    ParamsRequest,
    ResetRequest,
)
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Policy, Upload

__all__ = ["Progress", "SmpClient"]

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with acknowledged and total bytes."""

_RC_NOT_SUPPORTED = 8
_UNLIMITED = 1 << 30
_LOSSES = 2
"""Repeated packets, or damaged frames, that make a lossy link; one may be a bootloader that was busy, or died."""
_SMALL = 124
"""Bytes: packets that everybody takes."""


class SmpClient:
    """A client of whatever speaks SMP on the port: MCUboot's recovery or an application.

    Every method raises SmpTimeout (no answer), SmpRejected (an answer that says no), SmpMalformed (an answer that
    cannot be read), or UartError.
    """

    def __init__(self, uart: Uart, link: Link | None = None, *, version: int = 1) -> None:
        """`version`: 0 for SMP v1, 1 for SMP v2."""
        self.uart = uart
        self.link = link or Link(baudrate=uart.baudrate)
        self.round_trip = RoundTrip()
        self.on_change: Callable[[], None] = lambda: None
        """Called before images are written, erased or marked: what was known of the board may not hold any more."""
        self._sequences = Sequence(first=time.monotonic_ns() >> 20)
        self._version = version
        self._silent = False
        """Whether the last request was given up: the receiver may hold a part of it, which a newline ends."""
        self._ahead = (b"", b"")
        """A packet that will probably be sent next, and its lines."""

    # --- single requests --------------------------------------------------------------------------------------------

    def request(self, request: Request[T], *, tries: int = 5, timeout: float = 10.0) -> T:
        """Send a request, again if need be, and return its typed response. `timeout` in seconds, over all tries.

        Requests about images are waited for as if nothing had been measured: MCUboot hashes whole slots for them
        (boot/boot_serial/src/boot_serial.c, bs_list and bs_set), and one sent again meanwhile is computed again.
        """
        computes = request.group == Group.IMAGE
        round_trip = self.round_trip.unmeasured(timeout / tries) if computes else self.round_trip
        return self._run(request, round_trip, tries, time.monotonic() + timeout)

    def poll_images(self, interval: float, deadline: float) -> ImageStates:
        """The image list of a board that starts to listen at some time: asked for every `interval` seconds.

        SmpTimeout when `deadline` (monotonic seconds) has passed.
        """
        steady = RoundTrip(first=interval, least=interval, most=interval)
        return self._run(ImageStateRead(), steady, _UNLIMITED, deadline)

    def _run(self, request: Request[T], round_trip: RoundTrip, tries: int, until: float) -> T:
        start, position = time.monotonic(), self.uart.console.position
        if (request.group, request.op) == (Group.IMAGE, Op.WRITE):
            self.on_change()
        exchange = Exchange(
            request,
            sequence=self._sequences.take(),
            link=self.link,
            round_trip=round_trip,
            tries=tries,
            until=until,
            version=self._version,
        )
        try:
            while exchange.response is None:
                self._send(exchange.due(time.monotonic()))
                received = self.uart.receive(exchange.deadline - time.monotonic())
                if received is not None:
                    exchange.receive(received.packet, received.time)
        except SmpTimeout as silence:
            self._silent = True
            foreign = f"; {exchange.stale} answers to other requests came" if exchange.stale else ""
            asked, broken = f"{silence}{foreign}", self.uart.broken_since(start)
            raise SmpTimeout(
                f"{asked}; {self.uart.summary(start, position)}", brief=f"{asked}; {broken} came" if broken else asked
            ) from None
        return exchange.result()

    def images(self, *, tries: int = 5, timeout: float = 10.0) -> ImageStates:
        """The image list."""
        return self.request(ImageStateRead(), tries=tries, timeout=timeout)

    def echo(self, text: str) -> str:
        """`text`, from the board."""
        return self.request(EchoRequest(text)).text

    def params(self) -> Params | None:
        """MCUmgr parameters; None where the server does not know the command."""
        try:
            return self.request(ParamsRequest(), tries=3, timeout=3.0)
        except SmpRejected as error:
            if error.rc != _RC_NOT_SUPPORTED:
                raise
            return None

    def reset(
        self, *, boot_mode: int | None = None, force: bool | None = None, tries: int = 5, timeout: float = 10.0
    ) -> Done:
        """Reboot. The board answers first and resets some 0.25 s later. `timeout` in seconds, over all tries."""
        return self.request(ResetRequest(boot_mode, force), tries=tries, timeout=timeout)

    def erase(self, slot: int, timeout: float) -> Done:
        """Erase a slot of a running application's (1: slot 1 of image 0). Sent once: `timeout` seconds for it all."""
        patient = RoundTrip(first=timeout, least=timeout, most=timeout)
        return self._run(EraseRequest(slot), patient, 1, time.monotonic() + timeout)

    # --- upload -----------------------------------------------------------------------------------------------------

    def upload(
        self,
        data: bytes,
        *,
        limits: Limits | None = None,
        image: int | None = None,
        sha: bytes | None = None,
        policy: Policy | None = None,
        start: int = 0,
        progress: Progress | None = None,
        began: Callable[[Upload], None] | None = None,
    ) -> Upload:
        """Upload an image and return the finished upload; UploadFailed if the board does not take all of it.

        UartError or PortGone, saying how far it came, if the port fails. `image`: the number in the first request.
        `sha`: of `data`, by which an application takes up an upload that was broken off. `policy`: how much may be in
        flight, where `limits` do not say. `start`: go on after that many bytes acknowledged earlier. `began` is called
        with the state machine before the first byte, so that a caller knows how far a broken one came.
        """
        upload = Upload(
            data,
            sequences=self._sequences,
            link=self.link,
            round_trip=self.round_trip,
            limits=limits,
            policy=policy,
            image=image,
            sha=sha,
            start=start,
            version=self._version,
        )
        self.on_change()
        if began is not None:
            began(upload)
        start_time, position = time.monotonic(), self.uart.console.position
        self.uart.discard()
        try:
            self._drive(upload, progress)
        except UploadFailed as failure:
            self._silent = True
            said = f"{failure}; {self.uart.summary(start_time, position)}"
            losses = self._losses(upload, start_time, position) if isinstance(failure.__cause__, SmpTimeout) else ""
            if losses:
                look = "look at its wiring, its ground and its rate before anything else"
                raise LossyLink(f"{said}. The link loses data ({losses}): {look}") from failure.__cause__
            raise UploadFailed(said) from failure.__cause__
        except UartError as error:
            raise type(error)(
                f"the upload stopped at offset {upload.acknowledged} of {upload.total} bytes, because of the port:"
                f" {error}. It is not taken up by itself: was the board reset, or its cable or adapter unplugged?"
            ) from error
        return upload

    def _losses(self, upload: Upload, since: float, position: int) -> str:
        """What got lost or damaged beside the chunk that was given up, in words; empty if nothing did.

        Empty too where the firmware has died meanwhile, or started again: that cuts off whatever is on its way.
        """
        damaged = self.uart.damaged_since(since)
        lines = [*self.uart.console.since(position).splitlines(), *(str(fault.data, "latin-1") for fault in damaged)]
        if any(boot_record.BEGINNING.search(line) or fault_dump.BEGINNING.search(line) for line in lines):
            return ""
        others = upload.counters.retries - (upload.tries - 1)
        words = [f"{others} other packets were sent again"] if others >= _LOSSES else []
        broken = self.uart.broken_since(since) if len(damaged) >= _LOSSES else ""
        return " and ".join([*words, f"the board sent {broken}"] if broken else words)

    def _drive(self, upload: Upload, progress: Progress | None) -> None:
        """Move an upload's packets to the port and back until it is done."""
        looked, told = False, upload.acknowledged
        while not upload.done:
            if upload.unheard is not None and not looked and time.monotonic() >= upload.deadline:
                looked = True
                self._look_for_size(upload, upload.unheard)
            while (transmission := upload.due(time.monotonic())) is not None:
                self._send(transmission, upload.limits.line_length)
            # The next chunk is on its way; now there is time for everything else.
            self._prepare(upload)
            if progress is not None and upload.acknowledged != told:
                told = upload.acknowledged
                progress(told, upload.total)
            received = self.uart.receive(upload.deadline - time.monotonic())
            if received is not None:
                upload.receive(received.packet, received.time)
        if progress is not None:
            progress(upload.acknowledged, upload.total)

    def _prepare(self, upload: Upload) -> None:
        """Make what will probably be sent next while nothing else is to be done."""
        packet = upload.prepare()
        if packet is not None and packet is not self._ahead[0]:
            self._ahead = (packet, console.encode(packet, upload.limits.line_length))

    def _look_for_size(self, upload: Upload, refused: int) -> None:
        """A large packet met silence: find out whether that is its size."""
        if refused <= _SMALL:
            return
        size = find_packet_size(self, refused)
        if size is not None:
            upload.limit_packets(size, time.monotonic() - upload.counters.progress[0][0])

    def _send(self, transmission: Transmission | None, line_length: int = console.LINE_LENGTH) -> None:
        if transmission is None:
            return
        packet, wire = self._ahead
        if transmission.packet is not packet:
            wire = console.encode(transmission.packet, line_length)
        self.uart.send(b"\n" + wire if transmission.flush or self._silent else wire)
        self._silent = False
