"""What the keeper of labgrid's places asks for, refuses and says, with a coordinator that is a dictionary.

labgrid's own coordinator is in tests/interop/test_labgrid.py.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_nrfdfu.bench import labgrid as module
from pytest_nrfdfu.bench import labgrid_identity as identity
from pytest_nrfdfu.bench.labgrid import LabgridKeeper
from pytest_nrfdfu.bench.labgrid_client import Client, Gone, Refused, interpreter
from pytest_nrfdfu.bench.labgrid_place import Place, Resource, fill_in, problem
from pytest_nrfdfu.config import BoardConfig, UnitConfig
from pytest_nrfdfu.errors import ConfigError, LeaseError

HERE = identity.Identity("h", "me", "b", "c", "0", os.getpid(), identity.process_start(os.getpid()))
PAST = 0.0
"""A deadline that has passed: asks once."""


class Coordinator:
    """A coordinator and its child process: places by name, reservations by token."""

    def __init__(self, me):
        self.me = me
        self.places = {}
        self.reservations = {}
        self.calls = []
        self.pid = None
        self.fails = {}
        """Errors by method and place."""

    def add(self, name, acquired=None, **changes):
        known = {"tags": {"board": "x"}, "changed": 0.0, "reservation": None, "resources": [serial_port()]}
        self.places[name] = {"name": name, "acquired": acquired, **known, **changes}

    def start(self):
        self.pid = 1

    def stop(self, *, at_once=False):
        self.pid = None

    def command(self, *arguments):
        return ("labgrid-client", *arguments)

    def call(self, method, **arguments):
        self.calls.append((method, *arguments.values()))
        for key in (method, (method, arguments.get("place"))):
            if key in self.fails:
                raise self.fails[key]
        return getattr(self, "_" + method)(**arguments)

    def _look(self):
        return {"places": list(self.places.values()), "reservations": list(self.reservations.values())}

    def _reserve(self, tags):
        token = f"t{len(self.calls)}"
        place = self.places[tags["name"]]
        self.reservations[token] = {"owner": self.me, "token": token, "state": 0, "place": None, "until": 0.0}
        self.reservations[token]["wants"] = place["name"]
        return self._poll(token)

    def _poll(self, token):
        item = self.reservations[token]
        place = self.places[item["wants"]]
        if place["acquired"] is None and place["reservation"] is None:
            place["reservation"] = token
            item["state"] = 1
        return item

    def _cancel(self, token):
        del self.reservations[token]
        for place in self.places.values():
            if place["reservation"] == token:
                place["reservation"] = None

    def _acquire(self, place):
        assert self.places[place]["acquired"] is None
        self.places[place]["acquired"] = self.me
        return self.places[place]

    def _release(self, place, holder=None):
        if self.places[place]["acquired"] == (holder or self.me):
            self.places[place]["acquired"] = None

    def _check(self, place):
        return None if self.places[place]["acquired"] == self.me else "it is gone"


def serial_port(**changes):
    args = {"host": "rack", "port": 4001, "speed": 1000000}
    return {
        "name": "NetworkSerialPort",
        "cls": "NetworkSerialPort",
        "exporter": "e",
        "args": args,
        "extra": {},
    } | changes


def config(**tables):
    labgrid = {"coordinator": "rack:20408", "python": sys.executable, "tags": {"board": "x"}} | tables.pop(
        "labgrid", {}
    )
    tables.setdefault("recovery", {"entry": ["manual"]})
    return BoardConfig.model_validate({"board": "x", "labgrid": labgrid, **tables})


def unit(name=None, **tables):
    return UnitConfig(name, config(**tables), Path("x.toml"))


@pytest.fixture
def keeper(monkeypatch):
    monkeypatch.setattr(module, "_POLL", 0.0)
    keeper = LabgridKeeper(config().labgrid, run="run 7")
    keeper.client = Coordinator(keeper._me.name)
    return keeper


def acquire(keeper, *units, deadline=PAST, say=print):
    return keeper.acquire(units or [unit()], deadline=deadline, say=say)


def dead(of=HERE, **changes):
    """A process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(of, pid=child.pid, **changes)


# --- who holds a place ------------------------------------------------------------------------------------------------


def test_a_name_tells_the_process(monkeypatch):
    monkeypatch.setenv("LG_USERNAME", "ci/x+y")
    monkeypatch.setenv("LG_HOSTNAME", "runner/7")
    here = identity.me("run 7")
    assert here.name.startswith("runner_7/ci_x+y+nrfdfu-")
    assert identity.Identity.parse(here.name) == here
    assert str(here) == f"ci_x+y@runner_7 (process {os.getpid()})"
    assert here.name != identity.me("run 7").name, "two keepers of a process are two holders"
    assert here.sibling_of(identity.me("run 7"))
    assert not here.sibling_of(identity.me("run 8"))
    assert not identity.me().sibling_of(identity.me())


@pytest.mark.parametrize("name", ["pc/alice", "alice", "", "pc/alice+nrfdfu-1-2-3-4", "pc/a+nrfdfu-b-c-0-x-1-0"])
def test_other_names_are_nobodys_process(name):
    assert identity.Identity.parse(name) is None


def test_a_process_that_runs_is_not_dead():
    assert not identity.is_dead(HERE, HERE)
    assert identity.is_dead(replace(HERE, started=HERE.started + 1), HERE), "a later process has its number"
    assert identity.is_dead(dead(), HERE)


def test_a_process_that_has_ended_and_was_not_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity.process_start(child.pid) is None
    child.wait()


@pytest.mark.parametrize("changes", [{"host": "other"}, {"boot": "other", "machine": "d"}, {"boot": "other"}])
def test_where_a_process_cannot_be_looked_up_it_is_taken_for_alive(changes):
    """Another host; another machine of the same name; a container, whose machine is not known."""
    here = replace(HERE, machine="0") if changes == {"boot": "other"} else HERE
    assert not identity.is_dead(dead(here, **changes), here)


def test_who_ran_before_the_machine_was_restarted_is_dead():
    assert identity.is_dead(replace(HERE, boot="earlier"), HERE)


# --- taking a place ---------------------------------------------------------------------------------------------------


def test_a_free_place_is_reserved_acquired_and_its_reservation_dropped(keeper):
    keeper.client.add("b", "pc/alice")
    keeper.client.add("a", "pc/alice")
    keeper.client.add("c")
    lease = acquire(keeper)
    assert (lease.place, lease.unit.id, lease.unit.name) == ("c", "c", "x:c")
    assert [call[0] for call in keeper.client.calls] == ["look", "reserve", "acquire", "cancel"], (
        "no other was queued for"
    )
    assert keeper.client.reservations == {}
    lease.check()
    lease.release()
    lease.release()
    assert keeper.client.places["c"]["acquired"] is None
    assert keeper.client.pid is None
    with pytest.raises(LeaseError, match="was given back"):
        lease.check()


def test_units_with_ids_are_places_of_those_names_in_their_order(keeper):
    for name in ("a", "b", "c"):
        keeper.client.add(name)
    leases = [acquire(keeper, unit("c"), unit("a")) for _ in range(2)]
    assert [lease.place for lease in leases] == ["c", "a"]
    with pytest.raises(
        LeaseError, match=r"no place called c or a .*this process holds a, c already; its places are a, b"
    ):
        acquire(keeper, unit("c"), unit("a"))


def test_a_name_alone_does_not_do(keeper):
    keeper.client.add("a", tags={"board": "y"})
    with pytest.raises(LeaseError, match="no place called a with the tags board=x"):
        acquire(keeper, unit("a"))


def test_without_tags_any_place_would_do_so_none_does():
    keeper = LabgridKeeper(config(labgrid={"tags": {}}).labgrid)
    with pytest.raises(ConfigError, match="has no tags"):
        acquire(keeper)


def test_a_place_that_cannot_be_acquired_is_passed_over(keeper):
    keeper.client.add("a")
    keeper.client.add("b")
    keeper.client.fails["acquire", "a"] = Refused("Failed to acquire resources for place a")
    assert acquire(keeper).place == "b"
    assert ("release", "a") in keeper.client.calls, "its answer may have been lost"
    with pytest.raises(LeaseError, match="no unit can be used: a cannot be acquired: Failed"):
        acquire(keeper)
    assert keeper.client.reservations == {}


def test_a_place_whose_exporter_is_gone_is_not_waited_for(keeper):
    keeper.client.add("a", resources=[])
    with pytest.raises(LeaseError, match="no unit can be used: a offers no NetworkSerialPort: its exporter"):
        acquire(keeper, deadline=time.monotonic() + 3600)


def test_whoever_waits_queues_for_all_and_leaves_nothing(keeper):
    keeper.client.add("a", "pc/alice", changed=1_790_000_000.0)
    keeper.client.add("b", "pc/bob")
    keeper.client.add("c")
    keeper.client.fails["acquire", "c"] = Refused("Failed")
    queued = []

    def look():
        queued.append({item["wants"] for item in keeper.client.reservations.values()})
        if len(queued) == 3:
            keeper.client.places["b"]["acquired"] = None
        return Coordinator._look(keeper.client)

    keeper.client._look = look
    said = []
    lease = acquire(keeper, deadline=time.monotonic() + 3600, say=said.append)
    assert lease.place == "b"
    assert queued == [set(), {"a", "b"}, {"a", "b"}], "what cannot be had is not kept from others"
    assert said[0] == "waiting: c cannot be acquired: Failed"
    assert said[1].startswith("waiting: a is held by alice@pc since 2026-09-2")
    assert said[2].startswith("waiting: b is held by bob@pc since ")
    assert len(said) == 3, "what is known already is not said again"
    assert keeper.client.reservations == {}


def test_a_reservation_of_somebody_else_is_told(keeper):
    keeper.client.add("a", reservation="T")
    keeper.client.reservations["T"] = {"owner": "pc/bob", "token": "T", "state": 1, "place": "a", "until": 0.0}
    with pytest.raises(LeaseError, match=r"a is reserved for bob@pc until .* a client that was killed for 60 s"):
        acquire(keeper)
    assert list(keeper.client.reservations) == ["T"]


def test_the_limit_of_the_configuration_ends_the_wait():
    keeper = LabgridKeeper(config(labgrid={"reservation": 1e-9}).labgrid)
    keeper.client = Coordinator(keeper._me.name)
    keeper.client.add("a", "pc/alice")
    with pytest.raises(LeaseError, match="no unit is free: a is held by alice@pc"):
        acquire(keeper, deadline=time.monotonic() + 3600)


def sibling(keeper):
    """Another worker of the same run, whose process is the one that started this."""
    pid = os.getppid()
    return replace(keeper._me, pid=pid, started=identity.process_start(pid))


@pytest.fixture
def clock(monkeypatch):
    """A clock that runs while somebody sleeps, a second at a time."""
    clock = SimpleNamespace(now=1000.0)

    def sleep(_seconds):
        clock.now += 1.0

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


def test_a_worker_of_the_same_run_is_waited_for_past_the_deadline(keeper, clock, monkeypatch):
    keeper.client.add("a", sibling(keeper).name)
    look = keeper.client._look

    def looked():
        if clock.now > 1020.0:
            keeper.client.places["a"]["acquired"] = None
        return look()

    monkeypatch.setattr(keeper.client, "_look", looked)
    assert acquire(keeper, deadline=1010.0).place == "a"
    assert clock.now > 1020.0


def test_a_worker_of_the_same_run_is_not_waited_for_where_it_is_asked_once(keeper, clock):
    keeper.client.add("a", sibling(keeper).name)
    with pytest.raises(LeaseError, match="a is held by"):
        acquire(keeper, deadline=1000.0)
    assert clock.now == 1000.0


def test_what_this_process_holds_by_another_keeper_is_not_a_siblings(keeper, clock):
    keeper.client.add("a", identity.me("run 7").name)
    with pytest.raises(LeaseError, match="a is held by"):
        acquire(keeper, deadline=1010.0)
    assert clock.now == 1010.0


# --- what was left ----------------------------------------------------------------------------------------------------


def test_what_a_dead_process_left_is_taken_back(keeper):
    gone = dead(keeper._me)
    keeper.client.add("a", gone.name)
    keeper.client.add("b", reservation="T")
    keeper.client.reservations["T"] = {"owner": gone.name, "token": "T", "state": 1, "place": "b", "until": 0.0}
    assert [acquire(keeper).place for _ in range(2)] == ["a", "b"]
    assert keeper.client.reservations == {}


def test_what_a_living_process_or_another_holder_of_this_one_has_is_left(keeper):
    keeper.client.add("a", identity.me().name)
    keeper.client.add("b", dead(keeper._me, host="elsewhere").name)
    with pytest.raises(LeaseError, match=rf"a is held by \S+ \(process {os.getpid()}\).*b is held by"):
        acquire(keeper)
    assert not [call for call in keeper.client.calls if call[0] == "release"]


# --- lost -------------------------------------------------------------------------------------------------------------


def test_with_the_coordinator_all_leases_are_lost_and_stay_so(keeper):
    keeper.client.add("a")
    keeper.client.add("b")
    leases = [acquire(keeper) for _ in range(2)]
    keeper.client.fails["check"] = Gone("nobody answers")
    for _ in range(2):
        with pytest.raises(LeaseError, match=r"x:a \(labgrid's place a\) was lost: nobody answers"):
            leases[0].check()
        keeper.client.fails.clear()
    assert keeper.client.pid is None
    with pytest.raises(LeaseError, match=r"x:b .* was lost: nobody answers"):
        leases[1].check()


def test_one_lost_place_is_not_the_others(keeper):
    keeper.client.add("a")
    keeper.client.add("b")
    leases = [acquire(keeper) for _ in range(2)]
    keeper.client.places["a"]["acquired"] = "pc/alice"
    with pytest.raises(LeaseError, match=r"x:a .* was lost: it is gone"):
        leases[0].check()
    leases[1].check()


# --- what a place fills in --------------------------------------------------------------------------------------------


def place(*resources):
    return Place("p", {}, None, 0.0, None, tuple(Resource(**resource) for resource in resources))


def resource(cls, name=None, **args):
    return serial_port(cls=cls, name=name or cls, args=args)


def filled(board, *resources):
    return fill_in(board, place(*resources), lambda *arguments: ("lc", *arguments)).config


def test_the_file_goes_over_labgrid():
    uart = {"port": "/dev/ttyX", "baudrate": 9600}
    board = unit(uart=uart, probe={"unique_id": "7"}, power={"on": ["a"], "off": ["b"]})
    got = filled(board, serial_port(), resource("PyOCDProbe", uid="8"), resource("NetworkPowerPort"))
    assert (got.uart.port, got.uart.baudrate, got.probe.unique_id, got.power.on) == ("/dev/ttyX", 9600, "7", ("a",))
    assert problem(place(), board.config) is None


@pytest.mark.parametrize(
    ("args", "port"),
    [
        ({"host": "rack", "port": 4001}, "rfc2217://rack:4001"),
        ({"host": "rack", "port": 4001, "protocol": "rfc2217"}, "rfc2217://rack:4001"),
        ({"host": "rack", "port": 4001, "protocol": "raw"}, "socket://rack:4001"),
        ({"host": "fe80::1", "port": 4001, "protocol": "raw"}, "socket://[fe80::1]:4001"),
    ],
)
def test_a_serial_port_becomes_an_address(args, port):
    assert filled(unit(), serial_port(args=args)).uart.port == port


def test_the_rate_is_the_exporters_unless_the_file_has_one():
    assert filled(unit(), serial_port()).uart.baudrate == 1_000_000
    assert filled(unit(uart={"baudrate": 115200}), serial_port()).uart.baudrate == 115200


def test_a_probe_is_its_url_or_its_id():
    url = filled(unit(probe={}), serial_port(), resource("PyOCDProbe", uid="8", url="remote:rack:5555"))
    assert url.probe.unique_id == "remote:rack:5555"
    assert filled(unit(), serial_port(), resource("PyOCDProbe", uid="8")).probe.unique_id == "8"
    assert filled(unit(), serial_port()).probe is None


def test_of_several_serial_ports_the_one_called_uart_is_taken():
    ports = [serial_port(), serial_port(name="uart", args={"host": "h", "port": 2})]
    assert filled(unit(), *ports).uart.port == "rfc2217://h:2"
    assert "none is called uart" in problem(place(serial_port(), serial_port(name="b")), config())


def test_what_is_reached_by_ssh_alone_is_refused():
    assert "--isolated" in problem(place(serial_port(extra={"proxy_required": True})), config())


def test_power_and_named_outputs_become_commands():
    relay, other = resource("HttpDigitalOutput", "recovery"), resource("HttpDigitalOutput", "lamp")
    got = filled(unit(recovery={"entry": ["gpio"]}, probe={}), serial_port(), relay, other, resource("PDUDaemonPort"))
    assert got.power.off == ("lc", "-p", "p", "power", "off")
    assert got.recovery.line.assert_ == ("lc", "-p", "p", "io", "high", "recovery")
    assert got.recovery.line.release == ("lc", "-p", "p", "io", "low", "recovery")
    assert got.recovery.entry == ("gpio",)
    assert got.reset.line is None


def test_a_board_that_is_not_complete_with_its_place_is_told():
    with pytest.raises(
        ConfigError, match=r"x.toml: with what labgrid's place p offers \(NetworkSerialPort\), x is not"
    ):
        filled(unit(recovery={"entry": ["gpio"]}), serial_port())


# --- the process ------------------------------------------------------------------------------------------------------


def test_an_interpreter_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="is no file; make one: python -m venv"):
        interpreter(tmp_path / "python")


@pytest.mark.parametrize(
    ("program", "told"), [("exit 3", "its process has died"), ("echo oops >&2; exit 1", "it said: oops")]
)
def test_a_process_that_does_not_start_is_told(tmp_path, program, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    client = Client("rack:1", python, "h", "u")
    with pytest.raises(Gone, match=told):
        client.start()
    assert client.pid is None


def test_a_coordinator_that_is_not_there_is_asked_to_be_started(tmp_path):
    python = tmp_path / "python"
    answer = r'{"id": 1, "error": "no answer", "kind": "gone"}'
    python.write_text(f"#!/bin/sh\nread request\necho '{answer}'\ncat >/dev/null\n")
    python.chmod(0o755)
    with pytest.raises(Gone, match=r"rack:1 cannot be reached \(no answer\); is labgrid-coordinator running"):
        Client("rack:1", python, "h", "u").start()
