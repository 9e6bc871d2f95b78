"""What uploads may assume of a bootloader, and what is kept of what they showed."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from pytest_nrfdfu.board.limits import findings, key, limits_for
from pytest_nrfdfu.board.receive_size import PaddedImageStateRead
from pytest_nrfdfu.board.upload_words import size_note, window_outcome
from pytest_nrfdfu.board.window_memory import Known, WindowMemory
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.exchange import Sequence
from pytest_nrfdfu.smp.regulator import Verdict
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


LOSSY = Known(window="lossy", losses=2, failures=1, when="2026-11-23")


@pytest.mark.parametrize(("failures", "waits"), [(0, 8), (1, 8), (2, 16), (3, 32), (5, 128), (6, 128), (2000, 128)])
def test_a_failed_trial_is_repeated_after_some_uploads_ever_more_of_them(failures, waits):
    assert Known(window="lossy", failures=failures, waited=0).held_back == waits
    last = limits(known=Known(window="lossy", failures=failures, waited=waits - 1))
    again = limits(known=Known(window="lossy", failures=failures, waited=waits))
    assert (last.line_buffers, last.trial, last.held_back) == (None, False, True)
    assert (again.line_buffers, again.trial, again.held_back) == (8, True, False)


def test_uploads_without_a_window_are_counted_and_say_why():
    given = limits(known=LOSSY)
    done = upload(given)
    assert findings(done, given) == {"waited": 1}
    assert window_outcome(done) == (
        "one chunk at a time (a trial of a window lost 2 on 2026-11-23; tried again after 7 more uploads, or by nrfdfu"
        " doctor --measure-window --build PATH)"
    )
    last = upload(limits(known=replace(LOSSY, waited=7)))
    assert "tried again in the next upload" in window_outcome(last)


@pytest.mark.parametrize(("window", "profile"), [(1, "ncs-2.6"), (2, "ncs-2.6"), ("auto", "ncs-2.4")])
def test_where_the_trial_is_not_the_reason_it_is_not_told(window, profile):
    given = limits(window, LOSSY, profile)
    done = upload(given)
    assert findings(done, given) == {}
    assert "trial" not in window_outcome(done)


def test_a_second_failure_counts_and_success_makes_up_for_all():
    again = limits(known=replace(LOSSY, waited=8))
    failed = upload(again)
    failed.counters.trial_losses += failed.regulator.lost()
    noted = findings(failed, again)
    assert (noted["window"], noted["failures"], noted["waited"], noted["losses"]) == ("lossy", 2, 0, 1)
    assert window_outcome(failed).endswith("tried and given up (2 times in a row)")
    clean = upload(again)
    for _ in range(200):
        clean.regulator.passed(600)
    assert replace(LOSSY, **findings(clean, again)) == Known(window="clean", when=noted["when"])


def test_a_repeated_trial_may_take_several_uploads():
    again = limits(known=replace(LOSSY, waited=8))
    first = upload(again)
    for _ in range(60):
        first.regulator.passed(600)
    known = replace(LOSSY, waited=8, **(findings(first, again)))
    assert (known.window, known.failures, known.carried) == ("lossy", 1, 36_000)
    second = upload(limits(known=known))
    assert second.regulator.carried == 36_000
    for _ in range(60):
        second.regulator.passed(600)
    assert findings(second, second.limits)["window"] == "clean"


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


def test_a_file_of_an_older_version_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": {"window": "lossy", "full": false, "losses": 1, "carried": 0, "receive_size": null}}')
    assert WindowMemory(path).get("a").held_back == 8


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
        *['{"a": {"losses": null}}', '{"a": {"full": 1}}', '{"a": {"failures": -1}}', '{"a": {"when": 3}}'],
        *['{"a": {"waited": "1"}}', '{"a": {"size_when": null}}'],
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
    assert json.loads((tmp_path / "x.json").read_text()) == {"unit, ncs-2.6": asdict(Known(window="lossy", losses=1))}


# --- what an upload shows -------------------------------------------------------------------------------------------


def asdict_of_trial(**fields):
    """The fields of `Known` about a trial."""
    return {name: value for name, value in asdict(Known(**fields)).items() if "size" not in name}


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
    assert findings(done, done.limits) == asdict_of_trial(window="clean", when=ANY)
    assert window_outcome(done).endswith("chunks in flight: tried and kept")


def test_what_cannot_be_remembered_is_not_said_to_be_kept(tmp_path):
    done = upload()
    for _ in range(200):
        done.regulator.passed(600)
    (tmp_path / "file").write_text("")
    kept, lost, none = WindowMemory(tmp_path / "x.json"), WindowMemory(tmp_path / "file" / "x.json"), WindowMemory()
    for memory in (kept, lost, none):
        memory.note("a", window="clean")
    assert window_outcome(done, kept).endswith(": tried and kept")
    assert f"NOT remembered: {tmp_path / 'file' / 'x.json'} cannot be written (" in window_outcome(done, lost)
    assert window_outcome(done, none).endswith("NOT remembered: pytest's cache is off or cannot be written")


def test_a_trial_goes_on_in_the_next_upload():
    first = upload()
    for _ in range(60):
        first.regulator.passed(600)
    assert findings(first, first.limits) == asdict_of_trial(carried=36_000)
    second = upload(limits(known=Known(carried=36_000)))
    for _ in range(60):
        second.regulator.passed(600)
    assert findings(second, second.limits) == asdict_of_trial(window="clean", when=ANY)


def test_a_lossy_trial_is_noted():
    done = upload()
    done.counters.trial_losses += done.regulator.lost()
    assert findings(done, done.limits) == asdict_of_trial(window="lossy", losses=1, failures=1, when=ANY)
    assert window_outcome(done).endswith("chunks in flight: tried and given up")


def test_a_loss_that_was_a_size_is_not_counted_as_a_window_s():
    done = upload(limits(known=Known(window="lossy", failures=2)))
    done.regulator.verdict, done.regulator.has_window = Verdict.LOSSY, True
    assert "(3 times in a row)" in window_outcome(done)
    done.counters.too_large = 1
    assert "in a row" not in window_outcome(done)


def test_an_application_s_size_is_its_own_matter():
    (told,) = size_note(upload(limits(known=Known(receive_size=512))), "application")
    assert told.endswith("; look at its CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE")
    done = upload()
    done.counters.too_large = 1
    (told,) = size_note(done, "application")
    assert told.startswith("the application takes packets of")
    assert "bootloader" not in told


def test_a_smaller_packet_is_noted():
    done = upload()
    done.limit_packets(508)
    assert findings(done, Limits()) == {"receive_size": 512, "size_when": ANY}


def test_a_size_that_was_found_is_told_in_every_run():
    given = limits(known=Known(receive_size=512, size_when="2026-11-23"))
    (told,) = size_note(upload(given))
    assert told == (
        "packets of 508 bytes at most: larger ones met silence on 2026-11-23, although the receive size was taken to be"
        " 1024; say receive_size = 512 in [bootloader]"
    )
    assert size_note(upload(limits())) == []
    assert size_note(upload(limits(known=Known(receive_size=2048)))) == []


def test_a_size_that_did_not_fit_is_no_loss_of_the_window():
    """The first chunk met silence, with nothing in flight behind it."""
    done = upload(limits())
    done.counters.trial_losses += done.regulator.lost()
    done.limit_packets(508)
    assert findings(done, limits()) == {"receive_size": 512, "size_when": ANY}


def test_a_window_that_was_closed_is_told():
    done = upload(Limits(line_buffers=8))
    done.regulator.lost()
    assert window_outcome(done).endswith("chunks in flight: closed once after a loss")


@pytest.mark.parametrize("size", [*range(20, 50), *range(260, 275), 508, 1020])
def test_a_padded_request_is_as_long_as_asked(size):
    packet = encode(PaddedImageStateRead(size), 0)
    assert size - 1 <= len(packet) <= size
