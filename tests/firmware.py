"""Firmware for tests: real Zephyr binaries for the nRF5340 DK, and images signed by imgtool.

Results are kept for the life of the process. Files live in a temporary directory that goes when the process ends.

`sign` and what needs it skip a test where imgtool or the firmware package is not installed;
with ``NRFDFU_TESTS_REQUIRE_ALL=1`` in the environment they fail it instead.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal, NoReturn

import pytest

try:  # here, since after a run of pytester in this process it would be imported a second time, in parts
    from click.testing import CliRunner
    from imgtool.main import imgtool as imgtool_command
except ImportError:
    imgtool_command = None

HEADER_SIZE = 0x200
SLOT_SIZE = 0x70000
SLOT_ADDRESS = 0x10000
"""Slot 0 of the nRF5340 DK without the Partition Manager (Zephyr, nrf5340_cpuapp_partition.dtsi)."""
NETWORK_CORE = 0x0100_0000
"""Where the network core's flash begins (nRF5340 product specification)."""

PACKAGE = "zephyr-4-4-0-hci-usb-nrf5340dk-default"

Key = Literal["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384", "ed25519", "x25519"]


def unavailable(reason: str) -> NoReturn:
    """Skip the running test for `reason`; fail it where everything is required."""
    if os.environ.get("NRFDFU_TESTS_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (NRFDFU_TESTS_REQUIRE_ALL=1 forbids skipping)", pytrace=False)
    pytest.skip(reason)


def needs(package: str) -> None:
    """Skip the test or module where an importable package is missing; fail it where everything is required."""
    if importlib.util.find_spec(package) is None:
        reason = f"the package {package} is not installed"
        if os.environ.get("NRFDFU_TESTS_REQUIRE_ALL") == "1":
            pytest.fail(f"{reason} (NRFDFU_TESTS_REQUIRE_ALL=1 forbids skipping)", pytrace=False)
        pytest.skip(reason, allow_module_level=True)


def real_firmware() -> bytes:
    """The application core's part of Zephyr 4.4.0's hci_usb for the nRF5340 DK, from address 0 on.

    It is linked at 0, so it was built without MCUboot: its reset vector is 0xfc1. Signed, MCUboot would accept it and
    it would not run; `check_link_address` says so.
    """
    return _hex_part(0, NETWORK_CORE)


def real_network_firmware() -> bytes:
    """The network core's part of the same build, from address 0x01000000 on, where it is linked."""
    return _hex_part(NETWORK_CORE, NETWORK_CORE + 0x40000)


@lru_cache
def _hex_part(start: int, end: int) -> bytes:
    module = PACKAGE.replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        unavailable(f"the package {PACKAGE} with real firmware is not installed")
    if importlib.util.find_spec("intelhex") is None:
        unavailable("the package intelhex, which reads real firmware, is not installed")
    import intelhex

    content = intelhex.IntelHex(str(Path(spec.origin).parent / "firmware.hex"))
    used = [segment for segment in content.segments() if start <= segment[0] < end]
    return bytes(content.tobinarray(start=start, end=used[-1][1] - 1))


def signed_app(version: str = "1.2.3") -> bytes:
    """The real application firmware, signed without a key for the DK's slot 0; see `real_firmware` for its address."""
    return sign(real_firmware(), version)


def imgtool(*arguments: str | Path) -> None:
    """Run imgtool, in this process; an error of it is an AssertionError with its output."""
    if imgtool_command is None:
        unavailable("the package imgtool is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are imgtool's own
        done = CliRunner().invoke(imgtool_command, [*map(str, arguments)])
    assert done.exit_code == 0, f"imgtool {' '.join(map(str, arguments))}\n{done.output}{done.exception!r}"


@lru_cache
def _directory() -> Path:
    path = tempfile.mkdtemp(prefix="nrfdfu-tests-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


@lru_cache
def private_key(kind: Key) -> Path:
    """The file of a private key made for this process."""
    path = _directory() / f"{kind}.pem"
    imgtool("keygen", "-k", path, "-t", kind)
    return path


@lru_cache(maxsize=64)
def sign(
    body: bytes,
    version: str = "1.2.3",
    *,
    key: Key | None = None,
    header_size: int = HEADER_SIZE,
    slot_size: int = SLOT_SIZE,
    align: int = 4,
    pad: bool = False,
    confirm: bool = False,
    pad_header: bool = True,
    encrypt: Key | None = None,
    extra: tuple[str, ...] = (),
) -> bytes:
    """`body` as imgtool signs it; without `key` the image carries a hash alone.

    `pad_header` puts the header in front; without it `body` has to begin with `header_size` zeros, as Zephyr makes it.
    `pad` fills the slot and sets the trailer's magic, `confirm` also the image-ok flag. `extra` are further arguments
    of ``imgtool sign``. Random parts of signatures differ from process to process.
    """
    arguments: list[str | Path] = [
        "--version",
        version,
        "--header-size",
        hex(header_size),
        "--slot-size",
        hex(slot_size),
    ]
    arguments += ["--align", str(align), *extra]
    arguments += ["--pad"] if pad else []
    arguments += ["--confirm"] if confirm else []
    arguments += ["--pad-header"] if pad_header else []
    arguments += ["--key", private_key(key)] if key else []
    arguments += ["--encrypt", private_key(encrypt)] if encrypt else []
    source, target = _directory() / "body.bin", _directory() / "signed.bin"
    source.write_bytes(body)
    imgtool("sign", *arguments, source, target)
    return target.read_bytes()
