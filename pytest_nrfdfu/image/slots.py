"""Where a build's slots are: by the Partition Manager if it is on, else by the devicetree.

With the Partition Manager (nRF Connect SDK) the devicetree still lists partitions, and they are wrong: nothing uses
them. Of its two files partitions.yml is read first, because it also says which memory a partition is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_nrfdfu.image import hardware, partitions
from pytest_nrfdfu.image.bootloader_config import network_core_index
from pytest_nrfdfu.image.devicetree import Devicetree
from pytest_nrfdfu.image.kconfig import Config
from pytest_nrfdfu.image.partitions import Partition

__all__ = ["Origin", "SlotFacts", "image_name", "read_slots"]

Origin = Literal["partitions.yml", "pm.config", "zephyr.dts"]
_MOST_IMAGES = 8
"""More than any MCUboot updates (SB_CONFIG_MCUBOOT_MAX_UPDATEABLE_IMAGES ends at 4 or 5)."""
_OWN_FLASH = "flash_primary"
"""The Partition Manager's name for the chip's flash."""
_RAM_FLASH = "ram_flash"
"""Its name for the RAM where MCUboot takes the network core's image (CONFIG_NRF53_MCUBOOT_PRIMARY_1_RAM_FLASH). Only
the network core writes its own flash, so this slot's address 0 is not one of the chip."""
_PM_ENABLED = "CONFIG_PARTITION_MANAGER_ENABLED"


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """One slot. Address and size in bytes."""

    address: int
    """Where it begins in its memory."""
    size: int
    source: Origin
    memory: str | None = None
    """Name of the memory where that is not the chip's own flash: external flash, or RAM on its way to the network
    core. None also where it is not told."""
    secondary: SlotFacts | None = None
    """The image's secondary slot."""


def image_name(index: int, network_core: int | None) -> str:
    """What the bootloader's image number `index` is called here."""
    if index == 0:
        return "app"
    return "net" if index == network_core else f"image{index}"


def read_slots(
    build_dir: Path, bootloader: Config | None, application: Config | None, tree: Devicetree | None, notes: list[str]
) -> dict[str, SlotFacts]:
    """Primary slots by image name; what was used and what was not goes to `notes`. ImageError for a damaged file."""
    table, origin = _partition_manager(build_dir)
    config = bootloader or application
    if config is not None and config.get(_PM_ENABLED) is True and table is None:
        notes.append(f"slots: not known, for the build has {_PM_ENABLED} and neither partitions.yml nor pm.config")
        return {}
    network_core = network_core_index(bootloader) if bootloader is not None else 1
    by_tree = _slots_of_tree(tree, network_core) if tree else {}
    if table is None or origin is None:
        if by_tree:
            notes.append("slots: from zephyr.dts, because there is no partitions.yml or pm.config")
        return by_tree
    if config is not None and config.get(_PM_ENABLED) is not True and by_tree:
        notes.append(f"slots: from zephyr.dts; {origin} is left over, for the build has no {_PM_ENABLED}")
        return by_tree
    slots = _slots_of_table(table, origin, network_core)
    notes.append(f"slots: from {origin}, because the Partition Manager decides where it is used")
    notes += _differences(slots, by_tree)
    return slots


def _partition_manager(build_dir: Path) -> tuple[dict[str, Partition] | None, Origin | None]:
    path = build_dir / "partitions.yml"
    if path.is_file():
        return partitions.read_yaml(path), "partitions.yml"
    path = build_dir / "pm.config"
    if path.is_file():
        return partitions.read_pm_config(path), "pm.config"
    return None, None


def _slots_of_table(table: dict[str, Partition], origin: Origin, network_core: int | None) -> dict[str, SlotFacts]:
    """mcuboot_primary and mcuboot_secondary, with _1, _2 ... behind them for further images."""
    slots = {}
    for index in range(_MOST_IMAGES):
        suffix = f"_{index}" if index else ""
        primary, secondary = table.get(f"mcuboot_primary{suffix}"), table.get(f"mcuboot_secondary{suffix}")
        if primary is not None and index == network_core and primary.region is None and _RAM_FLASH in table:
            primary = primary._replace(region=_RAM_FLASH)  # pm.config does not tell regions
        if primary is not None:
            below = _slot(secondary, origin) if secondary else None
            slots[image_name(index, network_core)] = _slot(primary, origin, below)
    return slots


def _slot(part: Partition, origin: Origin, secondary: SlotFacts | None = None) -> SlotFacts:
    memory = None if part.region == _OWN_FLASH else part.device or part.region
    if part.region == _RAM_FLASH:
        memory = _RAM_FLASH
    return SlotFacts(part.address, part.size, origin, memory, secondary)


def _slots_of_tree(tree: Devicetree, network_core: int | None) -> dict[str, SlotFacts]:
    """slot0_partition and slot1_partition, slot2_partition and slot3_partition for the next image, and so on."""
    slots = {}
    for index in range(_MOST_IMAGES):
        primary = hardware.partition(tree, f"slot{2 * index}_partition")
        secondary = hardware.partition(tree, f"slot{2 * index + 1}_partition")
        if primary is not None:
            below = SlotFacts(secondary.address, secondary.size, "zephyr.dts", secondary.memory) if secondary else None
            slots[image_name(index, network_core)] = SlotFacts(
                primary.address, primary.size, "zephyr.dts", primary.memory, below
            )
    return slots


def _differences(slots: dict[str, SlotFacts], by_tree: dict[str, SlotFacts]) -> list[str]:
    """What the devicetree says differently, so that nobody who looks there wonders."""
    notes = []
    for name, slot in slots.items():
        other = by_tree.get(name)
        if other is not None and (other.address, other.size) != (slot.address, slot.size):
            notes.append(
                f"slot of {name}: 0x{slot.size:x} bytes at 0x{slot.address:x}; zephyr.dts says 0x{other.size:x} at "
                f"0x{other.address:x}, which is not used"
            )
    return notes
