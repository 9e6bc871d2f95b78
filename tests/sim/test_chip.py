"""The simulated nRF5340 as specification: flash, reset reasons, what survives which reset, who may access it."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nrfdfu.sim.chip import BusFault, Chip, Register, ResetCause

APPLICATION, NETWORK = 0, 1
PAGE, NETWORK_PAGE = 0x1000, 0x800
NETWORK_FLASH = 0x01000000
RAM = 0x20000000
UICR, FICR = 0x00FF8000, 0x00FF0000
NVMC_CONFIG, NVMC_ERASEALL, NVMC_READY = 0x50039504, 0x5003950C, 0x50039400
WRITE_ENABLE, ERASE_ENABLE = 1, 2
DHCSR, DEMCR, AIRCR, DCRSR, DCRDR, DFSR = 0xE000EDF0, 0xE000EDFC, 0xE000ED0C, 0xE000EDF4, 0xE000EDF8, 0xE000ED30
HALT, RESUME, STEP = 0xA05F0003, 0xA05F0001, 0xA05F0005
S_HALT, S_LOCKUP, S_SDE, S_RESET_ST = 1 << 17, 1 << 19, 1 << 20, 1 << 25
SYSRESETREQ = 0x05FA0004
UNPROTECTED = 0x50FA50FA


class Log:
    """What a chip tells whoever runs its program."""

    def __init__(self, chip):
        self.events = []
        chip.on_reset = lambda cause: self.events.append(("reset", cause, chip.resetreas))
        chip.on_run_change = lambda runs: self.events.append(("runs", runs))

    def take(self):
        events, self.events = self.events, []
        return events


@pytest.fixture
def chip():
    return Chip()


@pytest.fixture
def log(chip):
    return Log(chip)


def pin_reset(chip):
    chip.drive_nreset("line", True)
    chip.drive_nreset("line", False)


class TestMemory:
    def test_both_flashes_begin_erased(self, chip):
        assert len(chip.flash) == 0x100000
        assert len(chip.network_flash) == 0x40000
        assert chip.read(0xFFFFC, 4) == b"\xff" * 4
        assert chip.read(NETWORK_FLASH + 0x3FFFC, 4) == b"\xff" * 4

    @given(first=st.binary(min_size=8, max_size=8), second=st.binary(min_size=8, max_size=8))
    def test_programming_only_clears_bits(self, first, second):
        chip = Chip()
        for data in (first, second):
            chip.program(0x10000, data)
        assert chip.read(0x10000, 8) == bytes(a & b for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize(("base", "page"), [(0, PAGE), (NETWORK_FLASH, NETWORK_PAGE)])
    def test_erase_takes_exactly_one_page(self, chip, base, page):
        chip.program(base, bytes(3 * page))
        chip.erase(base + page)
        assert chip.read(base, 3 * page) == bytes(page) + b"\xff" * page + bytes(page)

    @pytest.mark.parametrize("address", [4, PAGE + 0x800, NETWORK_FLASH + 0x400])
    def test_erase_needs_the_first_byte_of_a_page(self, chip, address):
        with pytest.raises(ValueError, match="no flash page begins"):
            chip.erase(address)

    @pytest.mark.parametrize(("address", "size"), [(2, 4), (0, 3), (0xFFFFC, 8), (RAM, 4), (0x100000, 4)])
    def test_what_is_not_whole_words_of_flash_is_refused(self, chip, address, size):
        with pytest.raises(ValueError, match="0x"):
            chip.program(address, bytes(size))

    def test_reading_across_the_end_of_a_memory_is_refused(self, chip):
        with pytest.raises(ValueError, match="not in one memory"):
            chip.read(0xFFFFC, 8)

    def test_flash_may_be_a_mapped_file(self, tmp_path):
        file = tmp_path / "flash.bin"
        file.write_bytes(b"\xff" * 0x100000)
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
            chip = Chip(flash=mapped)
            chip.program(0x8000, bytes(PAGE))
            chip.program(0x20000, b"\x01\x02\x03\x04")
            chip.erase(0x8000)
        content = file.read_bytes()
        assert content[0x20000:0x20004] == b"\x01\x02\x03\x04"
        assert content[0x8000:0x9000] == b"\xff" * PAGE

    def test_flash_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="1048576"):
            Chip(flash=bytearray(4096))


class TestResetReasons:
    def test_power_on_leaves_no_reason(self, chip, log):
        chip.set_power(False)
        chip.set_power(True)
        assert log.take() == [("runs", False), ("reset", ResetCause.POWER_ON, 0), ("runs", True)]

    def test_power_that_is_on_already_changes_nothing(self, chip, log):
        chip.reset(ResetCause.SREQ)
        log.take()
        chip.set_power(True)
        assert log.take() == []
        assert chip.resetreas == ResetCause.SREQ

    @pytest.mark.parametrize(
        ("cause", "bit"),
        [(ResetCause.SREQ, 8), (ResetCause.CTRLAP, 4), (ResetCause.DOG0, 2), (ResetCause.LOCKUP, 16)],
    )
    def test_every_cause_has_its_bit(self, chip, log, cause, bit):
        chip.reset(cause)
        assert chip.resetreas == bit
        assert log.take() == [("reset", cause, bit)]
        assert chip.counters.resets[cause] == 1

    def test_reasons_add_up_until_they_are_cleared(self, chip):
        chip.reset(ResetCause.SREQ)
        chip.reset(ResetCause.CTRLAP)
        assert chip.resetreas == 8 | 4
        chip.clear_resetreas(8)
        assert chip.resetreas == 4

    @pytest.mark.parametrize("alias", [0x50005400, 0x40005400])
    def test_a_debugger_clears_reasons_by_writing_ones(self, chip, alias):
        chip.reset(ResetCause.SREQ)
        chip.reset(ResetCause.LOCKUP)
        chip.bus_write(APPLICATION, alias, 16)
        assert chip.bus_read(APPLICATION, alias) == 8

    def test_start_up_code_clears_the_other_reasons_of_a_pin_reset(self, chip):
        chip.reset(ResetCause.SREQ)
        pin_reset(chip)
        assert chip.resetreas == ResetCause.RESETPIN

    def test_pin_reset_hides_later_soft_resets_until_it_is_cleared(self, chip):
        pin_reset(chip)
        chip.reset(ResetCause.SREQ)
        assert chip.resetreas == ResetCause.RESETPIN
        chip.clear_resetreas(0xFFFFFFFF)
        chip.reset(ResetCause.SREQ)
        assert chip.resetreas == ResetCause.SREQ

    def test_before_start_up_code_ran_all_reasons_are_there(self, chip):
        pin_reset(chip)
        chip.bus_write(APPLICATION, DHCSR, HALT)
        chip.bus_write(APPLICATION, DEMCR, 1)
        chip.reset(ResetCause.SREQ)
        assert chip.resetreas == ResetCause.RESETPIN | ResetCause.SREQ


class TestRetention:
    def test_gpregret_survives_a_soft_reset(self, chip):
        chip.bus_write(APPLICATION, 0x5000551C, 0x101)
        chip.bus_write(APPLICATION, 0x40005520, 0x5A)
        chip.reset(ResetCause.SREQ)
        assert chip.gpregret == [1, 0x5A]
        assert chip.bus_read(APPLICATION, Register.GPREGRET1) == 0x5A

    @pytest.mark.parametrize(("clears", "left"), [(True, [0, 0]), (False, [1, 2])])
    def test_pin_reset_clears_gpregret_unless_told_otherwise(self, clears, left):
        chip = Chip(pin_reset_clears_gpregret=clears)
        chip.gpregret[:] = 1, 2
        pin_reset(chip)
        assert chip.gpregret == left

    def test_loss_of_power_clears_what_is_volatile_and_keeps_flash(self, chip):
        chip.program(0, b"\x01\x02\x03\x04")
        chip.gpregret[0] = 1
        chip.reset(ResetCause.SREQ)
        chip.bus_write(APPLICATION, RAM, 0x1234)
        chip.set_power(False)
        chip.set_power(True)
        assert (chip.resetreas, chip.gpregret, chip.read(RAM, 4)) == (0, [0, 0], bytes(4))
        assert chip.read(0, 4) == b"\x01\x02\x03\x04"

    def test_ram_survives_a_soft_reset_and_peripheral_registers_do_not(self, chip):
        chip.bus_write(APPLICATION, RAM, 0x1234)
        chip.bus_write(APPLICATION, 0x50842504, 0x10)  # P0.OUT
        chip.reset(ResetCause.SREQ)
        assert chip.bus_read(APPLICATION, RAM) == 0x1234
        assert chip.bus_read(APPLICATION, 0x40842504) == 0


class TestRunning:
    def test_nreset_holds_the_cpu_until_the_last_source_lets_go(self, chip, log):
        chip.drive_nreset("probe", True)
        chip.drive_nreset("line", True)
        chip.drive_nreset("probe", False)
        assert not chip.cpu_runs
        assert log.take() == [("runs", False)]
        chip.drive_nreset("line", False)
        assert log.take() == [("reset", ResetCause.RESETPIN, 1), ("runs", True)]

    def test_letting_go_of_a_line_that_is_high_does_nothing(self, chip, log):
        chip.drive_nreset("line", False)
        assert log.take() == []
        assert not chip.counters.resets[ResetCause.RESETPIN]

    def test_nreset_that_is_low_when_power_comes_does_not_hold_the_chip(self, chip, log):
        chip.set_power(False)
        chip.drive_nreset("line", True)
        chip.set_power(True)
        assert chip.cpu_runs
        chip.drive_nreset("line", False)
        assert chip.resetreas == 0

    def test_without_power_nothing_resets(self, chip, log):
        chip.set_power(False)
        log.take()
        chip.reset(ResetCause.SREQ)
        pin_reset(chip)
        assert log.take() == []
        assert chip.resetreas == 0

    def test_debugger_halts_and_resumes(self, chip, log):
        chip.bus_write(APPLICATION, DHCSR, HALT)
        assert chip.bus_read(APPLICATION, DHCSR) & S_HALT
        chip.bus_write(APPLICATION, DHCSR, RESUME)
        assert not chip.bus_read(APPLICATION, DHCSR) & S_HALT
        assert log.take() == [("runs", False), ("runs", True)]

    def test_leaving_debug_lets_the_core_run(self, chip):
        chip.bus_write(APPLICATION, DHCSR, HALT)
        chip.bus_write(APPLICATION, DHCSR, 0xA05F0000)
        assert chip.cpu_runs

    def test_dhcsr_needs_its_key(self, chip):
        chip.bus_write(APPLICATION, DHCSR, HALT & 0xFFFF)
        assert chip.cpu_runs

    def test_a_step_leaves_the_core_halted(self, chip, log):
        chip.bus_write(APPLICATION, DHCSR, HALT)
        chip.bus_write(APPLICATION, DFSR, 0x1F)
        chip.bus_write(APPLICATION, DHCSR, STEP)
        assert not chip.cpu_runs
        assert chip.bus_read(APPLICATION, DFSR) == 1

    def test_sysresetreq_is_a_soft_reset(self, chip, log):
        chip.bus_write(APPLICATION, AIRCR, SYSRESETREQ)
        assert log.take() == [("reset", ResetCause.SREQ, 8)]

    def test_vectreset_does_not_exist(self, chip, log):
        chip.bus_write(APPLICATION, AIRCR, 0x05FA0001)
        assert log.take() == []

    def test_vector_catch_holds_the_program_at_its_reset_vector(self, chip, log):
        chip.program(0, (0x20001000).to_bytes(4, "little") + (0x201).to_bytes(4, "little"))
        chip.bus_write(APPLICATION, DHCSR, HALT)
        chip.bus_write(APPLICATION, DEMCR, 1)
        log.take()
        chip.bus_write(APPLICATION, AIRCR, SYSRESETREQ)
        assert log.take() == []
        chip.bus_write(APPLICATION, DCRSR, 15)
        assert chip.bus_read(APPLICATION, DCRDR) == 0x200
        chip.clear_resetreas(0xFFFFFFFF)
        chip.bus_write(APPLICATION, DHCSR, RESUME)
        assert log.take() == [("reset", ResetCause.SREQ, 0), ("runs", True)]

    def test_vector_catch_may_be_set_while_nreset_is_low(self, chip, log):
        chip.drive_nreset("probe", True)
        chip.bus_write(APPLICATION, DHCSR, RESUME)
        chip.bus_write(APPLICATION, DEMCR, 1)
        chip.drive_nreset("probe", False)
        assert chip.bus_read(APPLICATION, DHCSR) & S_HALT

    def test_pin_reset_forgets_an_earlier_vector_catch(self, chip):
        chip.bus_write(APPLICATION, DHCSR, RESUME)
        chip.bus_write(APPLICATION, DEMCR, 1)
        pin_reset(chip)
        assert chip.cpu_runs

    def test_reset_is_reported_once_and_for_as_long_as_it_lasts(self, chip):
        chip.reset(ResetCause.SREQ)
        assert chip.bus_read(APPLICATION, DHCSR) & S_RESET_ST
        assert not chip.bus_read(APPLICATION, DHCSR) & S_RESET_ST
        chip.drive_nreset("line", True)
        chip.bus_read(APPLICATION, DHCSR)
        assert chip.bus_read(APPLICATION, DHCSR) & S_RESET_ST

    def test_ctrl_ap_holds_the_core_and_resets_it(self, chip, log):
        chip.hold_by_ctrl_ap(APPLICATION, True)
        assert chip.held_by_ctrl_ap(APPLICATION)
        assert log.take() == [("runs", False)]
        chip.hold_by_ctrl_ap(APPLICATION, False)
        assert log.take() == [("reset", ResetCause.CTRLAP, 4), ("runs", True)]

    def test_a_reset_from_within_the_callback_is_another_reset(self, chip):
        causes = []

        def on_reset(cause):
            causes.append(cause)
            if cause == ResetCause.DOG0:
                chip.reset(ResetCause.SREQ)

        chip.on_reset = on_reset
        chip.reset(ResetCause.DOG0)
        assert causes == [ResetCause.DOG0, ResetCause.SREQ]


class TestNetworkCore:
    def test_it_is_off_after_any_reset_of_the_application_core(self, chip):
        assert chip.bus_read(APPLICATION, Register.NETWORK_FORCEOFF) == 1
        chip.bus_write(APPLICATION, Register.NETWORK_FORCEOFF, 0)
        assert chip.access_port_open(NETWORK)
        chip.reset(ResetCause.SREQ)
        assert not chip.access_port_open(NETWORK)

    def test_its_soft_reset_leaves_the_application_core_alone(self, chip, log):
        chip.bus_write(APPLICATION, Register.NETWORK_FORCEOFF, 0)
        log.take()
        chip.bus_write(NETWORK, AIRCR, SYSRESETREQ)
        chip.hold_by_ctrl_ap(NETWORK, True)
        chip.hold_by_ctrl_ap(NETWORK, False)
        assert log.take() == []
        assert chip.access_port_open(NETWORK)

    def test_each_core_sees_its_own_flash_and_both_rams(self, chip):
        chip.bus_write(APPLICATION, Register.NETWORK_FORCEOFF, 0)
        chip.bus_write(NETWORK, RAM, 0x11)
        chip.bus_write(APPLICATION, 0x21000000, 0x22)
        assert chip.bus_read(APPLICATION, RAM) == 0x11
        assert chip.bus_read(NETWORK, 0x21000000) == 0x22
        with pytest.raises(BusFault):
            chip.bus_read(APPLICATION, NETWORK_FLASH)


class TestBus:
    def test_ficr_tells_part_and_device(self):
        chip = Chip(device_id=bytes(range(8)))
        assert chip.bus_read(APPLICATION, FICR + 0x20C) == 0x5340
        assert chip.bus_read(APPLICATION, FICR + 0x204) == 0x03020100
        assert chip.bus_read(APPLICATION, FICR + 0x208) == 0x07060504
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, FICR, 0)

    def test_bytes_are_written_in_their_lanes(self, chip):
        chip.bus_write(APPLICATION, RAM, 0x44332211)
        chip.bus_write(APPLICATION, RAM, 0xAA00, 0xFF00)
        assert chip.read(RAM, 4) == bytes.fromhex("11aa3344")

    def test_recovery_pin_is_seen_in_p0(self, chip):
        assert chip.bus_read(APPLICATION, Register.P0_IN) >> 23 & 1
        chip.recovery_pin_low = True
        assert not chip.bus_read(APPLICATION, Register.P0_IN) >> 23 & 1

    @pytest.mark.parametrize("address", [0x60000000, 0x00200000, 0xF0000000])
    def test_where_nothing_is_the_bus_faults(self, chip, address):
        with pytest.raises(BusFault):
            chip.bus_read(APPLICATION, address)
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, address, 0)

    def test_memory_is_out_of_reach_while_nreset_is_low_and_debug_registers_are_not(self, chip):
        chip.drive_nreset("line", True)
        with pytest.raises(BusFault):
            chip.bus_read(APPLICATION, 0)
        assert chip.bus_read(APPLICATION, 0xE000ED00) == 0x410FD214

    def test_flash_is_written_and_erased_only_when_nvmc_allows(self, chip):
        assert chip.bus_read(APPLICATION, NVMC_READY) == 1
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, 0x8000, 0)
        chip.bus_write(APPLICATION, NVMC_CONFIG, WRITE_ENABLE)
        chip.bus_write(APPLICATION, 0x8000, 0x12345678)
        chip.bus_write(APPLICATION, 0x8000, 0xFFFF0000)
        assert chip.read(0x8000, 4) == bytes.fromhex("00003412")
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, 0x8004, 0, 0xFF)
        chip.bus_write(APPLICATION, NVMC_CONFIG, ERASE_ENABLE)
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, 0x8004, 0xFFFFFFFF)
        chip.bus_write(APPLICATION, 0x8000, 0xFFFFFFFF)
        assert chip.read(0x8000, 4) == b"\xff" * 4
        assert (chip.counters.debugger_writes, chip.counters.debugger_erases) == (2, 1)

    def test_uicr_cannot_be_erased_by_page(self, chip):
        chip.bus_write(APPLICATION, NVMC_CONFIG, ERASE_ENABLE)
        with pytest.raises(BusFault):
            chip.bus_write(APPLICATION, UICR, 0xFFFFFFFF)


class TestProtection:
    def test_a_locked_chip_refuses_on_both_ports_and_still_runs(self):
        chip = Chip(locked=True)
        chip.bus_write(APPLICATION, Register.NETWORK_FORCEOFF, 0)
        assert not chip.access_port_open(APPLICATION)
        assert not chip.access_port_open(NETWORK)
        assert chip.cpu_runs
        chip.reset(ResetCause.SREQ)
        assert not chip.access_port_open(APPLICATION)

    def test_mass_erase_opens_until_the_next_reset(self):
        chip = Chip(locked=True)
        chip.program(0x8000, bytes(4))
        chip.erase_all(APPLICATION)
        assert chip.access_port_open(APPLICATION)
        assert chip.read(0x8000, 4) == b"\xff" * 4
        assert chip.counters.erase_all == 1
        chip.reset(ResetCause.CTRLAP)
        assert not chip.access_port_open(APPLICATION)

    def test_it_stays_open_when_uicr_is_written_in_between(self):
        chip = Chip(locked=True)
        chip.erase_all(APPLICATION)
        chip.bus_write(APPLICATION, NVMC_CONFIG, WRITE_ENABLE)
        chip.bus_write(APPLICATION, UICR, UNPROTECTED)
        chip.reset(ResetCause.CTRLAP)
        assert chip.access_port_open(APPLICATION)

    def test_nothing_runs_after_a_mass_erase_until_a_reset(self, chip, log):
        chip.erase_all(APPLICATION)
        assert log.take() == [("runs", False)]
        assert chip.bus_read(APPLICATION, DHCSR) & S_LOCKUP
        pin_reset(chip)
        assert chip.cpu_runs

    def test_mass_erase_is_busy_for_as_long_as_the_data_sheet_says(self):
        now = [10.0]
        chip = Chip(clock=lambda: now[0])
        chip.erase_all(APPLICATION)
        assert chip.erase_all_busy(APPLICATION)
        assert not chip.erase_all_busy(NETWORK)
        now[0] += 0.1731
        assert not chip.erase_all_busy(APPLICATION)

    def test_mass_erase_of_one_core_leaves_the_other(self, chip):
        chip.program(0x8000, bytes(4))
        chip.program(NETWORK_FLASH, bytes(4))
        chip.erase_all(NETWORK)
        assert chip.read(NETWORK_FLASH, 4) == b"\xff" * 4
        assert chip.read(0x8000, 4) == bytes(4)
        assert chip.cpu_runs

    def test_nvmc_mass_erase_needs_erase_enable(self, chip):
        chip.bus_write(APPLICATION, NVMC_ERASEALL, 1)
        assert chip.counters.erase_all == 0
        chip.bus_write(APPLICATION, NVMC_CONFIG, ERASE_ENABLE)
        chip.bus_write(APPLICATION, NVMC_ERASEALL, 1)
        assert chip.counters.erase_all == 1

    def test_erase_protection_blocks_mass_erase(self, chip):
        chip.bus_write(APPLICATION, NVMC_CONFIG, WRITE_ENABLE)
        chip.bus_write(APPLICATION, UICR + 0x20, 0)
        chip.erase_all(APPLICATION)
        assert chip.erase_protected(APPLICATION)
        assert chip.counters.erase_all == 0

    def test_firmware_and_debugger_open_the_port_with_the_same_key(self):
        chip = Chip(locked=True)
        chip.unlock(APPLICATION, 0)
        chip.unlock_key = 0xCAFE
        chip.unlock(APPLICATION, 0xBEEF)
        assert not chip.access_port_open(APPLICATION)
        chip.unlock(APPLICATION, 0xCAFE)
        assert chip.access_port_open(APPLICATION)
        chip.reset(ResetCause.SREQ)
        assert not chip.access_port_open(APPLICATION)

    @pytest.mark.parametrize("address", [0x50005400, 0x00010000, RAM, UICR, FICR])
    def test_a_chip_locked_on_its_secure_side_hides_registers_and_memories(self, address):
        chip = Chip(secure_locked=True)
        assert chip.access_port_open(APPLICATION)
        assert not chip.secure_access_open(APPLICATION)
        with pytest.raises(BusFault, match="SECUREAPPROTECT"):
            chip.bus_read(APPLICATION, address)
        with pytest.raises(BusFault, match="SECUREAPPROTECT"):
            chip.bus_write(APPLICATION, address, 0)
        Chip().bus_read(APPLICATION, address)

    def test_it_answers_at_non_secure_aliases_and_can_be_reset(self):
        chip = Chip(secure_locked=True)
        chip.bus_write(APPLICATION, AIRCR, SYSRESETREQ)
        assert chip.bus_read(APPLICATION, 0x40005400) == ResetCause.SREQ

    @pytest.mark.parametrize(("secure_locked", "halts"), [(False, True), (True, False)])
    def test_secure_code_halts_only_for_a_debugger_that_may(self, secure_locked, halts):
        chip = Chip(secure_locked=secure_locked)
        chip.bus_write(APPLICATION, DEMCR, 1)
        chip.bus_write(APPLICATION, DHCSR, HALT)
        assert chip.cpu_runs is not halts
        assert bool(chip.bus_read(APPLICATION, DHCSR) & S_SDE) is halts
        chip.bus_write(APPLICATION, DHCSR, RESUME)
        chip.reset(ResetCause.SREQ)
        assert chip.cpu_runs is not halts, "vector catch"

    @pytest.mark.parametrize(("locked", "network_locked"), [(False, True), (True, False)])
    def test_each_core_has_a_lock_of_its_own(self, locked, network_locked):
        chip = Chip(locked=locked, network_locked=network_locked)
        chip.bus_write(APPLICATION, Register.NETWORK_FORCEOFF, 0)
        assert chip.access_port_open(APPLICATION) is not locked
        assert chip.access_port_open(NETWORK) is not network_locked
        assert chip.secure_access_open(APPLICATION) is not locked


@pytest.mark.parametrize("loses", [False, True])
def test_whether_pin_reset_reaches_the_debug_port_is_an_option(loses):
    chip = Chip(loses_dp_on_pin_reset=loses)
    lost = []
    chip.on_debug_port_reset = lambda: lost.append(True)
    pin_reset(chip)
    assert bool(lost) is loses
