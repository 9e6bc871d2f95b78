"""Every way into recovery, with every reset, on every kind of bootloader: what works, and what is refused.

The bench does what it does on any board; the board is the simulated one. What MCUboot would do is written down here
once more, from its main.c, and not asked of the simulator. The table is kept as tests/data/entry-table.md; run this
with NRFDFU_WRITE_TABLES=1 in the environment to write it anew.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from board.conftest import UNPACED, make_build
from pydantic import ValidationError
from simulator import SLOT0, wait_until

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.board import recovery as recovery_module
from pytest_nrfdfu.board.recovery import enter
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_types import PowerConfig, RecoveryConfig
from pytest_nrfdfu.errors import RecoveryNotEntered
from pytest_nrfdfu.sim_admin import SimAdmin

FILE = Path(__file__).parent / "data" / "entry-table.md"
TIMEOUT = 0.5
"""Seconds. An unpaced board boots in milliseconds; a detect delay of 0.1 s takes 0.15 s of it."""


class Way(NamedTuple):
    """A row: an entry as it is configured."""

    entry: str
    reset: str
    causes_cleared: bool = False
    header_erased: bool = False

    @property
    def label(self):
        more = ", reset causes cleared" if self.causes_cleared else ", header erased" if self.header_erased else ""
        return f"{self.entry}{more} | {self.reset}"

    @property
    def table(self):
        reset = {} if self.entry == "smp" else {"reset": self.reset}
        return {
            "entry": [self.entry],
            "timeout": TIMEOUT,
            "clear_reset_causes": self.causes_cleared,
            "allow_erase_header": self.header_erased,
            **reset,
        }


WAYS = (
    *(Way("gpio", reset) for reset in ("pin", "line", "power", "system", "ctrl-ap")),
    *(Way("gpio", reset, causes_cleared=True) for reset in ("system", "ctrl-ap", "pin")),
    *(Way("pin-reset", reset) for reset in ("pin", "line", "system", "power")),
    *(Way("boot-mode", reset) for reset in ("system", "ctrl-ap", "smp", "pin", "line", "power")),
    *(Way("wait-for-dfu", reset) for reset in ("pin", "system", "power")),
    Way("smp", "smp"),
    *(Way("no-application", reset) for reset in ("pin", "system")),
    *(Way("no-application", reset, header_erased=True) for reset in ("pin", "system")),
)
"""The last ones leave no image."""


class Bootloader(NamedTuple):
    """A column: what MCUboot was built with."""

    entrances: tuple[str, ...]
    detect_delay: float = 0.0

    @property
    def label(self):
        return " + ".join(self.entrances) + (f" (held {self.detect_delay:g} s)" if self.detect_delay else "")


BOOTLOADERS = (
    Bootloader(("gpio",)),
    Bootloader(("gpio",), 0.1),
    Bootloader(("pin-reset",)),
    Bootloader(("boot-mode",)),
    Bootloader(("wait-for-dfu",)),
    Bootloader(("no-application",)),
    Bootloader(("gpio", "boot-mode", "no-application")),
)

RESETPIN, CTRLAP, SREQ = 1 << 0, 1 << 2, 1 << 3
CAUSES = {"pin": RESETPIN, "line": RESETPIN, "power": 0, "system": SREQ, "ctrl-ap": CTRLAP, "smp": SREQ}
"""RESETREAS after a reset of a board that had power-on alone before (nRF5340 product specification, RESET)."""


def mcuboot_enters(way: Way, bootloader: Bootloader) -> bool:
    """main() in boot/zephyr/main.c, and io_boot_skip_serial_recovery() in boot/zephyr/include/io/io.h.

    The pin is held by the entry gpio as long as it takes. Requests come all the time, whatever the entry is.
    """
    cause = 0 if way.causes_cleared else CAUSES[way.reset]
    if way.entry == "gpio" and "gpio" in bootloader.entrances and (cause == 0 or cause & RESETPIN):
        return True
    if "pin-reset" in bootloader.entrances and cause & RESETPIN:
        return True
    mode_left = way.entry in {"boot-mode", "smp"} and cause in {SREQ, CTRLAP}
    if mode_left and "boot-mode" in bootloader.entrances:
        return True
    if "wait-for-dfu" in bootloader.entrances:
        return True
    return way.header_erased and "no-application" in bootloader.entrances


def refusal(way: Way) -> str | None:
    """Why a configuration is refused, in words; None if it is not."""
    try:
        BoardConfig.model_validate({"board": "sim", "sim": {}, "recovery": way.table})
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def supply(address: str, on: str) -> tuple[str, ...]:
    """A command that switches the board's supply, without the cost of a Python."""
    host, port = address.split(":")
    call = f'{{"id": 1, "method": "set_power", "params": {{"on": {on}}}}}'
    return ("bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}; echo '{call}' >&3; read -t 5 answer <&3")


def column(bootloader: Bootloader, image: Path) -> list[bool | None]:
    """Every way on one bootloader; None where the configuration is refused."""
    sim = UNPACED | {
        "image": image,
        "entrance": bootloader.entrances,
        "detect_delay": bootloader.detect_delay or None,
        "application_smp": "full",
    }
    board = BoardConfig.model_validate({"board": "sim", "sim": sim, "recovery": {"reset": "line"}})
    with ExitStack() as stack:
        simulator = Simulator(board)
        stack.callback(simulator.stop)
        admin = stack.enter_context(SimAdmin(simulator.admin))
        power = PowerConfig(on=supply(simulator.admin, "true"), off=supply(simulator.admin, "false"), settle=0.0)
        unit = Unit("sim", simulator.wired().model_copy(update={"power": power}))
        stack.callback(unit.close)
        unit.open()
        return [None if refusal(way) else cell(way, unit, admin) for way in WAYS]


def cell(way: Way, unit: Unit, admin: SimAdmin) -> bool:
    """Whether a way leads into recovery, of a board that has just been powered and has started its application."""
    admin.set_power(False)
    admin.set_power(True)
    wait_until(lambda: admin.counters()["program"] == "application" or not has_image(admin), "the application")
    settings = RecoveryConfig.model_validate({**way.table, "line": unit.config.recovery.line})
    unit.config = unit.config.model_copy(update={"recovery": settings})
    try:
        entered = enter(unit)
    except RecoveryNotEntered:
        assert not admin.counters()["in_recovery"]
        return False
    assert entered.method == way.entry
    assert admin.counters()["in_recovery"]
    return True


def has_image(admin: SimAdmin) -> bool:
    return admin.read_flash(SLOT0, 4) != b"\xff" * 4


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The table: for each bootloader, what each way led to."""
    image = make_build(tmp_path_factory.mktemp("table"), "1.0.0").path
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(BOOTLOADERS)) as pool:
        patch.setattr(recovery_module, "examine", lambda *_: None)  # why not is another test's
        return list(pool.map(lambda bootloader: column(bootloader, image), BOOTLOADERS))


def test_each_way_enters_or_is_refused_as_mcuboot_would(found):
    wrong = [
        f"{way.label} on {bootloader.label}: {'entered' if entered else 'refused'}"
        for bootloader, cells in zip(BOOTLOADERS, found, strict=True)
        for way, entered in zip(WAYS, cells, strict=True)
        if entered is not None and entered != mcuboot_enters(way, bootloader)
    ]
    assert not wrong


def test_what_can_never_enter_is_a_configuration_error():
    """And nothing else is, but a pin reset that is none: it might work, and would not be the entry."""
    bootloader_of = {"gpio": "gpio", "pin-reset": "pin-reset", "boot-mode": "boot-mode"}
    for way in WAYS:
        own = bootloader_of.get(way.entry)
        if own is not None:
            assert (refusal(way) is None) is (
                mcuboot_enters(way, Bootloader((own,))) and not (way.causes_cleared and way.reset == "pin")
            ), way


def rendered(found) -> str:
    lines = [
        "| entry | reset | " + " | ".join(bootloader.label for bootloader in BOOTLOADERS) + " |",
        "|---" * (len(BOOTLOADERS) + 2) + "|",
    ]
    for index, way in enumerate(WAYS):
        cells = ["ConfigError" if c[index] is None else "entered" if c[index] else "-" for c in found]
        lines.append(f"| {way.label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_the_one_that_is_kept(found):
    text = rendered(found)
    if os.environ.get("NRFDFU_WRITE_TABLES") == "1":
        FILE.write_text(text, encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == text
