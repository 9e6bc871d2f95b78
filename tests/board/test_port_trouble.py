"""Known troubles of a host, each in a made-up tree of /sys, /proc, /run and /dev."""

import os

import pytest

from pytest_nrfdfu.board.port_trouble import rights, trouble

DEVICE = "/dev/ttyACM0"


class Host:
    """A tree with one USB device and its serial port, as the kernel and udev show them."""

    def __init__(self, root, *, vendor="1366", product="1055", driver="cdc_acm", device="ttyACM0"):
        self.root = root
        self.usb = root / "sys/devices/pci0000:00/usb1/1-1"
        self.interface("1-1:1.0", "02")
        for name, text in {"idVendor": vendor, "idProduct": product, "serial": "001050012345", "dev": "189:7"}.items():
            (self.usb / name).write_text(text + "\n")
        place = self.usb / "1-1:1.0"
        if driver != "cdc_acm":  # usb-serial: a folder of the port between the interface and the tty
            place /= device
        tty = place / f"tty/{device}"
        tty.mkdir(parents=True)
        (tty / "dev").write_text("166:0\n")
        (tty / "device").symlink_to(os.path.relpath(place, tty))
        self.link("sys/class/tty", device, tty)
        self.link("sys/bus/usb/devices", "1-1", self.usb)
        (root / "dev").mkdir()
        (root / f"dev/{device}").touch()
        (root / f"dev/{device}").chmod(0o660)
        (root / "run/udev/data").mkdir(parents=True)
        self.udev("c166:0", "ID_VENDOR=SEGGER")
        self.udev("c189:7", "ID_MODEL=J-Link")

    def link(self, folder, name, target):
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / folder / name).symlink_to(os.path.relpath(target, self.root / folder))

    def interface(self, name, interface_class):
        folder = self.usb / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bInterfaceClass").write_text(interface_class + "\n")
        return folder

    def udev(self, number, *properties):
        text = "I:1234\n" + "".join(f"E:{told}\n" for told in properties)
        (self.root / f"run/udev/data/{number}").write_text(text)

    def runs(self, name, pid=321):
        (self.root / f"proc/{pid}").mkdir(parents=True)
        (self.root / f"proc/{pid}/comm").write_text(name + "\n")

    def trouble(self, device=DEVICE, access=lambda _path, _mode: True):
        return trouble(device, self.root, access)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def only(sentences):
    (sentence,) = sentences
    return sentence


def test_a_host_without_trouble_says_nothing(host):
    host.runs("bash")
    assert host.trouble() == []


def test_a_jlink_that_shows_a_drive(host):
    host.interface("1-1:1.4", "08")
    told = only(host.trouble())
    assert told.startswith("the J-Link 1050012345 also shows itself as a USB drive")
    assert "run MSDDisable" in told


def test_a_drive_of_another_device_is_no_trouble(tmp_path):
    host = Host(tmp_path, vendor="1915")
    host.interface("1-1:1.4", "08")
    assert host.trouble() == []


def test_a_drive_behind_the_same_hub_is_no_trouble(host):
    other = host.usb.parent / "1-2/1-2:1.0"
    other.mkdir(parents=True)
    (other / "bInterfaceClass").write_text("08\n")
    assert host.trouble() == []


def test_modem_manager_without_a_rule(host):
    host.runs("ModemManager")
    told = only(host.trouble())
    assert told.startswith("ModemManager runs, and no udev rule keeps it away from /dev/ttyACM0")
    assert 'ATTRS{idVendor}=="1366", ATTRS{idProduct}=="1055", ENV{ID_MM_DEVICE_IGNORE}="1"' in told


@pytest.mark.parametrize("number", ["c166:0", "c189:7"], ids=["at the port", "at the USB device"])
@pytest.mark.parametrize("rule", ["ID_MM_DEVICE_IGNORE=1", "ID_MM_PORT_IGNORE=1", "ID_MM_TTY_BLACKLIST=1"])
def test_modem_manager_that_a_rule_keeps_away(host, number, rule):
    host.runs("ModemManager")
    host.udev(number, "ID_VENDOR_ID=1366", rule)
    assert host.trouble() == []


def test_a_rule_that_is_off_keeps_nothing_away(host):
    host.runs("ModemManager")
    host.udev("c166:0", "ID_MM_DEVICE_IGNORE=0")
    assert len(host.trouble()) == 1


def test_where_udev_cannot_be_asked_nothing_is_said_of_modem_manager(host):
    host.runs("ModemManager")
    for file in (host.root / "run/udev/data").iterdir():
        file.unlink()
    assert host.trouble() == []


@pytest.mark.parametrize(
    ("vendor", "product", "chip"),
    [("1a86", "7523", "CH340"), ("10c4", "ea60", "CP210x"), ("0403", "6001", "FTDI")],
)
def test_brltty_beside_an_adapter_that_it_takes(tmp_path, vendor, product, chip):
    host = Host(tmp_path, vendor=vendor, product=product, driver="usb-serial", device="ttyUSB0")
    assert host.trouble("/dev/ttyUSB0") == []
    host.runs("brltty")
    told = only(host.trouble("/dev/ttyUSB0"))
    assert told.startswith(f"brltty runs, which takes {chip} adapters such as /dev/ttyUSB0 for braille displays")
    assert "remove it" in told


def test_brltty_beside_an_adapter_that_it_does_not_take(host):
    host.runs("brltty")
    assert host.trouble() == []


def test_an_adapter_that_brltty_has_taken(tmp_path):
    host = Host(tmp_path, vendor="1a86", product="7523")
    drivers = host.root / "sys/bus/usb/drivers"
    (drivers / "usbfs").mkdir(parents=True)
    (drivers / "ch341").mkdir()
    host.runs("brltty")
    driver = host.usb / "1-1:1.0/driver"
    driver.symlink_to(os.path.relpath(drivers / "ch341", driver.parent))
    assert host.trouble(None) == []
    driver.unlink()
    driver.symlink_to(os.path.relpath(drivers / "usbfs", driver.parent))
    told = only(host.trouble(None))
    assert told.startswith("brltty runs, and a program has taken the CH340 adapter at USB 1-1 from the kernel")
    (host.root / "proc/321/comm").write_text("bash\n")
    assert host.trouble(None) == []


def in_a_group(file, number):
    """Give it to a group; only root can, and others' files are in a group of their own anyway."""
    if os.geteuid() == 0:
        os.chown(file, -1, number)
    elif number == 0:
        pytest.skip("only root can give a file to root")


def test_missing_rights_name_the_group(host):
    file = host.root / "dev/ttyACM0"
    in_a_group(file, 20)  # dialout on Debian
    asked = []

    def refuse(path, mode):
        asked.append((path, mode))
        return False

    told = only(host.trouble(access=refuse))
    assert asked == [(file, os.R_OK | os.W_OK)]
    assert told.startswith(f"{DEVICE} belongs to the group ")
    assert "sudo usermod -aG " in told
    assert told.endswith("then log out and in again")


@pytest.mark.parametrize(("mode", "group"), [(0o600, 20), (0o660, 0)], ids=["mode", "group"])
def test_a_port_of_roots_alone_lacks_a_rule(host, mode, group):
    file = host.root / "dev/ttyACM0"
    in_a_group(file, group)
    file.chmod(mode)
    told = only(host.trouble(access=lambda _path, _mode: False))
    assert "may be opened by root alone" in told
    assert 'GROUP="dialout", MODE="0660"' in told


def test_a_port_that_is_gone_has_no_rights_to_talk_of(host):
    assert rights("/dev/ttyACM7", host.root, lambda _path, _mode: False) == ""


def test_all_troubles_are_told(host):
    host.interface("1-1:1.4", "08")
    host.runs("ModemManager")
    assert len(host.trouble(access=lambda _path, _mode: False)) == 3


@pytest.mark.parametrize("device", ["rfc2217://127.0.0.1:4001", "/dev/pts/7", "COM7", None])
def test_what_is_no_usb_port_has_no_such_troubles(host, device):
    host.runs("ModemManager")
    host.runs("brltty", 322)
    assert host.trouble(device) == []


@pytest.mark.parametrize("device", ["/dev/ttyS0", None])
def test_a_real_host_can_be_asked(device):
    assert isinstance(trouble(device), list)
