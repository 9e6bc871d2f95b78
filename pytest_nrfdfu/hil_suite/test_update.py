"""Serial recovery from one end to the other, on any board."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_nrfdfu.board.board import Board
from pytest_nrfdfu.board.console import ConsoleView
from pytest_nrfdfu.board.dfu import Dfu, Recovery
from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.build import Build, load


class _BrokenOffError(Exception):
    """Stands for whatever ends an upload halfway."""


def test_recovery_is_entered(recovery: Recovery, board: Board) -> None:
    """One of the configured ways leads into serial recovery, in the time that the configuration allows."""
    assert recovery.entered.method in board.config.recovery.entry
    assert recovery.entered.seconds <= board.config.recovery.timeout * len(board.config.recovery.entry)


def test_image_list_is_readable(recovery: Recovery) -> None:
    """The bootloader, not the application, answers with an image list, and answers the same again."""
    states = recovery.images()
    assert states.split_status is None
    assert all(state.version and state.slot >= 0 for state in states.images)
    assert recovery.images() == states


def test_update_is_verified_and_boots(dfu: Dfu, console: ConsoleView, two_builds: tuple[Build, Build]) -> None:
    """An update ends with the build's hash read from the board, and the application running."""
    first, _ = two_builds
    report = dfu.update(first)
    assert report.verified
    assert report.hash == first.hash
    assert report.bytes == len(first.image.data)
    assert report.running in {"console", "image list"}
    if report.running == "console":
        console.expect(dfu.unit.config.console.banner, timeout=1)


def test_second_build_replaces_the_first(dfu: Dfu, two_builds: tuple[Build, Build]) -> None:
    """After two updates the board holds the second, and only that."""
    first, second = two_builds
    assert first.hash != second.hash
    assert dfu.update(first).hash == first.hash
    report = dfu.update(second)
    assert report.hash == second.hash
    assert report.version == second.version


def test_flashed_uploads_nothing_when_proved(request: pytest.FixtureRequest, dfu: Dfu, build: Build) -> None:
    """What was proved in this run is booted, not uploaded again."""
    dfu.update(build)
    since = dfu.unit.now()
    flashed: Board = request.getfixturevalue("flashed")
    sent = flashed.exchanges(since=since, last=1000)
    assert not [line for line in sent if "image upload" in line]
    recovery = dfu.enter()
    assert recovery.verify(build.image).hash == build.hash
    dfu.boot(build.image)


def test_corrupted_file_is_refused(board: Board, dfu: Dfu, two_builds: tuple[Build, Build], tmp_path: Path) -> None:
    """A file with one wrong byte is refused before anything is sent to the board."""
    data = bytearray(two_builds[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    broken = tmp_path / "broken.signed.bin"
    broken.write_bytes(data)
    since = dfu.unit.now()
    with pytest.raises(ImageError, match="its TLV says"):
        dfu.update(load(broken))
    assert not board.exchanges(since=since, last=10)


def test_upload_broken_off_is_taken_up(recovery: Recovery, two_builds: tuple[Build, Build]) -> None:
    """An upload that ended halfway goes on where the board has it, and ends verified."""
    image = two_builds[1].image

    def break_off(acknowledged: int, total: int) -> None:
        if acknowledged > total // 2:
            raise _BrokenOffError

    with pytest.raises(_BrokenOffError):
        recovery.upload(image, progress=break_off)
    upload = recovery.upload(image)
    assert upload.resumed
    assert upload.counters.progress[0][1] > image.size // 2
    assert recovery.verify(image).hash == image.hash
