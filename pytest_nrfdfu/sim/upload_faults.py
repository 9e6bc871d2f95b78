"""What an upload request may suffer on purpose, so that a host's way with it can be seen.

The board stays consistent in all of it: an offset that goes back is the one that is expected from then on, a refused
chunk is not written, and a response that is lost was sent by a board that has the data.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pytest_nrfdfu.sim.firmware import Effect, Send, Sleep
from pytest_nrfdfu.sim.upload import Upload

__all__ = ["UploadFault", "UploadFaults"]

_MAX_RC = 0xFFFF
_WORD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFault:
    """What happens to one upload request and its response."""

    ignored: bool = False
    """Nothing, as with a packet whose CRC is wrong: no flash is touched, and no response comes."""
    rc: int | None = None
    """The answer is this, and nothing is written."""
    back: int = 0
    """Bytes by which the expected offset goes back once the chunk is written; the response tells the new one."""
    lost: bool = False
    """The chunk is written, and no response comes."""
    late: float = 0.0
    """Seconds by which the response comes later."""
    before: bytes = b""
    """Bytes that the board sends right in front of the response: console text, noise."""
    damage: bool = False
    """One bit of the chunk is written wrong."""

    def carry_out(self, upload: Upload, payload: bytes) -> Generator[Effect, None, int | None]:
        """Do with a request what is asked for; returns the response's rc, None for no response."""
        if self.ignored:
            return None
        if self.rc is not None:
            rc = self.rc
        else:
            rc = yield from upload.take(payload, damage=self.damage)
            if self.back:
                upload.go_back(self.back)
        if self.late:
            yield Sleep(self.late)
        if self.before:
            yield Send(self.before)
        return None if self.lost else rc


_NONE = UploadFault()
_FIELDS = tuple(item.name for item in fields(UploadFault))


class UploadFaults:
    """Which of the next upload requests suffers what. It outlives resets, as the wish for it does."""

    def __init__(self) -> None:
        self._seen = 0
        self._armed: dict[int, UploadFault] = {}

    def next(self) -> UploadFault:
        """An upload request has come: what is to happen to it."""
        self._seen += 1
        return self._armed.pop(self._seen, _NONE)

    def arm(self, settings: Mapping[str, Any] | None) -> None:
        """Arm from JSON: the fields of `UploadFault` (`before` in hex), `nth` and `times`. None disarms all.

        `nth` counts the requests from now on, the next is 1; `times` as many of them in a row. What is armed for one
        request twice adds up. ValueError says what is wrong.
        """
        if settings is None:
            self._armed.clear()
            return
        given = dict(settings)
        nth, times = given.pop("nth", 1), given.pop("times", 1)
        if not all(isinstance(count, int) and count >= 1 for count in (nth, times)):
            raise ValueError("nth and times are whole numbers from 1 on")
        unknown = sorted(set(given) - set(_FIELDS))
        if unknown:
            raise ValueError(f"an upload has no fault {', '.join(unknown)}; there are {', '.join(_FIELDS)}")
        if "before" in given:
            given["before"] = bytes.fromhex(given["before"])
        _check(UploadFault(**given))
        for number in range(self._seen + nth, self._seen + nth + times):
            self._armed[number] = replace(self._armed.get(number, _NONE), **given)


def _check(fault: UploadFault) -> None:
    switches = (fault.ignored, fault.lost, fault.damage)
    if not all(isinstance(switch, bool) for switch in switches):
        raise ValueError("ignored, lost and damage are true or false")
    if fault.rc is not None and not (isinstance(fault.rc, int) and 0 < fault.rc <= _MAX_RC):
        raise ValueError(f"rc is a whole number from 1 to {_MAX_RC}, not {fault.rc!r}")
    if not isinstance(fault.back, int) or fault.back < 0 or fault.back % _WORD:
        raise ValueError(f"back is a number of bytes, whole words of flash, not {fault.back!r}")
    if not isinstance(fault.late, int | float) or not 0 <= fault.late < float("inf"):
        raise ValueError(f"late is a number of seconds, not {fault.late!r}")
