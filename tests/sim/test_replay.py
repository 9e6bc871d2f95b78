"""The simulated MCUboot answers byte for byte like the real one, and leaves the same flash."""

import gzip
import json
from pathlib import Path

import pytest

from pytest_nrfdfu.sim import replay
from pytest_nrfdfu.sim.replay import Recording, load_exclusions

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "mcuboot-transcripts"
FILES = sorted(TRANSCRIPTS.glob("*.jsonl.gz"))


def test_all_six_recordings_are_there():
    assert len(FILES) == 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_recording_is_reproduced(path):
    recording = Recording.load(path)
    excluded = set(load_exclusions(TRANSCRIPTS / "exclusions.json", recording.variant))
    result = replay.replay(recording, TRANSCRIPTS / "images", excluded)
    assert result.cases == sum(case["id"] not in excluded for case in recording.cases) > 1000
    assert result.identical == result.cases, "\n".join(map(str, result.differences[:3]))


def shortened(tmp_path, change):
    """A recording of three cases, the second one changed by `change`."""
    with gzip.open(TRANSCRIPTS / "default.jsonl.gz", "rt") as file:
        head, *cases = [json.loads(next(file)) for _ in range(4)]
    change(cases[1])
    path = tmp_path / "short.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in [head, *cases])
    return path, cases[1]["id"]


def other_response(case):
    case["steps"][0]["rx"] = ""


def other_flash(case):
    case["after"]["slot2"] = "00" * 32


@pytest.mark.parametrize("change", [other_response, other_flash])
def test_command_line_reports_what_differs(tmp_path, capsys, change):
    path, case = shortened(tmp_path, change)
    status = replay.main([str(path), "--images", str(TRANSCRIPTS / "images"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert status == 1
    assert (report["total"], report["identical"], report["differences"]) == (3, 2, [case])
    assert sum(c["identical"] for c in report["categories"].values()) == 2


def test_differences_are_decoded_for_people(tmp_path, capsys):
    path, case = shortened(tmp_path, other_response)
    assert replay.main([str(path), "--images", str(TRANSCRIPTS / "images")]) == 1
    out = capsys.readouterr().out
    assert f"{case}: step 1" in out
    assert "expected silence" in out
    assert "'images': [" in out


def test_excluded_cases_are_not_counted(tmp_path, capsys):
    path, case = shortened(tmp_path, other_response)
    exclude = tmp_path / "exclusions.json"
    exclude.write_text(json.dumps({"ids": {"default": [case]}}))
    assert replay.main([str(path), "--images", str(TRANSCRIPTS / "images"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 2


def test_what_is_not_simulated_is_refused(tmp_path):
    with gzip.open(TRANSCRIPTS / "default.jsonl.gz", "rt") as file:
        head = json.loads(next(file))
    head["options"]["raw_protocol"] = True
    path = tmp_path / "raw.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(head) + "\n")
    with pytest.raises(ValueError, match="raw_protocol"):
        Recording.load(path)
