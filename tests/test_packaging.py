"""What is in the wheel, and that the shipped configurations are found from it and from a source tree."""

import configparser
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import firmware
import pytest
import suites

ROOT = Path(__file__).parents[1]
SHIPPED = {path.name for path in (ROOT / "hil_configs").glob("*.toml")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as a release is."""
    firmware.needs("build")
    firmware.needs("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_what_it_must(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = archive.read(f"{info}/METADATA").decode()
        points = configparser.ConfigParser()
        points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert SHIPPED
    assert {f"pytest_nrfdfu/hil_configs/{name}" for name in SHIPPED} <= names
    assert "pytest_nrfdfu/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pytest_nrfdfu").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}, "the package, and nothing else"
    assert dict(points["pytest11"]) == {"nrfdfu": "pytest_nrfdfu.plugin"}
    assert dict(points["console_scripts"]) == {"nrfdfu": "pytest_nrfdfu.cli:main"}
    for line in ("License-Expression: Apache-2.0", "Classifier: Framework :: Pytest", "Classifier: Typing :: Typed"):
        assert line in metadata
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert all(f"Provides-Extra: {name}" in metadata for name in extras)


def collect(folder, *options, **environment):
    """Run pytest in a folder that knows no configuration; returns its output."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "NRFDFU_"))}
    command = [sys.executable, "-P", "-m", "pytest", *suites.QUIET, *options]
    command += ["--board", "nrf5340dk-sim", "--collect-only"]
    done = subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
    return done.stdout


def test_configurations_are_found_from_the_wheel(wheel, tmp_path):
    """Unpacked on the path, before the source tree; the plugin comes by its entry point."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    output = collect(empty, PYTHONPATH=str(site))
    assert f"{site}/pytest_nrfdfu/hil_configs/nrf5340dk-sim.toml)" in output
    assert "plugins: " in output
    assert "nrfdfu-" in output


def test_configurations_are_found_from_a_source_tree(tmp_path):
    """As an editable installation has it: the folder lies beside the package."""
    assert f"{ROOT}/hil_configs/nrf5340dk-sim.toml)" in collect(tmp_path, "-p", "pytest_nrfdfu.plugin", **by_path())


def by_path():
    """Found through the source tree alone, whatever is installed."""
    return {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def test_console_script_runs():
    """As an installer makes it of its entry point."""
    source = "import sys; from pytest_nrfdfu.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "nrfdfu COMMAND --help" in done.stdout
