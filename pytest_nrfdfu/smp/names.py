"""What commands and operations are called, for people."""

from __future__ import annotations

from pytest_nrfdfu.smp.header import Group, Header, ImageCommand, Op, OsCommand

__all__ = ["command_name", "op_name"]

_COMMANDS: dict[tuple[int, int], str] = {
    (Group.OS, OsCommand.ECHO): "echo",
    (Group.OS, OsCommand.RESET): "reset",
    (Group.OS, OsCommand.PARAMS): "params",
    (Group.OS, OsCommand.BOOTLOADER_INFO): "bootloader info",
    (Group.IMAGE, ImageCommand.STATE): "image list",
    (Group.IMAGE, ImageCommand.UPLOAD): "image upload",
    (Group.IMAGE, ImageCommand.ERASE): "image erase",
    (Group.IMAGE, ImageCommand.SLOT_INFO): "slot info",
}
_OPS: dict[int, str] = {
    Op.READ: "read",
    Op.READ_RESPONSE: "read response",
    Op.WRITE: "write",
    Op.WRITE_RESPONSE: "write response",
}


def command_name(header: Header) -> str:
    """What a command is called, `image list` say; its numbers where it has no name here."""
    name = _COMMANDS.get((header.group, header.command))
    if name == "image list" and header.op in {Op.WRITE, Op.WRITE_RESPONSE}:
        return "image state"
    return name or f"group {header.group} command {header.command}"


def op_name(op: int) -> str:
    """What an op is called."""
    return _OPS.get(op, f"unknown op {op}")
