"""What the README shows is run: its tests, its configuration, its commands."""

import re
import tomllib
from pathlib import Path

import firmware
import pytest

from pytest_nrfdfu import plugin
from pytest_nrfdfu.config import BoardConfig

README = Path(__file__).parent.parent / "README.md"
CI = README.parent / ".ci" / "run"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


def test_python_examples_pass_on_the_simulated_board(pytester: pytest.Pytester) -> None:
    image = pytester.path / "app.signed.bin"
    image.write_bytes(firmware.signed_app())
    for number, block in enumerate(blocks("python")):
        pytester.makepyfile(**{f"test_readme_{number}": block})
    result = pytester.runpytest_subprocess("--board", "nrf5340dk-sim", "--build", f"app={image}", timeout=120)
    result.assert_outcomes(passed=3)


def test_configuration_is_valid() -> None:
    (block,) = blocks("toml")
    config = BoardConfig.model_validate({"board": "mydk", **tomllib.loads(block)})
    assert config.recovery.line is not None
    assert config.bootloader.resolve().name == "ncs-2.6"


def test_every_option_is_told_of() -> None:
    text = README.read_text()
    for name in plugin._OPTIONS:
        assert f"--{name.replace('_', '-')}" in text or f"--nrfdfu-{name.replace('_', '-')}" in text


def test_the_gate_installs_and_runs_what_the_readme_says() -> None:
    gate = CI.read_text()
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert ".venv/bin/pip install -e '.[test]'" in commands
    assert "install -q -e '.[test]'" in gate
    assert ".venv/bin/pytest tests/hil --board nrf5340dk-sim" in commands
    assert 'pytest" tests/hil --board nrf5340dk-sim' in gate
