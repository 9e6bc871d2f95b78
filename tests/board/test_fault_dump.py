"""What firmware prints when it dies, found in console text.

The dumps have the form that Zephyr's kernel/fatal.c, arch/arm/core/fatal.c and cortex_m/fault.c print, TF-M's that of
its exception_info.c; addresses are made up.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.board.fault_dump import BEGINNING, faults_in, quoted
from pytest_nrfdfu.board.line_times import TimedLine

MPU = """\
***** MPU FAULT *****
  Data Access Violation
  MMFAR Address: 0x4
r0/a1:  0x00000001  r1/a2:  0x20001a40  r2/a3:  0x00000000
r3/a4:  0x00000004 r12/ip:  0xaaaaaaaa r14/lr:  0x00010a57
 xpsr:  0x61000000
s[ 0]:  0x00000000  s[ 1]:  0x00000000  s[ 2]:  0x00000000  s[ 3]:  0x00000000
fpscr:  0x00000000
Faulting instruction address (r15/pc): 0x00010a62
>>> ZEPHYR FATAL ERROR 19: Unknown error on CPU 0
Current thread: 0x20001a40 (sensor)
Halting system
""".splitlines()

STYLES = {
    "minimal": "E: {}",
    "default": "[00:00:05.979,000] <err> os: {}",
    "without time": "<err> os: {}",
    "coloured": "[00:00:05.979,000] \x1b[1;31m<err> os: {}\x1b[0m",
}


def timed(lines):
    return [TimedLine(float(number), line) for number, line in enumerate(lines)]


def faults(*lines):
    return faults_in(timed(lines))


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_dump_is_read_in_every_style_of_zephyrs_log(style):
    lines = [style.format(line) for line in MPU]
    (fault,) = faults("hello", *lines, "never reached")
    assert fault.kind == "MPU FAULT"
    assert fault.details == ("Data Access Violation", "MMFAR Address: 0x4")
    assert (fault.number, fault.reason, fault.pc, fault.thread) == (19, "Unknown error", "0x00010a62", "sensor")
    assert fault.ending == "halted"
    assert fault.began == 1.0
    assert len(fault.lines) == len(MPU)
    assert "\x1b" not in "".join(fault.lines)


def test_the_cause_is_a_line():
    (fault,) = faults(*(f"E: {line}" for line in MPU))
    assert fault.cause == (
        "MPU FAULT (Data Access Violation, MMFAR Address: 0x4), PC 0x00010a62, thread sensor, then halted"
    )
    assert quoted([fault]).splitlines() == [fault.cause, *(f"  E: {line}" for line in MPU)]


def test_the_kernels_own_word_is_told_where_it_is_one():
    (fault,) = faults(
        "E: >>> ZEPHYR FATAL ERROR 3: Kernel oops on CPU 0",
        "E: Current thread: 0x20000748 (unknown)",
        "E: Resetting system",
    )
    assert fault.cause == "fatal error, Kernel oops, thread 0x20000748, then reset"


def test_older_kernels_do_not_name_the_cpu():
    (fault,) = faults("FATAL: >>> ZEPHYR FATAL ERROR 2: Stack overflow", "FATAL: Current thread: 0x20000748 (main)")
    assert (fault.number, fault.reason, fault.thread) == (2, "Stack overflow", "main")


def test_an_assertion_has_its_expression_place_and_message():
    (fault,) = faults(
        "ASSERTION FAIL [handle != ((void *)0)] @ WEST_TOPDIR/app/src/radio.c:88",
        "\tno handle for channel 3",
        "E: >>> ZEPHYR FATAL ERROR 4: Kernel panic on CPU 0",
        "E: Current thread: 0x20000748 (main)",
        "E: Halting system",
    )
    assert fault.kind == "assertion"
    assert fault.details == (
        "handle != ((void *)0) @ WEST_TOPDIR/app/src/radio.c:88",
        "no handle for channel 3",
    )
    assert fault.reason == "Kernel panic"


def test_an_assertion_without_its_expression():
    """CONFIG_ASSERT_NO_COND_INFO."""
    (fault,) = faults("ASSERTION FAIL @ WEST_TOPDIR/nrf/lib/dk_buttons_and_leds/dk_buttons_and_leds.c:186")
    assert fault.details == ("WEST_TOPDIR/nrf/lib/dk_buttons_and_leds/dk_buttons_and_leds.c:186",)


@pytest.mark.parametrize("line", ["<err> mpsl_init: MPSL ASSERT: 112, 2209", "E: SoftDevice Controller ASSERT: 12, 9"])
def test_an_assertion_of_nordics_libraries(line):
    (fault,) = faults(line, "E: >>> ZEPHYR FATAL ERROR 3: Kernel oops on CPU 0")
    assert fault.kind == "assertion"
    assert fault.details == (line.split(": ", 1)[1],)
    assert fault.number == 3


def test_a_secure_fault_that_tfm_tells_of():
    lines = [
        "uart:~$ FATAL ERROR: SecureFault",
        "Here is some context for the exception:",
        "    EXC_RETURN (LR): 0xFFFFFFAD",
        "    Exception came from non-secure FW in thread mode.",
        "    Exception frame at: 0x2002CD40",
        "        LR:   0x00044181",
        "        PC:   0x0003D7B6",
        "    SFSR:  0x00000048",
    ]
    (fault,) = faults(*lines)
    assert (fault.kind, fault.pc) == ("SecureFault", "0x0003D7B6")
    assert fault.lines == tuple(lines)


def test_a_hard_fault_that_escalated_is_one():
    (fault,) = faults(
        "E: ***** HARD FAULT *****",
        "E:   Fault escalation (see below)",
        "E: ***** BUS FAULT *****",
        "E:   Precise data bus error",
        "E: >>> ZEPHYR FATAL ERROR 25: Unknown error on CPU 0",
    )
    assert fault.kind == "HARD FAULT, BUS FAULT"


def test_what_other_threads_print_between_is_skipped():
    mixed = [line for dumped in MPU for line in (f"E: {dumped}", "[00:00:05.980,000] <inf> radio: still here")]
    (fault,) = faults(*mixed)
    assert (fault.pc, fault.thread, fault.ending) == ("0x00010a62", "sensor", "halted")
    assert not any("radio" in line for line in fault.lines)


def test_errors_of_others_are_no_details():
    (fault,) = faults("E: ***** USAGE FAULT *****", "E: could not read the sensor", "E:   Division by zero")
    assert fault.details == ("Division by zero",)


def test_two_deaths_are_two():
    dump = [f"E: {line}" for line in MPU]
    first, second = faults(*dump, "*** Booting Zephyr OS build v4.4.0 ***", *dump)
    assert second.began == len(dump) + 1
    assert first.lines == second.lines


@pytest.mark.parametrize("after", ["*** Booting Zephyr OS build v4.4.0 ***", "I: Starting bootloader"])
def test_a_dump_that_was_cut_off_ends_with_the_next_boot(after):
    cut = [f"E: {line}" for line in MPU[:3]]
    (fault,) = faults(*cut, after, "Current thread: 0x1 (other)")
    assert fault.lines == tuple(cut)
    assert fault.thread == ""


def test_a_dump_that_was_cut_off_ends_with_other_text():
    others = [f"line {number}" for number in range(8)]
    (fault,) = faults("E: ***** BUS FAULT *****", *others, "Current thread: 0x1 (other)")
    assert fault.thread == ""


def test_what_looks_like_a_dump_is_none():
    assert not faults(
        "***** delaying boot 500ms (per build configuration) *****",
        "***** default settings *****",
        "***** self-test: no fault found *****",
        "FATAL ERROR: default password in use",
        "the handler prints ASSERTION FAIL and goes on",
        "NON-FATAL ERROR: retrying",
        "no assertion failed",
        "Current thread: 0x20000748 (main)",
        "E: Halting system",
    )


def test_an_assertion_behind_which_the_firmware_prints_on_was_survived():
    (fault,) = faults("ASSERTION FAIL [x] @ test.c:12", "\tas the test wants it", "PASS - test_assert")
    assert fault.survived
    assert fault.cause == "assertion (x @ test.c:12, as the test wants it), and it went on"


@pytest.mark.parametrize(
    "behind",
    [[], ["", "  "], ["log of another thread", "E: >>> ZEPHYR FATAL ERROR 4: Kernel panic on CPU 0"], MPU[-1:]],
)
def test_an_assertion_that_is_the_last_word_was_not_survived(behind):
    (fault,) = faults("ASSERTION FAIL [x] @ test.c:12", *behind)
    assert not fault.survived


def test_only_an_assertion_may_be_survived():
    (fault,) = faults("E: ***** BUS FAULT *****", "[00:00:05.980,000] <inf> radio: still here")
    assert not fault.survived


def test_faults_that_are_alike_are_quoted_once():
    dump = [f"E: {line}" for line in MPU]
    other = ["ASSERTION FAIL [x] @ main.c:1", "*** Booting Zephyr OS build v4.4.0 ***"]
    text = quoted(faults(*dump, *other, *dump, *dump[:-1])).splitlines()
    assert text.count("  E: ***** MPU FAULT *****") == 1
    assert text[len(dump) + 1] == "The same 2 times more, the last 26.00 s later"
    assert text[-1] == "  ASSERTION FAIL [x] @ main.c:1"


@pytest.mark.parametrize(
    "line",
    [
        "E: ***** SECURE FAULT *****",
        "E: ***** Debug monitor exception *****",
        "E: ***** Reserved Exception ( -12) *****",
        "E: ***** Spurious interrupt (IRQ 61) *****",
        "E: Fault! EXC #3",
        "E: >>> ZEPHYR FATAL ERROR 0: CPU exception on CPU 0",
        "ASSERTION FAIL [x] @ main.c:1",
        "FATAL ERROR: SecureFault",
        "E: MPSL ASSERT: 112, 2209",
    ],
)
def test_the_beginning_of_each_kind_is_seen_before_its_line_has_ended(line):
    assert BEGINNING.search(line)
    assert faults(line)


@given(st.lists(st.one_of(st.sampled_from([f"E: {line}" for line in MPU]), st.text(max_size=40)), max_size=60))
def test_any_text_is_read(lines):
    for fault in faults(*lines):
        assert fault.kind
        assert fault.lines
        assert fault.cause
