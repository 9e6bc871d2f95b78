"""`nrfdfu doctor` and windows: what is remembered is shown, and a window is measured with the user's own build."""

import json
import random

import firmware
import pytest

from pytest_nrfdfu import cli
from pytest_nrfdfu.board.window_memory import WindowMemory
from pytest_nrfdfu.image.mcuboot import parse

BENCH = """
board = "bench"
[sim]
baudrate = 0
flash_timing = "none"
image = "old.bin"
{sim}
[recovery]
timeout = 5.0
{more}
"""
LARGE, SMALL, TINY = (firmware.sign(random.Random(size).randbytes(size)) for size in (70_000, 30_000, 2_000))
PYTEST_INI = "[pytest]\ncache_dir = kept\n"


@pytest.fixture
def bench(tmp_path, capfd, monkeypatch):
    """Runs the doctor in a folder of pytest runs; gives exit status, what it printed, and the part about windows."""
    for name, image in {"old": firmware.signed_app(), "large": LARGE, "small": SMALL, "tiny": TINY}.items():
        (tmp_path / f"{name}.bin").write_bytes(image)
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    monkeypatch.chdir(tmp_path)

    def run(*options, sim="", more=""):
        (tmp_path / "bench.toml").write_text(BENCH.format(sim=sim, more=more))
        status = cli.main(["doctor", "--board", "bench", "--config", "bench.toml", "--json", *options])
        told = json.loads(capfd.readouterr().out)
        steps = {step["name"]: step for step in told["steps"]}
        return status, told, steps

    return run


def measure(build):
    return ("--measure-window", "--build", f"{build}.bin")


def remembered(tmp_path, key):
    return WindowMemory(tmp_path / "kept" / "d" / "nrfdfu" / "uploads.json").get(key)


def test_a_window_that_loses_nothing_is_remembered_where_pytest_looks(bench, tmp_path):
    status, told, steps = bench(*measure("large"))
    assert status == 0
    assert f"a window of 2 chunks carried {len(LARGE)} bytes and lost nothing" in steps["window"]["seen"]
    assert remembered(tmp_path, told["window"]["holds_for"]).window == "clean"
    status, told, steps = bench()
    assert status == 0
    assert steps["window"]["seen"] == "measured: a window of 2 chunks lost nothing, and uploads use it"
    assert (told["window"]["window"], told["window"]["losses"]) == ("clean", 0)


def test_small_images_are_sent_until_a_trials_bytes_are_together(bench, tmp_path):
    status, told, steps = bench(*measure("small"))
    assert status == 0
    assert f"carried {3 * len(SMALL)} bytes in 3 uploads and lost nothing" in steps["window"]["seen"]
    assert remembered(tmp_path, told["window"]["holds_for"]).window == "clean"


def test_a_measurement_begins_anew(bench, tmp_path):
    """What a trial in a test has carried so far does not count."""
    key = bench()[1]["window"]["holds_for"]
    WindowMemory(tmp_path / "kept" / "d" / "nrfdfu" / "uploads.json").note(key, carried=60_000)
    assert f"carried {3 * len(SMALL)} bytes in 3 uploads" in bench(*measure("small"))[2]["window"]["seen"]


def test_a_window_that_loses_something_is_remembered_too_and_may_be_measured_again(bench):
    status, told, steps = bench(*measure("large"), sim="line_loss = 0.01")
    assert status == 0
    assert "lost something" in steps["window"]["seen"]
    assert "measure again" in steps["window"]["advice"]
    assert told["window"]["window"] == "lossy"
    again = bench()
    assert "one chunk at a time; tried again after 8 more uploads, or by nrfdfu" in again[2]["window"]["seen"]
    assert (again[1]["window"]["failures"], again[1]["window"]["uploads_until_next_trial"]) == (1, 8)
    assert bench(*measure("large"))[1]["window"]["window"] == "clean"


def test_a_cache_that_cannot_be_written_is_told(bench, tmp_path):
    (tmp_path / "kept").write_text("not a folder")
    status, told, steps = bench(*measure("small"))
    assert status == 0
    assert "lost nothing" in steps["window"]["seen"]
    (detail,) = steps["window"]["details"]
    assert detail.startswith("NOT remembered: ")
    assert told["window"]["window"] == "clean"


def test_a_full_window_is_told_as_one(bench, tmp_path):
    key = bench()[1]["window"]["holds_for"]
    WindowMemory(tmp_path / "kept" / "d" / "nrfdfu" / "uploads.json").note(key, window="clean", full=True)
    _, told, steps = bench()
    assert steps["window"]["seen"].startswith("measured: a full window (flow control) of 2 chunks lost nothing")
    assert told["window"]["full"] is True


@pytest.mark.parametrize("window", [1, 2, '"auto"'])
def test_a_size_that_was_found_is_told_whatever_the_window(bench, tmp_path, window):
    more = f"[bootloader]\nwindow = {window}"
    key = bench(more=more)[1]["window"]["holds_for"]
    memory = WindowMemory(tmp_path / "kept" / "d" / "nrfdfu" / "uploads.json")
    memory.note(key, receive_size=512, size_when="2026-11-23")
    seen = bench(more=more)[2]["window"]["seen"]
    told = "the bootloader takes requests of 508 bytes, found on 2026-11-23: say receive_size = 512 in [bootloader]"
    assert seen.endswith(told)


def test_what_is_remembered_of_another_bootloader_is_told_too(bench, tmp_path):
    """Tests with a build directory reckon with the bootloader that it describes; the doctor has no build."""
    key = bench()[1]["window"]["holds_for"]
    memory = WindowMemory(tmp_path / "kept" / "d" / "nrfdfu" / "uploads.json")
    other = key.replace("ncs-2.6", "ncs-2.9")
    memory.note(other, window="lossy", losses=1)
    memory.note("another, ncs-2.6", window="clean")
    _, _, steps = bench()
    assert steps["window"]["seen"].startswith("not measured: ")
    assert steps["window"]["details"] == [f"{other}: a window lost something"]


def test_nothing_is_uploaded_unless_asked_for(bench):
    _, told, steps = bench()
    assert steps["window"]["seen"].startswith("not measured: ")
    assert "--measure-window --build PATH" in steps["window"]["seen"]
    assert parse(firmware.signed_app()).hash.hex()[:12] in steps["image list"]["seen"]
    assert told["window"]["window"] == "unknown"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('[bootloader]\nprofile = "ncs-2.4"', "a queued request waits"),
        ("[bootloader]\nline_buffers = 2", "2 line buffers are too few"),
        ("[bootloader]\nwindow = 1", "window = 1 in [bootloader] says so"),
    ],
)
def test_where_there_is_no_window_nothing_is_uploaded(bench, more, reason):
    sim = 'bootloader = "ncs-2.4"' if "ncs-2.4" in more else ""
    status, told, steps = bench(*measure("large"), sim=sim, more=more)
    assert status == 0
    assert steps["window"]["status"] == "skipped"
    assert reason in steps["window"]["seen"]
    assert told["window"]["window"] == "unknown"
    assert steps["leave recovery"]["status"] == "fine"


def test_a_window_that_is_configured_is_measured_all_the_same(bench):
    _, told, steps = bench(*measure("large"), more="[bootloader]\nwindow = 2")
    assert told["window"]["window"] == "clean"
    assert steps["window"]["advice"] == "window = 2 in [bootloader] holds all the same."


def test_an_image_that_the_board_does_not_take_is_wrong_and_not_started(bench):
    status, _, steps = bench(*measure("large"), sim=f'public_key = "{firmware.private_key("ed25519")}"')
    assert status == 1
    assert steps["window"]["status"] == "wrong"
    assert "MCUboot lists only images that it would boot" in steps["window"]["advice"] + steps["window"]["seen"]
    assert steps["leave recovery"]["status"] == "skipped"
    assert "left in recovery" in steps["leave recovery"]["seen"]


@pytest.mark.parametrize("build", ["tiny", "missing"])
def test_a_build_that_does_not_do_is_refused_before_anything_is_touched(bench, build):
    status, told, steps = bench(*measure(build))
    assert status == 2
    assert list(steps) == ["build"]
    assert told["window"] is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--measure-window"], "needs to know which: add --build PATH"),
        (["--build", "large.bin"], "without it nothing is uploaded"),
    ],
)
def test_the_two_options_belong_together(bench, capfd, options, told):
    assert cli.main(["doctor", "--board", "bench", *options]) == 2
    assert told in " ".join(capfd.readouterr().err.split())
