"""Whether the value of an option has moved pytest's rootdir, and where that would be without it.

pytest looks for rootdir and ini file before it loads plugins. It does not know their options then, and counts a value
that stands apart (``--build ../x/app.bin``) as the path of tests, if it exists (`Config._preparse` gives `file_or_dir`
to `_pytest.config.findpaths.determine_setup`). A plugin is loaded too late to prevent that; ``--build=../x/app.bin``
does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

__all__ = ["Moved", "moved"]


class Moved(NamedTuple):
    """What moved the rootdir, and where that would be otherwise."""

    option: str
    value: str
    root: Path

    def in_words(self, config: pytest.Config) -> str:
        """What happened, what follows from it, and what to write instead."""
        used = config.inipath or "none"
        return (
            f"pytest took the value of {self.option} {self.value} for a path of tests, as it does with options of"
            f" plugins, so its rootdir is {config.rootpath} instead of {self.root}: test ids, cache and ini file (now:"
            f" {used}) follow that. Write {self.option}={self.value}, or give --rootdir"
        )


def moved(config: pytest.Config, names: Collection[str]) -> Moved | None:
    """Which of the options `names` moved the rootdir; None if it is where it belongs."""
    here = config.invocation_params.dir
    found = [
        (option, value)
        for option, value in pairwise(config.invocation_params.args)
        if option in names and os.path.exists(here / value)  # noqa: PTH110 - Path.exists raises for long values
    ]
    if not found or hasattr(config, "workerinput"):
        return None
    root = _root_by_tests_alone(config)
    if root is None or root == config.rootpath:
        return None
    outside = (one for one in found if not Path(os.path.abspath(here / one[1])).is_relative_to(root))  # noqa: PTH100 - without links
    return Moved(*next(outside, found[0]), root)


def _root_by_tests_alone(config: pytest.Config) -> Path | None:
    """The rootdir that pytest finds where it knows all options; None if it cannot be asked: that is not its API."""
    option = config.option
    try:
        from _pytest.config.findpaths import determine_setup

        ask: Callable[..., tuple[Any, ...]] = determine_setup
        overrides = {"override_ini": None} if "override_ini" in signature(ask).parameters else {}  # since pytest 9.0
        root = ask(
            inifile=option.inifilename,
            args=option.file_or_dir,
            rootdir_cmd_arg=option.rootdir or None,
            invocation_dir=config.invocation_params.dir,
            **overrides,
        )[0]
    except (ImportError, TypeError, AttributeError):
        return None
    return root if isinstance(root, Path) else None
