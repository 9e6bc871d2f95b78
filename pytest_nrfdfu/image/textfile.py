"""Reads a text file of a build directory: bounded, and with errors that say what to do."""

from __future__ import annotations

from pathlib import Path

from pytest_nrfdfu.errors import ImageError

__all__ = ["MAX_TEXT_SIZE", "read_text"]

MAX_TEXT_SIZE = 4 << 20
"""A larger file is not read, in bytes. A real MCUboot's .config has 60 000, its zephyr.dts 25 000."""


def read_text(path: Path, limit: int = MAX_TEXT_SIZE) -> str:
    """The whole text of the file at `path`, of at most `limit` bytes; ImageError if that cannot be had."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageError(f"{path} cannot be read: {error}. Look at the path and its permissions") from error
    if len(data) > limit:
        raise ImageError(
            f"{path} has more than {limit} bytes, and no build makes it that large. Build again in a clean directory"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError(
            f"{path} is not text: {error.reason} at offset {error.start}. Copy the build directory again, or build"
        ) from error
