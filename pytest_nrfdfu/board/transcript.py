"""What passed on a port, in words: one line per SMP message, for the report of a failing test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_nrfdfu.errors import SmpError
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode
from pytest_nrfdfu.smp.names import command_name, op_name

__all__ = ["decode_traffic", "describe"]

_LONG = 16
"""Byte strings longer than this are shortened."""


def describe(packet: bytes) -> str:
    """One SMP packet in a line: command, operation, sequence, payload with long byte strings shortened."""
    try:
        header, payload = decode(packet)
    except SmpError as error:
        return f"unreadable packet: {error}"
    return f"{command_name(header)} {op_name(header.op)}, sequence {header.sequence}: {_short(payload)}"


def _short(value: Any) -> str:
    match value:
        case bytes():
            return f"<{len(value)} bytes>" if len(value) > 2 * _LONG else value.hex()
        case dict():
            return "{" + ", ".join(f"{key}: {_short(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_short(item) for item in value) + "]"
        case _:
            return repr(value)


def decode_traffic(traffic: Iterable[tuple[float, str, bytes]]) -> list[str]:
    """Lines for (seconds, ``tx`` or ``rx``, bytes) records. Times are relative to the first record."""
    decoders = {"tx": console.Decoder(), "rx": console.Decoder()}
    arrows = {"tx": "->", "rx": "<-"}
    first: float | None = None
    lines = []
    for when, direction, data in traffic:
        first = when if first is None else first
        for event in decoders[direction].feed(data):
            match event:
                case console.Packet():
                    text = f"{describe(event.data)} ({len(event.data)} bytes)"
                case console.Fault():
                    text = f"broken frame: {event}"
                case console.Text():
                    continue
            lines.append(f"{when - first:9.3f} s {arrows[direction]} {text}")
    return lines
