"""What a host must survive, and what it must not carry on from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_nrfdfu.bench.target import RecoveryTarget
from pytest_nrfdfu.host_conformance.host import Host, Run
from pytest_nrfdfu.host_conformance.observed import Observed
from pytest_nrfdfu.image.build import Build

Saw = Callable[[str], None]

_LATE = 4.0
"""Seconds: longer than hosts usually wait, and shorter than the erase of a whole slot (9.8 s), which is legitimate."""
_NTH = 4
"""The upload request that something happens to: in the middle for the largest chunks too."""
_TEXT = b"*** Booting MCUboot v2.1.0 ***\n[00:00:00.251,983] <inf> mcuboot: line of a log\n"
_NOISE = b"\xff\x00\x7e"
"""Bytes of a UART that was disturbed, with no newline behind them."""
_BACK = 32
_EINVAL = 3


def _survived(target: RecoveryTarget, image: Build, run: Run) -> None:
    if not target.holds(image):
        told = [step.told for step in Observed(target.capture).uploads if step.told is not None]
        where = f"at {told[-1]} of {len(image.image.data)} bytes" if told else "before it began"
        raise AssertionError(f"the update ended {where}, {run.how}\n{target.story()}\n{run.output}")
    assert not run.failed, f"the board has the image, and the host failed: {run}"


def test_lost_response(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Survives a lost response: asks again, and goes on where it is told."""
    recovery_target.inject(_NTH, lost=True)
    _survived(recovery_target, image, host.update(recovery_target, image_file))


def test_lost_request(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Survives a request that the board could not read: repeats it."""
    recovery_target.inject(_NTH, ignored=True)
    _survived(recovery_target, image, host.update(recovery_target, image_file))


def test_late_response(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Survives a response that comes 4 s late."""
    recovery_target.inject(_NTH, late=_LATE)
    _survived(recovery_target, image, host.update(recovery_target, image_file))


def test_offset_goes_back(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Follows an offset that goes back."""
    recovery_target.inject(_NTH, back=_BACK)
    run = host.update(recovery_target, image_file)
    observed = Observed(recovery_target.capture)
    for one, other in observed.disobeyed():
        raise AssertionError(f"told to go on at {one.told}, it sent offset {other.off}; {run}")
    assert any(step.told is not None and step.told < step.off + step.size for step in observed.uploads), (
        f"it uploaded too little for the offset to go back: {run}"
    )
    _survived(recovery_target, image, run)


def test_console_text(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Survives console text between responses."""
    recovery_target.inject(_NTH, times=3, before=_TEXT)
    _survived(recovery_target, image, host.update(recovery_target, image_file))


def test_noise(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path) -> None:
    """Survives noise right in front of a response."""
    recovery_target.inject(_NTH, times=3, before=_NOISE)
    _survived(recovery_target, image, host.update(recovery_target, image_file))


def test_reset_halfway(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path, saw: Saw) -> None:
    """Survives a reset of the board halfway: begins again at offset 0."""
    recovery_target.inject_reset(_NTH, delay=0.001)
    _survived(recovery_target, image, host.update(recovery_target, image_file))
    saw(f"{recovery_target.admin.counters()['uploads']} uploads begun")


def test_refused_chunk(host: Host, recovery_target: RecoveryTarget, image_file: Path) -> None:
    """Gives up with an error when chunks are refused (rc 3)."""
    recovery_target.inject(_NTH, times=1000, rc=_EINVAL)
    run = host.update(recovery_target, image_file)
    uploads = Observed(recovery_target.capture).uploads
    refused = [step for step in uploads if step.rc == _EINVAL]
    assert refused, f"it uploaded too little to be refused: {run}"
    for one, other in pairwise(uploads):
        assert one.rc != _EINVAL or other.off <= one.off, f"refused at {one.off}, it sent the next chunk, {other.off}"
    assert run.ended, f"refused {len(refused)} times, it went on for {host.timeout:g} s: {run}"
    assert run.failed or not host.has_status, f"it ended as if all were well: {run}"


def test_silent_board(host: Host, recovery_target: RecoveryTarget, image_file: Path) -> None:
    """Gives up with an error when the board says nothing any more."""
    recovery_target.inject_hang(_NTH)
    run = host.update(recovery_target, image_file)
    assert Observed(recovery_target.capture).uploads, f"it uploaded nothing: {run}"
    assert run.ended, f"it waited for {host.timeout:g} s and more: {run}"
    assert run.failed or not host.has_status, f"it ended as if all were well: {run}"


def test_corrupted_image(host: Host, recovery_target: RecoveryTarget, image: Build, image_file: Path, saw: Saw) -> None:
    """Notices that the board holds a corrupted image."""
    if not host.has_status:
        pytest.skip("only an exit status would tell")
    recovery_target.inject(_NTH, damage=True)
    run = host.update(recovery_target, image_file)
    if recovery_target.holds(image):
        saw("it uploaded the image again")
        return
    uploads = Observed(recovery_target.capture).uploads
    assert len(uploads) >= _NTH, f"it uploaded too little to be corrupted, {len(uploads)} chunks: {run}"
    assert run.ended, f"it did not come to an end in {host.timeout:g} s: {run}"
    assert run.failed, "every response had rc 0, so it took the update for good; the image list has no such image"
