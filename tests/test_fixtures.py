"""The fixtures on simulated boards: flashed, boards, recovery, smp, console."""

import json
import re

import pytest
import suites

COUNTERS = """
import pytest
from pytest_nrfdfu.report import POOL
from pytest_nrfdfu.sim_admin import SimAdmin

@pytest.fixture
def counters(board, request):
    unit = board._unit
    with SimAdmin(request.config.stash[POOL].simulator(unit).admin) as admin:
        yield admin.counters
"""
"""Of the simulated board: what really happened."""


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


FLASHED = """
import pytest

pytestmark = pytest.mark.usefixtures("build")  # tests are ordered by build

def test_first(flashed, build, counters):
    assert counters()["uploads"] == 1
    assert flashed.console.expect("Booting")

def test_again(flashed, counters):
    assert counters()["uploads"] == 1
    assert not counters()["in_recovery"]

def test_probe_write_makes_it_doubtful(flashed, request):
    flashed.probe.write32(0x20000000, 1)

def test_looked_at_again(flashed, counters):
    assert counters()["uploads"] == 1
    assert flashed.console.text.count("Booting") >= 1

def test_fails(flashed):
    assert False

def test_looked_at_after_a_failure(flashed, counters):
    assert counters()["uploads"] == 1

def test_other_on_it(recovery, two):
    recovery.upload(two.image)
    assert recovery.verify(two.image).verified

def test_uploaded_again(flashed, build, dfu, counters):
    assert counters()["uploads"] == 3
    assert dfu.enter().verify(build.image).hash == build.hash
"""

TWO = """
from pytest_nrfdfu.image.build import load

@pytest.fixture
def two(request):
    return load(request.config.rootpath / "two.bin")
"""


def test_flashed_uploads_only_when_needed(suite):
    """Once over many tests; looked at again after a failure or a probe write; again after another image."""
    suite.pytester.makeconftest(COUNTERS + TWO)
    suites.app(suite.path, "2.0.0", name="two.bin")
    suite.tests(FLASHED)
    result = suite.run("--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=7, failed=1)
    rows = [line.split()[6:8] for line in result.outlines if re.match(r"fast +app +app +1\.2\.3 ", line)]
    assert [" ".join(row) for row in rows if row[0] == "none"] == ["none sent"] * 2
    assert [row[0] for row in rows] == ["5552", "none", "none", "5552"]
    result.stdout.fnmatch_lines(["fast app: the board held this image already: nothing was uploaded"])


def test_reflash_always(suite):
    suite.pytester.makeconftest(COUNTERS)
    suite.tests("@__import__('pytest').mark.parametrize('n', [1, 2])\n"
                "def test_it(flashed, counters, n):\n    assert counters()['uploads'] == n\n")  # fmt: skip
    result = suite.run("--board", "fast", "--build", "app.bin", "--nrfdfu-reflash", "always")
    result.assert_outcomes(passed=2)


def test_reflash_never(suite, monkeypatch):
    """Nothing is uploaded: an error if the board holds something else, and its application runs if it does not."""
    monkeypatch.setenv("NRFDFU_REFLASH", "never")
    suite.pytester.makeconftest(COUNTERS)
    suite.tests(
        """
def test_empty(request, build):
    request.getfixturevalue("flashed")

def test_nothing_sent(counters):
    assert counters()["uploads"] == 0

def test_held(dfu, build, request, counters):
    dfu.update(build)
    dfu.unit.forget()
    flashed = request.getfixturevalue("flashed")
    assert counters()["uploads"] == 1
    assert flashed.console.text.count("Booting") == 2
"""
    )
    result = suite.run("--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*HashMismatch: --nrfdfu-reflash never forbids an upload, and app 1.2.3*"])


SEVERAL = """
import pytest
from pytest_nrfdfu.errors import SmpTimeout

pytestmark = pytest.mark.usefixtures("build")  # tests are ordered by build

def test_boards(boards):
    assert [board.unit for board in boards] == ["fast", "other"]
    assert len({board.config.uart.port for board in boards}) == 2
    for board in boards:
        board.lines["recovery"].press()
        board.probe.reset("pin")
    for board in boards:
        assert board.smp.images(tries=20).images == ()

@pytest.mark.board("fast")
def test_lines_were_released(board, counters):
    state = counters()
    assert (state["recovery_pin_low"], state["nreset_low"]) == (False, False)

@pytest.mark.board("fast")
def test_recovery(recovery, build, smp):
    recovery.upload(build.image)
    assert recovery.verify(build.image).hash == build.hash
    assert smp.images().find().version == "1.2.3"
    assert recovery.smp is smp

@pytest.mark.board("fast")
def test_booted_afterwards(board, counters):
    assert not counters()["in_recovery"]
    with pytest.raises(SmpTimeout):
        board.smp.images(tries=1, timeout=0.1)

@pytest.mark.board("fast")
def test_console_is_that_of_this_test(flashed, console):
    assert console.expect(r"^\\*\\*\\* Booting (.*) \\*\\*\\*$").group(1)
    assert console.text.count("Booting") == 1
    assert any("Booting" in line for line in console.lines)

@pytest.mark.board("fast")
def test_fresh_handle(board, console):
    assert console.text == ""
    assert board.console.lines == []
"""


def test_boards_recovery_and_console(suite):
    suite.pytester.makeconftest(COUNTERS)
    suite.add_board("other", suites.FAST)
    suite.tests(SEVERAL)
    result = suite.run("-v", "--board", "other", "--board", "fast", "--build", "app.bin")
    result.assert_outcomes(passed=6)


VANISHES = """
import pytest
from pytest_nrfdfu.errors import PortGone

pytestmark = pytest.mark.usefixtures("build")  # tests are ordered by build


def test_reset(recovery, board, build):
    recovery.upload(build.image)
    board.probe.reset("pin")


def test_reset_and_seen(recovery, board):
    board.probe.reset("pin")
    board._unit.uart._thread.join(10)
    assert not board._unit.uart.is_open


def test_gone_for_good(recovery, board):
    def gone(deadline):
        raise PortGone("it stays away")

    board._unit.uart.close()
    board._unit.uart.reopen = gone


def test_is_back(board):
    del board._unit.uart.reopen


def test_works_still(recovery):
    assert recovery.images()
"""


def test_a_recovery_whose_port_comes_and_goes_is_left_quietly(suite):
    """A port that a reset took away is no error of the bench, and may stay away with what runs now."""
    # What an application without SMP server prints at its start is over before its port is there.
    table = 'uart_vanishes = true\napplication_smp = "full"\n'
    suite.add_board("usb", suites.FAST.replace("\n[boot]\nsmp = false\n", table))
    suite.tests(VANISHES)
    result = suite.run("--board", "usb", "--build", "app.bin", "--nrfdfu-retire-after", "1")
    result.assert_outcomes(passed=5)


RELEASED = """
import pytest
from pytest_nrfdfu.board.board import Board

released, broken = Board.release, []


def release(self):
    released(self)
    if self in broken:
        raise RuntimeError("its port is gone")


Board.release = release


def test_all(boards):
    for board in boards:
        board.lines["recovery"].press()
    broken.extend(boards)


def test_each(board, counters):
    assert not counters()["recovery_pin_low"]
"""


def test_every_board_of_several_is_released_whatever_the_others_do(suite):
    suite.pytester.makeconftest(COUNTERS)
    suite.add_board("other", suites.FAST)
    suite.tests(RELEASED)
    result = suite.run("--board", "other", "--board", "fast")
    result.assert_outcomes(passed=3, errors=1)


STAGED = """
board = "staged"
[sim]
image = "{image}"
baudrate = 0
flash_timing = "none"
application_smp = "full"
staging = true
"""


def test_a_staged_update_whose_transfer_fails_is_one_of_the_runs(suite):
    """In the summary, in the test's own report and in the record, with what the board's list shows then."""
    suite.add_board("staged", STAGED.format(image=suites.app(suite.path, "1.0.0", name="old.bin")))
    suite.tests(
        """
def test_it(board, dfu, build):
    board.reset()
    with dfu.staged(build, timeout=20):
        raise ConnectionError("the gateway hung up")
"""
    )
    result = suite.run("--board=staged", "--build=app.bin", "--nrfdfu-record=records")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * ConnectionError: the gateway hung up",
            "staged * staged (move) * none sent * NOT: the transfer in the block failed * not started",
            "staged app: the block ended with ConnectionError: the gateway hung up; then the application's image * *",
        ]
    )
    (file,) = (suite.path / "records").glob("*.jsonl")
    (update,) = [line for line in map(json.loads, file.read_text().splitlines()) if line["record"] == "update"]
    assert (update["via"], update["verified"], update["proof"]) == (
        "staged",
        False,
        "the transfer in the block failed",
    )
    assert re.search(r"showed version 1\.0\.0 \(hash \w+\) in slot 0 and no image in slot 1", update["notes"][-1])


SWAPS = """
[sim]
image = "{image}"
baudrate = 1_000_000
flash_timing = "datasheet"
application_smp = "full"

[boot]
timeout = 1
"""

ON_TRIAL = """
import pytest

pytestmark = pytest.mark.usefixtures("build")  # tests are ordered by build


def test_fails_while_an_image_is_on_trial(board, dfu, build):
    assert dfu.update(build, via="application", confirm=False).verified
    assert False


def test_next(board, dfu, two):
    assert board.console.boots[-1].application_version == "1.0.0"
    assert dfu.update(two, via="application").verified
"""


def test_the_next_test_meets_no_board_that_mcuboot_swaps_on(suite):
    """The way back takes longer than a boot is waited for, and an update then would be refused."""
    suite.pytester.makeconftest("import pytest\n" + TWO)
    old = suites.app(suite.path, "1.0.0", 20_000, name="old.bin")
    suites.app(suite.path, "1.2.3", 20_000)
    suites.app(suite.path, "2.0.0", name="two.bin")
    suite.add_board("swaps", SWAPS.format(image=old) + suites.SLOT)
    suite.tests(ON_TRIAL)
    result = suite.run("--board", "swaps", "--build", "app.bin")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*swaps: the image that ran was on trial: MCUboot may swap for up to 55 s before the application starts",
            "*swaps: the image that ran was on trial: the application runs, waited *",
        ]
    )
