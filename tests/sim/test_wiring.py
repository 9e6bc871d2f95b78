"""What can be wrong with a bench: each fault alone, and both ways back."""

from typing import get_args

import pytest
from simulator import make_image

from pytest_nrfdfu.config_sim import SimFault
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.dap import Dap, NoAck, Unplugged
from pytest_nrfdfu.sim.link import Link
from pytest_nrfdfu.sim.wiring import FAULTS, Wiring


class Bench:
    """A board with its wiring; no clock, no ports."""

    def __init__(self):
        self.board = SimBoard(BoardOptions(image=make_image()))
        self.chip = self.board.chip
        self.dap = Dap(self.chip)
        self.link = Link(0, lambda: None)
        self.answers = []
        self.wiring = Wiring(self.board, self.dap, self.link, self.answers.append)

    def set(self, name, on=True):
        self.wiring.set_fault(name, on=on)


@pytest.fixture
def bench():
    return Bench()


def test_the_configuration_and_the_simulator_know_the_same_faults():
    assert set(FAULTS) == set(get_args(SimFault)) == set(get_args(SimFault))


def test_a_fault_that_there_is_not_is_refused(bench):
    with pytest.raises(ValueError, match="there are uart-silent, "):
        bench.set("gremlins")


def test_faults_are_known_until_they_are_gone(bench):
    bench.set("uart-deaf")
    bench.set("line-open")
    bench.set("line-open", on=False)
    bench.set("uart-deaf")
    assert bench.wiring.faults == ["uart-deaf"]


@pytest.mark.parametrize(
    ("fault", "to_board", "to_host", "echo"),
    [
        (None, b"in", b"out", b""),
        ("uart-silent", b"in", b"", b""),
        ("uart-deaf", b"", b"out", b""),
        ("uart-loopback", b"", b"", b"in"),
    ],
)
def test_what_passes_on_the_uart(bench, fault, to_board, to_host, echo):
    if fault:
        bench.set(fault)
    link = bench.link
    assert (link.to_board(b"in"), link.to_host(b"out"), link.echo(b"in")) == (to_board, to_host, echo)
    if fault:
        bench.set(fault, on=False)
    assert (link.to_board(b"in"), link.to_host(b"out"), link.echo(b"in")) == (b"in", b"out", b"")


@pytest.mark.parametrize(
    ("fault", "inactive", "active"),
    [(None, False, True), ("line-open", False, False), ("line-inverted", True, False)],
)
def test_where_the_recovery_line_ends(bench, fault, inactive, active):
    if fault:
        bench.set(fault)
    assert bench.chip.recovery_pin_low is inactive
    bench.wiring.set_line("rts", True)
    assert bench.chip.recovery_pin_low is active
    if fault:
        bench.set(fault, on=False)
        assert bench.chip.recovery_pin_low
    bench.wiring.set_line("rts", False)
    assert not bench.chip.recovery_pin_low


def test_the_button_works_without_the_line(bench):
    bench.set("line-open")
    bench.board.drive_recovery_pin("button", low=True)
    assert bench.chip.recovery_pin_low


@pytest.mark.parametrize("connected", [True, False])
def test_nreset_from_probe_and_line(bench, connected):
    bench.set("reset-open", on=not connected)
    bench.dap.drive_nreset(True)
    assert bench.chip.nreset_low is connected
    assert bench.dap.nreset_low, "the probe sees its own pin"
    bench.dap.drive_nreset(False)
    assert not bench.dap.nreset_low
    bench.wiring.set_line("dtr", True)
    assert bench.chip.nreset_low is connected
    bench.wiring.set_line("dtr", False)
    assert not bench.chip.nreset_low
    assert sum(bench.chip.counters.resets.values()) - 1 == 2 * connected


def test_a_reset_line_that_is_cut_while_it_is_held_lets_go(bench):
    bench.wiring.set_line("dtr", True)
    bench.set("reset-open")
    assert not bench.chip.nreset_low
    bench.set("reset-open", on=False)
    assert bench.chip.nreset_low
    bench.dap.plugged = False
    assert bench.chip.nreset_low
    bench.wiring.set_line("dtr", False)
    assert not bench.chip.nreset_low


def test_without_supply_the_switch_does_nothing(bench):
    bench.set("no-power")
    assert not bench.chip.powered
    with pytest.raises(NoAck):
        bench.dap.read_dp(0)
    bench.wiring.set_power(on=False)
    bench.wiring.set_power(on=True)
    assert not bench.chip.powered
    bench.set("no-power", on=False)
    assert bench.chip.powered
    assert bench.dap.read_dp(0)


def test_power_over_usb_takes_the_probe_along(bench):
    bench.wiring.set_power(on=False, usb=True)
    assert (bench.chip.powered, bench.dap.plugged, bench.wiring.usb) == (False, False, False)
    with pytest.raises(Unplugged):
        bench.dap.read_dp(0)
    bench.wiring.set_power(on=True, usb=True)
    assert (bench.chip.powered, bench.dap.plugged, bench.wiring.usb) == (True, True, True)
    bench.wiring.set_power(on=False)
    assert (bench.chip.powered, bench.dap.plugged, bench.wiring.usb) == (False, True, True)


def test_probe_faults(bench):
    bench.set("probe-busy")
    bench.set("probe-unplugged")
    bench.set("probe-wrong-chip")
    bench.set("probe-hangs")
    dap = bench.dap
    assert (dap.busy, dap.plugged, dap.wrong_chip, bench.answers[-1]) == (True, False, True, False)
    bench.wiring.set_probe(plugged=True, busy=False)
    assert (dap.busy, dap.plugged) == (True, False), "the fault is there still"
    for fault in bench.wiring.faults:
        bench.set(fault, on=False)
    assert (dap.busy, dap.plugged, dap.wrong_chip, bench.answers[-1]) == (False, True, False, True)
    bench.wiring.set_probe(plugged=None, busy=True)
    assert (dap.busy, dap.plugged) == (True, True)


@pytest.mark.parametrize("rate", [115200, 9600, None])
def test_the_host_s_rate_counts_where_both_are_known(rate):
    at = [rate]
    link = Link(115200, lambda: at[0])
    readable = rate != 9600
    assert (link.to_host(b"hello") == b"hello") is readable
    assert (link.to_board(b"hello") == b"hello") is readable
    assert Link(0, lambda: at[0]).to_host(b"hello") == b"hello"
    at[0] = 115200
    assert link.to_host(b"hello") == link.to_board(b"hello") == b"hello"
