"""The debug probe, by pyOCD: one session for each operation. Used in the rig's child only, since pyOCD may hang.

The least intrusive way is taken: a session without board initialisation, so that neither core is halted, and nothing
of the chip's debug registers is written but what was asked for. The probe is opened for each operation and closed
after it, so that other tools may use it in between.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from pytest_nrfdfu.board.probe_chip import CTRL_AP_IDR, Chip
from pytest_nrfdfu.board.probe_session import no_power, open_session
from pytest_nrfdfu.errors import ProbeError

__all__ = ["CTRL_AP_IDR", "Probe"]

T = TypeVar("T")

_PAUSE = 0.1
"""Seconds between tries while a probe is waited for."""
_COMING = frozenset({"not-found", "unplugged", "unreachable", "no-power", "permission"})
"""What may be wrong with a probe that has just been given power. Permissions are set a moment after it is there."""


class Probe:
    """One debug probe."""

    def __init__(self, unique_id: str | None, target: str, hold: float) -> None:
        """`hold`: seconds that nRESET is held."""
        self._unique_id = unique_id
        self._target = target
        self._hold = hold
        self._seen = False
        self._caught = False
        """A core may be left at its reset vector; it is let go of as soon as the chip allows it."""

    # --- operations -------------------------------------------------------------------------------------------------

    def reset(self, kind: str) -> None:
        """``pin``: nRESET. ``system``: AIRCR.SYSRESETREQ. ``ctrl-ap``: the debug port's own, on a locked chip too."""
        if kind == "pin":
            with self._session() as session:
                self._pin_reset(session.probe)
            return
        with self._chip() as chip:
            chip.reset(kind)

    def reset_with_causes_cleared(self, kind: str) -> None:
        """See `Chip.reset_with_causes_cleared`."""
        with self._chip() as chip:
            self._caught = True
            chip.reset_with_causes_cleared(kind)
            self._caught = False

    def info(self) -> dict[str, Any]:
        """Who the probe is, and what the chip says.

        ``unique_id``, ``product``, ``firmware`` and ``library`` of the probe (empty where it does not tell), ``pyocd``,
        ``ctrl_ap_idr``, ``application`` and ``network`` (a `CoreState` each), ``open``.
        """
        with self._session() as session:
            chip = self._connect(session)
            application, probe = chip.application, session.probe
            return {
                "unique_id": probe.unique_id,
                "product": f"{probe.vendor_name} {probe.product_name}",
                # pyOCD keeps its drivers' handles there: pylink's, or that of its CMSIS-DAP layer.
                "firmware": _told_by(probe, "firmware_version"),
                "library": _told_by(probe, "version"),
                "pyocd": importlib.metadata.version("pyocd"),
                "ctrl_ap_idr": CTRL_AP_IDR,
                "application": application,
                "network": chip.network,
                "open": application == "open",
            }

    def read32(self, address: int) -> int:
        """One word; ProbeError if the chip is locked or the address faults."""
        with self._chip() as chip:
            return chip.read32(address)

    def write32(self, address: int, value: int) -> None:
        """One word; ProbeError if the chip is locked or the address faults."""
        with self._chip() as chip:
            chip.write32(address, value)

    def erase_page(self, address: int) -> None:
        """See `Chip.erase_page`."""
        with self._chip() as chip:
            chip.erase_page(address)

    def repair(self, *, wait: float = 0.0, busy: float = 0.0) -> None:
        """Undo what a process that died may have left: nRESET low, held by CTRL-AP, vector catch, a halted core.

        `wait`: seconds that a probe gets which power has just come back to; `busy`: seconds that another process gets
        to give the probe back.
        """
        causes = dict.fromkeys(_COMING, wait) | {"busy": max(wait, busy)}
        self._retry(self._repair, causes)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _repair(self) -> None:
        with self._chip() as chip:
            chip.repair()

    @staticmethod
    def _retry(operation: Callable[[], T], patience: dict[str, float]) -> T:
        """Try again after errors of the causes in `patience`, for so many seconds from the start."""
        began = time.monotonic()
        while True:
            try:
                return operation()
            except ProbeError as error:
                if time.monotonic() - began >= patience.get(error.cause, 0.0):
                    raise
            time.sleep(_PAUSE)

    def _pin_reset(self, probe: Any) -> None:
        probe.connect()  # CMSIS-DAP's pins are inputs until then
        try:
            probe.assert_reset(True)
            time.sleep(self._hold)
        finally:
            probe.assert_reset(False)
            probe.disconnect()

    @contextmanager
    def _chip(self) -> Iterator[Chip]:
        with self._session() as session:
            chip = self._connect(session)
            if self._caught:
                self._caught = not chip.let_run()
            yield chip

    def _connect(self, session: Any) -> Chip:
        """The chip, its debug port powered up and nRESET released."""
        from pyocd.core.exceptions import Error, ProbeDisconnected

        dp = session.target.dp
        try:
            dp.connect()
            session.probe.assert_reset(False)
        except ProbeDisconnected:
            raise
        except Error as error:
            name = f"probe {self._unique_id or session.probe.unique_id}"
            raise no_power(name, f"{type(error).__name__}: {error}") from error
        return Chip(dp, session.probe.unique_id)

    @contextmanager
    def _session(self) -> Iterator[Any]:
        with open_session(self._unique_id, self._target, seen=self._seen) as session:
            self._seen = True
            yield session


def _told_by(probe: Any, what: str) -> str:
    """What the library behind a probe says; empty where there is none, or it does not say."""
    with suppress(Exception):  # a version must not cost a test its probe
        return str(getattr(probe._link, what) or "")  # noqa: SLF001 - pyOCD offers no other way
    return ""
