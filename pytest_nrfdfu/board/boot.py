"""Leaving recovery, and seeing the application run.

An application with an SMP server is asked for its image list; one without shows its boot banner on the console.
Whether it has one is the configuration's word (``[boot] smp``), or found out once per image.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress

from pytest_nrfdfu.board.recovery import from_recovery
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import HashMismatch, NotBooted, SmpError, SmpRejected, SmpTimeout
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["banner_line", "boot", "wait_running"]

_POLL = 0.3
_RESET = 2.0
"""Seconds to wait for the answer to a reset. It may be lost, and the board reboot all the same."""
_ASK = 0.8
"""Seconds that an application gets to answer an image list request after its banner, when nobody knows whether it can.
Zephyr's SMP server is up as soon as the kernel is."""


def boot(unit: Unit, image: Image | None = None) -> str:
    """Leave recovery by an OS reset, and wait for the application; see `wait_running`."""
    unit.unfinished = None
    position = unit.console_uart.console.position
    silence: SmpTimeout | None = None
    try:
        unit.client.reset(timeout=_RESET)
    except SmpTimeout as error:  # its answer may have been lost, and the board be on its way
        silence = error
    try:
        return wait_running(unit, position, image)
    except NotBooted as error:
        if silence is None:
            raise
        raise NotBooted(f"{error}. The reset request itself was not answered: {silence}") from silence


def wait_running(unit: Unit, position: int, image: Image | None = None) -> str:
    """Wait until the application is seen running: ``image list`` or ``console``.

    `position`: where on the console the boot began. Raises NotBooted after the configured time, and HashMismatch if the
    application's list shows another image than `image` as active.
    """
    settings = unit.config.boot
    deadline = time.monotonic() + settings.timeout
    has_smp = settings.smp
    digest = image.hash if image is not None else unit.proved
    if has_smp is None and digest is not None:
        has_smp = unit.application_has_smp.get(digest)
    banner = re.compile(unit.config.console.banner)
    console = unit.console_uart.console
    while time.monotonic() < deadline:
        seen = console.wait_for(banner, position, min(_POLL, deadline - time.monotonic()))
        if seen and has_smp is False:
            return "console"
        ask_for = _ASK if seen and has_smp is None else _POLL
        states = _ask(unit, min(deadline, time.monotonic() + ask_for)) if seen or has_smp is not False else None
        if states is not None:
            if digest is not None:
                unit.application_has_smp[digest] = True
            if image is not None:
                _check(unit, image, states)
            return "image list"
        if seen and has_smp is None:
            if digest is not None:
                unit.application_has_smp[digest] = False
            return "console"
    raise NotBooted(_explain(unit, position))


def banner_line(unit: Unit, position: int) -> str:
    """The boot banner that the console showed from `position` on; empty if it showed none."""
    lines = unit.console_uart.console.since(position).splitlines()
    return next((line for line in lines if re.search(unit.config.console.banner, line)), "")


def _ask(unit: Unit, deadline: float) -> ImageStates | None:
    """The application's image list; None if none came, or if the bootloader answered."""
    with suppress(SmpTimeout, SmpRejected):  # SmpRejected: an SMP server without the image group
        states = unit.client.poll_images(_POLL, deadline)
        if not from_recovery(states, has_state=unit.profile.image_state):
            return states
    return None


def _check(unit: Unit, image: Image, states: ImageStates) -> None:
    active = next((state for state in states.images if state.image == 0 and state.active), None)
    if active is not None and active.hash is not None and active.hash != image.hash:
        unit.forget()
        raise HashMismatch(
            f"{unit.name} was proved in recovery to hold {image.source} (hash {image.hash.hex()}), but the application"
            f" that runs now is version {active.version} with hash {active.hash.hex()}: a valid image in the secondary"
            " slot was probably swapped in at boot; erase that slot first"
        )


def _explain(unit: Unit, position: int) -> str:
    text = unit.console_uart.console.since(position).strip()
    printed = f"the console printed {text[-300:]!r}" if text else "the console printed nothing"
    still = ""
    with suppress(SmpError):
        states = unit.client.images(tries=2, timeout=1.0)
        if from_recovery(states, has_state=unit.profile.image_state):
            listed = "lists the image as valid" if states.find() else "lists no valid image in slot 0"
            still = f"; the board is still in serial recovery, which {listed}"
    return (
        f"{unit.name} was reset and the application was not seen running within {unit.config.boot.timeout:g} s:"
        f" {printed}{still}. Look at whether the image was built for this board and for MCUboot"
        " (CONFIG_BOOTLOADER_MCUBOOT), whether its recovery pin is let go, and at [console] banner in its configuration"
    )
