"""What was tried and seen while a board did not enter serial recovery. Facts alone; `diagnosis` makes sense of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.config_types import Entry, ResetKind
from pytest_nrfdfu.errors import BoardError, LineError, NrfDfuError, ProbeError, UartError

__all__ = ["Attempt", "Evidence", "Heard"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One entry that was tried. `problem`: why it did not lead to recovery, in words."""

    entry: Entry
    reset: ResetKind | None
    problem: str
    bench: bool = False
    """The rig failed (probe, line, power, port), so that the entry was not really tried."""


@dataclass(slots=True)
class Heard:
    """What came in on the UART since the first attempt."""

    received: bytes = b""
    """Everything, the last 4096 bytes of it."""
    sent: bytes = b""
    """What the host sent, the last 4096 bytes of it."""
    text: str = ""
    """The part that is console text."""
    broken_frames: int = 0
    application_answers: int = 0
    """SMP answers that came from the running application."""
    flags_without_split_status: bool = False
    """Such an answer had flags as MCUboot writes them, and no splitStatus: a bootloader with image state."""
    readable_at: int | None = None
    """Another baud rate at which what came was readable text or SMP; None if none was found or looked for."""
    answers_at: int | None = None
    """Another baud rate at which MCUboot answered after the entry; None if none was found or looked for."""
    gone: str = ""
    """The port was lost: the system's words."""


@dataclass(slots=True)
class Evidence:
    """All that is known after every entry has failed."""

    attempts: list[Attempt] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)
    reset_causes: int | None = None
    """RESETREAS as read by the probe, None where it could not be read."""
    pin: str = ""
    """The recovery pin's name, such as ``P0.23``; empty where nobody tells."""
    pin_unread: str = ""
    """Why its level was not read, although there is a line; empty if it was."""
    pin_low: bool | None = None
    """Its level while the recovery line was asserted, as the chip sees it; None: not read."""
    line_level: bool | None = None
    """The level that the line's driver reads back while asserted (True: active), where it can."""
    chip: ChipState | None = None
    chip_problem: str = ""
    """Why `chip` is None although there is a probe."""
    slot_has_image: bool | None = None
    """Whether the image's slot begins with MCUboot's magic, as the probe reads it; None: not read."""
    port_trouble: list[str] = field(default_factory=list)
    """Known troubles of this host with this port, each a sentence with its remedy."""

    # Found by looking once more after the last entry had failed.
    causes: dict[Entry, str] = field(default_factory=dict)
    """Of entries whose bench failed: ``port``, ``line``, ``probe-`` with the probe's own cause, or ``rig``."""
    chip_cause: str = ""
    """The stable cause of `chip_problem`."""
    pin_low_released: bool | None = None
    """The level at the recovery pin with the line released, as the chip sees it; None: not read."""
    reset_seen: bool | None = None
    """Whether the core was reset by the reset that the entry uses (DHCSR.S_RESET_ST); None: not read."""
    after_reset: bytes | None = None
    """What came after one more reset, without any entry; None: that was not tried."""
    other_reset: ResetKind | None = None
    """What `after_reset` came after, where the reset that the entry uses had shown nothing; else None."""
    boot_mode_left: bytes | None = None
    """The retained boot mode after the entry boot-mode had failed; None: not read."""
    came_back: bool = False
    """The application answered again after an OS reset with a boot mode."""
    nobody: bool = False
    """There is no person at a terminal to ask."""

    def failed(self, entry: Entry, reset: ResetKind | None, error: NrfDfuError) -> None:
        """An entry has failed."""
        bench = isinstance(error, BoardError)
        self.attempts.append(Attempt(entry, reset, str(error), bench=bench))
        if bench:
            self.causes[entry] = _cause(error)
        if isinstance(error, UartError):
            self.heard.gone = str(error)

    def tried(self, entry: Entry) -> bool:
        """Whether an entry was tried and the rig did all of its part."""
        return any(attempt.entry == entry and not attempt.bench for attempt in self.attempts)

    @property
    def only_bench(self) -> bool:
        """Whether the rig failed at every entry."""
        return bool(self.attempts) and all(attempt.bench for attempt in self.attempts)


def _cause(error: NrfDfuError) -> str:
    match error:
        case UartError():
            return "port"
        case LineError():
            return "line"
        case ProbeError():
            return f"probe-{getattr(error, 'cause', '') or 'failed'}"
        case _:
            return "rig"
