"""How pytest-xdist hands out tests where boards are used: whole scopes, few at a time. Needs pytest-xdist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import parse_tx_spec_config  # type: ignore[import-untyped]

__all__ = ["BoardScheduling", "parse_tx_spec_config"]

_READY = 2
"""Tests that a worker has at least: it begins one only when it knows the next."""


class BoardScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out scopes, each to one worker. A worker that waits for a unit keeps what it was given, so that is little.

    `scope_of` tells a test's scope from its node id.
    """

    def __init__(self, config: Any, log: Any, scope_of: Callable[[str], str]) -> None:
        super().__init__(config, log)
        self._scope_of = scope_of

    def _split_scope(self, nodeid: str) -> str:
        return self._scope_of(nodeid)

    def _reschedule(self, node: Any) -> None:
        if node.shutting_down or node not in self.registered_collections:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) < _READY:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        """Give what a worker leaves behind to others, without the test that it died in; returns that."""
        crashed: str | None = None
        for scope, tests in self.assigned_work.pop(node).items():
            left = [test for test, done in tests.items() if not done]
            if left and crashed is None:
                crashed = left.pop(0)
            if left:
                self.workqueue[scope] = dict.fromkeys(left, False)
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
