"""Every byte that a test's boards exchanged, in files: of failing tests always, of all with ``--nrfdfu-trace DIR``.

Each board of a test has a capture as JSON lines (for `nrfdfu trace`) and as pcapng (for Wireshark). Without a folder
they go to pytest's cache, where those of an earlier run of the same test are replaced.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_nrfdfu.report.keys import STARTED, TRACE
from pytest_nrfdfu.wire import pcapng, records
from pytest_nrfdfu.wire.capture import Capture, Direction

if TYPE_CHECKING:
    import pytest

    from pytest_nrfdfu.board.board import Board

__all__ = ["keep"]

_CACHE = "nrfdfu-traces"
_LONGEST = 150
"""Characters of a file's name; file systems take 255 bytes."""


def keep(item: pytest.Item, boards: Sequence[Board]) -> str:
    """Write what passed since the test began; where to, a line for each board; empty where nothing could be written."""
    folder = _folder(item.config)
    if folder is None:
        return ""
    since = item.stash.get(STARTED, 0.0)
    lines = []
    for board in boards:
        traffic = cast("list[tuple[float, Direction, bytes]]", board.traffic(since=since))
        if not traffic:
            continue
        capture = Capture.of(traffic, f"{item.nodeid} on {board.unit}")
        epoch = time.time() - (time.monotonic() - traffic[0][0])
        path = folder / f"{_name(item.nodeid, board.unit)}.jsonl"
        with suppress(OSError):  # a full disk must not change what a test is found to be
            path.write_text(records.dumps(capture), encoding="utf-8")
            path.with_suffix(".pcapng").write_bytes(pcapng.dumps(capture, epoch))
            lines.append(f"{board.unit}: {path} (nrfdfu trace decode, nrfdfu trace lint), and .pcapng for Wireshark")
    return "\n".join(lines)


def _folder(config: pytest.Config) -> Path | None:
    asked = config.stash.get(TRACE, None)
    cache = getattr(config, "cache", None)
    with suppress(OSError):
        if asked is not None:
            asked.mkdir(parents=True, exist_ok=True)
            return asked
        if cache is not None:
            made: Path = cache.mkdir(_CACHE)
            return made
    return None


def _name(nodeid: str, unit: str) -> str:
    """A file's name: what a test and its unit are called, without what file systems do not take."""
    return re.sub(r"[^\w.-]+", "_", f"{nodeid}-{unit}")[-_LONGEST:]
