"""What goes where: which image of a build is sent with which number, and why that cannot harm the board.

Everything here is decided before the board is touched, from the configuration, the build and the bootloader's profile;
only the network core's number may have to be asked of the bootloader (slot info), where nothing else tells it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.config_types import ImageConfig
from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.bootloader import BootloaderProfile, Swap, network_upload
from pytest_nrfdfu.image.build import APP, NET, Build, check_address
from pytest_nrfdfu.image.facts import BuildFacts, check_entries, check_line, check_uart, merge_profile
from pytest_nrfdfu.image.keys import PublicKey, check_signature, load_public_key
from pytest_nrfdfu.image.mcuboot import Image, check_link_address, check_slot

__all__ = [
    "SlotRows",
    "Step",
    "check_image",
    "check_signatures",
    "check_way_back",
    "is_network_core",
    "misfit",
    "plan",
    "profile_for",
    "step_for",
]

SlotRows = Iterable[tuple[int, int, int | None]]
"""Slot info of a bootloader: image, slot, upload number of each slot."""

_NETWORK_FLASH = range(0x01000000, 0x01040000)
"""The network core's flash (nRF5340 product specification, memory map)."""
_CHIP = "nrf53"


@dataclass(frozen=True, slots=True)
class Step:
    """One image to send. `number` None: it has to be asked of the bootloader (`ask`), or none is sent."""

    name: str
    image: Image
    number: int | None
    ask: bool = False
    warning: str | None = None

    @property
    def network_core(self) -> bool:
        """Whether it is for the network core, which the bootloader's image list cannot show."""
        return self.name == NET or is_network_core(self.image)

    def asked(self, rows: SlotRows, profile: BootloaderProfile) -> Step:
        """The step with its number taken from the bootloader's slot info; ImageError if that does not tell it."""
        found = network_upload(direct_upload=None, images=None, slot_info=rows)
        if found.number is None:
            raise ImageError(_no_number(self.image, profile, found.reason))
        return replace(self, number=found.number, ask=False)


def is_network_core(image: Image) -> bool:
    """Whether an image is linked into the network core's flash."""
    return image.reset_vector is not None and image.reset_vector in _NETWORK_FLASH


def profile_for(config: BoardConfig, facts: BuildFacts | None) -> BootloaderProfile:
    """The bootloader to reckon with: the configuration over the build over the named profile.

    A simulated board's bootloader is what it was started with, whatever the build's is.
    """
    if config.simulated or facts is None:
        return config.bootloader.resolve()
    return merge_profile(facts, {"profile": config.bootloader.profile, **config.bootloader.told()})


def check_image(image: Image, settings: ImageConfig, *, simulated: bool, swap: Swap = "move") -> str | None:
    """Whether an image can be for the slot that the configuration names; before any hardware is touched.

    ImageError if not. An image linked outside its slot was not built for MCUboot: on a simulated board, which executes
    no firmware, that is only a warning, returned as text. `swap`: how the bootloader upgrades, which leaves an image
    more or less of its slot.
    """
    if settings.slot_size is not None:
        check_slot(image, settings.slot_size, swap=swap)
    if settings.slot_address is None or settings.slot_size is None:
        return None
    problem = check_link_address(image, settings.slot_address, settings.slot_size)
    if problem and not simulated and not settings.allow_link_address:
        raise ImageError(f"{problem}; to upload it all the same set allow_link_address = true in [images.app]")
    return problem


@cache
def _key(path: Path) -> PublicKey:
    return load_public_key(path)


def check_signatures(build: Build, config: BoardConfig) -> bool:
    """Whether the images were checked with a key; ImageError if one is not signed with it."""
    path = config.bootloader.public_key
    if path is None:
        return False
    for image in build.images.values():
        check_signature(image, _key(path))
    return True


def _check_chip(soc: str | None, board: str | None, config: BoardConfig) -> None:
    if soc is not None and not soc.lower().startswith(_CHIP):
        raise ImageError(
            f"the build is for {board or soc} (chip {soc}), and board {config.board} has an nRF5340; give the build of"
            " that board"
        )


def _check_board(config: BoardConfig, facts: BuildFacts) -> tuple[str, ...]:
    """The configuration against the bootloader of the build; ConfigError or ImageError, naming what to change.

    Returned is what may be wrong, in words.
    """
    _check_chip(facts.soc, facts.board, config)
    if config.simulated:
        return ()
    check_entries(facts, config.recovery.entry)
    doubts = check_uart(facts, config.uart.baudrate, config.uart.flow_control)
    if config.recovery.line is not None and "active" in type(config.recovery.line).model_fields:
        check_line(facts, getattr(config.recovery.line, "active", "low"))
    return doubts


def _settings(config: BoardConfig, name: str, facts: BuildFacts | None) -> ImageConfig:
    """An image's table, with the slot of the build where the table does not tell it."""
    settings = config.images.get(name, ImageConfig())
    slot = facts.slots.get(name) if facts is not None and not config.simulated else None
    if slot is None or slot.memory is not None or settings.model_fields_set & {"slot_address", "slot_size"}:
        return settings
    return settings.model_copy(update={"slot_address": slot.address, "slot_size": slot.size})


def plan(build: Build, config: BoardConfig) -> list[Step]:
    """The steps of an update, network core first. ImageError or ConfigError if the build cannot be for this board."""
    facts = build.facts
    doubts = _check_board(config, facts) if facts is not None else ()
    for origin in build.origins.values():
        _check_chip(origin.soc, origin.board, config)
    check_signatures(build, config)
    profile = profile_for(config, facts)
    known = config.simulated or (facts is not None and facts.profile is not None)
    steps = [step_for(name, image, config, profile, facts, known=known) for name, image in build.images.items()]
    for step in steps:
        if step.name == APP and step.name in build.origins:
            settings = _settings(config, APP, facts)
            if settings.slot_address is not None:
                check_address(build.origins[APP], settings.slot_address)
    if doubts and steps:
        told = "; ".join(filter(None, (steps[0].warning, *doubts)))
        steps[0] = replace(steps[0], warning=told)
    return steps


def step_for(
    name: str,
    image: Image,
    config: BoardConfig,
    profile: BootloaderProfile,
    facts: BuildFacts | None = None,
    *,
    known: bool | None = None,
) -> Step:
    """The step of one image. `known`: direct upload and image count of the profile are facts, not a guess."""
    if name == NET or is_network_core(image):
        return _network_step(image, config, profile, known=config.simulated if known is None else known)
    settings = _settings(config, name, facts)
    if name != APP:
        if settings.upload is None:
            raise ImageError(
                f"{image.source}: nobody tells which number image {name!r} is uploaded with: add upload = N to an"
                f" [images.{name}] table, or give the application's image alone"
            )
        if settings.slot_size is not None:
            check_slot(image, settings.slot_size)
        if settings.upload == 0 and not settings.force:
            raise ImageError(f"{image.source}: upload = 0 in [images.{name}] is the application's number")
        return Step(name, image, settings.upload)
    warning = check_image(image, settings, simulated=config.simulated, swap=profile.swap)
    return Step(name, image, 0 if settings.upload is None else settings.upload, warning=warning)


def _network_step(image: Image, config: BoardConfig, profile: BootloaderProfile, *, known: bool) -> Step:
    settings = config.images.get(NET, ImageConfig())
    if settings.slot_size is not None:
        check_slot(image, settings.slot_size, swap=profile.swap)
    told = config.bootloader.told()
    direct = profile.direct_upload if known or "direct_upload" in told else None
    images = profile.images if known or "images" in told else None
    rule = network_upload(direct_upload=direct, images=images)
    if settings.upload is not None:
        if not settings.force and _is_applications(settings.upload, direct, images):
            raise ImageError(
                f"{image.source} is for the network core, and upload number {settings.upload} means a slot of the"
                f" application on this bootloader: it would overwrite what is there. {_sentence(rule.reason)}. Set"
                " upload in [images.net] to the network core's number (or force = true, if you know better)"
            )
        return Step(NET, image, settings.upload)
    if rule.number is not None:
        return Step(NET, image, rule.number)
    if direct is None or images is None:
        return Step(NET, image, None, ask=True)
    raise ImageError(_no_number(image, profile, rule.reason))


def _is_applications(number: int, direct: bool | None, images: int | None) -> bool:  # noqa: FBT001 - a fact, not a mode
    """Whether an upload number means the application's slot (MCUboot, flash_map_extended.c and sysflash.h)."""
    if direct:
        return number <= 2
    if direct is None and images is None:
        return number <= 2  # one of the two rules gives it to the application
    return number == 0 or (direct is False and images == 1)


def _no_number(image: Image, profile: BootloaderProfile, reason: str) -> str:
    return (
        f"{image.source} is for the network core, and which upload number means that is not known for bootloader"
        f" {profile.name}: {reason}. Nothing was sent. Give the build directory, or direct_upload and images in"
        " [bootloader], or upload in [images.net]"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_SECOND_SLOT = 2
"""The upload number of the application's slot 1 with direct upload (MCUboot, flash_map_extended.c)."""


def check_way_back(step: Step, config: BoardConfig, profile: BootloaderProfile) -> None:
    """ConfigError where an upload that is cut off halfway would leave a board that nobody can bring into recovery.

    That is so where it overwrites the application in slot 0 and every entry asks a running application.
    """
    recovery = config.recovery
    spared = step.network_core or (profile.direct_upload and step.number == _SECOND_SLOT)
    if spared or recovery.has_way_back or recovery.allow_no_way_back:
        return
    raise ConfigError(
        f"{step.image.source} is not uploaded to slot 0 of {config.board}: its only entry into recovery"
        f" ({', '.join(recovery.entry)}) asks the running application, which an upload that is cut off halfway"
        " destroys, and nothing would be left to ask. Nothing was sent. Add an entry that needs no application to"
        " [recovery] entry (gpio, boot-mode, no-application, manual, ...), or set allow_no_way_back = true there"
    )


def misfit(build: Build, config: BoardConfig) -> str | None:
    """Why a build cannot be for a board; None if it can, as far as can be told without the board."""
    try:
        plan(build, config)
    except (ImageError, ConfigError) as error:
        return str(error)
    return None
