"""Long texts made short: both ends stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.report.shorten import middle


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
