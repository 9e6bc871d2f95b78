"""The error tree is what its docstring draws."""

import re

import pytest

from pytest_nrfdfu import errors
from pytest_nrfdfu.errors import NrfDfuError, SmpRejected, SmpTimeout

_LINE = re.compile(r"^( +)([A-Z]\w+)(?:  .*?)?(?:  category (\w+))?$")


def drawn():
    """(name, name of the parent, category or None) of each line of the drawing."""
    path = []
    for line in (errors.__doc__ or "").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        depth = (len(match[1]) - 4) // 2
        path[depth:] = [match[2]]
        yield match[2], path[depth - 1] if depth else None, match[3]


def test_the_drawing_holds_every_error():
    assert sorted(name for name, _, _ in drawn()) == sorted(errors.__all__)


@pytest.mark.parametrize(("name", "parent", "category"), [pytest.param(*row, id=row[0]) for row in drawn()])
def test_an_error_is_where_the_drawing_has_it(name, parent, category):
    kind = getattr(errors, name)
    assert kind.__bases__[0].__name__ == (parent or "Exception")
    if category is not None:
        assert kind.category == category
    elif parent is not None:
        assert kind.category == getattr(errors, parent).category


def test_a_timeout_is_also_the_standard_one():
    assert issubclass(SmpTimeout, TimeoutError)
    assert SmpTimeout("text").args == ("text",)


def test_a_rejection_has_code_and_group():
    error = SmpRejected("no", rc=3, group=1)
    assert (str(error), error.rc, error.group) == ("no", 3, 1)
    assert SmpRejected("no", rc=8).group is None
    assert isinstance(error, NrfDfuError)
