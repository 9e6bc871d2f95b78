"""``nrfdfu units``: what is free, who holds what, holding back and releasing."""

import json
import os
import re
import time

import pytest

from pytest_nrfdfu.bench.identity import identify
from pytest_nrfdfu.bench.lease import LocalKeeper
from pytest_nrfdfu.bench.lease_dir import VARIABLE, LeaseDir
from pytest_nrfdfu.cli import main
from pytest_nrfdfu.config import load

RACK = """
[recovery]
entry = ["smp"]
[[unit]]
id = "dk-07"
uart.port = "/dev/dk-07"
[[unit]]
id = "dk-08"
uart.port = "/dev/dk-08"
[[unit]]
id = "dk-09"
uart.port = "/dev/dk-09"
disabled = "no cable"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "leases"))
    (tmp_path / "hil_configs").mkdir()
    (tmp_path / "hil_configs" / "rack.toml").write_text(RACK)
    (tmp_path / "hil_configs" / "virtual.toml").write_text("[sim]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def units(capsys):
    def units(*arguments):
        assert main(["units", *arguments, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return {unit["unit"]: unit for unit in found["units"]} if "units" in found else found

    return units


def states(found):
    return {name: unit["state"] for name, unit in found.items()}


def test_units_of_the_suites_own_configurations(units):
    found = units()
    assert states(found) == {
        "rack:dk-07": "free",
        "rack:dk-08": "free",
        "rack:dk-09": "held back",
        "virtual": "unlimited",
    }
    assert found["rack:dk-09"]["why"].endswith("rack.toml: no cable")


def test_a_unit_that_is_held(units, folder, capsys):
    first = load(folder / "hil_configs" / "rack.toml")[0]
    lease = LocalKeeper().acquire([first], deadline=time.monotonic(), say=pytest.fail)
    found = units()
    assert states(found)["rack:dk-07"] == "held"
    assert found["rack:dk-07"]["holder"]["pid"] == os.getpid()
    assert main(["units"]) == 0
    assert "rack:dk-07  held       rack:dk-07 is held by " in capsys.readouterr().out
    lease.release()
    assert states(units())["rack:dk-07"] == "free"


def test_hold_and_release(units, capsys):
    shown = units("hold", "dk-07", "--reason", "bad cable")
    assert shown["state"] == "held back"
    assert shown["why"].startswith("held back by ")
    assert shown["why"].endswith(": bad cable")
    assert states(units())["rack:dk-07"] == "held back"
    assert units("release", "rack:dk-07")["state"] == "free"
    assert states(units())["rack:dk-07"] == "free"
    assert main(["units", "hold", "dk-08", "--reason", "hot"]) == 0
    assert "held back  held back by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dk-10", "'dk-10' means no unit; write BOARD:ID, one of: rack:dk-07, rack:dk-08, rack:dk-09; beside them, "),
        ("rack", "'rack' means 3 units; name one of them: rack:dk-07, rack:dk-08, rack:dk-09\n"),
        ("virtual", "'virtual': virtual is simulated: every process starts its own, so there is nothing to hold back"),
        ("nrf5340dk-sim", "nrf5340dk-sim is simulated: every process starts its own"),
        ("rack-nrf5340dk", "means 3 units; name one of them: rack-nrf5340dk:dk-01, "),
    ],
)
def test_what_names_no_unit_is_refused(capsys, name, said):
    assert main(["units", "hold", name, "--reason", "x"]) == 1
    assert said in capsys.readouterr().err


def test_what_pytest_finds_can_be_held(units, folder):
    """Of the configurations that ship with the package as well, though a list shows a suite's own alone."""
    assert units("hold", "rack-nrf5340dk:dk-01", "--reason", "hot")["state"] == "held back"
    assert states(units()).keys() == {"rack:dk-07", "rack:dk-08", "rack:dk-09", "virtual"}
    assert units("release", "rack-nrf5340dk:dk-01")["state"] == "free"
    (folder / "hil_configs" / "desk.toml").write_text('[recovery]\nentry = ["smp"]\n')
    assert units("hold", "desk", "--reason", "hot")["unit"] == "desk"


def test_of_two_units_with_one_id_the_suites_own_is_meant(units, folder):
    text = '[recovery]\nentry = ["smp"]\n[[unit]]\nid = "dk-01"\nuart.port = "/dev/dk-01"\n'
    (folder / "hil_configs" / "own.toml").write_text(text)
    assert units("hold", "dk-01", "--reason", "hot")["unit"] == "own:dk-01"


def test_how_the_last_use_went(units, folder, capsys):
    first = load(folder / "hil_configs" / "rack.toml")[0]
    result = {"tests": 9, "failed": 3, "bench": 2, "retired": "no port", "ended": "2026-01-31T01:02:03"}
    LeaseDir().write(identify(first).stable, "result", result)
    assert units()["rack:dk-07"]["last"] == result
    assert main(["units"]) == 0
    told = "last used until 2026-01-31 01:02:03: 9 tests, 3 failed (2 by the bench), retired: no port"
    assert told in capsys.readouterr().out


def test_another_folder(units, folder):
    (folder / "desk.toml").write_text('[recovery]\nentry = ["smp"]\n')
    assert states(units("--config", "desk.toml")) == {"desk": "free"}


def test_a_second_hold_says_what_it_replaces(units, capsys):
    for reason in ("bad cable", "hot"):
        assert main(["units", "hold", "dk-07", "--reason", reason]) == 0
    told = capsys.readouterr().err
    assert told.startswith("nrfdfu units: rack:dk-07 was held back by ")
    assert told.endswith(": bad cable; the new reason has taken the place of that one\n")
    assert main(["units", "hold", "dk-09", "--reason", "hot"]) == 0
    assert "rack.toml: no cable\n" in capsys.readouterr().err


def test_the_release_of_a_unit_that_was_not_held_says_so(units, capsys):
    assert main(["units", "release", "dk-07"]) == 0
    assert capsys.readouterr().err == "nrfdfu units: rack:dk-07 was not held back: nothing was changed\n"
    assert main(["units", "release", "dk-09"]) == 0
    assert "rack.toml: no cable; only a change of that file ends this\n" in capsys.readouterr().err
    units("hold", "dk-07", "--reason", "hot")
    capsys.readouterr()
    assert main(["units", "release", "dk-07"]) == 0
    assert capsys.readouterr().err == ""


def test_times_are_written_in_one_way(folder, capsys):
    first = load(folder / "hil_configs" / "rack.toml")[0]
    LeaseDir().write(identify(first).stable, "result", {"tests": 1, "ended": "2026-01-31T01:02:03+01:00"})
    assert main(["units", "hold", "dk-07", "--reason", "hot"]) == 0
    lease = LocalKeeper().acquire([first], deadline=time.monotonic(), say=pytest.fail)
    capsys.readouterr()
    assert main(["units"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " held " in line)
    lease.release()
    assert len(re.findall(r"(?:since|until) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b(?!\+)", line)) == 3
    assert ": 1 tests, ? failed (? by the bench)" in line
