"""Who sent an image list: MCUboot's serial recovery, or a running application.

Sources: MCUboot, boot/boot_serial/src/boot_serial.c (bs_list); Zephyr, smp_group_1.rst and
subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c (img_mgmt_state_read, ZCBOR_ENCODE_FLAG).
"""

from __future__ import annotations

from pytest_nrfdfu.smp.messages import ImageStates

__all__ = ["from_recovery"]


def from_recovery(states: ImageStates, *, has_state: bool) -> bool:
    """Whether an image list comes from MCUboot's recovery. `has_state`: it was built with image state (flags).

    An application may leave out what is false, and ``splitStatus`` (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST); MCUboot never
    sends either. So the order decides: every MCUboot with flags writes them before the slot's number, every application
    behind version and hash. A list without flags is MCUboot's, since an application's always has the active image.
    """
    if states.split_status is not None:
        return False
    return all(image.active is None for image in states.images) or (has_state and states.flags_first)
