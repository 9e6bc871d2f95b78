"""pytest-nrfdfu: hardware-in-the-loop firmware update tests for boards with a Nordic nRF5340.

The public names are resolved on first use (PEP 562), so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.target import RecoveryTarget
    from pytest_nrfdfu.board.board import Board
    from pytest_nrfdfu.board.client import SmpClient
    from pytest_nrfdfu.board.console import ConsoleView
    from pytest_nrfdfu.board.dfu import Dfu, Recovery
    from pytest_nrfdfu.board.interrupt import Interrupted
    from pytest_nrfdfu.board.report import DfuReport
    from pytest_nrfdfu.board.revert import Reverted
    from pytest_nrfdfu.board.staged import StagedUpdate
    from pytest_nrfdfu.errors import (
        BoardError,
        ConfigError,
        DfuError,
        HashMismatch,
        ImageError,
        LeaseError,
        LineError,
        LossyLink,
        NotBooted,
        NrfDfuError,
        PortGone,
        ProbeError,
        RecoveryNotEntered,
        SmpError,
        SmpMalformed,
        SmpRejected,
        SmpTimeout,
        UartError,
        UpdateRefused,
        UploadFailed,
    )
    from pytest_nrfdfu.image.build import Build
    from pytest_nrfdfu.image.build import load as load_build
    from pytest_nrfdfu.image.mcuboot import Image

_HOME = {
    "Board": "board.board",
    "Build": "image.build",
    "ConsoleView": "board.console",
    "Dfu": "board.dfu",
    "DfuReport": "board.report",
    "Image": "image.mcuboot",
    "Interrupted": "board.interrupt",
    "Recovery": "board.dfu",
    "RecoveryTarget": "bench.target",
    "Reverted": "board.revert",
    "SmpClient": "board.client",
    "StagedUpdate": "board.staged",
    "load_build": "image.build:load",
}
"""The module of a name, and behind a colon what it is called there; those that are not listed are in `errors`."""

__all__ = [
    "Board",
    "BoardError",
    "Build",
    "ConfigError",
    "ConsoleView",
    "Dfu",
    "DfuError",
    "DfuReport",
    "HashMismatch",
    "Image",
    "ImageError",
    "Interrupted",
    "LeaseError",
    "LineError",
    "LossyLink",
    "NotBooted",
    "NrfDfuError",
    "PortGone",
    "ProbeError",
    "Recovery",
    "RecoveryNotEntered",
    "RecoveryTarget",
    "Reverted",
    "SmpClient",
    "SmpError",
    "SmpMalformed",
    "SmpRejected",
    "SmpTimeout",
    "StagedUpdate",
    "UartError",
    "UpdateRefused",
    "UploadFailed",
    "load_build",
]


def __getattr__(name: str) -> object:
    """Import a public name's module on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, inner = _HOME.get(name, "errors").partition(":")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), inner or name)
    globals()[name] = value
    return value
