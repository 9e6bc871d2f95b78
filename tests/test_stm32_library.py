"""The SMP host in C of examples/stm32_host on this computer: its bytes, its course, and what it survives."""

import random
import re
import shlex

import host_table
import pytest
import stm32
from hypothesis import given
from hypothesis import strategies as st
from simulator import image_hash, make_image

from pytest_nrfdfu import cli
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import UploadRequest
from pytest_nrfdfu.wire.frames import messages, read
from pytest_nrfdfu.wire.lint import lint

README = stm32.SOURCE / "README.md"
IMAGE = make_image("4.5.6", 9001)
READ, WRITE = 0, 2
FUZZED = 100


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return stm32.Library(stm32.build_library(tmp_path_factory.mktemp("library")))


# The codec.


@pytest.mark.parametrize("data", [b"", b"123456789", bytes(600), bytes(range(256))])
def test_crc(library, data):
    assert library.crc16(data) == console.crc16(data)


def test_crc_of_the_catalogue(library):
    """CRC-16/XMODEM of 123456789, as every catalogue gives it."""
    assert library.crc16(b"123456789") == 0x31C3


@pytest.mark.parametrize(
    ("op", "group", "command", "sequence", "wire"),
    [
        (READ, 1, 0, 0x42, b"\x06\x09AAsAAAABAAFCAKD1Mw==\n"),
        (WRITE, 0, 5, 0x8A, b"\x06\x09AAsCAAABAACKBaA1Qw==\n"),  # Nordic DevZone 102545, from the mcumgr tool
    ],
)
def test_requests_that_are_known_to_work(library, op, group, command, sequence, wire):
    assert library.lines(library.request(op, group, command, sequence, {})) == [wire]


@given(
    off=st.sampled_from([0, 23, 24, 255, 256, 65535, 65536]) | st.integers(0, 2**32 - 1),
    length=st.none() | st.integers(0, 2**32 - 1),
    data=st.binary(max_size=1000),
    image=st.none() | st.integers(1, 300),
    sequence=st.integers(0, 255),
)
def test_requests_are_those_of_the_plugin(library, off, length, data, image, sequence):
    request = UploadRequest(off=off, data=data, length=length, image=image)
    frame = library.request(WRITE, 1, 1, sequence, request.payload())
    assert frame == framed(encode(request, sequence, version=0))
    assert library.lines(frame) == list(console.lines(frame[2:-2]))
    assert library.request(WRITE, 1, 1, sequence, request.payload(), size=len(frame)) == frame
    assert library.request(WRITE, 1, 1, sequence, request.payload(), size=len(frame) - 1) == b""


def framed(packet):
    return (len(packet) + 2).to_bytes(2, "big") + packet + console.crc16(packet).to_bytes(2, "big")


@given(
    packets=st.lists(st.binary(max_size=500), max_size=3),
    between=st.sampled_from([b"", b"\n", b"\xff\x00\x7e", b"*** Booting Zephyr ***\n", b"\r", b"\x06", b"a\x04\n"]),
    length=st.sampled_from([127, 128, 11, 2000]),
    end=st.sampled_from([b"\n", b"\n\r", b"\r\n"]),
)
def test_packets_are_found_between_text(library, packets, between, length, end):
    """Also of old MCUboot, which ends lines with LF CR, and sends one long line."""
    packets = [b"01234567" + packet for packet in packets]
    wire = b"".join(
        between + line.replace(b"\n", end) for packet in packets for line in console.lines(packet, line_length=length)
    )
    assert library.decode(wire + between) == packets


@given(packet=st.binary(min_size=8, max_size=300), place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_damaged_packet_is_dropped(library, packet, place, bit):
    wire = bytearray(console.encode(packet))
    wire[int(place * (len(wire) - 2))] ^= 1 << bit
    assert library.decode(bytes(wire)) in ([], [packet])
    assert library.decode(bytes(wire) + console.encode(packet))[-1:] == [packet]


@pytest.mark.parametrize("text", [b"AAA=", b"AAEA", b"AAIAAA==", b"====", b"A=AA", b"AA=="])
def test_a_frame_without_room_for_a_packet_is_dropped(library, text):
    assert library.decode(b"\x06\x09" + text + b"\n") == []


def test_what_does_not_fit_is_dropped(library):
    small, large = b"01234567", bytes(100)
    assert library.decode(console.encode(large) + console.encode(small), size=60) == [small]


def test_the_hash_in_an_image(library):
    assert library.image_hash(IMAGE) == image_hash(IMAGE)
    assert library.image_hash(IMAGE[:-36]) is None
    assert library.image_hash(b"\xff" * 600) is None
    assert library.image_hash(IMAGE[:31]) is None


# The transfer, in virtual time.


@pytest.mark.parametrize("baudrate", [115_200, 1_000_000])
@pytest.mark.parametrize("profile", ["ncs-2.6", "ncs-2.4", "mcuboot-main"])
def test_an_update(library, profile, baudrate):
    board = stm32.board(profile, baudrate=baudrate)
    host = stm32.Host(library, board.machine, baudrate=baudrate, first_ms=-1500)  # the clock wraps on the way
    assert (host.update(IMAGE, reset=True), host.state.repeats) == ("ok", 0)
    assert board.read_flash(stm32.SLOT0, len(IMAGE)) == IMAGE
    assert lint(host.capture, profile=board.options.profile) == []
    lines = host.capture.bytes_of("tx").splitlines(keepends=True)
    assert max(map(len, lines)) == 127
    resets = board.counters()["resets"]
    board.machine.advance(host.now + 1.0)
    assert board.counters()["resets"] != resets


def test_packets_are_those_that_the_tool_prints(library, tmp_path, capsys):
    """``nrfdfu packets``, told the same chunk and sequence: byte for byte."""
    path = tmp_path / "app.bin"
    path.write_bytes(IMAGE)
    host = stm32.Host(library, stm32.board().machine)
    assert host.update(IMAGE, reset=True) == "ok"
    sent = [line for line in host.capture.bytes_of("tx").splitlines(keepends=True) if line != b"\n"]
    first = host.state.sequence - len(IMAGE) // 620 - 3
    arguments = ["packets", str(path), "--chunk", "616", "--smp-version", "1", "--sequence", str(first), "--json"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    for line in sent[:8]:  # the list and the first chunk; later ones are larger by the four bytes that `len` takes
        assert line[2:-1].decode() in shown


def test_a_smaller_buffer_makes_smaller_packets(library):
    host = stm32.Host(library, stm32.board("ncs-2.6").machine, tx_size=186)
    assert host.update(IMAGE) == "ok"
    packets = [e.data for e in console.Decoder().feed(host.capture.bytes_of("tx")) if isinstance(e, console.Packet)]
    assert max(map(len, packets)) in range(178, 183)


@pytest.mark.parametrize(
    ("status", "profile", "image", "options"),
    [
        ("no image", "ncs-2.6", b"\0" * 5000, {}),
        ("too small", "ncs-2.6", IMAGE, {"tx_size": 24}),
        ("not listed", "ncs-2.6", IMAGE[:5000] + b"!" + IMAGE[5001:], {}),
        ("not listed", "ncs-2.2", IMAGE[:5000] + b"!" + IMAGE[5001:], {}),
        ("no hash", "ncs-2.2", IMAGE, {}),
        ("refused", "ncs-2.6", make_image("1.0.0", 0x70000), {}),  # larger than the slot
    ],
)
def test_what_goes_wrong_is_told_apart(library, status, profile, image, options):
    host = stm32.Host(library, stm32.board(profile, baudrate=1_000_000).machine, baudrate=1_000_000, **options)
    assert host.update(image) == status
    assert host.state.rc == (3 if status == "refused" else 0)


def test_an_application_is_not_updated(library):
    board = stm32.SimBoard(stm32.BoardOptions(image=IMAGE, application_smp="full"))
    host = stm32.Host(library, board.machine, start=5.0)
    assert host.update(IMAGE) == "application"


def test_a_silent_board_is_given_up(library):
    board = stm32.board()
    board.machine.hang()
    host = stm32.Host(library, board.machine)
    assert (host.update(IMAGE), host.state.repeats) == ("no answer", 4)
    assert host.now < 30


@pytest.mark.parametrize(
    "fault",
    [
        {"nth": 1, "late": 30.0},
        {"nth": 3, "late": 4.0},
        {"nth": 3, "times": 2, "lost": True},
        {"nth": 3, "ignored": True},
        {"nth": 4, "back": 32},
        {"nth": 2, "times": 4, "before": b"\x06\x09AAA log\n\xff".hex()},
    ],
)
def test_trouble_is_survived(library, fault):
    board = stm32.board()
    board.faults.uploads.arm(fault)
    host = stm32.Host(library, board.machine)
    assert host.update(IMAGE) == "ok"
    assert board.read_flash(stm32.SLOT0, len(IMAGE)) == IMAGE
    assert [finding.said for finding in lint(host.capture, profile=board.options.profile)] == []


def test_a_reset_halfway_begins_anew(library):
    class Once(stm32.Line):
        sent = 0

        def to_board(self, data):
            self.sent += len(data)
            if 6000 < self.sent < 6200:
                board.machine.synchronize()
                board.chip.drive_nreset("line", low=True)
                board.chip.drive_nreset("line", low=False)
            return data

    board = stm32.board()
    host = stm32.Host(library, board.machine, Once())
    assert host.update(IMAGE) == "ok"
    assert board.read_flash(stm32.SLOT0, len(IMAGE)) == IMAGE
    assert host.state.repeats > 0


def test_lines_that_are_lost_are_sent_again(library):
    """Each line either way is lost with a chance of one in fifty; the packets are right all the same."""

    class Lossy(stm32.Line):
        chance = random.Random(1)

        def to_board(self, data):
            return b"" if self.chance.random() < 0.02 else data

    board = stm32.board(baudrate=1_000_000)
    host = stm32.Host(library, board.machine, Lossy(), baudrate=1_000_000)
    host.state.first_ms = 1000
    assert host.update(IMAGE) == "ok"
    assert host.state.repeats > 0
    assert host.capture.bytes_of("tx").count(b"\n\n\x06") == host.state.repeats, "half a line was left in the way"
    assert lint(host.capture, profile=board.options.profile) == []


def test_an_erase_is_waited_for(library):
    """Also without patience for anything else."""
    host = stm32.Host(library, stm32.board().machine)
    host.state.patience_ms = 15
    assert (host.update(IMAGE), host.state.repeats) == ("ok", 0)


def uploads(state, listed):
    """A board that takes every chunk, and lists what it is told to."""

    def answer(header, payload):
        if (header.group, header.command) != (1, 1):
            return {"images": listed}
        state.append((header.sequence, payload["off"]))
        return {"rc": 0, "off": payload["off"] + len(payload["data"])}

    return answer


def test_a_slow_board_is_waited_for(library):
    """It answers everything, always later than the host's patience ends: that grows, and nothing is sent on top."""
    seen = []
    board = stm32.ScriptedBoard(uploads(seen, [{"slot": 0, "hash": image_hash(IMAGE)}]), delay=1.0)
    host = stm32.Host(library, board, baudrate=1_000_000)
    host.state.first_ms = 0
    assert host.update(IMAGE) == "ok"
    assert host.state.repeats <= 3
    waiting = {}
    for message in messages(read(host.capture)):
        if not message.is_request:
            del waiting[message.header.sequence]
            continue
        off = message.payload.get("off")
        assert set(waiting.values()) <= {off}, f"the request for {off} was sent on top"
        waiting[message.header.sequence] = off


def test_the_image_is_told_from_others(library):
    def found(*listed, number=0):
        return stm32.Host(library, stm32.ScriptedBoard(uploads([], listed))).verify(IMAGE, number=number)

    right = image_hash(IMAGE)
    assert found({"slot": 0, "hash": bytes(32)}) == "not listed"
    assert found({"slot": 0, "hash": right[:31]}) == "not listed"
    assert found({"slot": 1, "hash": right, "version": "1.2.3"}) == "not listed"
    assert found({"slot": 1, "hash": right}, number=2) == "ok"
    assert found({"slot": 0, "version": "1.2.3"}) == "no hash"
    assert found({"slot": 1, "hash": bytes(32)}, {"flags": [{}, None], "hash": right, "slot": 0}) == "ok"


def test_a_board_that_asks_for_the_same_for_ever_is_given_up(library):
    answer = {"rc": 0, "off": 0, "images": []}
    assert stm32.Host(library, stm32.ScriptedBoard(lambda *_: answer)).update(IMAGE) == "stuck"


def test_a_reset_waits_for_a_board_that_is_busy(library):
    """rc 10: the network core is being updated."""
    answers = [{"rc": 10}, {"rc": 10}, {"rc": 0}]
    host = stm32.Host(library, stm32.ScriptedBoard(lambda *_: answers.pop(0)))
    assert host.reset() == "ok"
    assert answers == []
    assert host.now > 2.0


def test_fuzzed_under_sanitizers(tmp_path):
    """Out of bounds, overflows, and the rest of undefined behaviour end the process."""
    done = stm32.sanitized(stm32.build_library(tmp_path, *stm32.SANITIZERS), FUZZED)
    assert done.returncode == 0, done.stdout + done.stderr
    faults, repeats = map(int, re.search(r"(\d+) faults, (\d+) repeats", done.stdout).groups())
    assert faults > FUZZED
    assert repeats > FUZZED


@pytest.mark.parametrize(
    ("file", "check"),
    [
        ("smp_codec.c", " || bytes > d->size - d->have"),
        ("smp_codec.c", "item->value > (size_t)(r->end - r->at)"),
        ("smp_host.c", "at + 4 > size || "),
        ("smp_host.c", " && value.value <= SMP_HASH_SIZE"),
    ],
)
def test_the_sanitizers_look(tmp_path, file, check):
    """Without one of its checks it reads or writes out of bounds, and that is noticed."""
    source = (stm32.SOURCE / file).read_text()
    broken = source.replace(check, "false" if check.startswith("item") else "")
    assert broken != source
    for name in ("smp_codec.h", "smp_host.h", "smp_host.c", "smp_codec.c"):
        (tmp_path / name).write_text((stm32.SOURCE / name).read_text())
    (tmp_path / file).write_text(broken)
    done = stm32.sanitized(stm32.build_library(tmp_path, *stm32.SANITIZERS, source=tmp_path), FUZZED)
    assert done.returncode != 0, done.stdout
    assert "AddressSanitizer" in done.stderr


# On a port of this computer.


def test_the_suite_for_hosts(tmp_path):
    """All checks, but for the two that mainly wait."""
    stm32.make("linux", folder=tmp_path)
    command = f"{tmp_path}/stm32_host {{port}} {{baudrate}} {{image}}"
    table = host_table.run(command, "-k", "not silent_board and not late_response", folder=tmp_path)
    assert len(table.results) > 18, table.text
    assert table.wrong == set(), table.text


# The page.


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the page has no {language} block"
    return found


def test_the_page_has_the_size_of_the_build(tmp_path):
    printed = stm32.make("library", folder=tmp_path)
    sizes = re.findall(r"^ *(\d+)\t +(\d+)\t +(\d+)\t.*/(smp_\w+\.o)$", printed, re.MULTILINE)
    assert len(sizes) == 2
    assert [tuple(line.split()) for line in blocks("size")[0].splitlines()[1:]] == sizes
    assert f"({stm32.TX_SIZE} and {stm32.RX_SIZE} bytes)" in README.read_text()


def test_the_page_shows_what_the_tool_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.signed.bin").write_bytes(make_image("1.2.3", 2000))
    command = re.search(r"`nrfdfu (packets .*?)` prints", README.read_text())[1]
    assert cli.main([*shlex.split(command), "--colour", "never"]) == 0
    printed = capsys.readouterr().out
    for block in blocks("packets"):
        assert block in printed


def test_the_page_shows_what_lint_finds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text(blocks("capture")[0])
    assert cli.main(["trace", "lint", "mine.txt", "--colour", "never"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert any("crc-initial-value" in line for line in printed)
    assert set(blocks("lint")[0].splitlines()) <= set(printed)


def test_the_page_names_functions_that_there_are():
    code = (stm32.SOURCE / "smp_codec.c").read_text() + (stm32.SOURCE / "smp_host.c").read_text()
    rows = [line.rsplit("|", 2)[1] for line in README.read_text().splitlines() if re.match(r"\| .* \| `\w+`", line)]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 6
    assert all(f" {name}(" in code for name in named), named


def test_the_page_s_tests_pass(pytester, tmp_path):
    stm32.make("linux", folder=pytester.mkdir("build"))
    pytester.makepyfile(blocks("python")[0])
    (pytester.path / "app.signed.bin").write_bytes(make_image("1.2.3", 2000))
    result = pytester.runpytest_subprocess("--build", "app.signed.bin", timeout=120)
    result.assert_outcomes(passed=2)


def test_the_page_s_commands_build(tmp_path):
    image = tmp_path / "app.signed.bin"
    image.write_bytes(make_image("1.2.3", 2000))
    for line in blocks("sh")[0].splitlines():
        words = shlex.split(line, comments=True)
        assert words.pop(0) == "make"
        stm32.make(*(word.replace("IMAGE=", f"IMAGE={tmp_path}/") for word in words), folder=tmp_path)
    assert (tmp_path / "stm32_host.bin").read_bytes().count(image.read_bytes()) == 1
