"""Errors of the image group, with what they become in version 1 of the protocol.

Source: Zephyr, include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h, and img_mgmt_translate_error_code in
subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt.c.
"""

from __future__ import annotations

from enum import IntEnum

from pytest_nrfdfu.sim.app_reply import GroupRefused
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.smp.header import Group

__all__ = ["ImageError", "refuse"]


class ImageError(IntEnum):
    """IMG_MGMT_ERR_*, those that a simulated application can answer."""

    HASH_NOT_FOUND = 8
    NO_FREE_SLOT = 9
    FLASH_OPEN_FAILED = 10
    FLASH_WRITE_FAILED = 12
    INVALID_OFFSET = 20
    INVALID_LENGTH = 21
    INVALID_IMAGE_HEADER = 22
    INVALID_IMAGE_HEADER_MAGIC = 23
    INVALID_HASH = 24
    VERSION_GET_FAILED = 26
    CURRENT_VERSION_IS_NEWER = 27
    IMAGE_ALREADY_PENDING = 28
    INVALID_IMAGE_VECTOR_TABLE = 29
    INVALID_IMAGE_TOO_LARGE = 30
    INVALID_IMAGE_DATA_OVERRUN = 31
    IMAGE_CONFIRMATION_DENIED = 32
    IMAGE_SETTING_TEST_TO_ACTIVE_DENIED = 33


_IN_VERSION_1 = {
    ImageError.NO_FREE_SLOT: Rc.BAD_STATE,
    ImageError.CURRENT_VERSION_IS_NEWER: Rc.BAD_STATE,
    ImageError.IMAGE_ALREADY_PENDING: Rc.BAD_STATE,
    ImageError.INVALID_OFFSET: Rc.INVALID,
    ImageError.INVALID_LENGTH: Rc.INVALID,
    ImageError.INVALID_IMAGE_HEADER: Rc.INVALID,
    ImageError.INVALID_HASH: Rc.INVALID,
}
"""Every other one becomes EUNKNOWN."""


def refuse(error: ImageError, reason: bytes = b"") -> GroupRefused:
    """The exception that answers with `error`, in version 1 with words (CONFIG_MCUMGR_GRP_IMG_VERBOSE_ERR)."""
    return GroupRefused(Group.IMAGE, error, _IN_VERSION_1.get(error, Rc.UNKNOWN), reason)
