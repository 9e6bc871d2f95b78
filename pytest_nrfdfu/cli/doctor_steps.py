"""The parts of a bench in the order in which the doctor tries them, and what each trial shows.

Nothing in flash is changed, unless a window is measured (`doctor_window`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Literal

from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.case import Case
from pytest_nrfdfu.board.evidence import Attempt, Evidence
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.pin_look import PinLook, look_at_pin
from pytest_nrfdfu.board.rules_rig import look_at_reset, pin_does_not_follow
from pytest_nrfdfu.board.trial import Trial
from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import BLOCKED, Finding, Skipped, Step, finding_of
from pytest_nrfdfu.cli.doctor_link import try_link
from pytest_nrfdfu.cli.doctor_recovery import try_recovery
from pytest_nrfdfu.cli.doctor_window import try_window
from pytest_nrfdfu.errors import BoardError, NrfDfuError, ProbeError, SmpError

__all__ = ["PARTS", "tried"]

_CHIP_CAUSES = frozenset({"no-power", "wrong-chip", "fault", "locked", "secure-locked"})
"""Causes of a ProbeError that are the chip's: the probe itself answered."""
_DHCSR, _S_RESET_ST = 0xE000EDF0, 1 << 25
"""The sticky reset status, which reading clears (Armv8-M Architecture Reference Manual, DDI 0553)."""
_LISTEN = 3.0
"""Seconds at most that a board gets to show its banner after a reset."""
_ASK_EVERY, _ASK_FOR = 0.06, 0.18
"""Seconds between requests after a reset, and after which is looked for the banner: the window in which a bootloader
waits for a request (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU) is half a second by default."""
_LOOK = 0.02
"""Seconds."""
_HASH_SHOWN = 12
"""Digits of an image's hash."""
_SHOWN = 70
"""Characters of a console line."""


def tried(bench: Bench, began: Callable[[str], None]) -> Iterator[Step]:
    """Try each part in order; `began` is told the name of the part that is tried next."""
    for name, trial in PARTS.items():
        if not bench.has(name):
            continue
        began(name)
        start = time.monotonic()
        try:
            finding = _blocked(bench, name) or trial(bench)
        except Skipped as reason:
            finding = Finding("skipped", str(reason))
        except NrfDfuError as error:
            finding = finding_of(name, error)
        bench.statuses[name] = finding.status
        yield Step(name, finding, time.monotonic() - start)


def _blocked(bench: Bench, name: str) -> Finding | None:
    """Skipped, where a part that this one needs does not work."""
    for need in filter(bench.has, _NEEDS.get(name, ())):
        status = bench.statuses.get(need)
        if status not in {"fine", "warning"}:
            why = "does not work" if status == "wrong" else "was not tried"
            return Finding("skipped", f"it needs the part {need!r}, which {why}", cause=BLOCKED)
    return None


# --- one part each --------------------------------------------------------------------------------------------------


def _config(bench: Bench) -> Finding:
    recovery = bench.config.recovery
    resets = ", ".join(
        entry if entry in {"smp", "manual"} else f"{entry} by reset {recovery.reset_for(entry)}"
        for entry in recovery.entry
    )
    advice = ""
    if not recovery.has_way_back:
        advice = "Every entry needs a running application: an upload cut off halfway would leave no way back in."
    return Finding("fine", f"{bench.source.file}; entries: {resets}", advice)


def _lease(bench: Bench) -> Finding:
    told = bench.lease()
    if not bench.has("simulator"):
        bench.compose()
    return Finding("fine", told)


def _simulator(bench: Bench) -> Finding:
    bench.simulate()
    bench.compose()
    return Finding("fine", "started for this run")


def _port(bench: Bench) -> Finding:
    unit = bench.unit
    uart = unit.uart
    if uart.transient and not uart.try_open():
        return Finding("fine", f"{uart.port} is not there now; it comes with the bootloader")
    uart.open()
    unit.console_uart.open()
    device = uart.device or uart.port
    named = device if device == uart.port else f"{uart.port} is {device}"
    console = "" if unit.console_uart is uart else f"; console: {unit.console_uart.port}"
    return Finding("fine", f"{named}, {uart.baudrate} baud{console}", " ".join(uart.trouble()))


def _power(bench: Bench) -> Finding:
    bench.start_rig()
    if bench.power_error is not None:
        raise bench.power_error
    return Finding("fine", "the supply was switched on")


def _probe(bench: Bench) -> Finding:
    bench.start_rig()
    if bench.config.probe is None:
        raise Skipped("no probe is configured")
    if bench.probe_error is None:
        try:
            bench.chip = bench.unit.rig.chip_state()
        except BoardError as error:
            if getattr(error, "cause", "") not in _CHIP_CAUSES:
                raise
            bench.probe_error = error  # type: ignore[assignment]
    elif bench.probe_error.cause not in _CHIP_CAUSES:
        raise bench.probe_error
    if bench.chip is None:
        return Finding("fine", "the probe answers")
    chip = bench.chip
    firmware = f", firmware {chip.firmware}" if chip.firmware else ""
    return Finding("fine", f"{chip.product} {chip.probe}{firmware}; pyOCD {chip.pyocd}")


def _chip(bench: Bench) -> Finding:
    if bench.probe_error is not None:
        raise bench.probe_error
    chip = bench.chip
    if chip is None:  # pragma: no cover - the probe has told, or raised
        raise Skipped("the probe did not tell")
    seen = f"nRF5340; application core {chip.application}, network core {chip.network}"
    entries = bench.config.recovery.entry
    barred = [entry for entry in entries if bench.needs_open_chip(entry)]
    if chip.readable or not barred:
        return Finding("fine", seen)
    return Finding(
        "wrong" if len(barred) == len(entries) else "warning",
        f"{seen}; the debugger cannot reach the registers that the entry {' and '.join(barred)} needs",
        "Use an entry that works on a locked chip (gpio, smp), or unlock it with your own tools, which erases it.",
        f"chip-{chip.application}",
    )


def _line(bench: Bench) -> Finding:
    bench.start_rig()
    if bench.line_error is not None:
        raise bench.line_error
    rig = bench.unit.rig
    names = rig.line_names
    if not names:
        raise Skipped("no line is configured")
    if "recovery" not in names:
        return Finding("fine", "the reset line could be opened and is inactive")
    look = bench.pin = _look(bench)
    if look.line_level is False or look.line_level_released is True:
        state = "asserted and reads inactive" if look.line_level is False else "released and still reads active"
        return Finding(
            "wrong",
            f"the recovery line was {state}",
            "Something else drives it, or it is shorted: look at the wire, and at active in [recovery.line].",
            "line-level",
        )
    if look.low is False:
        bench.line_finding = _does_not_follow(bench, look)
        return bench.line_finding
    read_back = "read back as such" if look.line_level is not None else "which its driver cannot read back"
    more = "; the reset line is inactive" if "reset" in names else ""
    return Finding("fine", f"the recovery line was asserted and released, {read_back}{more}", *_of_the_pin(look))


def _look(bench: Bench) -> PinLook:
    """The line asserted and released, with a look at the pin where the probe can."""
    try:
        return look_at_pin(bench.unit, bench.chip)
    except ProbeError:
        return look_at_pin(bench.unit, None)


def _does_not_follow(bench: Bench, look: PinLook) -> Finding:
    """The diagnosis of a failed entry judges a pin that is high while the line is asserted; here it is told early."""
    attempt = Attempt("gpio", None, "")
    seen = Evidence([attempt], pin=look.pin, pin_low=look.low, pin_low_released=look.low_released)
    advice = pin_does_not_follow(Case(seen, bench.config))
    assert advice is not None
    return Finding("wrong", advice.sentence, advice.remedy, advice.cause)


def _of_the_pin(look: PinLook) -> tuple[str, str, tuple[str, ...]]:
    """Advice, cause and details about a pin that follows its line, or was not looked at."""
    if look.follows:
        return "", "", (f"The pin that MCUboot looks at ({look.pin}) went low and high with it.",)
    if look.low and look.low_released:
        advice = f"{look.pin} reads low with the line released as well: it has no pull-up now, or something holds it."
        return advice, "", ()
    named = look.pin or "The pin that MCUboot looks at"
    key = (
        "" if look.pin else '; name it (pin = "P0.23" or what mcuboot-button0 is, in [recovery]), and a probe can look'
    )
    return "", "", (f"{named} was not looked at: {look.unread}{key}.",)


def _reset(bench: Bench) -> Finding:
    unit, kind = bench.unit, bench.reset_kind
    if kind is None:
        raise Skipped("no entry is configured that resets the board by the rig")
    if missing := bench.lacks_reset(kind):
        raise Skipped(f"a reset by {kind} needs {missing}")
    readable = bench.chip is not None and bench.chip.readable
    if readable:
        unit.rig.read32(_DHCSR)
    before = bench.statuses["port"] == "fine" and _is_in_recovery(bench)
    position = unit.console_uart.console.position
    Trial(unit).reset(kind)
    heard = _heard(bench, position) if bench.statuses["port"] == "fine" else ""
    if heard == "MCUboot" and not before:
        bench.enters_without = kind
    if readable and not unit.rig.read32(_DHCSR) & _S_RESET_ST and heard != "banner":
        return Finding(
            "wrong",
            f"a reset by {kind} was done, and the core was not reset",
            f"L{look_at_reset(kind)[1:]}; reset = 'ctrl-ap' or 'system' need SWD alone, but MCUboot ignores its pin"
            " after them.",
            "reset-not-connected",
        )
    if heard == "banner":
        return Finding("fine", f"{kind}; the application's banner came")
    answers = "; MCUboot answered after it, without any entry" if heard else ""
    if heard and before:
        answers = "; MCUboot answered after it, and before it already: the board had been left in recovery"
    if readable:
        return Finding("fine", f"{kind}; the core was reset{answers or ', and no application showed a banner'}")
    return Finding("unknown", f"{kind} was done{answers}; nobody can tell from here whether the board was reset")


def _is_in_recovery(bench: Bench) -> bool:
    """Whether the board has been left in recovery: what answers after a reset shows nothing then."""
    unit = bench.unit
    with suppress(BoardError, SmpError):
        states = unit.client.poll_images(_ASK_EVERY, time.monotonic() + _ASK_FOR)
        return from_recovery(states, has_state=unit.profile.image_state)
    return False


def _heard(bench: Bench, position: int) -> Literal["banner", "MCUboot", ""]:
    """What comes after a reset without any entry: the banner, or, through a window for updates, MCUboot's answer."""
    unit = bench.unit
    console, pattern = unit.console_uart.console, re.compile(unit.config.console.banner)
    deadline = time.monotonic() + min(_LISTEN, unit.config.boot.timeout)
    with suppress(BoardError):
        while time.monotonic() < deadline:
            with suppress(SmpError):
                states = unit.client.poll_images(_ASK_EVERY, min(deadline, time.monotonic() + _ASK_FOR))
                if from_recovery(states, has_state=unit.profile.image_state):
                    return "MCUboot"
            if console.wait_for(pattern, position, _LOOK) is not None:
                return "banner"
    return ""


def _images(bench: Bench) -> Finding:
    unit = bench.unit
    states = bench.entered.images if bench.entered is not None else unit.client.images()
    if not states.images:
        return Finding("fine", "it lists no image: no slot holds a valid one")
    listed = [
        f"slot {image.slot}" + (f" of image {image.image}" if image.image else "") + f": {image.version}"
        f" ({image.hash.hex()[:_HASH_SHOWN] if image.hash is not None else 'no hash'})"
        for image in states.images
    ]
    advice = ""
    if all(image.hash is None for image in states.images):
        advice = "Build MCUboot with CONFIG_BOOT_SERIAL_IMG_GRP_HASH: without hashes no update can be proved."
    return Finding("fine", ", ".join(listed), advice)


def _leave(bench: Bench) -> Finding:
    unit = bench.unit
    bench.booted_from = unit.console_uart.console.position
    if bench.entered is None:
        raise Skipped("the image that was uploaded is not proved; the board was left in recovery")
    if bench.entered.images.find(slot=0) is None:
        with suppress(SmpError):
            unit.client.reset()
        raise Skipped("slot 0 holds no valid image, so there is nothing to start; the board was reset")
    bench.booted_by = boot(unit)
    return Finding("fine", f"the application runs, seen by {bench.booted_by}")


def _console(bench: Bench) -> Finding:
    unit = bench.unit
    if banner := banner_line(unit, bench.booted_from).strip():
        return Finding("fine", banner[:_SHOWN])
    text = unit.console_uart.console.since(bench.booted_from).strip()
    if not text:
        raise Skipped("the application runs and prints nothing on this port; [console] port may be another")
    return Finding(
        "fine",
        f"{len(text)} characters, the last line {text.splitlines()[-1][:_SHOWN]!r}",
        "No line is the banner: set banner in [console] to what your application prints when it starts.",
    )


PARTS: Mapping[str, Callable[[Bench], Finding]] = {
    "config": _config,
    "lease": _lease,
    "simulator": _simulator,
    "port": _port,
    "power": _power,
    "probe": _probe,
    "chip identity": _chip,
    "line": _line,
    "reset": _reset,
    "recovery": try_recovery,
    "image list": _images,
    "link": try_link,
    "window": try_window,
    "leave recovery": _leave,
    "console": _console,
}
"""In the order in which they are tried."""
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "simulator": ("lease",),
    "port": ("lease", "simulator"),
    "power": ("lease", "simulator"),
    "probe": ("lease", "simulator"),
    "chip identity": ("probe",),
    "line": ("lease", "simulator"),
    "reset": ("lease", "simulator"),
    "recovery": ("port",),
    "image list": ("recovery",),
    "link": ("recovery",),
    "window": ("lease", "simulator"),
    "leave recovery": ("recovery",),
    "console": ("leave recovery",),
}
