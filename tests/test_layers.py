"""The rules about who imports whom, and what the plugin's import costs."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_nrfdfu"
NAME = PACKAGE.name

LAYERS = [
    {"plugin", "fixtures", "report", "cli", "hil_suite", "host_conformance"},
    {"bench"},
    {"board", "wire", "sim", "sim_admin"},
    {"config"},
    {"config_types"},
    {"config_sim"},
    {"config_switches"},
    {"config_lines", "config_faults"},
    {"config_numbers"},
    {"config_errors"},
    {"smp", "image"},
    {"errors"},
]
"""From the top down: a module imports from its own room, or from a lower one. `config` stands above `image`, because a
configuration names a bootloader's profile, and those are kept in `image.bootloader`."""
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

MAY_IMPORT_PYTEST = {"plugin", "fixtures", "report", "hil_suite", "host_conformance"}
NOT_IN_SANS_IO = {"serial", "pyocd", "pytest", "threading", "time", "socket", "asyncio", "subprocess", "selectors"}
SANS_IO = {"smp", "image"}
RIG_ONLY = {"pyocd", "gpiod"}
RIG_MODULES = {
    "board.gpio_line",
    "board.lines",
    "board.probe",
    "board.probe_chip",
    "board.probe_list",
    "board.probe_session",
    "board.rig_child",
}
"""What runs in the unit's child process."""


class Import(NamedTuple):
    """`module` (without the package's name) imports `target` (in full)."""

    module: str
    line: int
    target: str

    @property
    def room(self):
        return self.module.partition(".")[0]

    @property
    def target_room(self):
        """The room of this package that is imported; empty for the package itself, None for somebody else's."""
        parts = self.target.split(".")
        return None if parts[0] != NAME else "".join(parts[1:2])

    def __str__(self):
        return f"{self.module}:{self.line} imports {self.target}"


def imports_of(path: Path, module: str, *, is_package: bool) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = [NAME, *module.split(".")]
                up = here[: len(here) - node.level + is_package]
                base = ".".join([*up, *([base] if base else [])])
            # `from package import room` names the room; of a module, the names do not matter
            yield from (
                Import(module, node.lineno, f"{base}.{alias.name}" if base == NAME else base) for alias in node.names
            )


def all_imports() -> list[Import]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found += imports_of(path, module or "__init__", is_package=is_package)
    return found


IMPORTS = all_imports()


def breaches(imports, rule):
    return [str(item) for item in imports if rule(item)]


def outside(item, names):
    return item.target.partition(".")[0] in names


RULES = {
    "smp and image do no input, output or waiting": lambda i: i.room in SANS_IO and outside(i, NOT_IN_SANS_IO),
    "only the top imports pytest": lambda i: i.room not in MAY_IMPORT_PYTEST and outside(i, {"pytest", "_pytest"})
    and i.room != "__init__",
    "pyocd and gpiod live in the rig's child": lambda i: i.module not in RIG_MODULES and outside(i, RIG_ONLY),
    "nothing imports the simulator": lambda i: i.target_room == "sim" and i.room != "sim",
    "the rig's child is started, not imported": lambda i: i.target == f"{NAME}.board.rig_child",
    "arrows point down": lambda i: bool(i.target_room)
    and i.room != "__init__"
    and i.target_room != i.room
    and RANK[i.target_room] <= RANK[i.room]
    and i.room not in LAYERS[0],
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rule(rule):
    assert breaches(IMPORTS, rule) == []


def test_every_module_is_in_a_layer():
    rooms = {item.room for item in IMPORTS} | {item.target_room for item in IMPORTS if item.target_room}
    assert rooms - set(RANK) - {"__init__"} <= names_of_the_package()


def names_of_the_package():
    """`from pytest_nrfdfu import Board` looks like a room."""
    import pytest_nrfdfu

    return set(pytest_nrfdfu.__all__)


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("smp and image do no input, output or waiting", "smp.upload", "import time"),
        ("smp and image do no input, output or waiting", "image.build", "def f():\n    from serial import tools"),
        ("only the top imports pytest", "board.dfu", "import pytest"),
        ("only the top imports pytest", "options", "from _pytest.config import Config"),
        ("pyocd and gpiod live in the rig's child", "board.board", "from pyocd.core import helpers"),
        ("nothing imports the simulator", "bench.pool", "from pytest_nrfdfu import sim"),
        ("nothing imports the simulator", "bench.pool", "from ..sim.chip import Chip"),
        ("the rig's child is started, not imported", "board.rig", "from pytest_nrfdfu.board.rig_child import main"),
        ("arrows point down", "smp.upload", "from pytest_nrfdfu.board import uart"),
        ("arrows point down", "board.dfu", "from pytest_nrfdfu.bench.pool import Pool"),
        ("arrows point down", "config", "import pytest_nrfdfu.fixtures"),
        ("arrows point down", "errors", "from .smp import header"),
    ],
)
def test_rule_is_noticed(tmp_path, rule, module, source):
    """Each rule finds its breach."""
    path = tmp_path / "module.py"
    path.write_text(source)
    assert breaches(imports_of(path, module, is_package=False), RULES[rule])


def loaded_by(source: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running `source`."""
    source += "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"pyocd", "serial", "cbor2", "pydantic", "crcmod", "gpiod"}


def test_plugin_imports_only_the_standard_library_and_pytest():
    """Its hooks are in modules that it registers when it is asked for its options."""
    source = """
import pytest_nrfdfu.plugin as plugin

class Manager:
    def register(self, module, name):
        modules.append(module)

class Group:
    def getgroup(self, *words): return self
    def addini(self, *words, **more): pass
    def addoption(self, *words, **more): pass

modules = []
plugin.pytest_addoption(Group(), Manager())
assert len(modules) >= 6, modules
"""
    more = loaded_by(source) - loaded_by("import pytest")
    assert more - set(sys.stdlib_module_names) == {NAME}


def test_public_names_are_imported_on_use():
    assert not HEAVY & loaded_by("import pytest_nrfdfu")
    assert loaded_by("from pytest_nrfdfu import Board") >= {"pydantic"}
    assert not {"pyocd", "gpiod"} & loaded_by("from pytest_nrfdfu import Board, Dfu, Build")


def test_a_simulated_board_starts_without_what_takes_long_to_import():
    """Each run with a simulated board starts one, and the project's own tests start hundreds."""
    assert not (HEAVY - {"serial"} | {"cryptography", "pytest"}) & loaded_by("import pytest_nrfdfu.sim.__main__")


def test_a_rig_without_probe_does_without_pyocd():
    """Whose import is most of what the start of a rig's child takes."""
    source = """
from pytest_nrfdfu.board.rig_child import _Server

server = _Server()
line = {"driver": "command", "assert": ["true"], "release": ["true"]}
server.start(None, {"recovery": line, "reset": line}, None, ["true"], 0.0)
server.set_line("recovery", True)
server.reset("line")
server.reset("command")
server.close()
"""
    assert not {"pyocd", "pydantic", "pytest"} & loaded_by(source)


def test_run_without_boards_stays_light(tmp_path):
    """Neither collecting nor skipping needs what knows boards."""
    (tmp_path / "test_it.py").write_text("def test_it(dfu, build, console): pass")
    source = f"""
import os, pytest
os.chdir({str(tmp_path)!r})
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
assert pytest.main(["-q", "-p", "pytest_nrfdfu.plugin", "-p", "no:cacheprovider"]) == 0
"""
    assert not HEAVY & loaded_by(source)


def test_every_public_name_resolves():
    import pytest_nrfdfu

    called = {name: getattr(pytest_nrfdfu, name).__name__ for name in pytest_nrfdfu.__all__}
    assert called == {name: name for name in called} | {"load_build": "load"}
    with pytest.raises(AttributeError, match="has no attribute 'Bord'"):
        pytest_nrfdfu.Bord  # noqa: B018 - looked up, and not there
