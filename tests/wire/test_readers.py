from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires import LIST, OFF_12, RC_8, RESET, capture, update

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.wire import pcapng, records
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.frames import Message, messages, read
from pytest_nrfdfu.wire.readers import load, loads

LONG = console.encode(bytes.fromhex("0a 00 00c0 0001 07 01") + bytes(range(192)))
"""A frame of several lines."""


def _xxd(data: bytes) -> str:
    rows = (data[at : at + 16] for at in range(0, len(data), 16))
    shown = ("".join(chr(byte) if 32 <= byte < 127 else "." for byte in row) for row in rows)
    pairs = (
        " ".join(data[at : at + 16][i : i + 2].hex() for i in range(0, 16, 2)).strip() for at in range(0, len(data), 16)
    )
    return "".join(
        f"{16 * index:08x}: {row:<39}  {text}\n" for index, (row, text) in enumerate(zip(pairs, shown, strict=True))
    )


def _dump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{shown}|\n")
    return "".join(lines) + f"{len(data):08x}\n"


def _ascii_column(data: bytes) -> str:
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    return "".join(f"{row.hex(' '):<47}   {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}\n" for row in rows)


WRITTEN = {
    "raw bytes": lambda data: data,
    "hex pairs": lambda data: data.hex(" "),
    "hex pairs in rows": lambda data: "\n".join(data[at : at + 20].hex(" ").upper() for at in range(0, len(data), 20)),
    "hex run": lambda data: data.hex(),
    "hex with colons": lambda data: data.hex(":"),
    "hex with commas": lambda data: ", ".join(f"0x{byte:02X}" for byte in data),
    "hex with comma and no space": lambda data: ",".join(f"0x{byte:x}" for byte in data),
    "hex of printf %x": lambda data: " ".join(f"{byte:x}" for byte in data),
    "hex with h": lambda data: " ".join(f"{byte:02X}h" for byte in data),
    "C array": lambda data: (
        "/* reset */\nstatic const uint8_t packet[] = {\n    "
        + ", ".join(f"0x{byte:02x}" for byte in data)
        + ", // end\n};\n"
    ),
    "C array with characters": lambda data: (
        "uint8_t p[] = {" + ", ".join(f"'{chr(b)}'" if 32 < b < 127 and b != 39 else f"0x{b:02x}" for b in data) + "};"
    ),
    "C array in decimal": lambda data: "uint8_t p[23] = { " + ", ".join(str(byte) for byte in data) + " };",
    "string with escapes": lambda data: '"' + "".join(chr(b) if 32 < b < 127 else f"\\x{b:02x}" for b in data) + '"',
    "Python bytes": repr,
    "terminal": lambda data: "".join(chr(b) if 32 < b < 127 else f"<{b:02X}>" for b in data),
    "terminal with brackets": lambda data: "".join(chr(b) if 32 < b < 127 else f"[{b:02X}]" for b in data),
    "xxd": _xxd,
    "hexdump -C": _dump,
    "hex and text": _ascii_column,
    "utf-16": lambda data: data.hex(" ").encode("utf-16"),
    "windows lines": lambda data: f"\ufeff{data.hex(' ')}\r\n".encode(),
}


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("data", [RESET, LONG], ids=["reset", "long"])
def test_bytes_are_read_however_they_were_written_down(way: str, data: bytes) -> None:
    written = WRITTEN[way](data)
    found = loads(written if isinstance(written, bytes) else written.encode())
    assert found.bytes_of("tx") == data
    assert found.bytes_of("rx") == b""


@given(st.binary(min_size=1, max_size=200))
def test_any_packet_survives_the_dumps(payload: bytes) -> None:
    wire = console.encode(bytes.fromhex("0a 00 0001 0001 00 01") + payload)
    for write in (_xxd, _dump, _ascii_column):
        assert loads(write(wire).encode(), direction="tx").bytes_of("tx") == wire


@pytest.mark.parametrize(
    "text",
    [
        f"TX: {RESET.hex(' ')}\nRX: {RC_8.hex(' ')}",
        f"-> {RESET.hex(' ')}\n<- {RC_8.hex(' ')}",
        f"[12.500] TX: {RESET.hex(' ')}\n[12.750] RX: {RC_8.hex(' ')}",
        f"12:00:01.250 > {RESET.hex(' ')}\n12:00:01.500 < {RC_8.hex(' ')}",
        f"Sent (23): {RESET.hex(' ')}\nReceived (29): {RC_8.hex(' ')}",
        f"# the host says RX for what it sends\nRX: {RESET.hex(' ')}\nTX: {RC_8.hex(' ')}",
        '"AAsCAAABAACKBaA1Qw=="\n"ABADAAAGAAABBr9icmMI/wMu"',
        'request 06 09 "AAsCAAABAACKBaA1Qw==" 0a\nresponse 06 09 "ABADAAAGAAABBr9icmMI/wMu" 0a',
        f"{RESET.hex(' ')}\n{RC_8.hex(' ')}",
    ],
)
def test_two_directions_are_told_apart(text: str) -> None:
    found = loads(text.encode())
    assert (found.bytes_of("tx"), found.bytes_of("rx")) == (RESET, RC_8)


def test_a_direction_holds_until_the_next_one() -> None:
    found = loads(f"RX:\n62 6f\n6f 74 0a\nTX:\n{RESET[:9].hex(' ')}\n{RESET[9:].hex(' ')}\n".encode())
    assert (found.bytes_of("tx"), found.bytes_of("rx")) == (RESET, b"boot\n")


def test_a_gap_between_pairs_is_no_text_column() -> None:
    rows = [f"{LONG[at : at + 8].hex(' ')}  {LONG[at + 8 : at + 16].hex(' ')}" for at in range(0, len(LONG), 16)]
    assert loads("\n".join(rows).encode()).bytes_of("tx") == LONG


def test_times_in_front_are_kept_from_the_first() -> None:
    found = loads(f"[12.500] TX: {RESET.hex(' ')}\n[12.750] RX: {RC_8.hex(' ')}".encode())
    assert [chunk.time for chunk in found] == [0.0, 0.25]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("filler", [bytes(range(192)), b"\xff" * 192], ids=["any", "slashes"])
def test_bare_base64_of_several_lines_becomes_a_packet(filler: bytes, quote: str) -> None:
    wire = console.encode(bytes.fromhex("0a 00 00c0 0001 07 01") + filler)
    text = "\n".join(f"{quote}{line[2:-1].decode()}{quote}" for line in wire.splitlines(keepends=True))
    assert loads(text.encode()).bytes_of("tx") == wire


def test_the_direction_may_be_told() -> None:
    assert loads(RESET.hex(" ").encode(), direction="rx").bytes_of("rx") == RESET
    assert loads(OFF_12).bytes_of("rx") == OFF_12


def test_raw_bytes_of_both_directions_are_told_apart_by_their_ops() -> None:
    found = loads(b"*** Booting ***\n" + LIST + RC_8 + RESET)
    assert found.bytes_of("tx") == LIST + RESET
    assert found.bytes_of("rx") == b"*** Booting ***\n" + RC_8


def _saleae(chunks: Capture, names: dict[str, str]) -> str:
    rows = ["name,type,start_time,duration,data"]
    for time, direction, data in chunks:
        start = 7.0 + (time or 0)
        rows += [f'"{names[direction]}","data",{start + n * 87e-6:.9f},0.0000868,0x{b:02X}' for n, b in enumerate(data)]
    return "\n".join(rows)


def test_logic_2s_table_is_read_with_its_two_analysers() -> None:
    whole = update()
    found = loads(_saleae(whole, {"tx": "Async Serial", "rx": "Async Serial [1]"}).encode())
    assert (found.bytes_of("tx"), found.bytes_of("rx")) == (whole.bytes_of("tx"), whole.bytes_of("rx"))
    assert found.chunks[0].time == 0.0
    starts = [item.frame.time_first for item in messages(read(found))]
    assert starts == [pytest.approx(0.05 * n, abs=1e-3) for n in range(10)]


def test_logic_2s_iso_times_and_error_column_are_read() -> None:
    rows = [
        f'"Host","data",2026-09-22T08:20:18.{204048396 + n * 1000}+00:00,8e-05,"",0x{b:02X}'
        for n, b in enumerate(RESET)
    ]
    text = "\n".join(["name,type,start_time,duration,error,data", *rows])
    found = loads(text.encode())
    assert found.bytes_of("tx") == RESET
    assert found.chunks[1].time == pytest.approx(1e-6, abs=5e-7)


def test_the_time_of_a_byte_is_that_of_its_end() -> None:
    rows = ["name,type,start_time,duration,data", "UART,data,1.0,0.25,0x06", "UART,data,2.0,0.5,0x09"]
    assert [chunk.time for chunk in loads("\n".join(rows).encode())] == [0.0, 1.25]


def test_tables_that_are_not_sorted_by_time_are() -> None:
    """Two analysers' rows one behind the other."""
    table = _saleae(update(), {"tx": "A", "rx": "B"}).splitlines()
    found = loads("\n".join([table[0], *sorted(table[1:])]).encode())
    kinds = [item.is_request for item in messages(read(found))]
    assert kinds == [True, False] * 5


def test_logic_1s_table_is_read_with_hex_and_with_characters() -> None:
    head = "Time [s],Value,Parity Error,Framing Error"
    in_hex = "\n".join([head, *(f"{n / 1e4:.15f},0x{b:02X},," for n, b in enumerate(RESET))])
    special = {6: "'6'", 9: "\\t", 10: "\\n", 32: "' '", 44: "COMMA"}
    in_text = "\n".join([head, *(f"{n / 1e4:.15f},{special.get(b, chr(b))},," for n, b in enumerate(b"a, " + RESET))])
    assert loads(in_hex.encode()).bytes_of("tx") == RESET
    assert loads(in_text.encode()).bytes_of("tx") == b"a, " + RESET


def test_a_comma_in_single_quotes_is_one_character() -> None:
    text = "Time [s],Value,Parity Error,Framing Error\n0.1,',',,\n0.2,',,,\n"
    assert loads(text.encode()).bytes_of("tx") == b",'"


@pytest.mark.parametrize(
    "line",
    ["{first}-{last} UART: RX data: {byte:02X}", "uart-1: rx-data: {byte:02X}", "{first}-{last} uart-1: {byte:02x}"],
)
def test_sigroks_annotations_are_read(line: str) -> None:
    rows = [line.format(first=n * 100, last=n * 100 + 90, byte=b) for n, b in enumerate(RESET)]
    rows.insert(1, "5-6 UART: RX: Start bit")
    assert loads("\n".join(rows).encode()).bytes_of("tx") == RESET


def test_pulseviews_two_rows_come_in_the_order_of_samples() -> None:
    """Its export lists one row after the other; the line called RX carries the host's requests here."""
    rows = [f"{n * 100}-{n * 100 + 90} UART: RX data: {b:02X}" for n, b in enumerate(RESET)]
    rows += [f"{9000 + n * 100}-{9090 + n * 100} UART: TX data: {b:02X}" for n, b in enumerate(RC_8)]
    found = loads("\n".join([*rows[len(RESET) :], *rows[: len(RESET)]]).encode())
    assert [item.is_request for item in read(found) if isinstance(item, Message)] == [True, False]
    assert (found.bytes_of("tx"), found.bytes_of("rx")) == (RESET, RC_8)


def test_own_files_are_read_from_disk(tmp_path: Path) -> None:
    whole = update()
    (tmp_path / "a").write_text(records.dumps(whole))
    (tmp_path / "b").write_bytes(pcapng.dumps(whole, epoch=1_700_000_000))
    assert load(tmp_path / "a").chunks == whole.chunks
    loaded = load(tmp_path / "b")
    assert [(chunk.direction, chunk.data) for chunk in loaded] == [(chunk.direction, chunk.data) for chunk in whole]
    assert [chunk.time for chunk in loaded] == [pytest.approx(chunk.time, abs=1e-6) for chunk in whole]
    assert loaded.source.endswith("b")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b" \n", ["the capture is empty"]),
        (b"06 09 41\nwhat is this\n", ["no known format fits", "line 2 is not bytes written down", "what is this"]),
        (b"06 09 411\n", ["411 has an odd number of hex digits"]),
        (b"Time [s],Value,Parity Error,Framing Error\n0.1,0x06,,\nx,0x09,,\n", ["begins as Saleae CSV", "line 3"]),
        (b"1-2 UART: RX data: 06\nhello\n", ["begins as sigrok", "line 2"]),
        (b"00000000  06 09 41\n*\n", ["hexdump -v"]),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", ["editcap -F pcapng"]),
        (b'{"format": "nrfdfu-capture", "version": 9}\n', ["version 9"]),
    ],
)
def test_what_cannot_be_read_says_what_was_tried_and_where_it_failed(data: bytes, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(data)
    for word in said:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere: cannot be read: No such file"):
        load(Path("nowhere"))


def test_several_labels_are_decided_by_what_their_messages_say() -> None:
    text = f"RX: {update().bytes_of('tx').hex(' ')}\nTX: {update().bytes_of('rx').hex(' ')}\n"
    assert loads(text.encode()).bytes_of("tx") == update().bytes_of("tx")


def test_a_broken_frame_still_says_which_way_it_went() -> None:
    damaged = RC_8.replace(b"AAG", b"AAH")
    assert loads(damaged).bytes_of("rx") == damaged
    assert capture(("tx", b"")).bytes_of("tx") == b""
