"""What passed on a port, kept for the report of a failing test: the last of it, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Traffic", "TrafficLog"]

_KEEP = 4 << 20
"""Bytes: three uploads of the largest image that a DK's slot holds, as they go over the wire."""


class Traffic(NamedTuple):
    """Bytes that passed together: ``tx`` from the host, ``rx`` from the board. `time` in seconds, monotonic."""

    time: float
    direction: Literal["tx", "rx"]
    data: bytes


class TrafficLog:
    """The last records, up to `limit` bytes of data. The reader thread of a port adds, anybody reads."""

    def __init__(self, limit: int = _KEEP) -> None:
        self._limit = limit
        self._records: deque[Traffic] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def append(self, record: Traffic) -> None:
        """Add a record; the oldest go where there is no room."""
        with self._lock:
            self._records.append(record)
            self._size += len(record.data)
            while self._size > self._limit and len(self._records) > 1:
                self._size -= len(self._records.popleft().data)

    def __iter__(self) -> Iterator[Traffic]:
        """The records of this moment, oldest first."""
        with self._lock:
            return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)
