"""Console text: what came, and waiting for it."""

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.board.console import Console, ConsoleView, NothingSeen
from pytest_nrfdfu.errors import PortGone, UartError


def view_of(*pieces: bytes) -> tuple[Console, ConsoleView]:
    console = Console()
    view = ConsoleView(console, "dk-07")
    for piece in pieces:
        console.write(piece)
    return console, view


def test_a_match_is_returned_with_its_groups():
    _, view = view_of(b"*** Booting Zephyr OS build v4.4.0 ***\r\n")
    assert view.expect(r"build v(\d+)\.(\d+)").groups() == ("4", "4")


def test_consecutive_calls_see_consecutive_texts():
    _, view = view_of(b"count 1\r\ncount 2\r\ncount 3\r\n")
    assert [view.expect(r"count (\d)", timeout=0)[1] for _ in range(3)] == ["1", "2", "3"]
    with pytest.raises(NothingSeen):
        view.expect("count", timeout=0)
    assert view.lines == ["count 1", "count 2", "count 3"]


def test_a_pattern_may_span_lines_and_anchors_hold_for_each():
    _, view = view_of(b"first\r\nsecond\r\nthird\r\n")
    assert view.expect(r"^second\nthird$", timeout=0)
    _, view = view_of(b"first\r\nsecond\r\n")
    assert view.expect(re.compile(r"first.*second", re.DOTALL), timeout=0)


def test_a_prompt_without_a_newline_is_seen():
    _, view = view_of(b"\r\nuart:~$ ")
    assert view.expect(r"uart:~\$ $", timeout=0)


def test_what_was_printed_before_the_test_is_not_its_text():
    console = Console()
    console.write(b"before\n")
    view = ConsoleView(console, "dk-07")
    console.write(b"after\n")
    assert view.text == "after\n"
    with pytest.raises(NothingSeen):
        view.expect("before", timeout=0)


def test_waiting_ends_when_the_text_comes():
    console, view = view_of()
    writer = threading.Thread(target=console.write, args=(b"here\n",))
    writer.start()
    assert view.expect("here", timeout=30)
    writer.join()


def test_the_message_says_what_was_waited_for_and_what_came():
    _, view = view_of(b"fine\nasserted in main.c:3\n")
    view.expect("fine", timeout=0)
    with pytest.raises(NothingSeen) as caught:
        view.expect("ready", timeout=0.01)
    text = str(caught.value)
    assert "waited 0.01 s for 'ready' on the console of dk-07" in text
    assert "asserted in main.c:3" in text
    assert "fine" not in text, "what an earlier call has matched is no news"


def test_the_message_says_that_nothing_came():
    _, view = view_of()
    with pytest.raises(NothingSeen, match="it printed nothing"):
        view.expect("ready", timeout=0)


def test_a_long_text_is_shown_by_its_end():
    _, view = view_of(b"x" * 100_000, b"the end\n")
    with pytest.raises(NothingSeen) as caught:
        view.expect("ready", timeout=0)
    assert "the end" in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_nothing_seen_is_the_tests_failure():
    assert issubclass(NothingSeen, AssertionError)


def test_bytes_that_are_not_utf8_are_shown_as_escapes():
    console, view = view_of(b"\xff\xfe noise caf\xc3\xa9\r\n")
    assert view.text == "\\xff\\xfe noise café\n"
    assert view.expect(r"\\xff\\xfe noise café$", timeout=0)
    console.write(b"next\n")
    assert view.expect(r"\A\nnext", timeout=0), "behind an escape, the end of a match is still known"


def test_a_character_split_over_reads_is_one_character():
    console, view = view_of(b"caf\xc3")
    assert view.expect("caf", timeout=0)
    with pytest.raises(NothingSeen):
        view.expect("xc3", timeout=0)
    console.write(b"\xa9 open\n")
    assert view.expect(r"\Aé open", timeout=0)


def test_a_line_end_split_over_reads_does_not_get_into_a_match():
    console, view = view_of(b"version 1.2\r")
    assert view.expect(r"version (.*)", timeout=0)[1] == "1.2"
    console.write(b"\nnext\n")
    assert view.expect(r"\A\nnext", timeout=0)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 7))
def test_the_end_of_a_match_is_known_in_any_noise(before, between, behind, step):
    console, view = view_of()
    data = before + b"<<MARK1>>" + between + b"<<MARK2>>" + behind
    for start in range(0, len(data), step):
        console.write(data[start : start + step])
    view.expect("<<MARK1>>", timeout=0)
    assert view.expect(r"(?s)\A(.*?)<<MARK2>>", timeout=0)[1] == between.decode("utf-8", "backslashreplace").replace(
        "\r\n", "\n"
    )


def test_old_text_is_dropped_and_the_new_is_still_found():
    console, view = view_of(b"first\n")
    view.expect("first", timeout=0)
    for _ in range(40):
        console.write(b"x" * 40_000 + b"\n")
    console.write(b"last\n")
    assert len(view.text) <= 1 << 20
    assert view.expect("last", timeout=0)
    assert console.position == 6 + 40 * 40_001 + 5


def test_a_lost_port_ends_the_waiting():
    console, view = view_of(b"half")
    threading.Thread(target=console.close, args=("/dev/ttyACM1 was lost: I/O error",), kwargs={"lost": True}).start()
    with pytest.raises(PortGone, match=r"waited for 'ready' on the console of dk-07: /dev/ttyACM1 was lost") as caught:
        view.expect("ready", timeout=30)
    assert "half" in str(caught.value)


def test_what_came_before_the_loss_is_still_found():
    console, view = view_of(b"ready\n")
    console.close("lost", lost=True)
    assert view.expect("ready", timeout=0)


def test_a_closed_port_is_not_a_lost_one():
    console, view = view_of()
    console.close("it was closed")
    with pytest.raises(UartError, match="it was closed") as caught:
        view.expect("ready", timeout=30)
    assert not isinstance(caught.value, PortGone)
    console.reopen()
    console.write(b"ready\n")
    assert view.expect("ready", timeout=0)
