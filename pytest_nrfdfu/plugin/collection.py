"""Which tests run with which boards and builds: parametrization, markers, skip or require, order.

Hooks of the plugin; they work on the selection that `pytest_nrfdfu.plugin.options` has resolved.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.fixtures import BOARD_PARAM, BOARDS_ID, BOARDS_PARAM, BUILD_PARAM, NEEDS_BOARD, NEEDS_BUILD
from pytest_nrfdfu.report import SELECTION

if TYPE_CHECKING:
    from pytest_nrfdfu.bench.choice import Choice
    from pytest_nrfdfu.bench.selection import Selection
    from pytest_nrfdfu.image.build import Build

T = TypeVar("T")

_ALIKE = 0.8
"""How much alike two names are that may be meant for one (`difflib.SequenceMatcher.ratio`): a letter or two differ."""

_MODEL = re.compile(r"\d+[a-z]*")
"""What tells one model from another in a board's name: ``7002ek`` and ``7002dk``, ``5340dk`` and ``9160dk``."""


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
    if BOARDS_PARAM in metafunc.fixturenames and selection.boards:
        # So that its id tells that it needs several units at once: pytest-xdist's controller knows ids alone.
        metafunc.parametrize(BOARDS_PARAM, [selection.boards], indirect=True, ids=[BOARDS_ID], scope="session")
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
    builds = list(selection.builds)
    for mark in _markers(node, "build"):
        builds = [build for build in builds if any(fnmatch.fnmatchcase(build.name, pattern) for pattern in mark.args)]
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
        _warn_of_names(items, selection)
        items.sort(key=lambda item: _place(item, selection))


def _warn_of_names(items: Sequence[pytest.Item], selection: Selection) -> None:
    """Warn of boards in markers that are probably misspelt: their tests would never run, and nobody be told.

    Where warnings are errors, the reason of the skip says it alone: another bench may have such a board.
    """
    told: set[str] = set()
    for item in items:
        for name in _misspelt(item, selection):
            if name in told:
                continue
            told.add(name)
            with suppress(pytest.PytestWarning):
                item.warn(pytest.PytestWarning(_unknown(name, selection)))


def _misspelt(item: pytest.Item, selection: Selection) -> Iterator[str]:
    """The boards in markers of a test that uses boards which no configuration knows, and one is called much alike."""
    if not selection.known or BOARD_PARAM not in getattr(item, "fixturenames", []):
        return
    for mark in item.iter_markers("board"):
        for name in mark.args:
            if not fnmatch.filter(selection.known, name) and _near(name, selection):
                yield name


def _near(name: str, selection: Selection) -> str | None:
    """The known board that is called much alike; None where it may be another model instead."""
    near = next(iter(difflib.get_close_matches(name, sorted(selection.known), 1, _ALIKE)), None)
    return None if near is None or _MODEL.sub("", near) == _MODEL.sub("", name) else near


def _unknown(name: str, selection: Selection) -> str:
    return f'@pytest.mark.board("{name}"): no configuration knows it; did you mean {_near(name, selection)!r}?'


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
        told = "".join(f"; {_unknown(name, selection)}" for name in _misspelt(item, selection))
        return f"is for {_wanted(item, 'board')}, and selected is {', '.join(choice.label for choice in boards)}{told}"
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
