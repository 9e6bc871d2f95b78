"""What the command groups of the simulated application's SMP server share: errors, and writing pairs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.zcbor import CborError, Reader, Writer, decode_map
from pytest_nrfdfu.smp.header import Group

__all__ = ["Command", "GroupRefused", "Handler", "Refused", "decode_request", "write_pair"]

Handler = Callable[[bytes], Generator[Effect, None, None] | None]
"""Carries out a request's payload and writes the response's pairs; one that works on flash yields its effects."""


class Refused(Exception):
    """An error of SMP itself, told as ``rc`` in either version of the protocol, with words if there are any."""

    def __init__(self, rc: Rc, reason: bytes = b"") -> None:
        super().__init__(rc.name)
        self.rc, self.reason = rc, reason


class GroupRefused(Exception):
    """An error of a command group: ``err`` in version 2; `rc` in version 1, with the words of `reason`."""

    def __init__(self, group: Group, code: int, rc: Rc, reason: bytes = b"") -> None:
        super().__init__(f"{group.name} {code}")
        self.group, self.code, self.rc, self.reason = group, code, rc, reason


class Command(NamedTuple):
    """Handlers of one command, None where it has none for the operation."""

    read: Handler | None = None
    write: Handler | None = None


def decode_request(payload: bytes, keys: Mapping[bytes, Callable[[Reader], object]]) -> dict[bytes, object]:
    """A request's map; rc 3 (EINVAL) where it cannot be read or a value is of another type."""
    try:
        return decode_map(payload, keys)
    except CborError:
        raise Refused(Rc.INVALID) from None


def write_pair(writer: Writer, key: bytes, value: int) -> bool:
    """A key and a number; False where they did not fit."""
    return writer.text(key) and writer.integer(value)
