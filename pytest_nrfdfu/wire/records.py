"""Captures as JSON lines: one object a line, so that a file is readable as long as it was written.

The first line is a header: ``{"format": "nrfdfu-capture", "version": 1, "source": "..."}``. Each further line is what
came together: ``{"time": 0.125, "direction": "tx", "data": "0609..."}``, time in seconds from the begin of the capture
(null where unknown), data in hexadecimal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.wire.capture import Capture, Chunk, Direction

__all__ = ["FORMAT", "VERSION", "dumps", "header_line", "loads", "looks_like", "record_line"]

FORMAT = "nrfdfu-capture"
VERSION = 1
_DIRECTIONS: dict[Any, Direction] = {"tx": "tx", "rx": "rx"}
_TIME_DIGITS = 7
"""Digits behind the point: a tenth of a microsecond, a bit at 10 Mbaud."""


def header_line(source: str = "") -> str:
    """The first line of a file, with its newline: for who writes while the bytes come."""
    return json.dumps({"format": FORMAT, "version": VERSION, "source": source}) + "\n"


def record_line(chunk: Chunk) -> str:
    """The line of one chunk, with its newline."""
    time = None if chunk.time is None else round(chunk.time, _TIME_DIGITS)
    return json.dumps({"time": time, "direction": chunk.direction, "data": chunk.data.hex()}) + "\n"


def dumps(capture: Capture) -> str:
    """The whole file of a capture."""
    return header_line(capture.source) + "".join(record_line(chunk) for chunk in capture)


def looks_like(text: str) -> bool:
    """Whether `text` begins like such a file."""
    return text.lstrip().startswith("{") and FORMAT in text.lstrip().partition("\n")[0]


def loads(text: str, source: str = "") -> Capture:
    """The capture in `text`; ConfigError with the number of the first line that does not fit.

    A last line without newline that cannot be read was torn off when its writer died, and is left out.
    """
    head, _, body = text.partition("\n")
    told = _header(head)
    return Capture(tuple(_records(body)), source or told)


def _header(line: str) -> str:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"line 1 is no JSON object with the format ({error}): {line[:60]!r}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ConfigError(f"line 1 does not say that this is a {FORMAT}: {line[:60]!r}")
    if header.get("version") != VERSION:
        raise ConfigError(f"line 1: this is version {header.get('version')} of {FORMAT}, known is {VERSION}")
    return str(header.get("source", ""))


def _records(body: str) -> Iterator[Chunk]:
    lines = body.split("\n")  # what stands behind the last newline is empty, or was torn off
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            yield _record(line)
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) + 1:
                return
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"line {number} is no record of a capture ({why}): {line[:60]!r}") from None


def _record(line: str) -> Chunk:
    record = json.loads(line)
    time = record["time"]
    return Chunk(None if time is None else float(time), _DIRECTIONS[record["direction"]], bytes.fromhex(record["data"]))
