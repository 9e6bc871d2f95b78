"""Finds the signed images in a west build directory, with sysbuild and without.

Which file is taken, where several would do:

1. The files of the layout; a dfu_application.zip in the directory counts only where there is none of them.
2. The application is the default domain of domains.yaml. Only if that has no signed image, the one other domain that
   has; several are ambiguous. Bootloaders and variants for secondary slots (`*_secondary_app`) never count.
3. Of one application: the plain image before the confirmed before the encrypted one, and .bin before .hex. Recovery
   writes the primary slot, where an image runs without a trailer and is not encrypted.
4. The network core is ``signed_by_mcuboot_and_b0_<net>.bin`` at the top, for a `<net>` among the domains if there are
   several; otherwise the signed image of a domain that was built for the network core.

What was taken and what was left is told in the notes. Sources: nRF Connect SDK, "Output build files" and
cmake/sysbuild/image_signing.cmake; Zephyr, cmake/mcuboot.cmake and doc/build/sysbuild; for builds before sysbuild,
modules/mcuboot/CMakeLists.txt of the nRF Connect SDK up to 2.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import domains, kconfig, package
from pytest_nrfdfu.image.domains import DOMAINS, Domains
from pytest_nrfdfu.image.members import (
    APP,
    NET,
    Contents,
    Member,
    in_upload_order,
    load_file,
    named_for_network,
    role,
)

__all__ = ["bootloader_directory", "read"]

_SIGNED = (
    "{0}.signed.bin",
    "{0}.signed.hex",
    "{0}.signed.confirmed.bin",
    "{0}.signed.confirmed.hex",
    "{0}.signed.encrypted.bin",
    "{0}.signed.encrypted.hex",
)
"""In the order of rule 3; {0} is CONFIG_KERNEL_BIN_NAME."""
_CHILD_APP = ("app_update.bin", "app_signed.hex")
_CHILD_NET = ("net_core_app_update.bin", "net_core_app_signed.hex")
"""Before sysbuild the nRF Connect SDK built everything below one zephyr/."""
_SPLIT = "{0}.internal.signed.bin"
_NET_PREFIX = "signed_by_mcuboot_and_b0_"
_BOOTLOADERS = frozenset({"mcuboot", "b0", "b0n", "s0_image", "s1_image"})
"""Domains that are no application; ``signed_by_mcuboot_and_b0_mcuboot.bin`` updates MCUboot itself."""
_VARIANT = "_secondary_app"
_PACKAGE = "dfu_application.zip"
_UNSIGNED = ("{0}.bin", "{0}.hex", "{0}.elf")


def read(path: Path) -> Contents:
    """The images in the build directory at `path`, or in the one whose ``zephyr/`` it is. ImageError if there are none.

    The directory of one domain of a sysbuild directory is that domain alone.
    """
    try:
        directory, notes = _top(path)
        found = domains.read(directory)
        search = _Search(directory, found, notes=notes)
        members = search.sysbuild(found) if found else search.single()
        return search.contents(members)
    except OSError as error:
        raise ImageError(f"cannot use {path} as a build: {error}. Look at the path and its permissions") from error


def bootloader_directory(domain: Path) -> Path:
    """Where the bootloader's files are: in the sysbuild directory of which `domain` is one, else in `domain` itself."""
    above = domain.resolve().parent
    return above if (above / DOMAINS).is_file() else domain


def _top(path: Path) -> tuple[Path, list[str]]:
    """The build directory: `path`, or the one above where it is the zephyr/ of one."""
    if path.resolve().name == "zephyr" and (path / ".config").is_file() and not (path / DOMAINS).is_file():
        above = path.parent if path.name == "zephyr" else path.resolve().parent
        return above, [f"{path} is the output of {above}"]
    return path, []


@dataclass(slots=True)
class _Search:
    """One walk through a build directory: where it looked, what it took and left."""

    directory: Path
    found: Domains | None
    looked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    config: Mapping[str, str | int | bool] = field(default_factory=dict)
    outputs: list[Path] = field(default_factory=list)

    def contents(self, members: list[Member]) -> Contents:
        """What was found; else what a package in the directory holds; else the error that lists what was missing."""
        facts = self._facts_directory()
        if members:
            return Contents(in_upload_order(members), tuple(self.notes), self.config, facts)
        for file in (self.directory / _PACKAGE, self.directory / "zephyr" / _PACKAGE):
            self.looked.append(str(file.relative_to(self.directory)))
            if file.is_file():
                inside = package.read(file)
                self.notes += [f"{self.looked[-1]} taken: {self.directory} holds no signed image", *inside.notes]
                return Contents(inside.members, tuple(self.notes), self.config, facts)
        raise ImageError(
            f"cannot use {self.directory} as a build: it is a directory and holds none of "
            f"{', '.join(self.looked)}. {self._advice()}"
        )

    def single(self) -> list[Member]:
        """A directory without sysbuild: one zephyr/."""
        config, kernel = self._domain(self.directory)
        self.config = config
        self._check_split("zephyr", kernel)
        families = [
            self._first("zephyr", [name.format(kernel) for name in _SIGNED]),
            self._first("zephyr", list(_CHILD_APP)),
        ]
        members = [self._member(file) for file in families if file]
        if len(members) > 1:
            self._check_same(members)
            del members[1:]
        network = self._first("zephyr", list(_CHILD_NET))
        if network:
            members = [member for member in members if member.name != NET] + [self._network_member(network)]
        return members

    def sysbuild(self, found: Domains) -> list[Member]:
        """A directory made with sysbuild: one directory for each domain."""
        members: list[Member] = []
        network = self._network_file(found)
        if network:
            members.append(self._network_member(network))
        network_domains, applications = self._split_by_core(found)
        application = self._application(found.default, applications)
        if application:
            members.append(self._member(application))
        if not network:
            members += self._network_from_domain(network_domains)
        names = [member.name for member in members]
        if names.count(NET) > 1:
            raise self._ambiguous([Path(m.origin.file) for m in members if m.name == NET], "images of the network core")
        return members

    def _split_by_core(self, found: Domains) -> tuple[list[str], list[str]]:
        """Domains of the network core, and those that may be the application."""
        network: list[str] = []
        applications: list[str] = []
        for name in found.names:
            if name in _BOOTLOADERS or name.endswith(_VARIANT):
                continue
            config, _ = self._domain(self.directory / name)
            for_network = _for_network_core(config) if config else named_for_network(name)
            (network if for_network else applications).append(name)
        default = found.default
        if default in network:  # the whole build is for the network core
            network.remove(default)
            applications.append(default)
        return network, applications

    def _application(self, default: str | None, names: list[str]) -> Path | None:
        """The application's file, by rules 2 and 3."""
        files: dict[str, Path] = {}
        for name in sorted(names, key=lambda n: n != default):
            config, kernel = self._domain(self.directory / name)
            self._check_split(f"{name}/zephyr", kernel)
            file = self._first(f"{name}/zephyr", [pattern.format(kernel) for pattern in _SIGNED])
            if name == default or (file and not files):
                self.config = config
            if file:
                files[name] = file
        if default in files:
            self.notes += [f"domain {default} taken, {name} left: not the default" for name in files if name != default]
            return files[default]
        if len(files) > 1:
            raise self._ambiguous([*files.values()], "applications")
        for name, file in files.items():
            if default:
                self.notes.append(f"domain {name} taken: the default, {default}, has no signed image")
            return file
        return None

    def _network_file(self, found: Domains) -> Path | None:
        """The network core's file at the top, by rule 4."""
        self.looked.append(f"{_NET_PREFIX}<net>.bin")
        files = sorted(self.directory.glob(f"{_NET_PREFIX}*.bin")) or sorted(self.directory.glob(f"{_NET_PREFIX}*.hex"))
        candidates = {file.stem.removeprefix(_NET_PREFIX): file for file in files}
        for name in [*candidates]:
            if name in _BOOTLOADERS or name == found.default:
                self.notes.append(f"{candidates.pop(name).name} left: not for the network core")
        listed = [name for name in candidates if name in found.names]
        if len(candidates) > 1 and len(listed) == 1:
            self.notes += [
                f"{file.name} left: {name} is no domain" for name, file in candidates.items() if name != listed[0]
            ]
            return candidates[listed[0]]
        if len(candidates) > 1:
            raise self._ambiguous([*candidates.values()], "images of the network core")
        return next(iter(candidates.values()), None)

    def _network_from_domain(self, names: list[str]) -> list[Member]:
        """Signed images of domains that were built for the network core: without b0n, MCUboot signs them in place."""
        members = []
        for name in names:
            _, kernel = self._domain(self.directory / name)
            file = self._first(f"{name}/zephyr", [pattern.format(kernel) for pattern in _SIGNED])
            if file:
                members.append(self._network_member(file))
            else:
                self.notes.append(f"domain {name}, for the network core, has no signed image: it is not updated")
        return members

    def _domain(self, directory: Path) -> tuple[Mapping[str, str | int | bool], str]:
        """The Kconfig values of a domain, none without a .config, and what its files are called."""
        output = directory / "zephyr"
        if output not in self.outputs:
            self.outputs.append(output)
        file = output / ".config"
        config = kconfig.read(file) if file.is_file() else {}
        kernel = config.get("CONFIG_KERNEL_BIN_NAME", "zephyr")
        return config, kernel if isinstance(kernel, str) and kernel and "/" not in kernel else "zephyr"

    def _first(self, below: str, names: list[str]) -> Path | None:
        """The first of `names` that is there; the others are noted as left."""
        self.looked.append(f"{below}/{names[0]}")
        there = [name for name in names if (self.directory / below / name).is_file()]
        if len(there) > 1:
            self.notes.append(f"{below}/{there[0]} taken, {_and(there[1:])} left")
        return self.directory / below / there[0] if there else None

    def _member(self, file: Path) -> Member:
        image, origin = load_file(file)
        return Member(role(image, origin) or APP, image, origin)

    def _network_member(self, file: Path) -> Member:
        image, origin = load_file(file)
        if image.reset_vector is not None and role(image, origin) != NET:
            raise ImageError(
                f"{file} is where the network core's image belongs, and its reset vector 0x{image.reset_vector:x} lies "
                "outside the network core's flash. The build directory is mixed up: build again"
            )
        return Member(NET, image, origin)

    def _check_split(self, below: str, kernel: str) -> None:
        if (self.directory / below / _SPLIT.format(kernel)).is_file():
            raise ImageError(
                f"cannot use {self.directory} as a build: {below}/{_SPLIT.format(kernel)} says that the application is "
                f"split between internal and external flash. Give {_PACKAGE}, whose manifest numbers the parts"
            )

    def _check_same(self, members: list[Member]) -> None:
        if len({member.image.hash for member in members}) > 1:
            raise self._ambiguous([Path(member.origin.file) for member in members], "images that differ")

    def _ambiguous(self, files: list[Path], what: str) -> ImageError:
        listed = ", ".join(str(file.relative_to(self.directory)) for file in files)
        return ImageError(
            f"cannot use {self.directory} as a build: it holds {len(files)} {what}: {listed}. "
            "Give the one to upload, or build again in a clean directory"
        )

    def _facts_directory(self) -> Path:
        directory = self.directory if self.found else bootloader_directory(self.directory)
        if directory is not self.directory:
            self.notes.append(f"{self.directory} is one domain of {directory}, and only its image is taken")
        return directory

    def _advice(self) -> str:
        for output in self.outputs:
            for name in (pattern.format("zephyr") for pattern in _UNSIGNED):
                if (output / name).is_file():
                    return (
                        f"{(output / name).relative_to(self.directory)} is there, unsigned: build with "
                        "SB_CONFIG_BOOTLOADER_MCUBOOT=y (CONFIG_BOOTLOADER_MCUBOOT=y without sysbuild)"
                    )
        inside = self.directory / "build"
        if (inside / DOMAINS).is_file() or (inside / "zephyr").is_dir():
            return f"Did you mean {inside}?"
        if self.found or any(output.is_dir() for output in self.outputs):
            return "The build did not finish, or its images were not kept: build again, or give the signed .bin"
        return f"Give a west build directory, a signed .bin or .hex, or {_PACKAGE}"


def _for_network_core(config: Mapping[str, str | int | bool]) -> bool:
    target = f"{config.get('CONFIG_BOARD_TARGET', '')} {config.get('CONFIG_BOARD', '')}"
    return "cpunet" in target or bool(config.get("CONFIG_SOC_NRF5340_CPUNET"))


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
