"""What the debug probe and the chip behind it say of themselves, without anything being changed on them.

Sources: Nordic, nRF5340 product specification (Debug and trace; CTRL-AP: access port protection has two switches for
the application core, APPROTECT and SECUREAPPROTECT, and one for the network core).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["ChipState", "CoreState"]

CoreState = Literal["open", "secure-locked", "locked", "off"]
"""``open``: all of it can be reached. ``secure-locked``: the core is open, secure addresses are not (SECUREAPPROTECT).
``locked``: nothing can be reached but CTRL-AP. ``off``: the network core is held in reset, so nobody can tell."""


class ChipState(NamedTuple):
    """A probe and an nRF5340."""

    probe: str
    """The probe's unique id."""
    product: str
    firmware: str
    """Of the probe, as it says itself; empty if it does not."""
    pyocd: str
    """Version of pyOCD."""
    application: CoreState
    network: CoreState

    @property
    def readable(self) -> bool:
        """Whether registers at secure addresses, RESETREAS among them, can be read and written."""
        return self.application == "open"
