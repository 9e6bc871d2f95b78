"""From evidence to a cause: as a table of facts, and end to end on the simulated board with each fault."""

import sys
from dataclasses import dataclass, field

import pytest

from board.conftest import config
from board.shelf import of_this_module
from pytest_nrfdfu.board import examine
from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.board.diagnosis import diagnose
from pytest_nrfdfu.board.evidence import Attempt, Evidence, Heard
from pytest_nrfdfu.board.observed import causes_in_words, damaged_banner, readable
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.rules_rig import look_at_reset
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import BoardError, LineError, PortGone, ProbeError, RecoveryNotEntered, SmpTimeout
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import ImageStateRead

shelf = of_this_module()
BANNER = "*** Booting Zephyr OS build v4.4.0 ***\n"
DAMAGED = BANNER.replace("Booting", "Bootig")
REQUEST = console.encode(encode(ImageStateRead(), 1))
GARBAGE = bytes([0xF8, 0x00, 0xE0, 0xFE, 0x80, 0x9C, 0xC0, 0xFF, 0x06, 0xF8, 0x1C, 0xFE])
OPEN = ChipState("1", "J-Link", "", "", "open", "off")


def probe(cause):
    return ProbeError("told by the probe", cause=cause)


def seen(entry="gpio", error=None, reset="pin", **facts):
    """What was observed after one entry; of `heard`, keys of their own."""
    heard = {key: facts.pop(key) for key in list(facts) if key in Heard.__dataclass_fields__}
    observed = Evidence(heard=Heard(**heard), **facts)
    observed.failed(entry, reset, error or SmpTimeout("not answered"))
    return observed


def board(*entries, **tables) -> BoardConfig:
    return config(recovery={"entry": entries or ("gpio",)}, **tables)


# --- the table ------------------------------------------------------------------------------------------------------

TABLE = {
    "silence": seen(),
    "port-gone": seen(error=PortGone("/dev/ttyACM1 was lost")),
    "no-power": seen(error=probe("no-power")),
    "probe-busy": seen(error=probe("busy")),
    "probe-unplugged": seen(error=probe("unplugged")),
    "probe-not-found": seen(error=probe("not-found")),
    "probe-several": seen(error=probe("several")),
    "probe-hangs": seen(error=probe("hangs")),
    "probe-wrong-chip": seen(error=probe("wrong-chip")),
    "probe-no-library": seen(error=probe("no-library")),
    "probe-unreachable": seen(error=probe("unreachable")),
    "probe-permission": seen(error=probe("permission")),
    "probe-died": seen(error=probe("died")),
    "probe-fault": seen(error=probe("fault")),
    "probe-failed": seen(error=probe("")),
    "chip-locked": seen("boot-mode", probe("locked"), "system"),
    "chip-secure-locked": seen("boot-mode", probe("secure-locked"), "system"),
    "line-failed": seen(error=LineError("relay 3 jammed")),
    "rig-failed": seen(error=BoardError("the reset command ended with status 1")),
    "nobody-at-the-terminal": seen("manual", reset=None, nobody=True),
    "tx-rx-joined": seen(received=REQUEST, sent=REQUEST),
    "wrong-baud-rate": seen(received=GARBAGE, readable_at=9600),
    "unreadable": seen(received=GARBAGE),
    "recovery-line-not-connected": seen(
        received=BANNER.encode(), text=BANNER, pin_low=False, pin_low_released=False, reset_causes=1
    ),
    "line-inverted": seen(received=BANNER.encode(), text=BANNER, pin_low=False, pin_low_released=True),
    "line-stuck": seen(received=BANNER.encode(), text=BANNER, line_level=False),
    "reset-not-connected": seen(reset_seen=False, pin_low=True, after_reset=b""),
    "boot-mode-ignored": seen("boot-mode", received=BANNER.encode(), text=BANNER, boot_mode_left=b"\x01"),
    "boot-mode-lost": seen("boot-mode", received=BANNER.encode(), text=BANNER, boot_mode_left=b"\x00"),
    "image-state-not-configured": seen(
        received=b"x" * 20, application_answers=3, flags_without_split_status=True, came_back=True
    ),
    "application-too-old": seen("smp", received=b"x" * 20, application_answers=3, came_back=True),
    "soft-reset": seen(received=BANNER.encode(), text=BANNER, pin_low=True, reset_causes=1 << 3),
    "application-answers": seen(received=b"x" * 20, application_answers=3),
    "host-tx-not-connected": seen(after_reset=BANNER.encode(), pin_low=True, reset_seen=True),
    "reset-not-seen": seen(after_reset=BANNER.encode(), other_reset="ctrl-ap"),
    "gpio-entry-ignored": seen(received=BANNER.encode(), text=BANNER, pin_low=True, reset_causes=1),
    "gpio-entry-passed": seen(received=BANNER.encode(), text=BANNER),
    "pin-reset-entry-not-built-in": seen("pin-reset", received=BANNER.encode(), text=BANNER),
    "boot-mode-passed": seen("boot-mode", received=BANNER.encode(), text=BANNER),
    "window-missed": seen("wait-for-dfu", received=BANNER.encode(), text=BANNER),
    "image-still-valid": seen("no-application", received=BANNER.encode(), text=BANNER),
    "application-without-smp": seen("smp", received=BANNER.encode(), text=BANNER),
    "hands-too-late": seen("manual", reset=None, received=BANNER.encode(), text=BANNER),
    "no-image-no-recovery": seen(received=b"hello, world\r\n", text="hello, world\n", slot_has_image=False),
    "no-image-no-answer": seen(slot_has_image=False),
    "host-port-trouble": seen(port_trouble=["ModemManager probes this port; stop it"]),
    "application-silent": seen("smp", reset="smp"),
    "frames-damaged": seen(received=b"\x06\x09AAs\n" * 2, broken_frames=2),
    "text-damaged": seen(received=DAMAGED.encode(), text=DAMAGED),
    "not-clear": seen(received=b"hello, world\r\n", text="hello, world\n"),
}


@pytest.mark.parametrize("cause", TABLE)
def test_evidence_and_its_cause(cause):
    observed = TABLE[cause]
    found = diagnose(observed, board(observed.attempts[0].entry))
    assert found.cause == cause
    assert found.sentence.endswith(".")
    assert found.remedy.endswith(".")
    assert found.sentence[0].isupper()
    assert all(detail.endswith(".") for detail in found.details)
    assert found.details[0].startswith(f"Tried {observed.attempts[0].entry}")
    assert found.details[1].startswith("Seen on ")


def test_every_cause_has_a_sentence_and_a_remedy_of_its_own():
    found = [diagnose(observed, board(observed.attempts[0].entry)) for observed in TABLE.values()]
    assert len({one.sentence for one in found}) == len(TABLE)
    assert len({one.remedy for one in found}) == len(TABLE)


@pytest.mark.parametrize(
    ("strong", "facts"),
    [
        ("tx-rx-joined", {"received": REQUEST + GARBAGE * 4, "sent": REQUEST, "readable_at": 9600}),
        ("wrong-baud-rate", {"received": GARBAGE, "readable_at": 9600, "pin_low": False}),
        ("recovery-line-not-connected", {"pin_low": False, "reset_seen": False, "slot_has_image": False}),
        ("reset-not-connected", {"reset_seen": False, "port_trouble": ["brltty has it"], "slot_has_image": False}),
        ("soft-reset", {"text": BANNER, "received": b"x" * 9, "reset_causes": 8, "application_answers": 2}),
        ("host-tx-not-connected", {"after_reset": BANNER.encode(), "slot_has_image": False}),
        ("no-image-no-answer", {"slot_has_image": False, "port_trouble": ["brltty has it"]}),
        ("text-damaged", {"received": DAMAGED.encode(), "text": DAMAGED, "broken_frames": 2, "pin_low": False}),
        ("recovery-line-not-connected", {"text": BANNER + DAMAGED, "received": b"x" * 9, "pin_low": False}),
        ("no-power", {"chip_cause": "no-power", "chip_problem": "it does not acknowledge"}),
    ],
)
def test_the_more_specific_evidence_goes_first(strong, facts):
    assert diagnose(seen(**facts), board()).cause == strong


def test_a_probe_that_fails_does_not_hide_what_another_way_showed():
    observed = seen("boot-mode", probe("busy"), received=BANNER.encode(), text=BANNER)
    observed.failed("pin-reset", "line", SmpTimeout("not answered"))
    found = diagnose(observed, board("boot-mode", "pin-reset"))
    assert found.cause == "pin-reset-entry-not-built-in"
    assert any("told by the probe" in detail for detail in found.details)


def test_all_other_facts_are_details():
    observed = seen(
        received=BANNER.encode(),
        text=BANNER,
        broken_frames=2,
        reset_causes=1,
        pin_low=False,
        pin_low_released=False,
        line_level=True,
        chip=OPEN,
        slot_has_image=True,
        port_trouble=["ModemManager probes this port; stop it"],
    )
    text = " ".join(diagnose(observed, board()).details)
    for fact in (
        "Tried gpio (reset: pin): not answered.",
        "2 broken frames",
        "*** Booting Zephyr OS build v4.4.0 ***",
        "Reset causes (RESETREAS): reset pin.",
        "The recovery pin reads high with the line asserted and high with it released.",
        "reads back active",
        "application core open",
        "begins with an image's header",
        "ModemManager",
    ):
        assert fact in text


def test_silence_of_a_slot_that_cannot_be_read_may_be_an_empty_one():
    assert "slot 0 is empty" in diagnose(seen(), board()).remedy
    assert "slot 0 is empty" not in diagnose(seen(slot_has_image=True), board()).remedy


def test_a_reset_that_nobody_saw_is_asked_after_before_the_wires_of_the_port():
    """An application that prints no more and a reset that does not reach the chip are as silent as an open TX."""
    found = diagnose(seen(reset="line"), board())
    assert "nobody could see whether it was reset" in found.sentence
    assert found.remedy.startswith("Press its reset button")
    assert "the output that [reset.line] names" in found.remedy
    assert diagnose(seen(reset="line", chip=OPEN, reset_seen=True), board()).remedy.startswith("Check that this is the")


@pytest.mark.parametrize(("kind", "driver"), [("line", "[reset.line]"), ("pin", "the probe"), ("command", "[reset]")])
def test_what_drives_the_reset_is_what_is_to_be_looked_at(kind, driver):
    assert driver in diagnose(seen(reset=kind, reset_seen=False), board()).remedy


def test_a_pin_that_was_not_looked_at_is_said_and_how_it_would_be():
    observed = seen(received=BANNER.encode(), text=BANNER, chip=OPEN, pin_unread="nobody tells which pin it is")
    found = diagnose(observed, board())
    assert any("was not looked at: nobody tells which pin it is (pin in [recovery]" in one for one in found.details)
    assert "pin in [recovery]" in found.remedy


@pytest.mark.parametrize(
    ("kind", "told", "untold"),
    [
        ("pin", "the wire from the probe to nRESET", "[power]"),
        ("line", "the wire from the output that [reset.line] names to nRESET", "probe"),
        ("power", "the commands in [power] switch: it does not switch the board", "nRESET"),
        ("system", "SWD", "nRESET"),
        ("ctrl-ap", "SWD", "wire"),
    ],
)
def test_where_to_look_depends_on_the_reset(kind, told, untold):
    text = look_at_reset(kind)
    assert told in text
    assert untold not in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BANNER, ""),
        ("*** Booting MCUboot v2.1.0 ***", ""),
        ("I: Booting image 0", ""),
        ("hello, world", ""),
        ("", ""),
        ("*** Boot", ""),
        ("*** Booting", ""),
        ("one\n*** Bootig Zephyr OS build v4.40 ***\n", "*** Bootig Zephyr OS build v4.40 ***"),
        ("** Bootin Zephyr OS build v4.4.0 ***", "** Bootin Zephyr OS build v4.4.0 ***"),
    ],
)
def test_a_banner_with_characters_missing_is_known(text, found):
    assert damaged_banner(text, BoardConfig.model_fields["console"].default.banner) == found


def test_a_board_whose_chip_answered_has_power():
    assert "has power" in diagnose(seen(), board()).remedy
    assert "has power" not in diagnose(seen(chip=OPEN), board()).remedy


def test_a_pin_reset_into_recovery_may_be_silent():
    """Of a board that enters by its reset pin, silence after that and a banner after another reset are no riddle."""
    observed = seen("pin-reset", after_reset=BANNER.encode(), other_reset="ctrl-ap")
    assert diagnose(observed, board("pin-reset")).cause == "host-tx-not-connected"


def test_silence_of_an_empty_board_names_the_rate():
    assert "115200 baud" in diagnose(seen(slot_has_image=False), board()).remedy


def test_plain_evidence_will_do():
    evidence = Evidence([Attempt("gpio", "pin", "not answered")])
    assert diagnose(evidence, board()).cause == "silence"


def test_reset_causes_in_words():
    assert causes_in_words(0) == "power-on, or cleared since"
    assert causes_in_words(1 << 0 | 1 << 3) == "reset pin, soft reset"


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", None), (b"\xff\x00", None), (BANNER.encode(), True), (REQUEST, True), (GARBAGE, False)],
)
def test_what_can_be_read(data, expected):
    assert readable(data) is expected


# --- end to end -----------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """A simulated bench with something wrong, and what is to be said about it."""

    cause: str
    says: str
    """A part of the first sentence."""
    remedy: str
    """A part of the last sentence."""
    sim: dict = field(default_factory=dict)
    recovery: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    arrange: object = None
    """Called with the wired board, before recovery is entered."""
    image: bool = True


def soft_reset_command(address):
    """A reset command that is a soft reset, as a rig's own script may be."""
    code = (
        "import sys; from pytest_nrfdfu.board.probe import Probe; Probe(sys.argv[1], 'cortex_m', 0.02).reset('system')"
    )
    return [sys.executable, "-c", code, address]


def use_command(wired_board):
    unit = wired_board.unit
    command = soft_reset_command(wired_board.simulator.endpoints["probe"])
    reset = unit.config.reset.model_copy(update={"command": tuple(command)})
    recovery = unit.config.recovery.model_copy(update={"reset": "command"})
    unit.close()
    unit.__init__("sim", unit.config.model_copy(update={"reset": reset, "recovery": recovery}))
    unit.open()


def wrong_boot_mode_address(wired_board):
    unit = wired_board.unit
    mode = unit.config.recovery.boot_mode.model_copy(update={"address": 0x20020000})
    unit.config = unit.config.model_copy(
        update={"recovery": unit.config.recovery.model_copy(update={"boot_mode": mode})}
    )


def fault(name):
    return lambda wired_board: wired_board.admin.set_fault(name, True)


def trouble(wired_board):
    wired_board.admin.set_fault("uart-silent", True)
    wired_board.unit.uart.trouble = lambda: ["ModemManager probes this port: stop it or add a udev rule"]


SLOW = {"baudrate": 115200}
BENCHES = [
    Bench("silence", "not a byte", "the last VCOM on a DK", arrange=fault("uart-silent")),
    Bench("no-power", "has no power", "Switch the board on", arrange=fault("no-power")),
    Bench("host-tx-not-connected", "does not hear the host", "host's TX", arrange=fault("uart-deaf")),
    Bench("tx-rx-joined", "TX and RX are joined", "jumper", arrange=fault("uart-loopback")),
    Bench("recovery-line-not-connected", "does not reach the chip", "P0.23", arrange=fault("line-open")),
    Bench("line-inverted", "inverted", "Change active", arrange=fault("line-inverted")),
    Bench("reset-not-connected", "is not reset", "nRESET", arrange=fault("reset-open")),
    Bench("probe-busy", "in use by another program", "Close the debugger", arrange=fault("probe-busy")),
    Bench("probe-unplugged", "debug probe", "Plug it in again", arrange=fault("probe-unplugged")),
    Bench(
        "probe-wrong-chip",
        "not an nRF5340",
        "unique_id",
        recovery={"entry": ["boot-mode"]},
        arrange=fault("probe-wrong-chip"),
    ),
    Bench("soft-reset", "reset by soft reset", "clear_reset_causes", arrange=use_command),
    Bench(
        "wrong-baud-rate",
        "talks at 38400 baud",
        "baudrate = 38400",
        sim={"baudrate": 38400},
        tables={"uart": {"baudrate": 115200}},
    ),
    Bench(
        "wrong-baud-rate",
        "could be read",
        "baudrate = 38400",
        sim={"baudrate": 38400},
        tables={"uart": {"baudrate": 115200}},
        arrange=fault("line-open"),
    ),
    Bench(
        "wrong-baud-rate",
        "asked at 38400, MCUboot answered",
        "baudrate = 38400",
        sim={"baudrate": 38400},
        tables={"uart": {"baudrate": 115200}},
        image=False,
    ),
    Bench(
        "gpio-entry-ignored",
        "did not stop although its pin reads low",
        "CONFIG_BOOT_SERIAL_ENTRANCE_GPIO",
        sim={"entrance": ["boot-mode"]},
    ),
    Bench(
        "pin-reset-entry-not-built-in",
        "after the pin reset",
        "CONFIG_BOOT_SERIAL_PIN_RESET",
        recovery={"entry": ["pin-reset"]},
    ),
    Bench(
        "window-missed",
        "does not wait for an update",
        "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU",
        recovery={"entry": ["wait-for-dfu"]},
    ),
    Bench(
        "image-still-valid",
        "found a valid image",
        "allow_erase_header",
        sim={"entrance": ["no-application"]},
        recovery={"entry": ["no-application"]},
    ),
    Bench(
        "no-image-no-answer", "no image in the primary slot", "MCUboot", image=False, sim={"entrance": ["boot-mode"]}
    ),
    Bench(
        "boot-mode-ignored",
        "did not take the boot mode",
        "CONFIG_BOOT_SERIAL_BOOT_MODE",
        recovery={"entry": ["boot-mode"]},
    ),
    Bench("chip-locked", "is locked", "needs no debugger", sim={"locked": True}, recovery={"entry": ["boot-mode"]}),
    Bench(
        "chip-secure-locked",
        "SECUREAPPROTECT",
        "needs none of them",
        sim={"secure_locked": True},
        recovery={"entry": ["boot-mode"]},
    ),
    Bench(
        "application-too-old",
        "does not know boot_mode",
        "CONFIG_MCUMGR_GRP_OS_RESET_BOOT_MODE",
        sim={"application_smp": "old"},
        recovery={"entry": ["smp"], "timeout": 2.0},
    ),
    Bench(
        "application-answers",
        "answers instead of MCUboot",
        "CONFIG_BOOT_SERIAL_PIN_RESET",
        sim={"application_smp": "full"},
        recovery={"entry": ["pin-reset"]},
    ),
    Bench("application-silent", "No application answers", "SMP server", recovery={"entry": ["smp"]}),
    Bench("host-port-trouble", "ModemManager", "Cure that first", arrange=trouble),
    Bench("nobody-at-the-terminal", "Nobody could be asked", "foreground", recovery={"entry": ["manual"]}),
]


@pytest.mark.parametrize("bench", BENCHES, ids=[f"{bench.cause}: {bench.says}" for bench in BENCHES])
def test_a_bench_with_something_wrong(bench, shelf, builds, monkeypatch):
    monkeypatch.setattr(examine, "_LISTEN", 0.5)
    sim = ({"image": builds[0].path} if bench.image else {}) | bench.sim
    recovery = {"timeout": 0.6} | bench.recovery
    with shelf.lend(sim, recovery=recovery, **bench.tables) as wired_board:
        if bench.arrange is not None:
            bench.arrange(wired_board)
        rate = wired_board.unit.uart.baudrate
        with pytest.raises(RecoveryNotEntered) as caught:
            enter(wired_board.unit)
        counters = wired_board.admin.counters()
        assert wired_board.unit.uart.baudrate == rate
    found, text = caught.value.diagnosis, str(caught.value)
    assert found.cause == bench.cause, text
    assert bench.says in found.sentence
    assert bench.remedy in found.remedy
    assert text.startswith(f"sim did not enter serial recovery: {found.sentence} Tried ")
    assert text.endswith(found.remedy)
    if bench.cause != "line-inverted":  # there it is low while it is released
        assert not counters["recovery_pin_low"]
    assert counters["debugger_erases"] == counters["erase_all"] == 0
