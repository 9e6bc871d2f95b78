"""A bootloader that takes smaller packets than assumed and does not say so: found out once, by image lists alone."""

import re

from board.conftest import wired
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.session import Recovery
from pytest_nrfdfu.smp.header import ImageCommand
from pytest_nrfdfu.smp.timing import RoundTrip

SMALL = {"sim": {"bootloader": "ncs-1.9"}, "bootloader": {"receive_size": 1024}}
"""Its buffer has 512 bytes (CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE did not exist), and the configuration is wrong."""


def test_the_size_is_found_at_the_first_silence_and_remembered(builds):
    with wired(**SMALL) as sim:
        unit = sim.unit
        unit.client.round_trip = RoundTrip(first=0.1, least=0.05, most=0.2)
        first = Recovery(unit, enter(unit)).upload(builds[1].image)
        assert first.limits.max_packet == 508
        assert (first.counters.retries, first.counters.too_large) == (0, 2)
        assert unit.memory.get(unit.memory_key).receive_size == 512
        assert sim.admin.flash_hash(size=8).version is not None
        second = Recovery(unit, enter(unit)).upload(builds[0].image)
        assert (second.limits.max_packet, second.counters.retries) == (508, 0)


LARGE = {"sim": {"bootloader": "ncs-2.6"}, "bootloader": {"receive_size": 2048, "window": 1}}
"""The buffer has MCUboot's usual 1024 bytes."""


def test_the_largest_usual_size_is_found_and_what_it_cost_is_told(builds):
    with wired(**LARGE) as sim:
        sim.unit.client.round_trip = RoundTrip(first=0.1, least=0.05, most=0.2)
        report = Dfu(sim.unit).update(builds[1])
        (note,) = report.notes
        assert re.match("the bootloader takes packets of 1020 bytes: one of 20.. bytes met silence 2 times, and ", note)
        assert note.endswith(" s in all; say receive_size = 1024 in [bootloader]")
        assert (report.retries, report.resyncs, report.trial_losses, report.course.repeats) == (0, 0, 0, ())
        again = Dfu(sim.unit).update(builds[0])
        (note,) = again.notes
        assert note.startswith("packets of 1020 bytes at most: larger ones met silence on 2")
        assert again.retries == 0


def test_nobody_looks_where_large_packets_are_answered(sim, builds):
    Recovery(sim.unit, enter(sim.unit)).upload(builds[1].image)
    assert sim.unit.memory.get(sim.unit.memory_key).receive_size is None
    kinds = [exchange.data for exchange in sim.admin.exchanges() if exchange.direction == "to board"]
    lists = [data for data in kinds if len(data) > 8 and data[7] == ImageCommand.STATE and data[5] == 1]
    assert all(len(data) < 16 for data in lists), "a padded request was sent"
    Recovery(sim.unit, enter(sim.unit)).upload(builds[0].image)


def test_a_trial_of_the_window_is_kept_and_told(builds):
    """The builds are short of 64 KiB, so a trial does not end; one loss would."""
    with wired(bootloader={"window": "auto"}) as sim:
        report = Dfu(sim.unit).update(builds[1])
        assert report.window == 2
        assert report.trial_losses == 0
        assert report.window_outcome == "2 chunks in flight: on trial"
        assert sim.unit.memory.get(sim.unit.memory_key).window == "unknown"


def test_a_trial_that_loses_something_ends_windows_on_this_unit(builds):
    with wired(bootloader={"window": "auto"}) as sim:
        sim.admin.upload_fault(nth=3, ignored=True)
        report = Dfu(sim.unit).update(builds[1])
        assert report.verified
        assert report.trial_losses == 1
        assert report.window_outcome == "2 chunks in flight: tried and given up"
        assert sim.unit.memory.get(sim.unit.memory_key).window == "lossy"
        assert sim.unit.limits().line_buffers is None
        again = Dfu(sim.unit).update(builds[0])
        assert again.window_outcome.startswith("one chunk at a time (a trial of a window lost 1 on 2")
        assert sim.unit.memory.get(sim.unit.memory_key).waited == 1
