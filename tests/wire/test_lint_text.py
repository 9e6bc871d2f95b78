"""What lint says of a fault besides the fault: its place in columns, the requests that are right, what came back."""

import breaking
import cbor2
import pytest
from breaking import CHUNK, chunk, frame, keys, packet
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.console import crc16
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.decode import rows
from pytest_nrfdfu.wire.frames import Frame, Message, read
from pytest_nrfdfu.wire.lint import PRIMER, RULES, Finding, lint, render
from pytest_nrfdfu.wire.packets import Upload, exchanges
from pytest_nrfdfu.wire.rules.base import _decoded_marks

SECOND = chunk(CHUNK)
ANSWER = exchanges(Upload(breaking.IMAGE, "1.2.3", bytes(32), CHUNK))[1].response
"""To the first chunk, with sequence 1."""
FIRST = packet(keys(0), sequence=1)
UNALIGNED = (("tx", console.encode(FIRST)), ("tx", console.encode(chunk(CHUNK, size=93))))


def played(*sent: tuple[str, bytes]) -> Capture:
    """One every 50 ms; each in two parts, of which the second comes 20 ms later."""
    chunks = []
    for index, (direction, data) in enumerate(sent):
        chunks += [Chunk(0.05 * index, direction, data[:5]), Chunk(0.05 * index + 0.02, direction, data[5:])]
    return Capture(tuple(chunks))


def wrong_crc(data: bytes = SECOND) -> bytes:
    return frame(data, crc=crc16((len(data) + 2).to_bytes(2, "big") + data))


def one(*sent: tuple[str, bytes]) -> Finding:
    (finding,) = lint(played(*sent))
    return finding


def test_requests_of_the_same_kind_are_counted() -> None:
    good, bad = console.encode(FIRST), wrong_crc()
    assert one(("tx", bad)).among == "", "there is no other to compare with"
    found = lint(played(("tx", good), ("tx", bad), ("tx", console.encode(breaking.LIST))))
    assert [each.among for each in found] == [
        "1 of 2 image upload requests in this capture has this fault; the other is right."
    ]
    found = lint(played(("tx", bad), ("tx", good), ("tx", bad), ("tx", console.encode(chunk(2 * CHUNK)))))
    assert found[0].among == "2 of 4 image upload requests in this capture have this fault; the other 2 are right."
    found = lint(played(("tx", bad), ("tx", bad)))
    assert found[0].among == "Both image upload requests in this capture have this fault."


def test_others_with_another_fault_are_not_called_right() -> None:
    found = lint(played(("tx", wrong_crc()), ("tx", frame(SECOND, end=b"\r\n"))))
    assert {each.among for each in found} == {"1 of 2 image upload requests in this capture has this fault."}


def test_an_answer_is_told() -> None:
    finding = one(("tx", console.encode(packet({k: v for k, v in keys(0).items() if k != "len"}))), ("rx", ANSWER))
    assert finding.seen.startswith("The board answered")
    assert finding.seen.endswith(f"off {CHUNK}.")


def test_silence_and_a_request_that_is_sent_again_are_told() -> None:
    first = [("tx", console.encode(FIRST)), ("rx", ANSWER)]
    again = one(*first, ("tx", wrong_crc()), ("tx", console.encode(SECOND)))
    assert again.seen == (
        "No answer came; 0.030 s later, the host sent the same image upload request again, in other bytes."
    )
    renumbered = packet(keys(CHUNK), sequence=99)
    assert one(*first, ("tx", wrong_crc()), ("tx", console.encode(renumbered))).seen == again.seen
    same = lint(played(*first, ("tx", wrong_crc()), ("tx", wrong_crc())))[0]
    assert same.seen == "No answer came; 0.030 s later, the host sent the same bytes again."
    other = one(*first, ("tx", wrong_crc()), ("tx", console.encode(breaking.LIST)))
    assert other.seen == "No answer came; 0.030 s later, the host went on with a request for image list."
    assert one(*first, ("tx", wrong_crc())).seen == "No answer came until the end of the capture."


def test_an_answer_to_the_request_before_is_not_its_own() -> None:
    finding = one(("tx", console.encode(FIRST)), ("tx", wrong_crc()), ("rx", ANSWER))
    assert finding.seen == "No answer came until the end of the capture."


def test_without_the_boards_line_nothing_is_said_of_answers() -> None:
    assert one(("tx", wrong_crc()), ("tx", console.encode(SECOND))).seen == ""


def test_time_is_the_one_of_the_listing() -> None:
    capture = played(("tx", console.encode(FIRST)), ("tx", wrong_crc()))
    (finding,) = lint(capture)
    assert finding.time == rows(read(capture))[1].time == 0.05


def table(finding: Finding) -> list[str]:
    lines = render(finding).splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("  Before base64"))
    return lines[begin + 1 : lines.index("", begin)]


def marked(line: str, carets: str) -> str:
    """What stands above carets."""
    return "".join(char for char, mark in zip(line, carets, strict=False) if mark == "^")


def test_what_was_sent_and_what_is_right_stand_in_columns() -> None:
    finding = one(("tx", wrong_crc()))
    titles, sent, below, right, below_right = table(finding)
    assert titles.split() == ["length", "|", "header", "|", "payload", "|", "CRC"]
    assert {line.count("|") for line in (titles, sent, right)} == {3}
    assert marked(sent, below) == wrong_crc_hex(finding)
    assert marked(right, below_right) == crc16(SECOND).to_bytes(2, "big").hex(" ")
    assert [at for at, char in enumerate(sent) if char == "|"] == [at for at, char in enumerate(right) if char == "|"]


def wrong_crc_hex(finding: Finding) -> str:
    return finding.decoded[-2:].hex(" ")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_what_is_missing_in_a_frame_leaves_its_column_empty() -> None:
    size = (len(SECOND) + 2).to_bytes(2, "big")
    sent, right = (line for line in table(one(("tx", frame(SECOND, body=size + SECOND))))[1:] if "|" in line)
    assert cells(sent)[1:3] == cells(right)[1:3]
    assert (cells(sent)[3], cells(right)[3]) == ("", crc16(SECOND).to_bytes(2, "big").hex(" "))
    sent, right = (line for line in table(one(("tx", frame(SECOND, body=SECOND))))[1:] if "|" in line)
    assert cells(sent) == ["sent", *cells(right)[1:3], ""]


def test_bytes_that_are_changed_apart_are_marked_apart() -> None:
    finding = next(each for each in lint(played(*UNALIGNED)) if each.rule == "chunk-not-multiple-of-4")
    _, sent, below, _, _ = table(finding)
    first, last = (at for at, char in enumerate(sent) if char == "|" and sent[:at].count("|"))
    dropped = keys(CHUNK, size=93)["data"][-1:].hex()
    assert marked(sent[first:last], below[first:last]) == "5d" + dropped


def test_a_cut_off_request_that_is_sent_again_is_recognised() -> None:
    cut = b"".join(list(console.lines(SECOND))[:-1])
    finding = one(("tx", console.encode(FIRST)), ("rx", ANSWER), ("tx", cut), ("tx", console.encode(SECOND)))
    assert "the same image upload request again" in finding.seen


def test_an_upload_without_len_gets_it_from_another_request() -> None:
    without = packet({key: value for key, value in keys(0).items() if key != "len"})
    finding = one(("tx", console.encode(without)), ("tx", console.encode(FIRST)))
    assert finding.rule == "upload-len-missing"
    assert finding.should is not None
    (message,) = read(Capture((Chunk(None, "tx", finding.should),)))
    assert isinstance(message, Message)
    assert message.payload == {"len": breaking.SIZE, **keys(0)}
    _, sent, below, right, below_right = table(finding)
    assert "a2" in marked(sent, below)
    first, last = (at for at, char in enumerate(right) if char == "|" and right[:at].count("|"))
    size = cbor2.dumps(breaking.SIZE).hex(" ")
    assert marked(right[first:last], below_right[first:last]) == f"a3 63 6c 65 6e {size}"


def test_an_upload_without_len_gets_the_bytes_that_are_to_add() -> None:
    finding = one(("tx", console.encode(packet({key: value for key, value in keys(0).items() if key != "len"}))))
    assert finding.should is None
    assert "63 6c 65 6e (the key `len`)" in finding.said
    assert "marked below, grows from a2 to a3" in finding.said
    _, sent, below = table(finding)
    assert marked(sent, below) == "a2"


def test_a_len_of_another_image_is_not_taken() -> None:
    without = packet({key: value for key, value in keys(0).items() if key != "len"})
    other = packet(keys(0, data=breaking.NETWORK_IMAGE[:60], size=60) | {"len": 4096}, sequence=1)
    found = lint(played(("tx", console.encode(without)), ("tx", console.encode(other))))
    assert next(each for each in found if each.rule == "upload-len-missing").should is None


def test_where_only_the_lines_are_wrong_there_are_no_columns() -> None:
    assert "Before base64" not in render(one(("tx", frame(SECOND, end=b"\r\n"))))


def test_only_rows_with_a_mark_are_shown() -> None:
    text = render(one(("tx", wrong_crc())))
    dump = [line for line in text.splitlines() if line.strip()[:1].isdigit() and "   " in line.strip()]
    last = len(wrong_crc()) // 16 * 16
    assert {int(line.split()[0]) for line in dump} <= {last, last - 16}
    assert "\n    ..." not in text


def test_the_fix_stands_on_a_line_of_its_own_in_front_of_the_bytes() -> None:
    text = render(one(("tx", wrong_crc())))
    assert "\n  To do: Begin the CRC behind the length field.\n" in text
    assert text.index("To do") < text.index("Before base64") < text.index("How:") < text.index("In C:")
    assert "https://docs.zephyrproject.org/" in text


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_code_fits_on_a_line(rule) -> None:
    assert len(f"  In C: {rule.code}") <= 110
    assert rule.code.count("(") == rule.code.count(")")


def test_words_are_explained_as_they_are_used() -> None:
    for word in ("packet", "frame", "line", "answer"):
        assert f"\n  {word} " in PRIMER


@given(size=st.integers(1, 300), data=st.data())
def test_marks_on_the_wire_lead_back_to_the_bytes(size: int, data: st.DataObject) -> None:
    (item,) = read(Capture((Chunk(None, "tx", console.encode(breaking.LIST[:8] + b"\xa0" + bytes(size))),)))
    whole = item.frame if isinstance(item, Message) else item
    assert isinstance(whole, Frame)
    first = data.draw(st.integers(0, len(whole.body) - 1))
    last = data.draw(st.integers(first + 1, len(whole.body)))
    back = {index for begin, end in _decoded_marks(whole, whole.places(first, last)) for index in range(begin, end)}
    assert back == set(range(first, last))
