"""The unit's child process, seen from pytest: it owns the debug probe, the control lines and the power switch.

pyOCD prints, prompts, changes directory, and may hang in a USB driver; so it lives in a child, and every call has a
deadline after which the child is killed and replaced.

What is asserted (lines, nRESET, power switched off) is released in every way that a run can end:

- A test or a run ends, or fails: it is released before the next begins.
- pytest is killed: the child sees its pipe close, releases everything and ends. An operation of the probe that is
  going on gets 0.7 s to end, an external command for a line is then cut off.
- The child dies or is killed with pytest (the whole process group with SIGKILL, the host's end): nobody is left to
  release anything. A line of a serial adapter goes high when its port closes, which is inactive where it is active low,
  and a probe on the network lets go of nRESET when the connection ends. But a serial line that is active high (see
  `lines`) and a GPIO line stay as they were driven, a relay or a power strip stays switched, the nRESET of a probe on
  USB may stay low, and a core that was caught at its reset vector stays halted: until the next run on this unit. Its
  child begins by forcing lines inactive and power on, releasing nRESET, and letting the core run. So commands for lines
  and power must do no harm when they are run twice.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pytest_nrfdfu.board.chip_state import ChipState, CoreState
from pytest_nrfdfu.board.rig_pipe import ChildGone, Pipe
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_lines import LineConfig
from pytest_nrfdfu.config_types import ResetKind
from pytest_nrfdfu.errors import BoardError, LineError, ProbeError

__all__ = ["Rig"]

T = TypeVar("T")

_START_TIMEOUT = 15.0
"""pyOCD's import takes about a second; a loaded machine needs more."""
_CALL_TIMEOUT = 10.0
_COMMAND_TIMEOUT = 9.0
"""What an external command takes at most, and a little more (`lines.COMMAND_TIMEOUT`)."""
_CLOSE_TIMEOUT = 5.0
_KILL_TIMEOUT = 2.0
"""What a child that hangs gets to release its lines; it gives a running call 0.7 s of it."""
_WORD = range(1 << 32)
_LINE_METHODS = frozenset({"set_line", "line_level", "release", "power", "power_cycle"})
_LINE_RESETS = frozenset({"line", "power", "command"})
_PROBE_SOFT_RESETS = frozenset({"system", "ctrl-ap"})


class Rig:
    """Probe, lines and power of one unit. Not thread-safe: one owner at a time."""

    def __init__(self, config: BoardConfig, name: str) -> None:
        self.name = name
        lines = {"recovery": config.recovery.line, "reset": config.reset.line}
        self._lines = {key: _line_settings(line) for key, line in lines.items() if line is not None}
        self._probe = config.probe
        self._power = config.power
        self._reset_command = config.reset.command
        self._hold = config.reset.hold
        self._pipe: Pipe | None = None

    @property
    def has_probe(self) -> bool:
        """Whether a probe is configured."""
        return self._probe is not None

    @property
    def has_power(self) -> bool:
        """Whether the board's supply can be switched."""
        return self._power is not None

    @property
    def takes_usb(self) -> bool:
        """Whether switching power takes probe and port away, and they must be closed before."""
        return self._power is not None and self._power.takes_usb

    @property
    def line_names(self) -> tuple[str, ...]:
        """The lines that are wired: ``recovery``, ``reset``."""
        return tuple(self._lines)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything for it to own: probe, line, power switch or reset command."""
        return self.has_probe or self.has_power or bool(self._lines) or self._reset_command is not None

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the child: it opens the lines, inactive, switches power on, and repairs what an earlier one left."""
        if self.pid is None:
            self._started()

    def _started(self) -> Pipe:
        self.stop()
        pipe = self._pipe = Pipe(self.name)
        settings = {
            "probe": self._probe.model_dump() if self._probe is not None else None,
            "lines": self._lines,
            "power": self._power.model_dump() if self._power is not None else None,
            "reset_command": self._reset_command,
            "hold": self._hold,
        }
        seconds = _START_TIMEOUT + self._switch_time(1) + self._command_time(*self._lines)
        try:
            pipe.exchange("start", settings, seconds)
        except ChildGone as gone:
            self._end(gone)
            raise self._gone_error("start", gone, "it was ended", probe=self.has_probe) from None
        except BoardError:
            self.stop()
            raise
        return pipe

    def stop(self) -> None:
        """Release everything and end the child."""
        self._end(None)

    def _end(self, gone: ChildGone | None) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        hangs = gone is not None and gone.hangs
        pipe.end(_KILL_TIMEOUT if hangs else _CLOSE_TIMEOUT, died=gone is not None and not hangs)

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        return self._pipe.pid if self._pipe is not None else None

    # --- lines and power --------------------------------------------------------------------------------------------

    def set_line(self, name: str, *, asserted: bool) -> None:
        """Drive a line to its active level, or let it go."""
        self.call("set_line", name=name, asserted=asserted)

    def line_level(self, name: str) -> bool | None:
        """Whether the active level is at the line's pin, as its driver reads it back; None where it cannot."""
        level = self.call("line_level", name=name)
        if not (level is None or isinstance(level, bool)):
            raise self._replaced("line_level", Pipe.nonsense(level))
        return level

    def release(self) -> None:
        """Let go of all lines, and switch power on if it is off."""
        self.call("release", deadline=_CALL_TIMEOUT + self._switch_time(1) + self._command_time(*self._lines))

    def power(self, on: bool) -> None:  # noqa: FBT001 - reads as power(False)
        """Switch the board's supply. Where that takes USB away: on waits for the probe, the port is the caller's."""
        self.call("power", deadline=_CALL_TIMEOUT + self._switch_time(1), on=on)

    def power_cycle(self) -> None:
        """Off, the configured time to settle, and on, as `power`."""
        self.call("power_cycle", deadline=_CALL_TIMEOUT + self._switch_time(2))

    def _switch_time(self, commands: int) -> float:
        """Seconds that so many commands of the power switch may take, with what comes after them."""
        if self._power is None:
            return 0.0
        return commands * _COMMAND_TIMEOUT + self._power.settle + self._power.usb_timeout * self._power.takes_usb

    def _command_time(self, *names: str) -> float:
        """Seconds that lines may take to be set once each, where an external command does it."""
        return sum(_COMMAND_TIMEOUT for name in names if self._lines.get(name, {}).get("driver") == "command")

    # --- resets -----------------------------------------------------------------------------------------------------

    def reset(self, method: ResetKind = "pin") -> None:
        """Reset the target.

        ``pin``: nRESET by the probe. ``system`` and ``ctrl-ap``: soft resets by the probe, the latter of a locked chip
        too. ``line``: the reset line. ``power``: a power cycle. ``command``: the command in [reset]. Nothing is waited
        for. The kind ``smp`` is not the rig's: the application is asked for it.
        """
        if method == "smp":
            raise ValueError("a reset by SMP is asked of the application, not of the rig")
        more = self._hold
        if method == "power":
            more = self._switch_time(2)
        elif method == "line":
            more += self._command_time("reset", "reset")  # asserted and released
        self.call("reset", deadline=_CALL_TIMEOUT + more, kind=method)

    def reset_with_causes_cleared(self, kind: ResetKind) -> None:
        """A soft reset (``system`` or ``ctrl-ap``) after which RESETREAS reads 0 from the first instruction on.

        Not tried on hardware.
        The probe catches the core at its reset vector, clears RESETREAS and lets the core run, also when that fails.
        ProbeError with the cause ``locked`` or ``secure-locked``, before anything is done, on a chip that is not open.
        """
        if kind not in _PROBE_SOFT_RESETS:
            raise ValueError(f"after a reset by {kind} the probe clears no causes; use system or ctrl-ap")
        self.call("reset_with_causes_cleared", kind=kind)

    # --- probe ------------------------------------------------------------------------------------------------------

    def probe_info(self) -> dict[str, Any]:
        """Probe and chip, in words and numbers.

        ``unique_id``, ``product``, ``firmware`` and ``library`` (its driver's version) of the probe, empty where it
        does not tell; ``pyocd``; ``ctrl_ap_idr``, ``application`` and ``network`` (a `CoreState` each) and ``open``
        (whether all of the application core is) of the chip.
        """
        return self._checked("probe_info", dict)

    def chip_state(self) -> ChipState:
        """Who the probe is and what of the chip is open; ProbeError with a cause and advice if that cannot be told."""
        info = self.probe_info()
        texts = [info.get(key) for key in ("unique_id", "product", "firmware", "pyocd", "application", "network")]
        state = ChipState(*(text if isinstance(text, str) else "" for text in texts))  # type: ignore[arg-type]
        if not {state.application, state.network} <= {*get_args(CoreState)}:
            raise self._replaced("probe_info", Pipe.nonsense(info))
        return state

    def read32(self, address: int) -> int:
        """A word of the target's memory."""
        value = self._checked("read32", int, address=address)
        if value not in _WORD:
            raise self._replaced("read32", Pipe.nonsense(value))
        return value

    def write32(self, address: int, value: int) -> None:
        """Write a word of the target's memory (RAM and registers; flash is not written through the probe)."""
        self.call("write32", address=address, value=value)

    def erase_page(self, address: int) -> None:
        """Erase one 4 KiB page of the application core's flash. Only the entry no-application does that, when allowed.

        ProbeError with the cause ``locked`` or ``secure-locked``, before anything is done, on a chip that is not open.
        """
        self.call("erase_page", address=address)

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(self, method: str, /, *, deadline: float = _CALL_TIMEOUT, **arguments: Any) -> Any:
        """One call to the child; BoardError (ProbeError, LineError) if it fails or takes longer than `deadline` s."""
        pipe = self._pipe or self._started()
        try:
            return pipe.exchange(method, arguments, deadline)
        except ChildGone as gone:
            raise self._replaced(method, gone, arguments) from None

    def _checked(self, method: str, kind: type[T], **arguments: Any) -> T:
        """A call whose result must be of a type."""
        value = self.call(method, **arguments)
        if not isinstance(value, kind):
            raise self._replaced(method, Pipe.nonsense(value))
        return value

    def _replaced(self, method: str, gone: ChildGone, arguments: dict[str, Any] | None = None) -> BoardError:
        """End a child that cannot be used any more and start a fresh one, which repairs; the error for the caller."""
        self._end(gone)
        try:
            self.start()
            outcome = "it was replaced, and everything released"
        except BoardError as trouble:  # which must not hide the first
            outcome = f"a fresh one cannot work either, so lines may still be asserted ({trouble})"
        by_line = method in _LINE_METHODS or (arguments or {}).get("kind") in _LINE_RESETS
        return self._gone_error(method, gone, outcome, probe=not by_line)

    def _gone_error(self, method: str, gone: ChildGone, outcome: str, *, probe: bool) -> BoardError:
        text = f"{self.name}: the process that owns probe and lines was asked for {method}: {gone}; {outcome}."
        if not gone.hangs:
            advice = "see what it said"
        elif not probe:
            advice = "its driver or command hangs"
        elif (self._probe.unique_id or "" if self._probe else "").startswith("remote:"):
            advice = "the probe's driver hangs: check the network, and restart the probe server"
        else:
            advice = "the probe's driver hangs: unplug the probe and plug it in again"
        text += f" If this happens again, {advice}"
        return ProbeError(text, cause="hangs" if gone.hangs else "died") if probe else LineError(text)


def _line_settings(line: LineConfig) -> dict[str, Any]:
    return line.model_dump(by_alias=True, mode="json")
