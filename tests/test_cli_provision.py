"""`nrfdfu provision`: which command it would run, when it refuses, and how a command ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_nrfdfu import cli

RACK = """
board = "dk"
[uart]
port = "socket://127.0.0.1:9"
[probe]
[recovery]
entry = ["smp"]
[provision]
command = {command}
timeout = {timeout}
[[unit]]
id = "a"
probe.unique_id = "jlink:1050012345"
[[unit]]
id = "b"
probe.unique_id = "remote:bench:5555"
"""


@pytest.fixture
def rack(tmp_path, monkeypatch):
    monkeypatch.setenv("NRFDFU_LEASE_DIR", str(tmp_path / "leases"))

    def write(*command, timeout=20):
        path = tmp_path / "dk.toml"
        path.write_text(RACK.format(command=list(map(str, command)), timeout=timeout))
        return path

    return write


HOLD = """
import sys
from pathlib import Path
from pytest_nrfdfu.bench.lease import LocalKeeper
from pytest_nrfdfu.config import load
lease = LocalKeeper().acquire(load(Path(sys.argv[1]))[:1], deadline=0, say=print)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(capfd):
    def run(board, config, *more):
        status = cli.main(["provision", "--board", board, "--config", str(config), *more])
        return status, *capfd.readouterr()

    return run


def test_runs_the_command_with_its_placeholders_filled_in(run, rack, tmp_path):
    seen = tmp_path / "seen"
    script = "import sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]))"
    status, out, err = run("dk:a", rack(sys.executable, "-c", script, seen, "{probe}", "port={port}", "$HOME"), "--yes")
    assert (status, err) == (0, "")
    assert seen.read_text() == "1050012345 port=socket://127.0.0.1:9 $HOME"  # no shell has seen it
    assert "1050012345" in out.split("within 20 s:")[1]  # said before it is run
    assert out.endswith("nrfdfu provision: done\n")


@pytest.mark.parametrize(
    ("board", "told"),
    [
        ("dk", "means 2 units; name one of them: dk:a, dk:b"),
        ("dk:c", "dk has no unit 'c'"),
        ("dk:b", "'remote:bench:5555', which is no serial number"),
        ("nrf5340dk-sim", "is simulated"),
        ("nrf5340dk", "add a [provision] table"),
    ],
)
def test_refuses_and_says_why(run, rack, tmp_path, board, told):
    ran = tmp_path / "ran"
    status, _, err = run(board, rack("touch", ran, "{probe}"), "--yes")
    assert status == 2
    assert told in err
    assert not ran.exists()


def test_nothing_is_run_unasked(run, rack, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        status, out, err = run("dk:a", rack("touch", ran))
    assert status == 2
    assert f"touch {ran}" in out
    assert "--yes runs it" in err
    assert not ran.exists()


def test_a_unit_that_somebody_else_uses_is_not_touched(run, rack, tmp_path):
    ran = tmp_path / "ran"
    path = rack("touch", ran)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        status, _, err = run("dk:a", path, "--yes")
        other.stdin.close()
    assert status == 2
    assert f"process {other.pid}" in err
    assert not ran.exists()


def test_the_unit_is_held_while_the_command_runs_and_free_afterwards(run, rack, tmp_path):
    path = tmp_path / "dk.toml"
    tried = "from pytest_nrfdfu.errors import LeaseError\ntry:\n    run()\nexcept LeaseError: sys.exit(7)"
    source = HOLD.replace("lease =", "run = lambda:").replace('print("held", flush=True)\nsys.stdin.read()\n', tried)
    script = tmp_path / "take.py"
    script.write_text(source)
    status, _, err = run("dk:a", rack(sys.executable, script, path), "--yes")
    assert status == 1
    assert "failed with exit status 7" in err
    assert subprocess.run([sys.executable, script, path], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(("answer", "runs"), [("y", True), ("n", False), ("", False)])
def test_asks_the_person_at_the_terminal(run, rack, tmp_path, monkeypatch, answer, runs):
    class Terminal:
        def isatty(self):
            return True

    ran = tmp_path / "ran"
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda _: answer)
    status, _, _ = run("dk:a", rack("touch", ran))
    assert (status == 0) is ran.exists() is runs


def test_a_command_that_fails_is_status_1(run, rack):
    status, _, err = run("dk:a", rack(sys.executable, "-c", "raise SystemExit(3)"), "--yes")
    assert status == 1
    assert "failed with exit status 3" in err


def test_a_command_that_is_not_there_is_status_1(run, rack):
    status, _, err = run("dk:a", rack("no-such-program-at-all"), "--yes")
    assert status == 1
    assert "cannot be run: No such file" in err


def test_a_command_that_hangs_ends_with_its_children(run, rack, tmp_path):
    pid = tmp_path / "pid"
    status, _, err = run("dk:a", rack("sh", "-c", f"sleep 600 & echo $! > {pid}; wait", timeout=0.5), "--yes")
    assert status == 1
    assert "did not end within 0.5 s" in err
    deadline = time.monotonic() + 10
    while _runs(int(pid.read_text())):
        assert time.monotonic() < deadline


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
