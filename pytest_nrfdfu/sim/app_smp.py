"""The SMP server of a simulated application: MCUmgr as Zephyr has it, on the console's UART. Sans-IO.

It answers OS echo, OS reset, MCUmgr parameters, bootloader information and the image list; every other command gets
rc 8. An upload or a change of the image state is not there yet.

Sources: Zephyr, subsys/mgmt/mcumgr/smp/src/smp.c (headers, errors of either protocol version),
grp/os_mgmt/src/os_mgmt.c, grp/img_mgmt/src/img_mgmt_state.c (flags, splitStatus), and the defaults of their Kconfig;
MCUboot, boot/bootutil/include/bootutil/boot_status.h (modes).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import NamedTuple

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.image.format import HEADER_SIZE as IMAGE_HEADER_SIZE
from pytest_nrfdfu.image.format import ImageFlag, ImageHeader
from pytest_nrfdfu.sim.application import identify
from pytest_nrfdfu.sim.firmware import Effect, Reboot, Send, Sleep
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.retention import RetainedMemory, Retention
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.trailer import SwapType, Trailers
from pytest_nrfdfu.sim.zcbor import CborError, Reader, Writer, decode_map
from pytest_nrfdfu.smp.console import Decoder, Packet, encode
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op, OsCommand

__all__ = ["SmpServer"]

_BUFFER_SIZE, _BUFFER_COUNT = 384, 4
"""CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE and _COUNT; a request that does not fit a buffer is dropped."""
_RESET_DELAY = 0.25
"""CONFIG_MCUMGR_GRP_OS_RESET_MS, in seconds. The server goes on answering until then."""
_RESET_STEP = 0.01
_NEWEST_VERSION = 1
"""SMP version 2, as the header has it."""
_QUERY_YIELDS_NO_ANSWER = 3
"""OS_MGMT_ERR_QUERY_YIELDS_NO_ANSWER; in SMP version 1 it becomes MGMT_ERR_ENOENT."""
_BOOTLOADER_MODES: dict[Swap, int] = {"scratch": 1, "overwrite": 2, "move": 3, "offset": 9}
_SLOTS = 2


class _Refused(Exception):
    """A command's error of SMP itself, told as ``rc`` in either version."""

    def __init__(self, rc: Rc) -> None:
        super().__init__(rc.name)
        self.rc = rc


class _GroupRefused(Exception):
    """A command's error of its group: ``err`` in version 2, `rc` in version 1."""

    def __init__(self, group: Group, code: int, rc: Rc) -> None:
        super().__init__(f"{group.name} {code}")
        self.group, self.code, self.rc = group, code, rc


class _Command(NamedTuple):
    """Handlers of one command, None where it has none for the operation."""

    read: Callable[[bytes], None] | None
    write: Callable[[bytes], None] | None


class SmpServer:
    """One run of the server. `feed` takes what the UART received; `serve` answers what has come.

    `trailers` know the slots of `images` images. `retention` is where OS reset keeps the boot mode in `memory`; None:
    an application before Zephyr 4.2, which ignores it.
    """

    def __init__(self, memory: RetainedMemory, trailers: Trailers, images: int, retention: Retention | None) -> None:
        self._memory = memory
        self._trailers = trailers
        self._images = images
        self._retention = retention
        self._decoder = Decoder()
        self._packets: deque[bytes] = deque()
        self._writer = Writer(_BUFFER_SIZE - HEADER_SIZE)
        self._resets = False
        self._commands = {
            (Group.OS, OsCommand.ECHO): _Command(self._echo, self._echo),
            (Group.OS, OsCommand.RESET): _Command(None, self._reset),
            (Group.OS, OsCommand.PARAMS): _Command(self._params, None),
            (Group.OS, OsCommand.BOOTLOADER_INFO): _Command(self._bootloader_info, None),
            (Group.IMAGE, ImageCommand.STATE): _Command(self._list, None),
        }

    def feed(self, data: bytes) -> None:
        """Bytes from the UART; what is not SMP is the shell's, and damaged frames are dropped without a word."""
        for event in self._decoder.feed(data):
            if isinstance(event, Packet) and len(event.data) <= _BUFFER_SIZE:
                self._packets.append(event.data)

    def serve(self) -> Generator[Effect, None, None]:
        """Answer what was received. After a reset request this does not return: the chip resets."""
        yield from self._answer_all()
        if self._resets:
            for _ in range(round(_RESET_DELAY / _RESET_STEP)):
                yield Sleep(_RESET_STEP)
                yield from self._answer_all()
            yield Reboot()

    def _answer_all(self) -> Generator[Effect, None, None]:
        while self._packets:
            packet = self._packets.popleft()
            while len(packet) >= HEADER_SIZE:  # one packet may hold several requests
                header = Header.unpack(packet)
                end = HEADER_SIZE + header.length
                payload = None if len(packet) < end else packet[HEADER_SIZE:end]
                yield Send(encode(self._answer(header, payload)))
                packet = packet[end:]

    def _answer(self, header: Header, payload: bytes | None) -> bytes:
        """The response's packet; `payload` is None where the request is cut off."""
        writer = self._writer
        writer.clear()
        writer.map_start()
        try:
            self._perform(header, payload)
        except (_Refused, _GroupRefused) as refusal:
            writer.clear()
            writer.map_start()
            if isinstance(refusal, _GroupRefused) and header.version == _NEWEST_VERSION:
                self._write_group_error(refusal)
            else:
                writer.text(b"rc")
                writer.integer(refusal.rc)
            writer.end()
        body = writer.data
        op = Op.READ_RESPONSE if header.op == Op.READ else Op.WRITE_RESPONSE
        version = min(header.version, _NEWEST_VERSION)
        return header._replace(op=op, flags=0, length=len(body), version=version).pack() + body

    def _perform(self, header: Header, payload: bytes | None) -> None:
        if payload is None:
            raise _Refused(Rc.CORRUPT)
        if header.version > _NEWEST_VERSION and header.op in (Op.READ, Op.WRITE):
            raise _Refused(Rc.TOO_NEW)
        command = next((c for key, c in self._commands.items() if key == (header.group, header.command)), None)
        handlers = {} if command is None else {Op.READ: command.read, Op.WRITE: command.write}
        handler = next((found for op, found in handlers.items() if op == header.op), None)
        if handler is None:
            raise _Refused(Rc.NOT_SUPPORTED)
        handler(payload)
        if not self._writer.end():
            raise _Refused(Rc.MESSAGE_SIZE)

    def _write_group_error(self, refusal: _GroupRefused) -> None:
        writer = self._writer
        writer.text(b"err")
        writer.map_start()
        writer.text(b"group")
        writer.integer(refusal.group)
        writer.text(b"rc")
        writer.integer(refusal.code)
        writer.end()

    def _pair(self, key: bytes, value: int) -> None:
        self._writer.text(key)
        self._writer.integer(value)

    # OS group

    def _echo(self, payload: bytes) -> None:
        text = _text_of(payload, b"d")
        if not (self._writer.text(b"r") and self._writer.text(text or b"")):
            raise _Refused(Rc.MESSAGE_SIZE)

    def _reset(self, payload: bytes) -> None:
        """A map that cannot be read is no error here: the chip resets all the same."""
        self._resets = True
        if self._retention is None:
            return
        try:
            mode = decode_map(payload, {b"boot_mode": Reader.uint32}).get(b"boot_mode")
        except CborError:
            return
        if isinstance(mode, int):
            self._retention.set(self._memory, mode & 0xFF)

    def _params(self, _payload: bytes) -> None:
        self._pair(b"buf_size", _BUFFER_SIZE)
        self._pair(b"buf_count", _BUFFER_COUNT)

    def _bootloader_info(self, payload: bytes) -> None:
        query = _text_of(payload, b"query")
        if query is None:
            self._writer.text(b"bootloader")
            self._writer.text(b"MCUboot")
        elif query == b"mode":
            self._pair(b"mode", _BOOTLOADER_MODES[self._trailers.swap])
        else:
            raise _GroupRefused(Group.OS, _QUERY_YIELDS_NO_ANSWER, Rc.NO_ENTRY)

    # Image group

    def _list(self, _payload: bytes) -> None:
        writer = self._writer
        fits = writer.text(b"images") and writer.list_start()
        fits = fits and all(self._list_image(image) for image in range(self._images))
        fits = fits and writer.end() and writer.text(b"splitStatus") and writer.integer(0)
        if not fits:
            raise _Refused(Rc.MESSAGE_SIZE)

    def _list_image(self, image: int) -> bool:
        """Both slots, with the primary one active: no application runs from the other where images are swapped."""
        swap = self._trailers.swap_type(image)
        flags = (
            {b"active"} | (set() if swap is SwapType.REVERT else {b"confirmed"}),
            {
                SwapType.TEST: {b"pending"},
                SwapType.PERMANENT: {b"pending", b"permanent"},
                SwapType.REVERT: {b"confirmed"},
            }.get(swap, set()),
        )
        areas = (self._trailers.slots.find(image, slot) for slot in range(_SLOTS))
        return all(area is None or self._list_slot(area, flags[area.slot]) for area in areas)

    def _list_slot(self, area: SlotArea, flags: set[bytes]) -> bool:
        """One slot. One without an image, or whose image has no hash, is left out; nothing is validated."""
        memory, writer = self._trailers.slots.memory, self._writer
        found = identify(memory, area)
        if found is None or not found.hash:
            return True
        header = ImageHeader.unpack(memory.read(area.address, IMAGE_HEADER_SIZE))
        if ImageFlag.NON_BOOTABLE not in header.flags:
            flags = flags | {b"bootable"}
        fits = writer.map_start()
        if self._images > 1:
            fits = fits and writer.text(b"image") and writer.integer(area.image)
        fits = fits and writer.text(b"slot") and writer.integer(area.slot)
        fits = fits and writer.text(b"version") and writer.text(str(found.version).encode())
        fits = fits and writer.text(b"hash") and writer.byte_string(found.hash)
        for name in (b"bootable", b"pending", b"confirmed", b"active", b"permanent"):
            fits = fits and writer.text(name) and writer.boolean(name in flags)
        return fits and writer.end()


def _text_of(payload: bytes, key: bytes) -> bytes | None:
    """The text at `key`, None without it; rc 3 where the map cannot be read."""
    try:
        value = decode_map(payload, {key: Reader.text}).get(key)
    except CborError:
        raise _Refused(Rc.INVALID) from None
    return value if isinstance(value, bytes) else None
