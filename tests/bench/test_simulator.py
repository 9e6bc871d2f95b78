"""The simulated board as the bench starts it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulator import alive, wait_until

from pytest_nrfdfu.bench import simulator as simulator_module
from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_lines import SerialLine
from pytest_nrfdfu.errors import BoardError
from pytest_nrfdfu.sim_admin import SimAdmin


def config(**tables):
    return BoardConfig.model_validate({"board": "own-sim", **tables})


@pytest.fixture
def start(request):
    def start(**tables):
        simulator = Simulator(config(**tables))
        request.addfinalizer(simulator.stop)
        return simulator

    return start


def test_its_endpoints_are_filled_in(start):
    simulator = start(sim={"baudrate": 460800}, recovery={"timeout": 3.0})
    wired, ends = simulator.wired(), simulator.endpoints
    assert (wired.uart.port, wired.uart.baudrate) == (ends["uart"], 460800)
    assert wired.probe is not None
    assert wired.probe.unique_id == ends["probe"]
    assert wired.recovery.line == SerialLine(driver="serial", port=ends["control"], line="rts", active="low")
    assert wired.recovery.timeout == 3.0
    assert wired.reset.line is None
    assert wired.board == "own-sim"
    assert wired.simulated, "what it is stays known"
    with SimAdmin(simulator.admin) as admin:
        assert admin.counters()["program"] == "bootloader"


def test_its_power_is_switched_by_commands_as_on_a_bench(start):
    simulator = start(sim={"baudrate": 0})
    power = simulator.wired().power
    assert power is not None
    assert not power.takes_usb
    assert power.settle <= 0.1
    with SimAdmin(simulator.admin) as admin:
        for command, powered in ((power.off, False), (power.off, False), (power.on, True), (power.on, True)):
            subprocess.run(command, check=True, timeout=60)
            assert admin.counters()["powered"] is powered
        assert admin.counters()["resets"]["POWER_ON"] == 2, "at the start, and once since"


def test_commands_in_the_file_win(start):
    power = {"on": ["relay", "on"], "off": ["relay", "off"], "settle": 2.0}
    wired = start(sim={}, power=power).wired().power
    assert wired is not None
    assert (wired.on, wired.off, wired.settle) == (("relay", "on"), ("relay", "off"), 2.0)


def test_the_command_finds_the_package_where_this_process_does(start, tmp_path, monkeypatch):
    """Not in the current directory; and with -E not by PYTHONPATH, which leads elsewhere here."""
    simulator = start(sim={"baudrate": 0})
    for folder in ("here", "elsewhere"):
        (tmp_path / folder / "pytest_nrfdfu").mkdir(parents=True)
        (tmp_path / folder / "pytest_nrfdfu" / "__init__.py").write_text("raise SystemExit(f'wrong: {__file__}')\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(simulator_module, "sys", SimpleNamespace(executable=sys.executable, flags=_Ignoring()))
    power = simulator.wired().power
    assert power is not None
    subprocess.run(power.on, check=True, timeout=60)


class _Ignoring:
    """The flags of an interpreter that was started with -E and -s."""

    ignore_environment = no_user_site = 1
    no_site = 0


def test_starting_the_command_imports_little():
    """It runs at the start of every run on a simulated board, and for every power cycle."""
    script = "import sys, pytest_nrfdfu.sim_admin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    heavy = {"pydantic", "pytest", "asyncio", "pytest_nrfdfu.config", "pytest_nrfdfu.sim", "serial", "subprocess"}
    assert not heavy & set(loaded.stdout.split())


def test_a_reset_line_is_wired_where_it_is_asked_for(start):
    wired = start(sim={"baudrate": 0}, recovery={"reset": "line"}).wired()
    assert wired.reset.line is not None
    assert wired.recovery.line is not None
    assert (wired.reset.line.line, wired.recovery.line.line) == ("dtr", "rts")
    assert wired.reset.line.port == wired.recovery.line.port


def test_what_is_known_of_its_bootloader_is_what_it_was_started_with(start):
    sim = {"bootloader": "ncs-1.9", "image_state": True, "hash": True}
    wired = start(sim=sim, bootloader={"receive_size": 256}).wired()
    profile = wired.bootloader.resolve()
    assert (profile.name, profile.image_state, profile.hash, profile.receive_size) == ("ncs-1.9", True, True, 256)
    assert profile.line_buffers == 2
    again = BoardConfig.model_validate(wired.model_dump(mode="json", by_alias=True))
    assert again.bootloader.resolve() == profile, "also behind xdist, where every field has been set"


@pytest.mark.parametrize(
    ("uart", "board", "rate"),
    [({}, 115200, 115200), ({}, 460800, 460800), ({}, 0, 1_000_000), ({"baudrate": 9600}, 115200, 9600)],
)
def test_the_rate_is_the_file_s_where_it_says_one_else_the_board_s(start, uart, board, rate):
    simulator = start(sim={"baudrate": board}, uart=uart)
    assert simulator.wired().uart.baudrate == rate


@pytest.mark.parametrize(("uart", "rate"), [({}, 460800), ({"baudrate": 9600}, 9600)])
def test_so_it_is_behind_xdist_where_every_field_is_set(request, uart, rate):
    dumped = config(sim={"baudrate": 460800}, uart=uart).model_dump(mode="json", by_alias=True)
    simulator = Simulator(BoardConfig.model_validate(dumped))
    request.addfinalizer(simulator.stop)
    assert simulator.wired().uart.baudrate == rate


def test_a_uart_that_vanishes_has_a_link_of_its_own(start):
    simulator = start(sim={"uart_vanishes": True, "faults": ["line-open"], "application_smp": "full"})
    link = Path(simulator.wired().uart.port)
    assert simulator.wired().uart.transient
    assert link.parent.is_dir()
    assert link.parent.stat().st_mode & 0o077 == 0, "nobody else's business"
    with SimAdmin(simulator.admin) as admin:
        assert admin.counters()["bench_faults"] == ["line-open"]
        admin.set_recovery_pin(low=True)
        admin.press_reset()
        wait_until(link.exists, "recovery's port")
    simulator.stop()
    assert not link.parent.exists()


def test_a_link_that_is_asked_for_is_taken(start, tmp_path):
    simulator = start(sim={"uart_vanishes": True, "uart_link": tmp_path / "here"})
    assert simulator.wired().uart.port == str(tmp_path / "here")
    assert not start(sim={}).wired().uart.transient


def test_it_stops(start):
    simulator = start(sim={})
    pid = simulator.pid
    assert alive(pid)
    simulator.stop()
    assert not alive(pid)


def test_what_it_cannot_be_is_told_with_its_own_words(tmp_path):
    (tmp_path / "app.bin").write_bytes(b"no image")
    with pytest.raises(BoardError, match=r"own-sim did not start: .*is not a signed MCUboot image .*check its \[sim\]"):
        Simulator(config(sim={"image": tmp_path / "app.bin"}))


@pytest.mark.parametrize("says", ["", "sys.stdout.write('{'); sys.stdout.flush();"])
def test_a_simulator_that_says_nothing_or_half_a_line_is_given_up(monkeypatch, says):
    popen = subprocess.Popen

    def silent(_command, **kwargs):
        return popen([sys.executable, "-c", f"import sys; {says} sys.stdin.read()"], **kwargs)

    monkeypatch.setattr(simulator_module, "_START_TIMEOUT", 0.2)
    monkeypatch.setattr(subprocess, "Popen", silent)
    with pytest.raises(BoardError, match=r"did not start within 0.2 s: it printed nothing"):
        Simulator(config(sim={}))


def test_a_board_that_is_not_simulated_is_not_simulated():
    with pytest.raises(ValueError, match="b is not a simulated board"):
        Simulator(BoardConfig.model_validate({"board": "b", "recovery": {"entry": ["smp"]}}))


def test_it_does_not_outlive_who_started_it():
    script = (
        "import os; from pytest_nrfdfu.bench.simulator import Simulator; from pytest_nrfdfu.config import BoardConfig\n"
        "s = Simulator(BoardConfig.model_validate({'board': 'b', 'sim': {}})); print(s.pid, s.admin, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9
    _, address = done.stdout.decode().split()

    def gone():
        try:
            SimAdmin(address).close()
        except BoardError:
            return True
        return False

    wait_until(gone, "the simulator's end")


def test_modules_in_the_current_directory_are_not_taken(start, tmp_path, monkeypatch):
    (tmp_path / "asyncio.py").write_text("raise SystemExit('the wrong asyncio')\n")
    monkeypatch.chdir(tmp_path)
    assert start(sim={}).endpoints["simulated"]
