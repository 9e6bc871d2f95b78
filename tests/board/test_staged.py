"""Updates that the application stages itself, over a transport that the plugin knows nothing of."""

import socket
from contextlib import suppress

import pytest
import simulator

from board.conftest import make_build, wired
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.errors import HashMismatch, NotBooted, UpdateRefused


class Transport:
    """The application's own: lines over TCP, as a stand-in for BLE, LTE or CAN."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), simulator.DEADLINE)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def ask(self, line, data=b""):
        self.socket.sendall(line.encode() + b"\n" + data)
        answer = self.file.readline().decode().split()
        assert answer[0] == "ok", answer
        return int(answer[1]) if len(answer) > 1 else None

    def send(self, data):
        """All of an image, from where the application has it."""
        offset = self.ask(f"init {len(data)}")
        while offset < len(data):
            piece = data[offset : offset + 4000]
            offset = self.ask(f"write {offset} {len(piece)}", piece)
        self.ask("done")

    def stage(self, build):
        self.send(build.image.data)
        self.ask("schedule")


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return {version: make_build(folder, version) for version in ("1.0.0", "1.1.0", "9.9.9")}


def board(builds, **sim):
    table = {"image": builds["1.0.0"].path, "staging": True, "application_smp": "full"} | sim
    return wired(sim=table, boot={"timeout": 4.0})


@pytest.fixture(scope="module")
def _board(builds):
    with board(builds, applications={"9.9.9": "faults"}) as found:
        yield found


@pytest.fixture
def sim(_board, builds):
    """A board of this module's own, with version 1.0.0 running and slot 1 erased."""
    with suppress(HashMismatch):  # an image that a test left pending is swapped in
        Dfu(_board.unit).update(builds["1.0.0"])
    Dfu(_board.unit).update(builds["1.0.0"], only_if_needed=True)
    _board.unit.client.erase(1, simulator.DEADLINE)
    return _board


@pytest.fixture(scope="module")
def _silent(builds):
    """Its application has no SMP server."""
    with board(builds, application_smp="none") as found:
        yield found


@pytest.fixture
def silent(_silent, builds):
    Dfu(_silent.unit).update(builds["1.0.0"])
    return _silent


def transport(sim):
    return Transport(sim.simulator.staging)


def test_it_is_proved_pending_and_running_by_the_applications_list(sim, builds):
    new, reports = builds["1.1.0"], []
    with Dfu(sim.unit, done=reports.append).staged(new, timeout=20) as update, transport(sim) as link:
        link.stage(new)
        assert update.report is None
    report = update.report
    assert reports == [report]
    assert (report.verified, report.proof, report.hash, report.running) == (True, "image list", new.hash, "image list")
    assert (report.via, report.swap, report.confirmed, report.bytes) == ("staged", "move", True, 0)
    assert report.notes == (
        "staged by the application itself: no byte of it was sent from here",
        "seen pending by the application's image list",
    )
    phases = ["check", "transfer", "pending", "swap", "boot", "confirm"]
    assert [phase.name for phase in report.timeline] == phases
    assert sim.admin.flash_hash().image_hash == new.hash


def test_the_test_may_wait_for_it_in_the_block(sim, builds):
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20, confirm=False) as update:
        with transport(sim) as link:
            link.stage(new)
        assert update.wait_pending() == "the application's image list"
    assert update.report.confirmed is False
    assert Dfu(sim.unit).revert().hash == builds["1.0.0"].hash


def test_the_application_may_reset_by_itself(sim, builds):
    new = builds["1.1.0"]
    with Dfu(sim.unit).staged(new, timeout=20, reset=False) as update, transport(sim) as link:
        link.stage(new)
        update.wait_pending()
        link.ask("reboot")
    assert update.report.verified
    assert sim.resets()["SREQ"] >= 1


def test_a_transfer_that_did_not_schedule_is_told(sim, builds):
    new = builds["1.1.0"]
    with (
        pytest.raises(
            HashMismatch, match=r"not seen pending within 1 s: in slot 1, and not pending.*dfu_target_schedule"
        ),
        Dfu(sim.unit).staged(new, timeout=1),
        transport(sim) as link,
    ):
        link.send(new.image.data)


def test_nothing_came(sim, builds):
    told = r"not in slot 1; slot 1 holds no image\. Look at whether the transfer ended"
    with pytest.raises(HashMismatch, match=told), Dfu(sim.unit).staged(builds["1.1.0"], timeout=1):
        pass


def test_an_image_that_was_pending_before_is_named(sim, builds):
    """What the transfer did is then not proved, only what was there afterwards."""
    new = builds["1.1.0"]
    with transport(sim) as link:
        link.stage(new)
    with Dfu(sim.unit).staged(new, timeout=5) as update:
        pass
    assert update.report.verified
    assert any("this very image was pending already" in note for note in update.report.notes)


def test_what_runs_already_cannot_be_staged(sim, builds):
    told = r"runs version 1\.0\.0.* already"
    with pytest.raises(UpdateRefused, match=told), Dfu(sim.unit).staged(builds["1.0.0"], timeout=5):
        pytest.fail("the transfer began")


def test_a_staged_build_that_faults_is_told(sim, builds):
    bad, reports = builds["9.9.9"], []
    dfu = Dfu(sim.unit, done=reports.append)
    with pytest.raises(NotBooted) as failed, dfu.staged(bad, timeout=20), transport(sim) as link:
        link.stage(bad)
    assert "reverted: version 1.0.0" in str(failed.value)
    assert "FATAL ERROR" in str(failed.value)
    assert [(report.verified, report.via) for report in reports] == [(False, "staged")]


def test_an_error_in_the_block_is_the_tests_own(sim, builds):
    reports = []
    with pytest.raises(ZeroDivisionError), Dfu(sim.unit, done=reports.append).staged(builds["1.1.0"], timeout=5):
        1 / 0  # noqa: B018 - fails as a transfer may
    assert reports == []


def test_without_a_server_recovery_shows_slot_1(silent, builds):
    """Not whether it is pending: that is said."""
    new = builds["1.1.0"]
    with Dfu(silent.unit).staged(new, timeout=20) as update, transport(silent) as link:
        link.stage(new)
    report = update.report
    assert update.pending == "recovery's image list: in slot 1, pending not visible"
    assert (report.verified, report.running, report.confirmed) == (False, "console", None)
    assert report.proof == "the application lists no images: only its banner was seen"
    assert silent.admin.flash_hash().image_hash == new.hash


def test_without_a_server_a_console_pattern_is_the_weakest_proof(silent, builds):
    new = builds["1.1.0"]
    with Dfu(silent.unit).staged(new, timeout=20, pending="update (staged|ready)") as update, transport(silent) as link:
        link.stage(new)
        silent.admin.noise(b"app: update ready\r\n")
    assert update.pending == "the console pattern 'update (staged|ready)': the weakest proof, the board's own words"
    assert update.report.running == "console"
    assert silent.admin.flash_hash().image_hash == new.hash


def test_a_console_pattern_that_does_not_come(silent, builds):
    told, dfu = "the console did not show 'never'", Dfu(silent.unit)
    with pytest.raises(HashMismatch, match=told), dfu.staged(builds["1.1.0"], timeout=0.5, pending="never"):
        pass
