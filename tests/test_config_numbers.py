"""Numbers in configurations: every one is finite and not negative, and ``true`` or a text is none."""

import re
import threading
from typing import get_args

import pytest

from pytest_nrfdfu.config import BoardConfig, load
from pytest_nrfdfu.config_lines import GpioLine
from pytest_nrfdfu.config_numbers import LONGEST
from pytest_nrfdfu.errors import ConfigError


def parts(annotation):
    """All types that an annotation is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def keys(model=BoardConfig, above=()):
    """The keys of all fields whose values may be numbers, with the number's type."""
    for name, field in model.model_fields.items():
        path = (*above, name, *(("app",) if "dict" in str(field.annotation) else ()))  # an image's name
        for part in parts(field.annotation):
            if part in (int, float):
                yield path, part
            elif isinstance(part, type) and hasattr(part, "model_fields") and part is not GpioLine:
                yield from keys(part, path)


NUMBERS = sorted({(".".join(path), kind) for path, kind in keys()}, key=str)
FLOATS = [key for key, kind in NUMBERS if kind is float]


def refused(tmp_path, key, value):
    table, _, name = key.rpartition(".")
    path = tmp_path / "dk.toml"
    path.write_text(f"[{table}]\n{name} = {value}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    return next((line for line in lines if line.startswith(f"{path}:2: {key}: ")), str(caught.value))


def test_the_walk_finds_them():
    assert {"boot.timeout", "recovery.timeout", "power.settle", "uart.wait", "sim.pcd_delay"} <= set(FLOATS)
    assert len(FLOATS) >= 18
    assert ("images.app.upload", int) in NUMBERS


@pytest.mark.parametrize("value", ["inf", "nan", "-1.0", "true", "'1'"])
@pytest.mark.parametrize("key", FLOATS)
def test_what_is_no_number_of_seconds_or_share_is_refused(tmp_path, key, value):
    told = refused(tmp_path, key, value)
    assert f"dk.toml:2: {key}: " in told
    assert re.search("finite|greater than|a number is needed", told)


@pytest.mark.parametrize("value", ["-1", "true", "1.0", "'1'"])
@pytest.mark.parametrize("key", [key for key, kind in NUMBERS if kind is int])
def test_what_is_no_count_is_refused(tmp_path, key, value):
    told = refused(tmp_path, key, value)
    assert f"dk.toml:2: {key}: " in told
    assert re.search("greater than|a whole number is needed", told)


@pytest.mark.parametrize("key", [key for key in FLOATS if not key.endswith(("_rate", "line_loss"))])
def test_nothing_is_waited_for_longer_than_a_week(tmp_path, key):
    assert "less than or equal to" in refused(tmp_path, key, "1e9")
    assert threading.TIMEOUT_MAX > LONGEST


@pytest.mark.parametrize("value", ["true", "2.0", "false"])
@pytest.mark.parametrize("key", ["bootloader.window", "sim.images"])
def test_what_only_equals_a_choice_is_none(tmp_path, key, value):
    assert f"is needed, not {value}" in refused(tmp_path, key, value)


@pytest.mark.parametrize("key", ["uart.dtr", "bootloader.hash", "sim.locked"])
def test_a_switch_is_no_number(tmp_path, key):
    assert "true or false is needed, not 1" in refused(tmp_path, key, "1")


@pytest.mark.parametrize("value", ["-1", "true"])
def test_the_offset_of_a_line_is_a_number_or_a_name(value, tmp_path):
    path = tmp_path / "dk.toml"
    path.write_text(f'[probe]\n[recovery.line]\ndriver = "gpiod"\nchip = "c"\nline = {value}\n')
    with pytest.raises(ConfigError, match=re.escape("dk.toml:5: recovery.line.line: ")):
        load(path)


@pytest.mark.parametrize("told", ["timeout = 5", "timeout = 0.5", "smp = true"])
def test_what_is_right_is_taken(tmp_path, told):
    path = tmp_path / "dk.toml"
    path.write_text(f"[sim]\n[boot]\n{told}\n")
    (unit,) = load(path)
    assert unit.config.boot.timeout > 0
