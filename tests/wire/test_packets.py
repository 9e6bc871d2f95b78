"""The printed packets against reported ones, and against the simulated board, byte by byte."""

import json
import re

import firmware
import pytest
from wires import LIST, OFF_12, RESET

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.wire import packets
from pytest_nrfdfu.wire.packets import Upload
from pytest_nrfdfu.wire.paint import Paint

SMALL = Upload(bytes(range(40)), "1.2.3", bytes(range(32)), chunk=12, sequence=0x42, smp_version=1)


def named(upload: Upload) -> dict[str, packets.Exchange]:
    return {one.name: one for one in packets.exchanges(upload)}


def test_reported_packets_come_out_byte_by_byte() -> None:
    """DevZone 102545 (reset) and 124561 (answer to the first 12 bytes); the list's was computed from the standard."""
    assert named(SMALL)["list"].request == LIST
    reset_at = 0x8A - 1 - 4 - 1  # behind a list, four chunks and another list
    assert named(SMALL._replace(sequence=reset_at))["reset"].request == RESET
    assert named(SMALL._replace(sequence=0xA6))["first chunk"].response == OFF_12


def test_the_sequence_goes_on_and_wraps() -> None:
    sequences = [one.request for one in packets.exchanges(SMALL._replace(sequence=254))]
    seen = [packets._frame(wire).presumed[6] for wire in sequences]
    assert seen == [254, 255, 0, 2, 3, 4]


def test_the_simulated_board_takes_them_and_answers_with_the_same_bytes() -> None:
    """A whole upload: every chunk, of which three are printed, in virtual time."""
    data = firmware.signed_app()
    image = parse(data)
    upload = Upload(image.payload, str(image.version), image.hash, chunk=512, sequence=7)
    board = SimBoard(BoardOptions(profile=PROFILES["ncs-2.6"], stay_in_recovery=True))
    board.machine.advance(1.0)
    printed = packets.exchanges(upload)
    by_request = {one.request: one for one in printed}
    requests = [
        packets._exchange(upload, 8 + index, packets._chunk(upload, off), b"", "", "").request
        for index, off in enumerate(range(0, len(upload.image), upload.chunk))
    ]
    now = 1.0
    compared = []
    for request in [printed[0].request, *requests, printed[-2].request, printed[-1].request]:
        board.machine.receive(request, now)
        answer = b""
        while not answer.endswith(b"\n"):
            event = board.machine.next_event()
            assert event is not None
            now = max(now, event)
            answer += board.machine.advance(now)
        if request in by_request:
            assert answer == by_request[request].response, by_request[request].name
            compared.append(by_request[request].name)
    assert compared == ["list", "first chunk", "second chunk", "last chunk", "list afterwards", "reset"]


@pytest.mark.parametrize(("size", "names"), [(5, ["first chunk"]), (24, ["first chunk", "last chunk"])])
def test_short_images_have_fewer_chunks(size: int, names: list[str]) -> None:
    found = [one.name for one in packets.exchanges(SMALL._replace(image=bytes(size)))]
    assert [name for name in found if "chunk" in name] == names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chunk": 10}, "multiple of 4"),
        ({"chunk": 0}, "multiple of 4"),
        ({"sequence": 256}, "0 to 255"),
        ({"smp_version": 3}, "there are 1 and 2"),
        ({"image": b""}, "empty"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        packets.exchanges(SMALL._replace(**change))
    assert said in str(caught.value)


def test_the_largest_chunk_is_told_and_fits() -> None:
    long = SMALL._replace(image=bytes(4000), chunk=2000)
    with pytest.raises(ConfigError) as caught:
        packets.exchanges(long)
    most = int(re.search(r"at most (\d+)", str(caught.value))[1])
    assert len(packets._frame(packets.exchanges(long._replace(chunk=most))[1].request).presumed) <= 1020
    with pytest.raises(ConfigError):
        packets.exchanges(long._replace(chunk=most + 4))


def test_the_number_of_another_image_is_in_the_first_chunk_alone() -> None:
    first = packets._frame(named(SMALL._replace(number=3))["first chunk"].request).presumed
    second = packets._frame(named(SMALL._replace(number=3))["second chunk"].request).presumed
    assert b"\x65image\x03" in first
    assert b"image" not in second


def test_text_explains_every_byte() -> None:
    text = "\n".join(packets.as_text(SMALL, Paint(on=False)))
    assert "06 09 AAsAAAABAAFCAKD1Mw== 0a" in text
    assert re.search(r"payload 63 6f 66 66 +key \"off\"\n +payload 0c +12", text)
    assert "Chunk 4 of 4. The answer's off is where the next one begins: 40, the size of the image" in " ".join(
        text.split()
    )
    assert max(map(len, text.splitlines())) <= 140


def test_c_arrays_hold_the_bytes() -> None:
    text = "\n".join(packets.as_c(SMALL))
    arrays = re.findall(r"static const uint8_t (\w+)\[(\d+)\] = \{(.*?)\};", text, re.DOTALL)
    found = {name: bytes(int(word, 16) for word in re.findall(r"0x(\w\w)", body)) for name, _, body in arrays}
    assert all(len(found[name]) == int(size) for name, size, _ in arrays)
    for one in packets.exchanges(SMALL):
        assert found[one.name.replace(" ", "_") + "_request"] == one.request
        assert found[one.name.replace(" ", "_") + "_response"] == one.response


def test_json_holds_the_bytes() -> None:
    seen = json.loads(json.dumps(packets.as_json(SMALL)))
    assert (seen["bytes"], seen["chunk"], seen["chunks"]) == (40, 12, 4)
    assert [bytes.fromhex(one["request"]["wire"]) for one in seen["exchanges"]] == [
        one.request for one in packets.exchanges(SMALL)
    ]


def test_the_rules_stand_in_front_of_every_form() -> None:
    text = " ".join("\n".join(packets.as_text(SMALL, Paint(on=False), 100)).split())
    in_c = " ".join("\n".join(packets.as_c(SMALL)).replace("\n *", "\n").split())
    for rule in packets._notes(SMALL):
        said = " ".join(f"{rule.about} {rule.says}".split())
        assert said in text
        assert said in in_c
    assert packets.as_json(SMALL)["rules"]["proof"].endswith(bytes(range(32)).hex())


def test_an_offset_above_65535_is_pointed_at_where_there_is_one() -> None:
    pointed = "the last chunk here has such an off"
    assert pointed not in "\n".join(rule.says for rule in packets._notes(SMALL))
    large = SMALL._replace(image=bytes(0x10000 + 512), chunk=512)
    assert pointed in "\n".join(rule.says for rule in packets._notes(large))
    assert b"\x63off\x1a\x00\x01\x00\x00" in packets._frame(named(large)["last chunk"].request).presumed
    just_below = SMALL._replace(image=bytes(0x10000), chunk=512)
    assert pointed not in "\n".join(rule.says for rule in packets._notes(just_below))


def test_c_has_each_packet_with_its_fields() -> None:
    text = "\n".join(packets.as_c(SMALL))
    arrays = re.findall(r"static const uint8_t (\w+)_packet\[(\d+)\] = \{(.*?)\};", text, re.DOTALL)
    found = {name: bytes(int(word, 16) for word in re.findall(r"0x(\w\w)", body)) for name, _, body in arrays}
    for one in packets.exchanges(SMALL):
        name = one.name.replace(" ", "_")
        assert found[f"{name}_request"] == packets._frame(one.request).presumed
        assert found[f"{name}_response"] == packets._frame(one.response).presumed
    assert re.search(r'0x63, 0x6f, 0x66, 0x66, +/\* payload: +key "off" \*/', text)
