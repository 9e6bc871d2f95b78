"""Lines that come again and again are shown once, and counted."""

import pytest
import suites
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.report.repeats import folded

BOOT = ["*** Booting Zephyr OS build v4.4.0 ***", "E: ***** MPU FAULT *****", "E: r0: 0x0", "Resetting system"]


def test_a_boot_loop():
    lines = ["begun", *BOOT * 5, BOOT[0], "runs"]
    assert folded(lines) == ["begun", *BOOT, "(the 4 lines above 4 times more)", BOOT[0], "runs"]


def test_what_differs_in_its_times_alone_is_alike():
    lines = [f"   {n}.718 s -> image list read, sequence {n}: {{}} (9 bytes)" for n in range(2, 12)]
    assert folded(lines) == [lines[0], "(the line above 9 times more, the last at 11.718 s)"]
    log = [
        line for n in range(3) for line in (f"[00:00:0{n}.251,983] <inf> app: up", f"[00:00:0{n}.3,000] <err> app: off")
    ]
    assert folded(log) == [*log[:2], "(the 2 lines above 2 times more)"]


@pytest.mark.parametrize("lines", [[], ["a"], ["a", "a", "a"], ["a", "b", "a", "b"], ["a", "b", "c"] * 2 + ["x"]])
def test_what_saves_little_stays(lines):
    assert folded(lines) == (lines if len(lines) < 6 else ["a", "b", "c", "(the 3 lines above 1 time more)", "x"])


@given(st.lists(st.sampled_from(["a", "b", "sequence 3"]), max_size=60))
def test_nothing_is_lost(lines):
    """What is folded can be unfolded."""
    whole = []
    for line in folded(lines):
        if not line.startswith("("):
            whole.append(line)
            continue
        words = line.split()
        size, more = (1, int(words[3])) if words[1] == "line" else (int(words[1]), int(words[4]))
        whole += whole[-size:] * more
    assert whole == lines


def test_a_report_of_a_boot_loop_is_short(pytester, monkeypatch):
    """The application dies after every boot, and its bootloader starts it again."""
    suite = suites.make(pytester, monkeypatch)
    suite.add_board("loop", suites.FAST.replace("[sim]", '[sim]\napplications = { "1.2.3" = "faults" }'))
    suite.tests(
        "def test_it(dfu, build, board):\n    try:\n        dfu.update(build)\n    except Exception: pass\n"
        "    board.console.expect(r'(?s)(ZEPHYR FATAL ERROR.*){4}', timeout=20)\n    raise AssertionError"
    )
    text = suite.run("--board", "loop", "--build", "app.bin").stdout.str()
    shown = text.split("loop console call")[1].split("Captured log")[0]
    assert shown.count("ZEPHYR FATAL ERROR") == 1
    assert " lines above " in shown
