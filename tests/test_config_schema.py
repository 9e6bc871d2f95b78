"""The JSON schema of configurations: made from the models, shipped with the files, and true of them."""

import json
import re
import tomllib

import pytest

from pytest_nrfdfu import cli
from pytest_nrfdfu.cli.schema import schema, text
from pytest_nrfdfu.config import shipped_configs

SCHEMA = schema()
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def problems(value, part=SCHEMA, where="file"):
    """What JSON Schema says is wrong with a value, by the keywords that are used here."""
    if "$ref" in part:
        *_, name = part["$ref"].split("/")
        yield from problems(value, SCHEMA["$defs"][name], where)
        return
    if "anyOf" in part and not any(not list(problems(value, choice, where)) for choice in part["anyOf"]):
        yield f"{where}: none of the choices"
    if "type" in part:
        fits = isinstance(value, TYPES[part["type"]]) and not (isinstance(value, bool) and part["type"] != "boolean")
        if not fits:
            yield f"{where}: {value!r} is no {part['type']}"
            return
    if "enum" in part and value not in part["enum"]:
        yield f"{where}: {value!r} is not one of {part['enum']}"
    if "const" in part and value != part["const"]:
        yield f"{where}: {value!r} is not {part['const']!r}"
    if "not" in part and not list(problems(value, part["not"], where)):
        yield f"{where}: {value!r} is excluded"
    yield from bounds(value, part, where)
    if isinstance(value, dict):
        for key, item in value.items():
            known = part.get("properties", {}).get(key, part.get("additionalProperties", {}))
            if known is False:
                yield f"{where}: unknown key {key}"
            else:
                yield from problems(item, {} if known is True else known, f"{where}.{key}")
        yield from (f"{where}: no {key}" for key in part.get("required", ()) if key not in value)
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from problems(item, part.get("items", {}), f"{where}[{number}]")


def bounds(value, part, where):
    checks = {
        "minLength": lambda limit: len(value) >= limit,
        "pattern": lambda expression: re.search(expression, value),
        "minItems": lambda limit: len(value) >= limit,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
    }
    yield from (
        f"{where}: {value!r} breaks {key}" for key, holds in checks.items() if key in part and not holds(part[key])
    )


def keywords(part):
    """The keywords of a schema, below names of keys as well."""
    if isinstance(part, list):
        return set().union(*map(keywords, part))
    if not isinstance(part, dict):
        return set()
    found = set(part)
    for key, item in part.items():
        named = key in {"properties", "$defs"}
        found |= set().union(*map(keywords, item.values())) if named else set() if key == "default" else keywords(item)
    return found


def test_this_check_knows_every_keyword_used():
    known = {"$ref", "anyOf", "type", "enum", "const", "not", "minLength", "pattern", "minItems", "minimum", "maximum"}
    known |= {"exclusiveMinimum", "properties", "additionalProperties", "required", "items", "$defs"}
    assert keywords(SCHEMA) - known == {"$schema", "title", "description", "default"}


CONFIGS = sorted(shipped_configs().glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_shipped_configuration_is_valid_and_refers_to_it(path):
    told = path.read_text()
    assert told.startswith("#:schema ./nrfdfu.schema.json\n")
    assert list(problems(tomllib.loads(told))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('bord = "dk"', "unknown key bord"),
        ("[uart]\nbaudrate = 0", "breaks exclusiveMinimum"),
        ('[uart]\nbaudrate = "fast"', "is no integer"),
        ('[recovery]\nentry = ["gpoi"]', "'gpoi' is not one of"),
        ('[recovery]\nreset = "poweroff"', "file.recovery.reset: 'poweroff' is not one of"),
        ('[recovery.line]\ndriver = "gpio"', "file.recovery.line: none of the choices"),
        ('[[unit]]\nprobe.unique_id = "1"', "no id"),
        ('[[unit]]\nid = "all"', "is excluded"),
        ('[[unit]]\nid = "a"\nboard = "b"', "unknown key board"),
        ('[[unit]]\nid = "a"\nuart.prot = "auto"', "unknown key prot"),
        ("unit = []", "breaks minItems"),
    ],
)
def test_what_is_wrong_is_noticed(wrong, said):
    assert [said in problem for problem in problems(tomllib.loads(wrong))] == [True]


def test_a_table_may_be_completed_by_its_units():
    rack = '[recovery.line]\ndriver = "gpiod"\nchip = "io"\n[[unit]]\nid = "a"\nrecovery.line.line = 3'
    assert list(problems(tomllib.loads(rack))) == []


def test_keys_are_described_by_their_docstrings():
    uart = SCHEMA["$defs"]["UartConfig"]
    assert uart["properties"]["wait"]["description"] == "Seconds to wait for a port that is not there yet."
    assert uart["description"].startswith("The port that carries SMP")
    assert "assert" in SCHEMA["$defs"]["CommandLine"]["properties"]  # as the file says it


def test_the_shipped_schema_is_the_generated_one():
    shipped = shipped_configs() / "nrfdfu.schema.json"
    assert shipped.read_text() == text(), "run: nrfdfu config-schema --output hil_configs/nrfdfu.schema.json"


def test_the_command_prints_or_writes_it(capsys, tmp_path):
    assert cli.main(["config-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert cli.main(["config-schema", "--output", str(tmp_path / "s.json")]) == 0
    assert (tmp_path / "s.json").read_text() == text()
    assert cli.main(["config-schema", "--output", str(tmp_path / "no" / "s.json")]) == 1
    assert "No such file" in capsys.readouterr().err
