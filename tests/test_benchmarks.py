"""The benchmarks' arithmetic, and what they say of hosts that fail; their figures are no test's business."""

import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark by name, as it is when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("application", "cycle", "hosts", "loss", "printing", "rack", "upload")
    kept = {name: sys.modules.pop(name, None) for name in names}  # the tests have a `hosts` of their own
    yield __import__
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update({name: module for name, module in kept.items() if module is not None})


def test_a_host_that_fails_without_losses_does_not_end_the_benchmark_of_losses(script, monkeypatch, capsys):
    """But where this project's own client fails, it says so at its end."""
    loss, failed = script("loss"), script("hosts").Failed

    def measure(*_):
        raise failed("OSError: gone")

    monkeypatch.setattr(loss, "measure", measure)
    assert loss.main(["--runs", "2", "--host", "smpclient"]) == 0
    told = capsys.readouterr().out
    assert "failed failed, failed did not survive" in " ".join(told.split())
    assert "OSError: gone" in told
    assert loss.main(["--runs", "2", "--host", "pytest-nrfdfu"]) == 1


@pytest.mark.parametrize(("baudrate", "wire"), [(115_200, 32.04), (1_000_000, 3.69)])
def test_the_limit_is_wire_and_erases_and_the_last_write(script, baudrate, wire):
    """11 lines carry 992 bytes; 64 pages and the trailer's are erased; 256 bytes are written at the end."""
    limit = script("upload").limit(256 << 10, baudrate)
    assert limit.wire == pytest.approx(wire, abs=0.01)
    assert limit.erases == pytest.approx(65 * 87.5e-3)
    assert limit.writes == pytest.approx(64 * 43e-6)
    assert limit.seconds == pytest.approx(sum(limit))


def test_hosts_are_of_the_pinned_version(script, monkeypatch):
    hosts = script("hosts")
    assert hosts.version("smpclient") == importlib.metadata.version("smpclient")
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.0.1")
    with pytest.raises(SystemExit, match=r"smpclient 0\.0\.1 is installed, and \d.* is pinned"):
        hosts.version("smpclient")
    assert hosts.version("pytest-nrfdfu") == "0.0.1", "nobody pins what is measured"


def test_every_peer_is_pinned(script):
    hosts = script("hosts")
    required = " ".join(importlib.metadata.requires("pytest-nrfdfu"))
    peers = {host.distribution for host in hosts.HOSTS.values()} - {"pytest-nrfdfu"}
    assert len(peers) == 4
    assert [peer for peer in peers if f"{peer}==" not in required] == []


def test_a_host_that_fails_is_quoted_and_one_that_is_stuck_is_ended(script, tmp_path):
    hosts = script("hosts")
    target = hosts.Target(str(tmp_path / "no-port"), 115_200, tmp_path / "no-image", "ncs-2.6", "none")
    with pytest.raises(hosts.Failed) as caught:
        hosts.run("pytest-nrfdfu", target, 60)
    assert "UartError: cannot open" in caught.value.why
    with pytest.raises(hosts.Failed, match="still not done after"):
        hosts.run("pytest-nrfdfu", target, 0.001)


def test_why_a_host_failed_is_found_in_what_it_said(script):
    failed = script("hosts").Failed
    assert failed("Traceback\n│ TimeoutError: 2.5 s │\n╰──╯\n").why == "TimeoutError: 2.5 s"
    assert failed("RuntimeError: no answer\n  25: _start").why == "RuntimeError: no answer"
    assert failed("so long\n").why == "so long"
    assert failed("").why == ""


@pytest.mark.parametrize("name", ["application", "cycle", "loss"])
def test_rows_are_printed_as_json_or_as_a_table(script, monkeypatch, capsys, name):
    """One object with nothing beside it; or the table, and that its figures are simulated."""
    benchmark = script(name)
    row = dataclasses.make_dataclass("Row", ["host", ("ratio", object, 1.0)])("smpclient")
    measured = {"application": "judged", "cycle": "measure", "loss": "row_of"}[name]
    monkeypatch.setattr(benchmark, "measure", lambda *_: [row])
    monkeypatch.setattr(benchmark, measured, lambda *_: [row] if name == "cycle" else row)
    monkeypatch.setattr(benchmark, "table", lambda rows: f"{len(rows)} rows")
    arguments = [] if name == "cycle" else ["--host=smpclient"]
    count = 2 if name == "application" else 1  # one for each way to erase
    assert benchmark.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": [{"host": "smpclient", "ratio": 1.0}] * count}
    assert benchmark.main(arguments) == 0
    rows, remark = capsys.readouterr().out.splitlines()
    assert rows == f"{count} rows"
    assert "simulated" in remark


def test_a_host_that_fails_has_no_row_and_ends_nothing(script, monkeypatch):
    upload, hosts = script("upload"), script("hosts")

    def measure(*_):
        raise hosts.Failed("OSError: gone")

    monkeypatch.setattr(upload, "measure", measure)
    failures = []
    assert upload.compare(upload.Case("ncs-2.6", 115_200), b"", ["smpclient", "smpmgr"], failures) == []
    assert [(failure.host, failure.why) for failure in failures] == [
        ("smpclient", "OSError: gone"),
        ("smpmgr", "OSError: gone"),
    ]
