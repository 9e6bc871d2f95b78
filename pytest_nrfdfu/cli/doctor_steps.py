"""The parts of a bench in the order in which the doctor tries them, and what each trial shows.

Nothing in flash is changed, unless a window is measured (`doctor_window`): the entry no-application, which may erase an
image's header, only resets here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from pytest_nrfdfu.board.boot import banner_line, boot
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.trial import Trial
from pytest_nrfdfu.cli.doctor_bench import Bench
from pytest_nrfdfu.cli.doctor_findings import BLOCKED, Finding, Skipped, Step, finding_of
from pytest_nrfdfu.cli.doctor_window import try_window
from pytest_nrfdfu.config_types import Entry
from pytest_nrfdfu.errors import BoardError, NrfDfuError, SmpError

__all__ = ["PARTS", "tried"]

_CHIP_CAUSES = frozenset({"no-power", "wrong-chip", "fault", "locked", "secure-locked"})
"""Causes of a ProbeError that are the chip's: the probe itself answered."""
_DHCSR, _S_RESET_ST = 0xE000EDF0, 1 << 25
"""The sticky reset status, which reading clears (Armv8-M Architecture Reference Manual, DDI 0553)."""
_LISTEN = 3.0
"""Seconds at most that a board gets to show its banner after a reset."""
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
        if status != "fine":
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
        "wrong" if len(barred) == len(entries) else "fine",
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
    try:
        rig.set_line("recovery", asserted=True)
        asserted = rig.line_level("recovery")
    finally:
        rig.set_line("recovery", asserted=False)
    released = rig.line_level("recovery")
    if asserted is False or released is True:
        state = "asserted and reads inactive" if asserted is False else "released and still reads active"
        return Finding(
            "wrong",
            f"the recovery line was {state}",
            "Something else drives it, or it is shorted: look at the wire, and at active in [recovery.line].",
            "line-level",
        )
    read_back = "read back as such" if asserted is not None else "which its driver cannot read back"
    more = "; the reset line is inactive" if "reset" in names else ""
    return Finding("fine", f"the recovery line was asserted and released, {read_back}{more}")


def _reset(bench: Bench) -> Finding:
    unit, kind = bench.unit, bench.reset_kind
    if kind is None:
        raise Skipped("no entry is configured that resets the board by the rig")
    if missing := bench.lacks_reset(kind):
        raise Skipped(f"a reset by {kind} needs {missing}")
    readable = bench.chip is not None and bench.chip.readable
    if readable:
        unit.rig.read32(_DHCSR)
    position = unit.console_uart.console.position
    Trial(unit).reset(kind)
    banner = bench.statuses["port"] == "fine" and _banner(bench, position)
    if readable and not unit.rig.read32(_DHCSR) & _S_RESET_ST and not banner:
        return Finding(
            "wrong",
            f"a reset by {kind} was done, and the core was not reset",
            "Look at the wire to nRESET, and that the probe is one that drives it; reset = 'ctrl-ap' or 'system' need"
            " none, but MCUboot ignores its pin after them.",
            "reset-not-connected",
        )
    if banner:
        return Finding("fine", f"{kind}; the application's banner came")
    if readable:
        return Finding("fine", f"{kind}; the core was reset, and no application showed a banner")
    return Finding("unknown", f"{kind} was done; nothing was heard, so nobody can tell whether the board was reset")


def _banner(bench: Bench, position: int) -> bool:
    """Whether the application's banner comes."""
    unit = bench.unit
    with suppress(BoardError):
        pattern = re.compile(unit.config.console.banner)
        return unit.console_uart.console.wait_for(pattern, position, min(_LISTEN, unit.config.boot.timeout)) is not None
    return False


def _recovery(bench: Bench) -> Finding:
    config, unit = bench.config, bench.unit
    lacking = {entry: bench.lacks(entry) for entry in config.recovery.entry}
    possible = tuple(entry for entry, missing in lacking.items() if not missing)
    left_out = tuple(f"The entry {entry} was not tried: it needs {what}." for entry, what in lacking.items() if what)
    if not possible:
        raise Skipped(" ".join(left_out))
    failed: dict[Entry, Finding] = {}
    for entry in possible:
        recovery = config.recovery.model_copy(update={"entry": (entry,), "allow_erase_header": False})
        unit.config = config.model_copy(update={"recovery": recovery})
        try:
            bench.entered = enter(unit)
        except BoardError as error:
            failed[entry] = finding_of("recovery", error)
        else:
            break
        finally:
            unit.config = config
    if bench.entered is None:
        return _not_entered(failed, left_out)
    passed = tuple(f"{entry} does not work: {found.seen} {found.advice}" for entry, found in failed.items())
    seen = f"by {bench.entered.method}; MCUboot answered after {bench.entered.seconds:.2f} s"
    return Finding("fine", seen, details=passed + left_out)


def _not_entered(failed: Mapping[Entry, Finding], left_out: tuple[str, ...]) -> Finding:
    """The conclusion of the first entry, those of the others, and what was seen: without what has a part of its own."""
    first, *others = failed.values()
    details = tuple(text for text in first.details if not text.startswith("The probe ("))
    if not others:
        return first._replace(details=details + left_out)
    entry, *more = failed
    conclusions = []
    for other, found in zip(more, others, strict=True):
        same = found.cause == first.cause
        conclusions.append(f"{other}: the same." if same else f"{other}: {found.seen} {found.advice}")
        details += tuple(text for text in found.details if text.startswith("Tried "))
    return first._replace(seen=f"{entry}: {first.seen}", details=(*conclusions, *details, *left_out))


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
    "recovery": _recovery,
    "image list": _images,
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
    "window": ("lease", "simulator"),
    "leave recovery": ("recovery",),
    "console": ("leave recovery",),
}
