"""What a board's bootloader may be built with or without: keys that a real and a simulated one share."""

from __future__ import annotations

from pytest_nrfdfu.config_lines import Table

__all__ = ["BootloaderSwitches"]


class BootloaderSwitches(Table):
    """Switches over the bootloader's profile (see `pytest_nrfdfu.image.bootloader`); not told: as the profile."""

    hash: bool | None = None
    image_state: bool | None = None
    slot_info: bool | None = None
    echo: bool | None = None
    params: bool | None = None
    direct_upload: bool | None = None
