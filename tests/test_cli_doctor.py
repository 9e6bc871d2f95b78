"""`nrfdfu doctor`: what it finds on a bench where all is well, and with each thing that can be wrong."""

import json
import os
import re
import subprocess
import sys

import firmware
import pytest

from pytest_nrfdfu import cli
from pytest_nrfdfu.cli import doctor_steps
from pytest_nrfdfu.cli.doctor_findings import BLOCKED, NOTHING_HEARD, Finding, Step, finding_of
from pytest_nrfdfu.cli.doctor_text import Writer, conclusion
from pytest_nrfdfu.errors import Diagnosis, LeaseError, LineError, ProbeError, RecoveryNotEntered, UartError

PARTS = list(doctor_steps.PARTS)
REAL_PARTS = [part for part in PARTS if part not in {"power", "simulator"}]

BENCH = """
board = "bench"
[sim]
baudrate = 0
flash_timing = "none"
image = "app.bin"
{sim}
[uart]
wait = 0.1
[recovery]
timeout = 1.0
{recovery}
[boot]
timeout = 2.0
{more}
"""


@pytest.fixture(scope="module")
def image():
    return firmware.signed_app()


@pytest.fixture
def examine(tmp_path, image, capfd, monkeypatch):
    """Runs the doctor on a simulated bench; gives exit status and what `--json` prints."""
    monkeypatch.setattr(doctor_steps, "_LISTEN", 0.5)
    (tmp_path / "app.bin").write_bytes(image)

    def examine(sim="", recovery="", more=""):
        path = tmp_path / "bench.toml"
        path.write_text(BENCH.format(sim=sim, recovery=recovery, more=more))
        status = cli.main(["doctor", "--board", "bench", "--config", str(path), "--json"])
        told = json.loads(capfd.readouterr().out)
        assert told["ok"] is (status == 0)
        return status, {step["name"]: step for step in told["steps"]}, told

    return examine


FINE_SO_FAR = {"config": "fine", "lease": "fine"}


def statuses(steps):
    return {name: step["status"] for name, step in steps.items()}


def test_all_is_fine(examine):
    status, steps, told = examine()
    assert status == 0
    assert statuses(steps) == dict.fromkeys(PARTS, "fine")
    assert list(steps) == PARTS
    assert (told["board"], told["unit"]) == ("bench", "bench")
    assert steps["chip identity"]["seen"] == "nRF5340; application core open, network core off"
    assert steps["recovery"]["seen"].startswith("by gpio; MCUboot answered after ")
    assert steps["image list"]["seen"].startswith("slot 0: ")
    assert "Booting Zephyr" in steps["console"]["seen"]
    assert told["versions"]["probe"]
    assert told["versions"]["pyocd"]
    assert {key for step in steps.values() for key in step} == {
        *("name", "status", "seen", "advice", "cause", "details", "seconds")
    }


CAUSES = {
    "uart-silent": ("recovery", "Nothing came from the board", "that the board's TX (P0.20 on the DK) is wired"),
    "uart-deaf": ("recovery", "The board does not hear the host", "Check the wire from the host's TX"),
    "uart-loopback": ("recovery", "own requests come back", "between TX and RX"),
    "line-open": ("line", "The recovery line does not reach the chip", "Check the wire from the line to that pin"),
    "line-inverted": ("line", "The recovery line is inverted", "Change active in [recovery.line]"),
    "reset-open": ("reset", "the core was not reset", "Look at the wire from the probe to nRESET"),
    "no-power": ("chip identity", "The board has no power", "Switch the board on"),
    "probe-busy": ("probe", "in use by another program", "Close the debugger"),
    "probe-unplugged": ("probe", "The debug probe is gone", "Plug it in again"),
    "probe-wrong-chip": ("chip identity", "is not an nRF5340", "Check which probe is wired to which board"),
}


@pytest.mark.parametrize("fault", CAUSES)
def test_what_is_wrong_is_said_of_the_right_part(examine, fault):
    part, seen, advice = CAUSES[fault]
    status, steps, _ = examine(f'faults = ["{fault}"]')
    assert status == 1
    follows = ["recovery"] if part == "line" else []
    assert [name for name, step in steps.items() if step["status"] == "wrong"] == [part, *follows]
    assert seen in steps[part]["seen"]
    assert advice in steps[part]["advice"]


def test_a_probe_that_hangs_is_given_up(examine, monkeypatch):
    monkeypatch.setattr("pytest_nrfdfu.board.rig._START_TIMEOUT", 3.0)
    status, steps, _ = examine('faults = ["probe-hangs"]')
    assert status == 1
    assert steps["probe"]["seen"] == "The debug probe does not answer."
    assert steps["probe"]["advice"].startswith("Unplug it and plug it in again")
    assert steps["probe"]["details"] == []
    assert statuses(steps)["line"] == "fine"


def test_a_reset_that_nobody_could_confirm_is_not_called_fine(examine):
    """Locked, so that the core cannot be asked, and nRESET is open: only the second reset, by ctrl-ap, is seen."""
    status, steps, told = examine('locked = true\nfaults = ["reset-open"]')
    assert status == 1
    assert not told["ok"]
    assert steps["reset"]["status"] == "unknown"
    assert steps["recovery"]["cause"] == "reset-not-seen"
    assert "The reset by pin did nothing that could be seen" in steps["recovery"]["seen"]
    assert "it does after a ctrl-ap reset" in steps["recovery"]["seen"]
    assert "nRESET" in steps["recovery"]["advice"]


def test_each_entry_has_a_conclusion_of_its_own(examine):
    _, steps, _ = examine('faults = ["line-open"]\nentrance = ["gpio"]', 'entry = ["gpio", "boot-mode"]')
    assert steps["recovery"]["cause"] == "recovery-line-not-connected"
    assert steps["recovery"]["seen"].startswith("gpio: Not entered, for the reason that stands at the part line")
    assert steps["recovery"]["details"][0].startswith("boot-mode: The bootloader did not take the boot mode")
    assert steps["recovery"]["details"][0].endswith("in [recovery.boot_mode].")


def test_an_entry_that_fails_before_another_works_is_told(examine):
    """An update would work all the same, and the bench is not as it is configured."""
    status, steps, told = examine(
        'faults = ["line-open"]\nentrance = ["gpio", "boot-mode"]', 'entry = ["gpio", "boot-mode"]'
    )
    assert status == 1
    assert steps["recovery"]["status"] == "warning"
    assert steps["recovery"]["cause"] == "recovery-line-not-connected"
    assert steps["recovery"]["seen"].startswith("by boot-mode; ")
    assert "gpio did not work" in steps["recovery"]["seen"]
    assert "Check the wire" in steps["recovery"]["advice"]
    assert steps["recovery"]["details"][0].startswith("gpio does not work: The recovery line does not reach the chip")
    assert statuses(steps)["console"] == "fine"
    assert "is fine" not in told["conclusion"]


def test_two_faults_are_both_told(examine):
    """The line and the board's TX: the core was reset and has an image, so it should have printed."""
    _, steps, _ = examine('faults = ["line-open", "uart-silent"]')
    assert steps["recovery"]["cause"] == "recovery-line-not-connected"
    assert "nothing was printed on " in steps["recovery"]["advice"]


def test_what_no_entry_needs_is_not_tried(examine):
    status, steps, _ = examine('entrance = ["boot-mode"]', 'entry = ["boot-mode"]')
    assert status == 0
    assert "line" not in steps


def test_what_is_told_is_told_once(examine):
    _, steps, _ = examine('faults = ["line-open"]')
    text = " ".join(steps["recovery"]["details"])
    assert text.count("*** Booting") == 1
    assert "requests in" in text
    assert all(part not in text for part in ("sequence", "ImageStateRead", "\\n", "The probe ("))
    assert not re.search("[0-9a-f]{20}", text), "a hash is told by its first digits"


def test_other_parts_are_tried_all_the_same(examine):
    """Without a probe there is no reset; port and line are tried, and the application is still asked."""
    status, steps, _ = examine(
        'faults = ["probe-unplugged"]\napplication_smp = "full"\nentrance = ["gpio", "boot-mode"]',
        'entry = ["gpio", "smp"]',
    )
    assert status == 1
    assert statuses(steps) == dict.fromkeys(PARTS, "fine") | {
        "probe": "wrong",
        "chip identity": "skipped",
        "reset": "skipped",
    }
    assert steps["recovery"]["seen"].startswith("by smp; ")
    assert steps["recovery"]["details"] == ["The entry gpio was not tried: it needs the probe and the chip behind it."]


def test_a_locked_chip_rules_out_entries_that_need_its_registers(examine):
    status, steps, _ = examine("locked = true", 'entry = ["boot-mode"]')
    assert status == 1
    assert steps["chip identity"]["status"] == "wrong"
    assert steps["chip identity"]["cause"] == "chip-locked"
    assert "application core locked" in steps["chip identity"]["seen"]
    assert steps["recovery"]["details"] == [
        "The entry boot-mode was not tried: it needs a chip that is open to the debugger."
    ]


def test_a_locked_chip_does_for_the_recovery_pin(examine):
    status, steps, _ = examine("locked = true")
    assert status == 0
    assert steps["recovery"]["status"] == "fine"


def test_a_slot_without_image_is_not_wrong(examine, tmp_path, image):
    empty = tmp_path / "app.bin"
    status, steps, _ = examine('entrance = ["gpio"]')
    assert steps["leave recovery"]["status"] == "fine"
    (tmp_path / "bench.toml").unlink()
    empty.write_bytes(image[:-1] + bytes([image[-1] ^ 1]))  # its signature or hash does not fit any more
    status, steps, _ = examine()
    assert status == 0
    assert steps["image list"]["seen"] == "it lists no image: no slot holds a valid one"
    assert steps["leave recovery"]["status"] == "skipped"
    assert "nothing to start" in steps["leave recovery"]["seen"]


def test_flash_is_not_changed(examine):
    """The entry no-application may erase the image's header; here it only resets, and the image is still listed."""
    status, steps, _ = examine(
        'entrance = ["gpio", "no-application"]',
        'entry = ["no-application", "gpio"]\nallow_erase_header = true',
        "[images.app]\nslot_address = 0x10000",
    )
    assert status == 0
    assert steps["recovery"]["seen"].startswith("by gpio")
    assert steps["image list"]["seen"].startswith("slot 0: ")


def test_a_simulated_board_that_does_not_start_is_said(examine, tmp_path):
    status, steps, _ = examine('image = "no.bin"'.replace("image", "public_key"))
    assert status == 1
    assert statuses(steps) == {**dict.fromkeys(PARTS, "skipped"), **FINE_SO_FAR, "simulator": "wrong"}
    assert "no.bin" in steps["simulator"]["seen"]
    assert "[sim]" in steps["simulator"]["advice"]


# --- what works, and not as it should -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.002, 0.005])
def test_a_link_that_loses_bytes_is_named(examine, rate):
    status, steps, told = examine(f"drop_rate = {rate}\nseed = 3")
    assert status == 1
    assert steps["link"]["status"] == "warning"
    assert steps["link"]["cause"] == "link-lossy"
    assert re.search(r"requests for the image list: .*(sent again|damaged|not answered)", steps["link"]["seen"])
    assert "mass storage" in steps["link"]["advice"]
    assert "link" in told["conclusion"]


def test_a_link_that_loses_bytes_is_named_on_an_empty_board(examine, tmp_path, image):
    """Whose answers are short."""
    (tmp_path / "app.bin").write_bytes(image[:-1] + bytes([image[-1] ^ 1]))
    status, steps, _ = examine("drop_rate = 0.005\nseed = 1")
    assert steps["image list"]["seen"] == "it lists no image: no slot holds a valid one"
    assert (status, steps["link"]["status"]) == (1, "warning")


def test_an_entry_that_a_locked_chip_rules_out_is_not_fine(examine):
    status, steps, _ = examine("locked = true", 'entry = ["gpio", "boot-mode"]')
    assert status == 1
    assert steps["chip identity"]["status"] == "warning"
    assert "boot-mode needs" in steps["chip identity"]["seen"]
    assert steps["recovery"]["status"] == "fine"


def test_entries_behind_one_that_works_are_said_not_to_be_tried(examine):
    _, steps, _ = examine('entrance = ["gpio"]', 'entry = ["gpio", "boot-mode"]')
    assert steps["recovery"]["details"] == ["Not tried, because gpio works: boot-mode."]


# --- the pin --------------------------------------------------------------------------------------------------------

NOBODY_TELLS = ("pytest_nrfdfu.board.pin_look.recovery_pin", lambda _: None)


def test_the_pin_is_seen_to_follow_its_line(examine):
    _, steps, _ = examine()
    assert steps["line"]["details"] == ["The pin that MCUboot looks at (P0.23) went low and high with it."]


def test_the_pin_that_is_looked_at_is_the_configured_one(examine):
    status, steps, _ = examine(recovery='pin = "P0.05"')
    assert status == 1
    assert steps["line"]["cause"] == "recovery-line-not-connected"
    assert "(P0.05)" in steps["line"]["advice"]


def test_a_pin_that_nobody_names_is_said_not_to_have_been_looked_at(examine, monkeypatch):
    monkeypatch.setattr(*NOBODY_TELLS)
    status, steps, _ = examine(
        'faults = ["line-open"]\nentrance = ["gpio", "boot-mode"]', 'entry = ["gpio", "boot-mode"]'
    )
    assert status == 1
    assert steps["line"]["status"] == "fine"
    assert "was not looked at: nobody tells which pin it is; name it (pin = " in steps["line"]["details"][0]
    assert steps["recovery"]["cause"] == "gpio-entry-passed"
    assert "Name that pin (pin in [recovery])" in steps["recovery"]["advice"]


def test_a_window_that_lets_it_in_is_not_credited_to_the_line(examine, monkeypatch):
    monkeypatch.setattr(*NOBODY_TELLS)
    status, steps, _ = examine('faults = ["line-open"]\nentrance = ["wait-for-dfu"]')
    assert status == 0, "this works, and nobody can tell more"
    assert "without any entry" in steps["reset"]["seen"]
    assert steps["recovery"]["seen"].endswith("without the line, so that this says nothing of the line")
    assert "pin in [recovery]" in steps["recovery"]["advice"]


def test_a_line_that_is_open_is_told_although_a_window_lets_it_in(examine):
    status, steps, _ = examine('faults = ["line-open"]\nentrance = ["wait-for-dfu"]')
    assert status == 1
    assert (steps["line"]["status"], steps["recovery"]["status"]) == ("wrong", "fine")


# --- what can be said where no entry can be tried -------------------------------------------------------------------


def test_the_port_is_listened_to_where_no_entry_can_be_tried(examine):
    _, steps, _ = examine('faults = ["probe-unplugged"]\napplication_smp = "full"')
    assert steps["recovery"]["status"] == "skipped"
    assert "the application answers, so the UART works in both directions" in steps["recovery"]["seen"]
    assert steps["recovery"]["details"] == ["The entry gpio was not tried: it needs the probe and the chip behind it."]


def test_a_second_fault_is_told_beside_a_probe_that_is_gone(examine):
    _, steps, _ = examine('faults = ["probe-unplugged", "uart-loopback"]')
    assert (steps["recovery"]["status"], steps["recovery"]["cause"]) == ("wrong", "tx-rx-joined")


def test_a_probe_and_a_uart_that_are_gone_together_share_a_supply(examine):
    _, steps, told = examine('faults = ["probe-unplugged", "no-power"]')
    assert steps["recovery"]["cause"] == NOTHING_HEARD
    assert "one USB cable and supply" in told["conclusion"]


def test_a_reset_line_that_is_open_is_not_blamed_on_the_probe(examine):
    _, steps, _ = examine('faults = ["reset-open"]', 'reset = "line"')
    assert steps["reset"]["cause"] == "reset-not-connected"
    assert "from the output that [reset.line] names" in steps["reset"]["advice"]


# --- boards that are not simulated ----------------------------------------------------------------------------------

REAL = """
board = "real"
[uart]
port = "{port}"
wait = 0.1
[probe]
unique_id = "remote:127.0.0.1:9"
[recovery]
entry = ["gpio", "smp"]
timeout = 0.5
[recovery.line]
driver = "command"
assert = ["{command}"]
release = ["{command}"]
[[unit]]
id = "a"
"""
POWER = """
[power]
on = ["false"]
off = ["true"]
"""


@pytest.fixture
def real(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NRFDFU_LEASE_DIR", str(tmp_path / "leases"))

    def real(port="/dev/no-such-port", command="true"):
        path = tmp_path / "real.toml"
        path.write_text(REAL.format(port=port, command=command))
        status = cli.main(["doctor", "--board", "real", "--config", str(path), "--json"])
        return status, {step["name"]: step for step in json.loads(capfd.readouterr().out)["steps"]}

    return real


def test_a_port_that_is_not_there(real):
    status, steps = real()
    assert status == 1
    assert steps["port"]["status"] == "wrong"
    assert "/dev/no-such-port" in steps["port"]["seen"]
    assert "Is the board plugged in" in steps["port"]["advice"]
    assert steps["probe"]["cause"] == "probe-unreachable"
    assert statuses(steps)["line"] == "fine"  # tried beside a port and a probe that do not work
    assert steps["recovery"]["seen"] == "it needs the part 'port', which does not work"


def test_a_line_whose_command_fails(real):
    _, steps = real(command="false")
    assert steps["line"]["status"] == "wrong"
    assert "false" in steps["line"]["seen"]
    assert steps["line"]["advice"]


def test_a_power_switch_that_fails_is_said_of_it_alone(real, monkeypatch):
    monkeypatch.setattr("test_cli_doctor.REAL", REAL.replace("[recovery]", POWER + "[recovery]"))
    _, steps = real()
    assert steps["power"]["status"] == "wrong"
    assert "the command that switches power on ended with status 1" in steps["power"]["seen"]
    assert steps["probe"]["cause"] == "probe-unreachable"
    assert statuses(steps)["line"] == "fine"


def test_a_unit_that_somebody_else_uses_is_not_touched(real, tmp_path):
    touched = tmp_path / "touched"
    source = """
import sys, time
from pathlib import Path
from pytest_nrfdfu.bench.lease import LocalKeeper
from pytest_nrfdfu.config import load
lease = LocalKeeper().acquire(load(Path(sys.argv[1])), deadline=0, say=print)
print("held", flush=True)
sys.stdin.read()
"""
    real()  # which writes the file
    with subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path / "real.toml")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        status, steps = real(command=f"touch {touched}")
        other.stdin.close()
    assert status == 1
    assert statuses(steps) == {**dict.fromkeys(REAL_PARTS, "skipped"), "config": "fine", "lease": "wrong"}
    assert f"process {other.pid}" in steps["lease"]["seen"]
    assert not touched.exists()


def test_a_reader_that_goes_away_is_no_trouble():
    """As in `nrfdfu doctor ... | head`."""
    end, start = os.pipe()
    os.close(end)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_nrfdfu.cli", "doctor", "--board", "no-such-board"],
        stdout=start,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(start)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--board", "no-such-board"], "is not known"),
        (["--board", "rack-nrf5340dk"], "name one of them: rack-nrf5340dk:dk-01"),
        (["--board", "nrf5340dk", "--config", "no-such-file"], "no such file"),
    ],
)
def test_a_wrong_option_is_status_2(capfd, arguments, told):
    assert cli.main(["doctor", *arguments]) == 2
    assert told in " ".join(capfd.readouterr().out.split()).lower()


# --- the text -------------------------------------------------------------------------------------------------------


class Screen:
    def __init__(self, terminal):
        self.terminal = terminal
        self.text = ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


WRONG = Step("port", Finding("wrong", "cannot open it", "Plug it in.", details=("a", "b")), 0.1)


def written(*, terminal, environment):
    screen = Screen(terminal)
    writer = Writer(screen, environment)
    writer.began("port")
    writer.ended(WRONG)
    return screen.text


def test_a_file_gets_plain_lines():
    indent = " " * 27
    assert written(terminal=False, environment={}) == (
        f"  port            wrong    cannot open it\n{indent}- a\n{indent}- b\n{indent}-> Plug it in.\n"
    )


def test_a_terminal_sees_what_is_tried_and_gets_colours():
    text = written(terminal=True, environment={})
    assert text.startswith("  port            ...\r\x1b[K")
    assert "\x1b[31;1mwrong" in text
    assert "\x1b[31" not in written(terminal=True, environment={"NO_COLOR": "1"})


@pytest.mark.parametrize("terminal", [True, False])
def test_a_conclusion_fits_a_terminal_and_is_one_line_elsewhere(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    screen = Screen(terminal=terminal)
    Writer(screen, {}).paragraph("one two three " * 10)
    lines = screen.text.splitlines()
    assert (len(lines) == 1) is not terminal
    assert (max(map(len, lines)) < 70) is terminal


def test_the_conclusion_counts():
    fine, skipped = (Step("a", Finding("fine", ""), 0), Step("b", Finding("skipped", ""), 0))
    blocked, unknown = Step("c", Finding("skipped", "", cause=BLOCKED), 0), Step("d", Finding("unknown", ""), 0)
    assert conclusion([fine, skipped]) == "Everything that was tried is fine."
    assert conclusion([fine, unknown]) == "Everything else that was tried is fine. Not known: d."
    assert conclusion([fine, WRONG]).startswith("Do what stands behind the arrow")
    assert conclusion([WRONG, blocked]).startswith("Not tried, because what they need does not work: c. Do what ")
    untried = "Not tried, because what they need was not tried, or is not known to work: c. "
    assert conclusion([fine, skipped, blocked]) == f"{untried}Everything else that was tried is fine."
    assert conclusion([WRONG, skipped, WRONG]).startswith("2 parts are wrong. Begin with the first, port, ")
    doubtful = Step("link", Finding("warning", ""), 0)
    assert conclusion([fine, doubtful]).startswith("This works, and not as it should: link. Do what stands behind")
    both = conclusion([doubtful, WRONG])
    assert both.startswith("1 part is wrong, and not as it should be: link. Begin with the first, link, ")


def test_parts_that_were_not_tried_for_want_of_another_have_no_line_of_their_own():
    screen = Screen(terminal=False)
    Writer(screen, {}).ended(Step("console", Finding("skipped", "it needs another", cause=BLOCKED), 0.0))
    assert screen.text == ""


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (UartError("cannot open X: gone; is it plugged in?"), ("cannot open X: gone", "Is it plugged in?", "")),
        (LineError("it stuck. Check the relay"), ("it stuck", "Check the relay", "")),
        (
            LeaseError("held by x"),
            ("held by x", "Wait for the other run to end, or take another unit: nrfdfu units", ""),
        ),
        (
            ProbeError("in use; close it", cause="busy"),
            ("The debug probe is in use", "Close the debugger", "probe-busy"),
        ),
        (
            UartError("cannot open X: it is not there. Is it plugged in?; waited 3.0 s for it"),
            ("cannot open X: it is not there; waited 3.0 s for it", "Is it plugged in?", ""),
        ),
        (
            LineError("the recovery line needs the library gpiod, which is not installed: pip install 'x[gpiod]'"),
            ("the recovery line needs the library gpiod, which is not installed", "Run pip install 'x[gpiod]'", ""),
        ),
        (
            LineError("it stuck (Error: jammed. Check it.); look at the relay"),
            ("it stuck (Error: jammed. Check it.)", "Look at the relay", ""),
        ),
        (
            RecoveryNotEntered("long", Diagnosis("id", "It is so.", ("More.",), "Do this.")),
            ("It is so.", "Do this.", "id"),
        ),
    ],
)
def test_a_message_is_taken_apart_into_what_was_seen_and_what_to_do(error, finding):
    found = finding_of("lease", error)
    assert found.status == "wrong"
    assert found.seen.startswith(finding[0])
    assert found.advice.startswith(finding[1])
    assert "waited" not in found.advice
    assert found.cause == finding[2]
