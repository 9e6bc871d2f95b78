"""``nrfdfu config-schema``: the JSON schema of board configurations, which editors complete and check with.

It is made from the models in `config_types`, with the docstrings of their keys as descriptions. It is laxer than
loading in one point: no key is required but a unit's id, because a table of a rack may be completed by its [[unit]]s.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pytest_nrfdfu.config_types import BoardConfig

__all__ = ["main", "schema", "text"]

_UNIT_ID = {
    "description": "The unit's name on the command line, --board BOARD:ID.",
    "type": "string",
    "pattern": r"^[^:\[\]\s]+$",
    "not": {"const": "all"},
}
_DROPPED = frozenset({"title", "discriminator", "format", "required"})
"""Keywords that say nothing to an editor, or too much."""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand with the arguments behind its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="nrfdfu config-schema",
        description="Print the JSON schema of board configurations. An editor with TOML support (taplo, Even Better"
        " TOML) uses it where a file begins with: #:schema ./nrfdfu.schema.json",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead")
    given = parser.parse_args(arguments)
    if given.output is None:
        print(text(), end="")  # noqa: T201 - a program's output
        return 0
    try:
        given.output.write_text(text(), encoding="utf-8")
    except OSError as error:
        print(f"nrfdfu config-schema: error: {given.output}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def text() -> str:
    """The schema as it is shipped: JSON, ending in a line feed."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of one configuration file."""
    made = BoardConfig.model_json_schema(by_alias=True)
    definitions = made.pop("$defs")
    for model in _models(BoardConfig):
        definition = made if model is BoardConfig else definitions[model.__name__]
        for key, told in _key_descriptions(model).items():
            definition["properties"][key]["description"] = told
    root = _tidied(made)
    properties = root["properties"]
    properties["board"]["description"] = "The board's name; not told, the file's without .toml."
    unit = {key: value for key, value in properties.items() if key != "board"}
    properties["unit"] = {
        "description": "A rack: one table for each unit, with what differs laid over the tables above.",
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/$defs/Unit"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Board configuration of pytest-nrfdfu",
        **root,
        "$defs": {
            **{name: _tidied(definition) for name, definition in definitions.items()},
            "Unit": {
                "description": "One unit of a rack.",
                "type": "object",
                "properties": {"id": _UNIT_ID, **unit},
                "required": ["id"],
                "additionalProperties": False,
            },
        },
    }


def _models(annotation: Any, seen: frozenset[type] = frozenset()) -> Iterator[type[BaseModel]]:
    """The models that a type is made of, itself among them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            yield annotation
            for field in annotation.model_fields.values():
                yield from _models(field.annotation, seen | {annotation})
        return
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part, seen)


def _key_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings below a model's fields say, by key as it stands in a file."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    if not isinstance(tree, ast.ClassDef):  # pragma: no cover - the source of a class is a class
        return {}
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            name = field.target.id
            found[model.model_fields[name].alias or name] = _one_line(str(below.value.value))
    return found


def _one_line(told: str) -> str:
    return " ".join(told.split()).replace("``", "'")


def _tidied(value: Any) -> Any:
    """A part of the schema without what editors have no use for; a choice of tables may be half of one."""
    if isinstance(value, list):
        return [_tidied(item) for item in value if item != {"type": "null"}]  # TOML knows no null
    if not isinstance(value, dict):
        return value
    tidy: dict[str, Any] = {}
    for key, item in value.items():
        if key == "properties":
            tidy[key] = {name: _tidied(told) for name, told in item.items()}
        elif key == "description":
            tidy[key] = _one_line(item)
        elif not (key in _DROPPED or (key == "default" and (item is None or isinstance(item, dict)))):
            tidy["anyOf" if key == "oneOf" else key] = _tidied(item)
    choices = tidy.get("anyOf", [])
    if len(choices) == 1:
        del tidy["anyOf"]
        tidy = {**choices[0], **tidy}
    return tidy
