"""What connects a simulated board with its bench: supply, control lines, probe; and what can be wrong with each."""

from __future__ import annotations

from collections.abc import Callable

from pytest_nrfdfu.config_faults import SimFault
from pytest_nrfdfu.sim.board import SimBoard
from pytest_nrfdfu.sim.control import Line
from pytest_nrfdfu.sim.dap import Dap
from pytest_nrfdfu.sim.link import Link

__all__ = ["FAULTS", "Wiring"]

FAULTS: dict[SimFault, str] = {
    "uart-silent": "the board's TX goes nowhere",
    "uart-deaf": "what the host sends never reaches the board",
    "uart-loopback": "the host's bytes come back to it, and the board is cut off",
    "line-open": "the recovery line does not reach the pin",
    "line-inverted": "the recovery line pulls the pin low while it is inactive",
    "reset-open": "neither the probe's nRESET nor the reset line reaches the chip",
    "no-power": "the board has no supply",
    "probe-busy": "other software has the probe",
    "probe-unplugged": "the probe is not connected to the host",
    "probe-hangs": "the probe takes connections and answers nothing",
    "probe-wrong-chip": "the probe sees the CTRL-AP of an nRF52",
}


class Wiring:
    """The bench's side of one board. Whoever acts on the board from outside does it through this.

    `set_probe_answering` lets the probe answer, or not.
    """

    def __init__(self, board: SimBoard, dap: Dap, link: Link, set_probe_answering: Callable[[bool], None]) -> None:
        self.usb = True
        """The board's USB cable: its virtual COM port and its probe are there."""
        self._board = board
        self._dap = dap
        self._link = link
        self._set_probe_answering = set_probe_answering
        self._faults: set[str] = set()
        self._supply = True
        self._recovery_line = False
        self._nreset = {"probe": False, "line": False}
        self._plugged, self._busy = True, False
        dap.on_nreset = lambda low: self._drive_nreset("probe", low=low)

    @property
    def faults(self) -> list[str]:
        """What is wrong now."""
        return sorted(self._faults)

    def set_fault(self, name: str, *, on: bool) -> None:
        """Let something be wrong, or right again; ValueError for a fault that there is not."""
        if name not in FAULTS:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
        (self._faults.add if on else self._faults.discard)(name)
        self._apply()

    def set_line(self, line: Line, active: bool) -> None:  # noqa: FBT001 - a callback
        """A line of the control port: RTS is the recovery line, DTR the reset line."""
        if line == "rts":
            self._recovery_line = active
            self._apply_recovery_line()
        else:
            self._drive_nreset("line", low=active)

    def set_power(self, *, on: bool, usb: bool = False) -> None:
        """Switch the board's supply; with `usb` probe and virtual COM port go and come with it."""
        self._supply = on
        if usb or on:
            self.usb = on
        self._apply()

    def set_probe(self, *, plugged: bool | None, busy: bool | None) -> None:
        """Unplug the probe, or let somebody else have it; None: as it is."""
        self._plugged = self._plugged if plugged is None else plugged
        self._busy = self._busy if busy is None else busy
        self._apply()

    def _drive_nreset(self, source: str, *, low: bool) -> None:
        self._nreset[source] = low
        self._apply_nreset()

    def _apply(self) -> None:
        faults, dap, link = self._faults, self._dap, self._link
        link.silent = "uart-silent" in faults
        link.deaf = "uart-deaf" in faults
        link.joined = "uart-loopback" in faults
        dap.busy = self._busy or "probe-busy" in faults
        dap.wrong_chip = "probe-wrong-chip" in faults
        plugged = self._plugged and self.usb and "probe-unplugged" not in faults
        if dap.plugged != plugged:
            dap.plugged = plugged
        self._set_probe_answering("probe-hangs" not in faults)
        self._apply_recovery_line()
        self._apply_nreset()
        self._board.chip.set_power(self._supply and "no-power" not in faults)
        self._board.machine.on_wake()

    def _apply_recovery_line(self) -> None:
        """The pin has a pull-up, so it is high where nothing reaches it."""
        pulls = self._recovery_line != ("line-inverted" in self._faults)
        self._board.drive_recovery_pin("line", low=pulls and "line-open" not in self._faults)

    def _apply_nreset(self) -> None:
        connected = "reset-open" not in self._faults
        for source, low in self._nreset.items():
            self._board.chip.drive_nreset(source, low and connected)
