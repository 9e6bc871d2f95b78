"""The options: on the command line, in the environment, in the ini file, in this order; and what they select."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from pytest_nrfdfu.errors import NrfDfuError
from pytest_nrfdfu.plugin.rootdir import Moved, moved
from pytest_nrfdfu.report import SELECTION

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.selection import Selection

__all__ = [
    "LEASE_TIMEOUT",
    "REFLASH_WAYS",
    "RETIRE_AFTER",
    "Asked",
    "add_options",
    "asked",
    "folder",
    "moved_root",
    "number",
    "select",
    "target_settings",
]

LEASE_TIMEOUT: pytest.StashKey[float] = pytest.StashKey()
"""Of the config: seconds to wait for a unit."""
RETIRE_AFTER: pytest.StashKey[int] = pytest.StashKey()
"""Of the config: failures of category bench in a row after which a unit is not used any more; 0: never."""

_BY_HAND = "--nrfdfu-target-uart PORT instead)"
Kind = Literal["linelist", "string", "bool", "path", "number"]
_OPTIONS: Mapping[str, tuple[Kind, str]] = {
    "board": (
        "linelist",
        "a board to test on (repeatable): NAME (any free unit), NAME:all (every unit), NAME:ID; globs work",
    ),
    "build": (
        "linelist",
        "a build to test (repeatable): [NAME=]PATH of a signed .bin or .hex, a dfu_application.zip or a west build",
    ),
    "config": ("path", "folder or file of board configurations (default: hil_configs below rootdir, then built-in)"),
    "key": ("path", "the bootloader's public key: each image's signature is checked with it before it is uploaded"),
    "require_board": ("bool", "a run without --board is an error instead of skips"),
    "reflash": ("string", "auto: upload only when the active slot's hash differs; always; never"),
    "lease_timeout": ("number", "seconds to wait for a unit that somebody else uses (default: 60)"),
    "retire_after": (
        "number",
        "a unit on which the bench fails so often in a row is not used any more in this run (default: 2; 0: never)",
    ),
    "record": ("path", "folder for a record of this run, as JSON lines, which `nrfdfu report` reads"),
    "trace": ("path", "folder for every SMP exchange of every test"),
    "target_uart": (
        "string",
        "where `recovery_target` waits for the host under test: pty (default), tcp, or a serial port of this computer",
    ),
    "target_baudrate": ("number", "baud rate of `recovery_target` (default: 115200)"),
    "target_command": (
        "string",
        "the host that pytest_nrfdfu.host_conformance tests; {port}, {image}, ... are filled in (by hand: " + _BY_HAND,
    ),
    "target_timeout": ("number", "seconds for one update of the host under test (default: 60)"),
}
_METAVAR: Mapping[str, str] = {
    "board": "NAME",
    "build": "[NAME=]PATH",
    "lease_timeout": "SECONDS",
    "retire_after": "N",
    "record": "DIR",
    "trace": "DIR",
    "target_uart": "PORT",
    "target_baudrate": "N",
    "target_command": "COMMAND",
    "target_timeout": "SECONDS",
}
_TARGET_BAUDRATE = 115200
REFLASH_WAYS = ("auto", "always", "never")


def add_options(parser: pytest.Parser) -> None:
    """Command line and ini options."""
    group = parser.getgroup("nrfdfu", "firmware update of nRF5340 boards")
    short = _short()
    for name, (kind, text) in _OPTIONS.items():
        ini: Any = kind if kind in {"linelist", "bool"} else "string"
        parser.addini(f"nrfdfu_{name}", text, type=ini, default=None)
        option = "--nrfdfu-" + name.replace("_", "-")
        dest = f"nrfdfu_{name}"
        if kind == "linelist":
            names = [f"--{name}", option] if short else [option]
            group.addoption(*names, action="append", dest=dest, metavar=_METAVAR[name], default=None, help=text)
        elif kind == "bool":
            group.addoption(option, action="store_true", dest=dest, default=None, help=text)
        elif name == "reflash":
            group.addoption(option, choices=REFLASH_WAYS, dest=dest, default=None, help=text)
        else:
            group.addoption(option, metavar=_METAVAR.get(name, "PATH"), dest=dest, default=None, help=text)


class Asked(NamedTuple):
    """The value of an option, None where nothing was asked for, and the folder that a relative path is relative to."""

    value: Any
    folder: Path
    by_ini: bool = False
    """Whether it comes from the ini file: a default of the suite, and not what this run was started for."""

    @property
    def path(self) -> Path | None:
        """The value as a path; None where nothing was asked for."""
        return self.folder / Path(self.value).expanduser() if self.value else None


def asked(config: pytest.Config, name: str) -> Asked:
    """Command line over environment over ini."""
    kind = _OPTIONS[name][0]
    here = Path(config.invocation_params.dir)
    value = config.getoption(f"nrfdfu_{name}")
    if value is not None:
        return Asked(value, here)
    text = os.environ.get(f"NRFDFU_{name.upper()}")
    if text is not None:
        if kind == "linelist":
            return Asked([line.strip() for line in text.splitlines() if line.strip()], here)
        return Asked(text.strip().lower() in {"1", "true", "yes", "on"} if kind == "bool" else text, here)
    folder = config.inipath.parent if config.inipath else config.rootpath
    return Asked(config.getini(f"nrfdfu_{name}"), folder, by_ini=True)


def moved_root(config: pytest.Config) -> Moved | None:
    """Whether the value of an option here has moved pytest's rootdir; None if not."""
    short = [f"--{name}" for name, (kind, _) in _OPTIONS.items() if kind == "linelist"] if _short() else []
    long = ["--nrfdfu-" + name.replace("_", "-") for name, (kind, _) in _OPTIONS.items() if kind != "bool"]
    return moved(config, {*short, *long})


def _short() -> bool:
    """Whether --board and --build are options of this plugin."""
    return os.environ.get("NRFDFU_SHORT_OPTIONS", "1") != "0"


def number(config: pytest.Config, name: str, default: float) -> float:
    """An option that is a number and not negative; UsageError otherwise."""
    told = asked(config, name).value
    if told is None or told == "":
        return default
    try:
        value = float(told)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise pytest.UsageError(f"nrfdfu_{name} = {told!r}; must be a number from 0 on")
    return value


def folder(config: pytest.Config, name: str) -> Path | None:
    """An option that is a folder, which need not exist yet; of a worker of pytest-xdist, as the controller has it."""
    worker: Mapping[str, Any] = getattr(config, "workerinput", {})
    if "nrfdfu_folders" in worker:
        told = worker["nrfdfu_folders"].get(name)
        return Path(told) if told else None
    path = asked(config, name).path
    if path is not None and path.exists() and not path.is_dir():
        raise pytest.UsageError(f"nrfdfu_{name}: {path} is not a directory")
    return path


def target_settings(config: pytest.Config) -> dict[str, Any]:
    """What a `RecoveryTarget` is made with."""
    return {
        "uart": asked(config, "target_uart").value or "pty",
        "baudrate": int(number(config, "target_baudrate", _TARGET_BAUDRATE)),
    }


def select(config: pytest.Config) -> Selection | None:
    """What was selected, or None if nothing was asked for. Resolved once; UsageError where something is wrong."""
    if SELECTION not in config.stash:
        try:
            config.stash[SELECTION] = _select(config)
        except NrfDfuError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[SELECTION]


def _select(config: pytest.Config) -> Selection | None:
    """The selection, or None if nothing was asked for (so that nothing is imported)."""
    worker: Mapping[str, Any] = getattr(config, "workerinput", {})
    if "nrfdfu" in worker:
        from pytest_nrfdfu.bench.selection import from_data

        return from_data(worker["nrfdfu"]) if worker["nrfdfu"] else None
    boards, builds = asked(config, "board"), asked(config, "build")
    if not boards.value and not builds.value:
        return None
    from pytest_nrfdfu.bench.selection import resolve

    wandered = moved_root(config)
    return resolve(
        boards.value or (),
        builds.value or (),
        config=asked(config, "config").path,
        root=config.rootpath if wandered is None else wandered.root,
        cwd=builds.folder,
        start=config.invocation_params.dir,
        key=asked(config, "key").path,
    )
