"""The SMP client of a unit, which tells it of every image list that comes and of every reset that is asked for.

So the unit knows of an image that is pending or on trial, whoever asked: an update, or a test by requests of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytest_nrfdfu.board.client import SmpClient
from pytest_nrfdfu.smp.codec import Request
from pytest_nrfdfu.smp.messages import ImageStates, ResetRequest

__all__ = ["NotingClient"]

T = TypeVar("T")


class NotingClient(SmpClient):
    """A client that tells what passes."""

    on_images: Callable[[ImageStates], None] = staticmethod(lambda _: None)
    on_reset: Callable[[], None] = staticmethod(lambda: None)
    """Called before a reset is asked for."""

    def request(self, request: Request[T], *, tries: int = 5, timeout: float = 10.0) -> T:
        """As `SmpClient.request`."""
        if isinstance(request, ResetRequest):
            self.on_reset()
        answer = super().request(request, tries=tries, timeout=timeout)
        if isinstance(answer, ImageStates):
            self.on_images(answer)
        return answer

    def poll_images(self, interval: float, deadline: float) -> ImageStates:
        """As `SmpClient.poll_images`."""
        states = super().poll_images(interval, deadline)
        self.on_images(states)
        return states
