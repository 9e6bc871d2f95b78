"""Faults of the bench, the host's baud rate, ports that come and go: as a host of the simulator's process has them."""

import os
import select
import socket
import time
from pathlib import Path

import pytest
import serial
from simulator import DEADLINE, Host, control_lines, failure, image_hash, make_image, running, wait_until

from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateRead, ResetRequest

FAST = ("--baudrate", "0", "--flash-timing", "none")
REQUEST = console.encode(encode(ImageStateRead(), 1))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(make_image("1.2.3"))
    return path


class Raw:
    """A host that reads bytes."""

    def __init__(self, url, baudrate=115200):
        self.port = serial.serial_for_url(url, baudrate=baudrate, timeout=0.05, write_timeout=DEADLINE)
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.port.close()

    def wait(self, condition):
        deadline = time.monotonic() + DEADLINE
        while not condition(self.data):
            assert time.monotonic() < deadline, self.data
            self.data += self.port.read(max(1, self.port.in_waiting))
        return self.data


def test_faults_of_the_uart_come_and_go():
    with running("--stay-in-recovery", *FAST, "--fault", "uart-silent") as sim, SimAdmin(sim["admin"]) as admin:
        assert admin.counters()["bench_faults"] == ["uart-silent"]
        with Host(sim["uart"]) as host:
            host.port.write(REQUEST)
            wait_until(lambda: admin.counters()["responses"] == 1, "an answer that nobody hears")
            assert host.port.read(1) == b""
            assert admin.set_fault("uart-silent", False) == []
            assert host.images() == ()
            before = admin.counters()["uart"]["received"]
            assert admin.set_fault("uart-deaf") == ["uart-deaf"]
            host.port.write(REQUEST)
            admin.counters()  # by its answer the bytes, which were there before, have been taken
            assert admin.counters()["uart"]["received"] == before
            admin.set_fault("uart-deaf", False)
        with Raw(sim["uart"]) as raw:
            admin.set_fault("uart-loopback")
            raw.port.write(b"is anybody there?")
            assert raw.wait(lambda data: b"?" in data) == b"is anybody there?"
        assert admin.counters()["uart"]["received"] == before


def test_an_inverted_line_holds_the_pin_until_it_is_asserted():
    with running("--fault", "line-inverted") as sim, SimAdmin(sim["admin"]) as admin:
        assert admin.counters()["recovery_pin_low"]
        with control_lines(sim["control"]) as lines:
            lines.rts = True
            wait_until(lambda: not admin.counters()["recovery_pin_low"], "letting go")


def test_a_board_without_supply_is_silent(image):
    with running("--image", image, "--fault", "no-power") as sim, SimAdmin(sim["admin"]) as admin:
        assert admin.counters()["program"] == "none"
        admin.set_power(True)
        assert not admin.counters()["powered"]
        with Host(sim["uart"]) as host:
            admin.set_fault("no-power", False)
            host.expect(b"application 1.2.3")


def test_a_probe_that_hangs_takes_connections_and_answers_later():
    with running("--fault", "probe-hangs") as sim, SimAdmin(sim["admin"]) as admin:
        host, port = sim["probe"].removeprefix("remote:").split(":")
        with socket.create_connection((host, int(port)), DEADLINE) as probe:
            probe.sendall(b'{"id": 1, "request": "hello", "arguments": [1]}\n')
            wait_until(lambda: admin.counters()["probe"]["clients"] == 1, "the connection")
            probe.settimeout(0.1)
            with pytest.raises(TimeoutError):
                probe.recv(100)
            admin.set_fault("probe-hangs", False)
            probe.settimeout(DEADLINE)
            assert b'"status": 0' in probe.recv(100)


def test_a_simulator_whose_probe_hangs_ends_like_any_other():
    with running("--fault", "probe-hangs") as sim:
        host, port = sim["probe"].removeprefix("remote:").split(":")
        probe = socket.create_connection((host, int(port)), DEADLINE)
        probe.sendall(b'{"id": 1, "request": "hello", "arguments": [1]}\n')
        probe.close()


@pytest.mark.parametrize("rate", [9600, 1_000_000])
def test_at_another_rate_nothing_is_readable_and_at_the_right_one_all_is(image, rate):
    with running("--image", image) as sim, SimAdmin(sim["admin"]) as admin, Raw(sim["uart"], rate) as raw:
        admin.press_reset()
        garbage = raw.wait(lambda data: len(data) > 10)
        assert b"Booting" not in garbage
        raw.port.baudrate = 115200
        admin.press_reset()
        raw.wait(lambda data: b"application 1.2.3" in data)


def test_the_board_hears_no_request_at_another_rate():
    with running("--stay-in-recovery") as sim, SimAdmin(sim["admin"]) as admin, Raw(sim["uart"], 57600) as raw:
        raw.port.write(REQUEST)
        wait_until(lambda: admin.counters()["uart"]["received"] > 0, "garbage")
        raw.port.baudrate = 115200
        raw.port.write(b"\n" + REQUEST)
        raw.wait(lambda data: data.endswith(b"\n"))
        assert admin.counters()["requests"] == 1


@pytest.mark.parametrize(("arguments", "rate"), [(("--baudrate", "460800"), 460800), (FAST, 9600)])
def test_a_rate_that_is_the_board_s_or_an_unpaced_board_s(arguments, rate):
    with running("--stay-in-recovery", *arguments) as sim, Raw(sim["uart"], rate) as raw:
        raw.port.write(REQUEST)
        raw.wait(lambda data: data.endswith(b"\n"))


def test_a_host_that_sets_no_rate_has_the_board_s():
    with running("--stay-in-recovery", "--baudrate", "460800") as sim:
        port = os.open(sim["uart"], os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(port, REQUEST)
            found = b""
            while not found.endswith(b"\n") and select.select([port], [], [], DEADLINE / 4)[0]:
                found += os.read(port, 1000)
            assert found.startswith(b"\x06\x09")
        finally:
            os.close(port)


@pytest.mark.parametrize(("server", "mode", "enters"), [("full", 1, True), ("full", None, False), ("old", 1, False)])
def test_an_application_resets_into_recovery_when_it_can(image, server, mode, enters):
    arguments = ("--image", image, "--application-smp", server, "--entrance", "boot-mode", *FAST)
    with (
        running(*arguments, "--boot-mode-prefix", "b0", "--boot-mode-checksum", "crc16") as sim,
        SimAdmin(sim["admin"]) as admin,
        Host(sim["uart"]) as host,
    ):
        answer = host.ask_until_answered(ImageStateRead())
        assert (answer.split_status, answer.images[0].active) == (0, True)
        assert answer.images[0].hash == image_hash(make_image("1.2.3"))
        host.ask(ResetRequest(boot_mode=mode))
        assert host.ask(EchoRequest("still the application"), sequence=2).text == "still the application"
        wait_until(lambda: admin.counters()["resets"].get("SREQ") == 1, "the reset")
        wait_until(lambda: admin.counters()["program"] == "application" or admin.counters()["in_recovery"], "the boot")
        assert admin.counters()["in_recovery"] is enters
        assert (host.ask_until_answered(ImageStateRead()).split_status is None) is enters


def present(link):
    return link.is_symlink() and link.exists()


def test_every_reset_takes_a_vanishing_uart_away(tmp_path, image):
    link = tmp_path / "uart"
    arguments = ("--image", image, "--uart-vanishes", "--uart-link", link, "--entrance", "boot-mode", *FAST)
    with running(*arguments, "--application-smp", "full") as sim, SimAdmin(sim["admin"]) as admin:
        assert sim["uart"] == str(link)
        wait_until(lambda: present(link), "the application's port")
        first = link.resolve()
        with Host(str(link)) as host:
            assert host.images()[0].version == "1.2.3"
            host.ask(ResetRequest(boot_mode=1))

            def gone():
                try:
                    host.port.read(1)
                except serial.SerialException:
                    return True
                return False

            wait_until(gone, "the end of the port")
            assert not first.samefile(link) if link.exists() else True
            wait_until(lambda: present(link), "the bootloader's port")
            # The first one's name is taken as long as the host has it open.
            assert link.resolve() != first
        with Host(str(link)) as host:
            answer = host.ask_until_answered(ImageStateRead())
            assert answer.split_status is None
            assert answer.images[0].version == "1.2.3"
        assert admin.counters()["uart_port"] == str(link)
    assert not link.is_symlink()


def test_held_in_reset_or_without_power_there_is_no_port(tmp_path, image):
    link = tmp_path / "uart"
    with (
        running("--image", image, "--uart-vanishes", "--uart-link", link) as sim,
        SimAdmin(sim["admin"]) as admin,
    ):
        for away, back in (
            (lambda: admin.set_reset_pin(low=True), lambda: admin.set_reset_pin(low=False)),
            (lambda: admin.set_power(False), lambda: admin.set_power(True)),
        ):
            wait_until(lambda: present(link), "the port")
            away()
            wait_until(lambda: not link.is_symlink(), "its end")
            back()
        wait_until(lambda: present(link), "the port")


def test_a_board_that_runs_nothing_with_a_uart_has_no_port(tmp_path):
    link = tmp_path / "uart"
    with running("--uart-vanishes", "--uart-link", link, *FAST) as sim, SimAdmin(sim["admin"]) as admin:
        admin.press_reset()
        wait_until(lambda: admin.counters()["program"] == "bootloader", "the boot")
        assert not link.is_symlink()


def test_without_a_link_the_port_s_name_is_asked_for(image):
    with running("--image", image, "--uart-vanishes") as sim, SimAdmin(sim["admin"]) as admin:
        assert sim["uart"] == ""
        wait_until(lambda: admin.counters()["uart_port"], "the port")
        assert Path(admin.counters()["uart_port"]).exists()


def test_a_link_alone_leads_to_a_port_that_a_usb_cable_takes_away(tmp_path):
    link = tmp_path / "uart"
    link.symlink_to(tmp_path / "of one that was killed")
    with running("--stay-in-recovery", "--uart-link", link, *FAST) as sim, SimAdmin(sim["admin"]) as admin:
        with Host(sim["uart"]) as host:
            assert host.images() == ()
            admin.press_reset()
            assert host.images() == (), "a reset leaves it"
        admin.set_power(False)
        assert link.is_symlink(), "so does the board's own supply"
        admin.set_power(True)
        admin.set_power(False, usb=True)
        wait_until(lambda: not link.is_symlink(), "the port's end")
        assert not admin.counters()["powered"]
        admin.set_power(True, usb=True)
        wait_until(lambda: present(link), "the port")
        with Host(sim["uart"]) as host:
            assert host.images() == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "gremlins"], "gremlins"),
        (["--boot-mode-prefix", "0g"], "hexadecimal"),
        (["--uart", "tcp", "--uart-vanishes"], "pty"),
        (["--uart-link", "{tmp}/taken"], "no symbolic link"),
        (["--wait-for-dfu", "-1"], "duration"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, words):
    (tmp_path / "taken").touch()
    status, errors = failure(*[a.format(tmp=tmp_path) for a in arguments])
    assert status == 2
    assert words in errors
    assert errors.count("\n") == 1


def test_faults_and_switches_may_stand_in_a_file(tmp_path):
    (tmp_path / "board.toml").write_text(
        '[sim]\nfaults = ["uart-deaf", "line-open"]\nuart_link = "port"\nsecure_locked = true\nnetwork_locked = true\n'
    )
    with (
        running("--config", tmp_path / "board.toml", "--fault", "no-power") as sim,
        SimAdmin(sim["admin"]) as admin,
    ):
        assert admin.counters()["bench_faults"] == ["line-open", "no-power", "uart-deaf"]
        assert sim["uart"] == str(tmp_path / "port")


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_the_wait_for_dfu_window_is_as_long_as_asked(image, seconds):
    arguments = ("--image", image, "--entrance", "wait-for-dfu", "--wait-for-dfu", seconds, *FAST)
    with running(*arguments) as sim, SimAdmin(sim["admin"]) as admin, Host(sim["uart"]) as host:
        if seconds:
            assert host.images()[0].version == "1.2.3"
            assert admin.counters()["in_recovery"]
        else:
            wait_until(lambda: admin.counters()["program"] == "application", "the boot")
