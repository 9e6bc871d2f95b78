"""A build: a named set of images that belong together. One signed .bin so far.

The image named ``app`` is the application core's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.image.mcuboot import load as load_image

__all__ = ["APP", "Build", "load"]

APP = "app"


@dataclass(frozen=True, slots=True)
class Build:
    """One build. `images` by name, in the order in which they are uploaded."""

    name: str
    path: Path
    images: Mapping[str, Image] = field(repr=False)
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Kconfig values of the build, where they are known; none for a bare .bin."""

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

    def __str__(self) -> str:
        """Name, version and shortened hash."""
        return f"{self.name} {self.version} ({self.hash.hex()[:12]})"


def load(path: Path, name: str | None = None) -> Build:
    """The build at `path`; ImageError if it is not a signed MCUboot image. `name` defaults to the file's."""
    if path.is_dir():
        raise ImageError(f"{path} is a directory; give the signed .bin in it, such as zephyr/zephyr.signed.bin")
    image = load_image(path)
    return Build(name or _name_of(path), path, {APP: image})


def _name_of(path: Path) -> str:
    return path.name.removesuffix(".bin").removesuffix(".signed") or path.name
