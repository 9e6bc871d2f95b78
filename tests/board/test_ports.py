"""Which port is meant, over lists of what may be connected."""

import threading
import time

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from pytest_nrfdfu.board import ports
from pytest_nrfdfu.errors import ConfigError, UartError


def port(device, vid=None, pid=None, serial=None, location=None, product=None):
    info = ListPortInfo(device, skip_link_detection=True)
    if vid is not None:
        info.vid, info.pid, info.serial_number, info.location, info.product = vid, pid, serial, location, product
        info.apply_usb_info()
    return info


def jlink(device, serial, location):
    return port(device, 0x1366, 0x1055, serial, location, "J-Link")


DK = [jlink("/dev/ttyACM1", "001050012345", "1-1:1.2"), jlink("/dev/ttyACM0", "001050012345", "1-1:1.0")]
"""A DK of revision 2: two ports, not in order."""
OLD_DK = [jlink(f"/dev/ttyACM{number}", "000960012345", f"1-2:1.{2 * (number - 2)}") for number in (2, 3, 4)]
THINGY = port("/dev/ttyACM9", 0x1915, 0x5300, "9C01F2", "1-4", "Bootloader Thingy:53")
FTDI = port("/dev/ttyUSB0", 0x0403, 0x6001, "A50285BI", "1-3.1", "FT232R USB UART")
OTHER_FTDI = port("/dev/ttyUSB1", 0x0403, 0x6001, "A5XK3RJT", "1-3.10", "FT232R USB UART")
ONBOARD = port("/dev/ttyS0")
RACK = [*DK, *OLD_DK, THINGY, FTDI, OTHER_FTDI, ONBOARD]


@pytest.mark.parametrize(
    ("spec", "device"),
    [
        ("jlink:1050012345:vcom-last", "/dev/ttyACM1"),
        ("jlink:001050012345:vcom-last", "/dev/ttyACM1"),
        ("jlink:1050012345:vcom0", "/dev/ttyACM0"),
        ("jlink:1050012345:vcom1", "/dev/ttyACM1"),
        ("JLink:960012345:VCOM-LAST", "/dev/ttyACM4"),
        ("jlink:960012345:vcom1", "/dev/ttyACM3"),
        ("usb:1915:5300", "/dev/ttyACM9"),
        ("usb:0x1915:0x5300:serial=9c01f2", "/dev/ttyACM9"),
        ("usb:0403:6001:serial=A5XK3RJT", "/dev/ttyUSB1"),
        ("usb:403:6001:location=1-3.1", "/dev/ttyUSB0"),
        ("usb:0403:6001:location=1-3.10:serial=A5XK3RJT", "/dev/ttyUSB1"),
        ("usb:1366:1055:serial=1050012345:location=1-1:1.2", "/dev/ttyACM1"),
        ("usb:1366:1055:location=1-1:1.0", "/dev/ttyACM0"),
        ("hwgrep://thingy", "/dev/ttyACM9"),
        ("hwgrep://SER=A50285BI", "/dev/ttyUSB0"),
        ("hwgrep://ttyS0$", "/dev/ttyS0"),
        ("rfc2217://127.0.0.1:4001", "rfc2217://127.0.0.1:4001"),
        ("socket://bench1:4001", "socket://bench1:4001"),
        ("COM7", "COM7"),
        (r"\\.\COM12", r"\\.\COM12"),
    ],
)
def test_a_port_is_found_by_what_it_is(spec, device):
    assert ports.find(spec, RACK) == device
    assert ports.resolve(spec, RACK) == device


def test_auto_is_the_application_cores_port_of_the_only_jlink():
    assert ports.resolve("auto", [*DK, FTDI, ONBOARD]) == "/dev/ttyACM1"
    assert ports.resolve("auto", [*OLD_DK, FTDI]) == "/dev/ttyACM4"


def test_the_names_are_sorted_as_numbers():
    windows = [jlink("COM10", "1050012345", None), jlink("COM9", "1050012345", None)]
    assert ports.resolve("auto", windows) == "COM10"
    hub = [jlink("/dev/ttyACM0", "1050012345", "1-1:1.10"), jlink("/dev/ttyACM1", "1050012345", "1-1:1.2")]
    assert ports.resolve("auto", hub) == "/dev/ttyACM0"


def test_a_jlink_of_another_maker_has_a_serial_that_is_no_number():
    clone = jlink("/dev/ttyACM0", "E0ABC", "1-1")
    assert ports.resolve("jlink:e0abc:vcom0", [clone]) == "/dev/ttyACM0"


def test_several_jlinks_are_listed():
    with pytest.raises(UartError) as caught:
        ports.find("auto", RACK)
    told = str(caught.value)
    assert told.startswith("auto means the only J-Link connected, but there are 2: ")
    assert "1050012345 with /dev/ttyACM0, /dev/ttyACM1" in told
    assert "960012345 with /dev/ttyACM2, /dev/ttyACM3, /dev/ttyACM4" in told
    assert told.endswith("port = 'jlink:1050012345:vcom-last'")


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("usb:0403:6001", "add :serial=TEXT or :location=TEXT to it"),
        ("usb:1366:1055:serial=1050012345", "add :serial=TEXT or :location=TEXT to it"),
        ("usb:0403:6001:location=1-3", "add :serial=TEXT or :location=TEXT to it"),
        ("hwgrep://FT232R", "write a regular expression that fits one port only"),
    ],
)
def test_what_fits_several_ports_lists_them(spec, remedy):
    with pytest.raises(UartError) as caught:
        ports.find(spec, RACK)
    assert str(caught.value).startswith(f"{spec} fits 2 ports: /dev/tty")
    assert " at 1-" in str(caught.value), "what tells them apart"
    assert str(caught.value).endswith(remedy)


@pytest.mark.parametrize(
    "spec",
    [
        "jlink:123:vcom-last",
        "jlink:1050012345:vcom2",
        "usb:1915:5301",
        "usb:0403:6001:location=1-30",
        "hwgrep://nothing",
    ],
)
def test_what_is_not_there_is_none_and_the_error_lists_what_is(spec):
    assert ports.find(spec, RACK) is None
    with pytest.raises(UartError, match=r"is not there"):
        ports.resolve(spec, RACK)


def test_the_error_lists_what_is_connected():
    with pytest.raises(UartError) as caught:
        ports.resolve("jlink:7:vcom-last", [FTDI, ONBOARD])
    told = str(caught.value)
    assert "jlink:7:vcom-last is not there; connected: " in told
    assert "/dev/ttyUSB0 (0403:6001, serial A50285BI, FT232R USB UART)" in told
    assert "/dev/ttyS0" in told
    assert told.endswith("Is the board plugged in and switched on, and the port's name right?")


def test_with_nothing_connected_it_says_so():
    assert "no serial port is connected" in ports.not_found("auto", [])
    assert ports.not_found("auto", []).startswith("no J-Link with a serial port is there")


def test_a_number_too_high_says_which_there_are():
    assert ports.not_found("jlink:1050012345:vcom2", RACK).startswith(
        "jlink:1050012345:vcom2 is not there: that J-Link's ports are vcom0 to vcom1 (/dev/ttyACM0 "
    )


def test_a_long_list_is_cut():
    many = [port(f"/dev/ttyS{number}") for number in range(30)]
    told = ports.not_found("/dev/ttyACM0", many)
    assert "/dev/ttyS11; and 18 more" in told
    assert "/dev/ttyS12" not in told


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "ttyACM0",
        "jlink:1050012345",
        "jlink:1050012345:vcom",
        "jlink::vcom0",
        "jlink:1:vcom-first",
        "usb:1915",
        "usb:19155:5300",
        "usb:1915:5300:port=1",
        "usb:1915:5300:serial=",
        "usb:1915:5300:serial=a:serial=b",
        "loop://",
        "spy:///dev/ttyACM0",
        "rfc2217://127.0.0.1",
        "socket://127.0.0.1:many",
        "socket://:4001",
        "COM",
    ],
)
def test_what_names_no_port_is_an_error_of_the_configuration(spec):
    with pytest.raises(
        ConfigError, match=r"names no serial port.*It may be: auto, jlink:SERIAL:vcom-last, .*socket://"
    ):
        ports.check(spec)
    with pytest.raises(ConfigError):
        ports.find(spec, RACK)


def test_a_bare_name_gets_a_hint():
    with pytest.raises(ConfigError, match=r"Did you mean /dev/ttyACM0\?"):
        ports.check("ttyACM0")


def test_a_broken_expression_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match=r"'hwgrep://\(' holds no regular expression: "):
        ports.check("hwgrep://(")


def test_a_link_is_followed_anew_each_time(tmp_path):
    link, one, two = tmp_path / "by-id", tmp_path / "ttyACM0", tmp_path / "ttyACM1"
    link.symlink_to(one)
    assert ports.find(str(link)) is None, "the link leads nowhere"
    one.touch()
    assert ports.find(str(link)) == str(one)
    two.touch()
    link.unlink()
    link.symlink_to(two)
    assert ports.find(str(link)) == str(two)


def test_what_is_connected_is_asked_of_the_system(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", lambda: DK)
    assert ports.resolve("auto") == "/dev/ttyACM1"
    monkeypatch.setattr(list_ports, "comports", lambda: [THINGY])
    assert ports.find("auto") is None


def test_a_port_is_waited_for(tmp_path):
    path = tmp_path / "ttyACM0"
    looks = []
    waiting = threading.Thread(target=lambda: looks.append(ports.wait_for(str(path), time.monotonic() + 20)))
    waiting.start()
    assert waiting.is_alive()
    path.touch()
    waiting.join(20)
    assert looks == [str(path)]


def test_the_wait_ends_and_says_how_long_it_was(tmp_path):
    path = tmp_path / "ttyACM0"
    with pytest.raises(UartError, match=r"ttyACM0 is not there; .*; waited \d\.\d s for it$"):
        ports.wait_for(str(path), time.monotonic() + 0.12)


def test_ports_of_one_jlink_are_shown_together():
    groups = ports.describe(RACK)
    assert [(group.jlink, [p.device for p in group.ports]) for group in groups] == [
        ("1050012345", ["/dev/ttyACM0", "/dev/ttyACM1"]),
        ("960012345", ["/dev/ttyACM2", "/dev/ttyACM3", "/dev/ttyACM4"]),
        (None, ["/dev/ttyS0"]),
        (None, ["/dev/ttyUSB0"]),
        (None, ["/dev/ttyUSB1"]),
        (None, ["/dev/ttyACM9"]),
    ]


@pytest.mark.parametrize("chosen", range(6))
def test_each_group_has_a_name_that_finds_it_again(chosen):
    group = ports.describe(RACK)[chosen]
    if not ports.is_name(group.spec):
        assert ports.find(group.spec, RACK) == group.ports[-1].device
    assert (
        group.spec
        == (
            "jlink:1050012345:vcom-last",
            "jlink:960012345:vcom-last",
            "/dev/ttyS0",
            "usb:0403:6001:serial=A50285BI",
            "usb:0403:6001:serial=A5XK3RJT",
            "usb:1915:5300:serial=9C01F2",
        )[chosen]
    )


def test_a_port_without_a_serial_number_is_named_by_its_place():
    bare = port("/dev/ttyUSB2", 0x1A86, 0x7523, None, "1-5")
    (group,) = ports.describe([bare])
    assert group.spec == "usb:1a86:7523:location=1-5"
    assert ports.find(group.spec, [bare]) == "/dev/ttyUSB2"


@pytest.mark.parametrize(
    ("spec", "name"),
    [("/dev/ttyACM0", True), ("COM3", True), ("socket://a:1", True), ("auto", False), ("usb:1:2", False)],
)
def test_names_are_told_from_identities(spec, name):
    assert ports.is_name(spec) is name
