"""Console text: what came, and waiting for it."""

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.board.console import Console, ConsoleView, Expected, NothingSeen, Unwanted
from pytest_nrfdfu.board.console_text import present, settled, size_of
from pytest_nrfdfu.board.line_times import LineTimes
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
    assert view.expect(r"(?s)\A(.*?)<<MARK2>>", timeout=0)[1] == present(between)


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


# --- several patterns, and literal text -------------------------------------------------------------------------------


def test_of_several_patterns_the_first_in_the_text_wins_and_is_told():
    _, view = view_of(b"error 7\nready\n")
    which, match = view.expect(["ready", r"error (\d+)"], timeout=0)
    assert (which, match[1]) == (1, "7")
    assert view.expect(("ready", re.compile("error")), timeout=0).which == 0, "it goes on behind the match"


def test_of_patterns_that_match_at_one_place_the_first_named_wins():
    _, view = view_of(b"ready to go\n")
    found = view.expect(["ready to", "ready"], timeout=0)
    assert isinstance(found, Expected)
    assert (found.which, found.match[0]) == (0, "ready to")


def test_several_patterns_that_did_not_come_are_all_named():
    _, view = view_of(b"fine\n")
    with pytest.raises(NothingSeen, match=r"waited 0 s for 'ready' or 'error \(' on the console of dk-07"):
        view.expect(["ready", "error ("], timeout=0, literal=True)


def test_literal_text_is_no_expression():
    _, view = view_of(b"0.5 V (ok)\n")
    assert view.expect("(ok)", timeout=0, literal=True)[0] == "(ok)"
    with pytest.raises(NothingSeen):
        view.expect("0.5.V", timeout=0, literal=True)


def test_no_pattern_at_all_is_a_mistake():
    _, view = view_of()
    with pytest.raises(ValueError, match="no pattern"):
        view.expect([], timeout=0)


# --- what must not come -----------------------------------------------------------------------------------------------


def test_what_does_not_come_is_no_failure_and_loses_nothing():
    _, view = view_of(b"ready\n")
    view.expect_not("error", 0.01)
    assert view.expect("ready", timeout=0)


def test_what_has_come_already_fails_at_once():
    _, view = view_of(b"ready\nerror 7\n")
    view.expect("ready", timeout=0)
    with pytest.raises(Unwanted) as caught:
        view.expect_not(["panic", r"error \d"], 3600)
    text = str(caught.value)
    assert r"'error \\d' came on the console of dk-07" in text
    assert "of dk-07, 0.00 s into 3600 s in which it must not: 'error 7'" in text
    assert "it printed:\n\nerror 7\n" in text


def test_what_was_matched_before_does_not_count():
    _, view = view_of(b"error 7\nready\n")
    view.expect("error", timeout=0)
    view.expect_not("error", 0.01)


def test_what_comes_fails_when_it_comes():
    console, view = view_of()
    writer = threading.Thread(target=console.write, args=(b"assertion\n",))
    writer.start()
    with pytest.raises(Unwanted):
        view.expect_not("assert", 3600)
    writer.join()
    assert issubclass(Unwanted, AssertionError)


def test_nobody_can_tell_of_a_lost_port_what_did_not_come():
    console, view = view_of(b"half")
    console.close("/dev/ttyACM1 was lost", lost=True)
    with pytest.raises(PortGone, match=r"watched for 'error' on the console of dk-07: /dev/ttyACM1 was lost"):
        view.expect_not("error", 3600)


# --- times ------------------------------------------------------------------------------------------------------------


def timed_view():
    console = Console()
    return console, ConsoleView(console, "dk-07"), time.monotonic()


def test_each_line_has_the_time_of_its_first_byte():
    console, view, now = timed_view()
    console.write(b"fir", now + 10)
    console.write(b"st\r\nsec", now + 20)
    console.write(b"ond\n\nfourth\nfif", now + 30)
    console.write(b"th", now + 40)
    lines = view.timed_lines
    assert [line.text for line in lines] == view.lines == ["first", "second", "", "fourth", "fifth"]
    assert [round(line.time) for line in lines] == [10, 20, 30, 30, 30]


def test_a_line_that_began_before_the_test_has_no_time_of_before():
    console = Console()
    console.write(b"before\nhalf ", time.monotonic() - 100)
    view = ConsoleView(console, "dk-07")
    console.write(b"a line\n")
    assert [line.text for line in view.timed_lines] == ["a line"]
    assert view.timed_lines[0].time == 0.0


def test_times_hold_when_old_text_is_dropped():
    console, view, now = timed_view()
    for number in range(40):
        console.write(b"x" * 40_000 + b"\n", now + number)
    console.write(b"last\n", now + 100)
    lines = view.timed_lines
    assert [line.text for line in lines] == view.lines
    assert [round(line.time) for line in lines] == [*range(13, 40), 100]


def test_the_times_of_dropped_lines_are_dropped():
    times = LineTimes()
    times.note(b"one\ntwo\nthree\n", 0, 1.0)
    times.drop(5)
    times.note(b"four\n", 14, 2.0)
    assert times.since(5) == [1.0, 1.0, 2.0], "that of a line of which a part is left stays"
    assert times.since(8) == times.since(13) == [1.0, 2.0]
    assert len(times) == 3


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_timed_lines_are_the_lines(pieces):
    console, view, now = timed_view()
    for number, piece in enumerate(pieces):
        console.write(piece, now + number)
    assert [line.text for line in view.timed_lines] == view.lines
    times = [line.time for line in view.timed_lines]
    assert times == sorted(times)


# --- boots and faults -------------------------------------------------------------------------------------------------


def test_boots_are_those_since_the_test_began():
    console = Console()
    console.write(b"*** Booting Zephyr OS build v4.3.0 ***\n")
    view = ConsoleView(console, "dk-07")
    assert (view.boots, view.boot, view.faults) == ([], None, [])
    now = time.monotonic()
    console.note_reset("pin reset", now + 1.0)
    console.write(b"*** Booting MCUboot v2.1.0 ***\n*** Booting Zephyr OS build v4.4.0 ***\n", now + 1.25)
    console.write(b"E: ***** BUS FAULT *****\n", now + 2)
    (boot,) = view.boots
    assert boot == view.boot
    assert boot.reset == "pin reset"
    assert boot.banner_after == pytest.approx(0.25)
    assert boot.began == pytest.approx(1.0, abs=0.5), "on the test's clock"
    assert [fault.kind for fault in view.faults] == ["BUS FAULT"]
    assert boot.fault == view.faults[0]


def test_an_own_banner_is_known():
    console = Console()
    view = ConsoleView(console, "dk-07", banner="^Pump ready$")
    console.write(b"Pump ready\n")
    assert [boot.application_banner for boot in view.boots] == ["Pump ready"]


# --- what terminals do not show ---------------------------------------------------------------------------------------

COLOURED = b"[00:00:05.979,000] \x1b[1;31m<err> app: failed\x1b[0m\r\n\x1b[1;32muart:~$ \x1b[m"


def test_colours_are_no_text():
    """Zephyr colours its log and its shell's prompt by default."""
    _, view = view_of(COLOURED)
    assert view.text == "[00:00:05.979,000] <err> app: failed\nuart:~$ "
    assert view.expect(r"\] <err> app: failed$", timeout=0)
    assert view.expect(r"^uart:~\$ $", timeout=0)


@pytest.mark.parametrize("step", range(1, 9))
def test_a_colour_split_over_reads_is_no_text(step):
    console, view = view_of()
    for start in range(0, len(COLOURED), step):
        console.write(COLOURED[start : start + step])
        with pytest.raises(NothingSeen):
            view.expect(r"\x1b|\[0?m|1;3", timeout=0)
    view.expect("failed", timeout=0)
    assert view.expect(r"\A\nuart", timeout=0), "the end of a match is known behind a colour"


def test_a_cursor_that_is_hidden_is_no_text():
    _, view = view_of(b"\x1b[?25lready\x1b[2K\n")
    assert view.lines == ["ready"]


def test_an_escape_that_begins_no_sequence_is_text():
    _, view = view_of(b"\x1bx ready\n")
    assert view.lines == ["\x1bx ready"]


def test_a_line_that_ends_with_two_carriage_returns_ends():
    """printk("...\\r\\n"): Zephyr's console puts another before the newline."""
    console, view = view_of(b"version 1.2\r\r\nne")
    assert view.expect(r"^version (.*)$", timeout=0)[1] == "1.2"
    console.write(b"xt\n")
    assert view.expect(r"\A\nnext$", timeout=0)
    assert view.lines == [line.text for line in view.timed_lines] == ["version 1.2", "next"]


def test_lines_that_end_with_carriage_returns_alone_are_lines():
    """A progress bar, for example."""
    _, view = view_of(b"10 %\r20 %\rdone\r\n")
    assert view.lines == [line.text for line in view.timed_lines] == ["10 %", "20 %", "done"]
    assert view.expect("20 %", timeout=0)


@given(st.lists(st.sampled_from([b"a", b"\xe9", "é".encode(), b"\r", b"\n", b"\x1b", b"[", b"1;", b"m", b"\xff"])))
def test_what_has_settled_stays(pieces):
    whole = b"".join(pieces)
    for end in range(len(whole) + 1):
        text = present(settled(whole[:end]))
        assert text + present(whole[size_of(whole, len(text)) :]) == present(whole)


# --- a reader thread that must not be kept waiting --------------------------------------------------------------------


class Slow:
    """A pattern that is still looking while more comes."""

    pattern = "slow"

    def __init__(self, console):
        self.console = console
        self.wrote = []

    def search(self, text):
        writer = threading.Thread(target=self.console.write, args=(b"more\n",))
        writer.start()
        writer.join(10)
        self.wrote.append(not writer.is_alive())
        return re.search("more\nmore\n", text)


def test_a_search_keeps_nobody_from_writing():
    console, _ = view_of(b"some\n")
    slow = Slow(console)
    assert console.wait_for(slow, 0, 30)
    assert slow.wrote == [True, True, True]


def test_a_search_that_took_long_is_not_repeated_at_once(monkeypatch):
    """It takes the longer the more text there is, and a reader thread brings some bytes at a time."""
    console, _ = view_of(b"some\n")
    rests = []
    monkeypatch.setattr("pytest_nrfdfu.board.console.time.sleep", rests.append)

    class Long:
        def search(self, text):
            began = time.monotonic()
            while time.monotonic() < began + 0.01:
                pass
            console.write(b"more\n")
            return re.search("more", text)

    assert console.wait_for(Long(), 0, 60)
    (rest,) = rests
    assert rest >= 0.01


def test_resets_are_noted_while_others_ask_for_them():
    console, _ = view_of()
    threads = [threading.Thread(target=lambda: [console.note_reset("pin reset") for _ in range(200)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(console.resets()) <= 400
    assert len(console.resets()) == 400
