"""``nrfdfu build PATH``: prints what was understood of a build, as text or as one JSON object.

Exit status 0, or 1 where the path holds no build that could be uploaded; what is known all the same is still printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nrfdfu.cli.build_text import render

if TYPE_CHECKING:
    from pytest_nrfdfu.image.build import Build
    from pytest_nrfdfu.image.facts import BuildFacts
    from pytest_nrfdfu.image.mcuboot import Image
    from pytest_nrfdfu.image.slots import SlotFacts

__all__ = ["describe", "main"]

_NARROWEST, _WIDEST = 60, 120


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu build",
        description="Say what was understood of a build: images, where they go, what its bootloader can do.",
    )
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="signed .bin or .hex, dfu_application.zip, or directory"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    seen = describe(given.path)
    if given.json:
        print(json.dumps(seen, indent=2), flush=True)  # noqa: T201 - a program's output
    else:
        width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
        print(render(seen, width), end="", flush=True)  # noqa: T201 - a program's output
    if seen["error"]:
        print(f"nrfdfu build: error: {seen['error']}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    return 0


def describe(path: Path) -> dict[str, Any]:
    """What is known of the build at `path`, ready for JSON: name, path, images, facts, notes, error (None or text)."""
    from pytest_nrfdfu.errors import NrfDfuError
    from pytest_nrfdfu.image.build import load

    try:
        build = load(path)
    except NrfDfuError as error:
        facts, more = _facts_alone(path)
        errors = "; ".join(dict.fromkeys([str(error), *more]))
        return _described(path.name or str(path), path, [], facts, (), errors)
    images = [_image(name, image, build) for name, image in build.images.items()]
    return _described(build.name, build.path, images, build.facts, build.notes, None)


def _facts_alone(path: Path) -> tuple[BuildFacts | None, list[str]]:
    """What the metadata says where the images are missing, and what is wrong with the metadata."""
    from pytest_nrfdfu.errors import ImageError
    from pytest_nrfdfu.image.facts import read_facts

    if not path.is_dir():
        return None, []
    try:
        return read_facts(path), []
    except ImageError as error:
        return None, [str(error)]


def _described(
    name: str,
    path: Path,
    images: list[dict[str, Any]],
    facts: BuildFacts | None,
    notes: Iterable[str],
    error: str | None,
) -> dict[str, Any]:
    both = (*notes, *(facts.notes if facts is not None else ()))
    return {
        "name": name,
        "path": str(path),
        "images": images,
        "facts": None if facts is None else _facts(facts),
        "notes": list(dict.fromkeys(both)),
        "error": error,
    }


def _image(name: str, image: Image, build: Build) -> dict[str, Any]:
    facts = build.facts
    origin = build.member(name)
    # Images beside those of the two cores are called after their files; the manifest numbers them.
    role = name if name in {"app", "net"} or not origin.image_index else f"image{origin.image_index}"
    upload, reason = _upload(role, facts)
    return {
        "name": name,
        "file": _relative(origin.file, build.path),
        "version": str(image.version),
        "hash": image.hash.hex(),
        "bytes": image.size,
        "variant": _variant(image),
        "signature": image.signature.name if image.signature else None,
        "slot": _slot(facts.slots.get(role) if facts is not None else None),
        "upload": upload,
        "upload_reason": reason,
    }


def _relative(file: str, build: Path) -> str:
    """A file's path within a build directory; as it is, where it is a member of a zip or the build itself."""
    path = Path(file)
    return str(path.relative_to(build)) if path != build and path.is_relative_to(build) else file


def _upload(role: str, facts: BuildFacts | None) -> tuple[int | None, str]:
    """The number in the upload request, and why it is that or none."""
    from pytest_nrfdfu.image.bootloader import network_upload

    if role == "app":
        return 0, "the application is number 0 for every bootloader"
    if facts is not None and role == "net":
        return facts.network_upload.number, facts.network_upload.reason
    if facts is not None and facts.profile is not None and role.removeprefix("image").isdecimal():
        index = int(role.removeprefix("image"))
        number = network_upload(direct_upload=facts.direct_upload, images=facts.images, index=index).number
        return number, f"it is image {index} of the bootloader"
    return None, "not known: nothing beside the image says what the bootloader can do"


def _variant(image: Image) -> str:
    """What kind of image file it is."""
    words = [word for word, true in (("confirmed", image.confirmed), ("encrypted", image.encrypted)) if true]
    if image.trailer and not image.confirmed:
        words.append("with trailer")
    elif image.padded and not image.trailer:
        words.append("padded")
    return " ".join(words) or "plain"


def _slot(slot: SlotFacts | None) -> dict[str, Any] | None:
    if slot is None:
        return None
    return {
        "address": slot.address,
        "size": slot.size,
        "memory": slot.memory,
        "source": slot.source,
        "secondary": _slot(slot.secondary),
    }


def _facts(facts: BuildFacts) -> dict[str, Any]:
    button, uart, mode = facts.button, facts.uart, facts.boot_mode
    return {
        "board": facts.board,
        "soc": facts.soc,
        "bootloader": _bootloader(facts),
        "button": button and {"pin": button.pin, "active": button.active, "pull": button.pull},
        "uart": uart
        and {
            "node": uart.node,
            "baudrate": uart.baudrate,
            "flow_control": "rtscts" if uart.flow_control else "none",
            "usb": uart.usb,
            "vendor_id": uart.vendor_id,
            "product_id": uart.product_id,
        },
        "boot_mode": mode
        and {
            "node": mode.node,
            "register": mode.register,
            "size": mode.size,
            "prefix": mode.prefix.hex(),
            "checksum": mode.checksum,
        },
        "slots": {name: _slot(slot) for name, slot in facts.slots.items()},
        "network_upload": facts.network_upload.number,
        "network_upload_reason": facts.network_upload.reason,
        "erase_page": facts.erase_page,
        "write_block": facts.write_block,
    }


def _bootloader(facts: BuildFacts) -> dict[str, Any] | None:
    profile = facts.profile
    if profile is None:
        return None
    return {
        "profile": profile.name,
        "serial_recovery": facts.serial_recovery,
        "entrances": list(profile.entrances),
        "boot_request": facts.boot_request,
        "detect_delay": profile.detect_delay,
        "wait_for_dfu": profile.wait_for_dfu,
        "images": profile.images,
        "direct_upload": profile.direct_upload,
        "upgrade_mode": facts.upgrade_mode,
        "signature": facts.signature,
        "key_file": facts.key_file,
        "encryption": facts.encryption,
        "raw_protocol": facts.raw_protocol,
        **{
            name: getattr(profile, name)
            for name in (
                "receive_size",
                "line_length",
                "line_buffers",
                "hash",
                "image_state",
                "slot_info",
                "echo",
                "params",
                "erase_progressively",
            )
        },
    }
