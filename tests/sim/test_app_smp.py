"""The application's SMP server: what it answers, in both versions of the protocol, and how it resets."""

import pytest
from simulator import image_hash, make_image

from pytest_nrfdfu.image.format import ImageFlag, ImageHeader
from pytest_nrfdfu.sim.app_smp import SmpServer
from pytest_nrfdfu.sim.chip import Chip
from pytest_nrfdfu.sim.firmware import Reboot, Send, Sleep, Write
from pytest_nrfdfu.sim.retention import Retention
from pytest_nrfdfu.sim.slots import NRF5340_MULTI_IMAGE_SLOTS, NRF5340_SLOTS, Slots
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, dumps, encode
from pytest_nrfdfu.smp.header import Header
from pytest_nrfdfu.smp.messages import (
    BootloaderInfoRequest,
    EchoRequest,
    ImageStateRead,
    ParamsRequest,
    ResetRequest,
)

SLOT0, SLOT1 = NRF5340_SLOTS


class Bench:
    """One server over a chip's flash."""

    def __init__(self, *, retention=Retention(), swap="move", areas=NRF5340_SLOTS, images=1, slot0=b"", slot1=b""):  # noqa: B008
        self.chip = Chip()
        for area, image in ((areas[0], slot0), (areas[1], slot1)):
            self.chip.program(area.address, image + b"\xff" * (-len(image) % 4))
        self.trailers = Trailers(Slots(self.chip, areas), swap)
        self.server = SmpServer(self.chip, self.trailers, images, retention)

    def raw(self, packet):
        """The packets that are sent for one, and the other effects."""
        self.server.feed(console.encode(packet))
        decoder, packets, rest = console.Decoder(), [], []
        for effect in self.server.serve():
            if isinstance(effect, Send):
                packets += [event.data for event in decoder.feed(effect.data)]
            else:
                rest.append(effect)
        return packets, rest

    def ask(self, request, version=1):
        (packet,), _ = self.raw(encode(request, 7, version))
        answer = decode(packet)
        assert request.matches(answer.header, 7)
        return answer

    def images(self, **kwargs):
        return ImageStateRead().read(self.ask(ImageStateRead(), **kwargs).payload)

    def set_pending(self, *, permanent):
        for effect in self.trailers.set_pending(0, permanent=permanent):
            assert isinstance(effect, Write)
            self.chip.program(effect.address, effect.data)


@pytest.fixture
def bench():
    return Bench(slot0=make_image("1.2.3"))


def test_echo_params_and_bootloader(bench):
    assert EchoRequest("x").read(bench.ask(EchoRequest("hello")).payload).text == "hello"
    assert ParamsRequest().read(bench.ask(ParamsRequest()).payload)[:2] == (384, 4)
    assert bench.ask(BootloaderInfoRequest()).payload == {"bootloader": "MCUboot"}
    assert bench.ask(BootloaderInfoRequest(query="mode")).payload == {"mode": 3}
    assert Bench(swap="overwrite").ask(BootloaderInfoRequest(query="mode")).payload == {"mode": 2}


@pytest.mark.parametrize(("version", "payload"), [(0, {"rc": 5}), (1, {"err": {"group": 0, "rc": 3}})])
def test_errors_of_a_group_come_in_the_version_s_own_style(bench, version, payload):
    answer = bench.ask(BootloaderInfoRequest(query="colour"), version)
    assert (answer.payload, answer.header.version) == (payload, version)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("group", "command"), [(1, 1), (1, 6), (0, 2), (63, 0)])
def test_what_there_is_not_is_not_supported(bench, version, group, command):
    (packet,), _ = bench.raw(Header(0, group, command, 9, 1, version).pack() + dumps({}))
    assert decode(packet).payload == {"rc": 8}
    assert decode(packet).header == Header(1, group, command, 9, decode(packet).header.length, version)


@pytest.mark.parametrize(
    ("packet", "rc"),
    [
        (Header(2, 0, 6, 1, 1).pack() + dumps({}), 8),  # parameters cannot be written
        (Header(0, 0, 6, 1, 1, version=2).pack() + dumps({}), 13),
        (Header(0, 0, 0, 1, 2).pack() + b"\xa1\xff", 3),
        (Header(0, 0, 0, 1, 99).pack() + dumps({}), 9),
    ],
)
def test_bad_requests_are_told_so(bench, packet, rc):
    (answer,), _ = bench.raw(packet)
    assert decode(answer).payload == {"rc": rc}


def test_several_requests_in_one_packet_get_one_answer_each(bench):
    one = encode(EchoRequest("a"), 1) + encode(EchoRequest("b"), 2)
    packets, _ = bench.raw(one)
    assert [(decode(p).header.sequence, decode(p).payload) for p in packets] == [(1, {"r": "a"}), (2, {"r": "b"})]


def test_what_fits_no_buffer_or_is_damaged_is_dropped(bench):
    assert bench.raw(encode(EchoRequest("x" * 400), 1)) == ([], [])
    bench.server.feed(b"kernel version\r\n\x06\x09AAsIAAABAAFDAKDczA==\n")
    assert list(bench.server.serve()) == []


def test_an_echo_that_does_not_fit_the_answer_is_an_error(bench):
    """Of 384 bytes the header takes 8, heads and keys 6 in both, and the answer's map has an end of its own."""
    longest = 384 - 8 - 6
    assert bench.ask(EchoRequest("x" * (longest - 1))).payload == {"r": "x" * (longest - 1)}
    assert bench.ask(EchoRequest("x" * longest)).payload == {"rc": 7}


def test_the_list_has_all_flags_and_a_split_status(bench):
    answer = bench.ask(ImageStateRead())
    assert answer.payload == {
        "images": [
            {
                "slot": 0,
                "version": "1.2.3",
                "hash": image_hash(make_image("1.2.3")),
                "bootable": True,
                "pending": False,
                "confirmed": True,
                "active": True,
                "permanent": False,
            }
        ],
        "splitStatus": 0,
    }


@pytest.mark.parametrize(("permanent", "swap"), [(False, "move"), (True, "move"), (True, "overwrite")])
def test_an_update_that_waits_is_pending(permanent, swap):
    bench = Bench(slot0=make_image("1.0.0"), slot1=make_image("2.0.0"), swap=swap)
    bench.set_pending(permanent=permanent)
    first, second = bench.images().images
    assert (first.active, first.confirmed, first.pending) == (True, True, False)
    assert (second.version, second.active, second.confirmed) == ("2.0.0", False, False)
    assert (second.pending, second.permanent) == (True, permanent)


def test_an_image_on_trial_is_not_confirmed_and_the_old_one_is():
    bench = Bench(slot0=make_image("2.0.0"), slot1=make_image("1.0.0"))
    chip, end = bench.chip, SLOT0.address + SLOT0.size
    bench.set_pending(permanent=False)
    magic = chip.read(SLOT1.address + SLOT1.size - 16, 16)
    chip.erase(SLOT1.address + SLOT1.size - 4096)
    chip.program(end - 16, magic)
    chip.program(end - 32, b"\x01\xff\xff\xff")  # copy_done
    first, second = bench.images().images
    assert (first.active, first.confirmed) == (True, False)
    assert (second.active, second.confirmed, second.pending) == (False, True, False)


def test_an_image_that_must_not_boot_is_listed_as_such():
    image = make_image("1.0.0")
    header = ImageHeader.unpack(image)
    image = header._replace(flags=ImageFlag.NON_BOOTABLE).pack() + image[32:]
    (found,) = Bench(slot0=image).images().images
    assert found.bootable is False


def test_images_are_numbered_where_there_are_two():
    bench = Bench(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, slot0=make_image("1.0.0"))
    assert bench.ask(ImageStateRead()).payload["images"][0]["image"] == 0


@pytest.mark.parametrize(
    ("retention", "request_", "left"),
    [
        (Retention(), ResetRequest(boot_mode=1), [1, 0]),
        (Retention(), ResetRequest(), [0, 0]),
        (Retention(checksum="crc8"), ResetRequest(boot_mode=1), [1, 0x12]),
        (None, ResetRequest(boot_mode=1), [0, 0]),
    ],
)
def test_reset_keeps_the_boot_mode_unless_the_server_is_too_old(retention, request_, left):
    bench = Bench(retention=retention)
    (packet,), rest = bench.raw(encode(request_, 1))
    assert decode(packet).payload == {}
    assert bench.chip.gpregret == left
    assert rest[-1] == Reboot()
    assert sum(effect.seconds for effect in rest[:-1]) == pytest.approx(0.25)


def test_the_reset_happens_although_its_map_cannot_be_read():
    bench = Bench()
    _, rest = bench.raw(Header(2, 0, 5, 1, 1).pack() + b"\xff")
    assert rest[-1] == Reboot()
    assert bench.chip.gpregret == [0, 0]


def test_it_answers_until_it_resets():
    bench = Bench(slot0=make_image())
    bench.server.feed(console.encode(encode(ResetRequest(boot_mode=1), 1)))
    effects = []
    for effect in bench.server.serve():
        effects.append(effect)
        if len(effects) == 10:
            bench.server.feed(console.encode(encode(ImageStateRead(), 2)))
    sent = [effect for effect in effects if isinstance(effect, Send)]
    assert len(sent) == 2
    (event,) = console.Decoder().feed(sent[1].data)
    assert "splitStatus" in decode(event.data).payload
    assert isinstance(effects[effects.index(sent[1]) + 1], Sleep)
    assert effects[-1] == Reboot()
