"""What firmware prints when it dies: Zephyr's and TF-M's fault dumps and failed assertions, found in console text.

Sources: Zephyr, kernel/fatal.c (``>>> ZEPHYR FATAL ERROR``, thread, ``Halting system``), arch/arm/core/cortex_m/fault.c
(``***** MPU FAULT *****`` and what follows it), arch/arm/core/fatal.c (registers), include/zephyr/sys/__assert.h; nRF
Connect SDK, lib/fatal_error/fatal_error.c (``Resetting system``) and subsys/mpsl; TF-M, exception_info.c. A dump comes
through Zephyr's log in any of its styles, or by printk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pytest_nrfdfu.board.console_text import plain
from pytest_nrfdfu.board.line_times import TimedLine

__all__ = ["BEGINNING", "FaultDump", "faults_in", "plain", "quoted", "times"]

_STRAY_LINES = 8
"""Lines of other text in a row after which a dump has ended: other threads' output may come between its lines."""
_MOST_LINES = 80
"""Lines of a dump that are kept; one with all registers of the FPU has some 30."""
_PREFIX = re.compile(
    r"(?:\[[\d:.,]+\]\s*)?(?:<(?P<level>err|wrn|inf|dbg)> (?:(?P<source>\w+): )?|(?:^|\s)(?P<letter>[EWID]): )"
)
"""Of a log line: Zephyr's default style, or the minimal one, whose only prefix is the level's letter."""

_KIND = (
    r"(?:[A-Z]+ FAULT|[A-Z]+ ABORT|Debug monitor exception|Reserved Exception \( *-?\d+\)"
    r"|Spurious interrupt \(IRQ -?\d+\))"
)
"""Of an exception, as fault.c names them: other text between stars, such as a program's headings, is none."""
_STARS = re.compile(rf"\*{{5}} (?P<kind>{_KIND}) \*{{5}}")
_SHORT = re.compile(r"Fault! (?P<short>EXC #\d+)")
_FATAL = re.compile(r"ZEPHYR FATAL ERROR (?P<number>\d+)(?:: (?P<reason>.*?)(?: on CPU \d+)?)?\s*$")
_TFM = re.compile(r"(?<!ZEPHYR )FATAL ERROR: (?P<kind>[A-Z]\w*(?:F| f)ault)\b")
_ASSERTION = re.compile(r"ASSERTION FAIL (?:\[(?P<what>.*)\] )?@ (?P<where>\S+)")
_LIBRARY = re.compile(r"(?:MPSL|SoftDevice Controller) ASSERT: .*\S")
BEGINNING = re.compile(
    rf"\*{{5}} {_KIND}|{_SHORT.pattern}|ZEPHYR FATAL ERROR \d|ASSERTION FAIL (?:\[|@)|{_TFM.pattern}"
    r"|(?:MPSL|SoftDevice Controller) ASSERT: ",
)
"""Matches where a dump begins."""

_PC = re.compile(r"Faulting instruction address \(r15/pc\): (0x[0-9a-fA-F]+)|^\s+PC:\s+(0x[0-9a-fA-F]+)")
_THREAD = re.compile(r"Current thread: (?P<address>\S+)(?: \((?P<name>.*)\))?")
_ENDING = re.compile(r"(?P<what>Halting|Resetting) system")
_BOOT = re.compile(r"\*\*\* Booting |Starting (?:Direct-XIP )?bootloader\s*$")
_REGISTERS = re.compile(
    r"^\s*(?:r\d+/\w+|xpsr|fpscr|[sd]\[ ?\d+\]|EXC_RETURN(?: \(LR\))?|[RM]\d+|xPSR|[MP]SP(?:_NS)?|LR"
    r"|[CBHMUS]M?FSR|[BMS]M?FAR): "
)
_TFM_BODY = re.compile(
    r"Here is some context|Exception (?:came from|frame at)|\(Note that the exception|Callee saved register",
)
_DETAIL = re.compile(r"\s+\S|Fault ")
"""Of an error that the kernel logs, behind the prefix: it indents what explains the line above."""
_FAILED = "assertion"
"""The kind of a dump that an assertion began."""
_ENDS = {"Halting": "halted", "Resetting": "reset"}


@dataclass(frozen=True, slots=True)
class FaultDump:
    """A death of the firmware, as it told it itself. What it did not print is empty."""

    kind: str
    """``MPU FAULT``, ``assertion``, ``SecureFault``, ...; ``fatal error`` where nothing more exact was printed."""
    reason: str = ""
    """The kernel's word, such as ``CPU exception`` or ``Stack overflow``."""
    number: int | None = None
    """The kernel's number of the reason (K_ERR_..., Zephyr's fatal_types.h)."""
    pc: str = ""
    """The faulting instruction's address, as printed."""
    thread: str = ""
    """The thread that ran: its name, or its address where it has none."""
    details: tuple[str, ...] = ()
    """What the dump says about the kind: ``Data Access Violation``, ``MMFAR Address: 0x0``; an assertion's text."""
    ending: str = ""
    """``halted`` or ``reset``, if the firmware said what it does next."""
    survived: bool = False
    """Whether the firmware printed on, and nothing tells that it stopped: a failed assertion alone, whose handler
    (``assert_post_action``) came back or ended but a thread, as a test's does."""
    began: float = 0.0
    """When its first line came, on the clock of the lines."""
    lines: tuple[str, ...] = field(default=(), repr=False)
    """What was printed, without colours."""

    @property
    def cause(self) -> str:
        """The whole in a line: what, why, where, who."""
        parts = [self.kind + (f" ({', '.join(self.details)})" if self.details else "")]
        if self.reason and self.reason.lower() not in {"unknown error", self.kind.lower()}:
            parts.append(self.reason)
        if self.pc:
            parts.append(f"PC {self.pc}")
        if self.thread:
            parts.append(f"thread {self.thread}")
        if self.ending:
            parts.append(f"then {self.ending}")
        if self.survived:
            parts.append("and it went on")
        return ", ".join(parts)


@dataclass(slots=True)
class _Dump:
    """A dump on its way."""

    began: float
    kinds: list[str] = field(default_factory=list)
    reason: str = ""
    number: int | None = None
    pc: str = ""
    thread: str = ""
    details: list[str] = field(default_factory=list)
    ending: str = ""
    lines: list[str] = field(default_factory=list)
    went_on: bool = False
    """Whether other text came behind it, from the same run of the firmware."""
    stray: int = 0
    """Lines of other text since the last of its own."""
    message_follows: bool = False
    """Whether the last line was an assertion's first, whose message comes on a line of its own."""

    def finished(self) -> FaultDump:
        return FaultDump(
            kind=", ".join(dict.fromkeys(self.kinds)) or "fatal error",
            reason=self.reason,
            number=self.number,
            pc=self.pc,
            thread=self.thread,
            details=tuple(dict.fromkeys(self.details)),
            ending=self.ending,
            survived=self.went_on and set(self.kinds) == {_FAILED} and self.number is None and not self.ending,
            began=self.began,
            lines=tuple(self.lines),
        )

    def begin(self, text: str) -> bool:
        """Take a line that a dump may begin with; False if it is none."""
        if match := _FATAL.search(text):
            self.number, self.reason = int(match["number"]), match["reason"] or ""
        elif match := _ASSERTION.search(text):
            self.kinds.append(_FAILED)
            self.details.append(f"{match['what']} @ {match['where']}" if match["what"] else match["where"])
            self.message_follows = True
        elif match := _LIBRARY.search(text):
            self.kinds.append(_FAILED)
            self.details.append(match[0])
        elif match := _STARS.search(text) or _SHORT.search(text) or _TFM.search(text):
            self.kinds.append(match[1])
        else:
            return False
        return True

    def go_on(self, text: str) -> bool:
        """Take a line that belongs to a dump that has begun; False if it does not."""
        prefix = _PREFIX.search(text)
        body = text[prefix.end() :] if prefix else text
        message, self.message_follows = self.message_follows, False
        if match := _ENDING.search(body):
            self.ending = _ENDS[match["what"]]
        elif match := _PC.search(body):
            self.pc = self.pc or match[1] or match[2]
        elif match := _THREAD.search(body):
            name = match["name"]
            self.thread = name if name and name != "unknown" else match["address"]
        elif _REGISTERS.search(body) or _TFM_BODY.search(body):
            pass
        elif (message and body[:1].isspace()) or (prefix and _is_error(prefix) and _DETAIL.match(body)):
            self.details.append(body.strip())
        else:
            return False
        return True


def _is_error(prefix: re.Match[str]) -> bool:
    """Whether a log line is the kernel's, or anybody's where the style has no names."""
    return prefix["letter"] == "E" or (prefix["level"] == "err" and prefix["source"] in {"os", "fatal_error"})


def faults_in(lines: Iterable[TimedLine]) -> list[FaultDump]:
    """Every dump in console text, in order. What is printed between is skipped."""
    found: list[FaultDump] = []
    dump: _Dump | None = None
    for line in lines:
        text = plain(line.text)
        if dump is not None and _is_over(dump, text):
            found.append(dump.finished())
            dump = None
        if dump is None:
            candidate = _Dump(line.time)
            if not candidate.begin(text):
                continue
            dump = candidate
        elif not (dump.begin(text) or dump.go_on(text)):
            dump.stray += 1
            dump.went_on |= bool(text.strip())
            continue
        dump.stray = 0
        if len(dump.lines) < _MOST_LINES:
            dump.lines.append(text)
    return [*found, dump.finished()] if dump is not None else found


def _is_over(dump: _Dump, text: str) -> bool:
    """Whether `text` cannot belong to `dump` any more."""
    if dump.ending or dump.stray >= _STRAY_LINES or _BOOT.search(text):
        return True
    return dump.number is not None and any(rule.search(text) for rule in (_FATAL, _STARS, _SHORT, _ASSERTION, _TFM))


def quoted(faults: Sequence[FaultDump]) -> str:
    """Dumps for people: the cause of each, and its lines below it. Those that are like one before are counted."""
    alike: dict[tuple[str, ...], list[FaultDump]] = {}
    for fault in faults:  # without the end, which may be cut off, and the lines, which may have the log's times
        alike.setdefault((fault.kind, fault.reason, fault.pc, fault.thread, *fault.details), []).append(fault)
    parts: list[str] = []
    for first, *more in alike.values():
        parts.append("\n  ".join((first.cause, *first.lines)))
        if more:
            parts.append(f"The same {times(len(more))} more, the last {more[-1].began - first.began:.2f} s later")
    return "\n".join(parts)


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"
