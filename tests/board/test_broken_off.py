"""Ctrl-C in the middle of an update: a row that says where, and what the board is left with."""

import time
from types import SimpleNamespace

import pytest

from board.conftest import make_build, wired, with_only
from pytest_nrfdfu.board import application
from pytest_nrfdfu.board.broken_off import broken_off, left_behind
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.plan import Step
from pytest_nrfdfu.board.report import Timeline
from pytest_nrfdfu.board.update_parts import Attempt
from pytest_nrfdfu.image.build import NET


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return {version: make_build(folder, version) for version in ("1.0.0", "1.1.0")}


@pytest.fixture(scope="module")
def _board(builds):
    with wired(sim={"image": builds["1.0.0"].path, "application_smp": "full"}, boot={"timeout": 4.0}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    return with_only(_board, builds["1.0.0"])


def stop(*_args, **_kwargs):
    raise KeyboardInterrupt


def halfway(acknowledged, total):
    if acknowledged > total // 2:
        raise KeyboardInterrupt


def row(sim, build, *, progress=None, **how):
    """The report of an update that is broken off."""
    reports = []
    with pytest.raises(KeyboardInterrupt):
        Dfu(sim.unit, progress=progress, done=reports.append).update(build, **how)
    (report,) = reports
    assert not report.verified
    return report


def old(builds):
    return f"version 1.0.0 (hash {builds['1.0.0'].hash.hex()[:12]})"


def test_in_an_upload_to_slot_1(sim, builds):
    report = row(sim, builds["1.1.0"], progress=halfway, via="application")
    assert (report.proof, report.running) == ("broken off in the upload", "not seen")
    assert 0 < report.bytes < builds["1.1.0"].image.size, "how far it came"
    left = (
        "an upload of version 1.1.0 to slot 1 was broken off: it is not marked, and the next reset starts"
        f" {old(builds)}"
    )
    assert f"broken off in the upload by KeyboardInterrupt; {left}" in report.notes
    assert sim.unit.holds == f"not known: {left}"
    sim.unit.client.reset()
    assert sim.unit.client.poll_images(0.1, time.monotonic() + 4).active.hash == builds["1.0.0"].hash


def test_in_the_swap(sim, builds, monkeypatch):
    """What is said comes true: the image runs, on trial, and the next reset takes it back."""
    reset = application.reset_and_wait

    def swapped_and_stopped(*args, **kwargs):
        reset(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "reset_and_wait", swapped_and_stopped)
    report = row(sim, builds["1.1.0"], via="application")
    assert report.proof == "broken off in the swap"
    assert sim.unit.holds == (
        "not known: version 1.1.0 was marked and a reset asked for: MCUboot may be swapping still, and then version"
        f" 1.1.0 runs, on trial: unless it is confirmed, the reset after that brings {old(builds)} back"
    )
    assert Dfu(sim.unit).revert().hash == builds["1.0.0"].hash


def test_before_it_is_confirmed(sim, builds, monkeypatch):
    """It was proved running by then: that stays said."""
    monkeypatch.setattr(application, "confirm_running", stop)
    reports = []
    with pytest.raises(KeyboardInterrupt):
        Dfu(sim.unit, done=reports.append).update(builds["1.1.0"], via="application")
    (report,) = reports
    assert (report.verified, report.running, report.confirmed) == (True, "image list", False)
    assert sim.unit.holds == (
        f"not known: version 1.1.0 runs, on trial: unless it is confirmed, the next reset brings {old(builds)} back"
    )


def test_in_recovery(sim, builds):
    report = row(sim, builds["1.1.0"], progress=halfway)
    assert (report.proof, report.running, report.via) == ("broken off in the upload", "not seen", "recovery")
    assert sim.unit.holds == (
        "not known: slot 0 holds a part of version 1.1.0, which does not boot; serial recovery runs"
    )
    assert sim.unit.client.images().find(slot=0) is None


def test_before_anything_was_sent(sim, builds, monkeypatch):
    monkeypatch.setattr(application, "ask", stop)
    holds, reports = sim.unit.holds, []
    with pytest.raises(KeyboardInterrupt):
        Dfu(sim.unit, done=reports.append).update(builds["1.1.0"], via="application")
    assert (reports, sim.unit.holds) == ([], holds)


@pytest.mark.parametrize("phase", ["mark", "swap", "boot", "confirm"])
@pytest.mark.parametrize(
    ("attempt", "fate"),
    [
        ({"swap": "overwrite"}, ", for good: this bootloader keeps no old image"),
        ({"swap": "move", "permanent": True}, ", for good: it was marked permanent"),
        ({"swap": "move", "before": "version 1.0.0"}, "brings version 1.0.0 back"),
    ],
)
def test_whether_it_is_on_trial(builds, phase, attempt, fate):
    assert left_behind(attempt_of(builds, via="application", **attempt), phase).endswith(fate)


@pytest.mark.parametrize("phase", ["transfer", "pending"])
def test_one_that_was_pending_is_swapped_in(builds, phase):
    pending = attempt_of(builds, via="staged", pending=True)
    assert left_behind(pending, phase).startswith("version 1.1.0 was seen pending: the next reset swaps it in, on tr")
    assert "was seen pending" not in left_behind(attempt_of(builds, via="staged"), phase)


def test_the_image_and_whether_it_was_needed_count(builds):
    """The network core's was to be written, and the application's was there already."""
    attempt = attempt_of(builds)
    attempt.parts[0].needed = False
    assert left_behind(attempt, "verify") == ""
    attempt.begin(Step(NET, builds["1.0.0"].image, 1), needed=True)
    attempt.timeline.broken = f"upload {NET}"
    attempt.unit = SimpleNamespace(forget=list, unfinished=None)
    broken_off(attempt, KeyboardInterrupt())
    assert (
        attempt.parts[-1]
        .notes[-1]
        .endswith("; the network core may hold a part of version 1.0.0; slot 0 was not written by this step")
    )


def attempt_of(builds, **told):
    build = builds["1.1.0"]
    attempt = Attempt(build, None, Timeline(0.0), **told)
    attempt.begin(Step("app", build.image, 0), needed=True)
    return attempt
