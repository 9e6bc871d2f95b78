"""What the report of a failing test says of boots and faults, and of the console's times."""

import pytest
import suites

DYING = suites.FAST.replace(
    "[sim]", '[console]\nbanner = "never printed"\n\n[sim]\nbootloader_log = true\napplications = { "9.9.9" = "halts" }'
)
"""Its application of version 9.9.9 faults behind its banner; [console] banner keeps the update from waiting for it."""

TESTS = """
import pytest

@pytest.mark.board("fast")
def test_has_booted(board, console):
    board.reset()
    index, match = console.expect([r"hash ([0-9a-f]+)", "Booting MCU"])
    assert index == 0
    console.expect_not("FATAL", 0.05)
    assert [boot.application_version for boot in console.boots] == ["1.2.3"]
    assert console.boot.banner_after < 5
    assert console.timed_lines[0].time >= 0
    assert not console.faults
    pytest.fail("on purpose")

@pytest.mark.board("dying")
def test_fails_while_a_fault_was_printed(board, console):
    board.reset(wait=False)
    console.expect("Halting system")
    assert False, "something else"

@pytest.mark.board("dying")
def test_does_not_boot(board):
    board.reset()
"""


LOOPS = DYING.replace("halts", "faults")
LOOP_TEST = """
import pytest

def test_fails_in_a_loop(board, console):
    board.reset(wait=False)
    for _ in range(12):
        console.expect("Resetting system", timeout=30)
    pytest.fail("on purpose")
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    made = suites.make(pytester, monkeypatch)
    image = suites.app(made.path, "9.9.9", name="bad.bin")
    good = suites.app(made.path, "1.2.3", name="good.bin")
    made.add_board("fast", suites.FAST.replace("[sim]", f'[sim]\nimage = "{good}"'))
    made.add_board(
        "dying", DYING.replace("[sim]", f'[sim]\nimage = "{image}"').replace("[boot]", "[boot]\ntimeout = 1.0")
    )
    made.tests(TESTS)
    return made


def test_boots_and_faults_are_shown_with_a_failure(suite):
    result = suite.run("--board", "fast", "--board", "dying")
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*test_has_booted*",
            "* Captured log fast* boots call *",
            "*reset: 'Zephyr OS build v4.4.0' (version 1.2.3) * s after the reset",
            "* Captured log fast* console call *",
            "[*][*][*] Booting Zephyr OS build v4.4.0 [*][*][*]",
            "*test_fails_while_a_fault_was_printed*",
            "* Captured log fault on dying* call *",
            "MPU FAULT (Data Access Violation, MMFAR Address: 0x0), PC 0x*, thread main, then halted",
            "  E: [*][*][*][*][*] MPU FAULT [*][*][*][*][*]",
            "* Captured log dying* boots call *",
            "*MCUboot *; fault * s after the banner: MPU FAULT *",
        ]
    )
    assert "s after its banner: MPU FAULT (Data Access Violation, MMFAR Address: 0x0)" in text
    assert text.count("Captured log fault on fast") == 0


def test_a_verbose_run_shows_when_each_line_came(suite):
    result = suite.run("--board", "fast", "-v")
    result.stdout.re_match_lines([r" +\d+\.\d{3} s \*\*\* Booting Zephyr OS build v4\.4\.0 \*\*\*$"])


def test_a_board_that_dies_again_and_again_fills_no_pages(suite):
    bad = suite.path / "bad.bin"
    suite.add_board(
        "loops", LOOPS.replace("[sim]", f'[sim]\nimage = "{bad}"').replace("[boot]", "[boot]\ntimeout = 1.0")
    )
    suite.tests(LOOP_TEST)
    result = suite.run("--board", "loops")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"-+ Captured log fault on loops.* call -+",
            r"MPU FAULT .* then reset",
            r"The same \d+ times more, the last \d+\.\d\d s later",
            r"-+ Captured log loops.* boots call -+",
            r" +the same \d+ times more, the last at \d+\.\d{3} s",
            r"-+ Captured log loops.* console call -+",
            r"\(the \d+ lines above \d+ times more\)",
        ],
        consecutive=False,
    )
    assert len(result.outlines) < 300
    assert "lines above" not in suite.run("--board", "loops", "-vv").stdout.str()
