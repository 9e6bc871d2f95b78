"""Product suites for tests of the plugin: a folder with boards, an image and tests, and pytest run in it."""

import grp  # noqa: F401 - as below: what is first imported in a run in-process is forgotten after it
from pathlib import Path

import pytest
import simulator

import pytest_nrfdfu.bench.selection  # noqa: F401 - pydantic's core cannot be imported once for each run in-process

SLOT = """
[images.app]
upload = 0
slot_address = 0x10000
slot_size = 0x70000
"""

FAST = (
    """
compatible = ["nrf5340dk"]

[sim]
baudrate = 1_000_000
flash_timing = "none"

[boot]
smp = false
"""
    + SLOT
)
"""A simulated board that takes an image of 5 kB in 0.1 s."""

_OTHERS = ("hypothesispytest", "html", "metadata", "cacheprovider")
QUIET = tuple(part for name in _OTHERS for part in ("-p", f"no:{name}"))
"""Without plugins that only take time here."""


def app(folder: Path, version: str = "1.2.3", size: int = 5000, name: str = "app.bin") -> Path:
    """A signed image as a file."""
    path = folder / name
    path.write_bytes(simulator.make_image(version, size))
    return path


_SETTINGS = (
    *("BOARD", "BUILD", "CONFIG", "KEY", "REQUIRE_BOARD", "REFLASH", "SHORT_OPTIONS"),
    *("LEASE_TIMEOUT", "RETIRE_AFTER", "RECORD", "TRACE"),
)


class Suite:
    """A product suite: boards in hil_configs, app.bin, tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.app = app(self.path)
        self.add_board("fast", FAST)

    def add_board(self, name: str, text: str) -> Path:
        folder = self.path / "hil_configs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.toml"
        path.write_text(text)
        return path

    def tests(self, source: str) -> None:
        self.pytester.makepyfile(test_product=source)

    def run(self, *arguments: str | Path) -> pytest.RunResult:
        """In a process of its own."""
        return self.pytester.runpytest_subprocess(*QUIET, *arguments)

    def run_inside(self, *arguments: str | Path) -> pytest.RunResult:
        """In this process: for what ends before a board is touched."""
        return self.pytester.runpytest_inprocess(*QUIET, *arguments)

    def ids(self, *arguments: str | Path) -> list[str]:
        """What is collected, in its order, without the file's name."""
        result = self.run_inside("--collect-only", "-q", *arguments)
        assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        return [line.partition("::")[2] for line in result.outlines if "::" in line]


def make(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite that the environment of the outer run says nothing about."""
    for name in _SETTINGS:
        monkeypatch.delenv(f"NRFDFU_{name}", raising=False)
    monkeypatch.setenv("NRFDFU_LEASE_DIR", str(pytester.path / "leases"))
    return Suite(pytester)


def usage_error(result: pytest.RunResult) -> str:
    """The message of a run that ended before it began, on one line."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "INTERNALERROR" not in result.stdout.str()
    text = result.stderr.str().strip()
    assert text.startswith("ERROR: ")
    assert "Traceback" not in text
    return " ".join(text.removeprefix("ERROR: ").split())
