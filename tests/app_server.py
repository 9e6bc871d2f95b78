"""The simulated application's SMP server over a chip's flash, without a wire and without a clock."""

from pytest_nrfdfu.sim.app_smp import SmpServer
from pytest_nrfdfu.sim.app_upload import ImageOptions
from pytest_nrfdfu.sim.chip import Chip
from pytest_nrfdfu.sim.firmware import Erase, Send, Write
from pytest_nrfdfu.sim.retention import Retention
from pytest_nrfdfu.sim.slots import NRF5340_SLOTS, Slots
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps, encode
from pytest_nrfdfu.smp.header import Group, Header, ImageCommand, Op
from pytest_nrfdfu.smp.messages import ImageStateRead

PAGE = 4096


class Bench:
    """One server. `effects` are those of the last packet that are no responses; flash follows them."""

    def __init__(
        self,
        *,
        retention=Retention(),  # noqa: B008 - frozen
        swap="move",
        areas=NRF5340_SLOTS,
        images=1,
        slots=None,
        slot0=b"",
        slot1=b"",
        **options,
    ):
        self.chip = Chip()
        self.areas = areas
        for number, image in {0: slot0, 1: slot1, **(slots or {})}.items():
            start = PAGE if swap == "offset" and areas[number].slot else 0
            self.chip.program(areas[number].address + start, image + b"\xff" * (-len(image) % 4))
        self.trailers = Trailers(Slots(self.chip, areas), swap)
        self.server = SmpServer(self.chip, self.trailers, images, retention, options=ImageOptions(**options))
        self.effects = []

    def apply(self, effects):
        for effect in effects:
            match effect:
                case Erase(address):
                    self.chip.erase(address)
                case Write(address, data):
                    self.chip.program(address, data)
            self.effects.append(effect)

    def raw(self, packet):
        """The packets that are sent for one."""
        self.server.feed(console.encode(packet))
        return self.answers()

    def answers(self):
        self.effects = []
        self.apply(self.server.serve())
        sent = [effect for effect in self.effects if isinstance(effect, Send)]
        self.effects = [effect for effect in self.effects if effect not in sent]
        decoder = console.Decoder()
        return [event.data for effect in sent for event in decoder.feed(effect.data)]

    def ask(self, request, version=1):
        (packet,) = self.raw(encode(request, 7, version))
        answer = decode(packet)
        assert request.matches(answer.header, 7)
        return answer

    def payload(self, command, version=1, op=Op.WRITE, group=Group.IMAGE, **pairs):
        """What a request of the image group is answered with; None as a value leaves the key out."""
        body = dumps({key: value for key, value in pairs.items() if value is not None})
        (packet,) = self.raw(Header(op, group, command, 7, len(body), version).pack() + body)
        return decode(packet).payload

    def upload(self, off, data=b"", version=1, **pairs):
        return self.payload(ImageCommand.UPLOAD, version, off=off, data=data, **pairs)

    def upload_all(self, image, chunk=300, /, **first):
        answer = {"off": 0}
        while answer["off"] < len(image):
            off = answer["off"]
            more = {"len": len(image), **first} if off == 0 else {}
            answer = self.upload(off, image[off : off + chunk], **more)
            assert answer["off"] > off
        return answer

    def images(self, **kwargs):
        return ImageStateRead().read(self.ask(ImageStateRead(), **kwargs).payload)

    def flags(self, number):
        """The flags that are set, of the image in a slot."""
        (found,) = [image for image in self.images().images if 2 * (image.image or 0) + image.slot == number]
        return {name for name in ("pending", "confirmed", "active", "permanent") if getattr(found, name)}

    def set_pending(self, *, permanent, image=0):
        self.apply(self.trailers.set_pending(image, permanent=permanent))

    def set_on_trial(self):
        """The primary slot's trailer as a test swap leaves it."""
        area = self.areas[0]
        self.apply([self.trailers.write_magic(area), self.trailers.write_copy_done(area)])

    def content(self, number, size=None, start=0):
        area = self.areas[number]
        return self.chip.read(area.address + start, area.size - start if size is None else size)
