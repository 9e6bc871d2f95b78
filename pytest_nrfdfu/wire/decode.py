"""A capture in words: one line for each message; with the fields and the bytes that made them; or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.smp.codec import rc_name
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.smp.names import command_name, op_name
from pytest_nrfdfu.wire.annotate import Field, body_fields, shown
from pytest_nrfdfu.wire.capture import Capture, Direction
from pytest_nrfdfu.wire.exchange import Exchange, exchanges
from pytest_nrfdfu.wire.frames import Frame, Item, Message, Text, read
from pytest_nrfdfu.wire.paint import Paint, hex_rows

__all__ = ["Row", "as_json", "lines", "rows", "summary"]

_ARROWS: dict[Direction, str] = {"tx": "->", "rx": "<-"}
_SHORT_HASH = 8
_TEXT_WIDTH = 72
_LINE_SHOWN = 24
"""Base64 characters of a line that are shown at either end, with -v."""


class Row(NamedTuple):
    """One line of the listing. `offset`: of an upload or its answer; `length`: bytes of data, or of the image at 0.

    `kind`: request, response, broken (a frame without a packet) or text. `rc` None where the answer has none.
    """

    kind: str
    time: float | None
    direction: Direction
    what: str
    details: str
    item: Item
    sequence: int | None = None
    offset: int | None = None
    length: int | None = None
    rc: int | None = None
    round_trip: float | None = None
    trouble: str = ""


def rows(items: Iterable[Item]) -> list[Row]:
    """A row for each item, in order."""
    found = list(items)
    pairs = exchanges(found)
    asked = {id(pair.request): pair for pair in pairs}
    answered = {id(pair.response): pair for pair in pairs if pair.response is not None}
    answers_expected = any(isinstance(item, Message) and not item.is_request for item in found)
    made = []
    for item in found:
        match item:
            case Text():
                made.append(_text_row(item))
            case Frame():
                made.append(_broken_row(item))
            case Message() if item.is_request:
                unanswered = answers_expected and asked[id(item)].response is None
                made.append(_request_row(item, unanswered=unanswered))
            case _:
                made.append(_response_row(item, answered.get(id(item))))
    return made


def _text_row(item: Text) -> Row:
    shown_text = item.data.decode("utf-8", "backslashreplace").rstrip("\r\n")
    if len(shown_text) > _TEXT_WIDTH:
        shown_text = f"{shown_text[:_TEXT_WIDTH]}..."
    return Row("text", item.time, item.direction, "text", repr(shown_text)[1:-1] or "(an empty line)", item)


def _broken_row(frame: Frame) -> Row:
    packet = frame.presumed
    guess = ""
    if len(packet) >= HEADER_SIZE and not frame.behind_whole:
        header = Header.unpack(packet)
        guess = f"perhaps {command_name(header)}, {op_name(header.op)}"
    return Row(
        "broken", frame.time_first, frame.direction, "broken frame", guess, frame, trouble=str(frame.fault or "")
    )


def _trouble(message: Message) -> str:
    fault = "" if message.frame.fault is None else str(message.frame.fault)
    return "; ".join(word for word in (fault, message.payload_error or "") if word)


def _request_row(message: Message, *, unanswered: bool) -> Row:
    payload = message.payload or {}
    offset, data, size = payload.get("off"), payload.get("data"), payload.get("len")
    trouble = "; ".join(word for word in (_trouble(message), "no response" if unanswered else "") if word)
    return Row(
        "request",
        message.frame.time_first,
        message.direction,
        command_name(message.header),
        _details(message, payload),
        message,
        sequence=message.header.sequence,
        offset=offset if isinstance(offset, int) else None,
        length=len(data) if isinstance(data, bytes) else size if isinstance(size, int) else None,
        trouble=trouble,
    )


def _response_row(message: Message, pair: Exchange | None) -> Row:
    payload = message.payload or {}
    offset, rc = payload.get("off"), _rc(payload)
    stray = "" if pair is not None else "no request for it is in the capture"
    return Row(
        "response",
        message.frame.time_first,
        message.direction,
        command_name(message.header),
        _details(message, payload),
        message,
        sequence=message.header.sequence,
        offset=offset if isinstance(offset, int) else None,
        rc=rc,
        round_trip=None if pair is None else pair.round_trip,
        trouble="; ".join(word for word in (_trouble(message), stray) if word),
    )


def _rc(payload: dict[Any, Any]) -> int | None:
    err = payload.get("err")
    rc = err.get("rc") if isinstance(err, dict) else payload.get("rc")
    return rc if isinstance(rc, int) else None


def _details(message: Message, payload: dict[Any, Any]) -> str:
    words = [f"seq {message.header.sequence}"]
    for key, value in payload.items():
        match key, value:
            case "data", bytes():
                words.append(f"data {len(value)} bytes")
            case "rc", int():
                words.append(f"rc {value}" + (f" ({rc_name(value)})" if value else ""))
            case "err", {"group": int(group), "rc": int(rc)}:
                words.append(f"rc {rc} of group {group} ({rc_name(rc, group)})")
            case "images", list():
                words += [_image(image) for image in value] or ["no images"]
            case _:
                words.append(f"{key} {shown(value)}")
    return ", ".join(words)


def _image(image: Any) -> str:
    if not isinstance(image, dict) or "version" not in image:
        return shown(image)
    place = f"image {image.get('image', 0)} slot {image.get('slot')}: {image['version']}"
    digest = image.get("hash")
    short = f" hash {digest.hex()[:_SHORT_HASH]}..." if isinstance(digest, bytes) else ""
    flags = " ".join(key for key, value in image.items() if value is True)
    return f"{place}{short}{' ' + flags if flags else ''}"


def lines(capture: Capture, *, verbose: bool = False, paint: Paint | None = None) -> Iterator[str]:
    """The listing as text."""
    paint = paint or Paint(on=False)
    items = read(capture)
    timed = any(chunk.time is not None for chunk in capture)
    listing = rows(items)
    width = max((len(row.what) for row in listing), default=0)
    for row in listing:
        yield _line(row, width, paint, timed=timed)
        if verbose:
            yield from _verbose(row.item, paint)


def _line(row: Row, width: int, paint: Paint, *, timed: bool) -> str:
    time = "" if not timed else " " * 11 if row.time is None else f"{row.time:8.4f} s "
    what = f"{row.what:<{width}}"
    colour = {"request": "cyan", "response": "green", "broken": "red", "text": "grey"}[row.kind]
    if row.kind == "response" and row.rc:
        colour = "red"
    said = [row.details] if row.details else []
    if row.round_trip is not None:
        said.append(paint(f"after {row.round_trip * 1000:.1f} ms", "grey"))
    if row.trouble:
        said.append(paint(f"! {row.trouble}", "red" if row.kind != "text" else "grey"))
    return f"{time}{_ARROWS[row.direction]} {paint(what, colour)}  {'  '.join(said)}".rstrip()


def _verbose(item: Item, paint: Paint) -> Iterator[str]:
    if isinstance(item, Text):
        return
    frame = item.frame if isinstance(item, Message) else item
    for number, line in enumerate(frame.lines, start=1):
        end = line.raw[2 + len(line.text) :].hex(" ") or "no newline"
        text = line.text.decode("latin-1")
        if len(text) > 2 * _LINE_SHOWN + 3:
            text = f"{text[:_LINE_SHOWN]}...{text[-_LINE_SHOWN:]}"
        size = paint(f"{len(line.raw)} bytes at {line.start}", "grey")
        yield f"      line {number}: {line.marker.hex(' ')} {paint(text, 'blue')} {end}  {size}"
    for field in body_fields(frame):
        yield from _field_lines(field, paint)
    yield ""


def _field_lines(field: Field, paint: Paint) -> Iterator[str]:
    says = "  " * field.depth + field.says
    for first, row in hex_rows(field.data):
        if first:
            yield f"      {paint(f'{field.part:<8}', 'grey')}{row}  {says}"
        else:
            yield f"      {'':<8}{row}".rstrip()
    if not field.data:
        yield f"      {paint(f'{field.part:<8}', 'grey')}{'':<24}  {says}"


def summary(capture: Capture) -> str:
    """One sentence: how much of what."""
    listing = rows(read(capture))
    kinds = [row.kind for row in listing]
    silent = sum(row.kind == "request" and "no response" in row.trouble for row in listing)
    words = [_counted(kinds.count("request"), "request"), _counted(kinds.count("response"), "response")]
    if silent:
        words.append(f"{silent} without a response")
    if "broken" in kinds:
        words.append(_counted(kinds.count("broken"), "broken frame"))
    return ", ".join(words)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def as_json(capture: Capture, *, verbose: bool = False) -> dict[str, Any]:
    """The listing for programs. Bytes are hex; times are seconds."""
    return {"source": capture.source, "items": [_row_json(row, verbose=verbose) for row in rows(read(capture))]}


def _row_json(row: Row, *, verbose: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": row.kind, "time": row.time, "direction": row.direction}
    if isinstance(row.item, Text):
        return made | {"start": row.item.start, "data": row.item.data.hex()}
    message = row.item if isinstance(row.item, Message) else None
    frame = row.item.frame if isinstance(row.item, Message) else row.item
    made |= {
        "start": frame.start,
        "end": frame.end,
        "lines": len(frame.lines),
        "fault": None if frame.fault is None else {"kind": frame.fault.kind.name, "detail": frame.fault.detail},
        "packet": frame.presumed.hex(),
    }
    if message is not None:
        made |= {
            "command": row.what,
            "header": message.header._asdict(),
            "payload": _jsonable(message.payload),
            "payload_error": message.payload_error,
            "offset": row.offset,
            "length": row.length,
            "rc": row.rc,
            "round_trip": row.round_trip,
            "answered": None if row.kind != "request" else "no response" not in row.trouble,
        }
    if verbose:
        made["fields"] = [field._asdict() | {"data": field.data.hex()} for field in body_fields(frame)]
    return made


def _jsonable(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _jsonable(item) for key, item in value.items()}
        case list():
            return [_jsonable(item) for item in value]
        case _:
            return value
