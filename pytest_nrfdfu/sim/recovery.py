"""The commands of MCUboot's serial recovery: packets in, flash effects and responses out.

Source: MCUboot, boot/boot_serial/src/boot_serial.c.
"""

from __future__ import annotations

import base64
from collections.abc import Generator

from pytest_nrfdfu.image.bootloader import BootloaderProfile
from pytest_nrfdfu.image.format import MAGIC, ImageFlag, ImageHeader
from pytest_nrfdfu.sim.console_rx import PacketReceiver
from pytest_nrfdfu.sim.firmware import Effect, Reboot, Send, Sleep
from pytest_nrfdfu.sim.pcd import PcdHooks
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.trailer import SwapType, Trailers
from pytest_nrfdfu.sim.upload import Upload
from pytest_nrfdfu.sim.upload_faults import UploadFaults
from pytest_nrfdfu.sim.validate import Validator, image_hash, read_header
from pytest_nrfdfu.sim.zcbor import CborError, Reader, Writer, decode_map
from pytest_nrfdfu.smp.console import CONTINUATION, START, crc16
from pytest_nrfdfu.smp.header import HEADER_SIZE, Group, Header, ImageCommand, Op, OsCommand

__all__ = ["Recovery"]

_CONSOLE_ECHO = 1
"""An OS command of old that is still answered with rc 0 (NMGR_ID_CONS_ECHO_CTRL)."""
_RESPONSE_LINE = 124
"""BOOT_SERIAL_FRAME_MTU: base64 characters in a line of a response."""
_RESET_DELAY = 0.25
"""Seconds between the response to a reset and the reset."""
_SLOTS = 2

_OUTPUT_BASE, _OUTPUT_STATE, _OUTPUT_HASH_EXTRA, _OUTPUT_SLOT_INFO = 128, 48, 4, 164
"""What the size of the output buffer is made of, for each image, in bytes (BOOT_SERIAL_OUT_MAX)."""

_NO_SUCH_AREA = -2
"""-ENOENT of flash_area_open."""


_Effects = Generator[Effect, None, None]


class Recovery:
    """Handles requests one after another. `handle` is called with what `PacketReceiver.take_line` returned."""

    def __init__(
        self,
        profile: BootloaderProfile,
        trailers: Trailers,
        validator: Validator,
        receiver: PacketReceiver,
        hooks: PcdHooks | None = None,
    ) -> None:
        self._profile = profile
        self._hooks = hooks
        self._trailers = trailers
        self._slots = trailers.slots
        self._validator = validator
        self._buffer = receiver.buffer
        self._writer = Writer(self._output_size())
        self.upload = Upload(profile, trailers, hooks)
        self.faults = UploadFaults()
        """What uploads suffer on purpose."""
        self.requests = 0
        """Packets whose header was right."""
        self.responses = 0

    def _output_size(self) -> int:
        profile = self._profile
        size = _OUTPUT_BASE
        if profile.image_state:
            size += _OUTPUT_STATE
        if profile.hash:
            size += self._validator.hash_size + _OUTPUT_HASH_EXTRA
        if profile.slot_info:
            size = max(size, _OUTPUT_SLOT_INFO)
        return size * profile.images

    def handle(self, packet: bytes) -> _Effects:
        """Carry out one request (boot_serial_input). What is not a request is passed over in silence."""
        if len(packet) < HEADER_SIZE:
            return
        header = Header.unpack(packet)
        payload = packet[HEADER_SIZE:]
        if header.op not in (Op.READ, Op.WRITE) or header.length < len(payload):
            return
        self.requests += 1
        self._swap_group()
        self._writer.clear()
        if header.group == Group.IMAGE:
            yield from self._image_group(header, payload)
        elif header.group == Group.OS:
            yield from self._os_group(header, payload)
        elif self._profile.rejects_unknown:
            yield from self._respond_rc(Rc.NOT_SUPPORTED)

    def _image_group(self, header: Header, payload: bytes) -> _Effects:
        if header.command == ImageCommand.STATE:
            yield from self._state(header, payload)
        elif header.command == ImageCommand.UPLOAD:
            yield from self._upload(payload)
        elif header.command == ImageCommand.SLOT_INFO and self._profile.slot_info:
            yield from self._slot_info(header)
        else:
            yield from self._respond_rc(Rc.NOT_SUPPORTED if self._profile.rejects_unknown else Rc.OK)

    def _os_group(self, header: Header, payload: bytes) -> _Effects:
        profile = self._profile
        if header.command == OsCommand.ECHO and profile.echo:
            yield from self._echo(payload)
        elif header.command == OsCommand.ECHO and not profile.rejects_disabled_echo:
            return
        elif header.command == _CONSOLE_ECHO:
            yield from self._respond_rc(Rc.OK)
        elif header.command == OsCommand.RESET:
            yield from self._reset()
        elif header.command == OsCommand.PARAMS and profile.params:
            yield from self._params()
        elif profile.rejects_unknown:
            yield from self._respond_rc(Rc.NOT_SUPPORTED)

    def _reset(self) -> _Effects:
        if self._hooks is not None and self._hooks.busy and self._profile.reset_waits:
            yield from self._respond_rc(Rc.BUSY)
            return
        yield from self._respond_rc(Rc.OK)
        yield Sleep(_RESET_DELAY)
        yield Reboot()

    # Responses

    def _swap_group(self) -> None:
        """Ntohs and htons on the group, where the request lies in the receive buffer."""
        at = PacketReceiver.HEADER_AT + 4
        self._buffer[at : at + 2] = self._buffer[at : at + 2][::-1]

    def _respond(self) -> _Effects:
        """Send what the writer holds (boot_serial_output).

        The header is the request's, changed in place. So a second response to one request has another op, and its
        group's bytes are the wrong way round.
        """
        body = self._writer.data
        at, buffer = PacketReceiver.HEADER_AT, self._buffer
        buffer[at] = buffer[at] & ~7 | (buffer[at] + 1) & 7
        buffer[at + 1] = 0
        buffer[at + 2 : at + 4] = len(body).to_bytes(2, "big")
        self._swap_group()
        packet = bytes(buffer[at : at + HEADER_SIZE]) + body
        text = base64.b64encode((len(packet) + 2).to_bytes(2, "big") + packet + crc16(packet).to_bytes(2, "big"))
        step = _RESPONSE_LINE if self._profile.fragments_responses else len(text)
        lines = (
            (CONTINUATION if start else START) + text[start : start + step] + self._profile.response_end
            for start in range(0, len(text), step)
        )
        self.responses += 1
        yield Send(b"".join(lines))

    def _respond_rc(self, rc: int) -> _Effects:
        writer = self._writer
        writer.map_start()
        writer.text(b"rc")
        writer.integer(rc)
        writer.end()
        yield from self._respond()

    # OS group

    def _echo(self, payload: bytes) -> _Effects:
        try:
            value = self._echo_value(payload)
        except CborError:
            yield from self._respond_rc(Rc.INVALID)
            return
        writer = self._writer
        writer.map_start()
        writer.text(b"r")
        if writer.text(value) and writer.end():
            yield from self._respond()
            return
        writer.clear()
        yield from self._respond_rc(Rc.NO_MEMORY)

    @staticmethod
    def _echo_value(payload: bytes) -> bytes:
        """The value of the key "d", behind which nothing may come."""
        reader = Reader(payload)
        reader.map_start()
        while reader.text() != b"d":
            reader.skip()
        value = reader.text()
        reader.map_end()
        return value

    def _params(self) -> _Effects:
        writer = self._writer
        writer.map_start()
        writer.text(b"buf_size")
        writer.integer(self._profile.receive_size)
        writer.text(b"buf_count")
        writer.integer(1)
        writer.end()
        yield from self._respond()

    # Image group

    def _upload(self, payload: bytes) -> _Effects:
        rc = yield from self.faults.next().carry_out(self.upload, payload)
        if rc is None:
            return
        writer = self._writer
        writer.map_start()
        writer.text(b"rc")
        writer.integer(rc)
        if rc == Rc.OK:
            writer.text(b"off")
            writer.integer(self.upload.expected)
        writer.end()
        yield from self._respond()

    def _state(self, header: Header, payload: bytes) -> _Effects:
        if header.op == Op.READ or self._profile.state_write_lists:
            yield from self._list()
            return
        rc = (yield from self._set_state(payload)) if self._profile.image_state else Rc.NOT_SUPPORTED
        if rc:
            yield from self._respond_rc(rc)
        else:
            yield from self._list()

    def _base(self, slot: int, swap: SwapType) -> int:
        """Where in a slot its image begins."""
        shifted = self._profile.swap == "offset" and slot == 1 and swap is not SwapType.REVERT
        return self._slots.geometry.page if shifted else 0

    def _header(self, area: SlotArea, base: int) -> ImageHeader:
        if self._hooks is not None and area.virtual:
            return self._hooks.header
        return read_header(self._slots, area, base)

    def _valid(self, area: SlotArea, header: ImageHeader, base: int) -> bool:
        """The network core's virtual slot is always valid (boot_image_check_hook)."""
        return (self._hooks is not None and area.virtual) or self._validator.valid(area, header, base)

    def _list(self) -> _Effects:
        writer = self._writer
        writer.map_start()
        writer.text(b"images")
        writer.list_start()
        for image in range(self._profile.images):
            swap = self._trailers.swap_type(image)
            for slot in range(_SLOTS):
                area = self._slots.find(image, slot)
                if area is not None:
                    self._list_slot(area, swap)
        writer.end()
        writer.end()
        yield from self._respond()

    def _list_slot(self, area: SlotArea, swap: SwapType) -> None:
        base = self._base(area.slot, swap)
        header = self._header(area, base)
        valid = header.magic == MAGIC and self._valid(area, header, base)
        if not valid and self._profile.lists_valid_only:
            return
        writer = self._writer
        writer.map_start()
        if self._profile.images > 1:
            writer.text(b"image")
            writer.integer(area.image)
        if self._profile.image_state:
            for flag in self._flags(area, header, swap):
                writer.text(flag)
                writer.boolean(True)
        writer.text(b"slot")
        writer.integer(area.slot)
        digest = self._hash(area, header, base) if self._profile.hash else None
        if digest is not None:
            writer.text(b"hash")
            writer.byte_string(digest)
        writer.text(b"version")
        writer.text(self._version(header))
        writer.end()

    def _hash(self, area: SlotArea, header: ImageHeader, base: int) -> bytes | None:
        return image_hash(self._slots, area, header, base, self._validator.hash_tlv)

    def _version(self, header: ImageHeader) -> bytes:
        version = header.version
        if self._profile.lists_build_number:
            return ".".join(map(str, version)).encode()
        return str(version).encode()

    @staticmethod
    def _flags(area: SlotArea, header: ImageHeader, swap: SwapType) -> list[bytes]:
        """The flags that are true, in the order of the list."""
        primary = area.slot == 0
        flags = {
            b"bootable": ImageFlag.NON_BOOTABLE not in header.flags,
            b"confirmed": primary != (swap is SwapType.REVERT) and (primary or swap is SwapType.REVERT),
            b"active": primary and swap in (SwapType.NONE, SwapType.REVERT),
            b"pending": not primary and swap in (SwapType.TEST, SwapType.PERMANENT),
            b"permanent": not primary and swap is SwapType.PERMANENT,
        }
        return [name for name, value in flags.items() if value]

    def _set_state(self, payload: bytes) -> Generator[Effect, None, int]:
        """bs_set: have an image swapped at the next boot. The hash only says which: also the primary slot's."""
        keys = {b"confirm": Reader.boolean, b"hash": Reader.byte_string}
        if not self._profile.hash:
            del keys[b"hash"]
        try:
            found = decode_map(payload, keys)
        except CborError:
            return Rc.INVALID
        confirm = found.get(b"confirm", False) is True
        wanted = found.get(b"hash", b"")
        assert isinstance(wanted, bytes)
        if len(wanted) not in (0, self._validator.hash_size):
            return Rc.INVALID
        image: int | None = 0
        if wanted:
            image = self._find_hash(wanted)
        elif self._profile.hash and self._profile.images > 1:
            return Rc.INVALID
        if image is None:
            return Rc.NO_ENTRY
        return (yield from self._trailers.set_pending(image, permanent=confirm))

    def _find_hash(self, wanted: bytes) -> int | None:
        """The first image of which a slot has that hash.

        An image whose magic is wrong is not validated here, only one whose magic is right.
        """
        for image in range(self._profile.images):
            swap = self._trailers.swap_type(image)
            for area in filter(None, (self._slots.find(image, slot) for slot in range(_SLOTS))):
                base = self._base(area.slot, swap)
                header = self._header(area, base)
                if header.magic == MAGIC and not self._valid(area, header, base):
                    continue
                if self._hash(area, header, base) == wanted:
                    return image
        return None

    def _slot_info(self, header: Header) -> _Effects:
        if header.op != Op.READ:
            # Nothing ends the command here: the slots follow in a second response, behind the first one's payload.
            yield from self._respond_rc(Rc.NOT_SUPPORTED)
        if not self._write_slot_info():
            self._writer.clear()
            yield from self._respond_rc(Rc.NO_MEMORY)
        yield from self._respond()

    def _write_slot_info(self) -> bool:
        writer = self._writer
        if not (writer.map_start() and writer.text(b"images") and writer.list_start()):
            return False
        images = (self._write_image_info(image) for image in range(self._profile.images))
        return all(images) and writer.end() and writer.end()

    def _write_image_info(self, image: int) -> bool:
        writer = self._writer
        fits = writer.map_start() and writer.text(b"image") and writer.integer(image)
        fits = fits and writer.text(b"slots") and writer.list_start()
        areas = [self._slots.find(image, slot) for slot in range(_SLOTS)]
        fits = fits and all(self._write_slot(image, slot, area) for slot, area in enumerate(areas)) and writer.end()
        if areas[0] is not None and areas[1] is not None:
            fits = fits and writer.text(b"max_image_size")
            fits = fits and writer.integer(self._trailers.max_image_size(areas[0]))
        return fits and writer.end()

    def _write_slot(self, image: int, slot: int, area: SlotArea | None) -> bool:
        writer = self._writer
        fits = writer.map_start() and writer.text(b"slot") and writer.integer(slot)
        if area is None:
            return fits and writer.text(b"rc") and writer.integer(_NO_SUCH_AREA) and writer.end()
        fits = fits and writer.text(b"size") and writer.integer(area.size)
        number = self._upload_number(image, slot)
        if number is not None:
            fits = fits and writer.text(b"upload_image_id") and writer.integer(number)
        return fits and writer.end()

    def _upload_number(self, image: int, slot: int) -> int | None:
        """The number that slot info gives for an upload to this slot."""
        if self._profile.direct_upload:
            return image * 2 + slot + 1
        kind = self._profile.slot_info_upload_id
        if slot != (0 if kind == "primary" else 1):
            return None
        return image * 2 + 1 if kind == "doubled" else image
