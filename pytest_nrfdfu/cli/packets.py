"""``nrfdfu packets IMAGE``: prints the exact bytes of a correct upload of an image, and of the board's answers.

Exit status 0, or 1 where the image cannot be read or the wishes cannot be met.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nrfdfu.cli.output import write_lines

if TYPE_CHECKING:
    from pytest_nrfdfu.wire.packets import Upload

__all__ = ["main"]

_NARROWEST, _WIDEST = 60, 120


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    given = _parser().parse_args(arguments)
    from pytest_nrfdfu.errors import NrfDfuError

    try:
        _print(_upload(given), "json" if given.json else given.format, given.colour)
    except NrfDfuError as error:
        print(f"nrfdfu packets: error: {error}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nrfdfu packets",
        description="Print the exact bytes of a correct upload through MCUboot serial recovery: image list, first, "
        "second and last chunk, reset, with the board's answers, and the rules that they follow. What to compare with "
        "when writing a host.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="signed .bin or .hex, dfu_application.zip, build")
    parser.add_argument("--chunk", type=int, default=256, metavar="N", help="bytes of the image in a packet (256)")
    parser.add_argument("--sequence", type=int, default=0, metavar="N", help="of the first request, 0 to 255 (0)")
    parser.add_argument("--smp-version", type=int, choices=(1, 2), default=2, help="what the headers say (2)")
    parser.add_argument("--image-number", type=int, metavar="N", help="the upload's image number (left out: 0)")
    parser.add_argument("--name", metavar="NAME", help="which image of a build with several")
    parser.add_argument(
        "--format", choices=("hex", "c", "json"), default="hex", help="rules and annotated hex, C arrays, JSON"
    )
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)  # as other commands have it
    parser.add_argument("--colour", "--color", choices=("auto", "always", "never"), default="auto")
    return parser


def _upload(given: argparse.Namespace) -> Upload:
    from pytest_nrfdfu.errors import ConfigError
    from pytest_nrfdfu.image.build import load
    from pytest_nrfdfu.wire.packets import Upload

    images = load(given.image).images
    name = given.name or ("app" if "app" in images else next(iter(images)))
    if name not in images:
        raise ConfigError(f"{given.image} has no image {name!r}; it has: {', '.join(images)}")
    image = images[name]
    return Upload(
        image.payload,
        str(image.version),
        image.hash,
        given.chunk,
        given.sequence,
        given.smp_version,
        given.image_number,
    )


def _print(upload: Upload, form: str, colour: str) -> None:
    from pytest_nrfdfu.wire import packets
    from pytest_nrfdfu.wire.paint import paint_for

    if form == "json":
        write_lines([json.dumps(packets.as_json(upload), indent=2)])
    elif form == "c":
        write_lines(packets.as_c(upload))
    else:
        width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
        write_lines(packets.as_text(upload, paint_for(sys.stdout, colour), width))
