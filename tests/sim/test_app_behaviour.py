"""What applications do by the version of their image: sans-IO, and on a whole board in virtual time."""

import pytest
from simulator import image_hash, make_image

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_sim import SimBehaviour, SimConfig
from pytest_nrfdfu.sim.app_behaviour import (
    BEHAVIOURS,
    Behaviour,
    VersionBehaviour,
    behaviour_of,
    fault_dump,
    parse_behaviour,
)
from pytest_nrfdfu.sim.application import BOOT_BANNER
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.chip import ResetCause
from pytest_nrfdfu.sim.options import parse
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import EchoRequest, ImageStateWrite

IMAGE = make_image("9.9.9")
GREETING = BOOT_BANNER + b"nrfdfu-sim: application 9.9.9 hash " + image_hash(IMAGE).hex().encode() + b"\r\n"
SECONDS = 0.5


def board_with(behaviour, **options):
    applications = (VersionBehaviour("9.9.9", behaviour),)
    board = SimBoard(BoardOptions(image=IMAGE, applications=applications, application_smp="full", **options))
    return board, board.machine.advance(SECONDS)


def answers(board):
    """Whether its SMP server does."""
    board.machine.receive(console.encode(encode(EchoRequest("x"), 1)), SECONDS)
    return b"\x06\x09" in board.machine.advance(SECONDS + 0.2)


def resets(board):
    return board.chip.counters.resets[ResetCause.SREQ]


def test_an_application_runs_if_nothing_else_is_said():
    board, said = board_with("runs")
    assert said == GREETING
    assert answers(board)


def test_one_that_hangs_greets_and_says_no_more():
    board, said = board_with("hangs")
    assert said == GREETING
    assert not answers(board)
    assert resets(board) == 0


def test_a_silent_one_prints_nothing_but_serves():
    board, said = board_with("silent")
    assert said == b""
    assert answers(board)


def test_one_that_faults_dumps_and_resets_over_and_over():
    board, said = board_with("faults")
    times = said.count(BOOT_BANNER)
    assert times > 2
    assert said.startswith(GREETING + b"E: ***** MPU FAULT *****\r\n")
    assert said.count(b"E: >>> ZEPHYR FATAL ERROR 19: Unknown error on CPU 0\r\n") >= times - 1
    assert said.count(b"E: Resetting system\r\n") == resets(board) >= times - 1
    assert b"Halting" not in said


def test_one_that_halts_dumps_and_stands_still():
    board, said = board_with("halts")
    assert said == GREETING + fault_dump(address=0x1045A, halts=True)
    assert said.endswith(b"E: Current thread: 0x20000a48 (main)\r\nE: Halting system\r\n")
    assert resets(board) == 0
    assert not answers(board)


def test_one_that_boot_loops_resets_without_a_word():
    board, said = board_with("boot-loops")
    assert said == b""
    assert resets(board) > 3


def board_testing(behaviour):
    """A board that runs 1.0.0 and is to test 9.9.9; and all that it says in the next half minute."""
    applications = (VersionBehaviour("9.9.9", behaviour),)
    board = SimBoard(BoardOptions(image=make_image("1.0.0"), applications=applications, application_smp="full"))
    board.machine.advance(1.0)
    board.chip.program(board.slot(1).address, IMAGE + b"\xff" * (-len(IMAGE) % 4))
    board.machine.receive(console.encode(encode(ImageStateWrite(hash=image_hash(IMAGE)), 1)), 1.0)
    board.machine.advance(2.0)
    assert board.trailer(1)["swap_type"] == "test"
    board.chip.reset(ResetCause.SREQ)
    return board, board.machine.advance(30.0)


def test_a_test_image_that_faults_is_swapped_back():
    board, said = board_testing("faults")
    assert said.count(BOOT_BANNER) == 2
    assert said.index(b"application 9.9.9") < said.index(b"ZEPHYR FATAL ERROR") < said.index(b"application 1.0.0")
    assert board.slot_contents(0).version == "1.0.0"


@pytest.mark.parametrize(("behaviour", "image_ok"), [("runs", "unset"), ("confirms", "set")])
def test_a_test_image_stays_if_it_confirms_itself(behaviour, image_ok):
    board, said = board_testing(behaviour)
    assert said.count(BOOT_BANNER) == 1
    assert board.trailer(0) == {"magic": "set", "swap_type": "test", "copy_done": "set", "image_ok": image_ok}
    board.chip.reset(ResetCause.SREQ)
    board.machine.advance(60.0)
    assert board.slot_contents(0).version == ("9.9.9" if image_ok == "set" else "1.0.0")


@pytest.mark.parametrize(
    ("version", "expected"), [("9.9.9", "faults"), ("9.9.9.1", "hangs"), ("1.0.0", "hangs"), (None, "hangs")]
)
def test_the_version_s_own_entry_goes_before_that_of_any(version, expected):
    given = (parse_behaviour("*=hangs"), parse_behaviour("9.9.9=faults"))
    assert behaviour_of(version, given) == expected
    assert behaviour_of(version, ()) == "runs"


@pytest.mark.parametrize(("text", "version"), [("1", "1.0.0"), ("1.2.3+4", "1.2.3.4"), ("1.2.3.0", "1.2.3")])
def test_a_version_may_be_written_in_any_way(text, version):
    """Otherwise its behaviour would never show, and nobody would say why."""
    assert parse_behaviour(f"{text}=faults") == VersionBehaviour(version, "faults")


def test_what_is_no_version_is_said_so():
    with pytest.raises(ValueError, match=r"'v1\.0' is not a version"):
        parse_behaviour("v1.0=faults")
    with pytest.raises(ValueError, match=r"'v1\.0' is not a version"):
        SimConfig(applications={"v1.0": "faults"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('applications = {"1.0.0" = "explodes"}', "applications in [sim]: '1.0.0=explodes' is not VERSION=BEHAVIOUR"),
        ('applications = {"1.0.0" = 3}', "applications in [sim]: '1.0.0=3' is not VERSION=BEHAVIOUR"),
        ('applications = {"old" = "runs"}', "applications in [sim]: 'old' is not a version"),
        ('applications = ["1.0.0"]', "applications in [sim]: '1.0.0' is not VERSION=BEHAVIOUR"),
        ("applications = true", "applications in [sim] cannot be True"),
        ('swap = "scratch"', "swap in [sim]: invalid choice: 'scratch' (choose from"),
        ('staging = "yes"', "staging in [sim] cannot be 'yes'"),
        ("application_erase = 3", "application_erase in [sim]: invalid choice: '3'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_file_and_key(tmp_path, capsys, line, words):
    file = tmp_path / "board.toml"
    file.write_text(f"[sim]\n{line}\n")
    with pytest.raises(SystemExit, match="2"):
        parse(["--config", str(file)])
    assert f"nrfdfu sim: error: {file}: {words}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "faults", "1.0.0=", "=faults", "1.0.0=explodes"])
def test_what_is_no_behaviour_is_said_so(text):
    with pytest.raises(ValueError, match=r"is not VERSION=BEHAVIOUR; behaviours are runs, confirms"):
        parse_behaviour(text)


def test_configuration_and_simulator_know_the_same_behaviours():
    assert set(SimBehaviour.__args__) == set(Behaviour.__args__) == set(BEHAVIOURS)


def test_a_sim_table_and_the_command_line_say_the_same(tmp_path):
    file = tmp_path / "board.toml"
    file.write_text(
        '[sim]\napplication_smp = "full"\napplications = {"9.9.9" = "faults", "*" = "confirms"}\nstaging = true\n'
        'swap = "offset"\nbootloader_log = true\napplication_erase = "progressive"\n'
        "application_frugal_list = true\n"
    )
    table = SimConfig(
        application_smp="full",
        applications={"9.9.9": "faults", "*": "confirms"},
        staging=True,
        swap="offset",
        bootloader_log=True,
        application_erase="progressive",
        application_frugal_list=True,
    )
    options = parse(table.arguments()).board
    assert options == parse(["--config", str(file)]).board
    assert options.applications == (VersionBehaviour("9.9.9", "faults"), VersionBehaviour("*", "confirms"))
    assert (options.staging, options.bootloader_log, options.application_erase) == (True, True, "progressive")
    assert options.application_frugal_list
    assert options.profile.swap == "offset"


@pytest.mark.parametrize(
    ("arguments", "swap"),
    [
        ([], "move"),
        (["--swap", "overwrite"], "overwrite"),
        (["--network-core", "--images", "2"], "overwrite"),
        (["--network-core", "--images", "2", "--swap", "move"], "move"),
        (["--network-core"], "move"),
    ],
)
def test_two_images_are_overwritten_unless_told(arguments, swap):
    assert parse(arguments).board.profile.swap == swap


def test_the_bootloader_logs_when_asked():
    board = SimBoard(BoardOptions(image=IMAGE, bootloader_log=True))
    said = board.machine.advance(SECONDS)
    assert said.index(b"*** Booting MCUboot") < said.index(b"I: Jumping to the first image slot") < said.index(GREETING)


@pytest.mark.parametrize(
    ("table", "swap"),
    [({}, None), ({"swap": "offset"}, "offset"), ({"images": 2, "network_core": True}, "overwrite")],
)
def test_a_bench_that_starts_a_simulated_board_knows_how_it_swaps_and_where_it_stages(table, swap):
    config = BoardConfig(board="x", sim=SimConfig(staging=bool(table), **table))
    simulator = Simulator(config)
    try:
        assert simulator.wired().bootloader.swap == swap
        assert (simulator.staging is not None) == bool(table)
    finally:
        simulator.stop()
