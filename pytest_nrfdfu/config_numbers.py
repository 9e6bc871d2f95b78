"""Numbers in a board configuration: what counts as one, and how long anything may be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field

__all__ = ["LONGEST", "Pause", "Timeout", "check_kind"]

LONGEST = 7 * 86_400.0
"""Seconds: a week. A wait without an end only hides what broke, and the system's own waits have an end as well
(`threading.TIMEOUT_MAX`)."""
Timeout = Annotated[float, Field(gt=0, le=LONGEST)]
"""Seconds to wait at most."""
Pause = Annotated[float, Field(ge=0, le=LONGEST)]
"""Seconds that something takes, or that are waited in any case."""

_SCALARS = (bool, int, float, str)
_NUMBERS = frozenset({bool, int, float})
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def check_kind(annotation: Any, value: Any) -> None:
    """ValueError where `value` is no number and `annotation` wants one, or the other way round.

    Without it ``true`` would be taken for 1, ``2.0`` for 2, and a text for the number that it shows.
    """
    if not isinstance(value, _SCALARS):
        return
    literals = list(_literals(annotation))
    kinds = {*_kinds(annotation), *map(type, literals)} - {type(None)}
    numbers = kinds & _NUMBERS
    fits = type(value) in kinds or (type(value) is int and float in kinds)
    if fits or not numbers or (isinstance(value, str) and kinds - _NUMBERS):
        return
    words = [repr(literal) for literal in literals] or [word for kind, word in _WORDS.items() if kind in kinds]
    given = str(value).lower() if isinstance(value, bool) else repr(value)
    raise ValueError(f"{' or '.join(words)} is needed, not {given}")


def _literals(annotation: Any) -> Iterator[Any]:
    """The values of the literals that an annotation is made of."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for part in get_args(annotation):
        yield from _literals(part)


def _kinds(annotation: Any) -> Iterator[type]:
    """The types that an annotation is made of, where a single value can be of them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in {Literal, tuple, dict}:
        return
    elif get_args(annotation):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif isinstance(annotation, type):
        yield annotation
