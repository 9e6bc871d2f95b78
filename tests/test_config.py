"""Board configurations: every table, what is wrong said with file, line, key and fix, and which board a name means."""

from pathlib import Path

import pytest

from pytest_nrfdfu.config import BoardConfig, Catalogue, load, shipped_configs
from pytest_nrfdfu.config_lines import CommandLine, SerialLine
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.errors import ConfigError

WIRED = """
[uart]
port = "/dev/ttyACM1"
[probe]
[recovery.line]
driver = "serial"
port = "/dev/ttyUSB0"
line = "rts"
"""
SIMULATED = "[sim]\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="nrf5340dk.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def refused(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


# --- what may be said -----------------------------------------------------------------------------------------------


def test_every_table_is_read(write):
    (unit,) = load(
        write("""
board = "product"
compatible = ["nrf5340dk"]
provides = ["netcore"]
[uart]
port = "rfc2217://bench:4000"
baudrate = 1_000_000
flow_control = "rtscts"
[console]
port = "/dev/ttyACM2"
baudrate = 9600
banner = "^Product"
[probe]
unique_id = "remote:bench1:5555"
[recovery]
entry = ["gpio", "pin-reset", "smp"]
reset = "line"
timeout = 7.5
[recovery.line]
driver = "command"
assert = ["relay", "on", "3"]
release = ["relay", "off", "3"]
[reset]
hold = 0.1
[reset.line]
driver = "serial"
port = "/dev/ttyUSB0"
line = "dtr"
active = "high"
[boot]
timeout = 20
smp = true
[bootloader]
profile = "ncs-2.4"
receive_size = 512
[images.app]
upload = 1
slot_address = 0x10000
slot_size = 0x70000
[images.net]
upload = 3
allow_link_address = true
""")
    )
    config = unit.config
    assert (unit.name, unit.id, config.simulated) == ("product", None, False)
    assert (config.compatible, config.provides) == (("nrf5340dk",), ("netcore",))
    assert (config.uart.port, config.uart.baudrate, config.uart.flow_control) == (
        "rfc2217://bench:4000",
        1_000_000,
        "rtscts",
    )
    assert (config.console.port, config.console.baudrate, config.console.banner) == ("/dev/ttyACM2", 9600, "^Product")
    assert config.probe is not None
    assert config.probe.unique_id == "remote:bench1:5555"
    assert (config.recovery.entry, config.recovery.reset) == (("gpio", "pin-reset", "smp"), "line")
    assert config.recovery.timeout == 7.5
    assert isinstance(config.recovery.line, CommandLine)
    assert config.recovery.line.assert_ == ("relay", "on", "3")
    assert isinstance(config.reset.line, SerialLine)
    assert (config.reset.line.line, config.reset.line.active, config.reset.hold) == ("dtr", "high", 0.1)
    assert (config.boot.timeout, config.boot.smp) == (20.0, True)
    assert (config.app_image.upload, config.app_image.slot_address) == (1, 0x10000)
    assert config.images["net"].allow_link_address


def test_the_board_is_named_by_its_file(write):
    assert load(write(WIRED, "own.toml"))[0].config.board == "own"


def test_what_the_bootloader_can_do_is_a_profile_and_its_overrides(write):
    text = WIRED + '[bootloader]\nprofile = "ncs-2.6"\nreceive_size = 4096\nhash = false\nline_length = 64\n'
    profile = load(write(text))[0].config.bootloader.resolve()
    assert (profile.name, profile.receive_size, profile.hash, profile.line_length) == ("ncs-2.6", 4096, False, 64)
    assert profile.line_buffers == 8, "what is not overridden is the profile's"


def test_a_configuration_survives_json():
    """xdist's workers get it so."""
    for path in sorted(shipped_configs().glob("*.toml")):
        config = load(path)[0].config
        assert BoardConfig.model_validate(config.model_dump(mode="json", by_alias=True)) == config


def test_the_simulated_boards_options_become_arguments():
    sim = SimConfig(
        bootloader="ncs-2.4", baudrate=0, hash=False, echo=True, entrance=("gpio", "pin-reset"), locked=True
    )
    arguments = sim.arguments()
    told = arguments.index("--bootloader")
    assert arguments[told : told + 4] == ["--bootloader", "ncs-2.4", "--baudrate", "0"]
    assert [a for a in arguments if a in {"--no-hash", "--echo", "--locked"}] == ["--no-hash", "--echo", "--locked"]
    assert arguments.count("--entrance") == 2
    assert "--loses-dp-on-pin-reset" not in arguments


def test_files_of_a_simulated_board_lie_beside_its_configuration(write, tmp_path):
    (unit,) = load(write('[sim]\nimage = "app.bin"\npublic_key = "/keys/own.pem"\n'))
    assert unit.config.sim is not None
    assert unit.config.sim.image == tmp_path / "app.bin"
    assert unit.config.sim.public_key == Path("/keys/own.pem")


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[uart]\nbaudrat = 5\n", 2, "uart.baudrat: unknown key; did you mean 'baudrate'?"),
        ("borad = 'x'\n", 1, "borad: unknown key; did you mean 'board'?"),
        ("[uart]\nxyz = 5\n", 2, "uart.xyz: unknown key; known here: port, baudrate, flow_control"),
        ("uart.prt = 'x'\n", 1, "uart.prt: unknown key; did you mean 'port'?"),
        ("[uart]\nflow_control = 'xonxoff'\n", 2, "Input should be 'none' or 'rtscts', not 'xonxoff'"),
        ("[uart]\nbaudrate = 'fast'\n", 2, "uart.baudrate: a whole number is needed"),
        ("[uart]\nbaudrate = 0\n", 2, "uart.baudrate: Input should be greater than 0, not 0"),
        (
            "[recovery]\nentry = ['gpoi']\n",
            2,
            (
                "Input should be 'gpio', 'pin-reset', 'boot-mode', 'wait-for-dfu', 'no-application', 'smp' or 'manual',"
                " not 'gpoi'"
            ),
        ),
        ("[recovery]\nentry = []\n", 2, "recovery.entry: Tuple should have at least 1 item"),
        (
            "[recovery.line]\ndriver = 'gpiood'\n",
            1,
            "driver 'gpiood' is not known; known: 'serial', 'gpiod', 'command'",
        ),
        ("[recovery.line]\nport = 'x'\n", 1, "recovery.line: a driver must be named: driver = ..."),
        ("\n[recovery.line]\ndriver = 'serial'\nline = 'rts'\n", 2, "recovery.line.port: this key is missing"),
        ("[recovery.line]\ndriver = 'command'\nasert = ['x']\n", 3, "unknown key; did you mean 'assert'?"),
        ("[reset.line]\ndriver = 'serial'\nport = 'x'\nlin = 'rts'\n", 4, "unknown key; did you mean 'line'?"),
        ("[images.app]\nuplod = 0\n", 2, "images.app.uplod: unknown key; did you mean 'upload'?"),
        ("[bootloader]\nprofile = 'ncs-9'\n[sim]\n", 2, "bootloader.profile: bootloader profile 'ncs-9' is not known"),
        ("[sim]\nbootloader = 'ncs-9'\n", 2, "sim.bootloader: bootloader profile 'ncs-9' is not known; known are"),
        ("[bootloader]\nreceive_size = 4\n", 2, "bootloader.receive_size: Input should be greater than or equal to 96"),
        ("[sim]\nbaud = 4\n", 2, "sim.baud: unknown key; did you mean 'baudrate'?"),
        ("board = 'a b'\n", 1, "board: String should match pattern"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_fix(write, text, line, says):
    path = write(text)
    told = refused(path)
    assert any(entry.startswith(f"{path}:{line}: ") and says in entry for entry in told.splitlines()), told


def test_everything_that_is_wrong_is_said_at_once(write):
    told = refused(write("[uart]\nprt = 'x'\n[probe]\nid = '1'\n"))
    assert "uart.prt" in told
    assert "probe.id" in told
    assert len(told.splitlines()) == 2


def test_the_line_is_that_of_the_right_table(write):
    path = write(
        "[console]\nport = 'a'\n[uart]\nport = 5\n[recovery.line]\ndriver = 'serial'\nport = 'b'\nline = 'x'\n"
    )
    told = refused(path)
    assert f"{path}:4: uart.port: " in told
    assert f"{path}:8: recovery.line.line: Input should be 'rts' or 'dtr', not 'x'" in told


def test_a_file_that_cannot_be_read_is_named(tmp_path, write):
    assert refused(tmp_path / "none.toml").endswith("none.toml: cannot be read: No such file or directory")
    assert "is not TOML: " in refused(write("[uart\n"))
    path = tmp_path / "latin1.toml"
    path.write_bytes(b"board = '\xe9'\n")
    assert "is not TOML: " in refused(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[uart]\nport = 'x'\n[probe]\n", 'entry "gpio" needs the recovery pin: add a [recovery.line] table'),
        (
            "[recovery]\nentry = ['pin-reset']\n",
            'reset = "pin" is done by the probe: add a [probe] table',
        ),
        ("[recovery]\nentry = ['pin-reset']\nreset = 'line'\n", 'reset = "line" needs a [reset.line] table'),
        (WIRED.replace("ttyUSB0", "ttyACM1"), "[recovery.line] is on /dev/ttyACM1, the port that carries SMP"),
        (WIRED + "[console]\nport = '/dev/ttyUSB0'\n", "the port that carries the console: its lines pulse"),
        (
            WIRED + "[reset.line]\ndriver = 'serial'\nport = '/dev/ttyACM1'\nline = 'dtr'\n",
            "[reset.line] is on /dev/ttyACM1",
        ),
        (WIRED.replace("/dev/ttyUSB0", "socket://bench:4001"), "has no control lines; use rfc2217://"),
    ],
)
def test_a_rig_that_cannot_work_is_refused(write, text, says):
    assert says in refused(write(text))


def test_two_names_of_one_port_are_one_port(write, tmp_path):
    (tmp_path / "tty").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "tty")
    text = WIRED.replace("/dev/ttyACM1", str(tmp_path / "tty")).replace("/dev/ttyUSB0", str(tmp_path / "by-id"))
    assert "the port that carries SMP" in refused(write(text))


def test_a_board_asked_by_smp_alone_needs_no_rig(write):
    (unit,) = load(write("[uart]\nport = 'socket://127.0.0.1:5000'\n[recovery]\nentry = ['smp']\n"))
    assert unit.config.probe is None


def test_a_simulated_board_needs_no_wiring(write):
    assert load(write(SIMULATED))[0].config.simulated


# --- units ----------------------------------------------------------------------------------------------------------

RACK = (
    WIRED
    + """
[[unit]]
id = "dk-07"
probe.unique_id = "1050012345"
[[unit]]
id = "dk-08"
uart.port = "/dev/ttyACM3"
[unit.recovery]
timeout = 9.0
"""
)


def test_a_units_table_is_laid_over_the_others(write):
    one, two = load(write(RACK))
    assert [one.name, two.name] == ["nrf5340dk:dk-07", "nrf5340dk:dk-08"]
    assert (one.config.probe.unique_id, one.config.uart.port) == ("1050012345", "/dev/ttyACM1")
    assert (two.config.probe.unique_id, two.config.uart.port) == (None, "/dev/ttyACM3")
    assert (one.config.recovery.timeout, two.config.recovery.timeout) == (5.0, 9.0)
    assert one.config.recovery.line == two.config.recovery.line


def test_a_line_with_another_driver_replaces_the_whole_line(write):
    text = WIRED + '[[unit]]\nid = "a"\nrecovery.line = { driver = "command", assert = ["on"], release = ["off"] }\n'
    (unit,) = load(write(text))
    assert isinstance(unit.config.recovery.line, CommandLine)


def test_a_key_of_a_unit_is_named_with_its_line(write):
    path = write(RACK + "[[unit]]\nid = 'dk-09'\nuart.prt = 'x'\n")
    assert refused(path).startswith(f"{path}:{len(path.read_text().splitlines())}: uart.prt: unknown key; did you mean")


@pytest.mark.parametrize(
    ("units", "says"),
    [
        ("[[unit]]\nid = 'a'\n[[unit]]\nid = 'a'\n", "two units are called nrf5340dk:a"),
        ("[[unit]]\nuart.port = 'x'\n", "unit number 1: every [[unit]] needs an id"),
        ("[[unit]]\nid = 'a'\n[[unit]]\n", "unit number 2: every [[unit]] needs an id"),
        ("[[unit]]\nid = 7\n", "not 7"),
        ("[[unit]]\nid = 'a:b'\n", "not 'a:b'"),
        ("[[unit]]\nid = 'all'\n", "not 'all'"),
        ("[unit]\nid = 'a'\n", "units are tables in double brackets: [[unit]]"),
        ("[[unit]]\nid = 'a'\nboard = 'other'\n", "another board needs another file"),
    ],
)
def test_units_that_cannot_be_told_apart_are_refused(write, units, says):
    assert says in refused(write(WIRED + units))


# --- the catalogue --------------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue(write, tmp_path):
    write(WIRED.replace("ttyACM1", "ttyACM5"), "own/nrf5340dk.toml")
    write(RACK, "own/product-a.toml")
    write(SIMULATED + "", "own/product-sim.toml")
    write(WIRED, "shipped/nrf5340dk.toml")
    write(WIRED, "shipped/other.toml")
    write('compatible = ["nrf5340dk"]\n' + SIMULATED, "shipped/nrf5340dk-sim.toml")
    return Catalogue([tmp_path / "own", tmp_path / "shipped"])


def names(catalogue, pattern):
    return [name for name, _ in catalogue.find(pattern)]


def test_the_suites_own_folder_goes_before_the_shipped_one(catalogue):
    ((_, units),) = catalogue.find("nrf5340dk")
    assert [unit.config.uart.port for unit in units] == ["/dev/ttyACM5"]


def test_all_units_of_a_board_are_found(catalogue):
    ((name, units),) = catalogue.find("product-a")
    assert (name, [unit.id for unit in units]) == ("product-a", ["dk-07", "dk-08"])
    assert catalogue.boards == ["nrf5340dk", "nrf5340dk-sim", "other", "product-a", "product-sim"]


def test_a_glob_finds_boards_and_never_a_simulated_one(catalogue):
    assert names(catalogue, "*") == ["nrf5340dk", "product-a"]
    assert names(catalogue, "product-*") == ["product-a"]
    assert names(catalogue, "nrf5340dk") == ["nrf5340dk"]
    assert names(catalogue, "nrf5340dk-sim") == ["nrf5340dk-sim"]
    with pytest.raises(ConfigError, match=r"matches only simulated boards, .* by their own names alone: nrf5340dk-sim"):
        names(catalogue, "nrf5340dk-s*")


def test_a_glob_selects_in_the_first_folder_that_it_matches_in(catalogue):
    """What ships as an example must not join the suite's own boards; by its name it is found all the same."""
    assert names(catalogue, "[no]*") == ["nrf5340dk"]
    assert names(catalogue, "oth*") == ["other"]
    assert names(catalogue, "other") == ["other"]


def test_a_console_at_another_rate_of_the_same_port_is_refused(write):
    """It would be ignored."""
    said = refused(write(WIRED + "[console]\nbaudrate = 1000000\n"))
    assert "[console] baudrate = 1000000 on the port that carries SMP at 115200" in said
    assert "is not supported yet" in said
    refused(write(WIRED + "[console]\nport = '/dev/ttyACM1'\nbaudrate = 1000000\n"))
    (unit,) = load(write(WIRED + "[console]\nport = '/dev/ttyACM0'\nbaudrate = 1000000\n"))
    assert unit.config.console.baudrate == 1_000_000
    load(write(WIRED + "[console]\nbaudrate = 115200\n"))


def test_swap_and_window_of_the_bootloader_go_over_the_profile(write):
    (unit,) = load(write(WIRED + "[bootloader]\nswap = 'overwrite'\nwait_for_dfu = 2.5\n"))
    resolved = unit.config.bootloader.resolve()
    assert (resolved.swap, resolved.wait_for_dfu) == ("overwrite", 2.5)
    assert "swap" in refused(write(WIRED + "[bootloader]\nswap = 'sideways'\n"))


def test_a_board_that_is_not_known_is_refused_with_those_that_are(catalogue, tmp_path):
    with pytest.raises(ConfigError) as caught:
        names(catalogue, "nrf5340dkk")
    text = str(caught.value)
    assert "board 'nrf5340dkk' is not known; did you mean 'nrf5340dk'?" in text
    assert "Known boards: nrf5340dk, nrf5340dk-sim, other, product-a, product-sim" in text
    assert str(tmp_path / "own") in text


def test_a_single_file_may_be_given(write):
    assert Catalogue([write(WIRED, "alone.toml")]).boards == ["alone"]


def test_one_board_may_be_in_several_files_if_its_units_differ(write, tmp_path):
    write('board = "dk"\n' + WIRED + "[[unit]]\nid = 'a'\n", "rack/left.toml")
    write('board = "dk"\n' + WIRED + "[[unit]]\nid = 'b'\n", "rack/right.toml")
    ((_, units),) = Catalogue([tmp_path / "rack"]).find("dk")
    assert [unit.id for unit in units] == ["a", "b"]
    write('board = "dk"\n' + WIRED + "[[unit]]\nid = 'a'\n", "rack/right.toml")
    with pytest.raises(ConfigError, match=r"left.toml and .*right.toml: two units are called dk:a"):
        Catalogue([tmp_path / "rack"])


def test_the_shipped_configurations_are_good():
    catalogue = Catalogue([shipped_configs()])
    assert {"nrf5340dk-sim", "nrf5340dk-wired"} <= set(catalogue.boards)
    ((_, (unit,)),) = catalogue.find("nrf5340dk-sim")
    assert unit.config.compatible == ("nrf5340dk",)


def test_a_wrong_file_hinders_its_own_boards_alone(write, tmp_path):
    write(SIMULATED, "good.toml")
    wrong = write("[sim]\nbaudrat = 9600\n", "wrong.toml")
    catalogue = Catalogue([tmp_path])
    assert [name for name, _ in catalogue.find("good")] == ["good"]
    assert list(catalogue.broken) == [wrong]
    for asked in ("wrong", "*", "other"):
        with pytest.raises(ConfigError, match="baudrat: unknown key"):
            list(catalogue.find(asked))
    with pytest.raises(ConfigError, match="baudrat"):
        Catalogue([wrong])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[images.app]\nupload = 9\n", ":2: images.app.upload: the application is number 0 for every bootloader"),
        ("[images.app]\nslot_address = 0x10001\n", ":2: images.app.slot_address: a slot begins at a page of flash"),
        ("[images.app]\nslot_address = 0x10800\n", "a multiple of 0x1000"),
        ("[images.net]\nslot_address = 0x01008801\n", ":2: images.net.slot_address: a slot begins at a page of flash"),
        ("[[unit]]\nid = 'a'\nimages.app.upload = 2\n", ":4: images.app.upload: "),
    ],
)
def test_numbers_of_images_that_no_bootloader_can_mean(write, text, said):
    assert said in refused(write(f"{text}[sim]\n" if "unit" not in text else f"[sim]\n{text}"))


@pytest.mark.parametrize(
    "text",
    ["[images.app]\nupload = 1\nslot_address = 0x11000\n", "[images.net]\nupload = 3\nslot_address = 0x01008800\n"],
)
def test_numbers_of_images_that_a_bootloader_may_mean(write, text):
    load(write(f"[sim]\n{text}"))


def test_of_several_wrong_files_the_one_asked_for_is_told(write, tmp_path):
    """Whatever it is called: the board's name may stand in it."""
    for number in (0, 5, 8):
        write(f"[sim]\nbaudrat = {number}\n", f"c{number}.toml")
    write("board = 'dk'\n[sim\n", "odd.toml")
    catalogue = Catalogue([tmp_path])
    for asked, file in (
        ("c5", "c5.toml:2: "),
        ("c8", "c8.toml:2: "),
        ("dk", "odd.toml: is not TOML"),
        ("c[5-9]", "c5"),
    ):
        with pytest.raises(ConfigError) as caught:
            list(catalogue.find(asked))
        assert str(caught.value).startswith(str(tmp_path / file))
    with pytest.raises(ConfigError, match=r"board 'x5' is not known.* Left out, since something is wrong.*c0.toml:2: "):
        list(catalogue.find("x5"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[recovery]\nentry = ['gpoi']\n", 2, "did you mean 'gpio'?"),
        ("[sim]\nfaults = ['uart-dead']\n", 2, "did you mean 'uart-deaf'?"),
        ("[recovery.line]\ndrivr = 'serial'\n", 1, "is 'drivr' meant to be it?"),
        ("[sim]\n[recovery]\nentry = ['gpio', 'boot-mode']\nreset = 'pin'\n", 2, "or leave reset out"),
        ("[sim]\n[reset]\nhold = 11\n", 3, "less than or equal to 5"),
    ],
)
def test_what_was_probably_meant_is_said(write, text, line, words):
    said = refused(write(text))
    assert f":{line}: " in said
    assert words in said
