"""The error of a board's power switch, told from that of a line: for the rig's child and for who asks it."""

from __future__ import annotations

from pytest_nrfdfu.errors import LineError

__all__ = ["PowerError"]


class PowerError(LineError):
    """The board's supply cannot be switched."""
