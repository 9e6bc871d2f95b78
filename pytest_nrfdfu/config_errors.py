"""What is wrong in a configuration file, in words: file, line, key and fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["explain", "line_of"]

Location = tuple[int | str, ...]


def _step(models: list[Any], part: str) -> list[Any]:
    """The models that `part` of a location leads to from `models` (several: the choices of a union)."""
    for model in models:
        fields = model.model_fields
        if part in fields:
            return _models_of(fields[part].annotation)
    tagged = [model for model in models if part in _tags(model)]
    return tagged or models  # else the name of an image, in a table of tables whose model is known already


def _tags(model: Any) -> tuple[Any, ...]:
    """The values of ``driver`` that choose `model` in a union."""
    field = model.model_fields.get("driver")
    return getattr(field.annotation, "__args__", ()) if field else ()


def _known_keys(location: Location, schema: type[BaseModel]) -> list[str]:
    """The keys that the schema knows beside the one at `location`."""
    models: list[Any] = [schema]
    for part in location[:-1]:
        models = _step(models, str(part)) if models else []
    return [field.alias or name for name, field in models[0].model_fields.items()] if models else []


def _models_of(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_of(a)]


def _path_of(location: Location, schema: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a location as they stand in the file: pydantic adds indexes, and the tag of a union's choice."""
    path: list[str] = []
    models: list[Any] = [schema]
    for part in (part for part in location if isinstance(part, str)):
        if not any(part in _tags(model) for model in models) or any(part in model.model_fields for model in models):
            path.append(part)
        models = _step(models, part)
    return tuple(path)


_TABLE = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")


def _keys_by_line(text: str) -> Iterator[tuple[int, int | None, tuple[str, ...]]]:
    """Where the keys and tables of a TOML text are: line, number of the [[unit]] (None outside), and full path.

    A scan for people's sake: what tomllib read is not asked, and a key in a text of several lines is taken for one.
    """
    table: tuple[str, ...] = ()
    unit: int | None = None
    units = -1
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = _path(header[2])
            if table[0] != "unit":
                unit = None
            elif header[1] and len(table) == 1:
                units += 1
                unit = units
            table = table[1:] if unit is not None else table
            yield number, unit, table
        elif key := _KEY.match(line):
            yield number, unit, (*table, *_path(key[1]))


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def line_of(text: str, path: tuple[str, ...], unit: int | None = None) -> str:
    """``:LINE`` of a key, or of the nearest table or value around it, in the unit's table or else outside."""
    lines: dict[tuple[int | None, tuple[str, ...]], int] = {}
    for number, where, key in _keys_by_line(text):
        lines.setdefault((where, key), number)
    for length in range(len(path), 0, -1):
        for where in (unit, None):
            if (where, path[:length]) in lines:
                return f":{lines[where, path[:length]]}"
    return ""


def explain(error: ValidationError, file: Path, text: str, unit: int | None, schema: type[BaseModel]) -> str:
    """What is wrong with a file: a line each, with file, line, key, and what would be right.

    `text`: of the file; `unit`: the number of the [[unit]] table that was laid over, if one was.
    """
    lines = []
    items = error.errors()
    for item in items:
        location = item["loc"]
        if item["type"] == "too_short" and any(len(o["loc"]) > len(location) for o in items):
            continue  # it follows from what is wrong inside
        path = _path_of(location, schema)
        lines.append(f"{file}{line_of(text, path, unit)}: {'.'.join(path) or '(file)'}: {_what(item, schema)}")
    return "\n".join(lines)


def _meant(word: str, known: list[str], hint: str) -> str:
    """`hint` with the known word that is nearest to one, or nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return hint.format(repr(near[0])) if near else ""


def _what(item: ErrorDetails, schema: type[BaseModel]) -> str:
    """One thing that is wrong, with what would be right."""
    message, given = item["msg"].removeprefix("Value error, "), item["input"]
    match item["type"]:
        case "extra_forbidden":
            known = _known_keys(item["loc"], schema)
            near = _meant(str(item["loc"][-1]), known, "did you mean {}?")
            text = f"unknown key; {near or 'known here: ' + ', '.join(known)}"
        case "union_tag_invalid":
            text = f"driver {item['ctx']['tag']!r} is not known; known: {item['ctx']['expected_tags']}"
        case "union_tag_not_found":
            keys = [str(key) for key in given] if isinstance(given, dict) else []
            text = "a driver must be named: driver = ..." + _meant("driver", keys, "; is {} meant to be it?")
        case "missing":
            text = "this key is missing"
        case "value_error":
            text = message
        case "literal_error":
            words = re.findall(r"'([^']*)'", message)
            text = f"{message}, not {given!r}" + _meant(str(given), words, "; did you mean {}?")
        case _:
            text = f"{message}, not {given!r}"
    return text
