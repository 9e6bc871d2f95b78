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
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'nights.html'}: 1 run in 1 night",
        "last night, 2026-01-05: 0 passed; no test broke",
    ]


def broken(number, error, **more):
    names = {"record": "test", "nodeid": f"test_a.py::test_{number}[board:dk-build:app]", "outcome": "failed"}
    return {**names, "category": "test", "unit": "dk", "build": "app", "error": error, "seconds": 1.0, **more}


def test_what_broke_in_the_last_night_is_told(records, capsys):
    """For a mail: of each test the most of its error, what matters most first, and not of hundreds."""
    dump = "nrfdfu.NotSeen: waited 1 s; it printed:\n" + "\n".join(f"line {n}" for n in range(30))
    lines = [RUN, broken(1, "no answer", category="bench", build=""), broken(2, dump), END]
    (records / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(["report", str(records)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "last night, 2026-01-05: 0 passed; broke: 1 product, 1 bench",
        "  product  dk  app  run of 23:30  test_a.py::test_2",
        "      NotSeen: waited 1 s; it printed:",
        *(f"      line {n}" for n in range(3)),
        "      ...",
        *(f"      line {n}" for n in range(27, 30)),
        "  bench  dk  run of 23:30  test_a.py::test_1[build:app]",
        "      no answer",
    ]
    many = [RUN, *(broken(n, "no") for n in range(300)), END]
    (records / "b.jsonl").write_text("\n".join(map(json.dumps, many)))
    assert main(["report", str(records)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  and 280 more"
    assert main(["report", str(records), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["last_night"]
    assert len(told) == 300
    assert told[0]["error"] == "no"


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
        "last_night": [],
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
