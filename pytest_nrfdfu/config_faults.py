"""What can be wrong with a simulated bench, by name: a word that configuration and simulator share.

Apart from the configuration, because a simulated board starts twice as fast without pydantic.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["SimFault"]

SimFault = Literal[
    "uart-silent",
    "uart-deaf",
    "uart-loopback",
    "line-open",
    "line-inverted",
    "reset-open",
    "no-power",
    "probe-busy",
    "probe-unplugged",
    "probe-hangs",
    "probe-wrong-chip",
]
"""A wire that is not there, or wrong: the board's TX, its RX, the host's TX and RX joined, the recovery line (not
connected, active at the wrong level), nRESET (not connected); no supply; and what can be wrong with a probe."""
