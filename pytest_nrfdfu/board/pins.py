"""Which pin of the chip MCUboot looks at for serial recovery, as far as the configuration tells.

Sources: Zephyr, boards/nordic/* (the alias ``mcuboot-button0``); nRF5340 product specification, GPIO (P0 has 32 pins,
P1 has 16).
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_nrfdfu.config_types import BoardConfig

__all__ = ["Pin", "pin_name", "recovery_pin"]

Pin = tuple[int, int]
"""Port and number."""
_PINS: Mapping[str, Pin] = {
    "nrf5340dk": (0, 23),
    "nrf7002dk": (1, 8),
    "nrf5340_audio_dk": (0, 4),
    "thingy53": (1, 13),
}
"""By the beginning of a board's name."""


def recovery_pin(config: BoardConfig) -> Pin | None:
    """The pin that MCUboot looks at: as configured, else the known board's; None where nobody tells."""
    told = config.recovery.pin
    if told is not None:
        port, _, number = told.removeprefix("P").partition(".")
        return int(port), int(number)
    if config.simulated:
        return _PINS["nrf5340dk"]
    names = (config.board, *config.compatible)
    return next((pin for name in names for board, pin in _PINS.items() if name.startswith(board)), None)


def pin_name(pin: Pin) -> str:
    """As Nordic writes it: ``P0.23``."""
    return f"P{pin[0]}.{pin[1]:02}"
