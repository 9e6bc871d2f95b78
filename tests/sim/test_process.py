"""The simulator as a process, reached as a bench reaches it: by its UART, its control lines, its signals."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import serial
from pyocd.probe.aggregator import DebugProbeAggregator
from simulator import (
    DEADLINE,
    SLOT0,
    Host,
    Process,
    alive,
    control_lines,
    failure,
    image_hash,
    make_image,
    running,
    wait_until,
)

from pytest_nrfdfu import cli
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateRead, ParamsRequest

FAST = ("--baudrate", "0", "--flash-timing", "none")


def test_it_says_where_it_is():
    with running("--board", "product", "--unique-id", "77", "--bootloader", "ncs-2.4") as sim:
        assert Path(sim["uart"]).exists()
        assert sim["control"].startswith("rfc2217://127.0.0.1:")
        assert sim["probe"].startswith("remote:127.0.0.1:")
        assert sim["admin"].startswith("127.0.0.1:")
        assert sim["pid"] == sim.child.pid
        assert (sim["board"], sim["bootloader"], sim["unique_id"]) == ("product", "ncs-2.4", "77")


@pytest.mark.parametrize("uart", ["pty", "tcp"])
def test_an_image_list_and_an_upload_in_recovery(uart):
    image = make_image("2.0.1", 3000)
    with running("--stay-in-recovery", "--uart", uart, *FAST) as sim, SimAdmin(sim["admin"]) as admin:
        with Host(sim["uart"]) as host:
            assert host.images() == ()
            host.upload(image)
            (found,) = host.images()
            assert (found.slot, found.version, found.hash) == (0, "2.0.1", image_hash(image))
        assert admin.read_flash(SLOT0, len(image)) == image
        with Host(sim["uart"]) as host:  # the port can be opened again
            assert len(host.images()) == 1
        counters = admin.counters()
        assert counters["uploads"] == 1
        assert counters["upload_requests"] == -(-len(image) // 512)
        assert counters["requests"] == counters["responses"] == counters["upload_requests"] + 3


def test_an_application_prints_its_banner_with_version_and_hash(tmp_path):
    image = make_image("4.5.6")
    (tmp_path / "app.bin").write_bytes(image)
    with running("--image", tmp_path / "app.bin") as sim, Host(sim["uart"]) as host:
        with SimAdmin(sim["admin"]) as admin:
            admin.press_reset()
        text = host.expect(image_hash(image).hex().encode() + b"\r\n")
        assert b"*** Booting Zephyr OS build v4.4.0 ***\r\n" in text
        assert b"application 4.5.6 hash " in text


def test_holding_rts_over_a_pulse_on_dtr_enters_recovery_and_reset_leaves_it(tmp_path):
    (tmp_path / "app.bin").write_bytes(make_image("1.0.0"))
    with (
        running("--image", tmp_path / "app.bin", *FAST) as sim,
        SimAdmin(sim["admin"]) as admin,
        Host(sim["uart"]) as host,
    ):
        wait_until(lambda: admin.counters()["program"] == "application", "the boot")
        with control_lines(sim["control"]) as lines:
            assert "RESETPIN" not in admin.counters()["resets"], "opening the port must not reset the board"
            lines.rts = True
            lines.dtr = True
            wait_until(lambda: admin.counters()["nreset_low"], "the reset")
            assert admin.counters()["recovery_pin_low"]
            lines.dtr = False
            (found,) = host.images()
            assert found.version == "1.0.0"
            assert admin.counters()["in_recovery"]
            lines.rts = False
            wait_until(lambda: not admin.counters()["recovery_pin_low"], "letting go")
            host.text = b""
            host.reset()
            host.expect(b"application 1.0.0")
        counters = admin.counters()
        assert counters["resets"]["RESETPIN"] == 1
        assert counters["resets"]["SREQ"] == 1
        assert not counters["in_recovery"]


def test_lines_go_inactive_when_the_client_goes():
    with running("--stay-in-recovery") as sim, SimAdmin(sim["admin"]) as admin:
        with control_lines(sim["control"]) as lines:
            lines.rts = lines.dtr = True
            wait_until(lambda: admin.counters()["nreset_low"], "the reset")
            assert admin.counters()["control"]["clients"] == 1
        wait_until(lambda: not admin.counters()["nreset_low"], "letting go")
        counters = admin.counters()
        assert not counters["recovery_pin_low"]
        assert counters["resets"]["RESETPIN"] == 1
        assert counters["control"] == {"clients": 0, "clients_seen": 1, "refused": 0}


def connect(url):
    host, port = url.rpartition("://")[2].removeprefix("remote:").split(":")
    return socket.create_connection((host, int(port)), DEADLINE)


def test_a_second_client_of_the_lines_is_sent_away():
    with running() as sim, SimAdmin(sim["admin"]) as admin, control_lines(sim["control"]) as lines:
        with connect(sim["control"]) as second:
            said = b""
            while data := second.recv(100):
                said += data
            assert b"in use" in said
        lines.rts = True
        wait_until(lambda: admin.counters()["recovery_pin_low"], "the first client's line")
        assert admin.counters()["control"]["refused"] == 1


def test_garbage_on_the_control_port_hurts_nobody():
    with running() as sim:
        for garbage in (b"\xff\xf0", b"\xff\xfa\x2c\x01\xff\xf0", b"hello\n", bytes(range(256)) * 10):
            with connect(sim["control"]) as client:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(100):
                    pass
        with control_lines(sim["control"]) as lines:
            lines.rts = True


def test_pyocd_reaches_the_probe():
    with running("--unique-id", "1050099999") as sim, SimAdmin(sim["admin"]) as admin:
        probe = DebugProbeAggregator.get_all_connected_probes(unique_id=sim["probe"])[0]
        probe.open()
        try:
            probe.reset()
            assert admin.counters()["probe"]["owners"] == 1
        finally:
            probe.close()
        counters = admin.counters()
        assert counters["resets"]["RESETPIN"] == 1
        assert counters["probe"]["max_owners"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(number):
    sim = Process()
    # Open here, so that nobody else gets the same name meanwhile.
    uart = os.open(sim["uart"], os.O_RDWR | os.O_NOCTTY)
    try:
        with connect(sim["control"]) as control, connect(sim["admin"]) as admin, connect(sim["probe"]) as probe:
            sim.child.send_signal(number)
            assert sim.wait() == (0, "")
            assert not alive(sim["pid"])
            for connection in (control, admin, probe):
                while connection.recv(1000):
                    pass  # what was said before the end
        assert not Path(sim["uart"]).exists()
        with pytest.raises(OSError, match="Input/output error"):
            os.write(uart, b"x")
    finally:
        os.close(uart)


def test_the_end_of_its_standard_input_ends_it():
    sim = Process()
    with Host(sim["uart"]):
        sim.child.stdin.close()
        sim.child.stdin = None
        assert sim.wait() == (0, "")
        assert not Path(sim["uart"]).exists()


def test_input_that_says_nothing_does_not_end_it(tmp_path):
    (tmp_path / "empty").touch()
    master, slave = pty.openpty()
    try:
        with Path(os.devnull).open() as null, (tmp_path / "empty").open() as file:
            for stdin in (null, file, slave):
                with running("--stay-in-recovery", *FAST, stdin=stdin) as sim, Host(sim["uart"]) as host:
                    assert host.images() == ()
    finally:
        os.close(master)
        os.close(slave)


def test_written_input_is_no_end_and_shutdown_is():
    sim = Process()
    sim.child.stdin.write(b"hello\n")
    sim.child.stdin.flush()
    with SimAdmin(sim["admin"]) as admin:
        admin.counters()
        admin.shutdown()
    assert sim.wait() == (0, "")


def received(admin):
    return admin.counters()["uart"]["received"]


def dropped(admin):
    return admin.counters()["faults"]["to_board_dropped"]


def test_lost_bytes_are_counted_and_recovered_from():
    with (
        running("--stay-in-recovery", "--seed", 3, "--drop-rate", 0.02, *FAST) as sim,
        SimAdmin(sim["admin"]) as admin,
    ):
        with serial.serial_for_url(sim["uart"]) as port:
            port.write(b"x" * 999 + b"\n")
            wait_until(lambda: received(admin) + dropped(admin) == 1000, "arrival")
        assert 5 < dropped(admin) < 50
        assert admin.set_rates(drop_rate=0)["to_board_drop_rate"] == 0
        with Host(sim["uart"]) as host:
            host.port.write(b"\n")
            assert host.images() == ()


def test_flash_in_a_file_outlives_the_process(tmp_path):
    image, flash = make_image("7.8.9", 6000), tmp_path / "flash.bin"
    with running("--flash-file", flash, "--stay-in-recovery", *FAST) as sim, Host(sim["uart"]) as host:
        host.upload(image)
        status, errors = failure("--flash-file", flash)
        assert status == 2
        assert "another simulated board" in errors
    assert flash.stat().st_size == 1 << 20
    with running("--flash-file", flash) as sim, SimAdmin(sim["admin"]) as admin:
        wait_until(lambda: admin.counters()["program"] == "application", "the boot")
        assert admin.flash_hash().image_hash == image_hash(image)


def test_switches_change_the_bootloader(tmp_path):
    (tmp_path / "board.toml").write_text('board = "x"\n[sim]\nstay_in_recovery = true\necho = true\nbaudrate = 0\n')
    with running("--config", tmp_path / "board.toml", "--params", "--no-hash") as sim, Host(sim["uart"]) as host:
        assert sim["baudrate"] == 0
        assert host.ask(EchoRequest("hi")).text == "hi"
        assert host.ask(ParamsRequest()).buf_size == 1024


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baudrate", "-5"], "negative"),
        (["--bootloader", "ncs-9"], "ncs-2.6"),
        (["--drop-rate", "2"], "from 0 to 1"),
        (["--image", "/nowhere/app.bin"], "/nowhere/app.bin"),
        (["--nonsense"], "--nonsense"),
        (["--config", "{tmp}/wrong.toml"], "baud"),
        (["--config", "{tmp}/type.toml"], "locked"),
        (["--flash-file", "{tmp}/short"], "1048576"),
        (["--image", "{tmp}/short"], "not a signed"),
        (["--image", "{tmp}/large.bin"], "slot 0 holds"),
        (["--public-key", "{tmp}/short"], ""),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, words):
    (tmp_path / "wrong.toml").write_text("[sim]\nbaud = 1\n")
    (tmp_path / "type.toml").write_text('[sim]\nlocked = "yes"\n')
    (tmp_path / "short").write_bytes(b"short")
    (tmp_path / "large.bin").write_bytes(make_image(size=0x70000))
    status, errors = failure(*[a.format(tmp=tmp_path) for a in arguments])
    assert status == 2
    assert errors.startswith("nrfdfu sim: error: ")
    assert words in errors
    assert errors.count("\n") == 1


def test_the_command_line_starts_it_too():
    with running("--stay-in-recovery", command=("-m", "pytest_nrfdfu.cli", "sim")) as sim, Host(sim["uart"]) as host:
        assert host.ask(ImageStateRead()).images == ()


def test_the_command_line_explains_itself(capsys):
    assert cli.main(["--help"]) == 0
    assert "simulated" in capsys.readouterr().out
    assert cli.main(["nonsense"]) == 2
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [(["sim", "--help"], 0, b"--stay-in-recovery"), (["sim", "--nonsense"], 2, b"nrfdfu sim: error")],
)
def test_the_simulator_s_options_are_its_own(arguments, status, words):
    command = [sys.executable, "-m", "pytest_nrfdfu.cli", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE)
    assert done.returncode == status
    assert words in done.stdout + done.stderr


def test_the_command_line_does_not_load_the_simulator():
    code = "import sys, pytest_nrfdfu.cli; print([m for m in sys.modules if m.startswith('pytest_nrfdfu.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=DEADLINE)
    assert json.loads(done.stdout.decode().replace("'", '"')) == ["pytest_nrfdfu.cli"]
