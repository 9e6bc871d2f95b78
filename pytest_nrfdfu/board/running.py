"""Whether the application that runs now is a build's, by its own word: without a reset, and without recovery.

An application's SMP server lists the image that is active by its hash, and MCUboot has checked that image when it
started it. Where there is no such server, or it shows anything else, nothing is known, and recovery has to be entered;
so it is too where this run has written to the board since, because the server reads the hash without computing it.
"""

from __future__ import annotations

from pytest_nrfdfu.board.boot import settle
from pytest_nrfdfu.board.list_origin import from_recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import SmpError, UartError
from pytest_nrfdfu.image.build import APP, Build

__all__ = ["application_runs"]

_ANSWER = 0.3
"""Seconds for the answer of an application of which nobody knows whether it has a server; it takes some 10 ms."""
_ANSWER_SURELY = 2.0
"""Seconds where the configuration says that it has one."""


def application_runs(unit: Unit, build: Build) -> bool:
    """Ask the application for its image list; whether that shows `build` as active. The unit then remembers it.

    False for builds with other images than the application: no list shows those of the network core.
    """
    has_smp = unit.config.boot.smp
    if unit.doubted or has_smp is False or set(build.images) != {APP} or unit.uart_missing:
        return False
    if has_smp is None and unit.application_has_smp.get(build.hash) is False:
        return False
    settle(unit)
    try:
        states = unit.client.images(tries=2 if has_smp else 1, timeout=_ANSWER_SURELY if has_smp else _ANSWER)
    except (SmpError, UartError):
        return False
    if from_recovery(states, has_state=unit.profile.image_state):
        return False
    active = states.active
    if active is None or active.hash != build.hash or not active.confirmed:  # on trial: the next reset takes it back
        return False
    unit.remember(build.hash, f"version {build.version}, shown as active by the application's own image list")
    return True
