"""Sessions of pyOCD: finding one debug probe, opening it with the safe options, and saying why that failed.

Used in the rig's child only. What pyOCD or a probe's driver raises comes out as ProbeError with a cause and advice.

The options are the safe ones. ``auto_unlock`` is off: with pyOCD's default it erases a locked chip. ``jlink.power`` is
off: with pyOCD's default connecting switches the target's supply on, and disconnecting switches it off.
``jlink.non_interactive`` is off: with pyOCD's default pylink tells SEGGER's library ``SilentUpdateFW``, which lets it
exchange the probe's firmware in the middle of a run. ``jlink.device`` is never set: for a locked nRF53 a device name
brings SEGGER's offer to erase the chip. J-Link and CMSIS-DAP probes themselves were not tried.

Sources: pyOCD, docs/options.md, probe/jlink_probe.py, probe/tcp_client_probe.py; pylink, ``disable_dialog_boxes``.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_nrfdfu.errors import BoardError, ProbeError

__all__ = ["OPTIONS", "find", "open_session"]

OPTIONS: Mapping[str, Any] = {
    "no_config": True,
    "auto_unlock": False,
    "connect_mode": "attach",
    "resume_on_disconnect": True,
    "reset.post_delay": 0.0,
    "dap_protocol": "swd",
    "jlink.power": False,
    "jlink.non_interactive": False,
}
"""Options of every session, besides target and paths."""
_SEGGER_VID = 0x1366
_NOT_FOUND_ADVICE = "check that the probe is plugged in, and the unique_id in [probe]"
_LIBRARY_ADVICE = "install SEGGER's J-Link software on this host (pyOCD loads its library), then try again"


def find(unique_id: str | None) -> Any:
    """The probe with this id, or the only one connected. ProbeError if there is none, or several."""
    from pyocd.core.helpers import ConnectHelper

    wanted = None if unique_id is None else _normal(unique_id)
    if wanted is not None and wanted.startswith("jlink:") and not _has_jlink_driver():
        raise ProbeError(
            f"probe {unique_id}: pyOCD cannot drive J-Link probes here, SEGGER's library was not found;"
            f" {_LIBRARY_ADVICE}",
            cause="no-library",
        )
    probes = ConnectHelper.get_all_connected_probes(blocking=False, unique_id=wanted, print_wait_message=False)
    if wanted is not None and not wanted.startswith("remote:"):
        # pyOCD takes any probe whose id contains the text.
        probes = [probe for probe in probes if _normal(probe.unique_id) == wanted.rpartition(":")[2]]
    if not probes:
        raise _none_found(unique_id, wanted)
    if len(probes) > 1:
        raise ProbeError(
            f"{len(probes)} debug probes are connected: {_listed(probes)}; name the board's in [probe] unique_id",
            cause="several",
        )
    return probes[0]


def _normal(unique_id: str) -> str:
    """An id as pyOCD has it: the serial number of a J-Link without the zeros that USB shows in front of it."""
    kind, colon, text = unique_id.rpartition(":")
    if kind.lower().startswith("remote"):
        return unique_id
    text = str(int(text)) if text.isdecimal() else text.lower()
    return f"{kind.lower()}{colon}{text}"


def _none_found(asked: str | None, wanted: str | None) -> ProbeError:
    what = "no debug probe is connected" if asked is None else f"no debug probe {asked} is connected"
    if not _has_jlink_driver() and (ports := _jlink_ports(wanted)):
        return ProbeError(
            f"{what} that pyOCD can drive; a J-Link is plugged in ({', '.join(ports)}), but SEGGER's library was not"
            f" found; {_LIBRARY_ADVICE}",
            cause="no-library",
        )
    others = _others(asked)
    if others:
        what += f"; there is {others}"
    elif not _has_jlink_driver():
        return ProbeError(
            f"{what}; {_NOT_FOUND_ADVICE}; for a J-Link, such as that of Nordic's kits, also {_LIBRARY_ADVICE}",
            cause="not-found",
        )
    return ProbeError(f"{what}; {_NOT_FOUND_ADVICE}", cause="not-found")


def _others(asked: str | None) -> str:
    """The probes that are connected instead of the one that was asked for."""
    from pyocd.core.helpers import ConnectHelper

    if asked is None:
        return ""
    return _listed(ConnectHelper.get_all_connected_probes(blocking=False, print_wait_message=False) or ())


def _listed(probes: Any) -> str:
    return ", ".join(f"{probe.unique_id} ({probe.product_name})" for probe in probes)


def _has_jlink_driver() -> bool:
    """Whether pyOCD loaded its J-Link driver, which it does not where SEGGER's library is missing."""
    from pyocd.probe.aggregator import PROBE_CLASSES

    return "jlink" in PROBE_CLASSES


def _jlink_ports(wanted: str | None) -> list[str]:
    """Serial ports of the wanted J-Link (of any, if none is wanted), as the system shows them."""
    from serial.tools import list_ports

    serial = None if wanted is None else wanted.rpartition(":")[2]
    return [
        port.device
        for port in list_ports.comports()
        if port.vid == _SEGGER_VID and (serial is None or _normal(port.serial_number or "") == serial)
    ]


@contextmanager
def open_session(unique_id: str | None, target: str, *, seen: bool = False) -> Iterator[Any]:
    """An open session without board initialisation; what is raised in it comes out as ProbeError.

    `seen`: the probe was there before, so that if it is not found now it was unplugged.
    """
    from pyocd.core.session import Session

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        # Session() changes to its project directory and would run a pyocd_user.py found there.
        script = Path(empty, "nothing.py")
        script.touch()
        paths = {"project_dir": empty, "user_script": str(script)}
        session = None
        try:
            session = Session(find(unique_id), options={**OPTIONS, **paths, "target_override": target})
            session.open(init_board=False)
            yield session
        except BoardError as error:
            if seen and isinstance(error, ProbeError) and error.cause == "not-found":
                raise ProbeError(f"{error} (it was connected earlier in this run)", cause="unplugged") from error
            raise
        except Exception as error:  # a driver may raise anything: pylink's errors have no base in pyOCD's
            traceback.print_exc()
            raise _explain(unique_id, error) from error
        finally:
            os.chdir(here)
            if session is not None:
                _close(session)


def _explain(unique_id: str | None, error: Exception) -> ProbeError:
    """What pyOCD raised, in words for somebody at the bench."""
    from pyocd.core import exceptions

    name = f"probe {unique_id or '(the only one)'}"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, exceptions.ProbeDisconnected):
        return ProbeError(
            f"{name} was unplugged, or lost its connection ({text}); check that the probe is plugged in and its cable",
            cause="unplugged",
        )
    if isinstance(error, exceptions.TransferFaultError):
        return ProbeError(
            f"{name}: the chip refused an access ({text}); is there anything at the address?", cause="fault"
        )
    if isinstance(error, exceptions.TransferError):
        return no_power(name, text)
    if unique_id is not None and unique_id.startswith("remote:") and isinstance(error, OSError | ValueError):
        return _explain_remote(name, error, text)
    return _explain_local(name, text)


def no_power(name: str, text: str) -> ProbeError:
    """Nothing answers on the debug wires."""
    return ProbeError(
        f"{name} works, but no chip answers it on the debug wires ({text}); check that the board has power and is"
        " switched on, and the debug cable",
        cause="no-power",
    )


def _explain_remote(name: str, error: Exception, text: str) -> ProbeError:
    if isinstance(error, ConnectionRefusedError):
        said = "nothing listens there; start the probe server (pyocd server) on that host"
    elif isinstance(error, OSError):
        said = f"that host cannot be reached ({text}); check the name, the port, and that the host is on"
    else:
        said = f"what answers there is no probe server ({text}); check the port"
    return ProbeError(f"{name}: {said}", cause="unreachable")


def _explain_local(name: str, text: str) -> ProbeError:
    lower = text.lower()
    if any(word in lower for word in ("busy", "in use", "already open", "exclusive")):
        return ProbeError(
            f"{name} is in use by another program ({text}); close the debugger or the other test run", cause="busy"
        )
    if any(word in lower for word in ("permission", "access denied", "errno 13")):
        return ProbeError(
            f"{name} may not be used by this user ({text}); install the udev rules of the probe (SEGGER's software"
            " brings its own, pyOCD's are in its udev folder), then plug it in again",
            cause="permission",
        )
    return ProbeError(f"{name}: {text}; {_NOT_FOUND_ADVICE}, and that the board has power")


def _close(session: Any) -> None:
    """Give the probe back whatever state it is in."""
    probe, target = session.probe, session.target
    with suppress(Exception):
        if probe.is_open and probe.wire_protocol and target is not None:
            target.dp.power_down_debug()
    with suppress(Exception):
        session.close()
    with suppress(Exception):
        if probe.is_open:
            probe.close()
