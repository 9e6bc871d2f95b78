"""`nrfdfu packets`: what is printed, as what, and the exit status."""

import json
from pathlib import Path

import firmware
import pytest

from pytest_nrfdfu.cli import main
from pytest_nrfdfu.image.mcuboot import parse


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "app.signed.bin"
    path.write_bytes(firmware.signed_app())
    return path


def test_the_bytes_are_explained(image: Path, capsys) -> None:
    assert main(["packets", str(image), "--smp-version", "1", "--sequence", "66"]) == 0
    text = capsys.readouterr().out
    assert "06 09 AAsAAAABAAFCAKD1Mw== 0a" in text
    for name in ("LIST", "FIRST CHUNK", "SECOND CHUNK", "LAST CHUNK", "LIST AFTERWARDS", "RESET"):
        assert f"\n{name}\n" in f"\n{text}"


def test_json_is_of_the_image_that_was_given(image: Path, capsys) -> None:
    assert main(["packets", str(image), "--chunk", "512", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    data = firmware.signed_app()
    assert (seen["bytes"], seen["chunk"]) == (len(parse(data).payload), 512)
    after = next(one for one in seen["exchanges"] if one["name"] == "list afterwards")
    assert parse(data).hash.hex() in after["response"]["packet"]


def test_c_arrays_are_printed(image: Path, capsys) -> None:
    assert main(["packets", str(image), "--format", "c"]) == 0
    assert "static const uint8_t first_chunk_request[" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--chunk", "13"], "multiple of 4"), (["--chunk", "2000"], "at most"), (["--name", "net"], "has no image 'net'")],
)
def test_wishes_that_cannot_be_met_are_refused(image: Path, capsys, arguments: list[str], said: str) -> None:
    assert main(["packets", str(image), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_image_is_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "app.bin"
    path.write_bytes(bytes(100))
    assert main(["packets", str(path)]) == 1
    assert "nrfdfu packets: error:" in capsys.readouterr().err
