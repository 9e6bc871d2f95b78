"""What a bootloader can do: profiles by SDK version, and which upload number means the network core.

The figures are those of MCUboot's ``boot/zephyr/Kconfig.serial_recovery`` and of its history in Nordic's fork
``sdk-mcuboot``, read per tag. The mapping of ``vX-ncsN`` tags to nRF Connect SDK releases is inferred from dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

from pytest_nrfdfu.errors import ConfigError

__all__ = [
    "PROFILES",
    "BootloaderProfile",
    "Entrance",
    "NetworkUpload",
    "Swap",
    "network_upload",
    "network_upload_number",
    "overlay",
    "profile",
]

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
    ignores_image_number: bool = False
    """With one image and no direct upload, an upload with any number goes to the application's slot: so it was in
    v1.10.0-ncs1 and before (FLASH_AREA_IMAGE_PRIMARY(x) in sysflash.h). Later code reads beyond the end of a table;
    what that hits is not known, and the profiles take the worst."""
    reset_waits: bool = True
    """OS reset is answered with rc 10 while the network core is updated (from v1.10.0-ncs1)."""
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
    BootloaderProfile(name="ncs-2.6", pin_reset_alone=True, ignores_image_number=True),
    BootloaderProfile(
        name="ncs-2.4",
        rejects_disabled_echo=False,
        queues_commands=False,
        lists_valid_only=False,
        image_at_start_only=False,
        state_write_lists=True,
        ignores_image_number=True,
        pin_reset_alone=True,
    ),
    BootloaderProfile(
        name="ncs-2.2",
        reset_waits=False,
        line_length=512,
        line_buffers=2,
        hash=False,
        fragments_responses=False,
        rejects_disabled_echo=False,
        queues_commands=False,
        image_at_start_only=False,
        state_write_lists=True,
        ignores_image_number=True,
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
        reset_waits=False,
        fragments_responses=False,
        rejects_disabled_echo=False,
        queues_commands=False,
        image_at_start_only=False,
        state_write_lists=True,
        ignores_image_number=True,
        lists_build_number=True,
        pin_reset_alone=True,
    ),
    BootloaderProfile(name="mcuboot-main", params=True, slot_info_upload_id="primary", ignores_image_number=True),
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


def overlay(base: BootloaderProfile, told: Mapping[str, Any]) -> BootloaderProfile:
    """`base` with the fields in `told` that are not None; ConfigError for one that there is not."""
    known = {field.name for field in fields(BootloaderProfile)}
    unknown = sorted(set(told) - known)
    if unknown:
        raise ConfigError(f"a bootloader has no {unknown[0]!r}; known are: {', '.join(sorted(known))}")
    return replace(base, **{name: value for name, value in told.items() if value is not None})


class NetworkUpload(NamedTuple):
    """Which number in an upload request means the network core, and why."""

    number: int | None
    """None: there is none, or it is not known; then nothing must be sent."""
    reason: str


def network_upload(
    *,
    direct_upload: bool | None,
    images: int | None,
    slot_info: Iterable[tuple[int, int, int | None]] = (),
    index: int = 1,
) -> NetworkUpload:
    """The number for the network core's image, or why there is none.

    `direct_upload` and `images` are those of the bootloader (`BootloaderProfile`), None where not known. `slot_info` is
    the board's own list: image, slot, upload number of each slot. `index`: which image is the network core's, from 0.

    With direct upload the number names a slot: 0 and 1 mean slot 0, 2 slot 1, 3 slot 2 ... (MCUboot, boot/zephyr/
    flash_map_extended.c), and image n's first slot is number 2n + 1. Without, it is the image's index, and a bootloader
    of one image writes to the application's slot whatever the number is (boot/zephyr/include/sysflash/sysflash.h).
    There is no default, because a wrong number destroys the application.
    """
    rule = _network_upload_by_rule(direct_upload=direct_upload, images=images, index=index)
    rows = tuple(slot_info)
    if not rows:
        return rule
    listed = _network_upload_by_slot_info(rows, index)
    if all(number is None for image, _, number in rows if image == index) and any(row[0] == index for row in rows):
        return rule  # this image's slots carry no numbers, which says nothing
    possible = {
        _network_upload_by_rule(direct_upload=direct, images=count, index=index).number
        for direct in ((True, False) if direct_upload is None else (direct_upload,))
        for count in ((1, index + 1) if images is None else (images,))
    }
    if listed.number in possible or listed.number is rule.number is None:
        return listed
    return NetworkUpload(
        None,
        f"the board's slot info contradicts what the bootloader was said to be: {listed.reason}, but {rule.reason}. "
        "Is the bootloader on the board the one from this build?",
    )


def network_upload_number(
    *,
    direct_upload: bool | None,
    images: int | None,
    slot_info: Iterable[tuple[int, int, int | None]] = (),
    index: int = 1,
) -> int | None:
    """Only the number of `network_upload`; None where there is none or it is not known."""
    return network_upload(direct_upload=direct_upload, images=images, slot_info=slot_info, index=index).number


def _network_upload_by_rule(*, direct_upload: bool | None, images: int | None, index: int) -> NetworkUpload:
    if direct_upload is None:
        return NetworkUpload(
            None, "it is not known whether the bootloader has CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD"
        )
    if direct_upload:
        return NetworkUpload(
            2 * index + 1,
            f"with direct upload the number names a slot, and {2 * index + 1} is the first slot of image {index}",
        )
    if images is None:
        return NetworkUpload(
            None, "it is not known how many images the bootloader updates (CONFIG_UPDATEABLE_IMAGE_NUMBER)"
        )
    if images <= index:
        count = "one image" if images == 1 else f"{images} images"
        return NetworkUpload(
            None,
            f"a bootloader with {count} and without CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD has no number for the "
            "network core: any number overwrites the application",
        )
    return NetworkUpload(
        index, f"without direct upload the number names one of the {images} images, and the network core is {index}"
    )


def _network_upload_by_slot_info(rows: tuple[tuple[int, int, int | None], ...], index: int) -> NetworkUpload:
    """What the board's list says: bs_slot_info in boot_serial.c, all versions (see `slot_info_upload_id`)."""
    numbers = {slot: number for image, slot, number in rows if image == index and number is not None}
    if not any(image == index for image, _, _ in rows):
        return NetworkUpload(None, f"the board's slot info lists no image {index}")
    if numbers.get(0) == 2 * index + 1:
        # Only direct upload gives the first slot this number.
        return NetworkUpload(2 * index + 1, f"the board's slot info gives the network core number {2 * index + 1}")
    if (set(numbers) == {1} and numbers[1] in {index, 2 * index + 1}) or numbers == {0: index}:
        # One number for both slots: there is no direct upload, and the number is the image's.
        return NetworkUpload(index, f"the board's slot info numbers images, and the network core is image {index}")
    shown = ", ".join(f"slot {slot}: {number}" for slot, number in sorted(numbers.items())) or "none"
    return NetworkUpload(None, f"the board's slot info gives image {index} upload numbers that fit no rule ({shown})")
