"""Each way into recovery: what it does to the board, what it needs, and what it leaves behind."""

import threading

import pytest

from board.conftest import as_new, config, wired
from board.shelf import of_this_module
from pytest_nrfdfu.board import entries as entries_module
from pytest_nrfdfu.board import terminal
from pytest_nrfdfu.board.boot_mode import RetainedBootMode, checksum, retained_bytes
from pytest_nrfdfu.board.entries import ENTRIES, check_configured, slot_address
from pytest_nrfdfu.board.pins import recovery_pin
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_types import BootModeConfig
from pytest_nrfdfu.errors import ConfigError, ProbeError, RecoveryNotEntered
from pytest_nrfdfu.sim_admin import SimAdmin

shelf = of_this_module()
GPREGRET = 0x5000551C
RESETREAS = 0x50005400
ALL = ["gpio", "pin-reset", "boot-mode", "wait-for-dfu", "no-application"]


def use(unit, monkeypatch, *names, **changes):
    settings = unit.config.recovery.model_copy(update={"entry": names, "timeout": 3.0, **changes})
    monkeypatch.setattr(unit, "config", unit.config.model_copy(update={"recovery": settings}))


@pytest.fixture(scope="module")
def _board(builds):
    """A bootloader that has the entries gpio and boot-mode."""
    sim = {"image": builds[0].path, "entrance": ["gpio", "boot-mode"], "application_smp": "full"}
    with wired(sim=sim) as board:
        yield board


@pytest.fixture
def sim(_board):
    return as_new(_board)


def test_there_is_a_way_for_every_name():
    names = BoardConfig.model_json_schema()["$defs"]["RecoveryConfig"]["properties"]["entry"]["items"]["enum"]
    assert sorted(ENTRIES) == sorted(names)


# --- gpio -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["system", "ctrl-ap"])
def test_the_pin_counts_after_a_soft_reset_whose_causes_the_probe_clears(sim, monkeypatch, reset):
    use(sim.unit, monkeypatch, "gpio", reset=reset, clear_reset_causes=True)
    assert enter(sim.unit).method == "gpio"
    counters = sim.admin.counters()
    assert counters["in_recovery"]
    assert not counters["recovery_pin_low"]
    assert "RESETPIN" not in sim.resets()
    assert sim.unit.rig.read32(RESETREAS) == 0


def test_clearing_causes_needs_an_open_chip_and_touches_nothing_else(builds):
    recovery = {"reset": "system", "clear_reset_causes": True, "timeout": 0.5}
    with wired(sim={"image": builds[0].path, "locked": True}, recovery=recovery) as board:
        board.admin.reset_counters()
        with pytest.raises(RecoveryNotEntered) as caught:
            enter(board.unit)
        assert caught.value.diagnosis.cause == "chip-locked"
        assert board.resets() == {}


# --- boot mode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "01"),
        ({"value": 2}, "02"),
        ({"prefix": "a5"}, "a501"),
        ({"checksum": "crc8"}, "0112"),  # Zephyr's crc8 of 01 with polynomial 0x12
        ({"checksum": "crc16", "address": 0x20000000}, "012110"),  # CRC16-ITU-T of 01 is 0x1021
        ({"prefix": "b00b", "checksum": "crc32", "address": 0x20000000}, "b00b01" + "1bdf05a5"),  # CRC32 0xa505df1b
    ],
)
def test_the_bytes_of_a_retained_boot_mode(settings, expected):
    assert retained_bytes(BootModeConfig(**settings)).hex() == expected


def test_checksums_are_those_of_their_catalogues():
    """Check values over 123456789: CRC-16/XMODEM and CRC-32/ISO-HDLC."""
    assert checksum("crc16", b"123456789") == 0x31C3.to_bytes(2, "little")
    assert checksum("crc32", b"123456789") == 0xCBF43926.to_bytes(4, "little")
    assert checksum("none", b"123456789") == b""


class Words:
    """Memory of words."""

    def __init__(self):
        self.words = {}

    def read32(self, address):
        assert address % 4 == 0
        return self.words.get(address, 0xDDCCBBAA)

    def write32(self, address, value):
        assert address % 4 == 0
        self.words[address] = value


def test_registers_take_a_byte_each_and_memory_all_of_them():
    memory = Words()
    RetainedBootMode(memory, BootModeConfig(prefix="a5")).write()
    assert memory.words == {GPREGRET: 0xA5, GPREGRET + 4: 0x01}
    memory = Words()
    RetainedBootMode(memory, BootModeConfig(prefix="b00b", checksum="crc16", address=0x20000002)).write()
    assert memory.words == {0x20000000: 0x0BB0BBAA, 0x20000004: 0xDD102101}, "what is beside it stays"


def test_memory_that_does_not_keep_it_is_told():
    memory = Words()
    memory.write32 = lambda address, value: None
    with pytest.raises(ProbeError, match=r"written to 0x5000551c as 01 and reads back as aa"):
        RetainedBootMode(memory, BootModeConfig()).write()


@pytest.mark.parametrize("reset", ["system", "ctrl-ap", "smp"])
def test_a_boot_mode_is_left_for_the_bootloader(sim, monkeypatch, reset):
    sim.unit.rig.reset("pin")
    sim.unit.client.images(tries=20)  # the application is up
    sim.admin.reset_counters()
    use(sim.unit, monkeypatch, "boot-mode", reset=reset)
    assert enter(sim.unit).method == "boot-mode"
    assert sim.resets() == {"CTRLAP" if reset == "ctrl-ap" else "SREQ": 1}
    assert sim.unit.rig.read32(GPREGRET) == 0, "the bootloader has cleared it"


@pytest.mark.parametrize(
    ("prefix", "kind", "address"),
    [("a5", "none", GPREGRET), ("", "crc8", GPREGRET), ("b00b", "crc16", 0x2003FF00), ("b00b", "crc32", 0x2003FF00)],
)
def test_a_boot_mode_with_prefix_and_checksum(builds, prefix, kind, address):
    sim = {"image": builds[0].path, "entrance": ["boot-mode"], "boot_mode_checksum": kind}
    sim |= {"boot_mode_prefix": prefix} if prefix else {}
    mode = {"address": address, "prefix": prefix, "checksum": kind}
    with wired(sim=sim, recovery={"entry": ["boot-mode"], "boot_mode": mode}) as board:
        assert enter(board.unit).method == "boot-mode"


def test_a_boot_mode_that_nobody_took_is_taken_back(shelf, builds):
    recovery = {"entry": ["boot-mode"], "timeout": 0.5}
    with shelf.lend({"image": builds[0].path}, recovery=recovery) as board:
        with pytest.raises(RecoveryNotEntered) as caught:
            enter(board.unit)
        assert caught.value.diagnosis.cause == "boot-mode-ignored"
        assert board.unit.rig.read32(GPREGRET) == 0, "a later boot must not find it"


# --- window, no application -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["pin", "system"])
def test_a_bootloader_that_waits_is_asked_in_its_window(shelf, builds, reset):
    sim = {"image": builds[0].path, "entrance": ["wait-for-dfu"]}
    with shelf.lend(sim, recovery={"entry": ["wait-for-dfu"], "reset": reset}) as board:
        assert enter(board.unit).method == "wait-for-dfu"
        assert board.admin.counters()["in_recovery"]


def test_a_slot_that_is_invalid_already_needs_no_erasing():
    with wired(sim={"entrance": ["no-application"]}, recovery={"entry": ["no-application"]}) as board:
        assert enter(board.unit).images.images == ()
        assert board.admin.counters()["debugger_erases"] == 0


def test_the_header_is_erased_where_that_is_allowed(builds):
    recovery = {"entry": ["no-application"], "allow_erase_header": True}
    with wired(sim={"image": builds[0].path, "entrance": ["no-application"]}, recovery=recovery) as board:
        board.unit.remember(builds[0].hash, "version 1.0.0")
        assert enter(board.unit).method == "no-application"
        counters = board.admin.counters()
        assert (counters["debugger_erases"], counters["erase_all"]) == (1, 0)
        assert board.admin.read_flash(0x10000, 4096) == b"\xff" * 4096
        assert board.unit.proved is None, "what was proved is gone"
        board.admin.reset_counters()
        assert enter(board.unit).method == "no-application"
        assert board.admin.counters()["debugger_erases"] == 0, "there is nothing left to erase"


def test_what_is_no_header_is_not_erased(shelf, builds):
    recovery = {"entry": ["no-application"], "allow_erase_header": True, "timeout": 0.5}
    tables = {"images": {"app": {"slot_address": 0x11000}}}
    with shelf.lend({"image": builds[0].path}, recovery=recovery, **tables) as board:
        with pytest.raises(RecoveryNotEntered, match="not the magic of an MCUboot image") as caught:
            enter(board.unit)
        assert board.admin.counters()["debugger_erases"] == 0
    assert caught.value.diagnosis.cause.startswith("probe-")


def test_where_the_header_is_must_be_known():
    real = {
        "board": "nrf5340dk",
        "probe": {},
        "recovery": {"entry": ["no-application"], "allow_erase_header": True},
    }
    with pytest.raises(ConfigError, match=r"set slot_address in \[images.app\]"):
        check_configured(BoardConfig.model_validate(real))
    told = BoardConfig.model_validate({**real, "images": {"app": {"slot_address": 0x10000}}})
    check_configured(told)
    assert slot_address(told) == slot_address(config()) == 0x10000
    check_configured(BoardConfig.model_validate({**real, "recovery": {"entry": ["no-application"]}}))


# --- smp, manual ----------------------------------------------------------------------------------------------------


def test_an_application_that_knows_boot_mode_is_asked(sim, monkeypatch):
    sim.unit.rig.reset("pin")
    use(sim.unit, monkeypatch, "smp")
    sim.admin.reset_counters()
    assert enter(sim.unit).method == "smp"
    assert sim.admin.counters()["in_recovery"]
    assert sim.resets() == {"SREQ": 1}
    assert enter(sim.unit).method == "smp", "who is in recovery already is not reset"
    assert sim.resets() == {}


def press_button_and_reset(sim):
    with SimAdmin(sim.simulator.admin) as hands:  # a connection of its own: it presses while the test waits
        hands.set_recovery_pin(low=True)
        hands.press_reset()


def test_a_person_is_told_what_to_do(sim, monkeypatch):
    use(sim.unit, monkeypatch, "manual", manual_timeout=20.0)
    told = []
    person = threading.Thread(target=press_button_and_reset, args=(sim,))

    def ask(text):
        told.append(text)
        if len(told) == 1:
            person.start()

    try:
        assert enter(sim.unit, ask=ask).method == "manual"
    finally:
        person.join()
        sim.admin.set_recovery_pin(low=False)
    assert "hold the button" in told[0]
    assert "within 20 s" in told[0]
    assert "let go of the button" in told[1]


def test_a_person_who_does_nothing_is_not_waited_for_for_ever(sim, monkeypatch):
    use(sim.unit, monkeypatch, "manual", manual_timeout=0.4)
    sim.unit.rig.reset("pin")
    told = []
    with pytest.raises(RecoveryNotEntered):
        enter(sim.unit, ask=told.append)
    assert "nothing came of it within 0.4 s" in told[-1]


def test_nobody_is_asked_where_nobody_is(sim, monkeypatch):
    monkeypatch.setattr(entries_module, "person", lambda: None)
    use(sim.unit, monkeypatch, "manual", manual_timeout=100.0)
    began = sim.unit.now()
    with pytest.raises(RecoveryNotEntered) as caught:
        enter(sim.unit)
    assert caught.value.diagnosis.cause == "nobody-at-the-terminal"
    assert sim.unit.now() - began < 50.0, "at once"


class Stream:
    def __init__(self, tty):
        self.isatty = lambda: tty
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_person_is_at_a_terminal(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setattr(terminal, "_in_foreground", lambda: False)
    screen = Stream(tty=True)
    monkeypatch.setattr("sys.stderr", screen)
    terminal.person()("hold the button")
    assert screen.text == "\nhold the button\n"
    monkeypatch.setattr("sys.stderr", Stream(tty=False))
    assert terminal.person() is None
    monkeypatch.setattr(terminal, "_in_foreground", lambda: True)  # pytest captures, and the terminal is there
    assert terminal.person() is not None
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert terminal.person() is None


# --- resets ---------------------------------------------------------------------------------------------------------


def test_a_power_cycle_is_a_reset_too(shelf, builds, monkeypatch):
    """Probe and port go with it: they are closed first, and found again under the port's other name."""
    sim = {"image": builds[0].path}
    with shelf.lend(sim) as board:
        unit, calls = board.unit, []

        def cycle():
            calls.append(unit.uart.is_open)
            board.admin.set_power(False)
            board.admin.set_power(True)

        monkeypatch.setattr(unit.rig, "power_cycle", cycle)
        power = {"on": ("true",), "off": ("true",), "takes_usb": True, "usb_timeout": 5.0}
        recovery = unit.config.recovery.model_copy(update={"reset": "power"})
        unit.config = BoardConfig.model_validate(
            {**unit.config.model_dump(mode="json", by_alias=True), "power": power}
        ).model_copy(update={"recovery": recovery})
        assert enter(unit).method == "gpio"
        assert calls == [False]
        assert unit.uart.is_open


@pytest.mark.parametrize(
    ("name", "compatible", "pin"),
    [
        ("nrf5340dk-wired", (), (0, 23)),
        ("ours", ("nrf7002dk",), (1, 8)),
        ("ours", (), None),
    ],
)
def test_the_pin_that_is_looked_at_is_the_boards(name, compatible, pin):
    told = BoardConfig.model_validate({"board": name, "compatible": compatible, "recovery": {"entry": ["smp"]}})
    assert recovery_pin(told) == pin
