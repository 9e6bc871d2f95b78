"""What passed on a port, in words: one line per SMP message, for the report of a failing test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_nrfdfu.errors import SmpError
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode
from pytest_nrfdfu.smp.header import Group, Header, ImageCommand, Op, OsCommand

__all__ = ["decode_traffic", "describe"]

_LONG = 16
"""Byte strings longer than this are shortened."""
_COMMANDS = {
    (Group.OS, OsCommand.ECHO): "echo",
    (Group.OS, OsCommand.RESET): "reset",
    (Group.OS, OsCommand.PARAMS): "params",
    (Group.OS, OsCommand.BOOTLOADER_INFO): "bootloader info",
    (Group.IMAGE, ImageCommand.STATE): "image state",
    (Group.IMAGE, ImageCommand.UPLOAD): "image upload",
    (Group.IMAGE, ImageCommand.ERASE): "image erase",
    (Group.IMAGE, ImageCommand.SLOT_INFO): "slot info",
}
_OPS = {Op.READ: "read", Op.READ_RESPONSE: "read response", Op.WRITE: "write", Op.WRITE_RESPONSE: "write response"}


def describe(packet: bytes) -> str:
    """One SMP packet in a line: command, operation, sequence, payload with long byte strings shortened."""
    try:
        header, payload = decode(packet)
    except SmpError as error:
        return f"unreadable packet: {error}"
    return f"{_name(header)}, sequence {header.sequence}: {_short(payload)}"


def _name(header: Header) -> str:
    known = (header.group, header.command)
    command = next((text for key, text in _COMMANDS.items() if key == known), f"group {known[0]} command {known[1]}")
    op = next((text for key, text in _OPS.items() if key == header.op), f"op {header.op}")
    return f"{command} {op}"


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
