"""pytest hooks: options, markers, parametrization, skip or require.

Importing this module costs the standard library and pytest alone; what knows boards is imported when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

import pytest

from pytest_nrfdfu import fixtures, report
from pytest_nrfdfu.errors import ConfigError, NrfDfuError
from pytest_nrfdfu.fixtures import BOARD_PARAM, BUILD_PARAM, NEEDS_BOARD, NEEDS_BUILD
from pytest_nrfdfu.report import POOL, REFLASH, SELECTION

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.pool import Choice
    from pytest_nrfdfu.bench.selection import Selection
    from pytest_nrfdfu.image.build import Build

_OPTIONS: Mapping[str, tuple[Literal["linelist", "string", "bool"], str]] = {
    "board": (
        "linelist",
        "a board to test on (repeatable): NAME (any free unit), NAME:all (every unit), NAME:ID; globs work",
    ),
    "build": (
        "linelist",
        "a build to test (repeatable): [NAME=]PATH of a signed .bin or .hex, a dfu_application.zip or a west build",
    ),
    "config": ("string", "folder or file of board configurations (default: hil_configs below rootdir, then built-in)"),
    "key": ("string", "the bootloader's public key: each image's signature is checked with it before it is uploaded"),
    "require_board": ("bool", "a run without --board is an error instead of skips"),
    "reflash": ("string", "auto: upload only when the active slot's hash differs; always; never"),
}
_REFLASH = ("auto", "always", "never")
T = TypeVar("T")


# --- options --------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Command line and ini options."""
    group = parser.getgroup("nrfdfu", "firmware update of nRF5340 boards")
    short = os.environ.get("NRFDFU_SHORT_OPTIONS", "1") != "0"
    for name, (kind, text) in _OPTIONS.items():
        parser.addini(f"nrfdfu_{name}", text, type=kind, default=None)
        option = "--nrfdfu-" + name.replace("_", "-")
        dest = f"nrfdfu_{name}"
        if kind == "linelist":
            names = [f"--{name}", option] if short else [option]
            group.addoption(*names, action="append", dest=dest, metavar="NAME" if name == "board" else "[NAME=]PATH",
                            default=None, help=text)  # fmt: skip
        elif kind == "bool":
            group.addoption(option, action="store_true", dest=dest, default=None, help=text)
        elif name == "reflash":
            group.addoption(option, choices=_REFLASH, dest=dest, default=None, help=text)
        else:
            group.addoption(option, metavar="PATH", dest=dest, default=None, help=text)


class _Asked(NamedTuple):
    """The value of an option, None where nothing was asked for, and the folder that a relative path is relative to."""

    value: Any
    folder: Path


def _option(config: pytest.Config, name: str) -> _Asked:
    """Command line over environment over ini."""
    kind = _OPTIONS[name][0]
    here = Path(config.invocation_params.dir)
    value = config.getoption(f"nrfdfu_{name}")
    if value is not None:
        return _Asked(value, here)
    text = os.environ.get(f"NRFDFU_{name.upper()}")
    if text is not None:
        if kind == "linelist":
            return _Asked([line.strip() for line in text.splitlines() if line.strip()], here)
        return _Asked(text.strip().lower() in {"1", "true", "yes", "on"} if kind == "bool" else text, here)
    return _Asked(config.getini(f"nrfdfu_{name}"), config.inipath.parent if config.inipath else config.rootpath)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register fixtures, reports and markers, and resolve the options; UsageError where something is wrong."""
    # Not by pytest_plugins: pytest would warn that these modules were imported before it could rewrite their asserts.
    for module in (fixtures, report):
        config.pluginmanager.register(module, module.__name__)
    config.addinivalue_line(
        "markers",
        'board(*names, requires=()): the boards that a test is for (globs): @pytest.mark.board("nrf5340dk")',
    )
    config.addinivalue_line(
        "markers", 'build(*names): the builds that a test runs with (globs): @pytest.mark.build("app")'
    )
    reflash = _option(config, "reflash").value or "auto"
    if reflash not in _REFLASH:
        raise pytest.UsageError(f"nrfdfu_reflash = {reflash!r}; known: {', '.join(_REFLASH)}")
    config.stash[REFLASH] = reflash
    try:
        config.stash[SELECTION] = _select(config)
    except NrfDfuError as error:
        raise pytest.UsageError(str(error)) from error
    selection = config.stash[SELECTION]
    if _option(config, "require_board").value and not (selection and selection.boards):
        raise pytest.UsageError(
            "--nrfdfu-require-board: this run needs --board NAME (or NRFDFU_BOARD, or nrfdfu_board in the ini file)"
        )


def _select(config: pytest.Config) -> Selection | None:
    """The selection, or None if nothing was asked for (so that nothing is imported)."""
    worker: Mapping[str, Any] = getattr(config, "workerinput", {})
    if "nrfdfu" in worker:
        from pytest_nrfdfu.bench.selection import from_data

        return from_data(worker["nrfdfu"]) if worker["nrfdfu"] else None
    boards, builds = _option(config, "board"), _option(config, "build")
    if not boards.value and not builds.value:
        return None
    from pytest_nrfdfu.bench.selection import resolve

    where, key = _option(config, "config"), _option(config, "key")
    return resolve(
        boards.value or (),
        builds.value or (),
        config=where.folder / Path(where.value).expanduser() if where.value else None,
        root=config.rootpath,
        cwd=builds.folder,
        start=config.invocation_params.dir,
        key=key.folder / Path(key.value).expanduser() if key.value else None,
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the selection to a worker of pytest-xdist."""
    selection = node.config.stash.get(SELECTION, None)
    node.workerinput["nrfdfu"] = selection.to_data() if selection is not None else ""


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release every unit, in whatever way the run has ended."""
    pool = config.stash.get(POOL, None)
    if pool is not None:
        pool.close()


# --- parametrization ------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Boards and builds as parameters of the private fixtures, so that a suite may have a `board` of its own."""
    selection = metafunc.config.stash.get(SELECTION, None)
    if selection is None:
        return
    if BOARD_PARAM in metafunc.fixturenames:
        choices = _checked(_boards_for, metafunc.definition, selection)
        if choices:
            labels = [f"board:{choice.label}" for choice in choices]
            metafunc.parametrize(BOARD_PARAM, choices, indirect=True, ids=labels, scope="session")
    if BUILD_PARAM in metafunc.fixturenames:
        builds = _checked(_builds_for, metafunc.definition, selection)
        if builds:
            names = [f"build:{build.name}" for build in builds]
            metafunc.parametrize(BUILD_PARAM, builds, indirect=True, ids=names, scope="session")


def _markers(node: pytest.Item, name: str, *, requires: bool = False) -> Iterator[pytest.Mark]:
    """The marks of a test; ConfigError where one is not written as it must be."""
    signature = f'@pytest.mark.{name}("NAME", ...{", requires=[...]" if requires else ""})'
    for mark in node.iter_markers(name):
        required = mark.kwargs.get("requires", ())
        if not mark.args and not mark.kwargs:
            raise ConfigError(f"@pytest.mark.{name} needs names: {signature}")
        if (
            not all(isinstance(arg, str) for arg in mark.args)
            or set(mark.kwargs) - ({"requires"} if requires else set())
            or isinstance(required, str)
            or not all(isinstance(item, str) for item in required)
        ):
            given = [*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())]
            raise ConfigError(f"@pytest.mark.{name}({', '.join(given)}) must be written {signature}, all of them texts")
        yield mark


def _checked(find: Callable[[pytest.Item, Selection], list[T]], node: pytest.Item, selection: Selection) -> list[T]:
    """What `find` gives; a wrong marker is an error of the collection, shown without a traceback."""
    try:
        return find(node, selection)
    except ConfigError as error:
        raise pytest.Collector.CollectError(f"{node.nodeid}: {error}") from error


def _boards_for(node: pytest.Item, selection: Selection) -> list[Choice]:
    choices = list(selection.boards)
    for mark in _markers(node, "board", requires=True):
        required = set(mark.kwargs.get("requires", ()))
        choices = [
            choice
            for choice in choices
            if (not mark.args or choice.matches(mark.args)) and required <= set(choice.config.provides)
        ]
    return choices


def _builds_for(node: pytest.Item, selection: Selection) -> list[Build]:
    from fnmatch import fnmatchcase

    builds = list(selection.builds)
    for mark in _markers(node, "build"):
        builds = [build for build in builds if any(fnmatchcase(build.name, pattern) for pattern in mark.args)]
    return builds


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what has no board or build, with a reason; order the rest by board, then build."""
    selection = config.stash.get(SELECTION, None)
    for item in items:
        reason = _reason_to_skip(item, selection)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    if selection is not None:
        items.sort(key=lambda item: _place(item, selection))


def _params(item: pytest.Item) -> Mapping[str, object]:
    spec = getattr(item, "callspec", None)
    return spec.params if spec is not None else {}


def _reason_to_skip(item: pytest.Item, selection: Selection | None) -> str | None:
    """Why a test cannot run with this selection: what it needs is not selected, or its markers name something else."""
    names: list[str] = getattr(item, "fixturenames", [])
    boards = selection.boards if selection is not None else ()
    builds = selection.builds if selection is not None else ()
    if BOARD_PARAM in names and not boards:
        return NEEDS_BOARD
    if selection is not None and boards and not _fits(item, BOARD_PARAM, _boards_for, selection):
        return f"is for {_wanted(item, 'board')}, and selected is {', '.join(choice.label for choice in boards)}"
    if BUILD_PARAM in names and not builds:
        return NEEDS_BUILD
    if selection is not None and builds and not _fits(item, BUILD_PARAM, _builds_for, selection):
        return f"is for {_wanted(item, 'build')}, and selected is {', '.join(build.name for build in builds)}"
    params = _params(item)
    if selection is not None and BOARD_PARAM in params and BUILD_PARAM in params:
        return selection.misfit(cast("Choice", params[BOARD_PARAM]), cast("Build", params[BUILD_PARAM]))
    return None


def _fits(
    item: pytest.Item, param: str, find: Callable[[pytest.Item, Selection], list[T]], selection: Selection
) -> bool:
    """Whether a test's markers leave something of the selection: it has its parameter, or needs none."""
    if param in getattr(item, "fixturenames", []):
        return param in _params(item)
    try:
        return bool(find(item, selection))
    except ConfigError:
        return True  # it does not use the plugin's fixtures, so the marker may be a suite's own


def _wanted(item: pytest.Item, name: str) -> str:
    """What the markers of a test ask for, in words."""
    marks = list(item.iter_markers(name))
    names = ", ".join(" or ".join(mark.args) for mark in marks if mark.args)
    required = " and ".join(thing for mark in marks for thing in mark.kwargs.get("requires", ()))
    return (f"{name} {names}" if names else f"{name}s") + (f" with {required}" if required else "")


def _place(item: pytest.Item, selection: Selection) -> tuple[int, int]:
    params = _params(item)
    board, build = params.get(BOARD_PARAM), params.get(BUILD_PARAM)
    return (
        next((n for n, choice in enumerate(selection.boards) if choice is board), -1),
        next((n for n, known in enumerate(selection.builds) if known is build), -1),
    )
