"""`nrfdfu discover`: which probe and port belong together, and the configurations that it writes of them."""

import json
import subprocess
import sys

import pytest

from pytest_nrfdfu import cli
from pytest_nrfdfu.board.ports import PortInfo, describe
from pytest_nrfdfu.cli import discover
from pytest_nrfdfu.cli.bench_file import FoundUnit, render, unique_ids
from pytest_nrfdfu.cli.discover import Host, ProbeFound
from pytest_nrfdfu.cli.hardware_map import read_map
from pytest_nrfdfu.config import load
from pytest_nrfdfu.errors import ConfigError

JLINK = {"vid": 0x1366, "pid": 0x1055, "product": "J-Link"}
DK_A = [
    PortInfo("/dev/ttyACM1", serial="000050012301", location="1-1:1.2", **JLINK),
    PortInfo("/dev/ttyACM0", serial="000050012301", location="1-1:1.0", **JLINK),
]
DK_B = [
    PortInfo("/dev/ttyACM2", serial="001050012345", location="1-2:1.0", **JLINK),
    PortInfo("/dev/ttyACM3", serial="001050012345", location="1-2:1.2", **JLINK),
]
DAP = [PortInfo("/dev/ttyACM9", 0x0D28, 0x0204, "E6633861A354302C", "1-4:1.1", "DAPLink")]
FTDI = [PortInfo("/dev/ttyUSB0", 0x0403, 0x6001, "A10K5X2Z", "1-3:1.0", "FT232R")]
PROBES = (
    ProbeFound("1050012345", "Segger J-Link OB"),
    ProbeFound("50012301", "Segger J-Link OB"),
    ProbeFound("E6633861A354302C", "Arm DAPLink"),
)


@pytest.fixture
def host(monkeypatch):
    """Lets the command find what is given."""

    def connect(probes, ports, notes=()):
        monkeypatch.setattr(discover, "here", lambda: Host(tuple(probes), describe(ports), tuple(notes)))

    return connect


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = cli.main(["discover", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_ports_are_listed_with_their_probe(run, host):
    host(PROBES, DK_B + FTDI + DK_A + DAP)
    status, out, err = run()
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "probe 1050012345  Segger J-Link OB",
        "  vcom0  /dev/ttyACM2",
        "  vcom1  /dev/ttyACM3  application core: port = 'jlink:1050012345:vcom-last'",
        "probe 50012301  Segger J-Link OB",
        "  vcom0  /dev/ttyACM0",
        "  vcom1  /dev/ttyACM1  application core: port = 'jlink:50012301:vcom-last'",
        "probe E6633861A354302C  Arm DAPLink",
        "  vcom0  /dev/ttyACM9  application core: port = 'usb:0d28:0204:serial=E6633861A354302C'",
        "other serial ports",
        "  /dev/ttyUSB0 (0403:6001, serial A10K5X2Z, FT232R)  port = 'usb:0403:6001:serial=A10K5X2Z'",
    ]


def test_json_is_one_object_with_the_same(run, host):
    host(PROBES[:1], DK_B + FTDI, ["a word of pyOCD"])
    status, out, _ = run("--json")
    told = json.loads(out)
    assert status == 0
    assert told["units"] == [
        {"id": "1050012345", "probe": "1050012345", "port": "jlink:1050012345:vcom-last", "remark": ""}
    ]
    assert [port["device"] for port in told["probes"][0]["ports"]] == ["/dev/ttyACM2", "/dev/ttyACM3"]
    assert told["ports"][0]["port"] == "usb:0403:6001:serial=A10K5X2Z"
    assert (told["notes"], told["written"]) == (["a word of pyOCD"], None)


def test_what_is_written_can_be_used(run, host, tmp_path):
    host(PROBES, DK_A + DK_B + DAP)
    path = tmp_path / "hil_configs" / "bench.toml"
    status, out, _ = run("--write", path)
    assert status == 0
    units = load(path)
    assert [(unit.name, unit.config.uart.port, unit.config.probe.unique_id) for unit in units] == [
        ("bench:1050012345", "jlink:1050012345:vcom-last", "1050012345"),
        ("bench:50012301", "jlink:50012301:vcom-last", "50012301"),
        ("bench:E6633861A354302C", "usb:0d28:0204:serial=E6633861A354302C", "E6633861A354302C"),
    ]
    assert units[0].config.compatible == ("nrf5340dk",)
    assert f"next: nrfdfu doctor --board bench:1050012345 --config {path}" in out


def test_a_file_is_only_written_over_by_force(run, host, tmp_path):
    host(PROBES[:1], DK_B)
    path = tmp_path / "bench.toml"
    path.write_text("mine")
    status, _, err = run("--write", path)
    assert status == 2
    assert "--force writes over it" in err
    assert path.read_text() == "mine"
    assert run("--write", path, "--force")[0] == 0
    assert load(path)


def test_a_port_whose_probe_pyocd_does_not_list_is_a_unit_with_a_remark(run, host, tmp_path):
    host((), DK_B)
    path = tmp_path / "bench.toml"
    _, out, _ = run("--write", path)
    assert "probe 1050012345  (not listed by pyOCD)" in out
    assert "# pyOCD does not list this probe" in path.read_text()
    assert load(path)[0].config.probe.unique_id == "1050012345"


def test_a_probe_without_port_is_no_unit(run, host, tmp_path):
    host(PROBES[:1], FTDI)
    path = tmp_path / "bench.toml"
    status, out, _ = run("--write", path)
    assert status == 1
    assert "probe 1050012345 has no serial port here" in out
    assert not path.exists()


def test_nothing_connected_says_what_to_look_at(run, host):
    host((), ())
    _, out, _ = run()
    assert out.startswith("no debug probe and no serial port\n")
    assert "is the board plugged in" in out


def test_ids_are_unique_and_may_stand_behind_a_colon():
    units = [FoundUnit(serial, "auto") for serial in ("1", "1", "a:b [c]", "", "all")]
    assert unique_ids(units) == ["1", "1-2", "a-b-c", "unit", "unit-all"]


def test_texts_are_quoted(tmp_path):
    path = tmp_path / "b.toml"
    path.write_text(render([FoundUnit('a"b', 'hwgrep://\\d"')], board="b", compatible=["x"], source="a test"))
    (unit,) = load(path)
    assert (unit.config.uart.port, unit.config.probe.unique_id) == ('hwgrep://\\d"', 'a"b')


# --- pyOCD's list, in a process of its own --------------------------------------------------------------------------


def child(source):
    return [sys.executable, "-c", source]


def test_the_list_comes_from_another_process():
    source = """
import sys, json
print("pyOCD warns", file=sys.stderr)
print(json.dumps({"jlink": True, "probes": [{"unique_id": "1", "vendor": "SEGGER", "product": "Segger J-Link"}]}))
"""
    assert discover.list_probes(child(source)) == ([ProbeFound("1", "Segger J-Link")], ["pyOCD warns"])


def test_missing_jlink_software_is_said():
    probes, (note,) = discover.list_probes(child('print(\'{"jlink": false, "probes": []}\')'))
    assert probes == []
    assert "install SEGGER's J-Link software" in note


@pytest.mark.parametrize("source", ["raise SystemExit('no USB library')", "import sys; sys.exit('no USB library')"])
def test_a_list_that_cannot_be_had_is_a_note(source):
    assert discover.list_probes(child(source)) == ([], ["pyOCD cannot list the probes: no USB library"])


def test_a_list_whose_program_cannot_be_started_is_a_note():
    assert discover.list_probes(["/no/such/python"]) == (
        [],
        ["pyOCD cannot be asked for the probes: No such file or directory"],
    )


def test_a_list_that_hangs_is_a_note(monkeypatch):
    monkeypatch.setattr(discover, "_LIST_TIMEOUT", 0.2)
    _, (note,) = discover.list_probes(child("import time; time.sleep(600)"))
    assert "did not list the probes within 0.2 s" in note


def test_pyocd_is_asked_and_not_imported():
    source = "from pytest_nrfdfu import cli; import sys; cli.main(['discover']); assert 'pyocd' not in sys.modules"
    done = subprocess.run(child(source), capture_output=True, text=True, timeout=60, check=True)
    assert "pyOCD cannot list" not in done.stdout


# --- Zephyr's hardware map ------------------------------------------------------------------------------------------

MAP = """
- connected: true
  id: 000683759358
  platform: nrf5340dk/nrf5340/cpuapp
  product: J-Link
  runner: nrfjprog
  serial: /dev/ttyACM0
- connected: true
  id: "001050012345"
  platform: nrf5340dk_nrf5340_cpuapp
  product: J-Link
  serial: null
- connected: false
  id: 1050099999
  platform: nrf5340dk/nrf5340/cpuapp
  product: J-Link
  serial: null
- connected: true
  id: 0240000034544e45
  platform: frdm_k64f
  product: DAPLink CMSIS-DAP
  serial: /dev/ttyACM5
- connected: true
  id: 0123e10
  platform: nrf5340dk/nrf5340/cpuapp
  product: DAPLink CMSIS-DAP
  serial: /dev/ttyACM7
"""


@pytest.fixture
def hardware_map(tmp_path):
    def write(text):
        path = tmp_path / "map.yaml"
        path.write_text(text)
        return path

    return write


def test_serial_numbers_stay_texts(hardware_map):
    entries = read_map(hardware_map(MAP))
    assert [entry.serial for entry in entries] == [
        "000683759358",
        "001050012345",
        "1050099999",
        "0240000034544e45",
        "0123e10",  # which YAML takes for a number
    ]
    assert [entry.board for entry in entries] == ["nrf5340dk"] * 3 + ["frdm_k64f", "nrf5340dk"]


def test_a_map_becomes_a_rack(run, hardware_map, tmp_path):
    path = tmp_path / "rack.toml"
    status, out, _ = run("--from-map", hardware_map(MAP), "--write", path)
    assert status == 0
    assert [(unit.id, unit.config.uart.port, unit.config.probe.unique_id) for unit in load(path)] == [
        ("683759358", "jlink:683759358:vcom-last", "683759358"),
        ("1050012345", "jlink:1050012345:vcom-last", "1050012345"),
        ("0123e10", "/dev/ttyACM7", "0123e10"),
    ]
    assert load(path)[0].config.compatible == ("nrf5340dk",)
    assert "note: entry 3 (nrf5340dk/nrf5340/cpuapp) was left out: not connected" in out
    assert "note: entry 4 (frdm_k64f) was left out: no nRF5340" in out


def test_a_map_of_several_boards_must_be_chosen_from(run, hardware_map, tmp_path):
    path = hardware_map(MAP + "- {connected: true, id: 7, platform: thingy53/nrf5340/cpuapp, product: J-Link}\n")
    status, _, err = run("--from-map", path)
    assert status == 2
    assert "add --platform nrf5340dk or thingy53" in err
    status, out, _ = run("--from-map", path, "--platform", "thingy53", "--json")
    assert [unit["id"] for unit in json.loads(out)["units"]] == ["7"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connected: true", "is no hardware map"),
        ("- [1]", "is no hardware map"),
        ("- id: [1]", "entry 1: id is ['1']"),
        ("- id: {", "is not YAML"),
    ],
)
def test_what_is_no_map_is_refused(hardware_map, text, told):
    with pytest.raises(ConfigError) as caught:
        read_map(hardware_map(text))
    assert told in str(caught.value)


def test_a_map_that_is_not_there(run, tmp_path):
    status, _, err = run("--from-map", tmp_path / "no.yaml")
    assert status == 2
    assert "cannot be read: No such file" in err
