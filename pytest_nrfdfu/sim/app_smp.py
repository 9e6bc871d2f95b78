"""The SMP server of a simulated application: MCUmgr as Zephyr has it, on the console's UART. Sans-IO.

It answers the OS and the image group; every other command gets rc 8. Requests are carried out one after another, with
the time that flash takes, while further ones are received (`app_transport`). A response needs a buffer of the same pool
as the requests: with all buffers taken by requests, the oldest is answered with rc 2 (MGMT_ERR_ENOMEM) and not carried
out. So of four buffers three can be filled by a client that wants an answer to each.

Source: Zephyr, subsys/mgmt/mcumgr/smp/src/smp.c (headers, buffers, errors of either protocol version).
"""

from __future__ import annotations

from collections.abc import Generator

from pytest_nrfdfu.sim.app_image import ImageGroup
from pytest_nrfdfu.sim.app_os import OsGroup
from pytest_nrfdfu.sim.app_reply import Command, GroupRefused, Handler, Refused, write_pair
from pytest_nrfdfu.sim.app_slots import ApplicationSlots
from pytest_nrfdfu.sim.app_transport import BUFFER_SIZE, BufferPool, RequestQueue
from pytest_nrfdfu.sim.app_upload import ImageOptions
from pytest_nrfdfu.sim.firmware import Effect, Reboot, Send
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.retention import RetainedMemory, Retention
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.sim.zcbor import Writer
from pytest_nrfdfu.smp.console import encode
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, Op

__all__ = ["SmpServer"]

_RESET_DELAY = 0.25
"""CONFIG_MCUMGR_GRP_OS_RESET_MS, in seconds. The server goes on answering until then."""
_NEWEST_VERSION = 1
"""SMP version 2, as the header has it."""
_NONE = Command()


class SmpServer:
    """One run of the server. `feed` takes what the UART received; `serve` answers what has come.

    `trailers` know the slots of `images` images. `retention` is where OS reset keeps the boot mode in `memory`; None:
    an application before Zephyr 4.2, which ignores it. `options` are those of the image group.
    """

    def __init__(
        self,
        memory: RetainedMemory,
        trailers: Trailers,
        images: int,
        retention: Retention | None,
        *,
        options: ImageOptions = ImageOptions(),  # noqa: B008 - frozen
    ) -> None:
        self._writer = Writer(BUFFER_SIZE - HEADER_SIZE)
        self._pool = BufferPool()
        self._queue = RequestQueue(self._pool)
        self._os = OsGroup(memory, retention, trailers.swap, self._writer)
        slots = ApplicationSlots(trailers, images, options.erases_pending)
        image = ImageGroup(slots, self._writer, options)
        self._groups: dict[int, dict[int, Command]] = {Group.OS: self._os.commands, Group.IMAGE: image.commands}

    def feed(self, data: bytes) -> None:
        """Bytes from the UART; what is not SMP, or is damaged, is dropped without a word."""
        self._queue.feed(data)

    @property
    def waiting(self) -> bool:
        """A request has come that is not answered yet."""
        return bool(self._queue)

    def serve(self) -> Generator[Effect, None, None]:
        """Answer what was received. A reset that was asked for comes by itself, whatever is done until then."""
        while self._queue:
            packet = self._queue.take()
            while packet:  # one packet may hold several requests
                packet = yield from self._answer_next(packet)
            self._pool.give()
            if self._os.resets:
                self._os.resets = False
                yield Reboot(_RESET_DELAY)

    def _answer_next(self, packet: bytes) -> Generator[Effect, None, bytes]:
        """Answer the first request of a packet; returns the rest, which is nothing after an error of SMP itself."""
        if len(packet) < HEADER_SIZE:
            return b""
        header = Header.unpack(packet)
        end = HEADER_SIZE + header.length
        buffered = self._pool.take()
        self._writer.clear()
        try:
            yield from self._perform(header, packet[HEADER_SIZE:end], buffered=buffered)
        except Refused as refusal:
            self._write_error(refusal)
            end = len(packet)
        yield Send(encode(self._response(header)))
        if buffered:
            self._pool.give()
        return packet[end:]

    def _perform(self, header: Header, payload: bytes, *, buffered: bool) -> Generator[Effect, None, None]:
        """Carry out a request and write its response, for which there is a buffer or not."""
        if len(payload) < header.length:
            raise Refused(Rc.CORRUPT)
        if not buffered:
            raise Refused(Rc.NO_MEMORY)
        handler = self._handler(header)
        self._writer.map_start()
        try:
            steps = handler(payload)
            if steps is not None:
                yield from steps
        except GroupRefused as refusal:
            if header.version < _NEWEST_VERSION:
                raise Refused(refusal.rc, refusal.reason) from None
            self._writer.clear()
            self._writer.map_start()
            self._write_group_error(refusal)
        if not self._writer.end():
            raise Refused(Rc.MESSAGE_SIZE)

    def _handler(self, header: Header) -> Handler:
        if header.op not in (Op.READ, Op.WRITE):
            raise Refused(Rc.NOT_SUPPORTED)
        if header.version > _NEWEST_VERSION:
            raise Refused(Rc.TOO_NEW)
        command = self._groups.get(header.group, {}).get(header.command, _NONE)
        handler = command.read if header.op == Op.READ else command.write
        if handler is None:
            raise Refused(Rc.NOT_SUPPORTED)
        return handler

    def _write_error(self, refusal: Refused) -> None:
        writer = self._writer
        writer.clear()
        writer.map_start()
        write_pair(writer, b"rc", refusal.rc)
        if refusal.reason:
            writer.text(b"rsn")
            writer.text(refusal.reason)
        writer.end()

    def _write_group_error(self, refusal: GroupRefused) -> None:
        writer = self._writer
        writer.text(b"err")
        writer.map_start()
        write_pair(writer, b"group", refusal.group)
        write_pair(writer, b"rc", refusal.code)
        writer.end()

    def _response(self, header: Header) -> bytes:
        body = self._writer.data
        op = Op.READ_RESPONSE if header.op == Op.READ else Op.WRITE_RESPONSE
        version = min(header.version, _NEWEST_VERSION)
        return header._replace(op=op, flags=0, length=len(body), version=version).pack() + body
