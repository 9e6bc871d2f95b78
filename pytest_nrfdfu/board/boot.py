"""Leaving recovery, and seeing the application run.

An application with an SMP server is asked for its image list; one without shows its boot banner on the console.
Whether it has one is the configuration's word (``[boot] smp``), or found out once per image. Where the port is the
target's own USB, the reset takes it away: it is found again by its identity within the same time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from pytest_nrfdfu.board.trial import from_recovery
from pytest_nrfdfu.board.uart import Uart
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.errors import HashMismatch, NotBooted, PortGone, SmpError, SmpRejected, SmpTimeout, UartError
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["Restart", "banner_line", "boot", "wait_running"]

_POLL = 0.3
_LINE_END = 0.3
"""Seconds for the rest of a line whose beginning was seen."""
_BUSY = 10
"""MGMT_ERR_EBUSY (Zephyr, mgmt_defines.h): boot_reset_request_hook refuses while the network core is written."""
_COPY_TIMEOUT = 30.0
"""Seconds that the network core's update may take: 256 KiB at some 90 ms per page of 2 KiB are 11."""
_RESET = 2.0
"""Seconds to wait for the answer to a reset. It may be lost, and the board reboot all the same."""
_ASK = 0.8
"""Seconds that an application gets to answer an image list request after its banner, when nobody knows whether it can.
Zephyr's SMP server is up as soon as the kernel is."""
_VALIDATION = 1.0
"""Seconds, generously, that MCUboot may take to validate an image before its window for an update begins."""
_LATE = 0.1
"""Seconds that a reset may come later than announced."""
_CAUSES = (
    ". It was reset twice and left alone meanwhile, and the bootloader answers still: either it finds nothing to start,"
    " or its recovery pin is held, or it waits for an update (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU) longer than"
    " [bootloader] wait_for_dfu says, or something else speaks SMP to it"
)
_UNCERTAIN = (
    ". An image list was answered, but nothing shows that the board was reset: the reset request was not answered, and"
    " no banner came"
)
_PERHAPS_EMPTY = (
    "No image was proved on it since it may last have changed, so slot 0 may be empty, or hold what MCUboot does not"
    " start: update it first. "
)


@dataclass(frozen=True, slots=True)
class Restart:
    """How the board was reset."""

    again: Callable[[], object] | None = None
    """Resets it once more in the same way."""
    delay: float = 0.0
    """Seconds until it happened: an OS reset is answered first."""
    certain: bool = True
    """Whether it must have happened; else an image list alone shows nothing, the application may never have stopped."""


def boot(unit: Unit, image: Image | None = None) -> str:
    """Leave recovery by an OS reset, and wait for the application; see `wait_running`.

    While a network core's image is on its way MCUboot refuses to reset (rc 10): it is asked again. Power must stay on.
    """
    unit.unfinished = None
    position = unit.console_uart.console.position
    silence: SmpTimeout | PortGone | None = None
    try:
        _reset(unit)
    except (SmpTimeout, PortGone) as error:  # its answer may have been lost, and the board be on its way
        silence = error

    def again() -> None:
        with suppress(SmpTimeout, PortGone):
            _reset(unit)

    try:  # certain: that it was in recovery and an application answers is evidence of the reset
        return wait_running(unit, position, image, Restart(again, unit.config.boot.reset_delay))
    except NotBooted as error:
        if silence is None:
            raise
        raise NotBooted(f"{error}. The reset request itself was not answered: {silence}") from silence


def _reset(unit: Unit) -> None:
    """The OS reset; while the network core is written it is asked for again until a deadline."""
    deadline = time.monotonic() + _COPY_TIMEOUT
    while True:
        try:
            unit.client.reset(timeout=_RESET)
        except SmpRejected as error:
            if error.rc != _BUSY:
                raise
            if time.monotonic() >= deadline:
                raise NotBooted(
                    f"{unit.name}: MCUboot answers rc 10 (busy) to the reset for {_COPY_TIMEOUT:g} s: the network core"
                    " does not end its update, or a reset cut off an earlier one. Is b0n on the network core?"
                    " Updating it again or a power cycle ends this, and a copy cut off leaves it without firmware"
                ) from error
            time.sleep(_POLL)
        else:
            return


def wait_running(unit: Unit, position: int, image: Image | None = None, restart: Restart = Restart()) -> str:
    """Wait until the application is seen running: ``image list`` or ``console``.

    `position`: where on the console the boot began. Raises NotBooted after the configured time, and HashMismatch if the
    application's list shows another image than `image` as active.

    Nothing is sent until the banner came or the bootloader must have gone on, because an MCUboot that waits for an
    update (CONFIG_BOOT_SERIAL_WAIT_FOR_DFU) stays in recovery at the first request. If the bootloader answers all the
    same, the board is reset once more, and left alone for longer.
    """
    try:
        return _watch(unit, position, image, restart)
    except _StillBootloaderError:
        if restart.again is None:
            raise NotBooted(_explain(unit, position)) from None
    position = unit.console_uart.console.position
    restart.again()
    try:
        return _watch(unit, position, image, restart, silent=True)
    except _StillBootloaderError:
        raise NotBooted(_explain(unit, position) + _CAUSES) from None


class _StillBootloaderError(Exception):
    """The bootloader answered where the application was expected."""


class _Answer(Enum):
    """What an image list request brought, if not an application's list."""

    NONE = auto()
    REFUSED = auto()
    """By an SMP server without the image group: an application's."""


def _watch(unit: Unit, position: int, image: Image | None, restart: Restart, *, silent: bool = False) -> str:
    """One wait for the application; `silent`: the banner is no reason to speak, it may be the bootloader's."""
    began = time.monotonic()
    deadline = began + unit.config.boot.timeout
    digest = image.hash if image is not None else unit.proved
    has_smp = unit.config.boot.smp
    if has_smp is None and digest is not None:
        has_smp = unit.application_has_smp.get(digest)
    if has_smp is False:
        if not _banner(unit, position, deadline, deadline):
            raise NotBooted(_explain(unit, position))
        return "console"
    quiet = _quiet(unit, restart)
    if silent:
        time.sleep(2 * quiet)
        deadline += 2 * quiet
    seen = _banner(unit, position, began + quiet, deadline)
    states = _listen(unit, position, deadline, seen=seen, console_does=has_smp is None, certain=restart.certain)
    if digest is not None:
        unit.application_has_smp[digest] = states is not None
    if states is None:
        return "console"
    if image is not None:
        _check(unit, image, states)
    return "image list"


def _listen(
    unit: Unit, position: int, deadline: float, *, seen: bool, console_does: bool, certain: bool
) -> ImageStates | None:
    """Ask until an application answers, and return its list; None if it has shown its banner and has no list.

    `seen`: its banner has come. `console_does`: the banner alone will do. `certain`: the board was reset. No request is
    cut short by the deadline, or a bootloader would be taken for silent.
    """
    while True:
        now = time.monotonic()
        seen = seen or _banner(unit, position, now, deadline)
        answer = _ask(unit, now + (_ASK if seen and console_does else _POLL), deadline)
        if isinstance(answer, ImageStates) and (seen or certain):
            return answer
        if not isinstance(answer, ImageStates) and seen and console_does:
            return None
        certain = certain or answer is _Answer.NONE  # a request that nobody answered: it was down
        if time.monotonic() >= deadline:
            raise NotBooted(_explain(unit, position) + ("" if certain else _UNCERTAIN))
        seen = seen or _banner(unit, position, now + _POLL, deadline)
        time.sleep(max(0.0, now + _POLL - time.monotonic()))


def _banner(unit: Unit, position: int, until: float, deadline: float) -> bool:
    """Whether the banner has come, or comes before `until`; a port that vanished is awaited until `deadline`."""
    pattern = re.compile(unit.config.console.banner)
    while True:
        try:
            found = unit.console_uart.console.wait_for(pattern, position, max(0.0, until - time.monotonic()))
        except UartError:
            if not unit.console_uart.transient:
                raise
            _reopen(unit, unit.console_uart, deadline)
        else:
            return found is not None


def _reopen(unit: Unit, uart: Uart, deadline: float) -> None:
    """Find a port again that the reset took away (the target's own USB); NotBooted if it stays away."""
    try:
        uart.reopen(deadline)
    except PortGone as gone:
        raise NotBooted(
            f"{unit.name} was reset and its port did not come back within {unit.config.boot.timeout:g} s: {gone}. An"
            " application that does not open the target's USB cannot be seen there: give it a port of its own in"
            " [console]"
        ) from gone


def _quiet(unit: Unit, restart: Restart) -> float:
    """Seconds to be silent after a reset: until it happened, and the bootloader's window is over."""
    quiet = restart.delay + unit.profile.wait_for_dfu + _VALIDATION
    return min(quiet, max(unit.config.boot.timeout / 2, restart.delay + _LATE))


def banner_line(unit: Unit, position: int) -> str:
    """The boot banner that the console showed from `position` on; empty if it showed none."""
    console = unit.console_uart.console
    with suppress(UartError):
        console.wait_for(re.compile(f"{unit.config.console.banner}.*\n"), position, _LINE_END)
    lines = console.since(position).splitlines()
    return next((line for line in lines if re.search(unit.config.console.banner, line)), "")


def _ask(unit: Unit, until: float, deadline: float) -> ImageStates | _Answer:
    """The application's image list, or what came instead; _StillBootloaderError if the bootloader answered."""
    try:
        states = unit.client.poll_images(_POLL, until)
    except SmpTimeout:
        return _Answer.NONE
    except SmpRejected:
        return _Answer.REFUSED
    except UartError:
        if not unit.uart.transient:
            raise
        _reopen(unit, unit.uart, deadline)
        return _Answer.NONE
    if from_recovery(states, has_state=unit.profile.image_state):
        raise _StillBootloaderError
    return states


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
    with suppress(SmpError, UartError):
        states = unit.client.images(tries=2, timeout=1.0)
        if from_recovery(states, has_state=unit.profile.image_state):
            listed = "lists the image as valid" if states.find() else "lists no valid image in slot 0"
            still = f"; the board is still in serial recovery, which {listed}"
    empty = _PERHAPS_EMPTY if unit.proved is None and not still else ""
    return (
        f"{unit.name} was reset and the application was not seen running within {unit.config.boot.timeout:g} s:"
        f" {printed}{still}. {empty}Look at whether the image was built for this board and for MCUboot"
        " (CONFIG_BOOTLOADER_MCUBOOT), whether its recovery pin is let go, and at [console] banner in its configuration"
    )
