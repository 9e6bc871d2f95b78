"""`nrfdfu trace`: what is printed, as what, and the exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nrfdfu.cli import main
from pytest_nrfdfu.wire import records
from pytest_nrfdfu.wire.capture import Capture, Chunk
from pytest_nrfdfu.wire.packets import Upload, exchanges

UPLOAD = Upload(bytes(range(256)) * 4, "1.2.3", bytes(32), chunk=512)


def write(path: Path, *, damage: bool = False) -> Path:
    chunks = []
    for index, one in enumerate(exchanges(UPLOAD)):
        request = one.request.replace(b"\n", b"\r\n") if damage and index == 1 else one.request
        chunks += [Chunk(0.1 * index, "tx", request), Chunk(0.1 * index + 0.05, "rx", one.response)]
    path.write_text(records.dumps(Capture(tuple(chunks), "a test")))
    return path


def test_decode_prints_a_line_for_each_message(tmp_path: Path, capsys) -> None:
    assert main(["trace", "decode", str(write(tmp_path / "a"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[3] == "  0.1500 s <- image upload  seq 1, rc 0, off 512  after 50.0 ms"
    assert lines[-1] == "5 requests, 5 responses"


def test_decode_verbose_and_json_and_colours(tmp_path: Path, capsys) -> None:
    path = str(write(tmp_path / "a"))
    assert main(["trace", "decode", "-v", path]) == 0
    assert "CRC16-XMODEM of the packet: right" in capsys.readouterr().out
    assert main(["trace", "decode", "--json", path]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 10
    assert main(["trace", "decode", "--colour", "always", path]) == 0
    assert "\x1b[36m" in capsys.readouterr().out
    assert main(["trace", "decode", path]) == 0
    assert "\x1b[" not in capsys.readouterr().out


def test_a_direction_can_be_told(tmp_path: Path, capsys) -> None:
    (tmp_path / "a").write_text('"AAsCAAABAACKBaA1Qw=="')
    assert main(["trace", "decode", "--direction", "rx", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.startswith("<- reset")


def test_diff_tells_by_its_status_whether_a_difference_matters(tmp_path: Path, capsys) -> None:
    good, same, bad = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", damage=True)
    assert main(["trace", "diff", str(good), str(same)]) == 0
    assert "No difference that matters." in capsys.readouterr().out
    assert main(["trace", "diff", str(good), str(bad)]) == 1
    assert "The first difference that matters: framing of step 2, image upload" in capsys.readouterr().out
    assert main(["trace", "diff", "--json", str(good), str(bad)]) == 1
    assert json.loads(capsys.readouterr().out)["first"]["aspect"] == "framing"


def test_lint_tells_by_its_status_whether_something_was_found(tmp_path: Path, capsys) -> None:
    assert main(["trace", "lint", str(write(tmp_path / "a"))]) == 0
    assert "Nothing wrong was found." in capsys.readouterr().out
    assert main(["trace", "lint", str(write(tmp_path / "b", damage=True))]) == 1
    assert "1 finding: 1 error." in capsys.readouterr().out
    assert main(["trace", "lint", "--json", str(tmp_path / "b")]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["severity"], finding["direction"], finding["times"]) == ("error", "tx", 1)


def test_words_are_explained_behind_the_findings_and_not_without_any(tmp_path: Path, capsys) -> None:
    main(["trace", "lint", str(write(tmp_path / "a", damage=True))])
    text = capsys.readouterr().out
    assert text.index("error: line-crlf") < text.index("The words used here") < text.index("1 finding")
    main(["trace", "lint", str(write(tmp_path / "b"))])
    assert "The words used here" not in capsys.readouterr().out


def test_lint_says_the_same_fault_once_unless_asked(tmp_path: Path, capsys) -> None:
    sent = tuple(Chunk(None, "tx", one.request.replace(b"\n", b"\r\n")) for one in exchanges(UPLOAD))
    (tmp_path / "a").write_text(records.dumps(Capture(sent)))
    assert main(["trace", "lint", "--json", str(tmp_path / "a")]) == 1
    (once,) = json.loads(capsys.readouterr().out)["findings"]
    assert main(["trace", "lint", "--json", "--all", str(tmp_path / "a")]) == 1
    each = json.loads(capsys.readouterr().out)["findings"]
    assert len(each) == once["times"] == 5


@pytest.mark.parametrize("command", [["decode"], ["lint"], ["diff"]])
def test_what_cannot_be_read_is_named(tmp_path: Path, capsys, command: list[str]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is not a capture\n")
    assert main(["trace", *command, str(path), *([str(path)] if command == ["diff"] else [])]) == 2
    said = capsys.readouterr().err
    assert "nrfdfu trace: error:" in said
    assert "notes.txt: no known format fits" in said


def test_a_reader_that_stops_early_ends_it_without_a_word(tmp_path: Path) -> None:
    """As ``| head``: the pipe's other end is closed before anything is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "pytest_nrfdfu.cli", "trace", "decode", "-v", str(write(tmp_path / "a"))]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")
