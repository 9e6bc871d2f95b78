"""Who answers on the port, and what is said where nobody does."""

import re
from dataclasses import replace

import pytest
import simulator

from board.conftest import make_build, wired
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.restart import restart
from pytest_nrfdfu.board.running_application import ask, confirm_running
from pytest_nrfdfu.errors import HashMismatch, ProbeError, SmpTimeout, UpdateRefused


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builds")
    return {version: make_build(folder, version) for version in ("1.0.0", "1.1.0")}


def board(builds, behaviour, **sim):
    table = {"image": builds["1.0.0"].path, "applications": {"1.0.0": behaviour}} | sim
    return wired(sim=table, boot={"timeout": 2.0})


def refusal(sim, console):
    """What is said once `console` has come there after a reset."""
    restart(sim.unit, "pin")
    simulator.wait_until(lambda: console in sim.unit.console_uart.console.since(0), "the console's text")
    with pytest.raises(UpdateRefused) as refused:
        ask(sim.unit)
    return str(refused.value)


def test_the_end_of_the_console_is_quoted_by_lines(builds):
    with board(builds, "runs", bootloader_log=True) as sim:
        text = refusal(sim, "application 1.0.0 hash")
    first, said, *lines = text.split("\n")
    assert "no SMP server answers on " in first
    assert "and not answered): the application has none on this port, or does not run. Nothing was sent." in first
    assert said == "The last that the console printed:"
    assert all(line.startswith("  ") for line in lines)
    assert lines[-2] == "  *** Booting Zephyr OS build v4.4.0 ***"
    assert r"\n" not in text


def test_a_fault_is_told_with_its_dump(builds):
    with board(builds, "halts", application_smp="full") as sim:
        text = refusal(sim, "Halting system")
        first, cause, *dump = text.split("\n")
        assert "By the console it faulted" in first
        assert cause.startswith("MPU FAULT (Data Access Violation")
        assert "  E: Halting system" in dump
        assert r"\n" not in text
        with pytest.raises(UpdateRefused, match="FATAL ERROR"):
            Dfu(sim.unit).update(builds["1.1.0"], via="application")


def test_a_boot_loop_is_told(builds):
    with board(builds, "faults", application_smp="full") as sim:
        restart(sim.unit, "pin")
        before = sim.unit.console_uart.console.position
        loop = re.compile(r"(?:Resetting system(?s:.)*){5}")
        assert sim.unit.console_uart.console.wait_for(loop, before, simulator.DEADLINE)
        with pytest.raises(UpdateRefused) as refused:
            ask(sim.unit)
    text = str(refused.value)
    assert "a boot loop" in text
    assert text.count("ZEPHYR FATAL ERROR") == 1, "the first dump alone"


def test_a_fault_from_before_the_last_reset_is_not_todays(builds):
    with board(builds, "halts", application_smp="none") as sim:
        refusal(sim, "Halting system")
        Dfu(sim.unit).update(builds["1.1.0"])
        text = refusal(sim, "application 1.1.0")
    assert "faulted" not in text
    assert "FATAL" not in text


def test_a_console_that_printed_nothing(builds):
    with board(builds, "silent") as sim, pytest.raises(UpdateRefused, match="The console has printed nothing since"):
        ask(sim.unit)


# --- confirm ----------------------------------------------------------------------------------------------------------


def test_recovery_confirms_nothing(builds):
    """Not even one with image state, which would acknowledge it."""
    with board(builds, "runs", application_smp="full", image_state=True) as sim:
        sim.unit.profile = replace(sim.unit.profile, image_state=True)
        dfu = Dfu(sim.unit)
        dfu.enter()
        before = len(sim.unit.transcript())
        told = (
            r"^sim: MCUboot's serial recovery answers, and not the application\. Nothing was confirmed\. Boot the app"
        )
        with pytest.raises(UpdateRefused, match=told):
            dfu.confirm()
        requests = [data for _, way, data in sim.unit.transcript()[before:] if way == "tx"]
        assert len(requests) == 1, "the image list alone"


def test_a_silent_board_confirms_nothing(builds):
    with board(builds, "runs", application_smp="none") as sim:
        told = r"(?s)^sim: no SMP server answers on .*Nothing was confirmed\. Boot the application.*that the console pr"
        restart(sim.unit, "pin")
        simulator.wait_until(lambda: "*** Booting" in sim.unit.console_uart.console.since(0), "the banner")
        with pytest.raises(UpdateRefused, match=told):
            Dfu(sim.unit).confirm()


def test_an_application_that_does_not_answer_the_confirmation(builds):
    with board(builds, "runs", application_smp="none") as sim, pytest.raises(SmpTimeout) as silent:
        confirm_running(sim.unit)
    assert re.match(
        r"sim: the application was asked to confirm .*: whether it is confirmed is not known", str(silent.value)
    )
    assert "Read board.images() once it answers, and confirm again" in str(silent.value)


# --- no power ---------------------------------------------------------------------------------------------------------

STEPS = {
    "update": lambda dfu, build: dfu.update(build, via="application"),
    "interrupt": lambda dfu, build: dfu.interrupt(build, at="upload:50%"),
    "revert": lambda dfu, _: dfu.revert(),
    "confirm": lambda dfu, _: dfu.confirm(),
    "staged": lambda dfu, build: dfu.staged(build).__enter__(),
}


@pytest.fixture(scope="module")
def off(builds):
    with board(builds, "runs", application_smp="full") as sim:
        sim.admin.set_power(False)
        yield sim


@pytest.mark.parametrize("step", STEPS)
def test_a_board_that_is_off_is_the_benchs_trouble(off, builds, step):
    """As it is through recovery, and not the product's failure."""
    with pytest.raises(
        ProbeError, match=r"no SMP server answers.*The board has no power.*Switch the board on"
    ) as found:
        STEPS[step](Dfu(off.unit), builds["1.1.0"])
    assert (found.value.category, found.value.cause) == ("bench", "no-power")


def test_a_board_that_goes_off_in_the_block_is_the_benchs_trouble(builds):
    with board(builds, "runs", application_smp="none") as sim:
        simulator.wait_until(lambda: sim.admin.counters()["program"] == "application", "the application")
        dfu = Dfu(sim.unit)
        told = r"the console did not show 'staged' within 0\.3 s\. The board has no power"
        with pytest.raises(ProbeError, match=told), dfu.staged(builds["1.1.0"], timeout=0.3, pending="staged"):
            sim.admin.set_power(False)


def test_a_probe_that_fails_otherwise_tells_nothing_of_the_board(builds):
    with board(builds, "runs", application_smp="none") as sim:
        sim.admin.set_probe(plugged=False)
        with pytest.raises(UpdateRefused, match="the application has none on this port, or does not run"):
            ask(sim.unit)


def test_a_transfer_that_ends_in_a_fault_is_told_with_its_dump(builds):
    """The application dies in the block: its list cannot show the image pending, and why is on the console."""
    with board(builds, "runs", application_smp="full") as sim:
        simulator.wait_until(lambda: sim.admin.counters()["program"] == "application", "the application")

        def transfer():
            sim.admin.set_reset_pin(low=True)
            sim.admin.noise(b"ASSERTION FAIL [link] @ ZEPHYR_BASE/app.c:7\r\nE: Halting system\r\n")

        with pytest.raises(HashMismatch) as failed, Dfu(sim.unit).staged(builds["1.1.0"], timeout=0.5):
            transfer()
    text = str(failed.value)
    assert "it faulted: assertion (link @ ZEPHYR_BASE/app.c:7), then halted" in text
    assert text.endswith("E: Halting system")
    assert r"\n" not in text
