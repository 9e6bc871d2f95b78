"""What a bootloader can do: profiles by SDK version.

The figures are those of MCUboot's ``boot/zephyr/Kconfig.serial_recovery`` and of its history in Nordic's fork
``sdk-mcuboot``, read per tag. The mapping of ``vX-ncsN`` tags to nRF Connect SDK releases is inferred from dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_nrfdfu.errors import ConfigError

__all__ = ["PROFILES", "BootloaderProfile", "Entrance", "Swap", "profile"]

Entrance = Literal["gpio", "pin-reset", "boot-mode", "wait-for-dfu", "no-application"]
Swap = Literal["move", "offset", "scratch", "overwrite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootloaderProfile:
    """One build of MCUboot with serial recovery. Sizes in bytes, times in seconds."""

    name: str
    receive_size: int = 1024
    """CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE. The largest SMP packet it takes is 3 less."""
    line_length: int = 128
    """CONFIG_BOOT_MAX_LINE_INPUT_LEN, newline included; what is beyond is cut off."""
    line_buffers: int = 8
    """CONFIG_BOOT_LINE_BUFS."""
    images: int = 1
    """CONFIG_UPDATEABLE_IMAGE_NUMBER."""
    hash: bool = True
    """CONFIG_BOOT_SERIAL_IMG_GRP_HASH: the image list shows hashes."""
    image_state: bool = False
    """CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE: flags in the list, and state can be written."""
    slot_info: bool = False
    """CONFIG_BOOT_SERIAL_IMG_GRP_SLOT_INFO."""
    echo: bool = False
    """CONFIG_BOOT_MGMT_ECHO."""
    params: bool = False
    """CONFIG_BOOT_MGMT_MCUMGR_PARAMS."""
    direct_upload: bool = False
    """CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD: the upload's image number names a slot."""
    erase_progressively: bool = True
    """CONFIG_BOOT_ERASE_PROGRESSIVELY; otherwise the packet with offset 0 erases the whole slot."""
    swap: Swap = "move"
    entrances: tuple[Entrance, ...] = ("gpio",)
    detect_delay: float = 0.0
    """CONFIG_BOOT_SERIAL_DETECT_DELAY."""
    wait_for_dfu: float = 0.5
    """CONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT, where that entrance is built in."""

    # History: how older code differs.
    response_end: bytes = b"\n"
    """Line end of responses; b"\\n\\r" up to v1.9.99-ncs1 (commit 2f2b31cb)."""
    fragments_responses: bool = True
    """Responses cut in lines (from v1.10.0-ncs1, f5e7753b); one long line before."""
    rejects_unknown: bool = True
    """Unknown commands answered with rc 8 (from v1.8.99-ncs1, c9dc2249); silent before."""
    rejects_disabled_echo: bool = True
    """Echo answered with rc 8 where it is not built in (from v2.0.99-ncs1, e9fccef5); silent before."""
    queues_commands: bool = True
    """Commands queued behind one another work (from v2.0.99-ncs1, 6ba46c0b)."""
    lists_valid_only: bool = True
    """Only valid images are listed (before the hash came, and again from v1.10.99-ncs1, 82feb9a4); else every slot."""
    image_at_start_only: bool = True
    """`image` counts at offset 0 only (from v1.10.99-ncs1, 6a8746d7); in every packet, 0 if absent, before."""
    state_write_lists: bool = False
    """A write of the image state is answered with the list, as long as there is no code to set the state."""
    lists_build_number: bool = False
    """Versions in the list always end with the build number, even when it is 0 (code of 2022 and before)."""
    slot_info_upload_id: Literal["doubled", "secondary", "primary"] = "doubled"
    """Slot info without direct upload gives an upload number to one slot of each image. Nordic's fork: image * 2 + 1 to
    slot 1; MCUboot before pull request 2767 (2026-06): the image to slot 1; since then: the image to slot 0."""
    gpio_needs_pin_reset: bool = True
    """The recovery pin counts only after power-on or pin reset (io_boot_skip_serial_recovery, from v1.7.99-ncs4)."""
    pin_reset_alone: bool = False
    """Entrance pin-reset compares the cause for equality (until v2.1.0-ncs5), so another cause bit defeats it."""

    @property
    def max_packet(self) -> int:
        """The largest SMP packet, header included, that fits the decode buffer beside length and CRC (measured)."""
        return self.receive_size - 3


_PROFILES = (
    BootloaderProfile(name="ncs-2.6", pin_reset_alone=True),
    BootloaderProfile(
        name="ncs-2.4",
        rejects_disabled_echo=False,
        queues_commands=False,
        lists_valid_only=False,
        image_at_start_only=False,
        state_write_lists=True,
        pin_reset_alone=True,
    ),
    BootloaderProfile(
        name="ncs-2.2",
        line_length=512,
        line_buffers=2,
        hash=False,
        fragments_responses=False,
        rejects_disabled_echo=False,
        queues_commands=False,
        image_at_start_only=False,
        state_write_lists=True,
        lists_build_number=True,
        pin_reset_alone=True,
    ),
    BootloaderProfile(
        name="ncs-1.9",
        receive_size=512,
        line_length=512,
        line_buffers=2,
        hash=False,
        response_end=b"\n\r",
        fragments_responses=False,
        rejects_disabled_echo=False,
        queues_commands=False,
        image_at_start_only=False,
        state_write_lists=True,
        lists_build_number=True,
        pin_reset_alone=True,
    ),
    BootloaderProfile(name="mcuboot-main", params=True, slot_info_upload_id="primary"),
)

PROFILES: dict[str, BootloaderProfile] = {p.name: p for p in _PROFILES}
"""Known bootloaders by name. ``ncs-2.6`` holds from nRF Connect SDK 2.6 to 3.4."""


def profile(name: str) -> BootloaderProfile:
    """The profile called `name`; ConfigError with the known names otherwise."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ConfigError(f"bootloader profile {name!r} is not known; known are: {known}") from None
