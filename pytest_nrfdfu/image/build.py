"""A build: a named set of images that belong together, read from what a build leaves.

That is a signed .bin or .hex, a dfu_application.zip or a west build directory; what it is, its content says, not its
name. The image ``app`` is the application core's, ``net`` the network core's; others keep the names of their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import kconfig, package, west
from pytest_nrfdfu.image.facts import BuildFacts, read_facts
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.image.members import (
    APP,
    NET,
    Contents,
    ImageOrigin,
    Member,
    check_address,
    file_kind,
    load_file,
    role,
)
from pytest_nrfdfu.image.sniff import Kind

__all__ = ["APP", "NET", "Build", "ImageOrigin", "check_address", "load"]

_SUFFIXES = (".bin", ".hex", ".zip", ".signed")


@dataclass(frozen=True, slots=True)
class Build:
    """One build. `images` by name, in the order in which they are uploaded: the network core before the application."""

    name: str
    path: Path
    images: Mapping[str, Image] = field(repr=False)
    config: Mapping[str, str | int | bool] = field(default_factory=dict, repr=False)
    """Kconfig values of the application, where they are known; none for a bare file or a zip."""
    facts: BuildFacts | None = field(default=None, repr=False)
    """What the build says of the bootloader; None for a bare file or a zip."""
    notes: tuple[str, ...] = field(default=(), repr=False)
    """What was chosen among several candidates, and why."""
    origins: Mapping[str, ImageOrigin] = field(default_factory=dict, repr=False)
    """Where each image came from, see `member`."""

    @property
    def image(self) -> Image:
        """The only image, or the application's."""
        if len(self.images) == 1:
            return next(iter(self.images.values()))
        try:
            return self.images[APP]
        except KeyError:
            raise ImageError(
                f"build {self.name!r} ({self.path}) holds {', '.join(self.images)} and no application image"
            ) from None

    @property
    def hash(self) -> bytes:
        """What the board's image list shows for the application image."""
        return self.image.hash

    @property
    def version(self) -> str:
        """The application image's version, as MCUboot prints it."""
        return str(self.image.version)

    @property
    def variants(self) -> Mapping[str, str]:
        """How each image was signed: "confirmed", "encrypted", both with a space between, or "" for plainly."""
        return {name: _variant(image) for name, image in self.images.items()}

    def member(self, name: str) -> ImageOrigin:
        """Where the image `name` came from; ImageError if the build has none of that name."""
        if name not in self.images:
            raise ImageError(f"build {self.name!r} ({self.path}) holds {', '.join(self.images)} and no {name!r}")
        return self.origins.get(name) or ImageOrigin(file=self.images[name].source)

    def __str__(self) -> str:
        """Name, version and shortened hash."""
        if APP not in self.images and len(self.images) > 1:
            return f"{self.name} ({', '.join(self.images)})"
        return f"{self.name} {self.version} ({self.hash.hex()[:12]})"


def load(path: Path | str, name: str | None = None) -> Build:
    """The build at `path`. `name` defaults to that of the file or directory.

    ImageError says what was expected, what is there and what to give instead.
    """
    path = Path(path)
    if _is_directory(path):
        contents = west.read(path)
    elif file_kind(path) is Kind.ZIP:
        contents = package.read(path)
    else:
        contents = _file(path)
    facts = read_facts(contents.directory) if contents.directory else None
    return Build(
        name or _name_of(path),
        path,
        {member.name: member.image for member in contents.members},
        contents.config,
        facts,
        contents.notes,
        {member.name: member.origin for member in contents.members},
    )


def _file(path: Path) -> Contents:
    """A bare .bin or .hex; where it still lies in a build directory, that tells the rest."""
    image, origin = load_file(path)
    member = Member(role(image, origin) or APP, image, origin)
    config = path.parent / ".config"
    if path.resolve().parent.name != "zephyr" or not config.is_file():
        return Contents((member,))
    above = west.bootloader_directory(path.resolve().parent.parent)
    return Contents((member,), (f"Kconfig values from {config}",), kconfig.read(config), above)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # the reader of files says what is wrong
        return False


def _variant(image: Image) -> str:
    return " ".join(word for word, is_so in (("confirmed", image.confirmed), ("encrypted", image.encrypted)) if is_so)


def _name_of(path: Path) -> str:
    name = path.resolve().name if path.name in {"", ".."} else path.name
    short = name
    if not _is_directory(path):
        for suffix in _SUFFIXES:
            short = short.removesuffix(suffix)
    return short or name or "build"
