"""The files are read by Wireshark's own tshark too, where it is installed; everywhere by a parser written apart."""

import contextlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires import update

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.wire import pcapng
from pytest_nrfdfu.wire.capture import Capture, Chunk

_CHUNKS = st.lists(
    st.builds(
        Chunk, st.integers(0, 10**9).map(lambda t: t / 10**5), st.sampled_from(["tx", "rx"]), st.binary(max_size=40)
    )
)


@given(_CHUNKS)
def test_what_is_written_is_read_back(chunks: list[Chunk]) -> None:
    packets = pcapng.read(pcapng.dumps(Capture(tuple(chunks), "a test")))
    assert [(packet.direction, packet.data) for packet in packets] == [
        (chunk.direction, chunk.data) for chunk in chunks
    ]
    assert [packet.time for packet in packets] == [pytest.approx(chunk.time, abs=2e-9) for chunk in chunks]


def test_a_chunk_without_time_stays_without() -> None:
    packets = pcapng.read(pcapng.dumps(Capture((Chunk(None, "rx", b"abc"),))))
    assert packets == [pcapng.Packet(None, "rx", b"abc")]


def test_the_blocks_are_as_the_draft_lays_them_out() -> None:
    """Byte by byte, independent of the module's own reader."""
    data = pcapng.dumps(Capture((Chunk(1.5, "tx", b"abcde"),)), epoch=1_700_000_000)
    blocks = []
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, size - 4) == (size,)
        blocks.append((kind, data[8 : size - 4]))
        data = data[size:]
    assert [kind for kind, _ in blocks] == [0x0A0D0D0A, 1, 6]
    assert struct.unpack_from("<IHHq", blocks[0][1]) == (0x1A2B3C4D, 1, 0, -1)
    assert struct.unpack_from("<H", blocks[1][1]) == (250,)
    interface, high, low, captured, original = struct.unpack_from("<IIIII", blocks[2][1])
    assert (interface, captured, original) == (0, 17, 17)
    assert high << 32 | low == 1_700_000_001_500_000_000
    body = blocks[2][1][20:]
    assert struct.unpack_from(">IIBBH", body) == (1_700_000_001, 500_000, 1, 0, 0)
    assert body[12:17] == b"abcde"
    assert body[20:] == struct.pack("<HHIHH", 2, 4, 2, 0, 0)  # epb_flags: outbound


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark (Wireshark's command line) is not installed")
def test_wireshark_reads_it(tmp_path: Path) -> None:
    capture = update()
    path = tmp_path / "update.pcapng"
    path.write_bytes(pcapng.dumps(capture, epoch=1_700_000_000))
    command = [
        "tshark",
        "-r",
        str(path),
        "-T",
        "json",
        "-e",
        "rtacser.eventtype",
        "-e",
        "data.data",
        "-e",
        "frame.time_relative",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    assert [int(layers["rtacser.eventtype"][0], 0) for layers in seen] == [1, 2] * 5
    assert [bytes.fromhex(layers["data.data"][0]) for layers in seen] == [chunk.data for chunk in capture]
    assert [float(layers["frame.time_relative"][0]) for layers in seen] == [
        pytest.approx(chunk.time, abs=1e-9) for chunk in capture
    ]


def _other(order: str, link_type: int = 147, *, resolution: bytes = b"", flags: int = 2) -> bytes:
    """A file as another program writes it: USER0, microseconds, perhaps big-endian, with a block to be skipped."""

    def block(kind: int, body: bytes) -> bytes:
        size = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + size + body + size

    options = struct.pack(order + "HH", 9, 1) + resolution + bytes(3) + bytes(4) if resolution else b""
    shb = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    idb = block(1, struct.pack(order + "HHI", link_type, 0, 0) + options)
    flag = struct.pack(order + "HHIHH", 2, 4, flags, 0, 0)
    epb = block(6, struct.pack(order + "IIIII", 0, 0, 1_000_000, 3, 3) + b"abc\0" + flag)
    return shb + idb + block(5, bytes(8)) + epb


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("flags", "direction"), [(1, "rx"), (2, "tx"), (0, None)])
def test_others_files_are_read(order: str, flags: int, direction: str | None) -> None:
    assert pcapng.read(_other(order, flags=flags)) == [pcapng.Packet(1.0, direction, b"abc")]


def test_a_resolution_of_a_power_of_two_is_understood() -> None:
    (packet,) = pcapng.read(_other("<", resolution=b"\x94"))
    assert packet.time == pytest.approx(1_000_000 / 2**20)


def test_a_block_that_is_cut_off_is_left_out() -> None:
    whole = pcapng.dumps(update())
    assert len(pcapng.read(whole[:-1])) == len(pcapng.read(whole)) - 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xd4\xc3\xb2\xa1", "a pcapng file begins with 0a 0d 0d 0a"),
        (_other("<", link_type=1), "link type 1"),
        (pcapng.dumps(Capture(())) + struct.pack("<II", 6, 3) + bytes(20), "gives its size as 3"),
    ],
)
def test_what_cannot_be_read_is_said(data: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pcapng.read(data)
    assert said in str(caught.value)


@given(st.binary(max_size=200))
def test_damage_is_a_config_error_at_worst(noise: bytes) -> None:
    head = pcapng.dumps(Capture(()))
    with contextlib.suppress(ConfigError):
        pcapng.read(head + noise)
