import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires import update

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.wire import records
from pytest_nrfdfu.wire.capture import Capture, Chunk

_TIMES = st.none() | st.integers(0, 10**9).map(lambda tick: tick / 10**5)
_CHUNKS = st.lists(st.builds(Chunk, _TIMES, st.sampled_from(["tx", "rx"]), st.binary(max_size=40)))


@given(_CHUNKS, st.text(max_size=10))
def test_what_is_written_is_read_back(chunks: list[Chunk], source: str) -> None:
    capture = Capture(tuple(chunks), source)
    assert records.loads(records.dumps(capture)) == capture


def test_the_format_is_what_the_documentation_says() -> None:
    text = records.dumps(Capture((Chunk(0.125, "tx", b"\x06\x09"), Chunk(None, "rx", b"A")), "here"))
    assert text == (
        '{"format": "nrfdfu-capture", "version": 1, "source": "here"}\n'
        '{"time": 0.125, "direction": "tx", "data": "0609"}\n'
        '{"time": null, "direction": "rx", "data": "41"}\n'
    )


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_last_line_is_left_out(cut: int) -> None:
    capture = update()
    torn = records.dumps(capture)[:-cut]
    expected = capture.chunks if cut == 1 else capture.chunks[:-1]  # cut of one: the newline alone
    assert records.loads(torn).chunks == expected


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"direction": "rx"', '"direction": "up"', "line 3 is no record of a capture (no 'up')"),
        ('{"time": 0.05, ', "{", "line 3 is no record of a capture (no 'time')"),
        ("{", "[", "line 1 is no JSON object"),
        ('"version": 1', '"version": 2', "version 2 of nrfdfu-capture, known is 1"),
    ],
)
def test_a_broken_file_is_named_by_its_line(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        records.loads(records.dumps(update()).replace(old, new))
    assert said in str(caught.value)
