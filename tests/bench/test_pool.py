"""Which units the values of --board mean, and the units that a run holds."""

import pytest

from pytest_nrfdfu.bench import pool as pool_module
from pytest_nrfdfu.bench.pool import Choice, Pool, choose, config_folders
from pytest_nrfdfu.config import BoardConfig, Catalogue, UnitConfig
from pytest_nrfdfu.errors import BoardError, ConfigError

WIRED = 'compatible = ["nrf5340dk"]\n[uart]\nport = "/dev/null"\n[recovery]\nentry = ["smp"]\n'
RACK = WIRED + "[[unit]]\nid = 'dk-07'\n[[unit]]\nid = 'dk-08'\n[[unit]]\nid = 'spare'\n"


@pytest.fixture
def catalogue(tmp_path):
    (tmp_path / "rack.toml").write_text(RACK)
    (tmp_path / "desk.toml").write_text(WIRED)
    (tmp_path / "dk-sim.toml").write_text("[sim]\n")
    return Catalogue([tmp_path])


def labels(choices):
    return {choice.label: [unit.name for unit in choice.units] for choice in choices}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["desk"], {"desk": ["desk"]}),
        (["rack"], {"rack": ["rack:dk-07", "rack:dk-08", "rack:spare"]}),
        (["rack:all"], {f"rack:{unit}": [f"rack:{unit}"] for unit in ("dk-07", "dk-08", "spare")}),
        (["rack:dk-08"], {"rack:dk-08": ["rack:dk-08"]}),
        (["rack:dk-*"], {"rack:dk-07": ["rack:dk-07"], "rack:dk-08": ["rack:dk-08"]}),
        (["desk:all"], {"desk": ["desk"]}),
        (["desk", "d*", "desk"], {"desk": ["desk"]}),
        (["dk-sim", "desk"], {"dk-sim": ["dk-sim"], "desk": ["desk"]}),
        ([], {}),
    ],
)
def test_what_a_value_means(catalogue, wanted, expected):
    found = labels(choose(wanted, catalogue))
    assert found == expected
    assert list(found) == list(expected), "in the order in which they were asked for"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("rack:dk-09", "--board rack:dk-09: rack has no unit 'dk-09'; its units are dk-07, dk-08, spare"),
        ("desk:dk-07", "desk has no unit 'dk-07'; its units are none: its file has no [[unit]] tables"),
        ("nothing", "board 'nothing' is not known"),
    ],
)
def test_what_means_nothing_is_refused(catalogue, value, says):
    with pytest.raises(ConfigError) as caught:
        choose([value], catalogue)
    assert says in str(caught.value)


def test_a_marker_means_a_board_by_name_glob_or_likeness(catalogue):
    (choice,) = choose(["desk"], catalogue)
    assert all(choice.matches([pattern]) for pattern in ("desk", "d*", "nrf5340dk", "nrf*"))
    assert not choice.matches(["rack"])
    assert not choice.matches([])


# --- holding --------------------------------------------------------------------------------------------------------


class _Unit:
    """Stands for a unit: notes what is done to it."""

    log: list[str]
    broken: set[str]

    def __init__(self, name, config):
        self.name, self.config = name, config
        self.works = True

    def open(self):
        self.log.append(f"open {self.name}")
        if self.name in self.broken:
            raise BoardError("no port")

    def close(self):
        self.log.append(f"close {self.name}")


class _Simulator:
    log: list[str]

    def __init__(self, config):
        self.config = config
        self.running = True
        self.log.append("start")

    def wired(self):
        return self.config.model_copy(update={"provides": ("wires",)})

    def stop(self):
        self.log.append("stop")


@pytest.fixture
def log(monkeypatch):
    log: list[str] = []
    monkeypatch.setattr(_Unit, "log", log, raising=False)
    monkeypatch.setattr(_Unit, "broken", set(), raising=False)
    monkeypatch.setattr(_Simulator, "log", log, raising=False)
    monkeypatch.setattr(pool_module, "Unit", _Unit)
    monkeypatch.setattr(pool_module, "Simulator", _Simulator)
    return log


def test_a_unit_is_opened_once_and_kept(log, catalogue):
    (choice,) = choose(["desk"], catalogue)
    pool = Pool()
    assert pool.unit(choice) is pool.unit(choice)
    assert log == ["open desk"]
    assert pool.held == [pool.unit(choice)]
    pool.close()
    assert log == ["open desk", "close desk"]
    assert pool.held == []


def test_choices_get_units_that_are_not_held(log, catalogue):
    named, anyone = choose(["rack:dk-07", "rack"], catalogue)
    pool = Pool()
    assert pool.unit(named).name == "rack:dk-07"
    assert pool.unit(anyone).name == "rack:dk-08"
    pool.close()
    assert log[2:] == ["close rack:dk-08", "close rack:dk-07"]


def test_a_unit_that_two_choices_mean_is_opened_once(log, catalogue):
    choices = choose(["rack:all", "rack"], catalogue)
    pool = Pool()
    units = [pool.unit(choice) for choice in choices]
    assert units[3] is units[0]
    assert len(pool.held) == 3
    assert len(log) == 3


def test_a_simulated_board_is_started_wired_and_stopped(log, catalogue):
    (choice,) = choose(["dk-sim"], catalogue)
    pool = Pool()
    unit = pool.unit(choice)
    assert unit.config.provides == ("wires",)
    assert pool.simulator(unit) is not None
    pool.close()
    assert log == ["start", "open dk-sim", "close dk-sim", "stop"]


def test_what_a_unit_that_does_not_open_has_begun_is_ended(log, catalogue, monkeypatch):
    monkeypatch.setattr(_Unit, "broken", {"dk-sim"})
    (choice,) = choose(["dk-sim"], catalogue)
    pool = Pool()
    with pytest.raises(BoardError, match="no port"):
        pool.unit(choice)
    assert log == ["start", "open dk-sim", "close dk-sim", "stop"]
    assert pool.held == []
    assert pool._simulators == {}


def test_a_unit_that_does_not_work_any_more_is_opened_anew_for_all_that_mean_it(log, catalogue):
    choices = choose(["rack:all", "rack"], catalogue)
    pool = Pool()
    units = [pool.unit(choice) for choice in choices]
    log.clear()
    units[0].works = False
    again = pool.unit(choices[0])
    assert again is not units[0]
    assert again.name == "rack:dk-07"
    assert pool.unit(choices[3]) is again
    assert [pool.unit(choice) for choice in choices[1:3]] == units[1:3]
    assert log == ["close rack:dk-07", "open rack:dk-07"]
    pool.close()
    assert log[2:] == ["close rack:dk-07", "close rack:spare", "close rack:dk-08"]


def test_a_simulator_that_died_is_started_anew(log, catalogue):
    (choice,) = choose(["dk-sim"], catalogue)
    pool = Pool()
    dead = pool.simulator(pool.unit(choice))
    dead.running = False
    log.clear()
    fresh = pool.unit(choice)
    assert log == ["close dk-sim", "stop", "start", "open dk-sim"]
    assert pool.simulator(fresh) is not dead
    assert pool.unit(choice) is fresh


def test_a_simulated_board_that_died_works_again(tmp_path):
    (tmp_path / "dk-sim.toml").write_text("[sim]\nbaudrate = 0\n")
    (choice,) = choose(["dk-sim"], Catalogue([tmp_path]))
    pool = Pool()
    try:
        dead = pool.unit(choice)
        simulator = pool.simulator(dead)
        assert dead.works
        simulator._child.kill()
        simulator._child.wait()
        again = pool.unit(choice)
        assert again.works
        assert again is not dead
        assert again.rig.probe_info()["open"]
    finally:
        pool.close()


def test_a_unit_that_cannot_be_opened_anew_is_told_and_tried_again(log, catalogue, monkeypatch):
    (choice,) = choose(["desk"], catalogue)
    pool = Pool()
    pool.unit(choice).works = False
    monkeypatch.setattr(_Unit, "broken", {"desk"})
    with pytest.raises(BoardError, match="no port"):
        pool.unit(choice)
    monkeypatch.setattr(_Unit, "broken", set())
    assert pool.unit(choice).works
    pool.close()
    assert log.count("open desk") == 3
    assert log.count("close desk") == 3


def test_any_free_unit_is_one_that_works(log, catalogue, monkeypatch):
    monkeypatch.setattr(_Unit, "broken", {"rack:dk-07", "rack:dk-08"})
    (choice,) = choose(["rack"], catalogue)
    pool = Pool()
    assert pool.unit(choice).name == "rack:spare"
    assert log == ["open rack:dk-07", "close rack:dk-07", "open rack:dk-08", "close rack:dk-08", "open rack:spare"]
    pool.close()


def test_units_that_all_fail_are_all_told(log, catalogue, monkeypatch):
    monkeypatch.setattr(_Unit, "broken", {"rack:dk-07", "rack:dk-08", "rack:spare"})
    (choice,) = choose(["rack"], catalogue)
    with pytest.raises(
        BoardError, match=r"no unit of rack can be used: rack:dk-07: no port; rack:dk-08: .*; rack:spare"
    ):
        Pool().unit(choice)
    assert [entry for entry in log if entry.startswith("open")][2:] == ["open rack:spare"]


def test_a_pool_of_real_units_closes_them(tmp_path):
    config = BoardConfig.model_validate(
        {"board": "b", "uart": {"port": str(tmp_path / "no")}, "recovery": {"entry": ["smp"]}}
    )
    pool = Pool()
    with pytest.raises(BoardError, match="cannot open"):
        pool.unit(Choice("b", (UnitConfig(None, config, tmp_path),)))
    pool.close()


# --- where configurations are ---------------------------------------------------------------------------------------


def test_configurations_are_looked_for_in_the_suite_then_in_the_package(tmp_path):
    shipped = tmp_path / "shipped"
    assert config_folders(None, tmp_path, shipped) == [shipped]
    own = tmp_path / "hil_configs"
    own.mkdir()
    assert config_folders(None, tmp_path, shipped) == [own, shipped]
    assert config_folders(None, tmp_path, own) == [own], "in the source tree both are one"
    asked = tmp_path / "rack.toml"
    with pytest.raises(ConfigError, match=r"--nrfdfu-config .*rack.toml: no such file or folder"):
        config_folders(asked, tmp_path, shipped)
    asked.touch()
    assert config_folders(asked, tmp_path, shipped) == [asked, shipped]
