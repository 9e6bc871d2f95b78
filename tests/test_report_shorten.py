"""Long texts made short: both ends stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.report.shorten import in_lines, middle, plain, some_lines


def test_a_short_text_stays_as_it_is():
    assert middle("a b", 3) == "a b"


def test_the_middle_is_left_out_between_words():
    text = "one two three four five six seven eight nine ten"
    assert middle(text, 30) == "one two ... eight nine ten"


@pytest.mark.parametrize("size", [20, 21, 50])
def test_a_text_of_one_word_is_cut_all_the_same(size):
    short = middle("x" * 100, size)
    assert short.startswith("xx")
    assert short.endswith("xx")
    assert len(short) == size


@given(st.text(alphabet="ab ", max_size=200), st.integers(min_value=20, max_value=100))
def test_it_is_never_longer_than_allowed(text, size):
    assert len(middle(text, size)) <= size


def test_lines_keep_both_ends():
    """A blank line within stays; blanks at the ends are nobody's."""
    text = "\n one\ntwo  \n\n" + "\n".join(map(str, range(20))) + "\n\n"
    assert some_lines(text, 7, first=100, other=100) == "one\ntwo\n\n0\n...\n18\n19"
    assert some_lines("one\ntwo\n", 2, first=100, other=100) == "one\ntwo"
    assert some_lines("", 2, first=100, other=100) == ""


def test_the_first_line_has_a_size_of_its_own():
    text = f"{'a ' * 100}\n{'b ' * 100}"
    first, second = some_lines(text, 7, first=100, other=30).splitlines()
    assert 90 < len(first) <= 100
    assert 20 < len(second) <= 30


@given(st.text(alphabet="ab \n", max_size=400), st.integers(min_value=2, max_value=9))
def test_lines_are_never_more_than_allowed(text, most):
    lines = some_lines(text, most, first=40, other=20).splitlines()
    assert len(lines) <= most
    assert all(len(line) <= (20 if number else 40) for number, line in enumerate(lines))


def test_a_line_is_broken_between_words():
    """What follows is indented below it; a word that is too long is nobody's to break, so that it can be copied."""
    assert in_lines("  dk: one two three", 12) == "  dk: one\n      two\n      three"
    assert in_lines("at /a/very/long-path now", 10) == "at\n    /a/very/long-path\n    now"
    assert in_lines("short  enough", 14) == "short  enough"
    assert in_lines("one\n  two", 80) == "one\n  two"


def test_what_does_not_print_is_left_out():
    assert plain("a\x1b[94m2\x1b[39;49;00m\tb\n") == "a2\tb\n"
    assert plain("\x1b[2J\x00") == "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
