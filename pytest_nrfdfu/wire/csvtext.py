"""What logic analysers export of async serial: Saleae's CSV tables, and the annotations of sigrok and PulseView.

Saleae Logic 2 exports a table with named columns, of which ``start_time``, ``data`` and ``name`` count here; times are
seconds, or ISO 8601 where so chosen. Logic 1 (and Logic 2's export of a single analyser) writes ``Time [s],Value,Parity
Error,Framing Error``. Values are hex, decimal, or characters with the analyser SDK's ways to write the others.
PulseView's annotation export has the format ``%s %d: %c: %1`` unless changed; sigrok-cli prints ``uart-1: 41``, with
``--protocol-decoder-samplenum`` the samples in front. Their times are sample numbers, and no file holds the rate.

Sources: Saleae, "Data Table & Terminal View" and AsyncSerialAnalyzer's SerialAnalyzerResults.cpp (columns) with the
Analyzer SDK (characters); PulseView, pv/globalsettings.cpp and pv/views/trace/decodetrace.cpp; libsigrokdecode,
decoders/uart/pd.py.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_nrfdfu.errors import ConfigError
from pytest_nrfdfu.wire.pieces import Piece

__all__ = ["read_saleae", "read_sigrok", "saleae_header", "sigrok_line"]

_TIMES = ("start_time", "time [s]", "start", "time")
_VALUES = ("data", "value")
_LABELS = ("name", "analyzer name", "channel")
_ERRORS = ("error", "framing error", "framing_error")
_DURATION = "duration"
_NAMED = {"COMMA": ",", "\\n": "\n", "\\r": "\r", "\\t": "\t", "\\0": "\0", "": ""}


def saleae_header(line: str) -> bool:
    """Whether `line` is the head of a table with times and values."""
    names = {name.strip().lower() for name in next(csv.reader([line]), [])}
    return bool(names & set(_TIMES)) and bool(names & set(_VALUES))


def read_saleae(text: str) -> list[Piece]:
    """The bytes of a table; ConfigError with the number of the first line that does not fit."""
    lines = text.splitlines()
    if not lines or not saleae_header(lines[0]):
        raise ConfigError(f"line 1 names no columns of time and value: {(lines or [''])[0][:60]!r}")
    rows = csv.reader(io.StringIO("\n".join(lines[1:])))
    columns = {name.strip().lower(): index for index, name in enumerate(next(csv.reader([lines[0]])))}
    return list(_rows(rows, columns))


def _rows(rows: Iterator[list[str]], columns: Mapping[str, int]) -> Iterator[Piece]:
    time_at, value_at = _column(columns, _TIMES), _column(columns, _VALUES)
    label_at, error_at = _column(columns, _LABELS), _column(columns, _ERRORS)
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        cells = _mended(row, value_at, len(columns))
        try:
            data = _value(cells[value_at])
            if not data and not _cell(cells, error_at):
                continue  # a table may hold other kinds of frames, which have no data
            time = _time(cells[time_at])
            time += float(_cell(cells, columns.get(_DURATION, -1)) or 0)
        except (ValueError, IndexError) as error:
            raise ConfigError(f"line {number} has no time and value ({error}): {','.join(row)[:60]!r}") from None
        yield Piece(time, _cell(cells, label_at), data)


def _column(columns: Mapping[str, int], names: Sequence[str]) -> int:
    return next((columns[name] for name in names if name in columns), -1)


def _cell(cells: Sequence[str], index: int) -> str:
    return cells[index].strip() if 0 <= index < len(cells) else ""


def _mended(row: list[str], value_at: int, width: int) -> list[str]:
    """The analyser SDK writes a comma as ``','``, without CSV's quotes: one cell too many."""
    if len(row) == width + 1 and row[value_at : value_at + 2] == ["'", "'"]:
        return [*row[:value_at], ",", *row[value_at + 2 :]]
    return row


def _time(text: str) -> float:
    if "T" in text:
        # Python takes six digits of a second; the analyser writes nine.
        head, _, rest = text.strip().partition(".")
        digits = re.match(r"\d*", rest)
        fraction = digits[0] if digits else ""
        return dt.datetime.fromisoformat(head + rest[len(fraction) :]).timestamp() + float(f"0.{fraction or 0}")
    return float(text)


def _value(text: str) -> bytes:
    """One cell: hex bytes, a character, or the number of one in quotes."""
    if re.fullmatch(r"\s*(?:0x[0-9A-Fa-f]{2}\s*)+", text):
        return bytes(int(word, 16) for word in text.split())
    if text in _NAMED:
        return _NAMED[text].encode()
    if len(text) > 2 and text[0] == text[-1] == "'":
        return bytes([int(text[1:-1])]) if text[1:-1].isdecimal() else text[1:-1].encode("latin-1")
    shown = re.fullmatch(r"\\x([0-9A-Fa-f]{2})|0b([01]{8})", text)
    if shown:
        return bytes([int(shown[1], 16) if shown[1] else int(shown[2], 2)])
    if len(text) == 1:
        return text.encode("latin-1")
    if text.isdecimal():
        return bytes([int(text)])
    raise ValueError(f"{text!r} is no byte")


_SIGROK = re.compile(
    r"^\s*(?:(?P<first>\d+)-(?P<last>\d+)\s+)?\"?(?P<decoder>[\w -]*?uart[\w-]*)\"?\s*:\s*"
    r"(?:\"?(?P<row>[RT]X)(?:[ _-]?[\w ]*)?\"?\s*:\s*)?\"?(?P<value>\[?[0-9A-Fa-f]{2}\]?|.)\"?\s*$",
    re.IGNORECASE,
)
_SIGROK_OTHER = re.compile(
    r"^\s*(?:\d+-\d+\s+)?\"?[\w -]*?uart[\w-]*\"?\s*:\s*.*(?:start|stop|parity|break|frame|idle|warning|packet|bit).*$",
    re.IGNORECASE,
)


def sigrok_line(line: str) -> bool:
    """Whether `line` is an annotation of sigrok's UART decoder."""
    return bool(_SIGROK.match(line) or _SIGROK_OTHER.match(line))


def read_sigrok(text: str) -> list[Piece]:
    """The bytes of the annotations, in the order of their samples; ConfigError with the first line that is none.

    Without a rate, sample numbers give an order and no times. A value of two hex digits is hex, as the decoder's
    format must be set for anything but text.
    """
    found: list[tuple[int, Piece]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _SIGROK.match(line)
        if match is None:
            if _SIGROK_OTHER.match(line):
                continue
            raise ConfigError(f"line {number} is no annotation of a UART decoder: {line.strip()[:60]!r}")
        value = match["value"].strip("[]") if len(match["value"]) > 1 else match["value"]
        data = bytes.fromhex(value) if len(value) == 2 else value.encode("latin-1", "replace")
        found.append((int(match["first"] or number), Piece(None, (match["row"] or "").lower(), data)))
    if not found:
        raise ConfigError("there are no bytes in it")
    return [piece for _, piece in sorted(found, key=lambda pair: pair[0])]
