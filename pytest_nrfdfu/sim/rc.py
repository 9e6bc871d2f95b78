"""Return codes that SMP servers answer with, MCUboot's recovery and an application's alike.

Source: Zephyr, include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h (MGMT_ERR_*).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Rc"]


class Rc(IntEnum):
    """MGMT_ERR_*."""

    OK = 0
    UNKNOWN = 1
    NO_MEMORY = 2
    INVALID = 3
    NO_ENTRY = 5
    BAD_STATE = 6
    MESSAGE_SIZE = 7
    NOT_SUPPORTED = 8
    CORRUPT = 9
    BUSY = 10
    TOO_NEW = 13
