"""The network core on a simulated board: three bootloaders, the copy by b0n, and what goes wrong with it."""

import hashlib
import random
import struct
from dataclasses import replace

import firmware
import pytest
import simulator
import virtual

from pytest_nrfdfu.errors import SmpRejected
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.format import TRAILER_MAGIC, ImageHeader
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.bootloader import NRF5340_SLOTS
from pytest_nrfdfu.sim.firmware import FlashTiming
from pytest_nrfdfu.sim.options import parse as parse_options
from pytest_nrfdfu.sim.pcd import APPLICATION_ADDRESS, APPLICATION_SIZE, COMMAND_ADDRESS, PcdTiming, Status
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.messages import ImageStateRead, ResetRequest, SlotInfoRequest, UploadRequest
from pytest_nrfdfu.smp.upload import Upload

NCS = PROFILES["ncs-2.6"]
DIRECT = replace(NCS, images=2, direct_upload=True)
TWO_IMAGES = replace(NCS, images=2)
RECOVERY_ONLY = replace(NCS, direct_upload=True)
"""One image, and CONFIG_NRF53_RECOVERY_NETWORK_CORE."""

COPY = Status.COPY.to_bytes(4, "little")
BUSY = 10
PAGE = 2048
ENODATA = -61


class Host(virtual.PlainHost):
    """Knows how long each answer took; no answer, and a refusal, are errors."""

    def ask(self, request, patience=20.0):
        self.began = self.now
        answer = self.exchange(request, patience)
        assert answer is not None, f"no answer to {request} within {patience} s"
        if answer.rejected is not None:
            raise answer.rejected
        return request.read(answer.payload)

    @property
    def took(self):
        """Seconds from the last request to its answer."""
        return self.now - self.began

    def upload(self, image, number, chunk=512):
        """`number` goes with every chunk: bootloaders of old want it in all."""
        offset = 0
        while offset < len(image):
            length = None if offset else len(image)
            piece = image[offset : offset + chunk]
            offset = self.ask(UploadRequest(off=offset, data=piece, length=length, image=number)).off
        return self

    def images(self):
        return self.ask(ImageStateRead()).images

    def reset(self):
        """The rc of a reset request: 0, or that it is busy."""
        try:
            self.ask(ResetRequest())
        except SmpRejected as error:
            if error.rc != BUSY:
                raise
            return error.rc
        return 0

    def reset_when_idle(self, deadline=60.0):
        """Poll as a client has to; how often the answer was rc 10."""
        busy, end = 0, self.now + deadline
        while self.now < end:
            if self.reset() == 0:
                return busy
            busy += 1
            self.wait(0.25)
        raise AssertionError(f"still busy after {deadline} s")


def board(profile=DIRECT, **options):
    options = {"network_core": True, "stay_in_recovery": True, "uart": UartConfig(baudrate=1_000_000)} | options
    return SimBoard(BoardOptions(profile=profile, **options))


def host(profile=DIRECT, **options):
    return Host(board(profile, **options))


def body(size=20_000, reset_vector=0x0100_9001, seed=0):
    return struct.pack("<II", 0x2101_0000, reset_vector) + random.Random(seed).randbytes(size - 8)


def network_image(version="1.2.3", **more):
    return firmware.sign(body(**more), version, slot_size=0x40000)


def application_image(version="3.0.0"):
    return firmware.sign(body(reset_vector=0x0001_0401), version, slot_size=0x34000)


def network(sim):
    return sim.counters()["network_core"]


def copied(sim, image):
    """The body of `image` is in the network core's flash, and nothing in front of it was touched."""
    parsed = parse(image)
    start, size = parsed.header.hdr_size, parsed.header.img_size
    assert sim.chip.read(APPLICATION_ADDRESS, size) == image[start : start + size]
    assert sim.chip.read(0x0100_0000, APPLICATION_ADDRESS - 0x0100_0000) == b"\xff" * 0x8800
    return True


# Numbers: two images with direct upload


@pytest.mark.parametrize(("number", "slot"), [(0, 0), (1, 0), (2, 1), (4, 3)])
def test_direct_upload_numbers_name_slots_in_flash(number, slot):
    image = application_image()
    sim = board()
    Host(sim).upload(image, number)
    area = sim.slot(slot)
    assert area.name == f"slot{slot}"
    assert sim.read_flash(area.address, len(image)) == image
    assert network(sim)["updates"] == 0


def test_direct_upload_number_3_is_the_network_core():
    image = network_image("4.5.6")
    sim = board()
    before = bytes(sim.chip.flash)
    there = Host(sim).upload(image, 3)
    there.reset_when_idle()
    assert copied(sim, image)
    assert bytes(sim.chip.flash) == before, "the application core's flash was written"
    counters = network(sim)
    assert (counters["updates"], counters["failures"], counters["valid"]) == (1, 0, True)
    assert (counters["version"], counters["image_hash"]) == ("4.5.6", parse(image).hash.hex())
    assert counters["sha256"] == hashlib.sha256(body()).hexdigest()


@pytest.mark.parametrize("number", [5, 6, 7])
def test_numbers_of_slots_that_are_not_there_are_refused(number):
    with pytest.raises(SmpRejected) as error:
        host().upload(network_image(), number)
    assert error.value.rc == 3


def test_one_image_with_recovery_of_the_network_core_takes_number_3_too():
    image = network_image()
    sim = board(RECOVERY_ONLY)
    there = Host(sim).upload(image, 3)
    there.reset_when_idle()
    assert copied(sim, image)
    there.wait(1.0)
    assert there.images() == (), "the list of a bootloader with one image shows no network core"


# Numbers: without direct upload


def test_two_images_without_direct_upload_number_1_is_the_network_core():
    image = network_image()
    sim = board(TWO_IMAGES)
    Host(sim).upload(image, 1).reset_when_idle()
    assert copied(sim, image)
    assert network(sim)["updates"] == 1


@pytest.mark.parametrize("number", [2, 3])
def test_two_images_without_direct_upload_have_no_other_numbers(number):
    with pytest.raises(SmpRejected) as error:
        host(TWO_IMAGES).upload(network_image(), number)
    assert error.value.rc == 3


def test_stock_hooks_without_direct_upload_take_number_1_and_copy_nothing():
    """nrf53_hooks.c compares with 3, which is not the number that boot_serial.c gives it then."""
    sim = board(TWO_IMAGES, network_core_number=3)
    there = Host(sim).upload(network_image(), 1)
    assert there.took < 0.5
    assert there.reset_when_idle() == 0
    there.wait(1.0)
    assert network(sim)["updates"] == 0
    assert bytes(sim.chip.network_flash) == b"\xff" * 0x40000


@pytest.mark.parametrize("number", [0, 1, 3, 77])
@pytest.mark.parametrize("network_core", [False, True])
def test_one_image_without_direct_upload_any_number_overwrites_the_application(number, network_core):
    image = network_image()
    sim = board(NCS, network_core=network_core, image=application_image())
    Host(sim).upload(image, number).wait(10.0)
    assert sim.read_flash(NRF5340_SLOTS[0].address, len(image)) == image
    if network_core:
        assert network(sim)["updates"] == 0


# The copy


def test_the_last_response_comes_a_second_late_and_the_copy_goes_on_behind_it():
    image = network_image(size=40_000)
    sim = board(pcd=PcdTiming(wait=1.0, validation=0.2))
    there = Host(sim)
    offset, answers = 0, []
    while offset < len(image):
        first = {"length": len(image), "image": 3} if offset == 0 else {}
        offset = there.ask(UploadRequest(off=offset, data=image[offset : offset + 512], **first)).off
        answers.append(there.took)
    assert max(answers[:-1]) < 0.02, "RAM takes no erase"
    assert 1.0 < answers[-1] < 1.02
    pages = -(-40_000 // PAGE)
    flash = pages * 87.5e-3 + 40_000 / 4 * 43e-6
    ended = there.began + flash + 2 * 0.2
    assert sim.chip.read(COMMAND_ADDRESS, 4) == COPY
    assert network(sim)["copying"]
    busy = there.reset_when_idle()
    assert busy >= 3
    assert ended - 0.02 < there.began < ended + 0.3, "the copy takes what the flash takes"
    assert copied(sim, image)


def test_recovery_answers_while_the_copy_runs():
    there = host()
    there.upload(network_image(), 3)
    assert network(there.board)["copying"]
    assert [(image.image, image.slot) for image in there.images()] == [(1, 0)]
    assert there.took < 0.05


def test_without_flash_time_the_copy_is_done_within_the_wait():
    there = host(timing=FlashTiming(0.0, 0.0))
    there.upload(network_image(), 3)
    assert there.reset_when_idle() == 0
    assert network(there.board)["valid"]


def test_the_delay_can_be_set():
    there = host(pcd=PcdTiming(wait=2.5))
    there.upload(network_image(), 3)
    assert 2.5 < there.took < 2.52


def test_a_last_chunk_sent_again_is_answered_and_starts_no_second_copy():
    image = network_image()
    there = host()
    there.upload(image, 3)
    tail = len(image) - len(image) % 512
    answer = there.ask(UploadRequest(off=tail, data=image[tail:]))
    assert answer.off == len(image)
    there.reset_when_idle()
    assert network(there.board)["updates"] == 1


def test_bootloaders_of_old_reset_at_once():
    """The reset hook came with v1.10.0-ncs1; before, the reset cut the copy off (NCSDK-11308)."""
    sim = board(replace(PROFILES["ncs-2.2"], images=2, direct_upload=True))
    there = Host(sim).upload(network_image(), 3)
    assert there.took > 1.0
    assert network(sim)["copying"]
    assert there.reset_when_idle() == 0
    there.wait(30.0)
    assert (network(sim)["updates"], network(sim)["valid"]) == (0, False)


def test_updates_follow_one_another():
    there = host()
    first, second = network_image("1.0.0"), network_image("2.0.0", seed=2, size=10_000)
    for image in (first, second):
        there.upload(image, 3).reset_when_idle()
        there.wait(1.0)
        assert copied(there.board, image)
    assert network(there.board)["updates"] == 2
    assert network(there.board)["version"] == "2.0.0"
    there.board.reset_counters()
    assert network(there.board)["updates"] == 0
    assert network(there.board)["valid"]


def test_network_core_then_application_then_boot():
    """Both cores in the order in which they have to go."""
    there = host(stay_in_recovery=False)
    there.board.drive_recovery_pin("test", low=True)
    there.board.chip.drive_nreset("test", low=True)
    there.board.chip.drive_nreset("test", low=False)
    app = application_image("9.8.7")
    there.upload(network_image(), 3).upload(app, 1)
    listed = {(image.image, image.slot): image for image in there.images()}
    assert listed[0, 0].hash == parse(app).hash
    there.board.drive_recovery_pin("test", low=False)
    there.reset_when_idle()
    there.wait(1.0)
    assert there.board.program == "application"
    assert b"application 9.8.7" in there.text
    assert network(there.board)["valid"]


def test_the_clients_upload_copes_with_the_late_response():
    """Its time-outs are shorter than that: what it sends again is answered, and no second copy begins."""
    image = network_image(size=60_000)
    sim = board()
    there = virtual.VirtualHost(sim, baudrate=1_000_000)
    upload = Upload(image, image=3, sequences=there.sequences, link=there.link, round_trip=there.round_trip)
    there._drive(upload, lambda: upload.done, None)
    assert upload.acknowledged == len(image)
    there.now += 30.0
    sim.machine.advance(there.now)
    assert copied(sim, image)
    assert (network(sim)["updates"], sim.counters()["uploads"]) == (1, 1)


def test_the_real_network_core_firmware():
    """The whole of it, signed; MCUboot checks no signature here, and b0n's own is not simulated.

    It was built without b0n and is linked at the start of the network core's flash, which only its reset vector shows.
    """
    raw = firmware.real_network_firmware()
    image = firmware.sign(raw, "4.4.0", key="ecdsa-p256", slot_size=0x40000)
    assert parse(image).reset_vector >> 16 == 0x0100
    sim = board(timing=FlashTiming())
    there = Host(sim).upload(image, 3)
    there.reset_when_idle()
    assert copied(sim, image)
    assert network(sim)["image_hash"] == parse(image).hash.hex()


# The image list


@pytest.mark.parametrize("uploaded", [False, True])
def test_the_list_shows_the_virtual_slot_without_version_and_hash(uploaded):
    there = host()
    if uploaded:
        there.upload(network_image("4.5.6"), 3)
    assert [(i.image, i.slot, i.version, i.hash) for i in there.images()] == [(1, 0, "0.0.0", None)]


def test_the_list_shows_the_network_cores_secondary_slot_with_its_hash():
    there = host()
    image = network_image("4.5.6")
    listed = there.upload(image, 4).images()
    assert [(i.image, i.slot, i.version, i.hash) for i in listed] == [
        (1, 0, "0.0.0", None),
        (1, 1, "4.5.6", parse(image).hash),
    ]


def test_slot_info_gives_the_number_3():
    there = host(replace(DIRECT, slot_info=True))
    slots = {(i.image, s.slot): s for i in there.ask(SlotInfoRequest()).images for s in i.slots}
    assert {place: slot.upload_image_id for place, slot in slots.items()} == {
        (0, 0): 1,
        (0, 1): 2,
        (1, 0): 3,
        (1, 1): 4,
    }
    assert {place: slot.size for place, slot in slots.items()} == {
        (0, 0): 0x34000,
        (0, 1): 0x34000,
        (1, 0): 0x40000,
        (1, 1): 0x40000,
    }


# What is rejected


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(application_image, id="application"),
        pytest.param(lambda: b"\0" * 4 + network_image()[4:], id="no magic"),
        pytest.param(lambda: network_image(reset_vector=0x0100_0000), id="b0n's own address"),
    ],
)
def test_what_is_not_for_the_network_core_gets_enodata_and_is_not_copied(image):
    there = host()
    with pytest.raises(SmpRejected) as error:
        there.upload(image(), 3)
    assert error.value.rc == ENODATA
    assert there.took < 0.5
    there.wait(20.0)
    assert (network(there.board)["updates"], network(there.board)["failures"]) == (0, 0)
    assert bytes(there.board.chip.network_flash) == b"\xff" * 0x40000
    assert there.reset_when_idle() == 0


def damaged():
    image = bytearray(network_image())
    image[5000] ^= 1
    return bytes(image)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(damaged, id="damaged"),
        pytest.param(lambda: network_image(reset_vector=0x2000_0101), id="linked in RAM"),
        pytest.param(lambda: network_image(size=APPLICATION_SIZE + 4), id="too large behind b0n"),
    ],
)
def test_what_only_b0n_sees_gets_rc_0_and_is_not_copied(image):
    """The upload ends well and the reset is let through: nothing tells the client."""
    there = host()
    there.upload(image(), 3)
    there.reset_when_idle()
    assert (network(there.board)["updates"], network(there.board)["failures"]) == (0, 1)
    assert bytes(there.board.chip.network_flash) == b"\xff" * 0x40000


def test_a_network_core_image_in_the_applications_slot_is_taken_and_listed():
    """Serial recovery does not look at addresses (MCUBOOT_VERIFY_IMG_ADDRESS is for swaps)."""
    there = host()
    image = network_image()
    listed = there.upload(image, 1).images()
    assert listed[0].hash == parse(image).hash


def test_an_empty_image_is_no_command():
    image = bytearray(network_image())
    image[:32] = ImageHeader(img_size=0).pack()
    there = host()
    with pytest.raises(SmpRejected) as error:
        there.upload(bytes(image), 3)
    assert error.value.rc == -22


# What cuts a copy off


def power_cycle(there):
    there.board.chip.set_power(False)
    there.board.chip.set_power(True)


def pin_reset(there):
    there.board.chip.drive_nreset("test", low=True)
    there.board.chip.drive_nreset("test", low=False)


@pytest.mark.parametrize("cut", [power_cycle, pin_reset])
@pytest.mark.parametrize("seconds", [0.3, 0.55])
def test_what_cuts_off_a_copy_leaves_the_network_core_invalid(cut, seconds):
    there = host()
    there.upload(network_image(size=30_000, seed=9), 3).reset_when_idle()
    there.wait(1.0)
    assert network(there.board)["valid"]
    image = network_image(size=40_000)
    there.upload(image, 3)
    there.wait(seconds)
    assert network(there.board)["copying"]
    cut(there)
    there.wait(30.0)
    counters = network(there.board)
    assert (counters["updates"], counters["failures"], counters["valid"]) == (1, 0, False)
    written = there.board.chip.read(APPLICATION_ADDRESS, 40_000)
    same = [written[at : at + 64] == image[0x200 + at : 0x200 + at + 64] for at in range(0, 40_000, PAGE)]
    assert same == sorted(same, reverse=True), "pages are copied in their order"
    assert any(same), "none was copied before the cut"
    assert not all(same), "the cut came too late"


def test_after_a_power_cut_another_upload_repairs_it():
    there = host()
    image = network_image()
    there.upload(image, 3)
    power_cycle(there)
    there.wait(1.0)
    assert not network(there.board)["copying"], "power-off clears the command"
    there.upload(image, 3).reset_when_idle()
    assert network(there.board)["valid"]
    assert copied(there.board, image)


def test_after_a_reset_in_the_copy_reset_stays_busy_until_another_upload():
    """The command is in RAM, which a reset leaves alone, and nobody works on it any more."""
    there = host()
    image = network_image()
    there.upload(image, 3)
    pin_reset(there)
    there.wait(1.0)
    with pytest.raises(AssertionError, match="still busy after"):
        there.reset_when_idle(deadline=30.0)
    there.upload(image, 3).reset_when_idle()
    assert network(there.board)["valid"]


def test_a_cut_between_validation_and_the_first_page_leaves_the_old_firmware():
    there = host(pcd=PcdTiming(validation=3.0))
    old, new = network_image("1.0.0"), network_image("2.0.0", seed=2)
    there.upload(old, 3).reset_when_idle()
    there.wait(1.0)
    there.upload(new, 3)
    power_cycle(there)
    there.wait(10.0)
    assert copied(there.board, old)
    assert (network(there.board)["version"], network(there.board)["valid"]) == ("1.0.0", True)


def test_a_halted_application_core_does_not_stop_the_copy():
    there = host()
    image = network_image()
    there.upload(image, 3)
    dhcsr, halt = 0xE000EDF0, 0xA05F0003
    there.board.chip.bus_write(0, dhcsr, halt)
    assert not there.board.chip.cpu_runs
    there.wait(30.0)
    assert copied(there.board, image)


def test_a_board_left_alone_has_copied_before_it_does_anything_else():
    """However long nobody looks: a request that comes later, and a power cut, find the copy done."""
    clock = [0.0]
    options = BoardOptions(profile=DIRECT, network_core=True, stay_in_recovery=True, pcd=PcdTiming(validation=3.0))
    sim = SimBoard(options, clock=lambda: clock[0])
    there = Host(sim)
    there.upload(network_image("1.0.0"), 3)
    assert network(sim)["version"] is None, "b0n has not begun"
    there.machine.receive(console.encode(encode(ResetRequest(), 1)), there.now + 60.0)
    there.now += 61.0
    (packet,) = there.decoder.feed(there.machine.advance(there.now))
    assert decode(packet.data).rejected is None, "the copy was not done when the request came"
    assert network(sim)["updates"] == 1
    there.upload(network_image("2.0.0", seed=2), 3)
    clock[0] = there.now + 60.0
    sim.chip.set_power(False)
    assert (network(sim)["updates"], network(sim)["version"]) == (2, "2.0.0")


def test_what_lies_in_the_virtual_slots_trailer_counts_for_nothing():
    """A swap that awaits confirmation, in flash, would be listed as one to be reverted."""
    there = host(replace(DIRECT, image_state=True))
    there.images()
    area = there.board.slot(2)
    there.board.chip.write_ram(area.address + area.size - len(TRAILER_MAGIC), TRAILER_MAGIC)
    there.board.chip.write_ram(area.address + area.size - 32, b"\x01")
    (listed,) = there.images()
    assert listed.confirmed
    assert listed.active


def test_a_virtual_slot_begins_erased_at_every_boot():
    there = host()
    there.upload(network_image(), 3).reset_when_idle()
    there.wait(1.0)
    area = there.board.slot(2)
    assert there.board.chip.read(area.address, area.size) == b"\xff" * area.size


# Booting, and options


def test_a_board_with_two_images_boots_without_an_image_for_the_network_core():
    there = host(stay_in_recovery=False, image=application_image("1.0.1"))
    there.wait(1.0)
    assert there.board.program == "application"


def test_the_default_board_is_what_it_was():
    sim = SimBoard(BoardOptions())
    assert sim.slots == NRF5340_SLOTS
    assert sim.counters()["network_core"] is None


def test_slots_of_two_images_do_not_overlap_and_fit_the_flash():
    areas = [area for area in board().slots if not area.virtual]
    ends = [0x10000] + [area.address + area.size for area in areas]
    assert all(area.address == end for area, end in zip(areas, ends, strict=False))
    assert ends[-1] <= 0x100000


def test_two_images_need_the_network_core():
    with pytest.raises(ValueError, match="without the network core is not simulated"):
        board(DIRECT, network_core=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--network-core", "--images", "2", "--direct-upload"], (True, 2, True, None, 1.0)),
        (["--network-core", "--direct-upload", "--pcd-delay", "0.5"], (True, 1, True, None, 0.5)),
        (["--network-core", "--images", "2", "--network-core-number", "3"], (True, 2, False, 3, 1.0)),
        ([], (False, 1, False, None, 1.0)),
    ],
)
def test_the_command_line_says_which_bootloader(arguments, expected):
    given = parse_options(arguments).board
    assert (
        given.network_core,
        given.profile.images,
        given.profile.direct_upload,
        given.network_core_number,
        given.pcd.wait,
    ) == expected


def test_two_images_without_the_network_core_are_refused_on_the_command_line(capsys):
    with pytest.raises(SystemExit) as end:
        parse_options(["--images", "2"])
    assert end.value.code == 2
    assert "without the network core is not simulated" in capsys.readouterr().err


def test_a_simulator_of_its_own_updates_the_network_core_and_counts_it():
    """The same in real time: a process, its UART and its admin port."""
    image = network_image("7.8.9")
    arguments = ("--network-core", "--images", "2", "--direct-upload", "--stay-in-recovery", "--pcd-delay", "0.1")
    with (
        simulator.running(*arguments, "--baudrate", "0") as sim,
        SimAdmin(sim["admin"]) as admin,
        simulator.Host(sim["uart"]) as there,
    ):
        assert there.images()[0].version == "0.0.0"
        for at in range(0, len(image), 512):
            first = {} if at else {"length": len(image), "image": 3}
            there.ask(UploadRequest(off=at, data=image[at : at + 512], **first))
        assert admin.counters()["network_core"]["copying"]
        simulator.wait_until(lambda: not admin.counters()["network_core"]["copying"], "the copy")
        counters = admin.counters()["network_core"]
        assert (counters["updates"], counters["valid"], counters["version"]) == (1, True, "7.8.9")
        assert counters["sha256"] == hashlib.sha256(body()).hexdigest()
