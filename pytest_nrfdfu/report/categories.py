"""Categories of failures, and what they mean to a person: the product, the update or the bench broke."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CRASHED", "GROUPS", "NOTHING_FAILED", "OTHER_CATEGORY", "Group", "group_of"]

NOTHING_FAILED = "none"
"""The category of a test that did not fail."""
OTHER_CATEGORY = "test"
"""Of a failure that is not one of this package's errors: the test's own assertion, or a defect in it."""
CRASHED = "crash"
"""Of a test whose process died."""


class Group(NamedTuple):
    """What broke, in a word, a letter and a sentence, and the categories that mean it."""

    name: str
    letter: str
    meaning: str
    categories: tuple[str, ...]

    @property
    def rank(self) -> int:
        """0 is what matters most."""
        return GROUPS.index(self)


GROUPS = (
    Group("product", "F", "a test of the product failed", (OTHER_CATEGORY,)),
    Group("update", "U", "the update or the boot failed", ("dfu", "protocol")),
    Group("process", "X", "the process that ran the test died", (CRASHED,)),
    Group("configuration", "C", "a file or an option is wrong", ("config", "image")),
    Group("bench", "B", "trouble of the bench", ("bench",)),
)
"""The first is what a night is about."""


def group_of(category: str) -> Group:
    """The group of a category; one that is not known counts as the product's, so that it is looked at."""
    return next((group for group in GROUPS if category in group.categories), GROUPS[0])
