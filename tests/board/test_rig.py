"""The child process that owns probe and lines: its life, its deadlines, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from simulator import DEADLINE, Process, wait_until

from pytest_nrfdfu.board import lines
from pytest_nrfdfu.board import rig as rig_module
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError
from pytest_nrfdfu.sim_admin import SimAdmin

RESETREAS = 0x50005400


def line_rig(assert_, release=("true",), **tables):
    """A rig of one line that is driven by commands: it starts without pyOCD."""
    line = {"driver": "command", "assert": list(assert_), "release": list(release)}
    tables = {
        "board": "bare",
        "uart": {"port": "/dev/null"},
        "recovery": {"entry": ["gpio"], "reset": "line", "line": line},
        "reset": {"line": line, "hold": 0.001},
        **tables,
    }
    return Rig(BoardConfig.model_validate(tables), "dk-07")


@pytest.fixture
def make(request):
    def start(*args, **kwargs):
        rig = line_rig(*args, **kwargs)
        request.addfinalizer(rig.stop)
        rig.start()
        return rig

    return start


def ended(pid):
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


# --- life -----------------------------------------------------------------------------------------------------------


def test_it_starts_once_and_stops(make):
    rig = make(["true"])
    pid = rig.pid
    rig.start()
    assert rig.pid == pid
    rig.stop()
    assert rig.pid is None
    assert ended(pid)
    rig.stop()


def test_a_call_starts_it(request):
    rig = line_rig(["true"])
    request.addfinalizer(rig.stop)
    assert rig.pid is None
    rig.set_line("recovery", asserted=True)
    assert rig.pid is not None


def test_it_knows_what_it_has(make, sim):
    rig = make(["true"])
    assert rig.line_names == ("recovery", "reset")
    assert not rig.has_probe
    assert sim.unit.rig.line_names == ("recovery",)
    assert sim.unit.rig.has_probe


def test_lines_are_released_at_start_and_at_the_end(make, tmp_path):
    log = tmp_path / "log"
    rig = make(["sh", "-c", f"echo on >> {log}"], ["sh", "-c", f"echo off >> {log}"])
    assert log.read_text().split() == ["off", "off"], "both lines, at the start"
    rig.set_line("recovery", asserted=True)
    rig.stop()
    assert log.read_text().split() == ["off", "off", "on", "off", "off"]


def test_release_lets_go_of_all_lines(make, tmp_path):
    log = tmp_path / "log"
    rig = make(["true"], ["sh", "-c", f"echo off >> {log}"])
    log.unlink()
    rig.release()
    assert log.read_text().split() == ["off", "off"]


def test_a_line_that_does_not_work_fails_the_start(request):
    rig = line_rig(["true"], ["sh", "-c", "echo no relay >&2; exit 3"])
    request.addfinalizer(rig.stop)
    with pytest.raises(LineError, match=r"dk-07: the recovery line's command ended with status 3: .*no relay"):
        rig.start()
    assert rig.pid is None


def test_errors_keep_their_kind(make):
    rig = make(["false"])
    pid = rig.pid
    with pytest.raises(LineError, match="status 1"):
        rig.set_line("recovery", asserted=True)
    with pytest.raises(LineError, match="no power line is configured"):
        rig.set_line("power", asserted=True)
    with pytest.raises(ProbeError, match=r"no probe is configured: add a \[probe\] table"):
        rig.read32(RESETREAS)
    with pytest.raises(BoardError, match="unknown method 'explode'"):
        rig.call("explode")
    with pytest.raises(BoardError, match="set_line: TypeError"):
        rig.call("set_line", nonsense=1)
    assert rig.pid == pid, "errors do not cost the child its life"


# --- power and commands ---------------------------------------------------------------------------------------------


def logging(log, word):
    return ["sh", "-c", f"echo {word} >> {log}"]


def power(log, **changes):
    return {"on": logging(log, "on"), "off": logging(log, "off"), "settle": 0.0, **changes}


def test_power_is_switched_on_at_the_start_and_off_only_when_asked(make, tmp_path):
    log = tmp_path / "log"
    rig = make(["true"], power=power(log))
    assert rig.has_power
    assert log.read_text().split() == ["on"]
    rig.power(False)
    rig.power(True)
    rig.power_cycle()
    rig.reset("power")
    rig.stop()
    assert log.read_text().split() == ["on", "off", "on", "off", "on", "off", "on"], "and nothing when it ends"


def test_lines_are_let_go_before_power_comes(make, tmp_path):
    log = tmp_path / "log"
    make(["true"], logging(log, "line"), power=power(log))
    assert log.read_text().split() == ["line", "line", "on"]


@pytest.mark.parametrize("release", [Rig.release, Rig.stop])
def test_power_that_is_off_is_on_again_afterwards(make, tmp_path, release):
    log = tmp_path / "log"
    rig = make(["true"], power=power(log))
    rig.power(False)
    release(rig)
    assert log.read_text().split() == ["on", "off", "on"]
    rig.stop()
    assert log.read_text().split() == ["on", "off", "on"]


def test_power_that_is_off_does_not_keep_lines_from_being_let_go(make, tmp_path):
    """Everything is released, also where something cannot be; the first error is told."""
    log, release = tmp_path / "log", tmp_path / "release"
    release.write_text("#!/bin/sh\n")
    release.chmod(0o755)
    rig = make(["true"], [str(release)], power=power(log))
    rig.power(False)
    release.write_text("#!/bin/sh\necho relay lost >&2; exit 1\n")
    with pytest.raises(LineError, match=r"recovery line.*relay lost"):
        rig.release()
    assert log.read_text().split() == ["on", "off", "on"]
    release.write_text("#!/bin/sh\n")


def test_one_line_that_fails_at_the_start_does_not_leave_the_other_asserted(request, tmp_path):
    log = tmp_path / "log"
    rig = line_rig(["true"], ["sh", "-c", f"echo tried >> {log}; exit 1"])
    request.addfinalizer(rig.stop)
    with pytest.raises(LineError, match="recovery line"):
        rig.start()
    assert log.read_text().split() == ["tried", "tried"]


def test_a_power_switch_that_fails_is_a_line_error(request, tmp_path):
    rig = line_rig(["true"], power=power(tmp_path / "log", on=["sh", "-c", "echo port 3 not found >&2; exit 2"]))
    request.addfinalizer(rig.stop)
    with pytest.raises(LineError, match=r"the command that switches power on ended with status 2: .*port 3 not found"):
        rig.start()
    assert rig.pid is None


def test_a_rig_without_a_power_switch_says_so(make):
    rig = make(["true"])
    assert not rig.has_power
    for switch in (rig.power_cycle, lambda: rig.power(True), lambda: rig.reset("power")):
        with pytest.raises(LineError, match=r"no power switch is configured: add a \[power\] table"):
            switch()


def test_a_reset_may_be_a_command(make, tmp_path):
    log = tmp_path / "log"
    line = {"driver": "command", "assert": ["true"], "release": ["true"]}
    rig = make(["true"], reset={"line": line, "command": logging(log, "reset"), "hold": 0.001})
    rig.reset("command")
    assert log.read_text().split() == ["reset"]
    failing = make(["true"], reset={"line": line, "command": ["sh", "-c", "echo jammed >&2; exit 3"]})
    with pytest.raises(LineError, match=r"the reset command ended with status 3: .*jammed"):
        failing.reset("command")
    without = make(["true"])
    with pytest.raises(LineError, match="no reset command is configured"):
        without.reset("command")


def test_a_reset_by_smp_is_not_the_rigs(make):
    rig = make(["true"])
    with pytest.raises(ValueError, match="asked of the application"):
        rig.reset("smp")


def test_a_line_that_is_not_read_back_is_not_known(make):
    assert make(["true"]).line_level("recovery") is None


def test_a_rig_of_a_power_switch_alone_is_needed(tmp_path):
    nothing = {"board": "b", "uart": {"port": "x"}, "recovery": {"entry": ["smp"]}}
    assert not Rig(BoardConfig.model_validate(nothing), "b").is_needed
    assert Rig(BoardConfig.model_validate(nothing | {"power": power(tmp_path)}), "b").is_needed
    assert Rig(BoardConfig.model_validate(nothing | {"reset": {"command": ["true"]}}), "b").is_needed


# --- hanging and dying ----------------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_ended_and_the_child_replaced(make, tmp_path):
    note = tmp_path / "pid"
    rig = make(["sh", "-c", f"echo $$ > {note}; exec sleep 600"])
    pid = rig.pid
    with pytest.raises(LineError) as caught:
        rig.call("set_line", deadline=1.0, name="recovery", asserted=True)
    text = str(caught.value)
    assert "dk-07: the process that owns probe and lines was asked for set_line: it did not answer within 1 s" in text
    assert "it was replaced, and everything released" in text
    assert "its driver or command hangs" in text
    assert rig.pid not in {pid, None}
    assert ended(pid)
    wait_until(lambda: ended(int(note.read_text())), "the end of the command that hung")
    rig.set_line("recovery", asserted=False)


def test_deadlines_leave_time_for_the_commands_that_drive_lines(monkeypatch):
    """Two lines whose commands take up to 8 s each are slower than the deadline of a call that knows of none."""
    line = {"driver": "command", "assert": ["true"], "release": ["true"]}
    rig = line_rig(["true"], reset={"line": line, "hold": 0.5})
    given = {}
    monkeypatch.setattr(Rig, "call", lambda _self, method, **arguments: given.setdefault(method, arguments))
    rig.release()
    rig.reset("line")
    assert given["release"]["deadline"] > 2 * lines.COMMAND_TIMEOUT
    assert given["reset"]["deadline"] > 2 * lines.COMMAND_TIMEOUT + 0.5


def test_a_killed_process_that_does_not_end_is_given_up_with_a_message(make, monkeypatch, caplog):
    rig = make(["true"])
    pipe = rig._pipe
    end = pipe._child.wait

    def wait(timeout=None):
        assert timeout is not None, "every wait has a deadline"
        raise subprocess.TimeoutExpired("child", timeout)

    monkeypatch.setattr(pipe._child, "wait", wait)
    pipe.end(0.0)
    assert f"process {pipe._child.pid}, which owns probe and lines, was killed and does not end" in caplog.text
    end(DEADLINE)
    monkeypatch.undo()


def test_a_child_that_cannot_be_replaced_is_not_said_to_be(make, tmp_path):
    release = tmp_path / "release"
    release.write_text("#!/bin/sh\n")
    release.chmod(0o755)
    rig = make(["sleep", "600"], [str(release)])
    release.write_text("#!/bin/sh\necho relay lost >&2; exit 1\n")
    with pytest.raises(LineError, match=r"lines may still be asserted \(.*relay lost\)") as caught:
        rig.call("set_line", deadline=0.5, name="recovery", asserted=True)
    assert "everything released" not in str(caught.value)


def test_a_probe_that_never_answers_is_given_up(monkeypatch, request):
    """pyOCD's client waits for ever for an answer that does not come."""
    monkeypatch.setattr(rig_module, "_START_TIMEOUT", 2.5)
    monkeypatch.setattr(rig_module, "_COMMAND_TIMEOUT", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"remote:127.0.0.1:{mute.getsockname()[1]}"
        rig = line_rig(["true"], probe={"unique_id": address})
        request.addfinalizer(rig.stop)
        with pytest.raises(ProbeError, match=r"asked for start: it did not answer within 2\.5 s") as caught:
            rig.start()
    assert caught.value.cause == "hangs"
    assert "check the network, and restart the probe server" in str(caught.value)
    assert rig.pid is None


# --- lying ----------------------------------------------------------------------------------------------------------

_LIAR = """
import json, os, sys
if any(argument.endswith("rig_child") for argument in sys.orig_argv):
    calls = os.fdopen(0, "rb", buffering=0)
    def answer(text):
        os.write(1, text.encode() + b"\\n")
    while line := calls.readline():
        call = json.loads(line)
        good = {"id": call["id"], "result": None}
        if call["method"] in ("start", "release"):
            answer(json.dumps(good))
            continue
        LIE
    os._exit(0)
"""
_LIES = {
    "garbage": ('answer("<html>not json</html>")', "did not answer within .*, but printed 1 other lines .*<html>"),
    "a list": ("answer('[1, 2]')", "did not answer within"),
    "the wrong id": ("""answer('{"id": 999, "result": 5}')""", "did not answer within .*999"),
    "no result": ("""answer('{"id": %d}' % call["id"])""", "its answer makes no sense"),
    "the wrong type": ("""answer('{"id": %d, "result": "5"}' % call["id"])""", "its answer makes no sense: '5'"),
    "too large a number": (
        """answer('{"id": %d, "result": 99999999999}' % call["id"])""",
        "its answer makes no sense: '99999999999'",
    ),
    "no end": ("""while True: os.write(1, b"x" * 65536)""", "it prints without end"),
    "endless garbage": ("""while True: answer("noise")""", "did not answer within .*, but printed .*'noise'"),
}


@pytest.fixture
def liar(tmp_path, monkeypatch, request):
    """A rig whose child says what it likes once it was started."""

    def start(lie):
        (tmp_path / "sitecustomize.py").write_text(_LIAR.replace("LIE", lie))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        rig = line_rig(["true"], probe={"unique_id": "remote:127.0.0.1:1"})
        request.addfinalizer(rig.stop)
        rig.start()
        return rig

    return start


@pytest.mark.parametrize(("lie", "told"), _LIES.values(), ids=_LIES)
def test_a_child_that_lies_is_replaced_within_the_deadline(liar, monkeypatch, lie, told):
    monkeypatch.setattr(Rig.call, "__kwdefaults__", {"deadline": 0.5})
    rig = liar(lie)
    pid = rig.pid
    with pytest.raises(ProbeError, match=told) as caught:
        rig.read32(RESETREAS)
    assert caught.value.cause == "hangs"
    assert "it was replaced" in str(caught.value)
    assert rig.pid not in {pid, None}
    assert ended(pid)


def test_a_child_that_tells_nonsense_of_the_chip_is_replaced(liar):
    rig = liar("""answer(json.dumps(good | {"result": {"application": "ajar", "network": "open"}}))""")
    pid = rig.pid
    with pytest.raises(ProbeError, match=r"its answer makes no sense: .*ajar"):
        rig.chip_state()
    assert rig.pid != pid


def test_an_error_of_an_unknown_kind_is_an_error(liar):
    rig = liar("""answer(json.dumps({"id": call["id"], "error": ["odd"], "kind": {}}))""")
    pid = rig.pid
    with pytest.raises(BoardError, match=r"dk-07: \['odd'\]"):
        rig.read32(RESETREAS)
    assert rig.pid == pid


# --- dying ----------------------------------------------------------------------------------------------------------


def test_a_child_that_is_killed_during_a_call_is_an_error_at_once(make, tmp_path):
    note = tmp_path / "note"
    rig = make(["sh", "-c", f"echo $$ > {note}; exec sleep 600"])
    pid = rig.pid

    def kill():
        wait_until(lambda: note.exists() and note.read_text().strip(), "the call")
        os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        with pytest.raises(LineError, match="asked for set_line: its process has died") as caught:
            rig.call("set_line", deadline=DEADLINE, name="recovery", asserted=True)
        killed.result()
    wait_until(lambda: ended(int(note.read_text())), "the end of the command that it ran")
    assert "it was replaced, and everything released" in str(caught.value)
    assert rig.pid not in {pid, None}


def test_a_child_that_was_killed_is_an_error_once(sim):
    rig = sim.unit.rig
    pid = rig.pid
    rig.set_line("recovery", asserted=True)
    assert sim.admin.counters()["recovery_pin_low"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ended(pid), "its death")
    with pytest.raises(ProbeError, match="its process has died") as caught:
        rig.read32(RESETREAS)
    assert caught.value.cause == "died"
    assert "it was replaced, and everything released" in str(caught.value)
    assert not sim.admin.counters()["recovery_pin_low"]
    assert rig.pid not in {pid, None}
    assert isinstance(rig.read32(RESETREAS), int)


def test_what_a_dying_child_said_is_told(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.exit('libusb is missing')\n")
    with pytest.raises(LineError, match=r"its process has died; it said: .*libusb is missing"):
        make(["true"])


def test_ctrl_c_at_the_terminal_does_not_reach_it(make):
    rig = make(["true"])
    pid = rig.pid
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    rig.set_line("recovery", asserted=True)
    assert rig.pid == pid


def test_a_call_interrupted_by_ctrl_c_does_not_answer_the_next(sim, monkeypatch):
    rig = sim.unit.rig

    def interrupted(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rig._pipe, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rig.probe_info()
    assert isinstance(rig.read32(RESETREAS), int), "not the answer to probe_info"


_PARENT = """
import json, sys, time
from pytest_nrfdfu.board.rig import Rig
from pytest_nrfdfu.config import BoardConfig
rig = Rig(BoardConfig.model_validate(json.loads(sys.argv[1])), "dk-07")
rig.start()
rig.set_line("recovery", asserted=True)
rig.set_line("reset", asserted=True)
print(rig.pid, flush=True)
sys.stdin.read()
"""


def orphaned(sim):
    """A parent, and its rig's child, that hold both lines of `sim`."""
    serial = {"driver": "serial", "port": sim["control"]}
    settings = {
        "board": "bare",
        "uart": {"port": sim["uart"]},
        "probe": {"unique_id": sim["probe"]},
        "recovery": {"reset": "line", "line": {**serial, "line": "rts"}},
        "reset": {"line": {**serial, "line": "dtr"}},
    }
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return parent, int(parent.stdout.readline())


def test_the_death_of_its_parent_releases_everything():
    sim = Process("--baudrate", 0)
    parent, child = orphaned(sim)
    try:
        with SimAdmin(sim["admin"]) as admin:
            counters = admin.counters()
            assert counters["recovery_pin_low"]
            assert counters["nreset_low"]
            parent.kill()
            wait_until(
                lambda: not (admin.counters()["recovery_pin_low"] or admin.counters()["nreset_low"]),
                "the release of both lines",
            )
            wait_until(lambda: ended(child), "the child's end")
            assert not admin.counters()["probe"]["owners"]
    finally:
        parent.kill()
        parent.communicate()
        sim.stop()


def test_the_death_of_its_parent_ends_also_a_child_that_hangs(tmp_path):
    note = tmp_path / "note"
    script = (
        "import sys; from pytest_nrfdfu.board.rig import Rig; from pytest_nrfdfu.config import BoardConfig\n"
        "import json; rig = Rig(BoardConfig.model_validate(json.loads(sys.argv[1])), 'dk-07'); rig.start()\n"
        "print(rig.pid, flush=True); rig.set_line('recovery', asserted=True)\n"
    )
    line = {"driver": "command", "assert": ["sh", "-c", f"echo $$ > {note}; exec sleep 600"], "release": ["true"]}
    settings = {
        "board": "b",
        "uart": {"port": "x"},
        "recovery": {"reset": "line", "line": line},
        "reset": {"line": line},
    }
    parent = subprocess.Popen([sys.executable, "-c", script, json.dumps(settings)], stdout=subprocess.PIPE)
    try:
        child = int(parent.stdout.readline())
        wait_until(lambda: note.exists() and note.read_text().strip(), "the command")
        parent.kill()
        wait_until(lambda: ended(child), "the child's end")
        wait_until(lambda: ended(int(note.read_text())), "the command's end")
    finally:
        parent.kill()
        parent.communicate()


# --- drivers that behave badly --------------------------------------------------------------------------------------

_NOISY_DRIVER = """
import os, sys
print("loading")
class Port:
    write_timeout = exclusive = None
    def open(self):
        print("Which probe?", flush=True)
        try:
            input("> ")
        except EOFError:
            os.write(1, b'{"id": 1, "result": null}\\n')
        else:
            raise SystemExit("a prompt took a call")
        os.chdir("/")
    def close(self): pass
    def fileno(self): return 0
def serial_for_url(*args, **kwargs):
    return Port()
"""


def test_a_driver_that_prints_and_prompts_does_not_disturb_the_protocol(tmp_path, monkeypatch, request):
    (tmp_path / "serial.py").write_text(_NOISY_DRIVER)
    (tmp_path / "sitecustomize.py").write_text("print('5\\nhello')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here = Path.cwd()
    line = {"driver": "serial", "port": "/dev/ttyUSB9", "line": "rts"}
    settings = {"board": "b", "uart": {"port": "x"}, "recovery": {"entry": ["gpio"], "reset": "line", "line": line}}
    settings["reset"] = {"line": {**line, "line": "dtr"}}
    rig = Rig(BoardConfig.model_validate(settings), "dk-07")
    request.addfinalizer(rig.stop)
    rig.start()
    rig.set_line("recovery", asserted=True)
    with pytest.raises(ProbeError, match="no probe is configured"):
        rig.read32(0)
    assert Path.cwd() == here


def test_a_command_cannot_take_calls_from_the_pipe(make):
    rig = make(["cat"])
    rig.call("set_line", deadline=DEADLINE, name="recovery", asserted=True)


def test_modules_in_the_current_directory_are_not_taken(make, tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')\n")
    monkeypatch.chdir(tmp_path)
    make(["true"]).set_line("recovery", asserted=True)
