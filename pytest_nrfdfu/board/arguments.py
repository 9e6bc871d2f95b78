"""What tests may pass to updates and to the console: checked before anything is done, told in this package's words."""

from __future__ import annotations

import math

from pytest_nrfdfu.image.build import Build

__all__ = ["check_build", "check_place", "check_seconds"]

_LOAD = "take the fixture `build`, or load a file: pytest_nrfdfu.load_build(path)"


def check_build(build: object, call: str) -> None:
    """TypeError if what `call` (``dfu.update``) got is no Build: a path, an Image, None."""
    if not isinstance(build, Build):
        raise TypeError(f"{call} takes a Build, and got {_named(build)}; {_LOAD}")


def check_seconds(name: str, seconds: object, *, zero: bool = False) -> None:
    """TypeError or ValueError if a time in seconds is no finite number, or negative; 0 only with `zero`."""
    allowed = f"{'0 or a positive' if zero else 'a positive'} finite number of seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name}={_named(seconds)} is no time; allowed: {allowed}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{name}={seconds!r} cannot be waited for; allowed: {allowed}")


def check_place(at: object) -> None:
    """TypeError if where to cut an update off is not said by a text."""
    if not isinstance(at, str):
        raise TypeError(f"at={_named(at)} is no place in an update; write 'upload:50%' or 'swap:30%'")


def _named(value: object) -> str:
    return "None" if value is None else f"{value!r} ({type(value).__name__})"
