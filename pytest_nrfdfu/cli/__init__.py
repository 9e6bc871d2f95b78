"""The command ``nrfdfu``: one subcommand for each thing to do at a bench.

A subcommand that reports something takes ``--json`` and then prints one JSON object. Nothing but the standard library
is imported before it is known what is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["main"]

_READER_GONE = 141
"""Exit status: a shell's for a program that SIGPIPE ended (128 and its number)."""


class _Command(NamedTuple):
    """A subcommand: `run` gets the arguments behind its name, parses them itself, and returns the exit status."""

    help: str
    run: Callable[[Sequence[str]], int]


def _sim(arguments: Sequence[str]) -> int:
    """Run the simulator's module as a program: nothing imports the simulator."""
    saved = sys.argv
    sys.argv = ["nrfdfu sim", *arguments]
    try:
        runpy.run_module("pytest_nrfdfu.sim", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = saved
    return 0


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a module of this package, imported when it is called."""

    def run(arguments: Sequence[str]) -> int:
        status: int = importlib.import_module(f"pytest_nrfdfu.cli.{name}").main(arguments)
        return status

    return run


_COMMANDS = {
    "sim": _Command("serve a simulated nRF5340 DK", _sim),
    "build": _Command("say what was understood of a build", _command("build")),
    "doctor": _Command("try each part of a board's bench, say what is wrong and what to do", _command("doctor")),
    "discover": _Command("find probes and ports that belong together, write a configuration", _command("discover")),
    "provision": _Command("run a board's own command that puts a bootloader on it", _command("provision")),
    "config-schema": _Command("print the JSON schema of board configurations, for editors", _command("schema")),
    "packets": _Command("print the exact bytes of a correct upload, explained", _command("packets")),
    "trace": _Command("explain, check or compare captured packets", _command("trace")),
    "units": _Command("list units: free, held by whom, held back; hold one back", _command("units")),
    "report": _Command("turn the records of many runs into one HTML page", _command("report")),
}


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<15}{command.help}" for name, command in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="nrfdfu",
        description="Firmware updates of nRF5340 boards through MCUboot serial recovery.",
        epilog=f"commands:\n{listing}\n\nnrfdfu COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=tuple(_COMMANDS), metavar="COMMAND", help="what to do")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its options")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name); returns the exit status.

    A command whose reader goes away (``| head``) ends there, and what it holds is released.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        # Only what stands before the command is the parser's; a command's options are its own.
        parsed = _parser().parse_args(given[:1])
        status = _COMMANDS[parsed.command].run(given[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    return status
