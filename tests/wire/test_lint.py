"""Every rule against a host that is broken in its way: the rule fires, no other, and the simulated board agrees."""

import base64
import re

import breaking
import pytest
import virtual
from breaking import CASES, Case, observed, run
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.image.bootloader import PROFILES, BootloaderProfile
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.wire import lint as linter
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.lint import RULES, Effect, Finding, Severity, lint, render, summary

PATIENCE = 3.0
"""Virtual seconds of silence after which a board will not answer any more."""
BYTE = 10 / 115200


class Simulated:
    """The simulated board in virtual time."""

    def __init__(self, profile: BootloaderProfile = PROFILES["ncs-2.6"]) -> None:
        self.board = SimBoard(BoardOptions(profile=profile, uart=UartConfig(), stay_in_recovery=True))
        self.now = 1.0
        self._received = self.board.machine.advance(self.now)

    def send(self, data: bytes) -> None:
        machine = self.board.machine
        machine.receive(data, self.now)
        self.now += len(data) * BYTE
        self._received += machine.advance(self.now)

    def receive(self) -> bytes:
        machine = self.board.machine
        deadline = self.now + PATIENCE
        while (event := machine.next_event()) is not None and event <= deadline:
            self.now = max(self.now, event)
            self._received += machine.advance(self.now)
        self._received, data = b"", self._received
        return data


def _ids(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_rule_and_only_that_rule_fires_and_the_board_does_what_it_says(case: Case) -> None:
    board = Simulated()
    played = run(board, case.steps)
    findings = lint(played.capture)
    assert _ids(findings) == [case.rule], "\n".join(render(finding, False) for finding in findings)
    finding = findings[0]
    seen = observed(case, played.answers)
    if case.effect is Effect.OVERWRITES:
        assert seen is Effect.ANSWERS
        size = 2 * breaking.CHUNK
        assert board.board.read_flash(0x10000, size) == breaking.NETWORK_IMAGE[:size], "over the application"
    else:
        assert seen is case.effect
    assert finding.effect is case.effect
    assert finding.does.startswith(case.effect.sentence)
    assert finding.marks, "the place is marked"
    assert all(0 <= first < last <= len(finding.data) for first, last in finding.marks)


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(RULES)
    assert len(RULES) >= 24


def test_rules_say_everything() -> None:
    for name, rule in RULES.items():
        assert rule.id == name
        assert rule.title.endswith(".")
        assert rule.fix
        assert any(word in rule.source for word in ("Zephyr", "MCUboot", "RFC")), rule.source


@pytest.mark.parametrize("case", [case for case in CASES if len(case.steps) > 1], ids=lambda case: case.name)
def test_what_a_finding_gives_as_right_is_right(case: Case) -> None:
    """The bytes as they should be lint clean, put in the place of the wrong ones."""
    played = run(Simulated(), case.steps)
    (finding,) = lint(played.capture)
    if finding.should is None:
        return
    assert lint(Capture((Chunk(0.0, "tx", finding.should),))) == []
    assert finding.should != finding.data
    events = console.Decoder().feed(finding.should)
    assert [type(event) for event in events] == [console.Packet]


def test_a_correct_host_lints_clean() -> None:
    """The plugin's own engine, in virtual time, with all that passed on the wire."""
    board = SimBoard(BoardOptions(uart=UartConfig(), stay_in_recovery=True))
    chunks: list[Chunk] = []
    machine = board.machine
    receive, advance = machine.receive, machine.advance

    def recorded_receive(data: bytes, now: float) -> None:
        chunks.append(Chunk(now, "tx", data))
        receive(data, now)

    def recorded_advance(now: float) -> bytes:
        data = advance(now)
        if data:
            chunks.append(Chunk(now, "rx", data))
        return data

    machine.receive, machine.advance = recorded_receive, recorded_advance
    host = virtual.VirtualHost(board)
    host.upload(breaking.IMAGE)
    host.images()
    assert len(chunks) > 20
    assert lint(Capture(tuple(chunks))) == []


def test_a_correct_chunk_by_chunk_host_lints_clean() -> None:
    offsets = range(0, breaking.SIZE, breaking.CHUNK)
    packets = [breaking.LIST, *(breaking.chunk(off) for off in offsets), breaking.LIST, breaking.RESET]
    played = run(Simulated(), tuple(breaking.Step(console.encode(packet)) for packet in packets))
    assert lint(played.capture) == []


def test_half_a_capture_is_no_fault() -> None:
    """A capture may begin and end anywhere: only the bytes that were cut off must not be blamed on the host."""
    data = console.encode(breaking.chunk(0))
    for end in range(len(data)):
        findings = lint(Capture((Chunk(0.0, "tx", data[:end]),)))
        ends_a_line = data[:end].removesuffix(b"\x04").endswith(b"\n")
        expected = {"packet-incomplete"} if ends_a_line else {"newline-missing"} if end == len(data) - 1 else set()
        assert set(_ids(findings)) == expected, end


# --- reported cases and vectors -------------------------------------------------------------------------------------


def _sent(*lines: bytes) -> list[Finding]:
    return lint(Capture(tuple(Chunk(None, "tx", line) for line in lines)))


def test_devzone_102545_the_packet_alone_in_base64() -> None:
    """https://devzone.nordicsemi.com/f/nordic-q-a/102545: "MyBase64" is the header alone, without length and CRC."""
    (finding,) = _sent(b"\x06\x09AgAAAQAAigU=\n")
    assert finding.rule == "length-missing"
    assert "its payload (1 bytes, says the header) is missing" in finding.said
    assert _sent(b"\x06\x09AAsCAAABAACKBaA1Qw==\n") == [], "what the mcumgr tool sent"


def test_devzone_117628_a_length_that_is_not_the_lines() -> None:
    """https://devzone.nordicsemi.com/f/nordic-q-a/117628: 41 58 55 43 is 01 75 02, "which does not match the actual
    length of the data": of one line, it does not; of the frame's four lines, it does."""
    (finding,) = _sent(b"\x06\x09AXUC\n")
    assert finding.rule == "packet-incomplete"
    assert "373 bytes (0x0175)" in finding.said
    assert "in all lines of the frame together" in finding.said


def test_devzone_117628_a_host_that_follows_its_authors_reading() -> None:
    """An upload request (SMP version 1) of the same size, and so with the same first characters, lints clean; with the
    first line's length in it, as its author expected it, it does not."""
    packet = b"\x02" + breaking.packet(breaking.keys(0, size=304, sha=bytes(32)))[1:]
    right = console.encode(packet)
    assert right.startswith(b"\x06\x09AXUC")
    assert _sent(right) == []
    assert _ids(_sent(breaking.frame(packet, length=91))) == ["length-per-line"]


def test_devzone_124561_a_response() -> None:
    """https://devzone.nordicsemi.com/f/nordic-q-a/124561: taken for a packet to send, and its text for its header."""
    data = b"\x06\x09ABUDAAALAAGnAb9icmMAY29mZgz/AO4=\n"
    assert lint(Capture((Chunk(None, "rx", data),))) == []
    (finding,) = _sent(data)
    assert finding.rule == "op-not-request"
    assert "only the board sends those" in finding.said


def test_devzone_118631_a_packet_of_an_own_host() -> None:
    """https://devzone.nordicsemi.com/f/nordic-q-a/118631 shows no bytes: "packeting and encoding" did not succeed on an
    STM32. The upload request that such a host begins with, wrong as the other threads show it."""
    packet = breaking.chunk(0)
    bare = base64.b64encode(packet)
    assert _ids(_sent(b"\x06\x09" + bare[:124] + b"\n", b"\x04\x14" + bare[124:248] + b"\n")) == ["packet-incomplete"]
    assert _ids(_sent(breaking.frame(packet, end=b"\r\n"))) == ["line-crlf"]


def test_lines_behind_a_whole_packet_are_the_fault_and_not_the_packet() -> None:
    """The simulated board answers it, and the next one, and nothing to the lines between them."""
    rest = b"".join(list(console.lines(breaking.chunk(0)))[1:])
    first, second = (breaking.packet({}, command=0, op=0, sequence=number) for number in (1, 2))
    (finding,) = _sent(console.encode(first) + rest, console.encode(second))
    assert (finding.rule, finding.effect, finding.data) == ("start-missing", Effect.SILENCE, rest)
    assert "follow a packet that is whole without them" in finding.said
    assert "Before base64" not in render(finding, False)  # nothing in them is a length or a header
    board = Simulated()
    board.send(console.encode(first) + rest)
    assert board.receive().count(b"\x06\x09") == 1
    board.send(console.encode(second))
    assert board.receive().count(b"\x06\x09") == 1


@pytest.mark.parametrize(
    "text", [b"AAsCAAABAACKBaA1Qw==", b"AAsAAAABAAFCAKD1Mw==", b"AAsIAAABAAFCAKDczA=="], ids=["reset", "v1", "v2"]
)
def test_vectors_lint_clean(text: bytes) -> None:
    """The reset request of the mcumgr tool (102545), and image list requests of both SMP versions."""
    assert _sent(b"\x06\x09" + text + b"\n") == []


def test_console_text_is_not_judged() -> None:
    shell = [b"help\r\n", b"\n", b"kernel uptime\n", b"mcuboot\n", b"\xff\x00\n"]
    assert _sent(*shell, b"\x06\x09AAsAAAABAAFCAKD1Mw==\n") == []


# --- what does not depend on a rule ---------------------------------------------------------------------------------


def test_the_profile_decides_what_is_too_large() -> None:
    data = console.encode(breaking.chunk(0, size=500))
    assert _sent(data) == []
    old = lint(Capture((Chunk(None, "tx", data),)), profile=PROFILES["ncs-1.9"])
    assert _ids(old) == ["packet-too-large"]


def test_a_line_of_128_bytes_fits_mcuboots_buffer() -> None:
    """One more than the standard allows, and as much as CONFIG_BOOT_MAX_LINE_INPUT_LEN takes."""
    packet = breaking.chunk(0, size=100)
    good = list(console.lines(packet))
    data = good[0][:-1] + b" \n" + b"".join(good[1:])
    assert len(data.splitlines()[0]) == 127
    played = run(Simulated(), (breaking.Step(data, broken=True),))
    assert played.answers, "spaces at the end of a line are passed over"
    assert lint(played.capture)[0].effect is Effect.ANSWERS


@pytest.mark.parametrize(
    ("number", "profile", "fires"),
    [
        (1, {"direct_upload": True, "images": 2}, True),
        (3, {"direct_upload": True, "images": 2}, False),
        (1, {"images": 2}, False),
        (0, {"images": 2}, True),
        (3, {"images": 1, "ignores_image_number": True}, True),
    ],
)
def test_the_network_cores_number_depends_on_the_bootloader(number: int, profile: dict, fires: bool) -> None:
    data = console.encode(breaking.chunk(0, data=breaking.NETWORK_IMAGE, image=number))
    findings = lint(Capture((Chunk(None, "tx", data),)), profile=BootloaderProfile(name="x", **profile))
    assert (_ids(findings) == ["network-image-to-application"]) is fires


def test_a_capture_of_the_host_alone_lints_clean() -> None:
    """Without the board's line, nobody knows what was answered."""
    offsets = range(0, breaking.SIZE, 480)
    chunks = [Chunk(off / 1000, "tx", console.encode(breaking.chunk(off, size=480))) for off in offsets]
    assert lint(Capture(tuple(chunks))) == []


def test_a_host_that_gives_up_and_sends_again_is_not_ahead() -> None:
    """A request whose answer was lost does not wait in front of the next ones for ever."""
    host = Simulated()
    played = run(host, tuple(breaking.Step(console.encode(breaking.chunk(off, size=600))) for off in (0, 600, 1200)))
    chunks = list(played.capture.chunks)
    without = [chunk for index, chunk in enumerate(chunks) if chunk.direction == "tx" or index < len(chunks) - 1]
    again = [Chunk(20.0 + number, "tx", console.encode(breaking.chunk(1200, size=600))) for number in range(3)]
    assert lint(Capture((*without, *again))) == []


def test_summary_counts() -> None:
    wrong = breaking.frame(breaking.chunk(0), end=b"\r\n")
    findings = _sent(wrong, wrong, wrong, b"\x06\x09AXUC\n")
    assert [(finding.rule, finding.times) for finding in summary(findings)] == [
        ("line-crlf", 3),
        ("packet-incomplete", 1),
    ]


def test_many_broken_packets_take_no_time_that_grows_with_their_square() -> None:
    """Work is counted, not time: each packet is looked at with a bounded number of others."""
    wrong = breaking.frame(breaking.chunk(0), continuation=b"\x14\x04")
    looked = 0
    original = linter.markers.find_continuation

    def counted(scene, frame, following):
        nonlocal looked
        looked += len(following)
        return original(scene, frame, following)

    linter.markers.find_continuation = counted
    try:
        assert len(_sent(*[wrong] * 300)) == 300
    finally:
        linter.markers.find_continuation = original
    assert looked <= 300 * 256


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_it_fail(data: st.DataObject) -> None:
    """Broken captures, broken further: bytes changed, lost and added, in both directions, and unknown times."""
    case = data.draw(st.sampled_from(CASES))
    chunks = []
    for step in case.steps:
        raw = bytearray(step.data)
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, max(0, len(raw) - 1)))
            raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        time = data.draw(st.none() | st.floats(0, 100))
        chunks.append(Chunk(time, data.draw(st.sampled_from(["tx", "tx", "rx"])), bytes(raw)))
    capture = Capture(tuple(chunks))
    sent = capture.bytes_of("tx")
    for finding in lint(capture):
        assert finding.rule in RULES
        assert finding.data == sent[finding.offset : finding.offset + len(finding.data)]
        assert all(0 <= first < last <= len(finding.data) for first, last in finding.marks)
        assert render(finding, True)


@given(data=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_payload_is_judged(data: bytes) -> None:
    """Whatever stands behind a right header in a right frame: something is said, or it is a request."""
    packet = breaking.packet(data)
    for finding in lint(Capture((Chunk(None, "tx", console.encode(packet)),))):
        assert finding.rule in RULES


# --- the text -------------------------------------------------------------------------------------------------------


def test_render_marks_the_place_and_says_what_to_do() -> None:
    packet = breaking.LIST
    (finding,) = _sent(breaking.frame(packet, crc=breaking.swapped(console.crc16(packet))))
    text = render(finding, False)
    lines = text.splitlines()
    assert lines[0].startswith("error: crc-little-endian")
    assert "\x1b" not in text
    rows = [index for index, line in enumerate(lines) if line.strip().startswith("16 ")]
    assert "^^" in lines[rows[0] + 1], text
    assert "MCUboot throws it away and answers nothing" in text
    assert "As it should be:" in text
    assert "smp_transport.rst" in text
    assert max(map(len, lines)) <= 110


def test_carets_stand_below_the_bytes_that_they_mark() -> None:
    (finding,) = _sent(breaking.frame(breaking.LIST, end=b"\r\n"))
    lines = render(finding, False).splitlines()
    at = next(index for index, line in enumerate(lines) if "^" in line)
    for column in [index for index, char in enumerate(lines[at]) if char == "^"][:2]:
        assert lines[at - 1][column] in "0d"
    last = lines[at].rindex("^")
    assert lines[at - 1][last] == ".", "CR in the text column"


def test_render_in_colour_says_the_same() -> None:
    (finding,) = _sent(breaking.frame(breaking.LIST, end=b"\r\n"))
    coloured = render(finding, True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(finding, False)


def test_severities_are_used() -> None:
    assert {rule.severity for rule in RULES.values()} == set(Severity)
