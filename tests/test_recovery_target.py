"""`recovery_target`: a simulated board for somebody else's host, what it tells of it, and what goes wrong on it."""

import os
import time
import tty

import hosts
import pytest
import serial
from simulator import make_image

from pytest_nrfdfu.bench.target import RecoveryTarget
from pytest_nrfdfu.errors import BoardError, SmpTimeout
from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import ImageStateRead, UploadRequest

RATE = 1_000_000
IMAGE = make_image("3.1.4", 5000)
BUILD = mcuboot.parse(IMAGE)


@pytest.fixture(scope="module")
def board():
    with RecoveryTarget(baudrate=RATE) as target:
        yield target


@pytest.fixture
def target(board):
    """The same board for all, empty of what was before except for its flash."""
    board.reset()
    board.forget()
    return board


@pytest.fixture
def host(target):
    made = hosts.Host(target.uart, RATE)
    yield made
    made.port.close()


def upload(host, image=IMAGE):
    """Upload, and give back the offsets that were told."""
    told = []
    host.next_offset = lambda _off, _data, payload: told.append(payload["off"]) or payload["off"]
    host.upload(image)
    return told


def test_it_is_updated(target, host):
    fresh = make_image("7.0.0", 3000)
    build = mcuboot.parse(fresh)
    assert not target.holds(build)
    host.upload(fresh)
    target.wait_updated(build, timeout=5)
    assert target.holds(build)
    assert not target.holds(BUILD)
    assert target.updated_to == build.hash


def test_a_deadline_says_what_the_host_did(target, host):
    build = mcuboot.parse(make_image("9.9.9", 2000))
    with pytest.raises(
        SmpTimeout, match=r"not updated .* within 0 s\. It has sent nothing to /dev/.* Was the host started"
    ):
        target.wait_updated(build, timeout=0)
    host.ask(ImageStateRead())
    host.ask(UploadRequest(off=0, data=IMAGE[:64], length=len(IMAGE)))
    with pytest.raises(
        SmpTimeout,
        match=r"It has sent 2 requests, 0 of them unanswered, and the board has told offset 64;"
        r" the last: image list: answered; upload off 0: rc 0, off 64",
    ):
        target.wait_updated(build, timeout=0)
    host.port.write(b"\x06\x09nonsense\n")
    target.forget()
    host.port.write(b"\x06\x09nonsense\n")
    deadline = time.monotonic() + 5
    while not target.capture.bytes_of("tx").endswith(b"nonsense\n"):
        assert time.monotonic() < deadline
    assert "no packet that can be read" in target.story()


def test_an_image_that_is_not_valid_is_no_update(target, host):
    broken = bytearray(IMAGE)
    broken[2000] ^= 1
    host.upload(bytes(broken))
    assert target.updated_to is None
    assert not target.holds(BUILD)


def test_exchanges_and_capture_are_what_passed(target, host):
    told = upload(host)
    done = target.exchanges
    assert [exchange.response.payload["off"] for exchange in done] == told
    assert [exchange.request.payload["off"] for exchange in done] == [0, *told[:-1]]
    # A chunk of 512 bytes takes about 7 ms at 1 Mbaud, and a page's erase 87.5 ms (nRF5340 product specification).
    assert done[0].round_trip > 0.0875
    assert sum(exchange.round_trip > 0.0875 for exchange in done) == 3  # two pages, and the trailer's
    capture = target.capture
    assert capture.timed
    assert [chunk.time for chunk in capture] == sorted(chunk.time for chunk in capture)
    packets = [e.data for e in console.Decoder().feed(capture.bytes_of("tx")) if isinstance(e, console.Packet)]
    assert packets == [exchange.request.packet for exchange in done]
    target.forget()
    assert target.exchanges == []


def test_findings_are_live(target, host):
    host.ask(ImageStateRead())
    assert target.findings == []
    packet = encode(ImageStateRead(), 9)
    host.port.write(console.encode(packet).replace(b"\n", b"\r\n"))
    deadline = time.monotonic() + 5
    while not target.findings:
        assert time.monotonic() < deadline
    assert [finding.rule for finding in target.findings] == ["line-crlf"]


def test_what_could_be_better_is_a_note_and_no_finding(target, host):
    """Hosts in wide use send such chunks, and MCUboot takes them."""
    host.ask(UploadRequest(off=0, data=IMAGE[:510], length=len(IMAGE)))
    host.ask(UploadRequest(off=508, data=IMAGE[508:1018]))
    assert {note.rule for note in target.notes} == {"chunk-not-multiple-of-4"}
    assert target.findings == []


def test_the_capture_is_in_the_order_of_time():
    """What the host has written takes its time on the wire, and the board may say something before it is through."""
    with RecoveryTarget(baudrate=9600) as target:
        host = hosts.Host(target.uart, 9600)
        host.port.write(b"x" * 500 + b"\n")  # half a second
        target.noise(b"meanwhile")
        deadline = time.monotonic() + 5
        while (len(target.capture.bytes_of("tx")), target.capture.bytes_of("rx")) != (501, b"meanwhile"):
            assert time.monotonic() < deadline
        host.port.close()
    assert [chunk.direction for chunk in target.capture][-1] == "tx"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def attempts(target):
    """Offset and answer of each upload request: (off, told), None where no response came."""
    return [
        (e.request.payload["off"], None if e.response is None else e.response.payload.get("off"))
        for e in target.exchanges
        if "data" in e.request.payload
    ]


def test_lost_response(target, host):
    target.inject(2, lost=True)
    upload(host)
    # The chunk was written, so its repetition is answered with where to go on.
    assert attempts(target)[:4] == [(0, 512), (512, None), (512, 1024), (1024, 1536)]
    assert target.holds(BUILD)


def test_ignored_request(target, host):
    before = target.admin.counters()["damaged_frames"]
    target.inject(2, ignored=True)
    upload(host)
    assert attempts(target)[:3] == [(0, 512), (512, None), (512, 1024)]
    assert target.admin.counters()["damaged_frames"] == before


def test_late_response(target, host):
    target.inject(2, late=0.3)
    upload(host)
    assert target.exchanges[1].round_trip >= 0.3
    assert target.exchanges[2].round_trip < 0.3


def test_refused_chunks(target, host):
    target.inject(2, times=2, rc=3)
    host.check = lambda payload: payload.setdefault("off", 512)
    upload(host)
    assert attempts(target)[:4] == [(0, 512), (512, None), (512, None), (512, 1024)]
    assert [e.response.payload.get("rc") for e in target.exchanges][:4] == [0, 3, 3, 0]


def test_a_refused_chunk_is_not_written(target, host):
    target.inject(2, rc=3)
    assert host.ask(UploadRequest(off=0, data=IMAGE[:512], length=len(IMAGE))) == {"rc": 0, "off": 512}
    assert host.ask(UploadRequest(off=512, data=IMAGE[512:1024])) == {"rc": 3}
    assert host.ask(UploadRequest(off=1024, data=IMAGE[1024:1536])) == {"rc": 0, "off": 512}


def test_offset_that_goes_back(target, host):
    target.inject(3, back=100)
    upload(host)
    assert attempts(target)[:4] == [(0, 512), (512, 1024), (1024, 1436), (1436, 1948)]
    assert target.holds(BUILD)


def test_offset_that_goes_back_is_not_a_lie(target, host):
    """A host that does not follow gets no further."""
    target.inject(1, back=100)
    assert host.ask(UploadRequest(off=0, data=IMAGE[:512], length=len(IMAGE)))["off"] == 412
    assert host.ask(UploadRequest(off=512, data=IMAGE[512:1024]))["off"] == 412


def test_text_before_a_response(target, host):
    target.inject(2, times=2, before=b"noise\xff")
    upload(host)
    assert target.capture.bytes_of("rx").count(b"noise\xff\x06\x09") == 2
    assert len(attempts(target)) == len(IMAGE) // 512 + 1


def test_damaged_image(target, host):
    target.inject(2, damage=True)
    upload(host)
    assert not target.holds(BUILD)
    assert target.updated_to is None


def test_reset_halfway(target, host):
    target.inject_reset(4, delay=0.001)
    told = upload(host)
    assert 0 in told
    assert target.admin.counters()["resets"]["POWER_ON"] >= 1
    target.wait_updated(BUILD, timeout=5)


def test_hang(target, host):
    target.inject_hang(2)
    host.tries = 2
    with pytest.raises(hosts.GivesUpError):
        upload(host)
    assert attempts(target)[0] == (0, 512)
    assert "2 of them unanswered" in target.story()


def test_noise_at_once(target):
    target.noise(b"\xfe\xfe")
    deadline = time.monotonic() + 5
    while target.capture.bytes_of("rx") != b"\xfe\xfe":
        assert time.monotonic() < deadline


def test_reset_forgets_what_was_armed(target, host):
    target.inject(1, times=100, ignored=True)
    target.reset()
    host.tries = 1
    assert host.ask(UploadRequest(off=0, data=IMAGE[:64], length=len(IMAGE)))["off"] == 64


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nth": 0}, "whole numbers from 1 on"),
        ({"back": 3}, "whole words"),
        ({"late": -1}, "a number of seconds"),
        ({"rc": 0}, "from 1 to"),
    ],
)
def test_what_cannot_be_is_refused(target, wrong, message):
    with pytest.raises(BoardError, match=message):
        target.inject(**wrong)


# --- where it is ------------------------------------------------------------------------------------------------------


def test_after_an_update_a_reset_starts_the_image(target, host):
    host.update(IMAGE)
    assert target.wait_program("application")
    assert target.holds(BUILD)
    target.reset()
    assert target.admin.counters()["in_recovery"]


def test_over_tcp():
    with RecoveryTarget("tcp", baudrate=0, flash_timing="none") as target:
        assert target.uart.startswith("socket://127.0.0.1:")
        host = hosts.Host(target.uart, RATE)
        host.upload(IMAGE)
        target.wait_updated(BUILD, timeout=5)
        host.port.close()
    assert len(target.exchanges) == len(IMAGE) // 512 + 1, "what passed can be read when the board is gone"


@pytest.fixture
def real_uart():
    """A serial port of this computer, as the host's other end (a file descriptor) and by name."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_over_a_serial_port(real_uart):
    """The board behind a port of this computer, and the host at the other end of the wire."""
    master, name = real_uart
    with RecoveryTarget(name, flash_timing="none") as target:
        assert (target.uart, target.bridged, target.baudrate) == (name, True, 115200)
        requests = hosts.upload_over(master, IMAGE)
        target.wait_updated(BUILD, timeout=5)
        assert len(target.exchanges) == requests


def test_a_port_that_is_not_there():
    with pytest.raises(BoardError, match=r"the UART /dev/nonesuch for the host under test cannot be opened"):
        RecoveryTarget("/dev/nonesuch")


def test_a_port_that_goes(real_uart, monkeypatch):
    with RecoveryTarget(real_uart[1], flash_timing="none") as target:

        def gone(*_):
            raise serial.SerialException("device reports readiness to read but returned no data")

        monkeypatch.setattr(serial.Serial, "read", gone)
        with pytest.raises(BoardError, match=r"the bridge between /dev/.* has ended: device reports readiness"):
            target.wait_updated(BUILD, timeout=5)


def test_a_simulator_that_died_leaves_what_passed():
    with RecoveryTarget(baudrate=RATE) as target:
        host = hosts.Host(target.uart, RATE)
        host.ask(ImageStateRead())
        host.port.close()
        assert len(target.exchanges) == 1
        target.admin.shutdown()
    assert len(target.exchanges) == 1


# --- the fixture ------------------------------------------------------------------------------------------------------


def test_the_fixture_and_its_options(pytester):
    pytester.makepyfile(
        """
        def test_pty(recovery_target):
            assert recovery_target.baudrate == 9600
            assert recovery_target.uart.startswith("socket://")
            assert recovery_target.exchanges == []
        """
    )
    result = pytester.runpytest_subprocess("--nrfdfu-target-uart", "tcp", "--nrfdfu-target-baudrate", "9600")
    result.assert_outcomes(passed=1)
