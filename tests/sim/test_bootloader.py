"""The simulated MCUboot: which way a boot takes, which images it starts, how it receives and how builds differ."""

import contextlib
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st
from imgtool.image import Image
from imgtool.keys import ECDSA256P1, Ed25519
from imgtool.version import decode_version

from pytest_nrfdfu.image.bootloader import PROFILES, BootloaderProfile
from pytest_nrfdfu.sim.bootloader import NRF5340_SLOTS, Bootloader
from pytest_nrfdfu.sim.console_rx import LineBuffers, PacketReceiver, base64_decode
from pytest_nrfdfu.sim.firmware import Erase, Idle, Reboot, Send, Sleep, Start, Write
from pytest_nrfdfu.sim.sparse_flash import SparseFlash
from pytest_nrfdfu.sim.zcbor import CborError, Reader, Writer, decode_map
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.header import Header

IMAGES = Path(__file__).parents[1] / "data" / "mcuboot-transcripts" / "images"
SLOT0, SLOT1 = NRF5340_SLOTS
PROFILE = BootloaderProfile(name="test")

POWER_ON = 0
RESETPIN = 1 << 0
CTRLAP = 1 << 2
SREQ = 1 << 3


class Hardware(SparseFlash):
    """What the bootloader sees of a chip, with attributes that tests set."""

    def __init__(self, *, resetreas=POWER_ON, pin=False, boot_mode=0, slot0=b""):
        super().__init__(4096)
        self.resetreas = resetreas
        self.recovery_pin_low = pin
        self.gpregret = [boot_mode, 0]
        self.fill(SLOT0.address, slot0)

    def clear_resetreas(self, mask):
        self.resetreas &= ~mask


class Application:
    """Stands for the program that a valid slot starts."""

    def __init__(self, area):
        self.area = area


class Board:
    """Drives one boot in virtual time."""

    def __init__(self, profile=PROFILE, hardware=None, **options):
        self.hardware = Hardware() if hardware is None else hardware
        self.bootloader = Bootloader(profile, self.hardware, start_application=Application, **options)
        self._main = self.bootloader.main()
        self.now = 0.0
        self.effects = []
        self.sent = b""
        self.ended = None
        self.at_time = {}

    def run(self, *, until=60.0):
        """Go on until the bootloader waits for input, ends, or `until` seconds."""
        while self.ended is None and self.now < until:
            effect = next(self._main, "endless loop")
            self.effects.append(effect)
            match effect:
                case Idle(timeout=None):
                    return self
                case Idle(timeout=seconds) | Sleep(seconds=seconds):
                    self._pass(seconds)
                case Write(address=address, data=data):
                    self.hardware.write(address, data)
                case Erase(address=address):
                    self.hardware.erase(address)
                case Send(data=data):
                    self.sent += data
                case Start() | Reboot() | "endless loop":
                    self.ended = effect
        return self

    def _pass(self, seconds):
        self.now += seconds
        for moment in [m for m in self.at_time if m <= self.now]:
            self.at_time.pop(moment)(self)

    def receive(self, data):
        self.bootloader.interrupt(data)

    def line_by_line(self, data):
        for line in data.splitlines(keepends=True):
            self.receive(line)
            self.run()
        return self

    def ask(self, *packets):
        """Send requests one after another; the packets that came back."""
        self.sent = b""
        for packet in packets:
            self.line_by_line(console.encode(packet))
        return self.responses()

    def responses(self):
        events = console.Decoder().feed(self.sent)
        assert all(isinstance(event, console.Packet) for event in events), events
        return [cbor2.loads(event.data[8:]) for event in events]

    @property
    def started(self):
        return self.ended.program.area if isinstance(self.ended, Start) else None


def request(op, group, command, body=None, sequence=0):
    payload = cbor2.dumps({} if body is None else body)
    return Header(op, group, command, sequence, len(payload)).pack() + payload


def upload(offset, data, **more):
    return request(2, 1, 1, {"off": offset, "data": data, **more})


LIST = request(0, 1, 0)
ECHO = request(2, 0, 0, {"d": "hello"})
RESET = request(2, 0, 5)
PARAMS = request(0, 0, 6)
SLOT_INFO = request(0, 1, 6)


def file(name):
    return (IMAGES / name).read_bytes()


GOOD = file("a2k.bin")


def recovery(profile=PROFILE, **flash):
    return Board(profile, Hardware(**flash), stay_in_recovery=True).run()


# Ways into recovery


@pytest.mark.parametrize(
    ("cause", "enters"),
    [
        (POWER_ON, True),
        (RESETPIN, True),
        (SREQ, False),
        (CTRLAP, False),
        (SREQ | RESETPIN, True),  # RESETPIN stays set over soft resets until something clears it
    ],
    ids=["power-on", "pin", "soft", "ctrl-ap", "soft after pin"],
)
def test_held_pin_enters_only_after_power_on_or_pin_reset(cause, enters):
    board = Board(hardware=Hardware(resetreas=cause, pin=True, slot0=GOOD)).run()
    assert board.bootloader.in_recovery is enters
    assert board.started == (None if enters else SLOT0)
    assert board.hardware.resetreas == cause


def test_released_pin_does_not_enter():
    assert Board(hardware=Hardware(resetreas=RESETPIN, slot0=GOOD)).run().started == SLOT0


def test_pin_does_nothing_without_that_entrance():
    profile = replace(PROFILE, entrances=("boot-mode",))
    assert Board(profile, Hardware(pin=True, slot0=GOOD)).run().started == SLOT0


def test_old_build_takes_the_pin_after_any_reset():
    profile = replace(PROFILE, gpio_needs_pin_reset=False)
    assert Board(profile, Hardware(resetreas=SREQ, pin=True, slot0=GOOD)).run().bootloader.in_recovery


@pytest.mark.parametrize(("release", "enters"), [(0.5, False), (None, True)])
def test_detect_delay_wants_the_pin_held_all_the_time(release, enters):
    board = Board(replace(PROFILE, detect_delay=1.0), Hardware(pin=True, slot0=GOOD))
    if release is not None:
        board.at_time[release] = lambda b: setattr(b.hardware, "recovery_pin_low", False)
    board.run()
    assert board.bootloader.in_recovery is enters
    assert board.now == pytest.approx(1.05 if enters else 0.5, abs=0.002)


@pytest.mark.parametrize(
    ("alone", "cause", "enters"),
    [
        (True, RESETPIN, True),
        (True, RESETPIN | SREQ, False),
        (False, RESETPIN, True),
        (False, RESETPIN | SREQ, True),
        (False, SREQ, False),
        (False, POWER_ON, False),
    ],
)
def test_pin_reset_entrance(alone, cause, enters):
    profile = replace(PROFILE, entrances=("pin-reset",), pin_reset_alone=alone)
    board = Board(profile, Hardware(resetreas=cause, slot0=GOOD)).run()
    assert board.bootloader.in_recovery is enters
    assert board.hardware.resetreas == (0 if enters else cause)


@pytest.mark.parametrize(("mode", "enters"), [(0, False), (1, True), (2, False), (0xFF, False)])
def test_boot_mode_enters_and_is_cleared(mode, enters):
    profile = replace(PROFILE, entrances=("boot-mode",))
    board = Board(profile, Hardware(resetreas=SREQ, boot_mode=mode, slot0=GOOD)).run()
    assert board.bootloader.in_recovery is enters
    assert board.hardware.gpregret == [0 if enters else mode, 0]


def test_boot_mode_is_left_alone_without_that_entrance():
    board = Board(hardware=Hardware(boot_mode=1, slot0=GOOD)).run()
    assert board.started == SLOT0
    assert board.hardware.gpregret == [1, 0]


WINDOW = replace(PROFILE, entrances=("wait-for-dfu",), wait_for_dfu=0.5)


def test_window_ends_without_a_request():
    board = Board(WINDOW, Hardware(slot0=GOOD)).run()
    assert board.started == SLOT0
    assert board.now == pytest.approx(0.5, abs=0.011)


def test_request_in_the_window_stays_for_good():
    board = Board(WINDOW, Hardware(slot0=GOOD))
    board.at_time[0.3] = lambda b: b.receive(console.encode(LIST))
    board.run()
    assert board.bootloader.in_recovery
    assert board.ended is None
    assert [image["version"] for image in board.responses()[0]["images"]] == ["1.2.3.4"]


def test_request_during_validation_is_kept_for_the_window():
    board = Board(WINDOW, Hardware(slot0=GOOD))
    board._main.send(None)  # up to the first wait
    board.receive(console.encode(LIST))
    board.run()
    assert board.bootloader.in_recovery


def test_noise_in_the_window_does_not_stay():
    board = Board(WINDOW, Hardware(slot0=GOOD))
    board.at_time[0.1] = lambda b: b.receive(b"\x06\x09garbage\nmore\n" + console.encode(b"\x07" * 12))
    assert board.run().started == SLOT0


def test_input_before_the_console_is_open_is_lost():
    board = Board(hardware=Hardware(pin=True))
    board.receive(console.encode(LIST))
    board.run()
    assert board.sent == b""


@pytest.mark.parametrize(("slot0", "enters"), [(b"", True), (file("bad_payload.bin"), True), (GOOD, False)])
def test_no_application_entrance(slot0, enters):
    profile = replace(PROFILE, entrances=("no-application",))
    board = Board(profile, Hardware(slot0=slot0)).run()
    assert board.bootloader.in_recovery is enters
    assert board.started == (None if enters else SLOT0)


# Validation


@pytest.mark.parametrize(
    "name", ["a2k", "b5k", "e2049", "dep2k", "cust2k", "seccnt2k", "signed2k", "hdr400_2k", "pad12k", "romfixed2k"]
)
def test_good_image_starts(name):
    assert Board(hardware=Hardware(slot0=file(f"{name}.bin"))).run().started == SLOT0


@pytest.mark.parametrize(
    "name",
    [
        *("bad_payload", "bad_hashtlv", "bad_version", "bad_magic", "bad_hdrsize", "bad_tlvmagic", "trunc1500"),
        *("trunc_tlv", "trunc_notlv", "trunc_hdr", "huge_imgsize", "big_imgsize", "hdr_only", "zeros512", "rand600"),
        *("nonboot2k", "enc_flag", "sha512_2k"),
    ],
)
def test_bad_image_boots_nothing(name):
    assert Board(hardware=Hardware(slot0=file(f"{name}.bin"))).run().ended == "endless loop"


@pytest.mark.parametrize("offset", [0, 20, 0x200, len(GOOD) - 80, len(GOOD) - 1])
def test_flipped_byte_boots_nothing(offset):
    image = bytearray(GOOD)
    image[offset] ^= 1
    board = Board(hardware=Hardware(slot0=bytes(image))).run()
    assert board.ended == "endless loop"
    assert not board.bootloader.in_recovery


def test_second_image_counts_too():
    areas = (*NRF5340_SLOTS, replace(SLOT0, name="slot2", image=1, address=0x90000))
    hardware = Hardware(slot0=GOOD)
    profile = replace(PROFILE, images=2)
    assert Board(profile, hardware, areas=areas).run().started is None
    hardware.fill(0x90000, GOOD)
    assert Board(profile, hardware, areas=areas).run().started == SLOT0


def tlv(kind, value):
    return struct.pack("<HH", kind, len(value)) + value


def signed(key, *, key_hash=True):
    """A small image, signed as imgtool signs."""
    body = bytes(range(256))
    head = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, 0x200, 0, len(body), 0, 1, 2, 3, 0).ljust(0x200, b"\0")
    wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
    algorithm, hash_tlv = (hashlib.sha384, 0x11) if wide else (hashlib.sha256, 0x10)
    digest = algorithm(head + body).digest()
    signature_tlv, signature = sign(key, digest)
    tlvs = tlv(hash_tlv, digest)
    if key_hash:
        tlvs += tlv(0x01, algorithm(encoded(key.public_key())).digest())
    tlvs += tlv(signature_tlv, signature)
    return head + body + struct.pack("<HH", 0x6907, len(tlvs) + 4) + tlvs


def sign(key, digest):
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
        return 0x20, key.sign(digest, pss, utils.Prehashed(hashes.SHA256()))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = hashes.SHA256() if len(digest) == 32 else hashes.SHA384()
        return 0x22, key.sign(digest, ec.ECDSA(utils.Prehashed(algorithm)))
    return 0x24, key.sign(digest)


def encoded(key):
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    form = serialization.PublicFormat.PKCS1 if is_rsa else serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


KEYS = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS)
def test_signature_must_be_of_the_key(make):
    key, other = make(), make()
    image = signed(key)
    assert Board(hardware=Hardware(slot0=image), public_key=pem(key)).run().started == SLOT0
    assert Board(hardware=Hardware(slot0=image), public_key=pem(other)).run().started is None
    assert Board(hardware=Hardware(slot0=signed(key, key_hash=False)), public_key=pem(key)).run().started is None
    broken = bytearray(image)
    broken[-3] ^= 1
    assert Board(hardware=Hardware(slot0=bytes(broken)), public_key=pem(key)).run().started is None


@pytest.mark.parametrize("sort", [ECDSA256P1, Ed25519])
def test_image_signed_by_imgtool_starts(tmp_path, sort):
    key = sort.generate()
    key.export_private(str(tmp_path / "key.pem"))
    private = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    (tmp_path / "app.bin").write_bytes(bytes(1000))
    image = Image(version=decode_version("1.2.3"), header_size=0x200, pad_header=True, align=4, slot_size=0x70000)
    image.load(str(tmp_path / "app.bin"))
    image.create(key, "hash", None)
    hardware = Hardware(slot0=bytes(image.payload))
    assert Board(hardware=hardware, public_key=pem(private)).run().started == SLOT0
    assert Board(hardware=hardware, public_key=pem(KEYS["ecdsa-p256"]())).run().started is None


def test_unsigned_image_does_not_start_with_a_key():
    assert Board(hardware=Hardware(slot0=GOOD), public_key=pem(KEYS["ed25519"]())).run().started is None


def test_key_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="no signatures"):
        Board(public_key=pem(ec.generate_private_key(ec.SECP521R1())))


# Receiving


def test_eighth_line_has_no_buffer_while_a_command_is_carried_out():
    lines = LineBuffers(8, 128)
    lines.feed(b"request\n")
    assert lines.take() == b"request\n"
    for number in range(8):
        lines.feed(b"line %d\n" % number)
    assert (len(lines), lines.dropped) == (7, 1)
    assert lines.take() == b"line 0\n"
    lines.feed(b"goes\n")
    assert (len(lines), lines.dropped) == (7, 1)


def test_dropped_start_leaves_the_rest_of_a_line():
    lines = LineBuffers(1, 128)
    lines.feed(b"first\nlost ")
    assert lines.take() == b"first\n"
    assert lines.take() is None
    lines.feed(b"rest\n")
    assert lines.take() == b"rest\n"
    assert lines.dropped == 1


def test_long_line_is_cut_and_loses_its_newline():
    lines = LineBuffers(8, 128)
    lines.feed(b"x" * 200 + b"\nnext\n")
    assert lines.take() == b"x" * 128
    assert lines.take() == b"next\n"


@given(st.lists(st.one_of(st.binary(max_size=20), st.none(), st.just(b"\n")), max_size=60), st.integers(1, 9))
def test_line_buffers_do_as_a_loop_over_bytes_does(steps, count):
    """The byte-wise loop of serial_adapter.c as the model; None is a read."""
    fast, free, current, queue, held, out = LineBuffers(count, 6), count, None, [], False, []
    for step in steps:
        if step is None:
            free, held = free + held, False
            line = queue.pop(0) if queue else None
            held = line is not None
            out.append((fast.take(), line))
            continue
        fast.feed(step)
        for byte in step:
            if current is None:
                if not free:
                    continue
                free, current = free - 1, b""
            current += bytes([byte]) if len(current) < 6 else b""
            if byte == 10:
                queue.append(current)
                current = None
    assert all(got == want for got, want in out)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        (b"QUJD", b"ABC"),
        (b"QUI=", b"AB"),
        (b"QQ==", b"A"),
        (b"QUJD  ", b"ABC"),
        (b"QUJDR", b"ABC"),
        (b"QUJDRE", b"ABC"),
        (b"QUI==", b"AB"),
        (b"QQ", b""),
        (b"", b""),
        (b"   ", b""),
        (b"QUJD\r", None),
        (b" QUJD", None),
        (b"QU JD", None),
        (b"QQ==QUJD", None),
        (b"QQ===", None),
        (b"QU-D", None),
        (b"QUJ\xff", None),
    ],
)
def test_base64_leniency(text, decoded):
    assert base64_decode(text, 100) == decoded


@given(st.binary(max_size=40), st.integers(0, 40))
def test_base64_never_exceeds_its_room(text, capacity):
    decoded = base64_decode(text, capacity)
    assert decoded is None or len(decoded) <= capacity


@pytest.mark.parametrize(
    "text",
    [
        console.encode(LIST).replace(b"\n", b"\r\n"),
        console.encode(LIST)[:-3] + b"\n",
        b"\x06" + console.encode(LIST),
        console.encode(LIST[:-1] + b"\x01\x01"),  # longer than its header says
        console.encode(b"\x01" + LIST[1:]),
        console.encode(LIST[:7]),
        console.encode(LIST)[:20] + b"\n" + console.encode(LIST)[20:],
    ],
    ids=["CR LF", "cut", "byte in front", "too long", "a response", "no header", "newline inside"],
)
def test_bad_requests_are_met_with_silence(text):
    board = recovery()
    assert board.line_by_line(text).sent == b""
    assert len(board.ask(LIST)) == 1


def test_shell_noise_between_lines_does_no_harm():
    first, second, *rest = console.lines(upload(0, bytes(120), len=5000))
    board = recovery()
    board.line_by_line(first + b"uart:~$ \n" + second + b"".join(rest))
    assert board.responses() == [{"rc": 0, "off": 120}]


@pytest.mark.parametrize(("size", "answered"), [(1021, True), (1022, False)])
def test_largest_packet(size, answered):
    packet = LIST[:2] + struct.pack(">H", size - 8) + LIST[4:8] + cbor2.dumps({}).ljust(size - 8, b"\0")
    assert len(packet) == size
    assert bool(recovery().ask(packet)) is answered


def test_start_marker_is_not_needed_in_an_empty_buffer():
    board = recovery()
    assert board.line_by_line(b"\x04\x14" + console.encode(LIST)[2:]).responses() == [{"images": []}]


def test_continuation_after_a_packet_lands_on_its_crc():
    receiver = PacketReceiver(1024)
    assert receiver.take_line(next(console.lines(LIST))) == LIST
    assert receiver.take_line(b"\x04\x14AAAA\n") is None


@pytest.mark.parametrize(("waiting", "dropped"), [(7, 0), (8, 1)])
def test_seven_lines_may_wait_behind_a_request(waiting, dropped):
    board = recovery(PROFILE)
    board.receive(console.encode(LIST))
    assert isinstance(next(board._main), Send)  # the request is being answered
    board.receive(console.encode(LIST) * waiting)
    board.run()
    assert board.bootloader.dropped_lines == dropped
    assert board.bootloader.responses == 8


@given(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([b"\x06\x09", b"\x04\x14", b"\n"])), max_size=20))
def test_any_input_is_survived(pieces):
    board = recovery(replace(PROFILE, echo=True, params=True, slot_info=True, image_state=True))
    for piece in pieces:
        board.receive(piece)
        board.run()
    board.receive(b"\n")
    board.run()
    assert board.ended is not None or len(board.ask(LIST)) == 1


@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 8), st.binary(max_size=200))
def test_any_payload_is_survived(op, group, command, payload):
    profile = replace(PROFILE, echo=True, params=True, slot_info=True, image_state=True, direct_upload=True)
    board = recovery(profile)
    packet = Header(op, group, command, 0, len(payload)).pack() + payload
    board.line_by_line(console.encode(packet))
    assert board.bootloader.responses == 0 if op == 1 else board.bootloader.responses >= 1


def test_nesting_beyond_pythons_stack_is_skipped():
    nested = b"\x81" * 900 + b"\x00"
    body = b"\xa2\x61x" + nested + b"\x61d\x62hi"
    board = recovery(replace(PROFILE, echo=True))
    assert board.ask(Header(2, 0, 0, 0, len(body)).pack() + body) == [{"r": "hi"}]


# Commands


def send_image(board, image, chunk=256, **first):
    offset = 0
    while offset < len(image):
        more = {"len": len(image), **first} if offset == 0 else {}
        [answer] = board.ask(upload(offset, image[offset : offset + chunk], **more))
        assert answer["rc"] == 0
        offset = answer["off"]


def test_uploaded_image_is_listed_and_starts():
    board = recovery()
    send_image(board, GOOD)
    [answer] = board.ask(LIST)
    assert answer == {
        "images": [{"slot": 0, "hash": hashlib.sha256(GOOD[: 0x200 + 2048]).digest(), "version": "1.2.3.4"}]
    }
    assert (board.bootloader.uploads, board.bootloader.erases) == (1, 2)
    assert Board(hardware=board.hardware).run().started == SLOT0


def test_pages_are_erased_as_the_image_comes_and_the_trailers_last():
    board = recovery()
    send_image(board, file("b5k.bin"), chunk=400)
    flash = [e for e in board.effects if isinstance(e, (Erase, Write, Send))]
    erased = [e.address - SLOT0.address for e in flash if isinstance(e, Erase)]
    assert erased == [0, 4096, SLOT0.size - 4096]
    assert isinstance(flash[0], Erase)
    assert isinstance(flash[-2], Erase)
    assert isinstance(flash[-1], Send)
    assert all(len(e.data) % 4 == 0 and e.address % 4 == 0 for e in flash if isinstance(e, Write))


def test_whole_slot_is_erased_first_without_progressive_erase():
    board = recovery(replace(PROFILE, erase_progressively=False))
    assert board.ask(upload(0, GOOD[:256], len=len(GOOD))) == [{"rc": 0, "off": 256}]
    assert board.bootloader.erases == SLOT0.size // 4096


def test_wrong_offset_is_told_the_right_one():
    board = recovery()
    assert board.ask(upload(0, GOOD[:256], len=len(GOOD)), upload(512, GOOD[512:600])) == [
        {"rc": 0, "off": 256},
        {"rc": 0, "off": 256},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"off": 0, "data": b"1234"},
        {"off": 0, "len": 100},
        {"data": b"1234", "len": 100},
        {"off": 0, "data": b"", "len": 100},
        {"off": 0, "data": b"1234", "len": SLOT0.size + 1},
        {"off": 0, "data": "text", "len": 100},
        {"off": 0, "data": b"1234", "len": 100, "image": 1},
    ],
)
def test_rejected_uploads(body):
    assert recovery().ask(request(2, 1, 1, body)) == [{"rc": 3}]


@pytest.mark.parametrize(("number", "area"), [(0, SLOT0), (1, SLOT0), (2, SLOT1), (3, None), (7, None)])
def test_direct_upload_numbers(number, area):
    board = recovery(replace(PROFILE, direct_upload=True))
    [answer] = board.ask(upload(0, b"1234" * 4, len=16, image=number))
    assert answer["rc"] == (3 if area is None else 0)
    if area is not None:
        assert board.hardware.read(area.address, 16) == b"1234" * 4


def test_reset_answers_waits_and_reboots():
    board = recovery()
    board.receive(console.encode(RESET))
    board.run()
    assert board.responses() == [{"rc": 0}]
    assert board.effects[-2:] == [Sleep(0.25), Reboot()]


def test_slot_info_as_a_write_answers_twice():
    board = recovery(replace(PROFILE, slot_info=True))
    board.line_by_line(console.encode(request(2, 1, 6)))
    first, second = (Header.unpack(event.data) for event in console.Decoder().feed(board.sent))
    assert (first.op, first.group) == (3, 1)
    assert (second.op, second.group) == (4, 0x0100)


def test_marking_an_image_for_the_next_boot():
    profile = replace(PROFILE, image_state=True)
    hardware = Hardware(slot0=GOOD)
    hardware.fill(SLOT1.address, file("b5k.bin"))
    board = Board(profile, hardware, stay_in_recovery=True).run()
    second = board.ask(LIST)[0]["images"][1]
    answer = board.ask(request(2, 1, 0, {"hash": second["hash"], "confirm": False}))[0]
    assert [image.get("pending") for image in answer["images"]] == [None, True]
    assert hardware.read(SLOT1.address + SLOT1.size - 16, 4) == bytes.fromhex("77c295f3")


# Builds


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_takes_an_image(name):
    board = recovery(PROFILES[name])
    send_image(board, GOOD, chunk=128)
    assert board.hardware.read(SLOT0.address, len(GOOD)) == GOOD
    assert board.ask(LIST)[0]["images"][0]["version"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("options", "asked", "answer"),
    [
        ({"echo": True}, ECHO, [{"r": "hello"}]),
        ({"echo": False}, ECHO, [{"rc": 8}]),
        ({"echo": False, "rejects_disabled_echo": False}, ECHO, []),
        ({"params": True}, PARAMS, [{"buf_size": 1024, "buf_count": 1}]),
        ({"params": False}, PARAMS, [{"rc": 8}]),
        ({"params": False, "rejects_unknown": False}, PARAMS, []),
        ({"rejects_unknown": False}, request(0, 9, 1), []),
        ({"slot_info": False}, SLOT_INFO, [{"rc": 8}]),
        ({"image_state": False}, request(2, 1, 0), [{"rc": 8}]),
        ({"state_write_lists": True}, request(2, 1, 0), [{"images": []}]),
        ({"hash": False}, LIST, [{"images": []}]),
    ],
)
def test_commands_that_a_build_has(options, asked, answer):
    assert recovery(replace(PROFILE, **options)).ask(asked) == answer


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"direct_upload": True}, [1, 2]),
        ({"slot_info_upload_id": "doubled"}, [None, 1]),
        ({"slot_info_upload_id": "secondary"}, [None, 0]),
        ({"slot_info_upload_id": "primary"}, [0, None]),
    ],
)
def test_upload_numbers_in_slot_info(options, numbers):
    [answer] = recovery(replace(PROFILE, slot_info=True, **options)).ask(SLOT_INFO)
    [image] = answer["images"]
    assert [slot.get("upload_image_id") for slot in image["slots"]] == numbers
    assert [slot["size"] for slot in image["slots"]] == [SLOT0.size, SLOT1.size]
    assert image["max_image_size"] == SLOT0.size - 2 * 4096


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, [b"\n", b"\n"]),
        ({"fragments_responses": False}, [b"\n"]),
        ({"fragments_responses": False, "response_end": b"\n\r"}, [b"\n\r"]),
    ],
)
def test_lines_of_a_response(options, ends):
    board = recovery(replace(PROFILE, image_state=True, **options), slot0=GOOD)
    board.line_by_line(console.encode(LIST))
    end = ends[0]
    lines = board.sent.split(end)[:-1]
    assert len(lines) == len(ends)
    assert lines[0].startswith(console.START)
    assert all(line.startswith(console.CONTINUATION) for line in lines[1:])
    assert len(lines[0]) == 126 if len(ends) > 1 else len(lines[0]) > 126


def test_old_list_shows_empty_slots_and_build_numbers():
    [answer] = recovery(PROFILES["ncs-2.4"], slot0=GOOD).ask(LIST)
    assert [image["slot"] for image in answer["images"]] == [0, 1]
    [answer] = recovery(PROFILES["ncs-2.2"], slot0=file("b5k.bin")).ask(LIST)
    assert answer == {"images": [{"slot": 0, "version": "2.0.0.0"}]}


def test_old_upload_takes_the_image_number_from_every_packet():
    profile = replace(PROFILE, direct_upload=True, image_at_start_only=False)
    board = recovery(profile)
    board.ask(upload(0, b"1234" * 4, len=32, image=2), upload(16, b"5678" * 4))
    assert board.hardware.read(SLOT1.address, 16) == b"1234" * 4
    assert board.hardware.read(SLOT0.address + 16, 16) == b"5678" * 4


def queued(profile):
    """Two requests, the second one while the first is answered: how many were answered, then after another byte."""
    board = recovery(profile)
    board.receive(console.encode(LIST))
    assert isinstance(next(board._main), Send)
    board.receive(console.encode(LIST))
    board.run()
    before = board.bootloader.responses
    board.receive(b"\n")
    board.run()
    return before, board.bootloader.responses


def test_queued_command_waits_for_the_next_byte_in_old_code():
    assert queued(PROFILE) == (2, 2)
    assert queued(replace(PROFILE, queues_commands=False)) == (1, 2)


def test_old_line_buffers():
    board = recovery(PROFILES["ncs-2.2"])
    board.receive(b"one\ntwo\nthree\n")
    assert board.bootloader.dropped_lines == 1


# CBOR


def test_writer_leaves_out_what_does_not_fit():
    writer = Writer(6)
    assert [writer.map_start(), writer.text(b"ab"), writer.text(b"cd"), writer.integer(1), writer.end()] == [
        *(True, True, False, True, True),
    ]
    assert writer.data == bytes.fromhex("bf62616201ff")


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_are_encoded_shortest(value):
    writer = Writer(20)
    assert writer.integer(value)
    assert writer.data == cbor2.dumps(value)


@given(
    st.recursive(
        st.one_of(st.integers(-(2**63), 2**64 - 1), st.binary(), st.text(), st.booleans(), st.none(), st.floats()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_value_is_skipped_whole(value):
    data = cbor2.dumps({"other": value, "off": 7})
    assert decode_map(data, {b"off": Reader.uint32}) == {b"off": 7}


@given(st.binary(max_size=60))
def test_decoding_garbage_gives_an_error_or_a_map(data):
    with contextlib.suppress(CborError):
        decode_map(data, {b"off": Reader.uint32, b"data": Reader.byte_string, b"confirm": Reader.boolean})
