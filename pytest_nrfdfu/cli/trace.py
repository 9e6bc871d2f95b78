"""``nrfdfu trace decode|lint|diff``: explains, checks and compares captured packets.

Exit status 0; 1 where lint found an error or diff a difference that matters; 2 where a capture cannot be read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.cli.output import write_lines

if TYPE_CHECKING:
    from pytest_nrfdfu.image.bootloader import BootloaderProfile
    from pytest_nrfdfu.wire.capture import Capture

__all__ = ["main"]

_UNREADABLE = 2
_NARROWEST, _WIDEST = 70, 140
_INPUTS = """\
A capture is a file in any of these formats, told apart by the content: JSON lines of --nrfdfu-trace, pcapng, raw bytes,
the CSV that Saleae Logic exports for async serial, UART annotations of sigrok or PulseView, and bytes as people paste
them (06 09 41, 0x06, 0x09, C arrays, xxd, hexdump -C, "\\x06\\x09AAsC", TX:/RX: in front, bare base64 lines).
"""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    given = _parser().parse_args(arguments)
    from pytest_nrfdfu.errors import ConfigError

    try:
        status: int = given.run(given)
    except ConfigError as error:
        print(f"nrfdfu trace: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return _UNREADABLE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nrfdfu trace",
        description="Explain, check or compare what passed on a UART between an SMP host and a board.",
        epilog=_INPUTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    decode = _command(commands, "decode", _decode, "one line for each message")
    decode.add_argument("capture", type=Path, metavar="FILE")
    decode.add_argument("-v", "--verbose", action="store_true", help="the fields, and the bytes that made them")
    lint = _command(commands, "lint", _lint, "what is wrong in a host's packets, and how it should be")
    lint.add_argument("capture", type=Path, metavar="FILE")
    lint.add_argument("--profile", metavar="NAME", help="the bootloader, such as ncs-2.6 (default: MCUboot's defaults)")
    lint.add_argument(
        "--all",
        action="store_true",
        help="print every finding (otherwise the first of each rule, and how many there are)",
    )
    diff = _command(commands, "diff", _diff, "where two hosts' captures of the same update differ, and if it matters")
    diff.add_argument("a", type=Path, metavar="A")
    diff.add_argument("b", type=Path, metavar="B")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=_INPUTS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--direction", choices=("tx", "rx"), help="of a file with one direction: tx is host to board (default: by op)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--colour", "--color", choices=("auto", "always", "never"), default="auto")
    command.set_defaults(run=run)
    return command


def _load(path: Path, given: argparse.Namespace) -> Capture:
    from pytest_nrfdfu.wire.readers import load

    return load(path, direction=given.direction)


def _print_json(value: Mapping[str, Any]) -> None:
    write_lines([json.dumps(value, indent=2)])


def _decode(given: argparse.Namespace) -> int:
    from pytest_nrfdfu.wire import decode
    from pytest_nrfdfu.wire.paint import paint_for

    capture = _load(given.capture, given)
    if given.json:
        _print_json(decode.as_json(capture, verbose=given.verbose))
        return 0
    paint = paint_for(sys.stdout, given.colour)
    listing = decode.lines(capture, verbose=given.verbose, paint=paint)
    write_lines(itertools.chain(listing, [paint(decode.summary(capture), "bold")]))
    return 0


def _lint(given: argparse.Namespace) -> int:
    from pytest_nrfdfu.wire import lint
    from pytest_nrfdfu.wire.paint import paint_for

    capture = _load(given.capture, given)
    findings = lint.lint(capture, profile=_profile(given.profile))
    if not given.all:
        findings = lint.summary(findings)
    if given.json:
        _print_json({"source": capture.source, "findings": [_jsonable(finding) for finding in findings]})
    else:
        colour = paint_for(sys.stdout, given.colour).on
        shown = (lint.render(finding, colour).rstrip("\n") + "\n" for finding in findings)
        primer = [lint.PRIMER.rstrip("\n") + "\n"] if findings else []
        write_lines(itertools.chain(shown, primer, [_verdict([finding.severity.value for finding in findings])]))
    return 1 if any(finding.severity is lint.Severity.ERROR for finding in findings) else 0


def _verdict(severities: Sequence[str]) -> str:
    if not severities:
        return "Nothing wrong was found."
    kinds = ((word, severities.count(word)) for word in dict.fromkeys(severities))
    counts = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in kinds)
    more = "" if len(severities) == 1 else " Begin with the first: others may follow from it."
    return f"{len(severities)} finding{'' if len(severities) == 1 else 's'}: {counts}.{more}"


def _profile(name: str | None) -> BootloaderProfile | None:
    from pytest_nrfdfu.image.bootloader import profile

    return None if name is None else profile(name)


def _jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    match value:
        case Enum():
            return value.value
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): _jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case _:
            return value


def _diff(given: argparse.Namespace) -> int:
    from pytest_nrfdfu.wire import diff
    from pytest_nrfdfu.wire.paint import paint_for

    comparison = diff.compare(_load(given.a, given), _load(given.b, given))
    if given.json:
        _print_json(diff.as_json(comparison))
    else:
        paint = paint_for(sys.stdout, given.colour)
        names = (str(given.a), str(given.b))
        width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
        write_lines(diff.render(comparison, names, paint, width))
    return 1 if comparison.first is not None else 0
