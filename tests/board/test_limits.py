"""What uploads may assume of a bootloader, and what is kept of what they showed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nrfdfu.board.limits import findings, key, limits_for, window_outcome
from pytest_nrfdfu.board.receive_size import PaddedImageStateRead
from pytest_nrfdfu.board.window_memory import Known, WindowMemory
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.timing import Link, RoundTrip
from pytest_nrfdfu.smp.upload import Limits, Upload

NOTHING = Known()
ON_TRIAL = Limits(line_buffers=8, trial=True)


def config(window="auto", flow_control="none"):
    return BoardConfig.model_validate(
        {
            "board": "dk",
            "uart": {"port": "/dev/null", "flow_control": flow_control},
            "recovery": {"entry": ["smp"]},
            "bootloader": {"window": window},
        }
    )


def limits(window="auto", known=NOTHING, profile="ncs-2.6", *, flow_control="none", built_in=False):
    return limits_for(config(window, flow_control), PROFILES[profile], 1024, known, flow_control=built_in)


def test_a_window_is_tried_first():
    found = limits()
    assert (found.line_buffers, found.window, found.trial) == (8, 2, True)


def test_a_window_that_was_clean_stays():
    found = limits(known=Known(window="clean"))
    assert (found.line_buffers, found.window, found.trial) == (8, 2, False)


def test_a_window_that_lost_something_is_not_used_again():
    found = limits(known=Known(window="lossy", losses=1))
    assert (found.line_buffers, found.trial) == (None, False)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_a_window_that_is_asked_for_is_used_whatever_is_known(window):
    found = limits(window, Known(window="lossy"))
    assert (found.line_buffers, found.window, found.trial) == (8, window, False)


def test_one_chunk_at_a_time():
    assert limits(1, Known(window="clean")).line_buffers is None


@pytest.mark.parametrize("profile", ["ncs-2.4", "ncs-2.2", "ncs-1.9"])
@pytest.mark.parametrize("window", ["auto", 2])
def test_bootloaders_before_ncs_2_6_never_get_a_window(profile, window):
    """A queued command waits there for the next byte."""
    assert limits(window, Known(window="clean"), profile).line_buffers is None


@pytest.mark.parametrize(
    ("host", "built_in", "full"),
    [("rtscts", True, True), ("rtscts", False, False), ("none", True, False), ("none", False, False)],
)
def test_a_full_window_needs_flow_control_at_both_ends(host, built_in, full):
    assert limits(flow_control=host, built_in=built_in).flow_control is full


@pytest.mark.parametrize(
    ("known", "now_full", "trial", "window"),
    [
        (Known(window="clean"), True, True, True),
        (Known(window="clean", full=True), True, False, True),
        (Known(window="clean", full=True), False, False, True),
        (Known(window="lossy", full=True), False, True, True),
        (Known(window="lossy", full=True), True, False, False),
        (Known(window="lossy"), True, False, False),
    ],
)
def test_a_full_window_is_earned_by_itself(known, now_full, trial, window):
    """One that was clean because nothing is sent during an erase says nothing of flow control."""
    found = limits(known=known, flow_control="rtscts", built_in=now_full)
    assert (found.trial, found.line_buffers is not None) == (trial, window)


def test_what_one_kind_of_window_carried_does_not_count_for_the_other():
    known = Known(carried=60_000, receive_size=512)
    found = limits(known=known, flow_control="rtscts", built_in=True)
    assert (found.trial, found.trial_carried, found.max_packet) == (True, 0, 508)


def test_a_receive_size_that_was_found_counts():
    assert limits().max_packet == 1020
    assert limits(known=Known(receive_size=512)).max_packet == 508


def test_a_measurement_holds_for_one_unit_bootloader_and_rate():
    base, profile = config(), PROFILES["ncs-2.6"]
    keys = {
        key("a", base, profile),
        key("b", base, profile),
        key("a", base, PROFILES["mcuboot-main"]),
        key("a", base.model_copy(update={"uart": base.uart.model_copy(update={"baudrate": 9600})}), profile),
        key("a", config(flow_control="rtscts"), profile),
    }
    assert len(keys) == 5
    assert key("a", config(2), profile) == key("a", base, profile)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_what_is_noted_is_there_in_the_next_run(tmp_path):
    path = tmp_path / "nrfdfu" / "uploads.json"
    memory = WindowMemory(path)
    assert memory.get("a") == Known()
    memory.note("a", window="clean")
    memory.note("a", receive_size=512)
    assert WindowMemory(path).get("a") == Known(window="clean", receive_size=512)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


def test_two_processes_keep_each_others_notes(tmp_path):
    one, other = WindowMemory(tmp_path / "x.json"), WindowMemory(tmp_path / "x.json")
    one.note("a", window="clean")
    other.note("b", window="lossy", losses=1)
    again = WindowMemory(tmp_path / "x.json")
    assert (again.get("a").window, again.get("b").window) == ("clean", "lossy")


NOTING = """
import sys
from pathlib import Path
from pytest_nrfdfu.board.window_memory import WindowMemory
for number in range(25):
    WindowMemory(Path(sys.argv[1])).note(f"{sys.argv[2]}-{number}", window="clean")
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path):
    """As the workers of a run on a rack do."""
    path = tmp_path / "x.json"
    command = [sys.executable, "-c", NOTING, str(path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(json.loads(path.read_text())) == 3 * 25


@pytest.mark.parametrize(
    "content",
    [
        *["", "{", "[]", "[" * 100_000, "\xff", '{"a": 1}', '{"a": {"window": "maybe"}}', '{"a": {"other": 1}}'],
        *['{"a": {"receive_size": "x"}}', '{"a": {"receive_size": 8}}', '{"a": {"carried": -1}}'],
        *['{"a": {"losses": null}}', '{"a": {"full": 1}}'],
    ],
)
def test_a_file_that_is_not_ours_is_as_good_as_none(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    memory = WindowMemory(path)
    assert memory.get("a") == Known()
    memory.note("a", window="clean")
    assert WindowMemory(path).get("a").window == "clean"


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path):
    (tmp_path / "file").write_text("")
    memory = WindowMemory(tmp_path / "file" / "x.json")
    memory.note("a", window="clean")
    assert memory.get("a").window == "clean"
    assert not memory.written


def test_what_cannot_be_written_holds_in_this_process(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    WindowMemory(path).note("a", carried=1000)
    memory = WindowMemory(path)
    monkeypatch.setattr(Path, "replace", refuse)
    memory.note("a", window="lossy", carried=0)
    memory.note("b", receive_size=512)
    assert (memory.get("a"), memory.written) == (Known(window="lossy"), False)
    monkeypatch.undo()
    assert WindowMemory(path).get("a") == Known(carried=1000)
    memory.note("b", window="clean")
    assert memory.written
    assert WindowMemory(path).get("a") == Known(window="lossy")
    assert {file.name for file in tmp_path.iterdir()} == {"x.json", "x.json.lock"}


def refuse(*_):
    raise PermissionError


def test_the_file_is_for_people_too(tmp_path):
    WindowMemory(tmp_path / "x.json").note("unit, ncs-2.6", window="lossy", losses=1)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "unit, ncs-2.6": {"window": "lossy", "full": False, "losses": 1, "carried": 0, "receive_size": None}
    }


# --- what an upload shows -------------------------------------------------------------------------------------------


def upload(given=ON_TRIAL):
    return Upload(bytes(200_000), sequences=Sequence(), link=Link(), round_trip=RoundTrip(), limits=given)


def test_an_upload_without_a_trial_shows_nothing():
    assert findings(upload(), Limits()) == {}
    assert window_outcome(upload(Limits())) == "one chunk at a time"
    assert window_outcome(upload()).endswith("chunks in flight: on trial")


def test_a_clean_trial_is_noted():
    done = upload()
    for _ in range(200):
        done.regulator.passed(600)
    assert findings(done, done.limits) == {"window": "clean", "full": False, "losses": 0, "carried": 0}
    assert window_outcome(done).endswith("chunks in flight: tried and kept")


def test_a_trial_goes_on_in_the_next_upload():
    first = upload()
    for _ in range(60):
        first.regulator.passed(600)
    assert findings(first, first.limits) == {"window": "unknown", "full": False, "losses": 0, "carried": 36_000}
    second = upload(limits(known=Known(carried=36_000)))
    for _ in range(60):
        second.regulator.passed(600)
    assert findings(second, second.limits) == {"window": "clean", "full": False, "losses": 0, "carried": 0}


def test_a_lossy_trial_is_noted():
    done = upload()
    done.counters.trial_losses += done.regulator.lost()
    assert findings(done, done.limits) == {"window": "lossy", "full": False, "losses": 1, "carried": 0}
    assert window_outcome(done).endswith("chunks in flight: tried and given up")


def test_a_smaller_packet_is_noted():
    done = upload()
    done.limit_packets(508)
    assert findings(done, Limits()) == {"receive_size": 512}


def test_a_size_that_did_not_fit_is_no_loss_of_the_window():
    """The first chunk met silence, with nothing in flight behind it."""
    done = upload(limits())
    done.counters.trial_losses += done.regulator.lost()
    done.limit_packets(508)
    assert findings(done, limits()) == {"receive_size": 512}


def test_a_window_that_was_closed_is_told():
    done = upload(Limits(line_buffers=8))
    done.regulator.lost()
    assert window_outcome(done).endswith("chunks in flight: closed once after a loss")


@pytest.mark.parametrize("size", [*range(20, 50), *range(260, 275), 508, 1020])
def test_a_padded_request_is_as_long_as_asked(size):
    packet = encode(PaddedImageStateRead(size), 0)
    assert size - 1 <= len(packet) <= size
