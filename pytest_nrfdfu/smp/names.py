"""What commands, operations and errors are called, for people."""

from __future__ import annotations

from pytest_nrfdfu.smp.header import Group, Header, ImageCommand, Op, OsCommand

__all__ = ["command_name", "error_name", "op_name"]

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


_SMP_ERRORS = (
    "EOK",
    "EUNKNOWN",
    "ENOMEM",
    "EINVAL",
    "ETIMEOUT",
    "ENOENT",
    "EBADSTATE",
    "EMSGSIZE",
    "ENOTSUP",
    "ECORRUPT",
    "EBUSY",
    "EACCESSDENIED",
    "UNSUPPORTED_TOO_OLD",
    "UNSUPPORTED_TOO_NEW",
)
"""MGMT_ERR_* by number (Zephyr, include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h)."""
_OS_ERRORS = (
    "OK",
    "UNKNOWN",
    "INVALID_FORMAT",
    "QUERY_YIELDS_NO_ANSWER",
    "RTC_NOT_SET",
    "RTC_COMMAND_FAILED",
    "QUERY_RESPONSE_VALUE_NOT_VALID",
)
"""OS_MGMT_ERR_* by number (Zephyr, include/zephyr/mgmt/mcumgr/grp/os_mgmt/os_mgmt.h)."""
_IMAGE_ERRORS = (
    "OK",
    "UNKNOWN",
    "FLASH_CONFIG_QUERY_FAIL",
    "NO_IMAGE",
    "NO_TLVS",
    "INVALID_TLV",
    "TLV_MULTIPLE_HASHES_FOUND",
    "TLV_INVALID_SIZE",
    "HASH_NOT_FOUND",
    "NO_FREE_SLOT",
    "FLASH_OPEN_FAILED",
    "FLASH_READ_FAILED",
    "FLASH_WRITE_FAILED",
    "FLASH_ERASE_FAILED",
    "INVALID_SLOT",
    "NO_FREE_MEMORY",
    "FLASH_CONTEXT_ALREADY_SET",
    "FLASH_CONTEXT_NOT_SET",
    "FLASH_AREA_DEVICE_NULL",
    "INVALID_PAGE_OFFSET",
    "INVALID_OFFSET",
    "INVALID_LENGTH",
    "INVALID_IMAGE_HEADER",
    "INVALID_IMAGE_HEADER_MAGIC",
    "INVALID_HASH",
    "INVALID_FLASH_ADDRESS",
    "VERSION_GET_FAILED",
    "CURRENT_VERSION_IS_NEWER",
    "IMAGE_ALREADY_PENDING",
    "INVALID_IMAGE_VECTOR_TABLE",
    "INVALID_IMAGE_TOO_LARGE",
    "INVALID_IMAGE_DATA_OVERRUN",
    "IMAGE_CONFIRMATION_DENIED",
    "IMAGE_SETTING_TEST_TO_ACTIVE_DENIED",
    "ACTIVE_SLOT_NOT_KNOWN",
)
"""IMG_MGMT_ERR_* by number (Zephyr, include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""
_ERRORS: dict[int | None, tuple[str, ...]] = {None: _SMP_ERRORS, Group.OS: _OS_ERRORS, Group.IMAGE: _IMAGE_ERRORS}


def error_name(group: int | None, rc: int) -> str:
    """What an error is called in Zephyr's headers, and its number: ``INVALID_HASH (24)``.

    `group` as in `SmpRejected`: None for an error of SMP itself, ``EBADSTATE (6)``.
    """
    names = _ERRORS.get(group, ())
    return f"{names[rc]} ({rc})" if 0 <= rc < len(names) else f"error {rc}"
