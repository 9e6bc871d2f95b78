"""The admin port and its client: what can be asked of a simulated board, and done to it."""

import hashlib
import json
import socket
import subprocess
import sys

import pytest
from simulator import SLOT0, Host, image_hash, make_image, running, wait_until

from pytest_nrfdfu.errors import BoardError
from pytest_nrfdfu.sim_admin import Exchange, SimAdmin
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import ImageStateRead, UploadRequest

FAST = ("--baudrate", "0", "--flash-timing", "none")


@pytest.fixture(scope="module")
def sim():
    with running("--stay-in-recovery", *FAST) as process:
        yield process


@pytest.fixture
def admin(sim):
    with SimAdmin(sim["admin"]) as client:
        client.set_rates(drop_rate=0, flip_rate=0)
        client.disarm()
        client.press_reset(0)
        wait_until(lambda: client.counters()["in_recovery"], "recovery")
        client.reset_counters()
        yield client


@pytest.fixture
def host(sim, admin):
    with Host(sim["uart"]) as host:
        host.port.write(b"\n")
        yield host


def test_counters_and_their_reset(admin, host):
    host.upload(make_image(size=600), chunk=200)
    counters = admin.counters()
    assert (counters["uploads"], counters["upload_requests"]) == (1, 6)
    assert counters["erases"] >= 1
    assert counters["resets"] == {}
    admin.set_power(False)
    assert not admin.counters()["powered"]
    assert admin.counters()["program"] == "none"
    admin.set_power(True)
    wait_until(lambda: admin.counters()["in_recovery"], "recovery")
    assert admin.counters()["uploads"] == 1, "counts outlive the bootloader that made them"
    assert admin.counters()["resets"] == {"POWER_ON": 1}
    admin.reset_counters()
    cleared = admin.counters()
    assert (cleared["uploads"], cleared["erases"], cleared["requests"], cleared["resets"]) == (0, 0, 0, {})


def test_exchanges_are_what_passed(admin, host):
    host.images()
    records = admin.exchanges()
    assert [(r.direction, r.kind) for r in records][-2:] == [("to board", "packet"), ("from board", "packet")]
    assert records[-2].data == encode(ImageStateRead(), 1)
    assert records[-2].time <= records[-1].time
    assert admin.exchanges(last=1) == records[-1:]
    assert isinstance(records[0], Exchange)


def test_flash_can_be_read_and_compared(admin, host):
    image = make_image("9.8.7", 5000)
    host.upload(image)
    assert admin.read_flash(SLOT0, len(image)) == image
    assert admin.read_flash(0, 70_000) == b"\xff" * 0x10000 + admin.read_flash(SLOT0, 70_000 - 0x10000)
    contents = admin.flash_hash(size=len(image))
    assert contents == (hashlib.sha256(image).digest(), "9.8.7", image_hash(image), True)
    assert admin.flash_hash(slot=1) == (hashlib.sha256(b"\xff" * 0x70000).digest(), None, None, False)


def test_a_reset_in_mid_upload(admin, host):
    admin.reset_after(uploads=2, cause="DOG0")
    image = make_image(size=2000)
    assert host.ask(UploadRequest(off=0, data=image[:100], length=len(image))).off == 100
    assert host.ask(UploadRequest(off=100, data=image[100:200]), patience=0.2) is None
    wait_until(lambda: admin.counters()["resets"] == {"DOG0": 1}, "the reset")
    host.images()
    admin.reset_after(received=100_000)
    admin.disarm()


def test_a_hang_and_the_way_out(admin, host):
    admin.hang()
    assert admin.counters()["hung"]
    assert host.ask(ImageStateRead(), patience=0.2) is None
    admin.press_reset()
    assert host.images() is not None
    admin.hang_after(uploads=1)
    assert host.ask(UploadRequest(off=0, data=b"1234", length=4), patience=0.2) is None
    assert admin.counters()["hung"]


def test_noise_reaches_the_console(admin, host):
    admin.noise(b"*** brown-out ***\r\n")
    host.expect(b"*** brown-out ***\r\n")


def test_damage_can_be_switched_on_and_off(admin, host):
    rates = admin.set_rates(to_board_drop_rate=1.0)
    assert rates["to_board_drop_rate"] == 1.0
    assert rates["from_board_drop_rate"] == 0.0
    assert host.ask(ImageStateRead(), patience=0.2) is None
    admin.set_rates(drop_rate=0.0)
    assert host.ask(ImageStateRead()) is not None
    faults = admin.counters()["faults"]
    assert faults["to_board_dropped"] > 10
    assert faults["from_board_dropped"] == 0


def test_buttons(admin):
    admin.set_recovery_pin(low=True)
    admin.press_reset(0.01)
    counters = admin.counters()
    assert counters["recovery_pin_low"]
    assert not counters["nreset_low"]
    assert counters["resets"] == {"RESETPIN": 1}
    admin.set_recovery_pin(low=False)
    assert not admin.counters()["recovery_pin_low"]


def test_the_reset_button_can_be_held(admin):
    admin.set_reset_pin(low=True)
    assert admin.counters()["nreset_low"]
    admin.set_reset_pin(low=False)
    assert admin.counters()["resets"] == {"RESETPIN": 1}


def test_the_probe_can_be_taken_away(admin):
    admin.set_probe(plugged=False, busy=True)
    admin.set_probe(plugged=True, busy=False)


def test_the_bench_can_be_wrong(admin):
    assert admin.set_fault("line-open") == ["line-open"]
    assert admin.set_fault("probe-busy") == ["line-open", "probe-busy"]
    assert admin.counters()["bench_faults"] == ["line-open", "probe-busy"]
    admin.set_fault("probe-busy", False)
    assert admin.set_fault("line-open", False) == []


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest_nrfdfu.sim_admin", *arguments], capture_output=True, check=False, timeout=60
    )


def test_a_command_makes_one_call(sim, admin):
    done = command(sim["admin"], "set_power", "on=false")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not admin.counters()["powered"]
    assert command(sim["admin"], "set_power", "on=true").returncode == 0
    assert admin.counters()["powered"]
    assert json.loads(command(sim["admin"], "set_fault", "name=line-open").stdout) == ["line-open"]
    assert json.loads(command(sim["admin"], "set_fault", 'name="line-open"', "on=false").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, b"usage: "),
        (("{admin}",), 2, b"usage: "),
        (("{admin}", "set_power", "on"), 1, b"'on' is not NAME=JSON"),
        (("{admin}", "set_power", "on=maybe"), 1, b"true or false"),
        (("{admin}", "explode"), 1, b"there is no method 'explode'"),
        (("127.0.0.1:1", "set_power", "on=true"), 1, b"cannot be reached"),
    ],
)
def test_a_command_says_what_is_wrong(sim, arguments, status, words):
    done = command(*[a.format(admin=sim["admin"]) for a in arguments])
    assert (done.returncode, done.stdout) == (status, b"")
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("nonsense", {}, "counters, exchanges"),
        ("read_flash", {"address": -4, "size": 4}, "not in flash"),
        ("read_flash", {"address": 0, "size": 1 << 17}, "65536"),
        ("read_flash", {"address": "0", "size": 1}, "numbers"),
        ("read_flash", {"where": 0}, "address"),
        ("flash_hash", {"slot": 7}, "there are 0, 1"),
        ("inject", {"rates": {"loss": 0.1}}, "drop_rate"),
        ("inject", {"rates": {"drop_rate": 2}}, "0 to 1"),
        ("inject", {"noise": "zz"}, "hex"),
        ("inject", {"trip": {"action": "explode", "uploads": 1}}, "reset or hang"),
        ("inject", {"trip": {"action": "reset", "uploads": 1, "cause": "GREMLIN"}}, "POWER_ON"),
        ("inject", {"trip": {"action": "reset", "uploads": "1"}}, "number"),
        ("set_power", {"on": 1}, "true or false"),
        ("set_power", {"on": True, "usb": 0}, "true or false"),
        ("set_reset_pin", {"low": 0}, "true or false"),
        ("set_fault", {"name": "gremlins"}, "there are uart-silent"),
        ("set_fault", {"name": "line-open", "on": "no"}, "true or false"),
    ],
)
def test_what_is_wrong_is_said(admin, method, params, words):
    with pytest.raises(BoardError, match=words):
        admin._call(method, **params)
    assert admin.counters()


def test_lines_that_are_no_requests_are_answered(sim):
    host, port = sim["admin"].split(":")
    with socket.create_connection((host, int(port)), 5) as connection, connection.makefile("rwb") as file:
        for line in (b"hello\n", b"[]\n", b'{"id": 7}\n', b'{"id": 8, "method": ["x"]}\n', b"\xff\n"):
            file.write(line)
            file.flush()
            assert "error" in json.loads(file.readline())


def test_silence_and_absence_are_errors():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with SimAdmin(address, timeout=0.05) as admin, pytest.raises(BoardError, match=r"did not answer counters"):
            admin.counters()
    with pytest.raises(BoardError, match="cannot be reached"):
        SimAdmin(address, timeout=0.5)
    with pytest.raises(BoardError, match="host:port"):
        SimAdmin("nowhere")


def test_a_client_that_has_gone_leaves_the_simulator_running():
    with running() as sim:
        with SimAdmin(sim["admin"]) as first:
            first.counters()
        with SimAdmin(sim["admin"]) as second:
            second.shutdown()
            assert sim.wait() == (0, "")
            with pytest.raises(BoardError, match="did not answer"):
                second.counters()
