"""What the README shows is run: its tests, its configuration, its commands."""

import re
import sys
import tomllib
from pathlib import Path
from typing import get_args

import firmware
import hosts
import pytest
import simulator

from pytest_nrfdfu import cli
from pytest_nrfdfu.board.diagnosis import diagnose
from pytest_nrfdfu.board.evidence import Evidence
from pytest_nrfdfu.board.ports import check
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_types import Entry, ResetKind
from pytest_nrfdfu.errors import SmpTimeout
from pytest_nrfdfu.plugin import options

README = Path(__file__).parent.parent / "README.md"
CI = README.parent / ".ci" / "run"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


APPLICATION = ("via=", "dfu.staged")
"""What the examples need an application that takes updates for. The first has the fixture of both."""
BACKEND = """
import socket

import pytest

@pytest.fixture
def my_lte_backend(board):
    class Backend:
        def send(self, path):
            image = path.read_bytes()
            host, port = board.endpoints["staging"].split(":")
            with socket.create_connection((host, int(port)), 10) as link, link.makefile("rwb") as lines:
                def ask(command, data=b""):
                    lines.write(command.encode() + b"\\n" + data)
                    lines.flush()
                    answer = lines.readline()
                    assert answer.startswith(b"ok"), (command, answer)
                ask(f"init {len(image)}")
                for at in range(0, len(image), 4096):
                    block = image[at : at + 4096]
                    ask(f"write {at} {len(block)}", block)
                ask("done")
                ask("schedule")
    return Backend()
"""


def test_python_examples_pass_on_the_simulated_board(pytester: pytest.Pytester) -> None:
    image = pytester.path / "app.signed.bin"
    image.write_bytes(firmware.signed_app())
    host = [sys.executable, str(Path(hosts.__file__)), "right"]
    pytester.makeconftest(
        "import builtins, subprocess\n"
        f"builtins.start_my_host = lambda port: subprocess.Popen([*{host!r}, port, '115200', {str(image)!r}])\n"
    )
    for number, block in enumerate(blocks("python")):
        if not any(word in block for word in APPLICATION):
            pytester.makepyfile(**{f"test_readme_{number}": block})
    result = pytester.runpytest_subprocess("--board", "nrf5340dk-sim", "--build", f"app={image}", timeout=120)
    result.assert_outcomes(passed=5)


@pytest.mark.parametrize("needs", ["test_update", "test_staged"])
def test_examples_with_an_application_pass_on_the_simulated_board(pytester: pytest.Pytester, needs: str) -> None:
    builds = {"old": simulator.make_image("1.0.0", 20_000), "new": simulator.make_image("2.0.0", 24_000)}
    for name, image in builds.items():
        (pytester.path / f"{name}.bin").write_bytes(image)
    pytester.makeconftest(BACKEND)
    examples = [next(block for block in blocks("python") if word in block) for word in APPLICATION]
    command = re.search(r"^`(pytest --board nrf5340dk-sim-app .*?)` runs it", README.read_text(), re.MULTILINE)
    pytester.makepyfile("\n\n".join(dict.fromkeys(examples)))
    result = pytester.runpytest_subprocess(*command[1].split()[1:], "-k", needs, timeout=180)
    result.assert_outcomes(passed=1, deselected=1)


def test_configuration_is_valid() -> None:
    config = BoardConfig.model_validate({"board": "mydk", **tomllib.loads(blocks("toml")[0])})
    assert config.recovery.line is not None
    assert config.bootloader.resolve().name == "ncs-2.6"


@pytest.mark.parametrize("fragment", blocks("toml")[1:])
def test_each_way_in_is_valid_in_place_of_the_same_tables(fragment: str) -> None:
    whole, change = tomllib.loads(blocks("toml")[0]), tomllib.loads(fragment)
    if set(change.get("recovery", ())) == {"line"}:
        change["recovery"] = whole["recovery"] | change["recovery"]
    config = BoardConfig.model_validate({"board": "mydk", **whole, **change})
    check(config.uart.port)


def test_every_entry_and_reset_is_told_of() -> None:
    text = README.read_text()
    first_cells = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    told = {name for cell in first_cells for name in re.findall(r"`(.*?)`", cell)}
    assert {*get_args(Entry), *get_args(ResetKind)} <= told


def test_commands_of_nrfdfu_exist() -> None:
    text = README.read_text()
    assert [name for name in cli._COMMANDS if not re.search(rf"nrfdfu {name}\b", text)] == []
    commands = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?nrfdfu (\S+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert set(commands) <= set(cli._COMMANDS)


def test_what_the_doctor_says_is_what_it_says() -> None:
    shown = re.search(r"line +wrong +(.*?)```", README.read_text(), re.DOTALL)
    assert shown is not None
    seen = Evidence(pin="P0.23", pin_low=False, pin_low_released=False)
    seen.failed("gpio", "pin", SmpTimeout("not answered"))
    found = diagnose(seen, BoardConfig.model_validate({"board": "mydk", **tomllib.loads(blocks("toml")[0])}))
    assert " ".join(shown[1].split()) == f"{found.sentence} -> {found.remedy}"


def test_every_option_is_told_of() -> None:
    text = README.read_text()
    for name in options._OPTIONS:
        assert f"--{name.replace('_', '-')}" in text or f"--nrfdfu-{name.replace('_', '-')}" in text


def test_the_gate_installs_and_runs_what_the_readme_says() -> None:
    gate = CI.read_text()
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert ".venv/bin/pip install -e '.[test]'" in commands
    assert "install -q -e '.[test]'" in gate
    assert ".venv/bin/pytest tests/hil --board nrf5340dk-sim" in commands
    assert 'pytest" tests/hil --board nrf5340dk-sim' in gate
