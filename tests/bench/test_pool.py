"""Which units the values of --board mean, and the units that a run holds."""

import pytest

from pytest_nrfdfu.bench import lease_dir as lease_dir_module
from pytest_nrfdfu.bench import pool as pool_module
from pytest_nrfdfu.bench.choice import catalogue as known
from pytest_nrfdfu.bench.identity import identify
from pytest_nrfdfu.bench.lease_dir import LeaseDir
from pytest_nrfdfu.bench.pool import Choice, Pool, choose, config_folders
from pytest_nrfdfu.config import BoardConfig, Catalogue, UnitConfig
from pytest_nrfdfu.errors import BoardError, ConfigError, LeaseError

WIRED = 'compatible = ["nrf5340dk"]\n[uart]\nport = "/dev/null"\n[recovery]\nentry = ["smp"]\n'
RACK = WIRED + "".join(f"[[unit]]\nid = '{name}'\nuart.port = '/dev/{name}'\n" for name in ("dk-07", "dk-08", "spare"))


@pytest.fixture(autouse=True)
def lease_dir(tmp_path, monkeypatch):
    monkeypatch.setenv(lease_dir_module.VARIABLE, str(tmp_path / "leases"))
    return tmp_path / "leases"


@pytest.fixture
def make_pool():
    """Pools that do not wait, and are closed at the end."""
    pools = []

    def make(**settings):
        pools.append(Pool(**{"lease_timeout": 0.0, **settings}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


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
        self.works, self.holds = True, "nothing"

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
        self.endpoints = {}
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


def test_a_unit_is_opened_once_and_kept(log, catalogue, make_pool):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool()
    assert pool.unit(choice) is pool.unit(choice)
    assert log == ["open desk"]
    assert pool.held == [pool.unit(choice)]
    pool.close()
    assert log == ["open desk", "close desk"]
    assert pool.held == []


def test_choices_get_units_that_are_not_held(log, catalogue, make_pool):
    named, anyone = choose(["rack:dk-07", "rack"], catalogue)
    pool = make_pool()
    assert pool.unit(named).name == "rack:dk-07"
    assert pool.unit(anyone).name == "rack:dk-08"
    pool.close()
    assert log[2:] == ["close rack:dk-08", "close rack:dk-07"]


def test_a_unit_that_two_choices_mean_is_opened_once(log, catalogue, make_pool):
    choices = choose(["rack:all", "rack"], catalogue)
    pool = make_pool()
    units = [pool.unit(choice) for choice in choices]
    assert units[3] is units[0]
    assert len(pool.held) == 3
    assert len(log) == 3


def test_a_simulated_board_is_started_wired_and_stopped(log, catalogue, make_pool):
    (choice,) = choose(["dk-sim"], catalogue)
    pool = make_pool()
    unit = pool.unit(choice)
    assert unit.config.provides == ("wires",)
    assert pool.simulator(unit) is not None
    pool.close()
    assert log == ["start", "open dk-sim", "close dk-sim", "stop"]


def test_what_a_unit_that_does_not_open_has_begun_is_ended(log, catalogue, monkeypatch, make_pool):
    monkeypatch.setattr(_Unit, "broken", {"dk-sim"})
    (choice,) = choose(["dk-sim"], catalogue)
    pool = make_pool()
    with pytest.raises(BoardError, match="no port"):
        pool.unit(choice)
    assert log == ["start", "open dk-sim", "close dk-sim", "stop"] * 2, "it is tried once more"
    assert pool.held == []


def test_a_unit_that_does_not_work_any_more_is_opened_anew_for_all_that_mean_it(log, catalogue, make_pool):
    choices = choose(["rack:all", "rack"], catalogue)
    pool = make_pool()
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
    assert log[2:] == ["close rack:spare", "close rack:dk-08", "close rack:dk-07"]


def test_a_simulator_that_died_is_started_anew(log, catalogue, make_pool):
    (choice,) = choose(["dk-sim"], catalogue)
    pool = make_pool()
    dead = pool.simulator(pool.unit(choice))
    dead.running = False
    log.clear()
    fresh = pool.unit(choice)
    assert log == ["close dk-sim", "stop", "start", "open dk-sim"]
    assert pool.simulator(fresh) is not dead
    assert pool.unit(choice) is fresh


def test_a_simulated_board_that_died_works_again(tmp_path, make_pool):
    (tmp_path / "dk-sim.toml").write_text("[sim]\nbaudrate = 0\n")
    (choice,) = choose(["dk-sim"], Catalogue([tmp_path]))
    pool = make_pool()
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


def test_a_unit_that_cannot_be_opened_anew_is_retired(log, catalogue, monkeypatch, make_pool):
    """What was said the first time is said at once for every later test."""
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool()
    pool.unit(choice).works = False
    monkeypatch.setattr(_Unit, "broken", {"desk"})
    with pytest.raises(
        BoardError,
        match="desk can be used: desk: retired in this run: it could not be opened, 2 times in a row: no port",
    ):
        pool.unit(choice)
    opened = log.count("open desk")
    assert opened == 3
    monkeypatch.setattr(_Unit, "broken", set())
    with pytest.raises(BoardError, match="retired in this run"):
        pool.unit(choice)
    assert log.count("open desk") == opened


def test_a_unit_that_is_never_retired_is_tried_for_every_test(log, catalogue, monkeypatch, make_pool):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool(retire_after=0)
    pool.unit(choice).works = False
    monkeypatch.setattr(_Unit, "broken", {"desk"})
    with pytest.raises(BoardError, match="no port"):
        pool.unit(choice)
    monkeypatch.setattr(_Unit, "broken", set())
    assert pool.unit(choice).works


def test_any_free_unit_is_one_that_works(log, catalogue, monkeypatch, make_pool):
    monkeypatch.setattr(_Unit, "broken", {"rack:dk-07", "rack:dk-08"})
    (choice,) = choose(["rack"], catalogue)
    pool = make_pool()
    assert pool.unit(choice).name == "rack:spare"
    once = ["open rack:dk-07", "close rack:dk-07", "open rack:dk-08", "close rack:dk-08", "open rack:spare"]
    assert log == [*once[:2], *once[:2], *once[2:4], *once[2:4], once[4]]
    assert pool.retired == dict.fromkeys(
        ("rack:dk-07", "rack:dk-08"), "it could not be opened, 2 times in a row: no port"
    )


def test_where_units_are_never_retired_each_is_tried_once_and_given_back(log, catalogue, monkeypatch, make_pool):
    monkeypatch.setattr(_Unit, "broken", {"rack:dk-07"})
    (choice,) = choose(["rack"], catalogue)
    assert make_pool(retire_after=0).unit(choice).name == "rack:dk-08"
    assert log == ["open rack:dk-07", "close rack:dk-07", "open rack:dk-08"]
    monkeypatch.setattr(_Unit, "broken", set())
    assert make_pool().unit(choice).name == "rack:dk-07", "its lease was given back"


def test_units_that_all_fail_are_all_told(log, catalogue, monkeypatch, make_pool):
    monkeypatch.setattr(_Unit, "broken", {"rack:dk-07", "rack:dk-08", "rack:spare"})
    (choice,) = choose(["rack"], catalogue)
    with pytest.raises(
        BoardError, match=r"no unit of rack can be used: rack:dk-07: no port; rack:dk-08: .*; rack:spare"
    ):
        make_pool().unit(choice)
    assert [entry for entry in log if entry.startswith("open")][4:] == ["open rack:spare"] * 2


def test_a_pool_of_real_units_closes_them(tmp_path, make_pool):
    config = BoardConfig.model_validate(
        {"board": "b", "uart": {"port": str(tmp_path / "no"), "wait": 0}, "recovery": {"entry": ["smp"]}}
    )
    pool = make_pool()
    with pytest.raises(BoardError, match="cannot open"):
        pool.unit(Choice("b", (UnitConfig(None, config, tmp_path),)))
    pool.close()


# --- bad units, and those that others have ---------------------------------------------------------------------------


def test_a_unit_on_which_the_bench_fails_twice_in_a_row_is_retired(log, catalogue, make_pool):
    (choice,) = choose(["rack"], catalogue)
    pool = make_pool()
    for category in ("bench", "test", "bench"):  # never in a row
        assert pool.unit(choice).name == "rack:dk-07"
        pool.failed("rack:dk-07", "test_a", category, "the probe is gone")
    pool.passed("rack:dk-07", "test_b")
    pool.failed("rack:dk-07", "test_c", "bench", "the probe is gone")
    assert pool.unit(choice).name == "rack:dk-07"
    assert pool.retired == {}
    pool.failed("rack:dk-07", "test_d", "bench", "the port is gone")
    assert pool.retired["rack:dk-07"].endswith("2 times in a row, the last time in test_d: the port is gone")
    assert pool.unit(choice).name == "rack:dk-08"
    assert log == ["open rack:dk-07", "close rack:dk-07", "open rack:dk-08"]
    assert pool.last_results["rack:dk-07"]["tests"] == 6
    with pytest.raises(LeaseError, match=r"rack:dk-07 is held by .*, and not used any more: the bench failed 2 times"):
        make_pool().unit(choose(["rack:dk-07"], catalogue)[0])


@pytest.mark.parametrize(("after", "retired"), [(0, False), (1, True)])
def test_how_often_is_the_users_choice(log, catalogue, make_pool, after, retired):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool(retire_after=after)
    pool.unit(choice)
    pool.failed("desk", "test_a", "bench", "no port")
    assert (pool.retired != {}) is retired


def test_after_a_failure_a_reset_is_due_once(log, catalogue, make_pool):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool()
    unit = pool.unit(choice)
    assert not pool.take_reset(unit)
    pool.failed("desk", "test_a", "test", "assert 0")
    assert pool.take_reset(unit)
    assert not pool.take_reset(unit)


def test_units_that_others_have_are_left_to_them(log, catalogue, make_pool):
    (choice,) = choose(["rack"], catalogue)
    pools = [make_pool() for _ in range(3)]
    assert [pool.unit(choice).name for pool in pools] == ["rack:dk-07", "rack:dk-08", "rack:spare"]
    with pytest.raises(LeaseError, match=r"rack: no unit is free: rack:dk-07 is held by .*; rack:dk-08 .*; rack:spare"):
        make_pool().unit(choice)
    pools[1].close()
    assert make_pool().unit(choice).name == "rack:dk-08"


def test_before_waiting_a_process_gives_back_what_it_holds(log, catalogue, make_pool):
    first, second = choose(["rack:dk-07", "rack:dk-08"], catalogue)
    other, pool = make_pool(), make_pool()
    other.unit(second)
    pool.unit(first)
    with pytest.raises(LeaseError, match="rack:dk-08 is held by"):
        pool.unit(second)
    assert other.unit(first).name == "rack:dk-07"


def test_several_are_different_units_and_those_in_use_are_kept(log, catalogue, make_pool):
    choices = choose(["rack:dk-08", "rack", "desk"], catalogue)
    pool = make_pool()
    board = pool.unit(choices[2])
    units = pool.several(choices, keep=["desk"])
    assert [unit.name for unit in units] == ["rack:dk-08", "rack:dk-07", "desk"]
    assert units[2] is board
    assert pool.several(choices) == units
    assert [pool.unit(choice) for choice in choices] == units
    with pytest.raises(BoardError, match="every unit of desk is in use by this test already"):
        pool.several([choices[2], choices[2]])


@pytest.mark.parametrize("how", ["disabled", "held back"])
def test_units_that_are_taken_out_are_left_out(log, tmp_path, make_pool, lease_dir, how):
    reason = "disabled = 'a bad cable'\n" if how == "disabled" else ""
    (tmp_path / "rack.toml").write_text(RACK.replace("id = 'dk-07'\n", "id = 'dk-07'\n" + reason))
    catalogue = Catalogue([tmp_path])
    (anyone,) = choose(["rack"], catalogue)
    if how == "held back":
        hold = {"reason": "a bad cable", "user": "alice", "since": "2026-01-31"}
        LeaseDir(lease_dir).write(identify(anyone.units[0]).stable, "hold", hold)
    assert make_pool().unit(anyone).name == "rack:dk-08"
    with pytest.raises(BoardError, match=rf"no unit of rack:dk-07 can be used: rack:dk-07: {how}.*: a bad cable"):
        make_pool().unit(choose(["rack:dk-07"], catalogue)[0])


def test_a_lost_lease_is_an_error_once_and_the_unit_is_closed(log, catalogue, make_pool, lease_dir):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool()
    pool.unit(choice)
    for path in lease_dir.glob("*.lock"):
        path.unlink()
    with pytest.raises(LeaseError, match=r"the lease of desk was lost: .*lock was removed or replaced"):
        pool.unit(choice)
    assert log == ["open desk", "close desk"]
    assert pool.unit(choice).name == "desk"


@pytest.mark.parametrize("run", ["", "tonight"], ids=["alone", "worker"])
def test_two_configurations_of_one_port_take_turns(log, catalogue, make_pool, tmp_path, run):
    """This process has the port itself: it is given back, and nobody is waited for."""
    (tmp_path / "other.toml").write_text(WIRED)
    choices = choose(["desk", "other"], Catalogue([tmp_path]))
    pool = make_pool(run=run)
    assert [pool.unit(choices[n]).name for n in (0, 1, 0)] == ["desk", "other", "desk"]
    assert log == ["open desk", "close desk", "open other", "close other", "open desk"]


def test_a_unit_whose_configuration_is_wrong_is_given_back(log, catalogue, monkeypatch, make_pool):
    (choice,) = choose(["desk"], catalogue)
    pool = make_pool()

    def wrong(_self):
        raise ConfigError("the line is on the port of SMP")

    with monkeypatch.context() as patched:
        patched.setattr(_Unit, "open", wrong)
        for _ in range(2):
            with pytest.raises(ConfigError, match="the line is on the port of SMP"):
                pool.unit(choice)
        assert make_pool().held == []
    assert make_pool().unit(choice).name == "desk", "its lease was given back"


@pytest.mark.parametrize(
    ("wanted", "by_pattern"),
    [
        (["rack:all"], True),
        (["rack:dk-0*"], True),
        (["r*"], True),
        (["rack:dk-07"], False),
        (["rack"], False),
        (["rack:all", "rack:dk-07"], False),
        (["rack:dk-07", "rack:all"], False),
    ],
)
def test_a_unit_that_a_pattern_means_may_be_left_out(log, catalogue, make_pool, lease_dir, wanted, by_pattern):
    choice = next(choice for choice in choose(wanted, catalogue) if choice.units[0].id == "dk-07")
    pool = make_pool()
    assert choice.by_pattern is by_pattern
    assert pool.taken_out(choice) is None
    hold = {"reason": "a bad cable", "user": "alice", "since": "2026-01-31"}
    for unit in choice.units:
        LeaseDir(lease_dir).write(identify(unit).stable, "hold", hold)
    reason = pool.taken_out(choice)
    assert (reason is not None) is by_pattern
    if reason is not None:
        assert reason.startswith("rack:dk-07 is held back by alice since 2026-01-31: a bad cable")


def test_a_unit_in_use_is_not_left_out(log, catalogue, make_pool, lease_dir):
    (choice, *_) = choose(["rack:all"], catalogue)
    pool = make_pool()
    pool.unit(choice)
    LeaseDir(lease_dir).write(identify(choice.units[0]).stable, "hold", {"reason": "x"})
    assert pool.taken_out(choice) is None


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


def test_a_board_that_is_not_known_names_the_folder_that_is_missing(tmp_path):
    """Whoever starts pytest in app/ and has app/tests/hil_configs is told where it was looked for."""
    app = tmp_path / "app"
    (app / "tests" / "hil_configs").mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        choose(["dk"], known(None, tmp_path, app))
    wanted = f"Looked for as well, and not there: {tmp_path / 'hil_configs'} and {app / 'hil_configs'}"
    assert wanted in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        choose(["dk"], known(None, tmp_path, app / "tests"))
    assert "not there" not in str(caught.value)
