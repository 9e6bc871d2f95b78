"""Units that are places of labgrid: leased, updated and given back through its own coordinator and exporter."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import labgrid_rack
import pytest
import simulator
import suites

from pytest_nrfdfu.bench.labgrid import LabgridKeeper
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import load
from pytest_nrfdfu.errors import ConfigError, LeaseError
from pytest_nrfdfu.image.build import load as load_build
from pytest_nrfdfu.sim_admin import SimAdmin

UNPACED = ("--uart", "tcp", "--baudrate", "0", "--flash-timing", "none")
PLACES = ("dk-1", "dk-2")


@pytest.fixture(scope="module")
def python(request):
    return labgrid_rack.interpreter(request.config.cache)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "app-2.0.0.signed.bin"
    path.write_bytes(simulator.make_image("2.0.0", 9000))
    return load_build(path)


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Two simulated boards, somewhere in the network."""
    image = tmp_path_factory.mktemp("old") / "old.bin"
    image.write_bytes(simulator.make_image("1.0.0"))
    with ExitStack() as stack:
        yield [stack.enter_context(simulator.running(*UNPACED, "--image", image)) for _ in PLACES]


def export(rack, boards, places=PLACES):
    """Each board's UART and probe, as a group of resources and a place."""
    groups = {name: _resources(board) for name, board in zip(places, boards, strict=True)}
    tags = {"board": "nrf5340dk"}
    rack.export(groups, [{"name": name, "tags": tags, "matches": [(f"bench1/{name}/*", None)]} for name in places])


def _resources(board):
    host, port = board["uart"].removeprefix("socket://").split(":")
    return {
        "NetworkSerialPort": {"host": host, "port": int(port), "speed": 115200, "protocol": "raw"},
        "PyOCDProbe": {"uid": "1050012345", "url": board["probe"], "target_type": "cortex_m"},
    }


@pytest.fixture(scope="module")
def rack(python, boards, tmp_path_factory):
    """The rack that most tests share; each leaves it with all places free."""
    with labgrid_rack.rack(python, tmp_path_factory.mktemp("rack")) as rack:
        export(rack, boards)
        yield rack


@pytest.fixture
def own_rack(python, boards, tmp_path):
    """A rack that a test may break."""
    with labgrid_rack.rack(python, tmp_path / "rack") as rack:
        export(rack, boards)
        yield rack


def config_file(folder, rack, boards, places=PLACES):
    """A configuration in the user's words: labgrid knows ports and probes, the file the recovery lines."""
    path = folder / "nrf5340dk.toml"
    lines = [
        f"""
[labgrid]
coordinator = "{rack.address}"
python = "{rack.python}"
tags = {{ board = "nrf5340dk" }}
[boot]
timeout = 10
"""
    ]
    lines += [
        f"""
[[unit]]
id = "{place}"
recovery.line = {{ driver = "serial", port = "{board["control"]}", line = "rts" }}
"""
        for place, board in zip(places, boards, strict=True)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def file(tmp_path, rack, boards):
    return config_file(tmp_path, rack, boards)


@pytest.fixture
def keep():
    """Makes keepers, whose leases end with the test."""
    with ExitStack() as stack:

        def make(file):
            units = load(file)
            keeper = LabgridKeeper(units[0].config.labgrid)
            stack.callback(keeper.client.stop)
            return keeper, units

        yield make


def soon():
    return time.monotonic() + simulator.DEADLINE


def never(text):
    raise AssertionError(f"it had to wait: {text}")


# --- the way of a run -------------------------------------------------------------------------------------------------


def test_a_run_leases_both_updates_both_and_gives_them_back(rack, boards, file, build, keep):
    keeper, units = keep(file)
    leases = [keeper.acquire(units, deadline=soon(), say=never) for _ in PLACES]
    assert [lease.unit.id for lease in leases] == list(PLACES)
    assert [lease.unit.config.uart.port for lease in leases] == [board["uart"] for board in boards]
    assert [lease.unit.config.probe.unique_id for lease in leases] == [board["probe"] for board in boards]
    assert set(rack.holders()) == set(PLACES)
    for lease, board in zip(leases, boards, strict=True):
        with ExitStack() as stack:
            unit = Unit(lease.unit.name, lease.unit.config)
            stack.callback(unit.close)
            unit.open()
            report = Dfu(unit).update(build)
            admin = stack.enter_context(SimAdmin(board["admin"]))
            assert report.verified
            assert report.unit == lease.unit.name
            assert admin.flash_hash().image_hash == build.hash
        lease.check()
        lease.release()
    assert rack.holders() == {}
    assert rack.reservations() == "", "a reservation that is left keeps a place for a minute"
    assert keeper.client.pid is None


def test_a_unit_without_an_id_is_any_place_with_the_tags(rack, boards, tmp_path, keep):
    file = tmp_path / "any.toml"
    file.write_text(f"""
recovery.entry = ["pin-reset"]
[labgrid]
coordinator = "{rack.address}"
python = "{rack.python}"
tags = {{ board = "nrf5340dk" }}
""")
    keeper, units = keep(file)
    names = [keeper.acquire(units, deadline=soon(), say=never).unit.name for _ in PLACES]
    assert names == ["any:dk-1", "any:dk-2"]
    with pytest.raises(LeaseError, match="this process holds dk-1, dk-2 already"):
        keeper.acquire(units, deadline=soon(), say=never)


def test_a_place_that_does_not_complete_the_board_is_given_back(rack, tmp_path, keep):
    file = tmp_path / "bare.toml"
    file.write_text(f"""
[labgrid]
coordinator = "{rack.address}"
python = "{rack.python}"
tags = {{ board = "nrf5340dk" }}
""")
    keeper, units = keep(file)
    with pytest.raises(ConfigError, match=r"dk-1 offers \(NetworkSerialPort, PyOCDProbe\).*needs the recovery pin"):
        keeper.acquire(units, deadline=soon(), say=never)
    assert rack.holders() == {}


# --- who holds what ---------------------------------------------------------------------------------------------------


def test_who_holds_a_place_is_said_and_it_is_had_when_it_comes_free(rack, file, keep):
    keeper, units = keep(file)
    rack.client("-p", "dk-1", "acquire", user="alice", host="pc7")
    said = []

    def say(text):
        said.append(text)
        rack.client("-p", "dk-1", "release", "--kick", user="alice", host="pc7")

    lease = keeper.acquire(units[:1], deadline=soon(), say=say)
    assert lease.unit.id == "dk-1"
    assert said
    assert said[0].startswith("waiting: dk-1 is held by alice@pc7 since 20")
    lease.release()


def test_a_deadline_ends_the_wait_and_says_who_holds_each(rack, file, keep):
    keeper, units = keep(file)
    rack.client("-p", "dk-1", "acquire", user="alice", host="pc7")
    other, _ = keep(file)
    lease = other.acquire(units, deadline=soon(), say=never)
    assert lease.unit.id == "dk-2", "the one that is free"
    try:
        with pytest.raises(LeaseError, match=rf"dk-1 is held by alice@pc7 since .*; dk-2 is held by .*{os.getpid()}\)"):
            keeper.acquire(units, deadline=time.monotonic(), say=never)
    finally:
        rack.client("-p", "dk-1", "release", "--kick", user="alice", host="pc7")
    lease.check()
    lease.release()
    assert rack.reservations() == "", "who has given up queues no more"


# --- killed -----------------------------------------------------------------------------------------------------------


HOLD = """
import json, sys, time
from pathlib import Path
from pytest_nrfdfu.bench.labgrid import LabgridKeeper
from pytest_nrfdfu.config import load

units = load(Path(sys.argv[1]))
keeper = LabgridKeeper(units[0].config.labgrid)
leases = [keeper.acquire(units, deadline=time.monotonic() + 30, say=print) for _ in units]
print(json.dumps({"child": keeper.client.pid}), flush=True)
sys.stdin.read()
"""
"""Holds all places of a configuration until its standard input ends."""


@pytest.fixture
def other_run(file):
    """Another pytest, as far as labgrid can tell, that holds both places."""
    run = subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        run.child = json.loads(run.stdout.readline())["child"]
        yield run
    finally:
        run.kill()
        run.wait()
        run.stdin.close()
        run.stdout.close()


def test_what_a_living_run_holds_is_never_taken(rack, file, keep, other_run):
    keeper, units = keep(file)
    with pytest.raises(LeaseError, match=rf"dk-1 is held by \S+ \(process {other_run.pid}\).*dk-2 is held"):
        keeper.acquire(units, deadline=time.monotonic(), say=never)
    assert set(rack.holders()) == set(PLACES)
    other_run.stdin.close()
    other_run.wait(simulator.DEADLINE)
    assert rack.holders() == {}


@pytest.mark.parametrize("child_too", [False, True], ids=["alone", "with its child"])
def test_what_a_killed_run_held_is_had_by_the_next(rack, file, keep, other_run, child_too):
    if child_too:  # nobody is left to release
        os.kill(other_run.child, signal.SIGKILL)
    other_run.kill()
    other_run.wait()
    if child_too:
        assert set(rack.holders()) == set(PLACES)
    keeper, units = keep(file)
    leases = [keeper.acquire(units, deadline=soon(), say=never) for _ in PLACES]
    assert [lease.unit.id for lease in leases] == list(PLACES)
    simulator.wait_until(lambda: not simulator.alive(other_run.child), "the end of the other run's child")
    for lease in leases:
        lease.check()  # it has not released what is held by another now
        lease.release()


def test_a_run_whose_child_is_killed_has_lost_its_leases_and_gets_them_anew(rack, file, keep):
    keeper, units = keep(file)
    lease = keeper.acquire(units, deadline=soon(), say=never)
    os.kill(keeper.client.pid, signal.SIGKILL)
    with pytest.raises(LeaseError, match="its process has died"):
        lease.check()
    again = keeper.acquire(units, deadline=soon(), say=never)
    assert again.unit.id == lease.unit.id
    again.check()
    again.release()


def test_a_place_that_somebody_takes_away_is_lost(rack, file, keep):
    keeper, units = keep(file)
    lease = keeper.acquire(units, deadline=soon(), say=never)
    rack.client("-p", "dk-1", "release", "--kick")
    with pytest.raises(LeaseError, match="somebody released it"):
        lease.check()
    rack.client("-p", "dk-1", "acquire", user="alice", host="pc7")
    lease.release()
    assert rack.holders() == {"dk-1": "pc7/alice"}, "what is another's now is left alone"
    rack.client("-p", "dk-1", "release", "--kick", user="alice", host="pc7")


# --- lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "not answering"])
def test_a_lost_coordinator_is_a_bench_error(own_rack, boards, tmp_path, keep, how):
    keeper, units = keep(config_file(tmp_path, own_rack, boards))
    leases = [keeper.acquire(units, deadline=soon(), say=never) for _ in PLACES]
    own_rack.coordinator.send_signal(how)
    for lease in leases:
        with pytest.raises(
            LeaseError, match=rf"lost: labgrid's coordinator {own_rack.address} cannot be reached"
        ) as lost:
            lease.check()
        assert lost.value.category == "bench"
        lease.release()
    assert keeper.client.pid is None
    if how == signal.SIGKILL:
        with pytest.raises(LeaseError, match="is labgrid-coordinator running"):
            keeper.acquire(units, deadline=soon(), say=never)


def test_a_lost_exporter_is_a_bench_error(own_rack, boards, tmp_path, keep):
    keeper, units = keep(config_file(tmp_path, own_rack, boards))
    lease = keeper.acquire(units, deadline=soon(), say=never)
    lease.check()
    own_rack.exporter.kill()
    own_rack.exporter.wait()
    with pytest.raises(LeaseError, match="its exporter bench1 is gone"):
        _check_until_lost(lease)
    lease.release()
    with pytest.raises(LeaseError, match=r"dk-1 offers no NetworkSerialPort.*dk-2 offers no"):
        keeper.acquire(units, deadline=soon(), say=never)


def _check_until_lost(lease):
    """The coordinator sees the end of an exporter's connection a moment later."""
    deadline = soon()
    while time.monotonic() < deadline:
        lease.check()


# --- by pytest --------------------------------------------------------------------------------------------------------


def run_pytest(folder, file, build, source, *arguments, board="nrf5340dk:all", **environment):
    """A product suite's run; its exit status and output."""
    (folder / "test_product.py").write_text(source)
    command = ["--board", board, "--build", build.path, "--nrfdfu-config", file, "--rootdir", folder]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suites.QUIET, *command, *arguments, folder],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_pytest_updates_every_place_and_gives_them_back(rack, boards, file, build, tmp_path):
    source = """
def test_it(dfu, build):
    assert dfu.update(build).verified
"""
    status, said = run_pytest(tmp_path, file, build, source, "-v")
    assert status == 0, said
    assert "2 passed" in said
    assert "test_it[board:nrf5340dk:dk-1-build:" in said
    assert "test_it[board:nrf5340dk:dk-2-build:" in said
    assert rack.holders() == {}
    for board in boards:
        with SimAdmin(board["admin"]) as admin:
            assert admin.flash_hash().image_hash == build.hash


def test_every_worker_leases_a_place_of_its_own(rack, file, build, tmp_path):
    pytest.importorskip("xdist")
    source = """
import pathlib, pytest, threading

@pytest.mark.parametrize("number", range(2))
def test_it(flashed, number):
    # Each waits until the other has a board as well, so one place cannot serve both.
    pathlib.Path(flashed.unit.replace(":", "_")).touch()
    deadline = threading.Event()
    while len(list(pathlib.Path().glob("nrf5340dk_*"))) < 2:
        deadline.wait(0.05)
"""
    status, said = run_pytest(tmp_path, file, build, source, "-n", "2", board="nrf5340dk")
    assert status == 0, said
    assert "2 passed" in said
    assert rack.holders() == {}


def test_a_coordinator_that_goes_in_mid_run_makes_errors_of_the_bench(own_rack, boards, build, tmp_path):
    source = """
import os, signal

def test_first(flashed):
    pass

def test_the_coordinator_dies(board):  # a test without a board would come first
    os.kill(int(os.environ["COORDINATOR"]), signal.SIGKILL)

def test_after(flashed):
    raise AssertionError("never run")
"""
    file = config_file(tmp_path, own_rack, boards)
    junit = tmp_path / "junit.xml"
    status, said = run_pytest(
        tmp_path,
        file,
        build,
        source,
        f"--junit-xml={junit}",
        "--nrfdfu-lease-timeout=1",
        COORDINATOR=str(own_rack.coordinator.pid),
    )
    assert "bench trouble only" in said, said
    assert status > max(pytest.ExitCode), said
    assert "never run" not in said
    assert "was lost: labgrid's coordinator" in said
    assert 'name="category" value="bench"' in junit.read_text()


# --- power and lines --------------------------------------------------------------------------------------------------


class _Relays(BaseHTTPRequestHandler):
    """A relay board with a web interface: one relay for the supply, one for the recovery pin."""

    def do_PUT(self):
        on = self.rfile.read(int(self.headers["Content-Length"])) == b"1"
        with SimAdmin(self.server.admin) as admin:
            if self.path == "/power/0":
                admin.set_power(on)
            else:
                admin.set_recovery_pin(low=on)
        self.server.switched.append((self.path, on))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def relays(boards):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Relays)
    server.admin, server.switched = boards[0]["admin"], []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_power_and_lines_of_a_place_are_driven_by_labgrid(python, boards, relays, build, tmp_path, keep):
    url = f"http://127.0.0.1:{relays.server_port}"
    relay = {"cls": "HttpDigitalOutput", "url": f"{url}/pin", "body_asserted": "1", "body_deasserted": "0"}
    supply = {"model": "rest", "host": f"{url}/power/{{index}}", "index": "0"}
    resources = _resources(boards[0]) | {"relay7": relay, "NetworkPowerPort": supply}
    matches = [("bench1/dk-1/HttpDigitalOutput/relay7", "recovery"), ("bench1/dk-1/*", None)]
    with labgrid_rack.rack(python, tmp_path / "rack") as rack:
        rack.export({"dk-1": resources}, [{"name": "dk-1", "tags": {"board": "nrf5340dk"}, "matches": matches}])
        file = tmp_path / "relays.toml"
        file.write_text(f"""
[labgrid]
coordinator = "{rack.address}"
python = "{rack.python}"
tags = {{ board = "nrf5340dk" }}
""")
        keeper, units = keep(file)
        lease = keeper.acquire(units, deadline=soon(), say=never)
        config = lease.unit.config
        unit = Unit(lease.unit.name, config)
        try:
            unit.open()
            assert Dfu(unit).update(build).verified
        finally:
            unit.close()
        assert ("/pin", True) in relays.switched, "the recovery pin was held by labgrid"
        assert relays.switched[-1] == ("/pin", False)
        for command in (config.power.off, config.power.on):
            subprocess.run(command, check=True, timeout=60)
        assert relays.switched[-2:] == [("/power/0", False), ("/power/0", True)]
        lease.release()


# --- set-up -----------------------------------------------------------------------------------------------------------


def test_an_interpreter_without_labgrid_is_told(tmp_path, keep):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # no site-packages
    bare.chmod(0o755)
    file = tmp_path / "none.toml"
    file.write_text(f"""
recovery.entry = ["manual"]
[labgrid]
coordinator = "127.0.0.1:9"
python = "{bare}"
tags = {{ board = "x" }}
""")
    keeper, units = keep(file)
    with pytest.raises(ConfigError, match=r"cannot import labgrid.*pip install 'labgrid>=26'"):
        keeper.acquire(units, deadline=soon(), say=never)
