"""The debug probe, by pyOCD. Used in the rig's child only: pyOCD prints, prompts and may hang.

The least intrusive way is taken: a session without board initialisation, so that neither core is halted, and nothing
of the chip's debug registers is written but what was asked for. The options are the safe ones; in particular
``auto_unlock`` is off (pyOCD's default erases a locked chip) and ``jlink.power`` is off (pyOCD's default switches the
target's power).

Sources: pyOCD's documentation of its options and its Python API; Nordic, nRF5340 product specification, CTRL-AP.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_nrfdfu.errors import ProbeError

__all__ = ["CTRL_AP_IDR", "Probe"]

CTRL_AP_IDR = 0x12880000
"""IDR of the nRF5340's CTRL-AP (also nRF91's; nRF52's is 0x02880000)."""
_APP_CTRL_AP = 2
_IDR = 0xFC
_CTRL_AP_RESET = 0x00
_AIRCR = 0xE000ED0C
_SYSRESETREQ = 0x05FA0004
_RESET_HOLD = 0.001
_DEVICE_ENABLED = 0x40
"""CSW.DeviceEn (Arm ADIv5): clear while access port protection is on."""
_DEMCR, _VC_CORERESET = 0xE000EDFC, 1
_DHCSR, _S_HALT, _DHCSR_RUN = 0xE000EDF0, 1 << 17, 0xA05F0000

_ADVICE = "check that the probe is plugged in and not used by another program, and the unique_id in [probe]"


class Probe:
    """One debug probe. Opened for each operation and closed after it, so that other tools may use it in between."""

    def __init__(self, unique_id: str | None, target: str, hold: float) -> None:
        """`hold`: seconds that nRESET is held."""
        self._unique_id = unique_id
        self._target = target
        self._hold = hold
        self._identified = False

    # --- operations -------------------------------------------------------------------------------------------------

    def reset(self, method: str) -> None:
        """``pin``: nRESET. ``system``: AIRCR.SYSRESETREQ. ``ctrl-ap``: the debug port's own, on a locked chip too."""
        with self._session() as session:
            if method == "pin":
                self._pin_reset(session.probe)
                return
            dp = self._connect(session)
            if method == "ctrl-ap":
                try:
                    dp.write_ap(_APP_CTRL_AP << 24 | _CTRL_AP_RESET, 1)
                    time.sleep(_RESET_HOLD)
                finally:
                    dp.write_ap(_APP_CTRL_AP << 24 | _CTRL_AP_RESET, 0)
            elif method == "system":
                self._memory(dp).write32(_AIRCR, _SYSRESETREQ)
            else:
                raise ProbeError(f"unknown reset {method!r}; known: pin, system, ctrl-ap")

    def info(self) -> dict[str, Any]:
        """Who the probe is, and what the chip says: ``unique_id``, ``product``, ``ctrl_ap_idr``, ``open``."""
        with self._session() as session:
            dp = self._connect(session)
            probe = session.probe
            csw = dp.read_ap(0)
            return {
                "unique_id": probe.unique_id,
                "product": f"{probe.vendor_name} {probe.product_name}",
                "ctrl_ap_idr": dp.read_ap(_APP_CTRL_AP << 24 | _IDR),
                "open": bool(csw & _DEVICE_ENABLED),
            }

    def read32(self, address: int) -> int:
        """One word; ProbeError if the chip is locked or the address faults."""
        with self._session() as session:
            value: int = self._memory(self._connect(session)).read32(address)
            return value

    def write32(self, address: int, value: int) -> None:
        """One word; ProbeError if the chip is locked or the address faults."""
        with self._session() as session:
            self._memory(self._connect(session)).write32(address, value)

    def repair(self) -> None:
        """Undo what a process that died may have left: nRESET low, held by CTRL-AP, vector catch, a halted core."""
        with self._session() as session:
            dp = self._connect(session)
            if dp.read_ap(_APP_CTRL_AP << 24 | _CTRL_AP_RESET) & 1:
                dp.write_ap(_APP_CTRL_AP << 24 | _CTRL_AP_RESET, 0)
            if not dp.read_ap(0) & _DEVICE_ENABLED:
                return
            memory = self._memory(dp)
            if memory.read32(_DEMCR) & _VC_CORERESET:
                memory.write32(_DEMCR, memory.read32(_DEMCR) & ~_VC_CORERESET)
            if memory.read32(_DHCSR) & _S_HALT:
                memory.write32(_DHCSR, _DHCSR_RUN)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _pin_reset(self, probe: Any) -> None:
        probe.connect()  # CMSIS-DAP's pins are inputs until then
        try:
            probe.assert_reset(True)
            time.sleep(self._hold)
        finally:
            probe.assert_reset(False)
            probe.disconnect()

    def _connect(self, session: Any) -> Any:
        """The debug port, powered up, of a chip that is an nRF5340."""
        dp = session.target.dp
        dp.connect()
        session.probe.assert_reset(False)
        idr = dp.read_ap(_APP_CTRL_AP << 24 | _IDR)
        if idr != CTRL_AP_IDR:
            raise ProbeError(
                f"the chip behind probe {session.probe.unique_id} is not an nRF5340: its access port {_APP_CTRL_AP} has"
                f" IDR 0x{idr:08x}, an nRF5340's CTRL-AP has 0x{CTRL_AP_IDR:08x}; nothing was changed on it. Check the"
                " unique_id in [probe]"
            )
        return dp

    def _memory(self, dp: Any) -> Any:
        from pyocd.coresight.ap import AccessPort, APv1Address

        if not dp.read_ap(0) & _DEVICE_ENABLED:
            raise ProbeError(
                "the chip is locked (access port protection): its memory cannot be reached. Pin reset and ctrl-ap reset"
                " still work; unlocking erases the chip (nrfutil device recover) and is never done here"
            )
        return AccessPort.create(dp, APv1Address(0))

    def _find(self) -> Any:
        from pyocd.core.exceptions import Error
        from pyocd.core.helpers import ConnectHelper

        asked = self._unique_id
        if asked is not None and asked.isdecimal():
            asked = str(int(asked))  # USB shows serial numbers padded with zeros, pyOCD does not
        try:
            probes = ConnectHelper.get_all_connected_probes(blocking=False, unique_id=asked, print_wait_message=False)
        except Error as error:
            hint = "; SEGGER's J-Link software must be installed for it" if (asked or "").startswith("jlink:") else ""
            raise ProbeError(f"probe {asked}: {error}{hint}") from error
        if not probes:
            what = "no debug probe is connected" if asked is None else f"no debug probe {asked} is connected"
            raise ProbeError(f"{what}; {_ADVICE}")
        if len(probes) > 1:
            listed = ", ".join(f"{p.unique_id} ({p.product_name})" for p in probes)
            raise ProbeError(f"{len(probes)} debug probes are connected: {listed}; name one in [probe] unique_id")
        return probes[0]

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """An open session; pyOCD's exceptions come out as ProbeError."""
        from pyocd.core.exceptions import Error
        from pyocd.core.session import Session

        here = Path.cwd()
        with tempfile.TemporaryDirectory() as empty:
            # Session() changes to its project directory and would run a pyocd_user.py found there.
            script = Path(empty, "nothing.py")
            script.touch()
            session = None
            try:
                session = Session(
                    self._find(),
                    options={
                        "project_dir": empty,
                        "user_script": str(script),
                        "no_config": True,
                        "target_override": self._target,
                        "auto_unlock": False,
                        "connect_mode": "attach",
                        "resume_on_disconnect": True,
                        "reset.post_delay": 0.0,
                        "dap_protocol": "swd",
                        "jlink.power": False,
                    },
                )
                session.open(init_board=False)
                yield session
            except (Error, OSError, EOFError, KeyError, ValueError) as error:  # ValueError: no USB library
                raise ProbeError(self._explain(error)) from error
            finally:
                os.chdir(here)
                if session is not None:
                    _close(session)

    def _explain(self, error: BaseException) -> str:
        name = self._unique_id or "the only one"
        if isinstance(error, ConnectionRefusedError):
            return f"probe {name}: nothing listens there; start the probe server (pyocd server) on that host"
        kind = type(error).__name__
        text = str(error) or kind
        if "busy" in text.lower() or "in use" in text.lower() or "already open" in text.lower():
            return f"probe {name} is in use by another program ({text}); close the debugger or the other test run"
        return f"probe {name}: {kind}: {text}; {_ADVICE}, and that the board has power"


def _close(session: Any) -> None:
    from pyocd.core.exceptions import Error

    probe, target = session.probe, session.target
    with suppress(Error, OSError, AttributeError):
        if probe.is_open and probe.wire_protocol and target is not None:
            target.dp.power_down_debug()
    with suppress(Error, OSError):
        session.close()
    with suppress(Error, OSError):
        if probe.is_open:
            probe.close()
