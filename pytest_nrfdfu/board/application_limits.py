"""What a running application takes of an upload: packets and window by its MCUmgr parameters, time-outs by flash."""

from __future__ import annotations

from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.application_window import ApplicationWindow
from pytest_nrfdfu.smp.chunks import LATENCY, RESPONSE_WIRE, Limits
from pytest_nrfdfu.smp.messages import Params
from pytest_nrfdfu.smp.window import Policy, StopAndWait

__all__ = ["application_limits", "application_policy", "slot_size"]

_DEFAULT_BUFFER = 384
"""CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE by default. A packet that does not fit is dropped without a word, and smaller
ones are tried then."""
_TWO = 2
_PATIENCE = 0.3
"""Seconds for a chunk at least: the erase of a page falls into one that fills a buffer of unknown size."""
_PATIENT = 1.5
"""How many times the data sheet's time an erase may take."""


def slot_size(unit: Unit) -> int:
    """Bytes of the application's slot, as configured, or the nRF5340 DK's."""
    return unit.config.app_image.slot_size or Limits().slot_size


def application_limits(unit: Unit, params: Params | None) -> Limits:
    """Limits of an upload to an application. `params`: what it tells of its buffers, None where it does not."""
    size = params.buf_size if params is not None else _DEFAULT_BUFFER
    return Limits(
        max_packet=size - console.FRAME_OVERHEAD,  # they lie in the buffer as well (Zephyr, serial_util.c)
        align=1,
        first_erase=_PATIENT,
        patience=_PATIENCE,
        slot_size=slot_size(unit),
    )


def application_policy(unit: Unit, params: Params | None) -> Policy:
    """The window: as many chunks as the application has buffers, but one; two where that keeps the wire busy.

    A repeated request takes a buffer too, and a Zephyr that finds none for a request's first line stops with a fault
    (serial_util.c, mcumgr_serial_process_frag): so no more is in flight than helps.
    """
    if params is None or unit.config.bootloader.window == 1:
        return StopAndWait()
    link = unit.client.link
    answer = link.write_time(params.buf_size) + link.wire_time(RESPONSE_WIRE) + LATENCY
    enough = _TWO if answer < link.wire_time(console.wire_size(params.buf_size)) else params.buf_count - 1
    return ApplicationWindow(window=max(1, min(enough, params.buf_count - 1)), page=link.page_size)
