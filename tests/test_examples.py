"""The examples, run as their README says."""

import re
import shutil
from pathlib import Path

import pytest
import suites

EXAMPLES = Path(__file__).parents[1] / "examples"


def commands():
    """The README's table: what to run for each folder."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| `pytest (.*)` \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    return {folder: command.replace("'", "").split() for folder, command in rows}


@pytest.fixture
def suite(pytester, monkeypatch):
    """A folder that holds a copy of the examples, and builds of two versions."""
    suite = suites.make(pytester, monkeypatch)
    shutil.rmtree(suite.path / "hil_configs")
    shutil.copytree(EXAMPLES, suite.path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return suite


def run(suite, folder):
    """The command of the README, each BUILD in it another file."""
    versions = iter(("1.0.0", "2.1.0"))
    arguments = [
        part.replace("BUILD", str(suites.app(suite.path, version := next(versions), name=f"{version}.bin")))
        if "BUILD" in part
        else part
        for part in commands()[folder]
    ]
    return suite.run(*arguments, "-v")


def test_every_example_is_in_the_table():
    """And each is run below."""
    folders = {path.parent.name for path in EXAMPLES.glob("*/test_*.py")}
    assert set(commands()) == folders == {"defaults_only", "product_suite"}


def test_defaults_only(suite):
    result = run(suite, "defaults_only")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*test_update_is_proved[[]board:nrf5340dk-sim-build:app[]] *",
            "*test_it_boots[[]board:nrf5340dk-sim-build:app[]] *",
        ]
    )
    assert result.stdout.str().count("uploading app") == 1


def test_product_suite(suite):
    """Its own board's configuration, its own fixture, one test per build; each build uploaded once."""
    result = run(suite, "product_suite")
    result.assert_outcomes(passed=5)
    for test, build in (("banner_after_restart", "v1"), ("new_feature", "v2")):
        result.stdout.fnmatch_lines_random([f"*test_{test}[[]board:sensor-bench-build:{build}[]] *"])
    result.stdout.no_fnmatch_line("*test_new_feature[[]board:sensor-bench-build:v1[]]*")
    assert result.stdout.str().count("uploading app") == 2
