"""The suite's fixtures, and the table at the end of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nrfdfu.bench.target import RecoveryTarget
from pytest_nrfdfu.host_conformance import images
from pytest_nrfdfu.host_conformance.host import Host, Run
from pytest_nrfdfu.host_conformance.observed import Observed
from pytest_nrfdfu.image.build import Build, load
from pytest_nrfdfu.plugin.options import asked, number, target_settings
from pytest_nrfdfu.report import SELECTION

if TYPE_CHECKING:
    from _pytest.capture import CaptureManager
    from _pytest.terminal import TerminalReporter

__all__ = ["Clean", "clean", "host", "image", "image_file", "saw"]

_TIMEOUT = 60.0
_TIMEOUT_BY_HAND = 300.0
"""Seconds for an update, and for a person to begin it."""
_CHECK = "nrfdfu_host_check"
"""The user property that says what a test checks."""
_SAW = "nrfdfu_host_saw"
"""The user property that says what was seen."""
_WIDTH = 70
_MODULES = ("test_update", "test_packets", "test_trouble")
"""In the order of the table."""
_RESULTS = {"passed": "right", "failed": "WRONG", "skipped": "-", "error": "error"}


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    """The host under test."""
    config = request.config
    command, uart = asked(config, "target_command").value, asked(config, "target_uart").value
    if not command and uart in {None, "", "pty", "tcp"}:
        pytest.skip(
            "needs a host to test: --nrfdfu-target-command 'HOST {port} {image}', or --nrfdfu-target-uart PORT to start"
            " it by hand"
        )
    timeout = number(config, "target_timeout", _TIMEOUT if command else _TIMEOUT_BY_HAND)
    return Host(command or None, timeout, lambda text: _tell(config, text))


def _tell(config: pytest.Config, text: str) -> None:
    """Say something to the person in front, also in a quiet run: without it, nobody starts the host."""
    reporter: TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    capture: CaptureManager | None = config.pluginmanager.getplugin("capturemanager")
    if reporter is None:
        return
    with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
        reporter.ensure_newline()
        reporter.write(f"  host: {text}\n", flush=True)


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """What the host uploads: the first --build, or a small image made here."""
    selection = request.config.stash.get(SELECTION, None)
    if selection is not None and selection.builds:
        given: Build = selection.builds[0]
        return given
    return load(images.make(tmp_path_factory.mktemp("image")), "small")


@pytest.fixture(scope="session")
def image_file(image: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a signed .bin."""
    path = tmp_path_factory.mktemp("given") / "app.signed.bin"
    path.write_bytes(image.image.data)
    return path


@dataclass(frozen=True, slots=True)
class Clean:
    """One update that nothing disturbed."""

    run: Run
    observed: Observed
    held: bool
    """Whether the board has the image, valid."""
    started: bool
    """Whether the board runs it."""
    target: RecoveryTarget
    """Closed; its capture and what is read from that are still there."""


@pytest.fixture(scope="session")
def clean(request: pytest.FixtureRequest, host: Host, image: Build, image_file: Path) -> Clean:
    """One update, done once for all tests that only look at it."""
    with RecoveryTarget(**target_settings(request.config)) as target:
        run = host.update(target, image_file)
        observed = Observed(target.capture)
        # A board answers a reset first and does it a quarter of a second later.
        started = bool(observed.resets) and target.wait_program("application")
        return Clean(run, observed, target.holds(image), started, target)


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with what was seen, for the table."""
    return lambda text: request.node.user_properties.append((_SAW, text))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note what each test of this suite checks: its docstring's first line."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and isinstance(item, pytest.Function):
            text = inspect.getdoc(item.obj) or item.name
            item.user_properties.append((_CHECK, text.splitlines()[0].rstrip(".")))


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """The table: what the host does right and wrong."""
    lines = []
    for outcome, word in _RESULTS.items():
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(getattr(report, "user_properties", ()))
            if _CHECK in properties:
                module = report.nodeid.partition("::")[0].rpartition("/")[2].removesuffix(".py")
                place = _MODULES.index(module) if module in _MODULES else len(_MODULES)
                line = (report.location[1] or 0) if hasattr(report, "location") else 0
                lines.append(((place, line), properties[_CHECK], word, _seen(report, properties)))
    if not lines:
        return
    lines.sort(key=lambda line: line[0])
    terminalreporter.section(f"host under test: {asked(config, 'target_command').value or 'started by hand'}")
    for _, check, word, seen in lines:
        terminalreporter.write_line(f"{word:5}  {check:{_WIDTH}} {seen}".rstrip())
    words = [word for _, _, word, _ in lines]
    tested = any(word != _RESULTS["skipped"] for word in words)
    result = f"{words.count(_RESULTS['passed'])} of {len(words)} right"
    terminalreporter.write_line(result if tested else "nothing was tested: no host was given")


def _seen(report: Any, properties: dict[str, Any]) -> str:
    """What was seen, in one line."""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return str(properties.get(_SAW, ""))
    return str(next(iter(crash.message.splitlines()), "")).removeprefix("AssertionError: ")
