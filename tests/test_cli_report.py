"""``nrfdfu report``: a folder of records in, a page out."""

import json

import pytest

from pytest_nrfdfu.cli import main

RUN = {"record": "run", "schema": 1, "start": "2026-01-05T23:30:00+01:00", "host": "rack1", "simulated": True}
END = {"record": "end", "exitstatus": 0}


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "a.jsonl").write_text(f"{json.dumps(RUN)}\n{json.dumps(END)}\n")
    return folder


def test_a_page_is_written(records, tmp_path, capsys):
    assert main(["report", str(records), "-o", str(tmp_path / "nights.html"), "--title", "Rack 1"]) == 0
    assert "<title>Rack 1</title>" in (tmp_path / "nights.html").read_text()
    assert capsys.readouterr().out == f"{tmp_path / 'nights.html'}: 1 run in 1 night\n"


def test_the_page_goes_beside_the_records(records):
    assert main(["report", str(records)]) == 0
    assert (records / "report.html").is_file()


def test_broken_records_are_named_and_not_fatal(records, capsys):
    (records / "b.jsonl").write_text("nonsense\n")
    (records / "c.jsonl").write_text(json.dumps(RUN) + "\n")
    assert main(["report", str(records)]) == 0
    errors = capsys.readouterr().err
    assert "b.jsonl: not read: its first line is not that of a run" in errors
    assert "c.jsonl: it has no end" in errors


def test_json_is_one_object(records, capsys):
    (records / "b.jsonl").write_text("nonsense\n")
    assert main(["report", str(records), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "output": str(records / "report.html"),
        "runs": 1,
        "nights": ["2026-01-05"],
        "units": [],
        "warnings": [],
        "not_read_whole": {str(records / "b.jsonl"): "not read: its first line is not that of a run"},
    }


def test_no_record_is_status_1(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "No record of a run was found." in (tmp_path / "report.html").read_text()
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_status_1(records, capsys):
    assert main(["report", str(records), "-o", str(records / "nowhere" / "x.html")]) == 1
    assert "nrfdfu report: error: " in capsys.readouterr().err
