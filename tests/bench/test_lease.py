"""Leases on one host: what collides, who is told to hold what, and that the dead hold nothing."""

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import simulator

from pytest_nrfdfu.bench import lease as lease_module
from pytest_nrfdfu.bench.identity import identify
from pytest_nrfdfu.bench.lease import LocalKeeper, held_back, holder_of
from pytest_nrfdfu.bench.lease_dir import VARIABLE, LeaseDir, default_directory
from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.errors import LeaseError


@pytest.fixture
def directory(tmp_path):
    return LeaseDir(tmp_path / "leases")


def unit(name="rack:dk-07", port=None, probe=None, **more):
    board, _, identity = name.partition(":")
    config = {"board": board, "recovery": {"entry": ["smp"]}, "uart": {"port": port or "/dev/none-such"}, **more}
    if probe is not None:
        config["probe"] = {"unique_id": probe}
    return UnitConfig(identity or None, BoardConfig.model_validate(config), Path("rack.toml"))


def taken(keeper, *units):
    """A lease that must be there at once."""
    return taken_at(keeper, time.monotonic(), *units)


def taken_at(keeper, now, *units):
    return keeper.acquire(units, deadline=now, say=lambda _: None)


def refused(keeper, *units):
    with pytest.raises(LeaseError) as caught:
        taken(keeper, *units)
    return str(caught.value)


# --- what is one board ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"probe": "1050012345"}, {"probe": "001050012345", "port": "/dev/x"}, True),
        ({"probe": "1050012345", "port": "/dev/a"}, {"port": "/dev/a"}, True),
        ({"probe": "1050012345", "port": "/dev/a"}, {"probe": "1050012346", "port": "/dev/b"}, False),
        ({"port": "/dev/a"}, {"port": "/dev/b"}, False),
        ({"port": "/dev/null"}, {"port": "LINK"}, True),
        ({"port": "rfc2217://Bench1:4001"}, {"port": "rfc2217://bench1:4001?logging=debug"}, True),
        ({"port": "socket://localhost:4001"}, {"port": "socket://127.0.0.1:4002"}, False),
        ({"probe": "remote:h:5555", "port": "/dev/a"}, {"probe": "remote:h:5556", "port": "/dev/b"}, False),
        ({"probe": "remote:h:5555", "port": "/dev/a"}, {"probe": "REMOTE:H:5555", "port": "/dev/b"}, True),
        ({"probe": "remote:localhost:1", "port": "/dev/a"}, {"probe": "remote:127.0.0.1:1", "port": "/dev/b"}, True),
        ({"probe": "jlink:1050012345", "port": "/dev/a"}, {"probe": "1050012345", "port": "/dev/b"}, True),
        ({"probe": "jlink:1050012345", "port": "/dev/a"}, {"probe": "jlink:1050012346", "port": "/dev/b"}, False),
    ],
)  # fmt: skip
def test_two_names_of_one_board_collide(directory, tmp_path, one, other, same):
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    first, second = (
        unit(name, **{key: str(link) if value == "LINK" else value for key, value in names.items()})
        for name, names in (("rack:dk-07", one), ("desk", other))
    )
    keeper = LocalKeeper(directory)
    lease = taken(keeper, first)
    if same:
        assert "desk: its probe or port, as rack:dk-07 is held by " in refused(keeper, second)
    else:
        taken(keeper, second).release()
    lease.release()
    taken(keeper, second).release()


def test_what_is_remembered_of_a_board_does_not_hang_on_the_number_of_its_port():
    probe, port = unit(probe="1"), unit(port="/dev/serial/by-id/usb-x")
    assert identify(probe).stable.startswith("probe-1-")
    assert identify(port).stable == identify(unit("desk", port="/dev/serial/by-id/usb-x")).stable
    assert "by-id-usb-x" in identify(port).stable


def test_simulated_boards_without_ids_are_for_everybody(directory):
    keeper = LocalKeeper(directory)
    one = unit("dk-sim", sim={})
    leases = [taken(keeper, one) for _ in range(3)]
    assert not directory.path.exists()
    for lease in leases:
        lease.check()
    limited = unit("dk-sim:a", sim={})
    lease = taken(keeper, limited)
    refused(keeper, limited)
    lease.release()


# --- holding ----------------------------------------------------------------------------------------------------------


def test_the_first_free_unit_is_leased_and_who_holds_the_others_is_told(directory):
    keeper = LocalKeeper(directory)
    units = [unit(f"rack:dk-{n}", port=f"/dev/{n}") for n in range(3)]
    leases = [taken(keeper, *units) for _ in units]
    assert [lease.unit for lease in leases] == units
    holder = holder_of(units[1], directory)
    assert (holder.unit, holder.pid, holder.alive) == ("rack:dk-1", os.getpid(), True)
    text = refused(keeper, *units)
    for n in range(3):
        assert f"rack:dk-{n} is held by {holder.user}@{holder.host} since {holder.since[:10]} " in text
    assert f"(process {os.getpid()}: " in text
    leases[1].release()
    leases[1].release()
    assert holder_of(units[1], directory) is None
    assert taken(keeper, *units).unit == units[1]


def test_a_unit_is_taken_as_soon_as_it_comes_free(directory):
    keeper = LocalKeeper(directory)
    lease = taken(keeper, unit())
    said = []

    def say(text):
        said.append(text)
        lease.release()

    again = keeper.acquire([unit()], deadline=time.monotonic() + simulator.DEADLINE, say=say)
    assert again.unit == unit()
    assert len(said) == 1
    assert said[0].startswith("waiting: rack:dk-07 is held by ")


HOLD = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_lease
from pytest_nrfdfu.bench.lease import LocalKeeper
from pytest_nrfdfu.bench.lease_dir import LeaseDir
lease = test_lease.taken(LocalKeeper(LeaseDir(Path({directory!r})), run={run!r}), test_lease.unit())
{then}
print("held", flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that holds the unit."""

    def __init__(self, directory, run="", then=""):
        source = HOLD.format(tests=str(Path(__file__).parent), directory=str(directory.path), run=run, then=then)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.child = subprocess.Popen(
            [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.child.stdout.readline() == "held\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self, number=signal.SIGKILL):
        self.child.send_signal(number)
        self.child.communicate()


def test_a_holder_that_died_holds_nothing(directory):
    """Killed, it has removed nothing: its lock goes with it, and what it has written is known to be stale."""
    keeper = LocalKeeper(directory)
    with Other(directory) as other:
        assert f"process {other.child.pid}: " in refused(keeper, unit())
        assert holder_of(unit(), directory).pid == other.child.pid
        other.end()
        (note,) = directory.path.glob("port-*.holder.json")
        assert json.loads(note.read_text())["pid"] == other.child.pid
        assert holder_of(unit(), directory) is None
        lease = taken(keeper, unit())
        assert holder_of(unit(), directory).pid == os.getpid()
        lease.release()


def test_a_process_of_the_same_number_that_began_later_is_another_one(directory):
    lease = taken(LocalKeeper(directory), unit())
    holder = holder_of(unit(), directory)
    assert holder.started.isdigit()
    assert dataclasses.replace(holder, host="elsewhere", started="1").alive, "of another host nothing is known"
    assert not dataclasses.replace(holder, started="1").alive
    lease.release()


@pytest.fixture
def clock(monkeypatch):
    """A clock that runs while somebody sleeps, and then in steps of `step` seconds."""
    clock = SimpleNamespace(now=1000.0, step=1.0, then=lambda _now: None)

    def sleep(_seconds):
        clock.now += clock.step
        clock.then(clock.now)

    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


def test_a_siblings_unit_is_waited_for_past_the_deadline(directory, clock):
    """It is given back when no test is left for it; until then the sibling is no reason for an error."""
    with Other(directory, run="tonight") as other:
        with pytest.raises(LeaseError, match="is held by"):
            LocalKeeper(directory).acquire([unit()], deadline=1010.0, say=lambda _: None)
        assert clock.now == 1010.0, "to another run the deadline holds"
        clock.then = lambda now: other.end() if now == 1100.0 else None
        keeper = LocalKeeper(directory, run="tonight")
        keeper.acquire([unit()], deadline=1020.0, say=lambda _: None).release()
        assert clock.now >= 1100.0


def test_a_siblings_unit_is_not_waited_for_where_it_is_asked_for_once(directory, clock):
    """So a pool looks whether it gets a unit without giving back its own."""
    with Other(directory, run="tonight"), pytest.raises(LeaseError, match="is held by"):
        LocalKeeper(directory, run="tonight").acquire([unit()], deadline=1000.0, say=pytest.fail)
    assert clock.now == 1000.0


def test_a_sibling_that_never_ends_is_not_waited_for_for_ever(directory, clock):
    clock.step = 3600.0
    with Other(directory, run="tonight"), pytest.raises(LeaseError, match="is held by"):
        LocalKeeper(directory, run="tonight").acquire([unit()], deadline=1010.0, say=lambda _: None)
    assert clock.now == 1000.0 + 12 * 3600.0


def test_what_this_process_has_itself_is_not_a_siblings(directory, clock):
    """Nobody else gives it back."""
    keeper = LocalKeeper(directory, run="tonight")
    lease = taken_at(keeper, clock.now, unit())
    with pytest.raises(LeaseError, match=rf"process {os.getpid()}: "):
        keeper.acquire([unit("desk")], deadline=1010.0, say=lambda _: None)
    assert clock.now == 1010.0
    lease.retire("no port")
    with pytest.raises(LeaseError, match="not used any more: no port"):
        keeper.acquire([unit("desk")], deadline=2000.0, say=pytest.fail)
    lease.release()


def test_a_unit_that_a_sibling_has_retired_is_not_waited_for(directory):
    with Other(directory, run="tonight", then="lease.retire('no port')"):
        late = time.monotonic() + 1000
        with pytest.raises(LeaseError, match="not used any more: no port"):
            LocalKeeper(directory, run="tonight").acquire([unit()], deadline=late, say=pytest.fail)


# --- lost, held back, the directory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_lease_whose_lock_file_was_cleared_out_is_lost(directory, how):
    lease = taken(LocalKeeper(directory), unit(probe="7"))
    lease.check()
    path = next(directory.path.glob("probe-*.lock"))
    path.rename(path.with_suffix(".old"))
    if how == "replaced":
        path.touch()
    with pytest.raises(LeaseError, match=r"the lease of rack:dk-07 was lost: .*/probe-7-"):
        lease.check()
    lease.release()
    with pytest.raises(LeaseError, match="was given back"):
        lease.check()


def test_what_is_held_back_says_by_whom_and_why(directory):
    assert held_back(unit(), directory) is None
    directory.write(
        identify(unit()).stable, "hold", {"user": "alice", "since": "2026-01-31T12:13:14+01:00", "reason": "new cable"}
    )
    assert held_back(unit("desk"), directory) == "held back by alice since 2026-01-31 12:13:14: new cable"
    assert held_back(unit(disabled="broken"), directory) == "disabled in rack.toml: broken"
    directory.remove(identify(unit()).stable, "hold")
    assert held_back(unit(), directory) is None


def test_the_directory_is_for_everybody(directory, monkeypatch):
    before = os.umask(0o077)
    try:
        lease = taken(LocalKeeper(directory), unit())
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.path.iterdir()} == {0o666}
    lease.release()
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    assert default_directory() == Path("/elsewhere")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("TMPDIR", str(directory.path))
    assert default_directory() == Path("/var/tmp/nrfdfu-leases"), "nothing that differs between users decides"


def test_a_directory_that_is_none_is_said(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert "is not a directory that this user may write to" in refused(LocalKeeper(LeaseDir(file)), unit())
    assert f"set {VARIABLE}" in refused(LocalKeeper(LeaseDir(file / "below")), unit())


def test_a_note_that_is_being_written_is_none(directory):
    lease = taken(LocalKeeper(directory), unit())
    (note,) = directory.path.glob("*.holder.json")
    note.write_text('{"unit": "ra')
    assert holder_of(unit(), directory) is None
    assert "rack:dk-07 is held by a process that has not said who it is" in refused(LocalKeeper(directory), unit())
    lease.release()


# --- notes that anybody may write -------------------------------------------------------------------------------------


def pipe(path):
    os.mkfifo(path)


def link(path):
    path.symlink_to("/dev/zero")


def long_file(path):
    path.write_text("[" * 1_000_000)


@pytest.mark.parametrize("make", [pipe, link, long_file])
@pytest.mark.timeout(20)
def test_what_is_no_note_blocks_nobody(directory, make):
    lease = taken(LocalKeeper(directory), unit())
    (note,) = directory.path.glob("*.holder.json")
    key = identify(unit()).stable
    note.unlink()
    for name in ("holder", "hold", "result"):
        make(directory.path / f"{key}.{name}.json")
        assert directory.read(key, name) is None
    assert held_back(unit(), directory) is None
    assert "has not said who it is" in refused(LocalKeeper(directory), unit())
    lease.retire("no port")
    lease.release()
    if make is not long_file:
        make(note)
        with pytest.raises(LeaseError, match="cannot write"):
            directory.write(key, "holder", {})
    taken(LocalKeeper(directory), unit()).release()


@pytest.mark.parametrize(
    "changes", [{"since": None}, {"pid": "1"}, {"unit": 7}, {"retired": ["x"]}, {"host": {}}, {"run": None}]
)
def test_a_holder_of_other_types_is_none(directory, changes):
    lease = taken(LocalKeeper(directory), unit())
    key = identify(unit()).stable
    directory.write(key, "holder", directory.read(key, "holder") | changes)
    assert holder_of(unit(), directory) is None
    assert "has not said who it is" in refused(LocalKeeper(directory, run="tonight"), unit())
    lease.release()


def test_notes_do_not_steer_a_terminal(directory):
    hold = {"user": "eve\x1b[2J", "since": "\u202enow", "reason": "a\nb\x07", "more": {"x\x1b": ["\x9b1m"]}}
    directory.write(identify(unit()).stable, "hold", hold)
    assert held_back(unit(), directory) == "held back by eve [2J since  now: a b "
    assert directory.read(identify(unit()).stable, "hold")["more"] == {"x ": [" 1m"]}


def test_a_note_of_another_host_name_counts_while_the_lock_is_held(directory):
    """A host that was renamed, or a container that is gone: its process cannot be looked up, its lock can be tried."""
    lease = taken(LocalKeeper(directory), unit())
    key = identify(unit()).stable
    note = directory.read(key, "holder") | {"host": "elsewhere"}
    directory.write(key, "holder", note)
    assert holder_of(unit(), directory).host == "elsewhere"
    lease.release()
    directory.write(key, "holder", note)
    assert holder_of(unit(), directory) is None
    taken(LocalKeeper(directory), unit()).release()
